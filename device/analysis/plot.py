"""A recording's offsets as a plot and as a table: each with its error band, steps, drift and the verdict's limits."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from math import hypot
from pathlib import Path
from typing import TYPE_CHECKING

from device.analysis.measure import Measured
from device.analysis.offset_tracker import MEASURING_CONFIDENCE
from device.errors import UsageError
from device.printable import minutes
from device.standards import Profile, verdict_range
from device.sync.timeline import Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = ("t_s", "offset_ms", "low_ms", "high_ms", "confidence", "state", "verdict")
PICTURES = (b"\x89PNG", b"%PDF", b"%!PS", b"<?xml", b"\xff\xd8\xff")  # how those that matplotlib writes begin
PICTURE_SUFFIXES = (".png", ".pdf", ".svg", ".jpg", ".jpeg", ".eps", ".ps")
_BAND = 2.0  # standard errors: 95 %
_MIN_SPAN_MS = 120.0
_NAME_LENGTH = 48
_LABEL_APART = 0.05  # of the width: closer steps are drawn, but not all of them labelled


@dataclass(frozen=True, slots=True)
class Moment:
    """The offset at one time; None where it is not sure."""

    t_s: float
    offset_ms: float | None
    std_ms: float | None
    confidence: float | None
    state: str
    verdict: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """The contents of a plot. pieces: (from s, offset in ms) and (to s, offset in ms); steps: (s, ms)."""

    title: str
    moments_are: str
    moments: Sequence[Moment]
    limits: Profile
    end_s: float
    pieces: Sequence[tuple[tuple[float, float], tuple[float, float]]] = ()
    steps: Sequence[tuple[float, float]] = ()


def is_sure(point: Point) -> bool:
    """Whether a point of the timeline is to be believed."""
    return point.best is not None and not point.best.at_edge and point.best.confidence >= MEASURING_CONFIDENCE


def check_plot(path: Path) -> None:
    """Check that `draw` can write this file, before minutes of measuring. Raises UsageError."""
    if find_spec("matplotlib") is None:
        raise _no_matplotlib()
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        remedy = f"Give a name that ends in one of {', '.join(PICTURE_SUFFIXES)}"
        raise UsageError("is not a supported image format", where=str(path), remedy=remedy)


def write_csv(found: Measured, path: Path) -> None:
    """One row each five seconds; empty is unknown. Raises UsageError where the file cannot be written."""
    write_table(_moments(found), path)


def write_plot(found: Measured, path: Path) -> None:
    """A PNG, or what the name's ending says. Raises UsageError without matplotlib, or where it cannot be written."""
    track = found.timeline
    pieces = [
        ((piece.from_s, track.offset_ms(piece, piece.from_s)), (piece.to_s, track.offset_ms(piece, piece.to_s)))
        for piece in track.pieces if piece.sure
    ]  # fmt: skip
    draw(
        Drawing(
            f"{short_name(found.result['file'])}: {_summary(found)}", "each 5 s", _moments(found), found.limits,
            track.pieces[-1].to_s if track.pieces else 1.0, pieces, [(step.t_s, step.step_ms) for step in track.steps],
        ),
        path,
    )  # fmt: skip


def write_table(moments: Sequence[Moment], path: Path) -> None:
    """One row per moment; empty is unknown. Raises UsageError if the file cannot be written."""
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(COLUMNS)
            for m in moments:
                numbers: list[float | str] = ["", "", ""]
                if m.offset_ms is not None and m.std_ms is not None:
                    band_ms = _BAND * m.std_ms
                    numbers = [round(ms, 1) for ms in (m.offset_ms, m.offset_ms - band_ms, m.offset_ms + band_ms)]
                confidence = "" if m.confidence is None else round(m.confidence, 4)
                table.writerow([round(m.t_s, 1), *numbers, confidence, m.state, m.verdict])
    except OSError as error:
        raise _refused(path, error) from error


