"""Addresses: which are accepted, and that their secrets are never shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.addresses import is_address, parse_address, with_login, without_secrets
from device.errors import UsageError

SECRET = st.text(st.characters(exclude_categories=("C", "Z")), min_size=4, max_size=20).map(lambda text: f"S3{text}")


@given(user=SECRET, password=SECRET)
def test_no_text_shows_a_login(user: str, password: str) -> None:
    address = with_login(parse_address("rtsp://camera.local:554/stream?channel=1"), user, password)
    for text in (str(address), repr(address), f"{address}", without_secrets(f"cannot open {address.url}: broken")):
        assert "S3" not in text
    assert "rtsp://camera.local:554/…" in str(address)
    assert address.url.endswith("@camera.local:554/stream?channel=1")


@pytest.mark.parametrize(
    "text",
    [
        "rtmp://live.example/app/S3-key", "srt://host:9000?passphrase=S3", "https://host/a.m3u8#S3", "udp://S3:x@h:1",
        "rtsp://user:S3/S3@host:554/path", "http://user:S3@S3@host/",
    ],
)  # fmt: skip
def test_keys_tokens_and_broken_logins_are_cut(text: str) -> None:
    assert "S3" not in without_secrets(f"'{text}' and {text}.") and "://h" in without_secrets(text).replace(
        "live.", "h"
    )


def test_a_password_stands_where_the_address_says_so() -> None:
    address = with_login(parse_address("srt://host:9000?passphrase={password}"), "", "a b&c")
    assert address.url == "srt://host:9000?passphrase=a%20b%26c"


@pytest.mark.parametrize(
    "text",
    ["ftp://host/x", "file:///etc/passwd", "rtsp:///path", "rtsp://host:99999/", "rtsp://ho st/", "host:554", ""],
)
def test_what_is_no_address_of_a_stream_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="known are rtsp"):
        parse_address(text)


def test_files_are_no_addresses() -> None:
    assert is_address("udp://@:5000") and not is_address("talk.mkv") and not is_address("-")
    assert parse_address("udp://@:5000").scheme == "udp"
