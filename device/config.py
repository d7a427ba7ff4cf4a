"""What a user may configure: one frozen dataclass per section, each key with its default, what is allowed, and why.

This is the only place where ranges stand: the command line, the configuration file (`device.config_file`) and the
annotated default file take them from here. `python -m device.config` prints that file.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import ClassVar, Protocol

from device.errors import UsageError
from device.sync.verdict import DEFAULT_PROFILE, PROFILES

CONFIG_VERSION = 1
DEFAULT_SEARCH_MS = 1200.0  # beyond one second: an offset of exactly that must not lie on the edge
_MAX_PATH_BYTES = 4095  # Linux's own limit
_MAX_TOPIC_CHARACTERS = 64
_TOPIC_LEVEL = re.compile(r"[A-Za-z0-9_-]+")  # what MQTT, Home Assistant and every shell take without quotes


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
class Whole:
    """A whole number from `low` to `high`, both included."""

    low: int
    high: int

    def takes(self, value: object) -> bool:
        return Range(self.low, self.high).takes(value) and value == int(value)  # type: ignore[call-overload]

    def __str__(self) -> str:
        return f"a whole number from {self.low} to {self.high}"


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
class TopicText:
    """Levels of an MQTT topic, with `/` between them where there may be several; or nothing."""

    levels: int

    def takes(self, value: object) -> bool:
        if not isinstance(value, str) or len(value) > _MAX_TOPIC_CHARACTERS:
            return False
        levels = value.split("/")
        return not value or (len(levels) <= self.levels and all(_TOPIC_LEVEL.fullmatch(level) for level in levels))

    def __str__(self) -> str:
        between = ", and / between them" if self.levels > 1 else ""
        return f"letters a to z, digits, - and _{between}, at most {_MAX_TOPIC_CHARACTERS} characters"


@dataclass(frozen=True, slots=True)
class PathText:
    """A path as text, seen from the file's folder, or nothing; whether something is there shows when it is opened."""

    def takes(self, value: object) -> bool:
        if not isinstance(value, str) or any(ord(sign) < 32 or ord(sign) == 127 for sign in value):
            return False
        return len(value.encode(errors="replace")) <= _MAX_PATH_BYTES

    def __str__(self) -> str:
        return f"text of at most {_MAX_PATH_BYTES} bytes, without control characters"


SEARCH_MS = Range(100, 5000)


def _number(default: float, allowed: Range | Choice | Whole, about: str) -> float:
    return field(default=default, metadata={"allowed": allowed, "about": about})


def _flag(default: bool, about: str) -> bool:
    return field(default=default, metadata={"allowed": Flag(), "about": about})


def _text(default: str, allowed: Names | PathText | Text | TopicText, about: str) -> str:
    return field(default=default, metadata={"allowed": allowed, "about": about})


def allowed_of(key: Field[object]) -> Allowed:
    """What the key of a section may hold."""
    allowed: Allowed = key.metadata["allowed"]
    return allowed


@dataclass(frozen=True, slots=True)
class Section:
    """What all sections have in common. Raises UsageError, naming every value that is not allowed."""

    about: ClassVar[str]

    @classmethod
    def clashes(cls, values: Mapping[str, object]) -> Iterator[tuple[str, str]]:
        """Keys that do not go with the others, and what is allowed; `values` has all keys, each one right alone."""
        yield from ()

    def __post_init__(self) -> None:
        wrong = [
            f"{key.name} is {shown(value)}, allowed is {allowed_of(key)}"
            for key in fields(self)
            if not allowed_of(key).takes(value := getattr(self, key.name))
        ]
        values = {key.name: getattr(self, key.name) for key in fields(self)}
        if not wrong:
            clashes = self.clashes(values)
            wrong = [f"{name} is {shown(values[name])}, allowed is {allowed}" for name, allowed in clashes]
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
    profile: str = _text(DEFAULT_PROFILE, Names(tuple(PROFILES)), "The standard whose limits give the verdict.")
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
class MqttSettings(Section):
    about = "MQTT. Home Assistant finds avdrift there by itself. Paths are relative to this file."

    host: str = _text("", Text(253), "Name or address of the broker. Empty: nothing is sent.")
    port: float = _number(0, Whole(0, 65535), "Its port. 0: 1883, or 8883 with tls.")
    tls: bool = _flag(False, "Encrypt, and check the broker's certificate against its name above.")
    ca_file: str = _text("", PathText(), "Certificate of the authority to trust. Empty: those that the system trusts.")
    client_cert_file: str = _text("", PathText(), "Certificate to show to the broker, where it asks for one.")
    client_key_file: str = _text("", PathText(), "The key of that certificate.")
    username: str = _text("", Text(200), "Name to give to the broker. Empty: none.")
    password_file: str = _text(
        "", PathText(), "File with the password and nothing else. Empty: the credential mqtt-password of the service."
    )
    node: str = _text("", TopicText(1), "This device's name in all topics, unlike any other's. Empty: the host's name.")
    topic_prefix: str = _text("avdrift", TopicText(8), "What all topics begin with. Empty: avdrift.")
    discovery_prefix: str = _text("homeassistant", TopicText(8), "Home Assistant's own. Empty: do not announce to it.")
    queue_events: float = _number(
        3600, Whole(1, 100_000), "Events to keep while the broker is away. The default is one a second for an hour."
    )
    keepalive_s: float = _number(
        30, Whole(5, 3600), "Seconds without any answer after which the broker counts as gone, and avdrift to it."
    )

    @classmethod
    def clashes(cls, values: Mapping[str, object]) -> Iterator[tuple[str, str]]:
        for name in ("ca_file", "client_cert_file", "client_key_file"):
            if values[name] and not values["tls"]:
                yield name, "nothing, unless tls = true"
        for name, other in (("client_cert_file", "client_key_file"), ("client_key_file", "client_cert_file")):
            if values[name] and not values[other]:
                yield name, f"nothing, unless {other} is given too"
        if values["password_file"] and not values["username"]:
            yield "password_file", "nothing, unless username is given too"


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration: one attribute per section of the file."""

    measure: MeasureSettings = field(default_factory=MeasureSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    source: SourceSettings = field(default_factory=SourceSettings)
    camera: CameraSettings = field(default_factory=CameraSettings)
    microphone: MicrophoneSettings = field(default_factory=MicrophoneSettings)
    mqtt: MqttSettings = field(default_factory=MqttSettings)


SECTIONS: dict[str, type[Section]] = {
    "measure": MeasureSettings,
    "model": ModelSettings,
    "source": SourceSettings,
    "camera": CameraSettings,
    "microphone": MicrophoneSettings,
    "mqtt": MqttSettings,
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


def default_text() -> str:
    """The annotated default file."""
    return "\n".join(_default_lines()) + "\n"


def _default_lines() -> Iterator[str]:
    yield "# The configuration of avdrift, in TOML. Every key shows its default; one that is left out keeps it."
    yield "# After a change: avdrift check-config"
    yield "# This file is made by: python -m device.config"
    yield ""
    yield "# The form of this file. Always needed, so that a file that was cut short is noticed."
    yield f"config_version = {CONFIG_VERSION}"
    for name, section in SECTIONS.items():
        yield from ("", f"# {section.about}", f"[{name}]")
        for key in fields(section):
            yield from ("", f"# {key.metadata['about']}", f"# Allowed: {allowed_of(key)}.")
            # A JSON text or number is a TOML one as well.
            yield f"{key.name} = {json.dumps(key.default)}"


if __name__ == "__main__":
    sys.stdout.write(default_text())
