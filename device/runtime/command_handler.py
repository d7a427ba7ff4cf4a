"""Commands to a running daemon: submitted by other threads, carried out on the measuring thread."""

from __future__ import annotations

import logging
import platform
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from device import __version__
from device.bundles.bundle import DEFAULT_BUNDLE, load_bundle
from device.bundles.store import CURRENT, Store
from device.clock import Clock
from device.errors import AvdriftError, UsageError
from device.records import NS_PER_MS, NS_PER_S, Command, Verb
from device.runtime.core import Core
from device.runtime.inputs.source_thread import Reader
from device.runtime.recalibration import Recalibration
from device.runtime.status import Status
from device.standards import PROFILE_NAMES, own_profile
from device.state.rig import Rig, forget_rig, store_rig, undo_rig

_PACKAGES = ("numpy", "ai-edge-litert", "opencv-python-headless", "av", "paho-mqtt", "picamera2", "PyAudio")

_log = logging.getLogger(__name__)


MAX_WAITING = 8
# Between two accepted commands of one verb, well above the time that the verb takes on the measuring thread.
MIN_INTERVAL_S: Mapping[Verb, float] = {
    Verb.RECALIBRATE: 1.0,
    Verb.UNDO_RECALIBRATE: 1.0,
    Verb.RESET_CALIBRATION: 1.0,
    Verb.SET_PROFILE: 1.0,
    Verb.MODEL_ROLLBACK: 10.0,  # it loads and checks models
    Verb.RESTART_SOURCES: 5.0,
    Verb.DIAGNOSTICS: 1.0,
}


class RigStore:
    """Where the rig's own offset is kept for the next start; nowhere without a folder. Raises UsageError."""

    def __init__(self, state_dir: Path | None) -> None:
        self._state_dir = state_dir

    def store(self, rig: Rig) -> None:
        if self._state_dir is not None:
            store_rig(self._state_dir, rig)

    def forget(self) -> None:
        if self._state_dir is not None:
            forget_rig(self._state_dir)

    def undo(self) -> Rig | None:
        """Restore the calibration before the last one."""
        if self._state_dir is None:
            raise _refusal(Verb.UNDO_RECALIBRATE, "no calibration is kept here", "Recalibrate instead")
        return undo_rig(self._state_dir)


