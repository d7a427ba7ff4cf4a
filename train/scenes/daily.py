"""`avdrift-train daily CLIPS`: everyday use of the daemon, on people who talk continuously.

Each clip of at least 8 s is sliced with one shift and goes through the daemon's own chain, with one report per second.
The truth is the shift plus the clip's own offset, as `measure` finds it on the original clip. Clips on which it is not
sure, or whose offset drifts or steps, are left out. The same faces with the audio of other speakers show how often
there is an offset where none is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from device.analysis.measure import measure
from device.analysis.offset_tracker import WindowResult
from device.errors import InputMissingError
from device.features.contract import AUDIO_RATE_HZ
from device.features.model_download import require_face_model
from device.processes import worker_pool
from device.records import NS_PER_MS, NS_PER_S, State
from train.data.clip_table import read_rows
from train.evaluation.tracks import TOLERANCE_MS
from train.scenes.compose import loaded, read_clip, reports, with_sound

MIN_S = 8.0
SETTLED_S = 4.0  # reports count from here on
_MAX_SHIFT_MS = 400.0
_VOICES = 2  # of other speakers, for each face


@dataclass(frozen=True, slots=True)
class Talk:
    """One clip's reports: seconds to the first offset, reports after 4 s, those with an offset, and right ones."""

    clip: str
    first_s: float | None
    reports: int
    measuring: int
    right: int
    longest_gap_s: float


def followed(clip: str, results: Sequence[WindowResult], truth_ms: float) -> Talk:
    """The figures for one clip's reports. Raises ValueError without any."""
    begin_ns = results[0].from_ns
    at_s = [(result.to_ns - begin_ns) / NS_PER_S for result in results]
    said_s = [t_s for t_s, result in zip(at_s, results, strict=True) if result.state is State.MEASURING]
    late = [result for t_s, result in zip(at_s, results, strict=True) if t_s > SETTLED_S]
    errors_ms = [abs(offset_ms - truth_ms) for result in late if (offset_ms := result.offset_ms) is not None]
    marks_s = [SETTLED_S, *(t_s for t_s in said_s if t_s > SETTLED_S), max(at_s[-1], SETTLED_S)]
    return Talk(
        clip, said_s[0] if said_s else None, len(late), len(errors_ms),
        sum(error_ms <= TOLERANCE_MS for error_ms in errors_ms), round(float(np.diff(marks_s).max()), 1),
    )  # fmt: skip


def judge_talk(clip: Path, bundle_folder: Path, window_s: float, seed: int) -> Talk | None:
    """One clip through the daemon's chain; None if it is too short, or its own offset is not sure."""
    cv2.setNumThreads(1)
    frames, samples, audio_ns = read_clip(clip)
    if frames[-1].t_ns - frames[0].t_ns < MIN_S * NS_PER_S:
        return None
    bundle = loaded(bundle_folder)
    own_ms = measure(clip, bundle, require_face_model())["offset_ms"]
    if own_ms is None:
        return None
    shift_ms = round(float(np.random.default_rng(seed).uniform(-_MAX_SHIFT_MS, _MAX_SHIFT_MS)))
    results = reports(with_sound(frames, samples, audio_ns - shift_ms * NS_PER_MS), bundle, window_s)
    return followed(clip.name, results, own_ms + shift_ms) if results else None


def judge_strangers(face: Path, voice: Path, bundle_folder: Path, window_s: float) -> tuple[int, int]:
    """The number of reports for one speaker's face with another's voice, and of those with an offset."""
    cv2.setNumThreads(1)
    frames = read_clip(face)[0]
    if frames[-1].t_ns - frames[0].t_ns < MIN_S * NS_PER_S:
        return 0, 0
    samples = read_clip(voice)[1]
    length = round((frames[-1].t_ns - frames[0].t_ns) / NS_PER_S * AUDIO_RATE_HZ)
    heard = np.resize(samples, length)  # repeated from its beginning if it is shorter
    results = reports(with_sound(frames, heard, frames[0].t_ns), loaded(bundle_folder), window_s)
    return len(results), sum(result.state is State.MEASURING for result in results)


def daily(clips: Path, bundle: Path, *, split: str, window_s: float, seed: int = 0, jobs: int = 0) -> dict[str, Any]:
    """The figures of a split, and of each clip. Raises AvdriftError for a folder without sufficiently long clips."""
    rows = [row for row in read_rows(clips) if row.split == split]
    random = np.random.default_rng(seed)
    pairs = []
    for row in rows:
        others = [other for other in rows if other.speaker != row.speaker]
        pairs += [(row, others[int(k)]) for k in random.permutation(len(others))[:_VOICES]]
    with worker_pool(jobs) as pool:
        talking = [pool.submit(judge_talk, clips / row.file, bundle, window_s, seed + k) for k, row in enumerate(rows)]
        strange = [
            pool.submit(judge_strangers, clips / face.file, clips / voice.file, bundle, window_s)
            for face, voice in pairs
        ]
        of_rows = [task.result() for task in tqdm(talking, desc="clips", disable=None)]
        strangers = [task.result() for task in tqdm(strange, desc="other voices", disable=None)]
    each = [asdict(talk) | {"clip": row.file} for row, talk in zip(rows, of_rows, strict=True) if talk]
    other_voices = [
        {"face": face.file, "voice": voice.file, "reports": count, "with_a_number": numbered}
        for (face, voice), (count, numbered) in zip(pairs, strangers, strict=True)
    ]
    talks = [talk for talk in of_rows if talk]
    if not talks:
        what = f"no clip of the split {split!r} lasts {MIN_S:g} s and has an offset that is sure"
        raise InputMissingError(what, where=str(clips), remedy="Give longer clips, or another --split")
    found = {"split": split, "window_s": window_s, "clips": len(talks), "left_out": len(rows) - len(talks)}
    return found | summary(talks, strangers) | {"each": each, "each_voice": other_voices}


def summary(talks: Sequence[Talk], strangers: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Shares over all reports, seconds over the clips; None without a denominator."""
    counts = np.array([(talk.reports, talk.measuring, talk.right) for talk in talks]).reshape(-1, 3).sum(axis=0)
    reports_, measuring, right = (int(count) for count in counts)
    first_s = [talk.first_s if talk.first_s is not None else float("inf") for talk in talks]
    median_s, most_s = np.percentile(first_s, (50, 95), method="higher") if first_s else (np.inf, np.inf)
    strange, numbered = (sum(column) for column in zip(*strangers, strict=True)) if strangers else (0, 0)
    return {
        "reports": reports_,
        "with_a_number": measuring / reports_ if reports_ else None,
        "right_of_these": right / measuring if measuring else None,
        "wrong": measuring - right,
        "first_s_median": round(float(median_s), 1) if np.isfinite(median_s) else None,
        "first_s_95_percent": round(float(most_s), 1) if np.isfinite(most_s) else None,
        "never": sum(talk.first_s is None for talk in talks),
        "longest_gap_s": max((talk.longest_gap_s for talk in talks), default=None),
        "other_voices": {"reports": strange, "with_a_number": numbered},
    }
