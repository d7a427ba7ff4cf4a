"""From one file to its row, whatever the file is. Runs in a worker process, here or in Beam."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from device.analysis.measure import Measured, measure_timeline
from device.analysis.plot import is_sure
from device.analysis.video_selection import select_tracks
from device.bundles.bundle import Bundle
from device.capture.memory import DEFAULT_MEMORY_MB, memory_bound
from device.check.row import Row, Rules, identity_of, judged, unreadable
from device.commands.options.models import chosen_bundle
from device.errors import AvdriftError, CaptureError, ModelStoreError
from device.features.model_download import require_face_model
from device.printable import printable


@dataclass(frozen=True, slots=True)
class Models:
    """Where the models come from, as in `--bundle` and `--store`, and the digest that they must have."""

    bundle: Path | None
    store: Path | None
    digest: str


def measure_file(models: Models, rules: Rules, file: str, *, max_memory_mb: float = DEFAULT_MEMORY_MB) -> Row:
    """The row of a file; problems with the file become part of it. Raises ModelError."""
    began_s, identity = time.monotonic(), identity_of(file)
    bundle, face_model = _loaded(models), require_face_model()
    try:
        with memory_bound(max_memory_mb, file):
            found = measure_timeline(
                Path(file), bundle, face_model, search_ms=rules.search_ms, profile=rules.profile, limits=rules.limits,
                audio=select_tracks(Path(file), rules.tracks, face_model),
            )  # fmt: skip
    except CaptureError as error:
        return unreadable(file, f"{error.what}. {error.remedy}", time.monotonic() - began_s)
    except AvdriftError:
        raise
    except Exception as error:  # an error of ours or of a library: the other files are worth measuring
        why = f"cannot be measured ({type(error).__name__}: {printable(str(error))})"
        return unreadable(file, why, time.monotonic() - began_s)
    result, problem = judged(found.result, rules.fail_on)
    took_s = round(time.monotonic() - began_s, 3)
    return Row(file, result, problem, found.result, curve_of(found), took_s, identity)


def curve_of(found: Measured) -> list[tuple[float, float, float]]:
    """Time in s, offset and its standard error in ms of each sure point."""
    return [
        (round(point.t_s, 1), round(point.best.offset_ms, 1), round(point.best.offset_std_ms, 1))
        for point in found.timeline.points
        if point.best is not None and is_sure(point)
    ]


@lru_cache(maxsize=1)
def _loaded(models: Models) -> Bundle:
    bundle = chosen_bundle(models.bundle, models.store)
    if bundle.digest != models.digest:
        what = f"now has other models ({bundle.label})"
        raise ModelStoreError(what, where="avdrift check", remedy="Start it again, with another journal")
    return bundle
