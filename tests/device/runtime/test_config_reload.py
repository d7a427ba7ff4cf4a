"""Reading the configuration again: what is applied, what is logged, and that an invalid one changes nothing."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace

import pytest

from device.config.settings import Config, EventSettings, LogSettings, MeasureSettings
from device.errors import UsageError
from device.runtime.config_reload import Reloader

STRICTER = replace(Config(), measure=MeasureSettings(profile="ebu-r37"), events=EventSettings(min_s=3))


class File:
    """What a configuration file would say."""

    def __init__(self) -> None:
        self.says: Config | Exception = Config()
        self.taken: list[tuple[Config, Config]] = []
        self.came = threading.Event()

    def load(self) -> Config:
        if isinstance(self.says, Exception):
            raise self.says
        return self.says

    def take(self, before: Config, now: Config) -> None:
        self.taken.append((before, now))
        self.came.set()


@pytest.fixture
def file() -> File:
    return File()


@pytest.fixture
def reloader(file: File) -> Reloader:
    return Reloader(Config(), file.load, file.take)


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records]


@pytest.fixture(autouse=True)
def _everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "device")


def test_what_can_be_applied_is_applied_and_logged(
    file: File, reloader: Reloader, caplog: pytest.LogCaptureFixture
) -> None:
    file.says = STRICTER
    reloader.reload()
    assert file.taken == [(Config(), STRICTER)]
    assert said(caplog) == [
        ("INFO", "applied: measure.profile from 'itu-r-bt1359' to 'ebu-r37'"),
        ("INFO", "applied: events.min_s from 15.0 to 3"),
    ]


def test_what_needs_a_restart_is_logged_at_each_reload(
    file: File, reloader: Reloader, caplog: pytest.LogCaptureFixture
) -> None:
    file.says = replace(STRICTER, measure=MeasureSettings(profile="ebu-r37", window_s=7))
    reloader.reload()
    assert file.taken == [(Config(), STRICTER)]
    waiting = ("WARNING", "needs a restart: measure.window_s from 5.0 to 7")
    assert said(caplog)[2:] == [waiting]
    reloader.reload()
    assert len(file.taken) == 1 and said(caplog)[3:] == [waiting]
    file.says = STRICTER
    reloader.reload()
    assert said(caplog)[4:] == [("INFO", "the configuration has not changed")]


def test_a_broken_file_changes_nothing_and_all_its_problems_are_reported(
    file: File, reloader: Reloader, caplog: pytest.LogCaptureFixture
) -> None:
    file.says = UsageError(
        "not a correct configuration", where="a.toml", remedy="Correct this:\n  a.toml:3: one\n  two"
    )
    for _ in range(2):
        reloader.reload()
    assert file.taken == []
    ((level, words), again) = said(caplog)
    assert level == "ERROR" and words.startswith("the settings stay as they are: a.toml: ") and "3: one\n  two" in words
    assert again == (level, words), "somebody who reloads twice wants to hear it twice"
    file.says = STRICTER
    reloader.reload()
    assert file.taken == [(Config(), STRICTER)]


def test_asking_is_answered_from_another_thread_and_survives_what_nobody_thought_of(
    file: File, reloader: Reloader, caplog: pytest.LogCaptureFixture
) -> None:
    file.says = RuntimeError("no")
    reloader.request()
    file_was_read = threading.Event()
    for _ in range(600):
        if "reloading" in caplog.text:
            break
        file_was_read.wait(0.05)
    file.says = replace(Config(), log=LogSettings(level="debug"))
    reloader.request()
    assert file.came.wait(30)
    assert file.taken[0][1].log.level == "debug"
