"""`avdrift-train two-speakers CLIPS`: two real people side by side, one of them heard, through the device's own chain.

The video is two clips of different speakers next to each other; the audio is that of one of them, shifted by slicing.
The other one's lips move too, without being heard. Each second's report is compared with the shift plus the heard
clip's own offset, as found with that speaker alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from device.analysis.measure import measure
from device.features.contract import AUDIO_RATE_HZ
from device.features.model_download import require_face_model
from device.processes import worker_pool
from device.records import NS_PER_MS, Frame
from train.data.clip_table import read_rows
from train.scenes.compose import loaded, read_clip, reports, square, tally, with_sound

_MIN_S = 5


@dataclass(frozen=True, slots=True)
class Scene:
    """The heard and the unheard speaker, the side of the heard one, and how much earlier the audio is."""

    heard: Path
    seen: Path
    heard_left: bool
    shift_ms: float


def side_by_side(frames: list[Frame], others: list[Frame], first_left: bool) -> Iterator[Frame]:
    """Each frame beside the other person's latest; the other one's video plays forwards and backwards."""
    there_and_back = [*others, *others[-2:0:-1]]
    step_ns = (others[-1].t_ns - others[0].t_ns) / (len(others) - 1)
    for frame in frames:
        other = there_and_back[round((frame.t_ns - frames[0].t_ns) / step_ns) % len(there_and_back)]
        pair = [square(frame.rgb), square(other.rgb)]
        yield Frame(frame.seq, frame.t_ns, np.hstack(pair if first_left else pair[::-1]))


def judge_scene(scene: Scene, bundle_folder: Path, window_s: float) -> dict[str, Any]:
    """For a scene, and for the heard speaker alone: the number of reports, of `measuring` and of right ones."""
    cv2.setNumThreads(1)
    bundle = loaded(bundle_folder)
    frames, samples, audio_ns = read_clip(scene.heard)
    own_ms = measure(scene.heard, bundle, require_face_model())["offset_ms"]
    if len(samples) < _MIN_S * AUDIO_RATE_HZ or own_ms is None:
        return {"heard": scene.heard.name, "seen": scene.seen.name, "unsure": True}
    others, _, _ = read_clip(scene.seen)
    alone = [Frame(frame.seq, frame.t_ns, square(frame.rgb)) for frame in frames]
    truth_ms = own_ms + scene.shift_ms
    audio_ns -= round(scene.shift_ms * NS_PER_MS)
    found: dict[str, Any] = {"heard": scene.heard.name, "seen": scene.seen.name, "shift_ms": scene.shift_ms}
    for name, shown in (("alone", alone), ("both", list(side_by_side(frames, others, scene.heard_left)))):
        found[name] = tally(reports(with_sound(shown, samples, audio_ns), bundle, window_s), truth_ms)
    return found


def scenes(clips: Path, split: str, seed: int) -> list[Scene]:
    """Each clip, heard, beside another one of another speaker, alternately on the left and on the right."""
    rows = [row for row in read_rows(clips) if row.split == split]
    random = np.random.default_rng(seed)
    random.shuffle(rows)
    pairs = [(a, b) for a, b in pairwise([*rows, rows[0]]) if a.speaker != b.speaker] if rows else []
    return [
        Scene(clips / heard.file, clips / seen.file, bool(k % 2), round(float(random.uniform(-400, 400))))
        for k, (heard, seen) in enumerate(pairs)
    ]


def two_speakers(
    clips: Path, bundle: Path, *, split: str, window_s: float, seed: int = 0, jobs: int = 0
) -> dict[str, Any]:
    """All scenes and their sums. Raises AvdriftError for a folder without clips."""
    todo = scenes(clips, split, seed)
    with worker_pool(jobs) as pool:
        waiting = [pool.submit(judge_scene, scene, bundle, window_s) for scene in todo]
        found = [task.result() for task in tqdm(waiting, desc="scenes", disable=None)]
    judged = [scene for scene in found if "both" in scene]
    result: dict[str, Any] = {"scenes": len(judged), "unsure": len(found) - len(judged)}
    for name in ("alone", "both"):
        count, measuring, right = (sum(s[name][key] for s in judged) for key in ("reports", "measuring", "right"))
        result[name] = {
            "reports": count, "measuring": measuring,
            "right_of_measuring": right / max(measuring, 1), "right_of_all": right / max(count, 1),
        }  # fmt: skip
    return result | {"each": found}
