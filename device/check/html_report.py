"""Rows as one self-contained page: no external script, font or image. Curves are inline SVG."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

from device import __version__
from device.check.row import Row, Rules, ends_ms, offset_text
from device.check.tables import cannot_write, totals, worst_first
from device.printable import printable, shown_name
from device.records import Verdict
from device.standards import Profile, severity

_WIDTH, _HEIGHT, _MARGIN = 260, 56, 4
_MAX_POINTS = 150  # per curve: more than one for two pixels are not visible
_DOT = 2.0

_SCRIPT = """
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th"), body = document.querySelector("tbody");
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of document.querySelectorAll("th")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = row => row.cells[head.cellIndex].dataset.key;
    const compare = head.dataset.kind === "number"
      ? (a, b) => (key(a) === "") - (key(b) === "") || (down ? key(b) - key(a) : key(a) - key(b))
      : (a, b) => (down ? -1 : 1) * key(a).localeCompare(key(b));
    body.append(...[...body.rows].sort(compare));
  });
}
"""
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --band: #2a93; --curve: #06c; --fail: #c22; --warn: #a60; --ok: #283; }
@media (prefers-color-scheme: dark) { :root { --curve: #6bf; --fail: #f77; --warn: #fb4; --ok: #7d8; } }
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem; }
table { border-collapse: collapse; width: 100%; }
th { text-align: left; border-bottom: 2px solid var(--line); white-space: nowrap; }
th button { font: inherit; font-weight: 600; background: none; border: 0; padding: .3rem 0; color: inherit; }
th button { cursor: pointer; }
th[aria-sort=ascending] button::after { content: " ▲"; }
th[aria-sort=descending] button::after { content: " ▼"; }
td { border-bottom: 1px solid var(--line); padding: .3rem .8rem .3rem 0; vertical-align: top; }
th { padding-right: .8rem; }
td.file { overflow-wrap: anywhere; min-width: 14rem; }
td.number { white-space: nowrap; font-variant-numeric: tabular-nums; }
.failed, .unreadable { color: var(--fail); } .unknown { color: var(--warn); } .passed { color: var(--ok); }
.result { font-weight: 600; }
small { opacity: .75; display: block; }
svg { display: block; } svg .band { fill: var(--band); } svg .zero { stroke: var(--line); }
svg .bar { stroke: var(--curve); opacity: .35; } svg .dot { fill: var(--curve); } svg .piece { stroke: currentColor; }
svg .step { stroke: var(--fail); }
"""
_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="$policy">
<title>avdrift check: $totals</title>
<style>$style</style>
</head>
<body>
<h1>avdrift check</h1>
<p>$totals. $about</p>
<table>
<thead><tr>$heads</tr></thead>
<tbody>
$rows
</tbody>
</table>
<p><small>Positive offsets: audio early. Each dot is 5 s with its standard error, the band is what the limits allow,
red lines are steps, black ones what holds between them. avdrift $version, $model.</small></p>
<script>$script</script>
</body>
</html>
""")
_HEADS = (
    ("file", "text"), ("result", "number"), ("offset", "number"), ("verdict", "number"), ("drift", "number"),
    ("length", "number"), ("offset over time", "number"),
)  # fmt: skip


def write_html(rows: Sequence[Row], rules: Rules, path: Path) -> None:
    """Write the page, worst first. Raises UsageError if it cannot be written."""
    limits = rules.limits
    page = _PAGE.substitute(
        totals=escape(totals(rows)), style=_STYLE, script=_SCRIPT, version=__version__, model=escape(rules.model),
        policy=f"default-src 'none'; style-src '{_hash(_STYLE)}'; script-src '{_hash(_SCRIPT)}'",
        about=f"Limits: {limits.acceptable_late_ms:+g} to {limits.acceptable_early_ms:+g} ms ({rules.profile}).",
        heads="".join(f'<th data-kind="{kind}"><button>{name}</button></th>' for name, kind in _HEADS),
        rows="\n".join(_table_row(row, rank, limits) for rank, row in enumerate(worst_first(rows))),
    )  # fmt: skip
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise cannot_write(path, error) from error


def _hash(text: str) -> str:
    """The hash of the page's own style or script, so that no other can run in it."""
    return f"sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _table_row(row: Row, rank: int, limits: Profile) -> str:
    found = row.measured or {}
    name, problem = escape(shown_name(row.file)), escape(printable(row.problem or found.get("damaged") or ""))
    verdict = Verdict(found.get("verdict", Verdict.UNKNOWN))
    severest = Verdict(found["verdict_range"][1]) if found.get("verdict_range") else Verdict.UNKNOWN
    drift_ppm, length_s = found.get("drift_ppm"), found.get("duration_s")
    offset = offset_text(found) if row.measured else "-"
    cells = (
        f'<td class="file" data-key="{name}">{name}<small>{problem}</small></td>',
        f'<td class="result {row.result}" data-key="{rank}">{row.result}</td>',
        _number_cell(max(ends_ms(found), key=abs, default=None), offset),
        f'<td data-key="{severity(severest)}">{verdict.replace("_", " ") if row.measured else "-"}</td>',
        _number_cell(drift_ppm, "-" if drift_ppm is None else f"{drift_ppm:+.1f} ±{found['drift_std_ppm']:.1f} ppm"),
        _number_cell(length_s, "-" if length_s is None else f"{length_s // 60:.0f}:{length_s % 60:04.1f}"),
        f'<td data-key="{len(row.curve)}">{_curve(row, limits) if ends_ms(found) else ""}</td>',
    )
    return f"<tr>{''.join(cells)}</tr>"


