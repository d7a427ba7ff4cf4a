"""What a server gives again is not measured again, and what comes at its own pace is."""

from __future__ import annotations

from device.capture.streams.replays import MAX_PACKETS, WITHIN_NS, Replays


def given(replays: Replays, numbers: range, at_ns: int) -> list[int]:
    return [number for number in numbers if not replays.is_replayed((number,), at_ns)]


def test_only_what_is_new_comes_through_after_opening_again() -> None:
    replays = Replays()
    assert given(replays, range(100), 0) == [*range(100)]
    replays.reopened(1000)
    assert given(replays, range(70, 110), 1000) == [*range(100, 110)]
    assert given(replays, range(70, 110), 1000 + WITHIN_NS) == [*range(70, 110)], "a film that is sent again"


def test_it_is_bounded() -> None:
    replays = Replays()
    given(replays, range(2 * MAX_PACKETS), 0)
    replays.reopened(0)
    assert given(replays, range(MAX_PACKETS, 2 * MAX_PACKETS), 0) == []
    assert given(replays, range(MAX_PACKETS), 0) == [*range(MAX_PACKETS)], "the first ones are forgotten"
