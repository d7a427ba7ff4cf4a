"""`measure` on recordings: the documented keys, true lengths, consecutive windows, and no offset without reason."""

from __future__ import annotations

import json
import shutil
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from device.analysis.measure import measure
from device.bench.pipeline import SAMPLE
from device.bundles.bundle import DEFAULT_BUNDLE, load_bundle
from device.cli import main
from device.errors import InputFormatError, InputMissingError, UsageError
from device.features.model_download import require_face_model
from tests.recordings import Picture, Sound, truncate, write
from tests.scenes import TALK_S, looped, overconfident_bundle, silent, talking, tiny_bundle

KEYS = ["file", "state", "offset_ms", "offset_std_ms", "confidence", "duration_s", "speech_s"]
MORE_KEYS = ["drift_ppm", "drift_std_ppm", "drift_class", "steps", "pieces", "verdict", "profile"]
READ_KEYS = ["reason", "audio_track", "audio_channel", "other_audio_tracks", "joints_s", "damaged"]
ERROR_KEYS = ["verdict_range", "zero_std_ms", "video_track", "other_video_tracks"]
WINDOW_KEYS = ["t_s", "offset_ms", "confidence", "state", "offset_std_ms", "reason", "verdict"]


@cache
def measured(path: Path, bundle: Path | None = None, window_s: float | None = None) -> dict[str, object]:
    return measure(path, load_bundle(bundle or tiny_bundle()), require_face_model(), window_s=window_s)


