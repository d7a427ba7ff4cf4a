"""The live view as a message: a small image or none, faces relative to the image's width and height, and levels."""

from __future__ import annotations

import base64
import math
from typing import Any

import cv2
import numpy as np

from device.clock import Clock
from device.pictures import Bytes, Picture, gray_of_luma, luma
from device.records import NS_PER_S, SeenFace
from device.reporting.live_view import LiveView

EVERY_S = 0.2
_MAX_WIDTH_PX, _QUALITY = 360, 60
_OLD_NS = 2 * NS_PER_S
_CLIPPED = 0.985
_FLOOR_DB = -90.0


class LiveMessages:
    """Makes consecutive messages from a LiveView. For one thread."""

    def __init__(self, view: LiveView, clock: Clock, pictures: str) -> None:
        """`pictures` is a value of the configuration's key."""
        self._view, self._clock, self._pictures = view, clock, pictures
        self._shown: int | None = None
        self._frames, self._since_ns = 0, 0
        self._rate_hz: float | None = None

    def next(self) -> dict[str, Any]:
        """The video and audio since the last message."""
        now_ns = self._clock.now_ns()
        scene = self._view.scene
        scene = scene if scene and now_ns - scene.put_ns < _OLD_NS else None
        found: dict[str, Any] = {"speech": scene.speech if scene else None, **self._levels(), "faces": []}
        found |= {"video_rate_hz": self._rate(now_ns), "width_px": None, "height_px": None, "picture": None}
        given = self._view.frame
        if self._pictures == "off" or given is None or now_ns - given[0] > _OLD_NS:
            return found
        frame = given[1]
        height, width = frame.picture.shape[:2]
        found |= {"width_px": width, "height_px": height}
        if scene:
            found["faces"] = [_face(face, width, height) for face in scene.faces]
        if self._pictures == "live" and frame.seq != self._shown:
            self._shown = frame.seq
            found["picture"] = base64.b64encode(jpeg(frame.picture)).decode("ascii")
        return found

    def _levels(self) -> dict[str, Any]:
        """Levels of the new audio: root mean square and peak in dB of full scale, and whether it was clipped."""
        samples = [chunk.samples for chunk in self._view.pop_chunks() if len(chunk.samples)]
        if not samples:
            return {"rms_db": None, "peak_db": None, "clipped": None}
        joined = np.concatenate(samples)
        peak, power = cv2.norm(joined, cv2.NORM_INF), cv2.norm(joined, cv2.NORM_L2SQR) / len(joined)
        return {"rms_db": _db(math.sqrt(power)), "peak_db": _db(peak), "clipped": peak >= _CLIPPED}

    def _rate(self, now_ns: int) -> float | None:
        """Frames per second, over two seconds."""
        frames = self._view.frames
        if frames < self._frames or now_ns - self._since_ns > 4 * _OLD_NS:  # nobody watched in between
            self._frames, self._since_ns, self._rate_hz = frames, now_ns, None
        elif now_ns - self._since_ns >= _OLD_NS:
            self._rate_hz = round((frames - self._frames) * NS_PER_S / (now_ns - self._since_ns), 1)
            self._frames, self._since_ns = frames, now_ns
        return self._rate_hz


def curve(view: LiveView) -> dict[str, Any] | None:
    """The newest curves as a message; None without any."""
    if (found := view.curve) is None:
        return None
    return {
        "first_ms": found.first_ms,
        "step_ms": found.step_ms,
        "evidence_nats": np.round(found.evidence.astype(np.float64), 2).tolist(),
        "probability": np.round(found.probability.astype(np.float64), 4).tolist(),
    }


def jpeg(picture: Picture) -> bytes:
    """An image in grey, made smaller: enough for aiming a camera, at little more than half the cost of colour."""
    small = gray_of_luma(picture, _smaller(luma(picture)))
    return bytes(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1])


def _smaller(gray: Bytes) -> Bytes:
    """Halved until it is at most _MAX_WIDTH_PX wide: only halving is vectorized: it saves more than fewer pixels do."""
    height, width = gray.shape
    while width > _MAX_WIDTH_PX and height > 1:
        height, width = height // 2, width // 2
        even = gray[: 2 * height, : 2 * width]
        gray = np.asarray(cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    return gray


def _face(face: SeenFace, width: int, height: int) -> dict[str, Any]:
    box, mouth = (_part(box, width, height) for box in (face.box, face.mouth))
    return {"box": box, "mouth": mouth, "speaker": face.speaker}


def _part(box: tuple[float, float, float, float], width: int, height: int) -> list[float]:
    x, y, w, h = box
    return [round(x / width, 4), round(y / height, 4), round(w / width, 4), round(h / height, 4)]


def _db(level: float) -> float:
    return round(max(20 * math.log10(level), _FLOOR_DB), 1) if level > 0 else _FLOOR_DB
