"""docs/reference/ agrees with the code."""

from __future__ import annotations

import re

import pytest

from device.records import Verb
from device.telemetry.mqtt.topics import Topics
from tools.reference import FOLDER, PAGES
from tools.reference.records import json_page


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_as_the_code_makes_it(name: str) -> None:
    written = (FOLDER / name).read_text(encoding="utf-8")
    assert written == PAGES[name](), "make it again with: python -m tools.reference"


def test_every_link_to_a_list_of_words_has_its_heading() -> None:
    page = json_page()
    headings = {heading.lower() for heading in re.findall(r"^#+ (\w+)$", page, re.MULTILINE)}
    assert set(re.findall(r"\]\(#(\w+)\)", page)) <= headings


def test_every_topic_and_every_command_is_on_the_page() -> None:
    page, topics = PAGES["mqtt.md"](), Topics("avdrift", "<node>")
    ours = [name for name, value in vars(Topics).items() if isinstance(value, property) and name != "device_id"]
    assert len(ours) == 5
    assert all(f"`{getattr(topics, name)}`" in page for name in ours)
    assert all(f"| `{verb}` |" in page for verb in Verb)
