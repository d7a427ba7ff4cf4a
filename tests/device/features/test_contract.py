"""The contract's numbers agree with each other and with the documented windows of the encoders."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields

import pytest

from device.features import contract
from device.features.contract import FRONT_END, FrontEnd


def test_the_two_grids_share_their_zero_and_nest() -> None:
    assert contract.LIP_TICK_NS == 40_000_000 and contract.AUDIO_TICK_NS == 10_000_000
    assert contract.AUDIO_TICKS_PER_LIP_TICK * contract.AUDIO_TICK_NS == contract.LIP_TICK_NS
    assert (FRONT_END.audio_tick_ms, FRONT_END.lip_tick_ms) == (10, 40)


def test_lips_see_a_fifth_of_a_second_and_sound_a_third() -> None:
    assert FRONT_END.lip_window_ticks * FRONT_END.lip_tick_ms == 200
    assert (FRONT_END.audio_window_ticks - 1) * FRONT_END.audio_tick_ms == 320  # its own context costs no waiting


def test_windows_have_a_middle_tick() -> None:
    assert FRONT_END.lip_window_ticks % 2 == 1 and FRONT_END.audio_window_ticks % 2 == 1
    assert FRONT_END.stft_window_samples % 2 == 0, "the window's middle is a sample"


def test_the_spectrum_holds_the_window_and_the_bands() -> None:
    assert FRONT_END.stft_size >= FRONT_END.stft_window_samples
    assert 0 < FRONT_END.mel_low_hz < FRONT_END.mel_high_hz < FRONT_END.audio_rate_hz / 2
    assert FRONT_END.audio_rate_hz * FRONT_END.audio_tick_ms % 1000 == 0, "a tick is a whole number of samples"


def test_the_manifest_carries_every_number_and_gets_it_back() -> None:
    told = json.loads(json.dumps(FRONT_END.to_dict()))
    assert told == FRONT_END.to_dict() and set(told) == {field.name for field in fields(FrontEnd)}
    assert FrontEnd(**told) == FRONT_END


def test_the_contract_cannot_be_changed_in_passing() -> None:
    with pytest.raises(FrozenInstanceError):
        FRONT_END.mel_bands = 80  # type: ignore[misc]
