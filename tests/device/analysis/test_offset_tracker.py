"""When there is an offset, and otherwise the reason."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import pytest

from device.analysis.analyzer import Analyzer
from device.analysis.offset_tracker import OffsetTracker, judge, least_confidence
from device.bundles.calibration import Calibration, ConfidenceWeights
from device.records import NS_PER_MS, NS_PER_S, Reason, State
from device.sync.evidence_stream import LipEvidence
from device.sync.offset_hmm import Posterior

SEARCH_TICKS = 100
SURE = Posterior(
    offset_ticks=10, std_ticks=1, near=0.999, heard=0.99, at_edge=False, evidence_s=10, heard_s=10, moving=0.0,
    slope_ppm=0.0, slope_std_ppm=0.0,
)  # fmt: skip
UNSURE = replace(SURE, near=0.4)


class Speech:
    """As much of an analyzer as a tracker asks: speech all the time, but for some seconds."""

    def __init__(self, silent_s: tuple[float, float] = (0, 0)) -> None:
        self.reach_ticks, self.calibration = SEARCH_TICKS, Calibration(temperature=4.0)
        self._silent_ns = tuple(round(s * NS_PER_S) for s in silent_s)

    def speech_ratio(self, from_ns: int, to_ns: int) -> float:
        begin, end = self._silent_ns
        return 1 - max(min(to_ns, end) - max(from_ns, begin), 0) / (to_ns - from_ns)

    def low_frame_rate(self, from_ns: int, to_ns: int) -> bool:
        return False


def tracker(speech: Speech | None = None) -> OffsetTracker:
    return OffsetTracker(cast(Analyzer, speech or Speech()), 5.0)


def row(tick: int, offset_ms: float | None) -> LipEvidence:
    """Plain evidence for one offset; None: nobody is in view."""
    curve = np.zeros(2 * SEARCH_TICKS + 1)
    if offset_ms is not None:
        curve = 4 * np.exp(-0.5 * ((np.arange(len(curve)) - SEARCH_TICKS - offset_ms / 10) / 3) ** 2) - 0.5
    return LipEvidence(tick, curve.astype(np.float32), offset_ms is not None)


@pytest.mark.parametrize(
    ("posterior", "face", "speech", "state", "reason"),
    [
        (SURE, 1.0, 1.0, State.MEASURING, None),
        (SURE, 0.1, 1.0, State.MEASURING, Reason.NO_FACE),
        (SURE, 1.0, 0.1, State.MEASURING, Reason.NO_SPEECH),
        (SURE, 1.0, None, State.MEASURING, Reason.NO_SPEECH),
        (replace(SURE, heard=0.1), 1.0, 1.0, State.MEASURING, Reason.VOICE_NOT_OF_THIS_FACE),
        (UNSURE, 1.0, 1.0, State.UNCERTAIN, Reason.AMBIGUOUS),
        (replace(UNSURE, heard=0.1), 1.0, 1.0, State.UNCERTAIN, Reason.VOICE_NOT_OF_THIS_FACE),
        (replace(UNSURE, evidence_s=0.8), 1.0, 1.0, State.UNCERTAIN, Reason.TOO_LITTLE_SPEECH),
        (replace(SURE, at_edge=True), 1.0, 1.0, State.UNCERTAIN, Reason.BEYOND_SEARCH_RANGE),
        (UNSURE, 0.49, 1.0, State.NO_FACE, Reason.NO_FACE),
        (UNSURE, 1.0, 0.29, State.NO_SPEECH, Reason.NO_SPEECH),
        (None, 1.0, 1.0, State.UNCERTAIN, Reason.TOO_LITTLE_SPEECH),
        (None, 0.0, None, State.NO_FACE, Reason.NO_FACE),
    ],
)
def test_what_may_be_said_and_why_not_more(
    posterior: Posterior | None, face: float, speech: float | None, state: State, reason: Reason | None
) -> None:
    said, why, best = judge(posterior, face, speech, Calibration(), remembered=True)
    assert (said, why) == (state, reason)
    assert best is None if posterior is None else best is not None and best.offset_ms == pytest.approx(100, abs=1)


@pytest.mark.parametrize(("face", "speech"), [(0.1, 1.0), (1.0, 0.1)])
def test_without_a_memory_there_is_no_number_without_a_face_and_speech(face: float, speech: float) -> None:
    assert judge(SURE, face, speech, Calibration())[0] in (State.NO_FACE, State.NO_SPEECH)


@pytest.mark.parametrize(("posterior", "state"), [(SURE, State.MEASURING), (UNSURE, State.UNCERTAIN)])
def test_lips_that_are_seen_too_seldom_are_no_missing_face(posterior: Posterior, state: State) -> None:
    said, why, _ = judge(posterior, 0.1, 1.0, Calibration(), remembered=True, low_frame_rate=True)
    assert (said, why) == (state, Reason.LOW_FRAME_RATE)
    assert judge(UNSURE, 1.0, 0.1, Calibration(), low_frame_rate=True)[1] is Reason.NO_SPEECH, "lips were seen"


def test_the_confidence_is_the_calibrated_one() -> None:
    weights = ConfidenceWeights(bias=-1.0, posterior=0.5)
    _, _, best = judge(SURE, 1.0, 1.0, Calibration(confidence=weights))
    assert best is not None and best.confidence == pytest.approx(weights(0.999, 10)) != 0.999


def test_a_number_outlives_a_pause_and_says_how_old_its_evidence_is() -> None:
    followed = tracker(Speech(silent_s=(4, 100)))
    for tick in range(25 * 20):
        followed.push(row(tick, 80.0 if tick < 100 else 200.0 if tick % 2 else 80.0))
    found = followed.result()
    assert found is not None and found.reason is Reason.NO_SPEECH
    assert found.evidence_ns == pytest.approx(4 * NS_PER_S, abs=200 * NS_PER_MS)


def test_a_face_that_looks_away_for_ten_seconds_leaves_the_number() -> None:
    followed = tracker()
    for tick in range(25 * 14):
        followed.push(row(tick, 80.0 if tick < 100 else None))
    found = followed.result()
    assert found is not None and (found.state, found.reason) == (State.MEASURING, Reason.NO_FACE)
    assert found.offset_ms == pytest.approx(80, abs=3) and found.level is None
    for tick in range(25 * 14, 25 * 80):
        followed.push(row(tick, None))
    found = followed.result()
    assert found is not None and (found.state, found.offset_ms) == (State.NO_FACE, None), "not for ever"


def test_the_level_is_what_the_last_seconds_say_by_themselves() -> None:
    followed = tracker()
    for tick in range(25 * 10):
        followed.push(row(tick, 80.0 if tick < 125 else 110.0))
    found = followed.result()
    assert found is not None and found.level is not None
    assert found.level.offset_ms == pytest.approx(110, abs=3)
    assert found.to_ns - found.from_ns == pytest.approx(5.2 * NS_PER_S, abs=80 * NS_PER_MS)


def test_an_offset_that_runs_is_followed_and_its_slope_named() -> None:
    followed = tracker()
    for tick in range(25 * 40):
        followed.push(row(tick, -150.0 + 8.0 * tick / 25))
        found = followed.result()
        if tick > 25 * 25:
            assert found is not None and found.state is State.MEASURING and found.offset_ms is not None
            assert found.offset_ms == pytest.approx(-150.0 + 8.0 * tick / 25, abs=15)
    assert followed.moving and found is not None and found.slope is not None
    assert found.slope[0] == pytest.approx(8000, rel=0.1)


def test_audio_that_was_recorded_twice_has_no_number_for_long() -> None:
    followed = tracker()
    for tick in range(25 * 30):
        early, late = row(tick, 90.0).row, row(tick, -10.0).row
        followed.push(LipEvidence(tick, np.maximum(early, late) - 0.2 * np.abs(early - late), True))
    found = followed.result()
    assert found is not None and (found.state, found.reason) == (State.UNCERTAIN, Reason.AMBIGUOUS)


def test_what_came_before_a_step_is_not_in_the_level() -> None:
    followed = tracker()
    for tick in range(100):
        followed.push(row(tick, 80.0 if tick < 50 else 110.0))
    followed.forget_before(50 * 40 * NS_PER_MS)
    found = followed.result()
    assert found is not None and found.from_ns == 50 * 40 * NS_PER_MS - 100 * NS_PER_MS


def test_before_there_is_anything_there_is_no_result() -> None:
    assert tracker().result() is None and tracker().to_ns is None


def test_until_a_face_has_been_heard_for_three_seconds_more_confidence_is_needed() -> None:
    early, later = replace(SURE, near=0.97, heard_s=2.0), replace(SURE, near=0.97, heard_s=4.0)
    states = [
        judge(posterior, 1.0, 1.0, Calibration(), least_confidence=least_confidence(posterior))[0]
        for posterior in (early, later)
    ]
    assert states == [State.UNCERTAIN, State.MEASURING]
