"""`avdrift-train results`: one run of all evaluations, of which the page of results is made.

What a part has found is kept in the work folder, next to what it depends on: the models, the table of clips and the
settings. A later call runs only what is missing or depends on something else by now, so an interrupted run goes on.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from device import __version__
from device.bundles.bundle import load_bundle
from device.bundles.model_kinds import MEASURING
from train.comparison.load_estimators import bundle_macs_per_s
from train.data.clip_table import TABLE
from train.files import make_folder, sha256, write_atomically
from train.results.parts import PARTS, ClipSet, Found, Settings, own_offsets

OWN_OFFSETS = "own-offsets"


def clip_set(title: str, folder: Path, work: Path) -> ClipSet:
    """A set whose files lie in a folder of their own below `work`."""
    return ClipSet(title, folder, work / re.sub(r"\W+", "-", title.lower()).strip("-"))


def measured(
    sets: Sequence[ClipSet], settings: Settings, again: Collection[str] = (), without: Collection[str] = ()
) -> dict[str, Any]:
    """Run all parts but those of `without`, except those that an earlier call has run and `again` does not name.

    Raises AvdriftError for clips or models that cannot be used.
    """
    bundle = load_bundle(settings.bundle, MEASURING)
    found: list[dict[str, Any]] = []
    for clips in sets:
        make_folder(clips.work)
        offsets = _once(clips, settings, bundle.label, OWN_OFFSETS, partial(_own_offsets, clips, settings), again)
        own_ms = {file: offset_ms for file, offset_ms in offsets["own_ms"].items() if offset_ms is not None}
        rows = [asdict(row) for row in clips.rows(settings.split)]
        found.append({"title": clips.title, "rows": rows, "own_ms": own_ms, "parts": {}})
    for name, part in PARTS.items():
        if name in without:
            continue
        for clips, of_set in zip(sets[:1] if part.first_only else sets, found, strict=False):
            run = partial(part.run, clips, settings, of_set["own_ms"])
            of_set["parts"][name] = _once(clips, settings, bundle.label, name, run, again, part.amounts)
    return {
        "model": bundle.label, "manifest": bundle.manifest, "macs_per_s": bundle_macs_per_s(bundle), "sets": found,
    }  # fmt: skip


def _own_offsets(clips: ClipSet, settings: Settings) -> Found:
    return {"own_ms": own_offsets(clips, settings)}


def _once(
    clips: ClipSet, settings: Settings, model: str, name: str, run: Callable[[], Found], again: Collection[str],
    amounts: Sequence[str] = (),
) -> Found:  # fmt: skip
    """What a part finds, or has found in an earlier call; `on` is the day."""
    file = clips.work / f"{name}.json"
    depends = {
        "model": model, "software": __version__, "clips": sha256(clips.folder / TABLE), "split": settings.split,
        "seed": settings.seed, **{amount: getattr(settings, amount) for amount in amounts},
    }  # fmt: skip
    if name in again or not _is_current(file, depends):
        print(f"{clips.title}: {name}", file=sys.stderr, flush=True)
        write_atomically(file, {"depends": depends, "on": datetime.now(UTC).date().isoformat(), "found": run()})
    kept = json.loads(file.read_text(encoding="utf-8"))
    return {**kept["found"], "on": kept["on"]}


def _is_current(file: Path, depends: Mapping[str, Any]) -> bool:
    try:
        return bool(json.loads(file.read_text(encoding="utf-8"))["depends"] == depends)
    except (OSError, ValueError, KeyError, TypeError):
        return False
