"""Renders recordings of synthetic talking faces whose offset between sound and picture is known exactly.

`avdrift-train synth OUT_DIR --clips N` makes training clips of N different people, with `clips.csv` beside them;
`avdrift-train synth OUT.mkv --sample` makes the sample recording that ships with the project. Beside each recording
lies its truth, a JSON file. The same seed always gives the same recording.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from tqdm import tqdm

from device.errors import AvdriftError, UsageError
from device.processes import worker_pool
from device.records import Samples
from train.progress import with_progress
from train.synth.appearance import Appearance, random_appearance
from train.synth.face import FaceRenderer, Pose
from train.synth.plan import Performance, Truth, check_schedule, plan_talk, random_voice
from train.synth.room import roughen_picture, roughen_sound
from train.synth.speech import Voice
from train.synth.text import SAMPLE

SAMPLE_SEED = 20
SAMPLE_DURATION_S = 48.0
SAMPLE_SCHEDULE = ((0.0, 80.0), (16.0, -160.0), (32.0, 240.0))
SAMPLE_VOICE = Voice("en-us", "f2", 160, 52, 55)

CSV_COLUMNS = (
    "file", "speaker", "split", "corpus", "duration_s", "fps", "view", "natural_sync", "source_license",
    "source_repository", "source_path",
)  # fmt: skip
_RATES = (Fraction(24), Fraction(25), Fraction(25), Fraction(30000, 1001), Fraction(30))
_SIZES = ((320, 240), (384, 288), (426, 240), (320, 320), (480, 360))


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a recording is compressed. Opus is small; FLAC has no delay and keeps the samples."""

    crf: int = 23
    preset: str = "veryfast"
    audio_codec: str = "flac"
    audio_bit_rate: int = 0
    gop_frames: int = 250


SAMPLE_ENCODING = Encoding(crf=27, preset="slower", audio_codec="libopus", audio_bit_rate=24_000, gop_frames=250)


