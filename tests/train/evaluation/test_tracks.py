"""Offsets of clips with a built-in offset; sliced windows; the models of a bundle as encoders."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from device.bundles.calibration import Calibration
from device.sync.curve import estimate
from device.sync.offset_hmm import posterior_of
from tests.train.made import blind_towers, make_clip, make_track, perfect_towers
from train.evaluation.tracks import Window, accuracy, own_offset, track, window_curve, window_parts, windows

CALIBRATION = Calibration(logit_scale=8.0, temperature=1.0, null_log_odds=2.0)


@pytest.mark.parametrize("offset_ticks", [-60, -7, 0, 3, 45])
def test_the_offset_that_was_built_in_is_found_with_its_sign(offset_ticks: int) -> None:
    clip = make_clip(offset_ticks=offset_ticks)
    found_ms, sure = own_offset(track(clip, perfect_towers()), CALIBRATION)
    assert found_ms == pytest.approx(10 * offset_ticks, abs=6)
    assert sure > 0.99


def test_a_track_lies_on_the_ticks_of_its_clip() -> None:
    clip = replace(make_clip(seconds=2), first_lip_tick=10, samples_t_ns=395_000_000)
    t = track(clip, perfect_towers())
    assert (t.lips_first, len(t.lips), len(t.lips_valid)) == (12, 46, 46)
    # The first row that fits into the sound is centred 12.5 ms after its start; its window's middle is 16 rows on.
    assert t.audio_first == 41 + 16


def test_pictures_that_are_not_there_make_five_windows_invalid() -> None:
    clip = make_clip(seconds=2)
    clip.valid[20] = False
    assert np.flatnonzero(~track(clip, perfect_towers()).lips_valid).tolist() == [16, 17, 18, 19, 20]


@pytest.mark.parametrize("part", [slice(0, 10), slice(90, 111), slice(240, 250), slice(None), slice(30, 30)])
def test_a_part_has_the_rows_that_the_whole_has_there(part: slice) -> None:
    t = make_track(noise=0.5, offset_ticks=9)
    whole = t.evidence(50, audio_from=-20)
    np.testing.assert_allclose(t.evidence(50, audio_from=-20, part=part), whole[part], atol=1e-4)


def test_sound_that_was_not_heard_is_no_candidate() -> None:
    t = make_track(noise=0.5)
    heard = np.arange(len(t.audio)) % 300 < 200
    rows = replace(t, heard=heard).evidence(50)
    at = 4 * (t.lips_first + np.arange(len(rows)))[:, None] - (np.arange(101) - 50) - t.audio_first
    assert not rows[~heard[at]].any()
    assert np.count_nonzero(rows[heard[at]]) > 0.99 * np.count_nonzero(heard[at])


def test_no_speech_no_offset() -> None:
    found_ms, sure = own_offset(track(make_clip(speech=False), perfect_towers()), CALIBRATION)
    assert (found_ms, sure) == (0.0, 0.0)


def test_speech_follows_the_clips_own_shift() -> None:
    t = make_track(seconds=2)
    spoken = np.zeros(400, np.bool_)
    spoken[200:] = True  # from audio tick 100 on
    late = replace(t, clip=replace(t.clip, speech=spoken, shift_ms=-200.0))
    assert int(np.argmax(late.speech())) * 4 + 8 == pytest.approx(100 - 20, abs=4)


@pytest.mark.parametrize(("window_s", "length", "count"), [(0.2, 1, 250), (1.0, 21, 11), (2.0, 46, 5), (10.2, 251, 0)])
def test_windows_see_as_much_picture_as_they_say(window_s: float, length: int, count: int) -> None:
    parts = list(window_parts(make_track(seconds=10), window_s))
    assert len(parts) == count
    assert all(part.stop - part.start == length for part in parts)
    assert [part.start for part in parts] == [k * length for k in range(count)]


def test_slicing_the_sound_earlier_moves_the_curves_best_point_as_far() -> None:
    t = make_track(offset_ticks=5)
    for shift in (-40, 0, 33):
        curve = window_curve(t, slice(50, 100), 100, shift)
        assert int(np.argmax(curve)) - 100 == 5 + shift


def test_every_window_of_a_perfect_track_is_right_and_shifted_by_its_own_amount() -> None:
    found = list(windows(make_track(offset_ticks=-4), -40.0, window_s=1.0, search_ms=1000, calibration=CALIBRATION,
                         random=np.random.default_rng(1), max_shift_ms=800))  # fmt: skip
    assert accuracy(found) == 1.0
    shifts_ms = np.array([w.true_ms + 40 for w in found])
    assert len(set(shifts_ms)) > len(found) / 2
    assert np.abs(shifts_ms).max() <= 800
    assert np.abs(shifts_ms).max() > 300
    assert not any(w.at_edge for w in found)


def test_blind_towers_are_right_about_as_often_as_chance() -> None:
    t = track(make_clip(seconds=60), blind_towers())
    found = list(windows(t, 0.0, window_s=0.2, search_ms=600, calibration=CALIBRATION,
                         random=np.random.default_rng(1), max_shift_ms=400))  # fmt: skip
    assert accuracy(found) == pytest.approx(9 / 121, abs=0.03)


def test_a_window_without_sound_counts_as_wrong() -> None:
    deaf = replace(make_track(), audio=np.empty((0, 16), np.float32))
    found = list(windows(deaf, 0.0, window_s=2.0, search_ms=600, calibration=CALIBRATION,
                         random=np.random.default_rng(1), max_shift_ms=400))  # fmt: skip
    assert found
    assert accuracy(found) == 0.0
    assert all(w.at_edge and w.confidence == 0 for w in found)


def test_only_windows_with_speech_count() -> None:
    clip = make_clip(seconds=0.2)
    right, wrong = (Window(clip, error_ms, 0.5, 1.0, 1.0, 0.0, False) for error_ms in (-40.0, 40.1))
    silent = replace(wrong, speech_ratio=0.4)
    assert accuracy([right, wrong, silent]) == 0.5
    assert np.isnan(accuracy([silent]))


def test_another_clips_audio_gets_no_number() -> None:
    a, b = make_track(seed=1), make_track(seed=2)
    found = estimate(a.evidence(100, sound_of=b).sum(0), CALIBRATION)
    own = estimate(a.evidence(100).sum(0), CALIBRATION)
    assert found and own
    assert own.confidence > 0.99 > found.confidence


def test_a_window_that_is_cut_out_answers_as_the_same_stretch_alone() -> None:
    t = make_track(noise=1.5, offset_ticks=3)
    kinds = {cut_out: list(windows(t, 30.0, window_s=0.6, search_ms=600, calibration=CALIBRATION, cut_out=cut_out,
                                   random=np.random.default_rng(0), max_shift_ms=0.0))
             for cut_out in (False, True)}  # fmt: skip
    # 15 frames each: 11 lip windows, and the next one begins 15 lip windows later, or 11 if frames may be shared.
    assert [len(kinds[cut_out]) for cut_out in (False, True)] == [len(t.lips) // 11, (len(t.lips) + 4) // 15]
    part = slice(15, 26)
    alone = replace(t, lips=t.lips[part], lips_valid=t.lips_valid[part], lips_first=t.lips_first + 15)
    found = posterior_of(alone.evidence(60), CALIBRATION)
    assert found is not None
    assert kinds[True][1].error_ms == found.estimate(CALIBRATION).offset_ms - 30.0
