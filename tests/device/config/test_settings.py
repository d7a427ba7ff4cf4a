"""The sections: defaults, limits of ranges, number types, and the file generated from them."""

from __future__ import annotations

import math
import subprocess
import sys
import tomllib
from dataclasses import FrozenInstanceError, fields
from ipaddress import ip_address

import pytest

from device.analysis.analyzer import search_ticks
from device.config.constraints import ListenText, Names, PathText, Range, formatted, parse_listen
from device.config.section import allowed_of
from device.config.settings import (
    CONFIG_VERSION,
    SEARCH_MS,
    SECTIONS,
    Config,
    LogSettings,
    MeasureSettings,
    MetricsSettings,
    ModelSettings,
    MqttSettings,
    SourceSettings,
    default_text,
)
from device.errors import UsageError
from tests.scenes import ROOT

DEFAULT_FILE = ROOT / "systemd" / "avdrift.toml"
# Written down a second time on purpose: a range that changes by accident must show.
RANGES = {"window_s": (0.4, 60), "report_every_s": (0.2, 60), "search_ms": (100, 5000), "stalled_after_s": (1, 60)}


def test_the_annotated_default_file_is_the_generated_one_byte_for_byte() -> None:
    assert DEFAULT_FILE.read_bytes() == default_text().encode(), "python -m device.config > systemd/avdrift.toml"


def test_the_module_prints_the_default_file() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "device.config"], cwd=ROOT, capture_output=True, timeout=60, check=True
    )
    assert done.stdout == DEFAULT_FILE.read_bytes() and done.stderr == b""


def test_the_default_file_says_every_default_and_explains_every_key() -> None:
    document = tomllib.loads(default_text())
    assert document.pop("config_version") == CONFIG_VERSION
    assert document == {
        name: {key.name: getattr(getattr(Config(), name), key.name) for key in fields(section)}
        for name, section in SECTIONS.items()
    }
    lines = default_text().splitlines()
    for number, line in enumerate(lines):
        if " = " in line and not line.startswith("#"):
            assert lines[number - 1].startswith("# "), line
        assert len(line) <= 120 and line.isascii()


def test_each_section_has_its_attribute_of_its_kind() -> None:
    config = Config()
    assert {key.name: type(getattr(config, key.name)) for key in fields(config)} == SECTIONS


@pytest.mark.parametrize(("name", "limits"), RANGES.items())
def test_a_range_holds_its_limits_and_nothing_beyond(name: str, limits: tuple[float, float]) -> None:
    low, high = limits
    for value in (low, high):
        MeasureSettings(**{name: value})  # type: ignore[arg-type]
    for value in (math.nextafter(low, -math.inf), math.nextafter(high, math.inf), -low, 0, math.nan, math.inf, 10**400):
        with pytest.raises(UsageError, match=f"{name} is .*, allowed is {low:g} to {high:g}"):
            MeasureSettings(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [True, "5", None, [5], {}])
def test_what_is_no_number_is_refused(value: object) -> None:
    assert not Range(0, 10).allows(value)
    with pytest.raises(UsageError, match="window_s"):
        MeasureSettings(window_s=value)  # type: ignore[arg-type]


def test_names_are_taken_as_they_are_written() -> None:
    names = Names(("one", "two"))
    assert names.allows("one") and str(names) == "one, two"
    for value in ("One", "", "on", "one ", 1, True, None, ["one"]):
        assert not names.allows(value)


@pytest.mark.parametrize("value", ["", "talk.mkv", "/srv/a b/größe.mkv", "../x", "a" * 4095, "ü" * 2047])
def test_a_path_may_be_any_text_for_people(value: str) -> None:
    assert PathText().allows(value)
    assert (ModelSettings(value).bundle, SourceSettings(value).file) == (value, value)


@pytest.mark.parametrize("value", ["a\0b", "a\nb", "\x1b[31m", "\x7f", "a" * 4096, "ü" * 2048, 7, True, None, ["a"]])
def test_a_path_may_not_be_what_no_file_system_or_terminal_bears(value: object) -> None:
    assert not PathText().allows(value)
    for section in (ModelSettings, SourceSettings):
        with pytest.raises(UsageError, match="allowed is text"):
            section(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9753", ("127.0.0.1", 9753)), ("0.0.0.0:1", ("0.0.0.0", 1)), ("[::1]:65535", ("::1", 65535)),
        ("[FE80::0:1]:80", ("fe80::1", 80)), ("[::ffff:1.2.3.4]:80", ("::ffff:102:304", 80)),
    ],
)  # fmt: skip
def test_an_address_to_listen_at(text: str, address: tuple[str, int]) -> None:
    host, port = parse_listen(text) or ("", 0)
    assert (ip_address(host), port) == (ip_address(address[0]), address[1])
    assert MetricsSettings(listen=text).listen == text


@pytest.mark.parametrize(
    "value",
    ["9753", ":9753", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:+80", "127.0.0.1: 80", "localhost:80",
     "::1:80", "[::1]", "[::1]80", "[::g]:80", "[127.0.0.1]:80", "256.0.0.1:80", "1.2.3:8080", "127.0.0.1:80\n",
     "fe80::1%eth0:80", "127.0.0.1:٨٠", 9753, None, True],
)  # fmt: skip
def test_what_is_no_address_to_listen_at(value: object) -> None:
    assert not ListenText().allows(value)
    with pytest.raises(UsageError, match="listen is"):
        MetricsSettings(listen=value)  # type: ignore[arg-type]


def test_levels_of_modules_are_judged_where_they_are_configured() -> None:
    assert LogSettings(levels="device.capture=debug").levels == "device.capture=debug"
    for value in ("device.captre=debug", "device.capture=loud", 7, None):
        with pytest.raises(UsageError, match=r"levels is .* such as device\.capture=debug"):
            LogSettings(levels=value)  # type: ignore[arg-type]


def test_the_search_range_is_the_analyzers() -> None:
    assert search_ticks(SEARCH_MS.low) == 10 and search_ticks(SEARCH_MS.high) == 500
    for value in (SEARCH_MS.low - 1, SEARCH_MS.high + 1, math.nan):
        with pytest.raises(UsageError, match="100 to 5000"):
            search_ticks(value)


def test_settings_do_not_change_under_a_running_daemon() -> None:
    with pytest.raises(FrozenInstanceError):
        MeasureSettings().window_s = 3  # type: ignore[misc]


def test_every_key_has_a_default_that_is_allowed() -> None:
    for section in SECTIONS.values():
        for key in fields(section):
            assert allowed_of(key).allows(key.default), key.name


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (5, "5"),
        (60.0000001, "60.0000001"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (10**400, "a huge number"),
        ("a\n\x1b", r"'a\n\x1b'"),
        ({}, "a table"),
        ([[]], "an array"),
        (tomllib.loads("a = 2026-11-22")["a"], "a date or a time"),
        ("x" * 99, "'" + "x" * 56 + "..."),
    ],
)
def test_values_are_shown_short_and_without_control_characters(value: object, text: str) -> None:
    assert formatted(value) == text


@pytest.mark.parametrize("host", ["", "broker", "broker.local", "192.168.1.2", "::1", "bücher.example", "my_pi"])
def test_what_is_a_host(host: str) -> None:
    assert MqttSettings(host=host).host == host


@pytest.mark.parametrize(
    "host", ["mqtt://broker", "mqtt://broker:1883", "broker:1883", "[::1]", "a b", "me@broker", "-broker", "x" * 254]
)
def test_what_is_more_than_a_host_or_none(host: str) -> None:
    with pytest.raises(UsageError, match="without mqtt:// and without a port"):
        MqttSettings(host=host)
