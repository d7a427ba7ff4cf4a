"""Constraints on configuration values: each checks a value and describes in words what is allowed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Protocol, TypeAlias

from device.addresses import parse_address, without_secrets
from device.config.log_levels import parse_levels
from device.errors import UsageError

_MAX_PATH_BYTES = 4095  # Linux's own limit
_LISTEN = re.compile(r"(\[(?P<six>[0-9A-Fa-f:.]{2,45})\]|(?P<four>[0-9.]{7,15})):(?P<port>[0-9]{1,5})", re.ASCII)
_MAX_HOST_CHARACTERS = 253
_HOST = re.compile(r"\w([\w.-]*[\w.])?")  # any script, because the resolver converts names
_MAX_TOPIC_CHARACTERS = 64
_TOPIC_LEVEL = re.compile(r"[A-Za-z0-9_-]+")  # valid in MQTT, in Home Assistant and in every shell without quotes


class Allowed(Protocol):
    """The constraint of a key; its text is for users."""

    def allows(self, value: object) -> bool: ...


@dataclass(frozen=True, slots=True)
class Range:
    """A finite number from `low` to `high`, both included. True and false are not numbers."""

    low: float
    high: float

    def allows(self, value: object) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True, slots=True)
class Names:
    """One of a list of names."""

    names: tuple[str, ...]

    def allows(self, value: object) -> bool:
        return isinstance(value, str) and value in self.names

    def __str__(self) -> str:
        return ", ".join(self.names)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a list of numbers."""

    numbers: tuple[float, ...]

    def allows(self, value: object) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and value in self.numbers

    def __str__(self) -> str:
        return ", ".join(f"{number:g}" for number in self.numbers)


@dataclass(frozen=True, slots=True)
class WholeNumber:
    """A whole number from `low` to `high`, both included."""

    low: int
    high: int

    def allows(self, value: object) -> bool:
        return Range(self.low, self.high).allows(value) and value == int(value)  # type: ignore[call-overload]

    def __str__(self) -> str:
        return f"a whole number from {self.low} to {self.high}"


@dataclass(frozen=True, slots=True)
class Flag:
    """Yes or no."""

    def allows(self, value: object) -> bool:
        return isinstance(value, bool)

    def __str__(self) -> str:
        return "true, false"


@dataclass(frozen=True, slots=True)
class Text:
    """Printable text of at most so many characters."""

    longest: int

    def allows(self, value: object) -> bool:
        return isinstance(value, str) and len(value) <= self.longest and (value.isprintable() or not value)

    def __str__(self) -> str:
        return f"text of at most {self.longest} characters, without control characters"


@dataclass(frozen=True, slots=True)
class HostText:
    """The name or the address of a computer, and nothing else; or empty."""

    def allows(self, value: object) -> bool:
        if not isinstance(value, str) or len(value) > _MAX_HOST_CHARACTERS:
            return False
        return not value or _HOST.fullmatch(value) is not None or IpAddressText().allows(value)

    def __str__(self) -> str:
        return "a name or an address alone, such as broker.local or 192.168.1.2, without mqtt:// and without a port"


@dataclass(frozen=True, slots=True)
class TopicText:
    """Levels of an MQTT topic, separated by `/` if several are allowed; or empty."""

    levels: int

    def allows(self, value: object) -> bool:
        if not isinstance(value, str) or len(value) > _MAX_TOPIC_CHARACTERS:
            return False
        levels = value.split("/")
        return not value or (len(levels) <= self.levels and all(_TOPIC_LEVEL.fullmatch(level) for level in levels))

    def __str__(self) -> str:
        between = ", and / between them" if self.levels > 1 else ""
        return f"letters a to z, digits, - and _{between}, at most {_MAX_TOPIC_CHARACTERS} characters"


@dataclass(frozen=True, slots=True)
class PathText:
    """A path as text, relative to the file's folder, or empty; opening it shows whether it exists."""

    def allows(self, value: object) -> bool:
        if not isinstance(value, str) or any(ord(sign) < 32 or ord(sign) == 127 for sign in value):
            return False
        return len(value.encode(errors="replace")) <= _MAX_PATH_BYTES

    def __str__(self) -> str:
        return f"text of at most {_MAX_PATH_BYTES} bytes, without control characters"


@dataclass(frozen=True, slots=True)
class AddressText:
    """The address of a stream without a password in it, as text; or empty."""

    def allows(self, value: object) -> bool:
        if not isinstance(value, str):
            return False
        try:
            return not value or not parse_address(value).has_password
        except UsageError:
            return False

    def __str__(self) -> str:
        return "an address of rtsp(s), rtmp(s), http(s), udp, rtp, srt or rist, without a password; or nothing"


@dataclass(frozen=True, slots=True)
class ListenText:
    """An address of this computer with a port, as text; or empty."""

    def allows(self, value: object) -> bool:
        return isinstance(value, str) and (not value or parse_listen(value) is not None)

    def __str__(self) -> str:
        return "an IP address and a port from 1 to 65535, such as 127.0.0.1:9753 or [::1]:9753; or nothing"


@dataclass(frozen=True, slots=True)
class IpAddressText:
    """An IP address of this computer, or empty."""

    def allows(self, value: object) -> bool:
        if not isinstance(value, str):
            return False
        try:
            return not value or ip_address(value) is not None
        except ValueError:
            return False

    def __str__(self) -> str:
        return "an IP address, such as 127.0.0.1, 0.0.0.0 or ::; or nothing"


def parse_listen(text: str) -> tuple[str, int] | None:
    """Address and port; None if it is not both."""
    match = _LISTEN.fullmatch(text)
    if match is None or not 1 <= int(match["port"]) <= 65535:
        return None
    try:
        address = IPv6Address(match["six"]) if match["six"] else IPv4Address(match["four"])
    except ValueError:
        return None
    return str(address), int(match["port"])


@dataclass(frozen=True, slots=True)
class LevelList:
    """Log levels of single modules, as text; or empty."""

    def allows(self, value: object) -> bool:
        return isinstance(value, str) and parse_levels(value) is not None

    def __str__(self) -> str:
        return "modules with their levels, such as device.capture=debug, device.cli=error"


TextKind: TypeAlias = (
    AddressText | HostText | IpAddressText | LevelList | ListenText | Names | PathText | Text | TopicText
)


def formatted(value: object) -> str:
    """A value roughly as the user wrote it, on one short line without control characters."""
    match value:
        case bool():
            return str(value).lower()
        case int() if abs(value) >= 10**20:  # Python refuses to print a few thousand digits
            return "a huge number"
        case int() | float() | str():
            text = repr(without_secrets(value)) if isinstance(value, str) else repr(value)
            return text if len(text) <= 60 else text[:57] + "..."
        case dict():
            return "a table"
        case list():
            return "an array"
        case _:
            return "a date or a time"  # the only remaining TOML types
