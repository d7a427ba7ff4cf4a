"""Prometheus metrics: from the latest records to families of samples. No I/O.

Conventions: Prometheus' own, unlike everywhere else here: base units without prefixes (seconds, bytes, ratios), because
its tools, functions and dashboards expect them of a name that ends in `_seconds`. Unknown values have no sample; a 0
was always measured as 0. A positive offset is audio early, as everywhere.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from enum import StrEnum

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from device.records import NS_PER_S, DriftClass, Event, EventKind, Health, Info, Report, State, Verdict

_S_PER_MS, _PER_PPM, _BYTES_PER_MB = 1e-3, 1e-6, 1e6

Family = GaugeMetricFamily | CounterMetricFamily
# Name without `avdrift_`, help, the record's attribute, factor to the base unit.
_OF_REPORT = (
    ("offset_seconds", "How far the audio is ahead of the video; negative: behind.", "offset_ms", _S_PER_MS),
    ("offset_std_seconds", "Standard error of the offset.", "offset_std_ms", _S_PER_MS),
    ("confidence_ratio", "Probability that the offset is right to within 0.04 s.", "confidence", 1),
    ("drift_ratio", "Slope of the offset in seconds per second; 1 ppm is 0.000001.", "drift_ppm", _PER_PPM),
    ("drift_std_ratio", "Standard error of the drift.", "drift_std_ppm", _PER_PPM),
    ("faces", "Faces in the last frame that was searched.", "faces", 1),
    ("speech_ratio", "Share of the recent time with speech.", "speech_ratio", 1),
    ("evidence_age_seconds", "Age of the newest evidence behind the offset.", "evidence_age_s", 1),
    ("latency_seconds", "From the capture of the newest input to the report.", "latency_ms", _S_PER_MS),
    ("clock_synced", "1 while the wall clock is synchronized with a time server, otherwise 0.", "clock_synced", 1),
)
_OF_HEALTH = (
    ("cpu_ratio", "Share of one processor core that avdrift used in the last minute.", "cpu_ratio", 1),
    ("memory_bytes", "Resident memory of avdrift.", "memory_mb", _BYTES_PER_MB),
    ("threads", "Threads of avdrift.", "threads", 1),
    ("open_files", "Open file descriptors of avdrift.", "open_files", 1),
    ("temperature_celsius", "Temperature of the processor.", "temperature_c", 1),
    ("undervoltage", "1 while the supply voltage is too low, otherwise 0.", "undervoltage", 1),
    ("disk_free_bytes", "Free space where avdrift keeps its state.", "disk_free_mb", _BYTES_PER_MB),
    ("video_rate_hertz", "Frames that arrive per second.", "video_rate_hz", 1),
    (
        "microphone_clock_ratio",
        "How much faster the microphone's sample clock is than the computer's.",
        "microphone_ppm",
        _PER_PPM,
    ),
    ("load_step", "Work skipped because the computer is too slow: 0 (none) to 2.", "load_step", 1),
)
_COUNTED_BY_REPORTS = (
    ("video_dropped_frames", "Frames lost before they were analysed.", "video_dropped"),
    ("audio_dropped_blocks", "Blocks of audio lost before they were analysed.", "audio_dropped"),
)
_COUNTED_BY_HEALTH = (
    ("sources_reopened", "Times that the camera or the microphone was opened again.", "sources_reopened"),
    ("events_lost", "Events that MQTT could not deliver.", "events_lost"),
)


class Metrics(Collector):
    """Keeps the latest of each record; the samples of a report expire after `stale_s`. Thread-safe."""

    def __init__(self, stale_s: float, now_ns: Callable[[], int]) -> None:
        self._stale_ns, self._now_ns = round(stale_s * NS_PER_S), now_ns
        self._lock = threading.Lock()
        self._report: Report | None = None
        self._health: Health | None = None
        self._info: Info | None = None
        self._reported_ns = 0
        self._reports: Counter[str] = Counter({state.value: 0 for state in State})
        self._events: Counter[str] = Counter({kind.value: 0 for kind in EventKind})

    def report(self, report: Report) -> None:
        with self._lock:
            self._report, self._reported_ns = report, self._now_ns()
            self._reports[report.state.value] += 1

    def event(self, event: Event) -> None:
        with self._lock:
            self._events[event.kind.value] += 1

    def health(self, health: Health) -> None:
        with self._lock:
            self._health = health

    def info(self, info: Info) -> None:
        with self._lock:
            self._info = info

    def collect(self) -> Iterator[Family]:
        """All families that have a sample now."""
        with self._lock:
            report, health, info = self._report, self._health, self._info
            reports, events = dict(self._reports), dict(self._events)
            stale = self._now_ns() - self._reported_ns > self._stale_ns
        yield _counter("reports", "Reports made.", "state", reports)
        yield _counter("events", "Events reported.", "kind", events)
        if report is not None:
            yield _gauge(
                "report_timestamp_seconds", "When the last report was made, in Unix time.", report.t_unix_ms / 1e3
            )
            yield from _counters(_COUNTED_BY_REPORTS, report)
            if not stale:
                yield from _report_families(report)
        if health is not None:
            yield from _gauges(_OF_HEALTH, health)
            yield from _counters(_COUNTED_BY_HEALTH, health)
        if info is not None:
            yield from _info_families(info)


def _report_families(report: Report) -> Iterator[Family]:
    yield from _gauges(_OF_REPORT, report)
    yield _state_set("state", "1 for the present state, 0 for the others.", State, report.state)
    yield _state_set(
        "drift_class", "1 for the present class of drift, 0 for the others.", DriftClass, report.drift_class
    )
    yield _state_set("verdict", "1 for the present verdict, 0 for the others.", Verdict, report.verdict)
    if report.fault is not None:
        fault = GaugeMetricFamily("avdrift_fault", "1 for each present fault.", labels=["fault"])
        fault.add_metric([report.fault], 1)
        yield fault


def _info_families(info: Info) -> Iterator[Family]:
    known = {"version": info.version, "model": info.model, "model_digest": info.model_digest, "profile": info.profile}
    known |= {"camera": info.camera or "", "microphone": info.microphone or ""}
    family = GaugeMetricFamily("avdrift_info", "The running version and models; always 1.", labels=list(known))
    family.add_metric(list(known.values()), 1)
    yield family
    if info.bias_ms is not None:
        yield _gauge("bias_seconds", "The rig's own offset, already subtracted.", info.bias_ms * _S_PER_MS)
    if info.bias_std_ms is not None:
        yield _gauge("bias_std_seconds", "Standard error of the rig's own offset.", info.bias_std_ms * _S_PER_MS)


def _gauge(name: str, about: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"avdrift_{name}", about, value=value)


def _gauges(known: tuple[tuple[str, str, str, float], ...], record: Report | Health) -> Iterator[Family]:
    for name, about, key, factor in known:
        value: float | None = getattr(record, key)
        if value is not None:
            yield _gauge(name, about, value * factor)


def _counters(known: tuple[tuple[str, str, str], ...], record: Report | Health) -> Iterator[Family]:
    for name, about, key in known:
        yield CounterMetricFamily(f"avdrift_{name}", about, value=getattr(record, key))


def _counter(name: str, about: str, label: str, counted: dict[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"avdrift_{name}", about, labels=[label])
    for key, times in counted.items():
        family.add_metric([key], times)
    return family


def _state_set(name: str, about: str, words: type[StrEnum], now: StrEnum) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"avdrift_{name}", about, labels=[name])
    for word in words:
        family.add_metric([word.value], float(word is now))
    return family
