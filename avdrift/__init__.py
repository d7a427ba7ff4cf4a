"""Measures how far the audio of a talking face is ahead of its video: the interface for programs.

    >>> import avdrift
    >>> found = avdrift.measure("talk.mp4")
    >>> found.offset_ms, found.confidence

`measure` reads a recording; a `Meter` takes frames and audio as arrays, from any source. Both return records whose
names carry the unit. `offset_ms` is positive if the audio is early and negative if it is late (ITU-R BT.1359-1). It is
None if it is unknown: `state` and `reason` then say why. The command `avdrift fetch-face` downloads the face
detector's model once. Everything else in avdrift's packages is internal and may change.

Errors are AvdriftError with what, where and a remedy: UsageError for invalid arguments, CaptureError for recordings
that cannot be read, ModelError for models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from device import __version__
from device.analysis.measure import measure as _measure
from device.bundles.bundle import DEFAULT_BUNDLE, Bundle, load_bundle
from device.capture.microphones.audio_clock import Placed
from device.capture.microphones.resampler import ChannelChoice, PlacedSound
from device.clock import SystemClock
from device.config.settings import DEFAULT_SEARCH_MS, MeasureSettings
from device.errors import AvdriftError, CaptureError, ModelError, UsageError
from device.features.contract import AUDIO_RATE_HZ
from device.features.model_download import require_face_model
from device.records import NS_PER_S, Chunk, Direction, DriftClass, Frame, Reason, Report, State, Verdict
from device.reporting.reporter import Reporter
from device.reporting.sink import Hub
from device.runtime.core import Core
from device.runtime.inputs.input_queue import QueuedItem
from device.standards import DEFAULT_PROFILE, PROFILES

__all__ = [
    "AvdriftError", "CaptureError", "Direction", "DriftClass", "Measurement", "Meter", "ModelError", "Piece", "Reason",
    "Report", "State", "Step", "UsageError", "Verdict", "Window", "__version__", "measure",
]  # fmt: skip

FilePath = str | PathLike[str]

_MAX_JOIN_ERROR_NS = NS_PER_S // 50  # audio further from the end of the last block starts a new run
_MIN_PX = 16
_DEFAULTS = MeasureSettings()

_Record = TypeVar("_Record")


@dataclass(frozen=True, slots=True)
class Step:
    """A sudden change of the offset."""

    t_s: float  # when, from the first frame on
    step_ms: float  # new minus old


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a recording without a step. The offset changes linearly from its beginning to its end."""

    from_s: float
    to_s: float
    offset_ms: float | None  # in its middle
    offset_std_ms: float | None  # standard error
    from_offset_ms: float | None  # at its beginning
    to_offset_ms: float | None  # at its end
    confidence: float  # probability that the offset is right to within 40 ms
    state: State  # `measuring` or `uncertain`


