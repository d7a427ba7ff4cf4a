"""How a session begins: with both tracks, on one clock, at what is new, and within bounds."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

from device.capture.streams.beginning import GATHER_NS, MAX_BYTES, Beginning
from device.capture.streams.connection import Arrived, Packet
from device.records import NS_PER_MS

VIDEO, AUDIO = 0, 1


@dataclass
class FakePacket:
    index: int
    size: int = 100
    is_keyframe: bool = False
    stream: SimpleNamespace = field(init=False)

    def __post_init__(self) -> None:
        self.stream = SimpleNamespace(index=self.index)


def came(index: int, stamp_ms: int, at_ms: int, *, size: int = 100, key: bool = False) -> Arrived:
    packet = cast(Packet, FakePacket(index, size, key))
    return Arrived(packet, stamp_ms * NS_PER_MS, at_ms * NS_PER_MS, live=True, related=True)


def both(beginning: Beginning, begin_ms: int, end_ms: int, *, at_ms: float = 1.0, size: int = 100) -> None:
    """A packet of each track every 40 ms; at_ms: how long it takes, for each of its own."""
    for stamp_ms in range(begin_ms, end_ms, 40):
        for index in (VIDEO, AUDIO):
            at = begin_ms + round((stamp_ms - begin_ms) * at_ms)
            beginning.add(came(index, stamp_ms, at, size=size, key=stamp_ms % 1000 == 0), jumped=False)


def begun(*, max_stored_ms: int = 60_000) -> Beginning:
    return Beginning((VIDEO, AUDIO), max_stored_ns=max_stored_ms * NS_PER_MS)


def test_it_takes_both_tracks_and_half_a_second() -> None:
    beginning = begun()
    left_out = []
    for at_ms in range(0, 5000, 40):
        left_out += beginning.add(came(VIDEO, at_ms, at_ms), jumped=False)
    assert not beginning.complete and not beginning.enough
    kept = [*left_out, *beginning.packets]
    assert [one.stamp_ns for one in kept] == [at_ms * NS_PER_MS for at_ms in range(0, 5000, 40)], "none may be lost"
    both(beginning, 5000, 5000 + GATHER_NS // NS_PER_MS + 41)
    assert beginning.enough


def test_tracks_on_two_clocks_are_not_together_until_the_other_has_jumped_too() -> None:
    beginning = begun()
    for at_ms in range(0, 2000, 40):
        beginning.add(came(VIDEO, at_ms, at_ms), jumped=False)
        beginning.add(came(AUDIO, at_ms + 3_600_000, at_ms), jumped=False)
    assert beginning.complete and not beginning.enough and len(beginning.packets) < 40, "only the last ones are kept"
    beginning.add(came(AUDIO, 2000, 2000), jumped=True)
    both(beginning, 2040, 2700)
    assert beginning.enough and all((one.stamp_ns or 0) < 3000 * NS_PER_MS for one in beginning.packets)


def test_what_may_have_been_stored_is_left_out_up_to_a_key_picture() -> None:
    for max_stored_ms, first_ms in ((60_000, 7000), (2500, 2000), (0, 0)):
        beginning = begun(max_stored_ms=max_stored_ms)
        both(beginning, 0, 8000, at_ms=0.01)
        assert beginning.packets[0].stamp_ns == first_ms * NS_PER_MS


def test_it_is_bounded() -> None:
    beginning = begun(max_stored_ms=0)
    both(beginning, 0, 4000, at_ms=0.0, size=MAX_BYTES // 50)
    assert beginning.enough, "it does not wait for half a second then"
    alone = begun()
    for number in range(200):
        alone.add(came(VIDEO, number, 0, size=MAX_BYTES // 50), jumped=False)
    assert not alone.enough and len(alone.packets) <= 51
