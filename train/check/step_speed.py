"""Times a batch of the default training, with oneDNN and without: `python -m train.check.step_speed`.

By itself, TensorFlow uses oneDNN only if the processor has AVX-512 VNNI; `train.cli` enables it everywhere.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import numpy as np

from device.features.contract import AUDIO_RATE_HZ, AUDIO_TICKS_PER_LIP_TICK, FRONT_END, LIP_TICK_NS
from device.records import NS_PER_S
from train.data.augment import MARGIN_PX
from train.data.batches import Batches
from train.data.landmarks import LIP_POINTS
from train.data.shards import Clip

_STEPS = 20
_SWITCH = "TF_ENABLE_ONEDNN_OPTS"


def seconds_a_batch(steps: int = _STEPS) -> float:
    """Seconds per batch of training on noise, as with clips, in this process."""
    import keras

    from train.fit.config import FitConfig
    from train.fit.strategies import Workers
    from train.models.towers import LONG_TICKS, build_model

    config = FitConfig()
    model = build_model(config.dropout, config.shape_weight)
    model.compile(optimizer=keras.optimizers.AdamW(config.learning_rate, clipnorm=1.0))
    batches = Batches([_noise(LONG_TICKS)], lip_ticks=LONG_TICKS, batch_size=config.frames_per_batch // LONG_TICKS,
                      seed=config.seed, augmentation=None)  # fmt: skip
    batch = next(iter(batches))
    step = Workers().step(model)
    step([batch])  # builds the graph
    began = time.perf_counter()
    for _ in range(steps):
        step([batch])
    return (time.perf_counter() - began) / steps


def _noise(lip_ticks: int) -> Clip:
    """A clip of noise that counts as valid speech throughout."""
    random, side = np.random.default_rng(0), FRONT_END.crop_px + 2 * MARGIN_PX
    count = lip_ticks * LIP_TICK_NS * AUDIO_RATE_HZ // NS_PER_S
    return Clip(
        name="noise", speaker="nobody", split="train", corpus="noise",
        crops=random.integers(0, 256, (lip_ticks, side, side), np.uint8), valid=np.ones(lip_ticks, np.bool_),
        first_lip_tick=0, samples=random.integers(-9999, 9999, count, np.int16), samples_t_ns=0,
        speech=np.ones(lip_ticks * AUDIO_TICKS_PER_LIP_TICK, np.bool_), speech_first_tick=0,
        lip_points=random.uniform(0, FRONT_END.crop_px, (lip_ticks, LIP_POINTS, 2)).astype(np.float32),
    )  # fmt: skip


def main() -> int:
    if len(sys.argv) > 1:  # the child process, with the number of batches
        print(json.dumps(seconds_a_batch(int(sys.argv[1]))))
        return 0
    found = {}
    for switch, name in (("0", "without_s"), ("1", "with_s")):
        command, around = [sys.executable, "-m", __spec__.name, str(_STEPS)], os.environ | {_SWITCH: switch}
        done = subprocess.run(command, env=around, stdout=subprocess.PIPE, text=True, check=True)
        found[name] = float(json.loads(done.stdout.splitlines()[-1]))
    print(json.dumps(found | {"times_faster": found["without_s"] / found["with_s"]}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
