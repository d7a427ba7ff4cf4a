"""train/comparison/ablation.py: one change at a time, and a table for a page."""

from __future__ import annotations

from dataclasses import asdict

import pytest

pytest.importorskip("keras")

from train.comparison.ablation import VARIANTS, as_markdown


def test_each_remedy_changes_one_thing() -> None:
    origin, *remedies = [asdict(config) for config in VARIANTS.values()]
    changed = [sum(remedy[key] != origin[key] for key in origin) for remedy in remedies[:6]]
    assert changed == [1, 1, 1, 2, 1, 1], "more convolutions and more dense layers are one remedy"


def test_the_way_to_the_form_that_fits_changes_one_thing_at_a_time() -> None:
    together, bins, fits, pretrained, pair = [asdict(config) for config in VARIANTS.values()][-5:]
    assert [key for key in together if bins[key] != together[key]] == ["form"]
    assert fits["form"] == "correlation" and fits["start"] == "scratch"
    assert [key for key in fits if pretrained[key] != fits[key]] == ["start"]
    assert [key for key in pair if pair[key] != pretrained[key]] == ["start"]


def test_figures_that_are_not_known_leave_a_gap() -> None:
    assert as_markdown({"mouth": {"train_mae_frames": 1.234}}).splitlines()[-1] == "| mouth | 1.23 | - | - | - | - |"
