"""Loads estimators from training runs and bundles, whatever kind of model is in them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from device.bundles.bundle import Bundle, load_bundle
from device.bundles.model_kinds import MEASURING
from device.errors import ModelCorruptError, ModelMissingError
from device.features.contract import AUDIO_TICKS_PER_LIP_TICK, FRONT_END
from train.comparison.estimators import EmbeddingEstimator, Floats
from train.models.encoders import Towers, bundle_towers, layer_macs
from train.models.load import direct_towers, load_direct, load_weights, towers_of_run

if TYPE_CHECKING:
    pass

_LIP_RATE_HZ, _AUDIO_RATE_HZ = 25, 100
_BEGINNINGS = {"scratch": "scratch", "pretraining": "shapes and phonemes", "bundle": "the two-tower model"}
_SEARCHED = 201  # candidates that the cost refers to: 1 s to either side


def estimator_of_bundle(folder: Path) -> EmbeddingEstimator:
    """A bundle of a two-tower model or of the direct network. Raises ModelError."""
    bundle = load_bundle(folder, MEASURING)
    return EmbeddingEstimator(
        bundle.label, bundle_macs_per_s(bundle), bundle_towers(bundle), bundle.calibration.temperature
    )


def bundle_macs_per_s(bundle: Bundle) -> float:
    """Multiply-accumulates of all models per second, as counted when the bundle was built."""
    rates_hz = {"lips": _LIP_RATE_HZ, "audio": _AUDIO_RATE_HZ, "head": _LIP_RATE_HZ}
    models = bundle.manifest["contract"]["towers"]
    return float(sum(rates_hz[key] * each["macs"] / each["output"]["shape"][1] for key, each in models.items()))


def estimator_of_run(run: Path) -> EmbeddingEstimator:
    """The output folder of `avdrift-train fit`. Raises ModelError."""
    path = run / "config.json"
    if not path.is_file():
        raise ModelMissingError("not a training run", where=str(path), remedy="Give the folder that fit wrote")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        kind = config.pop("model", "towers")
        makers = {"syncnet": _syncnet, "direct": _direct}
        if kind in makers:
            return makers[kind](run, config)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        remedy = "Train again with this version of avdrift"
        raise ModelCorruptError(f"not a run of this version ({error})", where=str(run), remedy=remedy) from error
    towers, calibration, name = towers_of_run(run)
    return EmbeddingEstimator(name, None, towers, calibration.temperature)


def syncnet_name(config: Mapping[str, Any]) -> str:
    """The name of a SyncNet run in a report, by its configuration."""
    share = f", {config['data_share']:.0%}" if config["data_share"] < 1 else ""
    start = ", from an earlier run" if config.get("start") else ""
    return f"SyncNet, {config['loss']}{start}, {config['input_px']} px{share}"


def _syncnet(run: Path, config: dict[str, Any]) -> EmbeddingEstimator:
    from train.models.syncnet import SyncNetConfig, build_syncnet, distance_evidence

    made = SyncNetConfig(**config)
    net = load_weights(run, lambda: build_syncnet(made))

    def lips(crops: Floats) -> Floats:
        return _in_pieces(partial(net.embed_lips, training=False), crops, FRONT_END.lip_window_ticks, 32)

    def audio(rows: Floats) -> Floats:
        """Embedded every 40 ms, as published, and interpolated in between."""
        step = AUDIO_TICKS_PER_LIP_TICK
        found = np.asarray(net.embed_audio(rows[None], training=False))[0]
        count = max(len(rows) - FRONT_END.audio_window_ticks + 1, 0)
        at = np.minimum(np.arange(count) / step, len(found) - 1)
        low = np.minimum(at.astype(np.int64), max(len(found) - 2, 0))
        part = (at - low)[:, None].astype(np.float32)
        return np.asarray(found[low] * (1 - part) + found[np.minimum(low + 1, len(found) - 1)] * part, np.float32)

    score = partial(distance_evidence, normalized=False, scale=1.0)
    macs = _LIP_RATE_HZ * (layer_macs(net.lips) + layer_macs(net.audio))
    return EmbeddingEstimator(syncnet_name(config), macs, Towers(lips, audio, 1.0, score))


def _direct(run: Path, config: dict[str, Any]) -> EmbeddingEstimator:
    from train.models.towers import EMBEDDING_SIZE

    net = load_direct(run)
    macs = _LIP_RATE_HZ * (
        layer_macs(net.lips.frames) + layer_macs(net.lips.windows) + _SEARCHED * (layer_macs(net.head) + EMBEDDING_SIZE)
    ) + _AUDIO_RATE_HZ * (layer_macs(net.audio.spectrum) + layer_macs(net.audio.windows))
    name = f"direct, correlation, from {_BEGINNINGS[config.get('start', 'bundle')]}"
    return EmbeddingEstimator(name, macs, direct_towers(net), temperature=1.0)


def _in_pieces(encode: Any, values: Floats, window: int, piece: int) -> Floats:
    """An encoder applied to a long clip piece by piece, to save memory."""
    count = len(values) - window + 1
    parts = [
        np.asarray(encode(values[None, start : min(start + piece, count) + window - 1]))[0]
        for start in range(0, count, piece)
    ]
    return np.concatenate(parts) if parts else np.empty((0, 1), np.float32)
