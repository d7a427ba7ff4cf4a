"""Addresses of streams: which are valid, and how to name them without revealing a password or a stream key.

Method: user names, passwords, paths and queries can all be secret (a stream key is the end of an RTMP path, a token a
query), so messages contain only the scheme, the host and the port.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from device.errors import UsageError

SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https", "udp", "rtp", "srt", "rist")
PASSWORD = "{password}"  # placeholder for the password in an address
WITH_LOGIN = ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https")
MAX_CHARACTERS = 2000
_WHERE = "source"
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]*")


@dataclass(frozen=True, slots=True)
class Address:
    """The address of a stream. `url` has everything, for opening it; its text is without secrets."""

    scheme: str
    url: str = field(repr=False)

    def __str__(self) -> str:
        return without_secrets(self.url)

    @property
    def has_password(self) -> bool:
        """Whether the address itself contains a password."""
        return ":" in urlsplit(self.url).netloc.rpartition("@")[0]


def is_address(text: str) -> bool:
    """Whether a text is meant as an address, not as the path of a file."""
    return "://" in text


def parse_address(text: str) -> Address:
    """Parse an address of a known scheme with a valid host and port. Raises UsageError."""
    try:
        parts = urlsplit(text)
        host, scheme = parts.hostname, parts.scheme
        _ = parts.port  # raises if it is not a number up to 65535
    except ValueError as error:
        raise _wrong(f"not an address ({error})") from None
    if scheme not in SCHEMES:
        raise _wrong(f"{scheme or 'nothing'}:// is not a supported kind of address")
    if len(text) > MAX_CHARACTERS or not text.isprintable() or " " in text:
        raise _wrong(f"an address has at most {MAX_CHARACTERS} characters, without spaces")
    if not host and scheme not in ("udp", "rtp"):  # udp://@:5000 listens on all addresses of this machine
        raise _wrong("the address has no host")
    return Address(scheme, text)


def with_login(address: Address, username: str, password: str) -> Address:
    """The address with its login, in place of {password} or else before its host."""
    url = address.url
    if PASSWORD in url:
        url = url.replace(PASSWORD, quote(password, safe=""))
    elif username:
        parts = urlsplit(url)
        login = f"{quote(username, safe='')}:{quote(password, safe='')}@"
        url = parts._replace(netloc=login + parts.netloc.rpartition("@")[2]).geturl()
    return Address(address.scheme, url)


def without_secrets(text: str) -> str:
    """Reduce each address in a text to its scheme, host and port. Nothing else of one may be printed or sent."""
    return _ADDRESS.sub(_cut, text)


def _cut(match: re.Match[str]) -> str:
    start, rest = match[0].split("://", 1)
    # The last @, so that part of a password with a slash is not taken for a host.
    host, slash, path = rest.rpartition("@")[2].replace("?", "/").replace("#", "/").partition("/")
    return f"{start}://{host}" + (f"{slash}…" if path else slash)


def _wrong(what: str) -> UsageError:
    remedy = f"Give one such as rtsp://host:554/path; known are {', '.join(SCHEMES)}"
    return UsageError(what, where=_WHERE, remedy=remedy)
