"""Short runs are evaluated on a few windows, because these tests do not ask what they have learnt."""

from __future__ import annotations

from functools import partial

import pytest


@pytest.fixture(autouse=True)
def judged_on_few(monkeypatch: pytest.MonkeyPatch) -> None:
    direct = pytest.importorskip("train.fit.direct")
    for judge in ("judge_correlation", "judge_concat"):
        monkeypatch.setattr(direct, judge, partial(getattr(direct, judge), count=4))
