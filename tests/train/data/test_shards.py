"""train/data/shards.py: shards in, batches out, shifted by each clip's own offset; damaged shards are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from device.errors import InputFormatError, InputMissingError
from device.features.contract import AUDIO_RATE_HZ, FRONT_END
from tests.train.made import make_clip, perfect_audio, perfect_lips, write_shard
from train.data.augment import Augmentation
from train.data.batches import Batches, lip_targets
from train.data.landmarks import LIP_POINTS, MIRRORED
from train.data.shards import AUDIO_REACH, front_end, load_clip, load_clips, require_clips_of_each

TICKS = 26


def test_a_shard_comes_back_as_it_was(tmp_path: Path) -> None:
    clip = make_clip("a clip", seconds=1, speaker="she", split="train", corpus="corpus")
    again = load_clip(write_shard(clip, tmp_path))
    assert (again.name, again.speaker, again.split, again.corpus) == ("a clip", "she", "train", "corpus")
    assert again.shift_ms == 0
    for name in ("crops", "valid", "samples", "speech", "lip_points"):
        assert np.array_equal(getattr(again, name), getattr(clip, name))


@pytest.mark.parametrize("damage", ["cut", "empty", "noise", "pickle", "one array", "no meta", "other front end"])
def test_a_damaged_shard_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    path = write_shard(make_clip("bad", seconds=1), tmp_path)
    content = path.read_bytes()
    if damage in ("cut", "empty", "noise"):
        path.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "noise": bytes(range(256)) * 9}[damage])
    elif damage == "pickle":
        np.savez(path, meta=np.array({"a": 1}, object))
    elif damage == "one array":
        with path.open("wb") as out:
            np.save(out, np.zeros(3))
    else:
        with np.load(path) as arrays:
            values = dict(arrays)
        meta = json.loads(str(values["meta"]))
        if damage == "no meta":
            del meta["speaker"]
        else:
            meta["front_end"]["crop_px"] = 32
        np.savez(path, **values | {"meta": json.dumps(meta)})
    with pytest.raises(InputFormatError, match=r"bad\.npz.*prepare again"):
        load_clip(path)


def test_no_shards_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match="avdrift-train prepare"):
        load_clips([tmp_path])


def test_offsets_shift_clips_and_drop_clips(tmp_path: Path) -> None:
    for name in "abc":
        write_shard(make_clip(name, seconds=1), tmp_path / "shards")
    table = tmp_path / "offsets.json"
    table.write_text('{"a": {"offset_ms": 35.0, "dropped": false}, "b": {"offset_ms": 5, "dropped": true}}')
    assert {clip.name: clip.shift_ms for clip in load_clips([tmp_path / "shards"], table)} == {"a": 35.0, "c": 0.0}


def test_sound_is_zero_beyond_the_clip_and_says_so() -> None:
    clip = make_clip(seconds=1)
    samples, inside = clip.audio(-10, 130)
    assert len(samples) == 129 * 160 + 400
    # The first row that is wholly inside is centred on 20 ms, as its window reaches back 12.5 ms.
    assert np.flatnonzero(inside)[[0, -1]].tolist() == [12, 10 + (len(clip.samples) - 200) // 160]
    assert not samples[: 10 * 160 + 200].any()
    later, _ = clip.audio(50, 3)
    assert np.array_equal(later, samples[60 * 160 : 60 * 160 + len(later)])


def test_speech_outside_of_what_was_heard_is_none() -> None:
    clip = replace(make_clip(seconds=1), speech_first_tick=5)
    assert clip.is_speech(np.array([4, 5, 104, 105])).tolist() == [False, True, True, False]
    assert not replace(clip, speech=np.empty(0, np.bool_)).is_speech(np.array([5])).any()


@pytest.mark.parametrize("shift_ticks", [0, 7, -12])
def test_lip_window_0_matches_audio_window_0_whatever_the_clips_own_offset(shift_ticks: int) -> None:
    made = [make_clip(f"{k}", seconds=4, seed=k, offset_ticks=shift_ticks) for k in range(3)]
    clips = [replace(clip, shift_ms=10.0 * shift_ticks) for clip in made]
    x, y = next(iter(Batches(clips, lip_ticks=TICKS, batch_size=8, seed=1, augmentation=None)))
    assert not y["first_match"].any()
    for crops, rows, weight, valid in zip(x["crops"], x["rows"], y["lip_weight"], y["audio_valid"], strict=True):
        seen, heard = perfect_lips(crops), perfect_audio(rows)
        told = (weight > 0) & (valid[::4] > 0)
        assert told.sum() > 10
        assert (seen == heard[::4])[told].all(1).mean() > 0.7  # one tick beside it is another letter


def test_a_fraction_of_a_tick_goes_into_the_target() -> None:
    clip = replace(make_clip(seconds=4), shift_ms=14.0)
    _, y = next(iter(Batches([clip], lip_ticks=TICKS, batch_size=2, seed=1, augmentation=None)))
    # Shifted by one whole tick: the match lies 0.4 ticks before audio window 0.
    assert y["first_match"] == pytest.approx([-0.4, -0.4], abs=1e-6)


@pytest.mark.parametrize("augmentation", [None, Augmentation()])
def test_shapes_types_and_ranges(augmentation: Augmentation | None) -> None:
    clips = [make_clip(f"{k}", seconds=2, seed=k) for k in range(2)]
    x, y = next(iter(Batches(clips, lip_ticks=TICKS, batch_size=3, seed=1, augmentation=augmentation)))
    size, windows = FRONT_END.crop_px, TICKS - 4
    assert x["crops"].shape == (3, TICKS, size, size)
    assert x["rows"].shape == (3, 4 * (windows - 1) + FRONT_END.audio_window_ticks, FRONT_END.mel_bands)
    assert y["lip_weight"].shape == (3, windows)
    assert y["audio_valid"].shape == (3, 4 * (windows - 1) + 1)
    assert y["first_match"].shape == (3,)
    assert y["lip_points"].shape == (3, TICKS - 2, 4 * LIP_POINTS)
    for array in (*x.values(), *y.values()):
        assert array.dtype == np.float32
        assert np.isfinite(array).all()
    assert np.abs(x["rows"]).max() < 10


def test_the_same_seed_gives_the_same_batch_and_another_one_another() -> None:
    clips = [make_clip(f"{k}", seconds=2, seed=k) for k in range(3)]

    def rows(seed: int) -> bytes:
        batches = Batches(clips, lip_ticks=TICKS, batch_size=2, seed=seed, augmentation=None)
        return bytes(next(iter(batches))[0]["rows"].tobytes())

    assert rows(1) == rows(1) != rows(2)


def test_augmentation_changes_both_picture_and_sound() -> None:
    clip = make_clip(seconds=1.04)  # exactly one stretch, so that only augmentation can differ
    plain, changed = (
        next(iter(Batches([clip], lip_ticks=TICKS, batch_size=1, seed=1, augmentation=a)))[0]
        for a in (None, Augmentation())
    )
    assert np.abs(plain["crops"] - changed["crops"]).mean() > 0.05
    assert np.abs(plain["rows"] - changed["rows"]).mean() > 0.01


@pytest.mark.parametrize("speed_share", [0.0, 1.0])
def test_landmarks_follow_their_picture_through_all_augmentation(speed_share: float) -> None:
    plain = Augmentation(speed_share=speed_share, gamma=0, noise=0, blur_share=0, erase_share=0)
    made = [make_clip(f"{k}", seconds=3, seed=k) for k in range(4)]
    x, y = next(iter(Batches(made, lip_ticks=TICKS, batch_size=16, seed=2, augmentation=plain)))
    told = y["lip_points"].reshape(16, TICKS - 2, 2, LIP_POINTS, 2)[:, :, 0, 0] * 8 + 31.5
    misses = []
    for crops, points in zip(x["crops"][:, 1:-1], told, strict=True):
        for crop, (x_px, y_px) in zip(crops, points, strict=True):
            if 2 <= x_px < 62 and 2 <= y_px < 62:
                bright = crop > np.quantile(crop, 0.5) + 0.3
                misses.append(not bright[round(float(y_px)), round(float(x_px))])
    # At another speed most pictures are blends of two bars, with the landmark between them.
    assert len(misses) > 200 and np.mean(misses) < (0.02 if speed_share == 0 else 0.9)


def test_another_speed_keeps_lips_and_sound_together() -> None:
    fast = Augmentation(speed_share=1.0, log_speed=0.15, shift_px=0, log_scale=0, rotation_deg=0, gamma=0, noise=0,
                        blur_share=0, repeat_share=0, erase_share=0, noise_share=0, babble_share=0, colour_db=0,
                        log_tract=0, mask_share=0)  # fmt: skip
    # One letter a second, so that blends and the wrong pitch do not matter, only when it changes.
    clip = make_clip(seconds=8)
    sound = np.repeat(np.arange(9), AUDIO_RATE_HZ)[: len(clip.samples)]
    loud = np.where(sound % 2, 8000, 80) * np.sin(2 * np.pi * 1000 * np.arange(len(sound)) / AUDIO_RATE_HZ)
    crops = np.full_like(clip.crops, 60)
    crops[np.arange(len(crops)) // 25 % 2 == 1, :, 40:] = 220
    made = replace(clip, samples=loud.astype(np.int16), crops=crops)
    x, _ = next(iter(Batches([made], lip_ticks=60, batch_size=8, seed=3, augmentation=fast)))
    lags = []
    for pictures, rows in zip(x["crops"], x["rows"], strict=True):
        seen = np.flatnonzero(np.diff((pictures.std((1, 2)) > 0.5).astype(int))) - 2 + 0.5  # windows, middle of change
        level = rows.mean(1)
        heard = (np.flatnonzero(np.abs(np.diff(level)) > 0.5 * np.abs(np.diff(level)).max()) + 0.5 - AUDIO_REACH) / 4
        lags += [float(np.min(np.abs(heard - at))) for at in seen if 2 < at < 52]
    assert len(lags) > 8 and np.median(lags) < 0.5


def test_missing_pictures_weigh_nothing_and_silence_little() -> None:
    clip = make_clip(seconds=1.04)
    clip.valid[3] = False
    clip.speech[60:] = False
    _, y = next(iter(Batches([clip], lip_ticks=TICKS, batch_size=200, seed=1, augmentation=None)))
    weight = y["lip_weight"].mean(0)
    at = 8 + 4 * np.arange(TICKS - 4)
    assert not weight[:4].any()
    assert (weight[4:][at[4:] < 60] == 1).all()
    assert (weight[at >= 60] < 0.6).all()


def test_lip_targets_are_places_and_ways() -> None:
    points = np.full((4, LIP_POINTS, 2), 31.5, np.float32)
    points[:, :, 0] += np.array([0, 1, 4, 8])[:, None]
    place, way = lip_targets(points).reshape(2, 2, LIP_POINTS, 2).transpose(1, 0, 2, 3)
    assert place[:, 3, 0].tolist() == [1 / 8, 4 / 8] and not place[..., 1].any()
    assert way[:, 3, 0].tolist() == [2 * 4 / 8, 2 * 7 / 8]


def test_a_mirror_twice_is_none() -> None:
    assert MIRRORED[MIRRORED].tolist() == list(range(LIP_POINTS))
    assert MIRRORED[0] == 10 and MIRRORED[5] == 5 and MIRRORED[25] == 25  # corners swap, the middle of a lip stays


def test_clips_that_are_too_short_are_refused_when_there_is_no_other() -> None:
    with pytest.raises(InputFormatError, match="26 lip ticks"):
        Batches([make_clip(seconds=0.8)], lip_ticks=TICKS, batch_size=1, seed=1, augmentation=None)
    blank = make_clip(seconds=2)
    blank.valid[:20] = False
    Batches([blank], lip_ticks=TICKS, batch_size=1, seed=1, augmentation=None)
    blank.valid[:] = False
    with pytest.raises(InputFormatError):
        Batches([blank], lip_ticks=TICKS, batch_size=1, seed=1, augmentation=None)


def test_the_front_end_of_a_clip_starts_at_its_first_whole_row() -> None:
    clip = replace(make_clip(seconds=2), samples_t_ns=1_004_000_000, first_lip_tick=26)
    crops, first_lip, valid, rows, first_row = front_end(clip)
    assert crops.shape == (50, 64, 64) and crops.dtype == np.float32
    assert (first_lip, len(valid)) == (26, 50)
    assert first_row == 102  # 1004 + 12.5 ms, up to the next 10 ms
    # The first window begins 3.5 ms into the sound; the last one may end with it.
    assert len(rows) == (len(clip.samples) - 56 - 400) // 160 + 1


def test_synthetic_faces_are_not_trained_on_alone_where_no_real_clip_is_left(tmp_path: Path) -> None:
    real, synth, offsets = tmp_path / "real", tmp_path / "synth", tmp_path / "offsets.json"
    write_shard(make_clip("a", seconds=1), real)
    write_shard(make_clip("s", seconds=1), synth)
    offsets.write_text(json.dumps({"a": {"offset_ms": 0.0, "dropped": True}}))
    with pytest.raises(InputFormatError, match=r"clean dropped 1 of 1 clips.*more batches"):
        require_clips_of_each([real, synth], offsets)
    offsets.write_text(json.dumps({"a": {"offset_ms": 0.0, "dropped": False}}))
    require_clips_of_each([real, synth], offsets)
    (real / "a.npz").unlink()
    with pytest.raises(InputMissingError, match=r"real: no shards: prepare could use none"):
        require_clips_of_each([real, synth], None)
