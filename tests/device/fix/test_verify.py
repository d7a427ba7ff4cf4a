"""Why a copy is not kept: missing streams, seconds or flags, and the result of measuring it again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from av.stream import Disposition

from device.analysis.measure import Measured
from device.errors import InputFormatError
from device.fix.copy import Copied, copy_moved
from device.fix.inventory import Differences, Inventory, Track, differences
from device.fix.plan import Plan
from device.fix.verify import verify, what_is_left
from device.records import State
from device.sync.timeline import Piece, Timeline
from tests.device.fix.test_copy import DRIFT, EARLY, UP, delays_ms, recording

PICTURE = Track("video 1", "video", "h264", Disposition.default, "", "", 250, 0, 0.0, 10.0, 9.96)
SOUND = Track("audio 1", "audio", "aac", Disposition.comment, "Talk", "eng", 470, 0, 0.0, 10.0, 9.98)
CAPTIONS = Track("subtitle 1", "subtitle", "srt", Disposition.forced, "", "fra", 3, 0, 1.0, 9.0, 8.0)
BEFORE = Inventory({0: PICTURE, 1: SOUND, 2: CAPTIONS}, 2, 1, {"title": "A talk"}, 1)
MOVED = replace(SOUND, begin_s=0.08, end_s=10.08, last_s=10.06)
AFTER = replace(BEFORE, tracks={0: PICTURE, 1: MOVED, 2: CAPTIONS})
COPIED = Copied("shifted", video_index=0, audio_index=1, kept={0: 0, 1: 1, 2: 2})


def found(after: Inventory, copied: Copied = COPIED) -> Differences:
    return differences(BEFORE, after, EARLY, copied, audio_index=1)


def with_track(index: int, track: Track) -> Inventory:
    return replace(AFTER, tracks={**AFTER.tracks, index: track})


def test_a_whole_copy_is_right() -> None:
    assert found(AFTER) == Differences()


def test_a_clock_that_begins_elsewhere_is_right_too() -> None:
    def later(track: Track) -> Track:
        assert track.begin_s is not None
        return replace(track, begin_s=track.begin_s + 1.4, end_s=track.end_s + 1.4, last_s=track.last_s + 1.4)

    assert found(replace(AFTER, tracks={i: later(track) for i, track in AFTER.tracks.items()})) == Differences()


@pytest.mark.parametrize(
    ("after", "word"),
    [
        (replace(AFTER, tracks={0: PICTURE, 1: MOVED}), "subtitle 1 is missing"),
        (replace(AFTER, tracks={1: MOVED, 2: CAPTIONS}), "video is missing"),
        (with_track(0, replace(PICTURE, packets=200)), "50 packets of video 1 are missing"),
        (with_track(0, replace(PICTURE, hidden=125)), "125 packets of video 1"),
        (with_track(1, replace(MOVED, end_s=8.08)), "2.0 s of audio 1 are missing"),
        (with_track(1, replace(MOVED, begin_s=3.08)), "3.0 s of audio 1 are missing"),
        (with_track(1, replace(MOVED, last_s=SOUND.last_s)), "lies -80 ms from where it belongs"),
        (with_track(1, replace(MOVED, flags=Disposition(0))), "flag `comment` of audio 1"),
        (with_track(1, replace(MOVED, title="")), "title of audio 1"),
        (with_track(1, replace(MOVED, language="")), "language of audio 1"),
        (with_track(2, replace(CAPTIONS, flags=Disposition(0))), "flag `forced` of subtitle 1"),
        (replace(AFTER, chapters=1), "1 of 2 chapters"),
        (replace(AFTER, pictures=0), "cover or an attachment"),
        (replace(AFTER, words={}), "title"),
        (replace(AFTER, played_audio_index=3), "which audio is played first"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_missing_or_out_of_place_is_wrong(after: Inventory, word: str) -> None:
    assert any(word in wrong for wrong in found(after).wrong)


def test_another_container_may_lack_words_but_not_material() -> None:
    elsewhere = replace(COPIED, same_container=False)
    plain = replace(with_track(1, replace(MOVED, flags=Disposition(0), title="")), chapters=0, words={})
    assert found(plain, elsewhere).wrong == [] and len(found(plain, elsewhere).lost) == 4
    assert found(with_track(1, replace(MOVED, end_s=8.08)), elsewhere).wrong


def test_what_was_left_out_and_told_is_not_missing() -> None:
    result = replace(COPIED, kept={0: 0, 1: 1}, left_out=["subtitle 1"])
    assert found(replace(AFTER, tracks={0: PICTURE, 1: MOVED}), result) == Differences()


# The copy measured again


def measured(*offsets_ms: float, drift_ppm: float | None = None, sure: bool = True) -> Measured:
    pieces = tuple(Piece(300.0 * k, 300.0 * (k + 1), ms, 1.0, 1.0, sure) for k, ms in enumerate(offsets_ms))
    whole = {"file": "out.mkv", "state": State.MEASURING if sure else State.UNCERTAIN, "offset_ms": offsets_ms[0]}
    return Measured(whole, Timeline(pieces, (), (), drift_ppm, 3.0), 0.0, None)


@pytest.mark.parametrize("good", [measured(9.0), measured(-9.0), measured(3.0, -4.0), measured(0.0, drift_ppm=15.0)])
def test_ten_milliseconds_may_be_left(good: Measured) -> None:
    assert what_is_left(good) is None


@pytest.mark.parametrize(
    ("bad", "word"),
    [(measured(11.0), "+11 ms"), (measured(2.0, -70.0), "-70 ms"), (measured(0.0, sure=False), "not sure"),
     (measured(0.0, drift_ppm=30.0), "by"), (measured(0.0, 5.0, sure=False), "0:00 to 5:00")],
)  # fmt: skip
def test_more_must_not_be_left(bad: Measured, word: str) -> None:
    left = what_is_left(bad)
    assert left is not None and word in left


@pytest.mark.parametrize("again", [None, measured(11.0)])
@pytest.mark.parametrize("plan", [EARLY, DRIFT, UP], ids=["shift", "drift", "step"])
def test_a_copy_that_is_off_is_removed(tmp_path: Path, again: Measured | None, plan: Plan) -> None:
    """It lies where another plan would put it, or measuring it says so."""
    source, out = recording("mkv"), tmp_path / "out.mkv"
    out.write_bytes(b"dear")

    def check(made: Path, copied: Copied) -> None:
        wanted = plan if again is not None else Plan(tuple(replace(m, offset_ms=m.offset_ms - 30) for m in plan.moves))
        measure = (lambda path, done: again) if again is not None else None
        verify(source, out, made, wanted, copied, video_index=0, audio_index=1, measured=measure)

    with pytest.raises(InputFormatError, match=r"not kept.*ms.*OUT\.mp4"):
        copy_moved(source, out, plan, video_index=0, audio_index=1, force=True, check=check)
    assert out.read_bytes() == b"dear" and len(list(tmp_path.iterdir())) == 1


def test_nobody_can_foresee_the_name_under_which_a_copy_is_made(tmp_path: Path) -> None:
    names = set()

    def look(made: Path, copied: Copied) -> None:
        names.add(made.name)
        assert made.parent == tmp_path and made.suffix == ".mkv"

    for _ in range(2):
        copy_moved(recording("mkv"), tmp_path / "out.mkv", EARLY, video_index=0, audio_index=1, force=True, check=look)
    assert len(names) == 2 and not any((tmp_path / name).exists() for name in names)
    assert len(delays_ms(tmp_path / "out.mkv")) == 4
