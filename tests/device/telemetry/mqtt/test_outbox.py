"""The outbox: order, bounds, counted losses, and nothing lost between sending and acknowledgement."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from device.telemetry.mqtt.outbox import WINDOW, Kind, Message, Outbox


def drained(outbox: Outbox, window: int = 1000) -> list[str]:
    """Takes, sends and has acknowledged everything; as `topic payload`."""
    gone = []
    while message := outbox.next_message(window, 0.0):
        gone.append(f"{message.topic} {message.payload.decode()}")
        outbox.sent(1, message, 0.0)
        outbox.acknowledged(1)
    return gone


def filled(*events: int, longest: int = 100) -> Outbox:
    outbox = Outbox(longest)
    for number in events:
        outbox.event("e", str(number).encode())
    return outbox


def test_events_go_in_their_order_after_what_is_retained_and_after_results() -> None:
    outbox = filled(1, 2)
    outbox.result("r", b"yes")
    outbox.retain("state", b"1")
    assert drained(outbox) == ["state 1", "r yes", "e 1", "e 2"]
    assert outbox.next_message(WINDOW, 0.0) is None and outbox.events_waiting == 0


def test_neither_a_flood_of_results_nor_a_queue_of_events_holds_the_other_back() -> None:
    outbox = filled(1, 2, 3)
    for number in b"1", b"2", b"3":
        outbox.result("r", number)
    assert drained(outbox) == ["r 1", "e 1", "r 2", "e 2", "r 3", "e 3"]


def test_a_flood_of_refusals_costs_no_result_and_holds_nothing_back() -> None:
    outbox = filled(1, 2, 3)
    outbox.result("r", b"yes")
    for number in range(1000):
        outbox.refusal("r", b"busy %d" % number)
    gone = drained(outbox)
    assert gone[:6] == ["r yes", "r busy 936", "e 1", "r busy 937", "e 2", "r busy 938"]
    assert len(gone) == 1 + 3 + 64 and gone[-1] == "r busy 999"


def test_when_the_connection_is_lost_a_result_in_flight_waits_again_beside_a_flood() -> None:
    outbox = Outbox(5)
    outbox.result("r", b"yes")
    message = outbox.next_message(WINDOW, 0.0)
    assert message is not None
    outbox.sent(1, message, 0.0)
    for _ in range(1000):
        outbox.refusal("r", b"busy")
    outbox.connection_lost()
    assert "r yes" in drained(outbox)


def test_of_what_is_retained_only_the_newest_goes_and_one_at_a_time() -> None:
    outbox = Outbox(10)
    for number in range(5):
        outbox.retain("state", str(number).encode())
    first = outbox.next_message(WINDOW, 0.0)
    assert first == Message("state", b"4", Kind.RETAINED)
    outbox.sent(7, first, 0.0)
    outbox.retain("state", b"5")
    outbox.retain("state", b"6")
    outbox.retain("health", b"h")
    assert outbox.next_message(WINDOW, 0.0) == Message("health", b"h", Kind.RETAINED)
    assert outbox.next_message(WINDOW, 0.0) is None, "a second state while one is on its way"
    outbox.acknowledged(7)
    assert drained(outbox) == ["state 6"]


def test_everything_retained_goes_again_when_asked_with_one_at_the_end() -> None:
    outbox = Outbox(10)
    for topic in ("here", "discovery", "state"):
        outbox.retain(topic, b"x")
    assert len(drained(outbox)) == 3
    outbox.publish_again(last="here")
    assert drained(outbox) == ["discovery x", "state x", "here x"]
    outbox.publish_again(last="nobody")
    assert len(drained(outbox)) == 3


def test_a_full_queue_loses_its_oldest_and_counts_them() -> None:
    outbox = filled(*range(10), longest=4)
    assert (outbox.events_lost, outbox.events_waiting) == (6, 4)
    assert drained(outbox) == ["e 6", "e 7", "e 8", "e 9"]


def test_what_is_on_its_way_counts_as_waiting_and_is_not_dropped() -> None:
    outbox = filled(1, 2, 3, longest=3)
    for message_id in (1, 2):
        message = outbox.next_message(WINDOW, 0.0)
        assert message
        outbox.sent(message_id, message, 0.0)
    outbox.event("e", b"4")
    assert (outbox.events_lost, outbox.events_waiting) == (1, 3)
    outbox.connection_lost()
    assert drained(outbox) == ["e 1", "e 2", "e 4"]


def test_a_lost_connection_brings_back_what_was_not_acknowledged_in_order() -> None:
    outbox = filled(1, 2, 3, 4)
    outbox.result("r", b"a")
    for message_id in range(1, 5):
        message = outbox.next_message(WINDOW, 0.0)
        assert message
        outbox.sent(message_id, message, 0.0)
    outbox.acknowledged(2)
    outbox.connection_lost()
    outbox.event("e", b"5")
    assert drained(outbox) == ["r a", "e 2", "e 3", "e 4", "e 5"]


def test_no_more_than_the_window_is_on_its_way() -> None:
    outbox = filled(*range(50))
    for message_id in range(5):
        message = outbox.next_message(5, 0.0)
        assert message
        outbox.sent(message_id, message, float(message_id))
    assert outbox.next_message(5, 0.0) is None and outbox.oldest_sent_s() == 0.0
    outbox.acknowledged(0)
    assert outbox.next_message(5, 0.0) and outbox.oldest_sent_s() == 1.0


def refuse(outbox: Outbox, now_s: float = 0.0, *, pause_topic: bool = True) -> Message:
    message = outbox.next_message(WINDOW, now_s)
    assert message
    outbox.sent(1, message, now_s)
    assert outbox.refused(1, now_s, pause_topic=pause_topic) == message
    return message


def test_a_refused_topic_rests_and_holds_up_no_other() -> None:
    outbox = filled(1, 2)
    outbox.retain("state", b"s")
    outbox.retain("health", b"h")
    assert [refuse(outbox).topic, refuse(outbox).topic, refuse(outbox).payload] == ["state", "health", b"1"]
    assert (outbox.events_lost, outbox.events_waiting) == (1, 1)
    outbox.retain("state", b"newer")
    outbox.retain("info", b"i")
    outbox.publish_again(last="x")
    assert drained(outbox) == ["info i"]
    message = outbox.next_message(WINDOW, 601.0)
    assert message == Message("state", b"newer", Kind.RETAINED)
    assert drained(outbox) == ["health h", "e 2"]
    assert outbox.refused(99, 0.0) is None and outbox.events_lost == 1


def test_one_event_that_is_too_long_does_not_hold_up_the_next() -> None:
    outbox = filled(1, 2)
    refuse(outbox, pause_topic=False)
    assert drained(outbox) == ["e 2"] and outbox.events_lost == 1


def test_a_refused_result_is_forgotten() -> None:
    outbox = Outbox(5)
    outbox.result("r", b"1")
    outbox.result("r", b"2")
    refuse(outbox)
    assert drained(outbox) == ["r 2"] and outbox.events_lost == 0


def test_at_the_end_only_one_topic_is_taken() -> None:
    outbox = filled(1)
    for topic in ("state", "here"):
        outbox.retain(topic, b"x")
    message = outbox.next_message(WINDOW, 0.0, only="here")
    assert message == Message("here", b"x", Kind.RETAINED) and outbox.next_message(WINDOW, 0.0, only="here") is None
    outbox.sent(1, message, 0.0)
    assert not outbox.is_done("here")
    outbox.acknowledged(1)
    assert outbox.is_done("here") and not outbox.is_done("state") and outbox.events_waiting == 1


def test_results_are_bounded() -> None:
    outbox = Outbox(5)
    for number in range(1000):
        outbox.result("r", str(number).encode())
    gone = drained(outbox)
    assert len(gone) == 64 and gone[-1] == "r 999" and outbox.events_lost == 0


STEPS = st.lists(st.sampled_from(["event", "take", "take", "ack", "ack last", "refuse", "lose", "state"]), max_size=60)


@given(STEPS, st.integers(1, 8), st.integers(1, 5))
def test_every_event_is_delivered_waiting_or_counted(steps: list[str], longest: int, window: int) -> None:
    outbox = Outbox(longest)
    made, delivered, on_its_way, message_id = 0, set[int](), dict[int, Message](), 0
    for step in steps:
        if step == "event":
            outbox.event("e", str(made).encode())
            made += 1
        elif step == "state":
            outbox.retain("state", b"s")
        elif step == "take" and (message := outbox.next_message(window, 0.0)):
            message_id += 1
            outbox.sent(message_id, message, 0.0)
            on_its_way[message_id] = message
        elif step == "lose":
            outbox.connection_lost()
            on_its_way.clear()
        elif on_its_way and step in ("ack", "ack last", "refuse"):
            chosen = max(on_its_way) if step == "ack last" else min(on_its_way)
            message = on_its_way.pop(chosen)
            answer = outbox.refused(chosen, 0.0, pause_topic=False) if step == "refuse" else outbox.acknowledged(chosen)
            assert answer == message
            if message.kind is Kind.EVENT and step != "refuse":
                delivered.add(int(message.payload))
        assert outbox.events_waiting <= longest and len(on_its_way) <= window
        assert made == len(delivered) + outbox.events_waiting + outbox.events_lost
    outbox.connection_lost()
    left = [int(line.split()[1]) for line in drained(outbox) if line.startswith("e")]
    assert left == sorted(left) and not set(left) & delivered


def test_threads_may_fill_it_while_another_empties_it() -> None:
    outbox = Outbox(100_000)

    def fill(name: int) -> None:
        for number in range(2000):
            outbox.event("e", f"{name}-{number}".encode())
            outbox.retain("state", b"s")

    fillers = [threading.Thread(target=fill, args=(name,)) for name in range(4)]
    for filler in fillers:
        filler.start()
    gone: list[str] = []
    while any(filler.is_alive() for filler in fillers):
        gone += drained(outbox)
    gone += drained(outbox)
    assert len({line for line in gone if line.startswith("e")}) == 8000 and outbox.events_lost == 0
