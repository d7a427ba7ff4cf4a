"""Access to the page: requires its token or cookie, a host name of this computer, and the page's own origin.

Host names are checked because of DNS rebinding: a foreign page may resolve its own name to this computer, and would
then share its origin. A numeric address cannot be rebound, so any is accepted.
"""

from __future__ import annotations

import hashlib
import hmac
import socket
from collections.abc import Mapping
from ipaddress import ip_address

COOKIE = "avdrift"


def cookie_of(token: str) -> str:
    """The cookie in place of the token: it gives the same access without revealing it."""
    return hmac.digest(token.encode(), b"avdrift page", hashlib.sha256).hex()


def is_right(token: str, headers: Mapping[str, str]) -> bool | None:
    """Whether a request has this token, as bearer or cookie; None if it has neither."""
    scheme, _, shown = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return hmac.compare_digest(shown.strip().encode(), token.encode())
    for pair in headers.get("cookie", "").split(";"):
        name, _, value = pair.strip().partition("=")
        if name == COOKIE:
            return hmac.compare_digest(value.encode(), cookie_of(token).encode())
    return None


def own_names(more: str = "") -> frozenset[str]:
    """The names of this computer in addresses, besides numeric ones."""
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
    """Whether a request comes from the page itself or from a program, and not from another page."""
    if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    return origin is None or origin.lower() == f"{scheme}://{headers.get('host', '').lower()}"
