"""The command `avdrift model`: lists, verifies, installs, activates and rolls back models."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from device.bundles.bundle import DEFAULT_BUNDLE, Bundle, load_bundle
from device.bundles.signature import is_signed
from device.bundles.store import CURRENT, MAX_FILE_BYTES, PREVIOUS, Entry, Store, verify_bundle
from device.bundles.trial import describe_trial
from device.bundles.trial_file import TrialFile
from device.commands.options.models import add_store_option, open_store
from device.errors import ModelError, ModelMissingError
from device.reporting.model_record import ModelRecord, read_records
from device.state.disk import read_plain
from device.state.ownership import become_owner


def add_model_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `model` and its subcommands."""
    common = argparse.ArgumentParser(add_help=False)
    add_store_option(common)
    common.add_argument("--json", action="store_true", help="print one JSON object per line")
    unsigned = argparse.ArgumentParser(add_help=False)
    unsigned.add_argument("--allow-unsigned", action="store_true", help="accept a bundle that has no signature at all")
    downgrade = argparse.ArgumentParser(add_help=False)
    downgrade.add_argument("--allow-downgrade", action="store_true", help="accept a version lower than the current one")

    worse = argparse.ArgumentParser(add_help=False)
    worse.add_argument("--accept-worse", action="store_true", help="accept models that failed their quality gate")

    model = commands.add_parser("model", help="install, activate and roll back models")
    below = model.add_subparsers(dest="model_command", required=True, metavar="COMMAND")
    below.add_parser("list", parents=[common], help="list the installed models")
    allowed = [common, unsigned, downgrade, worse]
    install = below.add_parser("install", parents=allowed, help="verify a bundle and install a copy of it")
    install.add_argument("bundle", type=Path, help="folder with the bundle")
    install.add_argument("--activate", action="store_true", help="also activate it")
    activate = below.add_parser("activate", parents=[common, downgrade], help="use an installed bundle")
    activate.add_argument("digest", help="the first digits of its digest (6 or more)")
    below.add_parser("rollback", parents=[common], help="go back to the previous bundle, or to the built-in one")
    below.add_parser("report", parents=[common], help="print how often the models had a number on this device")
    verify = below.add_parser("verify", parents=[common, unsigned, worse], help="verify a bundle as install does")
    verify.add_argument("bundle", type=Path, nargs="?", help="folder with the bundle (default: the current one)")


def model_command(options: argparse.Namespace) -> int:
    """Run a subcommand; return the exit code. Raises ModelError."""
    commands = {
        "list": _list, "install": _install, "activate": _activate, "rollback": _rollback, "verify": _verify,
        "report": _report,
    }  # fmt: skip
    store = open_store(options.store)
    with _readable(options, store.folder) as given:
        become_owner(store.folder)
        options.bundle = given
        return commands[options.model_command](store, options)


@contextmanager
def _readable(options: argparse.Namespace, folder: Path) -> Iterator[Path | None]:
    """The given bundle; as root in another user's store, a copy that this user may read.

    The copy is verified like any other bundle, so it is enough to read only plain files here.
    """
    given: Path | None = getattr(options, "bundle", None)
    owner = folder.stat() if folder.exists() else None
    if given is None or not given.is_dir() or os.geteuid() != 0 or owner is None or owner.st_uid == 0:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="avdrift-") as beside:
        copy = Path(beside) / given.resolve().name
        copy.mkdir()
        for path in sorted(given.iterdir()):
            (copy / path.name).write_bytes(read_plain(path, MAX_FILE_BYTES))
        for path in (*copy.iterdir(), copy, copy.parent):
            os.chown(path, owner.st_uid, owner.st_gid)
        yield copy


def _list(store: Store, options: argparse.Namespace) -> int:
    trial_state, installed = _trial_states(store), store.entries()
    for entry in (*installed, _built_in(installed)):
        built_in = entry not in installed
        trial, about = ("", "") if built_in else trial_state(entry.digest)
        if options.json:
            more = {"trial": trial or None, "trial_about": about or None, "built_in": built_in}
            print(json.dumps(asdict(entry) | more))
            continue
        state = CURRENT if entry.current else PREVIOUS if entry.previous else ""
        origin = "built in" if built_in else "signed" if entry.signed else "unsigned"
        what = f"broken: {entry.problem}" if entry.problem else f"{entry.name} {entry.version}"
        print(f"{entry.digest[:12]}  {state:8}  {origin:8}  {what}{f'  ({trial}: {about})' if trial else ''}")
    return 0


