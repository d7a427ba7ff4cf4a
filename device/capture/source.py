"""What every source of pictures or sound offers, so that nothing after capture knows which one it is."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Protocol, Self, TypeAlias, TypeVar

from device.records import Chunk, Frame

Item_co = TypeVar("Item_co", covariant=True)


class Source(Protocol[Item_co]):
    """Opened by `with`, read by `for`, once; raises CaptureError (a wrong input) and nothing else of its own.

    Items carry rising times on one clock, in integer ns, and sequence numbers without holes.
    """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __iter__(self) -> Iterator[Item_co]: ...


class LiveSource(Source[Item_co], Protocol):
    """A device, open since it was made, that gives items until it is closed or raises CaptureError."""

    @property
    def device(self) -> str | None:
        """As `avdrift devices` prints it."""
        ...

    @property
    def dropped(self) -> int:
        """Items lost in it so far."""
        ...

    @property
    def rate_ppm(self) -> float | None:
        """How far its own clock is off, where it has one and that is known."""
        ...

    def close(self) -> None:
        """End its iteration soon; from any thread and any number of times."""
        ...


class Closing:
    """What the sources have in common: open when made, closed by `with`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        raise NotImplementedError


RecordingSource: TypeAlias = Source[Frame | Chunk]
