"""From clips to shards, with broken clips among them; and one front end for training and device."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from device.capture.file import FileSource
from device.features.contract import FRONT_END
from device.features.face import FaceDetector
from device.features.logmel import LogMelStream
from device.features.model_download import face_model_path, require_face_model
from device.features.mouth import MouthCrop
from device.features.mouth_grid import LipGrid, normalize
from device.features.tracker import MouthTracker
from device.records import NS_PER_MS, NS_PER_S, Chunk, Frame
from tests import recordings
from tests.train.made import write_shard
from train.data.augment import MARGIN_PX
from train.data.clips import join
from train.data.landmarks import INNER_LIP, LANDMARK_MODEL, LIP_POINTS, OUTER_LIP, opening
from train.data.prepare import FACE_PX, placed, prepare
from train.data.shards import Clip, front_end, load_clip

needs_face_model = pytest.mark.skipif(not face_model_path().is_file(), reason="the face detector's model is not here")


def write_table(folder: Path, files: list[str]) -> None:
    with (folder / "clips.csv").open("w", newline="", encoding="utf-8") as out:
        table = csv.writer(out)
        table.writerow(["file", "speaker", "split", "corpus", "licence"])
        table.writerows([file, "somebody", "train", "made", "ours"] for file in files)


@pytest.fixture(scope="module")
def face(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic person who talks for a second at 30 frames a second."""
    synth = pytest.importorskip("train.synth.render")
    path: Path = tmp_path_factory.mktemp("face") / "face.mkv"
    try:
        synth.render_clip(path, seed=3, duration_s=1.2, fps=30.0, size=(240, 240))
    except OSError as error:  # ctypes, where libespeak-ng is not installed
        pytest.skip(f"no speech synthesizer: {error}")
    return path


