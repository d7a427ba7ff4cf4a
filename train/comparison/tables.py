"""A report as text, Markdown and plots."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from device.sync.curve import TICK_MS
from train.comparison.comparison import (
    DIRECT_OFFSET_FRAMES,
    DIRECT_WINDOW_S,
    SHIFTS_PER_WINDOW,
    SYNCNET_MACS_PER_S,
    Report,
    Result,
)
from train.evaluation.metrics import FRAME_MS, Figures
from train.evaluation.plots import ANCHOR_FRAMES, ANCHORS, CHANCE_SEARCH_FRAMES
from train.evaluation.protocol import CORPUS_WINDOW_S, SEARCHES_FRAMES
from train.evaluation.tables import Table, text_of
from train.markdown import put_into, table

# Mouth opening against voice activity, ±25 frames, as this project's origin reports it: window in s, RMSE in frames.
ORIGIN_RMSE = {1.0: 16.0, 6.0: 9.0, 12.0: 2.3}


def tables(report: Report) -> list[Table]:
    """Accuracy, RMSE and median error of every model, its cost, and its accuracy by corpus."""
    found: list[Table] = []
    for frames in SEARCHES_FRAMES:
        lengths_s = [s for s, f in report.results[0].figures[frames].items() if f.windows]
        head = ["model", *(f"{s:g} s" for s in lengths_s)]
        counts = ["windows", *(_windows(report.results[0].figures[frames][s]) for s in lengths_s)]
        kinds = (("Within one frame, %, and its 95 % interval over speakers", _accuracy),
                 ("RMSE in frames, and its interval", _rmse),
                 ("Median absolute error in ms, and its interval", _median))  # fmt: skip
        for title, show in kinds:
            rows = [[r.model, *(show(r.figures[frames][s]) for s in lengths_s)] for r in report.results]
            found.append((f"{title}; search of ±{frames} frames", head, [counts, *rows]))
    title = f"{DIRECT_WINDOW_S:g} s, offsets of up to ±{DIRECT_OFFSET_FRAMES} frames, as the direct network is trained"
    found.append((title, ["model", "windows", "within one frame, %", "MAE in frames", "std(answer) / std(truth)"], [
        [r.model, _windows(r.direct), _accuracy(r.direct), _number(r.direct.mae_frames, 2),
         _number(r.direct.std_ratio, 2)]
        for r in report.results
    ]))  # fmt: skip
    found.append(("Cost", ["model", "MMAC per second", "SyncNet as published over it", "zero ms"], [
        [r.model, _number(r.macs_per_s and r.macs_per_s / 1e6, 0),
         _number(SYNCNET_MACS_PER_S / r.macs_per_s if r.macs_per_s else None, 1), _number(r.zero_ms, 0)]
        for r in report.results
    ]))  # fmt: skip
    corpora = sorted(report.results[0].corpora)
    by = [[r.model, *(_accuracy(r.corpora[name]) for name in corpora)] for r in report.results]
    counts = ["windows", *(_windows(report.results[0].corpora[name]) for name in corpora)]
    title = f"Within one frame by corpus, %, {CORPUS_WINDOW_S:g} s, search of ±{SEARCHES_FRAMES[-1]} frames"
    found.append((title, ["model", *corpora], [counts, *by]))
    return found


def as_text(report: Report) -> str:
    """Columns aligned with spaces."""
    return "\n\n".join([_summary(report), *(text_of(table) for table in tables(report))]) + "\n"


def as_markdown(report: Report) -> str:
    """GitHub tables, for a page with a heading of its own."""
    parts = [_summary(report)]
    for title, head, body in tables(report):
        parts.append(f"**{title}**\n\n{table(head, body)}")
    return "\n\n".join(parts) + "\n"


def update_page(page: Path, report: Report) -> None:
    """Put the tables between the marks `report` of a Markdown page. Raises InputMissingError or InputFormatError."""
    put_into(page, "report", as_markdown(report))


def save(report: Report, folder: Path) -> list[Path]:
    """Write report.png (accuracy, RMSE against window length), errors.png and posterior.png; return their paths."""
    figure = Figure(figsize=(10, 5.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for result in report.results:
        _draw(left, result, 15, accuracy=True)
        _draw(right, result, 25, accuracy=False)
    anchor_s = np.array(ANCHOR_FRAMES) * FRAME_MS / 1000
    left.plot(anchor_s, ANCHORS["SyncNet, LRS2"], "k--", linewidth=0.8, label="SyncNet as published, LRS2")
    left.axhline(100 * 3 / (2 * CHANCE_SEARCH_FRAMES + 1), color="black", linewidth=0.6)
    left.set(ylabel="within one frame in %, ±15 frames", ylim=(0, 101))
    right.plot(list(ORIGIN_RMSE), list(ORIGIN_RMSE.values()), "k:", label="mouth opening as the origin reports it")
    right.set(ylabel="RMSE in frames, ±25 frames", ylim=(0, None))
    for axes in (left, right):
        axes.set(xlabel="window in s", xscale="log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.grid(alpha=0.3)
    drawn = {line.get_label(): line for axes in (right, left) for line in axes.get_legend_handles_labels()[0]}
    figure.legend(handles=drawn.values(), loc="outside lower center", ncols=3, fontsize=7)
    histogram = Figure(figsize=(7, 4), layout="constrained")
    axes = histogram.subplots()
    edges = np.arange(-10 * FRAME_MS, 10 * FRAME_MS + 1, FRAME_MS / 2).tolist()
    for result in report.results:
        if result.macs_per_s != 0:
            axes.hist(np.clip(result.errors_ms, edges[0], edges[-1]), edges, histtype="step", label=result.model)
    axes.set(xlabel="error in ms, all beyond at the ends", ylabel=f"windows of {CORPUS_WINDOW_S:g} s")
    axes.legend(fontsize=6)
    paths = [folder / "report.png", folder / "errors.png", folder / "posterior.png"]
    for picture, path in zip((figure, histogram, _posterior(report)), paths, strict=True):
        picture.savefig(path, dpi=90)
    return paths


def _posterior(report: Report) -> Figure:
    """Each model's score of each candidate offset, in one window of one clip."""
    results = [result for result in report.results if result.macs_per_s != 0]
    figure = Figure(figsize=(7, 0.8 * len(results) + 1), layout="constrained")
    for axes, result in zip(np.ravel(figure.subplots(len(results), 1, sharex=True)), results, strict=True):
        offsets_ms = (np.arange(len(result.shown)) - len(result.shown) // 2) * TICK_MS
        axes.axvline(report.example.true_ms + (result.zero_ms or 0), color="tab:red", linewidth=0.8)
        axes.fill_between(offsets_ms, result.shown, linewidth=0, alpha=0.4)
        axes.plot(offsets_ms, result.shown, linewidth=0.8)
        axes.set(yticks=[], ylim=(0, 1.05))
        axes.set_title(result.model, fontsize=7, loc="left", pad=2)
    axes.set(xlabel="offset in ms (red: the truth); posterior, or the score from its lowest to its highest")
    return figure


def _draw(axes: Axes, result: Result, frames: int, *, accuracy: bool) -> None:
    by_length = {s: f for s, f in result.figures[frames].items() if f.windows}
    values = [100 * (f.within_frame or 0) if accuracy else f.rmse_frames for f in by_length.values()]
    axes.plot(list(by_length), np.array(values, float), "o-", markersize=3, linewidth=1, label=result.model)


def _summary(report: Report) -> str:
    lines = [f"{report.clips} clips of {report.speakers} speakers. Truth: {report.truth}.",
             f"Each window counts {SHIFTS_PER_WINDOW} times, with a shift of its own each time."]  # fmt: skip
    if report.left_out:
        lines.append(f"Left out, truth unknown or unsure: {len(report.left_out)} clips.")
    return " ".join(lines)


def _windows(f: Figures) -> str:
    return str(f.windows // SHIFTS_PER_WINDOW)


def _accuracy(f: Figures) -> str:
    return _with_interval(f.within_frame, f.low, f.high, 100)


def _rmse(f: Figures) -> str:
    return _with_interval(f.rmse_frames, f.rmse_low, f.rmse_high, 1)


def _median(f: Figures) -> str:
    return _with_interval(f.median_error_ms, f.median_low_ms, f.median_high_ms, 1, digits=0)


def _with_interval(value: float | None, low: float | None, high: float | None, scale: float, digits: int = 1) -> str:
    if value is None or low is None or high is None:
        return _number(None if value is None else scale * value, digits)
    return f"{scale * value:.{digits}f} ({scale * low:.{digits}f} to {scale * high:.{digits}f})"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
