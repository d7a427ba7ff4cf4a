"""The inputs of a stream: an address, standard input, or a growing file; and the meaning of their errors.

Each opens a PyAV container within its time, or raises StreamError with the fault's word. FFmpeg's messages are never
passed on, because they contain whole addresses.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import av

from device.addresses import Address
from device.capture.bounds import DECODER_OPTIONS, container_options
from device.capture.streams.bytes_in import GrowingFile, Pipe
from device.capture.streams.protocols import (
    OPEN_WITHIN_S,
    READ_WITHIN_S,
    SEGMENT_WITHIN_S,
    ffmpeg_program,
    options_for,
    supported_by_ffmpeg,
    supported_by_pyav,
)
from device.errors import InputMissingError, StreamError
from device.records import NS_PER_S

_NO_PROTOCOL = {"protocol_whitelist": "none"}
_PIPE_READ_WITHIN_S = 3.0
_END_WITHIN_S = 1.0
_PIPE_KEEPS_NS = 5 * NS_PER_S // 2  # nobody reads between two sessions
_SILENT = "does not answer, or sends nothing"
_MOST_STORED_NS = 60 * NS_PER_S  # of a server that begins with what it has stored
_CHECK = "Check the address, and that its server runs"


@dataclass(frozen=True, slots=True)
class Opened:
    """An open container. `close` ends a read in it, where another thread can do that."""

    container: av.container.InputContainer
    close: Callable[[], None]
    is_live: Callable[[], bool] = lambda: True  # whether new data is live rather than stored earlier
    over: Callable[[], bool] = lambda: False  # whether nothing can ever come again
    plays_out: bool = True  # whether what came before the end still counts: a server may send faster than real time


class StreamInput(Protocol):
    """An input that can be opened repeatedly."""

    @property
    def name(self) -> str:
        """The name without secrets."""
        ...

    def max_stored_ns(self, opening_ns: int) -> int:
        """How much of what comes at once after an opening that took so long may be older than that."""
        ...

    def open(self) -> Opened:
        """Raises StreamError, InputMissingError."""
        ...


@dataclass(frozen=True, slots=True)
class FromAddress:
    """transport: for RTSP, `tcp` or `udp`. ca_file: the certificate authority to trust instead of the system's."""

    address: Address
    transport: str = "tcp"
    ca_file: Path | None = None

    @property
    def name(self) -> str:
        return str(self.address)

    def max_stored_ns(self, opening_ns: int) -> int:
        return 0 if self._in_segments else _MOST_STORED_NS

    @property
    def _in_segments(self) -> bool:
        return self.address.scheme in ("http", "https")

    def open(self) -> Opened:
        scheme = self.address.scheme
        options = options_for(self.address, transport=self.transport, ca_file=self.ca_file)
        if supported_by_pyav(scheme):
            timeout = (OPEN_WITHIN_S, SEGMENT_WITHIN_S if self._in_segments else READ_WITHIN_S)
            container = _opened(self.name, lambda: _av_open(self.address.url, options, timeout=timeout))
            return Opened(container, _nothing, plays_out=self._in_segments)
        if scheme not in supported_by_ffmpeg():
            what = f"neither PyAV nor an ffmpeg program here supports {scheme}://"
            raise StreamError(what, where=self.name, remedy="Install it: sudo apt install ffmpeg", word="missing")
        return self._through_ffmpeg(options)

    def _through_ffmpeg(self, options: dict[str, str]) -> Opened:
        """The same packets through a pipe.

        The address is passed through another pipe, because all users see a command line.
        """
        given = [part for name, value in options.items() if name != "format_whitelist" for part in (f"-{name}", value)]
        command = [
            ffmpeg_program() or "ffmpeg", "-hide_banner", "-loglevel", "quiet", *given, "-f", "concat", "-safe", "0",
            "-i", "pipe:0", "-map", "0:v?", "-map", "0:a?", "-c", "copy", "-flush_packets", "1", "-f", "nut", "pipe:1",
        ]  # fmt: skip
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
        assert process.stdin is not None and process.stdout is not None
        with suppress(BrokenPipeError), process.stdin as script:
            script.write(b"file '" + self.address.url.replace("'", "%27").encode() + b"'\n")
        pipe = Pipe(process.stdout.fileno(), OPEN_WITHIN_S)

        def close() -> None:
            pipe.close()
            process.kill()
            process.wait(_END_WITHIN_S)

        try:
            container = _opened(self.name, lambda: _av_open(pipe, {"format_whitelist": "nut"} | _NO_PROTOCOL))
        except StreamError:
            close()
            raise
        return Opened(container, close, plays_out=False)