class Operator:
    """Carries out one command per turn of the daemon's loop; only `submit` is for other threads.

    No flood of commands stops measuring: at most MAX_WAITING commands wait, and each verb has a rate limit.
    """

    def __init__(self, core: Core, status: Status, clock: Clock, store: Store | None, rigs: RigStore) -> None:
        """`store` is the model store; None where models cannot be rolled back."""
        self.readers: Sequence[Reader] = ()
        self._core, self._status, self._clock, self._store, self._rigs = core, status, clock, store, rigs
        self._lock = threading.Lock()
        self._waiting: deque[Command] = deque()
        self._accepted_ns: dict[Verb, int] = {}  # time of the last command of each verb
        self._recalibrating: tuple[Command, Recalibration] | None = None

    def submit(self, command: Command, *, limited: bool = True) -> None:
        """Queue a command. Internal commands, such as a reload, are not limited.

        Raises UsageError if avdrift is busy; `reply` is then not called.
        """
        with self._lock:
            if limited and (busy := self._busy(command.verb)):
                raise _refusal(command.verb, f"busy: {busy}", "Send it again later")
            self._waiting.append(command)

    def _busy(self, verb: Verb) -> str | None:
        now_ns, last_ns = self._clock.now_ns(), self._accepted_ns.get(verb)
        interval_s = MIN_INTERVAL_S[verb]
        if last_ns is not None and now_ns - last_ns < interval_s * NS_PER_S:
            return f"one {verb.value} in {interval_s:g} s is the limit"
        if len(self._waiting) >= MAX_WAITING:
            return f"{MAX_WAITING} commands are waiting"
        self._accepted_ns[verb] = now_ns
        return None

    def work(self) -> None:
        """Carry out the next command; to be called a few times a second."""
        if (command := self._next()) is not None:
            self._carry_out(command)
        if self._recalibrating is None:
            return
        command, recalibration = self._recalibrating
        recalibration.add(self._core.last)
        if recalibration.is_over(self._clock.now_ns()):
            self._recalibrating = None
            _run(command, lambda: self._store_measured_rig(recalibration))

    def close(self) -> None:
        """Answer all commands that still wait."""
        left = [self._recalibrating[0]] if self._recalibrating else []
        self._recalibrating = None
        while (command := self._next()) is not None:
            left.append(command)
        for command in left:
            _refuse(command, "avdrift has ended", "Ask again")

    def _next(self) -> Command | None:
        with self._lock:
            return self._waiting.popleft() if self._waiting else None

    def _carry_out(self, command: Command) -> None:
        works: dict[Verb, Callable[[], dict[str, object]]] = {
            Verb.SET_PROFILE: lambda: self._set_profile(command.args),
            Verb.MODEL_ROLLBACK: lambda: self._roll_back(allow_downgrade=command.args.get("allow_downgrade") is True),
            Verb.UNDO_RECALIBRATE: self._undo_recalibrate,
            Verb.RESET_CALIBRATION: self._reset_calibration,
            Verb.RESTART_SOURCES: self._restart_sources,
            Verb.DIAGNOSTICS: self._diagnose,
        }
        if command.verb is not Verb.RECALIBRATE:
            _run(command, works[command.verb])
        elif self._recalibrating:
            _refuse(command, "already under way", "Wait for its result")
        else:
            settings, rig = self._core.settings, self._core.reporter.rig
            recalibration = Recalibration(
                self._clock.now_ns(), rig, window_s=settings.window_s, every_s=settings.report_every_s
            )
            self._recalibrating = command, recalibration

    def _set_profile(self, args: Mapping[str, str | float | bool]) -> dict[str, object]:
        """A reload also sets the limits of the profile `own`: `early_ms` and `late_ms`."""
        profile = args.get("profile")
        if profile not in PROFILE_NAMES:
            raise _refusal(Verb.SET_PROFILE, "no such profile", f"Give one of {', '.join(PROFILE_NAMES)}")
        reporter = self._core.reporter
        before, reporter.profile = reporter.profile, str(profile)
        if "early_ms" in args:
            reporter.own_limits = own_profile(float(args["early_ms"]), float(args["late_ms"]))
        self._status.publish_info()
        return {"before": before, "profile": reporter.profile}

    def _roll_back(self, *, allow_downgrade: bool) -> dict[str, object]:
        if self._store is None or self._core.bundle.digest != self._store.linked(CURRENT):
            what = "the models in use are not the store's current ones"
            raise _refusal(Verb.MODEL_ROLLBACK, what, "Restart avdrift without --bundle, or use `avdrift model`")
        target = self._store.rollback(allow_downgrade=allow_downgrade)
        before, bundle = self._core.bundle.label, target or load_bundle(DEFAULT_BUNDLE)
        self._core.swap(bundle)
        self._status.publish_info()
        return {"before": before, "model": bundle.label}

    def _restart_sources(self) -> dict[str, object]:
        for reader in self.readers:
            reader.restart()
        return {"sources": [reader.part for reader in self.readers if reader.live]}

    def _store_measured_rig(self, recalibration: Recalibration) -> dict[str, object]:
        devices = {reader.part: reader.device or reader.part for reader in self.readers}
        camera, microphone = (devices.get(part) or devices.get("stream") or part for part in ("camera", "microphone"))
        rig = recalibration.found(camera, microphone, time.time_ns() // NS_PER_MS)
        self._rigs.store(rig)
        return self._change_rig(rig)

    def _undo_recalibrate(self) -> dict[str, object]:
        if self._recalibrating:
            raise _refusal(Verb.UNDO_RECALIBRATE, "recalibrate is under way", "Wait for its result")
        return self._change_rig(self._rigs.undo())

    def _change_rig(self, rig: Rig | None) -> dict[str, object]:
        before = self._core.reporter.rig
        self._status.use_rig(rig)
        return {
            "before_ms": before.bias_ms if before else None,
            "bias_ms": rig.bias_ms if rig else None,
            "bias_std_ms": rig.bias_std_ms if rig else None,
        }

    def _reset_calibration(self) -> dict[str, object]:
        """Stop subtracting the rig's own offset."""
        if self._recalibrating:
            raise _refusal(Verb.RESET_CALIBRATION, "recalibrate is under way", "Wait for its result")
        self._rigs.forget()
        return self._change_rig(None)

    def _diagnose(self) -> dict[str, object]:
        """What somebody who looks for an error needs first."""
        core, last, rig = self._core, self._core.last, self._core.reporter.rig
        return {
            "state": last.state.value if last else None,
            "fault": core.fault,
            "faults": {reader.part: reader.fault for reader in self.readers},
            "devices": {reader.part: reader.device for reader in self.readers},
            "sources_reopened": {reader.part: reader.reopened for reader in self.readers},
            "threads_that_hang": sum(len(reader.orphans()) for reader in self.readers),
            "queue_fill": round(core.queue.fill(), 3),
            "load_step": core.load.step,
            "video_dropped": core.queue.video_dropped,
            "audio_dropped": core.queue.audio_dropped,
            "reports": last.seq if last else 0,
            "uptime_s": last.uptime_s if last else None,
            "model": core.bundle.label,
            "model_digest": core.bundle.digest,
            "profile": core.reporter.profile,
            "bias_ms": rig.bias_ms if rig else None,
            "threads": sorted(thread.name for thread in threading.enumerate()),
            "versions": _versions(),
        }


@cache
def _versions() -> dict[str, str]:
    found = {"avdrift": __version__, "python": platform.python_version(), "kernel": platform.release()}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _run(command: Command, work: Callable[[], dict[str, object]]) -> None:
    try:
        found: dict[str, object] = {"ok": True, "error": None} | work()
    except AvdriftError as error:
        found = {"ok": False, "error": str(error)}
    except Exception as error:  # no command may stop measuring
        _log.exception("command %s", command.verb.value)
        found = {"ok": False, "error": f"{command.verb.value}: failed ({type(error).__name__})"}
    try:
        command.reply({"verb": command.verb.value, **found})
    except Exception:
        _log.exception("the result of %s", command.verb.value)


def _refuse(command: Command, what: str, remedy: str) -> None:
    def work() -> dict[str, object]:
        raise _refusal(command.verb, what, remedy)

    _run(command, work)


def _refusal(verb: Verb, what: str, remedy: str) -> UsageError:
    return UsageError(what, where=verb.value, remedy=remedy)
