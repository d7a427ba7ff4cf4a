"""The sink with a real mosquitto: what a reader sees before, during and after failures of a broker."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from device.config.settings import MqttSettings
from device.records import Command
from device.telemetry.mqtt.connection import Phase
from device.telemetry.mqtt.sink import MqttSink
from tests.brokers import (
    FAST,
    ROOT_TOPIC,
    Mosquitto,
    Reader,
    event,
    free_port,
    health,
    info,
    needs_mosquitto,
    report,
    settings,
    silent,
    wait_until,
)
from tests.certificates import Authority
from tests.device.telemetry.mqtt.rough_network import Manner, Way
from tests.scenes import ROOT

pytestmark = needs_mosquitto


@contextmanager
def sink_on(port: int, folder: Path = Path(), **more: Any) -> Iterator[MqttSink]:
    sink = MqttSink(settings(port, **more), report_every_s=1.0, folder=folder, backoff=FAST)
    try:
        yield sink
    finally:
        sink.close()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as started:
        yield started


@pytest.fixture
def reader(broker: Mosquitto) -> Iterator[Reader]:
    with Reader(broker.port) as started:
        yield started.ready(broker)


def online(sink: MqttSink) -> None:
    wait_until(lambda: sink.phase is Phase.ONLINE, f"the connection ({sink.problem})")


def all_read(reader: Reader, seqs: range) -> None:
    """Each event at least once, and in order when what came twice is left out."""
    wait_until(lambda: set(seqs) <= set(reader.seqs()), f"events {seqs} among {reader.seqs()[-30:]}")
    assert list(dict.fromkeys(reader.seqs())) == list(seqs)
    payloads = [json.loads(payload) for payload in reader.of("event")]
    assert len({json.dumps(payload) for payload in payloads}) == len(seqs), "what comes twice is the same"


# What a reader sees


def test_a_reader_who_comes_late_is_given_everything_retained(broker: Mosquitto) -> None:
    with sink_on(broker.port) as sink:
        sink.report(report(1))
        sink.report(report(2))
        sink.health(health())
        sink.info(info())
        sink.event(event(1))
        online(sink)
        wait_until(lambda: len(broker.retained("avdrift/#")) == 4)
        found = broker.retained()
    assert set(found) == {
        f"{ROOT_TOPIC}/{name}" for name in ("availability", "state", "health", "info")
    } | {"homeassistant/device/avdrift_stage/config"}  # fmt: skip
    assert found[f"{ROOT_TOPIC}/availability"] == "online"
    assert json.loads(found[f"{ROOT_TOPIC}/state"]) == report(2).to_dict()
    assert json.loads(found[f"{ROOT_TOPIC}/health"]) == health().to_dict()
    assert json.loads(found[f"{ROOT_TOPIC}/info"]) == info().to_dict()
    assert broker.retained(f"{ROOT_TOPIC}/availability")[f"{ROOT_TOPIC}/availability"] == "stopped"


def test_unknown_is_null_and_what_is_no_number_is_not_sent(
    broker: Mosquitto, reader: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    with sink_on(broker.port) as sink:
        sink.report(silent(1, fault="camera_lost"))
        wait_until(lambda: reader.of("state"))
        state = json.loads(reader.of("state")[0])
        assert state["offset_ms"] is None and state["fault"] == "camera_lost" and state["verdict"] == "unknown"
        sink.report(report(2, offset_ms=float("nan")))
        sink.report(report(3))
        wait_until(lambda: len(reader.of("state")) == 2)
    assert json.loads(reader.of("state")[1])["seq"] == 3 and "not JSON" in caplog.text


def test_topics_and_discovery_are_as_configured(broker: Mosquitto) -> None:
    with sink_on(broker.port, node="hall", topic_prefix="av/one", discovery_prefix="") as sink:
        sink.report(report())
        online(sink)
        wait_until(lambda: len(broker.retained()) == 2)
        assert set(broker.retained()) == {"av/one/hall/availability", "av/one/hall/state"}


def test_without_a_host_it_does_nothing(caplog: pytest.LogCaptureFixture) -> None:
    before = threading.active_count()
    sink = MqttSink(MqttSettings(), report_every_s=1.0)
    sink.report(report())
    sink.event(event(1))
    sink.health(health())
    sink.info(info())
    assert threading.active_count() == before and sink.phase is Phase.OFF and sink.problem is None
    sink.close()
    assert sink.events_lost == 0 and not caplog.records


# Availability

CHILD = """
import sys, time
from device.telemetry.mqtt.sink import MqttSink
from tests.brokers import event, report, settings
sink = MqttSink(settings(int(sys.argv[1])), report_every_s=1.0)
sink.report(report())
sys.stdin.readline()
sink.event(event(1))
sink.close()
"""


def child(port: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", CHILD, str(port)], cwd=ROOT, stdin=subprocess.PIPE)


def test_stopped_after_a_clean_stop_offline_after_a_kill(broker: Mosquitto, reader: Reader) -> None:
    process = child(broker.port)
    wait_until(lambda: reader.of("availability") == ["online"])
    process.communicate(b"\n", timeout=30)
    wait_until(lambda: reader.of("availability") == ["online", "stopped"])
    assert reader.seqs() == [1], "what waits goes before the goodbye"
    process = child(broker.port)
    wait_until(lambda: reader.of("availability")[2:] == ["online"])
    process.kill()
    wait_until(lambda: reader.of("availability")[3:] == ["offline"])
    process.communicate(timeout=30)
    time.sleep(0.2)
    assert reader.of("availability") == ["online", "stopped", "online", "offline"]
    assert broker.retained("avdrift/#")[f"{ROOT_TOPIC}/availability"] == "offline"


def test_a_clean_stop_in_the_middle_of_many_events_is_one_all_the_same(broker: Mosquitto, reader: Reader) -> None:
    made = lost = 0
    for _ in range(5):
        with sink_on(broker.port) as sink:
            online(sink)
            for _ in range(60):
                sink.event(event(made))
                made += 1
        lost += sink.events_waiting
        wait_until(lambda: reader.of("availability")[-1:] != ["online"])
    assert reader.of("availability") == ["online", "stopped"] * 5
    assert made - lost <= len(set(reader.seqs())) <= made, "neither read nor said to be lost"


def test_two_devices_of_one_name_are_reported(broker: Mosquitto, caplog: pytest.LogCaptureFixture) -> None:
    with sink_on(broker.port) as first:
        online(first)
        with sink_on(broker.port) as second:
            wait_until(lambda: "other client calls itself avdrift-stage" in caplog.text)
            wait_until(lambda: second.phase in (Phase.ONLINE, Phase.WAITING, Phase.REFUSED))


def test_closing_takes_less_than_a_second_whatever_the_broker_does(broker: Mosquitto) -> None:
    def closed_after(sink: MqttSink) -> float:
        began_s = time.monotonic()
        sink.close()
        sink.close()
        sink.report(report())
        sink.event(event(1))
        assert sink.phase is Phase.STOPPED
        return time.monotonic() - began_s

    with sink_on(free_port()) as away:
        wait_until(lambda: away.problem)
        assert closed_after(away) < 2
    with sink_on(broker.port) as hung:
        online(hung)
        broker.signal(signal.SIGSTOP)
        for number in range(100):
            hung.event(event(number))
        assert closed_after(hung) < 3  # one, but for the load of a test machine
        broker.signal(signal.SIGCONT)


# What happens to brokers


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_event_is_lost_when_the_broker_is_restarted_or_killed(
    broker: Mosquitto, reader: Reader, number: signal.Signals
) -> None:
    with sink_on(broker.port) as sink:
        for round_ in range(3):
            for seq in range(round_ * 20, round_ * 20 + 10):
                sink.event(event(seq))
            # Read before the broker dies: what it has acknowledged and not yet given on is its own affair.
            wait_until(lambda: reader.seqs()[-1:] == [seq])  # noqa: B023
            broker.stop(number)
            for seq in range(round_ * 20 + 10, round_ * 20 + 20):
                sink.event(event(seq))
                sink.report(report(seq))
            time.sleep(0.2)
            broker.start()
            wait_until(lambda: reader.seqs()[-1:] == [seq])  # noqa: B023
        all_read(reader, range(60))
        assert sink.events_lost == 0
        wait_until(lambda: json.loads(reader.of("state")[-1])["seq"] == 59)
        assert broker.retained(ROOT_TOPIC + "/availability")[f"{ROOT_TOPIC}/availability"] == "online"


def test_everything_needed_is_said_again_on_each_connection(tmp_path: Path) -> None:
    port = free_port()
    with Mosquitto(tmp_path / "one", port=port) as first, sink_on(port) as sink:
        sink.report(report(5))
        sink.health(health())
        sink.info(info())
        online(sink)
        wait_until(lambda: len(first.retained()) == 5)
        before = first.retained()
        first.stop()
        # Another broker, which has never heard of anything.
        with Mosquitto(tmp_path / "two", port=port) as second:
            wait_until(lambda: len(second.retained()) == 5)
            assert second.retained() == before


def test_of_states_only_the_newest_goes_out_after_an_absence(broker: Mosquitto, reader: Reader) -> None:
    with sink_on(broker.port) as sink:
        sink.report(report(0))
        wait_until(lambda: len(reader.of("state")) == 1)
        broker.stop()
        for seq in range(1, 500):
            sink.report(report(seq))
        broker.start()
        wait_until(lambda: any(json.loads(state)["seq"] == 499 for state in reader.of("state")))
        assert {json.loads(state)["seq"] for state in reader.of("state")} == {0, 499}


def test_a_full_queue_loses_the_oldest_and_counts_them(broker: Mosquitto, reader: Reader) -> None:
    broker.stop()
    with sink_on(broker.port, queue_events=100) as sink:
        for seq in range(250):
            sink.event(event(seq))
        assert sink.events_lost == 150
        broker.start()
        all_read(reader, range(150, 250))
        assert sink.events_lost == 150


@pytest.mark.parametrize("manner", [Manner.SLOW, Manner.GARBAGE, Manner.SWALLOWING, Manner.REFUSING])
def test_a_bad_way_to_the_broker_loses_nothing_and_holds_up_nobody(
    broker: Mosquitto, reader: Reader, manner: Manner
) -> None:
    with Way(broker.port, delay_s=0.3) as way, sink_on(way.port, keepalive_s=5) as sink:
        online(sink)
        seq, longest_s = 0, 0.0
        for becoming in (Manner.FAIR, manner, Manner.FAIR):
            way.become(becoming)
            if becoming is Manner.FAIR and manner is Manner.SWALLOWING:
                way.cut()
            for _ in range(25):
                began_s = time.monotonic()
                sink.event(event(seq))
                sink.report(report(seq))
                longest_s = max(longest_s, time.monotonic() - began_s)
                seq += 1
                time.sleep(0.02)
        all_read(reader, range(seq))
        assert sink.events_lost == 0 and longest_s < 1.0


def test_memory_and_threads_stay_as_they_are_while_nobody_is_there() -> None:
    with sink_on(free_port()) as sink:
        for seq in range(5000):
            sink.event(event(seq))
        before, threads = psutil.Process().memory_info().rss, threading.active_count()
        for seq in range(20_000):
            sink.event(event(seq))
            sink.report(report(seq))
            sink.health(health())
        assert psutil.Process().memory_info().rss - before < 10e6 and threading.active_count() == threads
        assert sink.events_lost == 25_000 - 3600


# Who may come in

PASSWORDS = "allow_anonymous false\npassword_file {folder}/passwords\n"


def with_password(folder: Path, more: str = "") -> Mosquitto:
    folder.mkdir(parents=True)
    subprocess.run(["mosquitto_passwd", "-c", "-b", str(folder / "passwords"), "me", "Pa55-true"], check=True)
    (folder / "passwords").chmod(0o600)
    return Mosquitto(folder, PASSWORDS.format(folder=folder) + more)


def test_a_wrong_password_is_said_and_the_right_one_is_taken_without_a_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "pw").write_text("Pa55-false\n")
    (tmp_path / "pw").chmod(0o600)
    with (
        with_password(tmp_path / "broker") as broker,
        sink_on(broker.port, tmp_path, username="me", password_file="pw") as sink,
    ):
        wait_until(lambda: sink.phase is Phase.REFUSED)
        time.sleep(1)
        assert sink.problem and "does not let the user me in" in sink.problem and str(tmp_path / "pw") in sink.problem
        assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1
        (tmp_path / "pw").unlink()
        wait_until(lambda: sink.problem and "No such file" in sink.problem)
        (tmp_path / "pw").write_text("Pa55-true\n")
        online(sink)
        assert "Pa55" not in caplog.text, "a password in the log"


def test_what_the_broker_does_not_let_us_write_is_said_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    acl = tmp_path / "acl"
    acl.write_text("user me\ntopic write avdrift/stage/state\ntopic read avdrift/stage/cmd/+\n")
    acl.chmod(0o600)
    (tmp_path / "pw").write_text("Pa55-true")
    broker = with_password(tmp_path / "broker", f"acl_file {acl}\n")
    with broker, sink_on(broker.port, tmp_path, username="me", password_file="pw") as sink:
        sink.event(event(1))
        sink.event(event(2))
        sink.report(report())
        # mosquitto 2.0.11 hangs up at each refusal, so it takes a connection for each topic.
        wait_until(lambda: sink.events_lost == 1)
        wait_until(lambda: "Received PUBLISH from avdrift-stage (d0, q1, r1, m" in broker.log)
        online(sink)
        for name in ("homeassistant/device/avdrift_stage/config", "avdrift/stage/availability", "avdrift/stage/event"):
            said = f"refuses {name} (not authorized)"
            wait_until(lambda said=said: said in caplog.text)  # type: ignore[misc]
            assert caplog.text.count(said) == 1


def test_a_message_that_the_broker_finds_too_long_is_not_sent_for_ever(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Mosquitto(tmp_path, "allow_anonymous true\nmax_packet_size 2000") as broker, sink_on(broker.port) as sink:
        sink.event(event(1, about="x" * 3000))
        sink.event(event(2))
        online(sink)
        wait_until(lambda: sink.events_lost == 1)
        wait_until(lambda: broker.retained("avdrift/#"))
        assert "so nothing for avdrift/stage/event" in caplog.text and sink.phase is Phase.ONLINE
        assert "so nothing for homeassistant/device/avdrift_stage/config" in caplog.text


# TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def tls(folder: Path, authority: Authority, days: int = 1, names: str = "IP:127.0.0.1", more: str = "") -> Mosquitto:
    signed = authority.sign(f"broker{abs(hash((folder, days, names))) % 10**6}", days=days, names=names)
    lines = f"cafile {authority.certificate}\ncertfile {signed.certificate}\nkeyfile {signed.key}\n"
    return Mosquitto(folder, f"allow_anonymous true\n{lines}{more}")


def test_tls_with_a_private_authority(tmp_path: Path, authority: Authority) -> None:
    with (
        tls(tmp_path, authority) as broker,
        sink_on(broker.port, tls=True, ca_file=str(authority.certificate)) as sink,
    ):
        for seq in range(200):
            sink.event(event(seq))
        online(sink)
        wait_until(lambda: broker.log.count("avdrift/stage/event") >= 200)
        sink.close()
        wait_until(lambda: "Received DISCONNECT from avdrift-stage" in broker.log)
        assert sink.events_lost == 0


@pytest.mark.parametrize(
    ("days", "names", "trusted", "words"),
    [
        (-1, "IP:127.0.0.1", True, "its certificate has expired"),
        (1, "DNS:elsewhere.lan", True, "its certificate is not for 127.0.0.1"),
        (1, "IP:127.0.0.1", False, "its certificate is not trusted"),
    ],
)
def test_brokers_certificates_that_are_no_good(
    tmp_path: Path, authority: Authority, days: int, names: str, trusted: bool, words: str
) -> None:
    ca = authority if trusted else Authority(tmp_path, "stranger")
    with (
        tls(tmp_path / "broker", authority, days, names) as broker,
        sink_on(broker.port, tls=True, ca_file=str(ca.certificate)) as sink,
    ):
        wait_until(lambda: sink.phase is Phase.REFUSED)
        assert sink.problem and words in sink.problem and f"127.0.0.1:{broker.port}" in sink.problem


def test_plain_text_to_a_tls_port_and_the_reverse(tmp_path: Path, broker: Mosquitto, authority: Authority) -> None:
    with sink_on(broker.port, tls=True, ca_file=str(authority.certificate)) as sink:
        wait_until(lambda: sink.problem)
        assert "TLS" in str(sink.problem) or "cannot be reached" in str(sink.problem), sink.problem
    with tls(tmp_path / "tls", authority) as other, sink_on(other.port) as sink:
        wait_until(lambda: sink.problem)
        assert "set tls = true" in str(sink.problem), sink.problem


def test_client_certificates(tmp_path: Path, authority: Authority) -> None:
    files: dict[str, Any]
    good, old = authority.sign("good-client"), authority.sign("old-client", days=-1)
    broker = tls(tmp_path / "broker", authority, more="require_certificate true\n")
    more: dict[str, Any] = {"tls": True, "ca_file": str(authority.certificate)}
    with broker:
        with sink_on(broker.port, **more) as sink:
            wait_until(lambda: sink.phase is Phase.REFUSED, f"refusal ({sink.problem})")
            assert "give client_cert_file" in str(sink.problem)
        files = {"client_cert_file": str(old.certificate), "client_key_file": str(old.key)}
        with sink_on(broker.port, **more, **files) as sink:
            wait_until(lambda: sink.phase is Phase.REFUSED, f"refusal ({sink.problem})")
            assert f"refused the certificate {old.certificate}" in str(sink.problem)
        files = {"client_cert_file": str(good.certificate), "client_key_file": str(good.key)}
        with sink_on(broker.port, **more, **files) as sink:
            online(sink)


# What comes from the broker


def test_commands_run_and_their_results_come_back(broker: Mosquitto, reader: Reader) -> None:
    taken: list[Command] = []

    def carry_out(command: Command) -> None:
        taken.append(command)
        reply: Callable[[], None] = lambda: command.reply({"ok": True, "error": None, **command.args})  # noqa: E731
        threading.Thread(target=reply).start()

    with sink_on(broker.port) as sink:
        sink.submit_to(carry_out)
        online(sink)
        broker.publish(f"{ROOT_TOPIC}/cmd/set-profile", '{"profile": "ebu-r37", "id": 9}')
        wait_until(lambda: reader.of("cmd/set-profile/result"))
        result = json.loads(reader.of("cmd/set-profile/result")[0])
        assert result == {"verb": "set-profile", "id": 9, "ok": True, "error": None, "profile": "ebu-r37"}
        broker.publish(f"{ROOT_TOPIC}/cmd/restart-sources", None)
        broker.publish(f"{ROOT_TOPIC}/cmd/reboot", "{}")
        wait_until(lambda: reader.of("cmd/reboot/result") and reader.of("cmd/restart-sources/result"))
        assert "no such command" in json.loads(reader.of("cmd/reboot/result")[0])["error"]
        assert [command.verb.value for command in taken] == ["set-profile", "restart-sources"]
    assert not [topic for topic in broker.retained() if "/cmd/" in topic], "a retained result"


def test_a_broker_gives_only_the_commands_that_the_setting_allows(broker: Mosquitto, reader: Reader) -> None:
    taken: list[Command] = []
    with sink_on(broker.port, commands=MqttSettings().commands) as sink:
        sink.submit_to(taken.append)
        online(sink)
        broker.publish(f"{ROOT_TOPIC}/cmd/model-rollback", "{}")
        wait_until(lambda: reader.of("cmd/model-rollback/result"))
        assert "commands under [mqtt] is read" in reader.of("cmd/model-rollback/result")[0]
        broker.publish(f"{ROOT_TOPIC}/cmd/diagnostics", "{}")
        wait_until(lambda: taken)
    assert [command.verb.value for command in taken] == ["diagnostics"]
    with sink_on(broker.port, commands="off", discovery_prefix="") as sink:
        sink.submit_to(taken.append)
        online(sink)
        broker.publish(f"{ROOT_TOPIC}/cmd/diagnostics", "{}")
        sink.report(report())
        wait_until(lambda: reader.of("state"))
    assert len(taken) == 1


def test_retained_commands_never_run_neither_now_nor_at_the_next_connection(broker: Mosquitto, reader: Reader) -> None:
    taken: list[Command] = []
    broker.publish(f"{ROOT_TOPIC}/cmd/recalibrate", "{}", retain=True)
    with sink_on(broker.port) as sink:
        sink.submit_to(taken.append)
        online(sink)
        broker.publish(f"{ROOT_TOPIC}/cmd/model-rollback", "{}", retain=True)
        wait_until(lambda: reader.of("cmd/model-rollback/result"))
        assert "retain flag" in reader.of("cmd/model-rollback/result")[0]
        broker.stop()
        broker.start()
        wait_until(lambda: len(reader.of("availability")) >= 3)
        online(sink)
        broker.publish(f"{ROOT_TOPIC}/cmd/diagnostics", "{}")
        wait_until(lambda: taken)
    assert [command.verb.value for command in taken] == ["diagnostics"]


def test_home_assistants_birth_brings_everything_again(broker: Mosquitto, reader: Reader) -> None:
    with sink_on(broker.port) as sink:
        sink.report(report())
        sink.info(info())
        online(sink)
        wait_until(lambda: len(reader.of("info")) == 1 and reader.of("availability"))
        for _ in range(5):
            broker.publish("homeassistant/status", "online")
        broker.publish("homeassistant/status", "offline")
        wait_until(lambda: len(reader.of("info")) == 2 and len(reader.of("availability")) == 2)
        time.sleep(0.5)
        assert len(reader.of("info")) == 2, "once for all births in a row"
        discovered = [line for line in reader.lines if line.topic.startswith("homeassistant/device/")]
        assert json.loads(discovered[-1].payload)["components"]["offset"]["unit_of_measurement"] == "ms"


def test_garbage_on_the_command_topics_changes_nothing(broker: Mosquitto, reader: Reader) -> None:
    taken: list[Command] = []
    with sink_on(broker.port) as sink:
        sink.submit_to(taken.append)
        online(sink)
        for payload in ("[" * 3000, "\x01\x02", "x" * 60_000, '{"id": "' + "9" * 2000 + '"}'):
            broker.publish(f"{ROOT_TOPIC}/cmd/recalibrate", payload)
        broker.publish("homeassistant/status", "x" * 60_000)
        broker.publish(f"{ROOT_TOPIC}/cmd/{'y' * 500}", "{}")
        wait_until(lambda: len(reader.of("cmd/recalibrate/result")) == 4 and reader.of("cmd/unknown/result"))
        assert sink.phase is Phase.ONLINE and not taken
        assert sink.events_lost == 0
