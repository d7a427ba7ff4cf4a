"""The command `avdrift fix`: measure a recording, or take the given numbers, and write a copy that is in sync."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from device.analysis.audio_selection import SelectedTracks, requested_audio, select_audio
from device.analysis.measure import Measured, measure_timeline
from device.analysis.video_selection import select_tracks
from device.capture.container import choice_of
from device.capture.file import FileSource
from device.capture.memory import memory_bound
from device.commands.options.memory import add_memory_option
from device.commands.options.models import chosen_bundle
from device.commands.options.tracks import add_track_options, track_choice
from device.commands.reading_progress import reading_progress
from device.config.settings import DEFAULT_SEARCH_MS
from device.errors import UsageError
from device.features.model_download import require_face_model
from device.fix.captions import beside, write_moved
from device.fix.copy import Copied, copy_moved, preview
from device.fix.plan import Move, Plan
from device.fix.target import check_target
from device.fix.verify import Verified, span_of, verify, what_is_left
from device.printable import minutes, printable
from device.records import DriftClass, State

_MAX_OFFSET_MS = 60_000.0
_OLD_TRACKS = {"sound": "audio", "picture": "video"}  # earlier names, still accepted


def add_fix_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], parents: list[argparse.ArgumentParser]
) -> None:
    fix = commands.add_parser("fix", parents=parents, help="write a copy of a recording that is in sync")
    fix.add_argument("file", metavar="IN", type=Path, help="a recording")
    fix.add_argument(
        "out", metavar="OUT", type=Path, help="the copy; its suffix chooses the container (.mp4, .mkv, .ts)"
    )
    fix.add_argument(
        "--offset", type=float, metavar="MS", help="use this offset (positive: audio early) instead of measuring it"
    )
    fix.add_argument(
        "--drift", type=float, metavar="PPM", help="use this drift too; --offset is then the offset at the beginning"
    )
    fix.add_argument(
        "--move", choices=("audio", "video"), default="audio", type=lambda word: _OLD_TRACKS.get(word, word),
        help="audio moves the track that was measured (default); video moves video and captions against all audio",
    )  # fmt: skip
    add_track_options(fix)
    add_memory_option(fix)
    fix.add_argument("--force", action="store_true", help="overwrite OUT")
    fix.add_argument("--dry-run", action="store_true", help="print what would be done, and write nothing")
    fix.add_argument("--no-verify", action="store_true", help="do not check the copy before it gets its name")
    fix.add_argument("--json", action="store_true", help="print one JSON object")


def fix_command(options: argparse.Namespace) -> int:
    with memory_bound(options.max_memory_mb, options.file):
        return _fix(options)


def _fix(options: argparse.Namespace) -> int:
    is_given = options.offset is not None or options.drift is not None
    # rejects files that are not recordings before measuring
    if is_given:
        audio = select_audio(options.file, track_choice(options))
    else:
        audio = select_tracks(options.file, track_choice(options), require_face_model())
    with FileSource(options.file, which=audio.which) as source:
        video_index, audio_index = source.stream_indexes
    check_target(options.file, options.out, options.force)
    move_picture = options.move == "video"
    if move_picture:
        for given, made in beside(options.file, options.out):
            check_target(given, made, options.force)
    found = None if is_given else _measured(options.file, options, audio)
    plan = plan_for(found) if found is not None else _given(options)
    result: dict[str, Any] = {
        "file": str(options.file), "out": str(options.out),
        "moves": [{"from_s": round(move.from_s, 2), "offset_ms": round(move.offset_ms, 1),
                   "drift_ppm": round(move.drift_ppm, 1)} for move in plan.moves],
        "sound": None, "left_out": [], "lost": [], "written": False, "verified": None,
        "audio_track": audio.track, "before": _summary(found), "after": None,
    }  # fmt: skip
    if found is not None and what_is_left(found) is None:
        _print(result, options, [f"{options.file}: is in sync already, so nothing was written"])
        return 0
    streams = {"video_index": video_index, "audio_index": audio_index}
    if options.dry_run:
        copied, verified = (
            preview(options.file, options.out, plan, force=options.force, move_picture=move_picture, **streams),
            None,
        )
    else:
        copied, verified = _write(options, plan, found, audio, streams)
    captions = _move_captions(options, copied) if copied.picture_later_s else []
    result |= {
        "sound": copied.sound, "left_out": copied.left_out, "cut_ms": round(1000 * copied.cut_s),
        "captions": [str(path) for path in captions], "damaged_packets": copied.lost_packets,
        "written": not options.dry_run, "verified": None if verified is None else True,
        "lost": verified.lost if verified else [], "after": _summary(verified.after if verified else None),
    }  # fmt: skip
    _print(result, options, _words(result))
    return 0


def _write(
    options: argparse.Namespace, plan: Plan, found: Measured | None, audio: SelectedTracks, streams: dict[str, int]
) -> tuple[Copied, Verified | None]:
    verified: Verified | None = None

    def measured(made: Path, copied: Copied) -> Measured:
        which = choice_of(
            made, video_index=copied.video_index, audio_index=copied.audio_index, channel=audio.which.channel
        )
        return _measured(made, options, requested_audio(made, which))

    def check(made: Path, copied: Copied) -> None:
        nonlocal verified
        again = measured if found is not None else None  # the user's numbers take precedence over a measurement
        verified = verify(options.file, options.out, made, plan, copied, measured=again, **streams)

    copied = copy_moved(
        options.file, options.out, plan, force=options.force, move_picture=options.move == "video",
        check=None if options.no_verify else check, **streams,
    )  # fmt: skip
    return copied, verified


def _move_captions(options: argparse.Namespace, copied: Copied) -> list[Path]:
    """Shift the captions beside the recording; return their names beside the copy."""
    pairs = beside(options.file, options.out)
    for given, made in [] if options.dry_run else pairs:
        try:
            write_moved(given, made, copied.picture_later_s)
        except OSError as error:
            what = f"cannot be written ({error.strerror})"
            raise UsageError(
                what, where=str(made), remedy="The copy itself is whole; make room, and try again"
            ) from error
    return [made for _, made in pairs]


def _given(options: argparse.Namespace) -> Plan:
    offset_ms, drift_ppm = options.offset or 0.0, options.drift or 0.0
    if not abs(offset_ms) <= _MAX_OFFSET_MS:
        raise UsageError(f"{offset_ms:g} ms is not possible", where="--offset", remedy="Give -60000 to 60000 ms")
    try:
        return Plan((Move(0.0, offset_ms, drift_ppm),))
    except ValueError:
        raise UsageError(f"{drift_ppm:g} ppm is not possible", where="--drift", remedy="Give -5000 to 5000") from None


def _measured(file: Path, options: argparse.Namespace, audio: SelectedTracks) -> Measured:
    search_ms = DEFAULT_SEARCH_MS if options.search_ms is None else options.search_ms
    bundle = chosen_bundle(options.bundle, options.store)
    with reading_progress(file) as read:
        return measure_timeline(file, bundle, require_face_model(), search_ms=search_ms, audio=audio, on_read=read)


def plan_for(found: Measured) -> Plan:
    """The plan that a measurement asks for. Raises UsageError if part of the recording is uncertain."""
    track, result = found.timeline, found.result
    unsure = [piece for piece in track.pieces if not piece.sure]
    simple = len(track.pieces) == 1 and track.drift_class is not DriftClass.DRIFTING
    if not track.pieces or (unsure and not (simple and result["state"] is State.MEASURING)):
        at = span_of(unsure[0]) if unsure and len(track.pieces) > 1 else ""
        why = f", {result['reason']}" if result.get("reason") else ""
        what = f"the offset is not sure{at} (state: {result['state']}{why}), so nothing was written"
        remedy = "Check the output of `avdrift measure`, or give the offset yourself: --offset MS"
        raise UsageError(what, where=result["file"], remedy=remedy)
    if simple and result["offset_ms"] is not None:
        return Plan((Move(0.0, result["offset_ms"]),))
    slope_ppm = (track.drift_ppm or 0.0) if track.drift_class is DriftClass.DRIFTING else 0.0
    # The timeline counts from the first frame.
    moves = (Move(p.from_s + found.origin_s, track.offset_ms(p, p.from_s), slope_ppm) for p in track.pieces)
    return Plan(tuple(moves))


def _summary(found: Measured | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {key: found.result[key] for key in ("state", "offset_ms", "offset_std_ms", "drift_ppm", "pieces")}


def _print(result: dict[str, Any], options: argparse.Namespace, lines: list[str]) -> None:
    print(json.dumps(result, allow_nan=False) if options.json else "\n".join(map(printable, lines)))


def _words(result: dict[str, Any]) -> list[str]:
    lines, written = [], result["written"]
    for move in result["moves"]:
        drift = f", and {move['drift_ppm']:+.1f} ppm" if move["drift_ppm"] else ""
        since = f"from {minutes(move['from_s'], 1)} on " if len(result["moves"]) > 1 else ""
        done = "corrected" if result["verified"] else "moved by that" if written else "would be corrected"
        lines.append(f"{since}the audio was {_early_or_late(move['offset_ms'])}{drift}: {done}")
    if result["after"] is not None:
        lines.append(f"measured again: {_spread(result['after'])}")
    shifted = result["sound"] == "shifted"
    how = "moved by its time stamps, nothing re-encoded" if shifted else f"re-encoded as {result['sound']}"
    lines.append(f"{result['out']}: video copied unchanged, audio {how}" + ("" if written else "; nothing was written"))
    lines += [f"{path}: captions, moved with the video" for path in result["captions"]]
    if result["cut_ms"]:
        lines.append(f"{result['cut_ms']} ms of audio were cut off, which would have begun before everything else")
    if result["damaged_packets"]:
        lines.append(f"{result['damaged_packets']} damaged packets were left out")
    lines += [f"{what} was left out: this container cannot hold it" for what in result["left_out"]]
    lines += [f"{what} was lost in this container" for what in result["lost"]]
    return lines


def _early_or_late(offset_ms: float) -> str:
    return f"{abs(offset_ms):.1f} ms {'early' if offset_ms >= 0 else 'late'}"


def _spread(measured: dict[str, Any]) -> str:
    pieces = measured["pieces"]
    alone = len(pieces) == 1 and measured["offset_ms"] is not None
    offsets_ms = [measured["offset_ms"]] if alone else [p["offset_ms"] for p in pieces if p["offset_ms"] is not None]
    return ", then ".join(_early_or_late(offset_ms) for offset_ms in offsets_ms)
