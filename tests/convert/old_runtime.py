"""Do bundles load in tflite-runtime 2.14, the last one under that name? Systems that still carry it run Python 3.11.

`python -m tests.convert.old_runtime BUNDLE…`: makes an environment of its own for it on the first call (ten seconds),
in ~/.cache/avdrift/tflite-runtime-2.14 or $AVDRIFT_OLD_RUNTIME, and verifies the bundles there with the device's own
code, golden vectors included. One line a bundle; the exit code is 1 where one is refused.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_REQUIREMENTS = ("tflite-runtime==2.14.0", "numpy<2", "opencv-python-headless<4.12")  # no newer ones go with it
_VERIFY = """
import sys
from importlib.metadata import version
from pathlib import Path
from device.errors import ModelError
from device.bundles.bundle import load_bundle
status = 0
for name in sys.argv[1:]:
    try:
        load_bundle(Path(name))
        print(f"{name}: loads in tflite-runtime {version('tflite-runtime')}, and answers its golden vectors")
    except ModelError as error:
        print(error)
        status = 1
sys.exit(status)
"""


def environment() -> Path:
    """Its Python. Raises OSError or CalledProcessError where it cannot be made: another Python, no network."""
    folder = Path(os.environ.get("AVDRIFT_OLD_RUNTIME", Path.home() / ".cache/avdrift/tflite-runtime-2.14"))
    python = folder / "bin" / "python"
    if not (folder / "made").exists():
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=False)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python), "install", "-q"]
        subprocess.run([*pip, "--only-binary=:all:", *_REQUIREMENTS], check=True, capture_output=True, timeout=600)
        (folder / "made").touch()
    return python


def verify(*bundles: Path) -> subprocess.CompletedProcess[str]:
    """What that runtime says of bundles; its exit code is 0 where it takes all of them."""
    command = [str(environment()), "-c", _VERIFY, *map(str, bundles)]
    paths = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=paths)


if __name__ == "__main__":
    done = verify(*map(Path, sys.argv[1:]))
    print(done.stdout, end="")
    print(done.stderr, end="", file=sys.stderr)
    sys.exit(done.returncode)
