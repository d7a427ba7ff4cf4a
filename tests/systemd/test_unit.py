"""The unit: what it promises, that systemd takes every line of it, and how tight its sandbox is; and the installer.

Whether it works is shown by tests/booted/run.py, which needs root and a Debian tree.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from device.cli import build_parser
from device.config.file import DEFAULT_FILE
from device.errors import ModelError, UsageError

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "systemd" / "avdrift.service"
BACKOFF = ROOT / "systemd" / "backoff.conf"
INSTANCE = ROOT / "systemd" / "instance.conf"
INSTALLER = ROOT / "systemd" / "install.sh"

needs_analyze = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze here")


def keys(file: Path) -> dict[str, list[str]]:
    """All values of each key; an option may be given several times."""
    found = defaultdict(list)
    for line in file.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith(("#", "[")):
            key, _, value = line.partition("=")
            found[key].append(value)
    return found


@pytest.fixture(scope="module")
def unit() -> dict[str, list[str]]:
    return keys(UNIT)


def systemd_version() -> int:
    said = subprocess.run(["systemd-analyze", "--version"], capture_output=True, text=True, timeout=60, check=True)
    return int(said.stdout.split()[1])


def verified(tmp_path: Path, text: str) -> str:
    """What systemd-analyze has to say against it; a program that is not installed here is replaced by one that is."""
    file = tmp_path / "avdrift.service"
    file.write_text(re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", text))
    done = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, text=True, timeout=120, check=False)
    return done.stderr + (f"exit code {done.returncode}" if done.returncode else "")


@needs_analyze
def test_systemd_takes_every_line(tmp_path: Path) -> None:
    assert verified(tmp_path, UNIT.read_text()) == ""


@needs_analyze
def test_systemd_takes_the_back_off_where_it_is_installed(tmp_path: Path) -> None:
    said = verified(tmp_path, UNIT.read_text() + BACKOFF.read_text())
    if systemd_version() < 254:
        assert "Unknown key" in said, "else it could be in the unit itself"
    else:
        assert said == ""


@needs_analyze
@pytest.mark.parametrize("line", ["NoSuchKey=yes", "WatchdogSec=soon", "DeviceAllow=", "RestartPreventExitStatus=x y"])
def test_the_verification_can_fail(tmp_path: Path, line: str) -> None:
    text = UNIT.read_text().replace("[Service]\n", f"[Service]\n{line}\n")
    assert bool(verified(tmp_path, text)) is (line != "DeviceAllow="), "an empty value is allowed"


@needs_analyze
def test_the_exposure_is_below_2_5() -> None:
    def passes(threshold: int) -> bool:
        command = ["systemd-analyze", "security", "--offline=true", f"--threshold={threshold}", "--no-pager", str(UNIT)]
        return subprocess.run(command, capture_output=True, timeout=120, check=False).returncode == 0

    assert passes(25)
    assert not passes(5), "nothing that measures anything passes this"


def test_what_breaks_cameras_and_callbacks_is_not_in_it(unit: dict[str, list[str]]) -> None:
    assert not {"ProtectClock", "PrivateDevices", "MemoryDenyWriteExecute", "PrivateUsers", "ProcSubset"} & set(unit)


def test_camera_and_microphone_may_be_opened(unit: dict[str, list[str]]) -> None:
    assert unit["DevicePolicy"] == ["closed"]
    nodes = {value.removesuffix(" rw") for value in unit["DeviceAllow"]}
    assert nodes == {f"char-{name}" for name in ("81", "116", "video4linux", "alsa", "media", "dma_heap")}
    assert unit["SupplementaryGroups"] == ["video audio"]
    assert "AF_NETLINK" in unit["RestrictAddressFamilies"][0], "udev"


def test_numbers_of_devices_are_the_kernels() -> None:
    """Where this kernel has them. They are as fixed as those of disks (the kernel's devices.txt)."""
    found = re.findall(r"(?m)^ *(\d+) (video4linux|alsa)$", Path("/proc/devices").read_text())
    assert set(found) <= {("81", "video4linux"), ("116", "alsa")}


def test_errors_that_a_restart_cannot_repair_end_it(unit: dict[str, list[str]]) -> None:
    assert unit["RestartPreventExitStatus"] == [f"{UsageError.exit_code} {ModelError.exit_code}"]
    assert unit["Restart"] == ["on-failure"] and unit["StartLimitIntervalSec"] == ["0"]


def test_what_it_starts_is_a_command_of_ours_with_the_default_configuration(unit: dict[str, list[str]]) -> None:
    program, *words = unit["ExecStart"][0].split()
    assert program == "/opt/avdrift/venv/bin/avdrift"
    options = build_parser().parse_args(words)
    assert options.command == "run" and options.config == DEFAULT_FILE


def test_it_is_watched_and_can_be_reloaded(unit: dict[str, list[str]]) -> None:
    assert unit["Type"] == ["notify"] and unit["NotifyAccess"] == ["main"]
    assert int(unit["WatchdogSec"][0]) > 0 and "-HUP" in unit["ExecReload"][0]


def test_folders_credentials_and_limits(unit: dict[str, list[str]]) -> None:
    for key in ("StateDirectory", "RuntimeDirectory", "ConfigurationDirectory", "User", "Group"):
        assert unit[key] == ["avdrift"], key
    names = ("mqtt-password", "mqtt-commands-secret", "source-password")
    credentials = [f"{name}:avdrift.{name}" for name in names]
    assert unit["LoadCredential"] == credentials, "a relative one may be missing"
    for key in ("MemoryMax", "CPUQuota", "TasksMax", "OOMPolicy"):
        assert len(unit[key]) == 1, key


def test_no_environment_is_given_twice(unit: dict[str, list[str]]) -> None:
    names = [word.partition("=")[0] for value in unit["Environment"] for word in value.split()]
    assert len(names) == len(set(names))


# The installer


def installer(*words: str, user: int | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(INSTALLER), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, user=user)


@needs_analyze
def test_systemd_takes_an_instance(tmp_path: Path) -> None:
    text = UNIT.read_text() + re.sub(r"(?m)^ExecStart=/\S+", "ExecStart=/bin/true", INSTANCE.read_text())
    (tmp_path / "avdrift@.service").write_text(re.sub(r"(?m)^ExecStart=/opt\S+", "ExecStart=/bin/true", text))
    done = subprocess.run(
        ["systemd-analyze", "verify", "avdrift@a-1.service"], capture_output=True, text=True, timeout=120, check=False,
        env=os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_instances_share_the_models_and_nothing_else(unit: dict[str, list[str]]) -> None:
    own = keys(INSTANCE)
    for key in ("StateDirectory", "RuntimeDirectory", "LoadCredential", "ExecStart"):
        assert own[key][0] == "" and not set(own[key][1:]) & set(unit[key]), "reset first, then one of its own"
        assert all("%i" in value for value in own[key][1:])
    words = own["ExecStart"][-1].split()
    options = build_parser().parse_args(words[1:])
    assert str(options.models_of) == "/var/lib/" + unit["StateDirectory"][0]


def test_the_installer_says_how_it_is_used() -> None:
    done = installer("--help")
    assert done.returncode == 0 and "--uninstall [--purge]" in done.stdout and "--no-start" in done.stdout


@pytest.mark.parametrize("words", [["--purge"], ["install"], ["--uninstall", "--no-start"], ["--no-start", "x"]])
def test_the_installer_does_nothing_that_it_does_not_understand(words: list[str]) -> None:
    done = installer(*words)
    assert done.returncode == 1 and "unknown arguments" in done.stderr and "--help" in done.stderr and not done.stdout


@pytest.mark.parametrize("words", [[], ["--uninstall"]])
def test_the_installer_asks_for_root(words: list[str]) -> None:
    try:
        done = installer(*words, user=65534 if os.geteuid() == 0 else None)
    except PermissionError:
        pytest.skip("this clone is closed to other users")
    assert done.returncode == 1
    assert done.stderr == f"avdrift: this needs root. Run: sudo {' '.join([str(INSTALLER), *words])}\n"


def test_the_installer_knows_no_host() -> None:
    assert not re.search(r"https?:|://|\.(com|org|net|io)\b", INSTALLER.read_text())


def test_installer_and_unit_mean_the_same_folders(unit: dict[str, list[str]]) -> None:
    text = INSTALLER.read_text()
    set_to = dict(re.findall(r"^(\w+)=(/\S+|\$home\S*|avdrift)$", text, re.MULTILINE))
    assert set_to["venv"].replace("$home", set_to["home"]) + "/bin/avdrift" == unit["ExecStart"][0].split()[0]
    assert set_to["config"] == str(DEFAULT_FILE)
    command = (ROOT / "systemd" / "avdrift.sh").read_text()
    assert f"program={unit['ExecStart'][0].split()[0]}\n" in command and f"state={set_to['state']}\n" in command
    assert set_to["state"] == "/var/lib/" + unit["StateDirectory"][0] and set_to["user"] == unit["User"][0]


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="no shellcheck here")
def test_shellcheck_finds_nothing() -> None:
    files = [INSTALLER, ROOT / "systemd" / "avdrift.sh"]
    done = subprocess.run(["shellcheck", *files], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout
