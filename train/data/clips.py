"""A folder of clips: the rows of its `clips.csv`, and the sound of a clip in one piece."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from device.errors import InputFormatError, InputMissingError
from device.features.contract import AUDIO_RATE_HZ
from device.records import NS_PER_S, Chunk


@dataclass(frozen=True, slots=True)
class ClipRow:
    """One row of `clips.csv`."""

    file: str
    speaker: str
    split: str
    corpus: str


def read_rows(folder: Path) -> list[ClipRow]:
    """The clips of a folder, from its `clips.csv`. Raises InputMissingError or InputFormatError."""
    table = folder / "clips.csv"
    if not table.is_file():
        raise InputMissingError(
            "no such file", where=str(table), remedy="Write one with the columns file, speaker, split, corpus"
        )
    remedy = "Write it as UTF-8 with the columns file, speaker, split, corpus, all of them filled in each row"
    try:
        with table.open(newline="", encoding="utf-8") as lines:
            rows = [ClipRow(r["file"], r["speaker"], r["split"], r["corpus"]) for r in csv.DictReader(lines)]
    except KeyError as missing:
        raise InputFormatError(f"column {missing} is missing", where=str(table), remedy=remedy) from missing
    except (OSError, UnicodeError, csv.Error) as error:
        raise InputFormatError(f"cannot be read ({error})", where=str(table), remedy=remedy) from error
    short = [number for number, row in enumerate(rows, 2) if None in (row.file, row.speaker, row.split, row.corpus)]
    if short:
        raise InputFormatError(f"row {short[0]} is too short", where=str(table), remedy=remedy)
    return rows


def join(chunks: list[Chunk]) -> tuple[np.ndarray[tuple[int], np.dtype[np.float32]], int]:
    """All samples in one array at the places where their times put them, and the time of the first one."""
    t_ns = chunks[0].t_ns
    starts = [round((chunk.t_ns - t_ns) * AUDIO_RATE_HZ / NS_PER_S) for chunk in chunks]
    samples = np.zeros(max(start + len(chunk.samples) for start, chunk in zip(starts, chunks, strict=True)), np.float32)
    end = 0
    for start, chunk in zip(starts, chunks, strict=True):
        # Chunk times are smooth to a sample or two; only a real gap may leave a hole.
        start = end if abs(start - end) < AUDIO_RATE_HZ // 50 else start
        end = start + len(chunk.samples)
        if end > len(samples):
            samples = np.pad(samples, (0, end - len(samples)))
        samples[start:end] = chunk.samples
    return samples, t_ns
