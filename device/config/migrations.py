"""Migrations of older configuration files, one version at a time, to today's format.

Pure: documents in, documents out. A step gets a document before it is validated. So it must accept whatever TOML can
hold, and leave unknown content alone, which validation reports afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from device.config.settings import CONFIG_VERSION
from device.config.toml_reader import VERSION_KEY, Document

Step = Callable[[Document], Document]

# From a version to the next. Version 1 is the first, so there is nothing here yet.
STEPS: Mapping[int, Step] = {}


def version_of(document: Document) -> int | None:
    """The format version of a document; None if there is none, or if it is not a number."""
    version = document.get(VERSION_KEY)
    return version if isinstance(version, int) and not isinstance(version, bool) else None


def migrated(document: Document, steps: Mapping[int, Step] = STEPS, to: int = CONFIG_VERSION) -> Document:
    """The document in version `to`; the document itself if no steps lead there."""
    version = version_of(document)
    if version is None or not all(step in steps for step in range(version, to)):
        return document
    for step in range(version, to):
        document = {**steps[step](document), VERSION_KEY: step + 1}
    return document


def moved(document: Document, old: tuple[str, str], new: tuple[str, str]) -> Document:
    """Rename a key, given with its section; unchanged if the old one is missing or the new one exists."""
    section, target = document.get(old[0]), document.get(new[0], {})
    if not isinstance(section, dict) or not isinstance(target, dict) or old[1] not in section or new[1] in target:
        return document
    without = {**document, old[0]: {key: value for key, value in section.items() if key != old[1]}}
    return {**without, new[0]: {**without.get(new[0], {}), new[1]: section[old[1]]}}
