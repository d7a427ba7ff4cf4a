"""Which audio is measured: a player's choice, unless only another track or channel has speech."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from av.stream import Disposition

from device.analysis.audio_selection import select_audio
from device.capture.container import AS_PLAYED, TrackChoice
from device.capture.file import FileSource
from device.errors import InputTrackError
from device.records import Chunk
from tests.remux import timed
from tests.scenes import talking, talking_items

RATE_HZ = 16_000
Samples = npt.NDArray[np.float32]


def speech() -> Samples:
    return np.concatenate([item.samples for item in talking_items() if isinstance(item, Chunk)])


def music(count: int) -> Samples:
    """Chords that change, none of them ever quiet."""
    t_s = np.arange(count) / RATE_HZ
    chord = (t_s / 0.8).astype(int) % 4
    roots = np.array([220.0, 261.6, 196.0, 246.9])[chord]
    sound = sum(np.sin(2 * np.pi * roots * ratio * t_s) for ratio in (1.0, 1.25, 1.5, 2.0, 3.0))
    return np.asarray(0.08 * sound * (1 + 0.2 * np.sin(2 * np.pi * 2.5 * t_s)), np.float32)


def recorded(path: Path, *tracks: Sequence[Samples], languages: Sequence[str] = ()) -> Path:
    """The talking face's pictures with these sounds: for each track its channels. The first is the default."""
    with av.open(str(talking())) as given, av.open(str(path), "w") as made:
        picture = made.add_stream_from_template(given.streams.video[0], opaque=True)
        sounds = []
        for k, channels in enumerate(tracks):
            layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(channels)]
            sound = made.add_stream("flac", rate=RATE_HZ, layout=layout)
            assert isinstance(sound, av.AudioStream)
            sound.disposition = Disposition(0) if k else Disposition.default
            if k < len(languages):
                sound.metadata["language"] = languages[k]
            sounds.append(sound)
        for packet in timed(given):
            if packet.stream.type == "video":
                packet.stream = picture
                made.mux(packet)
        for sound, channels in zip(sounds, tracks, strict=True):
            pcm = (np.clip(np.stack(channels).T, -1, 1) * 32767).astype(np.int16).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(pcm, format="s16", layout=sound.layout.name)
            frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, 0, Fraction(1, RATE_HZ)
            made.mux(sound.encode(frame))
            made.mux(sound.encode(None))
    return path


def level(path: Path, which: TrackChoice) -> float:
    with FileSource(path, which=which) as source:
        return float(np.concatenate([item.samples for item in source if isinstance(item, Chunk)]).std())


def test_the_track_that_a_player_takes_is_used_if_it_has_speech(tmp_path: Path) -> None:
    voice = speech()
    for number, tracks in enumerate(
        [([voice],), ([voice, voice],), ([voice], [0.5 * voice]), ([voice + 0.003], [voice])]
    ):
        heard = select_audio(recorded(tmp_path / f"{number}.mkv", *tracks), AS_PLAYED)
        assert heard.which == TrackChoice(1, 1, None) and heard.why is None


@pytest.mark.parametrize("first", ["silence", "music", "hum"])
def test_another_track_is_taken_where_nobody_speaks_in_the_first(tmp_path: Path, first: str) -> None:
    voice = speech()
    hum = 0.2 * np.sin(2 * np.pi * 50 * np.arange(len(voice)) / RATE_HZ).astype(np.float32)
    sound = {"silence": np.zeros_like(voice), "music": music(len(voice)), "hum": hum}[first]
    path = recorded(tmp_path / "in.mkv", [sound], [voice], languages=("deu", "eng"))
    heard = select_audio(path, AS_PLAYED)
    assert heard.which == TrackChoice(1, 2, None)
    assert heard.track == "audio 2 (eng)" and heard.others == ("audio 1 (deu)",)
    assert heard.why == "nobody speaks in audio 1 (deu)"


@pytest.mark.parametrize("left_over", [0.0, 0.02])
def test_of_channels_that_cancel_each_other_one_is_taken(tmp_path: Path, left_over: float) -> None:
    voice = speech()
    path = recorded(tmp_path / "in.mkv", [voice, (left_over - 1) * voice])
    heard = select_audio(path, AS_PLAYED)
    assert heard.which.channel in (1, 2) and heard.why is not None
    assert level(path, heard.which) > 20 * level(path, AS_PLAYED)


def test_of_many_channels_the_one_that_is_spoken_in_is_taken(tmp_path: Path) -> None:
    voice = speech()
    buzz = np.sign(np.sin(2 * np.pi * 1000 * np.arange(len(voice)) / RATE_HZ)).astype(np.float32)
    path = recorded(tmp_path / "in.mkv", [0.6 * buzz, voice])
    assert select_audio(path, AS_PLAYED).which.channel == 2


def test_what_is_asked_for_is_taken(tmp_path: Path) -> None:
    voice = speech()
    path = recorded(tmp_path / "in.mkv", [voice], [np.zeros_like(voice), 0.5 * voice], languages=("deu", "eng"))
    assert select_audio(path, TrackChoice(audio=2)).which.audio == 2
    assert select_audio(path, TrackChoice(audio="ENG", channel=1)).which == TrackChoice(1, 2, 1)
    assert level(path, TrackChoice(audio=2, channel=1)) == 0.0 < level(path, TrackChoice(audio=2, channel=2))
    for wrong in (TrackChoice(audio=3), TrackChoice(audio="fra"), TrackChoice(video=2), TrackChoice(channel=2)):
        with pytest.raises(InputTrackError) as caught:
            select_audio(path, wrong)
        assert str(path) in str(caught.value) and caught.value.remedy


def test_where_nobody_speaks_anywhere_nothing_changes(tmp_path: Path) -> None:
    nothing = np.zeros(8 * RATE_HZ, np.float32)
    heard = select_audio(recorded(tmp_path / "in.mkv", [nothing, nothing], [music(8 * RATE_HZ)]), AS_PLAYED)
    assert heard.which == TrackChoice(1, 1, None) and heard.why is None
