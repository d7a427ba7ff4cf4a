"""Real senders and servers of streams on loopback: ffmpeg, GStreamer, and Python's own HTTP server."""

from __future__ import annotations

import functools
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import cache
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import pytest

from device.bench.pipeline import SAMPLE
from device.capture.file import FileSource
from device.records import NS_PER_S, Chunk, Frame, Samples
from tests.recordings import BLOCK
from tests.scenes import scene_folder

SYSTEM_PYTHON = "/usr/bin/python3"
SAMPLE_OFFSET_MS, SAMPLE_S = 80, 15.0  # of its first segment
LOGIN = ("camera", "p@ss: w/rd")
RATE_HZ, SOUND_HZ = 25, 16_000
_LEAD_PICTURES = 14  # left out, so that the sound can begin earlier or later
_INSTALL = "apt-get install gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good python3-gi"

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg here: apt-get install ffmpeg")


@cache
def _gstreamer_serves() -> bool:
    look = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    try:
        return subprocess.run([SYSTEM_PYTHON, "-c", look], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def needs_rtsp_server() -> None:
    """Skips the test where there is none."""
    if not _gstreamer_serves():
        pytest.skip(
            "no RTSP server here: apt-get install gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good python3-gi"
        )


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@cache
def talk(
    offset_ms: int = SAMPLE_OFFSET_MS,
    sound: Literal["aac", "pcm_s16le"] = "aac",
    *,
    codec: str = "libx264",
    b_frames: bool = True,
    scale: int = 1,
    aspect: Fraction = Fraction(1),
    rate_hz: int = SOUND_HZ,
    fast_samples: float = 1.0,
) -> Path:
    """The synthetic speaker for a quarter of a minute, sliced to an offset, in Matroska.

    aspect: of a pixel. fast_samples: how many there are for each that the rate says.
    """
    shape = f"{codec}-{b_frames}-{scale}-{aspect.numerator}-{aspect.denominator}"
    path = scene_folder() / f"talk{offset_ms:+}-{shape}-{sound}-{rate_hz}-{fast_samples:.3f}.mkv"
    pictures, samples = _spoken(offset_ms)
    step = SOUND_HZ / (rate_hz * fast_samples)
    samples = np.interp(np.arange(0, len(samples), step), np.arange(len(samples)), samples).astype(np.float32)
    with av.open(str(path), "w") as out:
        video = out.add_stream(codec, rate=RATE_HZ, options=_options(codec, b_frames))
        assert isinstance(video, av.VideoStream)
        video.width, video.height = pictures[0].width * scale, pictures[0].height * scale
        if aspect != 1:
            video.codec_context.sample_aspect_ratio = aspect
        audio = out.add_stream(sound, rate=rate_hz, layout="mono")
        assert isinstance(audio, av.AudioStream)
        packets: list[av.Packet[Any]] = []
        for number, picture in enumerate(pictures):
            frame = picture.reformat(video.width, video.height, "yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, RATE_HZ)
            packets += video.encode(frame)
        for begin in range(0, len(samples) - BLOCK, BLOCK):
            part = samples[np.newaxis, begin : begin + BLOCK]
            plain = part if sound == "aac" else np.asarray(part * 32767, np.int16)
            block = av.AudioFrame.from_ndarray(plain.copy(), "fltp" if sound == "aac" else "s16", "mono")
            block.sample_rate, block.pts, block.time_base = rate_hz, begin, Fraction(1, rate_hz)
            packets += audio.encode(block)
        packets += [*video.encode(None), *audio.encode(None)]
        out.mux(sorted(packets, key=lambda packet: (packet.dts or 0) * packet.time_base))
    return path


def _options(codec: str, b_frames: bool) -> dict[str, str]:
    """A key picture each second, and no others."""
    options = {"g": str(RATE_HZ)}
    if codec == "libx264":
        options |= {"preset": "veryfast", "crf": "18", "sc_threshold": "0"} | ({} if b_frames else {"bf": "0"})
    return options


@cache
def _spoken(offset_ms: int) -> tuple[list[av.VideoFrame], Samples]:
    """Pictures of the sample, and its sound from where it has this offset."""
    with FileSource(SAMPLE) as source:
        items = [item for item in source if item.t_ns < SAMPLE_S * NS_PER_S]
    pictures = [item.rgb for item in items if isinstance(item, Frame)][_LEAD_PICTURES:]
    chunks = [item for item in items if isinstance(item, Chunk)]
    skip_s = _LEAD_PICTURES / RATE_HZ + (offset_ms - SAMPLE_OFFSET_MS) / 1000 - chunks[0].t_ns / NS_PER_S
    samples = np.concatenate([chunk.samples for chunk in chunks])[round(skip_s * SOUND_HZ) :]
    return [av.VideoFrame.from_ndarray(picture, "rgb24") for picture in pictures], samples


@contextmanager
def running(*command: str | Path, ready: str | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A server, until the end of the block; with `ready`, from when it has printed that."""
    out = subprocess.PIPE if ready else subprocess.DEVNULL
    parts = [str(part) for part in command]
    process = subprocess.Popen(parts, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.DEVNULL)
    try:
        if ready and process.stdout and process.stdout.readline().decode().strip() != ready:
            raise RuntimeError(f"{command[0]} did not start")
        yield process
    finally:
        process.kill()
        process.wait(10)


def send(path: Path, *to: str, loop: bool = True) -> list[str]:
    """The command line of ffmpeg that sends a recording at its own pace."""
    looped = ["-stream_loop", "-1"] if loop else []
    return ["ffmpeg", "-hide_banner", "-loglevel", "error", "-re", *looped, "-i", str(path), "-c", "copy", *to]


@contextmanager
def udp(path: Path) -> Iterator[str]:
    url = f"udp://127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    with running(*send(path, "-f", "mpegts", f"{url}?pkt_size=1316")):
        yield url


@contextmanager
def rtp(path: Path) -> Iterator[str]:
    url = f"rtp://127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    with running(*send(path, "-f", "rtp_mpegts", url)):
        yield url


@contextmanager
def rtmp(path: Path) -> Iterator[str]:
    """For one client, once."""
    url = f"rtmp://127.0.0.1:{free_port()}/live/stream-key"
    with running(*send(path, "-f", "flv", "-listen", "1", url)):
        time.sleep(1.0)
        yield url


@contextmanager
def srt(path: Path, passphrase: str = "") -> Iterator[str]:
    url = f"srt://127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    secret = f"&passphrase={passphrase}" if passphrase else ""
    with running(*send(path, "-f", "mpegts", f"{url}?mode=listener{secret}")):
        time.sleep(0.5)
        yield url


@contextmanager
def rist(path: Path) -> Iterator[str]:
    """RIST wants an even port."""
    port = next(port for port in iter(lambda: free_port(socket.SOCK_DGRAM), 0) if port % 2 == 0)
    with running(*send(path, "-f", "mpegts", f"rist://127.0.0.1:{port}")):
        yield f"rist://@127.0.0.1:{port}"


@contextmanager
def rtsp(path: Path, *login: str, port: int = 0, reports: bool = True) -> Iterator[str]:
    """reports: whether it sends RTCP sender reports."""
    port = port or free_port()
    with running(*rtsp_command(path, *login, port=port, reports=reports), ready="ready"):
        yield f"rtsp://127.0.0.1:{port}/talk"


def rtsp_command(path: Path, *login: str, port: int, reports: bool = True) -> list[str]:
    """The command line of the server, which prints "ready"."""
    script = Path(__file__).with_name("rtsp_server.py")
    return [SYSTEM_PYTHON, str(script), str(port), str(path), "yes" if reports else "no", *login]


@contextmanager
def hls(path: Path, folder: Path) -> Iterator[str]:
    """Segments of a second, the last six of them, and HTTP."""
    settings = ("-f", "hls", "-hls_time", "1", "-hls_list_size", "6", "-hls_flags", "delete_segments")
    with running(*send(path, *settings, str(folder / "live.m3u8"))), http(folder) as url:
        until = time.monotonic() + 15
        while not (folder / "live2.ts").exists() and time.monotonic() < until:
            time.sleep(0.1)
        yield f"{url}/live.m3u8"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@contextmanager
def http(folder: Path, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    with serving(functools.partial(_Quiet, directory=str(folder)), tls) as url:
        yield url


@contextmanager
def serving(handler: object, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """HTTP on loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)  # type: ignore[arg-type]
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
