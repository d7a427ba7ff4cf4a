"""The minimum data for each recipe, and how much is worth having, compared with the data at hand.

The built-in models were made from 57 minutes of 106 speakers; with half of those minutes 1 to 3 points are lost (More
recordings, docs/experiments.md). With less than half an hour, only a start from the built-in models is left.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from train.check.survey import Survey
from train.data.clip_table import MIN_VALID_SPEAKERS, TRAIN, VALID

ADAPT, FROM_SCRATCH, CORPUS, AUTO = "adapt", "train", "corpus", "auto"
ADAPT_BELOW_MINUTES = 30.0


@dataclass(frozen=True, slots=True)
class Need:
    """Minutes and speakers for training and validation, for one recipe; `worth` is enough for a good result."""

    minutes: float
    speakers: int
    valid_minutes: float
    worth_minutes: float
    worth_speakers: int


NEEDS: Mapping[str, Need] = {
    ADAPT: Need(2.0, 1, 1.0, 10.0, 3),
    FROM_SCRATCH: Need(ADAPT_BELOW_MINUTES, 20, 2.0, 60.0, 100),
    CORPUS: Need(60.0, 50, 2.0, 600.0, 500),
}


def chosen_recipe(kind: str, minutes: float) -> str:
    """`auto` is adapt for less than half an hour of training clips, and training from scratch above."""
    if kind != AUTO:
        return kind
    return ADAPT if minutes < ADAPT_BELOW_MINUTES else FROM_SCRATCH


def shortages(found: Survey, recipe: str) -> list[str]:
    """What is missing for the recipe to work, each with its stage; empty if nothing is."""
    return list(_shortages(found, recipe, NEEDS[recipe]))


def _shortages(found: Survey, recipe: str, need: Need) -> Iterator[str]:
    train, valid = found.sides[TRAIN], found.sides[VALID]
    if train.minutes < need.minutes:
        other = f', or let the recipe be "{ADAPT}"' if recipe != ADAPT and train.minutes >= NEEDS[ADAPT].minutes else ""
        stage = "fit" if recipe == ADAPT else "clean and fit"
        yield f"{stage}: {train.minutes:.1f} training minutes, at least {need.minutes:g} are needed: record more{other}"
    if train.speakers < need.speakers:
        yield f"fit: {train.speakers} training speakers, at least {need.speakers} are needed: record more people"
    stages = "calibrate, evaluate and gate"
    if valid.minutes < need.valid_minutes:
        needed = f"at least {need.valid_minutes:g} are needed: record more, or move speakers there"
        yield f"{stages}: {valid.minutes:.1f} minutes in the split valid, {needed}"
    if valid.speakers < MIN_VALID_SPEAKERS:
        needed = f"at least {MIN_VALID_SPEAKERS} are needed, to test another speaker's voice: record more people"
        yield f"{stages}: {valid.speakers} speakers in the split valid, {needed}"


def advice(found: Survey, recipe: str) -> str:
    """What more would help, in one sentence; empty if there is enough."""
    train, need = found.sides[TRAIN], NEEDS[recipe]
    if train.minutes >= need.worth_minutes and train.speakers >= need.worth_speakers:
        return ""
    return f"For a good result: {need.worth_minutes:g} training minutes of {need.worth_speakers} speakers"
