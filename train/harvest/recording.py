"""One long recording: measured, examined, and its good stretches written as clips."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import cv2
import numpy as np

from device.analysis.measure import measure_timeline
from device.bundles.bundle import Bundle
from device.capture.file import FileSource
from device.features.contract import AUDIO_RATE_HZ
from device.features.face import FaceDetector
from device.features.model_download import require_face_model
from device.records import NS_PER_S, Chunk, Frame, RgbImage, State
from train.data.clips import join
from train.harvest.stretches import WINDOW_S, FaceCheck, Part, SeenWindow, parts_of

_CHECK_EVERY_S = 0.4
_SMALL_PX = 32
_CUT = 25.0  # mean difference of two consecutive frames, in grey levels: talking stays below 5
_MAX_HEIGHT = 480


def study(path: Path, bundle: Bundle) -> list[Part]:
    """The parts of a recording, on its own clock. Raises CaptureError."""
    measured = measure_timeline(path, bundle, require_face_model(), window_s=WINDOW_S)
    windows = [
        SeenWindow(
            measured.origin_s + window["t_s"], window["offset_ms"] if window["state"] is State.MEASURING else None,
            window["confidence"] or 0.0, str(window["reason"] or "").replace("_", " "),
        )
        for window in measured.result["windows"]
    ]  # fmt: skip
    return parts_of(windows, list(_check_faces(path)))


def _check_faces(path: Path) -> Iterator[FaceCheck]:
    detector, before, next_s, cut = FaceDetector(require_face_model()), None, 0.0, False
    with FileSource(path, max_height=_MAX_HEIGHT) as source:
        for item in source:
            if not isinstance(item, Frame):
                continue
            small, t_s = _small(item.rgb), item.t_ns / NS_PER_S
            cut |= before is not None and float(np.abs(small - before).mean()) > _CUT
            before = small
            if t_s >= next_s:
                yield FaceCheck(t_s, len(detector.detect(item.picture)), cut)
                next_s, cut = t_s + _CHECK_EVERY_S, False


def _small(picture: RgbImage) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(gray, (_SMALL_PX, _SMALL_PX), interpolation=cv2.INTER_AREA), np.float32)


def write_parts(path: Path, parts: Sequence[Part], targets: Sequence[Path]) -> None:
    """Write the parts of a recording, in order, as clips, in one pass. Raises CaptureError.

    A clip is closed as soon as it is complete, because an open encoder holds its last frames.
    """
    with FileSource(path, max_height=_MAX_HEIGHT) as source, ExitStack() as stack:
        waiting = deque(stack.enter_context(_ClipWriter(*each)) for each in zip(targets, parts, strict=True))
        newest_ns: dict[type, int] = {Frame: 0, Chunk: 0}
        for item in source:
            newest_ns[type(item)] = end_ns = _end_ns(item)
            for writer in waiting:
                if end_ns < writer.from_ns:
                    break
                writer.push(item)
            while waiting and waiting[0].to_ns < min(newest_ns.values()):
                waiting.popleft().finish()
        for writer in waiting:
            writer.finish()


def _end_ns(item: Frame | Chunk) -> int:
    length = len(item.samples) * NS_PER_S // AUDIO_RATE_HZ if isinstance(item, Chunk) else 0
    return item.t_ns + length


class _ClipWriter:
    """H.264 and FLAC in Matroska, starting at 0. The file gets its name when it is complete; as a context, or goes."""

    def __init__(self, target: Path, part: Part) -> None:
        self._target, self._partial = target, target.with_suffix(".part")
        self.from_ns, self.to_ns = round(part.from_s * NS_PER_S), round(part.to_s * NS_PER_S)
        self._chunks: list[Chunk] = []
        self._out: av.container.OutputContainer | None = None
        self._video: av.VideoStream | None = None
        self._audio: av.AudioStream | None = None

    def __enter__(self) -> _ClipWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        if self._out is not None:
            self._out.close()
            self._partial.unlink()

    def push(self, item: Frame | Chunk) -> None:
        """Items outside of the part are skipped."""
        if isinstance(item, Chunk):
            if _end_ns(item) > self.from_ns and item.t_ns < self.to_ns:
                self._chunks.append(item)
        elif self.from_ns <= item.t_ns < self.to_ns:
            self._write(item)

    def _write(self, frame: Frame) -> None:
        rgb = frame.rgb
        if self._out is None or self._video is None:
            self._out = av.open(str(self._partial), "w", format="matroska")
            self._video = self._out.add_stream("libx264", rate=30, options={"crf": "18", "preset": "veryfast"})
            self._video.height, self._video.width = (size // 2 * 2 for size in rgb.shape[:2])
            self._video.pix_fmt = "yuv420p"
            self._video.codec_context.time_base = Fraction(1, 1_000_000)
            self._audio = self._out.add_stream("flac", rate=AUDIO_RATE_HZ, layout="mono")
        even = np.ascontiguousarray(rgb[: self._video.height, : self._video.width])
        picture = av.VideoFrame.from_ndarray(even, "rgb24")
        picture.pts, picture.time_base = (frame.t_ns - self.from_ns) // 1000, self._video.codec_context.time_base
        self._out.mux(self._video.encode(picture))

    def finish(self) -> None:
        """Complete the file; nothing without frames."""
        if self._out is None or self._video is None or self._audio is None:
            return
        self._out.mux(self._video.encode(None))
        samples, t_ns = join(self._chunks)
        first, last = (round((at_ns - t_ns) * AUDIO_RATE_HZ / NS_PER_S) for at_ns in (self.from_ns, self.to_ns))
        # Audio that begins after the part does is silent until then, because the file's clock is that of the part.
        pcm = np.concatenate([np.zeros(max(-first, 0), np.float32), samples[max(first, 0) : last]])
        values = np.clip(np.rint(pcm * 32767), -32768, 32767).astype(np.int16)
        for start in range(0, len(values), 4096):
            block = av.AudioFrame.from_ndarray(values[None, start : start + 4096], "s16", "mono")
            block.sample_rate, block.pts = AUDIO_RATE_HZ, start
            self._out.mux(self._audio.encode(block))
        self._out.mux(self._audio.encode(None))
        self._out.close()
        self._partial.replace(self._target)
        self._out = None
        self._chunks.clear()
