"""The configurations of training runs of the two-tower model; for their ranges see `train.fit.options`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

Number = TypeVar("Number", int, float)


def setting(default: Number, about: str) -> Number:
    """A field with a default and a description."""
    return field(default=default, metadata={"about": about})


@dataclass(frozen=True, slots=True)
class FitConfig:
    """Everything that determines a training run; saved beside its checkpoints."""

    epochs: int = setting(40, "Epochs, each of steps_per_epoch batches. A checkpoint is written after each.")
    steps_per_epoch: int = setting(100, "Batches in an epoch.")
    frames_per_batch: int = setting(960, "Frames in a batch.")
    learning_rate: float = setting(1.5e-3, "Peak learning rate, reached after warmup_steps.")
    weight_decay: float = setting(0.02, "Of AdamW.")
    warmup_steps: int = setting(200, "Batches until the learning rate peaks; fewer than all batches.")
    dropout: float = setting(0.15, "Dropout rate of both encoders' features.")
    short_share: float = setting(0.35, "Share of batches of short segments, for clips as short as a word.")
    phone_steps: int = setting(0, "Batches that pretrain the audio encoder: to classify phonemes of synthetic voices.")
    phone_voices: int = setting(200, "Synthetic utterances for that pretraining, each with its own voice.")
    shape_steps: int = setting(400, "Batches that pretrain the lip encoder: to find the shape of the lips.")
    shape_weight: float = setting(1.0, "Weight of the lip-shape loss in the later training.")
    speed_share: float = setting(0.5, "Share of segments that are played faster or slower.")
    log_tract: float = setting(0.12, "Largest change of the length of vocal tracts, as a logarithm.")
    mask_share: float = setting(0.5, "Share of segments in which parts of the spectrum are masked.")
    erase_share: float = setting(0.2, "Share of segments in which a part of the frame is masked.")
    teacher_share: float = setting(0.7, "Weight of the distillation loss relative to the loss of the true offsets.")
    seed: int = setting(1, "Random seed of weights, batches and augmentation.")


@dataclass(frozen=True, slots=True)
class RoomConfig:
    """Everything that determines a training of the audio encoder on rooms; saved beside its checkpoints."""

    epochs: int = setting(24, "Epochs, each of steps_per_epoch batches. A checkpoint is written after each.")
    steps_per_epoch: int = setting(100, "Batches in an epoch.")
    stretches: int = setting(20, "Stretches of audio in a batch, of 2.7 s each.")
    learning_rate: float = setting(1e-3, "Peak learning rate, reached after warmup_steps.")
    weight_decay: float = setting(0.02, "Of AdamW.")
    warmup_steps: int = setting(50, "Batches until the learning rate peaks; fewer than all batches.")
    reverb_share: float = setting(0.7, "Share of stretches in a simulated room.")
    reverb_db: float = setting(12.0, "Highest level of the reverberation relative to the direct sound.")
    learnt_share: float = setting(0.75, "Share of the learnt weights in the result; the rest are those of the start.")
    seed: int = setting(1, "Random seed of rooms, batches and augmentation.")
