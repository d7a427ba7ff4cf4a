"""The doctor's check of models: which are used, whether they are intact and signed, and the computer's speed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from device.bundles.bundle import load_bundle
from device.bundles.model_kinds import LIPS
from device.bundles.store import Store
from device.doctor import models
from device.doctor.finding import Level
from device.errors import ModelCorruptError, ModelError, ModelSignatureError
from tests.models.bundles import write_bundle
from tests.models.stores import make_key, needs_ssh_keygen, signed, trust, versioned
from tests.scenes import talking_items, tiny_bundle


def test_the_built_in_bundle(tmp_path: Path) -> None:
    level, found, _ = models.bundle(None, Store(tmp_path))
    assert level is Level.OK and "built in" in found and "golden vectors" in found


def test_a_configured_bundle_without_a_signature(tmp_path: Path) -> None:
    level, found, remedy = models.bundle(write_bundle(tmp_path / "b"), Store(tmp_path))
    assert level is Level.WARNING and "not signed" in found and "avdrift-convert sign" in remedy


def test_a_damaged_bundle(tmp_path: Path) -> None:
    (write_bundle(tmp_path / "b") / LIPS).write_bytes(b"TFL3")
    with pytest.raises(ModelCorruptError):
        models.bundle(tmp_path / "b", Store(tmp_path))


def test_a_store_whose_link_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "current").symlink_to("../elsewhere")
    with pytest.raises(ModelError, match="avdrift model"):
        models.bundle(None, Store(tmp_path))


@needs_ssh_keygen
def test_an_installed_signed_bundle(tmp_path: Path) -> None:
    key, store = make_key(tmp_path / "key"), Store(tmp_path / "state")
    trust(store.folder, key)
    given = signed(versioned(tmp_path / "b", "1.0"), key)
    store.activate(store.install(given).digest)
    level, found, _ = models.bundle(None, store)
    assert level is Level.OK and "installed: signature" in found
    trust(store.folder, make_key(tmp_path / "other"))
    with pytest.raises(ModelSignatureError):
        models.bundle(None, store)
    store.signers.unlink()
    level, found, remedy = models.bundle(None, store)
    assert level is Level.WARNING and "no key is trusted here" in found and str(store.signers) in remedy


def test_the_face_model_is_there() -> None:
    assert models.face_model()[0] is Level.OK


def clock(step_s: float) -> Callable[[], float]:
    times = iter([0.0, step_s])
    return lambda: next(times)


@pytest.mark.parametrize(("took_s", "level"), [(0.1, Level.OK), (1.5, Level.WARNING), (4.0, Level.FAILED)])
def test_speed_against_real_time(took_s: float, level: Level) -> None:
    items = [item for item in talking_items() if item.t_ns < 2_000_000_000]
    seen, found, _ = models.speed(load_bundle(tiny_bundle()), lambda: items, clock(took_s))
    assert seen is level and "times real time" in found


def test_fewer_streams_beside_other_programs() -> None:
    items = [item for item in talking_items() if item.t_ns < 2_000_000_000]
    found = [
        models.speed(load_bundle(tiny_bundle()), lambda: items, clock(0.02), clock(wall_s))[1] for wall_s in (0.02, 0.2)
    ]
    alone, beside = (int(text.split("enough for ")[1].split()[0]) for text in found)
    assert alone >= 8 * beside and "10% of one now" in found[1] and "leave it" not in found[0]


def test_the_sample_is_long_enough_to_time() -> None:
    items = models._sample()
    assert len(items) > 100 and items[-1].t_ns < 3_000_000_000
