"""Commands to a running daemon: run in its own thread, always answered, and never the end of measuring."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from device.bundles.bundle import DEFAULT_BUNDLE, load_bundle
from device.bundles.store import CURRENT, Store
from device.errors import UsageError
from device.records import NS_PER_MS, Command, State, Verb
from device.runtime.command_handler import MAX_WAITING, MIN_INTERVAL_S
from device.runtime.recalibration import LASTS_S
from device.state.rig import Rig, load_rig, store_rig
from tests.device.runtime.live import CAMERA, RASH, Live, Script, live
from tests.models.stores import versioned
from tests.scenes import tiny_bundle


def submit(on: Live, command: Command) -> None:
    """What is refused is answered too, as by who sends commands."""
    try:
        on.daemon.submit(command)
    except UsageError as error:
        command.reply({"verb": command.verb.value, "ok": False, "error": str(error)})


class Asked:
    """One command and what became of it."""

    def __init__(self, on: Live, verb: Verb, **args: Any) -> None:
        self._on, self.results = on, list[dict[str, object]]()
        submit(on, Command(verb, args, self.results.append))

    def result(self, within_s: float = 1.0) -> dict[str, Any]:
        self._on.clock.sleep(within_s)
        (found,) = self.results
        assert json.dumps(found, allow_nan=False)
        return found


def test_another_profile_counts_from_the_next_report_on() -> None:
    with live() as on:
        on.clock.sleep(5)
        found = Asked(on, Verb.SET_PROFILE, profile="ebu-r37").result(2)
        assert found == {
            "verb": "set-profile", "ok": True, "error": None, "before": "itu-r-bt1359", "profile": "ebu-r37"
        }  # fmt: skip
        assert on.collector.reports[-1].profile == on.collector.infos[-1].profile == "ebu-r37"


def test_a_reload_sets_own_limits() -> None:
    with live() as on:
        on.clock.sleep(5)
        assert Asked(on, Verb.SET_PROFILE, profile="own", early_ms=900.0, late_ms=-900.0).result(2)["ok"]
        wide = on.collector.reports[-1]
        on.clock.sleep(2)
        assert Asked(on, Verb.SET_PROFILE, profile="own", early_ms=0.0, late_ms=0.0).result(2)["ok"]
        narrow = on.collector.reports[-1]
    assert wide.offset_ms is not None and narrow.offset_ms is not None
    assert wide.verdict == "in_sync" != narrow.verdict


@pytest.mark.parametrize("args", [{}, {"profile": "loud"}, {"profile": 3.0}, {"profile": True}])
def test_an_unknown_profile_is_refused(args: dict[str, Any]) -> None:
    with live() as on:
        found = Asked(on, Verb.SET_PROFILE, **args).result()
        assert not found["ok"] and "itu-r-bt1359" in found["error"]
        assert on.collector.infos[-1].profile == "itu-r-bt1359"


def test_sources_are_opened_again_and_measuring_starts_again() -> None:
    with live() as on:
        on.clock.sleep(6)
        found = Asked(on, Verb.RESTART_SOURCES).result()
        assert found["ok"] and found["sources"] == ["camera", "microphone"]
        on.clock.sleep(6)
        reopened: Any = Asked(on, Verb.DIAGNOSTICS).result()["sources_reopened"]
    assert reopened["camera"] >= 1 and reopened["microphone"] >= 1
    assert on.collector.faults == [None] and on.collector.reports[-1].state is not State.STALLED


def test_diagnostics_say_what_one_wants_to_know_first() -> None:
    with live() as on:
        on.clock.sleep(5)
        found = Asked(on, Verb.DIAGNOSTICS).result()
    assert found["ok"] and found["faults"] == {"camera": None, "microphone": None} and found["fault"] is None
    assert found["devices"] == {"camera": "the Frame", "microphone": "the Chunk"}
    assert {"camera", "microphone", "daemon"} <= set(found["threads"])
    assert 0 <= found["queue_fill"] < 0.5 and (found["load_step"], found["threads_that_hang"]) == (0, 0)
    assert {"avdrift", "python", "numpy"} <= set(found["versions"])
    assert found["reports"] >= 3 and found["model_digest"] == on.collector.infos[-1].model_digest


# Rolling back


def store_with(folder: Path, *versions: str) -> Store:
    store = Store(folder / "state")
    for version in versions:
        bundle = store.install(versioned(folder / version, version), allow_unsigned=True)
        store.activate(bundle.digest)
    return store


def test_the_models_before_come_back_and_drift_is_kept(tmp_path: Path) -> None:
    store = store_with(tmp_path, "1.0.0", "2.0.0")
    bundle = store.load_current()
    with live(bundle=bundle, store=store) as on:
        on.clock.sleep(4)
        seq = on.collector.reports[-1].seq
        found = Asked(on, Verb.MODEL_ROLLBACK).result(3)
        last = on.collector.reports[-1]
    current = store.load_current()
    assert bundle and current and current.version == "1.0.0"
    assert found == {
        "verb": "model-rollback", "ok": True, "error": None, "before": bundle.label, "model": current.label
    }  # fmt: skip
    assert last.model == on.collector.infos[-1].model == current.label
    assert last.seq > seq and on.collector.faults == [None], "the reports go on"


def test_before_the_first_models_come_the_built_in_ones(tmp_path: Path) -> None:
    store = store_with(tmp_path, "1.0.0")
    with live(bundle=store.load_current(), store=store) as on:
        on.clock.sleep(4)
        found = Asked(on, Verb.MODEL_ROLLBACK).result(3)
        last = on.collector.reports[-1]
    assert store.load_current() is None
    assert found["ok"] and found["model"] == last.model == load_bundle(DEFAULT_BUNDLE).label


def test_damaged_models_are_not_gone_back_to(tmp_path: Path) -> None:
    store = store_with(tmp_path, "1.0.0", "2.0.0")
    bundle, previous = store.load_current(), store.linked("previous")
    assert bundle and previous
    (store.path_of(previous) / "lips.tflite").write_bytes(b"nothing")
    with live(bundle=bundle, store=store) as on:
        on.clock.sleep(3)
        found = Asked(on, Verb.MODEL_ROLLBACK).result(3)
        assert not found["ok"] and "lips.tflite" in found["error"]
        assert on.collector.reports[-1].model == bundle.label
    assert store.linked(CURRENT) == bundle.digest


def test_models_that_are_not_the_stores_are_not_rolled_back(tmp_path: Path) -> None:
    store = store_with(tmp_path, "1.0.0", "2.0.0")
    for other in (None, store, Store(tmp_path / "empty")):
        with live(bundle=load_bundle(tiny_bundle()), store=other) as on:
            assert not Asked(on, Verb.MODEL_ROLLBACK).result()["ok"]


# Recalibrating


def test_recalibrating_takes_the_offset_for_the_rigs_own(tmp_path: Path) -> None:
    with live(state_dir=tmp_path, settings=replace(RASH, window_s=5.0)) as on:
        on.clock.sleep(8)
        asked = Asked(on, Verb.RECALIBRATE)
        on.clock.sleep(LASTS_S - 2)
        assert asked.results == []
        again = Asked(on, Verb.RECALIBRATE).result()
        assert not again["ok"] and "under way" in again["error"]
        found = asked.result(3)
    if not found["ok"]:  # these towers guess: they may well not agree with themselves
        assert "scattered" in found["error"] or "measured" in found["error"]
        assert load_rig(tmp_path) is None
    else:
        rig = load_rig(tmp_path)
        assert rig and (rig.camera, rig.microphone) == ("the Frame", "the Chunk")
        assert on.collector.infos[-1].bias_ms == rig.bias_ms == found["bias_ms"]


def test_where_nothing_is_measured_nothing_is_calibrated(tmp_path: Path) -> None:
    rig = Rig(12.0, 1.0, 1, "the Frame", "the Chunk")
    store_rig(tmp_path, rig)
    with live(bundle=load_bundle(tiny_bundle()), rig=rig, state_dir=tmp_path) as on:
        on.clock.sleep(2)
        found = Asked(on, Verb.RECALIBRATE).result(LASTS_S + 1)
        assert not found["ok"] and "only 0 offsets" in found["error"]
        assert on.collector.infos[-1].bias_ms == 12.0
    assert load_rig(tmp_path) == rig


def test_a_calibration_is_undone(tmp_path: Path) -> None:
    first, second = (Rig(bias_ms, 1.0, 1, "the Frame", "the Chunk") for bias_ms in (12.0, 30.0))
    store_rig(tmp_path, first)
    store_rig(tmp_path, second)
    with live(rig=second, state_dir=tmp_path) as on:
        on.clock.sleep(2)
        found = Asked(on, Verb.UNDO_RECALIBRATE).result(2)
        assert (found["ok"], found["before_ms"], found["bias_ms"]) == (True, 30.0, 12.0)
        assert on.collector.infos[-1].bias_ms == 12.0
    assert load_rig(tmp_path) == first


# Answers always come


def test_who_asks_at_the_end_is_answered_too() -> None:
    with live() as on:
        on.clock.sleep(2)
        asked = Asked(on, Verb.RECALIBRATE)
        on.clock.sleep(1)
        on.stop()
        late = Asked(on, Verb.DIAGNOSTICS)
        assert [found["ok"] for found in asked.results] == [False]
        assert late.results == [] or not late.results[0]["ok"]


def test_who_cannot_take_the_answer_disturbs_nobody() -> None:
    def broken(found: dict[str, object]) -> None:
        raise RuntimeError("nobody home")

    with live() as on:
        on.clock.sleep(2)
        on.daemon.submit(Command(Verb.DIAGNOSTICS, {}, broken))
        on.clock.sleep(MIN_INTERVAL_S[Verb.DIAGNOSTICS])
        assert Asked(on, Verb.DIAGNOSTICS).result()["ok"]


@pytest.mark.parametrize("camera", [CAMERA, lambda clock: [RuntimeError("none")]])
def test_commands_are_answered_whatever_the_sources_do(camera: Script) -> None:
    with live(camera) as on:
        asked = [Asked(on, verb, profile="ebu-r37") for verb in Verb]
        on.clock.sleep(LASTS_S + 2)
        assert all(len(each.results) == 1 for each in asked)
        assert (on.clock.now_ns() - on.beats[-1]) // NS_PER_MS < 2000


# Floods


@pytest.mark.parametrize("verb", Verb)
def test_a_flood_of_commands_costs_no_report_and_each_is_answered(verb: Verb, tmp_path: Path) -> None:
    """A thousand a second for six seconds."""
    store, results = store_with(tmp_path, "1.0.0", "2.0.0"), list[dict[str, object]]()
    with live(bundle=store.load_current(), store=store) as on:
        on.clock.sleep(5)
        for _ in range(300):
            for _ in range(20):
                submit(on, Command(verb, {"profile": "ebu-r37"}, results.append))
            on.clock.sleep(0.02)
        on.clock.sleep(LASTS_S + 2 if verb is Verb.RECALIBRATE else 2)
        times_s = [report.uptime_s for report in on.collector.reports]
    assert max(b - a for a, b in pairwise(times_s)) < 2.5, "a report each second, or two where sources begin anew"
    assert len(results) == 6000
    busy = [found for found in results if "busy" in str(found["error"])]
    assert 6000 - len(busy) <= 6 / MIN_INTERVAL_S[verb] + 1


def test_only_so_many_commands_wait() -> None:
    with live() as on:
        on.clock.sleep(3)
        on.stop()  # nobody carries anything out any more
        results: list[dict[str, object]] = []
        for _ in range(4):
            for verb in Verb:
                submit(on, Command(verb, {"profile": "ebu-r37"}, results.append))
            on.clock.sleep(max(MIN_INTERVAL_S.values()))
    assert len(results) == 4 * len(Verb) - MAX_WAITING
    assert all("commands are waiting" in str(found["error"]) for found in results)
