"""train/fit/phonemes.py: labels coincide with their sounds, and batches contain what their labels say."""

from __future__ import annotations

import numpy as np
import pytest

from device.errors import UsageError
from device.features.contract import FRONT_END
from train.data.augment import Augmentation
from train.fit.phonemes import CLASSES, OTHER, SILENCE, classes_of, labels, phone_batches, talks
from train.synth.plan import Talk
from train.synth.speech import Phoneme

TICKS = 120


def talk(*phonemes: Phoneme, seconds: float = 8.0) -> Talk:
    """A tone of 3 kHz while anything is said."""
    at_s = np.arange(round(seconds * 16_000)) / 16_000
    said = np.zeros(len(at_s))
    for phoneme in phonemes:
        said[(at_s >= phoneme.start_s) & (at_s < phoneme.end_s)] = 1.0
    samples = (0.3 * said * np.sin(2 * np.pi * 3000 * at_s)).astype(np.float32)
    return Talk(samples, 16_000, (), phonemes)


def test_a_sound_is_named_for_as_long_as_it_lasts_and_a_closure_before_it() -> None:
    spoken = talk(Phoneme("aː", 0.1, 0.2), Phoneme("p", 0.26, 0.3, closure_s=(0.2, 0.26)), Phoneme("", 0.3, 0.4))
    found = labels(spoken, {"a": 2, "p": 3}, 50)
    assert found[:10].tolist() == [SILENCE] * 10
    assert found[10:20].tolist() == [2] * 10
    assert found[20:30].tolist() == [3] * 10
    assert found[30:].tolist() == [SILENCE] * 20


def test_rare_sounds_share_a_class() -> None:
    many = [Phoneme(chr(0x61 + k), k, k + 1) for k in range(26) for _ in range(3)]
    many += [Phoneme(chr(0x250 + k), 40 + k, 41 + k) for k in range(30)]
    classes = classes_of([talk(*many, seconds=1)])
    assert len(classes) == CLASSES - 2
    assert set("abcxyz") <= set(classes)
    assert sorted(classes.values()) == list(range(2, CLASSES))
    assert labels(talk(Phoneme("ʯ", 0.0, 0.1), seconds=1), classes, 10)[5] == OTHER


@pytest.mark.parametrize("augmentation", [None, Augmentation()])
def test_labels_lie_under_the_middle_of_each_window(augmentation: Augmentation | None) -> None:
    spoken = talk(*[Phoneme("a", 0.3 * k, 0.3 * k + 0.15) for k in range(1, 26)])
    source = phone_batches([spoken], ticks=TICKS, batch_size=4, seed=1, augmentation=augmentation)
    rows, target = next(source)
    reach = FRONT_END.audio_window_ticks // 2
    assert rows.shape == (4, TICKS, FRONT_END.mel_bands) and rows.dtype == np.float32
    assert target.shape == (4, TICKS - 2 * reach)
    if augmentation is None:
        loud = rows[:, reach : TICKS - reach].max(-1) > rows.max() / 2
        assert (loud == (target > OTHER)).mean() > 0.9  # all but the edges


def test_real_voices_say_many_sounds() -> None:
    try:
        spoken = talks(2, seed=3, duration_s=6.0)
    except UsageError as error:
        pytest.skip(f"no speech synthesizer: {error}")
    assert all(len(made.samples) == 6 * 16_000 and made.rate_hz == 16_000 for made in spoken)
    found = labels(spoken[0], classes_of(spoken), 600)
    assert len(set(found.tolist())) > 8
    assert not np.array_equal(spoken[0].samples, spoken[1].samples)
