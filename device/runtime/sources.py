"""Composition: the feeds of a daemon that runs on a camera and a microphone, and its reports as plain lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import TextIO

from device.capture.file import FileSource
from device.capture.source import LiveSource
from device.config.settings import Config
from device.records import Chunk, Event, Frame, Health, Info, Report
from device.runtime.source_thread import Feed, RecordingFeed
from device.telemetry.report_text import Summary, as_json, as_text


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


class Lines:
    """Reports as lines of JSON or of text, and what they amount to at the end."""

    def __init__(self, out: TextIO, *, as_json: bool) -> None:
        self.summary = Summary()
        self.position_s: Callable[[], float | None] = lambda: None  # of the report that is given, in a recording
        self._out, self._as_json = out, as_json

    def report(self, report: Report) -> None:
        t_s = self.position_s()
        print(as_json(report) if self._as_json else as_text(report, t_s), file=self._out, flush=True)
        self.summary.add(report, t_s)

    def event(self, event: Event) -> None:
        """Reports say it already."""

    def health(self, health: Health) -> None: ...

    def info(self, info: Info) -> None: ...

    def close(self) -> None: ...
