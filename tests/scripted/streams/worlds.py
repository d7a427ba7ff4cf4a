"""Streams with a sender that goes wrong when told to: through a pipe, over UDP, HTTP, HLS and RTSP. All on loopback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, ExitStack, suppress
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler
from pathlib import Path
from queue import SimpleQueue
from random import Random
from typing import Any

import av
from av.container import OutputContainer

from device.addresses import parse_address, with_login
from device.capture.streams.inputs import FromAddress, FromPipe, StreamInput
from tests.scripted.stage import RealClock
from tests.scripted.streams.encoder import START_S, WELL, Encoder, Film, Films, Trouble, endless, transport_stream
from tests.streams import stream_servers as servers

_SEGMENTS = {
    "hls_time": "1", "hls_list_size": "6",
    "hls_flags": "append_list+delete_segments+discont_start+omit_endlist+temp_file",
}  # fmt: skip
UNCODED: Film = {"sound": "pcm_s16le"}  # what the RTSP server plays: AAC would come late by the encoder's delay
_RTSP_LOOPS = 120
_OTHER_LOGIN = ("camera", "changed")


class StreamWorld(ABC):
    """A sender, and the `input` that receives it."""

    input: StreamInput

    def __init__(self, rng: Random) -> None:
        self.rng, self.clock = rng, RealClock()

    def start(self) -> None:  # noqa: B027
        """Send, from when somebody receives: a pipe keeps what comes before, and all that follows would be late."""

    @abstractmethod
    def begin(self, trouble: Trouble) -> None:
        """From now on."""

    def calm(self) -> None:
        """All is well again."""
        self.begin(WELL)

    @abstractmethod
    def close(self) -> None: ...


class EncoderWorld(StreamWorld):
    """At its other end is an encoder of our own."""

    def __init__(self, rng: Random, films: Films, *, at_s: float = START_S) -> None:
        super().__init__(rng)
        self.encoder = Encoder(films, self.written, at_s=at_s)

    def written(self) -> AbstractContextManager[OutputContainer]:
        return transport_stream(self.send, lambda: self.encoder.trouble)

    def send(self, datagram: bytes) -> None:
        raise NotImplementedError

    def start(self) -> None:
        self.encoder.start()

    def begin(self, trouble: Trouble) -> None:
        self.encoder.trouble = trouble

    def close(self) -> None:
        self.encoder.close()


class Pipe(EncoderWorld):
    """Standard input."""

    def __init__(self, rng: Random, films: Films, *, at_s: float = START_S) -> None:
        self.reading, self._writing = os.pipe()
        self.input = FromPipe(self.reading)
        super().__init__(rng, films, at_s=at_s)

    def send(self, datagram: bytes) -> None:
        with suppress(BrokenPipeError):  # nobody reads any more
            os.write(self._writing, datagram)

    def end(self) -> None:
        """The sender ends for good."""
        self.encoder.close()
        os.close(self._writing)
        self._writing = -1

    def close(self) -> None:
        os.close(self.reading)  # first: the encoder may wait for somebody to read
        if self._writing >= 0:
            self.end()


class Udp(EncoderWorld):
    def __init__(self, rng: Random, films: Films) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._to = ("127.0.0.1", servers.free_port(socket.SOCK_DGRAM))
        self.input = FromAddress(parse_address("udp://{}:{}".format(*self._to)))
        super().__init__(rng, films)

    def send(self, datagram: bytes) -> None:
        self._socket.sendto(datagram, self._to)

    def close(self) -> None:
        super().close()
        self._socket.close()


class Http(EncoderWorld):
    """MPEG-TS to whoever asks for it, without end."""

    def __init__(self, rng: Random, films: Films) -> None:
        self._clients: list[SimpleQueue[bytes]] = []
        super().__init__(rng, films)
        world = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                world.serve(self)

            def log_message(self, *_: object) -> None: ...

        self._server = ExitStack()
        self.input = FromAddress(parse_address(self._server.enter_context(servers.serving(Handler)) + "/live.ts"))

    def serve(self, request: BaseHTTPRequestHandler) -> None:
        if self.encoder.trouble.status != WELL.status:
            request.send_error(self.encoder.trouble.status)
            return
        blocks: SimpleQueue[bytes] = SimpleQueue()
        self._clients.append(blocks)
        request.send_response(200)
        request.end_headers()
        try:
            while block := blocks.get():
                request.wfile.write(block)
        except OSError:
            request.close_connection = True
        finally:
            self._clients.remove(blocks)

    def send(self, datagram: bytes) -> None:
        for client in list(self._clients):
            client.put(datagram)

    def begin(self, trouble: Trouble) -> None:
        super().begin(trouble)
        if trouble.status != WELL.status:
            self.send(b"")

    def close(self) -> None:
        super().close()
        self.send(b"")
        self._server.close()


class Hls(EncoderWorld):
    """Segments of a second."""

    def __init__(self, rng: Random, films: Films) -> None:
        self._server = ExitStack()
        self._folder = Path(self._server.enter_context(tempfile.TemporaryDirectory(prefix="avdrift-hls-")))
        super().__init__(rng, films)
        world = self

        class Handler(SimpleHTTPRequestHandler):
            def __init__(self, *given: Any) -> None:
                super().__init__(*given, directory=str(world._folder))

            def send_head(self) -> Any:
                if self.path.endswith(".ts") and world.encoder.trouble.status != WELL.status:
                    self.send_error(world.encoder.trouble.status)
                    return None
                return super().send_head()

            def log_message(self, *_: object) -> None: ...

        url = self._server.enter_context(servers.serving(Handler))
        self.input = FromAddress(parse_address(f"{url}/live.m3u8"))

    def written(self) -> AbstractContextManager[OutputContainer]:
        return av.open(str(self._folder / "live.m3u8"), "w", format="hls", options=_SEGMENTS)

    def close(self) -> None:
        super().close()
        self._server.close()


class Rtsp(StreamWorld):
    """A real server of Debian's GStreamer."""

    def __init__(self, rng: Random, films: Films) -> None:
        super().__init__(rng)
        self._port, self._trouble = servers.free_port(), WELL
        self._folder = tempfile.TemporaryDirectory(prefix="avdrift-rtsp-")
        self._film = endless(Path(self._folder.name) / "film.mkv", films(**UNCODED), _RTSP_LOOPS)
        address = parse_address(f"rtsp://127.0.0.1:{self._port}/talk")
        self.input = FromAddress(with_login(address, *servers.LOGIN))
        self._server = ExitStack()
        self._process = self._start()

    def begin(self, trouble: Trouble) -> None:
        before, self._trouble = self._trouble, trouble
        if trouble.silent != before.silent:
            self._process.send_signal(signal.SIGSTOP if trouble.silent else signal.SIGCONT)
            return
        self._server.close()
        if not trouble.down:
            self._process = self._start()

    def calm(self) -> None:
        if self._trouble != WELL:
            super().calm()

    def close(self) -> None:
        self._server.close()
        self._folder.cleanup()

    def _start(self) -> subprocess.Popen[bytes]:
        login = servers.LOGIN if self._trouble.status == WELL.status else _OTHER_LOGIN
        command = servers.rtsp_command(self._film, *login, port=self._port, reports=self._trouble.reports)
        return self._server.enter_context(servers.running(*command, ready="ready"))
