"""The stored rig: it survives a restart and a power cut, and a damaged one is ignored and logged once."""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.errors import UsageError
from device.state.rig import (
    MAX_BIAS_MS,
    PREVIOUS_RIG_FILE,
    RIG_FILE,
    Rig,
    applies,
    load_rig,
    read_rig,
    store_rig,
    undo_rig,
)
from tests.models.stores import FAILURES, FailingDisk, KilledHere, RecordingDisk

RIG = Rig(bias_ms=-23.4, bias_std_ms=1.2, made_unix_ms=1_790_000_000_000, camera="imx708", microphone="hw:CARD=USB")
WHOLE = asdict(RIG)


def written(folder: Path, content: bytes) -> Path:
    (folder / RIG_FILE).write_bytes(content)
    return folder


def test_what_was_stored_comes_back(tmp_path: Path) -> None:
    path = store_rig(tmp_path / "state" / "avdrift", RIG)
    assert path.parent == tmp_path / "state" / "avdrift"
    assert load_rig(path.parent) == RIG


def test_the_newer_one_takes_the_place_of_the_older(tmp_path: Path) -> None:
    store_rig(tmp_path, RIG)
    store_rig(tmp_path, newer := replace(RIG, bias_ms=4.0))
    assert load_rig(tmp_path) == newer
    assert sorted(path.name for path in tmp_path.iterdir()) == [RIG_FILE, PREVIOUS_RIG_FILE]


@pytest.mark.parametrize("folder", [".", "nowhere", "nowhere/at/all"])
def test_none_where_none_was_ever_stored(tmp_path: Path, folder: str, caplog: pytest.LogCaptureFixture) -> None:
    assert load_rig(tmp_path / folder) is None
    assert not caplog.records


def test_undoing_goes_back_and_forth_between_the_last_two(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no calibration to undo"):
        undo_rig(tmp_path)
    store_rig(tmp_path, RIG)
    store_rig(tmp_path, newer := replace(RIG, bias_ms=4.0))
    assert undo_rig(tmp_path) == load_rig(tmp_path) == RIG
    assert undo_rig(tmp_path) == load_rig(tmp_path) == newer


def test_before_the_first_calibration_there_was_none(tmp_path: Path) -> None:
    store_rig(tmp_path, RIG)
    assert undo_rig(tmp_path) is None and load_rig(tmp_path) is None
    assert undo_rig(tmp_path) == load_rig(tmp_path) == RIG


@pytest.mark.parametrize("way", FAILURES)
@pytest.mark.parametrize("at", range(4))
def test_an_undo_that_fails_half_way_loses_nothing_that_another_cannot_bring_back(
    tmp_path: Path, at: int, way: str
) -> None:
    store_rig(tmp_path, RIG)
    store_rig(tmp_path, newer := replace(RIG, bias_ms=4.0))
    with suppress(UsageError, KilledHere):
        undo_rig(tmp_path, FailingDisk(at, way))
    if load_rig(tmp_path) == newer:
        undo_rig(tmp_path)
    assert RIG in (load_rig(tmp_path), undo_rig(tmp_path))


def test_a_rig_is_one_camera_with_one_microphone() -> None:
    assert applies(RIG, "imx708", "hw:CARD=USB")
    assert not applies(RIG, "imx477", "hw:CARD=USB")
    assert not applies(RIG, "imx708", "hw:CARD=Other")
    assert not applies(RIG, "hw:CARD=USB", "imx708")


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\0" * 100, b"\xff\xfe", b"null", b"[]", b"{}", b'"rig"', b"[" * 4000, b'{"a":' * 800, b"1" * 4000,
        json.dumps(WHOLE).encode()[:-9], json.dumps(WHOLE).encode() * 2, b" " * 5000,
        json.dumps({**WHOLE, "more": 1}).encode(),
        json.dumps({key: value for key, value in WHOLE.items() if key != "camera"}).encode(),
    ],
)  # fmt: skip
def test_a_damaged_file_is_none_and_is_said_once(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    assert load_rig(written(tmp_path, content)) is None
    assert len(caplog.records) == 1 and caplog.records[0].levelno == logging.ERROR
    assert str(tmp_path / RIG_FILE) in caplog.text and "avdrift calibrate" in caplog.text


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("bias_ms", [None, "1", True, [1], 5001, -5001, 1e400, float("nan"), float("-inf"), 10**400]),
        ("bias_std_ms", [None, "1", False, -0.1, 5001, float("nan"), float("inf")]),
        ("made_unix_ms", [None, 1.5, True, -1, 1 << 60, "now"]),
        ("camera", [None, "", 7, "a\nb", "\x1b[2J", "x" * 201, ["imx708"]]),
        ("microphone", [None, "", 7, "a\0b", "x" * 201, {}]),
    ],
)
def test_values_that_no_calibration_gives(tmp_path: Path, key: str, values: list[Any]) -> None:
    for value in values:
        written(tmp_path, json.dumps({**WHOLE, key: value}).encode())
        assert load_rig(tmp_path) is None, value
        with pytest.raises(UsageError, match="calibrate"):
            read_rig(tmp_path)


