"""Who is drawn: one random person in a random room. Lengths are in face pixels (`synth_head`: eye to mouth is 130)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Rgb = tuple[float, float, float]

# From the lightest to the darkest skin, as sRGB under white light.
_SKINS: tuple[Rgb, ...] = (
    (238, 205, 184), (228, 186, 158), (214, 166, 134), (196, 146, 112),
    (168, 118, 86), (138, 92, 66), (106, 70, 50), (80, 54, 42),
)  # fmt: skip
_HAIRS: tuple[Rgb, ...] = ((28, 22, 20), (52, 36, 26), (92, 60, 36), (150, 110, 64), (196, 160, 104), (140, 136, 132))
_IRISES: tuple[Rgb, ...] = ((70, 44, 26), (90, 66, 36), (70, 96, 70), (84, 112, 140))


@dataclass(frozen=True, slots=True)
class Appearance:
    """Everything about a face and its picture that stays the same through a recording."""

    skin: Rgb
    lips: Rgb
    hair: Rgb
    iris: Rgb
    shirt: Rgb
    wall: Rgb
    face_width: float
    jaw_width: float
    chin_y: float
    mouth_half_width: float
    upper_lip: float
    lower_lip: float
    nose_width: float
    teeth_white: float
    teeth_shown: float
    hair_style: str  # "short", "long", "bald"
    beard: float  # 0 none, up to 1 full
    moustache: float
    brow: float
    wrinkles: float
    light: tuple[float, float, float]  # unit vector towards the lamp: right, up, forward
    ambient: float
    gain: float
    shine: float
    yaw: float
    pitch: float
    roll: float
    restless: float
    face_height_ratio: float  # chin to hairline, as a share of the picture's height
    centre: tuple[float, float]  # of the face, as shares of width and height
    blur_px: float
    noise: float
    texture_seed: int


def _mix(a: Rgb, b: Rgb, share: float) -> Rgb:
    red, green, blue = (float(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return red, green, blue


def _any_rgb(rng: np.random.Generator, low: int, high: int) -> Rgb:
    """Any colour, as muted as paint and cloth are."""
    red, green, blue = (float(v) for v in rng.integers(low, high, 3))
    grey = (red + green + blue) / 3
    return _mix((red, green, blue), (grey, grey, grey), rng.uniform(0.4, 0.95))


def random_appearance(rng: np.random.Generator, *, clean: bool = False) -> Appearance:
    """Draw a person. `clean`: frontal, evenly lit, shaven and free of noise (the sample has to be small and clear)."""
    place = rng.uniform(0, len(_SKINS) - 1)
    skin = _mix(_SKINS[int(place)], _SKINS[min(int(place) + 1, len(_SKINS) - 1)], place % 1)
    painted = rng.random() < 0.25
    natural = _mix((skin[0] * 0.88, skin[1] * 0.66, skin[2] * 0.66), (176, 92, 92), rng.uniform(0.1, 0.5))
    lips = (rng.uniform(130, 190), rng.uniform(30, 70), rng.uniform(50, 90)) if painted else natural
    style = str(rng.choice(["short", "long", "bald"], p=[0.5, 0.4, 0.1]))
    bearded = style != "long" and not painted and not clean and rng.random() < 0.35
    lamp = np.array([rng.normal(0, 0.15 if clean else 0.45), rng.uniform(0.25, 0.7), 1.0])
    lamp /= np.linalg.norm(lamp)
    hair = _HAIRS[int(rng.integers(0, 2 if place > 4.5 else len(_HAIRS)))]
    return Appearance(
        skin=skin,
        lips=lips,
        hair=hair,
        iris=_IRISES[0] if place > 3.5 else _IRISES[int(rng.integers(0, len(_IRISES)))],
        shirt=_any_rgb(rng, 20, 220),
        wall=_any_rgb(rng, 40, 210),
        face_width=rng.uniform(118, 132),
        jaw_width=rng.uniform(0.72, 0.92),
        chin_y=rng.uniform(204, 224),
        mouth_half_width=rng.uniform(44, 56),
        upper_lip=rng.uniform(9, 17),
        lower_lip=rng.uniform(14, 22),
        nose_width=rng.uniform(26, 38),
        teeth_white=rng.uniform(0.72, 1.0),
        teeth_shown=rng.uniform(2, 9),
        hair_style=style,
        beard=rng.uniform(0.15, 0.9) if bearded else 0.0,
        moustache=rng.uniform(0.1, 0.9) if bearded else 0.0,
        brow=rng.uniform(0.5, 1.0),
        wrinkles=rng.uniform(0.2, 1.0),
        light=(float(lamp[0]), float(lamp[1]), float(lamp[2])),
        ambient=rng.uniform(0.45, 0.6) if clean else rng.uniform(0.25, 0.6),
        gain=1.0 if clean else rng.uniform(0.75, 1.15),
        shine=rng.uniform(0.05, 0.35),
        yaw=rng.normal(0, 0.03 if clean else 0.14),
        pitch=rng.normal(0, 0.02 if clean else 0.07),
        roll=rng.normal(0, 0.02 if clean else 0.05),
        restless=0.6 if clean else rng.uniform(0.4, 1.5),
        face_height_ratio=0.54 if clean else rng.uniform(0.36, 0.62),
        centre=(0.5, 0.5) if clean else (rng.uniform(0.4, 0.6), rng.uniform(0.46, 0.54)),
        blur_px=0.0 if clean else rng.choice([0.0, 0.0, 0.6, 1.0]),
        noise=0.0 if clean else rng.uniform(0.0, 5.0),
        texture_seed=int(rng.integers(0, 2**31)),
    )
