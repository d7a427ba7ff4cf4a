"""Kill -9 at random points of install and activate: `python -m tests.device.bundles.killing --times 200`.

A child puts two bundles in anew and in use, in turn, until it is killed. After each kill what is in use must be one of
the two, whole; with --measure the real command line must also measure a recording with it, as before the first kill.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from device.bundles.bundle import DEFAULT_BUNDLE
from device.bundles.signature import SIGNATURE
from device.bundles.store import Store, verify_bundle
from tests.models.bundles import change_manifest
from tests.models.stores import leftovers, versioned
from tests.scenes import avdrift, talking

_LONGEST_S = 0.4  # of a child's life: some installs,
_LONGEST_TURNS = 4  # also where the processor is slow


def _change(store: Path, bundles: list[Path]) -> None:
    """Put each bundle in anew and in use, in turn."""
    changed = Store(store)
    for source in bundles:
        bundle = changed.load_current()
        for path in (store / "models").iterdir():
            if path.name[0] != "." and not path.is_symlink() and (bundle is None or path.name != bundle.digest):
                shutil.rmtree(path)
        changed.activate(
            changed.install(source, allow_unsigned=True, allow_downgrade=True).digest, allow_downgrade=True
        )


def _change_for_ever(store: Path, bundles: list[Path]) -> None:
    while True:
        _change(store, bundles)


def _in_a_child(work: Callable[[], None]) -> int:
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(1)
    return child


def kill_often(
    store: Path, bundles: list[Path], times: int, seed: int, check: Callable[[], None] = lambda: None
) -> Counter[str]:
    """How often what was in use after a kill, and how often the child was in the middle of a change."""
    dice, seen = random.Random(seed), Counter[str]()
    signers = Store(store).signers
    # Verified here, so that the children are killed at the disk and not while they wait for LiteRT.
    digests = {verify_bundle(source, signers, allow_unsigned=True).digest for source in bundles}
    began = time.monotonic()
    _change(store, bundles)
    longest_s = max(_LONGEST_S, _LONGEST_TURNS * (time.monotonic() - began))
    for _ in range(times):
        child = _in_a_child(lambda: _change_for_ever(store, bundles))
        time.sleep(dice.uniform(0.0, longest_s))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "the child ended before it was killed"
        seen["interrupted"] += bool(leftovers(store))
        bundle = Store(store).load_current()
        assert bundle is not None and bundle.digest in digests, "neither the old nor the new"
        seen[f"version {bundle.version}"] += 1
        check()
    return seen


def _measured(store: Path) -> dict[str, Any]:
    done = avdrift("measure", talking(), "--json", "--store", store)
    assert done.returncode == 0 and "avdrift:" not in done.stderr, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["state"] == "measuring", found
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill -9 at random points of install and activate.")
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--measure", action="store_true", help="with the built-in models, a recording after each kill")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="avdrift-killing-") as work:
        store, bundles = Path(work) / "store", []
        for version in ("2", "3"):
            folder = Path(work) / version
            if options.measure:
                shutil.copytree(DEFAULT_BUNDLE, folder, ignore=shutil.ignore_patterns(SIGNATURE))
                change_manifest(folder, partial(dict.update, version=version))
            else:
                versioned(folder, version)
            bundles.append(folder)
        first = Store(store).install(bundles[0], allow_unsigned=True)
        Store(store).activate(first.digest)
        before = _measured(store) if options.measure else None

        def as_before() -> None:
            assert before is None or _measured(store) == before

        seen = kill_often(store, bundles, options.times, options.seed, as_before)
        Store(store).install(bundles[1], allow_unsigned=True)
        assert leftovers(store) == []
    print(json.dumps({"killed": options.times} | seen))
    return 0


if __name__ == "__main__":  # forks, so in a process that has no threads
    sys.exit(main())