@given(st.binary(max_size=300) | st.recursive(st.none() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_whatever_the_file_holds_loading_does_not_raise(tmp_path_factory: Any, content: bytes | str) -> None:
    folder = tmp_path_factory.mktemp("state")
    assert load_rig(written(folder, content if isinstance(content, bytes) else content.encode())) is None


def test_no_pipe_is_waited_for_and_no_link_is_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.mkfifo(tmp_path / RIG_FILE)
    assert load_rig(tmp_path) is None
    (tmp_path / RIG_FILE).unlink()
    (tmp_path / "elsewhere").write_text(json.dumps(WHOLE))
    (tmp_path / RIG_FILE).symlink_to("elsewhere")
    assert load_rig(tmp_path) is None
    (tmp_path / RIG_FILE).unlink()
    (tmp_path / RIG_FILE).mkdir()
    assert load_rig(tmp_path) is None
    assert len(caplog.records) == 3


@pytest.mark.parametrize(
    "values", [{"bias_ms": MAX_BIAS_MS + 1}, {"bias_std_ms": -1.0}, {"camera": ""}, {"made_unix_ms": -5}]
)
def test_such_a_rig_cannot_even_be_made(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(values))):
        replace(RIG, **values)


def test_the_content_is_on_the_disk_before_it_has_its_name(tmp_path: Path) -> None:
    store_rig(tmp_path, RIG, disk := RecordingDisk())
    assert [step for step, _ in disk.steps] == ["write_file", "replace", "sync_folder"]
    assert disk.steps[-1] == ("sync_folder", tmp_path.name)


@pytest.mark.parametrize("way", FAILURES)
@pytest.mark.parametrize("at", range(6))
def test_a_failing_disk_or_a_power_cut_leaves_a_whole_rig(tmp_path: Path, at: int, way: str) -> None:
    store_rig(tmp_path, RIG)
    newer = replace(RIG, bias_ms=8.0)
    try:
        store_rig(tmp_path, newer, FailingDisk(at, way))
        stored = True
    except UsageError as error:
        assert "state folder" in str(error)
        stored = False
    except KilledHere:
        stored = False
    assert load_rig(tmp_path) in ((newer,) if stored else (RIG, newer))
    store_rig(tmp_path, again := replace(RIG, bias_ms=9.0))
    assert load_rig(tmp_path) == again
    assert sorted(path.name for path in tmp_path.iterdir()) == [RIG_FILE, PREVIOUS_RIG_FILE]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UsageError, match=r"file/state"):
        store_rig(tmp_path / "file" / "state", RIG)
    with pytest.raises(UsageError):
        read_rig(tmp_path / "file" / "state")
