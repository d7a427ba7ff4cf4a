"""What a user may configure: one frozen dataclass per section, each key with its default, what is allowed, and why.

This is the only place where ranges stand: the command line, the configuration file (`device.config_file`) and the
annotated default file take them from here. `python -m device.config` prints that file.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import Field, dataclass, field, fields
from ipaddress import IPv4Address, IPv6Address
from typing import ClassVar, Protocol

from device.errors import UsageError
from device.sync.verdict import DEFAULT_PROFILE, PROFILES
from device.telemetry.levels import LEVELS, parse_levels

CONFIG_VERSION = 1
DEFAULT_SEARCH_MS = 1200.0  # beyond one second: an offset of exactly that must not lie on the edge
_MAX_PATH_BYTES = 4095  # Linux's own limit
_LISTEN = re.compile(r"(\[(?P<six>[0-9A-Fa-f:.]{2,45})\]|(?P<four>[0-9.]{7,15})):(?P<port>[0-9]{1,5})", re.ASCII)


class Allowed(Protocol):
    """What a key may hold; as text, in words for a user."""

    def takes(self, value: object) -> bool: ...


@dataclass(frozen=True, slots=True)
class Range:
    """A finite number from `low` to `high`, both included. True and false are no numbers."""

    low: float
    high: float

    def takes(self, value: object) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True, slots=True)
class Names:
    """One of some names."""

    names: tuple[str, ...]

    def takes(self, value: object) -> bool:
        return isinstance(value, str) and value in self.names

    def __str__(self) -> str:
        return ", ".join(self.names)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some numbers."""

    numbers: tuple[float, ...]

    def takes(self, value: object) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and value in self.numbers

    def __str__(self) -> str:
        return ", ".join(f"{number:g}" for number in self.numbers)


@dataclass(frozen=True, slots=True)
class Flag:
    """Yes or no."""

    def takes(self, value: object) -> bool:
        return isinstance(value, bool)

    def __str__(self) -> str:
        return "true, false"


@dataclass(frozen=True, slots=True)
class Text:
    """Printable text of at most so many characters."""

    longest: int

    def takes(self, value: object) -> bool:
        return isinstance(value, str) and len(value) <= self.longest and (value.isprintable() or not value)

    def __str__(self) -> str:
        return f"text of at most {self.longest} characters, without control characters"


@dataclass(frozen=True, slots=True)
class PathText:
    """A path as text, seen from the file's folder, or nothing; whether something is there shows when it is opened."""

    def takes(self, value: object) -> bool:
        if not isinstance(value, str) or any(ord(sign) < 32 or ord(sign) == 127 for sign in value):
            return False
        return len(value.encode(errors="replace")) <= _MAX_PATH_BYTES

    def __str__(self) -> str:
        return f"text of at most {_MAX_PATH_BYTES} bytes, without control characters"


@dataclass(frozen=True, slots=True)
class ListenText:
    """An address of this computer with a port, as text; or nothing."""

    def takes(self, value: object) -> bool:
        return isinstance(value, str) and (not value or parse_listen(value) is not None)

    def __str__(self) -> str:
        return "an IP address and a port from 1 to 65535, such as 127.0.0.1:9753 or [::1]:9753; or nothing"


def parse_listen(text: str) -> tuple[str, int] | None:
    """Address and port; None where it is not both."""
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
    """Levels of the log for single modules, as text; or nothing."""

    def takes(self, value: object) -> bool:
        return isinstance(value, str) and parse_levels(value) is not None

    def __str__(self) -> str:
        return "modules with their levels, such as device.capture=debug, device.cli=error"


SEARCH_MS = Range(100, 5000)


def _number(default: float, allowed: Range | Choice, about: str, *, live: bool = False) -> float:
    return field(default=default, metadata={"allowed": allowed, "about": about, "live": live})


def _flag(default: bool, about: str, *, live: bool = False) -> bool:
    return field(default=default, metadata={"allowed": Flag(), "about": about, "live": live})


def _text(
    default: str, allowed: LevelList | ListenText | Names | PathText | Text, about: str, *, live: bool = False
) -> str:
    return field(default=default, metadata={"allowed": allowed, "about": about, "live": live})


def allowed_of(key: Field[object]) -> Allowed:
    """What the key of a section may hold."""
    allowed: Allowed = key.metadata["allowed"]
    return allowed


def is_live(key: Field[object]) -> bool:
    """Whether a running daemon takes a change of this key over."""
    live: bool = key.metadata["live"]
    return live


@dataclass(frozen=True, slots=True)
class Section:
    """What all sections have in common. Raises UsageError, naming every value that is not allowed."""

    about: ClassVar[str]

    def __post_init__(self) -> None:
        wrong = [
            f"{key.name} is {shown(value)}, allowed is {allowed_of(key)}"
            for key in fields(self)
            if not allowed_of(key).takes(value := getattr(self, key.name))
        ]
        if wrong:
            raise UsageError("; ".join(wrong), where="settings", remedy="Correct these values")


@dataclass(frozen=True, slots=True)
class MeasureSettings(Section):
    about = "What is measured, and how it is reported."

    window_s: float = _number(5.0, Range(0.4, 60), "Seconds of sound and picture that one report looks back on.")
    report_every_s: float = _number(1.0, Range(0.2, 60), "Seconds from report to report.")
    search_ms: float = _number(
        DEFAULT_SEARCH_MS, SEARCH_MS, "Largest offset to look for, in ms, to both sides. More needs more computing."
    )
    profile: str = _text(
        DEFAULT_PROFILE, Names(tuple(PROFILES)), "The standard whose limits give the verdict.", live=True
    )
    stalled_after_s: float = _number(3.0, Range(1, 60), "Seconds without sound or picture until a report says so.")


