"""Estimates time and space of a retraining on this machine, with a benchmark of ten batches."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.check.minimum import ADAPT
from train.check.survey import Survey

_BATCHES = 10
_BENCHMARK_TIMEOUT_S = 600
_SHARD_BYTES_PER_S = 303_000  # crops, faces and landmarks at 25 Hz, audio as 16-bit samples
_RUN_BYTES = 30_000_000  # weights with their optimizer, and bundles in four formats
_RECORDING_BYTES_PER_S = 60_000  # of a synthetic face
# Cost of a second of each input, in training batches, measured on two cores.
_SYNTH_BATCHES_PER_S = 0.7
_JUDGE_BATCHES_PER_S = 0.8  # of validation clips, over all stages that evaluate
_BUNDLE_BATCHES = 220
_FROZEN_COST = 0.35  # of a batch whose encoders are frozen
_ROOM_COST = 0.15  # of a batch of the audio encoder alone
_BENCHMARK_FRAMES = 960
_PREPARE_COST = 2.0  # relative to measuring, whose time the survey knows


@dataclass(frozen=True, slots=True)
class Estimate:
    """For the whole retraining."""

    batch_s: float
    batches: int
    minutes: float
    disk_bytes: int
    free_bytes: int


def seconds_a_batch() -> float | None:
    """Of training on noise, in a process of its own; None if it cannot be measured."""
    command = [sys.executable, "-P", "-m", "train.check.step_speed", str(_BATCHES)]
    path = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH"))))
    around = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "1", "PYTHONPATH": path}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_BENCHMARK_TIMEOUT_S, check=True, env=around
        )
        return float(done.stdout.split()[-1])
    except (subprocess.SubprocessError, ValueError, IndexError, OSError):
        return None


def batches_of(recipe: str, values: Mapping[str, Mapping[str, Any]]) -> int:
    """All batches of a recipe's trainings, in batches of the benchmark; a batch of pretraining counts half."""

    def of(section: Mapping[str, Any]) -> float:
        lessons = float(section.get("phone_steps", 0)) + float(section.get("shape_steps", 0))
        return float(section["epochs"] * section["steps_per_epoch"]) + lessons / 2

    if recipe == ADAPT:
        adapt = values["adapt"]
        return round(of(adapt) * _FROZEN_COST * adapt["frames_per_batch"] / _BENCHMARK_FRAMES)
    teachers = int(values["student"]["teachers"])
    rooms = values["rooms"]
    total = of(rooms) * _ROOM_COST * rooms["use"]
    total += of(values["fit"]) * max(teachers, 1) + (2 * of(values["clean"]) if values["clean"]["use"] else 0)
    return round(total + (1.5 * of(values["student"]) if teachers else 0))


def estimate(
    found: Survey, recipe: str, values: Mapping[str, Mapping[str, Any]], work: Path, batch_s: float
) -> Estimate:
    """Time and space, given the time of a batch here."""
    jobs = int(values["folders"]["jobs"]) or os.cpu_count() or 1
    clips_s = 60 * sum(side.minutes for side in found.sides.values())
    synth = values["synth"]
    synth_s = float(synth["clips"] * synth["duration_s"])
    batches = batches_of(recipe, values)
    seconds = batch_s * (batches + _BUNDLE_BATCHES + _JUDGE_BATCHES_PER_S * 60 * found.sides["valid"].minutes)
    seconds += batch_s * _SYNTH_BATCHES_PER_S * synth_s
    seconds += _PREPARE_COST * (found.decode_s_per_s or 0) * (clips_s + synth_s) / jobs
    runs = 1 if recipe == ADAPT else 4 + int(values["student"]["teachers"])
    disk = _SHARD_BYTES_PER_S * (clips_s + synth_s) + _RECORDING_BYTES_PER_S * synth_s + _RUN_BYTES * runs
    there = next(folder for folder in (work, *work.absolute().parents) if folder.exists())
    return Estimate(batch_s, batches, seconds / 60, round(disk), shutil.disk_usage(there).free)


def line(found: Estimate) -> str:
    """For people."""
    hours = f"{found.minutes / 60:.1f} hours" if found.minutes >= 120 else f"{max(found.minutes, 1):.0f} minutes"
    batches = f"{_BATCHES} batches took {found.batch_s:.2f} s each; as much as {found.batches} are to come"
    room = f"{found.disk_bytes / 1e9:.1f} GB ({found.free_bytes / 1e9:.0f} GB are free)"
    return f"estimate: {hours} on this machine, as busy as it is now ({batches}), {room}"
