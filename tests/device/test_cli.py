"""The command line in this process: options, exit codes, and the streams that it prints to."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from device import __version__
from device.capture.source import LiveSource
from device.cli import main
from device.commands import run
from device.config.settings import Config
from device.errors import UsageError
from device.features.model_download import SHARE_VARIABLE
from device.records import Chunk, Frame
from device.runtime.inputs.source_thread import Feed
from device.runtime.inputs.sources import live_feeds
from tests.scenes import REPORT_KEYS, ROOT, overconfident_bundle, talking, tiny_bundle


def lines_of(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize(
    "arguments",
    [[], ["fly"], ["measure"], ["replay"], ["measure", "--window", "two", "x"], ["replay", "x", "--speed", "slow"],
     ["run", "--profile", "loud"], ["measure", "--no-such-option", "x"]],
)  # fmt: skip
def test_options_that_cannot_be_understood(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == "" and "usage: avdrift" in shown.err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--search-ms", "99"], "100 to 5000"),
        (["--search-ms", "5001"], "100 to 5000"),
        (["--search-ms", "nan"], "100 to 5000"),
        (["--search-ms", "-300"], "100 to 5000"),
        (["--window", "0"], "0.2 to 100"),
        (["--window", "inf"], "0.2 to 100"),
    ],
)
def test_values_out_of_range_of_measure(arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", str(talking()), "--bundle", str(tiny_bundle()), *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and named in shown.err


@pytest.mark.parametrize("command", ["replay", "run"])
@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["--search-ms", "5001"], "search_ms"), (["--window", "0.1"], "window_s"), (["--every", "nan"], "report_every_s")],
)
def test_values_out_of_range_of_the_daemon(
    command: str, arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = ["--source", str(talking())] if command == "run" else [str(talking())]
    assert main([command, *source, "--bundle", str(tiny_bundle()), *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and named in shown.err


def test_run_without_a_recording_measures_camera_and_microphone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be mended by trying again ends it, with the exit code of that error."""

    def refuse() -> LiveSource[Frame | Chunk]:
        raise UsageError("no such camera", where="avdrift.toml", remedy="Correct it")

    monkeypatch.setattr(run, "live_feeds", lambda config: [Feed("camera", refuse), Feed("microphone", refuse)])
    assert main(["run", "--bundle", str(tiny_bundle()), "--store", str(tmp_path)]) == 2
    assert "no such camera" in capsys.readouterr().err


def test_live_feeds_are_named_after_their_parts_and_open_nothing_yet() -> None:
    assert [feed.part for feed in live_feeds(Config())] == ["camera", "microphone"]


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for option, shown in (("--version", __version__), ("--help", "measure")):
        with pytest.raises(SystemExit) as ended:
            main([option])
        assert ended.value.code == 0
        assert shown in capsys.readouterr().out


def test_the_installed_command_is_this_one() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert scripts["avdrift"] == "device.entry:main"


