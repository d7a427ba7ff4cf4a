"""Choose the audio of a recording: the track that a player would take, unless nobody speaks in it.

Method: for the first minutes of each track, the share of speech (`device.features.vad`) and of quiet. In speech many
moments are far below the average of the second around them; in music few are (Scheirer and Slaney, "Construction and
evaluation of a robust multifeature speech/music discriminator", ICASSP 1997). All channels are mixed as long as they do
not cancel each other and contain speech; otherwise the one channel with the most speech is used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.stream import Stream

from device.capture.container import (
    TrackChoice,
    called,
    choice_of,
    choose_tracks,
    demuxed,
    open_recording,
    picture_tracks,
)
from device.capture.joints import Packet
from device.capture.tracks import AudioTrack, planes_of
from device.features.contract import AUDIO_RATE_HZ
from device.features.vad import SpeechStream
from device.records import Chunk

_MIN_SPEECH_S = 6.0  # of speech: enough to decide
_LONGER_S, _LONGEST_S = 30.0, 300.0
_MIN_SPEECH, _MIN_QUIET = 0.15, 0.15
_MAX_CHANNELS = 8
_CANCELLED = 0.1  # of the louder channel's power: opposite phases leave nothing, unrelated channels half
_QUIET_LEVEL = 0.5  # of the mean amplitude over a second
_CHUNKS_OF_A_SECOND = 50


@dataclass(frozen=True, slots=True)
class SelectedTracks:
    """Which audio to read beside which video, and what to tell the user about both."""

    which: TrackChoice
    track: str  # a name for people
    video: str
    others: tuple[str, ...] = ()
    other_videos: tuple[str, ...] = ()
    why: str | None = None  # why it is not what a player would take; None where it is
    video_why: str | None = None


@dataclass(slots=True)
class _Probe:
    """Adds up speech and level of one track, or of one channel of it."""

    sound: AudioTrack
    speech: SpeechStream = field(default_factory=SpeechStream)
    flags: list[bool] = field(default_factory=list)
    levels: list[float] = field(default_factory=list)  # amplitude of each chunk
    power: float = 0.0  # of the mix of all channels, and of the loudest channel alone
    loudest: float = 0.0

    def push(self, frame: av.AudioFrame) -> None:
        if self.sound.channel is None and frame.layout.nb_channels == 2:
            left, right = (planes_of(frame)[number].astype(np.float64) for number in (0, 1))
            self.power += float(((left + right) ** 2).sum()) / 4
            self.loudest += float(max((left**2).sum(), (right**2).sum()))
        for chunk in self.sound.feed(frame):
            self._add(chunk)

    def _add(self, chunk: Chunk) -> None:
        self.levels.append(float(np.sqrt(np.mean(chunk.samples**2))) if len(chunk.samples) else 0.0)
        self.flags += self.speech.push(chunk)[1].tolist()

    @property
    def length_s(self) -> float:
        return len(self.levels) / _CHUNKS_OF_A_SECOND

    @property
    def cancelled(self) -> bool:
        return self.power < _CANCELLED * self.loudest

    @property
    def speech_s(self) -> float:
        return sum(self.flags) / 100

    @property
    def is_speech(self) -> bool:
        """Whether the audio is speech rather than music."""
        levels = np.array(self.levels[: len(self.levels) // _CHUNKS_OF_A_SECOND * _CHUNKS_OF_A_SECOND])
        if not len(levels) or not self.flags:
            return False
        seconds = levels.reshape(-1, _CHUNKS_OF_A_SECOND)
        audible = seconds[seconds.mean(axis=1) > 10 ** (-60 / 20)]
        quiet = float((audible < _QUIET_LEVEL * audible.mean(axis=1, keepdims=True)).mean()) if len(audible) else 0.0
        return bool(np.mean(self.flags) >= _MIN_SPEECH and quiet >= _MIN_QUIET)


def select_audio(path: Path, requested: TrackChoice) -> SelectedTracks:
    """Choose the tracks and the channel to read. Raises CaptureError."""
    with open_recording(path) as container:  # stream objects cannot be used after closing
        video, played = (stream.index for stream in choose_tracks(container, path, requested))
        pictures = {stream.index: called(stream) for stream in picture_tracks(container)}
        sounds = [stream for stream in container.streams.audio if _has_decoder(stream)]
        names = {stream.index: called(stream) for stream in sounds}
        channels = {stream.index: min(stream.codec_context.channels, _MAX_CHANNELS) for stream in sounds}
    chosen, channel, why = played, requested.channel, None
    among = [played] if requested.audio is not None else list(names)
    if channel is None and (len(among) > 1 or channels[played] > 1):
        probes = _probe(path, [(index, None) for index in among], played)
        with_speech = [index for index in among if probes[index, None].is_speech]
        if with_speech and played not in with_speech:
            chosen = max(with_speech, key=lambda index: probes[index, None].speech_s)
            why = f"nobody speaks in {names[played]}"
        if not with_speech or probes[chosen, None].cancelled:
            several = [index for index in ([chosen] if with_speech else among) if channels[index] > 1]
            best = _one_channel(path, [(index, number + 1) for index in several for number in range(channels[index])])
            if best is not None:
                chosen, channel = best
                why = "its channels cancel each other, or nobody speaks in all of them together"
    which = choice_of(path, video_index=video, audio_index=chosen, channel=channel)
    others = tuple(name for index, name in names.items() if index != chosen)
    other_videos = tuple(name for index, name in pictures.items() if index != video)
    return SelectedTracks(which, names[chosen], pictures[video], others, other_videos, why)


def _one_channel(path: Path, keys: list[tuple[int, int]]) -> tuple[int, int] | None:
    """The channel with the most speech: (stream, number)."""
    if not keys:
        return None
    probes = _probe(path, keys, keys[0][0])
    return max((key for key in keys if probes[key].is_speech), key=lambda key: probes[key].speech_s, default=None)


def requested_audio(path: Path, requested: TrackChoice) -> SelectedTracks:
    """Choose without probing: the requested tracks, otherwise those that a player would take."""
    with open_recording(path) as container:
        video, audio = choose_tracks(container, path, requested)
        others = tuple(called(stream) for stream in container.streams.audio if stream.index != audio.index)
        other_videos = tuple(called(stream) for stream in picture_tracks(container) if stream.index != video.index)
        return SelectedTracks(requested, called(audio), called(video), others, other_videos)


def _probe(path: Path, keys: Sequence[tuple[int, int | None]], first: int) -> dict[tuple[int, int | None], _Probe]:
    """Probe the start of these tracks or channels, until the first is known well enough or another has speech."""
    probes = {
        (index, channel): _Probe(AudioTrack(AUDIO_RATE_HZ, Counter(), channel=channel)) for index, channel in keys
    }
    with open_recording(path) as container:
        streams = [container.streams[index] for index in dict.fromkeys(index for index, _ in keys)]
        for packet in _until_damage(container, streams):
            for frame in _decoded(packet):
                for (index, _), probe in probes.items():
                    if index == packet.stream.index:
                        probe.push(frame)
            done = max(probe.length_s for probe in probes.values())
            enough = any(
                probe.speech_s > _MIN_SPEECH_S and probe.is_speech
                for (index, _), probe in probes.items()
                if index == first
            )
            if done > _LONGEST_S or enough or (done > _LONGER_S and any(probe.is_speech for probe in probes.values())):
                break
    return probes


def _until_damage(container: av.container.InputContainer, streams: Sequence[Stream]) -> Iterator[Packet]:
    with suppress(av.FFmpegError):
        yield from demuxed(container, *streams)


def _decoded(packet: Packet) -> list[av.AudioFrame]:
    try:
        return [frame for frame in packet.decode() if isinstance(frame, av.AudioFrame) and frame.sample_rate > 0]
    except (av.FFmpegError, ValueError):
        return []


def _has_decoder(stream: av.AudioStream) -> bool:
    context: AudioCodecContext | None = stream.codec_context
    return context is not None
