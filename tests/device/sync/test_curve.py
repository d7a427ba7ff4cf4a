"""From synthetic embeddings with a known offset to an estimate: sign, precision, gaps, confidence."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device.bundles.calibration import Calibration
from device.records import Estimate
from device.sync.curve import Floats, estimate, evidence, unit

SEARCH = 100
SIZE = 32
SCALE = 12.0
PLAIN = Calibration(logit_scale=SCALE, temperature=4.0)


def smooth_track(ticks: int, seed: int, width: float = 6.0) -> Floats:
    """Unit embeddings that change as slowly as speech does: neighbours within `width` ticks are alike."""
    noise = np.random.default_rng(seed).standard_normal((ticks + 80, SIZE))
    kernel = np.exp(-0.5 * (np.arange(-40, 41) / width) ** 2)
    return unit(np.stack([np.convolve(noise[:, k], kernel, "valid") for k in range(SIZE)], 1).astype(np.float32))


def pair(
    offset_ticks: float, lips: int = 100, seed: int = 0, noise: float = 0.0, from_lip: int = 0, from_audio: int = -200
) -> tuple[Floats, int, Floats, int]:
    """Lips and sound of one speaker; the audio is `offset_ticks` ahead of the picture: heard before it is seen."""
    fine = 8
    speech = smooth_track((lips * 4 + 800) * fine, seed, 6.0 * fine)
    lip_ticks = np.arange(from_lip, from_lip + lips)
    audio_ticks = np.arange(from_audio, from_audio + lips * 4 + 400)
    # What is seen at time t is heard at time t - offset, so the sound at time u belongs to the picture at u + offset.
    moment = 400 * fine
    seen = speech[np.round(moment + (lip_ticks - from_lip) * 4 * fine).astype(int)]
    heard = speech[np.round(moment + (audio_ticks + offset_ticks - from_lip * 4) * fine).astype(int)]
    rng = np.random.default_rng(seed + 1)
    seen, heard = (a + noise * rng.standard_normal(a.shape).astype(np.float32) / np.sqrt(SIZE) for a in (seen, heard))
    return seen * 3, from_lip, heard * 5, from_audio


def rows_of(
    parts: tuple[Floats, int, Floats, int], lips_valid: npt.NDArray[np.bool_] | None = None,
    audio_valid: npt.NDArray[np.bool_] | None = None,
) -> Floats:  # fmt: skip
    lips, lips_first, audio, audio_first = parts
    lips_valid = np.ones(len(lips), np.bool_) if lips_valid is None else lips_valid
    audio_valid = np.ones(len(audio), np.bool_) if audio_valid is None else audio_valid
    return evidence(lips, lips_valid, lips_first, audio, audio_valid, audio_first, SEARCH, SCALE)


def found(rows: Floats, calibration: Calibration = PLAIN) -> Estimate:
    result = estimate(rows.sum(0), calibration)
    assert result is not None
    return result


def test_itu_r_bt1359_positive_is_audio_early() -> None:
    """A click heard 300 ms before it is seen is an offset of +300 ms, and -300 ms when it is heard after."""
    for heard_at_tick, offset_ms in ((370, 300.0), (430, -300.0), (400, 0.0)):
        lips, audio = np.zeros((200, 2), np.float32), np.zeros((900, 2), np.float32)
        lips[:, 0] = audio[:, 0] = 1
        lips[100] = audio[heard_at_tick] = (0, 1)  # seen at lip tick 100, that is 4.00 s
        rows = evidence(lips, np.ones(200, np.bool_), 0, audio, np.ones(900, np.bool_), 0, SEARCH, SCALE)
        result = estimate(rows[100:101].sum(0), PLAIN)
        assert result is not None and result.offset_ms == pytest.approx(offset_ms, abs=1)


@pytest.mark.parametrize("offset_ticks", [-90, -61, -30, -4, -1, 0, 1, 4, 25, 77, 90])
def test_a_known_offset_is_found(offset_ticks: int) -> None:
    result = found(rows_of(pair(offset_ticks, noise=0.7)))
    assert result.offset_ms == pytest.approx(offset_ticks * 10, abs=5)
    assert result.confidence > 0.99 and not result.at_edge


@pytest.mark.parametrize("offset_ticks", [0.25, 0.5, -0.25, -12.375, 33.75])
def test_the_offset_is_finer_than_a_tick(offset_ticks: float) -> None:
    result = found(rows_of(pair(offset_ticks)))
    assert result.offset_ms == pytest.approx(offset_ticks * 10, abs=1.5)
    assert result.offset_std_ms >= 2.9


@settings(max_examples=15)
@given(st.integers(-5000, 5000), st.integers(-500, 100))
def test_only_ticks_of_the_common_clock_count_not_rows(from_lip: int, before: int) -> None:
    first = from_lip * 4 - 250 + before // 5
    result = found(rows_of(pair(40, from_lip=from_lip, from_audio=first)))
    assert result.offset_ms == pytest.approx(400, abs=2)


def test_the_length_of_embeddings_does_not_matter() -> None:
    lips, lips_first, audio, audio_first = pair(12)
    rows = rows_of((lips, lips_first, audio, audio_first))
    louder = rows_of((lips * 100, lips_first, audio * 0.01, audio_first))
    np.testing.assert_allclose(louder, rows, atol=1e-4)


def test_evidence_is_the_log_ratio_to_the_mean_candidate() -> None:
    """The mean likelihood ratio over the candidates that were heard is 1: evidence is spread, never made."""
    parts = pair(3, noise=1.0)
    audio_valid = np.random.default_rng(0).random(len(parts[2])) > 0.3
    rows = rows_of(parts, audio_valid=audio_valid)
    heard = rows != 0
    assert 0.6 < heard.mean() < 0.8
    np.testing.assert_allclose((np.exp(rows) * heard).sum(1) / heard.sum(1), 1, rtol=1e-3)


def test_sound_that_was_not_heard_says_nothing() -> None:
    lips, lips_first, audio, audio_first = pair(20)
    rows = rows_of((lips, lips_first, audio[:350], audio_first))
    for i, row in enumerate(rows):
        ticks = i * 4 - (np.arange(2 * SEARCH + 1) - SEARCH)
        assert not row[ticks >= audio_first + 350].any()
        assert np.count_nonzero(row[ticks < audio_first + 350]) >= np.count_nonzero(ticks < audio_first + 350) - 1


def test_a_hole_in_the_sound_is_no_evidence_and_does_not_move_the_offset() -> None:
    parts = pair(20, noise=0.5)
    audio_valid = np.ones(len(parts[2]), np.bool_)
    audio_valid[300:420] = False
    parts[2][300:420] = np.nan  # whatever lies there
    rows = rows_of(parts, audio_valid=audio_valid)
    assert np.isfinite(rows).all()
    assert found(rows).offset_ms == pytest.approx(200, abs=5)


def with_rivals(parts: tuple[Floats, int, Floats, int], negative_reach_ticks: int = 25) -> Floats:
    lips, lips_first, audio, audio_first = parts
    flags = np.ones(len(lips), np.bool_), np.ones(len(audio), np.bool_)
    return evidence(lips, flags[0], lips_first, audio, flags[1], audio_first, SEARCH, SCALE, negative_reach_ticks)


def test_sound_that_other_lips_fit_better_is_not_theirs() -> None:
    """Lips that look as much like a sound half a second off as like their own: that one has better lips."""
    lips, lips_first, audio, audio_first = pair(0)
    lips = unit(lips)
    lips[40] = unit(lips[40] + lips[52])
    own, other = SEARCH, SEARCH - 4 * 12  # columns: the sound of lips 52 is 12 lip ticks late for lips 40
    parts = lips, lips_first, audio, audio_first
    alone, competing = rows_of(parts), with_rivals(parts)
    assert alone[40, own] == pytest.approx(alone[40, other], abs=0.5)
    assert competing[40, own] > competing[40, other] + 2


def test_what_a_voice_and_a_face_always_have_in_common_is_no_evidence() -> None:
    """A sound that all lips of this face fit a little draws no offset to itself."""
    random = np.random.default_rng(5)
    lips = unit(random.standard_normal((100, SIZE)).astype(np.float32) + 1)
    audio = unit(random.standard_normal((800, SIZE)).astype(np.float32))
    audio[180] = unit(np.ones(SIZE, np.float32))
    at = (lips, 0, audio, 0)
    column = 4 * np.arange(30, 60) - 180 + SEARCH
    rows = np.arange(30, 60)
    assert rows_of(at)[rows, column].mean() > 5
    assert abs(with_rivals(at)[rows, column].mean()) < 1


@pytest.mark.parametrize("lips", [1, 2])
def test_lips_that_are_too_few_to_compete_say_what_they_say_alone(lips: int) -> None:
    parts = pair(7, lips=lips, noise=0.5)
    np.testing.assert_allclose(with_rivals(parts), rows_of(parts), atol=1e-4)


def test_temporal_negatives_keep_the_offset_and_only_near_ones_count() -> None:
    parts = pair(-37, noise=0.7)
    rows = with_rivals(parts)
    assert found(rows).offset_ms == pytest.approx(-370, abs=5)
    lips, lips_first, audio, audio_first = parts
    part = with_rivals((lips[15:66], lips_first + 15, audio, audio_first))
    np.testing.assert_allclose(part[25], rows[40], atol=1e-3)


def test_faces_without_a_mouth_are_no_negatives() -> None:
    lips, lips_first, audio, audio_first = pair(20, noise=0.5)
    seen = np.ones(len(lips), np.bool_)
    seen[30:] = False
    lips[30:] = np.nan  # whatever lies there
    heard = np.ones(len(audio), np.bool_)
    rows = evidence(lips, seen, lips_first, audio, heard, audio_first, SEARCH, SCALE, 25)
    alone = evidence(lips[:30], seen[:30], lips_first, audio, heard, audio_first, SEARCH, SCALE, 25)
    np.testing.assert_allclose(rows[:30], alone, atol=1e-4)
    assert not rows[30:].any()


def test_lips_without_a_mouth_say_nothing() -> None:
    parts = pair(-30, noise=0.5)
    lips_valid = np.ones(100, np.bool_)
    lips_valid[10:70] = False
    rows = rows_of(parts, lips_valid=lips_valid)
    assert not rows[10:70].any() and rows[:10].any(1).all() and rows[70:].any(1).all()
    assert found(rows).offset_ms == pytest.approx(-300, abs=5)


@pytest.mark.parametrize(("lips", "audio"), [(0, 100), (5, 0), (0, 0)])
def test_nothing_in_gives_nothing(lips: int, audio: int) -> None:
    rows = rows_of((np.ones((lips, SIZE), np.float32), 0, np.ones((audio, SIZE), np.float32), 0))
    assert rows.shape == (lips, 2 * SEARCH + 1) and not rows.any()
    assert estimate(rows.sum(0), PLAIN) is None


@pytest.mark.parametrize("first", [-10_000, 10_000])
def test_sound_from_another_time_says_nothing(first: int) -> None:
    lips, lips_first, audio, _ = pair(0)
    assert not rows_of((lips, lips_first, audio, first)).any()


@pytest.mark.parametrize("level", [0.0, 3.5, -200.0, float("nan")])
def test_a_flat_curve_gives_no_estimate(level: float) -> None:
    assert estimate(np.full(201, level, np.float32), PLAIN) is None


def test_the_same_sound_all_the_time_gives_no_estimate() -> None:
    rows = evidence(
        np.ones((100, 4), np.float32), np.ones(100, np.bool_), 0,
        np.ones((800, 4), np.float32), np.ones(800, np.bool_), -200, SEARCH, SCALE,
    )  # fmt: skip
    assert np.abs(rows).max() < 1e-5
    result = estimate(rows.sum(0), PLAIN)
    assert result is None or result.confidence < 0.05


def peak(at: int, height: float = 200.0, width: float = 3.0) -> Floats:
    return (height * np.exp(-0.5 * ((np.arange(201) - 100 - at) / width) ** 2)).astype(np.float32)


@pytest.mark.parametrize(
    ("at", "edge"), [(-100, True), (-97, True), (-96, False), (96, False), (97, True), (100, True)]
)
def test_a_best_point_at_the_end_of_the_range_is_marked(at: int, edge: bool) -> None:
    result = estimate(peak(at), PLAIN)
    assert result is not None and result.at_edge is edge
    assert result.offset_ms == pytest.approx(at * 10, abs=1)


@pytest.mark.parametrize("offset_ticks", [-130, 140])
def test_an_offset_beyond_the_range_is_at_the_edge_or_uncertain(offset_ticks: int) -> None:
    for seed in range(5):
        result = found(rows_of(pair(offset_ticks, seed=seed, noise=0.5)))
        assert result.at_edge or result.confidence < 0.5


def test_confidence_grows_with_the_evidence() -> None:
    confidences = [found(peak(17, height)[None]).confidence for height in np.linspace(1, 200, 60)]
    assert all(b >= a for a, b in pairwise(confidences))
    assert confidences[0] < 0.05 and confidences[-1] > 0.99


def test_confidence_grows_with_the_length_of_the_window() -> None:
    tracks = [rows_of(pair(17, lips=100, seed=seed, noise=1.4)) for seed in range(8)]
    by_length = [np.mean([found(rows[:length]).confidence for rows in tracks]) for length in (5, 10, 25, 50, 100)]
    assert by_length[0] < 0.4 and by_length[-1] > 0.8
    assert all(b > a for a, b in pairwise(by_length))


def test_a_doubt_between_two_peaks_halves_the_confidence() -> None:
    alone, beside = peak(-40), peak(-40) + peak(40)
    assert found(alone[None]).confidence > 0.99
    assert found(beside[None]).confidence == pytest.approx(0.5, abs=0.02)


def test_a_higher_bar_lowers_the_confidence() -> None:
    bars = [Calibration(temperature=4, null_log_odds=bar) for bar in (-5, 4, 10, 20)]
    by_bar = [found(peak(0, 60)[None], bar).confidence for bar in bars]
    assert by_bar == sorted(by_bar, reverse=True) and by_bar[0] > 0.9 and by_bar[-1] < 0.1


@pytest.mark.parametrize("lips", [25, 50, 250])
def test_noise_hardly_ever_gets_a_number(lips: int) -> None:
    """Strangers' lips and sound: of many tries none may reach what counts as measuring, and few come near it."""
    confidences = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        noise = [unit(rng.standard_normal((n, SIZE)).astype(np.float32)) for n in (lips, lips * 4 + 400)]
        rows = rows_of((noise[0], 0, noise[1], -200))
        confidences.append(found(rows, Calibration(logit_scale=SCALE)).confidence)
    assert max(confidences) < 0.9 and np.mean(np.array(confidences) > 0.5) <= 0.02


def test_an_hour_of_noise_is_still_a_number() -> None:
    """The sum over a long stretch falls far below what exp can hold."""
    curve = (np.random.default_rng(0).standard_normal(201) * 300 - 90_000).astype(np.float32)
    result = found(curve[None], Calibration())
    assert 0 <= result.confidence < 1e-6
    assert np.isfinite([result.offset_ms, result.offset_std_ms]).all()


def test_a_mountain_of_evidence_is_still_a_probability() -> None:
    result = found(peak(5, 1e7, 20.0)[None], Calibration())
    assert result.confidence == pytest.approx(1) and result.confidence <= 1


def test_the_zero_of_the_encoders_is_subtracted() -> None:
    plain, corrected = (found(peak(5)[None], Calibration(zero_offset_ms=zero)) for zero in (0.0, 12.5))
    assert corrected.offset_ms == pytest.approx(plain.offset_ms - 12.5)


def test_a_blunt_peak_has_a_larger_standard_deviation() -> None:
    sharp, blunt = (found(peak(0, 60, width)[None]).offset_std_ms for width in (1.0, 12.0))
    assert 2.9 <= sharp < blunt < 40
