"""Makes docs/reference/ from the code: `python -m tools.reference` writes it, and a test compares."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tools.reference.commands import command_page
from tools.reference.messages import mqtt_page
from tools.reference.records import json_page
from tools.reference.settings import settings_page

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "reference"

PAGES: dict[str, Callable[[], str]] = {
    "cli.md": command_page,
    "configuration.md": settings_page,
    "json.md": json_page,
    "mqtt.md": mqtt_page,
}
