"""What all of avdrift's commands share: errors become a message and an exit code, never a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from device.errors import AvdriftError
from device.telemetry.lines import ERROR_MARK, is_journal

_STDERR = 2
INTERRUPTED = 130  # as a shell has it: 128 + SIGINT


def guarded(name: str, work: Callable[[], int]) -> int:
    """Does the work of the command `name`; the exit code."""
    try:
        return work()
    except AvdriftError as error:
        # In the journal it is an error, and so is each of its lines.
        mark = ERROR_MARK if is_journal(_STDERR) else ""
        print(mark + f"{name}: {error}".replace("\n", f"\n{mark}"), file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output is gone; Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED
