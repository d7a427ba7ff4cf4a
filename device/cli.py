"""The command `avdrift`. Exit codes: 0 done, 2 usage, 3 capture or input file, 4 model, 5 transport.

Each command is imported only if it is called: all of them take longer to load than a short recording to measure.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import cv2

from device import __version__
from device.commands.guard import guarded
from device.commands.options.models import add_store_option
from device.config.settings import DEFAULT_SEARCH_MS

_Work: TypeAlias = Callable[[argparse.Namespace], int]


@dataclass(frozen=True, slots=True)
class _Parsers:
    """Where commands are added, and the options that several of them share."""

    commands: argparse._SubParsersAction[argparse.ArgumentParser]
    bundle: argparse.ArgumentParser
    search: argparse.ArgumentParser
    daemon: argparse.ArgumentParser


def _run(to: _Parsers) -> _Work:
    from device.commands.options.limits import add_limit_options
    from device.commands.run import add_run_options, run_command
    from device.standards import PROFILE_NAMES

    parents = [to.bundle, to.search, to.daemon]
    run = to.commands.add_parser("run", parents=parents, help="measure and report until stopped")
    add_run_options(run)
    add_limit_options(run, PROFILE_NAMES)
    return run_command


def _replay(to: _Parsers) -> _Work:
    from device.commands.replay import add_replay_command, replay_command

    add_replay_command(to.commands, [to.bundle, to.search, to.daemon])
    return replay_command


def _measure(to: _Parsers) -> _Work:
    from device.commands.measure import add_measure_command, measure_command

    add_measure_command(to.commands, [to.bundle, to.search])
    return measure_command


def _fix(to: _Parsers) -> _Work:
    from device.fix.cli import add_fix_command, fix_command

    add_fix_command(to.commands, [to.bundle, to.search])
    return fix_command


def _check(to: _Parsers) -> _Work:
    from device.check.cli import add_check_command, check_command

    add_check_command(to.commands, [to.bundle, to.search])
    return check_command


def _bench(to: _Parsers) -> _Work:
    from device.bench.cli import add_bench_command, bench_command

    add_bench_command(to.commands)
    return bench_command


def _devices(to: _Parsers) -> _Work:
    from device.commands.devices import add_devices_command, devices_command

    add_devices_command(to.commands)
    return devices_command


def _doctor(to: _Parsers) -> _Work:
    from device.doctor.cli import add_doctor_command, doctor_command

    add_doctor_command(to.commands)
    return doctor_command


def _page(to: _Parsers) -> _Work:
    from device.commands.page import add_page_command, page_command

    add_page_command(to.commands)
    return page_command


def _pattern(to: _Parsers) -> _Work:
    from device.calibrate.cli import add_pattern_command, pattern_command

    add_pattern_command(to.commands)
    return pattern_command


def _calibrate(to: _Parsers) -> _Work:
    from device.calibrate.cli import add_calibrate_command, calibrate_command

    add_calibrate_command(to.commands)
    return calibrate_command


def _model(to: _Parsers) -> _Work:
    from device.commands.model import add_model_commands, model_command

    add_model_commands(to.commands)
    return model_command


def _command(to: _Parsers) -> _Work:
    from device.commands.command import add_command_command, command_command

    add_command_command(to.commands)
    return command_command


def _check_config(to: _Parsers) -> _Work:
    from device.commands.check_config import add_check_config_command, check_config_command

    add_check_config_command(to.commands)
    return check_config_command


def _fetch_face(to: _Parsers) -> _Work:
    from device.features.model_download import fetch_face_model

    def work(options: argparse.Namespace) -> int:
        print(fetch_face_model())
        return 0

    to.commands.add_parser("fetch-face", help="fetch the model of the face detector, which is not part of avdrift")
    return work


_COMMANDS: dict[str, Callable[[_Parsers], _Work]] = {
    "run": _run, "replay": _replay, "measure": _measure, "fix": _fix, "check": _check, "bench": _bench,
    "devices": _devices, "doctor": _doctor, "page": _page, "pattern": _pattern, "calibrate": _calibrate,
    "model": _model, "command": _command, "check-config": _check_config, "fetch-face": _fetch_face,
}  # fmt: skip


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The parser: of this command alone, or of all if there is none of this name."""
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

    parsers = _Parsers(commands, bundle, search, daemon)
    for name in [command] if command in _COMMANDS else _COMMANDS:
        work = _COMMANDS[name](parsers)
        commands.choices[name].set_defaults(work=work)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code."""
    cv2.setNumThreads(1)  # images are small: threads cost more than they gain
    return guarded("avdrift", lambda: _work(sys.argv[1:] if argv is None else argv))


def _work(arguments: Sequence[str]) -> int:
    command = next((word for word in arguments if not word.startswith("-")), None)
    options = build_parser(command).parse_args(arguments)
    work: _Work = options.work
    return work(options)


if __name__ == "__main__":
    sys.exit(main())
