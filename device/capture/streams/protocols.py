"""Stream protocols: what each may open, how long it may take, and which ones this machine supports.

PyAV's own FFmpeg supports most of them. For the others (SRT and RIST are missing in its wheels) an installed `ffmpeg`
program is used. FFmpeg's own names: https://ffmpeg.org/ffmpeg-protocols.html
"""

from __future__ import annotations

import logging
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import av

from device.addresses import SCHEMES, Address

OPEN_WITHIN_S = 7.0  # for connecting, and again for probing
READ_WITHIN_S = 3.0
SEGMENT_WITHIN_S = 30.0  # HLS: the next segment may come only when it is complete; each request must still answer
_MAX_REDIRECTS = "3"
_MAX_STREAMS = "64"  # FFmpeg's own limit is 1000; each takes memory
_PROBE_BYTES = "5000000"
_PROBE_US = "4000000"  # until a key frame tells its size
_BUFFER_BYTES = "1000000"  # of the socket: FFmpeg's 64 kB lose packets of a key frame on a busy machine
_FFMPEG_ANSWERS_WITHIN_S = 10.0
_HTTP_FORMATS = "hls,mpegts,mov,flv,matroska,aac,mp3,ac3,eac3,webvtt"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Protocol:
    """What streams of one scheme may open: only `protocols`, and only as `formats`."""

    protocols: str
    formats: str
    options: tuple[tuple[str, str], ...] = ()


_HTTP = Protocol(
    "http,https,tls,tcp,crypto",
    _HTTP_FORMATS,
    (("max_redirects", _MAX_REDIRECTS), ("tls_verify", "1"), ("rw_timeout", f"{READ_WITHIN_S * 1e6:.0f}")),
)
# never from an encrypted address to an unencrypted one
_HTTPS = Protocol("https,tls,tcp,crypto", _HTTP_FORMATS, _HTTP.options)
_FLV = (("analyzeduration", "1500000"),)  # it never signals that there are no more tracks
_BUFFERED = (("buffer_size", _BUFFER_BYTES),)
PROTOCOLS = {
    "rtsp": Protocol("rtp,udp,tcp", "rtsp,sdp,rtp,mpegts", _BUFFERED),
    "rtsps": Protocol("rtp,udp,tcp,tls,srtp", "rtsp,sdp,rtp,mpegts", (("tls_verify", "1"),)),
    "rtmp": Protocol("rtmp,tcp", "flv", _FLV),
    "rtmps": Protocol("rtmps,tls,tcp", "flv", (("tls_verify", "1"), *_FLV)),
    "http": _HTTP,
    "https": _HTTPS,
    "udp": Protocol("udp", "mpegts", (*_BUFFERED, ("fifo_size", "50000"), ("overrun_nonfatal", "1"))),
    "rtp": Protocol("rtp,udp", "rtp,sdp,mpegts", _BUFFERED),
    "srt": Protocol("pipe,srt,udp", "mpegts"),
    "rist": Protocol("pipe,rist,udp", "mpegts"),
}


def options_for(address: Address, *, transport: str, ca_file: Path | None) -> dict[str, str]:
    """For av.open. transport: `tcp` or `udp`, for RTSP. ca_file: the certificate authority instead of the system's."""
    protocol = PROTOCOLS[address.scheme]
    options = {
        "protocol_whitelist": protocol.protocols, "format_whitelist": protocol.formats, "max_streams": _MAX_STREAMS,
        "probesize": _PROBE_BYTES, "analyzeduration": _PROBE_US, **dict(protocol.options),
    }  # fmt: skip
    if address.scheme.startswith("rtsp"):
        options["rtsp_transport"] = transport
    if ca_file is not None and "tls_verify" in options:
        options["ca_file"] = str(ca_file)
    return options


def supported_by_pyav(scheme: str) -> bool:
    """Whether PyAV's FFmpeg supports this protocol. Nothing is connected to."""
    try:
        # A supported protocol is then refused, because none is allowed.
        av.open(f"{scheme}:", container_options={"protocol_whitelist": "none"})
    except av.ProtocolNotFoundError:
        return False
    except (av.FFmpegError, OSError) as error:
        _log.debug("%s is there: %s", scheme, type(error).__name__)
    return "rtsp" in av.formats_available or not scheme.startswith("rtsp")


@cache
def ffmpeg_program() -> str | None:
    """The path of the `ffmpeg` program, if installed."""
    return shutil.which("ffmpeg")


@cache
def supported_by_ffmpeg() -> frozenset[str]:
    """The schemes that the installed `ffmpeg` program supports; empty without one."""
    program = ffmpeg_program()
    if program is None:
        return frozenset()
    command = [program, "-hide_banner", "-loglevel", "error", "-protocols"]
    try:
        listed = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_FFMPEG_ANSWERS_WITHIN_S,
            check=False,
        ).stdout  # fmt: skip
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return frozenset()
    return frozenset(listed.partition("Output:")[0].split()) & frozenset(SCHEMES)


def available() -> dict[str, str | None]:
    """Each scheme with what supports it here, `PyAV` or `ffmpeg`; None if nothing does."""
    return {
        scheme: "PyAV" if supported_by_pyav(scheme) else "ffmpeg" if scheme in supported_by_ffmpeg() else None
        for scheme in SCHEMES
    }
