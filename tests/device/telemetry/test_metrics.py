"""Metrics as Prometheus' own parsers read them: units, absent values, nothing stale."""

from __future__ import annotations

import math
import shutil
import subprocess
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from device.records import NS_PER_S, DriftClass, Health, Info, Report, State
from device.telemetry.metrics import Metrics
from tests.device.telemetry.test_log_sink import EVENT, INFO
from tests.device.telemetry.test_report_text import BLIND, MEASURED

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

HEALTH = Health(
    schema=1, boot_id="b", uptime_s=60.0, t_unix_ms=1, clock_synced=True, cpu_ratio=0.25, memory_mb=150.5, threads=7,
    open_files=30, temperature_c=55.5, undervoltage=False, disk_free_mb=1000.0, video_rate_hz=24.98,
    microphone_ppm=-35.0, video_dropped=3, audio_dropped=4, sources_reopened=2, events_lost=1, load_step=1,
)  # fmt: skip
FULL = replace(
    MEASURED, drift_ppm=40.0, drift_std_ppm=2.0, drift_class=DriftClass.DRIFTING, latency_ms=320.0, clock_synced=True,
    video_dropped=3, audio_dropped=4,
)  # fmt: skip


class Rig:
    """Metrics, the time they go by, and what a Prometheus server would read."""

    def __init__(self) -> None:
        self.t_s = 100.0
        self.metrics = Metrics(10.0, lambda: round(self.t_s * NS_PER_S))
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self.metrics)

    def text(self) -> str:
        return generate_latest(self._registry).decode()

    def samples(self) -> Samples:
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(self.text())
            for sample in family.samples
        }

    def one(self, name: str, **labels: str) -> float | None:
        return self.samples().get((f"avdrift_{name}", frozenset(labels.items())))


def full() -> Rig:
    rig = Rig()
    rig.metrics.report(replace(FULL, fault="overloaded"))
    rig.metrics.event(EVENT)
    rig.metrics.health(HEALTH)
    rig.metrics.info(INFO)
    return rig


def test_a_measurement_in_base_units() -> None:
    rig = full()
    found = {name: rig.one(name) for name in (
        "offset_seconds", "offset_std_seconds", "confidence_ratio", "drift_ratio", "drift_std_ratio", "latency_seconds",
        "faces", "speech_ratio", "clock_synced", "report_timestamp_seconds",
    )}  # fmt: skip
    assert found == pytest.approx({
        "offset_seconds": 0.1235, "offset_std_seconds": 0.0042, "confidence_ratio": 0.98, "drift_ratio": 40e-6,
        "drift_std_ratio": 2e-6, "latency_seconds": 0.32, "faces": 1, "speech_ratio": 0.9, "clock_synced": 1,
        "report_timestamp_seconds": 1_700_000_000,
    })  # fmt: skip


def test_positive_is_audio_early() -> None:
    rig = Rig()
    rig.metrics.report(replace(MEASURED, offset_ms=-80.0))
    assert rig.one("offset_seconds") == pytest.approx(-0.08)


def test_state_verdict_and_fault_are_words_in_labels() -> None:
    rig = full()
    assert {rig.one("state", state=state.value) for state in State} == {0.0, 1.0}
    assert (rig.one("state", state="measuring"), rig.one("state", state="no_face")) == (1, 0)
    assert (rig.one("verdict", verdict="unacceptable"), rig.one("verdict", verdict="in_sync")) == (1, 0)
    classes = {word.value: rig.one("drift_class", drift_class=word.value) for word in DriftClass}
    assert classes == {"steady": 0, "drifting": 1, "stepped": 0, "unknown": 0}
    assert rig.one("fault", fault="overloaded") == 1
    rig.metrics.report(FULL)
    assert "avdrift_fault" not in rig.text()


def test_what_is_not_known_has_no_sample() -> None:
    rig = Rig()
    assert not [name for name, _ in rig.samples() if not name.endswith("_total")]
    rig.metrics.report(replace(BLIND, speech_ratio=None))
    names = {name for name, _ in rig.samples()}
    unsaid = "offset_seconds offset_std_seconds confidence drift_ratio drift_std speech latency clock bias"
    for name in unsaid.split():
        assert not [found for found in names if found.startswith(f"avdrift_{name}")], name
    assert rig.one("faces") == 0, "this one is known to be 0"
    unknown = [key.name for key in fields(Health) if "None" in str(key.type) and key.name != "clock_synced"]
    rig.metrics.health(Health(**{**HEALTH.to_dict(), **dict.fromkeys(unknown)}))
    assert rig.one("threads") == 7 and rig.one("temperature_celsius") is rig.one("undervoltage") is None
    rig.metrics.info(replace(INFO, bias_ms=None, bias_std_ms=None))
    assert rig.one("bias_seconds") is None


def test_what_was_said_long_ago_is_not_true_any_more() -> None:
    rig = full()
    rig.t_s += 10
    assert rig.one("offset_seconds") is not None
    rig.t_s += 1
    assert rig.one("offset_seconds") is rig.one("state", state="measuring") is None
    assert rig.one("report_timestamp_seconds") == 1_700_000_000 and rig.one("video_dropped_frames_total") == 3
    rig.metrics.report(FULL)
    assert rig.one("offset_seconds") is not None


