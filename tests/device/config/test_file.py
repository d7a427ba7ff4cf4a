"""Configuration files with all kinds of errors: all problems at once, at their lines, no traceback."""

from __future__ import annotations

import io
import json
import os
import signal
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import fields
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device.cli import main
from device.config.file import load_config, read_config
from device.config.section import allowed_of
from device.config.settings import (
    SECTIONS,
    Config,
    MeasureSettings,
    ModelSettings,
    MqttSettings,
    SourceSettings,
    default_text,
)
from device.config.toml_reader import MAX_BYTES, MAX_LINE_BYTES, Problem
from device.errors import UsageError
from tests.scenes import avdrift, talking, tiny_bundle

HEAD = "config_version = 1\n"


def written(folder: Path, content: str | bytes) -> Path:
    file = folder / "avdrift.toml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def problems_of(folder: Path, content: str | bytes) -> list[Problem]:
    config, problems = read_config(written(folder, content))
    assert config == Config() or not problems
    return problems


def only(problems: list[Problem]) -> Problem:
    assert len(problems) == 1, problems
    return problems[0]


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Of this process's own time, which others on the machine do not lengthen."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"took longer than {seconds} s")

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


# What is right


def test_the_default_file_is_the_default_configuration(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, default_text())) == Config()


@pytest.mark.parametrize("content", [HEAD, HEAD + "[measure]\n", "# nothing\r\n" + HEAD.replace("\n", "\r\n")])
def test_what_is_left_out_keeps_its_default(tmp_path: Path, content: str) -> None:
    assert load_config(written(tmp_path, content)) == Config()


@pytest.mark.parametrize(
    "content",
    [
        "[measure]\nwindow_s = 7\nprofile = 'ebu-r37'\n[model]\nbundle = 'b'\n[source]\nfile = \"talk.mkv\"\n",
        'measure = { window_s = 7.0, profile = "ebu-r37" }\nmodel.bundle = "b"\nsource . "file" = "talk.mkv"',
        "[source]\nfile = '''talk.mkv'''\n[ model ]\r\n"
        "bundle = 'b'\n[measure]\n'window_s' = 0x7\nprofile = \"ebu\\u002dr37\"",
    ],
)
def test_the_same_in_every_way_that_toml_allows(tmp_path: Path, content: str) -> None:
    config = load_config(written(tmp_path, HEAD + content))
    measure = MeasureSettings(window_s=7.0, profile="ebu-r37")
    assert config == Config(measure, ModelSettings("b"), SourceSettings("talk.mkv"))
    assert type(config.measure.window_s) is float


def test_an_editors_mark_before_the_text_is_no_problem(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, b"\xef\xbb\xbf" + default_text().encode())) == Config()


# What is wrong


BAD = """\
config_version = 1

[measure] # window_s = 3
windows_s = 5
search_ms = true
"profile" = '''
[model]
window_s = 3'''
report_every_s = [
  1, # [source]
]
stalled_after_s = nan
file = "x"
[model.bundle]
x.y = 3
[[source]]
[sauce]
a = 1
["\\u001b[31m"]
"""


def test_all_problems_at_once_each_at_its_line(tmp_path: Path) -> None:
    problems = problems_of(tmp_path, BAD)
    assert [(problem.line, problem.key, problem.found) for problem in problems] == [
        (4, "measure.windows_s", "an unknown name"),
        (5, "measure.search_ms", "true"),
        (6, "measure.profile", r"'[model]\nwindow_s = 3'"),
        (9, "measure.report_every_s", "an array"),
        (12, "measure.stalled_after_s", "nan"),
        (13, "measure.file", "an unknown name"),
        (14, "model.bundle", "a table"),
        (16, "source", "an array"),
        (17, "sauce", "an unknown name"),
        (19, r"'\x1b[31m'", "an unknown name"),
    ]
    by_key = {problem.key: problem for problem in problems}
    assert by_key["measure.search_ms"].allowed == "100 to 5000"
    assert by_key["measure.profile"].allowed == "itu-r-bt1359, atsc-is191, ebu-r37, itu-t-j100, en-301549, own"
    assert by_key["measure.windows_s"].hint == "did you mean window_s?"
    assert by_key["measure.file"].hint == "it belongs under [source]"
    assert by_key["sauce"].hint == "did you mean source?"
    crlf = problems_of(tmp_path, BAD.replace("\n", "\r\n"))
    assert [problem.line for problem in crlf] == [problem.line for problem in problems]


