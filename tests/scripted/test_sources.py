"""The scripted devices: true to the scene, in real time, used by one at a time, closed by others, and their faults."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import islice, pairwise
from random import Random

import numpy as np
import pytest

from device.errors import CaptureError, DeviceBusyError, DeviceLostError, DeviceMissingError
from device.records import NS_PER_MS, NS_PER_S, Chunk, Frame
from tests.scripted.faults import FAULTS, World
from tests.scripted.simclock import START_NS, SimClock
from tests.scripted.sources import (
    BLOCK_SAMPLES,
    PICTURE_NS,
    RATE_HZ,
    Device,
    Item,
    Trouble,
    camera,
    microphone,
    scene,
)


@pytest.fixture
def clock() -> Iterator[SimClock]:
    with SimClock(patience_s=30) as clock, clock.taking_part():
        yield clock


def taken(device: Device, count: int) -> list[Item]:
    with device.open() as session:
        return list(islice(session, count))


def frames(items: list[Item]) -> list[Frame]:
    return [item for item in items if isinstance(item, Frame)]


def chunks(items: list[Item]) -> list[Chunk]:
    return [item for item in items if isinstance(item, Chunk)]


# The scene


def test_the_scene_goes_round_without_a_gap_in_either_track() -> None:
    length_ns = len(scene().pictures) * PICTURE_NS
    assert len(scene().sound) * NS_PER_S == length_ns * RATE_HZ
    late_ns = START_NS + 7 * length_ns + 3 * NS_PER_S
    assert scene().picture(late_ns) is scene().picture(START_NS + 3 * NS_PER_S)
    np.testing.assert_array_equal(scene().samples(late_ns, 100), scene().samples(START_NS + 3 * NS_PER_S, 100))
    over_the_edge = scene().samples(START_NS + length_ns - NS_PER_S // 100, 320)
    np.testing.assert_array_equal(over_the_edge, np.concatenate([scene().sound[-160:], scene().sound[:160]]))


def test_between_two_pictures_both_shine_through() -> None:
    at_ns = START_NS + 5 * PICTURE_NS
    before, after = scene().pictures[5].astype(int), scene().pictures[6].astype(int)
    assert scene().picture(at_ns) is scene().picture(at_ns + NS_PER_MS // 2) is scene().pictures[5]
    assert scene().picture(at_ns + PICTURE_NS - NS_PER_MS // 2) is scene().pictures[6]
    np.testing.assert_allclose(scene().picture(at_ns + 10 * NS_PER_MS), 0.75 * before + 0.25 * after, atol=1)


# Devices


@pytest.mark.parametrize("rate_hz", [24.0, 25.0, 30_000 / 1001, 30.0])
@pytest.mark.parametrize("ppm", [-100.0, 0.0, 100.0])
def test_pictures_come_in_time_and_carry_the_true_time(clock: SimClock, rate_hz: float, ppm: float) -> None:
    device = camera(clock, rate_hz=rate_hz, ppm=ppm)
    with device.open() as session:
        for frame in frames(list(islice(session, 1))):
            assert frame.t_ns <= clock.now_ns() <= frame.t_ns + 31 * NS_PER_MS
        rest = frames(list(islice(session, 500)))
    assert rest[-1].t_ns - rest[0].t_ns == pytest.approx(499 / rate_hz * (1 + ppm / 1e6) * NS_PER_S, abs=2)
    assert [b.seq - a.seq for a, b in pairwise(rest)] == [1] * 499
    assert all(np.array_equal(frame.rgb, scene().picture(frame.t_ns)) for frame in rest[::9])


@pytest.mark.parametrize("ppm", [-200.0, 0.0, 200.0])
def test_blocks_follow_each_other_in_true_time_whatever_the_microphones_rate(clock: SimClock, ppm: float) -> None:
    got = chunks(taken(microphone(clock, ppm=ppm), 3000))
    assert got[-1].t_ns - got[0].t_ns == pytest.approx(2999 * 0.02 / (1 + ppm / 1e6) * NS_PER_S, abs=3)
    for chunk in got[:: len(got) // 7]:
        assert len(chunk.samples) == BLOCK_SAMPLES and chunk.rate_hz == RATE_HZ
        np.testing.assert_array_equal(chunk.samples[:10], scene().samples(chunk.t_ns, 10))
    assert clock.now_ns() >= got[-1].t_ns + 20 * NS_PER_MS, "nothing is heard before it was said"


def test_a_microphone_gives_nothing_until_its_times_are_known_and_then_all_of_it(clock: SimClock) -> None:
    with microphone(clock).open() as session:
        items = iter(session)
        first = next(items)
        assert clock.now_ns() - START_NS == pytest.approx(1.2 * NS_PER_S, abs=0.05 * NS_PER_S)
        burst_ns = clock.now_ns()
        rest = [item.t_ns for item in islice(items, 50)]
    assert first.t_ns < START_NS + 50 * NS_PER_MS and clock.now_ns() == burst_ns
    assert all(b - a == 20 * NS_PER_MS for a, b in pairwise([first.t_ns, *rest]))


def test_a_device_is_held_by_one_at_a_time(clock: SimClock) -> None:
    device = camera(clock)
    with device.open(), pytest.raises(DeviceBusyError):
        device.open()
    with device.open():
        assert device.opened == 2


def test_closing_from_elsewhere_ends_the_waiting(clock: SimClock) -> None:
    device = camera(clock, rate_hz=0.1)
    session = device.open()
    got: list[Item] = []
    thread = clock.start(lambda: got.extend(session), "reader")
    clock.sleep(1)
    session.close()
    thread.join()
    assert not thread.is_alive() and got == [] and clock.now_ns() == START_NS + NS_PER_S


def test_who_takes_too_slowly_loses_the_oldest(clock: SimClock) -> None:
    got: list[Frame] = []
    with camera(clock).open() as session:
        for frame in session:
            assert isinstance(frame, Frame)
            got.append(frame)
            if len(got) == 5:
                clock.sleep(10)
            if len(got) == 10:
                break
    assert got[-1].t_ns > clock.now_ns() - NS_PER_S
    assert got[-1].seq - got[0].seq > 200, "the numbers show it"


# Trouble


def test_what_gives_nothing_for_two_seconds_is_lost(clock: SimClock) -> None:
    device = camera(clock)
    device.begin(Trouble(giving=lambda device, item: ()))
    with pytest.raises(DeviceLostError, match="gives nothing"):
        taken(device, 1)
    assert clock.now_ns() - START_NS == pytest.approx(2 * NS_PER_S, abs=0.1 * NS_PER_S)


def test_trouble_begins_in_the_middle_and_ends(clock: SimClock) -> None:
    device = camera(clock)

    def refuse(device: Device) -> None:
        raise DeviceMissingError("gone", where="camera", remedy="Wait")

    def refuse_item(device: Device, item: Item) -> tuple[Item, ...]:
        refuse(device)
        return (item,)

    with device.open() as session:
        items = iter(session)
        next(items)
        device.begin(Trouble(opening=refuse, giving=refuse_item))
        with pytest.raises(DeviceMissingError):
            next(items)
    with pytest.raises(DeviceMissingError):
        device.open()
    device.end()
    assert len(taken(device, 3)) == 3


def test_what_hangs_goes_on_when_the_trouble_ends(clock: SimClock) -> None:
    device, got = camera(clock), threading.Event()

    def hang(device: Device, item: Item) -> tuple[Item, ...]:
        device.hang()
        return ()

    device.begin(Trouble(giving=hang))

    def read() -> None:
        with pytest.raises(DeviceLostError):  # as it gave nothing for so long
            taken(device, 1)
        got.set()

    thread = clock.start(read, "reader")
    clock.sleep(100)
    assert not got.is_set()
    device.end()
    thread.join(1)
    assert got.is_set()


# The table


def test_there_are_forty_different_faults() -> None:
    assert len(FAULTS) == 40
    assert len({fault.name for fault in FAULTS}) == 40


KNOWN_WORDS = """
    camera_missing camera_busy camera_permission camera_lost camera_stalled camera_frozen camera_black
    microphone_missing microphone_busy microphone_permission microphone_lost microphone_stalled microphone_silent
    microphone_clipped clock_jumped overloaded model_failed
