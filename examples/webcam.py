"""Measures a webcam and a microphone live, in a loop of your own with OpenCV and PyAudio.

    python examples/webcam.py [CAMERA]

Frames and sound need times on one clock. Here both are stamped when they arrive. That is simple, and adds a constant of
your camera and your microphone to the offset, some tens of milliseconds. Where that matters, use the capture times of
your library, or `avdrift run`, which knows those of cameras and sound cards, with `avdrift calibrate`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

import avdrift

RATE_HZ = 48_000
BLOCK = RATE_HZ // 50

Blocks = SimpleQueue[tuple[npt.NDArray[np.float32], float]]  # samples, and when the first of them was taken


class Camera(Protocol):
    """What is used of cv2.VideoCapture."""

    def read(self) -> tuple[bool, Any]: ...


def watch(
    camera: Camera, blocks: Blocks, show: Callable[[str], None] = print, now: Callable[[], float] = time.monotonic
) -> None:
    """Until the camera gives nothing any more. A Meter is for one thread: sound waits in a queue."""
    meter, shown = avdrift.Meter(), None
    while True:
        taken, bgr = camera.read()
        if not taken:
            return
        meter.push_frame(bgr[:, :, ::-1], now())
        while not blocks.empty():
            samples, t_s = blocks.get()
            meter.push_sound(samples, t_s, RATE_HZ)
        report = meter.report()
        if report is not None and report is not shown:
            shown = report
            why = report.reason or report.state
            show(
                f"{report.offset_ms:+.0f} ms, {report.verdict}" if report.offset_ms is not None else f"no number: {why}"
            )


def open_microphone(blocks: Blocks) -> Any:
    """The default microphone, into the queue. Keep what this returns: the stream ends with it."""
    import pyaudio

    def heard(content: bytes, count: int, _times: object, _flags: int) -> tuple[None, int]:
        blocks.put((np.frombuffer(content, np.float32), time.monotonic() - count / RATE_HZ))
        return None, pyaudio.paContinue

    return pyaudio.PyAudio().open(
        RATE_HZ, 1, pyaudio.paFloat32, input=True, frames_per_buffer=BLOCK, stream_callback=heard
    )


def main() -> None:
    camera = cv2.VideoCapture(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    if not camera.isOpened():
        raise SystemExit("There is no such camera: give its number")
    blocks: Blocks = SimpleQueue()
    stream = open_microphone(blocks)
    try:
        watch(camera, blocks)
    except KeyboardInterrupt:
        print("stopped")
    finally:
        stream.close()
        camera.release()


if __name__ == "__main__":
    main()
