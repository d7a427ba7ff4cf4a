"""The command `avdrift`. Exit codes: 0 done, 2 usage, 3 capture or input file, 4 model, 5 transport."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2

from device import __version__
from device.bundles.bundle import DEFAULT_BUNDLE, DIRECT_BUNDLE
from device.bundles.model_kinds import DIRECT, MEASURING, TOWERS
from device.calibrate.cli import add_calibrate_commands, calibrate_command, pattern_command
from device.check.cli import add_check_command, check_command
from device.commands.check_config import check_config_command
from device.commands.command import add_command_command, command_command
from device.commands.devices import add_devices_command, devices_command
from device.commands.guard import guarded
from device.commands.measure import measure_command
from device.commands.model import add_model_commands, model_command
from device.commands.options.limits import add_limit_options
from device.commands.options.memory import add_memory_option
from device.commands.options.models import add_store_option
from device.commands.options.timeline_files import add_timeline_files
from device.commands.options.tracks import add_track_options
from device.commands.page import add_page_command, page_command
from device.commands.replay import replay_command
from device.commands.run import add_run_options, run_command
from device.config.file import DEFAULT_FILE
from device.config.settings import DEFAULT_SEARCH_MS
from device.doctor.cli import add_doctor_command, doctor_command
from device.errors import UsageError
from device.features.model_download import fetch_face_model
from device.fix.cli import add_fix_command, fix_command
from device.standards import PROFILE_NAMES

_BUILT_IN = {TOWERS.name: DEFAULT_BUNDLE, DIRECT.name: DIRECT_BUNDLE}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="avdrift", description="Measures by how many milliseconds audio and video are apart."
    )
    parser.add_argument("--version", action="version", version=f"avdrift {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    # None means not given, so that the configuration decides.
    bundle = argparse.ArgumentParser(add_help=False)
    bundle.add_argument("--bundle", type=Path, help="folder with the models (default: the installed or built-in ones)")
    add_store_option(bundle)
    search = argparse.ArgumentParser(add_help=False)
    search.add_argument(
        "--search-ms", type=float, help=f"largest offset to search for, in ms (default: {DEFAULT_SEARCH_MS:g})"
    )
    daemon = argparse.ArgumentParser(add_help=False)
    daemon.add_argument(
        "--window", dest="window_s", type=float, metavar="S", help="seconds of input that count as recent"
    )
    daemon.add_argument("--every", dest="report_every_s", type=float, metavar="S", help="seconds between reports")

    run = commands.add_parser("run", parents=[bundle, search, daemon], help="measure and report until stopped")
    add_run_options(run)
    add_limit_options(run, PROFILE_NAMES)
    replay = commands.add_parser("replay", parents=[bundle, search, daemon], help="run the whole daemon on a recording")
    replay.add_argument("file", metavar="FILE", help="a recording")
    replay.add_argument("--speed", choices=("max", "realtime"), help="default: max; with --page: realtime")
    replay.add_argument("--page", action="store_true", help="show it in a browser, and print the page's address")
    add_limit_options(replay)
    add_track_options(replay)
    add_timeline_files(replay)
    add_memory_option(replay)
    replay.add_argument("--json", action="store_true", help="print one JSON report per line, as live")
    measured = commands.add_parser("measure", parents=[bundle, search], help="measure the offset of recordings")
    measured.add_argument("files", metavar="FILE", nargs="+", help="a recording")
    measured.add_argument(
        "--model", choices=[kind.name for kind in MEASURING], default=TOWERS.name,
        help="kind of the models, of which there are built-in ones; only towers are installed (default: towers)",
    )  # fmt: skip
    add_track_options(measured)
    measured.add_argument("--window", type=float, metavar="S", help="also measure each consecutive window of S seconds")
    add_limit_options(measured)
    add_timeline_files(measured)
    add_memory_option(measured)
    measured.add_argument("--json", action="store_true", help="print one JSON object per file")
    add_fix_command(commands, [bundle, search])
    add_check_command(commands, [bundle, search])
    bench = commands.add_parser("bench", help="measure what each stage costs on this computer, beside SyncNet")
    bench.add_argument("--bundle", type=Path, help="folder with the models (default: the built-in ones of --model)")
    bench.add_argument("--model", choices=list(_BUILT_IN), default=TOWERS.name, help="default: towers")
    bench.add_argument("--source", metavar="FILE", help="the recording to work on (default: the built-in sample)")
    bench.add_argument(
        "--streams", type=int, metavar="N", help="test instead whether this computer carries N streams in real time"
    )
    bench.add_argument("--json", action="store_true", help="print one JSON object")
    add_devices_command(commands)
    add_doctor_command(commands)
    add_page_command(commands)
    add_calibrate_commands(commands)
    add_model_commands(commands)
    add_command_command(commands)
    checked = commands.add_parser("check-config", help="name every problem of a configuration file")
    checked.add_argument(
        "file", metavar="FILE", type=Path, nargs="?", default=DEFAULT_FILE, help="default: %(default)s"
    )
    checked.add_argument("--json", action="store_true", help="print one JSON object")
    checked.add_argument(
        "--migrate", action="store_true", help="write an older file in the current format, as FILE.new"
    )
    commands.add_parser("fetch-face", help="fetch the model of the face detector, which is not part of avdrift")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code."""
    cv2.setNumThreads(1)  # images are small: threads cost more than they gain
    return guarded("avdrift", lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    options = build_parser().parse_args(argv)
    commands = {
        "run": run_command, "replay": replay_command, "measure": measure_command, "bench": _bench,
        "check-config": check_config_command, "fetch-face": _fetch_face, "model": model_command,
        "devices": devices_command, "doctor": doctor_command, "pattern": pattern_command,
        "calibrate": calibrate_command, "fix": fix_command, "command": command_command, "page": page_command,
        "check": check_command,
    }  # fmt: skip
    return commands[options.command](options)


def _bench(options: argparse.Namespace) -> int:
    from device.bench.pipeline import SAMPLE, bench  # its SyncNet needs LiteRT's schema, which the daemon does not
    from device.bench.streams import MAX_STREAMS, bench_streams

    if options.streams is not None:
        if not 1 <= options.streams <= MAX_STREAMS:
            remedy = f"Give 1 to {MAX_STREAMS}"
            raise UsageError(f"{options.streams} streams cannot be tried", where="--streams", remedy=remedy)
        bench_streams(options.streams, Path(options.source or SAMPLE), as_json=options.json)
        return 0
    bench(options.bundle or _BUILT_IN[options.model], options.source, as_json=options.json)
    return 0


def _fetch_face(options: argparse.Namespace) -> int:
    print(fetch_face_model())
    return 0


if __name__ == "__main__":
    sys.exit(main())
