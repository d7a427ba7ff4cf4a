"""Access to a broker: names, passwords, certificates, and a message for each refusal."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from device.config.settings import MqttSettings
from device.errors import TransportError
from device.telemetry.mqtt.access import Access, access, broker_refusal, explained, node_name, tls_refusal
from tests.brokers import needs_mosquitto
from tests.certificates import Authority

HERE = Access("broker.lan", 1883, "avdrift-stage", 30)


@pytest.mark.parametrize(
    ("host", "node"),
    [("stage", "stage"), ("stage.lan", "stage"), ("bühne 1#", "b-hne-1-"), ("", "avdrift"), ("x" * 90, "x" * 64)],
)
def test_the_node_is_the_hosts_name_made_safe(host: str, node: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    assert node_name(MqttSettings()) == node
    assert node_name(MqttSettings(node="hall_2")) == "hall_2"


@pytest.mark.parametrize(("more", "port"), [({}, 1883), ({"tls": True}, 8883), ({"tls": True, "port": 1884.0}, 1884)])
def test_the_port_follows_from_tls_unless_it_is_given(more: dict[str, bool | float], port: int) -> None:
    settings = MqttSettings(host="b", **more)  # type: ignore[arg-type]
    made = access(settings, "stage", Path())
    assert made.port == port and type(made.port) is int and made.client_id == "avdrift-stage"


def test_paths_begin_at_the_configurations_folder(tmp_path: Path) -> None:
    settings = MqttSettings(
        host="b", tls=True, ca_file="ca.pem", client_cert_file="a/c.pem", client_key_file="/etc/k", username="u",
        password_file="pw",
    )  # fmt: skip
    made = access(settings, "n", tmp_path)
    assert (made.ca_file, made.client_cert_file) == (tmp_path / "ca.pem", tmp_path / "a" / "c.pem")
    assert (made.client_key_file, made.password_file) == (Path("/etc/k"), tmp_path / "pw")


# Passwords


def with_password(file: Path | None, username: str = "me") -> Access:
    return Access("b", 1883, "c", 30, username=username, password_file=file)


@pytest.mark.parametrize("text", ["s3cret", "s3cret\n", "s3cret\r\n"])
def test_a_password_is_a_file_without_its_line_break(tmp_path: Path, text: str) -> None:
    (tmp_path / "pw").write_bytes(text.encode())
    assert with_password(tmp_path / "pw").password() == "s3cret"
    assert with_password(tmp_path / "pw", username="").password() is None
    assert with_password(None).password() is None


@pytest.mark.parametrize(
    ("content", "word"), [(b"", "empty"), (b"\n", "empty"), (b"x" * 70_000, "endless"), (b"\xff\xfe", "not UTF-8")]
)
def test_what_is_no_password(tmp_path: Path, content: bytes, word: str) -> None:
    (tmp_path / "pw").write_bytes(content)
    with pytest.raises(TransportError, match=word) as caught:
        with_password(tmp_path / "pw").password()
    assert str(tmp_path / "pw") in str(caught.value) and "MQTT user me" in str(caught.value)


def test_a_password_file_that_cannot_be_read(tmp_path: Path) -> None:
    for place, word in ((tmp_path / "none", "No such file"), (tmp_path, "directory")):
        with pytest.raises(TransportError, match=word):
            with_password(place).password()


def test_the_services_credential_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = MqttSettings(host="b", username="me")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert access(settings, "n", Path()).password() is None
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert access(settings, "n", Path()).password() is None, "a credential that was not given is none"
    (tmp_path / "mqtt-password").write_text("from systemd\n")
    assert access(settings, "n", Path()).password() == "from systemd"
    (tmp_path / "own").write_text("own\n")
    own = MqttSettings(host="b", username="me", password_file=str(tmp_path / "own"))
    assert access(own, "n", Path()).password() == "own"


# Certificates


@needs_mosquitto
def test_certificates_are_loaded_and_old_tls_is_not_spoken(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    client = authority.sign("client")
    made = Access(
        "b", 8883, "c", 30, tls=True, ca_file=authority.certificate, client_cert_file=client.certificate,
        client_key_file=client.key,
    )  # fmt: skip
    context = made.context()
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2 and context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED and len(context.get_ca_certs()) == 1
    assert Access("b", 8883, "c", 30, tls=True).context().check_hostname


@needs_mosquitto
def test_certificate_files_that_are_no_good(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    client, other = authority.sign("client"), authority.sign("other")
    (tmp_path / "text").write_text("no certificate")
    locked = tmp_path / "locked.key"
    command = ["openssl", "rsa", "-in", str(client.key), "-aes128", "-passout", "pass:x", "-out", str(locked)]
    subprocess.run(command, check=True, capture_output=True)

    def problem(ca: Path | None = None, certificate: Path | None = None, key: Path | None = None) -> str:
        made = Access("b", 1, "c", 30, tls=True, ca_file=ca, client_cert_file=certificate, client_key_file=key)
        with pytest.raises(TransportError) as caught:
            made.context()
        assert explained(caught.value, made).refused
        return str(caught.value)

    assert "No such file" in problem(ca=tmp_path / "none") and "none" in problem(ca=tmp_path / "none")
    assert "not a PEM file" in problem(ca=tmp_path / "text")
    assert "text" in problem(certificate=tmp_path / "text", key=client.key)
    assert "does not fit" in problem(certificate=client.certificate, key=other.key)
    assert "No such file" in problem(certificate=client.certificate, key=tmp_path / "none")
    # Without a terminal to ask at, and without waiting for one.
    assert "encrypted" in problem(certificate=client.certificate, key=locked)


# Words


@pytest.mark.parametrize(
    ("error", "refused", "words"),
    [
        (ConnectionRefusedError(111, "Connection refused"), False, "cannot be reached (Connection refused)"),
        (TimeoutError("timed out"), False, "cannot be reached (no answer)"),
        (OSError(113, os.strerror(113)), False, "cannot be reached (No route to host)"),
        (socket.gaierror(-2, "Name or service not known"), False, "the name broker.lan cannot be resolved (Name or"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), True, "does not speak TLS"),
        (ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] x"), True, "(certificate required)"),
        (IndexError("index out of range"), False, "sent something that is not MQTT 5"),
    ],
)
def test_what_goes_wrong_is_said_with_the_broker_and_a_remedy(error: Exception, refused: bool, words: str) -> None:
    ended = explained(error, HERE)
    assert ended.refused is refused and words in str(ended.error)
    assert str(ended.error).startswith("MQTT broker broker.lan:1883: ") and ended.error.remedy


@pytest.mark.parametrize(
    ("name", "refused", "words"),
    [
        ("Bad user name or password", True, "does not let somebody without a user name in"),
        ("Not authorized", True, "Give username"),
        ("Unsupported protocol version", True, "does not speak MQTT 5"),
        ("Session taken over", True, "another client calls itself avdrift-stage"),
        ("Server busy", False, "ended the connection (server busy)"),
        ("Server shutting down", False, "server shutting down"),
    ],
)
def test_the_brokers_reasons_in_words(name: str, refused: bool, words: str) -> None:
    ended = broker_refusal(name, HERE)
    assert ended.refused is refused and words in str(ended.error)


def test_alerts_name_our_certificate_where_there_is_one() -> None:
    ours = Access("b", 1, "c", 30, tls=True, client_cert_file=Path("c.pem"), client_key_file=Path("c.key"))
    ended = tls_refusal("failed to receive on socket: [SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca", ours)
    assert ended and ended.refused and "refused the certificate c.pem (unknown ca)" in str(ended.error)
    assert tls_refusal("failed to receive on socket: [Errno 104] Connection reset by peer", ours) is None


@pytest.mark.parametrize(
    ("host", "tls", "mode", "words"),
    [
        ("broker", False, 0o600, ["plain text"]),
        ("broker", True, 0o600, []),
        ("localhost", False, 0o600, []),
        ("127.0.0.1", False, 0o600, []),
        ("::1", False, 0o604, ["chmod o-r"]),
        ("192.168.1.2", False, 0o644, ["plain text", "chmod o-r"]),
    ],
)
def test_what_is_unwise_with_a_password(host: str, tls: bool, mode: int, words: list[str], tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("s3cret")
    (tmp_path / "pw").chmod(mode)
    how = Access(host, 1883, "c", 30, tls=tls, username="me", password_file=tmp_path / "pw")
    found = [str(warning) for warning in how.warnings()]
    assert len(found) == len(words) and all(word in text for word, text in zip(words, found, strict=True))
    assert not Access(host, 1883, "c", 30).warnings()


def test_a_refusal_asks_only_for_what_was_not_given(tmp_path: Path) -> None:
    refused = "Bad user name or password"
    for how, word in (
        (Access("b", 1, "c", 30), "Give username"),
        (Access("b", 1, "c", 30, username="me"), "Give the password of me"),
        (Access("b", 1, "c", 30, username="me", password_file=tmp_path / "pw"), f"the password in {tmp_path / 'pw'}"),
    ):
        assert word in broker_refusal(refused, how).error.remedy
