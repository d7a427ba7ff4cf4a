"""Composition: the feeds of a daemon that runs on a camera and a microphone, or on a recording."""

from __future__ import annotations

from device.capture.file import FileSource
from device.capture.source import LiveSource
from device.config.settings import Config
from device.records import Chunk, Frame
from device.runtime.source_thread import Feed, RecordingFeed


def live_feeds(config: Config) -> tuple[Feed, ...]:
    """The configured camera and microphone. What they need of the system is looked for when they are opened."""

    def camera() -> LiveSource[Frame | Chunk]:
        from device.capture.cameras.discovery import open_camera

        return open_camera(config.camera)

    def microphone() -> LiveSource[Frame | Chunk]:
        from device.capture.microphones.source import MicrophoneSource

        return MicrophoneSource(config.microphone)

    return Feed("camera", camera), Feed("microphone", microphone)


def recording_feed(source: FileSource) -> RecordingFeed:
    """A recording, read once."""
    return RecordingFeed("recording", lambda: source)
