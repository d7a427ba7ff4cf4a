"""Recordings with frozen video or without audio: reports say so, and the rest is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import pytest

from device.bundles.bundle import load_bundle
from device.config.settings import MeasureSettings
from device.features.model_download import require_face_model
from device.records import NS_PER_S, Chunk, Event, Frame, Health, Info, Report, State
from device.runtime.daemon import Daemon
from device.runtime.inputs.source_thread import RecordingFeed
from tests.scenes import overconfident_bundle, talking_items

HALF_NS = 4 * NS_PER_S
Item = Frame | Chunk


class Played:
    """A recording from memory."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = items

    def __enter__(self) -> Played:
        return self

    def __exit__(self, *_: object) -> None: ...

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)


class Collector:
    """A Sink that keeps the reports."""

    def __init__(self) -> None:
        self.reports: list[Report] = []

    def report(self, report: Report) -> None:
        self.reports.append(report)

    def event(self, event: Event) -> None: ...

    def health(self, health: Health) -> None: ...

    def info(self, info: Info) -> None: ...

    def close(self) -> None: ...


def replayed(items: Iterable[Item]) -> list[Report]:
    collector = Collector()
    settings = MeasureSettings(window_s=2.0, report_every_s=0.2)
    daemon = Daemon(load_bundle(overconfident_bundle()), require_face_model(), settings, collector)
    daemon.run([RecordingFeed("recording", lambda: Played(items))], realtime=False)
    return collector.reports


def still(item: Item) -> Item:
    first = next(frame.rgb for frame in talking_items() if isinstance(frame, Frame))
    return replace(item, picture=first) if isinstance(item, Frame) else item


def mute(item: Item) -> Item:
    return replace(item, samples=item.samples * 0) if isinstance(item, Chunk) and item.t_ns > HALF_NS else item


def test_a_good_recording_has_no_fault() -> None:
    assert {report.fault for report in replayed(talking_items())} == {None}


def test_a_still_picture_is_named_and_measured_all_the_same() -> None:
    reports = replayed(map(still, talking_items()))
    assert "camera_frozen" in {report.fault for report in reports}
    assert State.MEASURING in {report.state for report in reports if report.fault}


def test_digital_silence_is_named_from_where_it_begins() -> None:
    faults = [report.fault for report in replayed(map(mute, talking_items()))]
    assert faults[0] is None and faults[-1] == "microphone_silent"
    assert [faults[k] != faults[k + 1] for k in range(len(faults) - 1)].count(True) == 1


@pytest.mark.parametrize("spoil", [still, mute])
def test_states_are_those_of_the_measurement(spoil: Callable[[Item], Item]) -> None:
    assert {report.state for report in replayed(map(spoil, talking_items()))} <= {
        State.STARTING, State.MEASURING, State.UNCERTAIN, State.NO_SPEECH
    }  # fmt: skip
