"""The whole command line: wrong input in this process; signals, memory, and what ships in processes of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from device.bench.pipeline import SAMPLE
from device.bundles.bundle import DEFAULT_BUNDLE, FILES, MANIFEST
from tests.models.bundles import change_manifest
from tests.recordings import Picture, Sound, truncate, write
from tests.scenes import (
    REPORT_KEYS,
    ROOT,
    avdrift,
    avdrift_in_process,
    looped,
    overconfident_bundle,
    silent,
    talking,
    tiny_bundle,
)

Done = subprocess.CompletedProcess[str]


def objects(done: Done) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def check_refused(done: Done, exit_code: int, *words: str) -> None:
    """The documented exit code, a message for a person, and neither a traceback nor a number."""
    assert done.returncode == exit_code, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    message = done.stderr.splitlines()[-1]
    assert message.startswith("avdrift: ") and message.count(". ") >= 1, "what, where, what to do"
    for word in words:
        assert word in message


def both_ways(path: Path, run: Callable[..., Done] = avdrift_in_process) -> list[Done]:
    """The same file through `measure` and through the daemon, with a bundle that believes all that it sees."""
    return [
        run("measure", path, "--json", "--window", 1, "--bundle", overconfident_bundle()),
        run("replay", path, "--json", "--window", 1, "--bundle", overconfident_bundle()),
    ]


# Wrong input


def test_missing_file(tmp_path: Path) -> None:
    check_refused(avdrift("measure", tmp_path / "none.mkv"), 3, "none.mkv", "No such file")
    for done in both_ways(tmp_path / "none.mkv"):
        check_refused(done, 3, "none.mkv", "No such file")


def test_a_folder_is_not_a_recording(tmp_path: Path) -> None:
    for done in both_ways(tmp_path):
        check_refused(done, 3, "not a file")


def test_not_a_video(tmp_path: Path) -> None:
    path = tmp_path / "notes.mkv"
    path.write_bytes(b"This is not a recording.\n" * 1000)
    for done in both_ways(path):
        check_refused(done, 3, "notes.mkv")


def test_zero_length(tmp_path: Path) -> None:
    (tmp_path / "empty.mkv").touch()
    for done in both_ways(tmp_path / "empty.mkv"):
        check_refused(done, 3, "empty")


def test_no_sound(tmp_path: Path) -> None:
    for done in both_ways(write(tmp_path / "mute.mkv", Picture(), None)):
        check_refused(done, 3, "mute.mkv", "no audio track")


def test_no_picture(tmp_path: Path) -> None:
    for done in both_ways(write(tmp_path / "radio.mkv", None, Sound())):
        check_refused(done, 3, "radio.mkv", "no video track")


def test_cut_off_before_the_first_frame(tmp_path: Path) -> None:
    path = truncate(Path(shutil.copy(talking(), tmp_path / "stub.mkv")), 0.002)
    for done in both_ways(path):
        check_refused(done, 3, "stub.mkv")


def test_a_truncated_file_is_measured_as_far_as_it_goes(tmp_path: Path) -> None:
    path = truncate(Path(shutil.copy(talking(), tmp_path / "half.mkv")), 0.5)
    measured, replayed = both_ways(path, avdrift)
    assert (measured.returncode, replayed.returncode) == (0, 0)
    (found,) = objects(measured)
    assert 2 < found["duration_s"] < 6 and len(found["windows"]) >= 2
    assert 2 <= len(objects(replayed)) <= 6
    for done in (measured, replayed):
        assert "half.mkv: damaged" in done.stderr and "Traceback" not in done.stderr


def test_nobody_in_the_picture(tmp_path: Path) -> None:
    measured, replayed = both_ways(write(tmp_path / "flashes.mkv", Picture(), Sound(), duration_s=5.0), avdrift)
    assert (measured.returncode, replayed.returncode) == (0, 0)
    (found,) = objects(measured)
    assert found["state"] == "no_face" and found["offset_ms"] is found["confidence"] is None
    assert {window["offset_ms"] for window in found["windows"]} == {None}
    reports = objects(replayed)
    assert {report["state"] for report in reports} <= {"starting", "no_face"}
    assert reports[-1]["state"] == "no_face" and reports[-1]["faces"] == 0
    assert {report["offset_ms"] for report in reports} == {None}


def test_silence() -> None:
    measured, replayed = both_ways(silent(), avdrift)
    assert (measured.returncode, replayed.returncode) == (0, 0)
    (found,) = objects(measured)
    assert found["state"] == "no_speech" and found["offset_ms"] is None and found["speech_s"] == 0
    assert {window["state"] for window in found["windows"]} == {"no_speech"}
    reports = objects(replayed)
    assert {report["state"] for report in reports} <= {"starting", "no_speech"}
    assert reports[-1]["speech_ratio"] == 0 and {report["offset_ms"] for report in reports} == {None}


def test_several_files_of_which_some_are_bad(tmp_path: Path) -> None:
    mute = write(tmp_path / "mute.mkv", Picture(), None)
    done = avdrift_in_process("measure", mute, talking(), tmp_path / "none.mkv", "--json", "--bundle", tiny_bundle())
    assert done.returncode == 3
    assert [found["file"] for found in objects(done)] == [str(talking())]
    assert "mute.mkv" in done.stderr and "none.mkv" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("search_ms", ["99", "5001", "nan"])
def test_search_range_out_of_range(search_ms: str) -> None:
    for command in ("measure", "replay"):
        done = avdrift_in_process(command, talking(), "--search-ms", search_ms, "--bundle", tiny_bundle())
        check_refused(done, 2, "100 to 5000")


def test_bad_options() -> None:
    for arguments in (["measure"], ["measure", "x", "--speed", "max"], ["replay", "x", "--every", "often"]):
        done = avdrift_in_process(*arguments)
        assert done.returncode == 2 and done.stdout == "" and "usage: avdrift" in done.stderr


# Wrong bundles


def check_bundle_refused(folder: Path, *words: str) -> None:
    for command in ("measure", "replay", "bench"):
        source = ["--source"] if command == "bench" else []
        check_refused(avdrift_in_process(command, *source, talking(), "--bundle", folder), 4, *words)


def test_no_bundle_there(tmp_path: Path) -> None:
    check_bundle_refused(tmp_path / "nowhere", "nowhere", "--bundle")
    check_bundle_refused(tmp_path, MANIFEST)


@pytest.mark.parametrize("name", FILES)
def test_a_corrupt_bundle(tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(tiny_bundle(), tmp_path / "bundle"))
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(bytes(content))
    check_refused(avdrift_in_process("measure", talking(), "--bundle", folder), 4, name, "SHA-256")


def test_a_bundle_for_another_front_end(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_bundle(), tmp_path / "bundle"))
    change_manifest(folder, lambda manifest: manifest["contract"]["front_end"].update(mel_bands=41))
    check_refused(avdrift_in_process("replay", talking(), "--bundle", folder), 4, "mel_bands 41 instead of 40")


# Running


def start_run(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "device.cli", *map(str, arguments), "--bundle", str(tiny_bundle())]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_run_cleanly_with_a_summary(number: signal.Signals) -> None:
    process = start_run("run", "--source", looped(4), "--every", 0.2)
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    process.send_signal(number)
    sent_s = time.monotonic()
    rest, said = process.communicate(timeout=30)
    assert process.returncode == 0, said
    assert time.monotonic() - sent_s < 5
    count = 1 + len(rest.splitlines())
    assert list(first) == [*REPORT_KEYS.split(), "t_s"], "of a recording, with the place in it"
    assert f"{count} reports:" in said and "Traceback" not in said


def test_run_keeps_real_time_and_reports_as_it_goes() -> None:
    process = start_run("run", "--source", talking())
    assert process.stdout is not None
    came_s = [time.monotonic() for _ in process.stdout]
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0 and len(came_s) == 7
    assert came_s[-1] - came_s[0] > 3, "not all at the end"
    assert "7 reports:" in said


def test_a_reader_that_goes_away_is_no_error() -> None:
    process = start_run("replay", looped(4), "--json")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    said = process.stderr.read()
    assert process.wait(30) == 0, said
    assert "Traceback" not in said and "BrokenPipe" not in said


def peak_rss_bytes(path: Path, folder: Path, min_reports: int) -> int:
    command = [sys.executable, "-m", "device.cli", "replay", str(path), "--json", "--bundle", str(tiny_bundle())]
    with (folder / "reports.jsonl").open("w+", encoding="utf-8") as reports:
        process = subprocess.Popen(command, cwd=ROOT, stdout=reports, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        reports.seek(0)
        count = len(reports.readlines())
    assert process.returncode == 0
    assert count >= min_reports
    return int(usage.ru_maxrss) * 1024


@pytest.mark.slow
def test_peak_memory_of_replay_does_not_grow_with_length(tmp_path: Path) -> None:
    """32 s, by when all windows and queues are full, against 304 s of the same face and speech."""
    short, long = (peak_rss_bytes(looped(times), tmp_path, 8 * times - 2) for times in (4, 38))
    assert long - short < 25_000_000


# What ships. These fail, rather than skip, where the bundle or the sample is not there.


def truth() -> list[tuple[float, float]]:
    """(from s, offset in ms) of the sample."""
    found = json.loads(SAMPLE.with_suffix(".json").read_text(encoding="utf-8"))
    return [(segment["t_s"], segment["offset_ms"]) for segment in found["segments"]]


def true_offset_ms(t_s: float) -> float:
    return [offset_ms for from_s, offset_ms in truth() if from_s <= t_s][-1]


def test_the_default_bundle_is_small_and_whole() -> None:
    files = [DEFAULT_BUNDLE / name for name in (*FILES, MANIFEST)]
    assert all(path.is_file() for path in files)
    assert sum(path.stat().st_size for path in files) <= 2_000_000


@cache
def sample_replayed() -> Done:
    return avdrift("replay", SAMPLE, "--json")


def test_the_samples_true_offset_is_met_in_every_measuring_report() -> None:
    done = sample_replayed()
    assert done.returncode == 0, done.stderr
    reports = objects(done)
    assert len(reports) >= 10
    assert {tuple(report) for report in reports} == {(*REPORT_KEYS.split(), "t_s")}
    # `replay` reports each second from the first evidence on, which is less than 0.2 s into the recording.
    times_s = [number + 0.1 for number in range(1, len(reports) + 1)]
    settled = [
        (report["offset_ms"], true_offset_ms(t_s))
        for t_s, report in zip(times_s, reports, strict=True)
        if report["state"] == "measuring" and all(not 0 < t_s - at_s < 5.3 for at_s, _ in truth()[1:])
    ]
    assert len(settled) >= 10
    assert not [pair for pair in settled if abs(pair[0] - pair[1]) > 40]
    assert {true for _, true in settled} == {offset_ms for _, offset_ms in truth()}, "every stretch was measured"


def test_the_samples_two_steps_are_each_reported_once_before_the_next() -> None:
    done = sample_replayed()
    assert done.returncode == 0, done.stderr
    reports = objects(done)
    steps = [(number, report["step_ms"]) for number, report in enumerate(reports, 1) if report["step_ms"] is not None]
    assert [step_ms for _, step_ms in steps] == [pytest.approx(-240, abs=20), pytest.approx(400, abs=20)]
    for (number, _), (at_s, _) in zip(steps, truth()[1:], strict=True):
        assert at_s < number + 0.1 <= at_s + 12  # two reports in five seconds' window cannot decide
    assert {report["drift_ppm"] for report in reports} == {None}, "48 s are too little for a drift"
    assert done.stderr.count("step of ") == 2


def test_the_samples_windows_follow_its_offset() -> None:
    done = avdrift("measure", SAMPLE, "--json", "--window", 2)
    assert done.returncode == 0, done.stderr
    (found,) = objects(done)
    windows = found["windows"]
    assert all(b["t_s"] - a["t_s"] == pytest.approx(2.0, abs=0.01) for a, b in pairwise(windows))
    spoken = [
        abs(window["offset_ms"] - true_offset_ms(window["t_s"])) <= 40
        for window in windows
        if window["state"] != "no_speech" and true_offset_ms(window["t_s"]) == true_offset_ms(window["t_s"] + 2)
    ]
    assert len(spoken) >= 10
    assert sum(spoken) >= 0.85 * len(spoken)


@pytest.mark.slow
def test_the_towers_that_ship_cost_a_fiftieth_of_syncnet_at_most() -> None:
    done = avdrift("bench", "--json", timeout_s=300)
    assert done.returncode == 0, done.stderr
    (found,) = objects(done)
    assert 0 < found["tower_mac_share"] <= 1 / 50
    assert found["recording"] == str(SAMPLE)
