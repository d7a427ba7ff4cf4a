"""Sentences keep clear of changes, and the video is the audio's, shifted by exactly the offset."""

from __future__ import annotations

import ctypes.util
import json
from itertools import pairwise

import numpy as np
import pytest

from device.errors import UsageError
from train.synth.articulation import move_mouth
from train.synth.face import Pose
from train.synth.plan import (
    Performance,
    Segment,
    Sentence,
    Talk,
    Truth,
    check_schedule,
    plan_talk,
    random_voice,
    trimmed,
)
from train.synth.speech import Phoneme, Utterance, Voice
from train.synth.text import ENGLISH, OTHERS, SAMPLE, VARIANTS, random_sentence

needs_espeak = pytest.mark.skipif(ctypes.util.find_library("espeak-ng") is None, reason="espeak-ng is not installed")
RATE_HZ = 22050


def truth_of(segments: tuple[Segment, ...], duration_s: float, phonemes: tuple[Phoneme, ...] = ()) -> Truth:
    return Truth("clip.mkv", 1, duration_s, 25.0, Voice(), segments, (Sentence("Hm.", 0.5, 0.9),), phonemes)


def perform(segments: tuple[Segment, ...], phonemes: tuple[Phoneme, ...], duration_s: float = 4.0) -> Performance:
    talk = Talk(np.zeros(1, np.float32), RATE_HZ, (), phonemes)
    truth = truth_of(segments, duration_s, phonemes)
    return Performance(np.random.default_rng(0), talk, truth, effort=1.0, base=Pose(yaw=0.1), restless=1.0)


@pytest.mark.parametrize(
    "schedule",
    [
        [],
        [(1.0, 0.0)],
        [(0.0, 0.0), (5.0, 10.0), (4.0, 20.0)],
        [(0.0, 0.0), (9.0, 1.0)],
        [(0.0, 6000.0)],
        [(0.0, -6e3)],
    ],
)
def test_impossible_schedules_are_refused(schedule: list[tuple[float, float]]) -> None:
    with pytest.raises(UsageError, match="offset schedule"):
        check_schedule(schedule, 8.0)


def test_the_offset_changes_at_its_time() -> None:
    truth = truth_of(check_schedule([(0, 80), (16, -160), (32, 240)], 48.0), 48.0)
    assert [truth.offset_ms(t) for t in (0.0, 15.99, 16.0, 31.9, 32.0, 47.9)] == [80, 80, -160, -160, 240, 240]


@pytest.mark.parametrize("offset_ms", [0.0, 80.0, -160.0, 237.0])
def test_positive_offset_means_audio_early(offset_ms: float) -> None:
    """The sound at audio time t is seen at video time t + offset: an early sound comes before its picture."""
    phonemes = (Phoneme("ɑ", 1.0, 1.4), Phoneme("p", 1.4, 1.43, (1.32, 1.4)), Phoneme("ɑ", 1.43, 1.8))
    performance = perform((Segment(0.0, offset_ms),), phonemes)
    heard = move_mouth(phonemes, 4.0)
    for t_s in np.arange(0.8, 2.2, 0.0137):
        assert performance.mouth(float(t_s) + offset_ms / 1000) == pytest.approx(heard.at(float(t_s)), abs=0.02)
    gaps = [performance.mouth(1.3 + k / 1000).gap for k in range(-300, 500)]
    shut = 1.3 + (int(np.argmax(np.asarray(gaps) < 0.005)) - 300) / 1000
    assert shut == pytest.approx(1.32 + offset_ms / 1000, abs=0.012)


def test_truth_is_json_with_rounded_times() -> None:
    document = truth_of((Segment(0.0, 80.0),), 4.0, (Phoneme("p", 1 / 3, 0.4, (0.2, 1 / 3)),)).to_dict()
    again = json.loads(json.dumps(document))
    assert again["segments"] == [{"t_s": 0.0, "offset_ms": 80.0}]
    assert again["phonemes"][0]["closure_s"] == [0.2, 0.3333]
    assert again["format"] == 1
    assert "audio early" in again["sign"]


def test_eyes_blink_and_mostly_stay_open() -> None:
    performance = perform((Segment(0.0, 0.0),), (), duration_s=30.0)
    lids = np.array([performance.pose(t).eyes_open for t in np.arange(0, 30, 0.02)])
    assert lids.min() < 0.3
    assert np.median(lids) == 1.0
    assert np.mean(lids < 0.9) < 0.25


