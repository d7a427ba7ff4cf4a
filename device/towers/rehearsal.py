"""The first run of models, in a process that may die of it.

LiteRT checks that a .tflite file is well formed, but not that it makes sense: a few changed bytes can crash it or keep
it busy for ever. A child process finds that out. What LiteRT merely refuses, the caller is going to find refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping

import numpy as np

from device.errors import ModelCorruptError, ModelStoreError
from device.towers.litert import Floats, Model

BUSY_S = 20  # of processor time: starting Python and running a second of input take a third on the smallest device
_TIMEOUT_S = 120.0  # a busy device, or a model that waits for ever
_MEMORY_BYTES = 4 << 30  # of addresses: most of them are reserved and never used
_REMEDY = "Build or copy the bundle again"


_survived: set[str] = set()  # hashes of what need not be run again in this process


def rehearse(models: Mapping[str, tuple[bytes, Floats]], *, busy_s: int = BUSY_S) -> None:
    """Nothing, where LiteRT survives loading and running these: of each its name, content and input.

    Raises ModelCorruptError, and ModelStoreError where no process can be started.
    """
    parcel = io.BytesIO()
    np.savez(parcel, *(part for model, given in models.values() for part in (np.frombuffer(model, np.uint8), given)))
    if (digest := hashlib.sha256(parcel.getvalue()).hexdigest()) in _survived:
        return
    # -P: nothing is imported from wherever this happens to be called.
    command = [sys.executable, "-P", "-m", __spec__.name, str(busy_s)]
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(
            command, input=parcel.getvalue(), capture_output=True, timeout=_TIMEOUT_S, check=False, env=paths
        )
    except subprocess.TimeoutExpired as error:
        raise _fatal(models, error.stdout or b"", f"LiteRT does not answer within {_TIMEOUT_S:g} s") from error
    except OSError as error:
        raise _not_possible(str(error.strerror)) from error
    if done.returncode == -signal.SIGXCPU:
        raise _fatal(models, done.stdout, f"keeps LiteRT busy for more than {busy_s} s")
    if done.returncode < 0:
        raise _fatal(models, done.stdout, f"crashes LiteRT ({signal.Signals(-done.returncode).name})")
    if done.returncode:
        raise _not_possible((done.stderr.decode(errors="replace").splitlines() or ["it does not say why"])[-1][:200])
    _survived.add(digest)


def _fatal(names: Iterable[str], begun: bytes, what: str) -> ModelCorruptError:
    return ModelCorruptError(what, where=list(names)[max(begun.count(b"\n"), 1) - 1], remedy=_REMEDY)


def _not_possible(why: str) -> ModelStoreError:
    what = f"new models cannot be tried in a process of their own ({why})"
    return ModelStoreError(what, where=sys.executable, remedy="See that Python can start there, and try again")


def _main() -> None:
    """Says on stdout, with a line each, which model it begins with."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    busy_s = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CPU, (busy_s, busy_s + 5))
    with np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False) as parcel:
        parts = [parcel[f"arr_{number}"] for number in range(len(parcel.files))]
    for content, given in zip(parts[::2], parts[1::2], strict=True):
        print("begun", flush=True)
        with contextlib.suppress(ModelCorruptError, ValueError, RuntimeError, MemoryError):
            model = Model(content.tobytes(), name="rehearsal")
            if given.shape == model.input_shape:
                model(given)


if __name__ == "__main__":
    _main()
