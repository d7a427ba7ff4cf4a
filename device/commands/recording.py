"""The daemon on a recording, shared by `avdrift run` and `avdrift replay`."""

from __future__ import annotations

import sys
from pathlib import Path

from device.analysis.audio_selection import SelectedTracks
from device.analysis.video_selection import select_tracks
from device.capture.container import AS_PLAYED
from device.capture.file import FileSource
from device.features.model_download import require_face_model
from device.printable import shown_name
from device.runtime.daemon import Daemon
from device.runtime.inputs.sources import recording_feed


def run_recording(daemon: Daemon, file: str, *, realtime: bool, audio: SelectedTracks | None = None) -> None:
    """Run a recording to its end and report any damage in it."""
    audio = audio or select_tracks(Path(file), AS_PLAYED, require_face_model())
    if audio.video_why:
        print(f"avdrift: {shown_name(file)}: measuring {audio.video}, as {audio.video_why}", file=sys.stderr)
    if audio.why:
        print(f"avdrift: {shown_name(file)}: measuring {audio.track}, as {audio.why}", file=sys.stderr)
    with FileSource(file, which=audio.which) as source:
        daemon.run([recording_feed(source)], realtime=realtime)
        if source.damaged:
            print(f"avdrift: {shown_name(file)}: damaged: {source.damaged}", file=sys.stderr)
