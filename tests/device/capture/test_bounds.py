"""A small file can demand any amount of memory: too large a demand is refused before anything is unpacked."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from device.capture.bounds import MAX_PIXELS, check_file, sound_fits
from device.capture.file import FileSource
from device.errors import CaptureError, InputFormatError, InputMissingError
from device.records import Chunk, Frame
from tests.recordings import Picture, Sound, write

_MEMORY_MB = 400
_READ = r"""
import json, re, sys
from pathlib import Path
from device.capture.file import FileSource
from device.errors import CaptureError
told = {"error": None, "damaged": None}
try:
    with FileSource(sys.argv[1]) as source:
        told["count"] = sum(1 for _ in source)
        told["damaged"] = source.damaged
except CaptureError as error:
    told["error"] = str(error)
told["peak_mb"] = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024
print(json.dumps(told))
"""


def read(path: Path) -> dict[str, object]:
    """In a process of its own, which may have 3 GB of addresses and 30 s."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))

    command = [sys.executable, "-c", _READ, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, preexec_fn=limit, check=True)
    told: dict[str, object] = json.loads(done.stdout)
    assert isinstance(told["peak_mb"], float) and told["peak_mb"] < _MEMORY_MB, told
    return told


def made(path: Path, *sizes: tuple[int, int], layout: str = "mono") -> Path:
    """Three pictures of each size, and as much sound."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("mjpeg", rate=25)
        assert isinstance(video, av.VideoStream)
        (video.width, video.height), video.pix_fmt = sizes[0], "yuvj420p"
        audio = out.add_stream("pcm_s16le", rate=16_000)
        assert isinstance(audio, av.AudioStream)
        audio.layout = layout
        channels = av.AudioLayout(layout).nb_channels
        for number, (width, height) in enumerate(size for size in sizes for _ in range(3)):
            picture = av.VideoFrame(width, height, "yuvj420p")
            for plane in picture.planes:
                plane.update(bytes([number % 3 + 100]) * plane.buffer_size)
            encoder = av.CodecContext.create("mjpeg", "w")
            assert isinstance(encoder, av.VideoCodecContext)
            encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuvj420p"
            encoder.time_base = Fraction(1, 25)
            picture.pts, picture.time_base = 0, Fraction(1, 25)
            for packet in [*encoder.encode(picture), *encoder.encode(None)]:
                packet.stream, packet.time_base = video, Fraction(1, 25)
                packet.pts = packet.dts = number
                out.mux(packet)
            block = av.AudioFrame.from_ndarray(np.zeros((1, 640 * channels), np.int16), format="s16", layout=layout)
            block.sample_rate, block.pts, block.time_base = 16_000, 640 * number, Fraction(1, 16_000)
            for packet in audio.encode(block):
                out.mux(packet)
    return path


@pytest.mark.parametrize("rate_hz", [1, 100, 3_999, 1_073_789_824])
def test_sound_at_a_rate_that_nobody_records_at(tmp_path: Path, rate_hz: int) -> None:
    path = write(tmp_path / "a.mkv", Picture(), Sound("pcm_s16le", 8_000, "mono"))
    content = path.read_bytes()
    before, after = (b"\xb5\x88" + np.array(rate, ">f8").tobytes() for rate in (8_000, rate_hz))
    assert content.count(before) == 1
    path.write_bytes(content.replace(before, after))
    error = str(read(path)["error"])
    assert f"{rate_hz} Hz" in error and "ffmpeg" in error


def test_how_sound_of_an_odd_rate_can_be_converted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", Picture(), Sound("pcm_s16le", 2_000, "mono"))
    with pytest.raises(InputFormatError, match=r"2000 Hz.*-ar 48000"):
        FileSource(path)


@pytest.mark.parametrize("channels", [9, 64])
def test_channels_that_cannot_be_mixed(tmp_path: Path, channels: int) -> None:
    path = made(tmp_path / "a.mkv", (64, 48), layout=f"{channels}C")
    assert f"{channels} channels" in str(read(path)["error"])


@pytest.mark.parametrize("layout", ["mono", "2.1", "7.1", "12C", "22.2"])
def test_channels_that_can_be_mixed(tmp_path: Path, layout: str) -> None:
    path = made(tmp_path / "a.mkv", (64, 48), layout=layout)
    assert read(path)["damaged"] is None


def test_pictures_that_grow_are_damage_and_take_no_memory(tmp_path: Path) -> None:
    sizes = (64, 48), (8192, 8192), (320, 240)
    path = made(tmp_path / "a.mkv", *sizes)
    assert path.stat().st_size < 10_000_000
    told = read(path)
    assert told["error"] is None and "3 × video packet that cannot be decoded" in str(told["damaged"])
    with FileSource(path) as source:
        pictures = [item for item in source if isinstance(item, Frame)]
    assert {picture.rgb.shape for picture in pictures} == {(48, 64, 3), (240, 320, 3)}


def test_pictures_of_4k_are_read_and_larger_ones_are_not(tmp_path: Path) -> None:
    assert read(made(tmp_path / "a.mkv", (4096, 2304)))["damaged"] is None
    assert str(MAX_PIXELS) in str(read(made(tmp_path / "b.mkv", (4096, 2400)))["error"])


def test_sound_that_changes_in_the_middle_has_the_same_bounds() -> None:
    frame = av.AudioFrame("s16", "mono", 64)
    for rate_hz, fits in ((16_000, True), (1, False), (0, False), (1 << 30, False)):
        frame.sample_rate = rate_hz
        assert sound_fits(frame) is fits


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\na.ts\n"),  # has no end
        ("a.mkv", "#EXTM3U\n#EXTINF:1,\nwhole.mkv\n"),
        ("a.mkv", "ffconcat version 1.0\nfile whole.mkv\n"),
        ("a.mkv", '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>\n'),
        ("a.m3u", "whole.mkv\n"),
    ],
)
def test_lists_of_files_are_no_recordings(tmp_path: Path, name: str, text: str) -> None:
    write(tmp_path / "whole.mkv")
    (tmp_path / name).write_text(text)
    with pytest.raises(InputFormatError, match="not a recording") as caught:
        FileSource(tmp_path / name)
    assert "Give the files that it names" in str(caught.value)


def test_a_list_that_hides_behind_a_preamble_opens_nothing(tmp_path: Path) -> None:
    write(tmp_path / "whole.mkv")
    (tmp_path / "a.mkv").write_bytes(b"\xef\xbb\xbf\n#EXTM3U\n#EXTINF:1,\nwhole.mkv\n#EXT-X-ENDLIST\n")
    with pytest.raises(CaptureError):
        FileSource(tmp_path / "a.mkv")
    (tmp_path / "p%03d.png").write_bytes(b"no picture")
    with pytest.raises(CaptureError):
        FileSource(tmp_path / "p%03d.png")


def test_a_file_of_the_kernel_is_refused_before_it_is_read() -> None:
    with pytest.raises(InputFormatError, match="empty"):
        check_file(Path("/proc/self/status"))  # as /proc/kmsg, in which root would wait for ever


def test_sound_at_the_slowest_rate_is_read(tmp_path: Path) -> None:
    with FileSource(write(tmp_path / "a.mkv", Picture(), Sound("pcm_s16le", 4_000, "mono"))) as source:
        chunks = [item for item in source if isinstance(item, Chunk)]
        assert source.damaged is None and sum(len(chunk.samples) for chunk in chunks) > 40_000


@pytest.mark.parametrize("content", [b"\x1aE\xdf\xa3 title <MPD #EXTM3U", b"RIFF <playlist", b"<html> #EXTM3U v=0\n"])
def test_words_of_a_list_within_a_recording_make_it_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.mkv").write_bytes(content)
    check_file(tmp_path / "a.mkv")


@pytest.mark.parametrize("address", ["rtsp://me:secret@camera/live", "https://host/talk.m3u8", "srt://host:9000"])
def test_an_address_is_refused_with_a_hint_and_without_its_secrets(address: str) -> None:
    with pytest.raises(InputMissingError, match="run --source") as caught:
        check_file(Path(address))
    assert "secret" not in str(caught.value)
