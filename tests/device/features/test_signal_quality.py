"""Faults of arriving frames and audio: each detected in its time, and none with real devices."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device.capture.file import FileSource
from device.features.signal_quality import SPOILS_NUMBERS, PictureMonitor, QualityMonitor, SoundMonitor
from device.records import NS_PER_MS, NS_PER_S, Chunk, Frame, RgbImage
from tests.scenes import ROOT, silent, talking, talking_items

FRAME_NS = 40 * NS_PER_MS
CHUNK_NS = 20 * NS_PER_MS
CHUNK_SAMPLES = 320
Noise = np.random.Generator


@cache
def scene() -> RgbImage:
    return next(item.rgb[::2, ::2] for item in talking_items() if isinstance(item, Frame))


def noisy(rng: Noise, picture: RgbImage | None = None, sigma: float = 1.0) -> RgbImage:
    """What a sensor sees of a still scene."""
    seen = (scene() if picture is None else picture) + rng.normal(0, sigma, scene().shape)
    return np.asarray(np.clip(np.rint(seen), 0, 255), np.uint8)


def shown(pictures: Iterator[RgbImage], duration_s: float, *, from_s: float = 0.0) -> Iterator[Frame]:
    for number in range(round(duration_s / 0.04)):
        yield Frame(number, round(from_s * NS_PER_S) + number * FRAME_NS, next(pictures))


def forever(make: Callable[[], RgbImage]) -> Iterator[RgbImage]:
    while True:
        yield make()


def heard(signal: npt.NDArray[np.float64], *, from_s: float = 0.0) -> Iterator[Chunk]:
    for number in range(len(signal) // CHUNK_SAMPLES):
        samples = signal[number * CHUNK_SAMPLES :][:CHUNK_SAMPLES].astype(np.float32)
        yield Chunk(number, round(from_s * NS_PER_S) + number * CHUNK_NS, 16_000, samples)


def tone(duration_s: float, level: float) -> npt.NDArray[np.float64]:
    return np.clip(level * np.sin(2 * np.pi * 220 * np.arange(round(duration_s * 16_000)) / 16_000), -1, 1)


def seconds_until(monitor: PictureMonitor | SoundMonitor, items: Iterator[Frame] | Iterator[Chunk]) -> float | None:
    """When the finding changes, from the first item on."""
    before, first_ns = monitor.fault, None
    for item in items:
        first_ns = item.t_ns if first_ns is None else first_ns
        monitor.push(item)  # type: ignore[arg-type]
        if monitor.fault != before:
            return (item.t_ns - first_ns) / NS_PER_S
    return None


@pytest.fixture
def rng() -> Noise:
    return np.random.default_rng(5)


# Pictures


def test_a_repeated_picture_is_frozen_after_two_seconds_and_over_soon_after_the_next_one(rng: Noise) -> None:
    monitor = PictureMonitor()
    assert seconds_until(monitor, shown(forever(lambda: noisy(rng)), 5)) is None
    assert monitor.fault is None
    took_s = seconds_until(monitor, shown(forever(scene), 5, from_s=5))
    assert took_s == pytest.approx(2.0, abs=0.1)
    assert monitor.fault == "camera_frozen"
    took_s = seconds_until(monitor, shown(forever(lambda: noisy(rng)), 5, from_s=7.04))
    assert took_s == pytest.approx(0.5, abs=0.1)
    assert monitor.fault is None


def test_a_few_buffers_handed_out_in_turn_are_frozen_as_well(rng: Noise) -> None:
    buffers = [noisy(rng) for _ in range(4)]
    turn = iter(range(10**6))
    assert seconds_until(PictureMonitor(), shown(forever(lambda: buffers[next(turn) % 4]), 5)) == pytest.approx(
        2.1, abs=0.1
    )


def test_a_few_noisy_points_do_not_make_it_a_new_picture(rng: Noise) -> None:
    def specks() -> RgbImage:
        picture = scene().copy()
        picture[rng.integers(0, 120), rng.integers(0, 160)] ^= 1
        return picture

    monitor = PictureMonitor()
    assert seconds_until(monitor, shown(forever(specks), 5)) is not None
    assert monitor.fault == "camera_frozen"


@pytest.mark.parametrize("sigma", [0.3, 1.0, 5.0])
def test_a_still_scene_in_front_of_a_real_sensor_is_not_frozen(rng: Noise, sigma: float) -> None:
    assert seconds_until(PictureMonitor(), shown(forever(lambda: noisy(rng, sigma=sigma)), 8)) is None


@pytest.mark.parametrize("repeats", [2, 5, 8])
def test_a_source_that_repeats_single_pictures_is_not_frozen(rng: Noise, repeats: int) -> None:
    def repeated() -> Iterator[RgbImage]:
        while True:
            picture = noisy(rng)
            yield from [picture] * repeats

    assert seconds_until(PictureMonitor(), shown(repeated(), 8)) is None


def test_a_source_that_repeats_pictures_recovers_too(rng: Noise) -> None:
    monitor = PictureMonitor()
    assert seconds_until(monitor, shown(forever(scene), 5)) is not None

    def doubled() -> Iterator[RgbImage]:
        while True:
            picture = noisy(rng)
            yield from (picture, picture)

    assert seconds_until(monitor, shown(doubled(), 3, from_s=2.1)) is not None
    assert monitor.fault is None


def test_one_new_picture_every_three_seconds_stays_frozen(rng: Noise) -> None:
    def slides() -> Iterator[RgbImage]:
        while True:
            picture = noisy(rng)
            yield from [picture] * 75

    monitor = PictureMonitor()
    faults = []
    for frame in shown(slides(), 15):
        monitor.push(frame)
        faults.append(monitor.fault)
    assert set(faults[60:]) == {"camera_frozen"}


@pytest.mark.parametrize("level", [0, 8, 16])
@pytest.mark.parametrize("sigma", [0.0, 4.0])
def test_a_covered_lens_is_black_and_not_frozen(rng: Noise, level: int, sigma: float) -> None:
    dark = np.full_like(scene(), level)
    monitor = PictureMonitor()
    took_s = seconds_until(monitor, shown(forever(lambda: noisy(rng, dark, sigma)), 5))
    assert monitor.fault == "camera_black" and took_s == pytest.approx(1.0, abs=0.1)
    for frame in shown(forever(lambda: noisy(rng, dark, sigma)), 5, from_s=1.04):
        monitor.push(frame)
        assert monitor.fault == "camera_black"
    took_s = seconds_until(monitor, shown(forever(lambda: noisy(rng)), 5, from_s=6.04))
    assert took_s is not None and took_s < 0.7


def test_a_lit_face_on_a_black_stage_is_not_black(rng: Noise) -> None:
    stage = np.zeros_like(scene())
    stage[40:80, 65:95] = scene()[40:80, 65:95]
    assert seconds_until(PictureMonitor(), shown(forever(lambda: noisy(rng, stage)), 5)) is None


def test_an_unexposed_second_is_not_black_yet(rng: Noise) -> None:
    monitor = PictureMonitor()
    dark = np.zeros_like(scene())
    assert seconds_until(monitor, shown(forever(lambda: dark), 0.9)) is None
    assert seconds_until(monitor, shown(forever(lambda: noisy(rng)), 5, from_s=0.9)) is None


def test_a_pause_restarts_the_wait() -> None:
    monitor = PictureMonitor()
    for start_s in (0, 10, 20):
        assert seconds_until(monitor, shown(forever(scene), 1.5, from_s=start_s)) is None


def test_times_that_go_back_restart_the_wait() -> None:
    monitor = PictureMonitor()
    for start_s in (100, 50, 0):
        assert seconds_until(monitor, shown(forever(scene), 1.5, from_s=start_s)) is None


def test_another_size_is_a_new_picture(rng: Noise) -> None:
    sizes = iter(range(10**6))
    monitor = PictureMonitor()
    assert seconds_until(monitor, shown(forever(lambda: scene()[: 80 + next(sizes) % 40]), 4)) is None


# Sound


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0, -1.0])
def test_a_constant_is_silent_after_two_seconds_and_over_soon_after_it(level: float) -> None:
    monitor = SoundMonitor()
    silent_from_s = None
    for chunk in heard(np.full(5 * 16_000, level)):
        monitor.push(chunk)
        if monitor.fault == "microphone_silent" and silent_from_s is None:
            silent_from_s = chunk.t_ns / NS_PER_S
    assert silent_from_s == pytest.approx(2.0, abs=0.05)
    assert monitor.fault == "microphone_silent"
    took_s = seconds_until(monitor, heard(tone(3, 0.1), from_s=5))
    assert took_s is not None and took_s < 0.6
    assert monitor.fault != "microphone_silent"


def test_a_quiet_room_is_not_silent(rng: Noise) -> None:
    room = np.rint(rng.normal(0, 0.5, 16_000 * 8)) / 32768  # not even one step of 16 bits
    assert seconds_until(SoundMonitor(), heard(room)) is None


def test_a_gate_that_shuts_between_words_is_not_silent(rng: Noise) -> None:
    gated = np.tile(np.concatenate([np.zeros(round(1.8 * 16_000)), rng.normal(0, 0.1, 3200)]), 5)
    assert seconds_until(SoundMonitor(), heard(gated)) is None


def test_sound_far_beyond_full_scale_is_clipped_until_it_is_not() -> None:
    monitor = SoundMonitor()
    took_s = seconds_until(monitor, heard(tone(5, 3.0)))
    assert monitor.fault == "microphone_clipped" and took_s is not None and took_s < 1
    took_s = seconds_until(monitor, heard(tone(10, 0.5), from_s=1))
    assert monitor.fault is None and took_s is not None and took_s < 6


def test_a_peak_now_and_then_is_not_clipped(rng: Noise) -> None:
    speech = rng.normal(0, 0.2, 16_000 * 8)
    speech[::1600] = 1.0
    assert seconds_until(SoundMonitor(), heard(speech)) is None


def test_blocks_without_samples_are_nothing() -> None:
    monitor = SoundMonitor()
    for number in range(500):
        monitor.push(Chunk(number, number * CHUNK_NS, 16_000, np.empty(0, np.float32)))
    assert monitor.fault is None


# Both


def test_what_spoils_numbers_comes_first(rng: Noise) -> None:
    monitor = QualityMonitor()
    for chunk in heard(tone(3, 3.0)):
        monitor.push(chunk)
    assert monitor.fault == "microphone_clipped" and monitor.fault not in SPOILS_NUMBERS
    for frame in shown(forever(scene), 3):
        monitor.push(frame)
    assert monitor.fault == "camera_frozen" and monitor.fault in SPOILS_NUMBERS


def test_recordings_of_a_talking_face_have_no_fault() -> None:
    for path in (talking(), ROOT / "device" / "models" / "sample.mkv"):
        monitor = QualityMonitor()
        with FileSource(path) as source:
            for item in source:
                monitor.push(item)
                assert monitor.fault is None


def test_a_recording_without_a_sound_is_reported() -> None:
    monitor = QualityMonitor()
    with FileSource(silent()) as source:
        for item in source:
            monitor.push(item)
    assert monitor.fault == "microphone_silent"


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(st.integers(-(2**40), 2**40), st.integers(1, 40), st.integers(1, 40), st.integers(0, 255)),
        max_size=30,
    )
)
def test_no_sizes_and_no_times_upset_it(rows: list[tuple[int, int, int, int]]) -> None:
    monitor = QualityMonitor()
    for number, (t_ns, height, width, level) in enumerate(rows):
        monitor.push(Frame(number, t_ns, np.full((height, width, 3), level, np.uint8)))
        monitor.push(Chunk(number, t_ns, 16_000, np.full(width, level / 255, np.float32)))
        assert monitor.fault in (None, "camera_frozen", "camera_black", "microphone_silent", "microphone_clipped")


def test_it_costs_well_below_a_millisecond_an_item(rng: Noise) -> None:
    large = [rng.integers(0, 255, (1080, 1920, 3), dtype=np.uint8) for _ in range(5)]
    monitor = QualityMonitor()
    sound = list(heard(rng.normal(0, 0.1, 16_000)))
    began_s = time.thread_time()
    for number in range(200):
        monitor.push(Frame(number, number * FRAME_NS, large[number % 5]))
        monitor.push(sound[number % 50])
    assert (time.thread_time() - began_s) / 400 < 1e-3
