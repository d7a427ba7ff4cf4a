"""A simulated room has the decay and the level that were asked for, and moves nothing in time."""

from __future__ import annotations

import numpy as np
import pytest

from device.features.contract import AUDIO_RATE_HZ
from train.data.rooms import convolve, impulse_response


@pytest.mark.parametrize("level_db", [-12.0, 0.0, 12.0])
@pytest.mark.parametrize("decay_s", [0.1, 0.5, 2.0])
def test_reverberation_has_the_level_and_the_decay_asked_for(decay_s: float, level_db: float) -> None:
    for seed in range(5):
        response = impulse_response(np.random.default_rng(seed), decay_s, level_db).astype(np.float64)
        assert response[0] == 1.0 and len(response) == round(decay_s * AUDIO_RATE_HZ)
        energy = response[1:] ** 2
        assert 10 * np.log10(energy.sum()) == pytest.approx(level_db, abs=0.1)
        half = len(energy) // 2  # of the decay, so 30 dB below the start
        assert 10 * np.log10(energy[half:].sum() / energy.sum()) < -20


def test_the_direct_sound_stays_where_it_is() -> None:
    click = np.zeros(8000, np.float32)
    click[3000] = 1.0
    heard = convolve(click, impulse_response(np.random.default_rng(0), 0.5, 0.0))
    assert len(heard) == len(click)
    assert np.abs(heard[:3000]).max() < 1e-5 and heard[3000] == pytest.approx(1.0, abs=1e-5)
