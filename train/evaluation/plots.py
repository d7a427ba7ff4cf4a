"""Plots of an evaluation: accuracy against window length, errors, and confidence against outcome."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from train.evaluation.metrics import FRAME_MS
from train.evaluation.protocol import CORPUS_WINDOW_S, SEARCHES_FRAMES, Evaluation

# LRS2, search of ±15 frames, within one frame, at 5, 7, 9, 11, 13 and 15 frames of input, as published.
ANCHOR_FRAMES = (5, 7, 9, 11, 13, 15)
ANCHORS = {
    "SyncNet, LRS2": (75.8, 82.3, 87.6, 91.8, 94.5, 96.1),
    "Perfect Match, LRS2": (88.1, 93.8, 96.4, 97.9, 98.7, 99.1),
    "VocaLiST, LRS2": (92.8, 96.7, 98.4, 99.3, 99.6, 99.8),
}
CHANCE_SEARCH_FRAMES = 15


def save(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write accuracy.png, errors.png and reliability.png into an existing folder; return their paths."""
    pictures = {"accuracy.png": accuracy, "errors.png": errors, "reliability.png": reliability}
    for name, draw in pictures.items():
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        draw(figure.subplots(), evaluation)
        figure.savefig(folder / name, dpi=120)
    return [folder / name for name in pictures]


def accuracy(axes: Axes, evaluation: Evaluation) -> None:
    """Share within one frame against window length, beside published figures and an estimator that always says zero."""
    for frames, colour in zip(SEARCHES_FRAMES, ("tab:blue", "tab:green"), strict=True):
        rows = [r for r in evaluation.rows if r.search_frames == frames and r.speech.windows]
        length_s = [r.window_s for r in rows]
        ours = _percent(r.speech.within_frame for r in rows)
        zero = _percent(r.zero.within_frame for r in rows)
        axes.plot(length_s, ours, "o-", color=colour, label=f"avdrift, ±{frames} frames")
        low, high = _percent(r.speech.low for r in rows), _percent(r.speech.high for r in rows)
        axes.fill_between(length_s, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(length_s, zero, ":", color=colour, label=f"always zero, ±{frames} frames")
    anchor_s = np.array(ANCHOR_FRAMES) * FRAME_MS / 1000
    for (name, shares), marker in zip(ANCHORS.items(), ("s", "^", "d"), strict=True):
        axes.plot(anchor_s, shares, marker + "--", color="gray", markersize=4, linewidth=0.8, label=name)
    axes.axhline(100 * 3 / (2 * CHANCE_SEARCH_FRAMES + 1), color="black", linewidth=0.6, label="chance, ±15 frames")
    axes.set_xscale("log")
    axes.set_xticks(sorted({row.window_s for row in evaluation.rows}))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.set(xlabel="window in s", ylabel="within one frame in %", ylim=(0, 101), title=evaluation.model)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="lower right")


def _percent(shares: Iterable[float | None]) -> list[float]:
    """Unknown shares as NaN, which leaves a gap in the line."""
    return [float("nan") if share is None else 100 * share for share in shares]


def errors(axes: Axes, evaluation: Evaluation) -> None:
    """Histogram of the errors of windows with speech; outliers are collected at the ends."""
    reach = 10 * FRAME_MS
    values = np.clip(evaluation.errors_ms, -reach, reach)
    axes.hist(values, bins=np.arange(-reach, reach + 1, FRAME_MS / 4).tolist(), color="tab:blue")
    for edge in (-FRAME_MS, FRAME_MS):
        axes.axvline(edge, color="black", linewidth=0.6)
    axes.set(xlabel=f"error in ms (all beyond ±{reach:g} at the ends)", ylabel="windows")
    axes.set_title(f"{len(evaluation.errors_ms)} windows of {CORPUS_WINDOW_S:g} s")


def reliability(axes: Axes, evaluation: Evaluation) -> None:
    """Share of right windows against confidence."""
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.6)
    bins = evaluation.reliability
    axes.plot([b.confidence for b in bins], [b.right for b in bins], "o-", color="tab:blue")
    for b in bins:
        axes.annotate(str(b.windows), (b.confidence, b.right), textcoords="offset points", xytext=(6, -10), fontsize=7)
    axes.set(xlabel="confidence", ylabel="share that is right", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.set_title("windows with speech, 1, 2 and 5 s; numbers count them")
    axes.grid(alpha=0.3)
