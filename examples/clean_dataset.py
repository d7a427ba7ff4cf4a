"""Cleans a data set for lip-sync training: which clips to keep, which to shift, and which to leave out.

    python examples/clean_dataset.py CLIPS TABLE.csv

Networks for lip reading, talking heads and dubbing learn from clips whose sound fits the mouth. A clip that is in sync
to within half a frame is kept. A clip with another offset is to be shifted: delay its sound by `delay_audio_ms`, or let
`avdrift fix CLIP COPY` do it. A clip is dropped where no single offset holds for it: nobody is visible, nobody speaks,
the voice belongs to somebody else, or the offset changes. `why` says which.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import avdrift

KEEP_WITHIN_MS = 20.0  # half a frame at 25 frames per second
SUFFIXES = {".avi", ".mkv", ".mov", ".mp4", ".webm"}
COLUMNS = ["file", "action", "delay_audio_ms", "confidence", "why"]


def judged(path: Path) -> dict[str, object]:
    """One row of the table."""
    try:
        found = avdrift.measure(path)
    except avdrift.CaptureError as error:
        return {"file": path.name, "action": "drop", "why": str(error)}
    if found.offset_ms is None:
        return {"file": path.name, "action": "drop", "confidence": found.confidence, "why": found.reason}
    if abs(found.offset_ms) <= KEEP_WITHIN_MS:
        return {"file": path.name, "action": "keep", "delay_audio_ms": 0.0, "confidence": found.confidence}
    # Audio that is early has to be delayed.
    return {
        "file": path.name, "action": "shift", "delay_audio_ms": found.offset_ms, "confidence": found.confidence,
    }  # fmt: skip


def clean(folder: Path, table: Path) -> None:
    """Write the table, a row as soon as it is known: a large data set takes hours."""
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES):
            writer.writerow(judged(path))
            file.flush()


def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    clean(Path(sys.argv[1]), Path(sys.argv[2]))


if __name__ == "__main__":
    main()