@dataclass(frozen=True, slots=True)
class Window:
    """One of consecutive windows. Its offset is the best guess at any confidence; rely on it only if `measuring`."""

    t_s: float  # its beginning, from the first frame on
    offset_ms: float | None  # positive: audio early
    offset_std_ms: float | None  # standard error
    confidence: float | None  # probability that the offset is right to within 40 ms
    state: State  # only in `measuring` the offset is reliable
    reason: Reason | None  # why it is not reliable
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Measurement:
    """The result for a recording: the object that `avdrift measure --json` prints."""

    file: str  # the given path
    state: State  # `measuring`, or why there is no number
    offset_ms: float | None  # positive: audio early; None if no single number holds for the whole recording
    offset_std_ms: float | None  # standard error
    confidence: float | None  # probability that the offset is right to within 40 ms
    duration_s: float  # of the recording
    speech_s: float  # duration of speech
    drift_ppm: float | None  # slope of the offset; 1 ppm is 3.6 ms an hour
    drift_std_ppm: float | None  # its standard error
    drift_class: DriftClass
    steps: tuple[Step, ...]  # sudden changes of the offset
    pieces: tuple[Piece, ...]  # the parts between the steps
    verdict: Verdict  # the worst of all pieces
    profile: str  # the standard whose limits give the verdict
    reason: Reason | None  # why there is no number
    audio_track: str  # the measured track
    audio_channel: int | None  # the measured channel; None: all channels mixed
    other_audio_tracks: tuple[str, ...]
    joints_s: tuple[float, ...]  # where recordings were joined
    damaged: str | None  # what is wrong with the file, in words
    verdict_range: tuple[Verdict, Verdict] | None  # the mildest and the severest within the error bar
    zero_std_ms: float  # uncertainty of the models' zero
    video_track: str  # the measured track
    other_video_tracks: tuple[str, ...]
    windows: tuple[Window, ...] = ()  # with `--window`, or `window_s`

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure(
    path: FilePath,
    *,
    window_s: float | None = None,
    search_ms: float = DEFAULT_SEARCH_MS,
    profile: str = DEFAULT_PROFILE,
    bundle: FilePath | None = None,
) -> Measurement:
    """Measure the offset of a recording, its pieces, steps and drift. Reads it once, at full speed.

    window_s: also measure each consecutive window of this length, 0.2 to 100.
    search_ms: the largest offset to search for, in both directions, 100 to 5000.
    profile: the standard whose limits give the verdict, such as "itu-r-bt1359" or "ebu-r37".
    bundle: a folder with models to use instead of the built-in ones.
    Raises UsageError, CaptureError, ModelError.
    """
    if profile not in PROFILES:
        raise UsageError(f"{profile!r} is not known", where="profile", remedy=f"Use one of {', '.join(PROFILES)}")
    found = _measure(
        Path(path), _load(bundle), require_face_model(), window_s=window_s, search_ms=search_ms, profile=profile
    )
    many: dict[str, Any] = {
        "steps": tuple(_record(Step, step) for step in found["steps"]),
        "pieces": tuple(_record(Piece, piece) for piece in found["pieces"]),
        "other_audio_tracks": tuple(found["other_audio_tracks"]),
        "other_video_tracks": tuple(found["other_video_tracks"]),
        "joints_s": tuple(found["joints_s"]),
        "windows": tuple(_record(Window, window) for window in found.get("windows", ())),
    }
    return _record(Measurement, found | many)


