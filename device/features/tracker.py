"""Face tracking: detects faces a few times a second, follows each separately, and cuts each frame's mouths.

Method: the detector runs every 320 ms on a region around each known face, and on the whole frame where a face is lost
and every two seconds, to find new faces. Where it finds nobody, it also searches two tiles, because faces may be small.
At most three faces are followed, the largest first, and across cuts: a face after a cut is a new track. Key points are
smoothed with detections before and after a frame, which delays crops by 0.4 s.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from device.features.face import Face, FaceDetector, add_new_faces
from device.features.mouth import KeyPoints, MouthCrop, cut, smooth
from device.features.tiles import TileSearch, detect_around
from device.pictures import Picture
from device.records import NS_PER_MS, NS_PER_S, Frame

MAX_FACES = 3
DETECT_EVERY_NS = 320 * NS_PER_MS  # on validation clips as good as every 240 and every 120 ms
LOOK_AHEAD_NS = 400 * NS_PER_MS  # further from any detection, no mouth is cut
_FULL_SEARCH_EVERY_NS = 2 * NS_PER_S
_LOST_AFTER_NS = 500 * NS_PER_MS
_SAME_FACE_SHIFT = 0.7  # of the distance from eyes to mouth, between two detections
_SAME_FACE_SCALE = 1.5


@dataclass(frozen=True, slots=True)
class _Detection:
    t_ns: int
    points: KeyPoints


@dataclass(slots=True)
class _Track:
    """One face in one shot."""

    number: int
    detections: deque[_Detection] = field(default_factory=deque)

    def points_at(self, t_ns: int) -> KeyPoints | None:
        """The smoothed key points; times must not fall. None where the face was not seen."""
        while len(self.detections) > 1 and self.detections[1].t_ns < t_ns - LOOK_AHEAD_NS:
            self.detections.popleft()
        near = [d for d in self.detections if abs(d.t_ns - t_ns) <= LOOK_AHEAD_NS]
        return smooth([d.t_ns for d in near], [d.points for d in near], t_ns) if near else None


@dataclass(slots=True, eq=False)
class _FollowedFace:
    """A place for one face after another."""

    number: int
    track: _Track
    face: Face | None = None


@dataclass(frozen=True, slots=True)
class _Waiting:
    t_ns: int
    picture: Picture
    tracks: tuple[tuple[int, _Track], ...]  # for each face, its track at this frame
    faces: int


class MouthTracker:
    """Frames in; for each frame the mouths of all followed faces, at least one, in order and 0.4 s later."""

    def __init__(self, detector: FaceDetector, *, margin_px: int = 0, max_faces: int = MAX_FACES) -> None:
        self._detector, self._margin_px = detector, margin_px
        self._tiles = TileSearch(detector)
        self.max_faces = max_faces  # may be lowered at any time
        self.favourite: int | None = None  # the last face to drop when there are too many
        self.detect_every_ns = DETECT_EVERY_NS  # twice that still covers every frame
        self._waiting: deque[_Waiting] = deque()
        self._tracks = self._numbered = 0  # numbers assigned so far to tracks and followed faces
        self._followed = [self._new_followed()]
        self._last_try_ns: int | None = None
        self._full_search_ns: int | None = None
        self._faces = 0  # in the whole frame, when it was last searched

    def push(self, frame: Frame) -> Iterator[list[MouthCrop]]:
        """Take one frame; yield the mouths of the frames that it completes."""
        if self._last_try_ns is None or frame.t_ns - self._last_try_ns >= self.detect_every_ns:
            self._last_try_ns = frame.t_ns
            self._update_faces(frame)
        faces = max(self._faces, sum(followed.face is not None for followed in self._followed))
        tracks = tuple((followed.number, followed.track) for followed in self._followed)
        self._waiting.append(_Waiting(frame.t_ns, frame.picture, tracks, faces))
        yield from self._emit(frame.t_ns - LOOK_AHEAD_NS)

    @property
    def faces(self) -> dict[int, Face]:
        """The followed faces by number, as last detected."""
        return {followed.number: followed.face for followed in self._followed if followed.face is not None}

    def finish(self) -> Iterator[list[MouthCrop]]:
        """Yield the mouths of the frames that still wait for later detections."""
        yield from self._emit(None)

    def _update_faces(self, frame: Frame) -> None:
        """Detect faces, and assign them to the followed ones."""
        found = self._detect(frame)
        # A face at the position of a known one is the same; otherwise the nearest one replaces a lost face after a cut.
        pairs = [
            (not _same_face(_points(followed.face), _points(face)), _distance(followed.face, face), followed, face)
            for followed in self._followed if followed.face is not None for face in found
        ]  # fmt: skip
        taken: dict[_FollowedFace, Face] = {}
        for _, _, followed, face in sorted(pairs, key=lambda pair: pair[:2]):
            if followed not in taken and face not in taken.values():
                taken[followed] = face
        # The largest face is most likely the one in front of the camera.
        for face in sorted(found, key=lambda face: -face.box[2]):
            if face not in taken.values() and (place := self._free_followed(taken)):
                taken[place] = face
        for followed in list(self._followed):
            self._follow(followed, taken.get(followed), frame.t_ns)
        by_worth = sorted(self._followed, key=lambda followed: (followed.number != self.favourite, followed.number))
        for followed in by_worth[self.max_faces :]:
            self._followed.remove(followed)

    def _detect(self, frame: Frame) -> list[Face]:
        """The faces around the known ones, and all others when a full search is due."""
        found: list[Face] = []
        known = [followed.face for followed in self._followed if followed.face is not None]
        missing = not known
        for face in known:
            if any(_same_face(_points(face), _points(other)) for other in found):
                continue
            near = detect_around(self._detector, frame.picture, face)
            missing = missing or not near
            add_new_faces(found, near)
        around = self.max_faces > 1 and (
            self._full_search_ns is None or frame.t_ns - self._full_search_ns >= _FULL_SEARCH_EVERY_NS
        )
        if missing or around:
            self._full_search_ns = frame.t_ns
            add_new_faces(found, self._detector.detect(frame.picture))
            if not found:
                found = self._tiles.search(frame.picture)
            self._faces = len(found)
        return found

    def _free_followed(self, taken: dict[_FollowedFace, Face]) -> _FollowedFace | None:
        """A place without a face, or a new one; None if there are enough."""
        for followed in self._followed:
            if followed.face is None and followed not in taken:
                return followed
        if len(self._followed) >= self.max_faces:
            return None
        self._followed.append(self._new_followed())
        return self._followed[-1]

    def _follow(self, followed: _FollowedFace, face: Face | None, t_ns: int) -> None:
        detections = followed.track.detections
        if face is None:
            if detections and t_ns - detections[-1].t_ns > _LOST_AFTER_NS:
                followed.face, followed.track = None, self._track()
                self._faces = min(self._faces, sum(followed.face is not None for followed in self._followed))
                if len(self._followed) > 1:
                    self._followed.remove(followed)
            return
        if detections and not _same_face(detections[-1].points, _points(face)):
            followed.track = self._track()
        followed.face = face
        followed.track.detections.append(_Detection(t_ns, _points(face)))

    def _new_followed(self) -> _FollowedFace:
        self._numbered += 1
        return _FollowedFace(self._numbered - 1, self._track())

    def _track(self) -> _Track:
        self._tracks += 1
        return _Track(self._tracks - 1)

    def _emit(self, until_ns: int | None) -> Iterator[list[MouthCrop]]:
        while self._waiting and (until_ns is None or self._waiting[0].t_ns <= until_ns):
            frame = self._waiting.popleft()
            yield [self._crop(frame, followed, track) for followed, track in frame.tracks]

    def _crop(self, frame: _Waiting, followed: int, track: _Track) -> MouthCrop:
        points = track.points_at(frame.t_ns)
        crop = None if points is None else cut(frame.picture, points, self._margin_px)
        return MouthCrop(frame.t_ns, crop, track.number, frame.faces, points, followed)


def _points(face: Face) -> KeyPoints:
    return np.array([face.right_eye, face.left_eye, face.mouth])


def _distance(a: Face, b: Face) -> float:
    return float(np.hypot(a.mouth[0] - b.mouth[0], a.mouth[1] - b.mouth[1]))


def _same_face(before: KeyPoints, after: KeyPoints) -> bool:
    sizes = [max(float(np.hypot(*((p[0] + p[1]) / 2 - p[2]))), 1.0) for p in (before, after)]
    moved = float(np.hypot(*(after - before).mean(0)))
    return moved < _SAME_FACE_SHIFT * sizes[0] and 1 / _SAME_FACE_SCALE < sizes[1] / sizes[0] < _SAME_FACE_SCALE
