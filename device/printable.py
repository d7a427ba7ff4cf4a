"""Text from devices, bundles, files and networks, made so that no terminal and no log takes any of it for an order."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import TextIO


def printable(text: str, keep: str = "") -> str:
    r"""One line of text: what is not printable is escaped as in Python's source, `\x1b` for instance, but for `keep`.

    Control characters, changes of the writing direction and halves of surrogate pairs are not printable; spaces are.
    """
    return text if text.isprintable() else "".join(c if c in keep or _is_printable(c) else repr(c)[1:-1] for c in text)


def _is_printable(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"


class PrintableStream:
    """A text stream for people, to which only printable text goes, and only what its encoding can write."""

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