class Meter:
    """Measures frames and audio that are pushed as arrays, in order of time.

        meter = avdrift.Meter()
        meter.push_frame(rgb, t_s)
        meter.push_sound(samples, t_s, rate_hz=48_000)
        report = meter.report()

    Times are capture times in seconds, on any one clock. Frames and audio may arrive late and in bursts, if each
    stream is in order and neither lags by more than a few seconds. A constant difference between their clocks becomes a
    constant error of the offset. Nothing is kept for longer than a minute. Not thread-safe.
    """

    def __init__(
        self,
        *,
        window_s: float = _DEFAULTS.window_s,
        report_every_s: float = _DEFAULTS.report_every_s,
        search_ms: float = DEFAULT_SEARCH_MS,
        profile: str = DEFAULT_PROFILE,
        bundle: FilePath | None = None,
    ) -> None:
        """The options are those of [measure] in the configuration. Raises UsageError, ModelError."""
        self._settings = MeasureSettings(
            window_s=window_s, report_every_s=report_every_s, search_ms=search_ms, profile=profile
        )
        self._bundle, self._face_model = _load(bundle), require_face_model()
        self.reset()

    def reset(self) -> None:
        """Discard everything: what follows may have other times, another camera or another microphone."""
        clock, settings = SystemClock(), self._settings
        reporter = Reporter(self._bundle.label, settings.profile, settings.window_s, clock)
        self._core = Core(self._bundle, self._face_model, settings, Hub(()), reporter, clock)
        self._items = self._frames = 0
        self._frame_ns: int | None = None  # time of the last one
        self._sound_ns: int | None = None  # where the last block ended
        self._rate_hz = self._channels = self._run = 0

    def push_frame(self, rgb: npt.NDArray[np.uint8], t_s: float) -> None:
        """Add a frame [height, width, 3] in RGB (OpenCV has BGR: give `bgr[:, :, ::-1]`) with its capture time.

        480 lines are enough; larger frames only cost time. Raises UsageError.
        """
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or min(rgb.shape[:2]) < _MIN_PX:
            what = f"a frame of {rgb.dtype} {list(rgb.shape)} cannot be used"
            raise UsageError(what, where="push_frame", remedy="Give uint8 [height, width, 3] in RGB")
        t_ns = _ns(t_s, self._frame_ns, "push_frame")
        self._frame_ns = t_ns
        self._frames += 1
        self._process(Frame(self._frames, t_ns, np.ascontiguousarray(rgb)))

    def push_sound(self, samples: npt.NDArray[Any], t_s: float, rate_hz: int) -> None:
        """Add audio [n] or [n, channels], float of full scale 1 or int16, with the capture time of its first sample.

        Of several channels, the loudest is used. Blocks of 10 to 100 ms are best. A block that begins more than 20 ms
        before or after the end of the last one is treated as a gap. Raises UsageError.
        """
        samples = _floats(samples)
        if rate_hz <= 0:
            raise UsageError(f"{rate_hz} Hz is not possible", where="push_sound", remedy="Give the rate of the samples")
        t_ns = _ns(t_s, None if self._sound_ns is None else self._sound_ns - _MAX_JOIN_ERROR_NS, "push_sound")
        if (rate_hz, samples.shape[1]) != (self._rate_hz, self._channels):
            self._rate_hz, self._channels = rate_hz, samples.shape[1]
            self._choose, self._placed = ChannelChoice(self._channels, rate_hz), PlacedSound(rate_hz, AUDIO_RATE_HZ)
        elif self._sound_ns is not None and abs(t_ns - self._sound_ns) > _MAX_JOIN_ERROR_NS:
            self._run += 1
        self._sound_ns = t_ns + len(samples) * NS_PER_S // rate_hz
        for chunk in self._placed.feed(self._choose(samples), Placed(t_ns, self._run)):
            self._process(chunk)

    def report(self) -> Report | None:
        """The newest report; None before the first. There is a new one every `report_every_s` of the stream."""
        return self._core.last

    def _process(self, item: Frame | Chunk) -> None:
        self._items += 1
        self._core.process(QueuedItem(item, "", 0, 0, self._items))


def _load(folder: FilePath | None) -> Bundle:
    return load_bundle(DEFAULT_BUNDLE) if folder is None else load_bundle(Path(folder), trusted=False)


def _record(kind: type[_Record], values: Mapping[str, Any]) -> _Record:
    return kind(**{field.name: values[field.name] for field in fields(kind) if field.name in values})  # type: ignore[arg-type]


def _ns(t_s: float, after_ns: int | None, where: str) -> int:
    """In nanoseconds. Raises UsageError for a time that is not finite, or not later than the last."""
    if not np.isfinite(t_s):
        raise UsageError(f"{t_s} is not a time", where=where, remedy="Give seconds")
    t_ns = round(t_s * NS_PER_S)
    if after_ns is not None and t_ns <= after_ns:
        what = f"{t_s:.3f} s is not later than {after_ns / NS_PER_S:.3f} s, the time before it"
        raise UsageError(what, where=where, remedy="Give each stream in order, or call reset() where it starts again")
    return t_ns


def _floats(samples: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """As [n, channels] of full scale 1. Raises UsageError."""
    is_integer = samples.dtype == np.int16
    if not (is_integer or np.issubdtype(samples.dtype, np.floating)) or samples.ndim not in (1, 2) or not samples.size:
        what = f"audio of {samples.dtype} {list(samples.shape)} cannot be used"
        raise UsageError(what, where="push_sound", remedy="Give float or int16, [n] or [n, channels]")
    samples = samples.astype(np.float32).reshape(len(samples), -1) / np.float32(32768 if is_integer else 1)
    if not np.isfinite(samples).all():
        raise UsageError("samples that are not numbers", where="push_sound", remedy="Leave such blocks out")
    return samples
