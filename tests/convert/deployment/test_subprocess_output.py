"""Programs that print too much, too late, or nothing."""

from __future__ import annotations

import subprocess
import time
import tracemalloc

import pytest

from convert.deployment.subprocess_output import MAX_OUTPUT_BYTES, run_bounded


def shell(line: str, timeout_s: float = 20.0) -> subprocess.CompletedProcess[str]:
    return run_bounded(["sh", "-c", line], timeout_s)


def test_what_a_program_prints_and_how_it_ends() -> None:
    done = shell("echo out; echo err >&2; printf '\\377'; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n�", "err\n")


@pytest.mark.parametrize("redirected", ["", ">&2"])
def test_more_than_fits_ends_it(redirected: str) -> None:
    tracemalloc.start()
    with pytest.raises(BufferError, match=f"more than {MAX_OUTPUT_BYTES} bytes"):
        shell(f"exec yes {redirected}")
    assert tracemalloc.get_traced_memory()[1] < 10 * MAX_OUTPUT_BYTES
    tracemalloc.stop()


@pytest.mark.parametrize("line", ["exec sleep 60", "exec >&- 2>&-; exec sleep 60"])
def test_it_ends_in_time(line: str) -> None:
    began_s = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        shell(line, 0.2)
    assert time.monotonic() - began_s < 10


def test_what_is_no_program() -> None:
    with pytest.raises(OSError):
        run_bounded(["/no/such/program"], 1)
