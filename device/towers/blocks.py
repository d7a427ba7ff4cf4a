"""Streams of ticks through an encoder with a fixed input length: overlapping blocks in, one embedding per tick out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from device.litert import Floats, Model

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Embeddings:
    """A run of embeddings [ticks, size]; row k covers a window whose middle is tick `first_tick + k`."""

    first_tick: int
    vectors: Floats
    valid: Flags


class BlockStream:
    """Encodes front-end values of consecutive ticks, however they are split into pieces.

    An embedding is valid if all ticks of its window are. A jump in the ticks starts a new block.
    A block ends before each tick that is `ends_at` more than a multiple of the encoder's output length. So two streams
    can be made to finish at the same time, instead of one waiting for the other.
    """

    def __init__(
        self, model: Model, prepare: Callable[[npt.NDArray[Any]], Floats] = np.asarray, *, ends_at: int = 0
    ) -> None:
        self._model = model
        self._prepare = prepare
        self.skips = False  # skips every second block to save work; an empty one marks where the next begins
        self._skipped = False
        self._ends_at = ends_at
        self._stride = model.output_shapes[0][1]
        self._window = model.input_shape[1] - self._stride + 1
        self._parts: list[tuple[npt.NDArray[Any], Flags]] = []
        self._held = 0  # ticks in the parts
        self._first_tick = 0

    def push(self, first_tick: int, values: npt.NDArray[Any], valid: Flags) -> Iterator[Embeddings]:
        """Take values [ticks, ...]; yield the blocks that they complete."""
        if not len(values):
            return
        if self._held and first_tick != self._first_tick + self._held:
            yield from self.finish()
        if not self._held:
            self._first_tick = first_tick
        self._append(values, valid)
        while self._held >= self._window - 1 + (count := self._until_end()):
            values, valid = self._joined()
            self._skipped = self.skips and not self._skipped
            if self._skipped:
                next_tick = self._first_tick + count + self._window // 2
                yield Embeddings(next_tick, np.empty((0, self._model.output_shapes[0][2]), np.float32), valid[:0])
            else:
                end = self._window - 1 + count
                yield self._run(values[:end], valid[:end])
            self._first_tick += count
            self._append(values[count:], valid[count:])

    def finish(self) -> Iterator[Embeddings]:
        """Yield the windows that lie wholly in the rest."""
        if self._held:
            values, valid = self._joined()
            if len(values) >= self._window:
                yield self._run(values, valid)

    def _append(self, values: npt.NDArray[Any], valid: Flags) -> None:
        self._parts.append((values, valid))
        self._held += len(values)

    def _joined(self) -> tuple[npt.NDArray[Any], Flags]:
        """Everything that is held, in one piece."""
        parts, self._parts, self._held = self._parts, [], 0
        if len(parts) == 1:
            return parts[0]
        return np.concatenate([values for values, _ in parts]), np.concatenate([valid for _, valid in parts])

    def _until_end(self) -> int:
        """How many embeddings this block will have."""
        return self._stride - (self._first_tick + self._window // 2 - self._ends_at) % self._stride

    def _run(self, values: npt.NDArray[Any], flags: Flags) -> Embeddings:
        valid = np.asarray(np.lib.stride_tricks.sliding_window_view(flags, self._window).all(axis=1), np.bool_)
        first = self._first_tick + self._window // 2
        if not valid.any():  # no face in view: nothing to encode
            return Embeddings(first, np.zeros((len(valid), self._model.output_shapes[0][2]), np.float32), valid)
        block = np.zeros(self._model.input_shape, np.float32)
        block[0, : len(values)] = self._prepare(values)
        return Embeddings(first, self._model(block)[0][0, : len(valid)], valid)