def _number_cell(value: float | None, text: str) -> str:
    return f'<td class="number" data-key="{"" if value is None else value}">{escape(text)}</td>'


def _curve(row: Row, limits: Profile) -> str:
    """The offset over time, over the band of the limits."""
    assert row.measured is not None
    end_s = max(row.measured["duration_s"], *(t_s for t_s, _, _ in row.curve), 1.0)
    points = row.curve[:: max(-(-len(row.curve) // _MAX_POINTS), 1)]
    shown_ms = [*(offset_ms for _, offset_ms, _ in points), *ends_ms(row.measured)]
    low_ms = min(*shown_ms, 1.2 * limits.acceptable_late_ms, -1.0)
    high_ms = max(*shown_ms, 1.2 * limits.acceptable_early_ms, 1.0)

    def x(t_s: float) -> float:
        return round(_MARGIN + (_WIDTH - 2 * _MARGIN) * t_s / end_s, 1)

    def y(offset_ms: float) -> float:
        return round(_HEIGHT - _MARGIN - (_HEIGHT - 2 * _MARGIN) * (offset_ms - low_ms) / (high_ms - low_ms), 1)

    top, bottom = y(limits.acceptable_early_ms), y(limits.acceptable_late_ms)
    shapes = [
        f'<rect class="band" x="0" y="{top}" width="{_WIDTH}" height="{round(bottom - top, 1)}"/>',
        f'<line class="zero" x1="0" x2="{_WIDTH}" y1="{y(0)}" y2="{y(0)}"/>',
        *(f'<line class="piece" x1="{x(piece["from_s"])}" x2="{x(piece["to_s"])}" '
          f'y1="{y(piece["from_offset_ms"])}" y2="{y(piece["to_offset_ms"])}"/>'
          for piece in row.measured["pieces"] if piece["from_offset_ms"] is not None),
        *(f'<line class="step" x1="{x(step["t_s"])}" x2="{x(step["t_s"])}" y1="0" y2="{_HEIGHT}"/>'
          for step in row.measured["steps"]),
        *(f'<line class="bar" x1="{x(t_s)}" x2="{x(t_s)}" y1="{y(ms - std_ms)}" y2="{y(ms + std_ms)}"/>'
          for t_s, ms, std_ms in points),
        *(f'<circle class="dot" cx="{x(t_s)}" cy="{y(ms)}" r="{_DOT}"/>' for t_s, ms, _ in points),
    ]  # fmt: skip
    title = escape(f"{min(shown_ms):+.0f} to {max(shown_ms):+.0f} ms over {end_s:.0f} s")
    size = f'width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    return f'<svg {size} role="img" aria-label="{title}"><title>{title}</title>{"".join(shapes)}</svg>'
