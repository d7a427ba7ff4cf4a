"""The interface of every source of video or audio, so that nothing after capture depends on its kind."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Protocol, Self, TypeAlias, TypeVar

from device.records import Chunk, Frame

Item_co = TypeVar("Item_co", covariant=True)


class Source(Protocol[Item_co]):
    """Opened by `with` and read by `for`, once. Raises CaptureError (wrong input) and no other error of its own.

    Items have rising times on one clock, in integer ns, and sequence numbers without gaps.
    """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __iter__(self) -> Iterator[Item_co]: ...


class LiveSource(Source[Item_co], Protocol):
    """An open device that delivers items until it is closed or raises CaptureError."""

    @property
    def device(self) -> str | None:
        """The name that `avdrift devices` prints."""
        ...

    @property
    def dropped(self) -> int:
        """Items lost so far within the source."""
        ...

    @property
    def rate_ppm(self) -> float | None:
        """The rate error of the device's own clock, where it has one and the error is known."""
        ...

    @property
    def behind_ns(self) -> int:
        """How much later than usual, for reasons of this process alone, the last item was delivered."""
        ...

    def close(self) -> None:
        """End the iteration soon; safe from any thread and any number of times."""
        ...


class Closing:
    """Common behaviour of sources: open when made, closed by `with`."""

    behind_ns = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        raise NotImplementedError


RecordingSource: TypeAlias = Source[Frame | Chunk]
