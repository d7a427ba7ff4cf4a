"""The records that flow through avdrift, one frozen dataclass for each, in the order of processing.

Times inside are integer nanoseconds on one monotonic clock (for a recording: its presentation time stamps).
An offset is how far the audio is ahead of the video: positive is audio early, negative is audio late (ITU-R BT.1359-1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
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
    """One video frame, placed at the middle of its exposure."""

    seq: int
    t_ns: int
    picture: Picture

    @property
    def rgb(self) -> RgbImage:
        """The whole frame in RGB, converted from a camera's format on each access."""
        from device.pictures import whole_rgb  # OpenCV is only needed where there are frames

        return whole_rgb(self.picture)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A block of mono samples; `t_ns` is the capture time of the first one, free of jitter."""

    seq: int
    t_ns: int
    rate_hz: int
    samples: Samples


@dataclass(frozen=True, slots=True)
class SeenFace:
    """A face: its box and its mouth's (x, y, width, height) in pixels of the frame, and whether it is heard."""

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
    """Why there is no offset, or why it rests on older evidence."""

    NO_FACE = "no_face"
    NO_SPEECH = "no_speech"
    TOO_LITTLE_SPEECH = "too_little_speech"  # it has begun, but more is needed
    VOICE_NOT_OF_THIS_FACE = "voice_not_of_this_face"  # no face in view fits the voice
    BEYOND_SEARCH_RANGE = "beyond_search_range"  # the best offset is at the end of the search range
    AMBIGUOUS = "ambiguous"  # several offsets fit
    NO_SENDER_REPORTS = "no_sender_reports"  # of an RTP stream; without them its tracks are unrelated
    LOW_FRAME_RATE = "low_frame_rate"  # a face is in view, but lips cannot be read from so few frames
    SHORT = "short"  # of a whole recording: all of it fits, but it ends too soon
    OFFSET_VARIES = "offset_varies"  # of a whole recording: no single offset holds, only its pieces or its drift


class DriftClass(StrEnum):
    STEADY = "steady"
    DRIFTING = "drifting"
    STEPPED = "stepped"  # there was a step, and since then too little for a drift
    UNKNOWN = "unknown"


class Verdict(StrEnum):
    IN_SYNC = "in_sync"
    DETECTABLE = "detectable"
    UNACCEPTABLE = "unacceptable"
    BORDERLINE = "borderline"  # a limit lies within the error bar of the offset
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Estimate:
    """The best offset for a stretch of audio-video, and its uncertainty."""

    offset_ms: float
    offset_std_ms: float
    confidence: float  # probability that offset_ms is right to within 40 ms
    at_edge: bool  # the best point lies at the end of the search range


@dataclass(frozen=True, slots=True)
class PublishedRecord:
    """Base of the records that leave avdrift, as JSON objects whose keys are the field names."""

    def to_dict(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}  # asdict() would copy each value


@dataclass(frozen=True, slots=True)
class Report(PublishedRecord):
    """One line of the log, or one message. Unknown is None, never 0."""

    schema: int  # version of this format
    seq: int  # number of the report; `boot_id` with `seq` is unique
    boot_id: str  # identifies the boot of the computer
    uptime_s: float  # since the start of avdrift
    t_unix_ms: int  # wall clock
    clock_synced: bool | None  # whether the wall clock is set from a network
    state: State  # `measuring`, or why there is no offset
    offset_ms: float | None  # positive: audio early; set only in `measuring`
    offset_std_ms: float | None  # standard error
    direction: Direction | None  # `in_sync` is within 20 ms
    confidence: float | None  # probability that the offset is right to within 40 ms
    drift_ppm: float | None  # slope of the offset; 1 ppm is 3.6 ms an hour
    drift_std_ppm: float | None  # its standard error
    drift_class: DriftClass
    step_ms: float | None  # a sudden change, in the one report that detects it
    verdict: Verdict
    profile: str  # the standard whose limits give the verdict
    window_s: float  # what counts as recent for `faces` and `speech_ratio`
    faces: int | None  # in view
    speech_ratio: float | None  # share of the recent time with speech
    model: str  # name, version and digest
    video_dropped: int  # frames lost so far
    audio_dropped: int  # chunks of audio lost so far
    latency_ms: float | None  # age of the newest input behind the report
    fault: str | None = None  # what prevents measuring, such as `camera_lost`; None without a fault
    reason: Reason | None = None  # why there is no offset, or why it rests on older evidence
    evidence_age_s: float | None = None  # age of the newest evidence behind the offset
    verdict_range: tuple[Verdict, Verdict] | None = None  # the mildest and the severest within the error bar
    faults: tuple[str, ...] | None = None  # all faults, `fault` first; None without a fault


