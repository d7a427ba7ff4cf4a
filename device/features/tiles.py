"""Small faces: where the whole frame shows nobody, overlapping tiles are searched, a few at a time.

The detector sees 128 pixels and is sure of faces that fill an eighth of them: 240 pixels in a frame of 1920. In a tile
of 480 it has a guess at faces of 50 to 60 pixels, which a closer look confirms or rejects. Smaller faces are not
searched for, because their lips cannot be read.
"""

from __future__ import annotations

import math
from itertools import product

from device.features.face import Face, FaceDetector, add_new_faces
from device.pictures import Picture

TILE_PX = 480
TILES_PER_SEARCH = 2  # so an empty room costs three detections each time, as three faces do
_OVERLAP = 0.3
_REGION_PER_BOX = 2.0
_GUESS, _SURE = 0.25, 0.7  # scores: real faces of 50 pixels had 0.3 or more, then 0.8 in the closer look
_MAX_GUESSES = 2  # per tile

Region = tuple[float, float, float]  # a square: centre x, centre y, side


class TileSearch:
    """Searches tile after tile, a few per call."""

    def __init__(self, detector: FaceDetector) -> None:
        self._detector = detector
        self._next = 0

    def search(self, picture: Picture) -> list[Face]:
        """The faces in the next tiles that a closer look confirms."""
        tiles = tiles_of(*picture.shape[1::-1])
        found: list[Face] = []
        for _ in range(min(TILES_PER_SEARCH, len(tiles))):
            tile = tiles[self._next % len(tiles)]
            self._next += 1
            for guess in self._detector.detect(picture, tile, min_score=_GUESS)[:_MAX_GUESSES]:
                near = detect_around(self._detector, picture, guess)
                add_new_faces(found, [face for face in near if face.score >= _SURE])
        return found


def detect_around(detector: FaceDetector, picture: Picture, face: Face) -> list[Face]:
    """The faces in the region around an earlier face."""
    x, y, width, height = face.box
    return detector.detect(picture, (x + width / 2, y + height / 2, _REGION_PER_BOX * max(width, height)))


def tiles_of(width: int, height: int) -> list[Region]:
    """Tiles that cover a frame; none if it is hardly larger than one."""
    if max(width, height) < TILE_PX * (1 + _OVERLAP):
        return []
    return [(x, y, float(TILE_PX)) for y, x in product(_centres(height), _centres(width))]


def _centres(length_px: int) -> list[float]:
    """Centres of tiles along one side, evenly spaced."""
    free_px = max(length_px - TILE_PX, 0)
    gaps = math.ceil(free_px / (TILE_PX * (1 - _OVERLAP)))
    first = min(TILE_PX, length_px) / 2
    return [first + k * free_px / max(gaps, 1) for k in range(gaps + 1)]
