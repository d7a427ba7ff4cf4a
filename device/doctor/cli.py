"""`avdrift doctor`: checks everything that live measuring needs, with a remedy for each problem."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from functools import partial
from pathlib import Path

from device.bundles.bundle import load_bundle
from device.bundles.store import Store
from device.commands.devices import find_cameras, find_microphones
from device.commands.options.models import add_store_option, open_store
from device.config.file import DEFAULT_FILE, read_config
from device.config.settings import Config
from device.config.toml_reader import Problem
from device.doctor import broker, capture, clock, models, power, streams, system
from device.doctor.finding import (
    CAPTURE,
    CONFIG,
    MODEL,
    TRANSPORT,
    Check,
    CheckResult,
    Level,
    examine,
    exit_code,
    failed,
    ok,
)
from device.doctor.host import Host, this_host
from device.state.ownership import become_owner

_SPEED_LIMIT_S = 60.0
_REACH_LIMIT_S = 25.0


def add_doctor_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    doctor = commands.add_parser("doctor", help="find what works here and what does not, and say what to do")
    doctor.add_argument("--config", type=Path, metavar="FILE", help=f"default: {DEFAULT_FILE}, where it is there")
    doctor.add_argument("--user", metavar="NAME", help="the user that avdrift runs as (default: this one)")
    add_store_option(doctor)
    doctor.add_argument("--json", action="store_true", help="print one JSON object")


def doctor_command(options: argparse.Namespace, host: Host | None = None) -> int:
    """Run all checks; return 0 if none has failed, otherwise the code of a failure."""
    file = options.config or (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)
    config, problems = read_config(file) if file else (Config(), [])
    store = open_store(options.store)
    become_owner(store.folder)  # check what the service would find, and run no models as root
    checks = all_checks(host or this_host(options.user), config, problems, file, store)
    findings = []
    for finding in examine(checks):
        findings.append(finding)
        if not options.json:
            print(f"{finding.level:8} {finding.check:13} {finding.found}", flush=True)
            if finding.remedy:
                print(f"{'':22} -> {finding.remedy}", flush=True)
    code = exit_code(checks, findings)
    if options.json:
        levels = [finding.level for finding in findings]
        worst = next((level for level in (Level.FAILED, Level.WARNING) if level in levels), Level.OK)
        checked = [asdict(finding) for finding in findings]
        print(json.dumps({"level": worst, "exit_code": code, "checks": checked}))
    return code


def all_checks(host: Host, config: Config, problems: list[Problem], file: Path | None, store: Store) -> list[Check]:
    """In an order in which a problem may explain later ones."""
    folder = file.parent if file else Path()
    given = folder / config.model.bundle if config.model.bundle else None

    return [
        Check("config", CONFIG, partial(_config, file, problems)),
        Check("software", CONFIG, system.software),
        Check("state folder", CONFIG, partial(system.state_folder, store.folder)),
        Check("memory", CONFIG, partial(system.memory, host)),
        Check("power", CONFIG, partial(power.power_supply, host)),
        Check("throttling", CONFIG, partial(power.throttling, host)),
        Check("temperature", CONFIG, partial(power.temperature, host)),
        Check("clock source", CONFIG, partial(clock.clock_source, host)),
        Check("wall clock", CONFIG, partial(clock.wall_clock, host)),
        *_capture(host, config),
        Check("protocols", CAPTURE, partial(streams.protocols, config.source, folder)),
        Check("bundle", MODEL, partial(models.bundle, given, store)),
        Check("face model", MODEL, models.face_model),
        Check("speed", MODEL, lambda: models.speed(load_bundle(models.chosen(given, store)[0])), _SPEED_LIMIT_S),
        Check("broker", TRANSPORT, partial(broker.broker, config, folder), _REACH_LIMIT_S),
        Check("service", CONFIG, partial(system.service, host)),
    ]  # fmt: skip


def _capture(host: Host, config: Config) -> list[Check]:
    """Checks of camera and microphone, if these are measured."""
    if config.source.url or config.source.file:
        return []
    return [
        Check("permissions", CAPTURE, partial(capture.permissions, host)),
        Check("camera", CAPTURE, partial(capture.camera, config.camera.device, partial(find_cameras, host.root))),
        Check(
            "microphone", CAPTURE,
            partial(capture.microphone, config.microphone.device, partial(find_microphones, host.root)),
        ),
    ]  # fmt: skip


def _config(file: Path | None, problems: list[Problem]) -> CheckResult:
    if file is None:
        return ok(f"none given, and no {DEFAULT_FILE}: the defaults")
    if not problems:
        return ok(f"{file}: correct")
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return failed(
        f"{problems[0].text(file)}{more}", f"avdrift check-config {file} lists all; the defaults were used here"
    )
