"""Steps and pieces of one recording as markers for an editor: OpenTimelineIO, CMX 3600 EDL, or a table.

Times count from the first frame, and start at the timecode of the recording if it has one.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from device.capture.container import open_recording, picture_tracks
from device.check.row import Row
from device.check.tables import cannot_write
from device.errors import UsageError
from device.printable import shown_name

if TYPE_CHECKING:
    from opentimelineio.opentime import RationalTime

ENDINGS = (".otio", ".edl", ".csv")
COLUMNS = ("name", "comment", "in", "out", "from_s", "to_s", "kind")
_USUAL_RATE_HZ = 25.0


@dataclass(frozen=True, slots=True)
class Marker:
    """A stretch, or a moment if both ends are equal; `bad` if it needs work."""

    kind: str
    name: str
    comment: str
    from_s: float
    to_s: float
    bad: bool = False


def require_markers(path: Path) -> None:
    """Raises UsageError if markers cannot be written in this format."""
    if path.suffix.lower() not in ENDINGS:
        raise UsageError(
            "has an unsupported suffix", where=f"--markers {path}", remedy=f"Give one of {', '.join(ENDINGS)}"
        )
    try:
        import opentimelineio  # noqa: F401 - the optional group `check`
    except ImportError as error:
        remedy = "Install it: pip install opentimelineio otio-cmx3600-adapter (or the extra `check`)"
        raise UsageError("needs OpenTimelineIO, which is not installed", where="--markers", remedy=remedy) from error


def write_markers(row: Row, path: Path) -> None:
    """Write the markers of a measured recording; an unreadable one has none, and no file is written.

    Raises UsageError if it cannot be written.
    """
    if row.measured is None:
        return
    rate_hz, start = _clock(Path(row.file))
    try:
        if path.suffix.lower() == ".csv":
            _write_csv(row.measured, rate_hz, start, path)
        else:
            _write_timeline(row, rate_hz, start, path)
    except OSError as error:
        raise cannot_write(path, error) from error


def markers(measured: dict[str, Any]) -> Iterator[Marker]:
    """The markers of a recording, in time order."""
    found = [*_pieces(measured), *_steps(measured)]
    yield from sorted(found, key=lambda marker: (marker.from_s, marker.kind))


def _pieces(measured: dict[str, Any]) -> Iterator[Marker]:
    for piece in measured["pieces"]:
        if piece["offset_ms"] is None:
            yield Marker("piece", "no offset", "not sure", piece["from_s"], piece["to_s"], bad=True)
            continue
        early, by = piece["offset_ms"] > 0, f"by {abs(piece['offset_ms']):.0f} ms"
        comment = f"audio early: delay it {by}" if early else f"audio late: advance it {by}"
        name = f"{piece['offset_ms']:+.0f} ms +-{piece['offset_std_ms']:.0f}"
        yield Marker("piece", name, comment, piece["from_s"], piece["to_s"])


def _steps(measured: dict[str, Any]) -> Iterator[Marker]:
    for step in measured["steps"]:
        name = f"step of {step['step_ms']:+.0f} ms"
        yield Marker("step", name, "the offset changes here, to within 2 s", step["t_s"], step["t_s"], bad=True)


def _clock(file: Path) -> tuple[float, RationalTime]:
    """The nearest rate that timecode supports, and the timecode of the first frame."""
    from opentimelineio.opentime import RationalTime, from_timecode

    with open_recording(file) as container:
        video = picture_tracks(container)[0]
        rate_hz = RationalTime.nearest_valid_timecode_rate(float(video.average_rate or _USUAL_RATE_HZ))
        tags = (video.metadata, *(stream.metadata for stream in container.streams), container.metadata)
        timecodes = [value for words in tags for word, value in words.items() if word.lower() == "timecode"]
    try:
        return rate_hz, from_timecode(timecodes[0], rate_hz)
    except (IndexError, ValueError):  # no timecode, or a damaged one
        return rate_hz, RationalTime(0, rate_hz)


def _write_csv(measured: dict[str, Any], rate_hz: float, start: RationalTime, path: Path) -> None:
    from opentimelineio.opentime import RationalTime, to_timecode

    def timecode(t_s: float) -> str:
        return str(to_timecode(start + RationalTime(round(t_s * rate_hz), rate_hz), rate_hz))

    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for one in markers(measured):
            times = (timecode(one.from_s), timecode(one.to_s), one.from_s, one.to_s)
            table.writerow([one.name, one.comment, *times, one.kind])


def _write_timeline(row: Row, rate_hz: float, start: RationalTime, path: Path) -> None:
    """One clip, the whole recording, with its markers."""
    import opentimelineio as otio
    from opentimelineio.opentime import RationalTime, TimeRange

    def duration(t_s: float) -> RationalTime:
        return RationalTime(round(t_s * rate_hz), rate_hz)

    assert row.measured is not None
    whole = TimeRange(start, duration(row.measured["duration_s"]))
    media = otio.schema.ExternalReference(Path(row.file).absolute().as_uri(), whole)
    name = shown_name(Path(row.file).name)
    clip = otio.schema.Clip(name=name, media_reference=media, source_range=whole)
    for one in markers(row.measured):
        color = otio.schema.MarkerColor.RED if one.bad else otio.schema.MarkerColor.GREEN
        stretch = TimeRange(start + duration(one.from_s), duration(one.to_s - one.from_s))
        clip.markers.append(otio.schema.Marker(name=one.name, marked_range=stretch, color=color, comment=one.comment))
    timeline = otio.schema.Timeline(name=name, global_start_time=start)
    timeline.tracks.append(otio.schema.Track(name="V1", kind=otio.schema.TrackKind.Video, children=[clip]))
    otio.adapters.write_to_file(timeline, str(path))
