"""PortAudio through PyAudio: loaded on demand, started quietly, devices found by name, times read on arrival.

PortAudio renumbers devices at each start and notices new ones only then. So every opening starts it afresh, and closing
ends it. Samples are requested as float32: PortAudio converts from the card's format (16, 24 or 32 bits) without any
loss that matters for a microphone.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from device.errors import DeviceBusyError, DeviceLostError, DeviceMissingError
from device.records import NS_PER_S

BLOCK_MS = 20
QUEUE_BLOCKS = 250  # 5 s: longer than the analysis may pause
WAKE_BLOCKS = 3  # waking the reader costs more than a block, and less than 50 ms is of no use
# the first that a card supports; integer ratios first
RATES_HZ = (48_000, 16_000, 32_000, 96_000, 44_100, 192_000, 8_000)
MAX_CHANNELS = 2
_POLL_S = 0.25
_UNAVAILABLE = -9985  # paDeviceUnavailable


def load_pyaudio() -> Any:
    """Import PyAudio. Raises DeviceMissingError, with what to install, if it or PortAudio is missing."""
    try:
        return importlib.import_module("pyaudio")
    except ImportError as error:
        what = f"PyAudio cannot be used ({error})"
        remedy = "Run: sudo apt install portaudio19-dev gcc python3-dev && .venv/bin/pip install pyaudio"
        raise DeviceMissingError(what, where="microphone", remedy=remedy) from None


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries below PortAudio from reporting every missing sound server and plug-in on stderr.

    Replaces their error handlers while PortAudio starts, so that stderr stays open to everything else. The new handler
    is a function of libc without arguments that does nothing: one made by ctypes needs memory that is both writable and
    executable, which the service may not have.
    """
    nothing = ctypes.cast(ctypes.CDLL(None).getpid, ctypes.c_void_p)
    setters = []
    for library, names in (
        ("libasound.so.2", ["snd_lib_error_set_handler"]),
        ("libjack.so.0", ["jack_set_error_function", "jack_set_info_function"]),
    ):
        with suppress(OSError, AttributeError):  # PortAudio may be built without JACK
            setters += [getattr(ctypes.CDLL(library), name) for name in names]
    os.environ.setdefault("JACK_NO_START_SERVER", "1")
    for setter in setters:
        setter(nothing)
    try:
        yield
    finally:
        for setter in setters:
            setter(None)  # restores the library's own handler


def read_clocks() -> tuple[int, int, int]:
    """Monotonic, boot and wall clock, in ns."""
    return time.monotonic_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns()


@dataclass(frozen=True, slots=True)
class Block:
    """The data of one PortAudio callback: interleaved float32, the driver's time, and three clocks on arrival."""

    data: bytes
    count: int
    adc_ns: int
    mono_ns: int
    boot_ns: int
    real_ns: int
    skipped: int = 0  # samples lost between the previous block and this one


