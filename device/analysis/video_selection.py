"""Choose the tracks of a recording: those that a player would take, unless there is nobody to see or to hear in them.

Method: where there are several video tracks, such as a camera's beside the slides, a few moments of the one that a
player would take are searched for faces, and where it has none, those of the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import av

from device.analysis.audio_selection import SelectedTracks, select_audio
from device.capture.container import TrackChoice, choose_tracks, demuxed, open_recording, picture_tracks
from device.capture.decoded_pictures import PictureMaker
from device.capture.file import DEFAULT_MAX_HEIGHT
from device.features.face import FaceDetector
from device.features.tiles import TileSearch
from device.pictures import Picture

_LOOKS = 12  # evenly spaced over the recording
_ENOUGH = 3  # with a face: slides may show one now and then
_SKIPPED_FRAMES = 24  # between looks, where the length of the recording is unknown


def select_tracks(path: Path, requested: TrackChoice, face_model: Path) -> SelectedTracks:
    """Choose the video, the audio and its channel. Raises CaptureError."""
    selected = select_audio(path, requested)
    if requested.video is not None or not selected.other_videos:
        return selected
    with open_recording(path) as container:
        played = choose_tracks(container, path, requested)[0].index
        indexes = [stream.index for stream in picture_tracks(container)]
    detector = FaceDetector(face_model)
    faces = {played: _looks_with_a_face(path, played, detector)}
    if faces[played] < _ENOUGH:
        faces |= {index: _looks_with_a_face(path, index, detector) for index in indexes if index != played}
    chosen = max(faces, key=lambda index: faces[index])
    if chosen == played:
        return selected
    requested = replace(requested, video=indexes.index(chosen) + 1)
    return replace(select_audio(path, requested), video_why=f"nobody's face is visible in {selected.video}")


def _looks_with_a_face(path: Path, index: int, detector: FaceDetector) -> int:
    """In how many of the looks a face is found; it is not searched for any longer once that is enough."""
    tiles, found = TileSearch(detector), 0
    for picture in _looks(path, index):
        found += bool(detector.detect(picture) or tiles.search(picture))
        if found >= _ENOUGH:
            break
    return found


def _looks(path: Path, index: int) -> Iterator[Picture]:
    """Pictures of one track; fewer where it is damaged or has ended."""
    with open_recording(path) as container:
        stream = container.streams[index]
        if not isinstance(stream, av.VideoStream) or stream.codec_context is None:  # no decoder
            return
        to_picture = PictureMaker(stream.sample_aspect_ratio, DEFAULT_MAX_HEIGHT)
        length_us = max(container.duration or 0, 0)
        for look in range(_LOOKS):
            try:
                if length_us and look:
                    container.seek((container.start_time or 0) + length_us * look // _LOOKS)
                frames = (frame for packet in demuxed(container, stream) for frame in packet.decode())
                frame = next(islice(frames, 0 if length_us else _SKIPPED_FRAMES, None), None)
                if isinstance(frame, av.VideoFrame):
                    yield to_picture(frame)
            except (av.FFmpegError, ValueError):
                continue
