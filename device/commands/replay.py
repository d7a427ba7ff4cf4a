"""The command `avdrift replay`: the whole daemon on a recording."""

from __future__ import annotations

import argparse
from pathlib import Path

from device.analysis.listen import Heard, listen
from device.bundles.bundle import Bundle
from device.commands.limit_options import chosen_limits
from device.commands.model import chosen_bundle
from device.commands.run import measure_settings, run_recording, signals
from device.commands.track_options import track_choice
from device.config.settings import MeasureSettings
from device.features.model_download import require_face_model
from device.runtime.daemon import Daemon
from device.standards import Profile
from device.telemetry.stdout_sink import Lines

_STDOUT, _STDERR = 1, 2


def replay_command(options: argparse.Namespace) -> int:
    settings, bundle = measure_settings(options, MeasureSettings()), chosen_bundle(options.bundle, options.store)
    heard = listen(Path(options.file), track_choice(options))
    realtime = options.speed == "realtime"
    _, limits = chosen_limits(options)
    return _follow(settings, limits, bundle, options.file, heard, realtime=realtime, as_lines=options.json)


def _follow(
    settings: MeasureSettings, limits: Profile, bundle: Bundle, file: str, heard: Heard, *, realtime: bool,
    as_lines: bool,
) -> int:  # fmt: skip
    """The daemon on a recording."""
    lines = Lines(_STDOUT, as_json=as_lines)
    daemon = Daemon(bundle, require_face_model(), settings, lines, own_limits=limits)
    lines.position_s = lambda: daemon.position_s
    lines.patient = lambda: not (realtime or daemon.stopping)  # at full speed the reader may set the pace
    with signals(daemon):
        run_recording(daemon, file, realtime=realtime, heard=heard)
    lines.close()
    lines.sum_up(_STDERR)
    return 0
