"""The command `avdrift run`: from options and a configuration file to a daemon that runs until it is stopped."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from device.addresses import is_address, parse_address
from device.analysis.listen import Heard, listen
from device.bundles.gate import require_gate
from device.bundles.rollout import following
from device.bundles.store import Store
from device.capture.container import AS_PLAYED
from device.capture.file import FileSource
from device.capture.memory import memory_bound
from device.capture.streams.inputs import StreamInput
from device.commands.limit_options import given_limits
from device.commands.memory_option import add_memory_option
from device.commands.model import chosen_bundle, default_store
from device.config.file import load_config
from device.config.log_levels import LEVELS
from device.config.settings import Config, MeasureSettings
from device.errors import UsageError
from device.features.model_download import require_face_model
from device.records import Command, Verb
from device.runtime.config_reload import Reloader
from device.runtime.daemon import Daemon
from device.runtime.sinks import Sinks, page_sink
from device.runtime.sources import (
    STANDARD_INPUT,
    address_input,
    growing_file,
    live_feeds,
    recording_feed,
    standard_input,
    stream_feed,
)
from device.standards import OWN_PROFILE
from device.state.ownership import become_owner
from device.state.rig import load_rig
from device.telemetry.lines import CLEAR_LINE, is_journal
from device.telemetry.logging_setup import LogHandler, set_up
from device.telemetry.stdout_sink import report_lines

if TYPE_CHECKING:
    from device.page.sink import PageSink

_STDOUT, _STDERR = 1, 2
_PAGE_S = 3.0  # for the page to open
_LINGER_S = 0.5

_log = logging.getLogger(__name__)


def add_run_options(run: argparse.ArgumentParser) -> None:
    """Add the options of this command only."""
    run.add_argument(
        "--source", metavar="SOURCE",
        help="instead of camera and microphone: a recording, at real-time pace; an address, such as rtsp://host/path; "
        "or - for what comes from standard input",
    )  # fmt: skip
    run.add_argument("--follow", action="store_true", help="the recording is still being written: measure what comes")
    run.add_argument("--username", metavar="NAME", help="name to give to the server of that address")
    run.add_argument("--password-file", metavar="FILE", help="file with the password for it")
    run.add_argument(
        "--config", type=Path, metavar="FILE", help="configuration file; options on the command line override it"
    )
    run.add_argument("--accept-worse", action="store_true", help="with --bundle: models that their gate did not pass")
    run.add_argument(
        "--models-of", type=Path, metavar="FOLDER",
        help="measure with the models of another avdrift's state folder, as they are when this one starts",
    )  # fmt: skip
    add_memory_option(run)
    run.add_argument("--log-level", choices=LEVELS, help="lowest level of messages in the log")
    run.add_argument("--json", action="store_true", help="print reports as JSON on a terminal too")
    run.add_argument("--log-json", action="store_true", help="write the log as JSON lines")


def run_command(options: argparse.Namespace) -> int:
    """Measure until stopped. Reports go to standard output, one JSON object each, and the log to standard error.

    If standard output is the journal, reports are logged instead, as many of them as are configured. On a terminal, one
    line shows the newest report, unless JSON is requested.
    """
    config, folder = configured(options), options.config.parent if options.config else Path()
    living = not options.json and os.isatty(_STDOUT) and os.isatty(_STDERR)
    with closing(set_up(config.log, before=CLEAR_LINE if living else "")) as handler:
        return _run(options, config, folder, handler)


def _run(options: argparse.Namespace, config: Config, folder: Path, handler: LogHandler) -> int:
    stream = stream_input(options, config, folder)
    file = _recording(options, config, folder) if stream is None else None
    bundle = options.bundle or (folder / config.model.bundle if config.model.bundle else None)
    face_model, state_dir = require_face_model(), options.store or default_store()
    become_owner(state_dir)
    # Models are loaded and changed as the user who owns their folder.
    store = Store(state_dir) if bundle is None and options.models_of is None else None
    with following(store, config.model) as models:
        towers = models.first() if models is not None else chosen_bundle(bundle, options.models_of or state_dir)
        if bundle is not None and file is None and not options.accept_worse:
            require_gate(towers.manifest, str(bundle))
        lines, journal = report_lines(_STDOUT, as_json=options.json, log_fd=_STDERR), is_journal(_STDOUT)
        page = page_sink(
            config.page, report_every_s=config.measure.report_every_s, folder=folder, state_dir=state_dir,
            recording=file is not None,
        )  # fmt: skip
        sinks = Sinks(config, folder, handler, [] if journal else [lines], quiet=not journal, page=page)
        daemon = Daemon(
            towers, face_model, config.measure, sinks.sink, own_limits=config.limits.profile,
            rig=None if file else load_rig(state_dir), store=store, models=models, state_dir=state_dir,
            events_lost=sinks.events_lost, heartbeat=sinks.notifier.heartbeat, view=page.view if page else None,
        )  # fmt: skip
        sinks.submit_to(daemon.submit)
        with closing(sinks.sink):
            if page is not None and not journal:
                say_address(page)
            with signals(daemon, reloading(options, config, daemon, sinks)):
                if stream is not None:
                    daemon.run([stream_feed(stream)])
                elif file is None:
                    daemon.run(live_feeds(config))
                else:
                    lines.position_s = lambda: daemon.position_s
                    with memory_bound(options.max_memory_mb, file):
                        run_recording(daemon, file, realtime=True)
            if page is not None and file is not None:
                linger(page)
    if not journal:
        lines.sum_up(_STDERR)
    return 0


def say_address(page: PageSink) -> None:
    """Print the address on a terminal only, never to a log, because it opens the page."""
    if address := page.address(_PAGE_S):
        print(f"avdrift: see what it sees: {address}", file=sys.stderr, flush=True)


def linger(page: PageSink) -> None:
    """Keep the page of a finished recording open for its viewers, until Ctrl-C."""
    if page.viewers:
        print("avdrift: the recording has ended; the page stays until you close it, or Ctrl-C", file=sys.stderr)
    with suppress(KeyboardInterrupt):
        while page.viewers:
            time.sleep(_LINGER_S)


def stream_input(options: argparse.Namespace, config: Config, folder: Path) -> StreamInput | None:
    """The stream to measure; None if the source is another kind. Raises UsageError."""
    source = options.source
    if options.follow and (source is None or source == STANDARD_INPUT or is_address(source)):
        raise UsageError("--follow needs a recording", where="--follow", remedy="Give it with --source FILE")
    if source is None:
        return address_input(config.source, folder) if config.source.url else None
    if options.follow:
        return growing_file(Path(source))
    if source == STANDARD_INPUT:
        return standard_input()
    if not is_address(source):
        return None
    if parse_address(source).has_password:
        remedy = "Put it into a file, and give --username and --password-file"
        raise UsageError("all users of this machine can read a password there", where="--source", remedy=remedy)
    # The configured user and password may be meant for another server.
    password_file = str(Path(options.password_file).absolute()) if options.password_file else ""
    given = replace(config.source, file="", url=source, username=options.username or "", password_file=password_file)
    return address_input(given, folder)


def _recording(options: argparse.Namespace, config: Config, folder: Path) -> str | None:
    return options.source or (str(folder / config.source.file) if config.source.file else None)


def run_recording(daemon: Daemon, file: str, *, realtime: bool, heard: Heard | None = None) -> None:
    """Run a recording to its end and report any damage in it."""
    heard = heard or listen(Path(file), AS_PLAYED)
    if heard.why:
        print(f"avdrift: {file}: measuring {heard.track}, as {heard.why}", file=sys.stderr)
    with FileSource(file, which=heard.which) as source:
        daemon.run([recording_feed(source)], realtime=realtime)
        if source.damaged:
            print(f"avdrift: {file}: damaged: {source.damaged}", file=sys.stderr)


def configured(options: argparse.Namespace) -> Config:
    """The configuration, overridden by the command line. Raises UsageError with all problems."""
    config = load_config(options.config) if options.config else Config()
    log = config.log
    if options.log_level is not None:
        log = replace(log, level=options.log_level)
    if options.log_json:
        log = replace(log, json=True)
    limits = given_limits(options) or config.limits
    return replace(config, measure=measure_settings(options, config.measure), limits=limits, log=log)


def measure_settings(options: argparse.Namespace, settings: MeasureSettings) -> MeasureSettings:
    """The settings, overridden by the given options."""
    given = {name: value for name, value in vars(options).items() if value is not None}
    if options.limits:
        given["profile"] = OWN_PROFILE
    return replace(settings, **{key.name: given[key.name] for key in fields(settings) if key.name in given})


def reloading(options: argparse.Namespace, config: Config, daemon: Daemon, sinks: Sinks) -> Callable[[], None]:
    """The action on SIGHUP."""
    if options.config is None:
        return lambda: _log.warning("SIGHUP: there is no configuration file to read again")

    def take(before: Config, now: Config) -> None:
        sinks.take_settings(now)
        if (now.measure.profile, now.limits) != (before.measure.profile, before.limits):
            args: dict[str, str | float | bool] = {"profile": now.measure.profile}
            args |= {"early_ms": now.limits.early_ms, "late_ms": now.limits.late_ms}
            daemon.submit(Command(Verb.SET_PROFILE, args, lambda _: None), limited=False)

    def again() -> Config:
        sinks.notifier.reloading()
        try:
            return configured(options)
        finally:
            sinks.notifier.reloaded()

    return Reloader(config, again, take).ask


@contextmanager
def signals(daemon: Daemon, reload: Callable[[], None] | None = None) -> Iterator[None]:
    """SIGTERM and SIGINT end the daemon cleanly, SIGHUP reloads the configuration."""
    works = dict.fromkeys((signal.SIGTERM, signal.SIGINT), daemon.stop)
    if reload is not None:
        works[signal.SIGHUP] = reload
    before = {number: signal.signal(number, lambda *_, work=work: work()) for number, work in works.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
