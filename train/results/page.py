"""The page of results: what `train.results.run.measured` has found, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from device.analysis.offset_tracker import MEASURING_CONFIDENCE
from train.comparison.comparison import SYNCNET_MACS_PER_S
from train.evaluation.tracks import SPEECH_RATIO, TOLERANCE_MS
from train.markdown import table
from train.results import scene_tables, window_tables
from train.results.text import share

Sets = scene_tables.Sets
MARK = "results"
COMMAND = "avdrift-train results"

# One definition for each figure; no section has another.
_DEFINITIONS = (
    "**Truth**: each clip or window is cut so that its audio is earlier or later by a random shift. The truth is this "
    "shift plus the clip's own offset, because natural recordings are seldom at 0. The own offset is what `avdrift "
    "measure` finds on the whole clip. Clips on which it is not sure are left out, and counted.",
    f"**Right**: within {TOLERANCE_MS:g} ms of the truth, one frame at 25 frames per second.",
    f"**Has a number**: the state is `measuring`, which needs a confidence of {MEASURING_CONFIDENCE:g}, and in reports "
    "more during the first seconds of a session. The share that has a number is the coverage; the share of these that "
    "is right is the precision.",
    "**Report**: what the daemon says once a second, with what it remembers of the session.",
    f"**Window**: a stretch of a clip, measured by itself. It counts if at least {100 * SPEECH_RATIO:g} % of it is "
    "speech, whatever its confidence.",
    "**Interval**: 95 %, in brackets, by a bootstrap over speakers. A single speaker has none.",
    "**Expected calibration error**: the mean distance between the confidence and the share of right windows, in ten "
    "equal bins of confidence. **Brier score**: the mean squared distance between the confidence and 1 for a right "
    "window, 0 for a wrong one. Both are 0 at best.",
)


# The parts of each section, and what shows them; a part that was not run is left out.
_SECTIONS: tuple[tuple[str, dict[str, Callable[[Sets], Iterator[str]]]], ...] = (
    ("One person talking on", {"daily": scene_tables.daily}),
    ("Windows by themselves", {"windows": window_tables.by_length}),
    ("Languages and kinds of recording", {"windows": window_tables.by_group, "daily": scene_tables.daily_by_group}),
    ("Is the confidence a probability?", {"windows": window_tables.calibration}),
    ("Beside published figures", {"windows": window_tables.beside_published}),
    ("Really shifted files", {"sliced": scene_tables.sliced}),
    (
        "Input that cannot be measured",
        {"unmeasurable": scene_tables.unmeasurable, "windows": window_tables.unmeasurable},
    ),
    ("Several faces", {"two-speakers": scene_tables.two_speakers}),
    ("Degraded video and audio", {"degraded": scene_tables.degraded}),
    ("Joined clips: a stress test for steps", {"trust": scene_tables.trust}),
    ("Models compared", {"models": window_tables.models}),
)


def page(found: Mapping[str, Any]) -> str:
    """The generated part of the page, with a heading for each evaluation."""
    return "\n\n".join(_paragraphs(found)) + "\n"


def _paragraphs(found: Mapping[str, Any]) -> Iterator[str]:
    sets: Sets = found["sets"]
    days = sorted({part["on"] for clips in sets for part in clips["parts"].values()})
    yield f"Models {found['model']}, measured by `{COMMAND}`, {' to '.join(dict.fromkeys((days[0], days[-1])))}."
    yield "\n".join(f"- {definition}" for definition in _DEFINITIONS)
    yield "## The recordings"
    yield _recordings(sets)
    for heading, parts in _SECTIONS:
        shown = [show for part, show in parts.items() if part in sets[0]["parts"]]
        if shown:
            yield f"## {heading}"
        for show in shown:
            yield from show(sets)
    yield "## Size"
    yield _size(found)


def _recordings(sets: Sets) -> str:
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
    return table(["", ""], rows, texts=2)
