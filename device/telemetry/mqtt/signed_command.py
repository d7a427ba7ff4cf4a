"""Signed commands: the holder of a shared secret may command, even if others may publish on the broker.

The payload is `{"signed": TEXT, "hmac": HEX}`: the HMAC-SHA256 (RFC 2104) of the bytes of TEXT, a JSON object with
`node`, `verb`, `session`, `time_unix_s`, `nonce`, and `payload`, the payload of the unsigned command.

Against replays: the session is a random name that the daemon chooses at each start and publishes in `info`, so nothing
recorded before the start is accepted, whatever the clocks say. A nonce counts once. A command more than TOLERANCE_S
older than the newest one is refused, so that old nonces can be forgotten. While the device's clock is synchronized, the
time must also be within TOLERANCE_S of it; otherwise this check is skipped.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from device.config.constraints import Range, Text, formatted
from device.errors import TransportError, UsageError
from device.telemetry.mqtt.access import read_broker_secret

TOLERANCE_S = 60.0
MIN_SECRET_BYTES = 16

_MAX_SECRET_BYTES = 4096
_MAX_NONCES = 1000
_MIN_NONCE_CHARACTERS = 8
_TIME = Range(0, 2**53)
_KEYS = {"signed", "hmac"}
_REMEDY = "Send it with `avdrift command`, or see docs/mqtt.md"


def read_command_secret(file: Path) -> bytes:
    """Read the shared secret. Raises TransportError."""
    remedy = "Make one: openssl rand -hex 32, readable for avdrift only"
    secret = read_broker_secret(file, _MAX_SECRET_BYTES, "secret for commands", remedy).encode()
    if len(secret) < MIN_SECRET_BYTES:
        what = f"a secret for commands of {len(secret)} bytes, at least {MIN_SECRET_BYTES} are needed"
        raise TransportError(what, where=str(file), remedy=remedy)
    return secret


def is_signed(content: dict[str, Any]) -> bool:
    return bool(_KEYS & content.keys())


def signed(secret: bytes, node: str, verb: str, session: str, payload: dict[str, Any]) -> dict[str, str]:
    """The payload of a signed command."""
    body = {
        "node": node, "verb": verb, "session": session, "time_unix_s": round(time.time(), 3),
        "nonce": secrets.token_hex(16), "payload": payload,
    }  # fmt: skip
    text = json.dumps(body)
    return {"signed": text, "hmac": _hmac(secret, text)}


class Verifier:
    """Verifies signed commands, each once. Not thread-safe, except for `clock_synced`."""

    def __init__(self, node: str, secret_file: Path, now_s: Callable[[], float] = time.time) -> None:
        """`secret_file` is read for each command, so that a new secret needs no restart."""
        self.session = secrets.token_hex(8)
        self.clock_synced: bool | None = None
        self._node, self._secret_file, self._now_s = node, secret_file, now_s
        self._nonces: dict[str, float] = {}  # with the time of each command
        self._newest_s = 0.0

    def opened(self, verb: str, content: dict[str, Any]) -> dict[str, Any]:
        """Return the payload inside. Raises UsageError, TransportError."""
        text, given = content.get("signed"), content.get("hmac")
        if content.keys() != _KEYS or not isinstance(text, str) or not isinstance(given, str):
            raise _refused("a signed command has exactly the keys signed and hmac", verb, _REMEDY)
        expected = _hmac(read_command_secret(self._secret_file), text)
        if not hmac.compare_digest(expected.encode(), given.lower().encode()):
            raise _refused("signed with another secret", verb, "Give the secret that the device has")
        return self._checked(verb, _body(verb, text))

    def _checked(self, verb: str, body: dict[str, Any]) -> dict[str, Any]:
        for name, expected in (("node", self._node), ("verb", verb), ("session", self.session)):
            if body[name] != expected:
                raise _refused(
                    f"signed for the {name} {formatted(body[name])}, this is {formatted(expected)}", verb, _REMEDY
                )
        time_s, nonce = float(body["time_unix_s"]), body["nonce"]
        if self.clock_synced and abs(time_s - self._now_s()) > TOLERANCE_S:
            what = f"signed {time_s - self._now_s():+.0f} s from now, allowed are {TOLERANCE_S:g} s"
            raise _refused(what, verb, "Set the clock of the sender, and send it at once")
        if time_s < self._newest_s - TOLERANCE_S:
            what = f"signed {self._newest_s - time_s:.0f} s before another one that was accepted"
            raise _refused(what, verb, "Set the clock of the sender")
        self._forget_before(max(self._newest_s, time_s) - TOLERANCE_S)
        if nonce in self._nonces:
            raise _refused("a replay: it was accepted before", verb, _REMEDY)
        if len(self._nonces) >= _MAX_NONCES:
            raise _refused(f"busy: {_MAX_NONCES} commands within {TOLERANCE_S:g} s", verb, "Send it again later")
        self._newest_s = max(self._newest_s, time_s)
        self._nonces[nonce] = time_s
        payload: dict[str, Any] = body["payload"]
        return payload

    def _forget_before(self, oldest_s: float) -> None:
        """Forget nonces in the order in which they came, which costs next to nothing in a flood."""
        while self._nonces and self._nonces[first := next(iter(self._nonces))] < oldest_s:
            del self._nonces[first]


def _body(verb: str, text: str) -> dict[str, Any]:
    """The signed content, parsed only after its signature was verified."""
    right: dict[str, Callable[[Any], bool]] = {
        "node": Text(64).allows, "verb": Text(64).allows, "session": Text(64).allows, "time_unix_s": _TIME.allows,
        "nonce": lambda value: Text(64).allows(value) and len(value) >= _MIN_NONCE_CHARACTERS,
        "payload": lambda value: isinstance(value, dict),
    }  # fmt: skip
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _refused("the signed content is not JSON", verb, _REMEDY) from error
    if not isinstance(body, dict) or body.keys() != right.keys():
        raise _refused(f"the signed content must have exactly {', '.join(right)}", verb, _REMEDY)
    if wrong := [name for name, allows in right.items() if not allows(body[name])]:
        raise _refused(f"invalid {', '.join(wrong)}", verb, _REMEDY)
    return body


def _hmac(secret: bytes, text: str) -> str:
    return hmac.new(secret, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def _refused(what: str, verb: str, remedy: str) -> UsageError:
    return UsageError(what, where=f"command {formatted(verb)}", remedy=remedy)