@dataclass(frozen=True, slots=True)
class ModelSettings(Section):
    about = "The models."

    bundle: str = _text("", PathText(), "Folder with a bundle, relative to this file. Empty: the built-in one.")


@dataclass(frozen=True, slots=True)
class SourceSettings(Section):
    about = "What is listened to and watched."

    file: str = _text(
        "",
        PathText(),
        "A recording to measure at real-time pace, relative to this file. Empty: the camera and the microphone.",
    )


@dataclass(frozen=True, slots=True)
class CameraSettings(Section):
    about = "The camera."

    device: str = _text("auto", Text(200), "One of those that `avdrift devices` prints; auto: the only one there is.")
    rate_hz: float = _number(25.0, Range(10, 60), "Pictures a second to ask the camera for.")
    width_px: float = _number(640, Range(160, 1920), "Width of the pictures to ask for. A face needs 60 pixels of it.")
    height_px: float = _number(480, Range(120, 1080), "Height of the pictures to ask for.")
    rotation_deg: float = _number(0, Choice((0, 180)), "180 where the camera hangs upside down.")


@dataclass(frozen=True, slots=True)
class MicrophoneSettings(Section):
    about = "The microphone."

    device: str = _text("auto", Text(200), "One of those that `avdrift devices` prints; auto: the only one there is.")
    force: bool = _flag(False, "Also take a device whose clock cannot be told exactly, such as pulse or default.")


@dataclass(frozen=True, slots=True)
class EventSettings(Section):
    about = "Events: when a change of what is reported is told as one."

    hysteresis_ms: float = _number(
        10.0, Range(0, 25), "How far beyond a limit of the profile, in ms, the offset has crossed it.", live=True
    )
    min_s: float = _number(
        15.0, Range(0, 600), "Seconds that a crossing, a return or the end of a fault must last.", live=True
    )
    absent_s: float = _number(
        30.0, Range(1, 3600), "Seconds without a face, or speech, until it is gone: longer than any pause.", live=True
    )


@dataclass(frozen=True, slots=True)
class LogSettings(Section):
    about = "The log: what is written to standard error, which the service sends to the journal."

    level: str = _text("info", Names(LEVELS), "The least important lines to write.", live=True)
    levels: str = _text("", LevelList(), "The same for single modules, each with those below it.", live=True)
    json: bool = _flag(False, "Lines are JSON objects, for programs.", live=True)
    reports: str = _text(
        "changes",
        Names(("none", "changes", "minute", "all")),
        "Reports in the log. changes: when they say something new, once a minute at most.",
        live=True,
    )


@dataclass(frozen=True, slots=True)
class MetricsSettings(Section):
    about = "Metrics for Prometheus."

    file: str = _text(
        "", PathText(), "File for node_exporter's textfile collector, relative to /run/avdrift, in memory. Empty: none."
    )
    every_s: float = _number(15.0, Range(1, 3600), "Seconds from one such file to the next.")
    listen: str = _text(
        "", ListenText(), "Where to answer HTTP, for whoever gets there: there is no password. Empty: nowhere."
    )


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration: one attribute per section of the file."""

    measure: MeasureSettings = field(default_factory=MeasureSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    source: SourceSettings = field(default_factory=SourceSettings)
    camera: CameraSettings = field(default_factory=CameraSettings)
    microphone: MicrophoneSettings = field(default_factory=MicrophoneSettings)
    events: EventSettings = field(default_factory=EventSettings)
    log: LogSettings = field(default_factory=LogSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)


SECTIONS: dict[str, type[Section]] = {
    "measure": MeasureSettings,
    "model": ModelSettings,
    "source": SourceSettings,
    "camera": CameraSettings,
    "microphone": MicrophoneSettings,
    "events": EventSettings,
    "log": LogSettings,
    "metrics": MetricsSettings,
}


def shown(value: object) -> str:
    """A value as a user wrote it, more or less, on one short line without control characters."""
    match value:
        case bool():
            return str(value).lower()
        case int() if abs(value) >= 10**20:  # beyond some thousand digits Python refuses to write it
            return "a huge number"
        case int() | float() | str():
            text = repr(value)
            return text if len(text) <= 60 else text[:57] + "..."
        case dict():
            return "a table"
        case list():
            return "an array"
        case _:
            return "a date or a time"  # all that is left in TOML


def default_text(config: Config | None = None) -> str:
    """The annotated file, with the defaults or with the values of a configuration."""
    return "\n".join(_lines(config or Config())) + "\n"


def _lines(config: Config) -> Iterator[str]:
    yield "# The configuration of avdrift, in TOML. A key that is left out keeps its default."
    yield "# After a change: avdrift check-config, and then systemctl reload avdrift where it says so, or else restart."
    yield "# The annotated default file is made by: python -m device.config"
    yield ""
    yield "# The form of this file. Always needed, so that a file that was cut short is noticed."
    yield f"config_version = {CONFIG_VERSION}"
    for name, section in SECTIONS.items():
        yield from ("", f"# {section.about}", f"[{name}]")
        for key in fields(section):
            reload = " A reload takes it over." if is_live(key) else ""
            yield from ("", f"# {key.metadata['about']}", f"# Allowed: {allowed_of(key)}.{reload}")
            # A JSON text or number is a TOML one as well, unless its signs are written as pairs of surrogates.
            yield f"{key.name} = {json.dumps(getattr(getattr(config, name), key.name), ensure_ascii=False)}"


if __name__ == "__main__":
    sys.stdout.write(default_text())
