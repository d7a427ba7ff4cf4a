"""Access: tokens and cookies, host names, origins, paths; refusals are counted, and no token is written anywhere."""

from __future__ import annotations

import http.client
import json
import logging
import socket
import ssl
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from device.errors import UsageError
from device.page.access import COOKIE, cookie_of, is_right, knows_host, own_names, same_origin
from device.page.network import ANYWHERE, open_for, open_s
from device.page.token import FILE, Token, read_token
from tests.certificates import Authority
from tests.device.page.served import Served, until

CLOSED = ["/api/report", "/api/history", "/api/page", "/api/picture.jpg", "/api/events", "/metrics", "/api/history.csv"]
NAMES = frozenset({"localhost", "stage", "stage.local"})


# The token's file


def test_a_token_has_128_bits_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    made = read_token(tmp_path / "state" / FILE)
    file = tmp_path / "state" / FILE
    assert len(made) == 22 and stat.S_IMODE(file.stat().st_mode) == 0o600
    assert read_token(file) == made
    file.unlink()
    assert read_token(file) != made


@pytest.mark.parametrize("content", ["short", "x" * 300, "has\x07bell" * 4, ""])
def test_a_file_that_holds_no_token_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / FILE
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(UsageError, match="Delete it"):
        read_token(file)


def test_a_token_that_others_may_read_or_that_is_a_link_is_refused(tmp_path: Path) -> None:
    file = tmp_path / FILE
    read_token(file)
    file.chmod(0o640)
    with pytest.raises(UsageError, match="others may read"):
        read_token(file)
    file.rename(tmp_path / "elsewhere")
    file.symlink_to("elsewhere")
    with pytest.raises(UsageError):
        read_token(file)


def test_a_lost_token_is_made_again_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    token = Token(tmp_path / FILE)
    before = token.current()
    assert token.current() == before
    (tmp_path / FILE).unlink()
    after = token.current()
    assert after not in (None, before) and token.current() == after
    assert len(caplog.records) == 1 and after not in caplog.text


def test_without_a_token_nobody_gets_in_and_it_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    token = Token(tmp_path / "file" / FILE)
    assert token.current() is None and token.current() is None and len(caplog.records) == 1


# What is shown


def test_the_token_or_its_cookie_opens_and_nothing_else() -> None:
    token = "t" * 22
    assert is_right(token, {"authorization": f"Bearer {token}"})
    assert is_right(token, {"cookie": f"a=b; {COOKIE}={cookie_of(token)}"})
    assert is_right(token, {}) is None and is_right(token, {"cookie": "a=b"}) is None
    for wrong in ({"authorization": "Bearer "}, {"authorization": f"Bearer {token}x"}, {"cookie": f"{COOKIE}={token}"}):
        assert is_right(token, wrong) is False
    assert is_right(token, {"authorization": "Bearer ü"}) is False


@pytest.mark.parametrize("host", ["localhost", "Stage:9754", "stage.local.", "192.0.2.7:9754", "[fe80::1]:99", "[::1]"])
def test_its_own_names_and_addresses_in_digits_are_known(host: str) -> None:
    assert knows_host(host, NAMES)


@pytest.mark.parametrize(
    "host", ["evil.example", "", "stage.evil.example", "127.0.0.1.evil.example", "stage:1:2", "[::1"]
)
def test_names_of_others_are_not(host: str) -> None:
    assert not knows_host(host, NAMES)
    assert {"localhost", "cam.example"} <= own_names("Cam.example")


def test_only_the_page_itself_and_programs_are_of_the_same_origin() -> None:
    own = {"host": "stage:9754"}
    assert same_origin("http", own) and same_origin("http", own | {"origin": "http://stage:9754"})
    for other in ("http://evil.example", "https://stage:9754", "null", "http://stage:80"):
        assert not same_origin("http", own | {"origin": other})
    for site in ("cross-site", "same-site"):
        assert not same_origin("http", own | {"sec-fetch-site": site})


# Over HTTP


@pytest.mark.parametrize("path", CLOSED)
def test_without_a_token_nothing_that_was_measured(served: Served, path: str) -> None:
    assert served.ask(path, token=None).status == 401


