"""The page in a real browser, on the built-in sample: each element, three sizes, two languages, keyboard, axe-core."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from device.page.token import FILE
from device.records import Command, Reason, Verb, Verdict
from tests.device.page.browsers import axe_core, browser, needs_chromium
from tests.device.page.served import PATIENCE_S, Served, free_port, until
from tests.device.telemetry.test_log_sink import EVENT
from tests.device.telemetry.test_metrics import FULL
from tests.device.telemetry.test_report_text import BLIND

pytestmark = needs_chromium
ROOT = Path(__file__).resolve().parents[3]
SERIOUS = ("serious", "critical")


def text(driver: Any, element: str) -> str:
    return str(driver.execute_script("return document.getElementById(arguments[0]).textContent.trim()", element))


def opened(driver: Any, page: Served) -> None:
    driver.get(page.page.address(PATIENCE_S))
    until(lambda: text(driver, "connection") == "Live", "the page is connected")
    until(lambda: driver.execute_script("return document.getElementById('picture').ariaLabel"), "pictures come")


def press(driver: Any, *keys: str) -> None:
    from selenium.webdriver import ActionChains

    for key in keys:
        ActionChains(driver).send_keys(key).perform()


def focused(driver: Any) -> str:
    return str(driver.execute_script("return document.activeElement.id"))


def colours(driver: Any, canvas: str) -> int:
    """How many colours a canvas shows: one is an empty one."""
    script = """
        const canvas = document.getElementById(arguments[0]);
        const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        return new Set(new Uint32Array(data.buffer)).size"""
    return int(driver.execute_script(script, canvas))


# With made reports


def test_the_token_leaves_the_address_and_the_next_visit_needs_none(served: Served) -> None:
    with browser(1440, 900) as driver:
        opened(driver, served)
        assert driver.current_url == f"http://127.0.0.1:{served.port}/"
        (cookie,) = driver.get_cookies()
        assert cookie["httpOnly"] and cookie["sameSite"] == "Strict" and served.token not in json.dumps(cookie)
        driver.get(f"http://127.0.0.1:{served.port}/")
        until(lambda: text(driver, "number") == "+124", "the cookie opens it")
        driver.delete_all_cookies()
        driver.refresh()
        until(lambda: text(driver, "connection").startswith("Locked"), "it says how to get in")
        driver.get(f"http://127.0.0.1:{served.port}/#" + "w" * 22)
        until(lambda: text(driver, "connection").startswith("This address is out of date"), "a wrong token")


def test_a_token_that_is_deleted_locks_the_page_that_is_open(served: Served) -> None:
    with browser(360, 640) as driver:
        opened(driver, served)
        (served.state_dir / FILE).unlink()
        until(lambda: text(driver, "connection").startswith("Locked"), "it is locked")


@pytest.mark.parametrize(
    ("language", "word", "direction", "advice", "button"),
    [
        ("en", "Unacceptable", "· audio early", "The audio is 124 ms ahead of the video.", "Calibrate"),
        ("de", "Unzulässig", "· Ton zu früh", "Der Ton kommt 124 ms vor dem Bild.", "Kalibrieren"),
    ],
)
def test_number_word_direction_and_what_they_mean(
    served: Served, language: str, word: str, direction: str, advice: str, button: str
) -> None:
    with browser(360, 640, language) as driver:
        opened(driver, served)
        until(lambda: text(driver, "number") == "+124", "the number")
        found = [text(driver, name) for name in ("word", "direction", "advice", "do-recalibrate")]
        assert found == [word, direction, advice, button]
        assert (
            text(driver, "error") == "± 4" and driver.execute_script("return document.documentElement.lang") == language
        )
        blind = replace(BLIND, reason=Reason.NO_FACE)
        served.page.report(blind)
        until(lambda: text(driver, "number") == "–", "no number")
        assert text(driver, "advice") == text(driver, "spoken").partition(". ")[2] and text(driver, "advice")
        served.page.report(replace(blind, fault="camera_lost"))
        until(
            lambda: "camera" in text(driver, "advice").lower() or "Kamera" in text(driver, "advice"),
            "the fault comes first",
        )


def test_a_borderline_verdict_says_between_which_ones_and_fits(served: Served) -> None:
    ends = (Verdict.IN_SYNC, Verdict.DETECTABLE)
    served.page.report(replace(FULL, offset_ms=-1143.0, verdict=Verdict.BORDERLINE, verdict_range=ends))
    with browser(360, 640, "de") as driver:
        opened(driver, served)
        until(lambda: text(driver, "word") == "Grenzfall (Synchron – Bemerkbar)", "the verdict")
        wide = "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        assert driver.execute_script(wide)
        assert [line["message"] for line in driver.get_log("browser")] == []


def test_the_history_shows_values_and_zooms_by_mouse_wheel_and_fingers(served: Served) -> None:
    from selenium.webdriver import ActionChains

    for second in range(120):
        served.page.report(replace(FULL, t_unix_ms=FULL.t_unix_ms + 1000 * (second + 1), offset_ms=float(second)))

    with browser(1440, 900) as driver:
        opened(driver, served)
        plot, whole = (driver.find_element("id", name) for name in ("history-plot", "whole"))
        driver.execute_script("arguments[0].scrollIntoView()", plot)
        until(lambda: text(driver, "number") == "+119", "the history is there")
        ActionChains(driver).move_to_element_with_offset(plot, 0, 10).perform()
        until(lambda: re.search(r"[+−]\d+ ± 4 ms", text(driver, "reading")), "the pointer tells a value")

        def zoomed_by(act: Callable[[], object], how: str) -> None:
            assert not whole.is_enabled()
            act()
            until(whole.is_enabled, how)
            whole.click()
            until(lambda: not whole.is_enabled(), "all is shown again")

        def touch(kind: str, *places_x: float) -> None:
            box = plot.rect
            top = box["y"] - driver.execute_script("return scrollY") + 40
            points = [{"x": box["x"] + x, "y": top, "id": number} for number, x in enumerate(places_x)]
            driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        def pinch() -> None:
            for kind, *places_x in (("touchStart", 300, 500), ("touchMove", 250, 550), ("touchMove", 200, 600)):
                touch(kind, *places_x)
            touch("touchEnd")

        def turn_the_wheel() -> None:
            box = plot.rect
            at = {"x": box["x"] + 300, "y": box["y"] - driver.execute_script("return scrollY") + 40}
            turn = {"type": "mouseWheel", "deltaX": 0, "deltaY": -100, "modifiers": 2}  # with Ctrl
            driver.execute_cdp_cmd("Input.dispatchMouseEvent", turn | at)

        drag = ActionChains(driver).move_to_element_with_offset(plot, -100, 10).click_and_hold().move_by_offset(200, 0)
        zoomed_by(drag.release().perform, "a drag zooms")
        zoomed_by(turn_the_wheel, "the wheel zooms")
        zoomed_by(pinch, "two fingers zoom")


def test_what_changes_something_asks_once_and_shows_what_came_of_it(served: Served) -> None:
    taken: list[Command] = []
    served.page.submit_to(taken.append)
    with browser(1440, 900) as driver:
        opened(driver, served)
        driver.find_element("id", "do-recalibrate").click()
        assert "30 seconds" in text(driver, "question-text") and not taken
        press(driver, "\ue007")  # Enter, on the button that has the focus: cancel
        until(lambda: not driver.find_element("id", "question").get_attribute("open"), "it is closed")
        assert not taken
        driver.find_element("id", "do-recalibrate").click()
        driver.find_element("id", "question-yes").click()
        until(lambda: taken and re.search(r"\d+ s left", text(driver, "result")), "it counts down")
        (command,) = taken
        assert command.verb is Verb.RECALIBRATE
        command.reply({"verb": "recalibrate", "ok": True, "error": None, "bias_ms": 12.5, "bias_std_ms": 1.5})
        until(lambda: text(driver, "result") == "Calibrated: +12.5 ± 1.5 ms are now subtracted.", "the result")
        assert focused(driver) == "do-recalibrate"


def test_everything_can_be_reached_and_used_with_the_keyboard(served: Served) -> None:
    for k in range(5):
        served.page.report(replace(FULL, t_unix_ms=FULL.t_unix_ms + 1000 * k, offset_ms=100.0 + k))
    with browser(1440, 900) as driver:
        opened(driver, served)
        seen = []
        for _ in range(12):
            press(driver, "\ue004")
            seen.append(focused(driver))
        wanted = ["hour", "day", "history-plot", "do-recalibrate", "do-reset-calibration", "do-model-rollback"]
        assert [name for name in seen if name in wanted][: len(wanted)] == wanted and "save" in seen
        driver.execute_script("document.getElementById('history-plot').focus()")
        press(driver, "\ue012", "\ue012")  # to the left, twice
        assert "+103 ± 4 ms" in text(driver, "reading")
        press(driver, "+")
        driver.execute_script("document.getElementById('day').focus()")
        press(driver, " ")
        assert driver.find_element("id", "day").get_attribute("aria-pressed") == "true"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1440])
def test_axe_core_finds_nothing_serious(served: Served, width: int, dark: bool) -> None:
    source = axe_core()
    served.page.event(replace(EVENT, t_unix_ms=FULL.t_unix_ms))
    with browser(width, 900, dark=dark) as driver:
        opened(driver, served)
        until(lambda: text(driver, "number") == "+124", "the number")
        driver.execute_cdp_cmd("Page.setBypassCSP", {"enabled": True})
        driver.execute_script(source)
        found = driver.execute_async_script(
            "const done = arguments[0]; axe.run().then(done, error => done({error: String(error)}))"
        )
        assert "violations" in found, found
        serious = [
            (one["id"], [node["html"] for node in one["nodes"]])
            for one in found["violations"]
            if one["impact"] in SERIOUS
        ]
        assert serious == []


def test_a_daemon_that_comes_back_is_followed_again(serve: Callable[..., Served], tmp_path: Path) -> None:
    first = serve().opened().tell()
    with browser(768, 1024) as driver:
        opened(driver, first)
        first.page.close()
        until(lambda: "trying again" in text(driver, "connection"), "it is said")
        serve(port=first.port).opened().tell(replace(FULL, offset_ms=55.0))
        until(lambda: text(driver, "number") == "+55" and text(driver, "connection") == "Live", "it is live again", 40)


def test_a_page_that_is_not_looked_at_costs_no_images(served: Served) -> None:
    def watched() -> bool:
        return served.page.view.is_watched(time.monotonic_ns())

    with browser(768, 1024) as driver:
        opened(driver, served)
        driver.get("about:blank")
        until(lambda: served.page.viewers == 0 and not watched(), "who goes to another page is no viewer")
        driver.back()
        until(lambda: text(driver, "connection") == "Live" and watched(), "who comes back is one again")
        page, other = driver.current_window_handle, driver.switch_to.new_window
        other("tab")
        until(lambda: served.page.viewers == 1 and not watched(), "a hidden page follows without images")
        driver.close()
        driver.switch_to.window(page)
        until(watched, "it is looked at again")


# On the sample


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address that `avdrift run` prints for the built-in sample."""
    folder, port = tmp_path_factory.mktemp("sample"), free_port()
    config = folder / "avdrift.toml"
    config.write_text(f"config_version = 1\n[page]\nport = {port}\n")
    command = [
        sys.executable,
        "-m",
        "device.cli",
        "run",
        "--source",
        "device/models/sample.mkv",
        "--store",
        str(folder / "state"),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    daemon = subprocess.Popen(
        [*command, "--config", str(config)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with daemon:
        assert daemon.stderr is not None
        address = next(found[0] for line in daemon.stderr if (found := re.search(r"http://\S+/#\S+", line)))
        yield address
        daemon.terminate()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("width", "height", "language", "dark"),
    [(360, 640, "en", False), (768, 1024, "de", True), (1440, 900, "en", False)],
)
def test_the_sample_in_three_sizes(sample: str, width: int, height: int, language: str, dark: bool) -> None:
    with browser(width, height, language, dark=dark) as driver:
        driver.get(sample)
        until(lambda: re.fullmatch(r"[+−]\d+", text(driver, "number")), "a number", 40)
        until(lambda: driver.find_element("id", "speech").get_attribute("data-on") == "true", "the speech lamp")
        until(lambda: float(driver.find_element("id", "level").get_attribute("aria-valuenow")) > -60, "a sound")
        until(lambda: re.fullmatch(r"\d+[.,]\d", text(driver, "rate")) or text(driver, "rate") == "25", "the rate")
        until(lambda: colours(driver, "picture") > 100, "a picture, in gray")
        until(lambda: colours(driver, "curve-plot") > 5, "the curve")
        assert colours(driver, "history-plot") > 5
        assert text(driver, "word") and text(driver, "direction") and text(driver, "dropped").isdecimal()
        assert text(driver, "drift-value")
        assert "0.5.0" in text(driver, "facts") and text(driver, "buttons") and text(driver, "event-list")
        page = "document.documentElement"
        bottom = "document.getElementById('curve').getBoundingClientRect().bottom"
        sides = driver.execute_script(f"return [{page}.scrollWidth, {page}.clientWidth, {bottom}]")
        assert sides[0] <= sides[1] and sides[2] <= height, "nothing aside, and three parts without scrolling"
        assert [line["message"] for line in driver.get_log("browser")] == []
        asked = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
        urls = [one["params"]["request"]["url"] for one in asked if one["method"] == "Network.requestWillBeSent"]
        assert urls and all(url.startswith(sample.partition("/#")[0]) for url in urls), "no other host"
        time.sleep(1)
        if folder := os.environ.get("AVDRIFT_SCREENSHOTS"):
            driver.save_screenshot(f"{folder}/{width}-{language}.png")
