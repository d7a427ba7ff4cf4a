"""Debian's headless Chromium, driven by Selenium; and axe-core, where a copy of it is available."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
AXE = "axe-core-4.14.1.tgz"
AXE_VARIABLE = "AVDRIFT_AXE"  # a copy of axe.min.js
needs_chromium = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="apt install chromium chromium-driver")


@contextmanager
def browser(width_px: int, height_px: int, language: str = "en", *, dark: bool = False) -> Iterator[Any]:
    """A window of this size, in one of the two languages."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    flags = ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "disable-background-networking")
    for flag in (*flags, f"lang={language}", "no-first-run", "hide-scrollbars"):
        options.add_argument(f"--{flag}")
    options.add_experimental_option("prefs", {"intl.accept_languages": language})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        size = {"width": width_px, "height": height_px, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        if dark:
            scheme = {"name": "prefers-color-scheme", "value": "dark"}
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        yield driver
    finally:
        driver.quit()


@cache
def axe_core() -> str:
    """The source of axe-core. Skips the test where it is neither here nor to be had from npm."""
    if given := os.environ.get(AXE_VARIABLE):
        return Path(given).read_text(encoding="utf-8")
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip(f"axe-core: give {AXE_VARIABLE} a copy of axe.min.js, or install npm")
    import subprocess
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        name, version = AXE.removesuffix(".tgz").rsplit("-", 1)
        done = subprocess.run(
            [npm, "pack", f"{name}@{version}"], cwd=folder, capture_output=True, timeout=120, check=False
        )
        if done.returncode:
            pytest.skip("axe-core cannot be had from npm now")
        with tarfile.open(Path(folder) / AXE) as archive:
            content = archive.extractfile("package/axe.min.js")
            assert content is not None
            return content.read().decode()
