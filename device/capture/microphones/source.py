"""The microphone as a source: a sound card's capture device by name, in chunks placed on the monotonic clock.

Sound servers (`pulse`, `default`, `jack` and others that are no card) are refused unless forced: they mix and resample,
their times are off by up to half a second at first, and they lose audio silently.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from device.capture.microphones.audio_clock import AudioClock, Stamp
from device.capture.microphones.portaudio import Block, InputStream, load_pyaudio, read_clocks
from device.capture.microphones.resampler import CHUNK_MS, ChannelChoice, PlacedSound
from device.capture.microphones.sound_cards import canonical, find_microphone
from device.capture.source import Closing
from device.config.settings import MicrophoneSettings
from device.errors import CaptureError, UsageError
from device.records import Chunk, Samples

LOST_AFTER_S = 2.0
SILENT_AFTER_S = 1.0


def is_card(settings: MicrophoneSettings) -> bool:
    """Whether the setting names a sound card rather than a server or plug-in.

    Raises UsageError if it may not be used.
    """
    if settings.device == "auto":
        return True
    if settings.device.startswith("hw:"):
        canonical(settings.device)
        return True
    if not settings.force:
        what = f"{settings.device!r} is not a sound card but a sound server or a plug-in, whose times cannot be trusted"
        remedy = "Use a device that `avdrift devices` prints, or set force = true to use it anyway"
        raise UsageError(what, where="microphone", remedy=remedy)
    return False


class MicrophoneSource(Closing):
    """Chunks of CHUNK_MS of mono audio at `rate_hz`, from now on until closed.

    Opened by the constructor. Waits for the next chunk as long as the microphone delivers anything. The first chunks
    come after about a second, when their times are known.
    Errors: UsageError for a refused device; DeviceMissingError, DevicePermissionError, DeviceBusyError on opening;
    DeviceLostError while reading, after LOST_AFTER_S without audio.
    The properties may be read from any thread: each is one number or reference that the reading thread replaces as a
    whole, and none depends on another.
    """

    def __init__(
        self,
        settings: MicrophoneSettings | None = None,
        *,
        rate_hz: int = 16_000,
        pyaudio: Any = None,
        root: Path = Path("/"),
        lost_after_s: float = LOST_AFTER_S,
        clocks: Callable[[], tuple[int, int, int]] = read_clocks,
    ) -> None:
        """`pyaudio`, `root`, `lost_after_s` and `clocks` are for tests."""
        settings = settings or MicrophoneSettings()
        hardware = is_card(settings)
        pyaudio = pyaudio or load_pyaudio()
        self.device = name = settings.device
        if hardware:
            # At each opening: a card that is plugged in again has another number.
            card = find_microphone(settings.device, root)
            self.device, name = card.device, f"(hw:{card.card},{card.dev})"
        try:
            self._stream = InputStream(pyaudio, name, self.device, lost_after_s=lost_after_s, clocks=clocks)
        except CaptureError:
            if hardware:  # the kernel may know better what has happened meanwhile
                find_microphone(self.device, root)
            raise
        self._clock = AudioClock(self._stream.rate_hz)
        self._choice = ChannelChoice(self._stream.channels, self._stream.rate_hz)
        self._sound = PlacedSound(self._stream.rate_hz, rate_hz)
        self._waiting: deque[Samples] = deque()
        self._silent_samples = 0
        self._read = False

    def close(self) -> None:
        """End soon; also wakes a thread that waits for a chunk."""
        self._stream.close()

    @property
    def dropped(self) -> int:
        """Lost audio in chunks, whoever lost it."""
        return round(self._clock.lost_samples * 1000 / (self._stream.rate_hz * CHUNK_MS))

    @property
    def overflows(self) -> int:
        """How often the driver reported a loss; `dropped` has the amount."""
        return self._stream.overflows

    @property
    def rate_ppm(self) -> float | None:
        """How much faster than nominal the microphone samples; None until known."""
        return self._clock.rate_ppm

    @property
    def rate_std_ppm(self) -> float | None:
        return self._clock.rate_std_ppm

    @property
    def clock_domain(self) -> str:
        """The clock of the driver's times; `arrival` if they are on none and arrivals are used instead."""
        return self._clock.domain

    @property
    def digital_silence(self) -> bool:
        """One constant value for more than a second: muted or broken. No quiet room is that quiet."""
        return self._silent_samples > SILENT_AFTER_S * self._stream.rate_hz

    def __iter__(self) -> Iterator[Chunk]:
        if self._read:
            raise RuntimeError("a MicrophoneSource is read once: open the microphone again")
        self._read = True
        while (block := self._stream.read()) is not None:
            yield from self._convert(block)

    def _convert(self, block: Block) -> Iterator[Chunk]:
        samples = np.frombuffer(block.data, np.float32).reshape(-1, self._stream.channels)
        self._silent_samples = 0 if np.ptp(samples, axis=0).any() else self._silent_samples + len(samples)
        self._waiting.append(self._choice(np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0)))
        stamp = Stamp(len(samples), block.adc_ns, block.mono_ns, block.boot_ns, block.real_ns, block.skipped)
        for placed in self._clock.push(stamp):
            waiting = self._waiting.popleft()
            if placed is not None:
                yield from self._sound.feed(waiting, placed)
