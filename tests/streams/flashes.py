"""A film that flashes and clicks at the same time, once a second: it shows the offset that a stream adds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np

from device.records import NS_PER_S, Chunk, Frame
from tests.recordings import Picture, Sound, write
from tests.scenes import scene_folder

FILM_S = 20.0
TIMES_S = [0.4 + second for second in range(int(FILM_S))]
PICTURE = Picture(flashes_s=TIMES_S, options={"preset": "ultrafast", "g": "25"})
_ONE_KEY = {"preset": "veryfast", "g": "1000", "sc_threshold": "0", "bf": "2"}
SOUND = Sound(clicks_s=TIMES_S, layout="mono")
_NEAR_NS = NS_PER_S // 2


@cache
def film(
    *,
    scale: int = 1,
    aspect: Fraction = Fraction(1),
    codec: str = "libx264",
    rate_hz: int = SOUND.rate_hz,
    fast_samples: float = 1.0,
    sound: str = "aac",
    one_key: bool = False,
) -> Path:
    """Matroska with a key picture each second.

    aspect: of a pixel. fast_samples: how many samples there are for each that the rate says. sound: `aac`, or
    `pcm_s16le`, which has no delay of its own. one_key: the first picture is the only one, and others are sent out of
    order.
    """
    shape = f"{scale}-{aspect.numerator}-{aspect.denominator}{'-one-key' * one_key}"
    path = scene_folder() / f"flashes-{shape}-{codec}-{rate_hz}-{fast_samples:.3f}-{sound}.mkv"
    picture = replace(
        PICTURE, width=scale * PICTURE.width, height=scale * PICTURE.height, aspect=aspect, codec=codec,
        options=_ONE_KEY if one_key else PICTURE.options if codec == "libx264" else {"g": "25"},
    )  # fmt: skip
    clicks_s = [time_s * fast_samples for time_s in TIMES_S]
    return write(path, picture, replace(SOUND, codec=sound, rate_hz=rate_hz, clicks_s=clicks_s), duration_s=FILM_S)


class Watch:
    """Takes what a source gives, and remembers when it flashed and when it clicked."""

    def __init__(self) -> None:
        self.flashes_ns: list[int] = []
        self.clicks_ns: list[int] = []
        self._bright = False
        self._loud_ns = 0

    def observe(self, item: Frame | Chunk) -> None:
        """The next one."""
        if isinstance(item, Frame):
            bright = float(item.rgb.mean()) > 100
            if bright and not self._bright:
                self.flashes_ns.append(item.t_ns)
            self._bright = bright
        elif len(loud := np.flatnonzero(np.abs(item.samples) > 0.2)):
            t_ns = item.t_ns + int(loud[0]) * NS_PER_S // item.rate_hz
            if t_ns - self._loud_ns > _NEAR_NS:
                self.clicks_ns.append(t_ns)
            self._loud_ns = t_ns

    def apart_ms(self) -> list[float]:
        """For each flash with a click near it, how much later the click was."""
        return [
            min((click_ns - flash_ns for click_ns in self.clicks_ns), key=abs) / 1e6
            for flash_ns in self.flashes_ns
            if any(abs(click_ns - flash_ns) < _NEAR_NS for click_ns in self.clicks_ns)
        ]


def watched(items: Iterable[Frame | Chunk], flashes: int) -> Watch:
    """Watch until there were so many flashes and clicks."""
    watch = Watch()
    for item in items:
        watch.observe(item)
        if min(len(watch.flashes_ns), len(watch.clicks_ns)) >= flashes:
            break
    return watch