def test_the_head_moves_smoothly_around_its_base() -> None:
    performance = perform((Segment(0.0, 0.0),), (), duration_s=30.0)
    yaw = np.array([performance.pose(t).yaw for t in np.arange(0, 30, 0.04)])
    assert 0.005 < yaw.std() < 0.2
    assert abs(yaw.mean() - 0.1) < 0.1
    assert np.abs(np.diff(yaw)).max() < 0.03


def test_trailing_silence_is_cut_with_its_phonemes() -> None:
    samples = np.concatenate([np.full(2205, 0.5, np.float32), np.zeros(22050, np.float32)])
    phonemes = (Phoneme("a", 0.0, 0.1), Phoneme("", 0.6, 1.0))
    short = trimmed(Utterance(samples, RATE_HZ, phonemes))
    assert short.duration_s == pytest.approx(0.13, abs=0.001)
    assert [phoneme.ipa for phoneme in short.phonemes] == ["a"]


@needs_espeak
@pytest.mark.parametrize("seed", range(3))
def test_both_clocks_are_silent_around_every_change(seed: int) -> None:
    segments = check_schedule([(0, 80), (7, -160), (14, 240)], 20.0)
    talk = plan_talk(np.random.default_rng(seed), Voice(), segments, 20.0)
    truth = truth_of(segments, 20.0)
    for sentence in talk.sentences:
        # Heard and seen within one segment, and not before the recording starts or after it ends.
        seen = [t_s + truth.offset_ms(sentence.start_s) / 1000 for t_s in (sentence.start_s, sentence.end_s)]
        offsets = {truth.offset_ms(t_s) for t_s in (sentence.start_s, sentence.end_s, *seen)}
        assert len(offsets) == 1
        assert min(seen) >= 0
        assert max(seen) <= 20.0
    for change_s in (7.0, 14.0):
        k = int(change_s * RATE_HZ)
        assert np.abs(talk.samples[k - RATE_HZ // 8 : k + RATE_HZ // 8]).max() == 0
    spoken_s = sum(sentence.end_s - sentence.start_s for sentence in talk.sentences)
    assert spoken_s > 0.5 * 20.0


@needs_espeak
def test_sentences_do_not_overlap_and_phonemes_lie_in_them() -> None:
    talk = plan_talk(np.random.default_rng(4), Voice("en", "f3"), (Segment(0.0, 0.0),), 12.0)
    assert len(talk.samples) == 12 * RATE_HZ
    for before, after in pairwise(talk.sentences):
        assert after.start_s > before.end_s + 0.1
    for phoneme in talk.phonemes:
        assert any(s.start_s - 1e-6 <= phoneme.start_s < s.end_s for s in talk.sentences)


@needs_espeak
def test_a_script_is_spoken_in_order_and_once() -> None:
    talk = plan_talk(np.random.default_rng(0), Voice(), (Segment(0.0, 0.0),), 14.0, SAMPLE)
    texts = [sentence.text for sentence in talk.sentences]
    assert texts[:3] == list(SAMPLE[:3])
    assert len(set(texts)) == len(texts)


@needs_espeak
def test_no_room_for_speech_is_an_error() -> None:
    with pytest.raises(UsageError, match="no room"):
        plan_talk(np.random.default_rng(0), Voice(), check_schedule([(0, 4000)], 3.0), 3.0)


def test_voices_vary_and_are_reproducible() -> None:
    voices = [random_voice(np.random.default_rng(seed)) for seed in range(60)]
    assert voices == [random_voice(np.random.default_rng(seed)) for seed in range(60)]
    assert len({voice.language for voice in voices}) > 8
    assert len({voice.variant for voice in voices}) > 20
    assert 0.5 < np.mean([voice.language in ENGLISH for voice in voices]) < 0.95


def test_sentences_vary_and_fit_the_language() -> None:
    rng = np.random.default_rng(0)
    english = {random_sentence(rng, "en-us") for _ in range(50)}
    assert len(english) > 45
    assert all(sentence[0].isupper() and sentence.endswith(".") for sentence in english)
    assert not any(character.isalpha() for character in random_sentence(rng, "fi"))
    assert len(random_sentence(rng, "en", short=True)) < 40


@needs_espeak
@pytest.mark.parametrize("language", [*ENGLISH, *OTHERS])
def test_every_language_can_be_spoken(language: str) -> None:
    from train.synth.speech import synthesize

    assert len(synthesize("4 517, 26.", Voice(language)).phonemes) > 12


@needs_espeak
def test_every_variant_exists() -> None:
    from train.synth.speech import synthesize

    for variant in VARIANTS:
        assert synthesize("Oh.", Voice("en", variant)).duration_s > 0.1
