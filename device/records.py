"""The things that flow through avdrift, one frozen dataclass for each, in the order in which they appear.

Times inside are integer nanoseconds on one monotonic clock (for a recording: its presentation time stamps).
An offset is how far the audio is ahead of the video: positive is audio early, negative is audio late (ITU-R BT.1359-1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from device.pictures import Picture

GrayImage = npt.NDArray[np.uint8]  # [height, width]
RgbImage = npt.NDArray[np.uint8]  # [height, width, 3]
Samples = npt.NDArray[np.float32]  # [n], full scale is 1.0

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture, placed at the middle of its exposure."""

    seq: int
    t_ns: int
    picture: Picture

    @property
    def rgb(self) -> RgbImage:
        """All of it in RGB, which is made of a camera's picture each time that it is asked for."""
        from device.pictures import whole_rgb  # OpenCV is for those who have pictures

        return whole_rgb(self.picture)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A block of mono samples; `t_ns` is the capture time of the first one, already free of jitter."""

    seq: int
    t_ns: int
    rate_hz: int
    samples: Samples


@dataclass(frozen=True, slots=True)
class SeenFace:
    """A face: its box and its mouth's (x, y, width, height) in pixels of the picture, and whether it is heard."""

    box: tuple[float, float, float, float]
    mouth: tuple[float, float, float, float]
    speaker: bool


class State(StrEnum):
    STARTING = "starting"
    MEASURING = "measuring"
    NO_FACE = "no_face"
    NO_SPEECH = "no_speech"
    UNCERTAIN = "uncertain"
    STALLED = "stalled"


class Direction(StrEnum):
    AUDIO_EARLY = "audio_early"
    AUDIO_LATE = "audio_late"
    IN_SYNC = "in_sync"


class Reason(StrEnum):
    """Why there is no number, or why the one that there is rests on older evidence."""

    NO_FACE = "no_face"
    NO_SPEECH = "no_speech"
    TOO_LITTLE_SPEECH = "too_little_speech"  # it has begun, and more of it will do
    VOICE_NOT_OF_THIS_FACE = "voice_not_of_this_face"  # nobody in view fits what is heard
    BEYOND_SEARCH_RANGE = "beyond_search_range"  # the best offset lies at the end of what is searched
    AMBIGUOUS = "ambiguous"  # several offsets fit
    NO_SENDER_REPORTS = "no_sender_reports"  # of an RTP stream, without which its tracks are not related
    LOW_FRAME_RATE = "low_frame_rate"  # of a whole recording: lips cannot be read from so few frames
    OFFSET_VARIES = "offset_varies"  # of a whole recording: no single number holds, its pieces or its drift do


class DriftClass(StrEnum):
    STEADY = "steady"
    DRIFTING = "drifting"
    STEPPED = "stepped"  # a step was seen, and since then too little for a drift
    UNKNOWN = "unknown"


class Verdict(StrEnum):
    IN_SYNC = "in_sync"
    DETECTABLE = "detectable"
    UNACCEPTABLE = "unacceptable"
    BORDERLINE = "borderline"  # a limit lies within the error bar of the offset
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Estimate:
    """The best offset that a stretch of audio-video supports, and how far to believe it."""

    offset_ms: float
    offset_std_ms: float
    confidence: float  # probability that offset_ms is right to within 40 ms
    at_edge: bool  # the best point lies at the end of the search range


