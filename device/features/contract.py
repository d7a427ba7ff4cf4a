"""The input contract of the encoders: every number that training, conversion and the device must share.

The contract is stored in the bundle's manifest; a bundle with another contract is refused.
Lip ticks (40 ms) and audio ticks (10 ms) count from time 0 of the common clock, so lip tick i is audio tick 4 i.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from device.records import NS_PER_MS

AUDIO_RATE_HZ = 16_000
AUDIO_TICK_NS = 10 * NS_PER_MS
LIP_TICK_NS = 40 * NS_PER_MS
AUDIO_TICKS_PER_LIP_TICK = LIP_TICK_NS // AUDIO_TICK_NS


@dataclass(frozen=True, slots=True)
class FrontEnd:
    """The parameters of the front end; the field names are the keys of the manifest's `contract.front_end`."""

    audio_rate_hz: int = AUDIO_RATE_HZ
    audio_tick_ms: int = AUDIO_TICK_NS // NS_PER_MS
    stft_window_samples: int = 400
    stft_size: int = 512
    mel_bands: int = 40
    mel_low_hz: float = 60.0
    mel_high_hz: float = 7600.0
    mel_floor: float = 1e-7  # added to the mel energy of full scale 1.0: about -70 dB
    level_time_constant_s: float = 2.0  # of the running mean that is subtracted from each band
    level_prior_s: float = 0.5  # weight of the prior mean at the start of a stream
    level_prior_log: float = -9.0  # the prior mean: the log energy of speech at a usual level
    level_scale: float = 0.25  # the encoder sees the log energy above the running mean, times this
    audio_window_ticks: int = 33  # 0.32 s from the middle of the first tick's window to that of the last

    lip_tick_ms: int = LIP_TICK_NS // NS_PER_MS
    lip_window_ticks: int = 5
    crop_px: int = 64
    crop_side_per_eye_mouth: float = 1.5
    crop_color: str = "gray"
    crop_contrast_floor: float = 8.0  # grey levels; keeps a flat crop from being amplified into noise
    lip_max_frame_gap_ms: int = 120  # no interpolation between two frames further apart than this

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


FRONT_END = FrontEnd()
