"""`avdrift calibrate` end to end: films with known offsets, people, live sources, and what is stored."""

from __future__ import annotations

import json
import math
import threading
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device.calibrate.bias import MODEL_ZERO_STD_MS, PERSON_STD_MS, from_pattern
from device.calibrate.cli import calibrate_command
from device.calibrate.gather import Live, recorded
from device.capture.source import Closing
from device.cli import main
from device.config.settings import Config
from device.doctor.models import SAMPLE
from device.errors import CaptureError, DeviceBusyError, DeviceLostError, UsageError
from device.records import NS_PER_S, Chunk, Frame
from device.runtime.inputs.source_thread import Feed
from device.runtime.inputs.sources import live_feeds
from device.state.rig import Rig, load_rig, store_rig
from tests.device.calibrate.films import cut, film
from tests.device.calibrate.pattern_scene import RATE_HZ, Camera, Room, heard, seen, shown_s
from tests.scenes import silent

CONFIGURED = """
config_version = 1
[camera]
device = "libcamera:imx708"
[microphone]
device = "hw:CARD=Device,DEV=0"
"""


def calibrated(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["calibrate", "--json", *arguments]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


# Recordings of the pattern


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_the_film_itself_is_in_step(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = calibrated(capsys, "--pattern", "--source", str(film(suffix)), "--store", str(tmp_path))
    assert abs(told["bias_ms"]) < 1.5
    assert told["way"] == "pattern" and told["count"] >= 13 and told["bias_std_ms"] > MODEL_ZERO_STD_MS


@pytest.mark.parametrize(
    ("cuts", "shift_ms"),
    [({"sound_s": 0.1}, 100), ({"sound_s": 0.0123}, 12.3), ({"sound_s": 1.1}, 1100), ({"picture_s": 0.4}, -400),
     ({"picture_s": 1.1}, -1100)],
)  # fmt: skip
def test_the_shift_of_a_cut_film_is_found(
    cuts: dict[str, float], shift_ms: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = cut(film(), tmp_path / "cut.mkv", **cuts)
    told = calibrated(capsys, "--pattern", "--source", str(path), "--store", str(tmp_path))
    assert told["bias_ms"] == pytest.approx(shift_ms, abs=1.5)


def test_films_that_were_shown_at_another_rate(tmp_path: Path) -> None:
    """Where both rates run in step, the standard error says how little is known."""
    errors_ms = []
    for made_fps, shown_fps in ((24, 29.97), (25, 30), (30, 24)):
        path = cut(film(".mkv", made_fps), tmp_path / f"{made_fps}-{shown_fps}.mkv", sound_s=0.25, fps=shown_fps)
        found = from_pattern(recorded(path, None), recorded=True)
        errors_ms.append(abs(found.bias_ms - 250))
        assert errors_ms[-1] < 2 * math.sqrt(found.bias_std_ms**2 - MODEL_ZERO_STD_MS**2), (made_fps, shown_fps)
    assert np.median(errors_ms) < 3 and max(errors_ms) < 10


def test_a_recording_is_stored_only_for_the_devices_that_a_configuration_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = calibrated(capsys, "--pattern", "--source", str(film()), "--store", str(tmp_path))
    assert told["stored"] is None and load_rig(tmp_path) is None
    config = tmp_path / "avdrift.toml"
    config.write_text(CONFIGURED)
    arguments = ["--pattern", "--source", str(film()), "--store", str(tmp_path), "--config", str(config)]
    assert calibrated(capsys, *arguments, "--dry-run")["stored"] is None and load_rig(tmp_path) is None
    told = calibrated(capsys, *arguments)
    rig = load_rig(tmp_path)
    assert rig is not None and told["stored"] == str(tmp_path / "rig.json")
    assert (rig.camera, rig.microphone) == ("libcamera:imx708", "hw:CARD=Device,DEV=0")
    assert rig.bias_ms == told["bias_ms"] and rig.bias_std_ms == told["bias_std_ms"]
    assert abs(rig.made_unix_ms / 1000 - time.time()) < 3600


def test_text_for_a_person(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "--pattern", "--source", str(film()), "--store", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "flashes and beeps" in shown and "not stored" in shown
    assert "this includes 3 ms for each metre" in shown and "delays of screen" in shown


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["--pattern", "--source", "none.mkv"], 3, "none.mkv"),
        (["--pattern", "--source", str(SAMPLE)], 3, "avdrift pattern"),
        (["--seconds", "5"], 2, "10 to 600"),
        (["--seconds", "nan"], 2, "10 to 600"),
        (["--config", "none.toml"], 2, "none.toml"),
        (["--bundle", "nowhere", "--source", "x"], 4, "nowhere"),
    ],
)
def test_refusals(
    arguments: list[str], code: int, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate", "--store", str(tmp_path), *arguments]) == code
    assert named in capsys.readouterr().err and load_rig(tmp_path) is None


# People


def test_a_person(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The built-in speaker is 80 ms early for 16 s."""
    told = calibrated(capsys, "--source", str(SAMPLE), "--seconds", "16", "--store", str(tmp_path))
    assert told["way"] == "person" and told["count"] >= 4
    assert told["bias_ms"] == pytest.approx(80, abs=15)
    assert PERSON_STD_MS <= told["bias_std_ms"] < 20


def test_a_person_whose_offset_jumps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "--source", str(SAMPLE), "--seconds", "30", "--store", str(tmp_path)]) == 3
    assert "not steady" in capsys.readouterr().err


def test_nobody_speaks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "--source", str(silent()), "--store", str(tmp_path)]) == 3
    assert "no_speech" in capsys.readouterr().err


# Live


class Together:
    """Lets live sources go on side by side, none more than a tenth of a second ahead of the others."""

    def __init__(self) -> None:
        self._moved = threading.Condition()
        self._at_ns: dict[object, float] = {}

    def join(self, who: object) -> None:
        with self._moved:
            self._at_ns[who] = 0

    def reach(self, who: object, t_ns: float) -> None:
        with self._moved:
            self._at_ns[who] = t_ns
            self._moved.notify_all()
            self._moved.wait_for(lambda: min(self._at_ns.values()) > t_ns - NS_PER_S / 10 or t_ns == math.inf, 30)


class Scripted(Closing):
    """A live source: its items, then an error, or silence until it is closed."""

    def __init__(
        self,
        device: str,
        items: Sequence[Frame | Chunk],
        error: Exception | None = None,
        together: Together | None = None,
    ) -> None:
        self.device, self.items, self._error = device, items, error
        self._together = together or Together()
        self._together.join(self)
        self.closed = threading.Event()
        self.dropped, self.rate_ppm = 0, None

    def close(self) -> None:
        self.closed.set()
        self._together.reach(self, math.inf)

    def __iter__(self) -> Iterator[Frame | Chunk]:
        for item in self.items:
            self._together.reach(self, item.t_ns)
            yield item
        if self._error:
            raise self._error
        self.closed.wait(30)


def scene(offset_s: float, duration_s: float = 30.0) -> tuple[list[Frame], list[Chunk]]:
    begins = shown_s(duration_s, 30, 60) + 1.0
    times, lights = seen(begins, duration_s + 2, Camera())
    parts = np.round(255 * lights ** (1 / 2.2)).astype(np.uint8).reshape(-1, 12, 16, 1)
    pictures = np.repeat(np.repeat(parts, 4, axis=1), 4, axis=2).repeat(3, axis=3)
    epoch_ns = 7_000 * NS_PER_S
    frames = [
        Frame(k, epoch_ns + round(t_s * NS_PER_S), rgb)
        for k, (t_s, rgb) in enumerate(zip(times, pictures, strict=True))
    ]
    sound = heard(begins - offset_s, duration_s + 2, Room()).astype(np.float32)
    chunks = [
        Chunk(k, epoch_ns + at * NS_PER_S // RATE_HZ, RATE_HZ, sound[at : at + 320])
        for k, at in enumerate(range(0, len(sound), 320))
    ]
    return frames, chunks


def rig_of(offset_s: float) -> tuple[list[Feed], list[Scripted]]:
    frames, chunks = scene(offset_s)
    together = Together()
    sources = [
        Scripted("libcamera:imx708", frames, together=together),
        Scripted("hw:CARD=Device,DEV=0", chunks, together=together),
    ]
    return [
        Feed("camera", lambda: sources[0]), Feed("microphone", lambda: sources[1])
    ], sources  # fmt: skip


def options(tmp_path: Path, **changes: Any) -> Namespace:
    given = {
        "pattern": True, "seconds": 25.0, "source": None, "config": None, "bundle": None, "store": tmp_path,
        "dry_run": False, "json": True, "undo": False,
    }  # fmt: skip
    return Namespace(**given | changes)


def test_a_calibration_is_undone_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    undo = ["calibrate", "--undo", "--store", str(tmp_path)]
    assert main(undo) == 2 and "no calibration to undo" in capsys.readouterr().err
    for bias_ms in (12.0, -30.0):
        store_rig(tmp_path, Rig(bias_ms, 1.0, 1, "cam", "mic"))
    assert main(undo) == 0 and "+12.0 ms for cam with mic" in capsys.readouterr().out
    assert main([*undo, "--json"]) == 0 and json.loads(capsys.readouterr().out)["rig"]["bias_ms"] == -30.0


@pytest.mark.parametrize("offset_s", [-0.4, 0.08])
def test_a_live_rig_is_measured_and_stored(offset_s: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    feeds, sources = rig_of(offset_s)
    assert calibrate_command(options(tmp_path), lambda _: feeds) == 0
    told = json.loads(capsys.readouterr().out)
    rig = load_rig(tmp_path)
    assert rig is not None and rig.bias_ms == pytest.approx(1000 * offset_s, abs=3)
    assert (rig.camera, rig.microphone) == ("libcamera:imx708", "hw:CARD=Device,DEV=0")
    assert told["camera"] == rig.camera and told["stored"]
    assert all(source.closed.wait(5) for source in sources)


def test_it_records_no_longer_than_requested(tmp_path: Path) -> None:
    feeds, _ = rig_of(0.0)
    items = list(Live(feeds, 10).items())
    times = [item.t_ns for item in items]
    assert 9.9 < (max(times) - min(times)) / NS_PER_S < 10.5


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DeviceBusyError("held", where="camera", remedy="End it"), DeviceBusyError),
        (UsageError("no such name", where="camera", remedy="Choose"), UsageError),
        (OSError(5, "Input/output error"), DeviceLostError),
    ],
)
def test_what_goes_wrong_with_a_source_is_reported(error: Exception, kind: type[Exception]) -> None:
    feeds = [
        Feed("camera", lambda: Scripted("c", [], error)),
        Feed("microphone", lambda: Scripted("m", scene(0.0, 12)[1])),
    ]
    before = threading.active_count()
    with pytest.raises(kind):
        list(Live(feeds, 60).items())
    assert threading.active_count() <= before


def test_a_source_that_ends_is_lost() -> None:
    class Ending(Scripted):
        def __iter__(self) -> Iterator[Frame | Chunk]:
            yield from self.items

    with pytest.raises(DeviceLostError, match="camera: ended"):
        list(Live([Feed("camera", lambda: Ending("c", [])), *rig_of(0.0)[0][1:]], 60).items())


def test_nothing_is_stored_where_there_is_no_pattern(tmp_path: Path) -> None:
    feeds, sources = rig_of(0.0)
    dark = [Frame(frame.seq, frame.t_ns, frame.rgb * 0) for frame in sources[0].items if isinstance(frame, Frame)]
    sources[0].items = dark
    with pytest.raises(CaptureError, match="0 flashes"):
        calibrate_command(options(tmp_path), lambda _: feeds)
    assert load_rig(tmp_path) is None


def test_a_gap_in_the_sound_moves_no_beep() -> None:
    frames, chunks = scene(0.1)
    kept = [chunk for chunk in chunks if not 300 < chunk.seq < 420]
    items: list[Frame | Chunk] = sorted([*frames, *kept], key=lambda item: item.t_ns)
    assert from_pattern(items, recorded=False).bias_ms == pytest.approx(100, abs=3)


@pytest.mark.parametrize("kind", [Frame, Chunk])
def test_one_track_alone_or_none(kind: type) -> None:
    items: list[Frame | Chunk] = [item for track in scene(0.0, 12) for item in track if isinstance(item, kind)]
    for given in (items, items[:1], []):
        with pytest.raises(CaptureError):
            from_pattern(given, recorded=True)


def test_the_first_seconds_of_a_recording() -> None:
    times = [item.t_ns for item in recorded(film(), 4.0)]
    assert 3.8 < (max(times) - min(times)) / NS_PER_S < 4.1


def test_the_default_configuration_has_feeds() -> None:

    assert [feed.part for feed in live_feeds(Config())] == ["camera", "microphone"]
