"""One device, through the system's ssh and rsync: lists of arguments, no question to anybody, nothing forwarded.

Whom to trust is the business of whoever runs this: host keys are checked as ssh's own configuration says. A device
needs sshd, rsync and avdrift; nothing of ours listens there.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.subprocess_output import run_bounded
from device.errors import AvdriftError, ModelError, TransportError, UsageError
from device.printable import printable
from device.state.bounded_json import parse_json

CONNECT_TIMEOUT_S = 15
SERVICE = ("sudo", "-n", "-u", "avdrift", "env", "STATE_DIRECTORY=/var/lib/avdrift", "avdrift")
_COPY_TIMEOUT_S, _COMMAND_TIMEOUT_S = 600.0, 180.0  # a Pi Zero on a weak network; the checks of an install there
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
    """How devices are reached, and what their avdrift is called there."""

    command: tuple[str, ...] = ("avdrift",)
    key: Path | None = None  # ssh's own choice without
    config: Path | None = None  # of ssh; the user's own without

    def ssh(self) -> list[str]:
        """The command, up to the host."""
        found = ["ssh"] if self.config is None else ["ssh", "-F", str(self.config.absolute())]
        for name, value in _OPTIONS.items():
            found += ["-o", f"{name}={value}"]
        if self.key is not None:  # this one, and none that an agent happens to hold
            found += ["-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-i", str(self.key.absolute())]
        return found


def checked_host(text: str) -> str:
    """A host as ssh knows it, with or without a user. Raises UsageError: what is an option to ssh is no host."""
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
    knows_trials: bool  # an old avdrift does not
    trial: str | None
    trial_about: str


class Remote:
    """One device. Its methods raise TransportError where it cannot be reached, or does not do as it should."""

    def __init__(self, host: str, access: Access) -> None:
        self.host, self._access = checked_host(host), access

    def models(self) -> list[RemoteModel]:
        """What is installed there. Raises TransportError, ModelError."""
        return [self._model(each) for each in self.avdrift("model", "list", "--json") if "digest" in each]

    def _model(self, entry: dict[str, Any]) -> RemoteModel:
        try:
            return remote_model(entry)
        except ValueError as error:
            what = f"its list of models has an entry with {error}"
            raise self._error(what, "See what `avdrift model list --json` prints there") from error

    def avdrift(self, *arguments: str) -> list[dict[str, Any]]:
        """Run avdrift there; the JSON objects that it prints. Raises ModelError with what it says of the models."""
        done = self._ssh([*self._access.command, *arguments], _COMMAND_TIMEOUT_S)
        if done.returncode == ModelError.exit_code:
            raise ModelError(_last_line(done.stderr), where=self.host, remedy="Its models are what they were")
        if done.returncode == _NOT_FOUND:
            remedy = f"Install avdrift there, or say with --remote how it is called (now: {self._access.command[0]})"
            raise self._error(_last_line(done.stderr), remedy)
        if done.returncode:
            raise self._error(f"avdrift failed there: {_last_line(done.stderr)}", "Look at it there")
        found = []
        for line in done.stdout.splitlines():
            with suppress(ValueError):  # a login shell may greet
                found.append(parse_json(line))
        return [each for each in found if isinstance(each, dict)]

    def make_folder(self) -> str:
        """A new temporary folder there, which the avdrift of another user can read."""
        done = self._ssh(["mktemp", "-d", "-t", "avdrift-deploy.XXXXXXXX"], _COMMAND_TIMEOUT_S)
        folder = (done.stdout.splitlines() or [""])[-1].strip()
        if done.returncode or not _FOLDER.fullmatch(folder):
            raise self._error(f"no temporary folder there ({_last_line(done.stderr)})", "Make room for temporary files")
        done = self._ssh(["chmod", "755", folder], _COMMAND_TIMEOUT_S)
        if done.returncode:
            raise self._error(f"{folder} cannot be opened ({_last_line(done.stderr)})", "Look at that folder there")
        return folder

    def copy(self, source: Path, folder: str) -> None:
        """The files of a local folder to one there."""
        # rsync takes the words of -e apart as a shell does.
        command = ["rsync", "--recursive", "--times", "--chmod=D755,F644", f"--timeout={_SILENCE_S}"]
        command += ["-e", shlex.join(self._access.ssh()), "--", f"{source.absolute()}/", f"{self.host}:{folder}/"]
        done = self._run(command, _COPY_TIMEOUT_S)
        if done.returncode:
            remedy = "See that it is reached, has rsync and room for temporary files, and try again"
            raise self._error(f"the bundle cannot be copied there ({_why(done.stderr)})", remedy)

    def remove_folder(self, folder: str) -> None:
        """As far as possible: what is left goes with the next start of the device."""
        with suppress(AvdriftError):
            self._ssh(["rm", "-rf", "--", folder], _COMMAND_TIMEOUT_S)

    def _ssh(self, words: Sequence[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
        """Ssh gives what it is given to a shell there, so that is quoted."""
        done = self._run([*self._access.ssh(), "--", self.host, shlex.join(words)], timeout_s)
        if done.returncode == _SSH_FAILED:
            raise self._error(f"ssh: {_last_line(done.stderr)}", f"Try: ssh {self.host}")
        return done

    def _run(self, command: list[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
        try:
            return run_bounded(command, timeout_s)
        except subprocess.TimeoutExpired as error:
            raise self._error(f"no answer within {timeout_s:g} s", "Look at the network, and try again") from error
        except BufferError as error:
            raise self._error(str(error), f"Try: ssh {self.host}") from error
        except OSError as error:
            remedy = f"Install it here (Debian's packages openssh-client and rsync): {command[0]}"
            raise self._error(f"{command[0]} cannot be run ({error.strerror})", remedy) from error

    def _error(self, what: str, remedy: str) -> TransportError:
        return TransportError(what, where=self.host, remedy=remedy)


def remote_model(entry: dict[str, Any]) -> RemoteModel:
    """One line of `avdrift model list --json`, as any version of avdrift prints it. Raises ValueError."""
    wrong = [key for key, kinds in _ENTRY.items() if not isinstance(entry.get(key, _MISSING), kinds)]
    wrong += [key for key in ("trial", "trial_about") if not isinstance(entry.get(key), str | None)]
    if wrong:
        raise ValueError(f"no possible {', '.join(wrong)}")
    if not _DIGEST.fullmatch(entry["digest"]):
        raise ValueError("no possible digest")
    return RemoteModel(
        digest=entry["digest"], label=f"{_text(entry['name'])} {_text(entry['version'])} {entry['digest'][:12]}",
        current=entry["current"], knows_trials="trial" in entry, trial=entry.get("trial"),
        trial_about=_text(entry.get("trial_about")),
    )  # fmt: skip


def _text(value: str | None) -> str:
    return printable(str(value)[:_MAX_TEXT])


def _lines(output: str) -> list[str]:
    return [line.strip() for line in output.splitlines() if line.strip()] or ["it does not say why"]


def _last_line(output: str) -> str:
    line = _lines(output)[-1].removeprefix("avdrift: ").rstrip(".")
    return printable(line[:_MAX_TEXT])


def _why(output: str) -> str:
    """Rsync says why first, and sums up last."""
    said = [line for line in _lines(output) if not re.match(r"rsync error:|rsync: connection unexpectedly", line)]
    return printable((said or _lines(output))[-1][:_MAX_TEXT])
