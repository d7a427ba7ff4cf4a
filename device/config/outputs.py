"""The sections of the configuration for what comes out: the log, metrics, MQTT and the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from device.config.constraints import (
    HostText,
    IpAddressText,
    LevelList,
    ListenText,
    Names,
    PathText,
    Range,
    Text,
    TopicText,
    WholeNumber,
)
from device.config.log_levels import LEVELS
from device.config.section import Section, flag, number, text


@dataclass(frozen=True, slots=True)
class LogSettings(Section):
    about = "The log: what is written to standard error, which the service sends to the journal."

    level: str = text("info", Names(LEVELS), "Lowest level of messages to write.", live=True)
    levels: str = text("", LevelList(), "Levels of single modules, each with the modules below it.", live=True)
    json: bool = flag(False, "Write each line as a JSON object, for programs.", live=True)
    reports: str = text(
        "changes",
        Names(("none", "changes", "minute", "all")),
        "Which reports go into the log. changes: those that say something new, at most one per minute.",
        live=True,
    )


@dataclass(frozen=True, slots=True)
class MetricsSettings(Section):
    about = "Metrics for Prometheus."

    file: str = text(
        "", PathText(), "File for node_exporter's textfile collector, relative to /run/avdrift, in memory. Empty: none."
    )
    every_s: float = number(15.0, Range(1, 3600), "Seconds between two such files.")
    listen: str = text(
        "",
        ListenText(),
        "Where to answer HTTP, without a password: whoever reaches the address reads it. Empty: nowhere.",
    )


@dataclass(frozen=True, slots=True)
class MqttSettings(Section):
    about = "MQTT. Home Assistant discovers avdrift through it. Paths are relative to this file."

    host: str = text("", HostText(), "Name or address of the broker. Empty: nothing is sent.")
    port: float = number(0, WholeNumber(0, 65535), "Port of the broker. 0: 1883, or 8883 with tls.")
    tls: bool = flag(False, "Encrypt, and check the broker's certificate against its name above.")
    ca_file: str = text("", PathText(), "Certificate of the authority to trust. Empty: all that the system trusts.")
    client_cert_file: str = text("", PathText(), "Certificate to present if the broker asks for one.")
    client_key_file: str = text("", PathText(), "The key of that certificate.")
    username: str = text("", Text(200), "User name on the broker. Empty: none.")
    password_file: str = text(
        "", PathText(), "File with only the password. Empty: the credential mqtt-password of the service."
    )
    node: str = text(
        "", TopicText(1), "Name of this device in all topics, different from all other devices. Empty: the host's name."
    )
    topic_prefix: str = text("avdrift", TopicText(8), "First level of all topics. Empty: avdrift.")
    discovery_prefix: str = text(
        "homeassistant", TopicText(8), "Prefix of Home Assistant's discovery topics. Empty: do not announce to it."
    )
    commands: str = text(
        "read",
        Names(("off", "read", "all")),
        "Commands to accept from all who may publish on the broker. read: diagnostics only. off: none.",
    )
    commands_secret_file: str = text(
        "",
        PathText(),
        "File with the secret that signs commands. Empty: the credential mqtt-commands-secret.",
    )
    state_every_s: float = number(
        0.0, Range(0, 3600), "Shortest time between two messages of the topic state, in s. 0: send each report."
    )
    only_changes: bool = flag(False, "Send the topic state only when it says something new, and once a minute.")
    queue_events: float = number(
        3600,
        WholeNumber(1, 100_000),
        "Events to keep while the broker is away. The default is one per second for an hour.",
    )
    keepalive_s: float = number(
        30,
        WholeNumber(5, 3600),
        "Seconds without an answer after which the broker counts as gone, and avdrift counts as gone for the broker.",
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
        if values["commands_secret_file"] and values["commands"] != "all":
            yield "commands_secret_file", 'nothing, unless commands = "all"'


@dataclass(frozen=True, slots=True)
class PageSettings(Section):
    about = "The page for browsers. `avdrift page` prints its address. Paths are relative to this file."

    listen: str = text(
        "127.0.0.1",
        IpAddressText(),
        "Address to listen on. 127.0.0.1: this computer only. 0.0.0.0 or ::: the network. Empty: no page.",
    )
    port: float = number(9754, WholeNumber(1, 65535), "Port to listen on.")
    name: str = text("", Text(253), "Name that browsers may use for this computer besides its own name and addresses.")
    token_file: str = text(
        "", PathText(), "File with the token that opens the page. Empty: page-token in the state folder."
    )
    pictures: str = text(
        "live",
        Names(("off", "boxes", "live")),
        "What the page shows of the camera. live: its frames. boxes: where faces are, on grey. off: nothing.",
    )
    cert_file: str = text("", PathText(), "Certificate to present to browsers. With it, the page is encrypted.")
    key_file: str = text("", PathText(), "The key of that certificate.")

    @classmethod
    def clashes(cls, values: Mapping[str, object]) -> Iterator[tuple[str, str]]:
        for name, other in (("cert_file", "key_file"), ("key_file", "cert_file")):
            if values[name] and not values[other]:
                yield name, f"nothing, unless {other} is given too"
