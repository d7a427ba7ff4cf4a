"""The page as a browser has it: curves within their picture, names that stay text."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device.check.html_report import write_html
from device.check.row import Result
from tests.device.check.test_row import PIECE, RULES, measured, row

CURVES = st.lists(st.tuples(st.floats(0, 9), st.floats(-1200, 1200), st.floats(0, 50)), min_size=1, max_size=400)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(curve=CURVES, end_ms=st.floats(-1200, 1200))
def test_every_dot_lies_within_the_picture(
    tmp_path: Path, curve: list[tuple[float, float, float]], end_ms: float
) -> None:
    found = measured("in_sync", pieces=[PIECE | {"from_offset_ms": end_ms}])
    write_html([replace(row(found=found), curve=curve)], RULES, tmp_path / "out.html")
    page = (tmp_path / "out.html").read_text(encoding="utf-8")
    shapes = re.findall(r'<circle class="dot" cx="([-\d.]+)" cy="([-\d.]+)"', page)
    assert 0 < len(shapes) <= 150
    assert all(0 <= float(x) <= 260 and 0 <= float(y) <= 56 for x, y in shapes)
    assert all(0 <= float(y) <= 56 for y in re.findall(r'class="piece" [^>]*y1="([-\d.]+)"', page))


def test_the_worst_come_first_and_nothing_in_a_name_is_markup(tmp_path: Path) -> None:
    rows = [row(), row(Result.FAILED, '"><script>alert(1)</script>.mkv', measured("unacceptable")),
            row(Result.UNREADABLE, "b.mkv")]  # fmt: skip
    write_html(rows, RULES, tmp_path / "out.html")
    page = (tmp_path / "out.html").read_text(encoding="utf-8")
    assert page.count("<script>") == 1
    order = re.findall(r'class="result (\w+)"', page)
    assert order == ["unreadable", "failed", "passed"]
