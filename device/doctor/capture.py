"""Checks camera and microphone: whether they are present, their libraries installed and the user permitted."""

from __future__ import annotations

from collections.abc import Callable

from device.commands.devices import CAMERA_LIBRARY, MICROPHONE_LIBRARY, Found, is_installed
from device.doctor.finding import CheckResult, failed, ok, warning
from device.doctor.host import Host

_CHOOSE = "Choose one with `avdrift devices`"


def camera(
    wanted: str, find: Callable[[], list[Found]], installed: Callable[[str], bool] = is_installed
) -> CheckResult:
    """Check the configured camera, or the only one."""
    found = find()
    if not found and not installed("picamera2"):
        return failed("no USB camera is connected, and picamera2 is not installed", CAMERA_LIBRARY)
    return _chosen("camera", wanted, found, "Check its cable; rpicam-hello --list-cameras must show it")


def microphone(
    wanted: str, find: Callable[[], list[Found]], installed: Callable[[str], bool] = is_installed
) -> CheckResult:
    """Check the configured microphone, or the only one."""
    if not installed("pyaudio"):
        return failed("PyAudio is not installed", MICROPHONE_LIBRARY)
    return _chosen("microphone", wanted, find(), "Plug it in; arecord -l must show it")


def permissions(host: Host) -> CheckResult:
    """Check the groups that own cameras and microphones, and whether their nodes exist."""
    nodes = {
        "video": host.paths("dev/video*") + host.paths("dev/media*"),
        "audio": host.paths("dev/snd/pcmC*c"),
    }
    seen = ", ".join(f"{len(paths)} {group} nodes" for group, paths in nodes.items())
    outside = [group for group in nodes if not host.is_in(group)]
    if host.user == "root":
        return ok(f"root may open everything ({seen}); run this as the user that avdrift runs as, or give --user")
    if outside:
        remedy = f"sudo usermod -aG {','.join(outside)} {host.user}, then log in again or restart the service"
        return failed(f"{host.user} is not in {' and '.join(outside)} ({seen})", remedy)
    absent = [group for group, paths in nodes.items() if not paths]
    if absent:
        what = f"{host.user} is in video and audio, but /dev has nothing for {' and '.join(absent)}"
        return warning(what, "Connect the device; in a container, pass it in")
    return ok(f"{host.user} is in video and audio ({seen})")


def _chosen(part: str, wanted: str, found: list[Found], connect: str) -> CheckResult:
    listed = ", ".join(f"{each.device} ({each.about})" for each in found)
    if not found:
        return failed(f"no {part} is connected", connect)
    if wanted == "auto":
        if len(found) > 1:
            return failed(f"there are {len(found)}, and none is chosen: {listed}", f"{_CHOOSE}, under [{part}]")
        return _opens(found[0])
    here = [each for each in found if wanted == each.device or each.device.endswith(f":{wanted}")]
    if not here:
        return failed(f"{wanted} is not connected; available: {listed}", f"{connect}, or choose another: {_CHOOSE}")
    return _opens(here[0])


def _opens(found: Found) -> CheckResult:
    what = f"{found.device} ({found.about})"
    if "may not open" in found.about:
        return failed(what, "See permissions")
    if "held by" in found.about and "avdrift" not in found.about:
        return failed(what, "End that program, or take the device away from it")
    return ok(what)
