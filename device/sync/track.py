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
        self._audio = _Heard()

    def push_audio(self, part: Embeddings) -> Iterator[LipEvidence]:
        self._audio.add(part)
        self._audio.forget(self._audio.end_tick - _MAX_WAIT_AUDIO_TICKS)
        yield from self._emit(self._audio.end_tick - self._search_ticks)

    def push_lips(self, part: Embeddings) -> Iterator[LipEvidence]:
        self._lips += [
            (tick, vector, bool(ok))
            for tick, (vector, ok) in enumerate(zip(part.vectors, part.valid, strict=True), part.first_tick)
        ]
        overdue = (self._lips[-1][0] - _MAX_WAIT_LIP_TICKS) * AUDIO_TICKS_PER_LIP_TICK
        yield from self._emit(max(self._audio.end_tick - self._search_ticks, overdue))

    def finish(self) -> Iterator[LipEvidence]:
        yield from self._emit(None)

    def _emit(self, before_tick: int | None) -> Iterator[LipEvidence]:
        while run := self._ready_run(before_tick):
            first, last = run[0][0], run[-1][0]
            sound = self._audio.between(
                first * AUDIO_TICKS_PER_LIP_TICK - self._search_ticks,
                last * AUDIO_TICKS_PER_LIP_TICK + self._search_ticks + 1,
            )
            face = np.array([ok for _, _, ok in run], np.bool_)
            lips = np.stack([vector for _, vector, _ in run])
            rows = evidence(
                lips, face, first, sound.vectors, sound.valid, sound.first_tick, self._search_ticks, self._logit_scale
            )
            self._audio.forget((last + 1) * AUDIO_TICKS_PER_LIP_TICK - self._search_ticks)
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


class _Heard:
    """The embeddings of consecutive ticks in one piece; ticks that were left out are in it as not valid."""

    def __init__(self) -> None:
        self._held = Embeddings(0, np.empty((0, 0), np.float32), np.empty(0, np.bool_))
        self.end_tick = -(1 << 62)  # of all that came

    def __len__(self) -> int:
        return len(self._held.valid)

    def add(self, part: Embeddings) -> None:
        """Take what comes after all that is held."""
        held, gap = self._held, part.first_tick - self.end_tick
        if not len(held.valid) or gap > _MAX_WAIT_AUDIO_TICKS:
            self._held = part
        else:
            blank = np.zeros((gap, part.vectors.shape[1]), np.float32)
            self._held = Embeddings(
                held.first_tick,
                np.concatenate([held.vectors, blank, part.vectors]),
                np.concatenate([held.valid, np.zeros(gap, np.bool_), part.valid]),
            )
        self.end_tick = part.first_tick + len(part.valid)

    def forget(self, before_tick: int) -> None:
        self._held = self.between(before_tick, self.end_tick)

    def between(self, first_tick: int, end_tick: int) -> Embeddings:
        """What is held from one tick to before another."""
        held = self._held
        skip = min(max(first_tick - held.first_tick, 0), len(held.valid))
        part = slice(skip, max(end_tick - held.first_tick, skip))
        return Embeddings(held.first_tick + skip, held.vectors[part], held.valid[part])
