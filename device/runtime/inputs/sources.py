"""Composition: the feeds of a daemon with a camera and a microphone, a stream, or a recording."""

from __future__ import annotations

import os
from pathlib import Path

from device.addresses import PASSWORD, parse_address, with_login
from device.capture.file import FileSource
from device.capture.source import LiveSource
from device.capture.streams.inputs import FromAddress, FromGrowingFile, FromPipe, StreamInput
from device.capture.streams.source import Stream
from device.config.secret_file import read_secret, secret_file
from device.config.settings import Config, SourceSettings
from device.errors import UsageError
from device.records import Chunk, Frame
from device.runtime.inputs.source_thread import Feed, RecordingFeed

STANDARD_INPUT = "-"
CREDENTIAL = "source-password"
_MAX_PASSWORD_BYTES = 4096
_STREAM_PAUSE_S = 1.0  # an attempt costs a server little, and one that is back should be measured soon


def live_feeds(config: Config) -> tuple[Feed, ...]:
    """The configured camera and microphone. The libraries they need are loaded when they are opened."""

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


def stream_feed(source: StreamInput) -> Feed:
    """Video and audio from one sender."""
    return Feed("stream", Stream(source).open, _STREAM_PAUSE_S)


def address_input(settings: SourceSettings, folder: Path) -> StreamInput:
    """The configured address with its password. Relative paths start at `folder`. Raises UsageError."""
    address = parse_address(settings.url)
    file = secret_file(settings.password_file, folder, CREDENTIAL)
    if file is not None and (settings.username or PASSWORD in settings.url):
        address = with_login(address, settings.username, _password(file))
    ca_file = folder / settings.ca_file if settings.ca_file else None
    return FromAddress(address, settings.transport, ca_file)


def _password(file: Path) -> str:
    """The password of a stream. Raises UsageError."""
    remedy = "Put the password there and nothing else, readable for avdrift only"
    password = read_secret(file, _MAX_PASSWORD_BYTES, "password", remedy)
    if not password.isprintable():
        raise UsageError("it has control characters, so no password", where=str(file), remedy=remedy)
    return password


def standard_input() -> StreamInput:
    """The output of another program. Its descriptor is moved, so that nothing else in this process reads it."""
    descriptor = os.dup(0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    return FromPipe(descriptor)


def growing_file(path: Path) -> StreamInput:
    """A recording that another program is still writing."""
    return FromGrowingFile(path)
