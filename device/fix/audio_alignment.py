"""Checks by correlation that a copy's audio is where it should be: the same stretches are searched in both files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from device.capture.container import demuxed, open_recording
from device.capture.joints import Joints, Packet
from device.capture.tracks import AudioTrack
from device.records import NS_PER_S

_RATE_HZ = 16_000
_LENGTH_S = 0.5
_REACH_S = 0.3  # to either side of the expected place
_MIN_LEVEL = 1e-3  # -60 dB: silence matches everywhere
_MIN_LIKENESS = 0.7

Samples = npt.NDArray[np.float32]
Sound = tuple[Path, int]  # a file and its stream


def out_of_place_s(source: Sound, copy: Sound, places_s: Sequence[tuple[float, float]]) -> float | None:
    """How much later than expected the copy's audio is: the median over pairs of places (source, copy).

    None if nothing can be compared: silence, or tones that match everywhere.
    """
    given = _stretches(source, [at_s - _LENGTH_S / 2 for at_s, _ in places_s], _LENGTH_S)
    searched = [at_s - _LENGTH_S / 2 - _REACH_S for _, at_s in places_s]
    made = _stretches(copy, searched, _LENGTH_S + 2 * _REACH_S)
    found = [lag_s(part, within) for part, within in zip(given, made, strict=True)]
    off_s = [late_s - _REACH_S for late_s in found if late_s is not None]
    return float(np.median(off_s)) if off_s else None


def lag_s(part: Samples, within: Samples) -> float | None:
    """Where in `within` this part begins; None if it is not found, or silent."""
    if part.std() < _MIN_LEVEL or len(within) < len(part):
        return None
    part = part - part.mean()
    likeness = np.correlate(within, part, "valid")
    sums = np.cumsum(np.concatenate([[0.0], within.astype(np.float64) ** 2]))
    energies = sums[len(part) :] - sums[: -len(part)]
    likeness = likeness / np.sqrt(np.maximum(energies * float(part @ part), 1e-12))
    best = int(likeness.argmax())
    return best / _RATE_HZ if likeness[best] >= _MIN_LIKENESS else None


def _stretches(sound: Sound, begins_s: Sequence[float], length_s: float) -> list[Samples]:
    """The samples from each of these times on, padded with zeros."""
    size = round(length_s * _RATE_HZ)
    found = [np.zeros(size, np.float32) for _ in begins_s]
    path, index = sound
    with open_recording(path) as container:
        stream = container.streams[index]
        assert isinstance(stream, av.AudioStream)
        video = container.streams.video[0].index
        track = AudioTrack(_RATE_HZ, Counter())
        for packet in Joints(container.format.name, (video, index)).follow(demuxed(container)):
            if packet.stream.index != index:
                continue
            for frame in _decoded(packet):
                for chunk in track.feed(frame):
                    at = chunk.t_ns / NS_PER_S
                    for begin_s, samples in zip(begins_s, found, strict=True):
                        first = round((at - begin_s) * _RATE_HZ)
                        low, high = max(first, 0), min(first + len(chunk.samples), size)
                        if low < high:
                            samples[low:high] = chunk.samples[low - first : high - first]
    return found


def _decoded(packet: Packet) -> list[av.AudioFrame]:
    try:
        return [frame for frame in packet.decode() if isinstance(frame, av.AudioFrame)]
    except (av.FFmpegError, ValueError):
        return []
