"""Notifications to systemd through real sockets of both kinds: in the file system and abstract."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from device.records import Direction, DriftClass, Report, State, Verdict
from device.reporting.sink import Hub
from device.telemetry.report_text import short_text
from device.telemetry.systemd import Notifier

S = 1_000_000_000
MEASURED = Report(
    schema=1, seq=7, boot_id="b", uptime_s=9.5, t_unix_ms=1_700_000_000_000, clock_synced=None, state=State.MEASURING,
    offset_ms=-123.5, offset_std_ms=4.2, direction=Direction.AUDIO_LATE, confidence=0.98, drift_ppm=None,
    drift_std_ppm=None, drift_class=DriftClass.UNKNOWN, step_ms=None, verdict=Verdict.UNACCEPTABLE,
    profile="itu-r-bt1359", window_s=5.0, faces=1, speech_ratio=0.9, model="tiny 0 abc", video_dropped=0,
    audio_dropped=0, latency_ms=None,
)  # fmt: skip
BLIND = replace(
    MEASURED, state=State.STALLED, offset_ms=None, offset_std_ms=None, direction=None, confidence=None,
    verdict=Verdict.UNKNOWN, faces=None, fault="camera_missing",
)  # fmt: skip


class Listener:
    """As systemd listens; `heard` is what came since the last time."""

    def __init__(self, address: str | bytes) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind(address)

    def heard(self) -> list[str]:
        messages = []
        while True:
            try:
                messages.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return messages


class HandClock:
    def __init__(self) -> None:
        self.ns = 5 * S

    def __call__(self) -> int:
        return self.ns


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[tuple[Listener, dict[str, str]]]:
    address = str(tmp_path / "notify")
    listener = Listener(address)
    yield listener, {"NOTIFY_SOCKET": address}
    listener.socket.close()


def test_the_first_report_makes_it_ready_and_says_what_it_says(systemd: tuple[Listener, dict[str, str]]) -> None:
    listener, environment = systemd
    notifier = Notifier(environment)
    assert listener.heard() == [], "not ready before anything is known"
    notifier.report(MEASURED)
    words = "-124 ms, audio late, ±4 ms, confidence 0.98, unacceptable"
    assert listener.heard() == [f"READY=1\nSTATUS={words}"]


def test_status_is_said_again_only_when_it_changes(systemd: tuple[Listener, dict[str, str]]) -> None:
    listener, environment = systemd
    notifier = Notifier(environment)
    for report in (MEASURED, replace(MEASURED, seq=8), replace(MEASURED, seq=9, offset_ms=-80.0), MEASURED):
        notifier.report(report)
    first, second, third = listener.heard()
    assert first.startswith("READY=1") and second.startswith("STATUS=-80 ms") and third.startswith("STATUS=-124 ms")


def test_a_missing_camera_is_ready_and_named(systemd: tuple[Listener, dict[str, str]]) -> None:
    """A start that waited for it would only be killed, and a restart would not plug it in."""
    listener, environment = systemd
    Notifier(environment).report(BLIND)
    assert listener.heard() == ["READY=1\nSTATUS=stalled (camera missing)"]


def test_an_abstract_socket() -> None:
    name = f"avdrift-test-{os.getpid()}"
    listener = Listener(b"\0" + name.encode())
    Notifier({"NOTIFY_SOCKET": f"@{name}"}).report(BLIND)
    assert len(listener.heard()) == 1
    listener.socket.close()


@pytest.mark.parametrize("given", [None, "", "vsock:2:1234", "relative/path"])
def test_without_a_socket_that_is_here_nothing_happens(given: str | None) -> None:
    notifier = Notifier({"WATCHDOG_USEC": "1000"} | ({} if given is None else {"NOTIFY_SOCKET": given}))
    for _ in range(2):
        notifier.report(MEASURED)
        notifier.heartbeat()
        notifier.reloading()
        notifier.reloaded()
        notifier.close()


def test_a_beat_at_once_and_then_three_for_each_time_out(systemd: tuple[Listener, dict[str, str]]) -> None:
    listener, environment = systemd
    clock = HandClock()
    notifier = Notifier(environment | {"WATCHDOG_USEC": "20000000"}, now_ns=clock)
    beats = 0
    for _ in range(1000):  # ten times a second, for 100 s
        notifier.heartbeat()
        beats += len(listener.heard())
        clock.ns += S // 10
    assert beats == 15, "every 6.7 s"


def test_without_heartbeats_reports_keep_no_watchdog_quiet(systemd: tuple[Listener, dict[str, str]]) -> None:
    listener, environment = systemd
    notifier = Notifier(environment | {"WATCHDOG_USEC": "20000000"})
    for seq in range(100):
        notifier.report(replace(MEASURED, seq=seq, offset_ms=float(seq)))
    assert not [message for message in listener.heard() if "WATCHDOG" in message]


@pytest.mark.parametrize("given", ["", "0", "-5", "soon", "1e6", "9" * 30, "²"])
def test_no_watchdog_where_none_is_asked_for(systemd: tuple[Listener, dict[str, str]], given: str) -> None:
    listener, environment = systemd
    Notifier(environment | {"WATCHDOG_USEC": given}).heartbeat()
    assert listener.heard() == []


def test_the_watchdog_of_another_process_is_not_ours(systemd: tuple[Listener, dict[str, str]]) -> None:
    listener, environment = systemd
    environment["WATCHDOG_USEC"] = "1000000"
    Notifier(environment | {"WATCHDOG_PID": str(os.getpid() + 1)}).heartbeat()
    assert listener.heard() == []
    Notifier(environment | {"WATCHDOG_PID": str(os.getpid())}).heartbeat()
    assert listener.heard() == ["WATCHDOG=1"]


def test_a_busy_systemd_holds_nothing_up_and_hears_it_later(systemd: tuple[Listener, dict[str, str]]) -> None:
    listener, environment = systemd
    clock = HandClock()
    notifier = Notifier(environment | {"WATCHDOG_USEC": "20000000"}, now_ns=clock)
    stuffing = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    stuffing.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            stuffing.sendto(b"X=1", environment["NOTIFY_SOCKET"])
    notifier.report(MEASURED)
    notifier.heartbeat()
    assert set(listener.heard()) == {"X=1"}
    notifier.report(MEASURED)
    notifier.heartbeat()
    first, second = listener.heard()
    assert first.startswith("READY=1") and second == "WATCHDOG=1", "neither waited for its next time"
    stuffing.close()


def test_systemd_may_go_away_and_come_back(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    notifier = Notifier({"NOTIFY_SOCKET": address})
    notifier.report(MEASURED)
    listener = Listener(address)
    notifier.report(MEASURED)
    assert listener.heard()[0].startswith("READY=1")
    listener.socket.close()
    Path(address).unlink()
    notifier.report(BLIND)
    listener = Listener(address)
    notifier.report(BLIND)
    assert listener.heard() == ["STATUS=stalled (camera missing)"]
    listener.socket.close()


def test_reload_and_stop(systemd: tuple[Listener, dict[str, str]]) -> None:
    listener, environment = systemd
    notifier = Notifier(environment)
    notifier.report(MEASURED)
    listener.heard()
    before_us = time.monotonic_ns() // 1000
    notifier.reloading()
    notifier.reloaded()
    reloading, ready = listener.heard()
    word, _, stamp = reloading.partition("\nMONOTONIC_USEC=")
    assert word == "RELOADING=1" and before_us <= int(stamp) <= time.monotonic_ns() // 1000 and ready == "READY=1"
    notifier.close()
    assert listener.heard() == ["STOPPING=1\nSTATUS=stopping"]
    notifier.close()
    notifier.report(BLIND)
    notifier.heartbeat()
    assert listener.heard() == [], "after goodbye nothing more"


def test_it_is_a_sink(systemd: tuple[Listener, dict[str, str]]) -> None:
    listener, environment = systemd
    hub = Hub([Notifier(environment)])
    hub.report(MEASURED)
    hub.close()
    assert len(listener.heard()) == 2


@pytest.mark.parametrize("state", list(State))
def test_every_state_has_words_on_one_line(state: State) -> None:
    for report in (replace(BLIND, state=state, fault=None), replace(BLIND, state=state)):
        words = short_text(report)
        assert words.strip() == words and "\n" not in words and "_" not in words and "  " not in words
    assert short_text(replace(BLIND, fault=None)) == "stalled"
