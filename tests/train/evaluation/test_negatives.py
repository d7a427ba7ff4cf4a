"""train/evaluation/negatives.py: unmeasurable input is what it claims to be."""

from __future__ import annotations

import numpy as np

from tests.train.made import make_clip, make_track, perfect_towers
from train.evaluation.negatives import cases, mismatched, still_embeddings
from train.evaluation.tracks import track


def test_lips_are_paired_only_with_the_audio_of_other_speakers() -> None:
    tracks = [make_track(seed=k, speaker="ab"[k % 2], seconds=5 + k) for k in range(4)]
    pairs = list(mismatched(tracks, np.random.default_rng(0)))
    assert len(pairs) == 8  # two others for each
    for pair in pairs:
        lips = next(t for t in tracks if (t.lips[0] == pair.lips[0]).all())
        sound = next(t for t in tracks if t.audio is pair.audio)
        assert lips.clip.speaker != sound.clip.speaker
        assert pair.clip is sound.clip
        assert len(pair.lips) == len(pair.lips_valid) <= len(lips.lips)


def test_lips_are_cut_to_where_there_is_sound() -> None:
    short, long = make_track(seconds=3, speaker="a"), make_track(seconds=30, speaker="b", seed=1)
    pair = next(t for t in mismatched([long, short], np.random.default_rng(0)) if t.audio is short.audio)
    last_tick = 4 * (pair.lips_first + len(pair.lips) - 1)
    assert last_tick < pair.audio_first + len(pair.audio) <= last_tick + 4


def test_a_single_speaker_has_nobody_to_be_confused_with() -> None:
    assert not list(mismatched([make_track(), make_track(seed=1)], np.random.default_rng(0)))


def test_a_held_embedding_is_one_that_was_seen() -> None:
    t = make_track(seconds=4)
    t.lips_valid[:50] = False
    (held,) = still_embeddings([t], np.random.default_rng(0))
    assert held.lips.shape == t.lips.shape
    assert (held.lips == held.lips[0]).all()
    assert (t.lips[50:] == held.lips[0]).all(1).any()
    assert held.lips_valid.all()
    t.lips_valid[:] = False
    assert not list(still_embeddings([t], np.random.default_rng(0)))


def test_every_kind_is_there_and_counts_as_speech() -> None:
    tracks = [track(make_clip(name, seconds=4, speaker=name, seed=ord(name)), perfect_towers()) for name in "ab"]
    found = list(cases(tracks, perfect_towers(), np.random.default_rng(0)))
    kinds = [kind for kind, _ in found]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "another speaker's voice": 2,
        "still picture": 2,
        "silence": 2,
        "empty room": 2,
        "music": 2,
    }
    assert all(t.speech().mean() > 0.9 for _, t in found)
    still = next(t for kind, t in found if kind == "still picture")
    assert (still.lips == still.lips[0]).all() and len(still.lips) == len(tracks[0].lips)
    loudness = {kind: float(np.abs(t.clip.samples).max()) for kind, t in found}
    assert loudness["silence"] == 0 < loudness["empty room"] < 1000 < loudness["music"]
