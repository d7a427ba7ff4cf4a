"""Generated tables in hand-written pages: between two marks of a Markdown page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from device.errors import InputFormatError, InputMissingError


def table(head: Sequence[str], body: Sequence[Sequence[str]], *, texts: int = 1) -> str:
    """A table whose first columns are texts; the others are aligned to the right."""
    aligned = ["---"] * texts + ["---:"] * (len(head) - texts)
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, aligned, *body])


def put_into(page: Path, mark: str, text: str) -> None:
    """Replace the text between `<!-- mark -->` and `<!-- end of mark -->`.

    Raises InputMissingError or InputFormatError.
    """
    before, after = around(page, mark)
    page.write_text(f"{before}\n\n{text}\n{after}", encoding="utf-8")


def around(page: Path, mark: str) -> tuple[str, str]:
    """The parts of a page before and after the text between two marks, each with its mark. Raises as `put_into`."""
    first, last = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    try:
        content = page.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise InputMissingError(f"cannot be read ({error})", where=str(page), remedy="Name a Markdown page") from error
    before, begin, rest = content.partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end:
        raise InputFormatError(f"no {first} and {last}", where=str(page), remedy="Write them where the tables belong")
    return before + begin, end + after
