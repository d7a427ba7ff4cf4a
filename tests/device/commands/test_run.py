"""`avdrift run` as a process: reports, log, metrics, events, SIGHUP, in the journal and elsewhere."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from device.cli import build_parser, main
from device.commands.options.overrides import overridden_config
from device.config.settings import Config
from device.errors import UsageError
from device.standards import own_profile
from tests.scenes import ROOT, talking, tiny_bundle

HEAD = "config_version = 1\n"
SAMPLE = ROOT / "device" / "models" / "sample.mkv"
PATIENCE_S = 120.0


class Running:
    """The command in a process of its own, with its lines as they come."""

    def __init__(self, *arguments: str, environment: dict[str, str] | None = None) -> None:
        command = [sys.executable, "-m", "device.cli", "run", "--bundle", str(tiny_bundle()), *arguments]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **(environment or {})},
        )  # fmt: skip
        self.out, self.err = self._lines(self.process.stdout), self._lines(self.process.stderr)

    def _lines(self, stream: IO[str] | None) -> queue.SimpleQueue[str]:
        assert stream is not None
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()

        def read() -> None:
            for line in stream:
                lines.put(line.rstrip("\n"))

        threading.Thread(target=read, daemon=True).start()
        return lines

    def wait_for(self, lines: queue.SimpleQueue[str], wanted: Callable[[str], bool]) -> list[str]:
        """All lines up to the wanted one."""
        end_s, found = time.monotonic() + PATIENCE_S, list[str]()
        while not found or not wanted(found[-1]):
            found.append(lines.get(timeout=max(end_s - time.monotonic(), 0.001)))
        return found

    def report(self, wanted: Callable[[dict[str, Any]], bool] = lambda _: True) -> dict[str, Any]:
        line = self.wait_for(self.out, lambda line: wanted(json.loads(line)))[-1]
        found: dict[str, Any] = json.loads(line)
        return found

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait(PATIENCE_S)


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    made: list[Running] = []

    def begin(*arguments: str, environment: dict[str, str] | None = None) -> Running:
        made.append(Running(*arguments, environment=environment))
        return made[-1]

    yield begin
    for running in made:
        running.process.kill()
        running.process.wait(PATIENCE_S)


def written(folder: Path, text: str) -> Path:
    file = folder / "avdrift.toml"
    file.write_text(HEAD + text)
    return file


def test_sighup_takes_over_what_it_can_and_a_broken_file_changes_nothing(
    tmp_path: Path, start: Callable[..., Running]
) -> None:
    file = written(tmp_path, f"[source]\nfile = '{SAMPLE}'\n")
    running = start("--config", str(file), "--every", "0.5")
    assert running.report()["profile"] == "itu-r-bt1359"
    written(
        tmp_path, f"[source]\nfile = '{SAMPLE}'\n[measure]\nprofile = 'ebu-r37'\nwindow_s = 9\n[log]\nlevel = 'error'"
    )
    running.process.send_signal(signal.SIGHUP)
    waits = running.wait_for(running.err, lambda line: "measure.window_s" in line)[-1]
    assert "needs a restart: measure.window_s from 5.0 to 9" in waits
    assert running.report(lambda report: report["profile"] == "ebu-r37")["window_s"] == 5.0
    written(tmp_path, "[measure]\nprofile = 'loud'\n[sauce]\n")
    running.process.send_signal(signal.SIGHUP)
    result = running.wait_for(running.err, lambda line: "sauce" in line)
    assert any("the settings stay as they are" in line for line in result)
    assert any(":3: measure.profile: found 'loud'" in line for line in result)
    assert running.report()["profile"] == "ebu-r37"
    assert running.end() == 0


def test_in_the_journal_the_log_has_the_reports_with_priorities(tmp_path: Path) -> None:
    file = written(tmp_path, f"[source]\nfile = '{talking()}'\n[log]\nreports = 'all'\n")
    command = [sys.executable, "-m", "device.cli", "run", "--bundle", str(tiny_bundle()), "--config", str(file)]
    journal = tmp_path / "journal"
    with journal.open("wb") as stream:
        found = os.fstat(stream.fileno())
        environment = {**os.environ, "JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        done = subprocess.run(
            command, cwd=ROOT, stdout=stream, stderr=stream, env=environment, timeout=PATIENCE_S, check=False
        )  # fmt: skip
    lines = [line for line in journal.read_text().splitlines() if line.startswith("<")]
    assert done.returncode == 0
    assert len([line for line in lines if line.startswith("<6>device.telemetry.log_sink: report: ")]) == 7
    assert "{" not in journal.read_text() and "7 reports:" not in journal.read_text()
    with journal.open("wb") as stream:
        found = os.fstat(stream.fileno())
        environment = {**os.environ, "JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        subprocess.run(
            [*command, "--log-json", "--log-level", "error"], cwd=ROOT, stdout=stream, stderr=stream, env=environment,
            timeout=PATIENCE_S, check=True,
        )  # fmt: skip
    assert "report" not in journal.read_text()


def test_elsewhere_standard_output_has_every_report_and_the_log_none(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, "[log]\nreports = 'all'\n")
    options = ["--source", str(talking()), "--bundle", str(tiny_bundle()), "--config", str(file), "--log-json"]
    assert main(["run", *options]) == 0
    shown = capfd.readouterr()
    assert [json.loads(line)["seq"] for line in shown.out.splitlines()] == list(range(1, 8))
    logged = [json.loads(line) for line in shown.err.splitlines() if line.startswith("{")]
    assert logged and not [line for line in logged if "report" in line]
    assert logged[0]["message"].startswith("avdrift ") and "7 reports:" in shown.err


def test_metrics_are_in_their_file_while_it_runs_and_not_after(tmp_path: Path, start: Callable[..., Running]) -> None:
    file = written(tmp_path, f"[source]\nfile = '{SAMPLE}'\n[metrics]\nfile = 'avdrift.prom'\nevery_s = 1\n")
    running = start("--config", str(file), environment={"RUNTIME_DIRECTORY": str(tmp_path)})
    running.report()
    end_s, metrics = time.monotonic() + PATIENCE_S, tmp_path / "avdrift.prom"
    while not metrics.exists() or "avdrift_state{" not in metrics.read_text():
        assert time.monotonic() < end_s
        time.sleep(0.1)
    assert "avdrift_info{" in metrics.read_text()
    assert running.end() == 0 and not metrics.exists()


def test_options_win_over_the_files_log_settings(tmp_path: Path) -> None:
    file = str(written(tmp_path, "[log]\nlevel = 'error'\nlevels = 'device.cli=debug'\n"))
    given = overridden_config(
        build_parser().parse_args(["run", "--config", file, "--log-level", "debug", "--log-json"])
    )
    assert (given.log.level, given.log.json, given.log.levels) == ("debug", True, "device.cli=debug")
    assert overridden_config(build_parser().parse_args(["run", "--config", file])).log.level == "error"
    assert overridden_config(build_parser().parse_args(["run"])) == Config()


def test_own_limits_come_from_options_or_the_file(tmp_path: Path) -> None:
    file = str(written(tmp_path, "[measure]\nprofile = 'own'\n[limits]\nearly_ms = 10\n"))
    of_file = overridden_config(build_parser().parse_args(["run", "--config", file]))
    assert (of_file.measure.profile, of_file.limits.profile) == ("own", own_profile(10, -60))
    given = overridden_config(build_parser().parse_args(["run", "--config", file, "--limits", "30", "-50"]))
    assert (given.measure.profile, given.limits.profile) == ("own", own_profile(30, -50))
    with pytest.raises(UsageError, match="late_ms"):
        overridden_config(build_parser().parse_args(["run", "--limits", "30", "50"]))
