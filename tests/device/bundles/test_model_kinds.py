"""Bundles of each kind: their contents, their users, and mismatched shapes."""

from __future__ import annotations

from pathlib import Path

import pytest

from device.bundles.bundle import MANIFEST, load_bundle
from device.bundles.golden import GOLDEN
from device.bundles.model_kinds import AUDIO, DIRECT, HEAD, LIPS, TOWERS
from device.bundles.store import Store
from device.cli import main
from device.errors import ModelContractError, ModelCorruptError, ModelError
from tests.models.bundles import change_manifest, head, sign_off, write_bundle, write_direct_bundle


@pytest.fixture
def direct(tmp_path: Path) -> Path:
    return write_direct_bundle(tmp_path / "direct")


def test_a_bundle_that_names_no_kind_is_a_tower_pair(tmp_path: Path) -> None:
    bundle = load_bundle(write_bundle(tmp_path / "towers"))
    assert bundle.kind is TOWERS and set(bundle.models) == {"lips", "audio"}
    assert bundle.lips is bundle.models["lips"] and bundle.audio is bundle.models["audio"]


def test_a_bundle_may_name_the_tower_pair(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "towers")
    change_manifest(folder, lambda m: m.update(kind="towers"))
    assert load_bundle(folder).kind is TOWERS


def test_the_direct_kind_has_a_third_model(direct: Path) -> None:
    bundle = load_bundle(direct, (TOWERS, DIRECT))
    assert bundle.kind is DIRECT and set(bundle.models) == {"lips", "audio", "head"}
    assert {path.name for path in direct.iterdir()} == {LIPS, AUDIO, HEAD, GOLDEN, MANIFEST}


@pytest.mark.parametrize("kind", ["direct", "syncnet", 7, None, ["towers"]])
def test_a_kind_that_cannot_be_used_here(kind: object, tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "towers")
    change_manifest(folder, lambda m: m.update(kind=kind))
    with pytest.raises(ModelContractError, match="only towers can be used here") as caught:
        load_bundle(folder)
    assert caught.value.where == str(folder / MANIFEST)


def test_the_direct_kind_is_not_what_a_daemon_runs(direct: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelContractError, match="models of kind 'direct'"):
        Store(tmp_path / "store").install(direct, allow_unsigned=True)
    assert not (tmp_path / "store" / "models").exists()


def test_run_says_so(direct: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--source", "talk.mp4", "--bundle", str(direct)]) == 4
    assert "models of kind 'direct', and only towers can be used here" in capsys.readouterr().err


@pytest.mark.parametrize("missing", [LIPS, AUDIO, HEAD, GOLDEN])
def test_each_file_of_its_kind_is_needed(missing: str, direct: Path) -> None:
    (direct / missing).unlink()
    with pytest.raises(ModelCorruptError, match="missing"):
        load_bundle(direct, (DIRECT,))


def test_files_of_another_kind_are_too_many(direct: Path) -> None:
    change_manifest(direct, lambda m: m.pop("kind"))
    with pytest.raises(ModelCorruptError, match=r"must list exactly lips\.tflite, audio\.tflite, golden\.npz"):
        load_bundle(direct)


@pytest.mark.parametrize("content", [head(groups=3), head(groups=16)])
def test_a_head_that_does_not_fit_the_features(content: bytes, tmp_path: Path) -> None:
    """Eight features can be multiplied in one, two, four or eight groups."""
    folder = write_direct_bundle(tmp_path / "direct", content)
    with pytest.raises(ModelContractError, match=r"head\.tflite: input .* do not fit the contract"):
        load_bundle(folder, (DIRECT,))


def test_a_head_that_is_none(direct: Path) -> None:
    (direct / HEAD).write_bytes((direct / LIPS).read_bytes())
    sign_off(direct)
    with pytest.raises(ModelError, match="do not fit"):
        load_bundle(direct, (DIRECT,))
