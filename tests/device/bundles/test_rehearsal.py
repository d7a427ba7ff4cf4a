"""Models that crash LiteRT: only a child process dies, and the device reports it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device.bundles.bundle import load_bundle
from device.bundles.golden import GOLDEN
from device.bundles.model_kinds import LIPS
from device.bundles.rehearsal import rehearse
from device.bundles.store import Store
from device.cli import main
from device.errors import ModelCorruptError, ModelStoreError
from device.litert import Model
from tests.models.bundles import (
    audio_encoder,
    golden_vectors,
    greedy_model,
    identity_int8,
    lip_encoder,
    looping_model,
    sign_off,
    write_bundle,
)
from tests.models.stores import current_version, leftovers, versioned

FOUR = np.zeros((1, 4), np.float32)
DEADLY, ENDLESS = looping_model(endless=False), looping_model(endless=True)


def test_what_runs_survives() -> None:
    rehearse({"good": (identity_int8(0.5, 3), FOUR)})


def test_the_other_process_loads_and_runs_it() -> None:
    """Else nothing could be said to have survived: what merely loads here hangs when it is run."""
    Model(ENDLESS, name="loads")
    with pytest.raises(ModelCorruptError, match=r"^second: keeps LiteRT busy for more than 3 s\. "):
        rehearse({"first": (identity_int8(0.5, 4), FOUR), "second": (ENDLESS, FOUR)}, busy_s=3)


def test_a_crash_is_an_error_that_names_the_model() -> None:
    with pytest.raises(ModelCorruptError, match=r"^second: crashes LiteRT \(SIGSEGV\)\. ") as caught:
        rehearse({"first": (identity_int8(0.5, 5), FOUR), "second": (DEADLY, FOUR), "third": (ENDLESS, FOUR)})
    assert caught.value.exit_code == 4


def test_it_does_crash_a_process_that_is_not_careful() -> None:
    program = "from tests.models.bundles import looping_model\nfrom device.litert import Model\n"
    program += "Model(looping_model(endless=False), name='x')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=120, check=False)
    assert done.returncode == -11, "if LiteRT has learnt to refuse it, look for another"


@pytest.mark.parametrize("content", [b"", b"rubbish" * 99, lip_encoder()[:5000]])
def test_what_litert_refuses_is_refused_in_its_words(content: bytes) -> None:
    with pytest.raises(ModelCorruptError) as usual:
        Model(content, name="second")
    with pytest.raises(ModelCorruptError) as caught:
        rehearse({"first": (identity_int8(0.5, 10), FOUR), "second": (content, FOUR), "third": (DEADLY, FOUR)})
    assert (caught.value.where, caught.value.what) == (usual.value.where, usual.value.what)


def test_what_only_the_other_process_refuses_is_refused_too() -> None:
    """It has bounds that the caller lacks, who would load such a model and be busy with it."""
    greedy, given = greedy_model(), np.zeros((1, 1, 1, 1), np.float32)
    Model(greedy, name="loads here")
    with pytest.raises(ModelCorruptError, match=r"^greedy: "):
        rehearse({"greedy": (greedy, given)}, memory_bytes=800 << 20)
    rehearse({"small": (identity_int8(0.5, 11), FOUR)}, memory_bytes=800 << 20)


def test_what_was_refused_is_refused_again() -> None:
    for _ in range(2):
        with pytest.raises(ModelCorruptError, match=r"^bad: LiteRT rejects it"):
            rehearse({"bad": (b"rubbish" * 98, FOUR)})


def test_an_input_of_another_shape_is_not_run() -> None:
    rehearse({"loads": (ENDLESS, np.zeros((1, 5), np.float32))})


def test_the_same_models_are_not_run_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    models = {"good": (identity_int8(0.5, 6), FOUR)}
    rehearse(models)
    monkeypatch.setattr(sys, "executable", "/not/there")
    rehearse(models)
    with pytest.raises(ModelStoreError, match=r"^/not/there: new models cannot be tried .*\(No such file"):
        rehearse({"other": (identity_int8(0.5, 7), FOUR)})


def test_a_child_that_cannot_begin_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "executable", str(Path(sys.base_prefix) / "bin" / "python3"))  # avdrift is not there
    with pytest.raises(ModelStoreError, match=r"No module named '?device"):
        rehearse({"good": (identity_int8(0.5, 8), FOUR)})


def test_nothing_is_imported_from_where_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit(7)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    rehearse({"good": (identity_int8(0.5, 9), FOUR)})


@pytest.fixture
def deadly(tmp_path: Path) -> Path:
    """A bundle that is right in all that can be seen without LiteRT, and whose lip tower kills."""
    folder = versioned(tmp_path / "deadly", "2")
    (folder / LIPS).write_bytes(DEADLY)
    golden: dict[str, Any] = golden_vectors(lip_encoder(), audio_encoder(seed=sum(b"2")))
    np.savez(folder / GOLDEN, **golden | {"lips_in": FOUR, "lips_out": FOUR})
    sign_off(folder)
    return folder


def test_a_deadly_bundle_is_refused_and_the_old_one_stays(deadly: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.activate(store.install(versioned(tmp_path / "good", "1"), allow_unsigned=True).digest)
    with pytest.raises(ModelCorruptError, match=r"lips\.tflite: crashes LiteRT"):
        store.install(deadly, allow_unsigned=True)
    assert current_version(tmp_path / "store") == "1" and leftovers(tmp_path / "store") == []
    assert len(store.entries()) == 1


@pytest.mark.parametrize("command", [["model", "verify", "--allow-unsigned"], ["measure", "talk.mp4", "--bundle"]])
def test_no_command_dies_of_it(command: list[str], deadly: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, str(deadly)]) == 4
    assert "lips.tflite: crashes LiteRT (SIGSEGV)" in capsys.readouterr().err


def test_trusted_models_are_loaded_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_bundle(tmp_path / "bundle", lip_encoder(seed=77))
    monkeypatch.setattr(sys, "executable", "/not/there")
    load_bundle(folder)
    with pytest.raises(ModelStoreError):
        load_bundle(folder, trusted=False)
