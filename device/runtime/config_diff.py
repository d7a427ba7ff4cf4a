"""Changes of the configuration while the daemon runs: which take effect at once, and which need a restart. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

from device.config.constraints import formatted
from device.config.section import is_live
from device.config.settings import SECTIONS, Config


@dataclass(frozen=True, slots=True)
class Change:
    """A changed key, such as `measure.profile`, with the value in use and the value in the file."""

    key: str
    before: str | float | bool
    after: str | float | bool
    live: bool

    def __str__(self) -> str:
        return f"{self.key} from {formatted(self.before)} to {formatted(self.after)}"


def plan_reload(old: Config, new: Config) -> tuple[tuple[Change, ...], tuple[Change, ...]]:
    """The changes that take effect at once and those that need a restart, in the file's order."""
    changes = tuple(_changes(old, new))
    return tuple(c for c in changes if c.live), tuple(c for c in changes if not c.live)


def applied_config(old: Config, new: Config) -> Config:
    """The configuration in use after a reload: the old one with the new one's live keys."""
    sections = {}
    for name, section in SECTIONS.items():
        fresh = getattr(new, name)
        live = {key.name: getattr(fresh, key.name) for key in fields(section) if is_live(key)}
        sections[name] = replace(getattr(old, name), **live)
    return replace(old, **sections)


def _changes(old: Config, new: Config) -> Iterator[Change]:
    for name, section in SECTIONS.items():
        for key in fields(section):
            before, after = (getattr(getattr(config, name), key.name) for config in (old, new))
            if before != after:
                yield Change(f"{name}.{key.name}", before, after, is_live(key))
