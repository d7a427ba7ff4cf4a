"""The command `avdrift run`: from options and a configuration file to a daemon that runs until it is stopped."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path

from device.bundles.gate import require_gate
from device.bundles.rollout import following
from device.bundles.store import Store
from device.capture.memory import memory_bound
from device.commands.options.memory import add_memory_option
from device.commands.options.models import chosen_bundle, default_store
from device.commands.options.overrides import overridden_config
from device.commands.options.source import add_source_options, chosen_recording, chosen_stream
from device.commands.recording import run_recording
from device.commands.served_page import print_address, serve_until_closed
from device.config.log_levels import LEVELS
from device.config.settings import Config
from device.features.model_download import require_face_model
from device.runtime.config_reload import reloader
from device.runtime.daemon import Daemon
from device.runtime.inputs.sources import live_feeds, stream_feed
from device.runtime.signals import signal_handlers
from device.runtime.sinks import Sinks, page_sink
from device.state.ownership import become_owner
from device.state.rig import load_rig
from device.telemetry.lines import CLEAR_LINE, is_journal
from device.telemetry.logging_setup import LogHandler, set_up
from device.telemetry.stdout_sink import report_lines

_STDOUT, _STDERR = 1, 2

_log = logging.getLogger(__name__)


def add_run_options(run: argparse.ArgumentParser) -> None:
    """Add the options of this command only."""
    add_source_options(run)
    add_memory_option(run, "the recording or the stream")
    run.add_argument(
        "--config", type=Path, metavar="FILE", help="configuration file; options on the command line override it"
    )
    run.add_argument("--accept-worse", action="store_true", help="with --bundle: models that their gate did not pass")
    run.add_argument(
        "--models-of", type=Path, metavar="FOLDER",
        help="measure with the models of another avdrift's state folder, as they are when this one starts",
    )  # fmt: skip
    run.add_argument("--log-level", choices=LEVELS, help="lowest level of messages in the log")
    run.add_argument("--json", action="store_true", help="print reports as JSON on a terminal too")
    run.add_argument("--log-json", action="store_true", help="write the log as JSON lines")


def run_command(options: argparse.Namespace) -> int:
    """Measure until stopped. Reports go to standard output, one JSON object each, and the log to standard error.

    If standard output is the journal, reports are logged instead, as many of them as are configured. On a terminal, one
    line shows the newest report, unless JSON is requested.
    """
    config, folder = overridden_config(options), options.config.parent if options.config else Path()
    living = not options.json and os.isatty(_STDOUT) and os.isatty(_STDERR)
    with closing(set_up(config.log, before=CLEAR_LINE if living else "")) as handler:
        return _run(options, config, folder, handler)


def _run(options: argparse.Namespace, config: Config, folder: Path, handler: LogHandler) -> int:
    stream = chosen_stream(options, config, folder)
    file = chosen_recording(options, config, folder) if stream is None else None
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
                print_address(page)
            live = stream is None and file is None  # what camera and microphone deliver is no untrusted input
            bound = nullcontext() if live else memory_bound(options.max_memory_mb, file or "the stream")
            with bound, signal_handlers(daemon, _reload(options, config, daemon, sinks)):
                if stream is not None:
                    daemon.run([stream_feed(stream)])
                elif file is None:
                    daemon.run(live_feeds(config))
                else:
                    lines.position_s = lambda: daemon.position_s
                    run_recording(daemon, file, realtime=True)
            if page is not None and file is not None:
                serve_until_closed(page)
    if not journal:
        lines.sum_up(_STDERR)
    return 0


def _reload(options: argparse.Namespace, config: Config, daemon: Daemon, sinks: Sinks) -> Callable[[], None]:
    """The action on SIGHUP."""
    if options.config is None:
        return lambda: _log.warning("SIGHUP: there is no configuration file to read again")
    return reloader(config, lambda: overridden_config(options), daemon, sinks).request
