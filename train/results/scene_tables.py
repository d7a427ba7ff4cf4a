"""Sections of the page on recordings that go through the whole chain of the device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from device.records import State
from train.markdown import table
from train.results.text import of, seconds, share
from train.scenes.daily import MIN_S, SETTLED_S, Talk, summary

Sets = Sequence[Mapping[str, Any]]
Found = Mapping[str, Any]


def _counts(each: Sequence[Found]) -> tuple[int, int, int]:
    reports, measuring, right = (sum(talk[key] for talk in each) for key in ("reports", "measuring", "right"))
    return reports, measuring, right


def daily(sets: Sets) -> Iterator[str]:
    """What a user of the daemon meets."""
    yield (
        f"Clips of {MIN_S:g} s and more, one shift of each, through the whole daemon; reports count after the first "
        f"{SETTLED_S:g} s. The same faces also get the voices of two other speakers each: then no number is right."
    )
    parts = [clips["parts"]["daily"] for clips in sets]
    counts = [_counts(part["each"]) for part in parts]
    strange = [part["other_voices"] for part in parts]
    yield table(["", *(clips["title"] for clips in sets)], [
        ["clips, speakers", *(f"{part['clips']}, {_speakers(clips)}" for clips, part in zip(sets, parts, strict=True))],
        ["left out: shorter, or own offset not sure", *(str(part["left_out"]) for part in parts)],
        ["reports that have a number", *(of(measuring, reports) for reports, measuring, _ in counts)],
        ["of these, right", *(of(right, measuring) for _, measuring, right in counts)],
        ["first number: median", *(seconds(part["first_s_median"]) for part in parts)],
        ["first number: 95 % of the clips", *(seconds(part["first_s_95_percent"]) for part in parts)],
        ["longest time without a number", *(seconds(part["longest_gap_s"]) for part in parts)],
        ["another speaker's voice: reports that have a number",
         *(of(voices["with_a_number"], voices["reports"]) for voices in strange)],
    ])  # fmt: skip


def _speakers(clips: Found) -> int:
    files = {talk["clip"] for talk in clips["parts"]["daily"]["each"]}
    return len({row["speaker"] for row in clips["rows"] if row["file"] in files})


def daily_by_group(sets: Sets) -> Iterator[str]:
    """The same by what the table of clips says of them."""
    yield "One person talking on, through the whole daemon:"
    for grouping in ("language", "kind"):
        head = ["set", grouping, "speakers", "clips", "reports that have a number", "of these, right",
                "first number: median"]  # fmt: skip
        yield table(head, [line for clips in sets for line in _lines(clips, grouping)], texts=2)


def _lines(clips: Found, grouping: str) -> Iterator[list[str]]:
    rows = {row["file"]: row for row in clips["rows"]}
    groups: dict[str, list[Found]] = {}
    for talk in clips["parts"]["daily"]["each"]:
        row = rows[talk["clip"]]
        name = row[grouping] or (row["corpus"] if grouping == "kind" else "not stated")
        groups.setdefault(name, []).append(talk)
    for name, each in sorted(groups.items()):
        reports, measuring, right = _counts(each)
        first_s = summary([Talk(**talk) for talk in each], [])["first_s_median"]
        speakers = len({rows[talk["clip"]]["speaker"] for talk in each})
        yield [clips["title"], name, str(speakers), str(len(each)), of(measuring, reports), of(right, measuring),
               seconds(first_s)]  # fmt: skip


def sliced(sets: Sets) -> Iterator[str]:
    """`avdrift measure` on files."""
    part = sets[0]["parts"]["sliced"]
    copies = part["copies"]
    yield (
        f"`avdrift measure --window 2` on {copies} {'copy' if copies == 1 else 'copies'} of each of {part['clips']} "
        f"clips ({part['left_out']} are left out: their own offset is not sure). The audio or the video of each copy "
        "was really cut, by up to 600 ms, and encoded again."
    )
    yield table(["", ""], [
        ["windows of 2 s with a face and speech", str(part["windows"])],
        ["right %, whatever their confidence", share(part["right"])],
        ["always 0: right %", share(part["always_zero"])],
        ["median error in ms", "-" if part["median_error_ms"] is None else f"{part['median_error_ms']:.1f}"],
        ["have a number %", share(part["measuring"])],
        ["of these, right %", share(part["measuring_right"])],
    ])  # fmt: skip


def unmeasurable(sets: Sets) -> Iterator[str]:
    """Hours of hopeless scenes."""
    part = sets[0]["parts"]["unmeasurable"]
    yield (
        f"{60 * part['hours']:.0f} minutes through the whole chain, in scenes of a minute: "
        f"{of(part['measuring'], part['reports'])} reports have a number."
    )
    yield table(["input", "reports that have a number"], [
        [scene, of(states.get(State.MEASURING.value, 0), sum(states.values()))]
        for scene, states in part["scenes"].items() if states
    ])  # fmt: skip


def two_speakers(sets: Sets) -> Iterator[str]:
    """Whose offset is reported."""
    part = sets[0]["parts"]["two-speakers"]
    yield f"Two people side by side, both talking, one of them heard: {part['scenes']} scenes."
    yield table(["", "reports that have a number", "of these, right: the offset of the speaker who is heard"], [
        [title, of(one["measuring"], one["reports"]), of(round(one["right_of_all"] * one["reports"]), one["measuring"])]
        for title, one in (("that speaker alone", part["alone"]), ("both", part["both"]))
    ])  # fmt: skip


def degraded(sets: Sets) -> Iterator[str]:
    """What each degradation costs."""
    part = sets[0]["parts"]["degraded"]
    clips = part["clips"]
    yield f"The video or the audio of {clips} clips degraded in one way each, one shift of each clip:"
    yield table(["degradation", "reports that have a number", "of these, right"], [
        [way, of(counts["measuring"], counts["reports"]), of(counts["right"], counts["measuring"])]
        for way, counts in part["ways"].items()
    ])  # fmt: skip


_STREAMS = {
    "speakers": "their own voices",
    "strangers_voices": "other speakers' voices",
    "still_mouths": "a mouth held still",
    "by_turns": "own and other voices in turns",
}


def trust(sets: Sets) -> Iterator[str]:
    """Reports on clips joined with steps."""
    part = sets[0]["parts"]["trust"]
    yield (
        f"{part['clips']} clips joined into one recording, {part['rounds']} times each, each time with a new shift, so "
        "that the offset steps where clips meet. Reports count from the step on, and while the voice is another "
        "speaker's, every number counts as wrong, also the one that the daemon remembers for half a minute:"
    )
    head = ["", "reports", "have a number %", "of these, right %", "of those 1 s after a step and later, right %",
            "first right number after a step: median"]  # fmt: skip
    yield table(head, [
        [title, str(one["reports"]), share(one["measuring"] / one["reports"] if one["reports"] else None),
         share(one["right_of_measuring"]), share(one["right_of_settled"]),
         "-" if one["median_first_s"] is None else seconds(round(one["median_first_s"], 1))]
        for name, title in _STREAMS.items() for one in [part[name]]
    ])  # fmt: skip
