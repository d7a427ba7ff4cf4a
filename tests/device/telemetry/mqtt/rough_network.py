"""Bad networks and brokers on loopback: slow, cut, black holes, garbage."""

from __future__ import annotations

import random
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from types import TracebackType
from typing import Self

_CHUNK_BYTES = 4096


class Manner(Enum):
    """How the way to the broker behaves. A change counts for what comes after it."""

    FAIR = auto()
    REFUSING = auto()  # nobody listens
    SLOW = auto()  # everything, in both directions, comes `delay_s` late
    SWALLOWING = auto()  # connections stay open, nothing arrives
    GARBAGE = auto()  # whatever the broker says is replaced by random bytes


class Way:
    """A TCP way from a port of its own to a broker's."""

    def __init__(self, target: int, manner: Manner = Manner.FAIR, delay_s: float = 0.5, seed: int = 1) -> None:
        self._target, self._manner, self._delay_s = target, manner, delay_s
        self._random = random.Random(seed)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._open: set[socket.socket] = set()
        self._ended = False
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended = True
        self._server.close()
        self.cut()

    def become(self, manner: Manner) -> None:
        self._manner = manner
        if manner is Manner.REFUSING:
            self.cut()

    def cut(self) -> None:
        """All connections, without a word."""
        for sock in list(self._open):
            _shut(sock)

    def _accept(self) -> None:
        while not self._ended:
            try:
                near, _ = self._server.accept()
                if self._manner is Manner.REFUSING:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                if not self._ended:
                    near.close()
                continue
            self._open |= {near, far}
            for source, sink, downwards in ((near, far, False), (far, near, True)):
                threading.Thread(target=self._carry, args=(source, sink, downwards), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, downwards: bool) -> None:
        with suppress(OSError):  # the other side is gone, and so is this one
            while chunk := source.recv(_CHUNK_BYTES):
                if self._manner is Manner.SLOW:
                    time.sleep(self._delay_s)
                elif self._manner is Manner.SWALLOWING:
                    continue
                elif self._manner is Manner.GARBAGE and downwards:
                    chunk = self._random.randbytes(self._random.randint(1, 200))
                sink.sendall(chunk)
        self._open -= {source, sink}
        _shut(source)
        _shut(sink)


class Babbler:
    """A server that is no broker: `answer` gets what a client says and gives what to say to it, so many times."""

    def __init__(
        self, answer: Callable[[bytes], bytes], *, times: int = 1, hang_up: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:  # fmt: skip
        self._answer, self._times, self._hang_up, self._tls = answer, times, hang_up, tls
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self.visits = 0
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.close()
        for sock in self._open:
            _shut(sock)

    def _accept(self) -> None:
        while self._server.fileno() >= 0:
            try:
                sock, _ = self._server.accept()
            except OSError:
                return
            self.visits += 1
            self._open.append(sock)
            threading.Thread(target=self._talk, args=(sock,), daemon=True).start()

    def _talk(self, sock: socket.socket) -> None:
        with suppress(OSError):  # it hung up
            if self._tls:
                sock = self._tls.wrap_socket(sock, server_side=True)
                self._open.append(sock)
            while said := sock.recv(_CHUNK_BYTES):
                for _ in range(self._times):
                    sock.sendall(self._answer(said))
                if self._hang_up:
                    break
        _shut(sock)


def _shut(sock: socket.socket) -> None:
    with suppress(OSError):  # closed already
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()
