"""Models that follow the store: loaded, on trial, rolled back; and a device that keeps measuring."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from device.bundles.model_kinds import LIPS
from device.bundles.rollout import Models, following
from device.bundles.store import CURRENT, PREVIOUS, Store
from device.bundles.trial import SETTLED_S, TrialState
from device.bundles.trial_file import LOCK, TRIALS, TrialFile
from device.config.settings import ModelSettings
from device.errors import UsageError
from device.records import NS_PER_S, State
from tests.models.stores import FAILURES, FailingDisk, KilledHere, RecordingDisk, versioned
from tests.models.trials import SHORT, Device, builtin, report
from tests.scenes import ROOT


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    for version in ("1", "2", "3"):
        versioned(folder / version, version)
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "state")


def put(store: Store, bundle: Path) -> str:
    """Installed and in use; its digest."""
    digest = store.install(bundle, allow_unsigned=True, allow_downgrade=True).digest
    store.activate(digest, allow_downgrade=True)
    return digest


def passed(store: Store, bundle: Path) -> str:
    """The same, and it has passed."""
    digest = put(store, bundle)
    device = Device(store.folder)
    device.measure(times=3)
    device.end()
    assert standing(store, digest) is TrialState.PASSED
    return digest


def standing(store: Store, digest: str) -> TrialState | None:
    trial = TrialFile(store.folder).read().get(digest)
    return trial.standing if trial else None


def spoil(store: Store, digest: str) -> None:
    (store.path_of(digest) / LIPS).write_bytes(b"nothing")


# New models


def test_without_a_store_the_built_in_ones_measure_and_nothing_is_written(store: Store) -> None:
    device = Device(store.folder)
    device.measure(times=5)
    device.end()
    assert device.bundle.digest == builtin().digest and device.told == [] and not store.folder.exists()


def test_the_very_first_bundle_is_noticed_tried_and_stays(store: Store, made: Path) -> None:
    device = Device(store.folder)
    digest = put(store, made / "1")
    assert device.measure(times=2).digest == digest, "within the time of a look"
    assert standing(store, digest) is TrialState.ON_TRIAL
    device.measure(times=3)
    assert standing(store, digest) is TrialState.PASSED
    assert [text.partition(" ")[2].split(" ")[0] for text in device.told] == ["models", "models"]
    assert "changed from" in device.told[0] and "on trial" in device.told[0] and "passed" in device.told[1]
    device.end()


def test_a_bundle_that_came_while_nothing_ran_is_on_trial_from_the_start(store: Store, made: Path) -> None:
    digest = put(store, made / "1")
    device = Device(store.folder)
    assert device.bundle.digest == digest and device.told == []
    device.measure(times=2)
    device.end()
    device = Device(store.folder)
    device.measure()
    assert standing(store, digest) is TrialState.PASSED, "what was counted before the restart counts"


def test_reports_made_with_other_models_do_not_count(store: Store, made: Path) -> None:
    device = Device(store.folder)
    digest = put(store, made / "1")
    device.notice()
    late = report(State.MEASURING, seq=9, model="the models before")
    for _ in range(9):
        assert device.models.poll(device.bundle, replace(late, seq=late.seq + 1), device.now_ns) is None
    device.end()
    assert TrialFile(store.folder).read()[digest].valid == 0


# And back


def test_models_that_say_nothing_of_speech_go(store: Store, made: Path) -> None:
    old, new = passed(store, made / "1"), put(store, made / "2")
    device = Device(store.folder)
    assert device.measure(State.NO_SPEECH, 100).digest == new, "nobody spoke"
    assert device.measure(State.UNCERTAIN, 7).digest == old
    assert (store.linked(CURRENT), store.linked(PREVIOUS)) == (old, old)
    assert standing(store, new) is TrialState.FELL_BACK and standing(store, old) is TrialState.PASSED
    assert new[:12] in device.told[-1] and device.bundle.label in device.told[-1]
    assert "no offset in 0.1 minutes of speech" in device.told[-1]
    device.measure(times=20)
    assert len(device.told) == 1
    device.end()
    assert Device(store.folder).bundle.digest == old


def test_models_that_fail_go_at_once_and_the_built_in_ones_are_the_last(store: Store, made: Path) -> None:
    digest = put(store, made / "1")
    device = Device(store.folder)
    assert device.measure(State.STALLED, fault="model_failed").digest == builtin().digest
    assert store.linked(CURRENT) is None and standing(store, digest) is TrialState.FELL_BACK
    device.end()
    assert Device(store.folder).bundle.digest == builtin().digest


def test_of_two_new_ones_neither_is_gone_back_to(store: Store, made: Path) -> None:
    old, first = passed(store, made / "1"), put(store, made / "2")
    device = Device(store.folder)
    second = put(store, made / "3")
    assert device.notice().digest == second
    assert [TrialFile(store.folder).read()[digest].running for digest in (first, second)] == [False, True]
    assert device.measure(State.STALLED, fault="model_failed").digest == old
    assert store.linked(CURRENT) == old and standing(store, first) is TrialState.ON_TRIAL


def test_what_somebody_chose_meanwhile_is_not_undone(store: Store, made: Path) -> None:
    old, new = passed(store, made / "1"), put(store, made / "2")
    device = Device(store.folder)
    device.measure()
    third = put(store, made / "3")
    assert device.measure(State.STALLED, fault="model_failed").digest == old
    assert store.linked(CURRENT) == third and standing(store, new) is TrialState.FELL_BACK
    assert device.notice().digest == third


def test_what_fell_back_may_be_tried_again(store: Store, made: Path) -> None:
    old, new = passed(store, made / "1"), put(store, made / "2")
    device = Device(store.folder)
    device.measure(State.STALLED, fault="model_failed")
    store.activate(new)
    assert device.notice().digest == new and standing(store, new) is TrialState.ON_TRIAL
    device.measure(times=3)
    assert standing(store, new) is TrialState.PASSED
    store.activate(old, allow_downgrade=True)
    assert device.notice().digest == old and "on trial" not in device.told[-1]


def test_somebody_who_decides_otherwise_is_obeyed(store: Store, made: Path) -> None:
    old, _ = passed(store, made / "1"), put(store, made / "2")
    device = Device(store.folder)
    back = store.rollback()
    assert back is not None and back.digest == old
    assert device.notice().digest == old
    third = put(store, made / "3")
    device.bundle = store.load(third)  # as the command of a daemon does: link and models together
    assert device.notice().digest == third and standing(store, third) is TrialState.ON_TRIAL
    assert device.measure(State.STALLED, fault="model_failed").digest == old


def test_before_the_first_ones_come_the_built_in_ones(store: Store, made: Path) -> None:
    first = put(store, made / "1")
    device = Device(store.folder)
    device.measure()
    assert store.rollback() is None
    assert device.notice().digest == builtin().digest and "changed from" in device.told[-1]
    device.die()
    device = Device(store.folder)
    assert device.bundle.digest == builtin().digest
    back = store.rollback()
    assert back is not None and back.digest == first
    assert device.notice().digest == first and standing(store, first) is TrialState.ON_TRIAL


# Deaths


def test_a_process_that_dies_in_every_trial_is_the_models_fault(store: Store, made: Path) -> None:
    old, new = passed(store, made / "1"), put(store, made / "2")
    for _ in range(3):
        device = Device(store.folder)
        assert device.bundle.digest == new and device.told == []
        device.die()
    device = Device(store.folder)
    assert device.bundle.digest == old == store.linked(CURRENT)
    assert standing(store, new) is TrialState.FELL_BACK
    device.notice()
    assert "died 3 times" in device.told[0]


def test_power_cuts_here_and_there_are_not(store: Store, made: Path) -> None:
    new = put(store, made / "1")
    for _ in range(10):
        device = Device(store.folder)
        assert device.measure(State.NO_FACE).digest == new
        device.now_ns += round(SETTLED_S * NS_PER_S) + 1
        device.measure(State.NO_FACE, times=2)
        device.die()


def test_an_error_with_a_name_of_ours_is_no_death(store: Store, made: Path) -> None:
    new = put(store, made / "1")
    for _ in range(10):
        with pytest.raises(UsageError), following(Store(store.folder), SHORT) as models:
            assert models is not None and models.first().digest == new
            raise UsageError("no such microphone", where="here", remedy="Look")
    with following(None, SHORT) as models:
        assert models is None


def test_loading_itself_may_kill(store: Store, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That a trial runs is written before the models are touched."""
    passed(store, made / "1")
    new = put(store, made / "2")
    real = Store.load

    def kills(self: Store, digest: str) -> object:
        if digest == new:
            raise KilledHere
        return real(self, digest)

    monkeypatch.setattr(Store, "load", kills)
    for _ in range(3):
        models = Models(Store(store.folder))
        with pytest.raises(KilledHere):
            models.first()
        models._file.release()
    assert Models(Store(store.folder)).first().version == "1"


