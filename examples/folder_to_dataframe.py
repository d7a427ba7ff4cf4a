"""Measures every recording of a folder and makes a pandas DataFrame of it, one row for each.

    python examples/folder_to_dataframe.py FOLDER [TABLE.csv]

Recordings that cannot be read have a row too, with the error as their `reason`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd

import avdrift

SUFFIXES = {".avi", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".mts", ".mxf", ".ts", ".webm"}
COLUMNS = ["state", "offset_ms", "offset_std_ms", "confidence", "drift_ppm", "verdict", "duration_s", "reason"]


def row(path: Path) -> dict[str, Any]:
    try:
        return avdrift.measure(path).to_dict()
    except avdrift.CaptureError as error:
        return {"file": str(path), "state": "unreadable", "reason": str(error)}


def table(folder: Path) -> pd.DataFrame:
    """The recordings below this folder, in the order of their names."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return pd.DataFrame([row(path) for path in paths], columns=["file", *COLUMNS]).set_index("file")


def main() -> None:
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    found = table(Path(sys.argv[1]))
    print(found.to_string())
    print(found.groupby("verdict").size().to_string())
    if len(sys.argv) == 3:
        found.to_csv(sys.argv[2])


if __name__ == "__main__":
    main()
