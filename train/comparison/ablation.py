"""`avdrift-train ablate SHARDS…`: the concatenation baseline with each of six improvements, one at a time.

Then, one change at a time, from that network to the form that works.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from train.data.shards import Clip
from train.fit.direct import fit_direct
from train.fit.direct_batches import with_faces
from train.fit.loop import resumes
from train.models.direct import DirectConfig

_ORIGIN = DirectConfig(form="linear", picture="face", epochs=1, learning_rate=1e-3)
_ALL = replace(_ORIGIN, picture="mouth", differences=True, window_ticks=50, conv_layers=4, dense_layers=4)
_FITS = DirectConfig(form="correlation", start="scratch", epochs=1)
VARIANTS: dict[str, DirectConfig] = {
    "as the origin began: whole face, 1 s": _ORIGIN,
    "mouth crop": replace(_ORIGIN, picture="mouth"),
    "frame differences": replace(_ORIGIN, differences=True),
    "window of 2 s": replace(_ORIGIN, window_ticks=50),
    "one more convolution, two more dense layers": replace(_ORIGIN, conv_layers=4, dense_layers=4),
    "a single training video": replace(_ORIGIN, clips=1),
    "offsets of at most 3 frames": replace(_ORIGIN, max_offset=3),
    "all but the last two together": _ALL,
    "the same, softmax over the offsets instead of one neuron": replace(_ALL, form="bins"),
    "products at all lags instead of concatenation: the form that fits, from scratch": _FITS,
    "the same, branches learn shapes and phonemes first": replace(_FITS, start="pretraining"),
    "the same, branches begin as the two-tower model": replace(_FITS, start="bundle"),
}


def ablate(
    clips: Sequence[Clip], validation: Sequence[Clip], shards: Sequence[Path], out: Path, *, steps: int, stretches: int
) -> dict[str, dict[str, float]]:
    """Train and evaluate every variant, each in a run folder below `out`, which a later call resumes."""
    faces = with_faces(clips, shards), with_faces(validation, shards)
    found = {}
    for number, (name, variant) in enumerate(VARIANTS.items()):
        config = replace(
            variant, steps_per_epoch=steps, stretches=stretches, shape_steps=steps, phone_steps=steps
        )  # fmt: skip
        train, valid = faces if config.picture == "face" else (list(clips), list(validation))
        run = out / f"{number}"
        if not resumes(run):
            fit_direct(list(train), list(valid), run, config)
        found[name] = json.loads((run / "log.jsonl").read_text(encoding="utf-8").splitlines()[-1])
        (out / "ablation.md").write_text(as_markdown(found), encoding="utf-8")
    return found


def as_markdown(found: Mapping[str, Mapping[str, float]]) -> str:
    """A table: mean absolute errors in frames beside that of always answering 0, and std(answer) / std(truth)."""
    lines = [
        "| what | MAE, trained on | MAE, new speakers | always 0 | std ratio, trained on | std ratio, new speakers |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, row in found.items():
        keys = ("train_mae_frames", "valid_mae_frames", "valid_zero_mae_frames", "train_std_ratio", "valid_std_ratio")
        lines.append(f"| {name} | " + " | ".join(f"{row[key]:.2f}" if key in row else "-" for key in keys) + " |")
    return "\n".join(lines) + "\n"
