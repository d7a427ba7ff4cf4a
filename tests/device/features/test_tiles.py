"""Small faces in tiles: the whole frame is searched, detections are confirmed, and a large face costs no tile."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.features.face import MIN_SCORE, Face, FaceDetector
from device.features.tiles import TILE_PX, TILES_PER_SEARCH, TileSearch, tiles_of
from device.features.tracker import MouthTracker
from device.pictures import Picture
from device.records import NS_PER_MS, Frame
from tests.device.features.test_tracker import face

MIN_FACE_PX = 60
PICTURE = np.zeros((1080, 1920, 3), np.uint8)


class Detector(FaceDetector):
    """Sees a face that lies in the region and fills an eighth of it; guesses at one that fills a tenth."""

    def __init__(self, *faces: Face) -> None:
        self.faces, self.sides = faces, list[float]()

    def detect(
        self, picture: Picture, region: tuple[float, float, float] | None = None, *, min_score: float = MIN_SCORE
    ) -> list[Face]:
        height, width = picture.shape[:2]
        x, y, side = region or (width / 2, height / 2, float(max(width, height)))
        self.sides.append(side)
        found = []
        for seen in self.faces:
            left, top, size, _ = seen.box
            inside = x - side / 2 <= left and left + size <= x + side / 2
            inside = inside and y - side / 2 <= top and top + size <= y + side / 2
            score = seen.score if size > side / 8 else 0.3 if size > side / 10 else 0.0
            if inside and score >= min_score:
                found.append(seen)
        return found


@given(st.integers(64, 2400), st.integers(64, 2400), st.floats(0, 1), st.floats(0, 1))
def test_a_small_face_lies_wholly_in_one_of_the_tiles(width: int, height: int, right: float, down: float) -> None:
    tiles = tiles_of(width, height)
    if not tiles:
        assert max(width, height) < 1.5 * TILE_PX
        return
    left, top = right * (width - MIN_FACE_PX), down * (height - MIN_FACE_PX)
    assert any(
        x - TILE_PX / 2 <= left and left + MIN_FACE_PX <= x + TILE_PX / 2
        and y - TILE_PX / 2 <= top and top + MIN_FACE_PX <= y + TILE_PX / 2
        for x, y, _ in tiles
    )  # fmt: skip


@pytest.mark.parametrize("place", [(60, 60), (960, 540), (1870, 1020), (1200, 700)])
def test_a_face_of_60_pixels_is_found_within_three_seconds_and_followed(place: tuple[int, int]) -> None:
    small = face(*place, size=25)
    detector = Detector(small)
    tracker = MouthTracker(detector)
    mouths = [m for k in range(150) for m in tracker.push(Frame(k, 40 * k * NS_PER_MS, PICTURE))]
    assert all(crop.crop is not None for (crop,) in mouths[75:])
    assert TILE_PX not in detector.sides[-8:], "once it is found, it is followed"


def test_a_detection_that_a_closer_search_does_not_confirm_is_no_face() -> None:
    search = TileSearch(Detector(face(500, 300, size=25, score=0.55)))
    assert not any(search.search(PICTURE) for _ in tiles_of(1920, 1080))


def test_a_search_costs_few_tiles_and_none_while_a_face_is_tracked() -> None:
    for faces, most in (((), TILES_PER_SEARCH), ((face(900, 500, size=150),), 0)):
        detector = Detector(*faces)
        tracker = MouthTracker(detector)
        looks = 0
        for k in range(100):
            before = len(detector.sides)
            list(tracker.push(Frame(k, 40 * k * NS_PER_MS, PICTURE)))
            looks += len(detector.sides) > before
        assert detector.sides.count(TILE_PX) == most * looks
