"""One device through the system's ssh and rsync: argument lists, no prompts, nothing forwarded.

The user decides which hosts to trust: host keys are checked as configured for ssh. A device needs sshd, rsync and
avdrift; avdrift opens no port there.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.deployment.subprocess_output import run_bounded
from device.errors import AvdriftError, ModelError, TransportError, UsageError
from device.printable import printable
from device.state.bounded_json import parse_json

CONNECT_TIMEOUT_S = 15
SERVICE = ("sudo", "-n", "-u", "avdrift", "env", "STATE_DIRECTORY=/var/lib/avdrift", "avdrift")
# for a Pi Zero on a weak network; for the checks of an installation there
_COPY_TIMEOUT_S, _COMMAND_TIMEOUT_S = 600.0, 180.0
_SILENCE_S = 30  # of rsync
_HOST = re.compile(r"(\w[\w.-]*@)?\w[\w.-]*", re.ASCII)
_FOLDER = re.compile(r"(/[\w.-]+)+/avdrift-deploy\.\w{8}", re.ASCII)
_OPTIONS = {
    "BatchMode": "yes", "ConnectTimeout": CONNECT_TIMEOUT_S, "ServerAliveInterval": 5, "ServerAliveCountMax": 3,
    "ClearAllForwardings": "yes", "ForwardAgent": "no", "ForwardX11": "no", "PermitLocalCommand": "no",
    "RequestTTY": "no", "RemoteCommand": "none",
}  # fmt: skip
_SSH_FAILED, _NOT_FOUND = 255, 127
_MAX_TEXT = 400
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MISSING = object()
_ENTRY: dict[str, Any] = {"digest": str, "name": str | None, "version": str | None, "current": bool}


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach devices, and the name of the avdrift command there."""

    command: tuple[str, ...] = ("avdrift",)
    key: Path | None = None  # None: ssh's own choice
    config: Path | None = None  # of ssh; None: the user's own

    def require_files(self) -> None:
        """Raises UsageError if a file for ssh is not there: ssh would only warn, and try without the key."""
        for option, file in (("--key", self.key), ("--ssh-config", self.config)):
            if file is not None and not os.access(file, os.R_OK):
                what = "cannot be read" if file.exists() else "no such file"
                raise UsageError(what, where=f"{option} {file}", remedy="Check the path")

    def ssh(self) -> list[str]:
        """The command up to the host."""
        found = ["ssh"] if self.config is None else ["ssh", "-F", str(self.config.absolute())]
        for name, value in _OPTIONS.items():
            found += ["-o", f"{name}={value}"]
        if self.key is not None:  # only this key, and none from an agent
            found += ["-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-i", str(self.key.absolute())]
        return found


def checked_host(text: str) -> str:
    """Check that a text is a host for ssh, with or without a user. Raises UsageError for options to ssh."""
    if not _HOST.fullmatch(text):
        raise UsageError(
            "not a host", where=repr(text[:80]),
            remedy="Give NAME or USER@NAME; for a port or an IPv6 address make a Host entry in ssh's configuration",
        )  # fmt: skip
    return text


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """A bundle that is installed on a device."""

    digest: str
    label: str
    current: bool
    knows_trials: bool  # false for an old avdrift
    trial: str | None
    trial_about: str


