"""`work/report.html`: the training so far, the clips that were left out and why, and the remaining errors.

One file without scripts, written atomically, so that it can be read while the work goes on.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from device.sync.curve import TICK_MS
from train.data.clip_table import clip_of_shard
from train.models.run_files import WATCHED

REPORT = "report.html"
_STYLE = (
    "body{font:15px sans-serif;max-width:60em;margin:2em auto}td,th{padding:0 1em 0 0;text-align:left}"
    "svg{height:auto;max-width:100%}"
)


def write_report(work: Path, clips: Path) -> None:
    """Write the page of a work folder; `clips` is the folder that it links to."""
    page = "\n".join(_page(work, clips))
    partial = work / f"{REPORT}.part"
    partial.write_text(page, encoding="utf-8")
    partial.replace(work / REPORT)


def _page(work: Path, clips: Path) -> Iterator[str]:
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(work.name)}</title>'
    yield f"<style>{_STYLE}</style><h1>Retraining in {escape(str(work))}</h1>"
    if (gate := work / "gate" / "gate.txt").is_file():
        yield f"<h2>Beside the models before</h2><pre>{escape(gate.read_text(encoding='utf-8'))}</pre>"
    for log in sorted(work.glob("**/log.jsonl"), key=lambda path: path.stat().st_mtime, reverse=True):
        epochs = _epochs(log)
        if epochs:
            yield f"<h2>{escape(str(log.parent.relative_to(work)))}: epoch {epochs[-1]['epoch']}</h2>"
            yield _drawn(lambda axes, rows=epochs: _draw_epochs(axes, rows), 3)
            yield from _watched(log.with_name(WATCHED), clips, work)
    yield from _left_out(work, clips)
    yield "</html>"


def _epochs(log: Path) -> list[dict[str, Any]]:
    """The last line of each epoch, because a killed training may have written one twice."""
    rows = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
            rows[int(row["epoch"])] = row
        except (ValueError, KeyError, TypeError):  # the line that is being written
            continue
    return [rows[epoch] for epoch in sorted(rows)]


def _draw_epochs(axes: Sequence[Axes], rows: Sequence[Mapping[str, Any]]) -> None:
    at = [row["epoch"] for row in rows]
    axes[0].plot(at, [row["loss"] for row in rows], "o-")
    axes[0].set(title="loss", xlabel="epoch")
    for name in sorted({key for row in rows for key in row if key.endswith("s") and key[0].isdigit()}):
        to_dict = [(row["epoch"], 100 * row[name]) for row in rows if row.get(name) is not None]
        axes[1].plot(*zip(*to_dict, strict=True), "o-", label=name)
    axes[1].set(title="validation windows right, %", xlabel="epoch")
    if axes[1].lines:
        axes[1].legend()
    axes[2].plot(at, [float(row.get("rate", 0)) for row in rows], "o-")
    axes[2].set(title="learning rate", xlabel="epoch")


def _watched(file: Path, clips: Path, work: Path) -> Iterator[str]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if found["reliability"]:
        yield "<h3>Confidence against what is right</h3>"
        yield _drawn(lambda axes: _draw_reliability(axes[0], found["reliability"]), 1)
    if found["worst"]:
        yield "<h3>The worst windows of 2 s</h3><table><tr><th>clip<th>at<th>error<th>confidence<th>curve</tr>"
        for row in found["worst"]:
            yield (
                f"<tr><td>{_link(row['clip'], clips, work)}<td>{row['at_s']} s<td>{row['error_ms']} ms"
                f"<td>{row['confidence']}<td>{_curve(row)}</tr>"
            )
        yield "</table>"


def _draw_reliability(axes: Axes, bins: Sequence[Mapping[str, Any]]) -> None:
    axes.plot([0, 1], [0, 1], color="gray", linewidth=0.8)
    axes.plot([each["confidence"] for each in bins], [each["right"] for each in bins], "o-")
    axes.set(xlabel="confidence", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1))


def _curve(row: Mapping[str, Any]) -> str:
    """A small plot: evidence by offset, the truth as a line."""
    values = row["curve"]
    reach = len(values) // 2

    def draw(axes: Sequence[Axes]) -> None:
        axes[0].plot([(k - reach) * TICK_MS for k in range(len(values))], values, linewidth=0.8)
        axes[0].axvline(row["truth_ms"], color="green", linewidth=0.8)
        axes[0].set(xticks=[], yticks=[])

    return _drawn(draw, 1, size=(2.4, 0.6))


def _left_out(work: Path, clips: Path) -> Iterator[str]:
    """Clips that are not trained on, each with the reason."""
    logs = [log.read_text(encoding="utf-8", errors="replace") for log in sorted(work.glob("prepare*/log.txt"))]
    skipped = [line for log in logs for line in log.splitlines() if line.startswith("skipped: ")]
    try:
        table = json.loads((work / "clean" / "offsets.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        table = {}
    dropped = {name: row for name, row in table.items() if row.get("dropped")}
    if not skipped and not dropped:
        return
    yield f"<h2>Clips left out: {len(set(skipped)) + len(dropped)}</h2><ul>"
    for line in dict.fromkeys(skipped):
        yield f"<li>{escape(line.removeprefix('skipped: '))}"
    for name, row in sorted(dropped.items()):
        yield f"<li>{_link(name, clips, work)}: sound and lips do not fit ({row.get('gain')} nats a window)"
    yield "</ul>"


def _link(name: str, clips: Path, work: Path) -> str:
    """A link to a shard's recording, if its name tells which one."""
    file = clip_of_shard(name)
    if not (clips / file).is_file():
        return escape(name)
    return f'<a href="{escape(quote(os.path.relpath(clips / file, work)))}">{escape(file)}</a>'


def _drawn(draw: Any, count: int, size: tuple[float, float] | None = None) -> str:
    figure = Figure(figsize=size or (4 * count, 3), layout="constrained")
    draw(figure.subplots(1, count, squeeze=False)[0])
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]
