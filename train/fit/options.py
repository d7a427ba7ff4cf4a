"""The command line options of a training run: every field of its configuration, checked before loading."""

from __future__ import annotations

import argparse
from dataclasses import MISSING, fields
from typing import Any, TypeVar

from device.errors import UsageError
from train.models.backend import require_keras
from train.models.kinds import KINDS, named

Config = TypeVar("Config", bound=Any)

# Lowest and highest sensible value; the defaults are those of the configuration itself.
RANGES: dict[str, tuple[float, float]] = {
    "epochs": (1, 10_000), "steps_per_epoch": (1, 1_000_000), "frames_per_batch": (60, 100_000),
    "learning_rate": (0, 1), "weight_decay": (0, 1), "warmup_steps": (0, 1_000_000), "dropout": (0, 0.9),
    "short_share": (0, 1), "phone_steps": (0, 1_000_000), "phone_voices": (1, 100_000),
    "shape_steps": (0, 1_000_000), "shape_weight": (0, 100),
    "speed_share": (0, 1), "log_tract": (0, 0.5), "mask_share": (0, 1), "erase_share": (0, 1),
    "teacher_share": (0, 1), "seed": (0, 2**31 - 1),
    "stretches": (1, 1000), "lip_ticks": (8, 1000), "margin": (1e-3, 1e3), "input_px": (48, 512),
    "data_share": (1e-3, 1),
    "window_ticks": (8, 250), "max_offset": (1, 25), "conv_layers": (1, 5), "dense_layers": (0, 5),
    "clips": (0, 1_000_000), "none_share": (0, 0.5), "reverb_share": (0, 1), "reverb_db": (-12, 20),
    "learnt_share": (0, 1),
}  # fmt: skip


def config_class(model: str) -> type[Any]:
    """The dataclass that configures the training of a kind of model."""
    found: type[Any] = named(KINDS[model].config)
    return found


def add_fit_options(*parsers: argparse.ArgumentParser, model: str = "towers") -> None:
    """Add the options of the training of a kind of model. Raises UsageError without Keras, which the defaults need."""
    require_keras()
    add_options_of(config_class(model), *parsers)


def add_options_of(config: type[Any], *parsers: argparse.ArgumentParser) -> None:
    """Add one option per field of a configuration."""
    for parser in parsers:
        group = parser.add_argument_group("training")
        for field in fields(config):
            if not field.init:
                continue
            assert field.default is not MISSING
            names = ["--" + field.name.replace("_", "-"), *(["--steps"] if field.name == "steps_per_epoch" else [])]
            kind: dict[str, Any] = {"type": type(field.default), "metavar": "N"}
            if "choices" in field.metadata:
                kind = {"choices": field.metadata["choices"]}
            elif isinstance(field.default, bool):
                kind = {"action": argparse.BooleanOptionalAction}
            help_ = f"default: {field.default}"
            group.add_argument(*names, dest=field.name, default=field.default, help=help_, **kind)


def fit_config(options: argparse.Namespace, model: str = "towers") -> Any:
    """The options as the model's configuration. Raises UsageError naming every invalid value."""
    return config_of(options, config_class(model))


def config_of(options: argparse.Namespace, config: type[Config]) -> Config:
    """The options as a configuration. Raises UsageError naming every invalid value."""
    values: dict[str, Any] = {field.name: getattr(options, field.name) for field in fields(config) if field.init}
    wrong = [
        f"--{name.replace('_', '-')} is {values[name]:g}, allowed is {low:g} to {high:g}"
        for name, (low, high) in RANGES.items()
        if name in values and not low <= values[name] <= high
    ]
    if not wrong and values["epochs"] * values["steps_per_epoch"] <= values.get("warmup_steps", 0):
        wrong = [f"--warmup-steps is {values['warmup_steps']}, which is not less than all steps together"]
    if wrong:
        raise UsageError("; ".join(wrong), where="training", remedy="Correct these values")
    return config(**values)
