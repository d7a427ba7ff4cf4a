"""The options that choose what `avdrift run` measures, when it is not the camera and the microphone."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from device.addresses import is_address, parse_address
from device.capture.streams.inputs import StreamInput
from device.config.settings import Config
from device.errors import UsageError
from device.runtime.inputs.sources import STANDARD_INPUT, address_input, growing_file, standard_input


def add_source_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--source", metavar="SOURCE",
        help="instead of camera and microphone: a recording, at real-time pace; an address, such as rtsp://host/path; "
        "or - for what comes from standard input",
    )  # fmt: skip
    parser.add_argument(
        "--follow", action="store_true", help="the recording is still being written: measure what comes"
    )
    parser.add_argument("--username", metavar="NAME", help="name to give to the server of that address")
    parser.add_argument("--password-file", metavar="FILE", help="file with the password for it")


def chosen_stream(options: argparse.Namespace, config: Config, folder: Path) -> StreamInput | None:
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


def chosen_recording(options: argparse.Namespace, config: Config, folder: Path) -> str | None:
    """The recording to measure, if the source is not a stream; None for the camera and the microphone."""
    return options.source or (str(folder / config.source.file) if config.source.file else None)
