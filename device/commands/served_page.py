"""What `avdrift run` and `avdrift replay` print about the page that they serve, and how long they serve it."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from device.page.sink import PageSink

_OPENING_TIMEOUT_S = 3.0
_POLL_S = 0.5


def print_address(page: PageSink) -> None:
    """Print the address on a terminal only, never to a log, because it opens the page."""
    if address := page.address(_OPENING_TIMEOUT_S):
        print(f"avdrift: see what it sees: {address}", file=sys.stderr, flush=True)


def serve_until_closed(page: PageSink) -> None:
    """Keep the page of a finished recording open for its viewers, until Ctrl-C."""
    if page.viewers:
        print("avdrift: the recording has ended; the page stays until you close it, or Ctrl-C", file=sys.stderr)
    with suppress(KeyboardInterrupt):
        while page.viewers:
            time.sleep(_POLL_S)
