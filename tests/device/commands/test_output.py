"""Output that nobody reads, or without space: measuring continues, a signal ends it, and there is a message."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.scenes import ROOT, looped, talking, tiny_bundle

COMMAND = [sys.executable, "-m", "device.cli"]
_MIN_PIPE_BYTES = 4096  # about eight reports
_ENDS_S = 2.0


def narrow_pipe() -> tuple[int, int]:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _MIN_PIPE_BYTES)
    return reader, writer


def ended_within(process: subprocess.Popen[bytes], limit_s: float) -> int:
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(limit_s)
    finally:
        process.kill()


@pytest.mark.parametrize("shared", [False, True], ids=["stdout", "stdout and stderr"])
def test_run_goes_on_and_ends_while_nobody_reads(tmp_path: Path, shared: bool) -> None:
    reader, writer = narrow_pipe()
    log = tmp_path / "log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [*COMMAND, "run", "--source", looped(4), "--every", "0.2", "--bundle", tiny_bundle()], cwd=ROOT,
            stdout=writer, stderr=writer if shared else errors,
        )  # fmt: skip
    os.close(writer)
    assert select.select([reader], [], [], 60)[0], "no first report"
    time.sleep(5)  # 25 reports, for which there is no room
    assert ended_within(process, _ENDS_S) == 0
    if not shared:
        said = log.read_text()
        assert "reports were lost" in said and "Traceback" not in said
        measured = int(said.split(" reports:")[0].rsplit("\n", 1)[1])
        assert measured > 8, said
    os.close(reader)


def test_replay_waits_for_its_reader_but_not_when_it_is_to_end() -> None:
    reader, writer = narrow_pipe()
    process = subprocess.Popen(
        [*COMMAND, "replay", looped(4), "--json", "--every", "0.2", "--bundle", tiny_bundle()], cwd=ROOT,
        stdout=writer, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(writer)
    time.sleep(6)
    assert process.poll() is None
    assert ended_within(process, _ENDS_S) == 0
    os.close(reader)


def test_a_slow_reader_of_replay_gets_every_line() -> None:
    reader, writer = narrow_pipe()
    process = subprocess.Popen(
        [*COMMAND, "replay", looped(4), "--json", "--every", "0.2", "--bundle", tiny_bundle()], cwd=ROOT,
        stdout=writer, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(writer)
    time.sleep(6)
    with os.fdopen(reader, "rb") as stream:
        lines = stream.read().splitlines()
    assert process.stderr is not None
    assert f"{len(lines)} reports:" in process.stderr.read().decode() and len(lines) > 100
    assert process.wait(10) == 0


@pytest.mark.parametrize("command", ["measure", "replay", "run --source"])
def test_a_full_disk_is_a_message(command: str) -> None:
    arguments = [*command.split(), talking(), *([] if command == "run --source" else ["--json"])]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*COMMAND, *map(str, arguments), "--bundle", str(tiny_bundle())],
            cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 5, done.stderr
    assert "No space left on device" in done.stderr and "Free some space" in done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


@pytest.mark.parametrize("closed", [">&-", ">&- <&-"])
def test_a_closed_output_is_a_message(closed: str) -> None:
    line = f'exec "$0" -m device.cli replay "$1" --json --bundle "$2" {closed}'
    command = ["sh", "-c", line, sys.executable, str(talking()), str(tiny_bundle())]
    done = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.returncode == 5 and "standard output: closed" in done.stderr and "Traceback" not in done.stderr


def test_messages_do_not_take_the_place_of_reports_where_stderr_is_closed() -> None:
    command = ["sh", "-c", 'exec "$0" -m device.cli measure none.mkv --json 2>&-', sys.executable]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (3, "")