@pytest.mark.parametrize(
    ("content", "line", "key"),
    [
        ("measure = { search_ms = 1200,\\\nwindow_s = 0 }".replace("\\\n", " "), 2, "measure.window_s"),
        ("\n\nmeasure.window_s = 0", 4, "measure.window_s"),
        ("[measure]\n\n  'window_s'\t= 0", 4, "measure.window_s"),
        ('["measure"]\n# window_s = 1\nwindow_s = 0', 4, "measure.window_s"),
        ("[source]\n[measure.window_s]\n[measure]\n", 3, "measure.window_s"),
        ("measure = 5", 2, "measure"),
        ("window_s = 5", 2, "window_s"),
        ("[measure]\nconfig_version = 1", 3, "measure.config_version"),
        ("[source]\nfile = 'a'\n[model]\nfile = 'a'", 5, "model.file"),
        ('[source]\nfile = "a\\u0000b"', 3, "source.file"),
        ("[measure]\nsearch_ms = 2026-11-22", 3, "measure.search_ms"),
        ("[measure]\nsearch_ms = '1200'", 3, "measure.search_ms"),
        ("[measure]\nsearch_ms = 0x" + "f" * 4900, 3, "measure.search_ms"),
        ("[measure]\nsearch_ms = -inf", 3, "measure.search_ms"),
        ("[measure]\nsearch_ms = 1e999", 3, "measure.search_ms"),
    ],
)
def test_lines_are_found_in_every_spelling(tmp_path: Path, content: str, line: int, key: str) -> None:
    problem = only(problems_of(tmp_path, HEAD + content))
    assert (problem.line, problem.key) == (line, key)


@pytest.mark.parametrize(
    ("content", "line", "key", "allowed"),
    [
        ("host = 'b'\nca_file = 'ca.pem'", 4, "ca_file", "nothing, unless tls = true"),
        ("ca_file = 'ca.pem'\ntls = false", 3, "ca_file", "nothing, unless tls = true"),
        ("tls = true\nclient_cert_file = 'a'", 4, "client_cert_file", "nothing, unless client_key_file is given too"),
        ("tls = true\nclient_key_file = 'a'", 4, "client_key_file", "nothing, unless client_cert_file is given too"),
        ("password_file = 'p'", 3, "password_file", "nothing, unless username is given too"),
        ("port = 1883.5", 3, "port", "a whole number from 0 to 65535"),
        ("node = 'a/b'", 3, "node", "letters a to z, digits, - and _, at most 64 characters"),
        ("node = 'a+b'", 3, "node", "letters a to z, digits, - and _, at most 64 characters"),
        ("topic_prefix = 'a//b'", 3, "topic_prefix", "letters a to z, digits, - and _, and / between them, at most 64"),
    ],
)
def test_mqtt_keys_that_are_wrong_alone_or_together(
    tmp_path: Path, content: str, line: int, key: str, allowed: str
) -> None:
    problem = only(problems_of(tmp_path, f"{HEAD}[mqtt]\n{content}\n"))
    assert (problem.line, problem.key) == (line, f"mqtt.{key}") and problem.allowed.startswith(allowed)


def test_mqtt_keys_that_go_together(tmp_path: Path) -> None:
    keys = "tls = true\nca_file = 'a'\nclient_cert_file = 'b'\nclient_key_file = 'c'\nport = 8883\n"
    config = load_config(written(tmp_path, f"{HEAD}[mqtt]\n{keys}username = 'u'\npassword_file = 'p'\nnode = 'a-1_B'"))
    assert config.mqtt.tls and config.mqtt.port == 8883 and config.mqtt.node == "a-1_B"
    with pytest.raises(UsageError, match=r"ca_file is 'a', allowed is nothing, unless tls = true"):
        MqttSettings(ca_file="a")