def test_health_and_info() -> None:
    rig = full()
    found = {name: rig.one(name) for name in (
        "cpu_ratio", "memory_bytes", "open_files", "temperature_celsius", "undervoltage", "disk_free_bytes",
        "video_rate_hertz", "microphone_clock_ratio", "sources_reopened_total", "events_lost_total", "load_step",
        "bias_seconds", "bias_std_seconds",
    )}  # fmt: skip
    assert found == pytest.approx({
        "cpu_ratio": 0.25, "memory_bytes": 150.5e6, "open_files": 30, "temperature_celsius": 55.5, "undervoltage": 0,
        "disk_free_bytes": 1e9, "video_rate_hertz": 24.98, "microphone_clock_ratio": -35e-6,
        "sources_reopened_total": 2, "events_lost_total": 1, "load_step": 1, "bias_seconds": 0.01234,
        "bias_std_seconds": 0.002,
    })  # fmt: skip
    labels = {"version": "1.2", "model": "small 1", "model_digest": "abc", "profile": "ebu-r37", "camera": "imx708"}
    assert rig.one("info", **labels, microphone="") == 1


def test_reports_and_events_are_counted_from_0() -> None:
    rig = Rig()
    assert rig.one("events_total", kind="step") == rig.one("reports_total", state="measuring") == 0
    for report in (MEASURED, MEASURED, BLIND):
        rig.metrics.report(report)
    rig.metrics.event(EVENT)
    assert (rig.one("reports_total", state="measuring"), rig.one("reports_total", state="no_face")) == (2, 1)
    assert (rig.one("events_total", kind="verdict"), rig.one("events_total", kind="fault")) == (1, 0)


def test_every_number_of_health_is_there() -> None:
    """A number that somebody adds to the records must not be forgotten here."""
    source = {name for table in ("_OF_HEALTH", "_COUNTED_BY_HEALTH") for *_, name in _rows(table)}
    known = {key.name for key in fields(Health)}
    elsewhere = {"schema", "boot_id", "uptime_s", "t_unix_ms", "clock_synced", "video_dropped", "audio_dropped"}
    elsewhere |= {"model_record"}  # `avdrift model report` has it
    assert source == known - elsewhere
    reported = {name for table in ("_OF_REPORT", "_COUNTED_BY_REPORTS") for *_, name in _rows(table)}
    words = {
        "schema", "seq", "boot_id", "uptime_s", "t_unix_ms", "state", "direction", "step_ms", "verdict", "profile",
        "window_s", "model", "fault", "faults", "drift_class", "reason", "verdict_range",
    }  # fmt: skip
    assert reported == {key.name for key in fields(Report)} - words


def _rows(table: str) -> list[tuple[str, ...]]:
    from device.telemetry import metrics

    return [tuple(cell for cell in row if isinstance(cell, str)) for row in getattr(metrics, table)]


def test_every_family_has_its_help_and_its_type() -> None:
    lines = full().text().splitlines()
    named = {line.split(" ")[0].split("{")[0] for line in lines if not line.startswith("#")}
    for kind in ("HELP", "TYPE"):
        told = [line.split(" ")[2] for line in lines if line.startswith(f"# {kind}")]
        assert set(told) == named and len(told) == len(set(told))
    assert all(name.startswith("avdrift_") for name in named)
    assert not [name for name in named if name.endswith(("_ms", "_ppm", "_mb", "milliseconds"))]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool")
@pytest.mark.parametrize("rig", [Rig(), full()], ids=["empty", "full"])
def test_promtool_has_nothing_to_say(rig: Rig) -> None:
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=rig.text(), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


NUMBERS = st.none() | st.floats(allow_nan=False, allow_infinity=False, width=32)


@settings(max_examples=200, derandomize=True)
@given(st.text(max_size=60), st.text(max_size=20), NUMBERS, NUMBERS)
def test_names_of_devices_may_be_anything(
    camera: str, version: str, offset_ms: float | None, bias: float | None
) -> None:
    rig = Rig()
    rig.metrics.info(replace(INFO, camera=camera, version=version, bias_ms=bias))
    rig.metrics.report(replace(MEASURED, offset_ms=offset_ms))
    found = rig.samples()
    (labels,) = [dict(labels) for name, labels in found if name == "avdrift_info"]
    if not set("\\\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029") & set(camera):
        assert labels["camera"] == camera
    offset_s = rig.one("offset_seconds")
    assert (offset_s is None) is (offset_ms is None)
    if offset_ms is not None and offset_s is not None:
        assert math.isclose(offset_s, offset_ms / 1000, rel_tol=1e-6, abs_tol=1e-30)


def test_info_is_the_latest() -> None:
    rig = full()
    rig.metrics.info(Info(**{**INFO.to_dict(), "model": "other"}))
    assert [dict(labels)["model"] for name, labels in rig.samples() if name == "avdrift_info"] == ["other"]
