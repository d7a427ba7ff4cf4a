"""All that can be known about a folder of clips before work begins, reported at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from device.bundles.bundle import DEFAULT_BUNDLE, load_bundle
from device.errors import InputFormatError
from train.check.copies import copies
from train.check.file_headers import read_heads
from train.check.paths import recordings_in, unnamed
from train.check.survey import Survey, lines, survey
from train.data.clip_table import TABLE, TRAIN, VALID, ClipRow, Fault, counted, is_below, listed, read_table

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Checked:
    """A folder with a valid table; `usable` are the rows of usable clips."""

    rows: tuple[ClipRow, ...]
    usable: tuple[ClipRow, ...]
    unusable: tuple[Fault, ...]
    survey: Survey


def check_clips(folder: Path, log: Log) -> Checked:
    """Report the data, one line each; unusable clips are named and left out.

    Raises InputMissingError, InputFormatError with all faults of the table and of its files.
    """
    table, where = read_table(folder), str(folder / TABLE)
    below = {row.file: row for row in table.rows if is_below(row.file)}
    present = recordings_in(folder)
    heads = read_heads(folder, list(below.values()), present)
    faults = sorted([*table.faults, *heads.faults], key=lambda fault: fault.row.number)
    usable = tuple(head.row for head in heads.clips)
    notes = list(_notes(heads.unusable, copies(folder, usable), unnamed(table.rows, present)))
    if faults:
        remedy = "\n".join([listed("Correct this:", faults), *notes])
        raise InputFormatError(counted(faults), where=where, remedy=remedy)
    for split in (TRAIN, VALID):
        if split not in {head.row.split for head in heads.clips}:
            remedy = "Put some speakers into `train` and others into `valid`"
            if len({row.speaker for row in usable}) == 1:
                remedy = "All clips are of one speaker: record others, or correct the column speaker"
            if heads.unusable:
                remedy = listed("These cannot be used:", heads.unusable)
            raise InputFormatError(f"no usable clip of the split {split!r}", where=where, remedy=remedy)
    found = survey(folder, heads.clips, heads.examined, load_bundle(DEFAULT_BUNDLE))
    for line in lines(found):
        log(line)
    if not table.has_split:
        log(f"the split was made by speaker; valid: {', '.join(found.speakers[VALID])}")
    for note in notes:
        log(note)
    return Checked(table.rows, usable, heads.unusable, found)


def _notes(unusable: Sequence[Fault], same: Sequence[Fault], unnamed_files: str) -> Iterator[str]:
    """What does not keep the work from beginning."""
    if unusable:
        clips = f"{len(unusable)} clips" if len(unusable) > 1 else "1 clip"
        yield listed(f"{clips} cannot be used and will be left out:", unusable)
    if same:
        yield listed("These are there twice:", same)
    if unnamed_files:
        yield unnamed_files
