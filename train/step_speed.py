"""How long a batch of the default training takes, with TensorFlow's oneDNN and without: `python -m train.step_speed`.

TensorFlow uses oneDNN by itself only where the processor has AVX-512 VNNI; `train.cli` asks for it everywhere.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import numpy as np

from device.features.contract import AUDIO_TICKS_PER_LIP_TICK, FRONT_END

_STEPS = 20
_SWITCH = "TF_ENABLE_ONEDNN_OPTS"


def seconds_a_batch(steps: int = _STEPS) -> float:
    """Of training on noise, as it is done with clips, in this process."""
    import keras

    from train.data import AUDIO_REACH, LIP_REACH
    from train.distribute import Workers
    from train.fit import LONG_TICKS, build_pair
    from train.fit_config import FitConfig
    from train.landmarks import LIP_POINTS

    config, random = FitConfig(), np.random.default_rng(0)
    pair = build_pair(config.dropout, config.shape_weight)
    pair.compile(optimizer=keras.optimizers.AdamW(config.learning_rate, clipnorm=1.0))
    size, windows = config.frames_per_batch // LONG_TICKS, LONG_TICKS - 2 * LIP_REACH
    sounds = AUDIO_TICKS_PER_LIP_TICK * (windows - 1) + 1

    def noise(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return random.standard_normal((size, *shape), np.float32)

    x = {
        "crops": noise(LONG_TICKS, FRONT_END.crop_px, FRONT_END.crop_px),
        "rows": noise(sounds + 2 * AUDIO_REACH, FRONT_END.mel_bands),
    }
    y = {
        "first_match": np.zeros(size, np.float32), "lip_weight": np.ones((size, windows), np.float32),
        "audio_valid": np.ones((size, sounds), np.float32), "lip_points": noise(LONG_TICKS - 2, 4 * LIP_POINTS),
    }  # fmt: skip
    step = Workers().step(pair)
    step([(x, y)])  # builds the graph
    began = time.perf_counter()
    for _ in range(steps):
        step([(x, y)])
    return (time.perf_counter() - began) / steps


def main() -> int:
    if len(sys.argv) > 1:  # the child
        print(json.dumps(seconds_a_batch()))
        return 0
    found = {}
    for switch, name in (("0", "without_s"), ("1", "with_s")):
        command, around = [sys.executable, "-m", __spec__.name, "child"], os.environ | {_SWITCH: switch}
        done = subprocess.run(command, env=around, stdout=subprocess.PIPE, text=True, check=True)
        found[name] = float(json.loads(done.stdout.splitlines()[-1]))
    print(json.dumps(found | {"times_faster": found["without_s"] / found["with_s"]}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
