"""Sound cards that can record, from the kernel's /proc/asound: their names, and whether they are free and permitted.

Nothing is opened. A card's number depends on the order in which devices are found at boot or plugged in; its id
(`Device`, `MicArray`) does not. So devices are named `hw:CARD=<id>,DEV=<n>`, as by `arecord -L`.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from device.errors import CaptureError, DeviceBusyError, DeviceMissingError, DevicePermissionError, UsageError

_ROOT = Path("/")
_NAME = re.compile(r"hw:(?:CARD=)?(?P<card>[^,=]+)(?:,(?:DEV=)?(?P<dev>\d{1,3}))?")
_CARD_LINE = re.compile(r"^ *(\d+) \[.{1,16}\]: .*? - (.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Microphone:
    """A capture device of a sound card. `device` is the value for the configuration."""

    device: str
    name: str  # for a person
    card: int  # its current number
    dev: int
    held_by: str | None  # the recording process, such as `pipewire (812)`
    permitted: bool  # this user may open it


def list_microphones(root: Path = _ROOT) -> list[Microphone]:
    """List all current capture devices, by card number. `root` contains proc and dev."""
    found = [_read(folder, root) for folder in (root / "proc/asound").glob("card[0-9]*/pcm*c")]
    return sorted((one for one in found if one), key=lambda one: (one.card, one.dev))


def find_microphone(device: str, root: Path = _ROOT) -> Microphone:
    """Find the free and permitted capture device of that name; `auto` is the only one present.

    Raises UsageError for a name that is not a card's, DeviceMissingError, DevicePermissionError, DeviceBusyError.
    """
    here = list_microphones(root)
    if device == "auto":
        if len(here) > 1:
            # Not a UsageError: a second one may be plugged in while the first is in use.
            what = f"there are {len(here)} to choose from: {_listed(here)}"
            raise DeviceMissingError(what, where="microphone", remedy="Write one of them into [microphone], device.")
        wanted = here[0].device if here else "auto"
    else:
        wanted = canonical(device)
    one = next((one for one in here if one.device == wanted), None)
    if one is None:
        raise _missing(wanted, here)
    if not one.permitted:
        what, remedy = "this user may not open it", "Add the user to the group audio: sudo usermod -aG audio USER"
        raise DevicePermissionError(what, where=f"microphone {one.device}", remedy=f"{remedy}, and log in again.")
    if one.held_by:
        remedy = "Stop that process, or take the card away from it (pactl set-card-profile CARD off)."
        raise DeviceBusyError(f"{one.held_by} holds it", where=f"microphone {one.device}", remedy=remedy)
    return one


def canonical(device: str) -> str:
    """Normalise `hw:Device`, `hw:CARD=Device` or `hw:Device,0` to `hw:CARD=Device,DEV=0`.

    Raises UsageError for others.
    """
    match = _NAME.fullmatch(device)
    if match is None:
        what = f"{device!r} is not the name of a sound card's device"
        raise UsageError(what, where="microphone", remedy="Use one that `avdrift devices` prints.")
    if match["card"].isdigit():
        what = f"{device} names a card by its number, which changes from boot to boot"
        raise UsageError(what, where="microphone", remedy="Use the name that `avdrift devices` prints.")
    return f"hw:CARD={match['card']},DEV={int(match['dev'] or 0)}"


def _missing(wanted: str, here: list[Microphone]) -> CaptureError:
    what = (
        f"not connected; available: {_listed(here)}"
        if here
        else "not connected, and there is no other sound card that records"
    )
    where = "microphone" if wanted == "auto" else f"microphone {wanted}"
    return DeviceMissingError(what, where=where, remedy="Plug it in, or see what `avdrift devices` finds.")


def _listed(microphones: list[Microphone]) -> str:
    return ", ".join(f"{one.device} ({one.name})" for one in microphones)


def _read(folder: Path, root: Path) -> Microphone | None:
    """None if the card disappears while it is read."""
    try:
        card, dev = int(folder.parent.name.removeprefix("card")), int(folder.name.removeprefix("pcm").removesuffix("c"))
        card_id = (folder.parent / "id").read_text("utf-8", "replace").strip()
        names = dict(_CARD_LINE.findall((root / "proc/asound/cards").read_text("utf-8", "replace")))
        about = dict(re.findall(r"^(\w+): *(.*)$", (folder / "info").read_text("utf-8", "replace"), re.MULTILINE))
        held_by = _owner(folder, root)
    except (OSError, ValueError):
        return None
    name = f"{names.get(str(card), card_id)}: {about.get('name') or about.get('id') or 'capture'}"
    node = root / f"dev/snd/pcmC{card}D{dev}c"
    return Microphone(f"hw:CARD={card_id},DEV={dev}", name, card, dev, held_by, os.access(node, os.R_OK | os.W_OK))


def _owner(folder: Path, root: Path) -> str | None:
    """The process that holds every substream of a device; None if one is free."""
    owner = None
    for status in sorted(folder.glob("sub*/status")):
        match = re.search(r"^owner_pid *: *(\d+)", status.read_text("ascii", "replace"), re.MULTILINE)
        if match is None:
            return None
        owner = _process(int(match[1]), root)
    return owner


def _process(thread_id: int, root: Path) -> str:
    """Name and number of the process of a thread."""
    try:
        status = (root / f"proc/{thread_id}/status").read_text("utf-8", "replace")
        process_id = int(re.findall(r"^Tgid:\s*(\d+)", status, re.MULTILINE)[0])
        name = (root / f"proc/{process_id}/comm").read_text("utf-8", "replace").strip()
    except (OSError, IndexError):
        return f"process {thread_id}"
    return f"{name} ({process_id})"