@pytest.mark.parametrize(
    ("content", "line", "word"),
    [
        (HEAD + "[measure\n", 2, "']'"),
        (HEAD + "[measure]\nwindow_s = 1\nwindow_s = 2\n", 4, "overwrite"),
        (HEAD + "[measure]\n[model]\n[measure]\n", 4, "twice"),
        (HEAD + "[measure]\nwindow_s =\n", 3, "Invalid value"),
        (HEAD + "[measure]\nwindow_s = 1,5\n", 3, "after a statement"),
        (HEAD + "[measure]\nprofile = ebu-r37\n", 3, "Invalid value"),
        (HEAD + '[source]\nfile = """never closed\n\n', 3, "Unterminated"),
        (HEAD + "[source]\nfile = 'a\0b'\n", 3, "invalid character"),
    ],
)
def test_what_is_not_toml_is_reported_with_its_line(tmp_path: Path, content: str, line: int, word: str) -> None:
    problem = only(problems_of(tmp_path, content))
    assert (problem.line, problem.key) == (line, None) and word in problem.found
    assert "each key once" in problem.allowed and "at line" not in problem.found


@pytest.mark.parametrize(
    ("version", "found", "hint"),
    [
        ("2", "2", "newer"),
        ("99", "99", "newer"),
        ("0", "0", ""),
        ("-1", "-1", ""),
        ("true", "true", ""),
        ("1.0", "1.0", ""),
        ("'1'", "'1'", ""),
        ("[1]", "an array", ""),
    ],
)
def test_another_version(tmp_path: Path, version: str, found: str, hint: str) -> None:
    problem = only(problems_of(tmp_path, f"# mine\nconfig_version = {version}\n"))
    assert (problem.line, problem.key, problem.found, problem.allowed) == (2, "config_version", found, "1")
    assert hint in problem.hint and bool(hint) is bool(problem.hint)


def test_the_keys_of_a_newer_version_are_not_judged(tmp_path: Path) -> None:
    only(problems_of(tmp_path, "config_version = 2\n[fusion]\npower_w = 1\n"))
    assert len(problems_of(tmp_path, "config_version = 0\n[fusion]\npower_w = 1\n")) == 2


@pytest.mark.parametrize("content", ["", "\n\n", "# all gone", "[measure]\nwindow_s = 5\n"])
def test_a_file_that_was_cut_short_is_noticed(tmp_path: Path, content: str) -> None:
    problem = only(problems_of(tmp_path, content))
    assert (problem.line, problem.key, problem.found) == (None, "config_version", "nothing")
    assert "config_version = 1" in problem.hint


# What is hostile


