"""Rendered recordings, decoded again: audio and video where the truth says, equal for equal seeds, clear errors."""

from __future__ import annotations

import csv
import ctypes.util
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from device.errors import UsageError
from train.synth.appearance import random_appearance
from train.synth.articulation import move_mouth
from train.synth.plan import Truth, trimmed
from train.synth.render import (
    CSV_COLUMNS,
    SAMPLE_DURATION_S,
    SAMPLE_ENCODING,
    SAMPLE_SCHEDULE,
    SAMPLE_VOICE,
    Encoding,
    main,
    render_clip,
)
from train.synth.speech import Voice, synthesize
from train.synth.text import SAMPLE

pytestmark = pytest.mark.skipif(ctypes.util.find_library("espeak-ng") is None, reason="espeak-ng is not installed")
Pictures = list[tuple[float, npt.NDArray[np.uint8]]]


def decode(path: Path) -> tuple[Pictures, npt.NDArray[np.float32], int, float]:
    """Grey pictures with their times; samples, their rate and the time of the first."""
    pictures: Pictures = []
    blocks: list[npt.NDArray[np.float32]] = []
    rate_hz, first_s = 0, 0.0
    with av.open(str(path)) as container:
        for frame in container.decode(video=0, audio=0):
            if isinstance(frame, av.VideoFrame):
                assert frame.time is not None
                pictures.append((frame.time, np.asarray(frame.to_ndarray(format="gray"), np.uint8)))
            elif isinstance(frame, av.AudioFrame):
                if not blocks:
                    rate_hz, first_s = frame.sample_rate, float(frame.time or 0.0)
                samples = frame.to_ndarray().astype(np.float32).reshape(-1)
                scale = 32768 if frame.format.name.startswith("s16") else 1
                blocks.append(np.asarray(samples / scale, np.float32))
    return pictures, np.concatenate(blocks), rate_hz, first_s


def small(path: Path, seed: int = 3, **options: Any) -> Truth:
    defaults: dict[str, Any] = {"duration_s": 4.0, "size": (160, 120), "voice": Voice("en-us", "m3")}
    look = random_appearance(np.random.default_rng(20), clean=True)
    return render_clip(path, seed=seed, look=look, **{**defaults, **options})