def test_too_few_pictures_a_second_are_no_missing_face(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "slow.mkv"
    with av.open(str(talking())) as given, av.open(str(path), "w") as made:
        picture = made.add_stream("mpeg4", rate=Fraction(15, 2), width=320, height=240)
        assert isinstance(picture, av.VideoStream)
        picture.bit_rate = 2_000_000
        picture.codec_context.time_base = Fraction(2, 15)
        sound = made.add_stream_from_template(given.streams.audio[0], opaque=True)
        shown = 0
        for packet in given.demux():
            if packet.stream.type == "audio" and packet.size:
                packet.stream = sound
                made.mux(packet)
            for frame in packet.decode() if packet.stream.type == "video" else ():
                if isinstance(frame, av.VideoFrame) and frame.time * 7.5 >= shown:
                    frame.pts, frame.time_base, shown = shown, Fraction(2, 15), shown + 1
                    made.mux(picture.encode(frame))
        made.mux(picture.encode(None))
    found = measured(path)
    assert (found["state"], found["reason"], found["offset_ms"]) == ("uncertain", "low_frame_rate", None)
    assert main(["replay", str(path), "--json", "--bundle", str(tiny_bundle())]) == 0
    reasons = [json.loads(line)["reason"] for line in capfd.readouterr().out.splitlines()]
    assert set(reasons[3:]) == {"low_frame_rate"}, "live as well"


def test_a_recording_that_ends_too_soon_is_short(tmp_path: Path) -> None:
    path = tmp_path / "short.mkv"
    with av.open(str(talking())) as given, av.open(str(path), "w") as made:
        tracks = [made.add_stream_from_template(stream, opaque=True) for stream in given.streams]
        for packet in given.demux():
            if packet.size and packet.pts is not None and packet.pts * packet.time_base < 0.5:
                packet.stream = tracks[packet.stream.index]
                made.mux(packet)
    found = measured(path)
    assert (found["state"], found["reason"], found["offset_ms"]) == ("uncertain", "short", None)


def facecam(path: Path, face_px: int) -> Path:
    """The first seconds of the sample, so small that its face is so wide, in the corner of a picture of 1280 x 720."""
    scale = face_px / 120  # of the sample's own
    with av.open(str(SAMPLE)) as given, av.open(str(path), "w") as made:
        picture = made.add_stream("libx264", rate=25, width=1280, height=720, options={"preset": "ultrafast"})
        assert isinstance(picture, av.VideoStream)
        sound = made.add_stream_from_template(given.streams.audio[0], opaque=True)
        game = np.random.default_rng(1).integers(40, 160, (9, 16, 3)).astype(np.uint8)
        screen = np.asarray(cv2.resize(game, (1280, 720)), np.uint8)
        for packet in given.demux():
            if packet.pts is None or packet.pts * packet.time_base > 8:
                continue
            if packet.stream.type == "audio":
                packet.stream = sound
                made.mux(packet)
            for frame in packet.decode() if packet.stream.type == "video" else ():
                assert isinstance(frame, av.VideoFrame)
                small = cv2.resize(frame.to_ndarray(format="rgb24"), None, fx=scale, fy=scale)
                screen[-small.shape[0] :, -small.shape[1] :] = small
                shown = av.VideoFrame.from_ndarray(screen, "rgb24")
                shown.pts, shown.time_base = frame.pts, frame.time_base
                made.mux(picture.encode(shown))
        made.mux(picture.encode(None))
    return path


def test_a_face_of_60_pixels_in_the_corner_of_a_large_picture_is_measured(tmp_path: Path) -> None:
    found = measured(facecam(tmp_path / "game.mkv", 60), DEFAULT_BUNDLE)
    assert found["state"] == "measuring" and found["offset_ms"] == pytest.approx(80, abs=10)


def windows_of(found: dict[str, object]) -> list[dict[str, Any]]:
    windows = found["windows"]
    assert isinstance(windows, list)
    return windows


def test_keys_are_the_documented_ones() -> None:
    assert list(measured(talking())) == [*KEYS, *MORE_KEYS, *READ_KEYS, *ERROR_KEYS]
    found = measured(talking(), window_s=1.0)
    assert list(found) == [*KEYS, *MORE_KEYS, *READ_KEYS, *ERROR_KEYS, "windows"]
    assert all(list(window) == WINDOW_KEYS for window in windows_of(found))
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_what_is_not_sure_has_no_number_no_drift_and_no_verdict() -> None:
    found = measured(talking(), window_s=1.0)
    assert (found["drift_ppm"], found["drift_class"], found["steps"]) == (None, "unknown", [])
    assert (found["verdict"], found["profile"]) == ("unknown", "itu-r-bt1359")
    assert isinstance(found["pieces"], list)
    (piece,) = found["pieces"]
    assert (piece["state"], piece["offset_ms"], piece["offset_std_ms"]) == ("uncertain", None, None)
    assert piece["from_s"] == 0 and piece["to_s"] == pytest.approx(TALK_S, abs=1)
    assert {window["verdict"] for window in windows_of(found)} == {"unknown"}


def test_lengths_are_those_of_what_was_read() -> None:
    found = measured(talking())
    assert found["duration_s"] == pytest.approx(TALK_S, abs=0.05)
    assert isinstance(found["speech_s"], float) and 6 < found["speech_s"] <= TALK_S
    assert found["damaged"] is None


def test_speech_of_a_long_recording_is_summed_beyond_the_analyzers_memory() -> None:
    once, again = measured(talking()), measured(looped(4))
    assert again["speech_s"] == pytest.approx(4 * float(str(once["speech_s"])), rel=0.05)
    assert again["duration_s"] == pytest.approx(4 * TALK_S, abs=0.05)


@pytest.mark.parametrize("window_s", [0.4, 1.0, 2.0, 3.0])
def test_windows_are_consecutive_and_whole(window_s: float) -> None:
    times_s = [window["t_s"] for window in windows_of(measured(talking(), window_s=window_s))]
    assert times_s[0] == 0
    assert [b - a for a, b in pairwise(times_s)] == pytest.approx([window_s] * (len(times_s) - 1), abs=0.002)
    assert len(times_s) == int(TALK_S / window_s + 1e-9)


def test_a_recording_shorter_than_a_window_has_none() -> None:
    assert windows_of(measured(talking(), window_s=20.0)) == []


def test_a_windows_offset_is_the_best_guess_however_low_its_confidence() -> None:
    windows = windows_of(measured(talking(), window_s=1.0))
    assert all(window["state"] == "uncertain" for window in windows)
    assert all(isinstance(window["offset_ms"], float) and window["confidence"] < 0.95 for window in windows)


def test_the_whole_has_an_offset_only_while_measuring() -> None:
    doubtful = measured(talking())
    assert doubtful["state"] == "uncertain"
    assert doubtful["offset_ms"] is None and doubtful["offset_std_ms"] is None
    states = [window["state"] for window in windows_of(measured(talking(), overconfident_bundle(), 2.0))]
    assert "measuring" in states, "the rash bundle believes what it sees"


def test_silence_is_no_speech_even_for_an_overconfident_model() -> None:
    found = measured(silent(), overconfident_bundle(), 2.0)
    assert (found["state"], found["speech_s"]) == ("no_speech", 0.0)
    assert found["offset_ms"] is found["offset_std_ms"] is found["confidence"] is None
    assert {window["state"] for window in windows_of(found)} == {"no_speech"}


def test_without_a_face_there_is_no_face(tmp_path: Path) -> None:
    path = write(tmp_path / "flashes.mkv", Picture(), Sound())
    found = measured(path, overconfident_bundle(), 1.0)
    assert found["state"] == "no_face"
    assert found["offset_ms"] is found["confidence"] is None
    assert all(window["state"] == "no_face" and window["offset_ms"] is None for window in windows_of(found))


def test_a_file_that_breaks_off_is_measured_as_far_as_it_goes(tmp_path: Path) -> None:
    path = truncate(Path(shutil.copy(talking(), tmp_path / "half.mkv")), 0.5)
    found = measured(path, window_s=1.0)
    duration_s = float(str(found["duration_s"]))
    assert 2 < duration_s < 6
    assert len(windows_of(found)) <= duration_s
    assert "declares" in str(found["damaged"])


def test_speech_does_not_count_the_time_before_the_first_sample(tmp_path: Path) -> None:
    """A transport stream begins at 1.4 s, or at any hour."""
    path = write(tmp_path / "stream.ts", Picture(), Sound())
    found = measured(path)
    assert found["duration_s"] == pytest.approx(3.0, abs=0.2)
    assert float(str(found["speech_s"])) <= float(str(found["duration_s"]))


@pytest.mark.parametrize("window_s", [0.0, 0.19, -1.0, 101.0, float("nan"), float("inf")])
def test_impossible_windows_are_refused(window_s: float) -> None:
    with pytest.raises(UsageError, match="--window"):
        measured(talking(), window_s=window_s)


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match=r"none\.mkv"):
        measured(tmp_path / "none.mkv")
    (tmp_path / "empty.mkv").touch()
    with pytest.raises(InputFormatError, match="empty"):
        measured(tmp_path / "empty.mkv")
