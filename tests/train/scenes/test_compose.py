"""Two people side by side and unmeasurable scenes, as recordings of a synthetic clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from device.bundles.bundle import DEFAULT_BUNDLE, load_bundle
from device.features.contract import AUDIO_RATE_HZ
from device.features.model_download import face_model_path
from device.records import NS_PER_S, Reason
from tests.scenes import talking
from train.scenes.compose import chunks_of, read_clip, reports, square, with_sound
from train.scenes.two_speakers import Scene, judge_scene, scenes, side_by_side
from train.scenes.unmeasurable import SCENES, judge_part, unmeasurable

SAMPLE = Path("device/models/sample.mkv")

needs_face_model = pytest.mark.skipif(not face_model_path().is_file(), reason="the face model has not been fetched")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two films that say different words."""
    folder = tmp_path_factory.mktemp("clips")
    (folder / "a.mkv").symlink_to(SAMPLE.resolve())
    (folder / "b.mkv").symlink_to(talking().resolve())
    (folder / "clips.csv").write_text(
        "file,speaker,split,corpus\na.mkv,one,valid,made\nb.mkv,two,valid,made\n", encoding="utf-8"
    )
    return folder


def test_sound_is_cut_into_consecutive_blocks() -> None:
    samples = np.arange(AUDIO_RATE_HZ, dtype=np.float32)
    blocks = list(chunks_of(samples, 5))
    assert np.array_equal(np.concatenate([block.samples for block in blocks]), samples)
    assert [block.t_ns for block in blocks[:2]] == [5, 50_000_005]


def test_pairs_are_of_different_speakers(clips: Path) -> None:
    found = scenes(clips, "valid", 0)
    assert {(scene.heard.name, scene.seen.name) for scene in found} == {("a.mkv", "b.mkv"), ("b.mkv", "a.mkv")}
    assert scenes(clips, "test", 0) == []


@needs_face_model
@pytest.mark.parametrize("heard_left", [True, False])
def test_the_one_who_is_heard_is_measured_on_either_side(heard_left: bool) -> None:
    """The sample's first twelve seconds, whose sound is 80 ms early, beside its lips of half a minute later."""
    frames, samples, audio_ns = read_clip(SAMPLE)
    heard = [frame for frame in frames if frame.t_ns < 12 * NS_PER_S]
    seen = [frame for frame in frames if 30 * NS_PER_S <= frame.t_ns < 42 * NS_PER_S]
    items = with_sound(side_by_side(heard, seen, heard_left), samples[: 12 * AUDIO_RATE_HZ], audio_ns)
    told_ms = [result.offset_ms for result in reports(items, load_bundle(DEFAULT_BUNDLE), 5.0)]
    numbers_ms = [offset_ms for offset_ms in told_ms if offset_ms is not None]
    assert len(numbers_ms) >= 4
    assert all(abs(offset_ms - 80) <= 40 for offset_ms in numbers_ms)


@needs_face_model
def test_a_pair_of_which_nothing_is_known_is_left_out(clips: Path) -> None:
    """The sample's offset steps: no truth to hold a report against."""
    assert judge_scene(Scene(clips / "a.mkv", clips / "b.mkv", True, 0.0), DEFAULT_BUNDLE, 5.0).get("unsure")


@needs_face_model
@pytest.mark.parametrize(
    ("scene", "expected"),
    [("silence", Reason.NO_SPEECH), ("empty room", Reason.NO_FACE), ("photograph", Reason.VOICE_NOT_OF_THIS_FACE)],
)
def test_unmeasurable_scenes_are_what_they_are_called(clips: Path, scene: str, expected: Reason) -> None:
    words = judge_part(scene, clips / "a.mkv", [clips / "b.mkv"], DEFAULT_BUNDLE, 5.0, 0, part_s=12)
    assert len(words) >= 8 and set(words[5:]) == {expected.value}


def test_every_scene_has_pictures_and_sound() -> None:
    frames, _, _ = read_clip(SAMPLE)
    for show, say in SCENES.values():
        random = np.random.default_rng(0)
        picture = next(show(frames[:10], random))
        assert picture.shape == square(frames[0].rgb).shape and picture.dtype == np.uint8
        assert say(AUDIO_RATE_HZ, random, [SAMPLE]).shape == (AUDIO_RATE_HZ,)


@needs_face_model
def test_the_table_counts_the_reports_of_each_scene(clips: Path) -> None:
    load_bundle(DEFAULT_BUNDLE)
    found = unmeasurable(
        clips, DEFAULT_BUNDLE, split="valid", hours=2 * len(SCENES) / 3600, window_s=5.0, jobs=1, part_s=2
    )
    assert set(found["scenes"]) == set(SCENES) and found["measuring"] == 0
    assert found["reports"] == sum(sum(counts.values()) for counts in found["scenes"].values())
