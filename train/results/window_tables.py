"""Sections of the page on windows by themselves: `evaluate` on each set, and `report` on the first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from device.features.contract import FRONT_END
from train.evaluation.plots import ANCHOR_FRAMES, ANCHORS
from train.evaluation.protocol import CORPUS_WINDOW_S, CUT_OUT_LENGTHS_S, CUT_OUT_SEARCH_FRAMES, SEARCHES_FRAMES
from train.markdown import table
from train.results.text import of, ranged, share

_CALIBRATED_S = (0.6, 1.0, 2.0, 5.0)
_COMPARED = (0.2, 0.6, 1.0, 2.0, 5.0)
_WIDE = SEARCHES_FRAMES[-1]

Sets = Sequence[Mapping[str, Any]]


def _right(figures: Mapping[str, Any]) -> str:
    return ranged(figures, "within_frame", "low", "high")


def _median_ms(figures: Mapping[str, Any]) -> str:
    return "-" if figures["median_error_ms"] is None else f"{figures['median_error_ms']:.0f}"


def _rows(clips: Mapping[str, Any], search_frames: int) -> list[Mapping[str, Any]]:
    rows = clips["parts"]["windows"]["rows"]
    return [row for row in rows if row["search_frames"] == search_frames and row["speech"]["windows"]]


def by_length(sets: Sets) -> Iterator[str]:
    """Coverage, precision and accuracy for each length of window."""
    yield (
        f"Search of ±{_WIDE} frames ({_WIDE * FRONT_END.lip_tick_ms / 1000:g} s). The evidence of a window also takes "
        "the lips of 0.8 s before and after it into account."
    )
    head = ["set", "window", "windows", "speakers", "right %, whatever their confidence", "have a number %",
            "of these, right %", "median error in ms", "always 0: right %"]  # fmt: skip
    yield table(head, [
        [clips["title"], f"{row['window_s']:g} s", str(f["windows"]), str(f["speakers"]), _right(f),
         share(f["reported"]), share(f["right_of_reported"]), _median_ms(f), share(row["zero"]["within_frame"])]
        for clips in sets for row in _rows(clips, _WIDE) for f in [row["speech"]]
    ], texts=2)  # fmt: skip


def by_group(sets: Sets) -> Iterator[str]:
    """Windows of one length by what the table of clips says of them."""
    yield f"Windows of {CORPUS_WINDOW_S:g} s, search of ±{_WIDE} frames:"
    for grouping in ("language", "kind"):
        head = ["set", grouping, "speakers", "windows", "right %, whatever their confidence", "have a number %",
                "of these, right %"]  # fmt: skip
        yield table(head, [
            [clips["title"], name, str(f["speakers"]), str(f["windows"]), _right(f), share(f["reported"]),
             share(f["right_of_reported"])]
            for clips in sets
            for name, f in clips["parts"]["windows"]["groups"][grouping].items() if f["windows"]
        ], texts=2)  # fmt: skip


def calibration(sets: Sets) -> Iterator[str]:
    """Expected calibration error and Brier score, and the counts of the reliability diagram."""
    head = ["set", "window", "windows", "speakers", "expected calibration error", "Brier score"]
    yield table(head, [
        [clips["title"], f"{row['window_s']:g} s", str(f["windows"]), str(f["speakers"]),
         ranged(f, "calibration_error", "calibration_error_low", "calibration_error_high", scale=1, digits=3),
         ranged(f, "brier_score", "brier_low", "brier_high", scale=1, digits=3)]
        for clips in sets for row in _rows(clips, _WIDE) if row["window_s"] in _CALIBRATED_S for f in [row["speech"]]
    ], texts=2)  # fmt: skip
    yield "The reliability diagram as a table: all windows of 1, 2 and 5 s, by their confidence."
    yield table(["set", "confidence", "windows", "mean confidence %", "right %"], [
        [clips["title"], f"{b['low']:g} to {b['high']:g}", str(b["windows"]), share(b["confidence"]), share(b["right"])]
        for clips in sets for b in clips["parts"]["windows"]["reliability"]
    ], texts=2)  # fmt: skip


def beside_published(sets: Sets) -> Iterator[str]:
    """Windows cut out of their clip, as in published figures."""
    yield (
        f"Search of ±{CUT_OUT_SEARCH_FRAMES} frames; right windows in %, whatever their confidence. These windows are "
        "cut out of their clip: no other lips are seen, no two share a frame, and the sound reaches as far as the "
        "candidates. So are those of the published figures, on LRS2, after hundreds of hours of training."
    )
    shown_s = CUT_OUT_LENGTHS_S
    frames_of = {s: round(s * 1000 / FRONT_END.lip_tick_ms) for s in shown_s}
    body = []
    for clips in sets:
        cut_out = {row["window_s"]: row["speech"] for row in clips["parts"]["windows"]["cut_out"]}
        body.append([f"avdrift, {clips['title']}", *(_right(cut_out[s]) for s in shown_s)])
        counts = [(cut_out[s]["windows"], cut_out[s]["speakers"]) for s in shown_s]
        body.append(["its windows, speakers", *(f"{windows}, {speakers}" for windows, speakers in counts)])
    for name, shares in ANCHORS.items():
        published = dict(zip(ANCHOR_FRAMES, shares, strict=True))
        body.append([f"{name}, as published", *(f"{published.get(frames_of[s], '-')}" for s in shown_s)])
    yield table(["", *(f"{s:g} s" for s in shown_s)], body)
    yield f"In their clip, with the lips around them, search of ±{CUT_OUT_SEARCH_FRAMES} frames:"
    lengths = [row["window_s"] for row in _rows(sets[0], CUT_OUT_SEARCH_FRAMES)]
    yield table(["", *(f"{s:g} s" for s in lengths)], [
        [clips["title"], *(_right(found[s]) if s in found else "-" for s in lengths)]
        for clips in sets
        for found in [{row["window_s"]: row["speech"] for row in _rows(clips, CUT_OUT_SEARCH_FRAMES)}]
    ])  # fmt: skip


def unmeasurable(sets: Sets) -> Iterator[str]:
    """Single windows of input for which no offset is right."""
    yield "Windows by themselves that have a number:"
    cases = [(clips["title"], each) for clips in sets for each in clips["parts"]["windows"]["hopeless"]]
    lengths = sorted({each["window_s"] for _, each in cases})
    counts = {
        (title, each["kind"], each["window_s"]): of(round(each["numbered"] * each["windows"]), each["windows"])
        for title, each in cases
    }
    kinds = dict.fromkeys((title, each["kind"]) for title, each in cases)
    yield table(["set", "input", *(f"{s:g} s" for s in lengths)],
                [[*kind, *(counts.get((*kind, s), "-") for s in lengths)] for kind in kinds], texts=2)  # fmt: skip


def models(sets: Sets) -> Iterator[str]:
    """All estimators on the same windows."""
    part = sets[0]["parts"]["models"]
    yield (
        f"{part['clips']} clips of {part['speakers']} speakers; for every model the same windows, and the same "
        f"{part['shifts_per_window']} shifts of each. Windows share no frame, and the lips around them are seen. Each "
        "model's zero is subtracted, as the clips of all other speakers show it. Right windows in %, whatever their "
        "confidence:"
    )
    for frames in SEARCHES_FRAMES:
        yield f"Search of ±{frames} frames:"
        yield table(["model", *(f"{s:g} s" for s in _COMPARED)], [
            [result["model"], *(_right(result["figures"][str(frames)][str(s)]) for s in _COMPARED)]
            for result in part["results"]
        ])  # fmt: skip
