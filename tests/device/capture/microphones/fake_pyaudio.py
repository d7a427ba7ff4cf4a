"""A scripted PyAudio, with its part of the kernel's /proc, on simulated clocks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from device.records import NS_PER_S
from tests.device.capture.microphones.clocks import EPOCH_NS, START_NS, SUSPENDED_NS

Callback = Callable[[bytes, int, dict[str, float], int], tuple[None, int]]


@dataclass(frozen=True)
class Call:
    """One call of the callback: samples [n, channels], the driver's time, and how late it comes on which clock."""

    samples: npt.NDArray[np.float32]
    adc_s: float
    mono_ns: int
    flags: int = 0
    real_step_ns: int = 0


@dataclass
class FakePyAudio:
    """Stands for the module. `devices` is what it will list at the next start; `script` what the next stream plays.

    A stream plays on whenever the reader asks whether it is still active; after the last call it is not, unless
    `stays_active`.
    """

    devices: list[dict[str, Any]] = field(default_factory=list)
    script: Iterable[Call] = ()
    rates_hz: tuple[int, ...] = (48_000,)
    open_error: OSError | None = None
    stays_active: bool = False
    started: int = 0
    running: int = 0
    streams: list[FakeStream] = field(default_factory=list)
    now_ns: tuple[int, int, int] = (START_NS, START_NS + SUSPENDED_NS, START_NS + EPOCH_NS)

    paFloat32, paInputOverflow, paContinue, paAbort = 1, 2, 0, 2  # noqa: N815

    def PyAudio(self) -> FakePortAudio:  # noqa: N802
        self.started += 1
        self.running += 1
        return FakePortAudio(self, list(self.devices))

    def clocks(self) -> tuple[int, int, int]:
        return self.now_ns


@dataclass
class FakePortAudio:
    world: FakePyAudio
    devices: list[dict[str, Any]]

    def get_device_count(self) -> int:
        return len(self.devices)

    def get_device_info_by_index(self, index: int) -> dict[str, Any]:
        return self.devices[index] | {"index": index}

    def is_format_supported(self, rate_hz: float, **wanted: Any) -> bool:
        assert set(wanted) == {"input_device", "input_channels", "input_format"}
        if rate_hz not in self.world.rates_hz:
            raise ValueError("Invalid sample rate", -9997)
        return True

    def open(self, **wanted: Any) -> FakeStream:
        if self.world.open_error:
            raise self.world.open_error
        stream = FakeStream(self.world, wanted, iter(self.world.script))
        self.world.streams.append(stream)
        return stream

    def terminate(self) -> None:
        self.world.running -= 1


@dataclass
class FakeStream:
    world: FakePyAudio
    wanted: dict[str, Any]
    script: Iterator[Call]
    closed: int = 0

    def is_active(self) -> bool:
        assert not self.closed
        return self.play(100) or self.world.stays_active

    def play(self, calls: int) -> bool:
        """Make the next calls; whether there were any."""
        made = False
        for call in itertools.islice(self.script, calls):
            mono_ns = call.mono_ns
            self.world.now_ns = (mono_ns, mono_ns + SUSPENDED_NS, mono_ns + EPOCH_NS + call.real_step_ns)
            answer = self.wanted["stream_callback"](
                call.samples.astype(np.float32).tobytes(), len(call.samples),
                {"input_buffer_adc_time": call.adc_s, "current_time": call.adc_s, "output_buffer_dac_time": 0.0},
                call.flags,
            )  # fmt: skip
            assert answer == (None, FakePyAudio.paContinue)
            made = True
        return made

    def close(self) -> None:
        self.closed += 1


def device(name: str, channels: int = 1) -> dict[str, Any]:
    """As PyAudio describes one."""
    return {"name": name, "maxInputChannels": channels, "defaultSampleRate": 44100.0, "hostApi": 0}


def calls(
    samples: npt.NDArray[np.float32], *, rate_hz: int = 48_000, from_ns: int = START_NS, late_ns: int = 5_000_000
) -> list[Call]:
    """A recording [n] or [n, channels] in blocks of 20 ms, with true times on the monotonic clock."""
    samples = samples.reshape(len(samples), -1)
    size = rate_hz // 50
    starts = range(0, len(samples) - size + 1, size)
    times = [from_ns + k * NS_PER_S // rate_hz for k in starts]
    return [
        Call(samples[k : k + size], t / NS_PER_S, t + NS_PER_S // 50 + late_ns)
        for k, t in zip(starts, times, strict=True)
    ]


def add_card(root: Path, number: int, card_id: str, name: str, *, dev: int = 0, owner: int | None = None) -> None:
    """A sound card with a capture device, as the kernel shows it under root/proc/asound and root/dev/snd."""
    asound, folder = root / "proc/asound", root / f"proc/asound/card{number}"
    (folder / f"pcm{dev}c/sub0").mkdir(parents=True)
    (folder / "id").write_text(card_id + "\n")
    (folder / f"pcm{dev}c/info").write_text(
        f"card: {number}\ndevice: {dev}\nstream: CAPTURE\nid: USB Audio\nname: USB Audio\n"
    )
    status = "closed\n" if owner is None else f"state: RUNNING\nowner_pid   : {owner}\ntrigger_time: 12.5\n"
    (folder / f"pcm{dev}c/sub0/status").write_text(status)
    with (asound / "cards").open("a") as cards:
        cards.write(f"{number:2d} [{card_id:15s}]: USB-Audio - {name}\n                      Maker {name} at usb-1.3\n")
    (root / "dev/snd").mkdir(parents=True, exist_ok=True)
    (root / f"dev/snd/pcmC{number}D{dev}c").touch()
