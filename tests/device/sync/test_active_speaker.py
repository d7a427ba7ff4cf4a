"""Whose lips fit the audio: rows of several faces with a known speaker become one row."""

from __future__ import annotations

import numpy as np
import pytest

from device.bundles.calibration import NEGATIVE_REACH_TICKS, Calibration
from device.sync.active_speaker import SpeakerMix
from device.sync.curve import Floats, estimate
from device.sync.evidence_stream import EvidenceStream, LipEvidence
from device.towers.blocks import Embeddings

CANDIDATES, TRUE = 241, 150
CALIBRATION = Calibration()


def rows(count: int, seed: int, true: int | None = None, strength: float = 3.0) -> Floats:
    """Evidence as towers give it: noise, and more at the true candidate."""
    found = np.random.default_rng(seed).normal(-0.5, 1.5, (count, CANDIDATES))
    if true is not None:
        found[:, true - 2 : true + 3] += strength
    return found.astype(np.float32)


def mixed(faces: dict[int, Floats]) -> tuple[Floats, SpeakerMix]:
    mix = SpeakerMix(CALIBRATION.temperature)
    count = len(next(iter(faces.values())))
    return np.stack([mix.mix({face_id: face[k] for face_id, face in faces.items()}) for k in range(count)]), mix


def test_one_face_passes_unchanged() -> None:
    one = rows(50, 0, TRUE)
    found, mix = mixed({3: one})
    assert np.array_equal(found, one) and mix.likeliest is None


@pytest.mark.parametrize("speaker", [0, 1, 2])
def test_the_offset_is_that_of_the_one_who_is_heard(speaker: int) -> None:
    faces = {face_id: rows(125, face_id, TRUE if face_id == speaker else None) for face_id in range(3)}
    found, mix = mixed(faces)
    alone, together = (estimate(curve.sum(0), CALIBRATION) for curve in (faces[speaker], found))
    assert alone and together and mix.likeliest == speaker
    assert together.offset_ms == pytest.approx(alone.offset_ms, abs=3)
    assert together.confidence > 0.95


def test_nobody_fits_and_three_of_them_do_not_make_it_likelier() -> None:
    """Off-screen voices: what is believed must not grow with the number of faces."""
    sure = 0
    for seed in range(60):
        found, _ = mixed({face_id: rows(125, 10 * seed + face_id) for face_id in range(3)})
        best = estimate(found.sum(0), CALIBRATION)
        sure += best is not None and best.confidence >= 0.95
    assert sure == 0


def test_another_one_takes_over_within_seconds() -> None:
    first = np.concatenate([rows(250, 0, TRUE), rows(125, 1)])
    second = np.concatenate([rows(250, 2), rows(125, 3, TRUE)])
    found, mix = mixed({0: first, 1: second})
    late = estimate(found[-75:].sum(0), CALIBRATION)
    assert mix.likeliest == 1 and late and late.confidence > 0.95
    assert late.offset_ms == pytest.approx((TRUE - CANDIDATES // 2) * 10, abs=15)


def test_a_face_that_comes_or_goes_leaves_the_others_as_they_are() -> None:
    mix, speaking, other = SpeakerMix(CALIBRATION.temperature), rows(100, 0, TRUE), rows(100, 1)
    found = [mix.mix({0: speaking[k]} | ({1: other[k]} if 30 <= k < 60 else {})) for k in range(100)]
    best = estimate(np.sum(found, axis=0), CALIBRATION)
    assert best and best.confidence > 0.95
    assert best.offset_ms == pytest.approx((TRUE - CANDIDATES // 2) * 10, abs=15)


def embeddings(first: int, count: int, seed: int) -> Embeddings:
    values = np.random.default_rng(seed).standard_normal((count, 8)).astype(np.float32)
    return Embeddings(first, values, np.ones(count, np.bool_))


def test_the_stream_gives_each_tick_once_whatever_faces_come_and_go() -> None:
    stream, out = EvidenceStream(30, CALIBRATION), list[LipEvidence]()
    begins, ends = {0: 0, 2: 1, 8: 2}, {5: [1], 7: [0]}
    for block in range(10):
        face_ids = [0, 1] if 2 <= block < 6 else [2] if block >= 8 else [0]
        if block in begins:
            stream.begin(begins[block], 25 * block)
        parts = [(face_id, embeddings(25 * block, 25, 10 * block + face_id)) for face_id in face_ids]
        out += stream.push_faces(parts, ends.get(block, ()))
        out += stream.push_audio(embeddings(100 * block, 100, 1000 + block))
    out += stream.finish()
    assert [row.tick for row in out] == list(range(250))
    assert all(row.face for row in out)


def test_sound_that_comes_first_waits_for_all_faces_of_a_tick() -> None:
    stream = EvidenceStream(30, CALIBRATION)
    stream.begin(0, 20)
    stream.begin(1, 20)
    assert not list(stream.push_audio(embeddings(0, 1000, 0)))
    both = list(stream.push_faces([(0, embeddings(20, 30, 1)), (1, embeddings(20, 30, 2))]))
    assert [row.tick for row in both] == list(range(20, 50 - NEGATIVE_REACH_TICKS))
    late = list(stream.push_faces([(0, embeddings(50, 10, 3))]))
    assert not late, "the other face's lips may still come"
    came = list(stream.push_faces([(1, embeddings(50, 10, 4))]))
    assert [row.tick for row in came] == list(range(50 - NEGATIVE_REACH_TICKS, 60 - NEGATIVE_REACH_TICKS))
