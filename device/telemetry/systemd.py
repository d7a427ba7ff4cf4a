"""Notifications to systemd: ready, status, alive, reloading, stopping. None without $NOTIFY_SOCKET.

The protocol is one datagram per message, see sd_notify(3), so a library gains nothing: sdnotify blocks while systemd is
busy, which measuring must not, and cannot write a ± in its status.

Ready is the first report, whatever its state. The daemon's first report comes when its sources are open, or when it can
name what keeps one closed. So with a missing camera the service runs, reports the fault, and waits for the camera: a
restart would not plug it in, and a start that never completes would only be killed. A hang before the first report, in
a driver for example, is ended by the unit's TimeoutStartSec; one after it by its WatchdogSec.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Mapping

from device.records import Event, Health, Info, Report
from device.telemetry.report_text import short_text

SOCKET_VARIABLE = "NOTIFY_SOCKET"
WATCHDOG_VARIABLE = "WATCHDOG_USEC"
WATCHDOG_PID_VARIABLE = "WATCHDOG_PID"
BEATS_PER_WATCHDOG = 3  # one may be lost and another late


class Notifier:
    """Reports the daemon's state to systemd; is a Sink.

    Never blocks and never raises; unsent messages are sent again.
    """

    def __init__(
        self, environment: Mapping[str, str] = os.environ, *, now_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._now_ns = now_ns
        self._address = _address(environment.get(SOCKET_VARIABLE, ""))
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if self._address else None
        if self._socket:
            self._socket.setblocking(False)
        self._watchdog_ns = _watchdog_ns(environment)
        self._beat_ns: int | None = None
        self._ready = False
        self._status = ""

    def heartbeat(self) -> None:
        """The pipeline makes progress, or knows why it cannot. Cheap: notifies systemd only as often as necessary."""
        if self._watchdog_ns is None:
            return
        now_ns = self._now_ns()
        due = self._beat_ns is None or now_ns - self._beat_ns >= self._watchdog_ns // BEATS_PER_WATCHDOG
        if due and self._notify("WATCHDOG=1"):
            self._beat_ns = now_ns

    def report(self, report: Report) -> None:
        status = short_text(report)
        ready = [] if self._ready else ["READY=1"]
        if (ready or status != self._status) and self._notify(*ready, f"STATUS={status}"):
            self._ready, self._status = True, status

    def reloading(self) -> None:
        """The configuration is being reloaded; `reloaded` must follow."""
        self._notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def reloaded(self) -> None:
        self._notify("READY=1")

    def event(self, event: Event) -> None:
        """Not sent to systemd."""

    def health(self, health: Health) -> None:
        """Not sent to systemd."""

    def info(self, info: Info) -> None:
        """Not sent to systemd."""

    def close(self) -> None:
        self._notify("STOPPING=1", "STATUS=stopping")
        if self._socket:
            self._socket.close()
        self._socket = None

    def _notify(self, *lines: str) -> bool:
        """Send a message; return whether systemd has taken it."""
        if self._socket is None:
            return False
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError:  # its queue is full, or it is restarting: the next message may get through
            return False
        return True


def _address(given: str) -> str | bytes:
    """The socket's address for Python; empty if there is none or this machine does not support it."""
    if given.startswith("@"):  # an abstract socket: no file, and a zero byte instead of the @
        return b"\0" + os.fsencode(given[1:])
    return given if given.startswith("/") else ""


def _watchdog_ns(environment: Mapping[str, str]) -> int | None:
    """The watchdog's timeout; None if it is off or meant for another process."""
    if environment.get(WATCHDOG_PID_VARIABLE, str(os.getpid())) != str(os.getpid()):
        return None
    given = environment.get(WATCHDOG_VARIABLE, "")
    watchdog_us = int(given) if re.fullmatch(r"[0-9]{1,18}", given) else 0
    return watchdog_us * 1000 or None
