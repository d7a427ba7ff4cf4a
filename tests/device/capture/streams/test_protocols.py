"""Each protocol with a real server on loopback: what is sent at the same time arrives with offset 0."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from statistics import median

import pytest

from device.addresses import parse_address, with_login
from device.capture.streams.connection import Connection
from device.capture.streams.inputs import FromAddress
from device.capture.streams.protocols import available, options_for, supported_by_pyav
from device.capture.streams.source import Stream, StreamSource
from device.errors import StreamError
from device.records import NS_PER_S
from tests.streams import stream_servers as servers
from tests.streams.flashes import film, watched

FLASHES = 3
APART_MS = 3.0
START_WITHIN_S = 20.0


def opened(source: FromAddress) -> StreamSource:
    """As soon as its server has started and sends what can be decoded; the daemon tries again as well."""
    until = time.monotonic() + START_WITHIN_S
    while True:
        try:
            return Stream(source).open()
        except StreamError as error:
            if error.word not in ("missing", "refused") or time.monotonic() > until:
                raise
            time.sleep(0.2)


def apart_ms(source: FromAddress) -> float:
    with opened(source) as items:
        found = watched(items, FLASHES).apart_ms()
        items.close()
    assert len(found) >= FLASHES - 1
    return median(found)


@servers.needs_ffmpeg
def test_flash_and_click_come_together_over_each_protocol(tmp_path: Path) -> None:
    ways = [servers.udp, servers.rtp, servers.rtmp, servers.srt, servers.rist, partial(servers.hls, folder=tmp_path)]

    recording = film()

    def over(serve: Callable[[Path], AbstractContextManager[str]]) -> float:
        with serve(recording) as url:
            return apart_ms(FromAddress(parse_address(url)))

    with ThreadPoolExecutor(len(ways)) as pool:  # each takes its time, and next to no work
        found = list(pool.map(over, ways))
    assert all(abs(each) < APART_MS for each in found), found


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_rtsp_with_a_password(transport: str) -> None:
    """Nothing comes before both tracks have had a sender report: without one they would be off by any amount."""
    servers.needs_rtsp_server()
    with servers.rtsp(film(sound="pcm_s16le"), *servers.LOGIN) as url:
        with pytest.raises(StreamError, match="refuses this user name") as refused:
            Stream(FromAddress(parse_address(url), transport)).open()
        assert refused.value.word == "permission" and "password_file" in refused.value.remedy
        source = FromAddress(with_login(parse_address(url), *servers.LOGIN), transport)
        assert abs(apart_ms(source)) < APART_MS


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_rtsp_begins_with_the_sender_reports_and_not_with_the_next_key_frame(transport: str) -> None:
    """Which may be many seconds away; in this film, there is none."""
    servers.needs_rtsp_server()
    with servers.rtsp(film(sound="pcm_s16le", one_key=True)) as url:
        assert abs(apart_ms(FromAddress(parse_address(url), transport))) < APART_MS


def test_the_loss_of_a_live_stream_is_known_before_its_delay_has_passed() -> None:
    """It may be delayed by seconds after the processor was busy."""
    servers.needs_rtsp_server()
    with ExitStack() as server:
        url = server.enter_context(servers.rtsp(film(sound="pcm_s16le")))
        connection = Connection(FromAddress(parse_address(url)))
        connection.transit_ns = time.monotonic_ns() + NS_PER_S  # stamps begin at about 0
        with StreamSource(connection) as source:
            items = iter(source)
            given = [next(items)]
            server.close()
            with pytest.raises(StreamError) as lost:
                given.extend(items)
        assert lost.value.word == "lost" and source.delay_ns > 2 * NS_PER_S
        assert given[-1].t_ns - given[0].t_ns < NS_PER_S


def test_without_sender_reports_nothing_is_given() -> None:
    servers.needs_rtsp_server()
    with servers.rtsp(film(sound="pcm_s16le"), reports=False) as url, opened(FromAddress(parse_address(url))) as items:
        with pytest.raises(StreamError, match="no RTCP sender reports") as unsynced:
            next(iter(items))
        assert unsynced.value.word == "unsynced"


@servers.needs_ffmpeg
def test_the_passphrase_of_srt_is_in_no_process_list() -> None:
    with servers.srt(film(), "a-long-passphrase") as url:
        address = parse_address(f"{url}?passphrase={{password}}")
        with Stream(FromAddress(with_login(address, "", "a-long-passphrase"))).open() as items:
            running = [
                command.read_bytes().decode(errors="replace")
                for command in Path("/proc").glob("[0-9]*/cmdline")
                if command.exists()
            ]
            ours = [command for command in running if "pipe:1" in command and "concat" in command]
            assert ours and not any("passphrase" in command for command in ours)
            items.close()


def test_what_speaks_each_protocol_is_known() -> None:
    assert supported_by_pyav("rtsp") and not supported_by_pyav("gopherx")
    assert {"rtsp", "rtmp", "https", "udp"} <= {scheme for scheme, by in available().items() if by == "PyAV"}


CA_FILE = Path("/etc/ssl/own.pem")


@pytest.mark.parametrize("scheme", ["rtsp", "rtsps"])
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_rtsp_goes_by_the_transport_that_is_wanted(scheme: str, transport: str) -> None:
    rtsp, udp = parse_address(f"{scheme}://camera/1"), parse_address("udp://:5000")
    assert options_for(rtsp, transport=transport, ca_file=None)["rtsp_transport"] == transport
    assert "rtsp_transport" not in options_for(udp, transport=transport, ca_file=None)


def test_a_certificate_authority_is_for_what_checks_certificates() -> None:
    https, udp = parse_address("https://page/1.m3u8"), parse_address("udp://:5000")
    assert options_for(https, transport="tcp", ca_file=CA_FILE)["ca_file"] == str(CA_FILE)
    assert "ca_file" not in options_for(https, transport="tcp", ca_file=None)
    assert "ca_file" not in options_for(udp, transport="tcp", ca_file=CA_FILE)
