"""docs/reference/configuration.md, from the dataclasses of `device.config.settings`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields

from device.config.section import Section, allowed_of, is_live
from device.config.settings import CONFIG_VERSION, Config
from tools.reference.markdown import page, table

_INTRODUCTION = f"""TOML, by default `/etc/avdrift/avdrift.toml`. A key that is left out keeps its default. `avdrift
check-config FILE` names every problem with its line. After a change of a key marked ⟳, `systemctl reload avdrift` is
enough; any other needs a restart. The first key, before all sections, is `config_version = {CONFIG_VERSION}`."""


def settings_page() -> str:
    config = Config()
    sections = {field.name: getattr(config, field.name) for field in fields(config)}
    parts = [part for name, section in sections.items() for part in _section(name, section)]
    return page("Configuration", _INTRODUCTION, *parts)


def _section(name: str, section: Section) -> Iterator[str]:
    yield f"## [{name}]"
    yield section.about
    rows = [
        (
            f"`{key.name}`{' ⟳' if is_live(key) else ''}",
            f"`{json.dumps(getattr(section, key.name), ensure_ascii=False)}`",
            str(allowed_of(key)),
            str(key.metadata["about"]),
        )
        for key in fields(section)
    ]
    yield table(("key", "default", "allowed", "meaning"), rows)
