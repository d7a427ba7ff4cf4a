"""A bundle counts as signed only by an allowed Ed25519 key, for this purpose and this manifest."""

from __future__ import annotations

import base64
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device.bundles.bundle import MANIFEST, load_bundle
from device.bundles.signature import NAMESPACE, SIGNATURE, is_signed, sign, verify
from device.errors import ModelCorruptError, ModelError, ModelMissingError, ModelSignatureError
from tests.models.bundles import change_manifest, write_bundle
from tests.models.stores import make_key, needs_ssh_keygen, sign_raw, signers_line, trust

pytestmark = needs_ssh_keygen


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the keys: mine, other, rsa, locked."""
    folder = tmp_path_factory.mktemp("keys")
    make_key(folder / "mine")
    make_key(folder / "other")
    make_key(folder / "rsa", "rsa")
    make_key(folder / "locked", passphrase="secret")
    return folder


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundles") / "pristine")


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "bundle"))


@pytest.fixture
def signers(keys: Path, tmp_path: Path) -> Path:
    return trust(tmp_path / "store", keys / "mine")


def refused(folder: Path, signers: Path, *words: str) -> ModelSignatureError:
    with pytest.raises(ModelSignatureError) as caught:
        verify(folder, signers)
    assert caught.value.exit_code == 4 and caught.value.remedy
    for word in words:
        assert word in str(caught.value)
    assert len(str(caught.value)) < 1000
    return caught.value


def test_a_signed_bundle_is_accepted_and_still_loads(folder: Path, keys: Path, signers: Path) -> None:
    assert not is_signed(folder)
    assert sign(folder, keys / "mine") == folder / SIGNATURE
    assert is_signed(folder)
    verify(folder, signers)
    load_bundle(folder)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["bundle", "store"], "nothing is left beside"


def test_ssh_keygen_by_itself_makes_the_same(folder: Path, keys: Path, signers: Path) -> None:
    sign_raw(folder, keys / "mine")
    verify(folder, signers)


def test_signing_again_replaces_the_signature(folder: Path, keys: Path, signers: Path) -> None:
    sign(folder, keys / "other")
    sign(folder, keys / "mine")
    verify(folder, signers)


def test_a_link_in_the_signatures_place_is_replaced_and_not_followed(folder: Path, keys: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (folder / SIGNATURE).symlink_to(tmp_path / "precious")
    sign(folder, keys / "mine")
    assert (tmp_path / "precious").read_text() == "precious" and not (folder / SIGNATURE).is_symlink()


def test_each_of_several_allowed_keys_may_sign(folder: Path, keys: Path, tmp_path: Path) -> None:
    both = trust(tmp_path / "store", keys / "other", keys / "mine")
    for name in ("mine", "other"):
        sign(folder, keys / name)
        verify(folder, both)


def test_a_namespace_in_the_signers_file_is_honoured(folder: Path, keys: Path, signers: Path) -> None:
    sign(folder, keys / "mine")
    name, key = signers_line(keys / "mine").split(" ", 1)
    signers.write_text(f'{name} namespaces="{NAMESPACE}" {key}')
    verify(folder, signers)
    signers.write_text(f'{name} namespaces="file" {key}')
    refused(folder, signers, "does not allow")


def test_no_signature(folder: Path, signers: Path) -> None:
    refused(folder, signers, SIGNATURE, "not signed", "--allow-unsigned")


def test_another_key_is_named(folder: Path, keys: Path, signers: Path) -> None:
    sign(folder, keys / "other")
    command = ["ssh-keygen", "-lf", str(keys / "other.pub")]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()[1]
    refused(folder, signers, shown, "does not allow")


def test_another_namespace(folder: Path, keys: Path, signers: Path) -> None:
    sign_raw(folder, keys / "mine", namespace="file")
    refused(folder, signers, "signed for 'file'")


def test_another_kind_of_key_even_an_allowed_one(folder: Path, keys: Path, tmp_path: Path) -> None:
    sign_raw(folder, keys / "rsa")
    refused(folder, trust(tmp_path / "store", keys / "rsa"), "type 'ssh-rsa'")


def test_another_manifest(folder: Path, keys: Path, signers: Path) -> None:
    sign(folder, keys / "mine")
    change_manifest(folder, lambda m: m.update(version="9"))
    refused(folder, signers, "another manifest")


def test_one_more_space_in_the_manifest(folder: Path, keys: Path, signers: Path) -> None:
    sign(folder, keys / "mine")
    with (folder / MANIFEST).open("ab") as file:
        file.write(b" ")
    refused(folder, signers, "another manifest")


def test_a_namespace_that_is_only_painted_over(folder: Path, keys: Path, signers: Path) -> None:
    sign_raw(folder, keys / "mine", namespace="avdrift-bundlE")
    content = (folder / SIGNATURE).read_bytes().split(b"\n")
    blob = base64.b64decode(b"".join(content[1:-2])).replace(b"avdrift-bundlE", NAMESPACE.encode())
    (folder / SIGNATURE).write_bytes(b"\n".join([content[0], base64.b64encode(blob), content[-2], b""]))
    refused(folder, signers, "damaged")


def armoured(text: bytes) -> bytes:
    return b"-----BEGIN SSH SIGNATURE-----\n" + text + b"\n-----END SSH SIGNATURE-----"


@pytest.mark.parametrize(
    "content",
    [b"", bytes(50), b"later", armoured(b"")[:30], armoured(b"")[-30:], armoured(b""), armoured(b"%%%"),
     armoured(b"U1"), armoured(b"U1NIU0lHAAAAAf////8="), armoured(b"U1NIU0lHAAAAAg==")],
    ids=range(10),
)  # fmt: skip
def test_a_malformed_signature(content: bytes, folder: Path, signers: Path) -> None:
    (folder / SIGNATURE).write_bytes(content)
    refused(folder, signers, "malformed signature")


def test_a_signature_that_is_no_plain_file(folder: Path, keys: Path, signers: Path) -> None:
    sign(folder, keys / "mine")
    (folder / SIGNATURE).rename(folder.parent / "elsewhere")
    (folder / SIGNATURE).symlink_to(folder.parent / "elsewhere")
    for _ in ("a link", "a pipe", "a folder"):
        with pytest.raises(ModelCorruptError, match="not a plain file"):
            verify(folder, signers)
        is_folder = (folder / SIGNATURE).is_dir()
        if not is_folder:
            was_link = (folder / SIGNATURE).is_symlink()
            (folder / SIGNATURE).unlink()
            os.mkfifo(folder / SIGNATURE) if was_link else (folder / SIGNATURE).mkdir()


def test_an_endless_signature(folder: Path, signers: Path) -> None:
    (folder / SIGNATURE).write_bytes(bytes(1 << 20))
    with pytest.raises(ModelCorruptError, match="larger than"):
        verify(folder, signers)


def test_no_signers_file_says_how_to_make_one(folder: Path, keys: Path, tmp_path: Path) -> None:
    sign(folder, keys / "mine")
    refused(folder, tmp_path / "none", str(tmp_path / "none"), "no key is trusted", "public key")


@pytest.mark.parametrize("content", ["", "# nobody\n", "not a line of keys\n", "someone-else {key}"])
def test_a_signers_file_that_allows_nobody(content: str, folder: Path, keys: Path, signers: Path) -> None:
    sign(folder, keys / "mine")
    signers.write_text(content.replace("{key}", (keys / "mine.pub").read_text()))
    refused(folder, signers, "does not allow")


def test_no_bundle_at_all(tmp_path: Path, keys: Path, signers: Path) -> None:
    with pytest.raises(ModelMissingError, match="no bundle here"):
        verify(tmp_path, signers)
    with pytest.raises(ModelMissingError, match="no bundle here"):
        sign(tmp_path, keys / "mine")


@pytest.mark.parametrize(
    ("name", "word"), [("none", "none"), ("mine.pub", ""), ("locked", "locked"), ("rsa", "ed25519")]
)
def test_keys_that_cannot_sign(name: str, word: str, folder: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_ASKPASS", "/bin/false")
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    key = keys / name
    if name == "mine.pub":  # its private half must not lie beside it
        key = folder.parent / "alone.pub"
        shutil.copy(keys / name, key)
    with pytest.raises(ModelSignatureError) as caught:
        sign(folder, key)
    assert caught.value.where == str(key) and word in str(caught.value)
    assert not is_signed(folder)


def test_ssh_keygen_that_is_missing_or_hangs(folder: Path, keys: Path, signers: Path, tmp_path: Path) -> None:
    sign(folder, keys / "mine")
    with pytest.raises(ModelSignatureError, match="openssh-client"):
        verify(folder, signers, program=str(tmp_path / "no-ssh-keygen"))
    with pytest.raises(ModelSignatureError, match="openssh-client"):
        sign(folder, keys / "mine", program=str(tmp_path / "no-ssh-keygen"))


def test_ssh_keygen_that_hangs(folder: Path, keys: Path, signers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sign(folder, keys / "mine")
    slow = folder.parent / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setattr("device.bundles.signature._VERIFY_TIMEOUT_S", 0.2)
    with pytest.raises(ModelSignatureError, match="did not answer"):
        verify(folder, signers, program=str(slow))


def test_names_are_never_read_by_a_shell(pristine: Path, keys: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(pristine, tmp_path / "a b; touch gone $(touch gone) -n x"))
    sign(folder, keys / "mine")
    verify(folder, trust(tmp_path / "-f 'st\"ore", keys / "mine"))
    assert not list(tmp_path.rglob("gone"))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_no_damage_to_a_signature_gets_past(seed: int, folder: Path, keys: Path, signers: Path) -> None:
    sign(folder, keys / "mine")
    whole = (folder / SIGNATURE).read_bytes()
    dice, content = random.Random(seed), bytearray(base64.b64decode(b"".join(whole.split(b"\n")[1:-2])))
    content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    lines = whole.split(b"\n")
    (folder / SIGNATURE).write_bytes(b"\n".join([lines[0], base64.b64encode(content), lines[-2], b""]))
    with pytest.raises(ModelError):
        verify(folder, signers)
