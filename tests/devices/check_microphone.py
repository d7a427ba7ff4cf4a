"""The real PyAudio, PortAudio and ALSA on the monitor of a PulseAudio null sink: clicks, loss, endings, leaks.

Not in the default run: see `make test-devices`, or run pytest on this file where PulseAudio is installed. Nothing here
depends on how fast the machine is, but that the null sink keeps its pace.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from device.capture.microphones.resampler import CHUNK_MS
from device.capture.microphones.source import MicrophoneSource
from device.config.settings import MicrophoneSettings
from device.errors import DeviceLostError, DeviceMissingError
from device.records import NS_PER_S, Chunk
from tests.devices.null_sink import DEVICE, RATE_HZ, NullSink, null_sink

SETTINGS = MicrophoneSettings(DEVICE, force=True)
PATIENCE_S = 30.0  # a machine that has other things to do must not make a check fail
EVERY_S = 0.5


@pytest.fixture(scope="module")
def sink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NullSink]:
    with null_sink(tmp_path_factory.mktemp("pulse")) as running:
        yield running


def clicks(count: int) -> npt.NDArray[np.float32]:
    """One each half second, on a little noise: a sink that plays only zeros may fall asleep."""
    samples = np.random.default_rng(1).normal(0, 0.001, round(RATE_HZ * EVERY_S * (count + 1))).astype(np.float32)
    for k in range(1, count + 1):
        samples[round(k * EVERY_S * RATE_HZ) + np.arange(48)] += 0.8 * np.hanning(48).astype(np.float32)
    return samples


def click_times_ns(chunks: list[Chunk]) -> npt.NDArray[np.float64]:
    found: list[float] = []
    for chunk in chunks:
        for k in np.flatnonzero(chunk.samples > 0.4):
            t_ns = chunk.t_ns + k * NS_PER_S / chunk.rate_hz
            if not found or t_ns - found[-1] > 0.1 * NS_PER_S:
                found.append(t_ns)
    return np.array(found)


def listen(chunks: Iterator[Chunk], seconds: float) -> list[Chunk]:
    """The next ones, to cover so many seconds; each after the one before."""
    heard: list[Chunk] = []
    for chunk in chunks:
        assert not heard or chunk.t_ns > heard[-1].t_ns
        heard.append(chunk)
        if chunk.t_ns - heard[0].t_ns >= seconds * NS_PER_S:
            return heard
    raise AssertionError("the microphone ended")


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def off_grid_ms(chunks: list[Chunk]) -> npt.NDArray[np.float64]:
    """How far each click is from where it should be, if the one in the middle is where it should be."""
    found = click_times_ns(chunks)
    grid = (found - found[len(found) // 2]) / NS_PER_S / EVERY_S
    return np.asarray((grid - np.rint(grid)) * EVERY_S * 1000)


@pytest.mark.quiet
def test_clicks_come_out_at_the_right_distances_and_the_times_settle(sink: NullSink) -> None:
    with MicrophoneSource(SETTINGS, lost_after_s=PATIENCE_S) as source:
        sink.play(clicks(24))
        heard = listen(iter(source), 12)
        age_s = (time.monotonic_ns() - heard[-1].t_ns) / NS_PER_S
        found = click_times_ns(heard)
        wrong_ms = np.abs(np.diff(found) / NS_PER_S - EVERY_S) * 1000
        print(
            f"{len(found)} clicks on {source.clock_domain}, distances wrong by at most {wrong_ms.max():.2f} ms, "
            f"after the first six by {wrong_ms[6:].max():.2f} ms"
        )
        assert len(found) >= 18 and source.clock_domain == "realtime" and source.dropped == 0
        assert wrong_ms[6:].max() < 5
        assert -1 < age_s < 3, "on the monotonic clock, and not long ago"
        assert not source.digital_silence


def test_a_sink_that_plays_nothing_is_digital_silence(sink: NullSink) -> None:
    with MicrophoneSource(SETTINGS, lost_after_s=PATIENCE_S) as source:
        listen(iter(source), 4)
        assert source.digital_silence


@pytest.mark.quiet
def test_after_a_stall_of_the_whole_process_clicks_stand_where_they_belong_whatever_was_lost(sink: NullSink) -> None:
    with MicrophoneSource(SETTINGS, lost_after_s=PATIENCE_S) as source:
        chunks = iter(source)
        sink.play(clicks(80))
        heard = listen(chunks, 9)
        assert source.dropped == 0
        # With the interpreter's lock held the callback cannot run, as when the whole process stands still. PulseAudio
        # keeps 5 s of it (16.1) or all (17), and never sets a flag.
        ctypes.PyDLL(None).sleep(14)
        heard += listen(chunks, 10)
        lost_s, flags = source.dropped * CHUNK_MS / 1000, source.overflows
    off_ms = off_grid_ms(heard)
    print(
        f"a stall of 14 s lost {lost_s:.2f} s, with {flags} flags; clicks off by at most {np.abs(off_ms).max():.1f} ms"
    )
    assert lost_s < 14
    # Most clicks, not all: on a busy machine the sink itself may skip.
    assert np.median(np.abs(off_ms[-12:] - np.median(off_ms[:10]))) < 20


def test_a_server_that_stands_still_is_lost_and_can_be_opened_again(sink: NullSink) -> None:
    with MicrophoneSource(SETTINGS) as source, pytest.raises(DeviceLostError, match=r"avmic: delivered no audio for"):
        chunks = iter(source)
        listen(chunks, 1)
        sink.signal(signal.SIGSTOP)
        try:
            listen(chunks, 60)
        finally:
            sink.signal(signal.SIGCONT)
    with MicrophoneSource(SETTINGS, lost_after_s=PATIENCE_S) as source:
        listen(iter(source), 1)


def test_a_server_that_is_killed_is_lost_then_missing_then_there_again(sink: NullSink) -> None:
    with MicrophoneSource(SETTINGS, lost_after_s=PATIENCE_S) as source, pytest.raises(DeviceLostError, match="avmic"):
        chunks = iter(source)
        listen(chunks, 1)
        sink.kill()
        listen(chunks, 60)
    with pytest.raises(DeviceMissingError, match="avmic"):
        MicrophoneSource(SETTINGS)
    sink.start()
    with MicrophoneSource(SETTINGS, lost_after_s=PATIENCE_S) as source:
        listen(iter(source), 1)


def test_close_ends_a_waiting_reader_soon(sink: NullSink) -> None:
    source = MicrophoneSource(SETTINGS, lost_after_s=PATIENCE_S)
    reader = threading.Thread(target=lambda: list(source))
    reader.start()
    time.sleep(0.5)
    begin_s = time.monotonic()
    source.close()
    reader.join(30)
    took_s = time.monotonic() - begin_s
    print(f"closed in {took_s * 1000:.0f} ms")
    assert not reader.is_alive() and took_s < 1


def test_fifty_openings_leave_no_thread_and_no_file_behind(sink: NullSink) -> None:
    def open_and_close(*, read: bool) -> tuple[int, int]:
        with MicrophoneSource(SETTINGS, lost_after_s=PATIENCE_S) as source:
            if read:  # which takes seconds, as the times have to settle
                next(iter(source))
        return len(list(Path("/proc/self/task").iterdir())), len(list(Path("/proc/self/fd").iterdir()))

    for _ in range(3):  # what libraries keep for good
        open_and_close(read=True)
    before, memory_mb = open_and_close(read=True), resident_mb()
    after = [open_and_close(read=k % 10 == 9) for k in range(50)][-1]
    grown_mb = resident_mb() - memory_mb
    print(f"threads and files {before} before, {after} after; {grown_mb:+.1f} MB")
    assert after == before and grown_mb < 20


def test_nothing_is_said_on_stderr(sink: NullSink, capfd: pytest.CaptureFixture[str]) -> None:
    with MicrophoneSource(SETTINGS, lost_after_s=PATIENCE_S) as source:
        next(iter(source))
    assert capfd.readouterr().err == ""
