"""The command `avdrift-train`: from recordings to trained towers, and their evaluation.

Exit codes as those of `avdrift`: 0 done, 2 usage, 3 input files, 4 model. TensorFlow is imported only where it is used.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from device import __version__
from device.commands.guard import guarded
from train.commands.evaluate import add_judge_commands
from train.commands.make import add_make_commands, prepare_with_beam
from train.commands.results import add_results_command
from train.commands.retrain import add_retrain_commands, harvest_with_beam
from train.commands.scenes import add_scene_commands


def build_parser(command: str | None = None, model: str = "towers") -> argparse.ArgumentParser:
    """The parser. The options of a training run are added only if `command` is one, as they need TensorFlow."""
    parser = argparse.ArgumentParser(prog="avdrift-train", description="Makes the models of avdrift.")
    parser.add_argument("--version", action="version", version=f"avdrift {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_retrain_commands(commands)
    add_make_commands(commands, command, model)
    add_judge_commands(commands)
    add_scene_commands(commands)
    add_results_command(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow loads, or it prints
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # see train/check/step_speed.py
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = next((word for word in arguments if not word.startswith("-")), None)
    return guarded("avdrift-train", lambda: _run(command, arguments))


def _run(command: str | None, arguments: list[str]) -> int:
    if command == "synth":
        from train.synth import render

        return render.main(arguments[arguments.index(command) + 1 :])
    parser = build_parser(command, _model_of(arguments))
    options, of_beam = parser.parse_known_args(arguments)
    if getattr(options, "beam", False):
        on_beam = {"prepare": prepare_with_beam, "harvest": harvest_with_beam}[options.command]
        return on_beam(options, of_beam)
    if of_beam:
        parser.error(f"unrecognized arguments: {' '.join(of_beam)}")
    work: Callable[[argparse.Namespace], int] = options.work_of
    return work(options)


def _model_of(arguments: list[str]) -> str:
    """The value of `--model`, if given: it decides which options there are."""
    early = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    early.add_argument("--model", nargs="?", default="towers")
    return str(early.parse_known_args(arguments)[0].model)


if __name__ == "__main__":
    sys.exit(main())
