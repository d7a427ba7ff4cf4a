"""Embeddings of both towers in, one row of evidence for each lip tick out, as soon as all its candidates were heard."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from device.features.contract import AUDIO_TICKS_PER_LIP_TICK, LIP_TICK_NS
from device.sync.curve import evidence
from device.towers.blocks import Embeddings

_MAX_WAIT_LIP_TICKS = 25 * 20  # sound that is this late will not come
_MAX_WAIT_AUDIO_TICKS = 100 * 60  # nor lips that are this late
_MAX_RUN_LIP_TICKS = 25 * 4


@dataclass(frozen=True, slots=True)
class LipEvidence:
    """What the lips at one tick say of each candidate offset; all zero where there was no mouth or no sound."""

    tick: int
    row: npt.NDArray[np.float32]
    face: bool

    @property
    def t_ns(self) -> int:
        return self.tick * LIP_TICK_NS


class EvidenceStream:
    """Matches the two embedding streams. Holds the sound of twice the search range and the lips that wait for sound."""

    def __init__(self, search_ticks: int, logit_scale: float) -> None:
        self._search_ticks, self._logit_scale = search_ticks, logit_scale
        self._lips: list[tuple[int, npt.NDArray[np.float32], bool]] = []
        self._audio: dict[int, npt.NDArray[np.float32]] = {}
        self._audio_end = -(1 << 62)

    def push_audio(self, part: Embeddings) -> Iterator[LipEvidence]:
        for k in np.flatnonzero(part.valid):
            self._audio[part.first_tick + int(k)] = part.vectors[k]
        self._audio_end = max(self._audio_end, part.first_tick + len(part.valid))
        self._forget(self._audio_end - _MAX_WAIT_AUDIO_TICKS)
        yield from self._emit(self._audio_end - self._search_ticks)

    def push_lips(self, part: Embeddings) -> Iterator[LipEvidence]:
        self._lips += [
            (tick, vector, bool(ok))
            for tick, (vector, ok) in enumerate(zip(part.vectors, part.valid, strict=True), part.first_tick)
        ]
        overdue = (self._lips[-1][0] - _MAX_WAIT_LIP_TICKS) * AUDIO_TICKS_PER_LIP_TICK
        yield from self._emit(max(self._audio_end - self._search_ticks, overdue))

    def finish(self) -> Iterator[LipEvidence]:
        yield from self._emit(None)

    def _emit(self, before_tick: int | None) -> Iterator[LipEvidence]:
        while run := self._ready_run(before_tick):
            first, last = run[0][0], run[-1][0]
            low = first * AUDIO_TICKS_PER_LIP_TICK - self._search_ticks
            high = last * AUDIO_TICKS_PER_LIP_TICK + self._search_ticks
            blank = np.zeros_like(run[0][1])
            audio = [self._audio.get(tick) for tick in range(low, high + 1)]
            heard = np.array([vector is not None for vector in audio], np.bool_)
            sound = np.stack([blank if vector is None else vector for vector in audio])
            face = np.array([ok for _, _, ok in run], np.bool_)
            lips = np.stack([vector for _, vector, _ in run])
            rows = evidence(lips, face, first, sound, heard, low, self._search_ticks, self._logit_scale)
            self._forget((last + 1) * AUDIO_TICKS_PER_LIP_TICK - self._search_ticks)
            yield from (LipEvidence(first + k, row, bool(face[k])) for k, row in enumerate(rows))

    def _ready_run(self, before_tick: int | None) -> list[tuple[int, npt.NDArray[np.float32], bool]]:
        """Takes the first lips that need not wait any longer, up to the next jump in their ticks."""
        count = 0
        for tick, _, _ in self._lips[:_MAX_RUN_LIP_TICKS]:
            late_enough = before_tick is None or tick * AUDIO_TICKS_PER_LIP_TICK < before_tick
            if not late_enough or tick != self._lips[0][0] + count:
                break
            count += 1
        run, self._lips = self._lips[:count], self._lips[count:]
        return run

    def _forget(self, before_tick: int) -> None:
        while self._audio and (first := next(iter(self._audio))) < before_tick:
            del self._audio[first]
