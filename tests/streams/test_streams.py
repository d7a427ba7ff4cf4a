"""`avdrift run` on real streams: the offset that was sliced into them, and no password in any output."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tests.scenes import ROOT
from tests.streams import stream_servers as servers

NUMBERS, WITHIN_S = 3, 60.0
WITHIN_MS = 20.0


def run(*words: str) -> tuple[list[dict[str, Any]], str]:
    """Reports until there are some numbers, and what was said on the side, with the command lines of all processes."""
    command = [sys.executable, "-m", "device.cli", "run", *words]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    threading.Timer(WITHIN_S, process.terminate).start()
    reports, listed = [], ""
    assert process.stdout and process.stderr
    for line in process.stdout:
        reports.append(json.loads(line))
        if sum(report["offset_ms"] is not None for report in reports) >= NUMBERS:
            listed = subprocess.run(["ps", "axww"], capture_output=True, text=True, check=False).stdout
            process.terminate()
    said = process.stderr.read()
    assert process.wait() == 0 and "Traceback" not in said
    return reports, said + listed


def offset_ms(reports: list[dict[str, Any]]) -> float:
    return median(report["offset_ms"] for report in reports if report["offset_ms"] is not None)


@pytest.mark.slow
@servers.needs_ffmpeg
def test_the_offset_of_a_stream_is_the_one_that_was_sliced_into_it() -> None:
    with servers.udp(servers.talk(-120)) as url:
        reports, _ = run("--source", url)
    assert abs(offset_ms(reports) + 120) < WITHIN_MS
    assert reports[-1]["latency_ms"] > 0


@pytest.mark.slow
def test_a_password_is_shown_nowhere(tmp_path: Path) -> None:
    servers.needs_rtsp_server()
    user, password = servers.LOGIN
    (tmp_path / "password").write_text(password)
    with servers.rtsp(servers.talk(300, "pcm_s16le"), *servers.LOGIN) as url:
        time.sleep(0.1)
        reports, said = run("--source", url, "--username", user, "--password-file", str(tmp_path / "password"))
    assert abs(offset_ms(reports) - 300) < WITHIN_MS
    shown = [line for line in said.splitlines() if "rtsp_server.py" not in line]  # ours, which is told it
    for secret in (password, "p%40ss", "/talk"):
        assert not any(secret in line and "--source" not in line for line in shown), secret
        assert secret not in json.dumps(reports)