def render_clip(
    path: Path | str,
    *,
    seed: int,
    duration_s: float,
    fps: float | Fraction = 25.0,
    offset_schedule: Sequence[tuple[float, float]] = ((0.0, 0.0),),
    size: tuple[int, int] = (320, 240),
    voice: Voice | None = None,
    look: Appearance | None = None,
    script: Sequence[str] = (),
    effort: float | None = None,
    encoding: Encoding | None = None,
    progress: bool = False,
) -> Truth:
    """Render one recording (.mkv) and its truth (.json beside it), frame by frame: no more than one picture in memory.

    `offset_schedule` holds (time in s, offset in ms) pairs; positive is audio early. `size` is (width, height) in px,
    both even. `effort` is how far the mouth opens (about 1). Whatever is not given is drawn from `seed`.
    Raises UsageError for impossible arguments or paths.
    """
    path = Path(path)
    _check(duration_s, float(fps), size)
    segments = check_schedule(offset_schedule, duration_s)
    rng = np.random.default_rng(seed)
    look = look or random_appearance(rng)
    voice = voice or random_voice(rng)
    talk = plan_talk(rng, voice, segments, duration_s, script)
    truth = Truth(path.name, seed, duration_s, float(fps), voice, segments, talk.sentences, talk.phonemes)
    base = Pose(yaw=look.yaw, pitch=look.pitch, roll=look.roll)
    effort = effort or float(rng.uniform(0.9, 1.4))
    performance = Performance(rng, talk, truth, effort=effort, base=base, restless=look.restless)
    encoding = encoding or Encoding(crf=int(rng.integers(18, 30)))
    sound = talk.samples if encoding.audio_codec == "libopus" else roughen_sound(rng, talk.samples, talk.rate_hz)
    try:
        _write(
            path,
            performance,
            FaceRenderer(look, *size),
            rng,
            sound,
            talk.rate_hz,
            _exact(fps),
            encoding,
            progress,
        )
        path.with_suffix(".json").write_text(json.dumps(truth.to_dict(), ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise _unwritable(path, error) from error
    return truth


def _unwritable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"cannot be written ({error})", where=str(path), remedy="Choose a writable folder")


def _check(duration_s: float, fps: float, size: tuple[int, int]) -> None:
    problems = []
    if not 1.0 <= duration_s <= 3600.0:
        problems.append(f"duration {duration_s} s is not within 1 to 3600 s")
    if not 5.0 <= fps <= 120.0:
        problems.append(f"{fps} frames per second is not within 5 to 120")
    if any(side % 2 or not 96 <= side <= 1920 for side in size):
        problems.append(f"size {size[0]}x{size[1]} is not even and within 96 to 1920 px")
    if problems:
        raise UsageError("; ".join(problems), where="synthetic recording", remedy="Change the options")


def _exact(fps: float | Fraction) -> Fraction:
    """29.97 means 30000/1001, and its like."""
    for base in (24, 30, 60, 120):
        if abs(float(fps) - base * 1000 / 1001) < 0.005:
            return Fraction(base * 1000, 1001)
    return Fraction(fps).limit_denominator(1001)


def _write(
    path: Path,
    performance: Performance,
    renderer: FaceRenderer,
    rng: np.random.Generator,
    samples: Samples,
    rate_hz: int,
    fps: Fraction,
    encoding: Encoding,
    progress: bool,
) -> None:
    """Encode picture and sound side by side, so that neither waits in memory for the other."""
    count = int(len(samples) / rate_hz * fps)
    pcm = np.clip(np.round(samples * 32767.0), -32768, 32767).astype(np.int16)
    # bitexact keeps the muxer from writing a random identifier: equal seeds give equal files.
    with av.open(str(path), "w", format="matroska", options={"fflags": "+bitexact"}) as container:
        options = {"crf": str(encoding.crf), "preset": encoding.preset, "g": str(encoding.gop_frames)}
        video = container.add_stream("libx264", rate=fps, options=options | {"threads": "1"})
        video.width, video.height, video.pix_fmt = renderer.width, renderer.height, "yuv420p"
        video.codec_context.thread_count = 1
        audio_rate_hz = 48_000 if encoding.audio_codec == "libopus" else rate_hz
        audio = container.add_stream(encoding.audio_codec, rate=audio_rate_hz, layout="mono")
        assert isinstance(audio, av.AudioStream)
        if encoding.audio_bit_rate:
            audio.bit_rate = encoding.audio_bit_rate
        heard = 0
        for index in tqdm(range(count), desc=path.name, unit="frame", disable=not progress, mininterval=1.0):
            t_s = float(index / fps)
            picture = renderer.frame(performance.mouth(t_s), performance.pose(t_s))
            picture = roughen_picture(rng, picture, renderer.look)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, 1 / fps
            container.mux(video.encode(frame))
            until = len(pcm) if index + 1 == count else int(float((index + 1) / fps) * rate_hz)
            block = av.AudioFrame.from_ndarray(pcm[None, heard:until], format="s16", layout="mono")
            block.sample_rate, block.pts, block.time_base = rate_hz, heard, Fraction(1, rate_hz)
            container.mux(audio.encode(block))
            heard = until
        container.mux(video.encode(None))
        container.mux(audio.encode(None))


def render_sample(path: Path | str, *, seed: int = SAMPLE_SEED, progress: bool = True) -> Truth:
    """Render the recording that ships with the project: 48 s, three offsets, at most 450 kB with its truth."""
    look = random_appearance(np.random.default_rng(seed), clean=True)
    return render_clip(
        path,
        seed=seed,
        duration_s=SAMPLE_DURATION_S,
        offset_schedule=SAMPLE_SCHEDULE,
        voice=SAMPLE_VOICE,
        look=replace(
            look, upper_lip=13.0, lower_lip=20.0, teeth_shown=6.0, teeth_white=1.0
        ),  # a mouth that is easy to read
        script=SAMPLE,
        effort=1.3,
        encoding=SAMPLE_ENCODING,
        progress=progress,
    )


def _render_numbered(folder: Path, index: int, seed: int, duration_s: float) -> dict[str, str]:
    """One training clip of its own person; returns its row of clips.csv."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng([seed, index])
    fps, size = _RATES[int(rng.integers(len(_RATES)))], _SIZES[int(rng.integers(len(_SIZES)))]
    clip_seed = int(rng.integers(2**31))
    name = f"synth_{seed}_{index:05d}.mkv"
    render_clip(folder / name, seed=clip_seed, duration_s=duration_s, fps=fps, size=size)
    values = (
        name, f"synth_{index}", "train", "avdrift synthetic", f"{duration_s:.2f}", f"{float(fps):.3f}", "frontal",
        "yes", "this project's", "avdrift", f"train/synth/render.py --seed {seed} clip {index}",
    )  # fmt: skip
    return dict(zip(CSV_COLUMNS, values, strict=True))


def render_clips(folder: Path, *, clips: int, seed: int, duration_s: float, jobs: int) -> None:
    """Render `clips` recordings of different people and `clips.csv` into `folder`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "clips.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, CSV_COLUMNS)
            writer.writeheader()
            with worker_pool(jobs) as pool:
                tasks = [pool.submit(_render_numbered, folder, index, seed, duration_s) for index in range(clips)]
                for task in with_progress(tasks, "faces", len(tasks), "clip"):
                    writer.writerow(task.result())
                    file.flush()
    except OSError as error:
        raise _unwritable(folder, error) from error


def main(argv: Sequence[str] | None = None) -> int:
    """`avdrift-train synth`: returns the exit code, 0 or that of the error, whose message goes to stderr."""
    parser = argparse.ArgumentParser(prog="avdrift-train synth", description="Render synthetic talking faces.")
    parser.add_argument("out", type=Path, help="folder for clips, or the .mkv file of the sample")
    parser.add_argument("--sample", action="store_true", help="render the sample recording that ships with the project")
    parser.add_argument("--clips", type=int, default=10, help="how many recordings (default 10)")
    parser.add_argument("--seed", type=int, default=None, help="the same seed gives the same recordings")
    parser.add_argument("--duration-s", type=float, default=8.0, help="length of each clip (default 8)")
    parser.add_argument("--jobs", type=int, default=1, help="recordings rendered at once (default 1)")
    arguments = parser.parse_args(argv)
    try:
        if arguments.sample:
            render_sample(arguments.out, seed=SAMPLE_SEED if arguments.seed is None else arguments.seed)
        else:
            if arguments.clips < 1 or arguments.jobs < 1:
                raise UsageError("--clips and --jobs are at least 1", where="avdrift-train synth", remedy="See --help")
            render_clips(
                arguments.out,
                clips=arguments.clips,
                seed=arguments.seed or 0,
                duration_s=arguments.duration_s,
                jobs=arguments.jobs,
            )
    except AvdriftError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0
