"""From options and configuration to a stream, without leaking a password."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from device.capture.streams.inputs import FromAddress
from device.cli import build_parser
from device.commands.options.source import chosen_stream
from device.config.settings import Config, SourceSettings
from device.errors import UsageError
from device.runtime.inputs.sources import CREDENTIAL, address_input


def asked(*words: str, config: Config | None = None, folder: Path = Path()) -> FromAddress | None:
    found = chosen_stream(build_parser().parse_args(["run", *words]), config or Config(), folder)
    assert found is None or isinstance(found, FromAddress)
    return found


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("S3cr3t/\n")
    return tmp_path / "secret"


def test_recordings_and_devices_are_no_streams() -> None:
    assert asked() is None and asked("--source", "talk.mkv") is None


def test_a_configured_stream_with_its_password(secret: Path) -> None:
    source = SourceSettings(url="rtsps://camera/1", username="me", password_file="secret", transport="udp")
    found = asked(config=Config(source=source), folder=secret.parent)
    assert found is not None and found.transport == "udp"
    assert found.address.url == "rtsps://me:S3cr3t%2F@camera/1" and "S3cr3t" not in repr(found) + found.name


def test_the_password_of_the_service_s_credential(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(secret.parent))
    assert "S3" not in address_input(SourceSettings(url="rtsp://camera/1"), Path()).address.url  # type: ignore[attr-defined]
    secret.rename(secret.with_name(CREDENTIAL))
    found = address_input(SourceSettings(url="srt://host:9?passphrase={password}"), Path())
    assert isinstance(found, FromAddress) and found.address.url.endswith("passphrase=S3cr3t%2F")


def test_a_password_is_given_to_the_server_that_it_is_for(secret: Path) -> None:
    config = Config(source=SourceSettings(url="rtsp://camera/1", username="me", password_file="secret"))
    other = asked("--source", "rtsp://other/1", config=config, folder=secret.parent)
    assert other is not None and other.address.url == "rtsp://other/1"
    mine = asked("--source", "rtsp://other/1", "--username", "me", "--password-file", str(secret), config=config)
    assert mine is not None and mine.address.url == "rtsp://me:S3cr3t%2F@other/1"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--source", "rtsp://me:S3cr3t@camera/1"), "all users of this machine"),
        (("--source", "ftp://camera/1"), "not a supported kind of address"),
        (("--source", "rtsp://camera/1", "--follow"), "--follow needs a recording"),
        (("--follow",), "--follow needs a recording"),
        (("--source", "rtsp://camera/1", "--username", "me", "--password-file", "/nowhere"), "no password"),
    ],
)
def test_what_cannot_be_is_refused_without_a_secret(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        asked(*words)
    assert "S3cr3t" not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"\n", b"a\x00b", b"\xff\xfe", b"x" * 5000])
def test_a_file_without_a_password(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "secret").write_bytes(content)
    source = SourceSettings(url="rtsp://camera/1", username="me", password_file="secret")
    with pytest.raises(UsageError, match="no password"):
        address_input(source, tmp_path)


def test_a_password_in_a_configuration_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError, match="url is 'rtsp://camera/…', allowed is an address") as refused:
        SourceSettings(url="rtsp://me:S3cr3t@camera/1")
    assert "S3cr3t" not in str(refused.value)


def test_standard_input_is_nobody_else_s_any_more() -> None:
    from device.runtime.inputs.sources import standard_input

    reading, writing = os.pipe()
    kept = os.dup(0)
    try:
        os.dup2(reading, 0)
        source = standard_input()
        os.write(writing, b"x")
        assert os.read(0, 1) == b"" and source.name == "standard input"
    finally:
        os.dup2(kept, 0)
        for descriptor in (reading, writing, kept):
            os.close(descriptor)
