"""The options of a training run on the command line: every field of FitConfig, checked before anything is loaded."""

from __future__ import annotations

import argparse
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

from device.errors import UsageError

if TYPE_CHECKING:
    from train.fit import FitConfig

# Lowest and highest value that makes sense; the defaults are those of FitConfig itself.
_RANGES: dict[str, tuple[float, float]] = {
    "epochs": (1, 10_000), "steps_per_epoch": (1, 1_000_000), "frames_per_batch": (60, 100_000),
    "learning_rate": (1e-8, 1), "weight_decay": (0, 1), "warmup_steps": (0, 1_000_000), "dropout": (0, 0.9),
    "short_share": (0, 1), "phone_steps": (0, 1_000_000), "phone_voices": (1, 100_000),
    "shape_steps": (0, 1_000_000), "shape_weight": (0, 100),
    "speed_share": (0, 1), "log_tract": (0, 0.5), "mask_share": (0, 1), "erase_share": (0, 1), "seed": (0, 2**31 - 1),
}  # fmt: skip


def add_fit_options(*parsers: argparse.ArgumentParser) -> None:
    """One option for each field. Raises UsageError without TensorFlow, which the defaults need."""
    require_tensorflow()
    from train.fit import FitConfig

    for parser in parsers:
        group = parser.add_argument_group("training")
        for field in fields(FitConfig):
            assert field.default is not MISSING
            names = ["--" + field.name.replace("_", "-"), *(["--steps"] if field.name == "steps_per_epoch" else [])]
            group.add_argument(
                *names, dest=field.name, type=type(field.default), default=field.default, metavar="N",
                help=f"default: {field.default}",
            )  # fmt: skip


def fit_config(options: argparse.Namespace) -> FitConfig:
    """The options as a FitConfig. Raises UsageError, naming every value that cannot be right."""
    from train.fit import FitConfig

    values: dict[str, Any] = {field.name: getattr(options, field.name) for field in fields(FitConfig)}
    wrong = [
        f"--{name.replace('_', '-')} is {values[name]:g}, allowed is {low:g} to {high:g}"
        for name, (low, high) in _RANGES.items()
        if name in values and not low <= values[name] <= high
    ]
    if not wrong and values["epochs"] * values["steps_per_epoch"] <= values["warmup_steps"]:
        wrong = [f"--warmup-steps is {values['warmup_steps']}, which is not less than all steps together"]
    if wrong:
        raise UsageError("; ".join(wrong), where="training", remedy="Correct these values")
    return FitConfig(**values)


def require_tensorflow() -> None:
    """Raises UsageError where TensorFlow is not installed."""
    try:
        import tensorflow  # noqa: F401
    except ImportError as error:
        remedy = "Install avdrift with what training needs: pip install 'avdrift[train]'"
        raise UsageError(f"TensorFlow cannot be imported ({error})", where="avdrift-train", remedy=remedy) from error
