"""Steps in evidence: detected within seconds, once, with their size; and no false ones."""

from __future__ import annotations

import numpy as np
import pytest

from device.bundles.calibration import Calibration
from device.sync.curve import TICK_MS
from device.sync.evidence_stream import LipEvidence
from device.sync.step_detector import DetectedStep, StepDetector

SIZE, LIP_HZ = 201, 25
CALIBRATION = Calibration(temperature=8.0, null_log_odds=4.0, zero_offset_ms=0.0)


def rows(offsets_ms: list[float], seed: int = 1, evidence: float = 5.0) -> list[LipEvidence]:
    """A lip tick each: a hump at the offset, 30 ms wide, and noise that a second's sum hardly rises above."""
    random, ticks = np.random.default_rng(seed), np.arange(SIZE) - SIZE // 2
    made = []
    for tick, offset_ms in enumerate(offsets_ms):
        hump = evidence * np.exp(-0.5 * ((ticks - offset_ms / TICK_MS) / 3.0) ** 2)
        made.append(LipEvidence(tick, (hump + random.normal(0, 2.5, SIZE)).astype(np.float32), True))
    return made


def seen(given: list[LipEvidence]) -> list[tuple[float, DetectedStep]]:
    """What is said, with the time in s at which it is: one look a second."""
    watch, found = StepDetector(), []
    for row in given:
        watch.push(row)
        if row.tick % LIP_HZ == 0 and (step := watch.detect(CALIBRATION)):
            found.append((row.tick / LIP_HZ, step))
    return found


def stepping(seconds: int, at_s: int, step_ms: float) -> list[float]:
    return [step_ms if tick >= at_s * LIP_HZ else 0.0 for tick in range(seconds * LIP_HZ)]


@pytest.mark.parametrize("step_ms", [60.0, -60.0, 400.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_step_is_seen_within_ten_seconds_once_and_with_its_size(step_ms: float, seed: int) -> None:
    ((at_s, step),) = seen(rows(stepping(90, 40, step_ms), seed))
    assert 40 < at_s <= 50
    assert step.step_ms == pytest.approx(step_ms, abs=10)
    assert step.onset_ns / 1e9 == pytest.approx(40, abs=1)


def test_there_and_back_are_two() -> None:
    offsets_ms = [100.0 if 30 <= tick / LIP_HZ < 60 else 0.0 for tick in range(90 * LIP_HZ)]
    assert [step.step_ms for _, step in seen(rows(offsets_ms))] == pytest.approx([100, -100], abs=10)


def test_pauses_are_no_steps_and_hide_none() -> None:
    given = rows(stepping(120, 60, 80.0))
    silent = [LipEvidence(row.tick, row.row * (row.tick // LIP_HZ % 20 < 10), True) for row in given]
    ((_, step),) = seen(silent)
    assert step.step_ms == pytest.approx(80, abs=10)


@pytest.mark.parametrize("drift_ppm", [0.0, 200.0, -300.0])
def test_neither_standing_nor_drifting_is_a_step(drift_ppm: float) -> None:
    assert not seen(rows([drift_ppm / 1000 * tick / LIP_HZ for tick in range(300 * LIP_HZ)]))


def test_noise_and_nothing_have_no_steps() -> None:
    random = np.random.default_rng(3)
    hum = random.normal(0, 0.5, (300 * LIP_HZ, SIZE)).astype(np.float32)
    assert not seen([LipEvidence(tick, row, True) for tick, row in enumerate(hum)])
    assert not seen([LipEvidence(tick, np.zeros(SIZE, np.float32), False) for tick in range(60 * LIP_HZ)])
    assert StepDetector().detect(CALIBRATION) is None


def test_a_step_smaller_than_a_picture_is_left_to_the_reports() -> None:
    assert not seen(rows(stepping(90, 40, 12.0)))


def test_a_step_to_the_end_of_the_search_range_is_not_reported() -> None:
    assert not seen(rows(stepping(90, 40, 1000.0)))


def test_rows_are_not_changed_and_memory_is_bounded() -> None:
    given = rows([0.0] * LIP_HZ * 80)
    before = given[0].row.copy()
    watch = StepDetector()
    for row in given:
        watch.push(row)
    assert (given[0].row == before).all() and len(watch._bins) == 300