@pytest.fixture(scope="module")
def prepared(face: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """A folder with one good clip and four bad ones, its shards, and what was said of it."""
    if not face_model_path().is_file() or not face_model_path(LANDMARK_MODEL).is_file():
        pytest.skip("the models that find faces and lips are not here")
    folder, out = tmp_path_factory.mktemp("clips"), tmp_path_factory.mktemp("shards")
    (folder / "good.mkv").write_bytes(face.read_bytes())
    (folder / "noise.mkv").write_bytes(bytes(range(256)) * 40)
    (folder / "empty.mkv").touch()
    recordings.write(folder / "faceless.mkv", duration_s=1.0)
    recordings.write(folder / "mute.mkv", sound=None, duration_s=1.0)
    write_table(folder, ["good.mkv", "noise.mkv", "empty.mkv", "faceless.mkv", "mute.mkv", "missing.mkv"])
    assert prepare(folder, out, jobs=1) == 5
    return folder, out, ""


def test_one_bad_clip_does_not_keep_the_others_from_being_prepared(prepared: tuple[Path, Path, str]) -> None:
    _, out, _ = prepared
    assert [path.name for path in out.iterdir()] == ["good.mkv.npz"]  # and no partial files
    clip = load_clip(out / "good.mkv.npz")
    assert (clip.speaker, clip.split, clip.corpus) == ("somebody", "train", "made")
    side = FRONT_END.crop_px + 2 * MARGIN_PX
    assert clip.crops.shape[1:] == (side, side)
    assert 26 <= int(clip.valid.sum()) <= 31
    assert len(clip.samples) == pytest.approx(19_200, abs=800)
    assert np.abs(clip.samples).max() > 500


def test_lips_are_marked_where_the_crop_shows_them(prepared: tuple[Path, Path, str]) -> None:
    with np.load(prepared[1] / "good.mkv.npz") as shard:
        points, valid, faces = shard["lip_points"], shard["valid"], shard["faces"]
    assert points.shape == (len(valid), LIP_POINTS, 2) and faces.shape == (len(valid), FACE_PX, FACE_PX)
    assert np.isnan(points[~valid]).all() and np.isfinite(points[valid]).mean() > 0.9
    seen = points[np.isfinite(points).all((1, 2))]
    middle = seen.mean(1)  # the crop is centred on the mouth
    assert np.abs(middle - FRONT_END.crop_px / 2).max() < 12
    right, left = seen[:, 0], seen[:, OUTER_LIP.index(291)]
    assert (left[:, 0] - right[:, 0] > 12).all()
    upper, lower = seen[:, OUTER_LIP.index(0)], seen[:, OUTER_LIP.index(17)]
    assert (lower[:, 1] > upper[:, 1]).all()
    assert np.ptp(opening(seen)) > 0.015  # it talks, if not much in a second
    assert faces[valid].std((1, 2)).min() > 10  # pictures, not blanks


def test_the_opening_is_the_gap_over_the_width() -> None:
    lips = np.zeros((LIP_POINTS, 2), np.float32)
    lips[OUTER_LIP.index(291)] = (40, 0)
    inner = lips[len(OUTER_LIP) :]
    inner[INNER_LIP.index(308) + 1 :, 1] = 10  # all of the lower lip but the corners
    assert opening(lips) == pytest.approx(10 / 40)
    assert opening(np.stack([lips, lips])).shape == (2,)


def test_runs_of_the_grid_become_one_with_blanks_between() -> None:
    ones = np.ones((2, 3, 3), np.uint8)
    first, pictures, valid = placed([(5, ones[:0], np.empty(0, np.bool_)), (6, ones, np.array([True, False])),
                                     (10, ones, np.array([True, True]))])  # fmt: skip
    assert first == 6 and valid.tolist() == [True, False, False, False, True, True]
    assert pictures[:, 0, 0].tolist() == [1, 1, 0, 0, 1, 1]
    assert len(placed([])[2]) == 0


def test_each_skipped_clip_is_named_with_its_reason(
    prepared: tuple[Path, Path, str], capfd: pytest.CaptureFixture[str]
) -> None:
    folder, out, _ = prepared
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    prepare(folder, out, jobs=1)
    said = capfd.readouterr()
    for name in ("noise.mkv", "empty.mkv", "faceless.mkv", "mute.mkv", "missing.mkv"):
        assert sum(name in line and line.startswith("skipped: ") for line in said.err.splitlines()) == 1
    assert "good.mkv" not in said.err
    assert "1 of 6 clips ready" in said.out
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before  # what was there was not made again


@pytest.mark.slow
def test_only_what_changed_is_made_again(face: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    if not face_model_path().is_file() or not face_model_path(LANDMARK_MODEL).is_file():
        pytest.skip("the models that find faces and lips are not here")
    out = tmp_path / "shards"
    for speaker, ending in (("anna", "mkv"), ("bert", "mp4")):  # a folder for each speaker, with the same names in it
        (tmp_path / speaker).mkdir()
        shutil.copy(face, tmp_path / speaker / f"001.{ending}")
    files = ["anna/001.mkv", "bert/001.mp4"]
    write_table(tmp_path, files)

    def made(*, prune: bool = False) -> tuple[list[str], str]:
        before = {path.name: path.stat().st_mtime_ns for path in out.glob("*")}
        assert prepare(tmp_path, out, jobs=1, prune=prune) == 0
        after = {path.name: path.stat().st_mtime_ns for path in out.glob("*")}
        return sorted(name for name in after if after[name] != before.get(name)), capfd.readouterr().out

    names = ["anna%2F001.mkv.npz", "bert%2F001.mp4.npz"]
    assert made()[0] == names
    content = [(out / name).read_bytes() for name in names]
    assert made()[0] == []
    table = tmp_path / "clips.csv"
    table.write_text(table.read_text().replace("bert/001.mp4,somebody,train", "bert/001.mp4,bert,valid"))
    assert made()[0] == names[1:]
    assert load_clip(out / names[1]).split == "valid"
    write_table(tmp_path, files)
    assert made()[0] == names[1:] and [(out / name).read_bytes() for name in names] == content
    with (tmp_path / files[0]).open("ab") as file:
        file.write(b"\xec\x81\0")  # an empty element of Matroska
    assert made()[0] == names[:1]
    write_table(tmp_path, files[:1])
    assert "1 shards there belong to no row" in made()[1] and len(list(out.iterdir())) == 2
    made(prune=True)
    assert [path.name for path in out.iterdir()] == names[:1]


def chunk(t_ns: int, samples: list[float]) -> Chunk:
    return Chunk(0, t_ns, 16_000, np.array(samples, np.float32))


def test_chunks_are_joined_where_their_times_put_them() -> None:
    gap_ns = NS_PER_S // 2
    times_ns = (7, 7 + 10 * NS_PER_MS, 7 + gap_ns)
    samples, t_ns = join([chunk(at_ns, [k + 1.0] * 160) for k, at_ns in enumerate(times_ns)])
    assert t_ns == 7
    assert len(samples) == 8160
    assert samples[:320].tolist() == [1.0] * 160 + [2.0] * 160
    assert not samples[320:8000].any() and (samples[8000:] == 3.0).all()


def test_jitter_of_chunk_times_makes_no_hole() -> None:
    samples, _ = join([chunk(k * 10 * NS_PER_MS + (-1) ** k * 60_000, [k + 1.0] * 160) for k in range(20)])
    assert len(samples) == 3200
    assert (samples > 0).all()


def random_crops(count: int, side: int) -> Iterator[MouthCrop]:
    """Crops at 30 frames a second, with a second track from the middle on."""
    random = np.random.default_rng(5)
    for k in range(count):
        crop = random.integers(0, 256, (side, side), dtype=np.uint8)
        yield MouthCrop(round(k * NS_PER_S / 30), None if k == 20 else crop, track=k // 40, faces=1)


def test_training_and_device_compute_the_same_of_the_same_input(tmp_path: Path) -> None:
    random = np.random.default_rng(6)
    sound = np.round(random.standard_normal(40_000) * 3000).clip(-32767, 32767).astype(np.int16)
    side = FRONT_END.crop_px + 2 * MARGIN_PX
    wide, narrow = LipGrid(side), LipGrid()
    inner = slice(MARGIN_PX, MARGIN_PX + FRONT_END.crop_px)
    shard_parts = [wide.push(crop) for crop in random_crops(75, side)]
    device_parts = [
        narrow.push(MouthCrop(c.t_ns, None if c.crop is None else c.crop[inner, inner].copy(), c.track, c.faces))
        for c in random_crops(75, side)
    ]
    crops, valid = (np.concatenate([part[k] for part in shard_parts]) for k in (1, 2))
    start_ns = 123_456_789
    clip = Clip(
        name="golden", speaker="", split="", corpus="", crops=crops.astype(np.uint8), valid=valid.astype(np.bool_),
        first_lip_tick=shard_parts[0][0], samples=sound, samples_t_ns=start_ns, speech=np.ones(250, np.bool_),
        speech_first_tick=12, lip_points=np.full((len(crops), LIP_POINTS, 2), np.nan, np.float32),
    )  # fmt: skip
    lips, first_lip, flags, rows, first_row = front_end(load_clip(write_shard(clip, tmp_path)))
    assert np.array_equal(lips, np.concatenate([normalize(part[1]) for part in device_parts]))
    assert np.array_equal(flags, np.concatenate([part[2] for part in device_parts]))
    assert first_lip == device_parts[0][0]
    assert 0 < flags.sum() < len(flags)

    stream, at = LogMelStream(), 0
    parts: list[tuple[int, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]] = []
    while at < len(sound):  # however the samples are cut
        count = int(random.integers(1, 3000))
        block = np.asarray(sound[at : at + count] / np.float32(32767), np.float32)
        parts.append(stream.push(Chunk(len(parts), start_ns + round(at * NS_PER_S / 16_000), 16_000, block)))
        at += count
    assert first_row == parts[0][0]
    streamed = np.concatenate([part[1] for part in parts])
    assert rows.shape == streamed.shape
    assert rows == pytest.approx(streamed, abs=1e-6)


@needs_face_model
def test_training_and_device_compute_the_same_of_the_same_recording(
    face: Path, prepared: tuple[Path, Path, str]
) -> None:
    lips, first_lip, flags, rows, first_row = front_end(load_clip(prepared[1] / "good.mkv.npz"))
    tracker, grid, stream = MouthTracker(FaceDetector(require_face_model())), LipGrid(), LogMelStream()
    lip_parts, row_parts = [], []
    with FileSource(face) as source:
        for item in source:
            if isinstance(item, Frame):
                lip_parts += [grid.push(crop) for (crop,) in tracker.push(item)]
            else:
                row_parts.append(stream.push(item))
    lip_parts += [grid.push(crop) for (crop,) in tracker.finish()]
    lip_parts = [part for part in lip_parts if len(part[1])]
    assert (first_lip, first_row) == (lip_parts[0][0], row_parts[0][0])
    assert np.array_equal(flags, np.concatenate([part[2] for part in lip_parts]))
    streamed = np.concatenate([part[1] for part in row_parts])
    assert len(rows) == len(streamed)
    # The shard keeps 16 bits of each sample, and the stream may place a row one sample beside.
    assert np.abs(rows - streamed).max() < 0.3
    assert np.abs(rows - streamed).mean() < 0.005
    # Interpolation at another place of a larger picture may round some pixels the other way.
    device_lips = normalize(np.concatenate([part[1] for part in lip_parts]))
    assert np.abs(lips - device_lips).max() < 0.15
    assert np.abs(lips - device_lips).mean() < 0.002
