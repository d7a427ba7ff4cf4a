"""The mouth's movement: closed and open at the right times, and each sound prepared before it is heard."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.synth.articulation import TARGETS, Mouth, Trajectory, lip_closures_s, move_mouth, split_sounds
from train.synth.speech import Phoneme

GAP = Mouth._fields.index("gap")


def said(*sounds: tuple[str, float], closed: dict[int, tuple[float, float]] | None = None) -> list[Phoneme]:
    """Phonemes one after another from 0.5 s on, each (ipa, seconds)."""
    phonemes, t_s = [], 0.5
    for index, (ipa, length_s) in enumerate(sounds):
        phonemes.append(Phoneme(ipa, t_s, t_s + length_s, (closed or {}).get(index)))
        t_s += length_s
    return phonemes


def apa(release_s: float = 0.80) -> list[Phoneme]:
    return said(("ɑ", 0.3), ("p", 0.03), ("ɑ", 0.3), closed={1: (0.72, release_s)})


@pytest.mark.parametrize("release_s", [0.78, 0.80, 0.837])
def test_lips_are_shut_through_the_closure_and_part_at_the_release(release_s: float) -> None:
    track = move_mouth(apa(release_s), 1.6)
    inside = track.values[722 : int(release_s * 1000) - 1, GAP]
    assert np.all(inside < 0.004)
    opened = np.flatnonzero(track.values[730:, GAP] > 0.02)[0] + 730
    assert opened / 1000 == pytest.approx(release_s, abs=0.010)
    shut = np.flatnonzero(track.values[:760, GAP] > 0.02)[-1]
    assert shut / 1000 == pytest.approx(0.72, abs=0.010)


def test_lips_press_while_shut_and_only_then() -> None:
    track = move_mouth(apa(), 1.6)
    press = track.values[:, Mouth._fields.index("press")]
    assert press[720:800].max() > 0.9
    assert press[:715].max() == 0
    assert press[805:].max() < 1e-6


@pytest.mark.parametrize(("open_sound", "narrow_sound"), [("ɑ", "i"), ("a", "ə"), ("æ", "ɪ"), ("ɔ", "u")])
def test_open_vowels_open_more(open_sound: str, narrow_sound: str) -> None:
    wide = move_mouth(said((open_sound, 0.3)), 1.3).at(0.65)
    narrow = move_mouth(said((narrow_sound, 0.3)), 1.3).at(0.65)
    assert wide.gap > 1.3 * narrow.gap
    assert wide.jaw > 1.3 * narrow.jaw


def test_vowels_spread_and_round() -> None:
    assert move_mouth(said(("i", 0.3)), 1.3).at(0.65).wide > 0.5
    rounded = move_mouth(said(("u", 0.3)), 1.3).at(0.65)
    assert rounded.rounded > 0.7
    assert rounded.wide < -0.4


def test_rounding_starts_before_the_vowel_and_through_the_consonant() -> None:
    before_u = move_mouth(said(("s", 0.12), ("u", 0.25)), 1.4).at(0.57)
    before_i = move_mouth(said(("s", 0.12), ("i", 0.25)), 1.4).at(0.57)
    assert before_u.rounded > before_i.rounded + 0.15
    assert before_u.wide < before_i.wide


@pytest.mark.parametrize(("ipa", "field"), [("f", "tuck"), ("v", "tuck"), ("θ", "tongue"), ("ð", "tongue")])
def test_visible_contacts(ipa: str, field: str) -> None:
    track = move_mouth(said(("a", 0.2), (ipa, 0.1), ("a", 0.2)), 1.4)
    assert getattr(track.at(0.75), field) > 0.7
    assert getattr(track.at(0.55), field) < 0.3


def test_silence_is_a_shut_mouth_and_ends_hold_outside_the_speech() -> None:
    track = move_mouth(said(("ɑ", 0.3)), 2.0)
    assert track.at(0.1).gap < 0.06
    assert track.at(1.6).gap < 0.06
    assert track.at(-5.0) == pytest.approx(track.at(0.0), abs=0.01)
    assert track.at(99.0) == pytest.approx(track.at(2.0), abs=0.01)


def test_a_diphthong_goes_to_two_places() -> None:
    first, second = split_sounds(Phoneme("aɪ", 1.0, 1.2))
    assert (first[0], second[0]) == (TARGETS["a"], TARGETS["ɪ"])
    assert first[1:] == pytest.approx((1.0, 1.1))
    assert second[1:] == pytest.approx((1.1, 1.2))


def test_length_marks_and_diacritics_are_no_sounds() -> None:
    assert len(split_sounds(Phoneme("ɑː", 0, 1))) == 1
    assert len(split_sounds(Phoneme("tʰ", 0, 1))) == 1


def test_closures_that_touch_are_one() -> None:
    number = said(("m", 0.1), ("b", 0.03), ("ɚ", 0.1), closed={0: (0.5, 0.6), 1: (0.59, 0.61)})
    assert lip_closures_s(number) == [(0.5, 0.61)]


def test_only_lips_shut_the_lips() -> None:
    assert lip_closures_s(said(("t", 0.1), ("k", 0.1), closed={0: (0.5, 0.55), 1: (0.6, 0.65)})) == []


def test_effort_scales_opening_but_not_closure() -> None:
    mumbled, clear = move_mouth(apa(), 1.6, effort=0.7), move_mouth(apa(), 1.6, effort=1.2)
    assert clear.at(0.6).gap > 1.4 * mumbled.at(0.6).gap
    assert clear.at(0.76).gap == pytest.approx(0.0, abs=0.004)


def test_exposure_is_the_mean_around_the_time() -> None:
    ramp = np.zeros((1000, 7), np.float32)
    ramp[:, GAP] = np.arange(1000) / 1000
    assert Trajectory(ramp).at(0.5).gap == pytest.approx(0.5, abs=0.001)
    assert Trajectory(ramp).at(0.5, exposure_s=0.1).gap == pytest.approx(0.5, abs=0.001)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.sampled_from([*TARGETS, "ˀ", "?", "aɪ", "tʃ"]), st.floats(0.02, 0.4)), max_size=12))
def test_whatever_is_said_the_mouth_stays_possible_and_smooth(sounds: list[tuple[str, float]]) -> None:
    values = move_mouth(said(*sounds), 6.0).values
    assert np.all(np.isfinite(values))
    assert values.min() >= -1.0
    assert values.max() <= 1.3
    # No articulator crosses its range in less than about 30 ms.
    assert np.abs(np.diff(values, axis=0)).max() < 0.035
