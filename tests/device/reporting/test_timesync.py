"""Is the wall clock synchronized? The kernel's real answer, the layout of its structure, and made-up answers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from device.reporting import timesync
from device.reporting.timesync import Timex, clock_synced, read_timex

LAYOUT = """
#include <stddef.h>
#include <stdio.h>
#include <sys/timex.h>
int main(void) {
  printf("%zu %zu %zu %zu %zu", sizeof(struct timex), offsetof(struct timex, maxerror),
         offsetof(struct timex, esterror), offsetof(struct timex, status), offsetof(struct timex, tolerance));
}
"""


def kernel_says(monkeypatch: pytest.MonkeyPatch, timex: Timex | None) -> None:
    monkeypatch.setattr(timesync, "read_timex", lambda: timex)


def known(maxerror_us: int, status: int = 0) -> Timex:
    return Timex(maxerror_us=maxerror_us, status=status)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_form_is_the_c_librarys(tmp_path: Path) -> None:
    (tmp_path / "layout.c").write_text(LAYOUT)
    subprocess.run(["cc", "layout.c", "-o", "layout"], cwd=tmp_path, check=True, timeout=60)
    said = subprocess.run([tmp_path / "layout"], check=True, capture_output=True, text=True, timeout=60).stdout
    size, maxerror, esterror, status, tolerance = (int(word) for word in said.split())
    fields = (Timex.maxerror_us, Timex.esterror_us, Timex.status, Timex.tolerance)
    assert [field.offset for field in fields] == [maxerror, esterror, status, tolerance]
    assert Timex.rest.offset + Timex.rest.size >= size, "the kernel would write beyond it"


def test_the_kernel_answers_and_nothing_is_changed() -> None:
    first, second = read_timex(), read_timex()
    if first is None or second is None:
        pytest.skip("a sandbox keeps the kernel's clock from being asked")
    assert first.modes == second.modes == 0
    assert 0 <= first.maxerror_us <= 16_000_000 and first.freq == second.freq
    assert clock_synced() in (True, False)


@pytest.mark.parametrize(
    ("timex", "synced"),
    [
        (known(16_000_000, status=0x40), False),  # after boot, and nine hours after the last correction
        (known(16_000_000), False),
        (known(15_999_999), True),
        (known(500, status=0x2001), True),
        (known(500, status=0x40), True),  # chrony without rtcsync
        (known(0), True),
    ],
)
def test_what_the_greatest_error_means(monkeypatch: pytest.MonkeyPatch, timex: Timex, synced: bool) -> None:
    kernel_says(monkeypatch, timex)
    assert clock_synced() is synced


def test_without_access_to_the_kernel_timesyncd_decides_otherwise_it_is_unknown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kernel_says(monkeypatch, None)
    monkeypatch.setattr(timesync, "_TIMESYNC", tmp_path / "synchronized")
    assert clock_synced() is None
    (tmp_path / "synchronized").touch()
    assert clock_synced() is True


def test_it_agrees_with_systemds_own_answer() -> None:
    if shutil.which("timedatectl") is None or read_timex() is None:
        pytest.skip("no timedatectl, or no leave to ask")
    done = subprocess.run(
        ["timedatectl", "show", "--property=NTPSynchronized", "--value"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip("no systemd is running here")
    assert (done.stdout.strip() == "yes") is clock_synced()


def test_asking_leaks_nothing() -> None:
    script = "from device.reporting.timesync import clock_synced as f\nimport resource\n"
    script += "for _ in range(2000): f()\nbefore = resource.getrusage(0).ru_maxrss\nfor _ in range(20000): f()\n"
    script += "assert resource.getrusage(0).ru_maxrss - before < 2000"
    subprocess.run([sys.executable, "-c", script], cwd=Path(timesync.__file__).parents[2], check=True, timeout=120)
