"""`avdrift devices`: the cameras and microphones that are here, as lines to paste into the configuration."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from device.errors import CaptureError
from device.printable import printable

CAMERA_LIBRARY = (
    "For the Raspberry Pi's own cameras install picamera2: sudo apt install python3-picamera2, and make the virtual "
    "environment with --system-site-packages"
)
MICROPHONE_LIBRARY = (
    "For microphones install PyAudio: sudo apt install python3-pyaudio; or portaudio19-dev, then pip install pyaudio"
)


@dataclass(frozen=True, slots=True)
class Found:
    """One device; `device` is what to write into the configuration, `about` is for a person."""

    device: str
    about: str


@dataclass(frozen=True, slots=True)
class Devices:
    """What is here, and what is not installed."""

    cameras: list[Found]
    microphones: list[Found]
    notes: list[str]


def is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def find_cameras(root: Path = Path("/")) -> list[Found]:
    """Every camera that avdrift can open."""
    from device.capture.cameras import discovery

    listed = discovery.list_cameras(sys=root / "sys/class/video4linux", dev=root / "dev")
    return [Found(each.device, f"{each.name}, {each.connection}") for each in listed]


def find_microphones(root: Path = Path("/")) -> list[Found]:
    """Every capture device of every sound card."""
    from device.capture.microphones import sound_cards

    found = []
    for each in sound_cards.list_microphones(root):
        state = [f"held by {each.held_by}"] if each.held_by else []
        state += [] if each.permitted else ["this user may not open it: sudo usermod -aG audio USER"]
        found.append(Found(each.device, ", ".join([each.name, *state])))
    return found


def devices(
    cameras: Callable[[], list[Found]] = find_cameras,
    microphones: Callable[[], list[Found]] = find_microphones,
    installed: Callable[[str], bool] = is_installed,
) -> Devices:
    """Both lists; whatever goes wrong with one is a note, and the other is still there."""
    notes: list[str] = []
    found: list[list[Found]] = []
    for part, look in (("cameras", cameras), ("microphones", microphones)):
        try:
            found.append(look())
        except CaptureError as error:
            notes.append(str(error))
            found.append([])
        except Exception as error:  # drivers' libraries raise what they like
            notes.append(f"{part} cannot be listed ({type(error).__name__}: {error})")
            found.append([])
    notes += [] if installed("picamera2") else [CAMERA_LIBRARY]
    notes += [] if installed("pyaudio") else [MICROPHONE_LIBRARY]
    return Devices(found[0], found[1], notes)


def as_toml(found: Devices) -> str:
    """Two sections; the first of each is the one that counts, the others wait as comments."""
    return "\n".join([*_section("camera", found.cameras), "", *_section("microphone", found.microphones)])


def devices_command(options: argparse.Namespace, look: Callable[[], Devices] = devices) -> int:
    """Print them; the exit code."""
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
    return lines


def _toml(text: str) -> str:
    """A basic string: JSON's, but that TOML has no pairs of surrogates."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
