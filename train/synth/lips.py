"""Lips, teeth, tongue and the dark behind them, drawn over a patch of skin as functions of one `Mouth`.

Everything is a curve over x: the outer and inner edge of each lip. A pixel's place between two edges gives its
colour and light, and its distance to them its share, so edges are smooth without supersampling.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from train.synth.appearance import Appearance
from train.synth.articulation import Mouth
from train.synth.head import CANVAS_W, MOUTH_Y, ORIGIN, Plane, cloud

Patch = npt.NDArray[np.float32]  # [height, width, 3], 0..255

# The patch around the mouth, in face pixels.
LEFT, RIGHT, TOP, BOTTOM = -84, 84, 84, 214
COLUMNS = slice(LEFT + ORIGIN[0], RIGHT + ORIGIN[0])
ROWS = slice(TOP + ORIGIN[1], BOTTOM + ORIGIN[1])

JAW_DROP = 26.0  # px that the chin sinks at jaw 1
LIP_GAP = 42.0  # px between the lips at gap 1
_CAVITY = np.array([38, 14, 14], np.float32)
_TONGUE = np.array([168, 86, 84], np.float32)
_GUM = np.array([150, 74, 74], np.float32)
_TEETH = np.array([236, 228, 212], np.float32)


@dataclass(frozen=True, slots=True)
class LipPaint:
    """What a person's mouth keeps: texture, and the light that falls on the patch."""

    x: Plane  # [1, w]
    y: Plane  # [h, 1]
    wrinkles: Plane  # [1, w], unit deviation
    mottle: Plane  # [h, w]
    light: Plane  # [h, w]


def lip_paint(look: Appearance, light: Plane) -> LipPaint:
    """Prepare a person's mouth patch; `light` is the whole head's shading."""
    rng = np.random.default_rng(look.texture_seed + 1)
    x = np.arange(LEFT, RIGHT, dtype=np.float32)[None, :]
    y = np.arange(TOP, BOTTOM, dtype=np.float32)[:, None] - np.float32(MOUTH_Y)
    wrinkles = cloud(rng, (2, CANVAS_W), (4, 1))[:1, COLUMNS]
    mottle = cloud(rng, (BOTTOM - TOP, RIGHT - LEFT), (5, 5))
    lateral = np.broadcast_to(light[ROWS, COLUMNS].mean(axis=0, keepdims=True), (BOTTOM - TOP, RIGHT - LEFT))
    return LipPaint(x, y, wrinkles, mottle, lateral.astype(np.float32))


@dataclass(frozen=True, slots=True)
class Edges:
    """The four lip edges over x, [1, w], px below the resting line of the lips; `inside` is 0 beyond the corners."""

    upper_out: Plane
    upper_in: Plane
    lower_in: Plane
    lower_out: Plane
    u: Plane
    inside: Plane
    half_width: float
    aperture: float


def lip_edges(look: Appearance, mouth: Mouth, x: Plane) -> Edges:
    """Where the lips are. `aperture` is the opening in the middle, px; 0 while the lips touch."""
    half = look.mouth_half_width * (1.0 + 0.15 * mouth.wide - 0.30 * mouth.rounded - 0.05 * mouth.jaw)
    u = x / half
    bow = np.clip(1.0 - u * u, 0.0, 1.0)
    gap = max(0.0, mouth.gap) * LIP_GAP
    # The lower lip follows the jaw, the upper one rises a little, more so for a smile-like spread. For f and v the
    # lower lip comes up against the teeth, which stay in sight under a raised upper lip.
    rise = min(0.22 * gap + 1.5 * max(0.0, mouth.wide), gap)
    fall = (gap - rise) * (1.0 - mouth.tuck) - 1.0 * mouth.tuck * min(1.0, gap / 2)
    rise += mouth.tuck * min(1.0, gap / 4) * 3.5
    gap = rise + fall
    corner = 0.35 * fall - 1.0
    arch = bow ** (0.62 + 0.25 * mouth.rounded)
    upper_in = corner * (1 - arch) - rise * arch
    lower_in = corner * (1 - arch) + fall * arch
    # Closed lips meet in a line with a small point in the middle.
    line = 1.6 * np.exp(-((u / 0.22) ** 2)) * (1.0 - min(1.0, gap / 10))
    upper_in, lower_in = upper_in + line, lower_in + line
    thick_up = look.upper_lip * (1 + 0.30 * mouth.rounded - 0.45 * mouth.press - 0.12 * mouth.gap - 0.12 * mouth.wide)
    thick_low = look.lower_lip * (1 + 0.22 * mouth.rounded - 0.40 * mouth.press - 0.10 * mouth.wide - 0.5 * mouth.tuck)
    cupid = 1.0 - 0.22 * np.exp(-((u / 0.13) ** 2)) + 0.10 * np.exp(-(((np.abs(u) - 0.24) / 0.14) ** 2))
    upper_out = upper_in - thick_up * bow**0.75 * cupid
    lower_out = lower_in + thick_low * bow**0.62
    inside = np.clip((half - np.abs(x)) / 2.0, 0.0, 1.0)
    lines = [np.asarray(line, np.float32) for line in (upper_out, upper_in, lower_in, lower_out, u, inside)]
    return Edges(lines[0], lines[1], lines[2], lines[3], lines[4], lines[5], half, gap)