@pytest.mark.parametrize("path", ["/", "/main.js", "/page.css", "/openapi.json", "/healthz"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_without_a_token_nothing_but_get(served: Served, path: str, method: str) -> None:
    assert served.ask(path, token=None).status in (200, 503)
    assert served.ask(path, method, token=None, Origin=f"http://127.0.0.1:{served.port}").status == 401


def test_the_first_visit_gives_a_cookie_that_scripts_and_other_sites_do_not_get(served: Served) -> None:
    answer = served.ask("/api/login", "POST")
    cookie = answer.headers["set-cookie"]
    assert answer.status == 204 and "HttpOnly" in cookie and "SameSite=strict" in cookie and served.token not in cookie
    value = cookie.partition(";")[0]
    assert served.ask("/api/report", token=None, Cookie=value).status == 200
    own = f"http://127.0.0.1:{served.port}"
    assert served.ask("/api/command/diagnostics", "POST", token=None, Cookie=value, Origin=own).status == 409
    others: list[dict[str, Any]] = [
        {},
        {"Origin": "http://evil.example"},
        {"Origin": own, "Sec_Fetch_Site": "cross-site"},
    ]
    for wrong in others:
        assert served.ask("/api/command/diagnostics", "POST", token=None, Cookie=value, **wrong).status == 403
    assert served.ask("/api/report", token=None, Cookie=value, Sec_Fetch_Site="cross-site").status == 403
    assert served.page.refused["origin"] == 4


def test_another_name_is_refused_even_with_the_token(served: Served) -> None:
    for host in ("evil.example", f"evil.example:{served.port}"):
        assert served.ask("/api/report", host=host).status == served.ask("/", host=host).status == 421
    assert served.page.refused["host"] == 4


def test_wrong_tokens_are_slow_few_at_a_time_and_never_hold_up_the_right_one(served: Served) -> None:
    clients = []
    for _ in range(6):
        client = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
        client.request("GET", "/api/report", headers={"Authorization": "Bearer " + "w" * 22})
        clients.append(client)
    begun_s = time.monotonic()
    assert served.ask("/api/report").status == 200 and time.monotonic() - begun_s < 0.9
    statuses = sorted(client.getresponse().status for client in clients)
    assert statuses == [401] * 4 + [429] * 2 and time.monotonic() - begun_s > 0.9
    assert served.page.refused["wrong token"] == 6


@pytest.mark.parametrize(
    "path",
    [
        "/../page-token",
        "/%2e%2e/page-token",
        "/static/../../token.py",
        "//etc/passwd",
        "/main.js/../../x",
        "/main.js%00",
    ],
)
def test_tricks_with_paths_lead_nowhere(served: Served, path: str) -> None:
    assert served.ask(path).status == 404 and served.page.refused["path"] == 1


def test_every_answer_forbids_scripts_of_others_frames_and_keeping(served: Served) -> None:
    for path in ("/", "/main.js", "/api/report", "/nowhere", "/healthz"):
        headers = served.ask(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] in ("no-store", "no-cache")
        assert "server" not in headers and "access-control-allow-origin" not in headers


def test_no_token_stands_in_the_log(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        served.ask(f"/api/report?token={served.token}", token=None)
        served.ask("/api/report", token="w" * 22)
        served.ask("/api/login", "POST")
    assert "refused" in caplog.text and served.token not in caplog.text and "w" * 22 not in caplog.text


# The network


def test_the_network_is_open_for_a_while_and_then_no_more(tmp_path: Path) -> None:
    assert open_s(tmp_path) == 0
    open_for(tmp_path, 3600)
    assert 3590 < open_s(tmp_path) <= 3600
    open_for(tmp_path, 0)
    assert open_s(tmp_path) == 0


@pytest.mark.parametrize("content", ["", "[]", '{"boot_id": "x", "until_s": 9e300}', '{"until_s": null}', "\0" * 2000])
def test_what_is_no_such_file_opens_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "page-network.json").write_text(content)
    assert open_s(tmp_path) == 0


def test_a_number_of_400_digits_opens_nothing(tmp_path: Path) -> None:
    open_for(tmp_path, 3600)
    file = tmp_path / "page-network.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"until_s": 10**400}))
    assert open_s(tmp_path) == 0


def reached(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), 2.0).close()
        return True
    except OSError:
        return False


def test_only_this_computer_reaches_the_page_until_it_is_opened(served: Served) -> None:
    other = "127.0.0.2"  # as good as the network: not where it listens
    assert not reached(other, served.port)
    open_for(served.state_dir, 60)
    until(lambda: reached(other, served.port), "it is open")
    open_for(served.state_dir, 0)
    until(lambda: not reached(other, served.port), "it is closed again")
    assert reached("127.0.0.1", served.port) and ANYWHERE == "::"


def test_with_a_certificate_the_page_is_encrypted(serve: Callable[..., Served], tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    signed = authority.sign("stage")
    page = serve(cert_file=signed.certificate.name, key_file=signed.key.name).opened()
    context = ssl.create_default_context(cafile=authority.certificate)
    client = http.client.HTTPSConnection("localhost", page.port, timeout=20, context=context)
    client.request("POST", "/api/login", headers={"Authorization": f"Bearer {page.token}"})
    assert "Secure" in (client.getresponse().getheader("Set-Cookie") or "")
    client.close()
    address = page.page.address(1)
    assert address and address.startswith("https://") and f"/#{page.token}" in address
