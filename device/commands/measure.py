"""The command `avdrift measure`: the offset of recordings, as text, JSON, a table or a plot."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from device.analysis.measure import Measured, measure_timeline
from device.analysis.plot import write_csv, write_plot
from device.analysis.video_selection import select_tracks
from device.bundles.model_kinds import MEASURING, TOWERS
from device.capture.memory import memory_bound
from device.commands.options.limits import add_limit_options, chosen_limits
from device.commands.options.memory import add_memory_option
from device.commands.options.models import chosen_bundle
from device.commands.options.timeline_files import add_timeline_files, check_timeline_files
from device.commands.options.tracks import add_track_options, track_choice
from device.commands.reading_progress import reading_progress
from device.config.settings import DEFAULT_SEARCH_MS
from device.errors import AvdriftError, UsageError
from device.features.model_download import require_face_model
from device.printable import minutes, shown_error, shown_name
from device.records import DriftClass, Reason

_WORTH_MENDING_MS = 10.0
_REASONS = {
    Reason.NO_FACE: "nobody's face is visible for long enough: show one from the front, well lit, at least 60 pixels"
    " wide, or try another --video-track",
    Reason.NO_SPEECH: "nobody speaks for long enough in the audio that was measured",
    Reason.TOO_LITTLE_SPEECH: "too little speech with a visible face: some seconds more are needed",
    Reason.VOICE_NOT_OF_THIS_FACE: "the voice does not fit the face: somebody else speaks, or the audio is dubbed",
    Reason.BEYOND_SEARCH_RANGE: "the best offset is at the end of what was searched: give a larger --search-ms",
    Reason.AMBIGUOUS: "several offsets fit about as well, as in an echo about as loud as the voice",
    Reason.LOW_FRAME_RATE: "too few frames per second to read lips from: record at 12 or more, better 25",
    Reason.SHORT: "the recording is too short: give one with two seconds or more of speech",
    Reason.OFFSET_VARIES: "no single offset holds for the whole recording: see its pieces and its drift",
}


def add_measure_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], parents: list[argparse.ArgumentParser]
) -> None:
    measured = commands.add_parser("measure", parents=parents, help="measure the offset of recordings")
    measured.add_argument("files", metavar="FILE", nargs="+", help="a recording")
    measured.add_argument(
        "--model", choices=[kind.name for kind in MEASURING], default=TOWERS.name,
        help="kind of the models, of which there are built-in ones; only towers are installed (default: towers)",
    )  # fmt: skip
    add_track_options(measured)
    measured.add_argument("--window", type=float, metavar="S", help="also measure each consecutive window of S seconds")
    add_limit_options(measured)
    add_timeline_files(measured)
    add_memory_option(measured)
    measured.add_argument("--json", action="store_true", help="print one JSON object per file")


def measure_command(options: argparse.Namespace) -> int:
    if (options.csv or options.plot) and len(options.files) > 1:
        raise UsageError("are for one recording at a time", where="--csv and --plot", remedy="Give one FILE")
    check_timeline_files(options)
    kind = {kind.name: kind for kind in MEASURING}[options.model]
    bundle, face_model = chosen_bundle(options.bundle, options.store, (kind,)), require_face_model()
    search_ms = DEFAULT_SEARCH_MS if options.search_ms is None else options.search_ms
    exit_code, asked, (profile, limits) = 0, track_choice(options), chosen_limits(options)
    for file in options.files:
        try:
            with memory_bound(options.max_memory_mb, file), reading_progress(Path(file)) as read:
                found = measure_timeline(
                    Path(file), bundle, face_model, window_s=options.window, search_ms=search_ms, profile=profile,
                    limits=limits, audio=select_tracks(Path(file), asked, face_model), on_read=read,
                )  # fmt: skip
        except AvdriftError as error:
            if isinstance(error, UsageError):
                raise
            # One bad file must not keep the others from being measured.
            print(f"avdrift: {shown_error(error)}", file=sys.stderr)
            exit_code = exit_code or error.exit_code
            continue
        if found.damaged:
            print(f"avdrift: {shown_name(file)}: damaged: {found.damaged}", file=sys.stderr)
        if options.json:
            print(json.dumps(found.result, allow_nan=False), flush=True)
        else:
            _print_measured(found)
        if options.csv:
            write_csv(found, options.csv)
        if options.plot:
            write_plot(found, options.plot)
    return exit_code


def _print_measured(measured: Measured) -> None:
    found = measured.result
    rows = [("", found), *((f"  {minutes(window['t_s'], 1):>10}", window) for window in found.get("windows", ()))]
    for name, row in rows:
        offset = f"{row['offset_ms']:+.0f} ms" if row["offset_ms"] is not None else "no offset"
        confidence = f", confidence {row['confidence']:.2f}" if row["confidence"] is not None else ""
        print(f"{name or shown_name(found['file']) + ':'} {offset}, {row['state']}{confidence}")
    if found["reason"]:
        print(f"  {_REASONS[found['reason']]}")
    if measured.video_why:
        print(f"  measured: {found['video_track']}, as {measured.video_why}")
    if measured.why or found["audio_channel"]:
        channel = f", channel {found['audio_channel']}" if found["audio_channel"] else ""
        print(f"  measured: {found['audio_track']}{channel}" + (f", as {measured.why}" if measured.why else ""))
    if found["drift_ppm"] is not None:
        print(f"  drift {found['drift_ppm']:+.1f} ±{found['drift_std_ppm']:.1f} ppm ({found['drift_class']})")
    if len(found["pieces"]) > 1 or found["drift_class"] == DriftClass.DRIFTING:
        for piece in found["pieces"]:
            print(f"  {minutes(piece['from_s'])} to {minutes(piece['to_s'])}  {_piece_text(piece)}")
    for step in found["steps"]:
        print(f"  step of {step['step_ms']:+.0f} ms at {minutes(step['t_s'])}")
    if found["verdict"] != "unknown":
        print(f"  {found['verdict'].replace('_', ' ')} ({found['profile']})")
    if found["offset_ms"] is not None and abs(found["offset_ms"]) >= _WORTH_MENDING_MS:
        early = found["offset_ms"] > 0
        print(
            f"  the audio is {'early' if early else 'late'}: {'delay' if early else 'advance'} it by "
            f"{abs(found['offset_ms']):.0f} ms, or let avdrift fix write a copy that is in sync"
        )


def _piece_text(piece: dict[str, Any]) -> str:
    if piece["offset_ms"] is None:
        return "no offset"
    if piece["from_offset_ms"] == piece["to_offset_ms"]:
        return f"{piece['offset_ms']:+.0f} ms ±{piece['offset_std_ms']:.0f} ms"
    return f"{piece['from_offset_ms']:+.0f} to {piece['to_offset_ms']:+.0f} ms"
