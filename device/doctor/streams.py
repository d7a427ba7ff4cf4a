"""Streams: which protocols this machine has, and whether the configured one can be spoken."""

from __future__ import annotations

from pathlib import Path

from device.capture.streams.protocols import available
from device.config.settings import SourceSettings
from device.doctor.finding import Look, failed, ok
from device.runtime.sources import address_input

_INSTALL = "sudo apt install ffmpeg"


def protocols(settings: SourceSettings, folder: Path) -> Look:
    """What can be spoken here. Raises UsageError for an address or a password file that cannot be right."""
    speaks = available()
    missing = [scheme for scheme, by in speaks.items() if by is None]
    here = ", ".join(f"{scheme} ({by})" for scheme, by in speaks.items() if by)
    said = f"{here}; not {', '.join(missing)}" if missing else here
    if not settings.url:
        return ok(said)
    name, scheme = address_input(settings, folder).name, settings.url.partition(":")[0]
    if speaks[scheme] is None:
        return failed(f"{name} is configured, and nothing here speaks {scheme}: {said}", _INSTALL)
    return ok(f"{name} is configured; {said}")
