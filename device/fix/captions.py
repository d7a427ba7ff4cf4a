"""Caption files beside a recording: shifted together with the video."""

from __future__ import annotations

from pathlib import Path

import pysubs2

from device.errors import InputFormatError
from device.fix.unfinished import unfinished

_ENDINGS = {".srt", ".vtt", ".ass", ".ssa"}
_BYTE_ORDER_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}


def beside(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """A recording's caption files, as players find them (talk.srt, talk.en.vtt), and their names beside a copy."""
    found = sorted(source.parent.glob(f"{_literal(source.stem)}.*"))
    return [
        (path, target.with_name(target.stem + path.name.removeprefix(source.stem)))
        for path in found
        if path.suffix.lower() in _ENDINGS and path.is_file()
    ]


def write_moved(given: Path, made: Path, later_s: float) -> None:
    """Raises InputFormatError if it holds no captions, OSError if `made` cannot be written."""
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS.items() if given.read_bytes().startswith(mark)), "utf-8")
    # Bytes that are not UTF-8 pass through unchanged.
    try:
        captions = pysubs2.load(str(given), encoding=encoding, errors="surrogateescape", keep_html_tags=True)
    except (pysubs2.exceptions.Pysubs2Error, ValueError) as error:
        what = f"no captions that can be moved ({error.__class__.__name__})"
        raise InputFormatError(what, where=str(given), remedy="Move them elsewhere, or repair them") from None
    captions.shift(s=later_s)
    with unfinished(made) as part:
        captions.save(str(part), encoding=encoding, errors="surrogateescape")
        part.replace(made)  # and not through a link that is there


def _literal(stem: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in stem)
