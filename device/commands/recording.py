"""The daemon on a recording, shared by `avdrift run` and `avdrift replay`."""

from __future__ import annotations

import sys
from pathlib import Path

from device.analysis.listen import Heard, listen
from device.capture.container import AS_PLAYED
from device.capture.file import FileSource
from device.runtime.daemon import Daemon
from device.runtime.inputs.sources import recording_feed


def run_recording(daemon: Daemon, file: str, *, realtime: bool, heard: Heard | None = None) -> None:
    """Run a recording to its end and report any damage in it."""
    heard = heard or listen(Path(file), AS_PLAYED)
    if heard.why:
        print(f"avdrift: {file}: measuring {heard.track}, as {heard.why}", file=sys.stderr)
    with FileSource(file, which=heard.which) as source:
        daemon.run([recording_feed(source)], realtime=realtime)
        if source.damaged:
            print(f"avdrift: {file}: damaged: {source.damaged}", file=sys.stderr)
