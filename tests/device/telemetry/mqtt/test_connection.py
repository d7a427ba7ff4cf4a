"""The connection's states and timeouts, and servers that are no brokers: garbage, silence, wrong lengths."""

from __future__ import annotations

import logging
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from device.telemetry.mqtt import session
from device.telemetry.mqtt.access import Access
from device.telemetry.mqtt.connection import NEXT, Backoff, Connection, Phase
from device.telemetry.mqtt.outbox import Outbox
from device.telemetry.mqtt.session import Presence, Wakeup
from tests.brokers import FAST, free_port, needs_mosquitto, wait_until
from tests.certificates import Authority
from tests.device.telemetry.mqtt.rough_network import Babbler

TOPIC = "avdrift/stage/availability"
WELCOME = bytes([0x20, 3, 0, 0, 0])  # CONNACK: accepted, no properties
PING, PONG = bytes([0xC0, 0]), bytes([0xD0, 0])


@contextmanager
def connected(port: int, backoff: Backoff = FAST, events: int = 3, keepalive_s: int = 30) -> Iterator[Connection]:
    outbox = Outbox(100)
    for number in range(events):
        outbox.event("avdrift/stage/event", str(number).encode())
    access = Access("127.0.0.1", port, "avdrift-stage", keepalive_s)
    connection = Connection(access, outbox, Presence(TOPIC), ["avdrift/stage/cmd/+"], lambda *_: None, backoff)
    connection.start()
    try:
        yield connection
        assert outbox.events_waiting == events and outbox.events_lost == 0, "nobody acknowledged anything"
    finally:
        connection.stop()


def says(*parts: bytes) -> Callable[[bytes], bytes]:
    return lambda _: b"".join(parts)


# The states


def test_stopped_is_for_good_and_everything_else_leads_somewhere() -> None:
    assert set(NEXT) == set(Phase) and not NEXT[Phase.STOPPED]
    assert all(Phase.STOPPED in NEXT[phase] for phase in Phase if phase is not Phase.STOPPED)
    assert {phase for phase in Phase if Phase.ONLINE in NEXT[phase]} == {Phase.CONNECTING}
    assert {phase for phase in Phase if Phase.CONNECTING in NEXT[phase]} == {Phase.OFF, Phase.WAITING, Phase.REFUSED}


def test_delays_grow_to_a_limit_and_are_never_the_same_for_everybody() -> None:
    backoff = Backoff(first_s=1, longest_s=60, refused_s=120)
    growing = [backoff.delay_s(failures, refused=False, chance=1.0) for failures in (1, 2, 3, 6, 7, 8, 10**9)]
    assert growing == [1, 2, 4, 32, 60, 60, 60]
    assert backoff.delay_s(1, refused=False, chance=0.0) == 0.5
    assert {backoff.delay_s(failures, refused=True, chance=1.0) for failures in (1, 2, 50)} == {120}


def test_before_the_start_and_after_the_end() -> None:
    connection = Connection(Access("h", 1, "c", 30), Outbox(1), Presence(TOPIC), [], lambda *_: None, FAST)
    phases = [connection.phase]
    connection.wake()
    connection.stop()
    connection.stop()
    connection.wake()
    assert [*phases, connection.phase] == [Phase.OFF, Phase.STOPPED] and connection.problem is None


def test_nobody_there_is_tried_again_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    port = free_port()
    with connected(port, Backoff(0.01, 0.02, 0.02, 1)) as connection:
        wait_until(lambda: connection.phase is Phase.WAITING)
        time.sleep(0.3)
        assert connection.problem
        assert f"127.0.0.1:{port}: cannot be reached (Connection refused)" in connection.problem
    assert len(caplog.records) == 1 and caplog.records[0].levelno == logging.WARNING


def test_a_name_that_leads_nowhere() -> None:
    connection = Connection(
        Access("no-such-host.invalid", 1883, "c", 30), Outbox(1), Presence(TOPIC), [], lambda *_: None, FAST
    )
    connection.start()
    wait_until(lambda: connection.problem)
    assert connection.problem and "cannot be resolved" in connection.problem and connection.phase is not Phase.REFUSED
    connection.stop()


# Brokers that are none


@pytest.mark.parametrize(
    ("answer", "refused", "words"),
    [
        (says(bytes([0x20, 3, 0, 0x86, 0])), True, "(bad user name or password)"),
        (says(bytes([0x20, 3, 0, 0x87, 0])), True, "(not authorized)"),
        (says(bytes([0x20, 2, 0, 1])), True, "does not speak MQTT 5"),
        (says(bytes([0x20, 3, 0, 0x89, 0])), False, "(server busy)"),
        (says(WELCOME, bytes([0xE0, 2, 0x8E, 0])), True, "another client calls itself avdrift-stage"),
        (says(WELCOME, bytes([0xE0, 2, 0x8B, 0])), False, "(server shutting down)"),
        (says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), False, "not MQTT 5"),
        (says(b"SSH-2.0-OpenSSH_9.2p1\r\n"), False, "MQTT"),
        (says(bytes([0x20, 3, 0, 0x42, 0])), False, "MQTT"),
        (says(bytes([0x20, 0xFF, 0xFF, 0xFF, 0x7F]) + b"x" * 100), True, "MQTT"),
        (says(WELCOME, bytes([0x30, 0xFF, 0xFF, 0xFF, 0x7F]) + b"x" * 100), True, "a packet of 268435455 bytes"),
        (says(WELCOME, bytes([0x34, 8, 0, 2]) + b"ab" + bytes([0, 7, 0]) + b"x"), True, "a message of QoS 2"),
        (says(b""), False, "MQTT"),
    ],
)
def test_answers_that_end_it(answer: Callable[[bytes], bytes], refused: bool, words: str) -> None:
    with Babbler(answer, hang_up=True) as broker, connected(broker.port) as connection:
        expected = Phase.REFUSED if refused else Phase.WAITING
        wait_until(lambda: connection.problem and words in connection.problem, f"{words} in {connection.problem}")
        wait_until(lambda: connection.phase is expected)
        wait_until(lambda: broker.visits >= 3, "another attempt")


