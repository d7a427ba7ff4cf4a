"""Hostile senders: bounded in time and memory, named, and without access to local files."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from functools import cache
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from random import Random

import av
import pytest

from device.addresses import parse_address
from device.capture.streams.inputs import FromAddress, FromPipe
from device.capture.streams.source import Stream
from device.errors import StreamError
from device.records import Frame
from tests.certificates import Authority
from tests.recordings import Picture, write
from tests.scenes import scene_folder
from tests.scripted.streams.encoder import Trouble
from tests.scripted.streams.worlds import Pipe
from tests.streams.flashes import PICTURE, SOUND, film
from tests.streams.stream_servers import http, serving

ENOUGH = 100  # items
WITHIN_S = 16.0  # connecting and looking at what comes take 7 s each, at most


def word_of(url: str, *, ca_file: Path | None = None) -> str:
    """The word of what opening raises, within its time."""
    began = time.monotonic()
    with pytest.raises(StreamError) as raised:
        Stream(FromAddress(parse_address(url), ca_file=ca_file)).open()
    assert time.monotonic() - began < WITHIN_S
    assert "secret" not in str(raised.value)
    return raised.value.word


def transport_stream(folder: Path) -> Path:
    with av.open(str(film())) as source, av.open(str(folder / "part.ts"), "w") as out:
        streams = {stream.index: out.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
    return folder / "part.ts"


@pytest.mark.parametrize(
    "place",
    ["file://{part}", "{part}", "concat:{part}", "file:///etc/passwd", "tcp://127.0.0.1:9", "udp://127.0.0.1:9"],
)
def test_a_playlist_reaches_no_file_and_no_other_protocol(tmp_path: Path, place: str) -> None:
    (tmp_path / "served").mkdir()
    text = "#EXTM3U\n#EXT-X-TARGETDURATION:20\n#EXTINF:20,\n{}\n#EXT-X-ENDLIST\n"
    place = place.format(part=transport_stream(tmp_path))  # which would play, if it were reached
    (tmp_path / "served" / "secret.m3u8").write_text(text.format(place))
    with http(tmp_path / "served") as url:
        assert word_of(f"{url}/secret.m3u8") in ("refused", "missing")


PLAYLISTS = {
    "segment": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{}\n",
    "key": '#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-KEY:METHOD=AES-128,URI="{}"\n#EXTINF:2,\npart.ts\n',
    "map": '#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MAP:URI="{}"\n#EXTINF:2,\npart.ts\n',
    "master": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000\n{}\n",
    "sound": '#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="a",URI="{}"\n'
    '#EXT-X-STREAM-INF:BANDWIDTH=1000,AUDIO="a"\npart.m3u8\n',
}


@pytest.mark.parametrize("text", PLAYLISTS.values(), ids=PLAYLISTS)
def test_no_part_of_a_playlist_opens_a_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "served").mkdir()
    transport_stream(tmp_path / "served")
    (tmp_path / "served" / "part.m3u8").write_text(PLAYLISTS["segment"].format("part.ts") + "#EXT-X-ENDLIST\n")
    secret = tmp_path / "secret.m3u8"
    os.mkfifo(secret)
    (tmp_path / "served" / "list.m3u8").write_text(text.format(f"file://{secret}") + "#EXT-X-ENDLIST\n")
    with http(tmp_path / "served") as url, nobody_reads(secret), suppress(StreamError):
        Stream(FromAddress(parse_address(f"{url}/list.m3u8"))).open().close()


@contextmanager
def nobody_reads(pipe: Path) -> Iterator[None]:
    """Fails if anybody opens this named pipe meanwhile."""
    over, read = threading.Event(), threading.Event()

    def look() -> None:
        while not over.wait(0.01):
            try:
                os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
                read.set()
            except OSError:
                continue

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert not read.is_set()


@pytest.mark.parametrize("trusted", [True, False], ids=["trusted", "not trusted"])
@pytest.mark.parametrize("names", ["IP:127.0.0.1", "DNS:elsewhere.example"])
def test_a_certificate_is_checked_with_its_name(tmp_path: Path, trusted: bool, names: str) -> None:
    authority = Authority(tmp_path)
    signed = authority.sign("server", names=names)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(signed.certificate, signed.key)
    transport_stream(tmp_path)
    with http(tmp_path, context) as url:
        source = FromAddress(parse_address(f"{url}/part.ts"), ca_file=authority.certificate if trusted else None)
        if trusted and "127" in names:
            Stream(source).open().close()
        else:
            with pytest.raises(StreamError, match="certificate is not trusted"):
                source.open()


class Redirect(BaseHTTPRequestHandler):
    """To itself for ever, or to a file."""

    asked = 0

    def do_GET(self) -> None:
        Redirect.asked += 1
        self.send_response(302)
        self.send_header("Location", "file:///etc/passwd" if "file" in self.path else f"{self.path}x")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


def test_redirects_are_counted_and_lead_to_no_file() -> None:
    Redirect.asked = 0
    with serving(Redirect) as url:
        assert word_of(f"{url}/secret") in ("refused", "missing")
        assert Redirect.asked <= 12
        assert word_of(f"{url}/file") in ("refused", "missing")


@contextmanager
def talking(say: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that says something to whoever comes, until the end."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    peer, _ = server.accept()
                    with peer:
                        peer.recv(4096)
                        say(peer)
                except OSError:
                    if server.fileno() < 0:
                        return

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


def drip(peer: socket.socket) -> None:
    for sign in b"HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\n" * 100:
        peer.sendall(bytes([sign]))
        time.sleep(1)


def endless_headers(peer: socket.socket) -> None:
    peer.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        peer.sendall(b"X-Header: " + b"x" * 2000 + b"\r\n")


def noise(peer: socket.socket) -> None:
    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\n\r\n")
    while True:
        peer.sendall(os.urandom(65_536))


@pytest.mark.parametrize("say", [drip, endless_headers, noise])
def test_whatever_a_server_sends_ends_in_time(say: Callable[[socket.socket], None]) -> None:
    with talking(say) as port:
        assert word_of(f"http://127.0.0.1:{port}/secret") in ("stalled", "refused", "missing")


def nothing(peer: socket.socket) -> None:
    peer.recv(1)


def test_a_server_that_says_nothing_is_stalled_and_not_refused() -> None:
    with talking(nothing) as port:
        assert word_of(f"rtsp://127.0.0.1:{port}/secret") == "stalled"


def test_nobody_there_and_nobody_of_that_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for scheme in ("rtsp", "rtmp", "http"):
        assert word_of(f"{scheme}://127.0.0.1:{port}/secret") == "missing"


def fill(descriptor: int, content: bytes) -> None:
    with suppress(BrokenPipeError), os.fdopen(descriptor, "wb") as out:
        out.write(content)
        time.sleep(1.5)  # what has ended before it begins is not decoded


def from_bytes(content: bytes) -> int:
    """How many items come out of a pipe with it, until it ends; whatever is raised is one of ours."""
    reading, writing = os.pipe()

    threading.Thread(target=fill, args=(writing, content), daemon=True).start()
    stream, given, began = Stream(FromPipe(reading)), 0, time.monotonic()
    while time.monotonic() - began < 60:
        try:
            with stream.open() as source:
                for _ in source:
                    given += 1
                    if given > ENOUGH:
                        source.close()
        except StreamError as error:
            if error.word == "ended" or given:
                break
    os.close(reading)
    return given


@cache
def huge() -> Path:
    """Pictures of more pixels than are taken."""
    picture = Picture(width=4112, height=2320, options=PICTURE.options)
    return write(scene_folder() / "huge.mkv", picture, SOUND, duration_s=0.6)


def test_pictures_of_any_size_are_refused() -> None:
    reading, writing = os.pipe()
    threading.Thread(target=fill, args=(writing, huge().read_bytes()), daemon=True).start()
    with pytest.raises(StreamError, match="4112x2320 cannot be used") as refused:
        Stream(FromPipe(reading)).open()
    os.close(reading)
    assert refused.value.word == "refused"


def test_pictures_that_grow_beyond_bounds_are_not_decoded() -> None:
    def films(*, grown: bool = False) -> Path:
        return huge() if grown else film()

    films(grown=True)
    with closing(Pipe(Random(1), films)) as world:
        world.start()
        threading.Timer(1.5, world.begin, (Trouble({"grown": True}),)).start()
        with pytest.raises(StreamError) as named, Stream(world.input).open() as source:
            assert all(item.rgb.shape[1] == PICTURE.width for item in source if isinstance(item, Frame))
    assert named.value.word in ("incomplete", "stalled")


@pytest.mark.parametrize("copies", [8, pytest.param(60, marks=pytest.mark.slow)])
def test_mutated_packets_raise_nothing_of_their_own(tmp_path: Path, copies: int) -> None:
    """60 copies have more than 10,000 mutated packets."""
    whole, chance = transport_stream(tmp_path).read_bytes(), Random(5)
    contents, mutated = [], 0
    for _ in range(copies):
        content = bytearray(whole[: len(whole) // 4])
        places = {chance.randrange(len(content)) for _ in range(len(content) // 400)}
        for place in places:
            content[place] = chance.randrange(256)
        mutated += len({place // 188 for place in places})
        contents.append(bytes(content))
    assert mutated > 168 * copies
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(from_bytes, contents)) > ENOUGH, "some of it is decoded"