# What is damaged


def test_a_bundle_that_cannot_be_loaded_leaves_the_old_one_measuring(store: Store, made: Path) -> None:
    old = put(store, made / "1")
    device = Device(store.folder)
    device.measure()
    new = put(store, made / "2")
    spoil(store, new)
    assert device.notice().digest == old
    assert store.linked(CURRENT) == old and standing(store, new) is TrialState.FELL_BACK
    assert LIPS in device.told[-1] and "cannot be used" in device.told[-1]
    trial = TrialFile(store.folder).read()[old]
    assert trial.is_open and trial.running, "its own trial goes on"
    device.measure(times=2)
    assert standing(store, old) is TrialState.PASSED
    device.end()


def test_a_bundle_that_is_damaged_at_the_start(store: Store, made: Path) -> None:
    old, new = passed(store, made / "1"), passed(store, made / "2")
    spoil(store, new)
    device = Device(store.folder)
    assert device.bundle.digest == old == store.linked(CURRENT) and LIPS in device.told[0]
    device.end()
    spoil(store, old)
    device = Device(store.folder)
    assert device.bundle.digest == builtin().digest and store.linked(CURRENT) is None
    device.measure(times=3)


def test_a_fallback_that_is_gone(store: Store, made: Path) -> None:
    old, _ = passed(store, made / "1"), put(store, made / "2")
    shutil.rmtree(store.path_of(old))
    device = Device(store.folder)
    assert device.measure(State.STALLED, fault="model_failed").digest == builtin().digest
    assert store.linked(CURRENT) is None


