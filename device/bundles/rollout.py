"""The models that a daemon measures with: the store's current ones, on trial while new, with automatic fallback.

The order of the steps makes a power cut harmless. The start of a trial is on disk before the models are loaded, because
loading may already crash; its failure is on disk before the link changes, and the next start completes the rest.
"""

from __future__ import annotations

import errno
import logging
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from device.bundles.bundle import DEFAULT_BUNDLE, Bundle, load_bundle
from device.bundles.store import PREVIOUS, Activation, Store
from device.bundles.trial import SETTLED_S, Trial, TrialState, begun, ended, fallback_of, fallen, judged, started
from device.bundles.trial_file import TrialFile
from device.config.settings import ModelSettings
from device.errors import AvdriftError, ModelError, ModelStoreError
from device.records import NS_PER_S, Report
from device.state.disk import Disk

POLL_EVERY_S = 2.0
_WRITE_EVERY_S = 10.0  # of updates that only change a count
_NOT_OURS = (errno.EACCES, errno.EPERM, errno.EROFS)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelChange:
    """A change of models: those in use before and after it, and one sentence."""

    before: str
    after: str
    about: str


class Models:
    """Follows a store. Not thread-safe.

    As a context manager: an unexpected error that leaves it counts as a possible crash of the models.
    """

    def __init__(self, store: Store, settings: ModelSettings | None = None, disk: Disk | None = None) -> None:
        self.changes: list[ModelChange] = []  # read and cleared by the caller
        self._store, self._settings = store, settings or ModelSettings()
        self._file, self._has_lock = TrialFile(store.folder, disk), False
        self._trials: dict[str, Trial] = {}  # by digest; only the holder of the lock has any
        self._bundle: Bundle | None = None  # in use
        self._handled: Activation | None = None  # the last activation handled
        self._unlinked: tuple[Activation, str | None] | None = None  # failed but still linked, and its replacement
        self._warned = ""
        self._last: Report | None = None  # the newest report that counted
        self._begun_ns: int | None = None
        self._now_ns = self._written_ns = self._next_poll_ns = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, AvdriftError | BrokenPipeError | KeyboardInterrupt):
            self._settle()
        self._file.release()

    def first(self) -> Bundle:
        """Return the first bundle to use. Raises ModelError only if the built-in one is broken."""
        try:
            bundle, problem = self._follow(), ""
        except ModelError as error:
            spare = self._loaded(fallback_of(self._trials, self._previous_models(False)))
            bundle, problem = spare, f"{error}. Until then with {spare.label if spare else 'the built-in models'}"
        self._bundle = bundle or load_bundle(DEFAULT_BUNDLE)
        if problem:
            self._warn_once(problem)
        return self._bundle

    def poll(self, bundle: Bundle, report: Report | None, now_ns: int) -> Bundle | None:
        """Return other models to use from now on, or None; to be called a few times a second.

        bundle: the models in use. report: the newest one, repeats are ignored. now_ns: monotonic time.
        """
        self._bundle, self._now_ns = bundle, now_ns
        self._begun_ns = now_ns if self._begun_ns is None else self._begun_ns
        other = self._judge(bundle, report)
        if other is not None or now_ns < self._next_poll_ns:
            return other
        self._next_poll_ns = now_ns + round(POLL_EVERY_S * NS_PER_S)
        if now_ns - self._begun_ns > SETTLED_S * NS_PER_S:
            self._settle()
        try:
            self._relink()
            return self._follow()
        except ModelError as error:
            self._warn_once(str(error))
            return None

    # From the link to the models

    def _follow(self) -> Bundle | None:
        """Start the trial of newly linked models and return them, or the previous ones if they cannot be loaded.

        None if nothing changes. Raises ModelError.
        """
        activation = self._store.activation()
        if activation is None:
            return self._return_to_builtin()
        if activation == self._handled:
            return None
        loaded = self._bundle is not None and self._bundle.digest == activation.digest
        trial = self._begin(activation, self._previous_models(loaded))
        self._handled = activation
        if trial is not None and trial.standing is TrialState.FELL_BACK:
            return self._fall_back(trial, trial.fallback)
        if loaded:  # whoever changed the link has changed the models as well
            return None
        try:
            bundle = self._store.load(activation.digest)
        except ModelError as error:
            to = self._bundle.digest if self._bundle is not None else trial.fallback if trial is not None else None
            why = f"they cannot be used: {error}"
            return self._fall_back(fallen(trial, why) if trial else Trial(*_key(activation), None, why=why), to)
        if self._bundle is not None:
            words = ", on trial" if trial is not None and trial.is_open else ""
            self._note(bundle.label, f"The models changed from {self._bundle.label} to {bundle.label}{words}")
        return bundle

    def _return_to_builtin(self) -> Bundle | None:
        """The built-in models, if a rollback has unlinked the only installed ones; None if nothing changes."""
        seen, used = self._handled, self._bundle
        if seen is None or self._store.named(PREVIOUS) != seen.digest:
            return None
        self._handled = None
        self._settle()
        if used is None or used.digest != seen.digest:  # whoever unlinked them has changed the models as well
            return None
        bundle = load_bundle(DEFAULT_BUNDLE)
        self._note(bundle.label, f"The models changed from {used.label} to {bundle.label}")
        return bundle

    def _previous_models(self, loaded: bool) -> str | None:
        """The installed models that were in use before."""
        if self._bundle is not None and not loaded:
            before: str | None = self._bundle.digest
        else:
            before = self._store.named(PREVIOUS)
        return before if before is not None and self._store.path_of(before).is_dir() else None

    def _begin(self, activation: Activation, before: str | None) -> Trial | None:
        """The trial of the linked models, already on disk; None if another daemon keeps it.

        Raises ModelStoreError if the disk rejects it: then the models must not be loaded.
        """
        if not self._acquire_lock():
            return None
        known = self._trials.get(activation.digest)
        trial = started(begun(activation, known, fallback_of(self._trials, before)))
        kept = self._trials
        self._trials = {digest: ended(other) for digest, other in kept.items()} | {trial.digest: trial}
        try:
            self._write()
        except OSError as error:
            if not trial.is_open:
                return trial
            self._trials = kept  # retrying is not a crash
            raise ModelStoreError(
                f"the trial of new models cannot be saved ({error.strerror}), so they are not used",
                where=str(self._store.folder), remedy="Free some space",
            ) from error  # fmt: skip
        return trial

    def _acquire_lock(self) -> bool:
        """Whether this daemon keeps the store's trials. Raises ModelStoreError."""
        if self._has_lock:
            return True
        try:
            self._has_lock = self._file.acquire()
            what = "another avdrift measures with it and keeps the trials of new models"
        except OSError as error:
            what = f"trials of new models cannot be kept here ({error.strerror})"
            if error.errno not in _NOT_OURS:
                raise ModelStoreError(what, where=str(self._store.folder), remedy="Free some space") from error
        if self._has_lock:
            self._trials = self._file.read()
        else:
            _log.warning("%s: %s", self._store.folder, what)
        return self._has_lock

    # Fallback

    def _judge(self, bundle: Bundle, report: Report | None) -> Bundle | None:
        """Count the newest report in the trial; return the previous models if the trial has failed."""
        trial, last = self._trials.get(bundle.digest), self._last
        if report is None or trial is None or not trial.is_open:
            return None
        if report.model != bundle.label or (last is not None and report.seq == last.seq):
            return None
        self._last = report
        passed_s = report.uptime_s - last.uptime_s if last is not None and last.model == report.model else 0.0
        after = judged(trial, report, passed_s, self._settings)
        if after.standing is TrialState.FELL_BACK:
            return self._fall_back(after, after.fallback)
        self._trials[after.digest] = after
        if after.standing is TrialState.PASSED:
            self._note(bundle.label, f"The models {bundle.label} have passed their trial: {after.why}")
        due = self._now_ns - self._written_ns > _WRITE_EVERY_S * NS_PER_S
        if after.is_open != trial.is_open or (after != trial and due):
            self._try_to_save()
        return None

    def _fall_back(self, trial: Trial, to: str | None) -> Bundle | None:
        """The models to use instead of the failed ones; None if those in use can stay."""
        bundle = self._loaded(to)
        if self._has_lock:
            self._trials[trial.digest] = trial
            self._try_to_save()
            self._unlinked = Activation(*_key(trial)), bundle.digest if bundle is not None else None
        used = self._bundle
        bundle = bundle or load_bundle(DEFAULT_BUNDLE)
        name = f"{trial.digest[:12]}"
        self._note(bundle.label, f"Back from the new models {name} to {bundle.label}: {trial.why}", before=name)
        try:
            self._relink()
        except ModelError as error:  # retried at the next call
            self._warn_once(str(error))
        return None if used is not None and used.digest == bundle.digest else bundle

    def _relink(self) -> None:
        """Make the store's link name the models in use after a failure. Raises ModelError."""
        if self._unlinked is None:
            return
        failed, to = self._unlinked
        self._store.fall_back(failed, to)
        self._unlinked, now = None, self._store.activation()
        if now is None or now.digest != to:  # nothing is linked any more, or the link was changed meanwhile
            return
        known = self._trials.get(now.digest)
        if known is None:
            known = Trial(*_key(now), None, TrialState.PASSED, "they were in use before")
        # These models' own trial continues.
        self._trials[now.digest] = replace(known, made_ns=now.made_ns, running=known.is_open)
        self._handled = now
        self._try_to_save()

    def _loaded(self, digest: str | None) -> Bundle | None:
        try:
            return self._store.load(digest) if digest is not None else None
        except ModelError as error:
            self._warn_once(str(error))
            return None

    # Records and messages

    def _settle(self) -> None:
        """From now on, the end of this process does not count against the models."""
        if any(trial.running for trial in self._trials.values()):
            self._trials = {digest: ended(trial) for digest, trial in self._trials.items()}
            self._try_to_save()

    def _try_to_save(self) -> None:
        """Try to save the trials, for changes that a power cut may lose without harm."""
        if not self._has_lock:
            return
        try:
            self._write()
        except OSError as error:
            self._warn_once(f"{self._store.folder}: trials of models cannot be saved ({error.strerror})")

    def _write(self) -> None:
        self._written_ns = self._now_ns
        installed = {digest: trial for digest, trial in self._trials.items() if self._store.path_of(digest).is_dir()}
        self._trials = installed
        self._file.write(installed)

    def _warn_once(self, about: str) -> None:
        """Log a problem once that does not change the models in use."""
        if about != self._warned:
            self._warned = about
            self._note(self._bundle.label if self._bundle is not None else "", about)

    def _note(self, after: str, about: str, before: str | None = None) -> None:
        used = self._bundle.label if self._bundle is not None else after
        self.changes.append(ModelChange(before or used, after, about))


def _key(of: Activation | Trial) -> tuple[str, int]:
    return of.digest, of.made_ns


def following(store: Store | None, settings: ModelSettings) -> AbstractContextManager[Models | None]:
    """The follower of a store; a null context if there is nothing to follow."""
    return Models(store, settings) if store is not None else nullcontext()
