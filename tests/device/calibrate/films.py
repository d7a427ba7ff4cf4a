"""Films of the pattern, rendered once, and parts of them: cut, resampled, scaled down."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from device.calibrate.film import write_film
from tests.scenes import scene_folder

FILM_S = 16.0


def film(suffix: str = ".mkv", fps: float = 30.0) -> Path:
    path = scene_folder() / f"film-{fps:g}{suffix}"
    if not path.exists():
        write_film(path, FILM_S, fps)
    return path


@cache
def decoded(path: Path) -> tuple[list[tuple[float, npt.NDArray[np.uint8]]], npt.NDArray[np.float32], int]:
    """Pictures of 64 × 48 with their times, mono samples, and their rate."""
    with av.open(str(path)) as container:
        pictures = [
            (float(frame.time or 0), np.asarray(frame.reformat(64, 48, "gray").to_ndarray(), np.uint8))
            for frame in container.decode(video=0)
        ]
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        frames = list(container.decode(stream))
    # In float whatever the codec gives.
    samples = np.concatenate([_floats(frame) for frame in frames])
    return pictures, samples, stream.rate


def _floats(frame: av.AudioFrame) -> npt.NDArray[np.float32]:
    values = frame.to_ndarray().reshape(-1)
    full = {"s16": 32767.0, "s16p": 32767.0, "s32": 2147483647.0}.get(frame.format.name, 1.0)
    return np.asarray(values, np.float32) / np.float32(full)


def cut(source: Path, path: Path, *, sound_s: float = 0.0, picture_s: float = 0.0, fps: float = 30.0) -> Path:
    """The film without the first seconds of its sound, or of its picture: the rest comes that much earlier.

    fps: each new picture is the old one that was shown in the middle of its time.
    """
    pictures, samples, rate_hz = decoded(source)
    rate = Fraction(fps).limit_denominator(1001)
    times = np.array([t_s for t_s, _ in pictures])
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast", "crf": "10"})
        audio = container.add_stream("flac", rate=rate_hz, layout="mono")
        audio.format = "s16"
        video.width, video.height, video.pix_fmt, video.codec_context.time_base = 64, 48, "yuv420p", 1 / rate
        for k in range(int((FILM_S - picture_s) * rate)):
            then = int(np.searchsorted(times, picture_s + (k + 0.5) / float(rate)))
            frame = av.VideoFrame.from_ndarray(pictures[then - 1][1], format="gray").reformat(format="yuv420p")
            frame.time_base, frame.pts = 1 / rate, k
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        kept = np.round(samples[round(sound_s * rate_hz) :] * 32767).astype(np.int16)
        for at in range(0, len(kept), 4096):
            block = av.AudioFrame.from_ndarray(kept[None, at : at + 4096], format="s16", layout="mono")
            block.sample_rate, block.time_base, block.pts = rate_hz, Fraction(1, rate_hz), at
            container.mux(audio.encode(block))
        container.mux(audio.encode(None))
    return path
