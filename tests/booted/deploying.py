"""Check of `avdrift-convert deploy --service`: the lines of its page, against a booted machine's own sshd and sudo."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from device.bundles.bundle import DEFAULT_BUNDLE
from tests.booted.nspawn import Machine
from tests.booted.service import STATE, journal, measuring, pid
from tests.models.bundles import change_manifest
from tests.models.stores import make_key, signed
from tests.ssh_devices import free_port

_VERSION = "9.9.9"


def check_deploy(m: Machine) -> str:
    """The key, new models with their trial, and back, as a user who may use sudo without a password."""
    install = ("apt-get", "install", "-y", "-qq", "--no-install-recommends")
    m.run(*install, "openssh-server", "rsync", "sudo", timeout_s=600)
    with tempfile.TemporaryDirectory() as folder:
        config = _reachable(m, Path(folder))
        key = make_key(Path(folder) / "avdrift-key")
        to = f"ssh -F {config} pi"
        _here(f"sed 's/^/avdrift /' {key}.pub | {to} 'sudo -n tee -a /etc/avdrift/allowed_signers'")
        bundle = Path(folder) / "bundle"
        shutil.copytree(DEFAULT_BUNDLE, bundle)
        (bundle / "manifest.json.sig").unlink(missing_ok=True)
        change_manifest(bundle, partial(dict.update, version=_VERSION))
        signed(bundle, key)
        before = pid(m)
        deployed = _here(
            f"{sys.executable} -m convert.cli deploy --ssh-config {config} pi --service --bundle {bundle} --timeout 120"
        )
        assert "passed" in deployed, deployed
        assert f"avdrift-towers {_VERSION}" in journal(m) and pid(m) == before
        back = _here(f"{to} sudo -n avdrift model rollback")
        owners = set(m.run("find", STATE, "!", "-name", "allowed_signers", "-printf", "%u\\n").stdout.split())
        assert owners == {"avdrift"}, f"files of {owners} in {STATE}"
    measuring(m)
    return f"{deployed.splitlines()[-1]}; back: {back.splitlines()[-1]}"


def _reachable(m: Machine, folder: Path) -> Path:
    """A user `pi` and an sshd for it; gives the configuration that reaches it from here."""
    login, host_key, port = make_key(folder / "login"), make_key(folder / "host_key"), free_port()
    m.run("useradd", "--create-home", "--shell", "/bin/sh", "pi")
    m.write("/etc/sudoers.d/pi", "pi ALL=(ALL) NOPASSWD: ALL\n")  # as Raspberry Pi OS has it
    m.write("/home/pi/.ssh/authorized_keys", login.with_suffix(".pub").read_text())
    m.run("chown", "-R", "pi:", "/home/pi/.ssh")
    m.write("/etc/ssh/test_key", host_key.read_text())
    m.path("/etc/ssh/test_key").chmod(0o600)
    m.write("/etc/ssh/sshd_config.d/test.conf", f"Port {port}\nListenAddress 127.0.0.1\nHostKey /etc/ssh/test_key\n")
    m.run("systemctl", "restart", "ssh")
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key.with_suffix('.pub').read_text()}")
    config = folder / "config"
    config.write_text(
        f"Host pi\n  HostName 127.0.0.1\n  Port {port}\n  User pi\n  IdentityFile {login}\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {folder / 'known_hosts'}\n  StrictHostKeyChecking yes\n"
    )
    return config


def _here(line: str) -> str:
    shell = ["bash", "-o", "pipefail", "-c", line]
    done = subprocess.run(shell, capture_output=True, text=True, timeout=300, check=False)
    assert not done.returncode, f"{line}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout
