"""`avdrift pattern` and `avdrift calibrate`: a rig's own offset, measured with a film or a person that is in sync."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from device.calibrate.bias import Bias, from_pattern, from_person
from device.calibrate.film import DEFAULT_FPS, DEFAULT_SECONDS, write_film
from device.calibrate.gather import Live, recorded
from device.calibrate.show import player, show
from device.commands.options.models import add_store_option, chosen_bundle, default_store
from device.config.constraints import Range
from device.config.file import DEFAULT_FILE, load_config
from device.config.settings import Config
from device.errors import UsageError
from device.features.model_download import require_face_model
from device.printable import shown_name
from device.records import NS_PER_MS, Chunk, Frame
from device.runtime.inputs.source_thread import Feed
from device.runtime.inputs.sources import live_feeds
from device.standards import direction
from device.state.ownership import become_owner
from device.state.rig import MAX_BIAS_MS, Rig, store_rig, undo_rig

_SECONDS = Range(10, 600)
_LIVE_S = 60.0
_ABOUT_PATTERN = (
    "Writes a film in which a flash and a short rising tone begin at the same instant, at irregular intervals. Play it "
    "on a screen before the camera, with its sound, while `avdrift calibrate --pattern` runs. It flashes: keep it away "
    "from people with photosensitive epilepsy."
)
_ABOUT_CALIBRATE = (
    "Finds the offset that camera, microphone and room have by themselves, and stores it: reports leave it out from "
    "then on. Against a person who is there and speaks (the default), or with --pattern against the film of `avdrift "
    "pattern`. Sound needs 3 ms for each metre from mouth or loudspeaker to microphone; that becomes part of what is "
    "stored, so stand where people will stand. The pattern measures the screen as well as the rig: a television may "
    "show its picture 10 to 150 ms after its sound, or delay both, and nobody can tell its share from the rig's. Use a "
    "screen in game mode with wired sound, or a person, where that matters. The pattern does not touch the models, so "
    "their own zero stays in the reports."
)


def add_pattern_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    film = commands.add_parser("pattern", help="write a film that flashes and beeps", description=_ABOUT_PATTERN)
    film.add_argument("file", metavar="FILE", type=Path, help="a new film; its suffix chooses the container")
    film.add_argument("--seconds", type=float, default=DEFAULT_SECONDS, metavar="N", help="default: %(default)g")
    film.add_argument(
        "--fps", type=float, default=DEFAULT_FPS, metavar="N",
        help="frames per second; preferably not the camera's own rate (default: %(default)g)",
    )  # fmt: skip
    film.add_argument("--show", action="store_true", help="play it full screen; an existing film is only played")


def add_calibrate_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    found = commands.add_parser(
        "calibrate", help="measure the rig's own offset and store it", description=_ABOUT_CALIBRATE
    )
    found.add_argument("--pattern", action="store_true", help="use the film of `avdrift pattern` on a screen")
    found.add_argument("--seconds", type=float, metavar="N", help=f"how long (default: {_LIVE_S:g}; a recording: all)")
    found.add_argument("--source", type=Path, metavar="FILE", help="use a recording instead of camera and microphone")
    found.add_argument("--config", type=Path, metavar="FILE", help=f"default: {DEFAULT_FILE}, where it is there")
    found.add_argument("--bundle", type=Path, metavar="FOLDER", help="folder with the models to use on a person")
    add_store_option(found)
    found.add_argument("--dry-run", action="store_true", help="measure, and store nothing")
    found.add_argument(
        "--undo", action="store_true", help="restore the previous calibration; a second time: the newer one"
    )
    found.add_argument("--json", action="store_true", help="print one JSON object")


def pattern_command(options: argparse.Namespace) -> int:
    """Write the film, and play it. Raises UsageError."""
    command = player() if options.show else None
    if command is None or not options.file.is_file():
        count = write_film(options.file, options.seconds, options.fps)
        print(f"{shown_name(options.file)}: {options.seconds:g} s with {count} flashes, each with its beep", flush=True)
    if command is not None:
        show(command, options.file)
    return 0


def calibrate_command(options: argparse.Namespace, feeds: Callable[[Config], Sequence[Feed]] = live_feeds) -> int:
    """Measure the rig's own offset, print it and store it. Raises UsageError, CaptureError, ModelError.

    feeds: opens camera and microphone; given by tests.
    """
    state_dir = options.store or default_store()
    become_owner(state_dir)
    if options.undo:
        return _undo(state_dir, as_json=options.json)
    if options.seconds is not None and not _SECONDS.allows(options.seconds):
        raise UsageError(f"{options.seconds:g} s is not possible", where="--seconds", remedy=f"Give {_SECONDS} s")
    file = options.config or (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)
    config = load_config(file) if file else Config()
    measured = _measurer(options, config, file)
    if options.source is not None:
        bias = measured(recorded(options.source, options.seconds))
        camera, microphone = _named(config.camera.device), _named(config.microphone.device)
    else:
        live = Live(feeds(config), options.seconds or _LIVE_S)
        print(f"recording for {options.seconds or _LIVE_S:g} s", file=sys.stderr, flush=True)
        bias = measured(live.items())
        camera, microphone = live.devices.get("camera"), live.devices.get("microphone")
    stored = None
    if not options.dry_run and camera and microphone:
        stored = store_rig(state_dir, _rig(bias, camera, microphone))
    _print(bias, camera, microphone, stored, options)
    return 0


def _undo(state_dir: Path, *, as_json: bool) -> int:
    rig = undo_rig(state_dir)
    if as_json:
        print(json.dumps({"rig": asdict(rig) if rig else None}))
    elif rig is None:
        print("from its next start, avdrift uses no calibration, as before the last one")
    else:
        print(f"from its next start, avdrift subtracts {rig.bias_ms:+.1f} ms for {rig.camera} with {rig.microphone}")
    return 0


def _measurer(
    options: argparse.Namespace, config: Config, file: Path | None
) -> Callable[[Iterable[Frame | Chunk]], Bias]:
    if options.pattern:
        return lambda items: from_pattern(items, recorded=options.source is not None)
    given = options.bundle
    if given is None and config.model.bundle:
        given = (file.parent if file else Path()) / config.model.bundle
    bundle, face_model = chosen_bundle(given, options.store), require_face_model()
    return lambda items: from_person(items, bundle, face_model, search_ms=config.measure.search_ms)


def _named(device: str) -> str | None:
    """A recording does not say which camera made it; the configuration may."""
    return None if device == "auto" else device


def _rig(bias: Bias, camera: str, microphone: str) -> Rig:
    if abs(bias.bias_ms) > MAX_BIAS_MS:
        what = f"{bias.bias_ms:+.0f} ms is too much for a rig"
        raise UsageError(what, where="avdrift calibrate", remedy="Find out what delays the audio or the video")
    made_unix_ms = max(time.time_ns() // NS_PER_MS, 0)
    return Rig(round(bias.bias_ms, 2), round(bias.bias_std_ms, 2), made_unix_ms, camera, microphone)


def _print(
    bias: Bias, camera: str | None, microphone: str | None, stored: Path | None, options: argparse.Namespace
) -> None:
    way = "pattern" if options.pattern else "person"
    if options.json:
        result = asdict(bias) | {
            "bias_ms": round(bias.bias_ms, 2), "bias_std_ms": round(bias.bias_std_ms, 2),
            "scatter_ms": round(bias.scatter_ms, 2), "way": way, "camera": camera, "microphone": microphone,
            "stored": str(stored) if stored else None,
        }  # fmt: skip
        print(json.dumps(result, allow_nan=False))
        return
    what = "flashes and beeps" if options.pattern else "windows"
    bias_ms = round(bias.bias_ms, 1) + 0.0  # never -0.0
    side = direction(bias_ms).value.replace("_", " ")
    print(
        f"{bias_ms:+.1f} ms ±{bias.bias_std_ms:.1f} ms ({side}), "
        f"from {bias.count} {what} that scatter by {bias.scatter_ms:.1f} ms"
    )
    if bias.warning:
        print(f"warning: {bias.warning}")
    if stored:
        print(f"stored for {camera} with {microphone} in {stored}; avdrift uses it from its next start")
    elif options.dry_run:
        print("not stored (--dry-run)")
    else:
        print("not stored: name the camera and the microphone that made the recording in a configuration (--config)")
    print("this includes 3 ms for each metre from the sound source to the microphone", end="")
    print(", and the delays of screen and loudspeaker" if options.pattern else "")
