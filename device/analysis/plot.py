"""A recording's timeline as a picture and as a table: the offset with its band, steps, drift, a profile's limits."""

from __future__ import annotations

import csv
from math import hypot
from pathlib import Path

from device.analysis.measure import Measured
from device.analysis.offset_tracker import MEASURING_CONFIDENCE
from device.errors import UsageError
from device.standards import verdict_range
from device.sync.timeline import Point

COLUMNS = ("t_s", "offset_ms", "low_ms", "high_ms", "confidence", "state", "verdict")
PICTURES = (b"\x89PNG", b"%PDF", b"%!PS", b"<?xml", b"\xff\xd8\xff")  # how those that matplotlib writes begin
_BAND = 2.0  # standard errors: 95 %
_LEAST_SPAN_MS = 120.0


def is_sure(point: Point) -> bool:
    """Whether a point of the timeline is to be believed."""
    return point.best is not None and not point.best.at_edge and point.best.confidence >= MEASURING_CONFIDENCE


def write_csv(found: Measured, path: Path) -> None:
    """One row each five seconds; empty is unknown. Raises UsageError where the file cannot be written."""
    zero_std_ms = found.result["zero_std_ms"]
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(COLUMNS)
            for point in found.timeline.points:
                best = point.best
                if best is None or not is_sure(point):
                    confidence = "" if best is None else round(best.confidence, 4)
                    table.writerow([round(point.t_s, 1), "", "", "", confidence, "uncertain", "unknown"])
                    continue
                band_ms = _BAND * best.offset_std_ms
                judged = verdict_range(best.offset_ms, hypot(best.offset_std_ms, zero_std_ms), found.limits)
                numbers = [best.offset_ms, best.offset_ms - band_ms, best.offset_ms + band_ms]
                shown = [round(number, 1) for number in numbers]
                table.writerow([round(point.t_s, 1), *shown, round(best.confidence, 4), "measuring",
                                judged.verdict.value])  # fmt: skip
    except OSError as error:
        raise _refused(path, error) from error


def write_plot(found: Measured, path: Path) -> None:
    """A PNG, or what the name's ending says. Raises UsageError without matplotlib, or where it cannot be written."""
    try:
        from matplotlib.axes import Axes
        from matplotlib.figure import Figure
    except ImportError as error:
        remedy = "Install it: pip install matplotlib (or the extra `plot`), or use --csv"
        raise UsageError("needs matplotlib, which is not installed", where="--plot", remedy=remedy) from error
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    axes: Axes = figure.subplots()
    track, limits = found.timeline, found.limits
    sure = [(p.t_s, p.best.offset_ms, _BAND * p.best.offset_std_ms) for p in track.points if p.best and is_sure(p)]
    if sure:
        t_s, offsets_ms, bands_ms = zip(*sure, strict=True)
        axes.errorbar(t_s, offsets_ms, bands_ms, fmt="o", markersize=3, linewidth=0.8, color="tab:blue", alpha=0.6,
                      label="each 5 s, ±2 standard errors")  # fmt: skip
    for piece in track.pieces:
        if piece.sure:
            ends = [track.offset_ms(piece, end_s) for end_s in (piece.from_s, piece.to_s)]
            axes.plot([piece.from_s, piece.to_s], ends, color="black", linewidth=1.5)
    for step in track.steps:
        axes.axvline(step.t_s, color="tab:red", linewidth=0.8, linestyle="--")
        axes.annotate(f"{step.step_ms:+.0f} ms", (step.t_s, 0.98), xycoords=("data", "axes fraction"), va="top",
                      color="tab:red", fontsize=9)  # fmt: skip
    axes.axhspan(limits.detectable_late_ms, limits.detectable_early_ms, color="tab:green", alpha=0.12, linewidth=0)
    shown = [offset_ms for _, offset_ms, _ in sure] + [0.0]
    middle, span = (max(shown) + min(shown)) / 2, max(max(shown) - min(shown), _LEAST_SPAN_MS)
    end_s = track.pieces[-1].to_s if track.pieces else 1.0
    axes.set(xlim=(0, end_s), ylim=(middle - 0.7 * span, middle + 0.7 * span))
    axes.set(xlabel="time in s", ylabel="offset in ms (positive: audio early)", title=_title(found))
    axes.grid(alpha=0.3)
    if sure:
        axes.legend(fontsize=8, loc="lower right")
    try:
        figure.savefig(path, dpi=130)
    except (OSError, ValueError) as error:
        raise _refused(path, error) from error


def _title(found: Measured) -> str:
    result = found.result
    drift = "drift unknown"
    if result["drift_ppm"] is not None:
        drift = f"{result['drift_ppm']:+.0f} ±{result['drift_std_ppm']:.0f} ppm"
    steps = f"{len(result['steps'])} step{'' if len(result['steps']) == 1 else 's'}"
    verdict_words = str(result["verdict"]).replace("_", " ")
    return f"{Path(result['file']).name}: {drift}, {steps}, {verdict_words} ({result['profile']})"


def _refused(path: Path, error: Exception) -> UsageError:
    what = f"cannot be written ({getattr(error, 'strerror', None) or error})"
    return UsageError(what, where=str(path), remedy="Give a file name in a folder that can be written")