"""


def test_only_known_words_are_asked_for() -> None:
    assert {word for fault in FAULTS for word in fault.words} <= set(KNOWN_WORDS.split())


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_fault_changes_something_and_leaves_nothing_behind(clock: SimClock, fault: object) -> None:
    world = World(clock, Random(3))
    before = (world.picture_s, world.wall_step_ns, world.asleep_ns, world.camera.trouble, world.microphone.trouble)
    now_ns = clock.now_ns()
    fault.begin(world)  # type: ignore[attr-defined]
    during = (world.picture_s, world.wall_step_ns, world.asleep_ns, world.camera.trouble, world.microphone.trouble)
    assert during != before or clock.now_ns() != now_ns
    world.calm()
    for device in (world.camera, world.microphone):
        got = [item.t_ns for item in taken(device, 30)]
        assert all(b > a for a, b in pairwise(got))
        assert abs(got[-1] - clock.now_ns()) < NS_PER_S


def test_the_same_seed_gives_the_same_story() -> None:
    def story() -> list[object]:
        with SimClock() as clock, clock.taking_part():
            world = World(clock, Random(11))
            next(fault for fault in FAULTS if fault.name == "camera drops one in twenty").begin(world)
            try:
                return [item.seq for item in taken(world.camera, 400)]
            except CaptureError as error:
                return [str(error)]

    assert story() == story()
