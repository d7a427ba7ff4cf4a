"""Runs untrusted models for the first time in a process that may die of it.

LiteRT checks that a .tflite file is well formed, but not that it makes sense: a few changed bytes can crash it or keep
it busy for ever. A child process finds that out, and a model that LiteRT rejects there is rejected too: the child has
limits on memory and time, so what fails in it might not fail in the caller, which has none.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping

import numpy as np

from device.errors import ModelCorruptError, ModelStoreError
from device.litert import Floats, Model

BUSY_S = 20  # of processor time: a second of input takes less than a third of it on the smallest device
_TIMEOUT_S = 120.0  # for a busy device, or a model that blocks for ever
_MEMORY_BYTES = 4 << 30  # of address space: most of it is reserved and never used
_REMEDY = "Build or copy the bundle again"
_BEGUN = b"begun\n"  # the child's message for each model
_REFUSED = 9  # the child's exit code when it rejects a model

_survived: set[str] = set()  # hashes of models that need not run again in this process


def rehearse(
    models: Mapping[str, tuple[bytes, Floats]], *, busy_s: int = BUSY_S, memory_bytes: int = _MEMORY_BYTES
) -> None:
    """Check that LiteRT survives loading and running these models, each with name, content and input.

    Raises ModelCorruptError, and ModelStoreError if no process can be started.
    """
    parcel = io.BytesIO()
    np.savez(parcel, *(part for model, given in models.values() for part in (np.frombuffer(model, np.uint8), given)))
    if (digest := hashlib.sha256(parcel.getvalue()).hexdigest()) in _survived:
        return
    # -P: nothing is imported from the current folder.
    command = [sys.executable, "-P", "-m", __spec__.name, str(busy_s), str(memory_bytes)]
    # OpenBLAS takes 40 MB of address space per thread, and one thread per core.
    around = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, input=parcel.getvalue(), capture_output=True, timeout=_TIMEOUT_S, check=False, env=around
        )
    except subprocess.TimeoutExpired as error:
        raise _fatal(models, error.stdout or b"", f"LiteRT does not answer within {_TIMEOUT_S:g} s") from error
    except OSError as error:
        raise _not_possible(str(error.strerror)) from error
    if done.returncode == -signal.SIGXCPU:
        raise _fatal(models, done.stdout, f"keeps LiteRT busy for more than {busy_s} s")
    if done.returncode < 0:
        raise _fatal(models, done.stdout, f"crashes LiteRT ({signal.Signals(-done.returncode).name})")
    if done.returncode == _REFUSED:
        raise _fatal(models, done.stdout, done.stdout.rpartition(_BEGUN)[2].decode(errors="replace"))
    if done.returncode:
        raise _not_possible((done.stderr.decode(errors="replace").splitlines() or ["it gives no reason"])[-1][:200])
    _survived.add(digest)


def _fatal(names: Iterable[str], begun: bytes, what: str) -> ModelCorruptError:
    return ModelCorruptError(what, where=list(names)[max(begun.count(_BEGUN), 1) - 1], remedy=_REMEDY)


def _not_possible(why: str) -> ModelStoreError:
    what = f"new models cannot be tried in a process of their own ({why})"
    return ModelStoreError(what, where=sys.executable, remedy="Check that Python can start there, and try again")


def _main() -> int:
    """Print a line on stdout before each model, and finally the reason if one is rejected."""
    import resource  # POSIX only, like this process

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    busy_s, memory_bytes = int(sys.argv[1]), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    begun_s = math.ceil(time.process_time())  # Python's own start does not count against the models
    resource.setrlimit(resource.RLIMIT_CPU, (begun_s + busy_s, begun_s + busy_s + 5))
    with np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False) as parcel:
        parts = [parcel[f"arr_{number}"] for number in range(len(parcel.files))]
    for content, given in zip(parts[::2], parts[1::2], strict=True):
        os.write(sys.stdout.fileno(), _BEGUN)
        if why := _refusal(content.tobytes(), given):
            os.write(sys.stdout.fileno(), why.encode(errors="replace"))
            return _REFUSED
    return 0


def _refusal(content: bytes, given: Floats) -> str | None:
    """Why a model does not load or run here; None if it does. The caller rejects inputs of another shape."""
    try:
        model = Model(content, name="rehearsal")
        if given.shape == model.input_shape:
            model(given)
    except ModelCorruptError as error:
        return error.what
    except MemoryError:
        return "needs more memory than a model may take"
    except (ValueError, RuntimeError) as error:
        return f"LiteRT cannot run it ({error})"
    return None


if __name__ == "__main__":
    sys.exit(_main())
