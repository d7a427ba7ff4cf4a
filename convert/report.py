"""The cost and gain of each number format beside float32, as a table for JSON and as a plot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from convert.delegate import left_over
from convert.parity import Parity
from device.bench.timing import best_of
from device.litert import Model
from device.towers.macs import count_macs

_ROUNDS, _ROUND_S = 5, 0.05


@dataclass(frozen=True, slots=True)
class FormatReport:
    """One number format; sums over a bundle's networks, each run once on one thread."""

    bytes: int
    macs: int
    latency_ratio: float  # relative to float32, in the same run
    left_by_xnnpack: dict[str, list[str] | None]  # by file; None if XNNPACK takes nothing at all
    parity: Parity

    def to_dict(self) -> dict[str, Any]:
        length, loss = self.parity.worst_loss
        return asdict(self) | {"worst_loss": {"window_s": float(length), "share": round(loss, 6)}}


def report(
    models: Mapping[str, Mapping[str, bytes]], parities: Mapping[str, Parity], reference: str = "float32"
) -> dict[str, FormatReport]:
    """From the contents of the files by format, and the parity with the reference, to a report by format."""
    seconds = _latencies_s(models)
    return {
        fmt: FormatReport(
            bytes=sum(map(len, files.values())),
            macs=sum(map(count_macs, files.values())),
            latency_ratio=round(seconds[fmt] / seconds[reference], 3),
            left_by_xnnpack={file: left_over(content) for file, content in files.items()},
            parity=parities[fmt],
        )
        for fmt, files in models.items()
    }


def _latencies_s(models: Mapping[str, Mapping[str, bytes]]) -> dict[str, float]:
    """Minimum seconds of one run of all networks; the formats take turns, so that a busy moment affects all of them."""
    loaded = {fmt: [Model(content, name=file) for file, content in files.items()] for fmt, files in models.items()}
    noise = np.random.default_rng(0)
    inputs = {
        shape: noise.standard_normal(shape, np.float32)
        for networks in loaded.values()
        for shape in (network.input_shape for network in networks)
    }
    least = {fmt: [float("inf")] * len(networks) for fmt, networks in loaded.items()}
    for _ in range(_ROUNDS):
        for fmt, networks in loaded.items():
            for number, network in enumerate(networks):
                timing = best_of(lambda n=network: n(inputs[n.input_shape]), 1, _ROUND_S)  # type: ignore[misc]
                least[fmt][number] = min(least[fmt][number], timing.min_s)
    return {fmt: sum(seconds) for fmt, seconds in least.items()}


def draw(reports: Mapping[str, FormatReport], path: Path, title: str) -> None:
    """Plot the lost accuracy, distance of embeddings, size and time of each format as one PNG."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    lost, apart, cost = figure.subplots(1, 3)
    figure.suptitle(title)
    formats = list(reports)
    _draw_losses(lost, reports)
    position = np.arange(len(formats))
    stems = list(next(iter(reports.values())).parity.cosines)
    for number, stem in enumerate(stems):
        at = position + (number - (len(stems) - 1) / 2) * 0.8 / len(stems)
        cosines = [each.parity.cosines[stem] for each in reports.values()]
        apart.bar(at, [max(1 - c.mean, 1e-9) for c in cosines], 0.8 / len(stems), label=f"{stem}, mean")
        apart.plot(at, [max(1 - c.worst, 1e-9) for c in cosines], "v", color="black", markersize=5)
    apart.set(yscale="log", ylabel="1 - cosine to float32 (triangle: worst window)", xticks=position)
    apart.set_xticklabels(formats)
    apart.legend(fontsize=7)
    base = reports[formats[0]].bytes
    cost.bar(position - 0.2, [each.bytes / base for each in reports.values()], 0.4, label="size")
    cost.bar(position + 0.2, [each.latency_ratio for each in reports.values()], 0.4, label="time, one thread")
    cost.set(ylabel=f"against {formats[0]}", xticks=position)
    cost.set_xticklabels(formats)
    cost.axhline(1, color="black", linewidth=0.6)
    cost.legend(fontsize=7)
    figure.savefig(path, dpi=120)


def _draw_losses(axes: Axes, reports: Mapping[str, FormatReport]) -> None:
    for fmt, each in reports.items():
        lengths = list(each.parity.accuracy)
        lost = [100 * (each.parity.reference_accuracy[length] - each.parity.accuracy[length]) for length in lengths]
        axes.plot(lengths, lost, "o-", label=fmt)
    axes.axhline(0.5, color="black", linewidth=0.6, linestyle="--")
    axes.set(xlabel="window in s", ylabel="points of accuracy lost against float32")
    axes.legend(fontsize=7)
