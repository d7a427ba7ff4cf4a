"""Verifies a copy: compares its streams with the recording's, and measures the copy if the recording was measured.

The limits are those that `avdrift fix` promises: 10 ms and 20 ppm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from device.analysis.measure import Measured
from device.errors import InputFormatError
from device.fix.audio_alignment import out_of_place_s
from device.fix.copy import Copied
from device.fix.inventory import differences, inventory, picture_moved_s, places
from device.fix.plan import Plan
from device.fix.target import try_another
from device.printable import minutes
from device.records import DriftClass, State
from device.sync.timeline import Piece

_CLOSE_S = 0.005  # without a measurement, the same audio is searched for in both
LEFT_MS = 10.0
LEFT_PPM = 20.0


@dataclass(slots=True)
class Verified:
    """The result: the measurement of the copy, if any, and what the other container cannot express."""

    after: Measured | None = None
    lost: list[str] = field(default_factory=list)


def verify(
    source: Path, target: Path, made: Path, plan: Plan, copied: Copied, *, video_index: int, audio_index: int,
    measured: Callable[[Path, Copied], Measured] | None,
) -> Verified:  # fmt: skip
    """Verify the copy `made`, whose final name is `target`. Raises InputFormatError if it must not be kept."""
    before = inventory(source, video_index=video_index, audio_index=audio_index)
    after = inventory(made, video_index=copied.video_index, audio_index=copied.audio_index)
    found = differences(before, after, plan, copied, audio_index=audio_index)
    moved_s = picture_moved_s(before, after, copied)
    if copied.sound != "shifted" and moved_s is not None:
        lies = (source, audio_index), (made, copied.audio_index)
        off_s = out_of_place_s(*lies, places(plan, before.tracks[audio_index], moved_s))
        if off_s is not None and abs(off_s) > _CLOSE_S:
            found.wrong.append(f"the audio lies {1000 * off_s:+.0f} ms from where it belongs")
    if found.wrong:
        what = f"the copy was not kept: {'; '.join(found.wrong)}"
        raise InputFormatError(what, where=str(target), remedy=try_another(target))
    verified = Verified(lost=found.lost)
    if measured is not None:
        verified.after = measured(made, copied)
        if left := what_is_left(verified.after):
            remedy = f"{try_another(target)}, or give the offset yourself: --offset MS"
            raise InputFormatError(f"the copy was not kept: {left}", where=str(target), remedy=remedy)
    return verified


def span_of(piece: Piece) -> str:
    """Where a piece lies, as part of a sentence."""
    return f" from {minutes(piece.from_s)} to {minutes(piece.to_s)}"


def what_is_left(found: Measured) -> str | None:
    """The remaining error that a measurement finds, in words; None if audio and video are in sync."""
    track, result = found.timeline, found.result
    if result["state"] is State.MEASURING and len(track.pieces) <= 1:
        offsets_ms = [result["offset_ms"]]
    else:
        unsure = next((piece for piece in track.pieces if not piece.sure), None)
        if unsure is not None or not track.pieces:
            at = span_of(unsure) if unsure is not None else ""
            return f"measured again, it is not sure{at} (state: {result['state']})"
        offsets_ms = [track.offset_ms(piece, at_s) for piece in track.pieces for at_s in (piece.from_s, piece.to_s)]
    worst_ms = max(offsets_ms, key=abs)
    if abs(worst_ms) > LEFT_MS:
        return f"measured again, it is still off by {worst_ms:+.0f} ms"
    if track.drift_class is DriftClass.DRIFTING and abs(track.drift_ppm or 0.0) > LEFT_PPM:
        return f"measured again, it still drifts by {track.drift_ppm:+.0f} ppm"
    return None
