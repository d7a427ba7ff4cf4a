"""The forty scripted faults: what fails, the fault's name, and whether numbers may continue."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import numpy as np

from device.errors import CaptureError, DeviceBusyError, DeviceLostError, DeviceMissingError, DevicePermissionError
from device.records import NS_PER_MS, NS_PER_S, Chunk, Frame
from tests.scripted.simclock import SimClock
from tests.scripted.sources import Device, Item, Trouble, camera, microphone

HOUR_NS = 3600 * NS_PER_S


@dataclass(eq=False)
class World:
    """All that a fault may get at."""

    clock: SimClock
    rng: Random
    camera: Device = field(init=False)
    microphone: Device = field(init=False)
    picture_s: float = 0.0  # simulated time that the analysis of each picture takes
    wall_step_ns: int = 0
    asleep_ns: int = 0  # how long the computer was suspended since it was started

    def __post_init__(self) -> None:
        self.camera, self.microphone = camera(self.clock), microphone(self.clock)
        self._real_time_ns = time.time_ns

    def time_ns(self) -> int:
        """Wall clock."""
        return self._real_time_ns() + self.wall_step_ns

    def calm(self) -> None:
        """Nothing is wrong any more."""
        self.camera.end()
        self.microphone.end()
        self.picture_s = 0.0


@dataclass(frozen=True, slots=True)
class Fault:
    """`words`: one of these must be named; none: nothing need be. `numbers`: right ones may go on while it lasts.

    begin: takes the world in which it is to begin.
    """

    name: str
    begin: Callable[[Any], None]
    words: frozenset[str]
    numbers: bool = False


Make = Callable[[Random], Trouble]
Change = Callable[[Device, Item], Iterable[Item]]


def _on_camera(make: Make) -> Callable[[World], None]:
    return lambda world: world.camera.begin(make(world.rng))


def _on_microphone(make: Make) -> Callable[[World], None]:
    return lambda world: world.microphone.begin(make(world.rng))


# What can be wrong with a device


def _error(kind: type[CaptureError], device: Device) -> CaptureError:
    return kind("scripted", where=device.part, remedy="Wait for the script")


def _lost(device: Device, item: Item) -> Iterable[Item]:
    raise _error(DeviceLostError, device)


def gone(kind: type[CaptureError]) -> Make:
    """It goes away, and cannot be opened for a reason of this kind."""

    def refuse(device: Device) -> None:
        raise _error(kind, device)

    return lambda rng: Trouble(opening=refuse, giving=_lost)


def giving(change: Change) -> Make:
    return lambda rng: Trouble(giving=change)


def _nothing(device: Device, item: Item) -> Iterable[Item]:
    return ()


def _hang(device: Device, item: Item) -> Iterable[Item]:
    device.hang()
    return ()


def hanging_opening(rng: Random) -> Trouble:
    return Trouble(opening=Device.hang, giving=_lost)


def hanging_closing(rng: Random) -> Trouble:
    return Trouble(giving=_hang, closing=Device.hang)


def _raise(device: Device, item: Item) -> Iterable[Item]:
    raise RuntimeError("ioctl failed (scripted)")


def ending(rng: Random) -> Trouble:
    """Each time it is opened it ends at once, without a word."""

    def end(device: Device, item: Item) -> Iterable[Item]:
        device.stop()
        return ()

    return Trouble(giving=end)


def flapping(rng: Random) -> Trouble:
    """Half a second there, half a second away."""
    half_ns = round(rng.uniform(0.3, 0.7) * NS_PER_S)

    def is_away(device: Device) -> bool:
        return (device.clock.now_ns() - device.begun_ns) // half_ns % 2 == 0

    def refuse(device: Device) -> None:
        if is_away(device):
            raise _error(DeviceMissingError, device)

    def give(device: Device, item: Item) -> Iterable[Item]:
        if is_away(device):
            raise _error(DeviceLostError, device)
        return (item,)

    return Trouble(opening=refuse, giving=give)


# What can be wrong with its times


def stamped(stamp: Callable[[Device, int], int]) -> Make:
    """Times changed: `stamp` is given the device and the true one."""
    return giving(lambda device, item: (replace(item, t_ns=stamp(device, item.t_ns)),))


def _falling(device: Device, t_ns: int) -> int:
    return 2 * device.begun_ns - t_ns


def jittering(rng: Random) -> Trouble:
    """Up to 8 ms, in bursts of a second."""

    def jitter(device: Device, item: Item) -> Iterable[Item]:
        size_ms = 8 if item.t_ns // NS_PER_S % 2 else 1
        return (replace(item, t_ns=item.t_ns + round(rng.uniform(-size_ms, size_ms) * NS_PER_MS)),)

    return Trouble(giving=jitter)


# What can be wrong with what it gives


def dropping(share: float) -> Make:
    def make(rng: Random) -> Trouble:
        return Trouble(giving=lambda device, item: () if rng.random() < share else (item,))

    return make


def _every_second(device: Device, item: Item) -> Iterable[Item]:
    return (item,) if item.seq % 2 else ()


def _overflows(device: Device, item: Item) -> Iterable[Item]:
    """A tenth of a second lost in each one and a half."""
    return () if item.seq % 75 < 5 else (item,)


def repeating(buffers: int) -> Make:
    """The last pictures again and again."""

    def make(rng: Random) -> Trouble:
        kept: list[Frame] = []

        def give(device: Device, item: Item) -> Iterable[Item]:
            assert isinstance(item, Frame)
            if len(kept) < buffers:
                kept.append(item)
            return (replace(item, picture=kept[item.seq % len(kept)].picture),)

        return Trouble(giving=give)

    return make


def dark(sigma: float) -> Make:
    def make(rng: Random) -> Trouble:
        noise = np.random.default_rng(rng.getrandbits(32))

        def give(device: Device, item: Item) -> Iterable[Item]:
            assert isinstance(item, Frame)
            levels = 16 + noise.normal(0, 1, item.rgb.shape[:2]) * sigma
            gray = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
            return (replace(item, picture=np.repeat(gray[..., None], 3, axis=2)),)

        return Trouble(giving=give)

    return make


def _no_picture(device: Device, item: Item) -> Iterable[Item]:
    assert isinstance(item, Frame)
    wrong: tuple[Any, ...] = (
        np.zeros((0, 0, 3), np.uint8), item.rgb[..., 0], item.rgb.astype(np.float64), np.zeros((240, 320, 4), np.uint8)
    )  # fmt: skip
    return (replace(item, picture=wrong[item.seq % len(wrong)]),)


def _no_sound(device: Device, item: Item) -> Iterable[Item]:
    assert isinstance(item, Chunk)
    wrong = (
        np.full(len(item.samples), np.nan, np.float32), np.stack([item.samples] * 2), np.full(320, np.inf, np.float32)
    )  # fmt: skip
    return (replace(item, samples=wrong[item.seq % len(wrong)]),)


def _wrong_rate(device: Device, item: Item) -> Iterable[Item]:
    assert isinstance(item, Chunk)
    return (replace(item, rate_hz=48_000, samples=np.repeat(item.samples, 3)),)


def sounding(level: float | None = None, gain: float = 1.0) -> Make:
    """A constant level, or a gain beyond full scale."""

    def give(device: Device, item: Item) -> Iterable[Item]:
        assert isinstance(item, Chunk)
        samples = item.samples * gain if level is None else np.full_like(item.samples, level)
        return (replace(item, samples=np.clip(samples, -1, 1).astype(np.float32)),)

    return giving(give)


# What can be wrong with the computer


def both(make: Make) -> Callable[[World], None]:
    def begin(world: World) -> None:
        world.camera.begin(make(world.rng))
        world.microphone.begin(make(world.rng))

    return begin


def _stop_process(world: World) -> None:
    world.clock.jump(world.rng.uniform(20, 40))


def _suspend(world: World) -> None:
    """CLOCK_MONOTONIC stands meanwhile, and what drives the devices goes on where it was."""
    world.asleep_ns += HOUR_NS


def _step_wall_clock(world: World) -> None:
    world.wall_step_ns = round(world.rng.uniform(-1, 1) * HOUR_NS)


def _slow_down(world: World) -> None:
    world.picture_s = 0.1  # two and a half times what there is


def _fault(name: str, begin: Callable[[World], None], *words: str, numbers: bool = False) -> Fault:
    return Fault(name, begin, frozenset(words), numbers)


_C, _M = _on_camera, _on_microphone
_CAMERA_AWAY, _MICROPHONE_AWAY = ("camera_missing", "camera_lost"), ("microphone_missing", "microphone_lost")
_CAMERA_TIMES = ("clock_jumped", "camera_lost", "camera_stalled")
_MICROPHONE_TIMES = ("clock_jumped", "microphone_lost", "microphone_stalled")

FAULTS: tuple[Fault, ...] = (
    _fault("camera unplugged", _C(gone(DeviceMissingError)), *_CAMERA_AWAY),
    _fault("camera taken by another process", _C(gone(DeviceBusyError)), "camera_busy"),
    _fault("camera forbidden", _C(gone(DevicePermissionError)), "camera_permission"),
    _fault("camera stalls", _C(giving(_nothing)), "camera_lost", "camera_stalled"),
    _fault("camera hangs", _C(giving(_hang)), "camera_stalled"),
    _fault("camera hangs, and when closed", _C(hanging_closing), "camera_stalled"),
    _fault("camera raises what it likes", _C(giving(_raise)), "camera_lost"),
    _fault("camera ends again and again", _C(ending), "camera_lost"),
    _fault("camera flaps", _C(flapping), *_CAMERA_AWAY),
    _fault("camera freezes", _C(repeating(1)), "camera_frozen"),
    _fault("camera repeats its buffers", _C(repeating(4)), "camera_frozen"),
    _fault("camera covered", _C(dark(4)), "camera_black"),
    _fault("camera's times are zero", _C(stamped(lambda device, t_ns: 0)), *_CAMERA_TIMES),
    _fault("camera's times fall", _C(stamped(_falling)), *_CAMERA_TIMES),
    _fault("camera's times stand", _C(stamped(lambda device, t_ns: device.begun_ns)), *_CAMERA_TIMES),
    _fault("camera's times an hour ahead", _C(stamped(lambda device, t_ns: t_ns + HOUR_NS)), *_CAMERA_TIMES),
    _fault("camera's times jitter", _C(jittering), numbers=True),
    _fault("camera drops one in twenty", _C(dropping(0.05)), numbers=True),
    _fault("camera at half its rate", _C(giving(_every_second)), numbers=True),
    _fault("camera gives garbage", _C(giving(_no_picture)), "camera_lost", "camera_stalled"),
    _fault("microphone unplugged", _M(gone(DeviceMissingError)), *_MICROPHONE_AWAY),
    _fault("microphone forbidden", _M(gone(DevicePermissionError)), "microphone_permission"),
    _fault("microphone stalls", _M(giving(_nothing)), "microphone_lost", "microphone_stalled"),
    _fault("microphone hangs", _M(giving(_hang)), "microphone_stalled"),
    _fault("microphone hangs when opened", _M(hanging_opening), "microphone_lost", "microphone_stalled"),
    _fault("microphone raises what it likes", _M(giving(_raise)), "microphone_lost"),
    _fault("microphone flaps", _M(flapping), *_MICROPHONE_AWAY),
    _fault("microphone muted", _M(sounding(0.0)), "microphone_silent"),
    _fault("microphone gives a constant", _M(sounding(0.3)), "microphone_silent"),
    _fault("microphone clips", _M(sounding(gain=30.0)), "microphone_clipped", numbers=True),
    _fault("microphone's times are zero", _M(stamped(lambda device, t_ns: 0)), *_MICROPHONE_TIMES),
    _fault("microphone's times an hour ago", _M(stamped(lambda device, t_ns: t_ns - HOUR_NS)), *_MICROPHONE_TIMES),
    _fault("microphone gives garbage", _M(giving(_no_sound)), "microphone_lost", "microphone_stalled"),
    _fault("microphone at a wrong rate", _M(giving(_wrong_rate)), "microphone_lost", "microphone_stalled"),
    _fault("microphone overflows", _M(giving(_overflows)), numbers=True),
    _fault("both unplugged", both(gone(DeviceMissingError)), *_CAMERA_AWAY, *_MICROPHONE_AWAY),
    _fault("process stopped for a while", _stop_process, numbers=True),
    _fault("computer suspended", _suspend, "clock_jumped", numbers=True),
    _fault("wall clock steps", _step_wall_clock, numbers=True),
    _fault("processor too slow", _slow_down, "overloaded", numbers=True),
)
