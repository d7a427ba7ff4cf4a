"""Joined recordings have the given truth, and the figures count correctly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from device.bundles.calibration import Calibration
from device.errors import InputMissingError
from device.sync.curve import estimate
from tests.train.made import make_track
from train.evaluation.report_precision import SEARCH_TICKS, joined, report, trust

CALIBRATION = Calibration(logit_scale=14.0, temperature=6.0, null_log_odds=0.0)


def test_the_truth_of_a_joined_recording_is_where_its_evidence_lies() -> None:
    tracks = [make_track(seed=k, speaker="abc"[k], seconds=8) for k in range(3)]
    stream = joined(tracks, [0.0] * 3, 2, np.random.default_rng(0))
    assert len(stream.rows) == 2 * sum(len(t.lips) for t in tracks) == len(stream.truth_ms)
    assert stream.rows.shape[1] == 2 * SEARCH_TICKS + 1
    assert len(stream.begins) == 6 and len(set(stream.truth_ms)) == 6
    for begin, end in zip(stream.begins, [*stream.begins[1:], len(stream.rows)], strict=True):
        found = estimate(stream.rows[begin + 25 : end - 25].sum(0), CALIBRATION)
        assert found is not None
        assert found.offset_ms == pytest.approx(stream.truth_ms[begin], abs=10)
        assert len(set(stream.truth_ms[begin:end])) == 1


def test_clear_speech_is_measured_rightly_and_soon() -> None:
    tracks = [make_track(seed=k, speaker="abc"[k], seconds=12) for k in range(3)]
    found = trust(joined(tracks, [0.0] * 3, 2, np.random.default_rng(0)), 5.0, CALIBRATION)
    assert found.right_of_settled == 1.0
    assert found.stretches == 6 and found.stretches_measured == 1.0
    assert found.median_first_s is not None and found.median_first_s < 3


def test_a_wrong_truth_makes_every_report_wrong() -> None:
    tracks = [make_track(seed=k, speaker="abc"[k], seconds=12) for k in range(3)]
    found = trust(joined(tracks, [200.0] * 3, 1, np.random.default_rng(0)), 5.0, CALIBRATION)
    assert found.measuring and found.right_of_settled == 0.0
    assert found.stretches_measured == 0.0 and found.median_first_s is None


def test_without_speech_there_is_nothing_to_share_out() -> None:
    t = make_track(seconds=12)
    silent = replace(t, clip=replace(t.clip, speech=np.zeros_like(t.clip.speech)))
    found = trust(joined([silent], [0.0], 1, np.random.default_rng(0)), 5.0, CALIBRATION)
    assert found.reports == len(silent.lips) // 25 and found.measuring == 0
    assert found.right_of_measuring is None and found.stretches == 0 and found.stretches_measured is None


def test_strangers_voices_are_never_right() -> None:
    clips = [(make_track(seed=k, speaker="ab"[k], seconds=12), 0.0) for k in range(2)]
    found = report(clips, CALIBRATION, window_s=5.0, rounds=1, seed=0)
    assert found["speakers"]["right_of_settled"] == 1.0
    assert found["strangers_voices"]["measuring"] == 0
    assert found["still_mouths"]["measuring"] == 0 and found["still_mouths"]["reports"] > 20
    assert found["by_turns"]["reports"] > found["speakers"]["reports"]


def test_one_speaker_is_not_enough() -> None:
    with pytest.raises(InputMissingError, match="two speakers"):
        report([(make_track(), 0.0)], CALIBRATION, window_s=5.0, rounds=1, seed=0)
