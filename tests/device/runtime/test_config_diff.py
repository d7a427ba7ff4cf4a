"""A reload: what a running daemon applies, and what needs a restart."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device.config.constraints import Choice, Flag, IpAddressText, Names, PathText, Range, WholeNumber
from device.config.section import allowed_of, is_live
from device.config.settings import SECTIONS, Config
from device.runtime.config_diff import Change, applied_config, plan_reload

# Written down a second time on purpose: a key becomes live only when somebody has built that.
LIVE = {
    "measure.profile", "limits.early_ms", "limits.late_ms", "events.hysteresis_ms", "events.min_s", "events.absent_s",
    "log.level", "log.levels", "log.json", "log.reports",
}  # fmt: skip


def with_key(config: Config, key: str, value: object) -> Config:
    section, name = key.split(".")
    return replace(config, **{section: replace(getattr(config, section), **{name: value})})


def other_value(key: str) -> object:
    section, name = key.split(".")
    (found,) = [field for field in fields(SECTIONS[section]) if field.name == name]
    match allowed_of(found):
        case Range(low, high):
            return low if found.default != low else high
        case Names(names):
            return next(word for word in names if word != found.default)
        case Choice(numbers):
            return next(number for number in numbers if number != found.default)
        case WholeNumber(low, high):
            return low if found.default != low else high
        case IpAddressText():
            return "0.0.0.0"
        case Flag():
            return not found.default
        case PathText():
            return "elsewhere"
        case _:
            return {"log.levels": "device.cli=error", "metrics.listen": "127.0.0.1:9753"}.get(key, "other")


KEYS = [f"{name}.{field.name}" for name, section in SECTIONS.items() for field in fields(section)]
# Keys that are right only together with others.
TOGETHER = (
    "mqtt.", "page.cert_file", "page.key_file",
    "source.url", "source.username", "source.password_file", "source.ca_file",
)  # fmt: skip
ALONE = [key for key in KEYS if not key.startswith(TOGETHER)]


def test_the_live_keys_are_these() -> None:
    live = {f"{name}.{key.name}" for name, section in SECTIONS.items() for key in fields(section) if is_live(key)}
    assert live == LIVE


def test_the_same_configuration_changes_nothing() -> None:
    assert plan_reload(Config(), Config()) == ((), ())


@pytest.mark.parametrize("key", ALONE)
def test_each_key_on_its_own(key: str) -> None:
    new = with_key(Config(), key, other_value(key))
    taken, waiting = plan_reload(Config(), new)
    section, name = key.split(".")
    change = Change(key, getattr(getattr(Config(), section), name), getattr(getattr(new, section), name), key in LIVE)
    assert (taken, waiting) == (((change,), ()) if key in LIVE else ((), (change,)))
    assert applied_config(Config(), new) == (new if key in LIVE else Config())


def test_changes_are_reported_with_both_values() -> None:
    new = with_key(with_key(Config(), "measure.profile", "ebu-r37"), "measure.window_s", 7)
    ((profile,), (window,)) = plan_reload(Config(), new)
    assert str(profile) == "measure.profile from 'itu-r-bt1359' to 'ebu-r37'"
    assert str(window) == "measure.window_s from 5.0 to 7"


@settings(max_examples=200, derandomize=True)
@given(st.sets(st.sampled_from(ALONE)))
def test_after_a_reload_only_what_waits_is_left_to_tell(keys: set[str]) -> None:
    new = Config()
    for key in keys:
        new = with_key(new, key, other_value(key))
    in_use = applied_config(Config(), new)
    taken, waiting = plan_reload(in_use, new)
    assert taken == () and {change.key for change in waiting} == keys - LIVE
    assert plan_reload(Config(), in_use)[1] == ()
