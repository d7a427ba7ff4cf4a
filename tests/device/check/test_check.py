"""`avdrift check` as a user meets it: a mixed folder, all reports, exit codes, killed and resumed."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from device.cli import main
from device.features.model_download import face_model_path
from tests.device.check.batch import cut, mixed
from tests.scenes import ROOT

pytestmark = pytest.mark.skipif(not face_model_path().is_file(), reason="the face detector's model is not here")

Shown = pytest.CaptureFixture[str]


class Run:
    """What a run printed and wrote."""

    def __init__(self, folder: Path) -> None:
        self.files, self.folder = folder / "files", folder
        self.expected = mixed(self.files)
        reports = {kind: str(folder / f"out.{kind}") for kind in ("csv", "jsonl", "junit", "html")}
        options = [part for kind, path in reports.items() for part in (f"--{kind}", path)]
        command = [sys.executable, "-m", "device.cli", "check", str(self.files), "--jobs", "1", *options]
        self.done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)

    def text(self, kind: str) -> str:
        return (self.folder / f"out.{kind}").read_text(encoding="utf-8")

    def results(self) -> list[tuple[str, str]]:
        rows = [json.loads(line) for line in self.text("jsonl").splitlines()]
        return [(Path(row["file"]).name, row["result"]) for row in rows]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("check"))


def test_each_file_has_one_row_and_its_result(run: Run) -> None:
    assert sorted(run.results()) == sorted(run.expected.items())
    assert run.done.returncode == 3, "something is unreadable"
    totals = "7 files: 3 unreadable, 1 failed, 1 unknown, 2 passed (1 other files skipped, 1 found twice)"
    assert run.done.stdout.endswith(f"{totals}\n")
    assert "Traceback" not in run.done.stderr
    lines = run.done.stdout.splitlines()
    table = next(number for number, line in enumerate(lines) if line.startswith("result"))
    assert len(lines[:table]) == 7 + 1 and len(lines[table + 1 :]) == 7 + 1, "a line and a row a file, and the totals"
    assert r"caf\xe9.mkv" in run.done.stdout and r"new\nline <b>&.mkv" in run.done.stdout


def test_csv_has_a_row_a_file(run: Run) -> None:
    rows = list(csv.DictReader(run.text("csv").splitlines()))
    assert len(rows) == 7
    good = next(row for row in rows if row["file"].endswith("in sync.mkv"))
    assert (good["result"], good["verdict"]) == ("passed", "in_sync") and abs(float(good["offset_ms"])) < 10


def test_junit_counts_failures_errors_and_skips(run: Run) -> None:
    suite = ElementTree.fromstring(run.text("junit"))
    assert suite.tag == "testsuite", "with `testsuites` around it, junitparser writes what Jenkins' schema forbids"
    assert [int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")] == [7, 1, 3, 1]
    cases = {case.attrib["name"]: case for case in suite.iter("testcase")}
    assert len(cases) == 7
    (failed,) = (case for name, case in cases.items() if r"new\nline" in name)
    failure = failed.find("failure")
    assert failure is not None and "unacceptable by itu-r-bt1359" in failure.attrib["message"]


def test_the_page_is_whole_and_asks_for_nothing_from_elsewhere(run: Run) -> None:
    page = run.text("html")
    seen: list[tuple[str, dict[str, str | None]]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            seen.append((tag, dict(attributes)))

    Reader().feed(page)
    tags = [tag for tag, _ in seen]
    assert tags.count("tr") == 7 + 1 and tags.count("svg") == 3, "a curve for each file with an offset"
    assert not [name for _, attributes in seen for name in attributes if name in ("src", "href")]
    assert not re.search(r"@import|url\(", page)
    assert "<b>" not in page and "&lt;b&gt;" in page


def test_exit_codes(tmp_path: Path, capsys: Shown) -> None:
    file = str(cut(tmp_path / "detectable.mkv", early_ms=67.0))
    assert main(["check", file, "--limits", "120", "-120"]) == 0
    assert "1 file: 1 passed" in capsys.readouterr().out
    assert main(["check", file, "--fail-on", "detectable", "--jobs", "1"]) == 1
    assert "detectable by itu-r-bt1359" in capsys.readouterr().out


def test_tracks_can_be_chosen(tmp_path: Path, capsys: Shown) -> None:
    file = str(cut(tmp_path / "a.mkv", early_ms=0.0))
    assert main(["check", file, "--audio-track", "1", "--channel", "1", "--video-track", "1"]) == 0
    assert main(["check", file, "--audio-track", "2"]) == 3
    assert "has no 2 for --audio-track; it has audio 1" in capsys.readouterr().out


def test_own_limits_come_from_a_configuration_too(tmp_path: Path, capsys: Shown) -> None:
    file = str(cut(tmp_path / "a.mkv", early_ms=80.0))
    config = tmp_path / "avdrift.toml"
    config.write_text('config_version = 1\n[measure]\nprofile = "own"\n[limits]\nearly_ms = 20\n')
    assert main(["check", file, "--config", str(config)]) == 1
    assert "unacceptable by own" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--jobs", "0"], "1 to 64"), (["--time-limit", "0"], "more than 0"), (["--resume"], "--jsonl"),
        (["--limits", "-5", "-60"], "early_ms"), (["--search-ms", "1"], "100 to 5000"),
        (["--csv", "/nowhere/at/all.csv"], "/nowhere/at/all.csv"), (["--markers", "a.xml"], ".otio"),
        (["--beam"], "--jsonl"), (["--profile", "ebu-r37", "--config", "x"], "--config"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_before_anything_is_measured(
    options: list[str], named: str, tmp_path: Path, capsys: Shown
) -> None:
    (tmp_path / "a.mkv").touch()
    assert main(["check", str(tmp_path / "a.mkv"), *options]) == 2
    shown = capsys.readouterr()
    assert named in shown.err and shown.out == ""


def test_only_earlier_reports_are_overwritten(tmp_path: Path, capsys: Shown) -> None:
    (tmp_path / "a.mkv").touch()
    command = ["check", str(tmp_path / "a.mkv"), "--jobs", "1", "--csv"]
    (tmp_path / "talk.mp4").write_text("a film")
    assert main([*command, str(tmp_path / "talk.mp4")]) == 2
    assert "another kind" in capsys.readouterr().err and (tmp_path / "talk.mp4").read_text() == "a film"
    for _ in range(2):
        assert main([*command, str(tmp_path / "out.csv")]) == 3


def test_a_folder_without_recordings_is_no_success(tmp_path: Path, capsys: Shown) -> None:
    (tmp_path / "notes.txt").touch()
    assert main(["check", str(tmp_path)]) == 2
    assert "no recordings there (1 other files)" in capsys.readouterr().err


@pytest.mark.slow
def test_killed_three_times_and_resumed_each_file_is_there_once(tmp_path: Path) -> None:
    expected = mixed(tmp_path / "files")
    good = (tmp_path / "files" / "in sync.mkv").read_bytes()
    for number in range(40):  # many are left when the last signal is sent
        (tmp_path / "files" / f"copy {number}.mkv").write_bytes(good)
        expected[f"copy {number}.mkv"] = "passed"
    journal, report = tmp_path / "j.jsonl", tmp_path / "out.junit"
    command = [sys.executable, "-m", "device.cli", "check", str(tmp_path / "files"), "--jobs", "2", "--resume",
               "--jsonl", str(journal), "--junit", str(report)]  # fmt: skip

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )

    for rows, how in ((3, signal.SIGKILL), (8, signal.SIGKILL), (13, signal.SIGINT)):
        running = start()
        while running.poll() is None and (not journal.exists() or journal.read_bytes().count(b"\n") < rows):
            time.sleep(0.02)
        if how == signal.SIGINT:
            os.killpg(running.pid, how)  # a terminal sends it to the workers too
        else:
            running.send_signal(how)
        _, errors = running.communicate(timeout=60)
        assert running.returncode == (130 if how == signal.SIGINT else -how) and "Traceback" not in errors
        assert not report.exists()
    done = start()
    shown, errors = done.communicate(timeout=300)
    assert done.returncode == 3, errors
    found = [json.loads(line) for line in journal.read_text(encoding="ascii").splitlines()]
    assert sorted((Path(row["file"]).name, row["result"]) for row in found) == sorted(expected.items())
    assert len(list(ElementTree.fromstring(report.read_text(encoding="utf-8")).iter("testcase"))) == len(expected)
    assert f"{len(expected)} files:" in shown
