"""Speech from espeak-ng: the waveform confirms its times for every voice; the closure finder on synthetic audio."""

from __future__ import annotations

import ctypes.util
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from device.errors import UsageError
from device.records import Samples
from train.synth.speech import Phoneme, Utterance, Voice, measure_closures, open_espeak, synthesize

needs_espeak = pytest.mark.skipif(ctypes.util.find_library("espeak-ng") is None, reason="espeak-ng is not installed")
RATE_HZ = 22050
LABIALS = "A papa, a baby, my mama. Maybe members bang big drums, and nobody opened a box of apples."
VOICES = (Voice(), Voice(variant="f2"), Voice("en", "m3", 190, 30), Voice("de", "f4", 150, 65), Voice("es", "Andy"))


def silence(seconds: float) -> Samples:
    return np.zeros(int(seconds * RATE_HZ), np.float32)


def vowel(seconds: float) -> Samples:
    """Pulses with many harmonics, as a voice with an open mouth has."""
    t_s = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    return np.asarray(0.1 * sum(np.sin(2 * np.pi * 120 * k * t_s) for k in range(1, 30)), np.float32)


def murmur(seconds: float) -> Samples:
    """Only the voice's lowest harmonic, as behind closed lips."""
    t_s = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    return np.asarray(0.08 * np.sin(2 * np.pi * 120 * t_s), np.float32)


def noise(seconds: float) -> Samples:
    return np.asarray(np.random.default_rng(0).standard_normal(int(seconds * RATE_HZ)) * 0.1, np.float32)


def at(seconds: float) -> int:
    return int(seconds * RATE_HZ)


def closure_of(samples: Samples, marks: list[tuple[int, str]], ipa: str) -> tuple[float, float]:
    found = next(p for p in measure_closures(samples, RATE_HZ, marks) if p.ipa == ipa)
    assert found.closure_s is not None
    return found.closure_s


def test_voiceless_stop_is_shut_through_the_silence_before_its_burst() -> None:
    samples = np.concatenate([vowel(0.2), silence(0.06), noise(0.03), vowel(0.2)])
    start_s, release_s = closure_of(samples, [(0, "a"), (at(0.26), "p"), (at(0.29), "a")], "p")
    assert start_s == pytest.approx(0.2, abs=0.003)
    assert release_s == pytest.approx(0.26, abs=0.002)


@pytest.mark.parametrize("ipa", ["b", "m", "d", "n", "ɡ"])
def test_voiced_closure_ends_where_the_high_frequencies_return(ipa: str) -> None:
    samples = np.concatenate([vowel(0.2), murmur(0.07), vowel(0.25)])
    # espeak-ng places the vowel's event some 25 ms after the lips have parted.
    start_s, release_s = closure_of(samples, [(0, "a"), (at(0.2), ipa), (at(0.295), "a")], ipa)
    assert start_s == pytest.approx(0.2, abs=0.001)
    assert release_s == pytest.approx(0.27, abs=0.004)


def test_voiced_stop_after_a_silence_has_its_burst_at_the_event() -> None:
    samples = np.concatenate([silence(0.3), vowel(0.3)])
    _, release_s = closure_of(samples, [(0, ""), (at(0.3), "b"), (at(0.35), "a")], "b")
    assert release_s == pytest.approx(0.3, abs=0.004)


def test_voiced_stop_at_the_end_of_a_sentence_is_shut_after_its_event() -> None:
    samples = np.concatenate([vowel(0.3), murmur(0.05), 0.1 * noise(0.03), silence(0.1)])
    start_s, release_s = closure_of(samples, [(0, "a"), (at(0.3), "b"), (at(0.38), "")], "b")
    assert start_s == pytest.approx(0.3, abs=0.002)
    assert 0.33 < release_s < 0.40


def test_stop_at_the_very_start_gets_a_usual_closure() -> None:
    samples = np.concatenate([noise(0.03), vowel(0.2)])
    start_s, release_s = closure_of(samples, [(0, "p"), (at(0.03), "a")], "p")
    assert 0.03 < release_s - start_s < 0.12


