"""The connection to a broker: made, kept, lost, and made again, in a thread of its own.

    OFF -> CONNECTING -> ONLINE -> WAITING -> CONNECTING    after a growing, random delay
                      -> WAITING                            the same
                      -> REFUSED -> CONNECTING              after a long delay: the user must correct a password, say
    STOPPED from anywhere, permanently

MQTT 5: for its reason codes (who is refused, and why), and because a subscription to commands can exclude retained
ones. Each attempt is a new paho client with a clean start. Messages that the broker has not acknowledged stay in the
outbox. So nothing depends on whether the broker remembers a session, and a command that was sent while the device was
offline never runs unexpectedly later. paho's own thread, queue and reconnecting are not used: the first cannot be
stopped in a bounded time, the second does not report what it dropped, the third cannot tell a wrong password from a
broker that is starting.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from device.errors import TransportError
from device.telemetry.mqtt.access import Access, ConnectionEnd
from device.telemetry.mqtt.outbox import Outbox
from device.telemetry.mqtt.session import Listener, Presence, Session, Wakeup

_LOG = logging.getLogger(__name__)
_STOP_S = 0.9  # a sink may take a second to close
_MAX_LOGGED = 50
_SUSPICIOUS = 3
_ALWAYS = {"always": True}  # logged when it happens, even if it repeats


class Phase(StrEnum):
    OFF = "off"
    CONNECTING = "connecting"
    ONLINE = "online"
    WAITING = "waiting"
    REFUSED = "refused"
    STOPPED = "stopped"


NEXT: dict[Phase, frozenset[Phase]] = {
    Phase.OFF: frozenset({Phase.CONNECTING, Phase.STOPPED}),
    Phase.CONNECTING: frozenset({Phase.ONLINE, Phase.WAITING, Phase.REFUSED, Phase.STOPPED}),
    Phase.ONLINE: frozenset({Phase.WAITING, Phase.REFUSED, Phase.STOPPED}),
    Phase.WAITING: frozenset({Phase.CONNECTING, Phase.STOPPED}),
    Phase.REFUSED: frozenset({Phase.CONNECTING, Phase.STOPPED}),
    Phase.STOPPED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Backoff:
    """The delay before the next attempt."""

    first_s: float = 1.0
    longest_s: float = 60.0
    refused_s: float = 120.0
    steady_s: float = 5.0  # a connection that was shorter counts as a failure

    def delay_s(self, failures: int, *, refused: bool, chance: float) -> float:
        """Delay after this many failures in a row (1 is the first); `chance` in [0, 1) spreads many devices."""
        longest_s = self.refused_s if refused else min(self.longest_s, self.first_s * 2 ** min(failures - 1, 30))
        return longest_s * (0.5 + chance / 2)


class Connection:
    """Keeps a connection from `start` to `stop`. The other methods may be called from any thread at any time."""

    def __init__(
        self, access: Access, outbox: Outbox, presence: Presence, topics: Sequence[str],
        heard: Callable[[str, bytes, bool], None], backoff: Backoff,
    ) -> None:  # fmt: skip
        self._access, self._outbox, self._presence, self._topics = access, outbox, presence, topics
        self._backoff = backoff
        self._listener = Listener(self._now_online, heard, self._log_once, self._is_stopping)
        self._wakeup = Wakeup()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._phase = Phase.OFF
        self._problem: str | None = None
        self._logged: set[str] = set()
        self._failures = 0
        self._short = 0  # consecutive short connections
        self._online_s = 0.0
        self._has_been_online = False

    @property
    def phase(self) -> Phase:
        return self._phase

    @property
    def problem(self) -> str | None:
        """Why there is no connection, for a person; None if there is one, or before the first attempt."""
        return self._problem

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """The outbox has a new message."""
        self._wakeup.ring()

    def stop(self) -> None:
        """Say goodbye to the broker, if connected. Returns within a second even if the network hangs."""
        self._stopping.set()
        self._wakeup.ring()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)
        self._enter(Phase.STOPPED)
        if not self._thread.is_alive():
            self._wakeup.close()

    def _is_stopping(self) -> bool:
        return self._stopping.is_set()

    def _run(self) -> None:
        while not self._is_stopping():
            self._enter(Phase.CONNECTING)
            ended = Session(
                self._access, self._outbox, self._presence, self._topics, self._listener, self._wakeup
            ).run()  # fmt: skip
            if not self._is_stopping():
                self._stopping.wait(self._delay_after(ended, random.random()))

    def _enter(self, phase: Phase) -> None:
        if phase in NEXT[self._phase]:
            self._phase = phase
            _LOG.debug("%s: %s", self._access.where, phase.value)

    def _now_online(self) -> None:
        self._enter(Phase.ONLINE)
        self._online_s = time.monotonic()
        self._problem = None
        self._outbox.publish_again(last=self._presence.topic)
        waiting = self._outbox.events_waiting
        again = "again " if self._has_been_online else ""
        self._has_been_online = True
        _LOG.info(
            "%s: connected %safter %d failures; %d events waited", self._access.where, again, self._failures, waiting,
            extra=_ALWAYS,
        )  # fmt: skip

    def _delay_after(self, ended: ConnectionEnd, chance: float) -> float:
        """Record and log why the connection ended; return the delay before the next attempt."""
        if self._phase is Phase.ONLINE:
            steady = time.monotonic() - self._online_s >= self._backoff.steady_s
            self._short = 0 if steady else self._short + 1
            if steady:
                self._failures = 0
                self._logged.clear()
        if self._short >= _SUSPICIOUS and not ended.refused:
            ended = ConnectionEnd(False, self._suspicion(ended.error))
        self._failures += 1
        self._problem = str(ended.error)
        self._enter(Phase.REFUSED if ended.refused else Phase.WAITING)
        self._log_once(self._problem, logging.ERROR if ended.refused else logging.WARNING)
        return self._backoff.delay_s(self._failures, refused=ended.refused, chance=chance)

    def _suspicion(self, error: TransportError) -> TransportError:
        """Not every broker (mosquitto 2.0.11, for one) reports that another client with the same name has connected."""
        what = f"{error.what}, repeatedly, as soon as it was made"
        remedy = f"See that no other client calls itself {self._access.client_id}: each device needs a node of its own"
        return TransportError(what, where=error.where, remedy=remedy)

    def _log_once(self, text: str, level: int = logging.WARNING) -> None:
        if text not in self._logged and len(self._logged) < _MAX_LOGGED:
            self._logged.add(text)
            _LOG.log(level, "%s", text, extra=_ALWAYS)
