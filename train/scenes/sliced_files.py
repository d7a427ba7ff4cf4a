"""`avdrift-train sliced CLIPS`: the device's own `measure` on real files with a known truth, as users run it.

The truth comes from slicing: the file begins later in its audio (audio early) or in its video (audio late). Nothing is
padded or delayed. Each window is compared with the shift plus the clip's own offset, as `measure` finds it on the
original clip. Clips on which it is not sure are left out.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from tqdm import tqdm

from device.analysis.measure import measure
from device.bundles.bundle import Bundle, load_bundle
from device.bundles.model_kinds import MEASURING
from device.capture.file import FileSource
from device.errors import AvdriftError, InputFormatError
from device.features.contract import AUDIO_RATE_HZ
from device.features.model_download import require_face_model
from device.processes import worker_pool
from device.records import NS_PER_S, Chunk, Frame, State
from train.data.clip_table import read_rows
from train.data.clips import join
from train.evaluation.tracks import TOLERANCE_MS


def slice_file(source: Path, target: Path, shift_ms: float) -> None:
    """Write a copy whose audio is `shift_ms` earlier against the video than the original's; negative: later.

    Both tracks begin at 0 in the copy; the earlier part of the one that is cut is gone. FLAC, H.264 (crf 16), time
    stamps kept to a microsecond. Raises CaptureError.
    """
    frames: list[Frame] = []
    chunks: list[Chunk] = []
    with FileSource(source, max_height=4320) as reader:
        for item in reader:
            if isinstance(item, Frame):
                frames.append(item)
            else:
                chunks.append(item)
    samples, audio_t_ns = join(chunks)
    audio_from_ns = max(frames[0].t_ns, audio_t_ns)
    video_from_ns = audio_from_ns
    if shift_ms > 0:
        audio_from_ns += round(shift_ms * 1e6)
    else:
        video_from_ns -= round(shift_ms * 1e6)
    samples = samples[round((audio_from_ns - audio_t_ns) * AUDIO_RATE_HZ / NS_PER_S) :]
    with av.open(str(target), "w", format="matroska") as out:
        video = out.add_stream("libx264", rate=30, options={"crf": "16", "preset": "veryfast"})
        video.height, video.width = (size // 2 * 2 for size in frames[0].rgb.shape[:2])
        video.pix_fmt = "yuv420p"
        video.codec_context.time_base = Fraction(1, 1_000_000)
        audio = out.add_stream("flac", rate=AUDIO_RATE_HZ, layout="mono")
        for frame in frames:
            if frame.t_ns < video_from_ns:
                continue
            picture = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(frame.rgb[: video.height, : video.width]), "rgb24"
            )
            picture.pts = (frame.t_ns - video_from_ns) // 1000
            picture.time_base = video.codec_context.time_base
            out.mux(video.encode(picture))
        out.mux(video.encode(None))
        pcm = np.clip(np.rint(samples * 32767), -32768, 32767).astype(np.int16)
        for start in range(0, len(pcm), 4096):
            block = av.AudioFrame.from_ndarray(pcm[None, start : start + 4096], "s16", "mono")
            block.sample_rate, block.pts = AUDIO_RATE_HZ, start
            out.mux(audio.encode(block))
        out.mux(audio.encode(None))


@dataclass(frozen=True, slots=True)
class SlicedWindow:
    """One window of a sliced copy, as `measure` reported it."""

    file: str
    corpus: str
    speaker: str
    t_s: float
    error_ms: float
    confidence: float
    state: str


@cache
def _bundle(folder: Path) -> Bundle:
    return load_bundle(folder, MEASURING)


def check_clip(
    clip: Path, corpus: str, speaker: str, bundle: Path, shifts_ms: list[float], window_s: float
) -> list[SlicedWindow]:
    """All windows with speech of a clip's copies, one copy per shift. Raises InputFormatError for an unsure clip."""
    cv2.setNumThreads(1)
    towers, face_model = _bundle(bundle), require_face_model()
    own_ms = measure(clip, towers, face_model)["offset_ms"]
    if own_ms is None:
        remedy = "Leave it out, or give a longer clip"
        raise InputFormatError("its own offset is not sure", where=str(clip), remedy=remedy)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for shift_ms in shifts_ms:
            copy = Path(folder) / "sliced.mkv"
            slice_file(clip, copy, shift_ms)
            for window in measure(copy, towers, face_model, window_s=window_s)["windows"]:
                if window["state"] in (State.NO_SPEECH, State.NO_FACE) or window["offset_ms"] is None:
                    continue
                error_ms = window["offset_ms"] - own_ms - shift_ms
                found.append(SlicedWindow(clip.name, corpus, speaker, window["t_s"], round(error_ms, 1),
                                          window["confidence"], window["state"]))  # fmt: skip
    return found


def _check_job(job: tuple[Path, str, str, Path, list[float], float]) -> list[SlicedWindow] | str:
    try:
        return check_clip(*job)
    except AvdriftError as error:
        return str(error)


def check(
    clips: Path,
    bundle: Path,
    *,
    split: str,
    window_s: float,
    max_shift_ms: float,
    copies: int,
    seed: int,
    jobs: int = 0,
) -> dict[str, Any]:
    """Accuracy of `measure` on sliced copies of a folder's clips, and of a model that always says 0."""
    random = np.random.default_rng(seed)
    rows = [row for row in read_rows(clips) if row.split == split]
    work = [
        (clips / row.file, row.corpus, row.speaker, bundle,
         [float(shift) for shift in random.uniform(-max_shift_ms, max_shift_ms, copies)], window_s)
        for row in rows
    ]  # fmt: skip
    windows: list[SlicedWindow] = []
    left_out = 0
    with worker_pool(jobs) as pool:
        for result in tqdm(pool.map(_check_job, work), total=len(work), unit="clip", desc="sliced", disable=None):
            if isinstance(result, str):
                left_out += 1
                tqdm.write(f"skipped: {result}", file=sys.stderr)
            else:
                windows += result
    right = [abs(window.error_ms) <= TOLERANCE_MS for window in windows]
    trusted = [ok for ok, window in zip(right, windows, strict=True) if window.state == State.MEASURING]
    return {
        "clips": len(rows) - left_out,
        "left_out": left_out,
        "windows": len(windows),
        "right": float(np.mean(right)) if right else None,
        "always_zero": TOLERANCE_MS / max_shift_ms,
        "median_error_ms": float(np.median([abs(window.error_ms) for window in windows])) if windows else None,
        "measuring": len(trusted) / len(windows) if windows else None,
        "measuring_right": float(np.mean(trusted)) if trusted else None,
        "by_corpus": {
            corpus: [sum(ok for ok, w in zip(right, windows, strict=True) if w.corpus == corpus),
                     sum(w.corpus == corpus for w in windows)]
            for corpus in sorted({w.corpus for w in windows})
        },
        "wrong": [json.dumps([w.file, w.t_s, w.error_ms, w.confidence, w.state])
                  for ok, w in zip(right, windows, strict=True) if not ok],
    }  # fmt: skip