def test_vowels_and_fricatives_have_no_closure_and_empty_marks_vanish() -> None:
    samples = np.concatenate([vowel(0.2), noise(0.2)])
    phonemes = measure_closures(samples, RATE_HZ, [(0, "ˈa"), (at(0.2), ""), (at(0.2), "s")])
    assert [(p.ipa, p.closure_s) for p in phonemes] == [("a", None), ("s", None)]


def test_a_phoneme_moves_with_its_closure() -> None:
    assert Phoneme("p", 1.0, 1.1, (0.9, 1.0)).shifted(2.0) == Phoneme("p", 3.0, 3.1, (2.9, 3.0))
    assert Phoneme("a", 1.0, 1.1).shifted(-1.0).closure_s is None


@pytest.fixture(scope="module", params=VOICES, ids=lambda voice: voice.name)
def spoken(request: pytest.FixtureRequest) -> Utterance:
    return synthesize(LABIALS, request.param)


def brightness(samples: Samples) -> npt.NDArray[np.float32]:
    """Energy of the second difference, in dB, for each 2 ms."""
    bright = np.diff(samples, n=2) ** 2
    hop = RATE_HZ // 500
    frames = bright[: len(bright) // hop * hop].reshape(-1, hop).mean(axis=1)
    return np.asarray(10 * np.log10(frames + 1e-9), np.float32)


@needs_espeak
def test_phonemes_are_in_order_and_inside_the_sound(spoken: Utterance) -> None:
    assert spoken.rate_hz == RATE_HZ
    assert len(spoken.phonemes) > 40
    for before, after in pairwise(spoken.phonemes):
        assert before.start_s < before.end_s <= after.start_s + 1e-9
    assert spoken.phonemes[-1].end_s <= spoken.duration_s


@needs_espeak
def test_every_lip_release_is_a_rise_in_the_waveform(spoken: Utterance) -> None:
    level = brightness(spoken.samples)
    rises = []
    for phoneme, following in pairwise(spoken.phonemes):
        if phoneme.ipa not in ("p", "b", "m") or phoneme.closure_s is None or following.ipa in ("", "p", "b", "t"):
            continue
        start_s, release_s = phoneme.closure_s
        assert 0.015 < release_s - start_s < 0.25
        k = int(release_s * 500)
        # Within 10 ms of the release the sound is brighter than it was in the closure.
        rises.append(float(level[k : k + 6].max() - np.median(level[max(0, k - 12) : k - 3])))
    assert len(rises) >= 8
    assert np.median(rises) > 10.0
    assert np.mean(np.asarray(rises) > 3.0) >= 0.8


@needs_espeak
def test_same_text_gives_same_sound_whatever_was_said_before() -> None:
    first = synthesize(LABIALS, VOICES[1])
    synthesize("Etwas ganz anderes.", VOICES[3])
    again = synthesize(LABIALS, VOICES[1])
    assert np.array_equal(first.samples, again.samples)
    assert first.phonemes == again.phonemes


@needs_espeak
def test_rate_and_pitch_reach_the_synthesiser() -> None:
    slow, fast = synthesize(LABIALS, Voice(words_per_min=120)), synthesize(LABIALS, Voice(words_per_min=220))
    assert slow.duration_s > 1.3 * fast.duration_s
    low, high = synthesize(LABIALS, Voice(pitch=20)), synthesize(LABIALS, Voice(pitch=80))
    assert not np.array_equal(low.samples, high.samples)


@needs_espeak
@pytest.mark.parametrize(
    ("text", "voice", "words"),
    [("Hello.", Voice("xx-nowhere"), "no such voice"), ("", Voice(), "nothing"), ("...", Voice(), "nothing")],
)
def test_what_cannot_be_said_is_a_clear_error(text: str, voice: Voice, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        synthesize(text, voice)
    assert caught.value.exit_code == 2


def test_missing_library_says_what_to_install() -> None:
    with pytest.raises(UsageError, match="apt install espeak-ng"), open_espeak("libespeak-that-nobody-has.so.9"):
        pass
