"""Everything that can be wrong with new models, through the real commands: the device goes on with the old ones.

The device measures with the built-in models, installed and signed; each fault must end the command with code 4 and a
message that says what is wrong, and the same recording must then be measured as before, by the same models.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device.bundles.bundle import DEFAULT_BUNDLE, FILES, MANIFEST
from device.bundles.golden import GOLDEN
from device.bundles.model_kinds import AUDIO, LIPS
from device.bundles.signature import SIGNATURE
from device.bundles.store import CURRENT, Store
from device.cli import main
from device.commands.options.models import STATE_VARIABLE
from tests.models.bundles import (
    audio_encoder,
    change_manifest,
    golden_vectors,
    lip_encoder,
    looping_model,
    sign_off,
    write_direct_bundle,
)
from tests.models.stores import leftovers, make_key, needs_ssh_keygen, sign_raw, signed, small_disk, trust, versioned
from tests.scenes import talking

pytestmark = needs_ssh_keygen
Shown = pytest.CaptureFixture[str]


@dataclass(frozen=True)
class Keys:
    ours: Path
    other: Path


Spoil = Callable[[Path, Keys], object]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 16
    path.write_bytes(content)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size * 2 // 3)


def link_away(path: Path) -> None:
    path.rename(path.parent.parent / f"elsewhere-{path.name}")
    path.symlink_to(path.parent.parent / f"elsewhere-{path.name}")


def signed_again(spoil: Callable[[Path], object]) -> Spoil:
    """The same done by whoever holds the key: only what stands behind the signature can find it."""

    def run(folder: Path, keys: Keys) -> None:
        spoil(folder)
        if (folder / MANIFEST).exists():
            sign_off(folder)
        signed(folder, keys.ours)

    return run


def manifest(**changes: object) -> Callable[[Path], None]:
    return lambda folder: change_manifest(folder, lambda m: m.update(changes))


def climbing(folder: Path, keys: Keys) -> None:
    (folder.parent / "evil").write_bytes(b"evil")
    change_manifest(folder, lambda m: m["files"].update({"../evil": m["files"].pop(GOLDEN)}))
    signed(folder, keys.ours)


def other_front_end(folder: Path) -> None:
    change_manifest(folder, lambda m: m["contract"]["front_end"].update(mel_bands=41))


def golden_of_another(folder: Path) -> None:
    np.savez(folder / GOLDEN, **golden_vectors(lip_encoder(seed=8), audio_encoder(seed=8)))


def other_pair(folder: Path) -> None:
    """Both towers are right by themselves."""
    (folder / LIPS).write_bytes(lip_encoder(size=16))
    np.savez(folder / GOLDEN, **golden_vectors(lip_encoder(size=16), audio_encoder(seed=sum(b"2"))))


def deadly(folder: Path) -> None:
    golden: dict[str, Any] = golden_vectors(lip_encoder(), audio_encoder())
    four = np.zeros((1, 4), np.float32)
    (folder / LIPS).write_bytes(looping_model(endless=False))
    np.savez(folder / GOLDEN, **golden | {"lips_in": four, "lips_out": four})


def other_kind(folder: Path) -> None:
    shutil.rmtree(folder)
    write_direct_bundle(folder)


def each(
    names: tuple[str, ...], what: str, spoil: Callable[[Path], object], words: str
) -> dict[str, tuple[Spoil, str]]:
    """The same done to each of some files; `{}` is the file's name."""

    def one(name: str) -> Spoil:
        return lambda folder, keys: spoil(folder / name)

    return {what.format(name): (one(name), words.format(name)) for name in names}


