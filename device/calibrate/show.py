"""Plays the film with whatever player is installed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from device.errors import UsageError

# Full screen, no text over the video, exit at the end.
PLAYERS: dict[str, Sequence[str]] = {
    "mpv": ("--fullscreen", "--no-osc", "--osd-level=0", "--no-config"),
    "ffplay": ("-fs", "-autoexit", "-loglevel", "error"),
    "vlc": ("--fullscreen", "--play-and-exit", "--no-video-title-show"),
    "cvlc": ("--fullscreen", "--play-and-exit", "--no-video-title-show"),
}


def player(find: Callable[[str], str | None] = shutil.which) -> list[str]:
    """The command of the first installed player, without the film. Raises UsageError."""
    for name, options in PLAYERS.items():
        if path := find(name):
            return [path, *options]
    remedy = f"Install one (sudo apt install mpv), or play the film on another screen; known are {', '.join(PLAYERS)}"
    raise UsageError("no player is installed", where="avdrift pattern --show", remedy=remedy)


def show(command: Sequence[str], film: Path) -> None:
    """Replace this process by the player. Raises UsageError; does not return otherwise."""
    arguments = [*command, str(film.absolute())]  # absolute, so that a name that begins with a dash is not an option
    try:
        os.execv(arguments[0], arguments)
    except OSError as error:
        what = f"cannot be started ({error.strerror})"
        raise UsageError(what, where=arguments[0], remedy="Play the film by hand") from error
