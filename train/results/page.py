"""The page of results: what `train.results.run.measured` has found, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from device.analysis.offset_tracker import MEASURING_CONFIDENCE
from train.comparison.comparison import SYNCNET_MACS_PER_S
from train.evaluation.tracks import SPEECH_RATIO, TOLERANCE_MS
from train.markdown import table
from train.results import scene_tables, window_tables
from train.results.text import share

MARK = "results"
COMMAND = "avdrift-train results"

# One definition for each figure; no section has another.
_DEFINITIONS = (
    "**Truth**: each clip is cut so that its audio is earlier or later by a random shift. The truth is this shift plus "
    "the clip's own offset, because natural recordings are seldom at 0. The own offset is what `avdrift measure` finds "
    "on the whole clip. Clips on which it is not sure are left out, and counted.",
    f"**Right**: within {TOLERANCE_MS:g} ms of the truth, one frame at 25 frames per second.",
    f"**Has a number**: the state is `measuring`, which needs a confidence of {MEASURING_CONFIDENCE:g}. The share that "
    "has a number is the coverage; the share of these that is right is the precision.",
    "**Report**: what the daemon says once a second, with what it remembers of the session.",
    f"**Window**: a stretch of a clip, measured by itself. It counts if at least {SPEECH_RATIO:.0%} of it is speech, "
    "whatever its confidence.",
    "**Interval**: 95 %, in brackets, by a bootstrap over speakers. A single speaker has none.",
    "**Expected calibration error**: the mean distance between the confidence and the share of right windows, in ten "
    "equal bins of confidence. **Brier score**: the mean squared distance between the confidence and 1 for a right "
    "window, 0 for a wrong one. Both are 0 at best.",
)


def page(found: Mapping[str, Any]) -> str:
    """The generated part of the page, with a heading for each evaluation."""
    return "\n\n".join(_sections(found)) + "\n"


def _sections(found: Mapping[str, Any]) -> Iterator[str]:
    sets: Sequence[Mapping[str, Any]] = found["sets"]
    parts = sets[0]["parts"]
    days = sorted({part["on"] for clips in sets for part in clips["parts"].values()})
    yield f"Models {found['model']}, measured by `{COMMAND}`, {' to '.join(dict.fromkeys((days[0], days[-1])))}."
    yield "\n".join(f"- {definition}" for definition in _DEFINITIONS)
    yield "## The recordings"
    yield _recordings(sets)
    yield "## One person talking on"
    yield from scene_tables.daily(sets)
    yield "## Windows by themselves"
    yield from window_tables.by_length(sets)
    yield "## Languages and kinds of recording"
    yield from window_tables.by_group(sets)
    yield from scene_tables.daily_by_group(sets)
    yield "## Is the confidence a probability?"
    yield from window_tables.calibration(sets)
    yield "## Beside published figures"
    yield from window_tables.beside_published(sets)
    yield "## Really shifted files"
    yield from scene_tables.sliced(sets)
    yield "## Input that cannot be measured"
    yield from scene_tables.unmeasurable(parts["unmeasurable"])
    yield from window_tables.unmeasurable(sets)
    yield "## Several faces"
    yield from scene_tables.two_speakers(parts["two-speakers"])
    yield "## Degraded video and audio"
    yield from scene_tables.degraded(parts["degraded"])
    yield "## Joined clips: a stress test for steps"
    yield from scene_tables.trust(parts["trust"])
    yield "## Models compared"
    yield from window_tables.models(parts["models"])
    yield "## Size"
    yield _size(found)


def _recordings(sets: Sequence[Mapping[str, Any]]) -> str:
    def line(clips: Mapping[str, Any]) -> list[str]:
        rows = clips["rows"]
        minutes = sum(row["duration_s"] or 0 for row in rows) / 60
        languages = sorted({row["language"] or "not stated" for row in rows})
        return [clips["title"], str(len(rows)), str(len({row["speaker"] for row in rows})), f"{minutes:.1f}",
                str(len(clips["own_ms"])), ", ".join(languages)]  # fmt: skip

    head = ["set", "clips", "speakers", "minutes", "clips whose own offset is sure", "languages"]
    return table(head, [line(clips) for clips in sets])


def _size(found: Mapping[str, Any]) -> str:
    macs_per_s, manifest = found["macs_per_s"], found["manifest"]
    sizes = sum(entry["size"] for file, entry in manifest["files"].items() if file.endswith(".tflite"))
    rows = [
        ["multiply-accumulates per second of video", f"{macs_per_s / 1e6:.0f} million"],
        ["the same for SyncNet's network as its authors published it", f"{SYNCNET_MACS_PER_S / 1e6:,.0f} million"],
        ["ratio", f"1/{SYNCNET_MACS_PER_S / macs_per_s:.0f}"],
        ["size of the models", f"{sizes / 1e6:.2f} MB"],
    ]
    parity = manifest.get("parity", {}).get("parity")
    if parity:
        for name, key in ((manifest["number_format"], "accuracy"), ("float32", "reference_accuracy")):
            lengths = ", ".join(f"{share(value)} % at {window} s" for window, value in parity[key].items())
            rows.append([f"right windows in {name}, when the bundle was built", lengths])
    return table(["", ""], rows)
