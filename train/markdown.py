"""Generated tables in hand-written pages: between two marks of a Markdown page."""

from __future__ import annotations

from pathlib import Path

from device.errors import InputFormatError, InputMissingError


def put_into(page: Path, mark: str, text: str) -> None:
    """Replace the text between `<!-- mark -->` and `<!-- end of mark -->`.

    Raises InputMissingError or InputFormatError.
    """
    first, last = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    try:
        content = page.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise InputMissingError(f"cannot be read ({error})", where=str(page), remedy="Name a Markdown page") from error
    before, begin, rest = content.partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end:
        raise InputFormatError(f"no {first} and {last}", where=str(page), remedy="Write them where the tables belong")
    page.write_text(f"{before}{begin}\n\n{text}\n{end}{after}", encoding="utf-8")
