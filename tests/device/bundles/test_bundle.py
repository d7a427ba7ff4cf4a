"""A bundle loads completely or not at all: each fault is refused with its own error and its location."""

from __future__ import annotations

import gc
import io
import json
import os
import pickle
import random
import shutil
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device.bundles.bundle import DEFAULT_BUNDLE, FILES, MANIFEST, Bundle, load_bundle
from device.bundles.golden import GOLDEN, difference, distance
from device.bundles.model_kinds import AUDIO, LIPS
from device.errors import AvdriftError, ModelContractError, ModelCorruptError, ModelError, ModelMissingError
from tests.models.bundles import (
    CALIBRATION,
    audio_encoder,
    change_manifest,
    golden_vectors,
    lip_encoder,
    sign_off,
    write_bundle,
)

Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundles") / "pristine")


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A valid bundle that the test may spoil."""
    return Path(shutil.copytree(pristine, tmp_path / "bundle"))


def refused(folder: Path, kind: type[ModelError], where: str, what: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_bundle(folder)
    error = caught.value
    assert type(error) is kind, error
    assert Path(error.where) == folder / where, error
    assert what in error.what and error.remedy and error.exit_code == 4
    assert len(str(error)) < 4000


def test_a_valid_bundle_loads(folder: Path) -> None:
    bundle = load_bundle(folder)
    assert (bundle.name, bundle.version, bundle.calibration) == ("tiny", "0", CALIBRATION)
    assert bundle.lips.input_shape == (1, 12, 64, 64) and bundle.audio.input_shape == (1, 52, 40)
    assert bundle.label == f"tiny 0 {bundle.digest[:12]}" and len(bundle.digest) == 64


def test_the_digest_names_the_content(folder: Path) -> None:
    before = load_bundle(folder).digest
    assert load_bundle(folder).digest == before
    change_manifest(folder, lambda m: m.update(version="1"))
    assert load_bundle(folder).digest != before


def test_a_signature_beside_the_manifest_is_no_extra_file(folder: Path) -> None:
    (folder / "manifest.json.sig").write_bytes(b"later")
    assert isinstance(load_bundle(folder), Bundle)


def _npy(shape: tuple[int, ...], content: bytes) -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return header.getvalue() + content


@pytest.mark.parametrize(
    ("shape", "size", "method"),
    [
        ((1 << 25,), 1 << 27, zipfile.ZIP_DEFLATED),  # 0.1 MB that unpack to 134 MB
        ((1 << 40,), 16, zipfile.ZIP_DEFLATED),  # numpy takes what the header asks for
        ((4,), 1 << 27, zipfile.ZIP_BZIP2),  # Python unpacks whole blocks of it
    ],
)
def test_golden_vectors_that_unpack_to_much_take_no_memory(
    folder: Path, shape: tuple[int, ...], size: int, method: int
) -> None:
    with zipfile.ZipFile(folder / GOLDEN, "w", method) as archive:
        for name in ("lips_in", "lips_out", "audio_in", "audio_out"):
            archive.writestr(f"{name}.npy", _npy(shape, bytes(size)))
    sign_off(folder)
    gc.collect()
    tracemalloc.start()
    refused(folder, ModelCorruptError, GOLDEN, "lips_in")
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_in_a_file_is_found(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    for place in (0, len(content) // 2, len(content) - 1):
        content[place] ^= 1 << place % 8
        (folder / name).write_bytes(content)
        refused(folder, ModelCorruptError, name, "SHA-256 differs")
        content[place] ^= 1 << place % 8


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_found(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    for size in (len(content) - 1, 0):
        (folder / name).write_bytes(content[:size])
        refused(folder, ModelCorruptError, name, "size or SHA-256")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_found(folder: Path, name: str) -> None:
    (folder / name).unlink()
    refused(folder, ModelCorruptError, name, "missing")


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_link_is_not_followed(folder: Path, name: str) -> None:
    (folder / name).rename(folder.parent / "elsewhere")
    (folder / name).symlink_to(folder.parent / "elsewhere")
    refused(folder, ModelCorruptError, name, "not a plain file")


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_pipe_is_not_read(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    refused(folder, ModelCorruptError, name, "not a plain file")


@pytest.mark.parametrize("name", FILES)
def test_a_folder_in_place_of_a_file_is_found(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).mkdir()
    refused(folder, ModelCorruptError, name, "not a plain file")


def test_an_extra_file_is_found_and_named(folder: Path) -> None:
    (folder / "evil.so").touch()
    refused(folder, ModelCorruptError, ".", "evil.so")


def test_swapped_towers_are_found_by_hash_and_by_shape(folder: Path) -> None:
    (folder / LIPS).rename(folder / "held")
    (folder / AUDIO).rename(folder / LIPS)
    (folder / "held").rename(folder / AUDIO)
    refused(folder, ModelCorruptError, LIPS, "SHA-256")
    sign_off(folder)
    refused(folder, ModelContractError, LIPS, "do not fit the contract")


@pytest.mark.parametrize("where", ["no/such/folder", "file"])
def test_no_bundle_at_all_is_missing(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").touch()
    refused(tmp_path / where, ModelMissingError, MANIFEST, "no bundle here")


def test_an_empty_folder_is_missing(tmp_path: Path) -> None:
    refused(tmp_path, ModelMissingError, MANIFEST, "no bundle here")


@pytest.mark.parametrize(
    ("content", "kind", "what"),
    [
        (b"", ModelCorruptError, "not JSON"),
        (b"{", ModelCorruptError, "not JSON"),
        (b"\xff\xfe\x00x", ModelCorruptError, "not JSON"),
        (b"not json", ModelCorruptError, "not JSON"),
        (b'{"format": ' + b"9" * 5000 + b"}", ModelCorruptError, "not JSON"),
        (b"[" * 100_000, ModelCorruptError, "not JSON"),
        (b'{"a":' * 100_000, ModelCorruptError, "not JSON"),
        (b"[]", ModelCorruptError, "not a JSON object"),
        (b"1", ModelCorruptError, "not a JSON object"),
        (b"null", ModelCorruptError, "not a JSON object"),
        (b'{"format": 1, "x": "' + b"x" * (1 << 20) + b'"}', ModelCorruptError, "larger than a manifest"),
        (b"{}", ModelContractError, "bundle format None"),
    ],
    ids=lambda value: repr(value)[:20] if isinstance(value, bytes) else None,
)
def test_a_manifest_that_is_none_is_refused(folder: Path, content: bytes, kind: type[ModelError], what: str) -> None:
    (folder / MANIFEST).write_bytes(content)
    refused(folder, kind, MANIFEST, what)


def test_a_deep_manifest_is_refused_at_every_depth(folder: Path) -> None:
    """Just where JSON may still be read, showing it in a message may be one level too deep."""
    limit = sys.getrecursionlimit()
    for depth in [*range(limit - 80, limit + 5, 2), 2 * limit, 5 * limit]:
        (folder / MANIFEST).write_text('{"format": ' + "[" * depth + "]" * depth + "}")
        with pytest.raises(ModelError):
            load_bundle(folder)


def set_front_end(key: str, value: Any) -> Change:
    return lambda m: m["contract"]["front_end"].update({key: value})


def set_calibration(key: str, value: Any) -> Change:
    return lambda m: m["calibration"].update({key: value})


@pytest.mark.parametrize(
    ("change", "kind", "what"),
    [
        (lambda m: m.update(format=3), ModelContractError, "bundle format 3, this software reads 1 to 2"),
        (lambda m: m.update(format="1"), ModelContractError, "bundle format '1'"),
        (lambda m: m.update(format=[[1]]), ModelContractError, "bundle format a list"),
        (lambda m: m.pop("format"), ModelContractError, "bundle format None"),
        (lambda m: m.pop("files"), ModelCorruptError, "must list exactly lips.tflite"),
        (lambda m: m.update(files=[*FILES]), ModelCorruptError, "must list exactly"),
        (lambda m: m["files"].pop(LIPS), ModelCorruptError, "must list exactly"),
        (lambda m: m["files"].update({"../other": {}}), ModelCorruptError, "must list exactly"),
        (lambda m: m.pop("name"), ModelCorruptError, "'name'"),
        (lambda m: m.update(name="evil \x1b[2J"), ModelCorruptError, "name or version"),
        (lambda m: m.update(name="two\nlines"), ModelCorruptError, "name or version"),
        (lambda m: m.update(name="x" * 101), ModelCorruptError, "name or version"),
        (lambda m: m.update(name=""), ModelCorruptError, "name or version"),
        (lambda m: m.update(name=[1]), ModelCorruptError, "name or version"),
        (lambda m: m.update(version=None), ModelCorruptError, "name or version"),
        (lambda m: m.pop("min_software"), ModelCorruptError, "'min_software'"),
        (lambda m: m.update(min_software="999.0"), ModelContractError, "needs avdrift 999.0 or newer"),
        (lambda m: m.update(min_software=[1]), ModelContractError, "version a list is not of the form"),
        (lambda m: m.pop("contract"), ModelCorruptError, "'contract'"),
        (lambda m: m.update(contract=[]), ModelCorruptError, "in the manifest"),
        (lambda m: m["contract"].update(front_end=3), ModelContractError, "no front-end contract"),
        (set_front_end("mel_bands", 41), ModelContractError, "mel_bands 41 instead of 40"),
        (set_front_end("crop_color", ["gray"]), ModelContractError, "crop_color a list instead of 'gray'"),
        (set_front_end("crop_color", "x" * 5000), ModelContractError, "crop_color 'xxx"),
        (set_front_end("something_new", 1), ModelContractError, "something_new 1 instead of None"),
        (lambda m: m["contract"]["front_end"].pop("mel_floor"), ModelContractError, "mel_floor None instead of 1e-07"),
        (lambda m: m.pop("calibration"), ModelCorruptError, "'calibration'"),
        (lambda m: m.update(calibration=[1]), ModelCorruptError, "in the manifest"),
        (lambda m: m["calibration"].pop("temperature"), ModelCorruptError, "'temperature'"),
        (set_calibration("logit_scale", float("nan")), ModelCorruptError, "NaN is not JSON"),
        (set_calibration("null_log_odds", float("inf")), ModelCorruptError, "Infinity is not JSON"),
        (set_calibration("zero_offset_ms", 10**400), ModelCorruptError, "a number of 401 digits"),
        (set_calibration("zero_offset_ms", "early"), ModelCorruptError, "in the manifest"),
        (set_calibration("temperature", None), ModelCorruptError, "no usable 'temperature'"),
        (set_calibration("temperature", 0), ModelCorruptError, "positive"),
        (set_calibration("temperature", -8), ModelCorruptError, "positive"),
    ],
)
def test_one_wrong_value_in_the_manifest(folder: Path, change: Change, kind: type[ModelError], what: str) -> None:
    change_manifest(folder, change)
    refused(folder, kind, MANIFEST, what)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("entry", [None, [], {}, {"size": 1}, "hash", {"size": 1, "sha256": "0"}])
def test_a_wrong_entry_of_a_file(folder: Path, name: str, entry: Any) -> None:
    change_manifest(folder, lambda m: m["files"].update({name: entry}))
    refused(folder, ModelCorruptError, name, "differs from the manifest")


@pytest.mark.parametrize("name", [LIPS, AUDIO])
def test_a_signed_file_that_is_no_model(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"TFL3" * 100)
    sign_off(folder)
    refused(folder, ModelCorruptError, name, "LiteRT rejects it")


@pytest.mark.parametrize(
    ("name", "content", "where", "what"),
    [
        (LIPS, lip_encoder(crop_px=32), LIPS, "input (1, 12, 32, 32)"),
        (LIPS, lip_encoder(size=16), ".", "embeddings differ in size"),
        (AUDIO, lip_encoder(), AUDIO, "do not fit"),
        (LIPS, lip_encoder(ticks=20), GOLDEN, "golden vectors do not fit"),
    ],
)
def test_a_tower_of_another_shape(folder: Path, name: str, content: bytes, where: str, what: str) -> None:
    (folder / name).write_bytes(content)
    sign_off(folder)
    refused(folder, ModelContractError, where, what)


def test_golden_vectors_of_another_model(folder: Path) -> None:
    np.savez(folder / GOLDEN, **golden_vectors(lip_encoder(seed=5), audio_encoder()))
    sign_off(folder)
    refused(folder, ModelCorruptError, GOLDEN, "golden vectors differ by")


def savez(path: Path, **changes: Any) -> None:
    np.savez(path, **{**golden_vectors(lip_encoder(), audio_encoder()), **changes})


def cut_zip(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def endless_name(path: Path) -> None:
    """A first member whose own header says that its name is as long as can be."""
    content = bytearray(path.read_bytes())
    content[26:28] = b"\xff\xff"
    path.write_bytes(content)


def spoilt_zip(path: Path) -> None:
    np.savez_compressed(path, **golden_vectors(lip_encoder(), audio_encoder()))
    content = bytearray(path.read_bytes())
    content[200:260] = bytes(60)
    path.write_bytes(content)


def endless_header(path: Path) -> None:
    """An array that claims to need more memory than there is."""
    with path.open("wb") as out:
        np.lib.format.write_array_header_1_0(out, {"descr": "<f4", "fortran_order": False, "shape": (1 << 60,)})
    header = path.read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("lips_in", "lips_out", "audio_in", "audio_out"):
            archive.writestr(f"{name}.npy", header)


def plain_member(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("lips_in", "lips_out", "audio_in", "audio_out"):
            archive.writestr(name, b"no array")


def nan_answer() -> Any:
    return np.full((1, 8, 8), np.nan, np.float32)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"PK\x03\x04"),
        lambda path: path.write_bytes(pickle.dumps({"lips_in": 1})),
        lambda path: np.save(path.open("wb"), np.zeros(3)),
        lambda path: np.savez(path, lips_in=np.zeros(3)),
        lambda path: savez(path, lips_in=np.array([{}], dtype=object)),
        lambda path: savez(path, lips_in=np.full((1, 12, 64, 64), "x")),
        lambda path: savez(path, lips_out=nan_answer()),
        cut_zip,
        endless_name,
        spoilt_zip,
        endless_header,
        plain_member,
    ],
)  # fmt: skip
def test_golden_vectors_that_cannot_be_read(folder: Path, spoil: Callable[[Path], None]) -> None:
    spoil(folder / GOLDEN)
    sign_off(folder)
    refused(folder, ModelCorruptError, GOLDEN, "")


def test_a_missing_right_to_list_is_said(folder: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may list everything")
    folder.chmod(0o100)
    try:
        refused(folder, ModelMissingError, ".", "cannot be listed")
    finally:
        folder.chmod(0o700)


def test_a_long_value_makes_no_long_message(folder: Path) -> None:
    change_manifest(folder, lambda m: m["calibration"].update(temperature="x" * 99_999))
    refused(folder, ModelCorruptError, MANIFEST, "could not convert")


TREE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


def paths_of(value: Any, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(value, dict):
        return [prefix]
    return [prefix, *(path for key, inner in value.items() for path in paths_of(inner, (*prefix, key)))]


def load_or_refuse(folder: Path, pristine: Path) -> None:
    """Anything but a load or an error of ours fails the test."""
    try:
        load_bundle(folder)
    except AvdriftError as error:
        assert str(folder) in str(error) and error.exit_code == 4
    else:
        told, true = (json.loads((at / MANIFEST).read_bytes()) for at in (folder, pristine))
        assert told["files"] == true["files"] and told["contract"]["front_end"] == true["contract"]["front_end"]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), flips=st.integers(1, 5))
def test_no_damage_to_the_manifest_gets_past(pristine: Path, folder: Path, seed: int, flips: int) -> None:
    dice, content = random.Random(seed), bytearray((pristine / MANIFEST).read_bytes())
    for _ in range(flips):
        at = dice.randrange(len(content))
        match dice.randrange(4):
            case 0:
                content[at] ^= 1 << dice.randrange(8)
            case 1:
                del content[at : at + dice.randrange(1, 20)]
            case 2:
                content[at:at] = dice.choice([b"9" * 400, b"[" * 30, b"-", b"null", b'"', b"NaN", b"e999", b"\x00"])
            case _:
                content[at] = dice.randrange(256)
    (folder / MANIFEST).write_bytes(content)
    load_or_refuse(folder, pristine)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), value=TREE)
def test_no_other_value_anywhere_in_the_manifest_gets_past(
    pristine: Path, folder: Path, data: st.DataObject, value: Any
) -> None:
    manifest = json.loads((pristine / MANIFEST).read_bytes())
    *above, last = data.draw(st.sampled_from([path for path in paths_of(manifest) if path]))
    inner = manifest
    for key in above:
        inner = inner[key]
    inner[last] = value
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    load_or_refuse(folder, pristine)


def test_distance_is_relative_and_survives_zeros() -> None:
    expected = np.array([3.0, 4.0], np.float32)
    assert distance(expected * 1.1, expected) == pytest.approx(0.1, rel=1e-5)
    assert distance(expected, expected) == 0.0
    assert distance(expected, expected * 0) > 1


def test_integers_that_are_the_same_everywhere_may_hardly_differ() -> None:
    step, expected = 0.05, np.arange(1000, dtype=np.float32) * np.float32(0.05)
    assert difference(expected, expected, step) == ""
    few, far = expected.copy(), expected.copy()
    few[:10] += 0.05
    far[0] += 0.1
    assert difference(few, expected, step) == "" and difference(few, expected, None) == ""
    few[10] += 0.05
    assert difference(few, expected, step) == "up to 1 steps in 1.1% of the values, allowed is 1 in 1%"
    assert difference(far, expected, step).startswith("up to 2 steps in 0.1%") and difference(far, expected, None) == ""
    assert difference(expected * np.nan, expected, step) and difference(expected * np.nan, expected, None)


def test_the_built_in_towers_are_held_to_the_step() -> None:
    """Else the wide tolerance, which is for other runtimes, would be all that guards them."""
    bundle = load_bundle(DEFAULT_BUNDLE)
    assert bundle.lips.same_step == pytest.approx(0.0629, abs=1e-3) and bundle.audio.same_step


def test_real_numbers_have_no_step(pristine: Path) -> None:
    assert load_bundle(pristine).lips.same_step is None
