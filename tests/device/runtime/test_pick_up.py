"""New models in a running daemon: loaded without a gap, judged by its reports, and rolled back when they fail."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import pytest

from device.bundles.bundle import Bundle
from device.bundles.rollout import POLL_EVERY_S, Models
from device.bundles.store import CURRENT, Store
from device.bundles.trial import TrialState
from device.bundles.trial_file import TrialFile
from device.litert import Model
from device.records import EventKind, State
from device.sync.step_detector import StepDetector
from tests.device.runtime.live import RASH, Live, live
from tests.models.bundles import change_manifest, sign_off
from tests.models.stores import versioned
from tests.models.trials import SHORT
from tests.scenes import talking_items

RASHLY = {"logit_scale": 200.0, "temperature": 0.01, "null_log_odds": -1e9, "zero_offset_ms": 0.0,
          "confidence": {"bias": 50.0}}  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "state")


def put(store: Store, folder: Path, version: str, **changes: Any) -> Bundle:
    bundle = store.install(versioned(folder / version, version, **changes), allow_unsigned=True)
    return store.activate(bundle.digest)


@pytest.fixture
def on(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    """A daemon that measures with version 1."""
    talking_items()  # made by one thread
    # Made-up models that believe everything see steps everywhere, which is not what is asked of them here.
    monkeypatch.setattr(StepDetector, "detect", lambda self, calibration: None)
    put(store, tmp_path, "1", calibration=RASHLY)
    often = replace(RASH, report_every_s=0.2)
    with (
        Models(store, SHORT) as models,
        live(bundle=models.first(), store=store, models=models, settings=often) as on,
    ):
        on.clock.sleep(8)
        assert on.collector.reports[-1].state is State.MEASURING
        yield on


def seen_s(on: Live) -> list[float]:
    """When the offsets were measured that the drift is taken from."""
    drift = on.daemon._core.reporter.drift
    return [seen.t_s for seen in (*drift.recent, *drift.filling)]


def test_new_models_are_loaded_without_a_gap_and_the_drift_continues(on: Live, store: Store, tmp_path: Path) -> None:
    seen_before, before = seen_s(on), on.collector.reports[-1]
    new = put(store, tmp_path, "2", calibration=RASHLY)
    on.clock.sleep(POLL_EVERY_S + 2)
    assert on.collector.reports[-1].model == on.collector.infos[-1].model == new.label
    on.clock.sleep(8)
    reports = on.collector.reports[on.collector.reports.index(before) :]
    assert [report.seq for report in reports] == list(range(before.seq, before.seq + len(reports)))
    assert all(later.uptime_s - earlier.uptime_s < 0.7 for earlier, later in pairwise(reports))
    assert on.collector.faults == [None] and State.STALLED not in on.collector.states
    assert set(seen_before) < set(seen_s(on)), "what was measured before counts as well"
    assert TrialFile(store.folder).read()[new.digest].standing is TrialState.PASSED
    changed, passed = (event for event in on.collector.events if new.label in event.about)
    assert (changed.kind, changed.after, passed.after) == (EventKind.MODEL, new.label, new.label)
    assert changed.before == before.model and changed.seq < passed.seq and "on trial" in changed.about


class Failing(Model):
    """A tower that LiteRT has accepted, and that fails on what comes."""

    def __call__(self, *given: Any) -> NoReturn:
        raise RuntimeError("a tensor of the wrong kind")


def test_models_that_fail_on_what_comes_are_gone_at_once(
    on: Live, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = store.load_current(), put(store, tmp_path, "2", calibration=RASHLY)
    real = Store.load

    def load(self: Store, digest: str) -> Bundle:
        bundle = real(self, digest)
        if digest == new.digest:
            content = (store.path_of(digest) / "lips.tflite").read_bytes()
            bundle.models["lips"] = Failing(content, name="lips")
        return bundle

    monkeypatch.setattr(Store, "load", load)
    on.clock.sleep(POLL_EVERY_S + 12)
    assert old is not None and store.linked(CURRENT) == old.digest
    last = on.collector.reports[-1]
    assert (last.model, last.fault) == (old.label, None) and last.state in (State.MEASURING, State.UNCERTAIN)
    assert "model_failed" in on.collector.faults
    assert {report.model for report in on.collector.reports if report.fault} == {new.label}
    (back,) = (event for event in on.collector.events if "Back from" in event.about)
    assert back.kind is EventKind.MODEL and back.after == old.label and "fail on what comes" in back.about


def test_models_that_are_broken_are_never_measured_with(on: Live, store: Store, tmp_path: Path) -> None:
    old = store.load_current()
    new = put(store, tmp_path, "2")
    change_manifest(store.path_of(new.digest), lambda manifest: manifest.update(version="7"))
    sign_off(store.path_of(new.digest))
    on.clock.sleep(POLL_EVERY_S + 4)
    assert old is not None and store.linked(CURRENT) == old.digest
    assert {report.model for report in on.collector.reports} == {old.label}
    (event,) = (event for event in on.collector.events if "cannot be used" in event.about)
    assert event.before != event.after == old.label and "has the digest" in event.about