def draw_mouth(patch: Patch, look: Appearance, mouth: Mouth, paint: LipPaint) -> Patch:
    """Draw the mouth over `patch` (skin already moved with the jaw) and return the new patch."""
    edges = lip_edges(look, mouth, paint.x)
    out = _around(patch, mouth, edges, paint)
    if edges.aperture > 0.05:
        share = _between(paint.y, edges.upper_in, edges.lower_in, 0.9) * edges.inside
        out += share[..., None] * (_inside(look, mouth, edges, paint) - out)
    colour, share = _lips(look, mouth, edges, paint)
    out += share[..., None] * (colour - out)
    return out


def _between(y: Plane, top: Plane, bottom: Plane, soft: float) -> Plane:
    share: Plane = np.clip((y - top) / soft + 0.5, 0.0, 1.0) * np.clip((bottom - y) / soft + 0.5, 0.0, 1.0)
    return share


def _around(patch: Patch, mouth: Mouth, edges: Edges, paint: LipPaint) -> Patch:
    """Shade the skin: under the lower lip, above the upper one, at the corners, and where rounding puckers it."""
    y, u = paint.y, edges.u
    centre = np.clip(1.2 - u * u, 0.0, 1.0)
    below = (y - edges.lower_out - 4.0) / 6.0
    shade = (0.20 + 0.08 * mouth.rounded) * np.exp(-0.5 * below * below) * centre
    above = (y - edges.upper_out + 3.0) / 3.0
    shade = shade - 0.07 * np.exp(-0.5 * above * above) * centre
    corner_x = (np.abs(paint.x) - edges.half_width - 1.0) / (4.0 + 2.0 * abs(mouth.wide))
    corner_y = (y - edges.upper_in) / 7.0
    shade = shade + (0.24 + 0.10 * max(0.0, mouth.wide)) * np.exp(-0.5 * (corner_x * corner_x + corner_y * corner_y))
    shaded: Patch = patch * (1.0 - shade[..., None] * np.array([0.9, 1.0, 1.0], np.float32))
    return shaded


