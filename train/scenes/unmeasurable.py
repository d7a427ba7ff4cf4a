"""`avdrift-train unmeasurable CLIPS`: hours of unmeasurable input through the device's own chain.

Real faces with silence, noise, music, another person's speech or synthetic speech (dubbing); a photograph and a face
that keeps still while somebody speaks; an empty room. Whatever is reported as `measuring` is wrong. The reasons show
which scenes are mistaken for others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from device.features.contract import AUDIO_RATE_HZ
from device.processes import worker_pool
from device.records import NS_PER_S, Frame, RgbImage, State
from train.data.clip_table import read_rows
from train.fit.phonemes import talks
from train.scenes.compose import SIDE_PX, Samples, loaded, read_clip, reports, square, with_sound, word_of

PART_S = 60  # per scene, with other people in the next one
_FPS = 25
_CHORD_S = 0.5

Random = np.random.Generator


@lru_cache(maxsize=100)
def _sound_of(path: Path) -> Samples:
    """A clip's samples, cached: many minutes of scenes use them, and its video must be decoded for them."""
    return read_clip(path)[1]


def _silence(count: int, random: Random, others: Sequence[Path]) -> Samples:
    return (1e-4 * random.standard_normal(count)).astype(np.float32)


def _noise(count: int, random: Random, others: Sequence[Path]) -> Samples:
    """Noise in steps that swells and fades like speech."""
    swell = np.repeat(random.random(count // 3200 + 1), 3200)[:count]
    return (0.2 * swell * random.standard_normal(count)).astype(np.float32)


def _music(count: int, random: Random, others: Sequence[Path]) -> Samples:
    """Chords with overtones, each struck and dying away."""
    length = round(_CHORD_S * AUDIO_RATE_HZ)
    t = np.arange(length) / AUDIO_RATE_HZ
    chords = []
    for _ in range(-(-count // length)):
        notes_hz = 110 * 2 ** (random.integers(0, 36, 3) / 12)
        tones = [np.sin(2 * np.pi * hz * k * t) / k for hz in notes_hz for k in (1, 2, 3, 4)]
        chords.append(0.08 * np.sum(tones, axis=0) * np.exp(-3 * t))
    return np.concatenate(chords)[:count].astype(np.float32)


def _speech(count: int, random: Random, others: Sequence[Path]) -> Samples:
    """Another person's speech, one clip after the other."""
    parts: list[Samples] = []
    while sum(map(len, parts)) < count:
        parts.append(_sound_of(others[int(random.integers(len(others)))]))
    return np.concatenate(parts)[:count]


def _dubbed(count: int, random: Random, others: Sequence[Path]) -> Samples:
    return talks(1, int(random.integers(1 << 31)), count / AUDIO_RATE_HZ)[0].samples[:count]


def _talking(own: Sequence[Frame], random: Random) -> Iterator[RgbImage]:
    """Forwards and backwards, so that nothing jumps."""
    turning = [*own, *own[-2:0:-1]]
    step = (own[-1].t_ns - own[0].t_ns) / NS_PER_S / (len(own) - 1)
    k = 0
    while True:
        yield square(turning[round(k / _FPS / step) % len(turning)].rgb)
        k += 1


def _photograph(own: Sequence[Frame], random: Random) -> Iterator[RgbImage]:
    """One image, with sensor noise."""
    still = square(own[len(own) // 2].rgb).astype(np.int16)
    while True:
        yield np.clip(still + random.integers(-3, 4, still.shape), 0, 255).astype(np.uint8)


def _swaying(own: Sequence[Frame], random: Random) -> Iterator[RgbImage]:
    """A face that moves like a head, without talking."""
    still, place = square(own[len(own) // 2].rgb), np.zeros(3, np.float64)
    while True:
        place = 0.97 * place + random.normal(0, 1, 3) * (0.6, 0.6, 0.003)
        turn = cv2.getRotationMatrix2D((SIDE_PX / 2, SIDE_PX / 2), float(np.degrees(place[2])), 1.0)
        turn[:, 2] = turn[:, 2] + place[:2]
        yield np.asarray(cv2.warpAffine(still, turn, still.shape[1::-1], borderMode=cv2.BORDER_REFLECT), np.uint8)


def _empty_room(own: Sequence[Frame], random: Random) -> Iterator[RgbImage]:
    wall = cv2.resize(random.integers(60, 160, (6, 6, 3)).astype(np.uint8), (SIDE_PX, SIDE_PX)).astype(np.int16)
    while True:
        yield np.clip(wall + random.integers(-3, 4, wall.shape), 0, 255).astype(np.uint8)


SCENES: dict[str, tuple[Callable[..., Iterator[RgbImage]], Callable[..., Samples]]] = {
    "silence": (_talking, _silence),
    "noise": (_talking, _noise),
    "music": (_talking, _music),
    "another speaker": (_talking, _speech),
    "dubbed": (_talking, _dubbed),
    "photograph": (_photograph, _speech),
    "does not talk": (_swaying, _speech),
    "empty room": (_empty_room, _speech),
}


def judge_part(
    scene: str, seen: Path, others: Sequence[Path], bundle: Path, window_s: float, seed: int, part_s: int = PART_S
) -> list[str]:
    """For each report `measuring`, or the reason why not."""
    cv2.setNumThreads(1)
    random = np.random.default_rng(seed)
    show, say = SCENES[scene]
    pictures = show(read_clip(seen)[0], random)
    frames = (Frame(k, k * NS_PER_S // _FPS, next(pictures)) for k in range(part_s * _FPS))
    items = with_sound(frames, say(part_s * AUDIO_RATE_HZ, random, others), 0)
    return [word_of(result) for result in reports(items, loaded(bundle), window_s)]


def unmeasurable(
    clips: Path, bundle: Path, *, split: str, hours: float, window_s: float, seed: int = 0, jobs: int = 0,
    part_s: int = PART_S,
) -> dict[str, Any]:  # fmt: skip
    """For each scene, the number of `measuring` reports and of each reason why not.

    Raises AvdriftError for a folder without clips.
    """
    random = np.random.default_rng(seed)
    rows = [row for row in read_rows(clips) if row.split == split]
    speaker_of = {clips / row.file: row.speaker for row in rows}
    files = list(speaker_of)
    todo = []
    for k in range(round(hours * 3600 / part_s)):
        seen = files[int(random.integers(len(files)))]
        others = [file for file in files if speaker_of[file] != speaker_of[seen]]
        todo.append((list(SCENES)[k % len(SCENES)], seen, others, bundle, window_s, seed + k, part_s))
    with worker_pool(jobs) as pool:
        waiting = [pool.submit(judge_part, *part) for part in todo]
        found = [task.result() for task in tqdm(waiting, desc="minutes", disable=None)]
    table = {}
    for scene in SCENES:
        words = [word for (name, *_), part in zip(todo, found, strict=True) if name == scene for word in part]
        table[scene] = dict(Counter(words).most_common())
    reported = sum(map(len, found))
    measuring = sum(counts.get(State.MEASURING.value, 0) for counts in table.values())
    return {"reports": reported, "measuring": measuring, "scenes": table}
