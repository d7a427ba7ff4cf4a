"""The store accepts only verified bundles, and `current` is complete after any failure or power cut."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from device.bundles.bundle import FILES, MANIFEST, load_bundle
from device.bundles.golden import GOLDEN
from device.bundles.model_kinds import AUDIO, LIPS
from device.bundles.signature import SIGNATURE
from device.bundles.store import CURRENT, PREVIOUS, Store, verify_bundle
from device.errors import (
    ModelContractError,
    ModelCorruptError,
    ModelError,
    ModelMissingError,
    ModelSignatureError,
    ModelStoreError,
)
from device.state.disk import Disk, read_plain
from tests.device.bundles import killing
from tests.models.bundles import audio_encoder, change_manifest, golden_vectors, lip_encoder, sign_off
from tests.models.stores import (
    FAILURES,
    FailingDisk,
    KilledHere,
    RecordingDisk,
    current_version,
    leftovers,
    make_key,
    needs_ssh_keygen,
    sign_raw,
    signed,
    small_disk,
    trust,
    versioned,
)  # fmt: skip
from tests.scenes import ROOT


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unsigned bundles 1, 2 and 3, and a store in which 1 is in use."""
    folder = tmp_path_factory.mktemp("made")
    for version in "123":
        versioned(folder / version, version)
    put(Store(folder / "store"), folder / "1")
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of the store in which 1 is in use."""
    return Path(shutil.copytree(made / "store", tmp_path / "store", symlinks=True))


@pytest.fixture
def store(folder: Path) -> Store:
    return Store(folder)


@pytest.fixture
def source(made: Path, tmp_path: Path) -> Path:
    """Bundle 2, to be spoilt."""
    return Path(shutil.copytree(made / "2", tmp_path / "source"))


def put(store: Store, source: Path) -> str:
    """Install and activate an unsigned bundle; its digest."""
    return store.activate(store.install(source, allow_unsigned=True).digest).digest


def versions(store: Store) -> dict[str, str | None]:
    """What current and previous are; None where there is no such link."""
    named = {link: store.linked(link) for link in (CURRENT, PREVIOUS)}
    return {link: digest and store.load(digest).version for link, digest in named.items()}


# Install, activate, roll back


def test_an_empty_store(tmp_path: Path) -> None:
    store = Store(tmp_path / "none")
    assert store.load_current() is None and store.entries() == [] and store.linked(PREVIOUS) is None
    assert not store.folder.exists(), "looking makes nothing"
    with pytest.raises(ModelMissingError, match="0 installed bundles"):
        store.activate("0" * 64)
    with pytest.raises(ModelMissingError, match="no earlier models"):
        store.rollback()


def test_install_changes_no_link(store: Store, made: Path) -> None:
    bundle = store.install(made / "2", allow_unsigned=True)
    assert versions(store) == {CURRENT: "1", PREVIOUS: None}
    assert load_bundle(store.path_of(bundle.digest)).digest == bundle.digest
    assert sorted(path.name for path in store.path_of(bundle.digest).iterdir()) == sorted((*FILES, MANIFEST))
    assert leftovers(store.folder) == []


def test_activate_and_roll_back_and_forth(store: Store, made: Path) -> None:
    put(store, made / "2")
    assert versions(store) == {CURRENT: "2", PREVIOUS: "1"}
    put(store, made / "3")
    assert versions(store) == {CURRENT: "3", PREVIOUS: "2"}
    assert rolled_back(store) == "2"
    assert versions(store) == {CURRENT: "2", PREVIOUS: "3"}
    assert rolled_back(store) == "3"
    assert versions(store) == {CURRENT: "3", PREVIOUS: "2"}


def test_before_the_first_ones_there_were_none(store: Store, made: Path) -> None:
    assert versions(store) == {CURRENT: "1", PREVIOUS: None}
    for _ in range(2):
        assert rolled_back(store) is None
        assert versions(store) == {CURRENT: None, PREVIOUS: "1"}
        assert rolled_back(store) == "1"
        assert versions(store) == {CURRENT: "1", PREVIOUS: "1"}


def rolled_back(store: Store) -> str | None:
    bundle = store.rollback()
    return bundle.version if bundle else None


def test_doing_it_twice_changes_nothing(store: Store, made: Path) -> None:
    digest = put(store, made / "2")
    before = {path: path.lstat().st_ino for path in sorted(store.folder.rglob("*"))}
    assert put(store, made / "2") == digest
    assert {path: path.lstat().st_ino for path in sorted(store.folder.rglob("*"))} == before
    assert versions(store) == {CURRENT: "2", PREVIOUS: "1"}


def test_the_store_can_be_moved(store: Store, made: Path, tmp_path: Path) -> None:
    put(store, made / "2")
    moved = Store(store.folder.rename(tmp_path / "moved"))
    assert versions(moved) == {CURRENT: "2", PREVIOUS: "1"}


def test_entries_tell_what_is_there(store: Store, made: Path) -> None:
    two = put(store, made / "2")
    three = store.install(made / "3", allow_unsigned=True).digest
    (store.path_of(three) / LIPS).write_bytes(b"")
    entries = {entry.digest: entry for entry in store.entries()}
    assert len(entries) == 3 and list(entries) == sorted(entries)
    assert (entries[two].version, entries[two].current, entries[two].previous) == ("2", True, False)
    assert entries[three].version is None and LIPS in str(entries[three].problem)
    assert not any(entry.signed for entry in entries.values())


@pytest.mark.parametrize("prefix", ["", "a", "abcde", "../models", "*", ".lock", "current", "0" * 64, "z" * 64])
def test_a_digest_that_names_nothing(prefix: str, store: Store) -> None:
    with pytest.raises(ModelMissingError, match="avdrift model list"):
        store.activate(prefix)
    assert current_version(store.folder) == "1"


def test_the_first_digits_are_enough(store: Store, made: Path) -> None:
    digest = store.install(made / "2", allow_unsigned=True).digest
    assert store.activate(digest[:6]).digest == digest


# Versions


def test_a_lower_version_needs_permission(store: Store, made: Path) -> None:
    two = put(store, made / "2")
    one = store.linked(PREVIOUS)
    assert one
    words = r"version 1 is lower than 2.*--allow-downgrade"
    with pytest.raises(ModelContractError, match=words):
        store.install(made / "1", allow_unsigned=True)
    with pytest.raises(ModelContractError, match=words):
        store.activate(one)
    assert store.linked(CURRENT) == two
    store.install(made / "1", allow_unsigned=True, allow_downgrade=True)
    assert store.activate(one, allow_downgrade=True).version == "1"


def test_versions_are_compared_as_numbers(store: Store, tmp_path: Path) -> None:
    put(store, versioned(tmp_path / "1.10", "1.10"))
    with pytest.raises(ModelContractError, match=r"1\.9 is lower than 1\.10"):
        store.install(versioned(tmp_path / "1.9", "1.9"), allow_unsigned=True)
    put(store, versioned(tmp_path / "1.10.0", "1.10.0"))


def test_below_the_built_in_models_only_with_a_flag(tmp_path: Path) -> None:
    store, old = Store(tmp_path / "store"), versioned(tmp_path / "old", "0.0.1")
    with pytest.raises(ModelContractError, match=r"0\.0\.1 is lower than .*--allow-downgrade"):
        store.install(old, allow_unsigned=True)
    digest = store.install(old, allow_unsigned=True, allow_downgrade=True).digest
    with pytest.raises(ModelContractError, match="--allow-downgrade"):
        store.activate(digest)
    assert store.linked(CURRENT) is None
    store.activate(digest, allow_downgrade=True)


@needs_ssh_keygen
def test_a_rollback_goes_below_what_is_signed_only_with_a_flag(store: Store, made: Path, tmp_path: Path) -> None:
    put(store, made / "1")
    trust(store.folder, key := make_key(tmp_path / "key"))
    two = store.activate(store.install(signed(versioned(tmp_path / "two", "2"), key)).digest).digest
    with pytest.raises(ModelContractError, match="version 1 is lower than 2"):
        store.rollback(allow_downgrade=False)
    assert store.linked(CURRENT) == two
    rolled = store.rollback()
    assert rolled and rolled.version == "1"
    back = store.rollback(allow_downgrade=False)
    assert back and back.digest == two


# Everything that can be wrong with a source: each its own message, and the old bundle stays


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def link_away(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def other_golden(folder: Path) -> None:
    import numpy as np

    np.savez(folder / GOLDEN, **golden_vectors(lip_encoder(seed=5), audio_encoder()))
    sign_off(folder)


def other_pair(folder: Path) -> None:
    (folder / LIPS).write_bytes(lip_encoder(size=16))
    sign_off(folder)


def climbing(folder: Path) -> None:
    change_manifest(folder, lambda m: m["files"].update({"../../evil": m["files"][LIPS]}))


FAULTS: list[tuple[Callable[[Path], object], type[ModelError], str]] = [
    *((lambda f, n=n: flip(f / n), ModelCorruptError, "SHA-256 differs") for n in FILES),
    *((lambda f, n=n: os.truncate(f / n, 99), ModelCorruptError, "SHA-256 differs") for n in FILES),
    *((lambda f, n=n: link_away(f / n), ModelCorruptError, "not a plain file") for n in (*FILES, MANIFEST)),
    *((lambda f, n=n: pipe(f / n), ModelCorruptError, "not a plain file") for n in (*FILES, MANIFEST)),
    *((lambda f, n=n: (f / n).unlink(), ModelError, "") for n in (*FILES, MANIFEST)),
    (lambda f: (f / "evil.so").touch(), ModelCorruptError, "evil.so"),
    (lambda f: (f / "loop").symlink_to("."), ModelCorruptError, "loop"),
    (lambda f: (f / "deep").mkdir(), ModelCorruptError, "deep"),
    (climbing, ModelCorruptError, "must list exactly"),
    (lambda f: os.truncate(f / MANIFEST, 99), ModelCorruptError, "not JSON"),
    (lambda f: change_manifest(f, lambda m: m.update(min_software="99")), ModelContractError, "needs avdrift 99"),
    (lambda f: change_manifest(f, lambda m: m.update(version="new")), ModelContractError, "not of the form 1.2.3"),
    (lambda f: change_manifest(f, lambda m: m.update(format=9)), ModelContractError, "bundle format 9"),
    (other_golden, ModelCorruptError, "golden vectors differ"),
    (other_pair, ModelContractError, "embeddings differ in size"),
    (shutil.rmtree, ModelMissingError, "no bundle here"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=range(len(FAULTS)))
def test_a_faulty_source_leaves_the_store_untouched(
    fault: tuple[Callable[[Path], object], type[ModelError], str], folder: Path, source: Path
) -> None:
    spoil, kind, words = fault
    spoil(source)
    disk = RecordingDisk()
    with pytest.raises(kind) as caught:
        Store(folder, disk).install(source, allow_unsigned=True)
    assert words in str(caught.value) and str(source) in str(caught.value) and caught.value.exit_code == 4
    assert disk.steps == [], "nothing is touched before all is verified"
    assert current_version(folder) == "1"


class SwappingDisk(Disk):
    """Somebody changes the source while it is copied."""

    def __init__(self, source: Path, change: Callable[[Path], object]) -> None:
        self._source, self._change = source, change

    def make_folder(self, path: Path) -> None:
        super().make_folder(path)
        self._change(self._source)


@pytest.mark.parametrize(
    "change",
    [lambda f: flip(f / AUDIO), lambda f: link_away(f / AUDIO), lambda f: pipe(f / LIPS), lambda f: (f / LIPS).unlink(),
     lambda f: change_manifest(f, lambda m: m.update(version="7")), shutil.rmtree],
)  # fmt: skip
def test_a_source_that_changes_while_it_is_copied(change: Callable[[Path], object], folder: Path, source: Path) -> None:
    with pytest.raises(ModelError):
        Store(folder, SwappingDisk(source, change)).install(source, allow_unsigned=True)
    assert leftovers(folder) == [] and len(Store(folder).entries()) == 1 and current_version(folder) == "1"


def test_a_device_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(ModelCorruptError, match="not a plain file"):
        read_plain(Path("/dev/zero"), 10)
    (tmp_path / "long").write_bytes(bytes(11))
    with pytest.raises(ModelCorruptError, match="larger than 10"):
        read_plain(tmp_path / "long", 10)


# Signatures


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_key(tmp_path_factory.mktemp("key") / "mine")


@needs_ssh_keygen
def test_a_signed_bundle_is_copied_with_its_signature(store: Store, source: Path, key: Path) -> None:
    trust(store.folder, key)
    digest = store.install(signed(source, key)).digest
    assert (store.path_of(digest) / SIGNATURE).read_bytes() == (source / SIGNATURE).read_bytes()
    assert [entry.signed for entry in store.entries() if entry.digest == digest] == [True]
    verify_bundle(store.path_of(digest), store.signers)


@needs_ssh_keygen
def test_signatures_that_are_refused(folder: Path, source: Path, key: Path, tmp_path: Path) -> None:
    trust(folder, key)
    other = make_key(tmp_path / "other")

    def refused(words: str, *, allow_unsigned: bool) -> None:
        disk = RecordingDisk()
        with pytest.raises(ModelSignatureError, match=words):
            Store(folder, disk).install(source, allow_unsigned=allow_unsigned)
        assert disk.steps == [] and current_version(folder) == "1"

    refused("not signed", allow_unsigned=False)
    for allow_unsigned in (False, True):  # a wrong signature is worse than none
        sign_raw(source, other)
        refused("does not allow", allow_unsigned=allow_unsigned)
        sign_raw(source, key, namespace="file")
        refused("signed for 'file'", allow_unsigned=allow_unsigned)
        (source / SIGNATURE).write_bytes(b"later")
        refused("malformed", allow_unsigned=allow_unsigned)
    sign_raw(source, key)
    change_manifest(source, lambda m: m.update(version="3"))
    refused("another manifest", allow_unsigned=True)


@needs_ssh_keygen
def test_a_bundle_in_use_gets_its_signature_later(store: Store, source: Path, key: Path) -> None:
    digest = put(store, source)
    trust(store.folder, key)
    store.install(signed(source, key))
    verify_bundle(store.path_of(digest), store.signers)
    assert versions(store) == {CURRENT: "2", PREVIOUS: "1"} and leftovers(store.folder) == []


# What is broken in the store


def test_a_damaged_copy_is_replaced(store: Store, made: Path) -> None:
    digest = put(store, made / "2")
    flip(store.path_of(digest) / LIPS)
    with pytest.raises(ModelCorruptError, match="SHA-256"):
        store.load_current()
    store.install(made / "2", allow_unsigned=True)
    assert current_version(store.folder) == "2" and leftovers(store.folder) == []


def test_a_broken_current_can_be_rolled_back_and_is_never_the_previous(store: Store, made: Path) -> None:
    two = put(store, made / "2")
    flip(store.path_of(two) / LIPS)
    assert rolled_back(store) == "1"
    assert versions(store) == {CURRENT: "1", PREVIOUS: "1"}
    assert rolled_back(store) is None
    put(store, made / "3")
    assert versions(store) == {CURRENT: "3", PREVIOUS: "1"}


def test_a_broken_bundle_is_not_activated_nor_gone_back_to(store: Store, made: Path) -> None:
    three = store.install(made / "3", allow_unsigned=True).digest
    flip(store.path_of(three) / AUDIO)
    with pytest.raises(ModelCorruptError, match="SHA-256"):
        store.activate(three)
    put(store, made / "2")
    one = store.linked(PREVIOUS)
    assert one
    shutil.rmtree(store.path_of(one))
    with pytest.raises(ModelMissingError, match="no bundle here"):
        store.rollback()
    assert current_version(store.folder) == "2"


def test_a_bundle_under_another_digest_is_refused(store: Store, made: Path) -> None:
    false = "f" * 64
    shutil.copytree(made / "2", store.path_of(false))
    with pytest.raises(ModelCorruptError, match="has the digest"):
        store.activate(false)


@pytest.mark.parametrize("target", ["../../elsewhere", "/", "none", "f" * 64, "", None])
def test_a_broken_link_is_reported_and_mended(target: str | None, store: Store, made: Path) -> None:
    link = store.folder / "models" / CURRENT
    link.unlink()
    link.symlink_to(target) if target else link.write_text("a file")
    with pytest.raises(ModelError) as caught:
        store.load_current()
    assert "models" in caught.value.where
    assert len(store.entries()) == 1
    put(store, made / "2")
    assert versions(store) == {CURRENT: "2", PREVIOUS: None}


def test_two_commands_at_a_time(store: Store, made: Path) -> None:
    with (store.folder / "models" / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ModelStoreError, match="another avdrift model command"):
            store.install(made / "2", allow_unsigned=True)
    store.install(made / "2", allow_unsigned=True)


@pytest.mark.parametrize("where", ["a file", "a file/below"])
def test_a_store_that_cannot_be(where: str, tmp_path: Path, made: Path) -> None:
    (tmp_path / "a file").touch()
    with pytest.raises(ModelStoreError, match="a file"):
        Store(tmp_path / where).install(made / "1", allow_unsigned=True)


# Failures at every step, and power cuts


def replace_all(store: Store, source: Path) -> None:
    put(store, source)
    store.rollback()
    store.rollback()


def recorded_steps(folder: Path, source: Path) -> list[tuple[str, str]]:
    disk = RecordingDisk()
    replace_all(Store(folder, disk), source)
    return disk.steps


def test_everything_is_on_the_disk_before_it_is_named(made: Path, folder: Path) -> None:
    steps = recorded_steps(folder, made / "2")
    digest = Store(folder).linked(CURRENT)
    copy = f".incoming-{digest}"
    begin, *written, last, synced, named_so, kept = [step for step in steps if step[0] != "symlink"][:8]
    assert begin == ("make_folder", copy)
    assert sorted(written) == sorted(("write_file", name) for name in FILES)
    assert (last, synced) == (("write_file", MANIFEST), ("sync_folder", copy))
    assert (named_so, kept) == (("replace", digest), ("sync_folder", "models"))
    named = [number for number, (method, _) in enumerate(steps) if method == "replace"]
    assert [steps[number][1] for number in named][1:] == [PREVIOUS, CURRENT, CURRENT, PREVIOUS, CURRENT, PREVIOUS]
    assert all(steps[number + 1] == ("sync_folder", "models") for number in named)


@pytest.mark.parametrize("way", FAILURES)
def test_a_failure_at_any_step_leaves_a_working_device(way: str, made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "counted"
    shutil.copytree(made / "store", folder, symlinks=True)
    steps = recorded_steps(folder, made / "2")
    assert len(steps) > 20
    for at, (method, _) in enumerate(steps):
        if way == "killed halfway" and method != "write_file":
            continue  # nothing else has a middle
        folder = Path(shutil.copytree(made / "store", tmp_path / f"store{at}", symlinks=True))
        disk = FailingDisk(at, way)
        try:
            replace_all(Store(folder, disk), made / "2")
        except ModelStoreError as error:
            assert way in ("fails", "full") and "have not changed" in str(error)
        except KilledHere:
            assert way.startswith("killed")
        linked = {("replace", CURRENT)} & set(disk.steps)
        assert current_version(folder) in (("1", "2") if linked else ("1",))
        put(Store(folder), made / "2")
        assert current_version(folder) == "2" and leftovers(folder) == []


@pytest.mark.parametrize("way", FAILURES)
def test_a_failure_at_any_step_of_the_very_first_install(way: str, made: Path, tmp_path: Path) -> None:
    disk = RecordingDisk()
    put(Store(tmp_path / "counted" / "deep", disk), made / "1")
    for at in range(len(disk.steps)):
        folder = tmp_path / f"store{at}" / "deep"
        try:
            put(Store(folder, FailingDisk(at, way)), made / "1")
        except (ModelStoreError, KilledHere):
            assert not (folder / "models" / CURRENT).is_symlink() or current_version(folder) == "1"
        put(Store(folder), made / "1")
        assert current_version(folder) == "1" and leftovers(folder) == []


@pytest.mark.parametrize(("times", "seed"), [(20, 1), pytest.param(200, 2, marks=pytest.mark.slow)])
def test_kill_9_at_random_moments(times: int, seed: int) -> None:
    """In a process of its own, since it forks."""
    command = [sys.executable, "-m", killing.__name__, "--times", str(times), "--seed", str(seed)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["version 2"] + seen["version 3"] == times and min(seen["version 2"], seen["version 3"]) > 0
    assert seen["interrupted"] > times / 10, "often the child is in the middle of an install"


def test_a_full_disk(made: Path, tmp_path: Path) -> None:
    disk = tmp_path / "small"
    with small_disk(disk, "4m"):
        fill_up(made, disk)


def fill_up(made: Path, disk: Path) -> None:
    folder = disk / "store"
    put(Store(folder), made / "1")
    page, refused = 4096, 0
    needed = sum(-(-path.stat().st_size // page) for path in (made / "2").iterdir())
    for free in range(needed + 2):
        filler = disk / "filler"
        with filler.open("wb") as file:
            left = os.statvfs(disk).f_bavail - free
            file.write(bytes(max(0, left) * page))
        try:
            Store(folder).install(made / "2", allow_unsigned=True)
        except ModelStoreError as error:
            refused += 1
            assert "No space left" in str(error) and "Free some space" in error.remedy
        assert current_version(folder) == "1" and leftovers(folder) == []
        filler.unlink()
    assert refused >= needed - 2
    put(Store(folder), made / "2")
    assert current_version(folder) == "2"
