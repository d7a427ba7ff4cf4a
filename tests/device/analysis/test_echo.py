"""A strong echo makes two offsets true: it is recognized, and gives no number between the two."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from device.analysis.analyzer import Analyzer
from device.analysis.echo import EchoDetector
from device.analysis.offset_tracker import OffsetTracker, WindowResult
from device.bundles.bundle import DEFAULT_BUNDLE, load_bundle
from device.features.contract import AUDIO_RATE_HZ
from device.features.model_download import require_face_model
from device.records import NS_PER_S, Chunk, Frame, Reason, State
from tests.scenes import talking_items

Floats = npt.NDArray[np.float32]
CHUNKS = [item for item in talking_items() if isinstance(item, Chunk)]
VOICE = np.concatenate([chunk.samples for chunk in CHUNKS])


def with_echo(voice: Floats, gain: float, lag_ms: int) -> Floats:
    lag = lag_ms * AUDIO_RATE_HZ // 1000
    late = np.concatenate([np.zeros(lag, np.float32), voice[:-lag]])
    return np.asarray(voice + gain * late, np.float32)


def in_room(voice: Floats, decay_s: float, level_db: float) -> Floats:
    """In noise that decays by 60 dB, with this much more energy than the direct sound."""
    size = round(decay_s * AUDIO_RATE_HZ)
    tail = np.random.default_rng(0).standard_normal(size) * 10 ** (-3 * np.arange(size) / size)
    tail *= np.sqrt(10 ** (level_db / 10) / np.sum(tail**2))
    return np.asarray(voice + np.convolve(voice, tail)[: len(voice)], np.float32)


def chunks(voice: Floats) -> Iterator[Chunk]:
    done = 0
    for chunk in CHUNKS:
        yield replace(chunk, samples=voice[done : done + len(chunk.samples)])
        done += len(chunk.samples)


def heard(sound: Iterable[Chunk]) -> list[bool]:
    """What the detector says after each chunk."""
    detector = EchoDetector()
    said = []
    for chunk in sound:
        detector.push(chunk)
        said.append(detector.on)
    return said


@pytest.mark.parametrize(
    ("gain", "lag_ms", "level"),
    [(1.0, 60, 1.0), (1.0, 100, 1.0), (1.0, 140, 1.0), (0.85, 80, 1.0), (1.4, 100, 1.0), (1.0, 100, 1e-3)],
)
def test_an_echo_as_loud_as_the_voice_is_heard_within_two_seconds(gain: float, lag_ms: int, level: float) -> None:
    said = heard(chunks(level * with_echo(VOICE, gain, lag_ms)))
    speech_s = 0.5  # the voice begins with a pause
    begin = round(len(said) * (2 + speech_s) * AUDIO_RATE_HZ / len(VOICE))
    assert all(said[begin:])


@pytest.mark.parametrize(
    "sound",
    [
        VOICE,
        with_echo(VOICE, 0.4, 100),  # moves the offset by a few milliseconds
        with_echo(VOICE, 1.0, 20),  # as from a table: within the tolerance
        in_room(VOICE, 0.5, 0),
        in_room(VOICE, 3.0, 9),
        np.zeros_like(VOICE),
        np.random.default_rng(1).standard_normal(len(VOICE)).astype(np.float32) / 10,
    ],
    ids=["dry", "weak", "early", "room", "hall", "silence", "noise"],
)
def test_what_is_no_strong_echo_is_not_taken_for_one(sound: Floats) -> None:
    assert not any(heard(chunks(sound)))


def test_an_echo_ends_and_audio_after_a_gap_does_not_continue_it() -> None:
    echo, dry = list(chunks(with_echo(VOICE, 1.0, 100))), list(chunks(VOICE))
    length_ns = len(VOICE) * NS_PER_S // AUDIO_RATE_HZ
    later = [replace(chunk, t_ns=chunk.t_ns + length_ns) for chunk in dry]
    assert heard([*echo, *later])[len(echo) - 1] and not heard([*echo, *later])[-1]
    far = [replace(chunk, t_ns=chunk.t_ns + 10 * length_ns) for chunk in dry]
    assert not heard([*echo, *far])[-1]


def result(sound: Floats) -> WindowResult:
    """Of the daemon's chain, 7 s after the begin of the clip."""
    analyzer = Analyzer(load_bundle(DEFAULT_BUNDLE), require_face_model())
    tracker = OffsetTracker(analyzer, 5.0)
    items: list[Frame | Chunk] = [*chunks(sound), *(item for item in talking_items() if isinstance(item, Frame))]
    for item in sorted(items, key=lambda item: item.t_ns):
        for row in analyzer.push(item):
            tracker.push(row)
    found = tracker.result()
    assert found is not None
    return found


def test_a_voice_with_its_echo_gives_no_number() -> None:
    assert result(VOICE).state is State.MEASURING
    echo = result(with_echo(VOICE, 1.0, 100))
    assert (echo.state, echo.reason, echo.offset_ms) == (State.UNCERTAIN, Reason.AMBIGUOUS, None)