FAULTS: dict[str, tuple[Spoil, str]] = {
    **each(FILES, "flipped bit in {}", flip, "{}: size or SHA-256 differs"),
    "flipped bit in the manifest": (lambda f, k: flip(f / MANIFEST), "made for another manifest"),
    "flipped bit in the signature": (lambda f, k: flip(f / SIGNATURE), "signature"),
    **each(FILES, "truncated {}", cut, "{}: size or SHA-256 differs"),
    "truncated manifest": (lambda f, k: cut(f / MANIFEST), "made for another manifest"),
    "truncated signature": (lambda f, k: cut(f / SIGNATURE), "malformed signature"),
    **each(FILES, "missing {}", Path.unlink, "{}: missing"),
    "missing manifest": (lambda f, k: (f / MANIFEST).unlink(), "no bundle here"),
    "missing signature": (lambda f, k: (f / SIGNATURE).unlink(), "the bundle is not signed"),
    "another key": (lambda f, k: sign_raw(f, k.other), "does not allow"),
    "another namespace": (lambda f, k: sign_raw(f, k.ours, "file"), "signed for 'file' instead of 'avdrift-bundle'"),
    "an extra file": (lambda f, k: (f / "evil.so").touch(), "files that the manifest does not list: evil.so"),
    "an extra folder": (lambda f, k: (f / "deep").mkdir(), "files that the manifest does not list: deep"),
    "an extra link": (lambda f, k: (f / "loop").symlink_to("."), "files that the manifest does not list: loop"),
    **each(FILES, "{} is a link", link_away, "{}: missing, or not a plain file"),
    **each((MANIFEST, SIGNATURE), "{} is a link", link_away, "{}: not a plain"),
    "a path with ..": (climbing, "the manifest must list exactly"),
    "newer software": (signed_again(manifest(min_software="99.1")), "needs avdrift 99.1 or newer"),
    "newer format": (signed_again(manifest(format=3)), "bundle format 3, this software reads 1 to 2"),
    "a lower version": (signed_again(manifest(version="0.0.1")), "is lower than"),
    "a version of no form": (signed_again(manifest(version="new")), "is not of the form 1.2.3"),
    "another front end": (signed_again(other_front_end), "made for another front end: mel_bands 41"),
    "contracts of the pair disagree": (signed_again(other_pair), "the towers' embeddings differ in size"),
    "towers swapped": (
        signed_again(lambda f: (f / LIPS).write_bytes((f / AUDIO).read_bytes())), f"{LIPS}: input (1, 52, 40)"
    ),
    "golden vectors differ": (signed_again(golden_of_another), "golden vectors differ by"),
    "no golden vectors": (signed_again(lambda f: (f / GOLDEN).write_bytes(b"PK")), "golden vectors cannot be read"),
    "no model at all": (signed_again(lambda f: (f / AUDIO).write_bytes(b"TFL3" * 99)), f"{AUDIO}: LiteRT rejects it"),
    "a model that kills": (signed_again(deadly), f"{LIPS}: crashes LiteRT"),
    "another kind": (signed_again(other_kind), "models of kind 'direct'"),
}  # fmt: skip


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    folder = tmp_path_factory.mktemp("keys")
    return Keys(make_key(folder / "ours"), make_key(folder / "other"))


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory, keys: Keys) -> Path:
    """A device with models of its own in use."""
    folder = tmp_path_factory.mktemp("device")
    trust(folder / "state", keys.ours)
    shutil.copytree(DEFAULT_BUNDLE, folder / "first", ignore=shutil.ignore_patterns(SIGNATURE))
    change_manifest(folder / "first", lambda m: m.update(version="1"))
    store = Store(folder / "state")
    store.activate(store.install(signed(folder / "first", keys.ours)).digest)
    return folder / "state"


def measured(capsys: Shown) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["measure", str(talking()), "--json"]) == 0
    shown = capsys.readouterr()
    assert "avdrift:" not in shown.err, "it measures with what is installed, and says nothing"
    found: dict[str, Any] = json.loads(shown.out)
    return found


def test_an_intact_bundle_is_accepted(state: Path, keys: Keys, tmp_path: Path) -> None:
    """Else nothing below would prove anything."""
    Store(state).install(signed(versioned(tmp_path / "good", "2"), keys.ours))


def install_spoilt(fault: str, keys: Keys, folder: Path) -> int:
    """What the command that installs models with this fault returns."""
    spoil, _ = FAULTS[fault]
    bundle = signed(versioned(folder / "new", "2"), keys.ours)
    change_manifest(bundle, lambda m: m.update(name=fault))  # no other test's digest
    spoil(signed(bundle, keys.ours), keys)
    return main(["model", "install", str(bundle), "--activate"])


@pytest.mark.parametrize("fault", FAULTS)
def test_the_old_models_stay_and_the_fault_is_named(
    fault: str, state: Path, keys: Keys, tmp_path: Path, capsys: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STATE_VARIABLE, str(state))
    old = Store(state).linked(CURRENT)
    installed = [entry.digest for entry in Store(state).entries()]
    assert install_spoilt(fault, keys, tmp_path) == 4
    said = capsys.readouterr().err
    assert said.startswith("avdrift: ") and said.count("\n") == 1 and FAULTS[fault][1] in said, said
    assert Store(state).linked(CURRENT) == old and leftovers(state) == []
    assert [entry.digest for entry in Store(state).entries()] == installed


def test_the_old_models_measure_as_before(
    state: Path, keys: Keys, tmp_path: Path, capsys: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STATE_VARIABLE, str(state))
    before = measured(capsys)
    assert before["state"] == "measuring", before
    for fault in (f"flipped bit in {LIPS}", "missing manifest", "another key", "a model that kills"):
        assert install_spoilt(fault, keys, tmp_path / fault) == 4
        assert measured(capsys) == before


def test_a_full_disk(
    state: Path, keys: Keys, tmp_path: Path, capsys: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """The device's state on a disk with room for the models in use and little more."""
    bundle = Path(shutil.copytree(state.parent / "first", tmp_path / "new"))
    change_manifest(bundle, lambda m: m.update(version="2"))
    with small_disk(tmp_path / "state", "1200k"):
        shutil.copytree(state, tmp_path / "state", symlinks=True, dirs_exist_ok=True)
        monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "state"))
        before, old = measured(capsys), Store(tmp_path / "state").linked(CURRENT)
        assert main(["model", "install", str(signed(bundle, keys.ours)), "--activate"]) == 4
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and "No space left" in said and "have not changed" in said, said
        assert Store(tmp_path / "state").linked(CURRENT) == old and leftovers(tmp_path / "state") == []
        assert measured(capsys) == before
