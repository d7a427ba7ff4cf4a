"""A bound on the memory of this process while it decodes untrusted input.

The bounds on frames (`device.capture.bounds`) cannot know how many frames a decoder keeps: a file of a few megabytes
may have 16 of 56 MB kept. The kernel refuses allocations beyond RLIMIT_DATA (setrlimit(2)). A frame then cannot be
decoded, which counts as damage, or as the reason why a file cannot be measured.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from device.config.constraints import Range
from device.errors import InputFormatError, UsageError

try:
    import resource
except ModuleNotFoundError:  # not POSIX: there is no such bound
    resource = None  # type: ignore[assignment]

MEMORY_MB = Range(200, 1_000_000)
DEFAULT_MEMORY_MB = 400.0  # the limit of the service, too

_STATUS = Path("/proc/self/status")
_MB, _KB = 1 << 20, 1 << 10
_LEAST_ROOM = 32 * _MB


@contextmanager
def memory_bound(limit_mb: float, file: str | Path) -> Iterator[None]:
    """Limit this process's memory; a MemoryError within becomes an InputFormatError of the file.

    A process that already uses more stays without a limit. Raises UsageError for an impossible limit.
    """
    if not MEMORY_MB.allows(limit_mb):
        raise UsageError(f"{limit_mb:g} MB is not possible", where="--max-memory", remedy=f"Give {MEMORY_MB} MB")
    if resource is None:
        yield
        return
    room = round(limit_mb * _MB) - _kilobytes("VmRSS") * _KB
    if room < 0:
        yield
        return
    used = _kilobytes("VmData") * _KB
    before, hard = resource.getrlimit(resource.RLIMIT_DATA)
    # Memory that is reserved but not yet touched, such as thread stacks, does not count. The least is for the stacks of
    # threads to come: without, one cannot take its first step, for which the starting thread waits for ever.
    limit = used + max(room, _LEAST_ROOM)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    try:
        yield
    except MemoryError as error:
        raise too_much(str(file)) from error
    finally:
        with suppress(ValueError):
            resource.setrlimit(resource.RLIMIT_DATA, (before, hard))


def has_room_for(size_bytes: int) -> bool:
    """Whether this much more would stay within the bound, if there is one."""
    if resource is None:
        return True
    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    return limit == resource.RLIM_INFINITY or _kilobytes("VmData") * _KB + size_bytes <= limit


def too_much(where: str) -> InputFormatError:
    remedy = "Give more with --max-memory MB, or convert it, for example with: ffmpeg -i FILE -vf scale=-2:1080 OUT"
    return InputFormatError("decoding it needs more memory than is allowed", where=where, remedy=remedy)


def _kilobytes(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", _STATUS.read_text(encoding="ascii", errors="replace"), re.MULTILINE)
    return int(found[1]) if found else 0
