"""The stages of the pipeline as work that can be repeated in isolation, for `avdrift bench`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np

from device.analysis.analyzer import Analyzer, search_ticks
from device.analysis.echo import EchoDetector
from device.analysis.offset_tracker import OffsetTracker
from device.bundles.bundle import Bundle
from device.bundles.model_kinds import AUDIO, HEAD, LIPS
from device.config.settings import DEFAULT_SEARCH_MS
from device.features.chunks import ChunkJoiner
from device.features.contract import AUDIO_TICKS_PER_LIP_TICK
from device.features.face import MIN_SCORE, Face, FaceDetector
from device.features.logmel import LogMelStream
from device.features.mouth_grid import LipGrid, normalize
from device.features.tracker import MouthTracker
from device.features.vad import SpeechStream
from device.litert import Floats, Model
from device.pictures import Picture
from device.records import NS_PER_S, Chunk, Frame
from device.sync.direct import score_of
from device.sync.evidence_stream import EvidenceStream, LipEvidence
from device.towers.blocks import BlockStream, Embeddings
from device.towers.macs import count_macs

WINDOW_S: Final = 5.0

Region = tuple[float, float, float] | None
Ticks = tuple[int, Any, Any]  # first tick, values, valid


class EverySecond:
    """The daemon's work on evidence, without the reports."""

    def __init__(self, analyzer: Analyzer) -> None:
        self._tracker = OffsetTracker(analyzer, WINDOW_S)
        self._due_ns: int | None = None

    def add(self, rows: Iterable[LipEvidence]) -> None:
        for row in rows:
            self._tracker.push(row)
            self._due_ns = row.t_ns + NS_PER_S if self._due_ns is None else self._due_ns
            if row.t_ns >= self._due_ns:
                self._due_ns += NS_PER_S
                self._tracker.result()


class Chain:
    """Every stage's input, kept from one run of the whole chain, and every stage as repeatable work."""

    def __init__(self, bundle: Bundle, folder: Path, face_model: Path, items: list[Frame | Chunk]) -> None:
        self._frames = [item for item in items if isinstance(item, Frame)]
        self._chunks = [item for item in items if isinstance(item, Chunk)]
        self._analyzer = Analyzer(bundle, face_model)  # only for its record of speech
        for chunk in self._chunks:
            list(self._analyzer.push(chunk))
        self._search_ticks, self._calibration = search_ticks(DEFAULT_SEARCH_MS), bundle.calibration
        self._score, self._head_macs = score_of(bundle), head_macs(bundle, folder)
        self._detector = _RecordingDetector(face_model)
        self._grid_parts = list(self._crop_with(self._detector))
        self._lips, self._audio = (_CountedModel((folder / name).read_bytes(), name=name) for name in (LIPS, AUDIO))
        self._mel_parts = self.features()
        self.lip_parts, self._audio_parts = self.embed_lips(), self.embed_audio()
        self.face_macs = len(self._detector.calls) * count_macs(face_model.read_bytes())
        self.lip_macs, self.audio_macs = self._lips.macs, self._audio.macs
        self.curve_macs = self._count_curve()

    def detect_faces(self) -> None:
        for picture, region in self._detector.calls:
            FaceDetector.detect(self._detector, picture, region)

    def crop(self) -> None:
        for _ in self._crop_with(_ReplayedDetector(self._detector.found)):
            pass

    def features(self) -> list[Ticks]:
        mel, speech, echo, sound, parts = LogMelStream(), SpeechStream(), EchoDetector(), ChunkJoiner(), list[Ticks]()
        for chunk in chain(chain.from_iterable(map(sound.push, self._chunks)), sound.finish()):
            speech.push(chunk)
            echo.push(chunk)
            tick, rows = mel.push(chunk)
            parts.append((tick, rows, np.ones(len(rows), np.bool_)))
        return parts

    def embed_lips(self) -> list[Embeddings]:
        return _embed(BlockStream(self._lips, normalize), self._grid_parts)

    def embed_audio(self) -> list[Embeddings]:
        return _embed(BlockStream(self._audio), self._mel_parts)

    def match(self) -> None:
        reports = EverySecond(self._analyzer)
        for rows in self._evidence():
            reports.add(rows)

    def _evidence(self) -> Iterator[list[LipEvidence]]:
        stream = EvidenceStream(self._search_ticks, self._calibration, self._score)
        # In time order, as from a live rig: the stream drops audio that no lips have asked for.
        timed = [((part.first_tick + len(part.valid)) * AUDIO_TICKS_PER_LIP_TICK, 1, part) for part in self.lip_parts]
        timed += [(part.first_tick + len(part.valid), 0, part) for part in self._audio_parts]
        for _, is_lips, part in sorted(timed, key=lambda entry: entry[:2]):
            yield list(stream.push_lips(part) if is_lips else stream.push_audio(part))
        yield list(stream.finish())

    def _count_curve(self) -> int:
        """The products of lips and their negatives with the audio of their candidates, and the head on them."""
        size = self._lips.output_shapes[0][2]
        counts = [len(rows) for rows in self._evidence()]
        heard = [AUDIO_TICKS_PER_LIP_TICK * (count - 1) + 2 * self._search_ticks + 1 for count in counts]
        negatives = 0 if self._score else 2 * self._calibration.negative_reach_ticks
        products = sum((lips + negatives) * sound * size for lips, sound in zip(counts, heard, strict=True) if lips)
        return products + sum(counts) * (2 * self._search_ticks + 1) * self._head_macs

    def _crop_with(self, detector: FaceDetector) -> Iterator[Ticks]:
        tracker, grid = MouthTracker(detector), LipGrid()
        for frame in self._frames:
            for crop, *_ in tracker.push(frame):
                yield grid.push(crop)
        for crop, *_ in tracker.finish():
            yield grid.push(crop)


def head_macs(bundle: Bundle, folder: Path) -> int:
    """Cost of the direct network's head, for one lip window and one candidate; 0 without a head."""
    if "head" not in bundle.models:
        return 0
    _, ticks, lags, _ = bundle.manifest["contract"]["towers"]["head"]["input"]["shape"]
    return count_macs((folder / HEAD).read_bytes()) // (ticks * lags)


class _RecordingDetector(FaceDetector):
    """Records where it was asked to look and what it found."""

    def __init__(self, model_path: Path) -> None:
        super().__init__(model_path)
        self.calls: list[tuple[Picture, Region]] = []
        self.found: list[list[Face]] = []

    def detect(self, picture: Picture, region: Region = None, *, min_score: float = MIN_SCORE) -> list[Face]:
        faces = super().detect(picture, region, min_score=min_score)
        self.calls.append((picture, region))
        self.found.append(faces)
        return faces


class _ReplayedDetector(FaceDetector):
    """Returns the recorded results at no cost."""

    def __init__(self, found: list[list[Face]]) -> None:
        self._found = iter(found)

    def detect(self, picture: Picture, region: Region = None, *, min_score: float = MIN_SCORE) -> list[Face]:
        return next(self._found)


class _CountedModel(Model):
    """A model that counts the cost of its invocations."""

    def __init__(self, content: bytes, *, name: str) -> None:
        super().__init__(content, name=name, threads=1)
        self._macs_per_call = count_macs(content)
        self.macs = 0

    def __call__(self, values: Floats) -> list[Floats]:
        self.macs += self._macs_per_call
        return super().__call__(values)


def _embed(stream: BlockStream, parts: list[Ticks]) -> list[Embeddings]:
    found: list[Embeddings] = []
    for first, values, valid in parts:
        found += stream.push(first, values, valid)
    return found + list(stream.finish())