@pytest.mark.parametrize(
    ("content", "line", "word"),
    [
        (HEAD.encode() + b"[source]\nfile = '\xff\xfe'\n", 3, "0xff, which is not UTF-8"),
        ("größe = 1".encode("utf-16"), 1, "not UTF-8"),
        (b"\x7fELF\x02\x01\x01\0\0", 1, "than TOML"),
        (b"a = 1\n" * 2_000_000, None, "a larger file"),
        (b"#\n" * (MAX_BYTES // 2) + b"#", None, "a larger file"),
        (b"\n" + b"a" + b".a" * (MAX_LINE_BYTES // 2) + b" = 1", 2, "a longer line"),
        (b"a = " + b"[" * 4000, None, "too deep"),
        (b"a = " + b"{a=" * 1500, None, "too deep"),
        (b"a = " + b"1" * 4990, None, "too long"),
    ],
    ids=["latin", "utf-16", "elf", "12 MB", "one byte", "line", "arrays", "tables", "digits"],
)
def test_files_that_nobody_means(tmp_path: Path, content: bytes, line: int | None, word: str) -> None:
    with at_most(5):
        problem = only(problems_of(tmp_path, content))
    assert problem.line == line and word in problem.found


@pytest.mark.parametrize(
    "content",
    [
        "".join(f"b{number}{'.a' * 2400} = 1\n" for number in range(13)),
        "".join(f"[k{number}]\n" for number in range(6000)),
        "x = [\n" + "1,\n" * 20_000 + "]\n",
        'x = """' + "\n" * 60_000 + '"""\n',
        "".join(f"x{number} = [\n{'1,' * 20}\n" + "1,\n" * 30 + "]\n" for number in range(300)),
    ],
    ids=["dotted", "sections", "array", "text", "arrays"],
)
def test_no_file_keeps_it_busy(tmp_path: Path, content: str) -> None:
    with at_most(20):
        assert problems_of(tmp_path, HEAD + content)


def test_places_where_no_file_is(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "plain").touch()
    places = {"none": "No such", "loop": "symbolic", "pipe": "a device", ".": "a folder", "plain/x": "Not a"}
    with at_most(5):
        for name, word in {**places, "x" * 300: "too long"}.items():
            problem = only(read_config(tmp_path / name)[1])
            assert word in problem.found and problem.line is None
        assert "nothing to read" in only(read_config(Path("/proc/self/mem"))[1]).found
        only(read_config(Path("/dev/zero"))[1])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    file = written(tmp_path, HEAD)
    file.chmod(0)
    assert "Permission denied" in only(read_config(file)[1]).found


def within_what_is_allowed(config: Config, content: bytes) -> bool:
    """Whether a file that was called correct has only known keys, each with a value that it allows."""
    document = tomllib.loads(content.removeprefix(b"\xef\xbb\xbf").decode())
    del document["config_version"]
    in_use = {name: {key.name: key for key in fields(section)} for name, section in SECTIONS.items()}
    given = [(name, key, value) for name, values in document.items() for key, value in values.items()]
    return all(
        allowed_of(in_use[name][key]).allows(value) and getattr(getattr(config, name), key) == value
        for name, key, value in given
    )


SIGNS = st.sampled_from([*b"[]{}=.,#'\"\\\n\r\0 -+_019eExinfa", 0x80, 0xC3, 0xFF])
LINES = r"""
config_version=1
config_version = 2
[measure]
[model]
[source]
[measures]
[[measure]]
[measure.window_s]
[page]
listen = "::"
listen = "stage"
pictures = "boxes"
pictures = "many"
cert_file = "c.pem"
key_file = "k.pem"
window_s = 3
window_s = 0x3c
window_s = 61
window_s = true
search_ms = inf
search_ms = 99.9
report_every_s = -nan
report_every_s = 1_0
stalled_after_s = "3"
stalled_after_s = []
profile = "ebu-r37"
profile = "EBU-R37"
profile = 7
[mqtt]
tls = true
ca_file = "ca.pem"
client_key_file = "key.pem"
port = 1883.5
node = "a/b"
bundle = ""
bundle = "\u0000"
bundle = {a = 1}
trial_reports = 20
trial_reports = 0.5
trial_reports = nan
trial_speech_min = 0.1
trial_speech_min = 1441
trial_speech_min = "1"
file = 'a b.mkv'
url = 'rtsp://camera.local:554/s'
url = 'rtsp://user:secret@camera/'
transport = 'udp'
transport = 'quic'
file = 1979-05-27
file.x = 1
measure.window_s = 4
measure = {window_s = 5}
[events]
[log]
[metrics]
hysteresis_ms = 25.01
min_s = 0
absent_s = 0
level = "debug"
level = "DEBUG"
levels = "device.capture=debug"
levels = "device.cli=error , device.sync=info"
levels = "device.captre=debug"
levels = ["device.capture=debug"]
json = true
json = "true"
reports = "minute"
reports = "never"
every_s = 3_600
listen = "127.0.0.1:9753"
listen = "[::1]:9753"
listen = "127.0.0.1"
listen = "127.0.0.1:65536"
listen = "localhost:9753"
listen = "[::g]:9753"
listen = 9753
"" = 0
'''
[
=
# x
"""
PIECES = st.sampled_from(LINES.splitlines())


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """The default file with some bytes replaced, put in, taken out, or cut off."""
    content = bytearray(default_text().encode())
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        content[at : at + draw(st.sampled_from([0, 1, 1, 2, 40, 2000]))] = bytes(draw(st.lists(SIGNS, max_size=3)))
    return bytes(content)


WELL_BEGUN = st.lists(PIECES, max_size=6).map(lambda pieces: (HEAD + "\n".join(pieces)).encode())
PILES = st.lists(PIECES, max_size=8).map(lambda pieces: "\n".join(pieces).encode())


@settings(max_examples=300, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(damaged(), WELL_BEGUN, PILES, st.binary(max_size=80)))
def test_random_files_give_a_judgement_and_no_traceback(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    file = written(tmp_path_factory.getbasetemp(), content)
    out, err = io.BytesIO(), io.StringIO()
    with redirect_stdout(io.TextIOWrapper(out, "ascii", write_through=True)) as stdout, redirect_stderr(err):
        exit_code = main(["check-config", str(file)])
    lines = out.getvalue().decode().splitlines()
    stdout.detach()
    assert err.getvalue() == ""
    assert exit_code in (0, 2)
    if exit_code == 0:
        assert lines == [f"{file}: correct"]
        assert within_what_is_allowed(load_config(file), content)
        return
    assert lines and all(line.startswith(f"{file}:") and "found " in line and "allowed: " in line for line in lines)
    for problem in read_config(file)[1]:
        assert problem.line is None or 1 <= problem.line <= content.count(b"\n") + 1
    with pytest.raises(UsageError):
        load_config(file)


# The commands


def test_check_config_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, HEAD + "[measure]\nwindow_s = 0\nwindw_s = 1\n")
    assert main(["check-config", str(file)]) == 2
    shown = capsys.readouterr()
    first, second = shown.out.splitlines()
    assert first == f"{file}:3: measure.window_s: found 0; allowed: 0.4 to 60"
    assert second.startswith(f"{file}:4: measure.windw_s: found an unknown name") and "did you mean window_s?" in second
    assert shown.err == ""


def test_check_config_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, HEAD + "[measure]\nwindow_s = 0\n")
    assert main(["check-config", str(file), "--json"]) == 2
    problem = {"line": 3, "key": "measure.window_s", "found": "0", "allowed": "0.4 to 60", "hint": ""}
    assert json.loads(capsys.readouterr().out) == {"file": str(file), "correct": False, "problems": [problem]}
    assert main(["check-config", str(written(tmp_path, HEAD)), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"file": str(file), "correct": True, "problems": []}


def test_check_config_in_a_process_of_its_own_and_a_name_that_is_no_text(tmp_path: Path) -> None:
    done = avdrift("check-config", os.fsdecode(os.fsencode(tmp_path) + b"/\xff.toml"))
    assert done.returncode == 2 and done.stderr == "" and r"\udcff.toml: found nothing" in done.stdout


def test_run_refuses_a_file_with_problems_before_it_opens_anything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, BAD)
    assert main(["run", "--config", str(file), "--source", str(tmp_path / "none.mkv"), "--window", "2"]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count(f"{file}:") == 11


def test_options_win_over_the_file_and_the_file_over_the_defaults(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "talk.mkv").symlink_to(talking())
    text = "[measure]\nwindow_s = 2\nreport_every_s = 1\nprofile = 'ebu-r37'\n[model]\nbundle = 'none'\n"
    text += "[source]\nfile = 'talk.mkv'"
    options = ["--bundle", str(tiny_bundle()), "--every", "3"]
    assert main(["run", "--config", str(written(tmp_path, HEAD + text)), *options]) == 0
    reports = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert len(reports) == 2
    assert {(report["window_s"], report["profile"]) for report in reports} == {(2.0, "ebu-r37")}


@pytest.mark.parametrize(("key", "exit_code"), [("[model]\nbundle = ", 4), ("[source]\nfile = ", 3)])
@pytest.mark.parametrize("value", ["none", "x" * 4000, "~/none", "a/../b"])
def test_paths_that_lead_nowhere_have_the_exit_codes_of_options(
    tmp_path: Path, key: str, exit_code: int, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, f"{HEAD}{key}'{value}'\n")
    source = ["--source", str(talking())] if exit_code == 4 else []
    assert main(["run", "--config", str(file), *source]) == exit_code
    assert str(tmp_path) in capsys.readouterr().err
