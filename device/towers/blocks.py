"""Streams of ticks through a tower whose input has a fixed length: overlapping blocks in, one embedding a tick out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from device.towers.litert import Floats, Model

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Embeddings:
    """A run of embeddings [ticks, size]; row k sees a window whose middle is tick `first_tick + k`."""

    first_tick: int
    vectors: Floats
    valid: Flags


class BlockStream:
    """Front-end values of consecutive ticks in, embeddings out, whatever the pieces they come in.

    An embedding is valid when all ticks of its window are. A jump in the ticks starts a new block.
    A block ends before each tick that is `ends_at` more than a multiple of the tower's output length: so two streams
    can be made to answer at the same time, instead of one waiting for the other.
    """

    def __init__(
        self, model: Model, prepare: Callable[[npt.NDArray[Any]], Floats] = np.asarray, *, ends_at: int = 0
    ) -> None:
        self._model = model
        self._prepare = prepare
        self.skips = False  # every second block is left out, to save work; its ticks are never given
        self._skipped = False
        self._ends_at = ends_at
        self._stride = model.output_shapes[0][1]
        self._window = model.input_shape[1] - self._stride + 1
        self._values: list[npt.NDArray[Any]] = []
        self._valid: list[bool] = []
        self._first_tick = 0

    def push(self, first_tick: int, values: npt.NDArray[Any], valid: Flags) -> Iterator[Embeddings]:
        """Take values [ticks, ...]; give the blocks that they complete."""
        if not len(values):
            return
        if self._values and first_tick != self._first_tick + len(self._values):
            yield from self.finish()
        if not self._values:
            self._first_tick = first_tick
        self._values += list(values)
        self._valid += valid.tolist()
        while len(self._values) >= self._window - 1 + (count := self._until_end()):
            self._skipped = self.skips and not self._skipped
            if not self._skipped:
                yield self._run(self._window - 1 + count)
            del self._values[:count], self._valid[:count]
            self._first_tick += count

    def finish(self) -> Iterator[Embeddings]:
        """The windows that lie wholly in what is left."""
        if len(self._values) >= self._window:
            yield self._run(len(self._values))
        self._values, self._valid = [], []

    def _until_end(self) -> int:
        """How many embeddings this block will have."""
        return self._stride - (self._first_tick + self._window // 2 - self._ends_at) % self._stride

    def _run(self, count: int) -> Embeddings:
        flags = np.array(self._valid[:count], np.bool_)
        valid = np.asarray(np.lib.stride_tricks.sliding_window_view(flags, self._window).all(axis=1), np.bool_)
        first = self._first_tick + self._window // 2
        if not valid.any():  # nobody in the picture: spare the device the work
            return Embeddings(first, np.zeros((len(valid), self._model.output_shapes[0][2]), np.float32), valid)
        values = self._prepare(np.stack(self._values[:count]))
        block = np.zeros(self._model.input_shape, np.float32)
        block[0, :count] = values
        return Embeddings(first, self._model(block)[0][0, : len(valid)], valid)
