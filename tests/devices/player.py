"""Sound heard at known times: one stream into a PulseAudio sink that never ends, and whose place in time is watched.

A player that is started for each sound begins some tenths of a second late, and never equally so. Here what changes is
what the stream holds; between its samples and the clock there is one constant, and when that moves it is told.
Needs libpulse-simple, which comes with pulseaudio-utils.
"""

from __future__ import annotations

import ctypes
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from device.records import NS_PER_MS, NS_PER_S

Sound = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float32]]

_FLOAT32LE, _PLAYBACK = 5, 1
_BLOCK_MS, _BUFFER_MS = 20, 300  # the buffer outlasts what a busy computer makes this thread wait
_ANCHOR_BLOCKS = 75
_SLIP_NS = 10 * NS_PER_MS


class _Spec(ctypes.Structure):
    _fields_ = (("format", ctypes.c_int), ("rate", ctypes.c_uint32), ("channels", ctypes.c_uint8))


class _Buffer(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint32) for name in ("maxlength", "tlength", "prebuf", "minreq", "fragsize"))


class Player:
    """Plays `sound(times)`, which is asked for the values at times in s on the monotonic clock, until it is closed.

    slips_ms: by how much what was heard moved against the clock, each time that it did: an under-run, or the server's
    doing. `sound` may be replaced at any time. What comes after is in its place again. `ended`: the server has gone.
    """

    def __init__(self, server: str, sink: str, rate_hz: int, sound: Sound) -> None:
        self.slips_ms: list[float] = []
        self.ended = False
        self.ready = threading.Event()
        self._rate_hz, self.sound = rate_hz, sound
        self._library = ctypes.CDLL("libpulse-simple.so.0")
        self._library.pa_simple_new.restype = ctypes.c_void_p
        self._library.pa_simple_get_latency.restype = ctypes.c_uint64
        spec = _Spec(_FLOAT32LE, rate_hz, 1)
        size = 4 * rate_hz * _BUFFER_MS // 1000
        buffer = _Buffer(2 * size, size, 0, 2**32 - 1, 2**32 - 1)
        error = ctypes.c_int()
        self._stream = ctypes.c_void_p(
            self._library.pa_simple_new(
                server.encode(), b"rig", _PLAYBACK, sink.encode(), b"rig", ctypes.byref(spec), None,
                ctypes.byref(buffer), ctypes.byref(error),
            )
        )  # fmt: skip
        assert self._stream.value, f"no stream into {sink} (PulseAudio's error {error.value})"
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="player", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stopped = True
        self._thread.join(5)

    def _run(self) -> None:
        count = self._rate_hz * _BLOCK_MS // 1000
        written, anchor_ns = 0, 0.0
        seen: deque[float] = deque(maxlen=_ANCHOR_BLOCKS)
        while not self._stopped:
            times_s = (anchor_ns + (written + np.arange(count)) * (NS_PER_S / self._rate_hz)) / NS_PER_S
            values = self.sound(times_s) if self.ready.is_set() else np.zeros(count, np.float32)
            error = ctypes.c_int()
            data = np.ascontiguousarray(values, np.float32).tobytes()
            if self._library.pa_simple_write(self._stream, data, len(data), ctypes.byref(error)) < 0:
                break
            written += count
            before_ns = time.monotonic_ns()
            latency_us = self._library.pa_simple_get_latency(self._stream, ctypes.byref(error))
            now_ns = (before_ns + time.monotonic_ns()) / 2
            if error.value:
                break
            seen.append(now_ns + latency_us * 1000 - written * NS_PER_S / self._rate_hz)
            if len(seen) < _ANCHOR_BLOCKS:
                continue
            slip_ns = statistics.median(seen) - anchor_ns
            if not self.ready.is_set():
                anchor_ns = statistics.median(seen)
                self.ready.set()
            elif abs(slip_ns) > _SLIP_NS:
                self.slips_ms.append(slip_ns / NS_PER_MS)
                anchor_ns += slip_ns
        self.ended = True
        self._library.pa_simple_free(self._stream)
