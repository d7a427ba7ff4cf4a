"""What models answer here, to be compared with what they answer on another processor.

`python -m tests.aarch64.answers write FILE BUNDLE…` keeps the answers to golden vectors and to noise; `compare FILE
BUNDLE…` says how far those here are from them, as one JSON object a model. int8 answers to golden vectors must be the
same to the last bit, and those to noise within one step: XNNPACK's kernels for different processors round some ties
differently. The exit code is 1 where they are not, or where float32 differs by more than rounding.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np

from device.towers.bundle import GOLDEN, load_bundle
from device.towers.litert import Floats, Model

_NOISES = 10
_ROUNDING = 1e-5  # of float32, against the largest value


def answers(model: Model, golden: Floats) -> Floats:
    """To its golden vector and to noise of several levels, [n, …].

    Out of integers: normal noise depends on a processor's mathematical library.
    """
    dice = np.random.default_rng(0)
    noise = [np.asarray(dice.integers(-128, 128, model.input_shape) / 2 ** (6 + k), np.float32) for k in range(_NOISES)]
    return np.stack([model(given)[0] for given in (golden, *noise)])


def all_answers(bundles: list[Path]) -> dict[str, tuple[Floats, float]]:
    """By `bundle/model`; and one step of its integers, which are given as real numbers here, 0 where it has none."""
    found = {}
    for folder in bundles:
        bundle = load_bundle(folder)
        with np.load(folder / GOLDEN) as golden:
            for stem, model in bundle.models.items():
                step = float(bundle.manifest["contract"]["towers"][stem]["output"]["scale"])
                found[f"{folder.name}/{stem}"] = answers(model, golden[f"{stem}_in"]), step
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Are a model's answers the same on another processor?")
    parser.add_argument("what", choices=("write", "compare"))
    parser.add_argument("file", type=Path)
    parser.add_argument("bundles", type=Path, nargs="+")
    options = parser.parse_args()
    here = all_answers(options.bundles)
    if options.what == "write":
        arrays: dict[str, Any] = {name: values for name, (values, _) in here.items()}
        np.savez(options.file, **arrays)
        return 0
    right = True
    with np.load(options.file) as there:
        for name, (values, step) in here.items():
            apart = float(np.abs(values - there[name]).max())
            others, golden = int((values != there[name]).sum()), int((values[0] != there[name][0]).sum())
            allowed = 1.001 * step or _ROUNDING * float(np.abs(there[name]).max())
            right &= apart <= allowed and not (step and golden)
            said = {"model": name, "step": step, "golden_others": golden, "values": values.size, "others": others}
            print(json.dumps(said | {"apart": apart} | {"machine": platform.machine(), "python": platform.python_version()}))
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
