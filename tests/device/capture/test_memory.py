"""Files whose decoders need too much memory: refused with a remedy, and the next one is measured."""

from __future__ import annotations

import resource
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from device.capture.memory import has_room_for, memory_bound
from device.errors import InputFormatError, UsageError
from tests.scenes import ROOT, talking, tiny_bundle

# Its peak, since what getrusage says of a child begins with its parent's.
_RUN = r"""
import re, sys
from pathlib import Path
from device.cli import main
code = main(sys.argv[1:])
peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]
print("peak", int(peak) // 1024, file=sys.stderr)
sys.exit(code)
"""


def kept_by_the_decoder(path: Path, width: int = 3840, height: int = 2160, form: str = "yuv444p10le") -> Path:
    """A small file whose decoder keeps 16 pictures of 50 MB."""
    with av.open(str(path), "w") as out:
        keeping = {"preset": "ultrafast", "x264-params": "ref=16:bframes=16:b-pyramid=normal"}
        video, audio = out.add_stream("libx264", rate=25, options=keeping), out.add_stream("pcm_s16le", rate=16_000)
        assert isinstance(audio, av.AudioStream)
        video.width, video.height, video.pix_fmt, audio.layout = width, height, form, "mono"
        for number in range(20):
            picture = av.VideoFrame(width, height, form)
            for plane in picture.planes:
                plane.update(np.full(plane.buffer_size // 2, 400 + number, np.uint16).tobytes())
            picture.pts, picture.time_base = number, Fraction(1, 25)
            out.mux(video.encode(picture))
            block = av.AudioFrame.from_ndarray(np.zeros((1, 640), np.int16), format="s16", layout="mono")
            block.sample_rate, block.pts, block.time_base = 16_000, 640 * number, Fraction(1, 16_000)
            out.mux(audio.encode(block))
        out.mux(video.encode(None))
    return path


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = kept_by_the_decoder(tmp_path_factory.mktemp("large") / "large.mkv")
    assert path.stat().st_size < 10_000_000
    return path


@pytest.mark.slow
@pytest.mark.parametrize("command", ["measure", "replay", "fix", "run --source"])
def test_a_small_file_that_would_take_a_lot_takes_no_more_than_is_allowed(
    command: str, large: Path, tmp_path: Path
) -> None:
    more = {"measure": talking(), "fix": tmp_path / "out.mkv"}
    arguments = [*command.split(), large, *([more[command]] if command in more else []), "--bundle", tiny_bundle()]
    done = subprocess.run(
        [sys.executable, "-c", _RUN, *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 3 and "--max-memory" in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert command != "measure" or str(talking()) in done.stdout, "the next file is measured"
    assert int(done.stderr.split()[-1]) < 400, "MB"
    assert not list(tmp_path.iterdir())


def test_the_bound_ends_with_what_it_is_for() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with pytest.raises(InputFormatError, match=r"talk\.mkv: .*--max-memory"), memory_bound(100_000, "talk.mkv"):
        assert not has_room_for(1 << 40)
        np.ones(1 << 40)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert has_room_for(1 << 40) or before[0] != resource.RLIM_INFINITY


def test_a_process_that_already_uses_more_can_still_start_threads() -> None:
    taken = np.ones(256 * 1024**2, np.uint8)
    with memory_bound(200, "talk.mkv"):
        thread = threading.Thread(target=lambda: None)
        thread.start()
        thread.join()
    assert len(taken)


@pytest.mark.parametrize("limit_mb", [0.0, 199.0, float("nan"), float("inf"), -1.0])
def test_limits_that_cannot_be(limit_mb: float) -> None:
    with pytest.raises(UsageError, match="--max-memory"), memory_bound(limit_mb, "talk.mkv"):
        pass
