"""What models answer here, to be compared with what they answer on another processor.

`python -m tests.aarch64.answers write FILE BUNDLE…` keeps the answers to golden vectors and to noise; `compare FILE
BUNDLE…` says how far those here are from them, as one JSON object a model. int8 must be the same to the last bit: the
exit code is 1 where it is not, or where anything differs by more than rounding.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path

import numpy as np

from device.towers.bundle import GOLDEN, load_bundle
from device.towers.litert import Floats, Model

_NOISES = 10
_ROUNDING = 1e-5  # of float32, against the largest value


def answers(model: Model, golden: Floats) -> Floats:
    """To its golden vector and to noise of several levels, [n, …]."""
    dice = np.random.default_rng(0)
    noise = [dice.standard_normal(model.input_shape, np.float32) * np.float32(2.0**-k) for k in range(_NOISES)]
    return np.stack([model(given)[0] for given in (golden, *noise)])


def all_answers(bundles: list[Path]) -> dict[str, tuple[Floats, bool]]:
    """By `bundle/model`; and whether the model answers in integers, which are given as real numbers here."""
    found = {}
    for folder in bundles:
        bundle = load_bundle(folder)
        with np.load(folder / GOLDEN) as golden:
            for stem, model in bundle.models.items():
                whole = bundle.manifest["contract"]["towers"][stem]["output"]["dtype"] == "int8"
                found[f"{folder.name}/{stem}"] = answers(model, golden[f"{stem}_in"]), whole
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Are a model's answers the same on another processor?")
    parser.add_argument("what", choices=("write", "compare"))
    parser.add_argument("file", type=Path)
    parser.add_argument("bundles", type=Path, nargs="+")
    options = parser.parse_args()
    here = all_answers(options.bundles)
    if options.what == "write":
        np.savez(options.file, **{name: values for name, (values, _) in here.items()})
        return 0
    right = True
    with np.load(options.file) as there:
        for name, (values, whole) in here.items():
            apart = float(np.abs(values - there[name]).max())
            allowed = 0.0 if whole else _ROUNDING * float(np.abs(there[name]).max())
            right &= apart <= allowed
            said = {"model": name, "integers": whole, "values": values.size, "largest_difference": apart}
            print(json.dumps(said | {"machine": platform.machine(), "python": platform.python_version()}))
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
