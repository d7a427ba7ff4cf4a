"""`avdrift devices`: lists cameras and microphones as lines to paste into the configuration."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from device.errors import CaptureError
from device.printable import printable

if TYPE_CHECKING:
    from device.capture.cameras.modes import Mode
    from device.capture.sticks import Stick

CAMERA_LIBRARY = (
    "For the Raspberry Pi's own cameras install picamera2: sudo apt install python3-picamera2, and make the virtual "
    "environment with --system-site-packages"
)
MICROPHONE_LIBRARY = (
    "For microphones install PyAudio: sudo apt install python3-pyaudio; or portaudio19-dev, then pip install pyaudio"
)


@dataclass(frozen=True, slots=True)
class Found:
    """A device; `device` is the value for the configuration, `about` is for a person.

    pair: the other half of the same USB device. mode: for a camera with a pair, the mode to use.
    """

    device: str
    about: str
    pair: str | None = None
    mode: Mode | None = None


@dataclass(frozen=True, slots=True)
class Devices:
    """The devices found, and notes on what is not installed."""

    cameras: list[Found]
    microphones: list[Found]
    notes: list[str]


def is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def find_cameras(root: Path = Path("/")) -> list[Found]:
    """List every camera that avdrift can open."""
    from device.capture.cameras import discovery

    listed = discovery.list_cameras(sys=root / "sys/class/video4linux", dev=root / "dev")
    return [Found(each.device, f"{each.name}, {each.connection}") for each in listed]


def find_microphones(root: Path = Path("/")) -> list[Found]:
    """List every capture device of every sound card."""
    from device.capture.microphones import sound_cards

    found = []
    for each in sound_cards.list_microphones(root):
        state = [f"held by {each.held_by}"] if each.held_by else []
        state += [] if each.permitted else ["this user may not open it: sudo usermod -aG audio USER"]
        found.append(Found(each.device, ", ".join([each.name, *state])))
    return found


def find_pairs(root: Path = Path("/")) -> list[Stick]:
    """List devices that deliver both video and audio, such as capture sticks."""
    from device.capture import sticks
    from device.capture.cameras import discovery
    from device.capture.microphones import sound_cards

    cameras = discovery.list_cameras(sys=root / "sys/class/video4linux", dev=root / "dev")
    return sticks.find_sticks(cameras, sound_cards.list_microphones(root), root)


def devices(
    cameras: Callable[[], list[Found]] = find_cameras,
    microphones: Callable[[], list[Found]] = find_microphones,
    installed: Callable[[str], bool] = is_installed,
    pairs: Callable[[], list[Stick]] = find_pairs,
) -> Devices:
    """List both, pairs first; an error with one becomes a note and does not affect the other."""
    notes: list[str] = []
    found: list[list[Found]] = []
    for part, look in (("cameras", cameras), ("microphones", microphones)):
        try:
            found.append(look())
        except CaptureError as error:
            notes.append(str(error))
            found.append([])
        except Exception as error:  # drivers' libraries may raise anything
            notes.append(f"{part} cannot be listed ({type(error).__name__}: {error})")
            found.append([])
    found, trouble = _paired(found, pairs)
    notes += trouble
    notes += [] if installed("picamera2") else [CAMERA_LIBRARY]
    notes += [] if installed("pyaudio") else [MICROPHONE_LIBRARY]
    return Devices(found[0], found[1], notes)


def _paired(found: list[list[Found]], pairs: Callable[[], list[Stick]]) -> tuple[list[list[Found]], list[str]]:
    """The cameras and the microphones with their partners, and notes on these."""
    try:
        sticks = pairs()
    except Exception as error:  # drivers and sysfs
        return found, [f"pairs cannot be found ({type(error).__name__}: {error})"]
    cameras = {stick.camera: stick for stick in sticks}
    microphones = {stick.microphone: stick for stick in sticks}
    video = [
        replace(one, pair=stick.microphone, mode=stick.mode) if (stick := cameras.get(one.device)) else one
        for one in found[0]
    ]
    audio = [replace(one, pair=stick.camera) if (stick := microphones.get(one.device)) else one for one in found[1]]
    slow = [
        f"{stick.camera} lists no mode with 25 frames per second: too few to read lips from"
        for stick in sticks
        if stick.mode is None
    ]
    return [sorted(each, key=lambda one: one.pair is None) for each in (video, audio)], slow


def as_toml(found: Devices) -> str:
    """Two sections; in each, the first device is active and the others are comments."""
    return "\n".join([*_section("camera", found.cameras), "", *_section("microphone", found.microphones)])


def devices_command(options: argparse.Namespace, look: Callable[[], Devices] = devices) -> int:
    """Print them; return the exit code."""
    found = look()
    if options.json:
        print(json.dumps(asdict(found)))
    else:
        print(as_toml(found))
        for note in found.notes:
            print(f"avdrift: {printable(note)}", file=sys.stderr)
    return 0 if found.cameras or found.microphones else CaptureError.exit_code


def add_devices_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    listed = commands.add_parser("devices", help="list cameras and microphones, as lines for the configuration")
    listed.add_argument("--json", action="store_true", help="print one JSON object")


def _section(name: str, found: list[Found]) -> list[str]:
    if not found:
        return [f"[{name}]", f"# no {name} was found"]
    lines = [f"[{name}]"]
    for number, each in enumerate(found):
        comment = "# or: " if number else ""
        lines += [f"# {printable(each.about)}", f"{comment}device = {_toml(each.device)}"]
        if each.pair:
            lines.insert(-1, f"# The same USB device as {printable(each.pair)}: use both, or neither")
        if each.mode:
            mode = {"width_px": each.mode.width_px, "height_px": each.mode.height_px, "rate_hz": each.mode.rate_hz}
            lines += [f"{comment}{key} = {value:g}" for key, value in mode.items()]
            lines.append(f"{comment}format = {_toml(each.mode.form)}")
    return lines


def _toml(text: str) -> str:
    """A basic string: as in JSON, but TOML has no surrogate pairs."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
