"""Errors name the process that uses a camera, and the node that may not be opened."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from device.capture.cameras.device_access import (
    access_error,
    busy_error,
    closed_nodes,
    holders,
    nodes,
    permission_error,
)
from device.errors import DeviceBusyError, DeviceHungError, DevicePermissionError

MINE = os.getpid()


def make_proc(folder: Path, processes: dict[int, tuple[str, list[Path]]]) -> Path:
    """A /proc: number of each process, its name, what it has open."""
    for number, (name, files) in processes.items():
        (folder / str(number) / "fd").mkdir(parents=True)
        (folder / str(number) / "comm").write_text(name + "\n")
        for fd, file in enumerate(files):
            (folder / str(number) / "fd" / str(fd)).symlink_to(file)
    (folder / "self").mkdir(parents=True)
    return folder


@pytest.fixture
def node(tmp_path: Path) -> Path:
    path = tmp_path / "video0"
    path.touch()
    return path


def test_a_real_process_is_found_while_it_holds_the_file(node: Path) -> None:
    code = f"import sys; file = open({str(node)!r}); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline()
        assert holders([node]).keys() == {process.pid}
        message = str(busy_error("camera", [node]))
        assert f"process {process.pid}" in message and "python" in message
        process.communicate()
    assert holders([node]) == {}


def test_the_others_are_named_and_not_ourselves(tmp_path: Path, node: Path) -> None:
    proc = make_proc(tmp_path / "proc", {MINE: ("avdrift", [node]), 812: ("motion", [Path("/dev/null"), node])})
    message = str(busy_error("camera X", [node], proc))
    assert "held by motion (process 812)" in message and "avdrift" not in message


def test_ourselves_where_there_is_nobody_else(tmp_path: Path, node: Path) -> None:
    proc = make_proc(tmp_path / "proc", {MINE: ("avdrift", [node])})
    found = busy_error("camera", [node], proc)
    assert isinstance(found, DeviceHungError) and "this process itself" in str(found)


def test_processes_that_may_not_be_inspected(tmp_path: Path, node: Path) -> None:
    proc = make_proc(tmp_path / "proc", {})
    (proc / "77").mkdir()  # no fd folder to read, as that of another user
    message = str(busy_error("camera", [node], proc))
    assert "may not see" in message and "sudo fuser" in message


def test_not_more_names_than_one_can_read(tmp_path: Path, node: Path) -> None:
    proc = make_proc(tmp_path / "proc", {number: (f"p{number}", [node]) for number in range(10, 30)})
    message = str(busy_error("camera", [node], proc))
    assert "p10" in message and "p13" not in message and "and others" in message


def test_a_link_to_the_node_is_the_node(tmp_path: Path, node: Path) -> None:
    (tmp_path / "by-id").symlink_to(node)
    proc = make_proc(tmp_path / "proc", {5: ("cam", [node])})
    assert holders([tmp_path / "by-id"], proc) == {5: "cam"}


def test_camera_nodes_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "dma_heap").mkdir()
    for name in ("video0", "video11", "media2", "vcio", "sda", "dma_heap/linux,cma", "dma_heap/system"):
        (tmp_path / name).touch()
    found = {str(path.relative_to(tmp_path)) for path in nodes(dev=tmp_path)}
    assert found == {"video0", "video11", "media2", "dma_heap/linux,cma"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_nodes_that_may_not_be_opened(node: Path) -> None:
    assert closed_nodes([node]) == []
    node.chmod(0)
    assert closed_nodes([node, node.parent / "none"]) == [node]


def test_the_permission_error_names_group_and_nodes() -> None:
    error = permission_error("camera", [Path(f"/dev/video{n}") for n in range(5)])
    assert "/dev/video0, /dev/video1, /dev/video2, …" in str(error) and "usermod -aG video" in str(error)


def caused(outer: Exception, inner: Exception) -> Exception:
    outer.__cause__ = inner
    return outer


BUSY = RuntimeError("Failed to acquire camera: Device or resource busy")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (caused(RuntimeError("Camera __init__ sequence did not complete."), BUSY), DeviceBusyError),
        (caused(RuntimeError("it failed"), PermissionError(13, "x")), DevicePermissionError),
        (RuntimeError("Failed to start camera: Permission denied"), DevicePermissionError),
        (RuntimeError("Camera __init__ sequence did not complete."), None),
        (IndexError("list index out of range"), None),
        (RuntimeError("Configuration failed: {}"), None),
    ],
)
def test_what_lies_behind_an_error(tmp_path: Path, error: Exception, kind: type[Exception] | None) -> None:
    proc = make_proc(tmp_path / "proc", {})
    found = access_error(error, "camera", [], proc)
    assert (type(found) if found else None) is kind


def test_a_camera_that_cannot_be_configured_because_another_streams_from_it(tmp_path: Path, node: Path) -> None:
    proc = make_proc(tmp_path / "proc", {MINE: ("avdrift", [node]), 4: ("ffmpeg", [node])})
    found = access_error(RuntimeError("Configuration failed: {'main': …}"), "camera", [node], proc)
    assert isinstance(found, DeviceBusyError) and "ffmpeg (process 4)" in str(found)