def _built_in(installed: Sequence[Entry]) -> Entry:
    """The models in use if none are installed, or if those are broken."""
    bundle = load_bundle(DEFAULT_BUNDLE)
    used = not any(entry.current and entry.problem is None for entry in installed)
    return Entry(bundle.digest, bundle.name, bundle.version, False, used, False, None)


def _trial_states(store: Store) -> Callable[[str], tuple[str, str]]:
    """For each digest, the state of its trial and the reason; two empty texts without one."""
    file = TrialFile(store.folder)
    trials, activation = file.read(), None
    measured = file.is_locked()
    with suppress(ModelError):  # a broken link is reported where models are loaded
        activation = store.activation()
    return lambda digest: describe_trial(activation, digest, trials.get(digest), measured=measured)


def _install(store: Store, options: argparse.Namespace) -> int:
    bundle = store.install(
        options.bundle, allow_unsigned=options.allow_unsigned, allow_downgrade=options.allow_downgrade,
        accept_worse=options.accept_worse,
    )  # fmt: skip
    if options.activate:
        store.activate(bundle.digest, allow_downgrade=options.allow_downgrade)
    _print(store, bundle, "installed and in use" if options.activate else "installed", as_json=options.json)
    return 0


def _activate(store: Store, options: argparse.Namespace) -> int:
    bundle = store.activate(options.digest, allow_downgrade=options.allow_downgrade)
    _print(store, bundle, "in use", as_json=options.json)
    return 0


def _rollback(store: Store, options: argparse.Namespace) -> int:
    _print(store, store.rollback() or load_bundle(DEFAULT_BUNDLE), "in use again", as_json=options.json)
    return 0


def _verify(store: Store, options: argparse.Namespace) -> int:
    folder = options.bundle
    if folder is None:
        digest = store.linked(CURRENT)
        if digest is None:
            remedy = "Install some with `avdrift model install BUNDLE --activate`, or name a BUNDLE"
            raise ModelMissingError("no models are installed and in use", where=str(store.folder), remedy=remedy)
        folder = store.path_of(digest)
        store.load(digest)  # its name must be its digest
    in_use = options.bundle is None  # and was accepted explicitly
    bundle = verify_bundle(
        folder, store.signers, allow_unsigned=options.allow_unsigned or in_use,
        accept_worse=options.accept_worse or in_use,
    )  # fmt: skip
    signed, (trial, about) = is_signed(folder), _trial_states(store)(bundle.digest)
    words = f"all checks passed, {'signed' if signed else 'unsigned'}{f'; {trial}: {about}' if trial else ''}"
    _print(store, bundle, words, as_json=options.json, signed=signed, trial=trial or None, trial_about=about or None)
    return 0


def _report(store: Store, options: argparse.Namespace) -> int:
    records = read_records(store.folder)
    for record in reversed(records):
        print(json.dumps(record.to_dict()) if options.json else _record_text(record))
    if not records and not options.json:
        print("nothing counted yet: avdrift has to run for some minutes")
    return 0


def _record_text(record: ModelRecord) -> str:
    """One record in words; confidence as counts in ten bins from 0 to 1."""
    share = "-" if record.coverage is None else f"{100 * record.coverage:.1f} %"
    lines = [f"{record.model}: a number in {share} of {record.heard} reports with a face and speech"]
    if any(record.confidence):
        lines.append(f"  confidence, 0 to 1: {' '.join(map(str, record.confidence))}")
    if record.reasons:
        lines.append("  without a number: " + ", ".join(f"{name} {count}" for name, count in record.reasons.items()))
    return "\n".join(lines)


def _print(store: Store, bundle: Bundle, what: str, *, as_json: bool, **more: str | bool | None) -> None:
    if not as_json:
        print(f"{bundle.label}: {what}")
        return
    fields = {"digest": bundle.digest, "name": bundle.name, "version": bundle.version}
    links = {CURRENT: store.linked(CURRENT), PREVIOUS: store.linked(PREVIOUS)}
    print(json.dumps(fields | more | links))
