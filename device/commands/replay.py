"""The command `avdrift replay`: runs the whole daemon on a recording."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from device.analysis.audio_selection import SelectedTracks
from device.analysis.plot import Drawing, Moment, draw, short_name, write_table
from device.analysis.video_selection import select_tracks
from device.bundles.bundle import Bundle
from device.capture.memory import memory_bound
from device.clock import SystemClock
from device.commands.options.limits import add_limit_options, chosen_limits
from device.commands.options.memory import add_memory_option
from device.commands.options.models import chosen_bundle, default_store
from device.commands.options.overrides import overridden_settings
from device.commands.options.timeline_files import add_timeline_files, check_timeline_files
from device.commands.options.tracks import add_track_options, track_choice
from device.commands.reading_progress import reading_progress
from device.commands.recording import run_recording
from device.commands.served_page import print_address, serve_until_closed
from device.config.settings import EventSettings, MeasureSettings, PageSettings
from device.features.model_download import require_face_model
from device.records import Event, Health, Info, Report
from device.reporting.event_publisher import EventPublisher
from device.reporting.sink import Hub
from device.runtime.daemon import Daemon
from device.runtime.signals import signal_handlers
from device.runtime.sinks import page_sink
from device.standards import Profile
from device.telemetry.stdout_sink import Lines

if TYPE_CHECKING:
    from device.page.sink import PageSink

_STDOUT, _STDERR = 1, 2


def add_replay_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], parents: list[argparse.ArgumentParser]
) -> None:
    replay = commands.add_parser("replay", parents=parents, help="run the whole daemon on a recording")
    replay.add_argument("file", metavar="FILE", help="a recording")
    replay.add_argument("--speed", choices=("max", "realtime"), help="default: max; with --page: realtime")
    replay.add_argument("--page", action="store_true", help="show it in a browser, and print the page's address")
    add_limit_options(replay)
    add_track_options(replay)
    add_timeline_files(replay)
    add_memory_option(replay)
    replay.add_argument("--json", action="store_true", help="print one JSON report per line, as live")


def replay_command(options: argparse.Namespace) -> int:
    check_timeline_files(options)
    settings, (_, limits) = overridden_settings(options, MeasureSettings()), chosen_limits(options)
    with memory_bound(options.max_memory_mb, options.file):
        seen = _replay(options, settings, limits)
    if options.csv:
        write_table(seen.moments, options.csv)
    if options.plot:
        title = f"{short_name(options.file)}: {len(seen.moments)} reports ({settings.profile})"
        end_s = seen.moments[-1].t_s if seen.moments else 1.0
        draw(Drawing(title, "each report", seen.moments, limits, end_s, steps=seen.steps), options.plot)
    return 0


def _replay(options: argparse.Namespace, settings: MeasureSettings, limits: Profile) -> _Seen:
    speed = options.speed or ("realtime" if options.page else "max")
    bundle = chosen_bundle(options.bundle, options.store)
    audio = select_tracks(Path(options.file), track_choice(options), require_face_model())
    page = None
    if options.page:
        page = page_sink(
            PageSettings(), report_every_s=settings.report_every_s, folder=Path(),
            state_dir=options.store or default_store(), recording=True,
        )  # fmt: skip
    realtime = speed == "realtime"
    seen = _Seen(options.csv is not None or options.plot is not None)
    with nullcontext() if realtime else reading_progress(Path(options.file)) as read:
        seen.on_read = read
        _follow(settings, limits, bundle, options.file, audio, page, seen, realtime=realtime, as_lines=options.json)
    return seen


class _Seen:
    """Collects what `--csv`, `--plot` and the progress bar need of the reports."""

    def __init__(self, keep: bool) -> None:
        self.moments: list[Moment] = []
        self.steps: list[tuple[float, float]] = []
        self.on_read: Callable[[float], None] | None = None
        self.position_s: Callable[[], float | None] = lambda: None
        self._keep = keep

    def report(self, report: Report) -> None:
        if (t_s := self.position_s()) is None:
            return
        if self.on_read is not None:
            self.on_read(t_s)
        if self._keep:
            self.moments.append(
                Moment(t_s, report.offset_ms, report.offset_std_ms, report.confidence, report.state, report.verdict)
            )
            if report.step_ms is not None:
                self.steps.append((t_s, report.step_ms))

    def event(self, event: Event) -> None: ...

    def health(self, health: Health) -> None: ...

    def info(self, info: Info) -> None: ...

    def close(self) -> None: ...


def _follow(
    settings: MeasureSettings, limits: Profile, bundle: Bundle, file: str, audio: SelectedTracks, page: PageSink | None,
    seen: _Seen, *, realtime: bool, as_lines: bool,
) -> None:  # fmt: skip
    """Run the daemon on a recording."""
    lines = Lines(_STDOUT, as_json=as_lines)
    sink = EventPublisher(Hub([lines, seen, *([page] if page else [])]), EventSettings(), SystemClock(), limits)
    daemon = Daemon(bundle, require_face_model(), settings, sink, own_limits=limits, view=page.view if page else None)
    lines.position_s = seen.position_s = lambda: daemon.position_s
    # At full speed, the reader of standard output may set the pace.
    lines.waits_for_reader = lambda: not (realtime or daemon.stopping)
    with closing(sink):
        if page is not None:
            page.set_limits(limits)
            page.submit_to(daemon.submit)
            print_address(page)
        with signal_handlers(daemon):
            run_recording(daemon, file, realtime=realtime, audio=audio)
        if page is not None:
            serve_until_closed(page)
    lines.sum_up(_STDERR)
