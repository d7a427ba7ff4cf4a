"""The modes that a Video4Linux camera or capture stick offers: pixel format, size and frame rate.

HDMI sticks often deliver five uncompressed frames a second, and 30 only as JPEG. Too few frames for lip reading are
easily overlooked. Three ioctls of the kernel's videodev2.h list the modes without starting the stream.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

_ENUM_FMT, _ENUM_FRAMESIZES, _ENUM_FRAMEINTERVALS = 0xC0405602, 0xC02C564A, 0xC034564B
_FMTDESC = struct.Struct("=3I32s5I")  # index, type, flags, description, pixelformat, mbus_code, reserved
_FRMSIZE = struct.Struct("=3I6I2I")  # index, pixel_format, type, sizes, reserved
_FRMIVAL = struct.Struct("=5I6I2I")  # index, pixel_format, width, height, type, intervals, reserved
_CAPTURE, _DISCRETE = 1, 1
_MAX_ENTRIES = 64  # per list: a driver whose list never ends must not block us
_JPEGS = (b"MJPG", b"JPEG")
MIN_RATE_HZ = 25.0
_MIN_HEIGHT_PX = 480

Ioctl = Callable[[int, int, bytearray], object]


@dataclass(frozen=True, slots=True)
class Mode:
    """One mode. form: as in [camera] format."""

    form: str
    width_px: int
    height_px: int
    rate_hz: float

    def __str__(self) -> str:
        return f"{self.width_px}x{self.height_px} {self.form} at {self.rate_hz:g} frames per second"


def modes(node: Path, ioctl: Ioctl | None = None) -> list[Mode]:
    """List all discrete modes; none if the node cannot be queried. ioctl: given by tests."""
    import fcntl  # POSIX only, like such cameras

    try:
        descriptor = os.open(node, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        return list(_modes(descriptor, ioctl or fcntl.ioctl))
    finally:
        os.close(descriptor)


def best_mode(offered: list[Mode]) -> Mode | None:
    """The mode with the least work among those with a sufficient frame rate; None if there is none."""
    enough = [mode for mode in offered if mode.rate_hz >= MIN_RATE_HZ]
    return min(
        enough,
        key=lambda mode: (mode.height_px < _MIN_HEIGHT_PX, mode.width_px * mode.height_px, mode.form != "raw"),
        default=None,
    )


def _modes(descriptor: int, ioctl: Ioctl) -> Iterator[Mode]:
    for _, _, _, _, code, *_ in _listed(descriptor, ioctl, _ENUM_FMT, _FMTDESC, (_CAPTURE, 0, b"", 0, 0, 0, 0, 0)):
        form = "mjpeg" if struct.pack("=I", code) in _JPEGS else "raw"
        for _, _, kind, width, height, *_ in _listed(descriptor, ioctl, _ENUM_FRAMESIZES, _FRMSIZE, (code, *[0] * 9)):
            if kind != _DISCRETE:
                break
            asked = (code, width, height, *[0] * 9)
            rates = [
                found[6] / found[5]
                for found in _listed(descriptor, ioctl, _ENUM_FRAMEINTERVALS, _FRMIVAL, asked)
                if found[4] == _DISCRETE and found[5]
            ]
            if rates:
                yield Mode(form, width, height, round(max(rates), 2))


def _listed(
    descriptor: int, ioctl: Ioctl, request: int, form: struct.Struct, rest: tuple[object, ...]
) -> Iterator[tuple[int, ...]]:
    """The driver's entries for index 0, 1, 2, … to the end of its list."""
    for index in range(_MAX_ENTRIES):
        block = bytearray(form.pack(index, *rest))
        try:
            ioctl(descriptor, request, block)
        except OSError:
            return
        yield form.unpack(block)
