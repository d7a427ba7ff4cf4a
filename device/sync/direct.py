"""The direct network on the device: evidence for each candidate offset from small features and a network over lags.

Conventions as in device/sync/curve.py: candidates ascend from -search to +search audio ticks of 10 ms, evidence is in
nats, and missing audio counts 0. The bundle's `lips` and `audio` models make the features; `head` turns their products
at all lags into evidence.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np

from device.bundles.bundle import Bundle
from device.bundles.model_kinds import DIRECT
from device.features.contract import AUDIO_TICKS_PER_LIP_TICK
from device.litert import Model
from device.sync.curve import Flags, Floats, relative, unit
from device.sync.evidence_stream import Score

GROUPS: Final = 4  # groups of features that are multiplied together

Head = Callable[[Floats], Floats]  # [ticks, lags, GROUPS] to [ticks, lags]


def score_of(bundle: Bundle) -> Score | None:
    """How a bundle turns embeddings into evidence; None where it uses their cosine."""
    if bundle.kind.name != DIRECT.name:
        return None
    return partial(direct_evidence, head=_in_blocks(bundle.models["head"]))


def _in_blocks(model: Model) -> Head:
    """Apply a head of fixed input length to any number of ticks, each with as many lags as it takes."""

    def head(image: Floats) -> Floats:
        ticks, lags = model.input_shape[1], image.shape[1]
        if model.input_shape[2] != lags:
            model.resize((1, ticks, lags, image.shape[2]))
        padded = np.zeros((-(-len(image) // ticks) * ticks, *image.shape[1:]), np.float32)
        padded[: len(image)] = image
        rows = [model(padded[None, start : start + ticks])[0][0, ..., 0] for start in range(0, len(padded), ticks)]
        return np.concatenate(rows)[: len(image)]

    return head


def direct_evidence(
    lips: Floats, lips_valid: Flags, lips_first: int, audio: Floats, audio_valid: Flags, audio_first: int,
    search_ticks: int, head: Head,
) -> Floats:  # fmt: skip
    """Return evidence rows [lip ticks, 2 * search_ticks + 1]; arguments as in `device.sync.curve.evidence`."""
    size = 2 * search_ticks + 1
    if not len(lips) or not len(audio):
        return np.zeros((len(lips), size), np.float32)
    of_lips, of_audio = _grouped(lips), _grouped(audio)  # [ticks, groups, features]
    # [lip ticks, audio ticks, groups], by matrix products: an einsum over three indices is ten times slower
    products = np.matmul(of_lips.transpose(1, 0, 2), of_audio.transpose(1, 2, 0)).transpose(1, 2, 0)
    centre = (lips_first + np.arange(len(lips))) * AUDIO_TICKS_PER_LIP_TICK - audio_first
    column = centre[:, None] + search_ticks - np.arange(size)[None, :]
    inside = np.clip(column, 0, len(audio) - 1)
    heard = (column == inside) & audio_valid[inside] & lips_valid[:, None]
    image = np.where(heard[..., None], np.take_along_axis(products, inside[..., None], axis=1), 0)
    rows = head(np.asarray(image, np.float32))
    return relative(rows, heard)


def _grouped(vectors: Floats) -> Floats:
    return unit(vectors.reshape(len(vectors), GROUPS, -1))
