"""From the embeddings of both encoders to one row of evidence per lip tick, as soon as all its candidates have audio.

Each of several faces has its own lip embeddings, by face number. Their evidence is combined into one row
(active_speaker.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from device.bundles.calibration import Calibration
from device.features.contract import AUDIO_TICKS_PER_LIP_TICK, LIP_TICK_NS
from device.sync.active_speaker import SpeakerMix
from device.sync.curve import evidence
from device.towers.blocks import Embeddings

_MAX_WAIT_LIP_TICKS = 25 * 20  # audio that is later than this will not come
_MAX_WAIT_AUDIO_TICKS = 100 * 60  # nor will lips that are later than this
_MAX_RUN_LIP_TICKS = 25 * 4
_MAX_LAG_LIP_TICKS = 25 * 2  # how far one face may fall behind before the others stop waiting for it


Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]
# Arguments and result as in `evidence`, without its scale.
Score = Callable[[Floats, Flags, int, Floats, Flags, int, int], Floats]
_Lip: TypeAlias = tuple[int, Floats, bool]  # tick, embedding, whether a mouth was visible


@dataclass(frozen=True, slots=True)
class LipEvidence:
    """The evidence of one lip tick for each candidate offset; all zero without a mouth or audio, or in an echo."""

    tick: int
    row: npt.NDArray[np.float32]
    face: bool
    echo: bool = False

    @property
    def t_ns(self) -> int:
        return self.tick * LIP_TICK_NS


class EvidenceStream:
    """Matches the embedding streams. Holds audio for twice the search range, and the lips that wait for audio."""

    def __init__(self, search_ticks: int, calibration: Calibration, score: Score | None = None) -> None:
        """`score` computes evidence where the cosine of the embeddings does not; it scores each face separately."""
        self._search_ticks = search_ticks
        self.negative_reach_ticks = 0 if score else calibration.negative_reach_ticks
        self._score = score or partial(
            evidence, logit_scale=calibration.logit_scale, negative_reach_ticks=self.negative_reach_ticks
        )
        self._speaker = SpeakerMix(calibration.temperature)
        self._lips: dict[int, _Lips] = {}
        self._audio = _Heard()
        self._next_tick: int | None = None  # rows before this tick have been emitted

    @property
    def speaker(self) -> int | None:
        """The face that is most probably heard; None with fewer than two faces."""
        return self._speaker.likeliest

    def push_audio(self, part: Embeddings) -> Iterator[LipEvidence]:
        self._audio.add(part)
        self._audio.forget(self._audio.end_tick - _MAX_WAIT_AUDIO_TICKS)
        yield from self._emit(self._audio.end_tick - self._search_ticks)

    def begin(self, face_id: int, first_tick: int) -> None:
        """Start a face whose embeddings begin at `first_tick` or later. Rows from there on wait for it.

        Raises ValueError if the face has already begun.
        """
        if face_id in self._lips:
            raise ValueError(f"face {face_id} has begun already")
        self._lips[face_id] = _Lips(self.negative_reach_ticks, first_tick)

    def push_lips(self, part: Embeddings) -> Iterator[LipEvidence]:
        """Push the next embeddings of the only face."""
        if 0 not in self._lips:
            self.begin(0, part.first_tick)
        yield from self.push_faces([(0, part)])

    def push_faces(self, parts: Sequence[tuple[int, Embeddings]], ended: Collection[int] = ()) -> Iterator[LipEvidence]:
        """Push the next embeddings of several faces, as (face_id, part), and the faces that end with them.

        Earlier embeddings of an ended face still count. Raises KeyError for a face that has not begun or has ended.
        """
        for face_id, part in parts:
            self._going(face_id).add(part)
        for face_id in ended:
            self._going(face_id).ended = True
        overdue = (self._newest_tick - _MAX_WAIT_LIP_TICKS) * AUDIO_TICKS_PER_LIP_TICK
        yield from self._emit(max(self._audio.end_tick - self._search_ticks, overdue))

    def finish(self) -> Iterator[LipEvidence]:
        yield from self._emit(None)

    def _going(self, face_id: int) -> _Lips:
        lips = self._lips.get(face_id)
        if lips is None or lips.ended:
            raise KeyError(f"face {face_id} has not begun, or has ended")
        return lips

    @property
    def _newest_tick(self) -> int:
        return max((lips.end_tick for lips in self._lips.values()), default=0) - 1

    def _emit(self, before_tick: int | None) -> Iterator[LipEvidence]:
        if before_tick is not None:  # one row for all faces, so no face may later add a tick that was already emitted
            oldest = self._newest_tick - _MAX_LAG_LIP_TICKS
            reached = [lips.reached_tick for lips in self._lips.values() if not lips.ended and lips.end_tick > oldest]
            before_tick = min([before_tick, *(tick * AUDIO_TICKS_PER_LIP_TICK for tick in reached)])
        found: dict[int, dict[int, tuple[Floats, bool]]] = {}  # for each tick, the row of each face
        for face_id, lips in list(self._lips.items()):
            while run := lips.pop_run(before_tick):
                for tick, row, face in self._rows(run):
                    found.setdefault(tick, {})[face_id] = row, face
            if lips.ended and not lips.waiting:
                del self._lips[face_id]
        if found:
            self._audio.forget((max(found) + 1) * AUDIO_TICKS_PER_LIP_TICK - self._search_ticks)
        for tick in sorted(found):
            if self._next_tick is not None and tick < self._next_tick:
                continue  # of a face that fell behind and was not waited for
            self._next_tick = tick + 1
            seen = {face_id: row for face_id, (row, face) in found[tick].items() if face}
            blank, _ = next(iter(found[tick].values()))
            yield LipEvidence(tick, self._speaker.mix(seen) if seen else blank, bool(seen))

    def _rows(self, run: _Run) -> Iterator[tuple[int, Floats, bool]]:
        begin = run.lips[0][0]
        first, end = begin + run.part.start, begin + run.part.stop
        sound = self._audio.between(
            first * AUDIO_TICKS_PER_LIP_TICK - self._search_ticks,
            (end - 1) * AUDIO_TICKS_PER_LIP_TICK + self._search_ticks + 1,
        )
        face = np.array([ok for _, _, ok in run.lips], np.bool_)
        lips = np.stack([vector for _, vector, _ in run.lips])
        rows = self._score(lips, face, begin, sound.vectors, sound.valid, sound.first_tick, self._search_ticks)
        yield from zip(range(first, end), rows[run.part], face[run.part].tolist(), strict=True)


@dataclass(frozen=True, slots=True)
class _Run:
    """Lips of consecutive ticks. The rows in `part` are due; the others are their temporal negatives."""

    lips: list[_Lip]
    part: slice


class _Lips:
    """The embeddings of one face that wait for audio, and the earlier ones that serve as negatives."""

    def __init__(self, negative_reach_ticks: int, first_tick: int) -> None:
        self.waiting: list[_Lip] = []
        self.end_tick = first_tick  # the end of all lips so far
        self.ended = False
        self._first_tick = first_tick
        self._negative_reach_ticks = negative_reach_ticks
        self._before: list[_Lip] = []

    def add(self, part: Embeddings) -> None:
        self.waiting += [
            (tick, vector, bool(ok))
            for tick, (vector, ok) in enumerate(zip(part.vectors, part.valid, strict=True), part.first_tick)
        ]
        self.end_tick = part.first_tick + len(part.valid)

    @property
    def reached_tick(self) -> int:
        """Rows before this tick need nothing more from this face."""
        return max(self.end_tick - self._negative_reach_ticks, self._first_tick)

    def pop_run(self, before_tick: int | None) -> _Run | None:
        """Take the first lips that need not wait any longer, up to the next jump in their ticks."""
        if not self.waiting:
            return None
        first = self.waiting[0][0]
        if self._before and self._before[-1][0] != first - 1:
            self._before = []
        candidates = self.waiting[: _MAX_RUN_LIP_TICKS + self._negative_reach_ticks]
        joined = next((k for k, (tick, _, _) in enumerate(candidates) if tick != first + k), len(candidates))
        due = min(joined, _MAX_RUN_LIP_TICKS)
        if before_tick is not None:
            due = min(due, -(-before_tick // AUDIO_TICKS_PER_LIP_TICK) - first)
        if due <= 0:
            return None
        lips = self._before + self.waiting[: min(due + self._negative_reach_ticks, joined)]
        part = slice(len(self._before), len(self._before) + due)
        self._before = lips[max(part.stop - self._negative_reach_ticks, 0) : part.stop]
        self.waiting = self.waiting[due:]
        return _Run(lips, part)


class _Heard:
    """Audio embeddings of consecutive ticks in one piece; missing ticks are included as not valid."""

    def __init__(self) -> None:
        self._held = Embeddings(0, np.empty((0, 0), np.float32), np.empty(0, np.bool_))
        self.end_tick = -(1 << 62)  # the end of all audio so far

    def __len__(self) -> int:
        return len(self._held.valid)

    def add(self, part: Embeddings) -> None:
        """Add embeddings that follow everything held so far."""
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
        """The embeddings held from `first_tick` to before `end_tick`."""
        held = self._held
        skip = min(max(first_tick - held.first_tick, 0), len(held.valid))
        part = slice(skip, max(end_tick - held.first_tick, skip))
        return Embeddings(held.first_tick + skip, held.vectors[part], held.valid[part])
