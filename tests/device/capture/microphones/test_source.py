"""The microphone source on a scripted PyAudio: what it opens and delivers, and the name of each fault."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from device.capture.microphones import portaudio
from device.capture.microphones.portaudio import load_pyaudio, quiet
from device.capture.microphones.resampler import CHUNK_MS
from device.capture.microphones.source import MicrophoneSource
from device.config.settings import MicrophoneSettings
from device.errors import (
    CaptureError,
    DeviceBusyError,
    DeviceLostError,
    DeviceMissingError,
    DevicePermissionError,
    UsageError,
)
from device.records import NS_PER_MS, NS_PER_S, Chunk
from tests.device.capture.microphones.clocks import EPOCH_NS, START_NS
from tests.device.capture.microphones.fake_pyaudio import Call, FakePyAudio, add_card, calls, device

RATE_HZ = 48_000
HW = MicrophoneSettings("hw:CARD=Device,DEV=0")


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader asks at once whether the stream is active, which is when the fake plays on."""
    monkeypatch.setattr(portaudio, "_POLL_S", 0.0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    add_card(tmp_path, 3, "Device", "USB PnP Sound Device")
    return tmp_path


def noise(seconds: float, level: float = 0.1) -> npt.NDArray[np.float32]:
    return np.random.default_rng(8).normal(0, level, round(seconds * RATE_HZ)).astype(np.float32)


def world(script: Sequence[Call] = (), *, number: int = 3, channels: int = 1, **more: Any) -> FakePyAudio:
    names = [
        "vc4-hdmi: MAI PCM i2s-hifi-0 (hw:0,0)",
        f"USB PnP Sound Device: Audio (hw:{number},0)",
        "sysdefault",
        "default",
    ]
    devices = [device(names[0], 0), *(device(name, channels) for name in names[1:])]
    return FakePyAudio(devices, script, **more)


def opened(fake: FakePyAudio, root: Path, settings: MicrophoneSettings = HW, **more: Any) -> MicrophoneSource:
    return MicrophoneSource(settings, pyaudio=fake, root=root, clocks=fake.clocks, **more)


def hear(source: MicrophoneSource) -> list[Chunk]:
    """All there is until the fake stream ends; checks what every source promises."""
    chunks: list[Chunk] = []
    with source, pytest.raises(DeviceLostError, match="its stream has ended"):
        for chunk in source:
            chunks.append(chunk)  # one by one: what came before the error counts
    assert [chunk.seq for chunk in chunks] == list(range(len(chunks)))
    assert all(one.t_ns < other.t_ns for one, other in itertools.pairwise(chunks))
    return chunks


def clicks(seconds: float, every_s: float = 0.5) -> npt.NDArray[np.float32]:
    samples = np.zeros(round(seconds * RATE_HZ), np.float32)
    for k in range(1, round(seconds / every_s)):
        samples[round(k * every_s * RATE_HZ) + np.arange(48)] = np.hanning(48)
    return samples


def click_times_s(chunks: Sequence[Chunk], threshold: float = 0.3) -> list[float]:
    found: list[float] = []
    for chunk in chunks:
        for k in np.flatnonzero(chunk.samples > threshold):
            t_s = (chunk.t_ns - START_NS) / NS_PER_S + k / chunk.rate_hz
            if not found or t_s - found[-1] > 0.1:
                found.append(t_s)
    return found


# What it opens


def test_the_card_is_opened_by_name_wherever_portaudio_lists_it(root: Path) -> None:
    fake = world()
    with opened(fake, root):
        wanted = fake.streams[0].wanted
        assert wanted["input_device_index"] == 1 and wanted["input"] is True
        assert (wanted["rate"], wanted["channels"], wanted["frames_per_buffer"]) == (48_000, 1, 960)
    assert fake.running == 0 and fake.streams[0].closed == 1


def test_it_is_found_again_under_another_number(root: Path) -> None:
    fake = world()
    opened(fake, root).close()
    (root / "proc/asound/card3").rename(root / "proc/asound/card5")
    (root / "dev/snd/pcmC5D0c").touch()
    fake.devices = [*reversed(world(number=5).devices), device("C920: USB Audio (hw:3,0)")]
    opened(fake, root).close()
    assert [stream.wanted["input_device_index"] for stream in fake.streams] == [1, 2]
    assert fake.devices[2]["name"].endswith("(hw:5,0)") and fake.started == 2


@pytest.mark.parametrize(
    ("rates_hz", "chosen"),
    [((16_000, 44_100, 48_000), 48_000), ((16_000, 44_100), 16_000), ((44_100,), 44_100), ((11_025,), 44_100)],
)
def test_a_rate_that_the_card_has_is_chosen(root: Path, rates_hz: tuple[int, ...], chosen: int) -> None:
    fake = world(rates_hz=rates_hz)
    with opened(fake, root) as source:
        assert fake.streams[0].wanted["rate"] == chosen
        assert fake.streams[0].wanted["frames_per_buffer"] == chosen // 50
        assert source.device == HW.device


@pytest.mark.parametrize(("has", "asked"), [(1, 1), (2, 2), (6, 2), (128, 2)])
def test_at_most_two_channels_are_asked_for(root: Path, has: int, asked: int) -> None:
    fake = world(channels=has)
    opened(fake, root).close()
    assert fake.streams[0].wanted["channels"] == asked


@pytest.mark.parametrize(
    "name", ["pulse", "default", "sysdefault", "jack", "plughw:CARD=Device", "USB PnP", "dsnoop:Device"]
)
def test_what_is_no_card_is_refused_with_the_reason(root: Path, name: str) -> None:
    fake = world()
    with pytest.raises(UsageError, match=r"times cannot be trusted.*force = true"):
        opened(fake, root, MicrophoneSettings(name))
    assert fake.started == 0


def test_a_forced_name_is_taken_exactly(root: Path) -> None:
    fake = world()
    opened(fake, root, MicrophoneSettings("default", force=True)).close()
    assert fake.streams[0].wanted["input_device_index"] == 3  # and not sysdefault
    with pytest.raises(DeviceMissingError, match=r"PortAudio does not list it, but: .*sysdefault"):
        opened(fake, root, MicrophoneSettings("pulse", force=True))
    assert fake.running == 0


def test_auto_is_the_only_card(root: Path) -> None:
    fake = world()
    with opened(fake, root, MicrophoneSettings()) as source:
        assert source.device == "hw:CARD=Device,DEV=0"
    add_card(root, 4, "Webcam", "C920")
    with pytest.raises(DeviceMissingError, match="hw:CARD=Webcam,DEV=0"):
        opened(fake, root, MicrophoneSettings())


# What it gives


def test_clicks_come_out_where_they_were(root: Path) -> None:
    fake = world(calls(clicks(20)))
    source = opened(fake, root)
    chunks = hear(source)
    assert click_times_s(chunks) == pytest.approx(np.arange(1, 40) * 0.5, abs=1e-3)
    assert (source.dropped, source.overflows, source.clock_domain) == (0, 0, "monotonic")
    assert {chunk.rate_hz for chunk in chunks} == {16_000}


def test_the_louder_of_two_channels_is_heard(root: Path) -> None:
    samples = np.stack([np.zeros(RATE_HZ * 4, np.float32), clicks(4)], axis=1)
    assert len(click_times_s(hear(opened(world(calls(samples), channels=2), root)))) == 7


@pytest.mark.parametrize("step_h", [1, -1])
def test_times_on_the_wall_clock_and_a_step_of_it(root: Path, step_h: int) -> None:
    def told(call: Call) -> Call:
        step_ns = step_h * 3600 * NS_PER_S if call.mono_ns > START_NS + 8 * NS_PER_S else 0
        return replace(call, adc_s=call.adc_s + (EPOCH_NS + step_ns) / NS_PER_S, real_step_ns=step_ns)

    script = [told(call) for call in calls(clicks(16))]
    source = opened(world(script), root)
    assert click_times_s(hear(source)) == pytest.approx(np.arange(1, 32) * 0.5, abs=2e-3)
    assert source.clock_domain == "realtime" and source.dropped == 0


@pytest.mark.parametrize("zeros", [10, 10_000])
def test_times_of_zero_at_the_start_or_for_ever(root: Path, zeros: int) -> None:
    script = [replace(call, adc_s=0.0) if k < zeros else call for k, call in enumerate(calls(clicks(16)))]
    source = opened(world(script), root)
    late_s = 0.005 if zeros > 1000 else 0
    assert click_times_s(hear(source)) == pytest.approx(np.arange(1, 32) * 0.5 + late_s, abs=1e-3)
    assert source.clock_domain == ("arrival" if zeros > 1000 else "monotonic")


def test_an_overflow_is_counted_and_what_it_lost_too(root: Path) -> None:
    script = calls(clicks(16))
    del script[500:525]
    script[500] = replace(script[500], flags=2)
    source = opened(world(script), root)
    chunks = hear(source)
    assert source.overflows == 1 and source.dropped == 500 / CHUNK_MS
    lost = (START_NS + 10 * NS_PER_S, START_NS + 10.5 * NS_PER_S)
    assert not [chunk for chunk in chunks if lost[0] + 20 * NS_PER_MS < chunk.t_ns < lost[1] - 20 * NS_PER_MS]
    assert click_times_s(chunks) == pytest.approx([k / 2 for k in range(1, 32) if k != 20], abs=2e-3)


def test_sound_that_nobody_fetched_in_time_is_counted_as_lost(root: Path) -> None:
    fake = world(calls(clicks(30)))
    source = opened(fake, root)
    fake.streams[0].play(1000)  # 20 s at once: the queue holds 5
    chunks = hear(source)
    assert source.dropped == 15_000 / CHUNK_MS
    assert click_times_s(chunks) == pytest.approx([k / 2 for k in range(30, 60)], abs=2e-3)


def test_silent_loss_is_counted_without_any_flag(root: Path) -> None:
    script = calls(noise(16))
    del script[500:527]
    source = opened(world(script), root)
    hear(source)
    assert source.overflows == 0 and source.dropped == round(540 / CHUNK_MS)


def test_the_rate_becomes_known(root: Path) -> None:
    script = [
        replace(call, adc_s=call.adc_s - k * 0.02 * 150e-6, mono_ns=call.mono_ns - round(k * 0.02 * 150e-6 * NS_PER_S))
        for k, call in enumerate(calls(noise(60)))
    ]
    source = opened(world(script), root)
    assert source.rate_ppm is None and source.rate_std_ppm is None
    hear(source)
    assert source.rate_ppm == pytest.approx(150, abs=15) and source.rate_std_ppm is not None


@pytest.mark.parametrize(
    ("samples", "silent"),
    [
        (np.zeros(RATE_HZ * 4, np.float32), True),
        (np.full(RATE_HZ * 4, -0.3, np.float32), True),
        (np.where(np.arange(RATE_HZ * 4) % 900 == 0, 1 / 32768, 0).astype(np.float32), False),  # a very quiet room
        (noise(4, level=0.5 / 32768), False),
        (np.concatenate([noise(3), np.zeros(RATE_HZ * 9 // 10, np.float32)]), False),
        (np.concatenate([noise(3), np.zeros(RATE_HZ * 12 // 10, np.float32)]), True),
        (np.concatenate([np.zeros(RATE_HZ * 3, np.float32), noise(0.1)]), False),
        (np.stack([np.zeros(RATE_HZ * 4), np.ones(RATE_HZ * 4)], axis=1).astype(np.float32), True),
        (np.stack([np.zeros(RATE_HZ * 4, np.float32), noise(4)], axis=1), False),
    ],
)
def test_digital_silence_is_no_quiet_room(root: Path, samples: npt.NDArray[np.float32], silent: bool) -> None:
    source = opened(world(calls(samples), channels=samples.ndim), root)
    assert not source.digital_silence
    hear(source)
    assert source.digital_silence is silent


def test_what_is_no_number_does_not_get_through(root: Path) -> None:
    samples = noise(3)
    samples[::7], samples[::11] = np.nan, np.inf
    assert all(np.isfinite(chunk.samples).all() for chunk in hear(opened(world(calls(samples)), root)))


# What goes wrong


def test_a_stream_that_stops_giving_is_lost(root: Path) -> None:
    fake = world(calls(noise(2)), stays_active=True)
    with (
        opened(fake, root, lost_after_s=0.05) as source,
        pytest.raises(DeviceLostError, match=r"delivered no audio for 0\.") as error,
    ):
        list(source)
    assert "hw:CARD=Device,DEV=0" in str(error.value) and fake.running == 0


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(-9985, "Device unavailable"), DeviceBusyError),
        (OSError(-9999, "Unanticipated host error"), DeviceMissingError),
    ],
)
def test_portaudios_own_errors_are_reported_apart(root: Path, error: OSError, kind: type[CaptureError]) -> None:
    fake = world(open_error=error)
    with pytest.raises(kind, match=str(error.args[1])):
        opened(fake, root)
    assert fake.running == 0


def test_the_kernel_is_asked_again_where_portaudio_only_shrugs(root: Path) -> None:
    class TakenMeanwhile(FakePyAudio):
        def PyAudio(self) -> Any:  # noqa: N802
            (root / "proc/asound/card3/pcm0c/sub0/status").write_text("state: RUNNING\nowner_pid   : 77\n")
            return super().PyAudio()

    with pytest.raises(DeviceBusyError, match="process 77"):
        opened(TakenMeanwhile([]), root)


def test_missing_busy_and_forbidden_are_reported_before_portaudio_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = world()
    with pytest.raises(DeviceMissingError):
        opened(fake, tmp_path)
    add_card(tmp_path, 3, "Device", "USB", owner=77)
    with pytest.raises(DeviceBusyError):
        opened(fake, tmp_path)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(DevicePermissionError):
        opened(fake, tmp_path)
    assert fake.started == 0


def test_without_pyaudio_there_is_a_line_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyaudio", None)
    with pytest.raises(DeviceMissingError, match=r"apt install portaudio19-dev .*pip install pyaudio"):
        load_pyaudio()


def test_close_from_another_thread_ends_a_waiting_reader(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portaudio, "_POLL_S", 30.0)
    fake = world(stays_active=True)
    source = opened(fake, root, lost_after_s=60)
    heard: list[Chunk] = []
    reader = threading.Thread(target=lambda: heard.extend(source))
    reader.start()
    time.sleep(0.05)
    source.close()
    source.close()
    reader.join(20)
    assert not reader.is_alive() and heard == [] and fake.running == 0 and fake.streams[0].closed == 1


def test_it_is_read_once(root: Path) -> None:
    source = opened(world(calls(noise(2))), root)
    hear(source)
    with pytest.raises(RuntimeError, match="open the microphone again"):
        next(iter(source))


def test_quiet_leaves_stderr_to_others(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet():
        print("still here", file=sys.stderr, flush=True)
    assert "still here" in capfd.readouterr().err


class CountedWaking(threading.Condition):
    """How often somebody was woken."""

    count = 0

    def notify(self, n: int = 1) -> None:
        self.count += 1
        super().notify(n)


def inbox_of(count: int) -> tuple[portaudio.Inbox, CountedWaking]:
    """One into which so many blocks were put."""
    inbox = portaudio.Inbox(SimpleNamespace(paInputOverflow=2, paContinue=0, paAbort=2), lambda: (1, 2, 3))
    inbox._changed = waking = CountedWaking()
    for number in range(count):
        inbox.put(b"", number, {"input_buffer_adc_time": 1.0}, 0)
    return inbox, waking


def test_the_reader_is_woken_for_several_blocks_at_once() -> None:
    inbox, waking = inbox_of(portaudio.WAKE_BLOCKS - 1)
    assert not waking.count
    inbox, waking = inbox_of(portaudio.WAKE_BLOCKS)
    assert waking.count == 1
    taken = [block.count for _ in range(portaudio.WAKE_BLOCKS) if (block := inbox.get(0))]
    assert taken == list(range(portaudio.WAKE_BLOCKS)) and inbox.get(0.01) is None


def test_fewer_blocks_are_taken_when_the_time_is_over() -> None:
    inbox, _ = inbox_of(1)
    assert inbox.get(0.01) is not None and inbox.get(0.01) is None
