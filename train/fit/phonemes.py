"""Phonemes for the audio tower's pretraining: speech from espeak-ng, with exact phoneme times.

An hour of clips holds few voices; espeak-ng has a hundred in many languages. The tower first learns to classify the
phoneme in the middle of its window, with the same rooms, noises and vocal tracts as later.
Conventions: the classes are the phonemes' first IPA letters: the `CLASSES - 2` most frequent ones, one for all others
and one for silence. A stop or nasal is labelled as such while the vocal tract is shut, then as the following phoneme.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from device.features.contract import AUDIO_RATE_HZ, AUDIO_TICK_NS, FRONT_END
from device.records import NS_PER_S
from train.data.augment import PREROLL_TICKS, Augmentation, Floats, SoundAugmenter
from train.progress import with_progress
from train.synth.plan import Segment, Talk, plan_talk, random_voice

CLASSES = 40
SILENCE, OTHER = 0, 1
_TICKS_PER_S = NS_PER_S // AUDIO_TICK_NS
_HOP = AUDIO_RATE_HZ // _TICKS_PER_S

Labels = npt.NDArray[np.int32]


def talks(count: int, seed: int, duration_s: float = 8.0) -> list[Talk]:
    """Recordings of `count` random voices at 16 kHz. Raises UsageError if espeak-ng is not installed."""
    random = np.random.default_rng(seed)
    found = []
    for _ in with_progress(range(count), "voices", count, "voice"):
        talk = plan_talk(random, random_voice(random), [Segment(0.0, 0.0)], duration_s)
        at = np.arange(round(duration_s * AUDIO_RATE_HZ)) * talk.rate_hz / AUDIO_RATE_HZ
        samples = np.interp(at, np.arange(len(talk.samples)), talk.samples).astype(np.float32)
        found.append(Talk(samples, AUDIO_RATE_HZ, talk.sentences, talk.phonemes))
    return found


def labels(talk: Talk, classes: dict[str, int], ticks: int) -> Labels:
    """The class of the phoneme at each of the first `ticks` audio ticks."""
    targets = np.full(ticks, SILENCE, np.int32)
    for phoneme in talk.phonemes:
        if phoneme.ipa:
            targets[_span(phoneme.start_s, phoneme.end_s)] = classes.get(phoneme.ipa[0], OTHER)
    for phoneme in talk.phonemes:  # a silent closure precedes its phoneme's time, and overrides
        if phoneme.closure_s is not None:
            targets[_span(*phoneme.closure_s)] = classes.get(phoneme.ipa[0], OTHER)
    return targets


def classes_of(spoken: list[Talk]) -> dict[str, int]:
    """First IPA letter to class, for the most frequent ones."""
    counted = Counter(phoneme.ipa[0] for talk in spoken for phoneme in talk.phonemes if phoneme.ipa)
    return {letter: 2 + k for k, (letter, _) in enumerate(counted.most_common(CLASSES - 2))}


def phone_batches(
    spoken: list[Talk], *, ticks: int, batch_size: int, seed: int, augmentation: Augmentation | None
) -> Iterator[tuple[Floats, Labels]]:
    """Endless (rows [batch, ticks, bands], class at each audio window [batch, ticks - window + 1])."""
    random, classes = np.random.default_rng(seed), classes_of(spoken)
    voices = [np.rint(talk.samples * 32767).astype(np.int16) for talk in spoken]
    sound = SoundAugmenter(augmentation, random, voices)
    reach, total = FRONT_END.audio_window_ticks // 2, PREROLL_TICKS + ticks
    count = (total - 1) * _HOP + FRONT_END.stft_window_samples
    targets = [labels(talk, classes, len(talk.samples) // _HOP) for talk in spoken]
    while True:
        heard, target = np.empty((batch_size, count), np.float32), np.empty((batch_size, ticks - 2 * reach), np.int32)
        for n, index in enumerate(random.integers(0, len(spoken), batch_size)):
            samples = spoken[index].samples
            first = int(random.integers(2, (len(samples) - count) // _HOP - 1))  # the tick of the first row
            start = first * _HOP - FRONT_END.stft_window_samples // 2
            heard[n] = sound.samples(samples[start : start + count])
            middle = first + PREROLL_TICKS + reach
            target[n] = targets[index][middle : middle + ticks - 2 * reach]
        yield sound.rows(heard, np.ones((batch_size, total), np.bool_)), target


def _span(start_s: float, end_s: float) -> slice:
    return slice(max(round(start_s * _TICKS_PER_S), 0), max(round(end_s * _TICKS_PER_S), 0))
