"""Checks stream protocols: which ones this machine supports, and whether the configured one is among them."""

from __future__ import annotations

from pathlib import Path

from device.capture.streams.protocols import available
from device.config.settings import SourceSettings
from device.doctor.finding import CheckResult, failed, ok
from device.runtime.inputs.sources import address_input

_INSTALL = "sudo apt install ffmpeg"


def protocols(settings: SourceSettings, folder: Path) -> CheckResult:
    """Check the supported protocols. Raises UsageError for an invalid address or password file."""
    speaks = available()
    missing = [scheme for scheme, by in speaks.items() if by is None]
    here = ", ".join(f"{scheme} ({by})" for scheme, by in speaks.items() if by)
    summary = f"{here}; not {', '.join(missing)}" if missing else here
    if not settings.url:
        return ok(summary)
    name, scheme = address_input(settings, folder).name, settings.url.partition(":")[0]
    if speaks[scheme] is None:
        return failed(f"{name} is configured, and nothing here supports {scheme}: {summary}", _INSTALL)
    return ok(f"{name} is configured; {summary}")
