"""Recordings composed of real clips, both video and audio, through the device's own chain.

Frames and audio go into the analyzer as from a source, without encoding. One report per second.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from device.analysis.analyzer import Analyzer
from device.analysis.offset_tracker import OffsetTracker, WindowResult
from device.bundles.bundle import Bundle, load_bundle
from device.capture.file import FileSource
from device.features.contract import AUDIO_RATE_HZ
from device.features.model_download import require_face_model
from device.records import NS_PER_S, Chunk, Frame, RgbImage, State
from device.sync.evidence_stream import LipEvidence
from train.data.clips import join
from train.evaluation.tracks import TOLERANCE_MS

SIDE_PX = 360  # of the image of one person
_BLOCK = AUDIO_RATE_HZ // 20

Samples = npt.NDArray[np.float32]


@cache
def loaded(folder: Path) -> Bundle:
    """A two-tower model's bundle, loaded once per process."""
    return load_bundle(folder)


def read_clip(path: Path) -> tuple[list[Frame], Samples, int]:
    """Frames, samples and the samples' first time."""
    frames, chunks = [], []
    with FileSource(path) as source:
        for item in source:
            if isinstance(item, Frame):
                frames.append(item)
            else:
                chunks.append(item)
    return frames, *join(chunks)


def square(picture: RgbImage) -> RgbImage:
    """The middle square, scaled to one height for everybody."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    cut = picture[top : top + side, left : left + side]
    return np.asarray(cv2.resize(cut, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA), np.uint8)


def chunks_of(samples: Samples, first_ns: int) -> Iterator[Chunk]:
    """Audio in chunks of 50 ms."""
    for k, start in enumerate(range(0, len(samples) - _BLOCK + 1, _BLOCK)):
        t_ns = first_ns + start * NS_PER_S // AUDIO_RATE_HZ
        yield Chunk(k, t_ns, AUDIO_RATE_HZ, samples[start : start + _BLOCK])


def with_sound(frames: Iterable[Frame], samples: Samples, first_ns: int) -> Iterator[Frame | Chunk]:
    """Frames, in time order, and audio as they come from a source."""
    pictures: Iterable[Frame | Chunk] = frames
    return heapq.merge(pictures, chunks_of(samples, first_ns), key=lambda item: item.t_ns)


def reports(items: Iterable[Frame | Chunk], bundle: Bundle, window_s: float) -> list[WindowResult]:
    """The reports for items in time order, one per second."""
    analyzer, found = Analyzer(bundle, require_face_model()), list[WindowResult]()
    tracker = OffsetTracker(analyzer, window_s)
    due_ns: int | None = None

    def rows() -> Iterator[LipEvidence]:
        for item in items:
            yield from analyzer.push(item)
        yield from analyzer.finish()

    for row in rows():
        tracker.push(row)
        due_ns = row.t_ns + NS_PER_S if due_ns is None else due_ns
        if row.t_ns >= due_ns:
            due_ns += NS_PER_S
            result = tracker.result()
            found += [result] if result else []
    return found


def word_of(result: WindowResult) -> str:
    """`measuring`, or why there is no offset."""
    return (result.state if result.state is State.MEASURING else result.reason or result.state).value


def tally(results: Iterable[WindowResult], truth_ms: float) -> dict[str, int]:
    """The number of reports, of those that are `measuring`, and of right ones."""
    offsets_ms = [result.offset_ms for result in results]
    errors_ms = [abs(offset_ms - truth_ms) for offset_ms in offsets_ms if offset_ms is not None]
    right = sum(error_ms <= TOLERANCE_MS for error_ms in errors_ms)
    return {"reports": len(offsets_ms), "measuring": len(errors_ms), "right": right}
