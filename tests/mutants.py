"""Random mutants of the core, and how many the tests kill: `make mutants`, or `python -m tests.mutants --seed 1`.

mutmut (configured in pyproject.toml) makes the mutants in `mutants/` and runs, for each, the tests that call the
mutated function. A mutant is killed when a test fails, or runs several times as long as without it.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_MUTMUT = Path(sys.executable).with_name("mutmut")
# The first call makes all mutants and learns which tests call what. It has to run some: of a function that has two.
_A_FEW = "device.towers.macs.x__touch_buffers*"
_LAST_CHARACTERS = 4000
_KILLED = {"killed", "timeout", "segfault"}


def mutmut(*arguments: str) -> str:
    """What the command prints, its progress included."""
    alone = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # mutants run side by side
    done = subprocess.run([_MUTMUT, *arguments], cwd=ROOT, env=alone, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:  # mostly a test that fails without any mutant
        sys.exit(f"{done.stdout[-_LAST_CHARACTERS:]}\navdrift: mutmut {arguments[0]} has failed, see above")
    return done.stdout


def outcomes() -> dict[str, str]:
    """The outcome of each mutant by its name; "not checked" before it has run."""
    lines = (line.strip() for line in mutmut("results", "--all", "true").splitlines())
    return dict(line.rsplit(": ", 1) for line in lines if ": " in line)


def main() -> int:
    parser = argparse.ArgumentParser(description="Random mutants of the core, and how many the tests kill.")
    parser.add_argument("--draw", type=int, default=200, help="how many mutants (default: 200)")
    parser.add_argument("--seed", type=int, default=1, help="random seed for the draw (default: 1)")
    parser.add_argument("--show", action="store_true", help="print the change that each survivor makes")
    options = parser.parse_args()
    if not _MUTMUT.exists():
        print(f"avdrift: {_MUTMUT}: not there. Install it with: pip install 'mutmut>=3.8,<4'", file=sys.stderr)
        return 2
    mutmut("run", _A_FEW)
    names = sorted(outcomes())
    drawn = random.Random(options.seed).sample(names, min(options.draw, len(names)))
    mutmut("run", *drawn)  # those of functions that no test calls get the outcome "no tests"
    by_name = outcomes()
    alive = sorted(name for name in drawn if by_name[name] not in _KILLED)
    for name in alive:
        print(f"{by_name[name]}: {name}")
        if options.show:
            print(mutmut("show", name))
    by_package = Counter(name.split(".")[1] for name in drawn)
    alive_by_package = Counter(name.split(".")[1] for name in alive)
    for package, count in sorted(by_package.items()):
        print(f"device/{package}: {count - alive_by_package[package]} of {count} killed")
    print(f"{len(drawn) - len(alive)} of {len(drawn)} mutants killed ({1 - len(alive) / len(drawn):.0%})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
