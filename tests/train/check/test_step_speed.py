"""train/check/step_speed.py: it really trains on a batch, and the command line enables oneDNN."""

from __future__ import annotations

import os

import pytest

from train.check.step_speed import seconds_a_batch
from train.cli import main

pytest.importorskip("keras")


@pytest.mark.slow
def test_a_batch_takes_its_time() -> None:
    assert 0 < seconds_a_batch(steps=1) < 600


@pytest.mark.parametrize(("given", "kept"), [(None, "1"), ("0", "0")])
def test_the_command_line_asks_for_onednn_unless_told_otherwise(
    given: str | None, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    if given is not None:
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", given)
    with pytest.raises(SystemExit):
        main(["--version"])
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == kept