@dataclass(frozen=True, slots=True)
class FromPipe:
    """Another program's output on standard input, in any container that can be read sequentially."""

    descriptor: int = 0

    @property
    def name(self) -> str:
        return "standard input"

    def max_stored_ns(self, opening_ns: int) -> int:
        """What a live program wrote meanwhile or before. One that writes faster than real time must not lose more."""
        return opening_ns + _PIPE_KEEPS_NS

    def open(self) -> Opened:
        pipe = Pipe(self.descriptor, _PIPE_READ_WITHIN_S)
        try:
            container = _opened(self.name, lambda: _av_open(pipe, _any_format()))
        except StreamError as error:
            if not pipe.ended:
                raise
            raise StreamError(error.what, where=self.name, remedy=error.remedy, word="ended") from None
        return Opened(container, pipe.close, over=lambda: pipe.ended)


@dataclass(frozen=True, slots=True)
class FromGrowingFile:
    """A recording that is still being written: measured from its present end on."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    def max_stored_ns(self, opening_ns: int) -> int:
        return 0

    def open(self) -> Opened:
        try:
            if not self.path.is_file():
                raise InputMissingError("not a file", where=self.name, remedy="Give the path of a recording.")
            file = GrowingFile(self.path, _PIPE_READ_WITHIN_S)
        except OSError as error:
            what = f"cannot be read ({error.strerror})"
            raise InputMissingError(what, where=self.name, remedy="Check the path and its permissions.") from None
        container = _opened(self.name, lambda: _av_open(file, _any_format()))
        return Opened(container, file.close, is_live=lambda: file.at_end)


def _av_open(
    file: object, options: dict[str, str], timeout: tuple[float, float] | None = None
) -> av.container.InputContainer:
    return av.open(
        file, mode="r", options=DECODER_OPTIONS, container_options=options, metadata_errors="replace", timeout=timeout
    )


def _any_format() -> dict[str, str]:
    return container_options() | _NO_PROTOCOL


def _opened(where: str, work: Callable[[], av.container.InputContainer]) -> av.container.InputContainer:
    begun_s = time.monotonic()
    try:
        return work()
    except (av.HTTPUnauthorizedError, av.HTTPForbiddenError, PermissionError):
        what, word = "the server refuses this user name or password, or any client", "permission"
        remedy = "Set username and password_file under [source]"
    except (av.ExitError, TimeoutError):
        what, word, remedy = _SILENT, "stalled", _CHECK
    except (av.HTTPNotFoundError, FileNotFoundError, ConnectionError, av.ProtocolNotFoundError) as error:
        what, word, remedy = f"cannot be reached ({_reason(error)})", "missing", _CHECK
    except (EOFError, av.InvalidDataError, av.ArgumentError, ValueError) as error:
        what, word = f"delivers nothing that can be measured ({_reason(error)})", "refused"
        remedy = f"{_CHECK}; what it sends must not point to files or to another protocol"
        if time.monotonic() - begun_s >= OPEN_WITHIN_S:  # RTSP: FFmpeg calls an answer that never came invalid
            what, word, remedy = _SILENT, "stalled", _CHECK
    except (av.FFmpegError, OSError) as error:
        what, word = f"cannot be reached, or its certificate is not trusted ({_reason(error)})", "missing"
        remedy = f"{_CHECK}; for an authority of your own, set ca_file under [source]"
    raise StreamError(what, where=where, remedy=remedy, word=word)


def _reason(error: Exception) -> str:
    """The kind of error and the system's words: FFmpeg's message would contain the address."""
    return getattr(error, "strerror", None) or type(error).__name__


def _nothing() -> None:
    """Connections that PyAV opened end by its own timeouts."""
