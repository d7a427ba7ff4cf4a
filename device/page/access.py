"""Who may use the page: whoever shows its token or its cookie, under a name of this computer, from the page itself.

Names are checked because of DNS rebinding: a stranger's page may resolve its own name to this computer, and would then
share its origin. An address in digits cannot be rebound, so that each one is right.
"""

from __future__ import annotations

import hashlib
import hmac
import socket
from collections.abc import Mapping
from ipaddress import ip_address

COOKIE = "avdrift"


def cookie_of(token: str) -> str:
    """What a browser keeps in place of the token: it opens the same, and does not reveal it."""
    return hmac.digest(token.encode(), b"avdrift page", hashlib.sha256).hex()


def is_right(token: str, headers: Mapping[str, str]) -> bool | None:
    """Whether a request shows this token, as a bearer or by cookie; None where it shows nothing."""
    scheme, _, shown = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return hmac.compare_digest(shown.strip().encode(), token.encode())
    for pair in headers.get("cookie", "").split(";"):
        name, _, value = pair.strip().partition("=")
        if name == COOKIE:
            return hmac.compare_digest(value.encode(), cookie_of(token).encode())
    return None


def own_names(more: str = "") -> frozenset[str]:
    """The names of this computer that may stand in an address, besides addresses in digits."""
    host = socket.gethostname().lower()
    short = host.partition(".")[0]
    return frozenset({"localhost", host, short, f"{short}.local", more.lower()} - {""})


def knows_host(host: str, names: frozenset[str]) -> bool:
    """Whether the Host header of a request names this computer."""
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    try:
        return bool(ip_address(name.strip("[]")))
    except ValueError:
        return name.lower().rstrip(".") in names


def same_origin(scheme: str, headers: Mapping[str, str]) -> bool:
    """Whether a request comes from the page itself or from a program, and not from somebody else's page."""
    if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    return origin is None or origin.lower() == f"{scheme}://{headers.get('host', '').lower()}"
