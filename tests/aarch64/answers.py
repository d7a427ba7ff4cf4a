"""What models answer here, to be compared with what they answer on another processor.

`python -m tests.aarch64.answers write FILE BUNDLE…` keeps the answers to golden vectors and to noise; `compare FILE
BUNDLE…` says how far those here are from them, as one JSON object a model. int8 answers must be the same to the last
bit, float32 ones but for rounding, and XNNPACK must have run all of it: the exit code is 1 where that is not so.

XNNPACK's int8 kernels give the same answers on every processor. LiteRT's own, which it falls back to where XNNPACK
cannot start (as without a /sys to tell of the processor), round otherwise: in some 20 % of an answer's values by one
step, or two.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np

from convert.delegate import left_over
from device.bundles.bundle import load_bundle
from device.bundles.golden import GOLDEN
from device.litert import Floats, Model

_NOISES = 10
_ROUNDING = 1e-5  # of float32, against the largest value


def answers(model: Model, golden: Floats) -> Floats:
    """To its golden vector and to noise of several levels, [n, …].

    Out of integers: normal noise depends on a processor's mathematical library.
    """
    dice = np.random.default_rng(0)
    noise = [np.asarray(dice.integers(-128, 128, model.input_shape) / 2 ** (6 + k), np.float32) for k in range(_NOISES)]
    return np.stack([model(given)[0] for given in (golden, *noise)])


def all_answers(bundles: list[Path]) -> dict[str, tuple[Floats, bool, bool]]:
    """By `bundle/model`; whether they are integers in truth, and whether XNNPACK made them."""
    found = {}
    for folder in bundles:
        bundle = load_bundle(folder)
        with np.load(folder / GOLDEN) as golden:
            for stem, model in bundle.models.items():
                integers = bool(bundle.manifest["contract"]["towers"][stem]["output"]["scale"])
                taken = left_over((folder / f"{stem}.tflite").read_bytes()) == []
                found[f"{folder.name}/{stem}"] = answers(model, golden[f"{stem}_in"]), integers, taken
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Are a model's answers the same on another processor?")
    parser.add_argument("what", choices=("write", "compare"))
    parser.add_argument("file", type=Path)
    parser.add_argument("bundles", type=Path, nargs="+")
    options = parser.parse_args()
    here = all_answers(options.bundles)
    if options.what == "write":
        arrays: dict[str, Any] = {name: values for name, (values, _, _) in here.items()}
        np.savez(options.file, **arrays)
        return 0
    right = True
    with np.load(options.file) as there:
        for name, (values, integers, taken) in here.items():
            apart, others = float(np.abs(values - there[name]).max()), int((values != there[name]).sum())
            allowed = 0.0 if integers else _ROUNDING * float(np.abs(there[name]).max())
            right &= apart <= allowed and taken
            said = {"model": name, "xnnpack": taken, "values": values.size, "others": others, "apart": apart}
            print(json.dumps(said | {"machine": platform.machine(), "python": platform.python_version()}))
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
