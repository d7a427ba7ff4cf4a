"""The parts of the page of results. Each runs one evaluation of this package on one set of clips.

The truth of all parts is a clip's own offset, as `avdrift measure` finds it on the whole clip, plus the shift.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from device.analysis.measure import measure
from device.bundles.bundle import DEFAULT_BUNDLE, load_bundle
from device.features.model_download import require_face_model
from train.comparison.comparison import compare
from train.comparison.estimators import OffsetEstimator, ZeroEstimator
from train.comparison.load_estimators import estimator_of_bundle
from train.comparison.mouth_opening import VOICES, MouthOpeningEstimator
from train.data.clip_table import ClipRow, read_rows, shard_name
from train.data.prepare import prepare
from train.data.shards import Clip, load_split
from train.evaluation.protocol import evaluate
from train.evaluation.report_precision import report
from train.evaluation.tracks import track
from train.models.load import towers_of_bundle
from train.scenes.daily import daily
from train.scenes.degraded import degraded
from train.scenes.sliced_files import check
from train.scenes.two_speakers import two_speakers
from train.scenes.unmeasurable import unmeasurable

DIRECT_BUNDLE = DEFAULT_BUNDLE.with_name("direct")
REPORT_WINDOW_S, SLICED_WINDOW_S, SLICED_MOST_MS = 5.0, 2.0, 600.0
_ROUNDS = 5

Found = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Settings:
    """What all parts share, and the amounts of single parts: a full run takes hours."""

    bundle: Path
    split: str = "valid"
    seed: int = 0
    jobs: int = 0
    copies: int = 4  # shifts of each file
    hours: float = 3.0  # of input that cannot be measured
    degraded_clips: int | None = None  # at most; None: all


@dataclass(frozen=True, slots=True)
class ClipSet:
    """A folder of clips under the name that the page gives it. `work` is the folder for its shards."""

    title: str
    folder: Path
    work: Path

    def rows(self, split: str) -> list[ClipRow]:
        """The clips of a split. Raises CaptureError."""
        return [row for row in read_rows(self.folder) if row.split == split]


@dataclass(frozen=True, slots=True)
class Part:
    """One evaluation. `amounts`: settings that only it depends on. `first_only`: long, so only on the first set."""

    run: Callable[[ClipSet, Settings, Mapping[str, float]], Found]
    amounts: tuple[str, ...] = ()
    first_only: bool = False


def own_offsets(clips: ClipSet, settings: Settings) -> dict[str, float | None]:
    """Each clip's own offset in ms, by its path in the table; None where `measure` is not sure."""
    bundle, face_model = load_bundle(settings.bundle), require_face_model()
    files = [row.file for row in clips.rows(settings.split)]
    return {
        file: measure(clips.folder / file, bundle, face_model)["offset_ms"]
        for file in tqdm(files, desc="own offsets", unit="clip", disable=None)
    }


def _shards(clips: ClipSet, settings: Settings) -> list[Clip]:
    folder = clips.work / "shards"
    prepare(clips.folder, folder, jobs=settings.jobs, prune=True, split=settings.split)
    return load_split([folder], settings.split)


def _by_shard(of_file: Mapping[str, Any]) -> dict[str, Any]:
    return {Path(shard_name(file)).stem: value for file, value in of_file.items()}


def _windows(clips: ClipSet, settings: Settings, own_ms: Mapping[str, float]) -> Found:
    towers, calibration, model = towers_of_bundle(settings.bundle)
    rows = clips.rows(settings.split)
    groupings = {
        "language": _by_shard({row.file: row.language or "not stated" for row in rows}),
        "kind": _by_shard({row.file: row.kind or row.corpus for row in rows}),
    }
    return evaluate(
        _shards(clips, settings), towers, calibration, model=model, offsets_ms=_by_shard(own_ms),
        offsets_name="avdrift measure", seed=settings.seed, groupings=groupings,
    ).to_dict()  # fmt: skip


def _trust(clips: ClipSet, settings: Settings, own_ms: Mapping[str, float]) -> Found:
    towers, calibration, _ = towers_of_bundle(settings.bundle)
    truth_ms = _by_shard(own_ms)
    tracks = [(track(clip, towers), truth_ms[clip.name]) for clip in _shards(clips, settings) if clip.name in truth_ms]
    found = report(tracks, calibration, window_s=REPORT_WINDOW_S, rounds=_ROUNDS, seed=settings.seed)
    return {"clips": len(tracks), "rounds": _ROUNDS} | found


def _models(clips: ClipSet, settings: Settings, own_ms: Mapping[str, float]) -> Found:
    estimators: list[OffsetEstimator] = [
        *(estimator_of_bundle(folder) for folder in (settings.bundle, DIRECT_BUNDLE)),
        *(MouthOpeningEstimator(voice) for voice in VOICES), ZeroEstimator(),
    ]  # fmt: skip
    return compare(
        _shards(clips, settings), estimators, _by_shard(own_ms), truth="avdrift measure", seed=settings.seed
    ).to_dict()


def _daily(clips: ClipSet, settings: Settings, own_ms: Mapping[str, float]) -> Found:
    return daily(clips.folder, settings.bundle, window_s=REPORT_WINDOW_S, **_shared(settings))


def _sliced(clips: ClipSet, settings: Settings, own_ms: Mapping[str, float]) -> Found:
    return {"copies": settings.copies} | check(
        clips.folder, settings.bundle, window_s=SLICED_WINDOW_S, max_shift_ms=SLICED_MOST_MS, copies=settings.copies,
        **_shared(settings),
    )  # fmt: skip


def _two_speakers(clips: ClipSet, settings: Settings, own_ms: Mapping[str, float]) -> Found:
    return two_speakers(clips.folder, settings.bundle, window_s=REPORT_WINDOW_S, **_shared(settings))


def _degraded(clips: ClipSet, settings: Settings, own_ms: Mapping[str, float]) -> Found:
    return degraded(
        clips.folder, settings.bundle, window_s=REPORT_WINDOW_S, most=settings.degraded_clips, **_shared(settings)
    )


def _unmeasurable(clips: ClipSet, settings: Settings, own_ms: Mapping[str, float]) -> Found:
    hours = settings.hours
    return {"hours": hours} | unmeasurable(
        clips.folder, settings.bundle, window_s=REPORT_WINDOW_S, hours=hours, **_shared(settings)
    )


def _shared(settings: Settings) -> dict[str, Any]:
    return {"split": settings.split, "seed": settings.seed, "jobs": settings.jobs}


# Cheap ones first, so that an interrupted run has most of the page.
PARTS = {
    "windows": Part(_windows),
    "daily": Part(_daily),
    "sliced": Part(_sliced, amounts=("copies",), first_only=True),
    "two-speakers": Part(_two_speakers, first_only=True),
    "trust": Part(_trust, first_only=True),
    "models": Part(_models, first_only=True),
    "degraded": Part(_degraded, amounts=("degraded_clips",), first_only=True),
    "unmeasurable": Part(_unmeasurable, amounts=("hours",), first_only=True),
}
