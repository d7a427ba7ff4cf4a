"""Commands from outside: untrusted bytes in, a Command for the daemon or a result with an error out.

A payload is a JSON object with the command's arguments, or empty: `{"profile": "ebu-r37"}`. Its `id` is returned in the
result, so that senders recognize their answer. With a shared secret, commands that change something must be signed
(`device.telemetry.mqtt.signed_command`).
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Callable
from typing import Any

from device.config.constraints import Allowed, Flag, Names, formatted
from device.errors import AvdriftError, UsageError
from device.records import Command, Verb
from device.standards import PROFILE_NAMES
from device.telemetry.mqtt.signed_command import Verifier, is_signed

_LOG = logging.getLogger(__name__)

MAX_BYTES = 4096
UNKNOWN = "unknown"  # in the result's topic for text that cannot be a verb
# By the setting `commands`: the right to publish on a broker is not yet the right to change the measurement.
ALLOWED: dict[str, frozenset[Verb]] = {
    "off": frozenset(), "read": frozenset({Verb.DIAGNOSTICS}), "all": frozenset(Verb),
}  # fmt: skip
# Required arguments of each command, and optional ones of a signed command.
ARGUMENTS: dict[Verb, dict[str, Allowed]] = {Verb.SET_PROFILE: {"profile": Names(PROFILE_NAMES)}}
IF_SIGNED: dict[Verb, dict[str, Allowed]] = {Verb.MODEL_ROLLBACK: {"allow_downgrade": Flag()}}
_VERB = re.compile(r"[a-z0-9-]{1,40}")
_MAX_ID_CHARACTERS = 64
_MAX_ID_NUMBER = 2**53  # beyond it JSON parsers disagree
_MAX_OPEN = 8
_FORGOTTEN_S = 60.0  # after which a request without a result no longer blocks others


class Commands:
    """Takes requests from one thread, their results from any. Never raises and never blocks."""

    def __init__(
        self, setting: str, publish: Callable[[str, bytes], None],
        publish_refusal: Callable[[str, bytes], None] | None = None, now_s: Callable[[], float] = time.monotonic,
        verifier: Verifier | None = None,
    ) -> None:  # fmt: skip
        """`setting` is a key of ALLOWED; `publish` takes the verb and its result as JSON.

        publish_refusal: the same for requests that the daemon did not accept; by default `publish`.
        verifier: checks the signatures of commands that change something; None if none are required.
        """
        self._setting, self._publish, self._now_s, self._verifier = setting, publish, now_s, verifier
        self._publish_refusal = publish_refusal or publish
        self._submit: Callable[[Command], None] | None = None
        self._lock = threading.Lock()
        self._open: dict[object, float] = {}  # requests without a result yet, and since when

    def submit_to(self, submit: Callable[[Command], None]) -> None:
        """Set the handler that carries commands out."""
        self._submit = submit

    def handle(self, verb: str, payload: bytes, *, retained: bool) -> None:
        """Carry out a request, or publish a result that says why not."""
        request_id: str | int | None = None
        try:
            content = _content(payload)
            request_id = _request_id(content)
            if signed := is_signed(content):
                content = self._opened(verb, content)
            if retained:
                raise _wrong(
                    "retained, so it would run again at each connection", verb, "Send it without the retain flag"
                )
            known = _parsed_verb(verb)
            if known not in ALLOWED[self._setting]:
                what = f"refused, because commands under [mqtt] is {self._setting}"
                remedy = "Set it to all, if all who may publish on the broker may do that, and restart avdrift"
                raise _wrong(what, verb, remedy)
            if self._verifier and not signed and known not in ALLOWED["read"]:
                remedy = "Send it with `avdrift command`, which signs it with the secret"
                raise _wrong("not signed, and commands_secret_file is set under [mqtt]", verb, remedy)
            self._hand_over(known, _arguments(known, content, signed=signed), request_id)
        except AvdriftError as error:
            self._refuse(verb, request_id, str(error))
        except Exception as error:  # an internal error must not cost the connection
            _LOG.exception("command %s", formatted(verb))
            self._refuse(verb, request_id, f"{formatted(verb)}: failed ({type(error).__name__})")

    def _opened(self, verb: str, content: dict[str, Any]) -> dict[str, Any]:
        if self._verifier is None:
            raise _wrong("signed, but there is no secret here", verb, "Set commands_secret_file under [mqtt]")
        return self._verifier.opened(verb, content)

    def _hand_over(self, verb: Verb, args: dict[str, Any], request_id: str | int | None) -> None:
        if self._submit is None:
            raise _wrong("avdrift is not ready yet", verb, "Send it again in a few seconds")
        request = object()
        with self._lock:
            now_s = self._now_s()
            self._open = {old: since_s for old, since_s in self._open.items() if now_s - since_s < _FORGOTTEN_S}
            if len(self._open) >= _MAX_OPEN:
                raise _wrong(f"{_MAX_OPEN} commands wait for their results", verb, "Send it again later")
            self._open[request] = now_s

        replied = threading.Event()

        def reply(result: dict[str, object]) -> None:
            with self._lock:
                self._open.pop(request, None)
                first = not replied.is_set()
                replied.set()
            if first:
                self._answer(verb, request_id, result)

        try:
            self._submit(Command(verb, args, reply))
        except BaseException:
            with self._lock:
                self._open.pop(request, None)
            raise

    def _refuse(self, verb: str, request_id: str | int | None, error: str) -> None:
        self._publish_refusal(*_encoded(verb, request_id, {"ok": False, "error": error}))

    def _answer(self, verb: str, request_id: str | int | None, result: dict[str, object]) -> None:
        self._publish(*_encoded(verb, request_id, result))


def _encoded(verb: str, request_id: str | int | None, result: dict[str, object]) -> tuple[str, bytes]:
    """The verb for the topic, and the result as JSON."""
    known = verb if _VERB.fullmatch(verb) else UNKNOWN
    head: dict[str, object] = {"verb": known} | ({"id": request_id} if request_id is not None else {})
    try:
        text = json.dumps(head | {"ok": False, "error": None} | result | head, default=str, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        text = json.dumps(head | {"ok": False, "error": f"{known}: the result cannot be written ({error})"})
    return known, text.encode()


def _wrong(what: str, verb: str, remedy: str) -> UsageError:
    return UsageError(what, where=f"command {formatted(str(verb))}", remedy=remedy)


def _content(payload: bytes) -> dict[str, Any]:
    remedy = 'Send a JSON object such as {"profile": "ebu-r37"}, or nothing'
    if len(payload) > MAX_BYTES:
        raise UsageError(f"{len(payload)} bytes, allowed is {MAX_BYTES}", where="payload", remedy=remedy)
    try:
        content = json.loads(payload.decode() or "{}", parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"not JSON ({str(error)[:80]})", where="payload", remedy=remedy) from error
    if not isinstance(content, dict):
        raise UsageError("JSON, but not an object", where="payload", remedy=remedy)
    return content


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _request_id(content: dict[str, Any]) -> str | int | None:
    """The `id`, removed from the content."""
    match request_id := content.pop("id", None):
        case None:
            return None
        case bool():
            pass
        case str() if len(request_id) <= _MAX_ID_CHARACTERS and request_id.isprintable():
            return request_id
        case int() if abs(request_id) <= _MAX_ID_NUMBER:
            return request_id
    remedy = f"Give a text of at most {_MAX_ID_CHARACTERS} characters, or a whole number"
    raise UsageError(f"{_formatted_or_null(request_id)} is no id", where="payload", remedy=remedy)


def _parsed_verb(verb: str) -> Verb:
    if verb not in set(Verb):
        raise _wrong("no such command", verb, f"There are {', '.join(Verb)}")
    return Verb(verb)


def _arguments(verb: Verb, content: dict[str, Any], *, signed: bool) -> dict[str, Any]:
    needed, extra = ARGUMENTS.get(verb, {}), IF_SIGNED.get(verb, {})
    if not signed and (early := [name for name in content if name in extra]):
        raise _wrong(f"{early[0]} is for signed commands only", verb, "See commands_secret_file under [mqtt]")
    allowed = needed | extra
    if unknown := [name for name in content if name not in allowed]:
        allows = f"Leave it out; this command takes {', '.join(needed)}" if needed else "Leave it out"
        raise _wrong(f"{_formatted_or_null(unknown[0])} is an unknown name", verb, allows)
    for name, values in allowed.items():
        if name in needed and name not in content:
            raise _wrong(f"{name} is missing", verb, f"Give one of {values}")
        if name in content and not values.allows(content[name]):
            raise _wrong(f"{name} is {_formatted_or_null(content[name])}", verb, f"Allowed is {values}")
    return content


def _formatted_or_null(value: object) -> str:
    return "null" if value is None else formatted(value)
