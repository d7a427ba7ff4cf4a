"""The command `avdrift measure`: the offset of recordings, as lines, JSON, a table or a picture."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from device.analysis.listen import listen
from device.analysis.measure import LOW_FRAME_RATE, Measured, measure_timeline
from device.analysis.plot import write_csv, write_plot
from device.bundles.model_kinds import MEASURING
from device.commands.model import chosen_bundle
from device.commands.track_options import track_choice
from device.config.settings import DEFAULT_SEARCH_MS
from device.errors import AvdriftError, UsageError
from device.features.model_download import require_face_model

_REASONS = {LOW_FRAME_RATE: "too few pictures a second to read lips from: record at 12 or more, better 25"}


def measure_command(options: argparse.Namespace) -> int:
    if (options.csv or options.plot) and len(options.files) > 1:
        raise UsageError("are for one recording at a time", where="--csv and --plot", remedy="Give one FILE")
    kind = {kind.name: kind for kind in MEASURING}[options.model]
    bundle, face_model = chosen_bundle(options.bundle, options.store, (kind,)), require_face_model()
    search_ms = DEFAULT_SEARCH_MS if options.search_ms is None else options.search_ms
    exit_code, asked = 0, track_choice(options)
    for file in options.files:
        try:
            found = measure_timeline(
                Path(file), bundle, face_model, window_s=options.window, search_ms=search_ms, profile=options.profile,
                heard=listen(Path(file), asked),
            )  # fmt: skip
        except AvdriftError as error:
            if isinstance(error, UsageError):
                raise
            # One bad file must not keep the others from being measured.
            print(f"avdrift: {error}", file=sys.stderr)
            exit_code = exit_code or error.exit_code
            continue
        if found.damaged:
            print(f"avdrift: {file}: damaged: {found.damaged}", file=sys.stderr)
        if options.json:
            print(json.dumps(found.told, allow_nan=False), flush=True)
        else:
            _print_measured(found)
        if options.csv:
            write_csv(found, options.csv)
        if options.plot:
            write_plot(found, options.plot)
    return exit_code


def _print_measured(measured: Measured) -> None:
    found = measured.told
    rows = [("", found), *((f"  {window['t_s']:8.1f} s", window) for window in found.get("windows", ()))]
    for name, row in rows:
        offset = f"{row['offset_ms']:+.0f} ms" if row["offset_ms"] is not None else "no offset"
        confidence = f", confidence {row['confidence']:.2f}" if row["confidence"] is not None else ""
        print(f"{name or str(found['file']) + ':'} {offset}, {row['state']}{confidence}")
    if found["reason"]:
        print(f"  {_REASONS[found['reason']]}")
    if measured.why or found["audio_channel"]:
        channel = f", channel {found['audio_channel']}" if found["audio_channel"] else ""
        print(f"  measured: {found['audio_track']}{channel}" + (f", as {measured.why}" if measured.why else ""))
    if found["drift_ppm"] is not None:
        print(f"  drift {found['drift_ppm']:+.1f} ±{found['drift_std_ppm']:.1f} ppm ({found['drift_class']})")
    for step in found["steps"]:
        print(f"  step of {step['step_ms']:+.0f} ms at {step['t_s']:.0f} s")
    if found["verdict"] != "unknown":
        print(f"  {found['verdict'].replace('_', ' ')} ({found['profile']})")
