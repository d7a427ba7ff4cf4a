"""The daemon on a recording, shared by `avdrift run` and `avdrift replay`."""

from __future__ import annotations

import sys
from pathlib import Path

from device.analysis.audio_selection import SelectedAudio, select_audio
from device.capture.container import AS_PLAYED
from device.capture.file import FileSource
from device.printable import shown_name
from device.runtime.daemon import Daemon
from device.runtime.inputs.sources import recording_feed


def run_recording(daemon: Daemon, file: str, *, realtime: bool, audio: SelectedAudio | None = None) -> None:
    """Run a recording to its end and report any damage in it."""
    audio = audio or select_audio(Path(file), AS_PLAYED)
    if audio.why:
        print(f"avdrift: {shown_name(file)}: measuring {audio.track}, as {audio.why}", file=sys.stderr)
    with FileSource(file, which=audio.which) as source:
        daemon.run([recording_feed(source)], realtime=realtime)
        if source.damaged:
            print(f"avdrift: {shown_name(file)}: damaged: {source.damaged}", file=sys.stderr)
