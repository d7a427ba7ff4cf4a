"""The command `avdrift replay`: the whole daemon on a recording."""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from device.analysis.listen import Heard, listen
from device.bundles.bundle import Bundle
from device.clock import SystemClock
from device.commands.limit_options import chosen_limits
from device.commands.model import chosen_bundle, default_store
from device.commands.run import linger, measure_settings, run_recording, say_address, signals
from device.commands.track_options import track_choice
from device.config.settings import EventSettings, MeasureSettings, PageSettings
from device.features.model_download import require_face_model
from device.reporting.event_publisher import EventPublisher
from device.reporting.sink import Hub
from device.runtime.daemon import Daemon
from device.runtime.sinks import page_sink
from device.standards import Profile
from device.telemetry.stdout_sink import Lines

if TYPE_CHECKING:
    from device.page.sink import PageSink

_STDOUT, _STDERR = 1, 2


def replay_command(options: argparse.Namespace) -> int:
    speed = options.speed or ("realtime" if options.page else "max")
    settings, bundle = measure_settings(options, MeasureSettings()), chosen_bundle(options.bundle, options.store)
    heard = listen(Path(options.file), track_choice(options))
    _, limits = chosen_limits(options)
    page = None
    if options.page:
        page = page_sink(
            PageSettings(), report_every_s=settings.report_every_s, folder=Path(),
            state_dir=options.store or default_store(), recording=True,
        )  # fmt: skip
    realtime = speed == "realtime"
    return _follow(settings, limits, bundle, options.file, heard, page, realtime=realtime, as_lines=options.json)


def _follow(
    settings: MeasureSettings, limits: Profile, bundle: Bundle, file: str, heard: Heard, page: PageSink | None, *,
    realtime: bool, as_lines: bool,
) -> int:  # fmt: skip
    """The daemon on a recording."""
    lines = Lines(_STDOUT, as_json=as_lines)
    sink = EventPublisher(Hub([lines, page] if page else [lines]), EventSettings(), SystemClock(), limits)
    daemon = Daemon(bundle, require_face_model(), settings, sink, own_limits=limits, view=page.view if page else None)
    lines.position_s = lambda: daemon.position_s
    lines.patient = lambda: not (realtime or daemon.stopping)  # at full speed the reader may set the pace
    with closing(sink):
        if page is not None:
            page.take_limits(limits)
            page.submit_to(daemon.submit)
            say_address(page)
        with signals(daemon):
            run_recording(daemon, file, realtime=realtime, heard=heard)
        if page is not None:
            linger(page)
    lines.sum_up(_STDERR)
    return 0
