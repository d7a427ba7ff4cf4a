"""docs/reference/cli.md, from the parsers of the three commands.

argparse's own text is not used: it differs from one version of Python to the next.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from convert.cli import build_parser as convert_parser
from device.cli import build_parser as device_parser
from tools.reference.markdown import page, sentence, table
from train.cli import build_parser as train_parser

_INTRODUCTION = """Every command has `--help`. Exit codes: 0 done, 2 usage or configuration, 3 camera, microphone or
input file, 4 models, 5 transport. `avdrift-train fit` has more options for each kind of model: see its `--help`."""


def command_page() -> str:
    parsers = (device_parser(), train_parser(), convert_parser())
    parts = [part for parser in parsers for part in _program(parser)]
    return page("Command line", _INTRODUCTION, *parts)


def _program(parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f"## {parser.prog}"
    yield sentence(parser.description or "")
    for name, about, command in _leaves(parser):
        yield f"### {name}"
        yield sentence(about)
        yield f"```\n{_usage(name, command)}\n```"
        options = [action for action in command._actions if not isinstance(action, argparse._HelpAction)]
        if options:
            yield table(
                ("argument", "meaning"), [(f"`{_named(action)}`", _meaning(action, command)) for action in options]
            )


def _leaves(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Each command that can be run: its whole name, its help, its parser. Older names have no help: left out."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            help_of = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, about in help_of.items():
                below = list(_leaves(action.choices[name]))
                yield from below or [(f"{parser.prog} {name}", about, action.choices[name])]


def _usage(name: str, parser: argparse.ArgumentParser) -> str:
    required = [_named(action) for action in parser._actions if action.option_strings and action.required]
    positional = [_values(action) for action in parser._actions if not action.option_strings]
    optional = any(action.option_strings and not action.required for action in parser._actions[1:])
    return " ".join([name, *(["[OPTIONS]"] if optional else []), *required, *positional])


def _named(action: argparse.Action) -> str:
    if not action.option_strings:
        return _values(action)
    return " ".join(filter(None, [", ".join(action.option_strings), _values(action)]))


def _values(action: argparse.Action) -> str:
    """What follows the option, or stands for itself, as argparse shows it."""
    if action.nargs == 0:
        return ""
    name = action.metavar or ("{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.dest.upper())
    shown = name if isinstance(name, str) else " ".join(name)
    return {"*": f"[{shown} ...]", "?": f"[{shown}]", "+": f"{shown} [{shown} ...]"}.get(str(action.nargs), shown)


def _meaning(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    if not action.help:
        return ""
    values = {**vars(action), "prog": parser.prog}
    return sentence(action.help % values)
