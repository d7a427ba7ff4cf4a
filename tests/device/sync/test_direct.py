"""device/sync/direct.py: evidence of features at all lags, by a head that is the same everywhere."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest

from device.bench.pipeline import SAMPLE
from device.bundles.bundle import DEFAULT_BUNDLE, DIRECT_BUNDLE, load_bundle
from device.bundles.calibration import Calibration
from device.bundles.model_kinds import DIRECT
from device.cli import main
from device.features.model_download import fetch_face_model
from device.sync.curve import Floats
from device.sync.direct import direct_evidence
from device.sync.evidence_stream import EvidenceStream, LipEvidence
from device.towers.blocks import Embeddings

SEARCH, FEATURES = 60, 32


def summed(image: Floats) -> Floats:
    """A head without weights: all groups' products together, five times."""
    return np.asarray(5 * image.sum(-1), np.float32)


def made(offset_ticks: int, seed: int = 0) -> tuple[Floats, Floats]:
    """30 lip windows and the sound around them, `offset_ticks` early; sound begins 100 ticks before the lips."""
    random = np.random.default_rng(seed)
    audio = random.standard_normal((4 * 30 + 200, FEATURES)).astype(np.float32)
    return audio[100 - offset_ticks + 4 * np.arange(30)], audio


@pytest.mark.parametrize("offset_ticks", [-60, -13, 0, 7, 60])
def test_the_offset_that_was_built_in_has_the_most_evidence(offset_ticks: int) -> None:
    lips, audio = made(offset_ticks)
    rows = direct_evidence(lips, np.ones(30, np.bool_), 0, audio, np.ones(len(audio), np.bool_), -100, SEARCH, summed)
    assert rows.shape == (30, 2 * SEARCH + 1)
    assert np.argmax(rows.sum(0)) - SEARCH == offset_ticks


def test_what_was_not_seen_or_heard_says_nothing() -> None:
    lips, audio = made(0)
    valid, heard = np.ones(30, np.bool_), np.ones(len(audio), np.bool_)
    valid[3], heard[150] = False, False
    rows = direct_evidence(lips, valid, 0, audio, heard, -100, SEARCH, summed)
    assert not rows[3].any() and rows[4].any()
    lags = SEARCH - (150 - 100 - 4 * np.arange(30))
    assert not any(rows[tick, lag] for tick, lag in enumerate(lags) if 0 <= lag <= 2 * SEARCH)
    assert not direct_evidence(lips, valid, 0, audio[:0], heard[:0], 0, SEARCH, summed).any()


def test_evidence_is_relative_to_the_mean_of_a_row() -> None:
    lips, audio = made(0)
    rows = direct_evidence(lips, np.ones(30, np.bool_), 0, audio, np.ones(len(audio), np.bool_), -100, SEARCH, summed)
    assert np.exp(rows).mean(1) == pytest.approx(np.ones(30), rel=1e-4)


def test_the_stream_scores_as_the_whole_does() -> None:
    lips, audio = made(5)
    stream = EvidenceStream(SEARCH, Calibration(), partial(direct_evidence, head=summed))
    found: list[LipEvidence] = []
    for start in range(0, len(audio), 40):
        part = audio[start : start + 40]
        found += stream.push_audio(Embeddings(start - 100, part, np.ones(len(part), np.bool_)))
        first = start * 30 // len(audio)
        piece = lips[first : (start + 40) * 30 // len(audio)]
        if len(piece):
            found += stream.push_lips(Embeddings(first, piece, np.ones(len(piece), np.bool_)))
    found += stream.finish()
    whole = direct_evidence(
        lips, np.ones(30, np.bool_), 0, audio, np.ones(len(audio), np.bool_), -100, SEARCH, summed
    )  # fmt: skip
    assert [row.tick for row in found] == list(range(30))
    assert np.stack([row.row for row in found]) == pytest.approx(whole, abs=1e-4)


def test_the_built_in_network_is_right_on_the_sample(capsys: pytest.CaptureFixture[str]) -> None:
    """Its sound is 80 ms early, from 16 s on 160 ms late, from 32 s on 240 ms early; windows of 4 s lie between."""
    fetch_face_model()
    assert main(["measure", str(SAMPLE), "--model", "direct", "--window", "4", "--json"]) == 0
    windows = json.loads(capsys.readouterr().out)["windows"]
    truths_ms = np.repeat([80, -160, 240], 4)
    sure = [window["state"] == "measuring" for window in windows]
    errors_ms = [window["offset_ms"] - truth for window, truth in zip(windows, truths_ms, strict=False)]
    assert np.sum(np.abs(errors_ms) <= 40) >= len(errors_ms) - 1
    assert np.mean(sure) >= 0.5 and all(abs(e) <= 40 for e, is_sure in zip(errors_ms, sure, strict=False) if is_sure)


def test_the_built_in_network_is_small_and_lost_nothing() -> None:
    bundle = load_bundle(DIRECT_BUNDLE, (DIRECT,))
    assert sum((DIRECT_BUNDLE / name).stat().st_size for name in DIRECT.files) < 1_000_000
    parity = bundle.manifest["parity"]["parity"]
    losses = [share - parity["accuracy"][length] for length, share in parity["reference_accuracy"].items()]
    assert max(losses) <= 0.005


def test_another_kind_of_bundle_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", "any.mkv", "--model", "direct", "--bundle", str(DEFAULT_BUNDLE)]) == 4
    assert "towers" in capsys.readouterr().err
