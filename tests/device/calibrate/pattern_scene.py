"""A simulated camera and microphone in front of a screen with the pattern: exposures, rooms, noise, delays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from device.calibrate.pattern import FLASH_S, Doubles, Flash, beep, event_times_s, find_beeps, find_flashes
from device.calibrate.pattern import match as match_pattern

RATE_HZ = 16_000


@dataclass(frozen=True)
class Camera:
    rate_hz: float = 25.0
    exposure_s: float = 0.02
    phase_s: float = 0.013
    jitter_s: float = 0.0  # of the exposures themselves, truly stamped
    noise: float = 0.002
    screen: tuple[slice, slice] = (slice(3, 9), slice(4, 12))  # which of the 12 × 16 parts show it
    rolling: float = 0.0  # how far the light of the room, or the exposure, goes up and down
    drop: float = 0.0


@dataclass(frozen=True)
class Room:
    noise: float = 0.003
    echo: float = 0.0  # strength of the reverberation's first moment beside the direct sound
    decay_s: float = 0.3
    level: float = 0.2


def shown_s(duration_s: float, fps: float, display_hz: float | None = None) -> Doubles:
    """When the film's flashes begin: on its pictures, and on the display's next refresh where that is given."""
    begins = np.round(event_times_s(duration_s) * fps) / fps
    return begins if display_hz is None else np.ceil(begins * display_hz - 1e-9) / display_hz


def seen(begins_s: Doubles, duration_s: float, camera: Camera, seed: int = 0) -> tuple[Doubles, Doubles]:
    """Middles of the exposures [n], and the light of each part [n, parts]."""
    rng = np.random.default_rng(seed)
    times = camera.phase_s + np.arange(int(duration_s * camera.rate_hz)) / camera.rate_hz
    times = np.sort(times + rng.uniform(-camera.jitter_s, camera.jitter_s, len(times)))
    times = times[rng.uniform(size=len(times)) >= camera.drop]
    opened, closed = times - camera.exposure_s / 2, times + camera.exposure_s / 2
    lit = np.zeros(len(times))
    for begin in begins_s:
        lit += np.clip(np.minimum(closed, begin + FLASH_S) - np.maximum(opened, begin), 0, None) / camera.exposure_s
    parts = np.full((len(times), 12, 16), 0.15)
    parts[:, camera.screen[0], camera.screen[1]] = (0.03 + 0.5 * lit)[:, None, None]
    parts *= 1 + camera.rolling * np.sin(2 * np.pi * 0.3 * times + rng.uniform(0, 6))[:, None, None]
    return times, np.clip(parts + rng.normal(0, camera.noise, parts.shape), 0, 1).reshape(len(times), -1)


def heard(begins_s: Doubles, duration_s: float, room: Room, seed: int = 0) -> Doubles:
    """Samples in which each beep begins at its time exactly, between two samples too, in a room."""
    rng = np.random.default_rng(seed)
    size, short = round((duration_s + 1) * RATE_HZ), 2048
    tone, bins = np.fft.rfft(beep(RATE_HZ).real, short), np.fft.rfftfreq(short, 1 / RATE_HZ)
    samples = np.zeros(size)
    for begin in begins_s:
        first = int(begin * RATE_HZ)
        moved = np.fft.irfft(tone * np.exp(-2j * np.pi * bins * (begin - first / RATE_HZ)), short)
        samples[first : first + short] += moved[: size - first]
    if room.echo:
        t = np.arange(round(3 * room.decay_s * RATE_HZ)) / RATE_HZ
        tail = room.echo * 0.1 * rng.normal(size=len(t)) * np.exp(-6.9 * t / room.decay_s) * (t > 0.003)
        tail[0] = 1.0
        long = 1 << (size + len(tail)).bit_length()
        samples = np.fft.irfft(np.fft.rfft(samples, long) * np.fft.rfft(tail, long), long)[:size]
    return np.asarray(room.level * samples + rng.normal(0, room.noise, size))


def flashes_and_beeps(
    offset_s: float, *, duration_s: float = 30.0, fps: float = 30.0, display_hz: float | None = 60.0,
    camera: Camera = Camera(), room: Room = Room(), seed: int = 0,
) -> tuple[list[Flash], Doubles]:  # fmt: skip
    """What is found where the sound is `offset_s` ahead of the picture."""
    begins = shown_s(duration_s, fps, display_hz) + 2.0
    flashes = find_flashes(*seen(begins, duration_s + 4, camera, seed))
    beeps = find_beeps(heard(begins - offset_s, duration_s + 4, room, seed), RATE_HZ) / RATE_HZ
    return flashes, beeps


def offset_error_ms(offset_s: float, **scene: object) -> tuple[float, float]:
    """Error of the offset, and the standard error that was given with it."""
    found = match_pattern(*flashes_and_beeps(offset_s, **scene))  # type: ignore[arg-type]
    assert found is not None
    return found.offset_ms - 1000 * offset_s, found.offset_std_ms