class Inbox:
    """A queue from PortAudio's thread, which may not wait, to the reader: drops the oldest and counts its samples."""

    def __init__(self, pyaudio: Any, clocks: Callable[[], tuple[int, int, int]]) -> None:
        self.overflows = 0  # losses reported by the driver; one writer, any readers
        self._overflow_flag, self._go_on, self._stop = pyaudio.paInputOverflow, pyaudio.paContinue, pyaudio.paAbort
        self._clocks = clocks
        self._blocks: deque[Block] = deque()
        self._skipped = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, data: bytes, count: int, times: Mapping[str, float], flags: int) -> tuple[None, int]:
        """PortAudio's callback. It must not raise: PyAudio would raise it again in the main thread."""
        mono_ns, boot_ns, real_ns = self._clocks()
        adc_ns = round(times["input_buffer_adc_time"] * NS_PER_S)
        with self._changed:
            self.overflows += bool(flags & self._overflow_flag)
            if len(self._blocks) >= QUEUE_BLOCKS:
                self._skipped += self._blocks.popleft().count
            self._blocks.append(Block(data, count, adc_ns, mono_ns, boot_ns, real_ns))
            if len(self._blocks) >= WAKE_BLOCKS:
                self._changed.notify()
            return None, self._stop if self._closed else self._go_on

    def get(self, timeout_s: float) -> Block | None:
        """The oldest block; None if none came in time, or at the end."""
        with self._changed:
            if not self._blocks:  # blocks that arrive together are taken without waiting
                self._changed.wait_for(lambda: len(self._blocks) >= WAKE_BLOCKS or self._closed, timeout_s)
            if self._closed or not self._blocks:
                return None
            block, skipped = self._blocks.popleft(), self._skipped
            self._skipped = 0
        return replace(block, skipped=skipped)

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class InputStream:
    """A running PortAudio stream. `name` is PortAudio's name of the device, or the end of it; `label` is the user's.

    Errors on opening: DeviceMissingError, DeviceBusyError; while reading: DeviceLostError.
    """

    def __init__(
        self, pyaudio: Any, name: str, label: str, *, lost_after_s: float,
        clocks: Callable[[], tuple[int, int, int]] = read_clocks,
    ) -> None:  # fmt: skip
        self._where = f"microphone {label}"
        self._lost_after_s = lost_after_s
        self._lock = threading.Lock()  # PortAudio does not allow two threads in one stream
        self._inbox = Inbox(pyaudio, clocks)
        self._stream: Any = None
        self._portaudio: Any = None
        try:
            with quiet():
                self._portaudio = pyaudio.PyAudio()
                index, info = self._find(name)
                self.channels = max(min(int(info["maxInputChannels"]), MAX_CHANNELS), 1)
                self.rate_hz = self._choose_rate(pyaudio.paFloat32, index, int(info["defaultSampleRate"]))
                self._stream = self._portaudio.open(
                    rate=self.rate_hz, channels=self.channels, format=pyaudio.paFloat32, input=True,
                    input_device_index=index, frames_per_buffer=self.rate_hz * BLOCK_MS // 1000,
                    stream_callback=self._inbox.put,
                )  # fmt: skip
        except OSError as error:
            self.close()
            kind = DeviceBusyError if _UNAVAILABLE in error.args else DeviceMissingError
            reason = str(error.args[-1]) if error.args else str(error)
            remedy = "See whether another program records from it, and what `avdrift doctor` says."
            raise kind(f"PortAudio cannot open it ({reason})", where=self._where, remedy=remedy) from None
        except BaseException:
            self.close()
            raise

    @property
    def overflows(self) -> int:
        return self._inbox.overflows

    def read(self) -> Block | None:
        """Wait for the next block; None once closed. Raises DeviceLostError if none comes."""
        since_s = time.monotonic()
        while not self._inbox.closed:
            block = self._inbox.get(_POLL_S if self._lost_after_s > _POLL_S else self._lost_after_s)
            if block is not None:
                return block
            with self._lock:
                active = self._stream is not None and self._stream.is_active()
            if self._inbox.closed:
                return None
            silent_s = time.monotonic() - since_s
            if not active or silent_s >= self._lost_after_s:
                what = f"delivered no audio for {silent_s:.1f} s" if active else "its stream has ended"
                remedy = "Check whether it is still plugged in; it is opened again when it comes back."
                raise DeviceLostError(what, where=self._where, remedy=remedy)
        return None

    def close(self) -> None:
        """End the stream and any waiting `read`; safe from any thread, and twice."""
        self._inbox.close()
        with self._lock:
            stream, self._stream = self._stream, None
            portaudio, self._portaudio = self._portaudio, None
            if stream is not None:
                with suppress(OSError):  # the device is gone
                    stream.close()
            if portaudio is not None:
                portaudio.terminate()

    def _find(self, name: str) -> tuple[int, Mapping[str, Any]]:
        found = [self._portaudio.get_device_info_by_index(k) for k in range(self._portaudio.get_device_count())]
        inputs = [info for info in found if int(info["maxInputChannels"]) > 0]
        info = next((info for info in inputs if f" {info['name']}".endswith(f" {name}")), None)
        if info is None:
            what = f"PortAudio does not list it, but: {', '.join(str(one['name']) for one in inputs) or 'nothing'}"
            remedy = "See whether another program holds it, and what `avdrift devices` finds."
            raise DeviceMissingError(what, where=self._where, remedy=remedy)
        return int(info["index"]), info

    def _choose_rate(self, sample_format: int, index: int, default_hz: int) -> int:
        for rate_hz in RATES_HZ:
            with suppress(ValueError):  # PyAudio's answer for an unsupported format
                if self._portaudio.is_format_supported(
                    rate_hz, input_device=index, input_channels=self.channels, input_format=sample_format
                ):
                    return rate_hz
        return default_hz
