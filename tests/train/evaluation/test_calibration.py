"""The confidence is the device's own, is calibrated, and is low for unmeasurable input."""

from __future__ import annotations

import numpy as np
import pytest

from device.bundles.calibration import Calibration
from device.errors import InputFormatError
from device.sync.curve import estimate
from tests.train.made import make_track
from train.evaluation.calibration import BIN_EDGES, Curves, Fitted, collect, fitted, judge, reliability
from train.evaluation.tracks import Track

TRUTHS_MS = [20.0, -50.0, 0.0, 80.0, -30.0, 10.0]


def noisy_tracks(noise: float, *, logit_scale: float = 8.0, seconds: float = 8.0, seed: int = 0) -> list[Track]:
    return [
        make_track(offset_ticks=round(truth / 10), seconds=seconds, noise=noise, seed=seed + k, speaker=f"speaker {k}",
                   logit_scale=logit_scale)
        for k, truth in enumerate(TRUTHS_MS)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def hard() -> Fitted:
    return fitted(noisy_tracks(3.0, seconds=12), TRUTHS_MS, np.random.default_rng(0))


def test_the_search_computes_what_the_device_computes() -> None:
    random = np.random.default_rng(3)
    summed = (random.standard_normal((40, 201)) * random.uniform(0.1, 30, (40, 1))).astype(np.float32)
    curves = Curves(summed, random.integers(-90, 90, 40).astype(np.float64))
    nulls = np.array([-3.0, 0.0, 6.0])
    for temperature in (0.7, 8.0):
        found = judge(curves, temperature, nulls)
        for k, null in enumerate(nulls):
            calibration = Calibration(temperature=temperature, null_log_odds=float(null))
            device = [e for curve in summed if (e := estimate(curve, calibration))]
            assert found.confidence[k] == pytest.approx([e.confidence for e in device], abs=1e-9)
            assert found.reported[k].tolist() == [e.confidence >= 0.95 and not e.at_edge for e in device]
            right = [abs(e.offset_ms - 10 * t) <= 40 for e, t in zip(device, curves.truth_ticks, strict=True)]
            assert found.right.tolist() == right


def test_confidence_of_huge_evidence_is_finite() -> None:
    curves = Curves((np.eye(201)[:3] * 1e5 - 1e5).astype(np.float32), np.zeros(3))
    assert np.isfinite(judge(curves, 0.5, np.array([-6.0, 24.0])).confidence).all()


def test_of_what_is_reported_nearly_all_is_right(hard: Fitted) -> None:
    assert hard.windows > 200 and hard.unmeasurable_windows > 150
    assert hard.right_of_reported is not None and hard.right_of_reported >= 0.99
    assert hard.unmeasurable_reported is not None and hard.unmeasurable_reported <= 0.01
    assert 0.02 < hard.reported < 0.98  # neither everything nor nothing


def test_promises_hold_on_tracks_that_were_not_fitted(hard: Fitted) -> None:
    fresh = collect(noisy_tracks(3.0, seconds=20, seed=100), TRUTHS_MS, np.random.default_rng(1))
    c = hard.calibration
    judged = judge(fresh, c.temperature, np.array([c.null_log_odds]))
    for bin_ in reliability(judged.confidence[0], judged.right):
        if bin_.windows > 60:
            assert bin_.right == pytest.approx(bin_.confidence, abs=0.2)
    assert judged.right[judged.reported[0]].mean() > 0.97
    assert judged.reported[0, fresh.unmeasurable].mean() < 0.02


def test_the_calibration_is_that_of_the_towers_scale(hard: Fitted) -> None:
    assert hard.calibration.logit_scale == 8.0


def test_louder_evidence_of_the_same_towers_is_cooled(hard: Fitted) -> None:
    loud = fitted(noisy_tracks(3.0, logit_scale=16.0), TRUTHS_MS, np.random.default_rng(0)).calibration
    assert loud.temperature > 1.5 * hard.calibration.temperature


def test_clear_towers_report_nearly_everything() -> None:
    clear = fitted(noisy_tracks(0.3), TRUTHS_MS, np.random.default_rng(0))
    assert clear.reported > 0.9
    assert clear.log_loss < 0.2


def test_blind_towers_report_nearly_nothing() -> None:
    blind = fitted(noisy_tracks(1000.0), TRUTHS_MS, np.random.default_rng(0))
    assert blind.reported < 0.01


def test_unmeasurable_windows_are_marked_and_never_right() -> None:
    curves = collect(noisy_tracks(0.3, seconds=6), TRUTHS_MS, np.random.default_rng(0))
    right = judge(curves, 2.0, np.zeros(1)).right
    assert right[~curves.unmeasurable].mean() > 0.95
    assert curves.unmeasurable.any() and not right[curves.unmeasurable].any()
    assert curves.summed.shape == (len(right), 201)


def test_silence_is_not_collected() -> None:
    silent = noisy_tracks(0.3, seconds=6)
    for t in silent:
        t.clip.speech[:] = False
    assert len(collect(silent, TRUTHS_MS, np.random.default_rng(0)).truth_ticks) == 0
    with pytest.raises(InputFormatError, match="calibration clips"):
        fitted(silent, TRUTHS_MS, np.random.default_rng(0))


def test_reliability_by_hand() -> None:
    table = reliability(np.array([0.0, 0.05, 0.96, 1.0, 0.97]), np.array([False, True, True, True, False]))
    assert [(b.low, b.high, b.windows, b.right) for b in table] == [
        (0.0, 0.1, 2, 0.5), (0.95, 0.99, 2, 0.5), (0.99, 1.0, 1, 1.0)
    ]  # fmt: skip
    assert table[0].confidence == pytest.approx(0.025)
    assert reliability(np.empty(0), np.empty(0, np.bool_)) == ()
    assert list(BIN_EDGES) == sorted(BIN_EDGES)
