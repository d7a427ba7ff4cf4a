"""The configuration: one frozen dataclass per section, each key with its default, constraint and description.

The command line, the configuration file (`device.config.file`) and the annotated default file all take the allowed
ranges from here. `python -m device.config` prints that file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from device.config.constraints import (
    AddressText,
    Choice,
    Names,
    PathText,
    Range,
    Text,
)
from device.config.outputs import LogSettings as LogSettings
from device.config.outputs import MetricsSettings as MetricsSettings
from device.config.outputs import MqttSettings as MqttSettings
from device.config.outputs import PageSettings as PageSettings
from device.config.section import Section, annotated
from device.config.section import flag as _flag
from device.config.section import number as _number
from device.config.section import text as _text
from device.standards import DEFAULT_PROFILE, OWN_PROFILE, PROFILE_NAMES, Profile, own_profile

CONFIG_VERSION = 1
DEFAULT_SEARCH_MS = 1200.0  # more than one second: an offset of exactly that must not lie on the edge
SEARCH_MS = Range(100, 5000)


@dataclass(frozen=True, slots=True)
class MeasureSettings(Section):
    about = "What is measured, and how it is reported."

    window_s: float = _number(
        5.0,
        Range(0.4, 60),
        "Seconds that count as recent for faces and speech. What is known of the offset lasts longer.",
    )
    step_every_s: float = _number(
        600.0,
        Range(10, 86_400),
        "Seconds between steps of the offset, on average. With more, a number outlives longer pauses.",
    )
    report_every_s: float = _number(
        1.0, Range(0.2, 60), "Seconds between reports. In live mode, values above 1 are rounded to whole seconds."
    )
    search_ms: float = _number(
        DEFAULT_SEARCH_MS,
        SEARCH_MS,
        "Largest offset to search for, in ms, in both directions. A wider search costs more computing.",
    )
    profile: str = _text(
        DEFAULT_PROFILE,
        Names(PROFILE_NAMES),
        f"The standard whose limits give the verdict. {OWN_PROFILE}: the limits under [limits].",
        live=True,
    )
    stalled_after_s: float = _number(3.0, Range(1, 60), "Seconds without audio or video until a report says so.")


@dataclass(frozen=True, slots=True)
class LimitSettings(Section):
    about = f'Your own limits, for profile = "{OWN_PROFILE}".'

    early_ms: float = _number(
        40.0, Range(0, 5000), "Audio that is early by more than this, in ms, is unacceptable.", live=True
    )
    late_ms: float = _number(
        -60.0, Range(-5000, 0), "Audio that is late by more than this, in ms and negative, is unacceptable.", live=True
    )

    @property
    def profile(self) -> Profile:
        return own_profile(self.early_ms, self.late_ms)


@dataclass(frozen=True, slots=True)
class ModelSettings(Section):
    about = "The models."

    bundle: str = _text("", PathText(), "Folder with a bundle, relative to this file. Empty: the built-in one.")
    trial_reports: float = _number(
        20, Range(1, 10_000), "New models pass their trial after this many reports with an offset."
    )
    trial_speech_min: float = _number(
        10.0,
        Range(0.1, 1440),
        "Minutes of speech with a face but without such a report, after which the previous models return.",
    )


@dataclass(frozen=True, slots=True)
class SourceSettings(Section):
    about = "Where audio and video come from."

    file: str = _text(
        "",
        PathText(),
        "A recording to measure at real-time pace, relative to this file. Empty: camera and microphone.",
    )
    url: str = _text("", AddressText(), "A stream to measure instead, such as rtsp://host/path, without a password.")
    username: str = _text("", Text(200), "User name for the server of the stream. Empty: none.")
    password_file: str = _text(
        "",
        PathText(),
        "File with only the password, for {password} in url or for username. Empty: credential source-password.",
    )
    ca_file: str = _text("", PathText(), "Certificate of the authority to trust. Empty: all that the system trusts.")
    transport: str = _text("tcp", Names(("tcp", "udp")), "How an RTSP server sends.")

    @classmethod
    def clashes(cls, values: Mapping[str, object]) -> Iterator[tuple[str, str]]:
        if values["url"] and values["file"]:
            yield "url", "nothing, unless file is empty"
        for name in ("username", "password_file", "ca_file"):
            if values[name] and not values["url"]:
                yield name, "nothing, unless url is given too"


@dataclass(frozen=True, slots=True)
class CameraSettings(Section):
    about = "The camera."

    device: str = _text("auto", Text(200), "A device that `avdrift devices` lists. auto: the only one.")
    rate_hz: float = _number(25.0, Range(10, 60), "Frames per second to request from the camera.")
    width_px: float = _number(640, Range(160, 1920), "Width of the frames to request. A face needs 60 pixels of it.")
    height_px: float = _number(480, Range(120, 1080), "Height of the frames to request.")
    rotation_deg: float = _number(0, Choice((0, 180)), "180 if the camera hangs upside down.")
    format: str = _text(
        "auto", Names(("auto", "mjpeg", "raw")), "How a USB camera sends frames: what `avdrift devices` prints."
    )


@dataclass(frozen=True, slots=True)
class MicrophoneSettings(Section):
    about = "The microphone."

    device: str = _text("auto", Text(200), "A device that `avdrift devices` lists. auto: the only one.")
    force: bool = _flag(False, "Also accept a device whose clock cannot be known exactly, such as pulse or default.")


@dataclass(frozen=True, slots=True)
class EventSettings(Section):
    about = "Events: when a change counts as one."

    hysteresis_ms: float = _number(
        10.0,
        Range(0, 25),
        "How far beyond a limit of the profile the offset must be, in ms, to count as having crossed it.",
        live=True,
    )
    min_s: float = _number(
        15.0, Range(0, 600), "Seconds that a crossing, a return, or the end of a fault must last.", live=True
    )
    absent_s: float = _number(
        30.0,
        Range(1, 3600),
        "Seconds without a face, or without speech, until it counts as gone. Longer than any pause.",
        live=True,
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
    mqtt: MqttSettings = field(default_factory=MqttSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    page: PageSettings = field(default_factory=PageSettings)


SECTIONS: dict[str, type[Section]] = {
    "measure": MeasureSettings,
    "limits": LimitSettings,
    "model": ModelSettings,
    "source": SourceSettings,
    "camera": CameraSettings,
    "microphone": MicrophoneSettings,
    "events": EventSettings,
    "log": LogSettings,
    "metrics": MetricsSettings,
    "mqtt": MqttSettings,
    "page": PageSettings,
}


def default_text(config: Config | None = None) -> str:
    """The annotated file, with the defaults or with the values of a configuration."""
    return "\n".join(_lines(config or Config())) + "\n"


def _lines(config: Config) -> Iterator[str]:
    yield "# The configuration of avdrift, in TOML. A key that is left out keeps its default."
    yield "# After a change: avdrift check-config, and then systemctl reload avdrift where it says so, or else restart."
    yield "# The annotated default file is made by: python -m device.config"
    yield ""
    yield "# Version of this format. Always required, so that a truncated file is noticed."
    yield f"config_version = {CONFIG_VERSION}"
    yield from annotated({name: getattr(config, name) for name in SECTIONS})
