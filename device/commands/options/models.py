"""The options that choose the models, and the state folder with the installed ones; shared by most commands."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from device.bundles.bundle import DEFAULT_BUNDLE, DIRECT_BUNDLE, Bundle, load_bundle
from device.bundles.model_kinds import TOWERS, Kind
from device.bundles.signature import SIGNERS
from device.bundles.store import Store
from device.errors import ModelError, ModelStoreError
from device.printable import shown_error
from device.state.ownership import check_ours

STATE_VARIABLE, CONFIG_VARIABLE = "STATE_DIRECTORY", "CONFIGURATION_DIRECTORY"  # set by systemd


def default_store() -> Path:
    """The state folder given by systemd, or the user's. Raises ModelStoreError without either."""
    if given := os.environ.get(STATE_VARIABLE, "").split(":")[0]:
        return Path(given)
    try:
        return Path.home() / ".local" / "state" / "avdrift"
    except RuntimeError as error:
        what = "this user has no home folder to keep models in"
        raise ModelStoreError(what, where="~", remedy="Give --store a folder") from error


def add_store_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--store", type=Path, metavar="FOLDER",
        help=f"state folder with the installed models (default: ${STATE_VARIABLE}, or ~/.local/state/avdrift)",
    )  # fmt: skip


def open_store(given: Path | None) -> Store:
    """The store in a given folder, or the service's or user's own. Raises ModelStoreError.

    The service's allowed signers are beside its configuration, which it cannot write. The file in its state folder,
    from an older avdrift, is used only if there is no such file.
    """
    if given is not None:
        return Store(given)
    configuration = os.environ.get(CONFIG_VARIABLE, "").split(":")[0]
    signers = Path(configuration) / SIGNERS if configuration else None
    return Store(default_store(), signers=signers if signers is not None and os.path.lexists(signers) else None)


def chosen_bundle(given: Path | None, store: Path | None, kinds: tuple[Kind, ...] = (TOWERS,)) -> Bundle:
    """The bundle to use: the given one, the store's current one, or the built-in one. Raises ModelError.

    The store holds two-tower models: if `kinds` does not include them, the built-in direct network is used.

    If the store's bundle is broken, a message on stderr says so and the built-in one is used: a device in a ceiling
    must not stop measuring.
    """
    if given is not None:
        if os.geteuid() == 0:  # whoever may change the folder could have root run their files
            check_ours(given.resolve(), folder=True)
        return load_bundle(given, kinds, trusted=False)
    if TOWERS not in kinds:
        return load_bundle(DIRECT_BUNDLE, kinds)
    try:
        current = open_store(store).load_current()
    except ModelError as error:
        print(f"avdrift: {shown_error(error)}", file=sys.stderr)
        current = load_bundle(DEFAULT_BUNDLE)
        print(f"avdrift: measuring with the built-in models instead: {current.label}", file=sys.stderr)
    return current or load_bundle(DEFAULT_BUNDLE)
