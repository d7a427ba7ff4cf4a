"""Older forms of the configuration file: each becomes the next one, step by step, until it is today's.

Pure: documents in, documents out. A step sees a document before anybody has judged it, so it must take whatever TOML
can hold, and leave alone what it does not know: that is told of afterwards, as in every file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from device.config.settings import CONFIG_VERSION
from device.config.toml_reader import VERSION_KEY, Document

Step = Callable[[Document], Document]

# From a version to the next. Version 1 is the first, so that there is nothing here yet.
STEPS: Mapping[int, Step] = {}


def version_of(document: Document) -> int | None:
    """The form of a document; None where it does not say, or says something else than a number."""
    version = document.get(VERSION_KEY)
    return version if isinstance(version, int) and not isinstance(version, bool) else None


def migrated(document: Document, steps: Mapping[int, Step] = STEPS, to: int = CONFIG_VERSION) -> Document:
    """The document in form `to`; the document itself where no steps lead there."""
    version = version_of(document)
    if version is None or not all(step in steps for step in range(version, to)):
        return document
    for step in range(version, to):
        document = {**steps[step](document), VERSION_KEY: step + 1}
    return document


def moved(document: Document, old: tuple[str, str], new: tuple[str, str]) -> Document:
    """With a key, given with its section, under another name; unchanged where it is not there, or both are."""
    section, target = document.get(old[0]), document.get(new[0], {})
    if not isinstance(section, dict) or not isinstance(target, dict) or old[1] not in section or new[1] in target:
        return document
    without = {**document, old[0]: {key: value for key, value in section.items() if key != old[1]}}
    return {**without, new[0]: {**without.get(new[0], {}), new[1]: section[old[1]]}}