def draw(drawing: Drawing, path: Path) -> None:
    """A PNG, or what the name's ending says. Raises UsageError without matplotlib, or where it cannot be written."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise _no_matplotlib() from error
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    axes: Axes = figure.subplots()
    limits = drawing.limits
    sure = [(m.t_s, m.offset_ms, _BAND * m.std_ms) for m in drawing.moments if m.offset_ms is not None and m.std_ms]
    if sure:
        t_s, offsets_ms, bands_ms = zip(*sure, strict=True)
        axes.errorbar(t_s, offsets_ms, bands_ms, fmt="o", markersize=3, linewidth=0.8, color="tab:blue", alpha=0.6,
                      label=f"{drawing.moments_are}, ±2 standard errors")  # fmt: skip
    for k, ends in enumerate(drawing.pieces):
        label = "offset of each piece" if k == 0 else None
        axes.plot(*zip(*ends, strict=True), color="black", linewidth=1.5, label=label)
    _draw_steps(axes, drawing)
    axes.axhspan(limits.detectable_late_ms, limits.detectable_early_ms, color="tab:green", alpha=0.12, linewidth=0,
                 label="not noticed")  # fmt: skip
    shown = [offset_ms for _, offset_ms, _ in sure] + [0.0]
    middle, span = (max(shown) + min(shown)) / 2, max(max(shown) - min(shown), _MIN_SPAN_MS)
    axes.set(xlim=(0, drawing.end_s), ylim=(middle - 0.7 * span, middle + 0.7 * span))
    axes.set(ylabel="offset in ms (positive: audio early)", xlabel="time in the recording, m:ss")
    axes.set_title(drawing.title, parse_math=False)
    axes.xaxis.set_major_formatter(lambda at_s, _: minutes(at_s))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")
    try:
        figure.savefig(path, dpi=130)
    except (OSError, ValueError) as error:
        raise _refused(path, error) from error


def _draw_steps(axes: Axes, drawing: Drawing) -> None:
    """One line per step; where they are close, only some of them have space for a label."""
    labelled_s = -drawing.end_s
    for k, (t_s, step_ms) in enumerate(drawing.steps):
        label = f"steps ({len(drawing.steps)})" if k == 0 else None
        axes.axvline(t_s, color="tab:red", linewidth=0.8, linestyle="--", label=label)
        if t_s - labelled_s >= _LABEL_APART * drawing.end_s:
            labelled_s = t_s
            axes.annotate(f"{step_ms:+.0f} ms", (t_s, 0.98), xycoords=("data", "axes fraction"), xytext=(2, 0),
                          textcoords="offset points", va="top", rotation=90, color="tab:red", fontsize=8)  # fmt: skip


def short_name(file: str) -> str:
    """A file's name as text that fits into a title, whatever bytes it contains."""
    name = os.fsencode(Path(file).name).decode("utf-8", "replace")
    half = _NAME_LENGTH // 2
    return name if len(name) <= _NAME_LENGTH else f"{name[:half]}…{name[-half:]}"


def _moments(found: Measured) -> list[Moment]:
    zero_std_ms, moments = found.result["zero_std_ms"], []
    for point in found.timeline.points:
        best = point.best
        if best is None or not is_sure(point):
            confidence = None if best is None else best.confidence
            moments.append(Moment(point.t_s, None, None, confidence, "uncertain", "unknown"))
            continue
        judged = verdict_range(best.offset_ms, hypot(best.offset_std_ms, zero_std_ms), found.limits)
        moments.append(
            Moment(point.t_s, best.offset_ms, best.offset_std_ms, best.confidence, "measuring", judged.verdict.value)
        )
    return moments


def _summary(found: Measured) -> str:
    result = found.result
    drift = "drift unknown"
    if result["drift_ppm"] is not None:
        drift = f"{result['drift_ppm']:+.0f} ±{result['drift_std_ppm']:.0f} ppm"
    steps = f"{len(result['steps'])} step{'' if len(result['steps']) == 1 else 's'}"
    return f"{drift}, {steps}, {str(result['verdict']).replace('_', ' ')} ({result['profile']})"


def _no_matplotlib() -> UsageError:
    remedy = f"Install it: {sys.executable} -m pip install matplotlib; or use --csv"
    return UsageError("needs matplotlib, which is not installed", where="--plot", remedy=remedy)


def _refused(path: Path, error: Exception) -> UsageError:
    what = f"cannot be written ({getattr(error, 'strerror', None) or error})"
    return UsageError(what, where=str(path), remedy="Give a file name in a folder that can be written")
