"""Frames and chunks from a camera and a microphone for a number of seconds, or from a recording, in one sequence."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from device.capture.file import FileSource
from device.capture.source import LiveSource
from device.errors import AvdriftError, DeviceLostError
from device.records import NS_PER_S, Chunk, Frame
from device.runtime.inputs.source_thread import Feed

_WAITING_ITEMS = 256  # about four seconds of both
_TIMEOUT_S = 15.0  # a camera may need a while to start; once it runs, sources detect silence themselves
_SHUTDOWN_TIMEOUT_S = 1.5


def recorded(path: Path, seconds: float | None) -> Iterator[Frame | Chunk]:
    """A recording, or its first seconds. Raises CaptureError."""
    with FileSource(path) as source:
        begun_ns: int | None = None
        for item in source:
            begun_ns = item.t_ns if begun_ns is None else begun_ns
            if seconds is not None and item.t_ns - begun_ns > seconds * NS_PER_S:
                return
            yield item


class Live:
    """Reads each feed in a thread of its own. `devices` has each part's device name, once it is open."""

    def __init__(self, feeds: Sequence[Feed], seconds: float) -> None:
        self._feeds, self._seconds = feeds, seconds
        self._items: queue.Queue[Frame | Chunk | BaseException] = queue.Queue(_WAITING_ITEMS)
        self._stopped = threading.Event()
        self._open: list[LiveSource[Frame | Chunk]] = []
        self.devices: dict[str, str] = {}

    def items(self) -> Iterator[Frame | Chunk]:
        """Frames and chunks in order of arrival, starting when both deliver. Raises CaptureError."""
        threads = [threading.Thread(target=self._read, args=(feed,), daemon=True) for feed in self._feeds]
        for thread in threads:
            thread.start()
        try:
            yield from self._until_the_end()
        finally:
            self._stopped.set()
            for source in self._open:  # it may be waiting for its next item
                source.close()
            with suppress(queue.Empty):
                while True:  # a thread that waits for space must notice the end
                    self._items.get_nowait()
            for thread in threads:
                thread.join(_SHUTDOWN_TIMEOUT_S)

    def _until_the_end(self) -> Iterator[Frame | Chunk]:
        begun: dict[type, int] = {}
        while True:
            try:
                item = self._items.get(timeout=_TIMEOUT_S)
            except queue.Empty:
                missing = [feed.part for feed in self._feeds if feed.part not in self.devices]
                what = f"nothing came for {_TIMEOUT_S:g} s"
                remedy = "Run `avdrift doctor`"
                where = " and ".join(missing) or "camera and microphone"
                raise DeviceLostError(what, where=where, remedy=remedy) from None
            if isinstance(item, BaseException):
                raise item
            begun.setdefault(type(item), item.t_ns)
            both = len(begun) == len(self._feeds)
            if both and item.t_ns - max(begun.values()) > self._seconds * NS_PER_S:
                return
            yield item

    def _read(self, feed: Feed) -> None:
        try:
            with feed.open() as source:
                self._open.append(source)
                self.devices[feed.part] = source.device or feed.part
                for item in source:
                    if self._stopped.is_set():
                        return
                    self._items.put(item)
            raise DeviceLostError("ended", where=feed.part, remedy="Run `avdrift doctor`")
        except AvdriftError as error:
            self._fail(error)
        except Exception as error:  # drivers may raise anything
            what = f"{type(error).__name__}: {error}"
            self._fail(DeviceLostError(what, where=feed.part, remedy="Run `avdrift doctor`"))

    def _fail(self, error: AvdriftError) -> None:
        if not self._stopped.is_set():
            self._items.put(error)
