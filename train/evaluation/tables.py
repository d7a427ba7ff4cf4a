"""An evaluation as text for a terminal and as Markdown for a page."""

from __future__ import annotations

from train.evaluation.metrics import Figures
from train.evaluation.protocol import CORPUS_WINDOW_S, CUT_OUT_SEARCH_FRAMES, SEARCHES_FRAMES, Evaluation, Row

Table = tuple[str, list[str], list[list[str]]]  # title, head, body


def as_text(evaluation: Evaluation) -> str:
    """Columns aligned with spaces."""
    parts = [_summary(evaluation)]
    parts += [text_of(table) for table in tables(evaluation)]
    return "\n\n".join(parts) + "\n"


def text_of(table: Table) -> str:
    """One table, its columns aligned with spaces."""
    title, head, body = table
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in [head, *body]]
    return "\n".join([title, *lines])


def as_markdown(evaluation: Evaluation) -> str:
    """As GitHub tables."""
    parts = ["# Evaluation", _summary(evaluation)]
    for title, head, body in tables(evaluation):
        parts.append("\n".join([f"## {title}", "", *markdown_of(head, body)]))
    return "\n\n".join(parts) + "\n"


def markdown_of(head: list[str], body: list[list[str]]) -> list[str]:
    """The lines of one table."""
    return ["| " + " | ".join(line) + " |" for line in [head, ["---:"] * len(head), *body]]


def tables(evaluation: Evaluation) -> list[Table]:
    """All tables, as strings; omits tables without rows."""
    found: list[Table] = []
    for frames in SEARCHES_FRAMES:
        rows = [row for row in evaluation.rows if row.search_frames == frames and row.speech.windows]
        found.append(
            (f"Windows with speech, search of ±{frames} frames", _ACCURACY_HEAD, [_accuracy(row) for row in rows])
        )
    title = f"Windows cut out of their clip, search of ±{CUT_OUT_SEARCH_FRAMES} frames"
    found.append((title, _ACCURACY_HEAD, [_accuracy(row) for row in evaluation.cut_out if row.speech.windows]))
    silent = [
        [f"±{r.search_frames}", f"{r.window_s:g}", *_basic(r.silent)] for r in evaluation.rows if r.silent.windows
    ]
    found.append(("Windows without speech", ["search", "window s", *_BASIC_HEAD], silent))
    trust = [
        [
            f"{r.window_s:g}", str(r.speech.windows), share(r.speech.reported), share(r.speech.right_of_reported),
            _number(r.speech.rmse_of_reported_frames, 1), _number(r.speech.calibration_error, 3),
            _range(r.speech.calibration_error_low, r.speech.calibration_error_high), _number(r.speech.brier_score, 3),
            _range(r.speech.brier_low, r.speech.brier_high),
        ]
        for r in evaluation.rows if r.search_frames == SEARCHES_FRAMES[-1] and r.speech.windows
    ]  # fmt: skip
    found.append(
        (
            f"Trust, search of ±{SEARCHES_FRAMES[-1]} frames",
            [
                "window s",
                "windows",
                "with a number %",
                "of these right %",
                "their RMSE in frames",
                "calibration error",
                "95 %",
                "Brier score",
                "95 % of it",
            ],
            trust,
        )
    )
    unmeasurable = [[h.kind, f"{h.window_s:g}", str(h.windows), share(h.numbered)] for h in evaluation.unmeasurable]
    found.append(("Unmeasurable input", ["kind", "window s", "windows", "given a number %"], unmeasurable))
    corpora = [[name, str(f.speakers), *_basic(f), _interval(f)] for name, f in evaluation.corpora.items() if f.windows]
    title = f"By corpus, {CORPUS_WINDOW_S:g} s, search of ±{SEARCHES_FRAMES[-1]} frames"
    found.append((title, ["corpus", "speakers", *_BASIC_HEAD, "95 %"], corpora))
    bins = [
        [f"{b.low:g} to {b.high:g}", str(b.windows), share(b.confidence), share(b.right)]
        for b in evaluation.reliability
    ]
    found.append(("Confidence", ["from, to", "windows", "promised %", "right %"], bins))
    return [table for table in found if table[2]]


_BASIC_HEAD = ["windows", "within a frame %", "RMSE frames", "median ms"]
_ACCURACY_HEAD = ["window s", *_BASIC_HEAD, "95 %", "always 0: %", "RMSE"]


def _accuracy(row: Row) -> list[str]:
    zero = [share(row.zero.within_frame), _number(row.zero.rmse_frames, 1)]
    return [f"{row.window_s:g}", *_basic(row.speech), _interval(row.speech), *zero]


def _basic(f: Figures) -> list[str]:
    return [str(f.windows), share(f.within_frame), _number(f.rmse_frames, 1), _number(f.median_error_ms, 0)]


def _interval(f: Figures) -> str:
    return f"{share(f.low)} to {share(f.high)}" if f.low is not None else "one speaker"


def _range(low: float | None, high: float | None) -> str:
    return f"{low:.3f} to {high:.3f}" if low is not None and high is not None else "one speaker"


def share(value: float | None) -> str:
    """As a percentage."""
    return _number(None if value is None else 100 * value, 1)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _summary(e: Evaluation) -> str:
    lines = [f"{e.model}: {e.clips} clips of {e.speakers} speakers. Truth: {e.truth}."]
    if e.unsure_truth:
        lines.append(f"The truth is itself unsure for {len(e.unsure_truth)}: {', '.join(e.unsure_truth)}.")
    if e.left_out:
        lines.append(f"Left out, truth unknown: {len(e.left_out)} clips.")
    if e.slicing_difference_ms is not None:
        lines.append(f"Slicing for real differs from shifting ticks by at most {e.slicing_difference_ms:.1f} ms.")
    return "\n".join(lines)
