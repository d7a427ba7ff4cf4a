"""The options that choose the tracks of a recording, shared by all commands that read one."""

from __future__ import annotations

import argparse
import re

from device.capture.container import TrackChoice

_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]+)*\Z")


def add_track_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--audio-track", type=_number_or_language, metavar="N|LANG",
        help="which audio, by number or language (default: what a player takes, unless nobody speaks in it)",
    )  # fmt: skip
    parser.add_argument(
        "--video-track", type=_number, metavar="N",
        help="which video, by number (default: what a player takes, unless nobody is seen in it)",
    )  # fmt: skip
    parser.add_argument("--channel", type=_number, metavar="N", help="use one audio channel instead of a mix of all")


def track_choice(options: argparse.Namespace) -> TrackChoice:
    return TrackChoice(options.video_track, options.audio_track, options.channel)


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)


def _number_or_language(text: str) -> int | str:
    return text if _LANGUAGE.match(text) else _number(text)
