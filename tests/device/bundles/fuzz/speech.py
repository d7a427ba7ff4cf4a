"""The encoders' inputs while the built-in sample is measured: `python -m tests.device.bundles.fuzz.speech FILE COUNT`.

A process of its own, for tests that fork: decoding starts threads. FILE becomes an .npz with `lips` and `audio`,
[n, …], about a second each.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np

from device.analysis.analyzer import Analyzer
from device.bundles.bundle import DEFAULT_BUNDLE, load_bundle
from device.capture.file import FileSource
from device.features.model_download import require_face_model
from device.litert import Floats, Model

SAMPLE = DEFAULT_BUNDLE.parent / "sample.mkv"


class Listening:
    """A model that remembers what it is given."""

    def __init__(self, model: Model) -> None:
        self._model, self.given = model, list[Floats]()
        self.input_shape, self.output_shapes = model.input_shape, model.output_shapes

    def __call__(self, values: Floats) -> list[Floats]:
        self.given.append(values.copy())
        return self._model(values)


def blocks_of(source: Path, count: int) -> dict[str, Floats]:
    """The first blocks that both towers are given, by the stems of their files."""
    bundle = load_bundle(DEFAULT_BUNDLE)
    models = {stem: Listening(model) for stem, model in bundle.models.items()}
    analyzer = Analyzer(dataclasses.replace(bundle, models=cast("dict[str, Model]", models)), require_face_model())
    with FileSource(source) as items:
        for item in items:
            for _ in analyzer.push(item):
                pass
            if min(len(model.given) for model in models.values()) >= count:
                break
    return {stem: np.stack(model.given[:count]) for stem, model in models.items()}


if __name__ == "__main__":
    found: dict[str, Any] = blocks_of(SAMPLE, int(sys.argv[2]))
    np.savez(sys.argv[1], **found)