def _inside(look: Appearance, mouth: Mouth, edges: Edges, paint: LipPaint) -> Patch:
    """Cavity, tongue and teeth, in the shadow of the lips."""
    x, y, u = paint.x, paint.y, edges.u
    out = np.broadcast_to(_CAVITY * look.gain, (*paint.light.shape, 3)).copy()
    jaw = mouth.jaw * JAW_DROP
    tongue_top = jaw * 0.75 + 4 - mouth.tongue * (jaw * 0.6 + 4.0)
    dome = tongue_top + 10.0 * (x / (edges.half_width * 0.8)) ** 2
    share = np.clip((y - dome) / 2.5 + 0.5, 0.0, 1.0)
    bright = (0.45 + 0.4 * mouth.tongue) * np.exp(-0.5 * ((y - dome - 8) / 9) ** 2) + 0.16
    out += share[..., None] * (_TONGUE * look.gain * bright[..., None] - out)

    reach = np.clip((edges.half_width * 0.86 - np.abs(x)) / 5.0, 0.0, 1.0)
    dim = look.teeth_white * (1.0 - 0.55 * u * u) * look.gain
    # Lower teeth ride on the jaw; the lower lip mostly hides them.
    low_top = 4.0 + jaw + 2.5 * (u * u)
    low = np.clip((y - low_top) / 1.6 + 0.5, 0.0, 1.0) * reach * (1.0 - 0.7 * mouth.tongue)
    out += (low * 0.9)[..., None] * (_TEETH * (dim * 0.68 * _gaps(x, 8.0))[..., None] - out)
    # Upper teeth stay with the skull: their edge hangs just below the resting upper lip.
    edge = look.teeth_shown * 0.8 - 1.0 - 6.0 * mouth.rounded - 3.0 * u * u + 0.7 * np.cos(x * (2 * np.pi / 15.0))
    up = np.clip((edge - y) / 1.6 + 0.5, 0.0, 1.0) * reach
    gum = np.clip((edge - 19.0 - y) / 3.0 + 0.5, 0.0, 1.0)[..., None]
    enamel = _TEETH * (dim * _gaps(x, 15.0) * (1.02 + 0.008 * (y - edge)))[..., None]
    out += up[..., None] * (enamel + gum * (_GUM * look.gain - enamel) - out)
    if mouth.tongue > 0.5:
        tip = (mouth.tongue - 0.5) * 2.0
        blade = np.exp(-((x / (edges.half_width * 0.55)) ** 4)) * np.clip((y - edge + 3.0) / 2.0, 0.0, 1.0)
        out += (0.8 * tip * blade)[..., None] * (_TONGUE * 0.85 * look.gain - out)
    # The lips throw shadow into the mouth, the upper one more, and the corners are dark.
    shadow = 0.32 * np.exp(-np.maximum(y - edges.upper_in, 0.0) / 2.8) + 0.20 * np.exp(
        -np.maximum(edges.lower_in - y, 0.0) / 3.0
    )
    lit = (1.0 - shadow) * np.clip(1.2 - 0.7 * u * u, 0.15, 1.0) * (0.30 + 0.75 * paint.light)
    filled: Patch = out * lit[..., None]
    return filled


def _gaps(x: Plane, tooth: float) -> Plane:
    """Darker lines between neighbouring teeth; one lies in the middle."""
    lines: Plane = 1.0 - 0.26 * np.exp(-((np.abs((x / tooth + 0.5) % 1.0 - 0.5) * tooth / 0.9) ** 2))
    return lines


def _lips(look: Appearance, mouth: Mouth, edges: Edges, paint: LipPaint) -> tuple[Patch, Plane]:
    """Colour and share of the two lips: the upper one faces down and is darker, the lower one catches the light."""
    y = paint.y
    up_v = np.clip((y - edges.upper_out) / np.maximum(edges.upper_in - edges.upper_out, 0.5), 0.0, 1.0)
    low_v = np.clip((y - edges.lower_in) / np.maximum(edges.lower_out - edges.lower_in, 0.5), 0.0, 1.0)
    middle = 0.5 * (edges.upper_in + edges.lower_in)
    is_low = np.clip((y - middle) / 0.8 + 0.5, 0.0, 1.0)
    round_light = 0.10 * mouth.rounded
    up_light = 0.92 + round_light - (0.34 + round_light) * up_v
    low_light = 0.62 + 0.46 * np.sin(np.pi * np.clip(0.12 + 0.78 * low_v, 0, 1)) - 0.18 * low_v
    # Where the lips turn inwards they get dark: this is the line between closed lips.
    seam = 0.55 * np.exp(-np.abs(edges.upper_in - y) / 2.2) * (1 - is_low)
    seam = seam + 0.42 * np.exp(-np.abs(y - edges.lower_in) / 1.8) * is_low
    shade = up_light + is_low * (low_light - up_light)
    texture = 1.0 + 0.055 * paint.wrinkles + 0.02 * paint.mottle
    shade = shade * texture * (1.0 - seam) * (1.0 - 0.25 * edges.u * edges.u) * paint.light
    gloss = np.exp(-0.5 * (((low_v - 0.36) / 0.15) ** 2)) * np.exp(-((edges.u / 0.5) ** 2)) * is_low
    gloss = gloss * (0.6 + 0.4 * look.shine) * (1.0 + 0.2 * paint.wrinkles) * 30.0 * paint.light
    colour: Patch = np.asarray(look.lips, np.float32) * shade[..., None] + gloss[..., None]
    upper = _between(y, edges.upper_out, edges.upper_in, 2.2)
    lower = _between(y, edges.lower_in, edges.lower_out, 2.4)
    share: Plane = np.clip(np.maximum(upper, lower), 0.0, 1.0) * edges.inside * 0.96
    return colour, share