@dataclass(frozen=True, slots=True)
class Told:
    """What leaves avdrift: as a JSON object, with the names of the fields as its keys."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Report(Told):
    """One line of the log, one message on the wire. Unknown is None, never 0."""

    schema: int  # version of this format
    seq: int  # number of the report; `boot_id` with `seq` is unique
    boot_id: str  # which start of the computer
    uptime_s: float  # since the start of avdrift
    t_unix_ms: int  # wall clock
    clock_synced: bool | None  # whether the wall clock is set from a network
    state: State  # `measuring`, or why there is no number
    offset_ms: float | None  # positive: audio early; a number only in `measuring`
    offset_std_ms: float | None  # standard error
    direction: Direction | None  # `in_sync` is within 20 ms
    confidence: float | None  # probability that the offset is right to within 40 ms
    drift_ppm: float | None  # slope of the offset; 1 ppm is 3.6 ms an hour
    drift_std_ppm: float | None  # its standard error
    drift_class: DriftClass
    step_ms: float | None  # a sudden change, in the one report that decides it
    verdict: Verdict
    profile: str  # the standard whose limits give the verdict
    window_s: float  # what counts as recent for `faces` and `speech_ratio`
    faces: int | None  # in view
    speech_ratio: float | None  # share of the recent time with speech
    model: str  # name, version and digest
    video_dropped: int  # frames lost so far
    audio_dropped: int  # blocks of sound lost so far
    latency_ms: float | None  # how old the newest input behind the report is
    fault: str | None = None  # what keeps it from measuring, as `camera_lost`; None where nothing is broken
    reason: Reason | None = None  # why there is no number, or why it rests on older evidence
    evidence_age_s: float | None = None  # how old the newest evidence behind the number is
    verdict_range: tuple[Verdict, Verdict] | None = None  # the mildest and the severest within the error bar
    faults: tuple[str, ...] | None = None  # all of them, `fault` first; None where nothing is broken


class Fault(StrEnum):
    """What keeps avdrift from measuring, or makes it less sure; a report names the one that matters most."""

    CAMERA_MISSING = "camera_missing"
    CAMERA_BUSY = "camera_busy"
    CAMERA_PERMISSION = "camera_permission"
    CAMERA_STALLED = "camera_stalled"
    CAMERA_LOST = "camera_lost"
    CAMERA_FROZEN = "camera_frozen"
    CAMERA_BLACK = "camera_black"
    MICROPHONE_MISSING = "microphone_missing"
    MICROPHONE_BUSY = "microphone_busy"
    MICROPHONE_PERMISSION = "microphone_permission"
    MICROPHONE_STALLED = "microphone_stalled"
    MICROPHONE_LOST = "microphone_lost"
    MICROPHONE_SILENT = "microphone_silent"
    MICROPHONE_CLIPPED = "microphone_clipped"
    STREAM_MISSING = "stream_missing"  # cannot be reached
    STREAM_PERMISSION = "stream_permission"  # the server lets nobody in, or wants another password
    STREAM_REFUSED = "stream_refused"  # gives nothing that may be measured
    STREAM_STALLED = "stream_stalled"  # sends nothing
    STREAM_LOST = "stream_lost"  # ended or broke off
    STREAM_INCOMPLETE = "stream_incomplete"  # its picture or its sound is missing
    STREAM_UNSYNCED = "stream_unsynced"  # no RTCP sender reports yet
    STREAM_JUMPED = "stream_jumped"  # its time stamps have jumped
    STREAM_CHANGED = "stream_changed"  # another size or rate
    STREAM_SLOW = "stream_slow"  # comes later and later
    CLOCK_JUMPED = "clock_jumped"  # capture times that cannot be, or the time of a stream has jumped
    OVERLOADED = "overloaded"
    MODEL_FAILED = "model_failed"
    ANALYSIS_STALLED = "analysis_stalled"


NO_FAULT = "none"  # what an event of the kind `fault` calls their absence


class EventKind(StrEnum):
    VERDICT = "verdict"  # a limit of the profile was crossed, for long enough to be meant
    STEP = "step"
    FACE = "face"  # lost, returned
    SPEECH = "speech"
    FAULT = "fault"  # began, ended
    MODEL = "model"  # another bundle, or back to the one before
    PROFILE = "profile"


@dataclass(frozen=True, slots=True)
class Event(Told):
    """Something that happened once, with what was before it and after it."""

    schema: int
    seq: int  # number of the event; `boot_id` with `seq` is unique
    boot_id: str
    uptime_s: float
    t_unix_ms: int
    clock_synced: bool | None
    kind: EventKind
    before: str | float | None  # what was before it
    after: str | float | None  # what is since then
    about: str  # one sentence for a person


@dataclass(frozen=True, slots=True)
class Health(Told):
    """How the computer and the daemon are, once a minute. Unknown is None."""

    schema: int
    boot_id: str
    uptime_s: float
    t_unix_ms: int
    clock_synced: bool | None
    cpu_ratio: float | None  # of one core, since the last one
    memory_mb: float | None  # resident
    threads: int
    open_files: int | None
    temperature_c: float | None
    undervoltage: bool | None  # the alarm of a Raspberry Pi
    disk_free_mb: float | None  # where the state folder is
    video_rate_hz: float | None  # frames per second that came
    microphone_ppm: float | None  # its sample clock against the computer's
    video_dropped: int  # frames lost so far
    audio_dropped: int  # blocks of sound lost so far
    sources_reopened: int  # camera and microphone, after failures
    events_lost: int  # for which there was no room while the broker was away
    load_step: int  # back-pressure: 0 none, 1 fewer face detections, 2 also every second lip window
    model_record: dict[str, Any] | None = None  # how the models in use have done here so far


@dataclass(frozen=True, slots=True)
class Info(Told):
    """What is running, said at the start and whenever it changes."""

    schema: int
    version: str
    model: str  # name, version and digest
    model_digest: str  # of the whole bundle
    profile: str
    camera: str | None  # None for a recording
    microphone: str | None  # None for a recording
    bias_ms: float | None  # the rig's own offset, already taken off every report
    bias_std_ms: float | None  # its standard error


class Verb(StrEnum):
    RECALIBRATE = "recalibrate"
    UNDO_RECALIBRATE = "undo-recalibrate"
    RESET_CALIBRATION = "reset-calibration"
    SET_PROFILE = "set-profile"
    MODEL_ROLLBACK = "model-rollback"
    RESTART_SOURCES = "restart-sources"
    DIAGNOSTICS = "diagnostics"


@dataclass(frozen=True, slots=True)
class Command:
    """One request. `reply` gets one answer, always: `verb`, `ok`, `error` (None or words), and what was asked for."""

    verb: Verb
    args: Mapping[str, str | float | bool]
    reply: Callable[[dict[str, object]], None]