class Remote:
    """One device. Its methods raise TransportError if it cannot be reached or answers unexpectedly."""

    def __init__(self, host: str, access: Access) -> None:
        self.host, self._access = checked_host(host), access

    def models(self) -> list[RemoteModel]:
        """The bundles installed there. Raises TransportError, ModelError."""
        return [self._model(each) for each in self.avdrift("model", "list", "--json") if "digest" in each]

    def _model(self, entry: dict[str, Any]) -> RemoteModel:
        try:
            return remote_model(entry)
        except ValueError as error:
            what = f"its list of models has an entry with {error}"
            raise self._error(what, "See what `avdrift model list --json` prints there") from error

    def avdrift(self, *arguments: str) -> list[dict[str, Any]]:
        """Run avdrift there; return the JSON objects that it prints.

        Raises ModelError with its message about the models.
        """
        done = self._ssh([*self._access.command, *arguments], _COMMAND_TIMEOUT_S)
        if done.returncode == ModelError.exit_code:
            raise ModelError(_last_line(done.stderr), where=self.host, remedy="Its models have not changed")
        if done.returncode == _NOT_FOUND:
            remedy = f"Install avdrift there, or give its name there with --remote (now: {self._access.command[0]})"
            raise self._error(_last_line(done.stderr), remedy)
        if done.returncode:
            raise self._error(f"avdrift failed there: {_last_line(done.stderr)}", "Check it there")
        found = []
        for line in done.stdout.splitlines():
            with suppress(ValueError):  # a login shell may print a greeting
                found.append(parse_json(line))
        return [each for each in found if isinstance(each, dict)]

    def make_folder(self) -> str:
        """Create a temporary folder there that avdrift can read even as another user."""
        done = self._ssh(["mktemp", "-d", "-t", "avdrift-deploy.XXXXXXXX"], _COMMAND_TIMEOUT_S)
        folder = (done.stdout.splitlines() or [""])[-1].strip()
        if done.returncode or not _FOLDER.fullmatch(folder):
            raise self._error(f"no temporary folder there ({_last_line(done.stderr)})", "Make room for temporary files")
        done = self._ssh(["chmod", "755", folder], _COMMAND_TIMEOUT_S)
        if done.returncode:
            raise self._error(f"{folder} cannot be opened ({_last_line(done.stderr)})", "Check that folder there")
        return folder

    def copy(self, source: Path, folder: str) -> None:
        """Copy the files of a local folder to one there."""
        # rsync splits the argument of -e like a shell.
        command = ["rsync", "--recursive", "--times", "--chmod=D755,F644", f"--timeout={_SILENCE_S}"]
        command += ["-e", shlex.join(self._access.ssh()), "--", f"{source.absolute()}/", f"{self.host}:{folder}/"]
        done = self._run(command, _COPY_TIMEOUT_S)
        if done.returncode:
            remedy = "Check that it can be reached, has rsync and space for temporary files, and try again"
            raise self._error(f"the bundle cannot be copied there ({_why(done.stderr)})", remedy)

    def remove_folder(self, folder: str) -> None:
        """Remove it if possible; the device's next boot removes what is left."""
        with suppress(AvdriftError):
            self._ssh(["rm", "-rf", "--", folder], _COMMAND_TIMEOUT_S)

    def _ssh(self, words: Sequence[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
        """Run words there; ssh passes its arguments to a shell there, so they are quoted."""
        done = self._run([*self._access.ssh(), "--", self.host, shlex.join(words)], timeout_s)
        if done.returncode == _SSH_FAILED:
            raise self._error(f"ssh: {_last_line(done.stderr).removeprefix('ssh: ')}", f"Try: ssh {self.host}")
        return done

    def _run(self, command: list[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
        try:
            return run_bounded(command, timeout_s)
        except subprocess.TimeoutExpired as error:
            raise self._error(f"no answer within {timeout_s:g} s", "Check the network, and try again") from error
        except BufferError as error:
            raise self._error(str(error), f"Try: ssh {self.host}") from error
        except OSError as error:
            remedy = f"Install it here (Debian's packages openssh-client and rsync): {command[0]}"
            raise self._error(f"{command[0]} cannot be run ({error.strerror})", remedy) from error

    def _error(self, what: str, remedy: str) -> TransportError:
        return TransportError(what, where=self.host, remedy=remedy)


def remote_model(entry: dict[str, Any]) -> RemoteModel:
    """Parse one line of `avdrift model list --json` from any version of avdrift. Raises ValueError."""
    wrong = [key for key, kinds in _ENTRY.items() if not isinstance(entry.get(key, _MISSING), kinds)]
    wrong += [key for key in ("trial", "trial_about") if not isinstance(entry.get(key), str | None)]
    if wrong:
        raise ValueError(f"invalid {', '.join(wrong)}")
    if not _DIGEST.fullmatch(entry["digest"]):
        raise ValueError("invalid digest")
    return RemoteModel(
        digest=entry["digest"], label=f"{_text(entry['name'])} {_text(entry['version'])} {entry['digest'][:12]}",
        current=entry["current"], knows_trials="trial" in entry, trial=entry.get("trial"),
        trial_about=_text(entry.get("trial_about")),
    )  # fmt: skip


def _text(value: str | None) -> str:
    return printable(str(value)[:_MAX_TEXT])


def _lines(output: str) -> list[str]:
    return [line.strip() for line in output.splitlines() if line.strip()] or ["it gives no reason"]


def _last_line(output: str) -> str:
    line = _lines(output)[-1].removeprefix("avdrift: ").rstrip(".")
    return printable(line[:_MAX_TEXT])


def _why(output: str) -> str:
    """The reason in rsync's output, which comes first; the last line is a summary."""
    lines = [line for line in _lines(output) if not re.match(r"rsync error:|rsync: connection unexpectedly", line)]
    return printable((lines or _lines(output))[-1][:_MAX_TEXT])
