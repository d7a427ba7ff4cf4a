"""Text for people: harmless whatever device, bundle, file or network it comes from, and times as in players."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from typing import TextIO

from device.errors import AvdriftError


def printable(text: str, keep: str = "") -> str:
    r"""One line of text: escapes what is not printable as in Python's source, `\x1b` for instance, except for `keep`.

    Control characters, changes of writing direction and surrogates are not printable; spaces are.
    """
    return text if text.isprintable() else "".join(c if c in keep or _is_printable(c) else repr(c)[1:-1] for c in text)


def shown_name(file: str | os.PathLike[str]) -> str:
    """A name on one line, whatever bytes are in it: escapes what is not UTF-8 or not printable."""
    return printable(os.fsencode(file).decode("utf-8", "backslashreplace"))


def shown_error(error: AvdriftError) -> str:
    """Its message, whose place may be the name of a file."""
    return printable(error.where) + str(error)[len(error.where) :]


def minutes(t_s: float, decimals: int = 0) -> str:
    """Minutes and seconds, as in players: `1:04`, or `1:04.8` with one decimal."""
    whole, seconds = divmod(round(t_s, decimals), 60)
    width = decimals + 3 if decimals else 2
    return f"{whole:.0f}:{seconds:0{width}.{decimals}f}"


def _is_printable(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"


class PrintableStream:
    """A text stream for people that writes only printable text, and only what its encoding can represent."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        encoding = self._stream.encoding or "utf-8"
        plain = printable(text, keep="\n\t")
        self._stream.write(plain.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)
