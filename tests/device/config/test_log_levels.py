"""Levels of single modules as text: accepted only if every part is valid."""

from __future__ import annotations

import pytest

from device.config.log_levels import parse_levels


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("", {}),
        ("   ", {}),
        ("device.capture=debug", {"device.capture": "debug"}),
        (" device.capture.file = debug ,device.telemetry=error", {
            "device.capture.file": "debug", "device.telemetry": "error",
        }),
        ("device.cli=warning", {"device.cli": "warning"}),
    ],
)  # fmt: skip
def test_what_is_understood(text: str, levels: dict[str, str]) -> None:
    assert parse_levels(text) == levels


@pytest.mark.parametrize(
    "text",
    [
        "device=debug", "capture=debug", "device.captre=debug", "device.capture", "device.capture=", "=debug",
        "device.capture=DEBUG", "device.capture=10", "device.capture=debug,", ",",
        "device.capture=debug;device.cli=info",
        "device.capture=debug,device.capture=error", "device..capture=debug", "device.capture.=debug",
        "device.../capture=debug", "device.capture.__init__=debug", "device.models=debug", "train=debug",
        "device.capture=debug\n", "device.cäpture=debug", "device." + "a." * 600 + "b=debug", "device.capture==debug",
        ", ".join(["device.capture=debug"] * 60),
    ],
)  # fmt: skip
def test_what_is_not(text: str) -> None:
    assert parse_levels(text) is None