class Fault(StrEnum):
    """What prevents measuring or makes it less certain; a report names the most important one first."""

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
    STREAM_PERMISSION = "stream_permission"  # the server rejects the login, or any client
    STREAM_REFUSED = "stream_refused"  # delivers nothing that can be measured
    STREAM_STALLED = "stream_stalled"  # sends nothing
    STREAM_LOST = "stream_lost"  # ended or broke off
    STREAM_INCOMPLETE = "stream_incomplete"  # its video or its audio is missing
    STREAM_UNSYNCED = "stream_unsynced"  # no RTCP sender reports yet
    STREAM_JUMPED = "stream_jumped"  # its time stamps have jumped
    STREAM_CHANGED = "stream_changed"  # another size or rate
    STREAM_SLOW = "stream_slow"  # arrives later and later
    CLOCK_JUMPED = "clock_jumped"  # impossible capture times, or a jump in the time of a stream
    OVERLOADED = "overloaded"
    MODEL_FAILED = "model_failed"
    ANALYSIS_STALLED = "analysis_stalled"


NO_FAULT = "none"  # the value for "no fault" in events of the kind `fault`


class EventKind(StrEnum):
    VERDICT = "verdict"  # a limit of the profile was crossed for long enough
    STEP = "step"
    FACE = "face"  # lost, returned
    SPEECH = "speech"
    FAULT = "fault"  # began, ended
    MODEL = "model"  # another bundle, or back to the previous one
    PROFILE = "profile"


@dataclass(frozen=True, slots=True)
class Event(PublishedRecord):
    """A single event, with the values before and after it."""

    schema: int
    seq: int  # number of the event; `boot_id` with `seq` is unique
    boot_id: str
    uptime_s: float
    t_unix_ms: int
    clock_synced: bool | None
    kind: EventKind
    before: str | float | None  # the value before
    after: str | float | None  # the value since then
    about: str  # one sentence for a person


@dataclass(frozen=True, slots=True)
class Health(PublishedRecord):
    """The state of the computer and the daemon, once a minute. Unknown is None."""

    schema: int
    boot_id: str
    uptime_s: float
    t_unix_ms: int
    clock_synced: bool | None
    cpu_ratio: float | None  # of one core, since the last record
    memory_mb: float | None  # resident set size
    threads: int
    open_files: int | None
    temperature_c: float | None
    undervoltage: bool | None  # the undervoltage alarm of a Raspberry Pi
    disk_free_mb: float | None  # free space in the state folder
    video_rate_hz: float | None  # frames per second received
    microphone_ppm: float | None  # its sample clock relative to the computer's
    video_dropped: int  # frames lost so far
    audio_dropped: int  # chunks of audio lost so far
    sources_reopened: int  # times that camera or microphone were reopened after failures
    events_lost: int  # lost because the queue was full while the broker was away
    load_step: int  # load shedding: 0 none, 1 fewer face detections, 2 also every second lip window
    model_record: dict[str, Any] | None = None  # the record of the models in use at this site


@dataclass(frozen=True, slots=True)
class Info(PublishedRecord):
    """The running configuration, published at the start and after each change."""

    schema: int
    version: str
    model: str  # name, version and digest
    model_digest: str  # of the whole bundle
    profile: str
    camera: str | None  # None for a recording
    microphone: str | None  # None for a recording
    bias_ms: float | None  # the rig's own offset, already subtracted from every report
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
    """A request.

    `reply` gets exactly one answer once the command is queued: `verb`, `ok`, `error` (None or words), and the requested
    data.
    """

    verb: Verb
    args: Mapping[str, str | float | bool]
    reply: Callable[[dict[str, object]], None]