def test_an_interruption_while_the_program_is_loaded_leaves_no_traceback() -> None:
    code = """
import sys
from device.entry import main
class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == "device.cli":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupts())
sys.exit(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "")


def test_replay_prints_one_report_a_line_and_the_summary_beside(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(talking()), "--json", "--bundle", str(tiny_bundle())]) == 0
    shown = capfd.readouterr()
    reports = lines_of(shown.out)
    assert len(reports) == 7
    assert all(list(report) == [*REPORT_KEYS.split(), "t_s"] for report in reports)
    times_s = [float(str(report["t_s"])) for report in reports]
    assert times_s == sorted(times_s) and times_s[-1] > 6
    assert "7 reports:" in shown.err


def test_replay_writes_its_reports_as_a_table_and_a_picture(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    table, picture = tmp_path / "out.csv", tmp_path / "out.png"
    written = ["--csv", str(table), "--plot", str(picture)]
    assert main(["replay", str(talking()), "--json", "--bundle", str(overconfident_bundle()), *written]) == 0
    reports, rows = lines_of(capfd.readouterr().out), table.read_text(encoding="utf-8").splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == [str(round(float(str(report["t_s"])), 1)) for report in reports]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_replay_for_people_has_no_json(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(talking()), "--window", "2", "--bundle", str(overconfident_bundle())]) == 0
    with_numbers = capfd.readouterr().out
    assert main(["replay", str(talking()), "--window", "2", "--bundle", str(tiny_bundle())]) == 0
    without = capfd.readouterr().out
    assert len(with_numbers.splitlines()) == len(without.splitlines()) == 7
    assert "audio early" in with_numbers and "uncertain" in without and "{" not in with_numbers + without


@pytest.mark.quiet
def test_run_and_replay_have_one_schema(capfd: pytest.CaptureFixture[str]) -> None:
    short = ["--bundle", str(overconfident_bundle()), "--window", "2"]
    assert main(["run", "--source", str(talking()), *short]) == 0
    live = lines_of(capfd.readouterr().out)
    assert main(["replay", str(talking()), "--json", *short]) == 0
    replayed = lines_of(capfd.readouterr().out)
    assert [list(report) for report in live] == [list(report) for report in replayed]
    for key in ("state", "offset_ms", "direction", "confidence", "verdict", "faces", "speech_ratio", "video_dropped"):
        assert [report[key] for report in live] == [report[key] for report in replayed], key
    assert all(report["latency_ms"] is None for report in replayed)
    assert all(isinstance(report["latency_ms"], int) for report in live)


def test_measure_for_programs_has_exactly_the_documented_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", str(talking()), "--json", "--bundle", str(tiny_bundle())]) == 0
    (found,) = lines_of(capsys.readouterr().out)
    keys = ["file", "state", "offset_ms", "offset_std_ms", "confidence", "duration_s", "speech_s"]
    keys += ["drift_ppm", "drift_std_ppm", "drift_class", "steps", "pieces", "verdict", "profile"]
    keys += ["reason", "audio_track", "audio_channel", "other_audio_tracks", "joints_s", "damaged"]
    keys += ["verdict_range", "zero_std_ms", "video_track", "other_video_tracks"]
    assert list(found) == keys
    assert found["file"] == str(talking())
    assert main(["measure", str(talking()), "--json", "--window", "2", "--bundle", str(tiny_bundle())]) == 0
    (found,) = lines_of(capsys.readouterr().out)
    assert list(found) == [*keys, "windows"]


def test_measure_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", str(talking()), "--window", "2", "--bundle", str(overconfident_bundle())]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown[1:5]] == ["0:00.0", "0:02.0", "0:04.0", "0:06.0"], "a line each window"
    assert shown[0].startswith(f"{talking()}: ")
    assert "ms, measuring, confidence" in "".join(shown)


def test_one_bad_file_does_not_keep_the_others_from_being_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.mkv").write_text("no recording")
    files = [str(talking()), str(tmp_path / "bad.mkv"), str(tmp_path / "none.mkv"), str(talking())]
    assert main(["measure", *files, "--json", "--bundle", str(tiny_bundle())]) == 3
    shown = capsys.readouterr()
    assert [found["file"] for found in lines_of(shown.out)] == [str(talking())] * 2
    assert "bad.mkv" in shown.err and "none.mkv" in shown.err


def test_a_face_detector_that_is_not_there_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(SHARE_VARIABLE, str(tmp_path))
    assert main(["measure", str(talking()), "--bundle", str(tiny_bundle())]) == 4
    assert main(["replay", str(talking()), "--bundle", str(tiny_bundle())]) == 4
    shown = capsys.readouterr()
    assert shown.out == "" and "device.features.model_download" in shown.err


def test_signals_are_handled_as_before_once_the_daemon_has_ended() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    assert main(["replay", str(talking()), "--bundle", str(tiny_bundle())]) == 0
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
