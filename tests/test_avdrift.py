"""`import avdrift`: recordings and arrays measured by a program, without the command line and without POSIX."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

import avdrift
from device.records import NS_PER_S, Frame
from tests.repository.test_house import repository_files
from tests.scenes import avdrift as command
from tests.scenes import talking, talking_items
from train.scenes.sliced_files import slice_file

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "device" / "models" / "sample.mkv"


def fed(meter: avdrift.Meter, from_s: float = 0.0, *, rate_hz: int = 16_000, stereo: bool = False) -> None:
    """The talking face, with its sound at another rate, beside a silent channel."""
    for item in talking_items():
        t_s = from_s + item.t_ns / NS_PER_S
        if isinstance(item, Frame):
            meter.push_frame(item.rgb, t_s)
            continue
        samples = np.repeat(item.samples, rate_hz // item.rate_hz)
        meter.push_sound(np.stack([samples, 0 * samples], 1) if stereo else samples, t_s, rate_hz)


def test_a_recording_is_measured_as_the_command_does_it(tmp_path: Path) -> None:
    late = tmp_path / "late.mkv"
    slice_file(talking(), late, -160)
    found = avdrift.measure(str(late), window_s=4)
    assert found.state is avdrift.State.MEASURING and found.offset_ms == pytest.approx(-160, abs=20)
    assert found.verdict is avdrift.Verdict.DETECTABLE and len(found.windows) == 1
    printed = json.loads(command("measure", late, "--window", "4", "--json").stdout)
    assert json.loads(json.dumps(found.to_dict())) == printed, "the same keys, the same values"


def test_arrays_are_measured_whatever_their_rate_and_their_clock() -> None:
    meter = avdrift.Meter()
    assert meter.report() is None
    fed(meter, from_s=1e6, rate_hz=48_000, stereo=True)
    report = meter.report()
    assert report is not None and report.offset_ms == pytest.approx(0, abs=20)
    meter.reset()  # another clock
    assert meter.report() is None
    fed(meter)
    report = meter.report()
    assert report is not None and report.offset_ms == pytest.approx(0, abs=20)


@pytest.mark.parametrize("dtype", [np.int16, np.float64])
def test_sound_in_other_formats(dtype: type[np.generic]) -> None:
    meter, scale = avdrift.Meter(), 32767 if dtype is np.int16 else 1
    for item in talking_items():
        if isinstance(item, Frame):
            meter.push_frame(item.rgb, item.t_ns / NS_PER_S)
        else:
            meter.push_sound((item.samples * scale).astype(dtype), item.t_ns / NS_PER_S, item.rate_hz)
    report = meter.report()
    assert report is not None and report.offset_ms == pytest.approx(0, abs=20)


def test_what_cannot_be_used_is_refused_with_a_remedy() -> None:
    meter, picture, sound = avdrift.Meter(), np.zeros((48, 64, 3), np.uint8), np.zeros(160, np.float32)
    meter.push_frame(picture, 1.0)
    meter.push_sound(sound, 1.0, 16_000)
    for wrong in (picture[:, :, 0], picture.astype(np.int8), picture[:8], np.zeros((48, 64, 4), np.uint8)):
        with pytest.raises(avdrift.UsageError, match="in RGB"):
            meter.push_frame(wrong, 2.0)  # type: ignore[arg-type]
    for t_s in (1.0, 0.5, float("nan")):
        with pytest.raises(avdrift.UsageError, match="push_frame"):
            meter.push_frame(picture, t_s)
    for samples in (sound.astype(np.int32), sound[:0], sound * np.nan, sound.reshape(1, 160, 1)):
        with pytest.raises(avdrift.UsageError, match="push_sound"):
            meter.push_sound(samples, 2.0, 16_000)
    with pytest.raises(avdrift.UsageError, match="0 Hz"):
        meter.push_sound(sound, 2.0, 0)
    with pytest.raises(avdrift.UsageError, match="reset"):
        meter.push_sound(sound, 0.5, 16_000)


def test_errors_of_a_program_s_making() -> None:
    with pytest.raises(avdrift.UsageError, match="itu-r-bt1359"):
        avdrift.measure(SAMPLE, profile="mine")
    with pytest.raises(avdrift.CaptureError):
        avdrift.measure("no-such.mp4")
    with pytest.raises(avdrift.ModelError):
        avdrift.Meter(bundle="no-such-folder")
    with pytest.raises(avdrift.UsageError, match="window_s"):
        avdrift.Meter(window_s=1000)


HIDING = """
import os, sys
hidden = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name in hidden:
            raise ModuleNotFoundError(name)
import subprocess, tempfile, multiprocessing  # the standard library's own use
for name in hidden & sys.modules.keys() - {"posix"}:
    del sys.modules[name]
sys.meta_path.insert(0, Hide())
for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_DIRECTORY", "geteuid", "getuid", "chown", "fork"):
    delattr(os, name)
import avdrift, device.cli
assert "OPENBLAS_NUM_THREADS" not in os.environ, "a program's threads are its own"
print(avdrift.measure(sys.argv[1]).offset_ms)
"""


def test_nothing_of_posix_is_needed_to_measure() -> None:
    around = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    run = [sys.executable, "-c", HIDING, str(talking())]
    done = subprocess.run(
        run, capture_output=True, text=True, cwd=ROOT, env=around | {"PYTHONPATH": str(ROOT)}, check=False
    )
    assert done.returncode == 0, done.stderr
    assert abs(float(done.stdout)) < 20


@pytest.mark.slow  # it installs the device's packages
def test_the_wheel_in_an_empty_environment_measures_the_sample(tmp_path: Path) -> None:
    lock = subprocess.run([sys.executable, "tools/lock_file.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    venv.create(tmp_path / "empty", with_pip=False)
    python = tmp_path / "empty" / "bin" / "python"
    into = [*pip, "--python", str(python), "install"]
    requirements = ROOT / "requirements" / "run" / lock.stdout.strip()
    for file in repository_files():  # building leaves things behind
        copy = tmp_path / "source" / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, tmp_path / "source"], check=True)
    (wheel,) = tmp_path.glob("avdrift-*.whl")
    with zipfile.ZipFile(wheel) as content:
        names = set(content.namelist())
    assert {f"{package}/py.typed" for package in ("avdrift", "device", "train", "convert")} <= names
    subprocess.run([*into, "--require-hashes", "--only-binary", ":all:", "-r", requirements], check=True)
    subprocess.run([*into, "--no-deps", wheel], check=True)
    share = Path(sys.prefix) / "share" / "avdrift"  # the face detector, as `make setup` has fetched it
    script = "import avdrift, sys; print([piece.offset_ms for piece in avdrift.measure(sys.argv[1]).pieces])"
    done = subprocess.run(
        [python, "-c", script, SAMPLE], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"], "AVDRIFT_SHARE": str(share)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == pytest.approx([80, -160, 240], abs=20)
