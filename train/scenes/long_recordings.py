"""Long recordings with known drift and steps, made of real clips: the reference for `avdrift measure` over minutes.

    python -m train.scenes.long_recordings CLIPS FOLDER --bundle BUNDLE --split valid --minutes 20

The clips of a split are joined in random order, each corrected by its own offset (as `measure` finds it on the whole
clip; clips without a result are left out). Then the audio is resampled at another pace (drift) and jumps (steps): the
audio at time t of the copy is that at t + offset(t) of the joined one, interpolated by a windowed sinc. Nothing is
padded: parts of a clip without audio or video are left out. The video is encoded once and copied.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt

from device.analysis.measure import measure
from device.bundles.bundle import Bundle, load_bundle
from device.capture.file import FileSource
from device.features.contract import AUDIO_RATE_HZ
from device.features.model_download import require_face_model
from device.records import NS_PER_MS, NS_PER_S, Chunk, Frame
from train.data.clip_table import read_rows
from train.data.clips import join

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]

MIN_CLIP_S = 4.0
_SIZE = (480, 360)  # width, height
_TICKS_HZ = 90_000
_SINC_REACH = 16  # samples on each side
_BLOCK = 1 << 16


@dataclass(frozen=True, slots=True)
class Truth:
    """The changes to a recording: its offset is drift_ppm * t / 1000, plus each step's size from its time on."""

    drift_ppm: float
    steps: tuple[tuple[float, float], ...]  # (t_s, step_ms)

    def offset_ms(self, t_s: Doubles) -> Doubles:
        stepped = sum((step_ms * (t_s >= at_s) for at_s, step_ms in self.steps), np.zeros_like(t_s))
        return np.asarray(self.drift_ppm * t_s / 1000 + stepped)


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip with audio and video in sync: the part of it that has both."""

    path: Path
    own_ms: float  # how far its audio was ahead


def usable_clips(folder: Path, split: str, bundle: Bundle) -> list[Clip]:
    """The clips of a split on which `measure` is sure, and that are long enough to be joined."""
    found = []
    for path in (folder / row.file for row in read_rows(folder) if row.split == split):
        with FileSource(path) as source:
            if (source.duration_s or 0.0) < MIN_CLIP_S:
                continue
        whole = measure(path, bundle, require_face_model())
        if whole["offset_ms"] is not None:
            found.append(Clip(path, whole["offset_ms"]))
    return found


def join_clips(clips: list[Clip], picture: Path, *, length_s: float, seed: int) -> Floats:
    """Join clips in random order, repeatedly until `length_s`: write the video to a file, return the audio."""
    random = np.random.default_rng(seed)
    sound: list[Floats] = []
    end_samples = 0
    with av.open(str(picture), "w", format="matroska") as out:
        video = out.add_stream("libx264", rate=30, options={"crf": "20", "preset": "superfast", "bf": "0"})
        (video.width, video.height), video.pix_fmt = _SIZE, "yuv420p"
        video.codec_context.time_base, video.codec_context.thread_count = Fraction(1, _TICKS_HZ), 1
        while True:
            for index in random.permutation(len(clips)):
                begin_s = end_samples / AUDIO_RATE_HZ
                frames, samples = _together(clips[index])
                for t_s, frame in frames:
                    frame.pts, frame.time_base = round((begin_s + t_s) * _TICKS_HZ), video.codec_context.time_base
                    out.mux(video.encode(frame))
                sound.append(samples)
                end_samples += len(samples)
                if end_samples >= length_s * AUDIO_RATE_HZ:
                    out.mux(video.encode(None))
                    return np.concatenate(sound)


def _together(clip: Clip) -> tuple[list[tuple[float, av.VideoFrame]], Floats]:
    """Frames with their times from 0 on, and the audio for exactly this time."""
    with FileSource(clip.path) as source:
        items = list(source)
    pictures = [item for item in items if isinstance(item, Frame)]
    samples, sound_ns = join([item for item in items if isinstance(item, Chunk)])
    sound_ns += round(clip.own_ms * NS_PER_MS)  # ahead by this much: it belongs to later frames
    begin_ns = max(pictures[0].t_ns, sound_ns)
    end_ns = min(pictures[-1].t_ns, sound_ns + len(samples) * NS_PER_S // AUDIO_RATE_HZ)
    first, end = (round((t_ns - sound_ns) * AUDIO_RATE_HZ / NS_PER_S) for t_ns in (begin_ns, end_ns))
    kept = [((item.t_ns - begin_ns) / NS_PER_S, _fitted(item)) for item in pictures if begin_ns <= item.t_ns < end_ns]
    return kept, samples[first:end]


def _fitted(frame: Frame) -> av.VideoFrame:
    """The image in the middle of a black one of the common size."""
    height, width = frame.rgb.shape[:2]
    scale = min(_SIZE[0] / width, _SIZE[1] / height)
    small = cv2.resize(frame.rgb, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    black = np.zeros((_SIZE[1], _SIZE[0], 3), np.uint8)
    top, left = (_SIZE[1] - small.shape[0]) // 2, (_SIZE[0] - small.shape[1]) // 2
    black[top : top + small.shape[0], left : left + small.shape[1]] = small
    return av.VideoFrame.from_ndarray(black, "rgb24")


def displaced(samples: Floats, truth: Truth) -> Floats:
    """The same audio with the drift and the steps of `truth`; silence where there is nothing to read."""
    out = np.empty_like(samples)
    reach = np.arange(1 - _SINC_REACH, _SINC_REACH + 1)
    for start in range(0, len(samples), _BLOCK):
        t_s = np.arange(start, min(start + _BLOCK, len(samples))) / AUDIO_RATE_HZ
        at = (t_s + truth.offset_ms(t_s) / 1000) * AUDIO_RATE_HZ
        whole = np.floor(at).astype(np.int64)
        part = (at - whole)[:, None] - reach
        taps = np.sinc(part) * np.cos(np.pi * part / (2 * _SINC_REACH + 2)) ** 2
        index = whole[:, None] + reach
        inside = (index >= 0) & (index < len(samples))
        read = np.where(inside, samples[np.clip(index, 0, len(samples) - 1)], 0)
        out[start : start + len(t_s)] = (taps * read).sum(1) / taps.sum(1)
    return out


def write_recording(picture: Path, samples: Floats, target: Path) -> None:
    """Write the encoded video with this audio (FLAC)."""
    with av.open(str(picture)) as given, av.open(str(target), "w", format="matroska") as out:
        video = out.add_stream_from_template(given.streams.video[0], opaque=True)
        audio = out.add_stream("flac", rate=AUDIO_RATE_HZ, layout="mono")
        blocks = _blocks(samples)
        for packet in given.demux(given.streams.video[0]):
            if packet.pts is None:
                continue
            while (block := next(blocks, None)) is not None:
                out.mux(audio.encode(block))
                if (block.pts or 0) / AUDIO_RATE_HZ > packet.pts * packet.time_base:
                    break
            packet.stream = video
            out.mux(packet)
        for block in blocks:
            out.mux(audio.encode(block))
        out.mux(audio.encode(None))


def _blocks(samples: Floats) -> Iterator[av.AudioFrame]:
    pcm = np.clip(np.rint(samples * 32767), -32768, 32767).astype(np.int16)
    for start in range(0, len(pcm), 4096):
        block = av.AudioFrame.from_ndarray(pcm[None, start : start + 4096], "s16", "mono")
        block.sample_rate, block.pts, block.time_base = AUDIO_RATE_HZ, start, Fraction(1, AUDIO_RATE_HZ)
        yield block


def random_truth(drift_ppm: float, length_s: float, random: np.random.Generator) -> Truth:
    """Two steps of 60 to 250 ms, at least a fifth of the recording from each other and from its ends."""
    at_s = length_s * np.cumsum(random.uniform(0.25, 0.38, 2))
    sizes_ms = random.uniform(60, 250, 2) * random.permutation([-1, 1])
    steps = ((round(float(t_s), 2), round(float(ms), 1)) for t_s, ms in zip(at_s, sizes_ms, strict=True))
    return Truth(drift_ppm, tuple(steps))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("clips", type=Path)
    parser.add_argument("folder", type=Path, help="where the recordings go, and truth.json")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--split", default="valid")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--drift-ppm", type=float, nargs="+", default=[0.0, 50.0, 200.0])
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    clips = usable_clips(options.clips, options.split, load_bundle(options.bundle))
    picture, length_s = options.folder / "picture.mkv", options.minutes * 60
    samples = join_clips(clips, picture, length_s=length_s, seed=options.seed)
    random, results = np.random.default_rng(options.seed), {}
    for drift_ppm in options.drift_ppm:
        truth = random_truth(drift_ppm, length_s, random)
        name = f"drift-{drift_ppm:g}.mkv"
        write_recording(picture, displaced(samples, truth), options.folder / name)
        results[name] = asdict(truth)
    (options.folder / "truth.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