def audio_delay_s(truth: Truth, samples: npt.NDArray[np.float32], rate_hz: int, first_s: float) -> float:
    """How much later the decoded sound is than the truth says, by cross-correlation."""
    grid_hz = 48_000
    planned = np.zeros(int(truth.duration_s * grid_hz), np.float32)
    for sentence in truth.sentences:
        spoken = trimmed(synthesize(sentence.text, truth.voice))
        t_s = np.arange(int(spoken.duration_s * grid_hz)) / grid_hz
        begin = round(sentence.start_s * grid_hz)
        wave = np.interp(t_s, np.arange(len(spoken.samples)) / spoken.rate_hz, spoken.samples)
        planned[begin : begin + len(wave)] += wave[: len(planned) - begin].astype(np.float32)
    heard = np.interp(np.arange(len(planned)) / grid_hz, first_s + np.arange(len(samples)) / rate_hz, samples)
    size = 2 * len(planned)
    correlation = np.fft.irfft(np.conj(np.fft.rfft(planned, size)) * np.fft.rfft(heard, size), size)
    lag = int(np.argmax(correlation))
    return (lag if lag < size // 2 else lag - size) / grid_hz


@pytest.mark.parametrize("codec", ["flac", "libopus"])
def test_sound_is_where_the_truth_says(tmp_path: Path, codec: str) -> None:
    bit_rate = 24_000 if codec == "libopus" else 0
    truth = small(tmp_path / "a.mkv", encoding=Encoding(audio_codec=codec, audio_bit_rate=bit_rate))
    _, samples, rate_hz, first_s = decode(tmp_path / "a.mkv")
    assert abs(audio_delay_s(truth, samples, rate_hz, first_s)) < 0.001
    assert len(samples) / rate_hz == pytest.approx(4.0, abs=0.03)


@pytest.mark.parametrize("offset_ms", [-200.0, 0.0, 130.0])
def test_lips_are_where_the_truth_says(tmp_path: Path, offset_ms: float) -> None:
    """The dark between the lips, in the decoded pictures, follows the phonemes moved by the offset."""
    truth = small(tmp_path / "a.mkv", size=(240, 180), duration_s=3.0, offset_schedule=[(0.0, offset_ms)])
    pictures, *_ = decode(tmp_path / "a.mkv")
    stack = np.stack([picture for _, picture in pictures]).astype(np.float32)
    middle = stack[:, 85:150, 90:150].reshape(len(stack), -1)
    dark = (middle < 55).sum(axis=1).astype(np.float64)
    track = move_mouth(truth.phonemes, truth.duration_s)
    times_s = np.array([t_s for t_s, _ in pictures])
    candidates_ms = np.arange(-300, 301, 10.0)
    scores = []
    for candidate_ms in candidates_ms:
        gap = [track.at(t_s - candidate_ms / 1000).gap for t_s in times_s]
        scores.append(np.corrcoef(gap, dark)[0, 1])
    assert max(scores) > 0.6
    assert candidates_ms[int(np.argmax(scores))] == pytest.approx(offset_ms, abs=20.0)


@pytest.mark.parametrize(("fps", "count"), [(24, 48), (25, 50), (29.97, 59), (30, 60)])
def test_pictures_stand_at_their_times(tmp_path: Path, fps: float, count: int) -> None:
    small(tmp_path / "a.mkv", fps=fps, duration_s=2.0)
    pictures, *_ = decode(tmp_path / "a.mkv")
    assert len(pictures) == count
    exact = float(Fraction(30000, 1001)) if fps == 29.97 else fps
    assert [t_s for t_s, _ in pictures] == pytest.approx(list(np.arange(count) / exact), abs=0.001)


def test_equal_seeds_give_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        small(tmp_path / f"{name}.mkv", duration_s=2.0, encoding=SAMPLE_ENCODING)
    small(tmp_path / "c.mkv", seed=4, duration_s=2.0, encoding=SAMPLE_ENCODING)
    first, second, third = ((tmp_path / f"{name}.mkv").read_bytes() for name in "abc")
    assert first == second
    assert first != third


def test_truth_lies_beside_the_recording(tmp_path: Path) -> None:
    truth = small(tmp_path / "a.mkv", duration_s=6.0, offset_schedule=[(0.0, 80.0), (3.0, -40.0)])
    document = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert document["segments"] == [{"t_s": 0.0, "offset_ms": 80.0}, {"t_s": 3.0, "offset_ms": -40.0}]
    assert document["file"] == "a.mkv"
    assert len(document["phonemes"]) == len(truth.phonemes) > 5
    assert document["voice"]["language"] == "en-us"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"duration_s": 0.2}, "duration"),
        ({"fps": 1000.0}, "frames per second"),
        ({"size": (161, 120)}, "even"),
        ({"size": (8, 8)}, "96"),
        ({"offset_schedule": [(1.0, 0.0)]}, "start at 0"),
        ({"voice": Voice("xx")}, "no such voice"),
    ],
)
def test_impossible_requests_are_refused(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        small(tmp_path / "a.mkv", **options)
    assert not (tmp_path / "a.mkv").exists()


def test_unwritable_output_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UsageError, match="cannot be written"):
        small(tmp_path / "file" / "a.mkv", duration_s=2.0)
    assert main([str(tmp_path / "file"), "--clips", "1", "--duration-s", "2"]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_command_renders_clips_with_their_table(tmp_path: Path) -> None:
    assert main([str(tmp_path / "out"), "--clips", "2", "--seed", "5", "--duration-s", "1.5", "--jobs", "2"]) == 0
    with (tmp_path / "out" / "clips.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [tuple(row) for row in rows] == [CSV_COLUMNS] * 2
    assert [row["speaker"] for row in rows] == ["synth_0", "synth_1"]
    for row in rows:
        pictures, samples, rate_hz, _ = decode(tmp_path / "out" / row["file"])
        assert len(pictures) == int(1.5 * float(row["fps"]) + 0.01)
        assert np.abs(samples).max() > 0.1
        assert len(samples) / rate_hz == pytest.approx(1.5, abs=0.01)
        assert (tmp_path / "out" / row["file"]).with_suffix(".json").exists()


def test_command_refuses_no_clips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--clips", "0"]) == 2
    assert "at least 1" in capsys.readouterr().err


@pytest.mark.slow
def test_the_sample_is_within_its_budget(tmp_path: Path) -> None:
    """Six seconds at the sample's settings; the whole sample has 48 s and 450 kB."""
    truth = small(
        tmp_path / "a.mkv", duration_s=6.0, size=(320, 240), voice=SAMPLE_VOICE, encoding=SAMPLE_ENCODING,
        script=SAMPLE,
    )  # fmt: skip
    size = (tmp_path / "a.mkv").stat().st_size + (tmp_path / "a.json").stat().st_size
    assert size < 450_000 * 6 / 48 * 1.25
    assert truth.sentences[0].text == SAMPLE[0]


def test_the_sample_holds_three_offsets() -> None:
    assert [offset_ms for _, offset_ms in SAMPLE_SCHEDULE] == [80.0, -160.0, 240.0]
    assert SAMPLE_SCHEDULE[-1][0] < SAMPLE_DURATION_S
