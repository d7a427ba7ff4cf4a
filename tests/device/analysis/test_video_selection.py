"""Which of several video tracks is measured: a player's, or the first with a face."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from device.analysis.video_selection import select_tracks
from device.capture.container import AS_PLAYED, TrackChoice
from device.cli import main
from device.features.model_download import require_face_model
from tests.remux import timed
from tests.scenes import talking, tiny_bundle

FACE, SLIDES = True, False


def recorded(path: Path, *tracks: bool) -> Path:
    """The talking face with its audio, and video of slides beside it; the first track is the default."""
    with av.open(str(talking())) as given, av.open(str(path), "w") as made:
        sound = made.add_stream_from_template(given.streams.audio[0], opaque=True)
        pictures: list[av.VideoStream] = []
        for shows_face in tracks:
            template = given.streams.video[0]
            shown = made.add_stream_from_template(template, opaque=True) if shows_face else made.add_stream("mpeg4", 5)
            assert isinstance(shown, av.VideoStream)
            if not shows_face:
                shown.width, shown.height, shown.pix_fmt = 320, 240, "yuv420p"
            shown.disposition = Disposition(0) if pictures else Disposition.default
            pictures.append(shown)
        for packet in timed(given):
            if packet.stream.type == "audio":
                packet.stream = sound
                made.mux(packet)
            elif FACE in tracks:
                packet.stream = pictures[tracks.index(FACE)]
                made.mux(packet)
        for shown, shows_face in zip(pictures, tracks, strict=True):
            for number in range(0 if shows_face else 40):
                frame = av.VideoFrame.from_ndarray(
                    np.full((240, 320, 3), 40 * (number // 10), np.uint8), format="rgb24"
                )
                frame.pts = number
                made.mux(shown.encode(frame))
            if not shows_face:
                made.mux(shown.encode(None))
    return path


def test_a_track_with_a_face_is_taken_where_a_players_has_none(tmp_path: Path) -> None:
    path = recorded(tmp_path / "in.mkv", SLIDES, FACE)
    chosen = select_tracks(path, AS_PLAYED, require_face_model())
    assert chosen.which == TrackChoice(2, 1, None)
    assert (chosen.video, chosen.other_videos) == ("video 2", ("video 1",))
    assert chosen.video_why == "nobody's face is visible in video 1"


@pytest.mark.parametrize("tracks", [(FACE, SLIDES), (SLIDES, SLIDES), (FACE,)])
def test_otherwise_it_is_the_players(tmp_path: Path, tracks: tuple[bool, ...]) -> None:
    chosen = select_tracks(recorded(tmp_path / "in.mkv", *tracks), AS_PLAYED, require_face_model())
    assert chosen.which.video == 1 and chosen.video_why is None


def test_a_track_that_was_asked_for_stays(tmp_path: Path) -> None:
    path = recorded(tmp_path / "in.mkv", SLIDES, FACE)
    assert select_tracks(path, TrackChoice(video=1), require_face_model()).which.video == 1


def test_the_command_says_which_it_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recorded(tmp_path / "in.mkv", SLIDES, FACE)
    assert main(["measure", str(path), "--bundle", str(tiny_bundle())]) == 0
    assert "  measured: video 2, as nobody's face is visible in video 1\n" in capsys.readouterr().out
    assert main(["measure", str(path), "--json", "--bundle", str(tiny_bundle())]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["video_track"] == "video 2" and found["other_video_tracks"] == ["video 1"]
    assert found["reason"] != "no_face"
