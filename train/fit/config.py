"""The configuration of a training run of the two-tower model: one dataclass; for its ranges see `train.fit.options`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

Number = TypeVar("Number", int, float)


def _setting(default: Number, about: str) -> Number:
    return field(default=default, metadata={"about": about})


@dataclass(frozen=True, slots=True)
class FitConfig:
    """Everything that determines a training run; saved beside its checkpoints."""

    epochs: int = _setting(40, "Passes, each of steps_per_epoch batches. A checkpoint is written after each.")
    steps_per_epoch: int = _setting(100, "Batches in a pass.")
    frames_per_batch: int = _setting(960, "Pictures in a batch.")
    learning_rate: float = _setting(1.5e-3, "Highest rate, reached after warmup_steps.")
    weight_decay: float = _setting(0.02, "Of AdamW.")
    warmup_steps: int = _setting(200, "Batches until the rate is at its highest; less than all batches together.")
    dropout: float = _setting(0.15, "Share of both towers' features that is left out in each batch.")
    short_share: float = _setting(0.35, "Share of batches of short stretches, which word-long clips can fill.")
    phone_steps: int = _setting(0, "Batches that pretrain the audio encoder: to name sounds of synthetic voices.")
    phone_voices: int = _setting(200, "Talks for that pretraining, each by a voice of its own.")
    shape_steps: int = _setting(400, "Batches that pretrain the lip encoder: to find the shape of the lips.")
    shape_weight: float = _setting(1.0, "How much the shape of lips counts later on, beside matching.")
    speed_share: float = _setting(0.5, "Share of stretches that are played faster or slower.")
    log_tract: float = _setting(0.12, "Largest change of the length of vocal tracts, as a logarithm.")
    mask_share: float = _setting(0.5, "Share of stretches in which parts of the sound's spectrum are blanked.")
    erase_share: float = _setting(0.2, "Share of stretches in which a part of the picture is blanked.")
    teacher_share: float = _setting(0.7, "Weight of the distillation loss against the loss of the clips' own truth.")
    seed: int = _setting(1, "Of weights, batches and augmentation.")
