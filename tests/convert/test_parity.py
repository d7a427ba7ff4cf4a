"""Parity on hand-written towers whose embeddings, and so whose offsets, are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from convert import parity
from convert.parity import Parity, cosine, require_parity
from device.bundles.calibration import Calibration
from device.errors import InputFormatError, ModelError
from train.data.shards import Clip
from train.evaluation.tracks import track
from train.models.encoders import Encode, Towers

Floats = npt.NDArray[np.float32]

CALIBRATION = Calibration(logit_scale=20.0)
LIPS_FIRST, AUDIO_FIRST = 2, 12  # ticks in the middle of the first windows, for clips that begin at time 0
REACH = 200  # ticks of the path before time 0


def clip(seconds: float = 6.0, speech: bool = True, name: str = "clip") -> Clip:
    ticks = round(seconds * 25)
    return Clip(
        name=name, speaker=name, split="valid", corpus="made up",
        crops=np.zeros((ticks, 80, 80), np.uint8), valid=np.ones(ticks, np.bool_), first_lip_tick=0,
        samples=np.zeros(round(seconds * 16000), np.int16), samples_t_ns=0,
        speech=np.full(4 * ticks, speech), speech_first_tick=0, lip_points=np.full((ticks, 40, 2), np.nan, np.float32),
    )  # fmt: skip


def path(seed: int = 0, ticks: int = 2000) -> Floats:
    """Vectors [ticks, 16] that turn within some 60 ms: what both towers know of each 10 ms."""
    noise = np.random.default_rng(seed).standard_normal((ticks + 12, 16))
    return np.stack([np.convolve(column, np.hanning(13), "valid") for column in noise.T], 1).astype(np.float32)


def towers(offset_ticks: int = 0, *, gain: float = 1.0, noise: float = 0.0, seed: int = 0) -> Towers:
    """Towers that find the audio early by so many ticks, whatever they are given."""
    known, random = path(seed), np.random.default_rng(9)

    def blurred(values: Floats) -> Floats:
        return (gain * values + noise * random.standard_normal(values.shape)).astype(np.float32)

    def lips(crops: Floats) -> Floats:
        return blurred(known[REACH + 4 * (LIPS_FIRST + np.arange(len(crops) - 4))])

    def audio(rows: Floats) -> Floats:
        return blurred(known[REACH + AUDIO_FIRST + offset_ticks + np.arange(len(rows) - 20)])

    return Towers(lips, audio, CALIBRATION.logit_scale)


def spoilt(encode: Encode, where: slice) -> Encode:
    def run(values: Floats) -> Floats:
        out = encode(values).copy()
        out[where] = np.random.default_rng(1).standard_normal(out[where].shape)
        return out

    return run


def compare(before: Towers, after: Towers, clips: list[Clip]) -> Parity:
    first, second = ([track(clip, towers) for clip in clips] for towers in (before, after))
    return parity.compare(first, second, CALIBRATION)


@pytest.mark.parametrize("offset_ticks", [0, 7, -30])
def test_the_same_towers_twice(offset_ticks: int) -> None:
    found = compare(towers(offset_ticks), towers(offset_ticks), [clip(), clip(name="other")])
    assert found.worst_loss[1] == 0
    assert found.reference_accuracy == found.accuracy
    assert list(found.reference_accuracy) == ["0.6", "1", "2", "5"]
    assert found.reference_accuracy["2"] == 1.0
    for value in (found.cosines["lips"].mean, found.cosines["lips"].worst_percent, found.cosines["audio"].mean):
        assert value == pytest.approx(1, abs=1e-5)
    assert found.windows["2"] > 20
    require_parity({"int8": found.worst_loss}, 0.01, where="here")


def test_length_of_embeddings_does_not_matter() -> None:
    found = compare(towers(), towers(gain=3.0), [clip()])
    assert found.cosines["audio"].worst_percent == pytest.approx(1, abs=1e-5)
    assert found.worst_loss[1] == 0


def test_a_little_noise_shows_in_the_cosine_and_not_in_the_accuracy() -> None:
    found = compare(towers(), towers(noise=0.2), [clip()])
    assert 0.9 < found.cosines["lips"].worst_percent < found.cosines["lips"].mean < 0.9999
    assert 0.9 < found.cosines["audio"].worst_percent < found.cosines["audio"].mean < 0.9999
    assert found.worst_loss[1] == 0


def test_towers_that_know_nothing_lose_and_are_refused() -> None:
    found = compare(towers(), towers(noise=100.0), [clip(), clip(name="other")])
    assert abs(found.cosines["lips"].mean) < 0.2 and abs(found.cosines["audio"].mean) < 0.2
    assert found.accuracy["2"] < 0.5 < found.reference_accuracy["2"]
    length, loss = found.worst_loss
    assert loss == max(found.reference_accuracy[each] - found.accuracy[each] for each in ("0.6", "1", "2", "5"))
    assert loss == found.reference_accuracy[length] - found.accuracy[length]
    with pytest.raises(ModelError, match=r"against float32, int8 loses \d+\.\d\d% of \S+ s windows, allowed is 1\.00%"):
        require_parity({"int8": found.worst_loss}, 0.01, where="here")


def test_truth_is_the_reference_s_own_offset() -> None:
    """A candidate that agrees with itself but not with the reference is wrong everywhere."""
    found = compare(towers(0), towers(10), [clip()])
    assert found.reference_accuracy["2"] == 1.0
    assert found.accuracy["2"] == 0.0


def test_pictures_without_a_face_do_not_count() -> None:
    given = clip()
    given.valid[50:60] = False
    unlike = replace(towers(), lips=spoilt(towers().lips, slice(46, 60)))  # every window that sees one of the ten
    assert compare(towers(), unlike, [given]).cosines["lips"].worst_percent == pytest.approx(1, abs=1e-5)
    given.valid[:] = True
    assert compare(towers(), unlike, [given]).cosines["lips"].worst_percent < 0.9


def test_worst_percent_sees_what_the_mean_hides() -> None:
    unlike = replace(towers(), audio=spoilt(towers().audio, slice(100, 112)))
    found = compare(towers(), unlike, [clip()])
    assert found.cosines["audio"].mean > 0.97
    assert found.cosines["audio"].worst_percent < 0.6


def test_both_get_the_same_shifts_every_time() -> None:
    clips = [clip(), clip(name="other")]
    first, second = (compare(towers(), towers(noise=0.7), clips) for _ in range(2))
    assert first == second


def test_lengths_that_no_clip_has_are_left_out() -> None:
    found = compare(towers(), towers(), [clip(3.0)])
    assert set(found.reference_accuracy) == set(found.accuracy) == {"0.6", "1", "2"}


@pytest.mark.parametrize("clips", [[clip(0.4)], [clip(speech=False)], []])
def test_nothing_to_decide_on_is_an_error_and_never_parity(clips: list[Clip]) -> None:
    with pytest.raises(InputFormatError, match="validation clips: no window of them has speech"):
        compare(towers(), towers(), clips)


def test_a_loss_at_any_length_counts() -> None:
    found = Parity({}, {}, {"0.6": 0.9, "1": 0.95, "2": 0.99}, {"0.6": 0.91, "1": 0.93, "2": 0.98})
    assert found.worst_loss[0] == "1" and found.worst_loss[1] == pytest.approx(0.02)
    assert Parity({}, {}, {"1": 0.9}, {"1": 0.95}).worst_loss[1] == pytest.approx(-0.05)


@pytest.mark.parametrize(("lost", "told"), [(1, 0.0), (10, 0.0), (11, 11 / 320), (-1, 0.0)])
def test_of_few_windows_one_with_all_its_shifts_may_be_lost(lost: int, told: float) -> None:
    """As with a minute of validation clips: 32 windows of 2 s, each with ten shifts."""
    found = Parity({}, {"1": 2000, "2": 320}, {"1": 0.9, "2": 0.9}, {"1": 0.9, "2": round(0.9 - lost / 320, 6)})
    assert found.telling_loss[1] == pytest.approx(told, abs=1e-6)
    many = Parity({}, {"1": 2000, "2": 320}, {"1": 0.9, "2": 0.9}, {"1": 0.89, "2": 0.88})
    assert many.telling_loss[0] == "1" and many.telling_loss[1] == pytest.approx(0.01)


def test_cosines_of_single_windows() -> None:
    a = np.tile(np.array([[1.0, 0.0]], np.float32), (1000, 1))
    b = a.copy()
    b[0] = [0, 1]
    b[1:15] = [0.6, 0.8]
    found = cosine(a, 7 * b)
    assert found.worst == pytest.approx(0, abs=1e-6) and found.worst_percent == pytest.approx(0.6)
    assert found.mean == pytest.approx((1000 - 15 + 14 * 0.6) / 1000)


@pytest.mark.parametrize(("loss", "allowed"), [(-0.2, 0.01), (0.0, 0.01), (0.01, 0.01), (0.3, 0.5)])
def test_within_what_is_allowed(loss: float, allowed: float) -> None:
    require_parity({"int8": ("2", loss)}, allowed, where="here")


@pytest.mark.parametrize(("loss", "allowed"), [(0.0101, 0.01), (1.0, 0.01), (0.0, -0.1), (float("nan"), 0.01)])
def test_beyond_what_is_allowed(loss: float, allowed: float) -> None:
    with pytest.raises(ModelError, match=r"^here: against float32, int8 loses .* of 2 s windows") as raised:
        require_parity({"float32": ("1", -1.0), "int8": ("2", loss)}, allowed, where="here")
    assert raised.value.exit_code == 4


def test_all_formats_that_lose_are_named() -> None:
    with pytest.raises(ModelError, match=r"dynamic loses 2\.00% of 1 s windows, int8 loses 1\.00% of 5 s windows"):
        require_parity({"dynamic": ("1", 0.02), "float16": ("1", 0.0), "int8": ("5", 0.01)}, 0.005, where="here")