@pytest.mark.parametrize("target", ["../elsewhere", "f" * 64])
def test_a_broken_link(target: str, store: Store, made: Path) -> None:
    old = passed(store, made / "1")
    device = Device(store.folder)
    link = store.folder / "models" / CURRENT
    link.unlink()
    link.symlink_to(target)
    assert device.notice().digest == old
    device.notice()
    assert len(device.told) == 1 and target in device.told[0]


def test_a_damaged_trial_file_means_a_new_trial(store: Store, made: Path) -> None:
    digest = passed(store, made / "1")
    (store.folder / TRIALS).write_text("{")
    device = Device(store.folder)
    assert device.bundle.digest == digest and standing(store, digest) is TrialState.ON_TRIAL


# The disk


class FullDisk(RecordingDisk):
    """Takes nothing new while `full`."""

    full = False

    def write_file(self, path: Path, content: bytes) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        super().write_file(path, content)


def test_no_trial_begins_that_cannot_be_written_down(store: Store, made: Path) -> None:
    old = passed(store, made / "1")
    disk = FullDisk()
    device = Device(store.folder, disk=disk)
    new = put(store, made / "2")
    disk.full = True
    assert device.notice().digest == old
    device.notice()
    assert len(device.told) == 1 and "No space left" in device.told[0]
    disk.full = False
    assert device.notice().digest == new
    disk.full = True
    device.end()
    device = Device(store.folder, disk=disk)
    assert device.bundle.digest == old and "No space left" in device.told[0], "not even at the start"
    disk.full = False
    assert device.notice().digest == new


def test_another_daemon_on_the_same_store_follows_it_and_judges_nothing(store: Store, made: Path) -> None:
    passed(store, made / "1")
    first, second = Device(store.folder), Device(store.folder)
    new = put(store, made / "2")
    assert second.notice().digest == new and standing(store, new) is None
    second.measure(State.STALLED, 3, fault="model_failed")
    assert store.linked(CURRENT) == new
    assert first.notice().digest == new and standing(store, new) is TrialState.ON_TRIAL


@pytest.mark.skipif(not os.geteuid(), reason="root may write everywhere")
def test_a_store_of_somebody_else_is_used_as_it_is(store: Store, made: Path) -> None:
    digest = put(store, made / "1")
    (store.folder / LOCK).unlink(missing_ok=True)
    store.folder.chmod(0o500)
    device = Device(store.folder)
    assert device.measure(State.UNCERTAIN, 100).digest == digest
    store.folder.chmod(0o700)


def a_trial(folder: Path, disk: RecordingDisk | None, made: Path) -> None:
    """Picked up, failed, gone back from; another one picked up and passed."""
    store = Store(folder)
    device = Device(folder, disk=disk)
    try:
        put(store, made / "2")
        device.notice()
        device.measure(State.STALLED, 2, fault="model_failed")
        device.notice()
        put(store, made / "3")
        device.notice()
        device.measure(times=4)
        device.end()
    except KilledHere:
        device.die()
        raise


@pytest.mark.parametrize("way", FAILURES)
def test_a_failure_at_any_step_leaves_a_working_device(way: str, store: Store, made: Path, tmp_path: Path) -> None:
    passed(store, made / "1")
    counted = RecordingDisk()
    a_trial(Path(shutil.copytree(store.folder, tmp_path / "counted", symlinks=True)), counted, made)
    assert 10 < len(counted.steps) < 60
    for at in range(len(counted.steps)):
        folder = Path(shutil.copytree(store.folder, tmp_path / f"store{at}", symlinks=True))
        try:
            a_trial(folder, FailingDisk(at, way), made)
        except KilledHere:
            assert way.startswith("killed")
        device = Device(folder)
        device.notice()
        current = Store(folder).load_current()
        assert current is not None and device.bundle.digest == current.digest
        assert device.bundle.version in ("1", "2", "3")
        device.measure(times=3)
        assert standing(Store(folder), current.digest) is TrialState.PASSED
        device.end()


@pytest.mark.parametrize(("times", "seed"), [(15, 1), pytest.param(200, 2, marks=pytest.mark.slow)])
def test_kill_9_at_random_moments(times: int, seed: int, store: Store, made: Path) -> None:
    put(store, made / "1")
    command = [sys.executable, "-m", "tests.models.trials", str(store.folder), str(times), str(seed)]
    done = subprocess.run(
        [*command, *(str(made / version) for version in "123")],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    _, killed, _, standings = done.stdout.replace(",", "").split()
    assert int(killed) == times and int(standings) >= 1, "how far the child comes is up to the machine"


def test_defaults() -> None:
    assert (ModelSettings().trial_reports, ModelSettings().trial_speech_min) == (20, 10.0)