def test_a_wrong_password_is_tried_slowly_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    backoff = Backoff(first_s=0.01, longest_s=0.02, refused_s=0.4, steady_s=0.01)
    with Babbler(says(bytes([0x20, 3, 0, 0x86, 0]))) as broker, connected(broker.port, backoff):
        wait_until(lambda: broker.visits >= 3)
    assert broker.visits < 8
    assert [record.levelname for record in caplog.records] == ["ERROR"] and "Give username" in caplog.text


def test_a_broker_that_lets_in_and_hangs_up_is_not_stormed() -> None:
    backoff = Backoff(first_s=0.05, longest_s=30, refused_s=30, steady_s=5)
    with (
        Babbler(says(WELCOME, bytes([0xE0, 2])), hang_up=True) as broker,
        connected(broker.port, backoff) as connection,
    ):
        wait_until(lambda: broker.visits >= 4)
        time.sleep(0.5)
        assert broker.visits <= 8 and connection.phase in (Phase.WAITING, Phase.CONNECTING)
        assert "no other client calls itself avdrift-stage" in str(connection.problem)


def test_random_bytes_for_ever_leave_everything_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    chance = random.Random(5)
    threads, files = threading.active_count(), psutil.Process().num_fds()

    def rubbish(_: bytes) -> bytes:
        return (WELCOME if chance.random() < 0.5 else b"") + chance.randbytes(chance.randint(1, 300))

    with (
        Babbler(rubbish, times=20, hang_up=True) as broker,
        connected(broker.port, Backoff(0.001, 0.002, 0.002, 1)) as connection,
    ):
        wait_until(lambda: broker.visits >= 200, "200 attempts")
        assert connection.phase is not Phase.STOPPED
    wait_until(lambda: threading.active_count() <= threads + 1, "the end of the threads")
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) < 60
    wait_until(lambda: psutil.Process().num_fds() <= files + 5, "closed files")


def test_a_broker_that_wants_all_memory_does_not_get_it() -> None:
    before = psutil.Process().memory_info().rss
    head = bytes([0x30, 0xFF, 0xFF, 0xFF, 0x7F])  # a message of 256 MB
    with (
        Babbler(lambda _: WELCOME + head + bytes(1_000_000), times=100) as broker,
        connected(broker.port, Backoff(0.01, 0.02, 0.02, 1)),
    ):
        wait_until(lambda: broker.visits >= 5)
    assert psutil.Process().memory_info().rss - before < 50e6


def test_a_broker_that_says_nothing_does_not_hold_up_the_end() -> None:
    with Babbler(says(b"")) as broker, connected(broker.port) as connection:
        wait_until(lambda: broker.visits)
        phases, began_s = [connection.phase], time.monotonic()
        connection.stop()
        assert time.monotonic() - began_s < 5
        assert [*phases, connection.phase] == [Phase.CONNECTING, Phase.STOPPED]


def test_a_broker_that_acknowledges_nothing_is_left(caplog: pytest.LogCaptureFixture) -> None:
    def answer(said: bytes) -> bytes:
        return WELCOME if said[0] == 0x10 else PONG if PING in said else b""

    with Babbler(answer) as broker, connected(broker.port, keepalive_s=2):
        wait_until(lambda: broker.visits >= 2, "another attempt")
    assert "acknowledges none" in caplog.text


@needs_mosquitto
def test_many_packets_in_one_piece_of_tls_are_all_heard_at_once(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    signed = authority.sign("babbler")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(signed.certificate, signed.key)
    message = bytes([0x30, 6, 0, 2]) + b"ab" + bytes([0]) + b"x"  # to `ab`, without properties
    heard: list[tuple[str, bytes, bool]] = []
    with Babbler(lambda said: (WELCOME + message * 50) if said[0] == 0x10 else b"", tls=tls) as broker:
        access = Access("127.0.0.1", broker.port, "c", 30, tls=True, ca_file=authority.certificate)
        connection = Connection(
            access, Outbox(1), Presence(TOPIC), ["ab"], lambda *what: heard.append(what), FAST
        )  # fmt: skip
        connection.start()
        # A packet a turn would take most of a minute.
        wait_until(lambda: len(heard) == 50, f"50 messages ({len(heard)}, {connection.problem})", within_s=20)
        connection.stop()
    assert set(heard) == {("ab", b"x", False)}


def test_a_broker_that_never_says_that_we_are_in_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_CONNACK_TIMEOUT_S", 0.2)
    with Babbler(says(b"")) as broker, connected(broker.port) as connection:
        wait_until(lambda: broker.visits >= 2, "another attempt")
        assert "does not answer" in str(connection.problem)


def test_a_bell_rings_without_anybody_listening_and_after_its_end() -> None:
    wakeup = Wakeup()
    for _ in range(100_000):
        wakeup.ring()
    assert wakeup.wait(0.0) is False
    began_s = time.monotonic()
    threading.Timer(0.1, wakeup.ring).start()
    wakeup.wait(20.0)
    assert time.monotonic() - began_s < 15
    near, far = socket.socketpair()
    far.send(b"x")
    assert wakeup.wait(20.0, near) is True
    near.close()
    far.close()
    wakeup.close()
    wakeup.close()
    wakeup.ring()
