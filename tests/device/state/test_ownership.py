"""Files that others may change are not trusted, and root drops its rights before it uses another user's models."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from device.bundles.bundle import DEFAULT_BUNDLE
from device.bundles.store import Store
from device.commands.options.models import CONFIG_VARIABLE, STATE_VARIABLE, chosen_bundle, open_store
from device.errors import ModelSignatureError, ModelStoreError
from device.state.ownership import check_ours
from tests.models.stores import make_key, needs_ssh_keygen, signed, trust, versioned
from tests.scenes import ROOT

SERVICE = 65_534  # nobody
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


@pytest.mark.parametrize("mode", [0o775, 0o757])
@pytest.mark.parametrize("name", ["state", "state/models"])
def test_a_store_that_others_may_write_is_refused(tmp_path: Path, name: str, mode: int) -> None:
    bundle = versioned(tmp_path / "bundle", "2")
    store = Store(tmp_path / "state")
    store.activate(store.install(bundle, allow_unsigned=True).digest)
    (tmp_path / name).chmod(mode)
    for work in (store.load_current, lambda: store.install(bundle, allow_unsigned=True), store.rollback):
        with pytest.raises(ModelStoreError, match="others may write to it") as caught:
            work()
        assert "chmod go-w" in caught.value.remedy


def test_a_store_is_its_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = Store(tmp_path / "new" / "state")
        for version in "2", "3":
            store.activate(store.install(versioned(tmp_path / version, version), allow_unsigned=True).digest)
        store.rollback()
    finally:
        os.umask(before)
    made = [path for path in (tmp_path / "new").rglob("*") if not path.is_symlink()]
    assert made and not [path for path in made if path.stat().st_mode & 0o022]


@needs_ssh_keygen
def test_signers_that_others_may_write_are_refused(tmp_path: Path) -> None:
    key = make_key(tmp_path / "key")
    bundle = signed(versioned(tmp_path / "bundle", "2"), key)
    store = Store(tmp_path / "state")
    signers = trust(store.folder, key)
    signers.chmod(0o666)
    with pytest.raises(ModelStoreError, match="others may write to it"):
        store.install(bundle)
    signers.rename(tmp_path / "elsewhere")
    signers.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelStoreError, match="a link"):
        store.install(bundle)


@needs_ssh_keygen
def test_the_services_allowed_signers_are_beside_its_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that the service itself has put into its state folder counts for nothing then."""
    mine, planted = make_key(tmp_path / "mine"), make_key(tmp_path / "planted")
    state, configuration = tmp_path / "state", tmp_path / "etc"
    for folder, key in ((state, planted), (configuration, mine)):
        folder.mkdir()
        trust(folder, key)
    monkeypatch.setenv(STATE_VARIABLE, str(state))
    monkeypatch.setenv(CONFIG_VARIABLE, str(configuration))
    own, other = (signed(versioned(tmp_path / f"of {key.name}", "2"), key) for key in (mine, planted))
    with pytest.raises(ModelSignatureError, match="does not allow"):
        open_store(None).install(other)
    open_store(None).install(own)
    (configuration / "allowed_signers").chmod(0o664)
    with pytest.raises(ModelStoreError, match="others may write to it"):
        open_store(None).install(own)
    (configuration / "allowed_signers").unlink()
    open_store(None).install(other)  # as an older avdrift had it


@as_root
def test_root_does_not_load_a_given_bundle_of_another_user(tmp_path: Path) -> None:
    bundle = of_service(versioned(tmp_path / "bundle", "2"))
    with pytest.raises(ModelStoreError, match="belongs to nobody"):
        chosen_bundle(bundle, None)


def test_models_behind_a_link_are_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / ".precious").write_text("kept")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "models").symlink_to(other)
    with pytest.raises(ModelStoreError, match="a link"):
        Store(tmp_path / "state").install(versioned(tmp_path / "bundle", "2"), allow_unsigned=True)
    assert (other / ".precious").read_text() == "kept"


def test_what_is_missing_or_ours_is_right(tmp_path: Path) -> None:
    check_ours(tmp_path / "nowhere", folder=True)
    check_ours(tmp_path, folder=True)
    with pytest.raises(ModelStoreError):
        check_ours(tmp_path, folder=False)


def of_service(folder: Path) -> Path:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, SERVICE, SERVICE, follow_symlinks=False)
    return folder


@as_root
def test_root_does_not_load_the_models_of_another_user(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path / "state")
    store.activate(store.install(versioned(tmp_path / "bundle", "2"), allow_unsigned=True).digest)
    of_service(store.folder)
    assert chosen_bundle(None, store.folder).name == chosen_bundle(DEFAULT_BUNDLE, None).name
    said = capsys.readouterr().err
    assert "belongs to nobody" in said and "sudo -u nobody" in said


def python_is_for_all() -> bool:
    """Whether the service's user could run this very Python, as it can where avdrift is installed."""
    try:
        command = [sys.executable, "-c", "import encodings.cp437, numpy"]
        return subprocess.run(command, user=SERVICE, group=SERVICE, cwd=ROOT, check=False).returncode == 0
    except OSError:
        return False


@as_root
def test_model_commands_of_root_do_the_work_as_the_owner(tmp_path: Path) -> None:
    """With a link that the service has planted where root would sweep."""
    base = Path(tempfile.mkdtemp(prefix="avdrift-ownership-"))  # pytest's folders are root's alone
    base.chmod(0o755)
    try:
        victim = base / "victim"
        victim.mkdir(mode=0o755)
        (victim / ".precious").write_text("kept")
        state = base / "state"
        state.mkdir()
        (state / "models").symlink_to(victim)
        of_service(state)
        bundle = versioned(tmp_path / "bundle", "2")  # which only root may read
        command = [sys.executable, "-m", "device.cli", "model", "install", "--allow-unsigned", "--activate"]
        arguments = ["--store", str(state), str(bundle)]

        def install() -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [*command, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
            )

        done = install()
        assert done.returncode == 4 and (victim / ".precious").exists(), done.stderr
        (state / "models").unlink()
        if not python_is_for_all():
            pytest.skip("this Python is for its owner alone, so the service's user cannot install models with it")
        done = install()
        assert done.returncode == 0, done.stderr
        assert {path.lstat().st_uid for path in state.rglob("*")} == {SERVICE}
    finally:
        shutil.rmtree(base)
