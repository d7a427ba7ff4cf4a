"""Messages that wait to be sent over MQTT: always bounded, and every loss is counted. No sockets.

Of a retained topic (such as the state) only the newest message counts, and only one is in flight at a time. Events are
queued in order. Messages in flight stay here until the broker has acknowledged them. When the connection is lost, they
are sent again, so an event may arrive twice (with the same payload and so the same `seq`), but is never lost.

A topic that the broker refuses is paused for a while, because one refused message must not block all others: mosquitto
2.0.11 reports the refusal and disconnects. Other events of such a topic wait.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from enum import Enum, auto

WINDOW = 20  # messages in flight: the limit of a broker that does not announce one
_MAX_RESULTS = 64  # and as many refusals
_REFUSED_PAUSE_S = 600.0


class Kind(Enum):
    RETAINED = auto()
    EVENT = auto()
    RESULT = auto()  # of a command that was accepted
    REFUSAL = auto()  # of one that was not


@dataclass(frozen=True, slots=True)
class Message:
    topic: str
    payload: bytes
    kind: Kind


@dataclass(frozen=True, slots=True)
class _Sent:
    message: Message
    at_s: float


class Outbox:
    """Filled by any thread, emptied by the connection's. No method blocks."""

    def __init__(self, max_events: int) -> None:
        self._lock = threading.Lock()
        self._max_events = max_events
        self._retained: dict[str, bytes] = {}
        self._due: dict[str, None] = {}  # topics of `_retained`, in sending order
        self._events: deque[Message] = deque()
        # Apart from each other: no flood of commands that are refused costs another command its result.
        answers = {kind: deque[Message](maxlen=_MAX_RESULTS) for kind in (Kind.RESULT, Kind.REFUSAL)}
        self._queues = answers | {Kind.EVENT: self._events}  # the one that waited longest first
        self._sent: dict[int, _Sent] = {}  # by message id, in sending order
        self._events_lost = 0
        self._paused: dict[str, float] = {}  # refused topics, and until when they pause

    @property
    def events_lost(self) -> int:
        """Events that no broker will get: the queue was full, or the broker refused them."""
        with self._lock:
            return self._events_lost

    @property
    def events_waiting(self) -> int:
        """Events that no broker has acknowledged yet."""
        with self._lock:
            return len(self._events) + self._events_sent()

    def _events_sent(self) -> int:
        return sum(sent.message.kind is Kind.EVENT for sent in self._sent.values())

    def retain(self, topic: str, payload: bytes) -> None:
        """Set the newest message of a topic; one that still waits is dropped."""
        with self._lock:
            self._retained[topic] = payload
            self._due[topic] = None

    def event(self, topic: str, payload: bytes) -> None:
        """Queue an event; in a full queue it replaces the oldest one that is not in flight."""
        with self._lock:
            self._events.append(Message(topic, payload, Kind.EVENT))
            self._trim()

    def _trim(self) -> None:
        while self._events and len(self._events) + self._events_sent() > self._max_events:
            self._events.popleft()
            self._events_lost += 1

    def result(self, topic: str, payload: bytes) -> None:
        """Queue the result of a command; if full, it replaces the oldest, whose requester has long stopped waiting."""
        with self._lock:
            self._queues[Kind.RESULT].append(Message(topic, payload, Kind.RESULT))

    def refusal(self, topic: str, payload: bytes) -> None:
        """Queue the result of a refused command; if full, it replaces the oldest refusal."""
        with self._lock:
            self._queues[Kind.REFUSAL].append(Message(topic, payload, Kind.REFUSAL))

    def publish_again(self, last: str) -> None:
        """Send all retained messages again, `last` as the last."""
        with self._lock:
            self._due = dict.fromkeys(topic for topic in self._retained if topic != last)
            if last in self._retained:
                self._due[last] = None

    def next_message(self, window: int, now_s: float, *, only: str | None = None) -> Message | None:
        """The next message, or None if `window` are in flight or nothing waits; `only`: of that topic."""
        with self._lock:
            if len(self._sent) >= window:
                return None
            self._paused = {topic: until_s for topic, until_s in self._paused.items() if now_s < until_s}
            going = {sent.message.topic for sent in self._sent.values() if sent.message.kind is Kind.RETAINED}
            for topic in self._due:
                if topic not in going and topic not in self._paused and only in (None, topic):
                    del self._due[topic]
                    return Message(topic, self._retained[topic], Kind.RETAINED)
            # In turn: a flood of refusals must not hold events back, nor many events a result.
            for kind, queue in () if only else self._queues.items():
                if queue and queue[0].topic not in self._paused:
                    self._queues[kind] = self._queues.pop(kind)  # to the end
                    return queue.popleft()
            return None

    def sent(self, message_id: int, message: Message, now_s: float) -> None:
        """`message`, as taken, is in flight."""
        with self._lock:
            self._sent[message_id] = _Sent(message, now_s)

    def acknowledged(self, message_id: int) -> Message | None:
        """The broker has it; None for an unknown id."""
        with self._lock:
            sent = self._sent.pop(message_id, None)
            return sent.message if sent else None

    def refused(self, message_id: int, now_s: float, *, pause_topic: bool = True) -> Message | None:
        """The broker refuses it, and further ones of its topic if `pause_topic`; None for an unknown id."""
        with self._lock:
            sent = self._sent.pop(message_id, None)
            if sent is None:
                return None
            if sent.message.kind is Kind.EVENT:
                self._events_lost += 1
            if pause_topic and sent.message.kind not in (Kind.RESULT, Kind.REFUSAL):
                self._paused[sent.message.topic] = now_s + _REFUSED_PAUSE_S
            return sent.message

    def is_done(self, topic: str) -> bool:
        """Whether the retained topic has no message waiting and nothing at all is in flight."""
        with self._lock:
            return topic not in self._due and not self._sent

    def oldest_sent_s(self) -> float | None:
        """When the oldest unacknowledged message was sent."""
        with self._lock:
            return next((sent.at_s for sent in self._sent.values()), None)

    def connection_lost(self) -> None:
        """Messages in flight wait again, ahead of all others of their kind."""
        with self._lock:
            for sent in reversed(self._sent.values()):
                queue = self._queues.get(sent.message.kind)
                if queue is not None and len(queue) != queue.maxlen:
                    queue.appendleft(sent.message)
            self._sent.clear()
            self._trim()
