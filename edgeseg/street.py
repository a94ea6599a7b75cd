"""``demo://street``: a rendered street seen from a moving car, with exact ground truth.

The world is a straight strip that a bend displaces sideways.  A point is (x, y, z) in metres: x right of
the road's centre line, y up, z ahead of the camera.  All that stands along the road comes from the tables
``_FRONTAGE``, ``_RAILINGS`` and ``_STREET``: a row says what is painted, how often, how far from the kerb
and how fast it moves.  What stands in a slot of a row is hashed from (seed, row, slot), so nothing is
stored and any frame can be drawn alone.  Pixels have four channels, B, G, R and class id: one fill paints
colour and label with the same shape.
"""

from __future__ import annotations

import math
from typing import Any, Callable, NamedTuple, Sequence

import numpy as np
from numpy.typing import NDArray

CLASSES: tuple[str, ...] = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign symbol",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)
PALETTE: tuple[tuple[int, int, int], ...] = (
    (128, 128, 128),
    (128, 0, 0),
    (192, 192, 128),
    (128, 64, 128),
    (60, 40, 222),
    (128, 128, 0),
    (192, 128, 128),
    (64, 64, 128),
    (64, 0, 128),
    (64, 64, 0),
    (0, 128, 192),
)  # RGB
SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST = range(11)

Image = NDArray[np.uint8]
Floats = NDArray[Any]
Colour = Sequence[float]  # B, G, R in 0..255

_NEAR, _FAR = 0.6, 150.0  # metres ahead of the camera between which things are drawn
_STREET_REACH = 80.0  # metres beyond which small things are left out
_DETAIL = 45.0  # metres beyond which lights, wheels, bars and the like are left out
_PAVEMENT_WIDTH, _LOT = 3.5, 16.0  # metres
_DISTANCES = np.arange(0.0, _FAR + 20.0)
_LANE = -2.8  # centre of a driving lane, metres outwards from its kerb
_RIGHT, _LEFT, _FRONT, _TOP = range(4)  # the way a surface faces: +x, -x, towards the camera, up
_TILE = 512  # side of the noise tile, pixels
_TILE_SCALE = 20.0  # pixels of the noise tile per metre

_WALLS = (
    (58, 72, 128),
    (70, 88, 150),
    (150, 190, 215),
    (205, 212, 216),
    (120, 150, 165),
    (95, 105, 112),
    (60, 66, 84),
    (140, 170, 190),
    (175, 160, 140),
    (80, 100, 130),
)
_ROOFS = ((62, 60, 66), (50, 62, 100), (84, 80, 80))
_CARS = (
    (30, 28, 28),
    (190, 190, 192),
    (215, 216, 218),
    (45, 40, 140),
    (130, 80, 40),
    (90, 86, 84),
    (70, 90, 60),
    (60, 110, 150),
    (150, 130, 90),
)
_GLASS = (62, 56, 52)
_CLOTHES = (
    (32, 30, 34),
    (70, 45, 40),
    (60, 60, 150),
    (160, 150, 140),
    (110, 80, 50),
    (60, 90, 70),
    (45, 60, 90),
)
_VIVID = ((170, 90, 30), (60, 130, 40), (40, 170, 225), (40, 40, 190), (215, 215, 215), (120, 50, 90))
_RAMP = np.linspace(0, 1, 256)[:, None]
_CAR_PROFILE = np.array(
    ((0, 0.25), (0, 0.92), (0.5, 1.45), (2.3, 1.45), (3.1, 0.95), (4.2, 0.8), (4.2, 0.25))
)


def _uniform(seed: int, salt: int, slots: NDArray[np.int64], count: int) -> Floats:
    """Hash (seed, salt, slot, column) to a (slots, count) array of floats in [0, 1)."""
    base = np.uint64((seed * 0x9E3779B97F4A7C15 + salt * 0xD1B54A32D192ED03) % 2**64)
    key = slots.astype(np.uint64)[:, None] * np.uint64(0xA0761D6478BD642F) + np.arange(
        1, count + 1, dtype=np.uint64
    )
    key ^= base
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 0x9FB21C651E98DF25)):
        key = (key ^ (key >> np.uint64(shift))) * np.uint64(factor)
    return np.asarray((key >> np.uint64(40)).astype(np.float64) / 2**24)


def _drift(seed: int, salt: int, time: float, period: float) -> float:
    """A smooth random walk in 0..1 that takes a new value every ``period`` seconds."""
    knot = math.floor(time / period)
    start, stop = _uniform(seed, salt, np.array([knot, knot + 1]), 1)[:, 0]
    blend = time / period - knot
    return float(start + (stop - start) * blend * blend * (3 - 2 * blend))


def _pick(colours: Sequence[Colour], chance: float) -> Colour:
    """One of ``colours``; the digits of ``chance`` that do not choose it make it lighter or darker."""
    position = chance * len(colours)
    gain = 0.8 + 0.4 * (position % 1.0)
    return [channel * gain for channel in colours[int(position)]]


def _mix(first: Colour, second: Colour, share: float) -> Colour:
    return [a + (b - a) * share for a, b in zip(first, second)]


class _Camera(NamedTuple):
    focal: float  # pixels
    centre: float  # column of the vanishing point of a straight road
    horizon: float  # row
    lateral: float  # metres right of the centre line
    height: float  # metres above the road
    travelled: float  # metres along the road
    heading: float  # slope of the road at the camera, metres right per metre ahead
    bend: (
        Floats  # how far (metres) the road lies right of its tangent at the camera, at z = 0, 1, 2 ... metres
    )

    def project(self, points: Floats) -> NDArray[np.int32]:
        """World points (..., 3) to whole pixels (..., 2) as column, row."""
        z = np.maximum(points[..., 2], _NEAR)
        scale = self.focal / z
        pixels = np.empty(points.shape[:-1] + (2,))
        pixels[..., 0] = (
            points[..., 0] + (np.interp(z, _DISTANCES, self.bend) - self.lateral)
        ) * scale + self.centre
        pixels[..., 1] = (self.height - points[..., 1]) * scale + self.horizon
        return pixels.astype(np.int32)

    def sees(self, x: float, z: float) -> bool:
        """Whether a thing that stands at ``x`` and ends at ``z`` can reach into the frame."""
        return z > 0 and (z + 2.0) * self.centre / self.focal > abs(x - self.lateral) - 4.0


class _Light(NamedTuple):
    gains: tuple[float, ...]  # brightness of a surface by the way it faces
    tint: Colour  # colour temperature
    zenith: Colour
    haze: Colour
    visibility: float  # metres in which haze hides 63 % of a colour
    clouds: float  # contrast
    shadow: float  # brightness of a cast shadow, 0..1
    sun: float  # metres a shadow reaches along x, per metre of height

    def shade(self, colour: Colour, z: float, facing: int) -> tuple[float, ...]:
        clear = math.exp(-max(z, 0.0) / self.visibility)
        gain = self.gains[facing] * clear
        (b, g, r), (warm_b, warm_g, warm_r), haze = colour, self.tint, [c * (1 - clear) for c in self.haze]
        return (
            min(255.0, b * warm_b * gain + haze[0]),
            min(255.0, g * warm_g * gain + haze[1]),
            min(255.0, r * warm_r * gain + haze[2]),
        )


def _light_at(seed: int, time: float) -> _Light:
    """The weather and time of day: mostly day, about one fifth dusk."""
    sun, clear = 2.4 * _drift(seed, 11, time, 40.0) - 1.2, _drift(seed, 12, time, 30.0)
    day = 1.0 - 2.6 * max(0.0, _drift(seed, 13, time, 60.0) - 0.74)
    warm, front = 0.1 * _drift(seed, 14, time, 35.0) - 0.03 + 0.1 * (1 - day), _drift(seed, 15, time, 45.0)
    direct = 0.85 * clear * day
    ambient = day * (0.85 - 0.3 * clear)
    gains = tuple(ambient + direct * part for part in (max(0.0, sun), max(0.0, -sun), 0.6 * front, 0.65))
    haze = [c * (0.25 + 0.75 * day) for c in _mix((215, 212, 208), (238, 232, 226), clear)]
    zenith = [c * (0.2 + 0.8 * day) for c in _mix((196, 190, 184), (226, 172, 112), clear)]
    return _Light(
        gains,
        (1 - warm, 1.0, 1 + warm),
        zenith,
        haze,
        110.0 + 500.0 * _drift(seed, 16, time, 50.0),
        0.15 + 0.45 * _drift(seed, 17, time, 30.0),
        1 - 0.6 * clear * day,
        sun,
    )


class _Canvas:
    """Four-channel pixels (B, G, R, class id), and the camera and light they are painted with."""

    def __init__(
        self, size_hw: tuple[int, int], camera: _Camera, light: _Light, time: float, leaves: Image
    ) -> None:
        self.pixels: Image = np.zeros(size_hw + (4,), np.uint8)
        self.camera, self.light, self.time, self.leaves = camera, light, time, leaves

    def fill(self, points: Floats, colour: Colour, label: int, facing: int = _FRONT) -> None:
        """Fill a polygon (k, 3), or n of them (n, k, 3) that do not overlap, given in world points."""
        import cv2

        polygons = points if points.ndim == 3 else points[None]
        shaded = self.light.shade(colour, float(polygons[0, 0, 2]), facing)
        cv2.fillPoly(self.pixels, list(self.camera.project(polygons)), shaded + (label,))

    def fill_hull(self, points: Floats, colour: Colour, label: int, facing: int) -> None:
        import cv2

        hull = cv2.convexHull(self.camera.project(points.reshape(-1, 3)))
        cv2.fillConvexPoly(
            self.pixels, hull, self.light.shade(colour, float(points[0, 2]), facing) + (label,)
        )

    def foliage(
        self, x: float, y: float, z: float, size: tuple[float, float], colour: Colour, kind: float
    ) -> None:
        """Stamp leaves, ``size`` = (width, height) in metres, centred on (x, y, z)."""
        import cv2

        corners = np.array([[x - size[0] / 2, y + size[1] / 2, z], [x + size[0] / 2, y - size[1] / 2, z]])
        (left, top), (right, bottom) = self.camera.project(corners).tolist()
        height, width = self.pixels.shape[:2]
        x0, x1, y0, y1 = max(left, 0), min(right, width), max(top, 0), min(bottom, height)
        if x0 >= x1 or y0 >= y1 or z < _NEAR:
            return
        leaf = self.leaves[int(kind * len(self.leaves))]
        across, down = leaf.shape[1] / (right - left), leaf.shape[0] / (bottom - top)
        warp = np.array([[across, 0, (x0 - left) * across], [0, down, (y0 - top) * down]])
        shades = cv2.warpAffine(leaf, warp, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        dark, bright = (
            np.array(self.light.shade([c * gain for c in colour], z, _TOP)) for gain in (0.1, 1.5)
        )
        table = np.full((256, 4), TREE, np.uint8)
        table[:, :3] = dark + _RAMP * (bright - dark)
        words = self.pixels.view(np.uint32)[..., 0]  # the four channels of a pixel as one number
        area = words[y0:y1, x0:x1]
        np.copyto(area, table.view(np.uint32)[:, 0][shades], where=shades > 40)


def _side_quad(x: float, z0: Any, z1: Any, y0: Any, y1: Any) -> Floats:
    """Rectangles in the plane of constant x: (4, 3), or (n, 4, 3) for vectors."""
    quads = np.empty(np.shape(z0) + (4, 3))
    quads[..., 0] = x
    for corner, (y, z) in enumerate(((y0, z0), (y0, z1), (y1, z1), (y1, z0))):
        quads[..., corner, 1], quads[..., corner, 2] = y, z
    return quads


def _front_quad(x0: float, x1: float, y0: float, y1: float, z: float) -> Floats:
    return np.array([[x0, y0, z], [x1, y0, z], [x1, y1, z], [x0, y1, z]])


def _ground_quad(x0: float, x1: float, z0: float, z1: float) -> Floats:
    return np.array([[x0, 0, z0], [x0, 0, z1], [x1, 0, z1], [x1, 0, z0]])


def _strip(x0: float, x1: float, z0: float, z1: float, steps: int = 32) -> Floats:
    """A band of the ground between x0 and x1 that follows the bend of the road: (2 * steps, 3)."""
    z = z0 * (z1 / z0) ** np.linspace(0, 1, steps)
    sides = [np.stack([np.full(steps, x), np.zeros(steps), z], -1) for x in (x0, x1)]
    return np.concatenate([sides[0], sides[1][::-1]])


def _regular(corners: int) -> Floats:
    """A regular polygon (corners, 3) of radius 1 that faces the camera, one corner up."""
    turn = np.arange(corners) * (2 * math.pi / corners)
    return np.stack([np.sin(turn), np.cos(turn), np.zeros(corners)], -1)


_ROUND, _TRIANGLE = _regular(12), _regular(3)
_WHEEL = _ROUND[:, [2, 1, 0]]  # turned into the plane of constant x


def _disc(x: float, y: float, z: float, radius: float, shape: Floats = _ROUND) -> Floats:
    return shape * radius + (x, y, z)


def _wheel(x: float, z: float, radius: float) -> Floats:
    return _WHEEL * radius + (x, radius, z)


def _paint_lot(canvas: _Canvas, x: float, z: float, dice: Floats) -> None:
    """One plot of the frontage: a house at the pavement, or a fenced garden."""
    if dice[2] < 0.68:
        _paint_building(canvas, x, z, dice)
    else:
        _paint_garden(canvas, x, z, dice)


def _paint_building(canvas: _Canvas, x: float, z: float, dice: Floats) -> None:
    side = math.copysign(1.0, x)
    facing = _LEFT if side > 0 else _RIGHT
    x, back, end = x + side * dice[3], x + side * 9.0, z + _LOT - 0.1
    height, wall = 5.5 + 7.5 * dice[4], _pick(_WALLS, dice[5])
    canvas.fill(_front_quad(x, back, 0, height, z), wall, BUILDING)
    canvas.fill(_side_quad(x, z, end, 0, height), wall, BUILDING, facing)
    if dice[6] < 0.7:
        ridge = np.array([(x + back) / 2, height + 2.4, z])
        eave = np.array([x, height, z])
        far = np.array([0, 0, end - z])
        canvas.fill(np.array([eave, ridge, [back, height, z]]), wall, BUILDING)
        canvas.fill(
            np.array([eave, eave + far, ridge + far, ridge]), _pick(_ROOFS, dice[7]), BUILDING, facing
        )
        canvas.fill(
            _front_quad(ridge[0] - 0.5, ridge[0] + 0.5, ridge[1] - 1, ridge[1] + 1.1, z + 1), wall, BUILDING
        )
    if z < 80:
        _paint_openings(canvas, x, z, height, dice)


def _paint_openings(canvas: _Canvas, x: float, z: float, height: float, dice: Floats) -> None:
    """Windows on every floor, and at street level a door or a shop front."""
    facing = _LEFT if x > 0 else _RIGHT
    shop = dice[8] < 0.5
    columns, rows = np.meshgrid(
        z + np.arange(1.0, _LOT - 1.5, 2.2 + 1.6 * dice[9]),
        np.arange(3.7 if shop else 1.0, height - 1.3, 2.8),
    )
    starts, floors = columns.ravel(), rows.ravel()
    if len(starts):
        if z < _DETAIL:
            frames = _side_quad(x, starts - 0.12, starts + 1.22, floors - 0.15, floors + 1.6)
            canvas.fill(frames, _mix((215, 215, 215), (90, 90, 90), float(dice[10])), BUILDING, facing)
        glass = (150, 130, 110) if dice[11] < 0.3 else (58, 50, 46)
        canvas.fill(_side_quad(x, starts, starts + 1.1, floors, floors + 1.45), glass, BUILDING, facing)
    if shop:
        canvas.fill(
            _side_quad(x, z + 0.3, z + _LOT - 0.5, 2.8, 3.4), _pick(_VIVID, dice[12]), BUILDING, facing
        )
        panes = z + np.arange(0.5, _LOT - 2, 2.6)
        canvas.fill(
            _side_quad(x, panes, panes + 2.3, panes * 0 + 0.4, panes * 0 + 2.7),
            (66, 62, 60),
            BUILDING,
            facing,
        )
    else:
        door = z + 4.0 + 6 * dice[13]
        canvas.fill(_side_quad(x, door, door + 1.1, 0, 2.2), _pick(_VIVID, dice[12]), BUILDING, facing)


def _paint_garden(canvas: _Canvas, x: float, z: float, dice: Floats) -> None:
    """A house set back, a tree or two, a hedge, and a fence along the pavement."""
    side = math.copysign(1.0, x)
    if dice[3] < 0.6:
        _paint_building(canvas, x + side * 7.0, z, dice[::-1])
    leaf = _mix((48, 92, 78), (36, 66, 62), float(dice[4]))
    for depth, turn in ((11.0, 3), (4.5, 6)):  # the plot's chances, dealt anew to each tree
        _paint_tree(canvas, x + side * 2.5, z + depth, np.roll(dice, turn))
    for depth in np.arange(_LOT - 1.0, 0, -3.2 if z < _DETAIL else -8.0):
        canvas.foliage(
            x + side * 0.7, 0.9, z + depth, (3.2, 2.4 + dice[7]), leaf, float((dice[8] + depth / 7) % 1)
        )
    _paint_fence(canvas, x, z, z + _LOT - 0.4, 1.0 + 0.7 * dice[9], dice)


def _paint_fence(canvas: _Canvas, x: float, z0: float, z1: float, height: float, dice: Floats) -> None:
    facing = _LEFT if x > 0 else _RIGHT
    paint = _mix((40, 44, 46), (110, 130, 150), float(dice[10]))
    canvas.fill(_side_quad(x, z0, z1, 0, height), _mix(paint, (60, 74, 72), 0.55), FENCE, facing)
    if z0 < _DETAIL:
        bars = z0 + np.arange(0, z1 - z0, 0.35)
        canvas.fill(_side_quad(x, bars, bars + 0.1, bars * 0, bars * 0 + height), paint, FENCE, facing)
    canvas.fill(_side_quad(x, z0, z1, height - 0.12, height), paint, FENCE, facing)


def _paint_railing(canvas: _Canvas, x: float, z: float, dice: Floats) -> None:
    _paint_fence(canvas, x, z, z + 6.5, 1.05, dice)


def _paint_tree(canvas: _Canvas, x: float, z: float, dice: Floats) -> None:
    height, trunk = 4.5 + 4.0 * dice[2], 0.14 + 0.12 * dice[3]
    canvas.fill(_front_quad(x - trunk, x + trunk, 0, height * 0.7, z), (58, 70, 82), TREE)
    leaf = _mix(_mix((44, 104, 82), (30, 62, 54), float(dice[4])), (50, 110, 140), 0.7 * float(dice[5] ** 3))
    width = 2.6 + 2.0 * dice[6]
    crown = ((0.0, 0.8, dice[9]), (0.5, 0.66, dice[8]), (-0.5, 0.62, dice[7]))
    for shift, level, kind in crown if z < _DETAIL else crown[:1]:
        canvas.foliage(x + shift * width * 0.5, height * level, z, (width, height * 0.5), leaf, float(kind))


def _paint_pole(canvas: _Canvas, x: float, z: float, height: float, width: float, colour: Colour) -> None:
    canvas.fill(_front_quad(x - width / 2, x + width / 2, 0, height, z), colour, POLE)


def _paint_lamp(canvas: _Canvas, x: float, z: float, dice: Floats) -> None:
    height, colour = 5.0 + 2.5 * dice[2], _mix((60, 64, 64), (150, 152, 150), float(dice[3]))
    reach = math.copysign(1.3, -x)
    _paint_pole(canvas, x, z, height, 0.17, colour)
    canvas.fill(_front_quad(x, x + reach, height, height + 0.1, z), colour, POLE)
    canvas.fill(
        _front_quad(x + reach * 0.7, x + reach, height - 0.1, height + 0.12, z), (190, 200, 205), POLE
    )


def _paint_sign(canvas: _Canvas, x: float, z: float, dice: Floats) -> None:
    """A round, triangular or rectangular sign or a traffic light, on its pole."""
    top = 2.3 + 0.8 * dice[2]
    _paint_pole(canvas, x, z, top, 0.1, (118, 120, 120))
    if dice[3] < 0.3:
        canvas.fill(_disc(x, top, z, 0.42), (40, 36, 190), SIGN)
        canvas.fill(_disc(x, top, z, 0.29), (225, 225, 225) if dice[4] < 0.7 else (170, 80, 30), SIGN)
    elif dice[3] < 0.5:
        canvas.fill(_disc(x, top, z, 0.58, _TRIANGLE), (40, 36, 190), SIGN)
        canvas.fill(_disc(x, top - 0.02, z, 0.36, _TRIANGLE), (225, 225, 225), SIGN)
    elif dice[3] < 0.75:
        width, height = 0.5 + 0.5 * dice[4], 0.4 + 0.5 * dice[5]
        canvas.fill(
            _front_quad(x - width, x + width, top - height, top + 0.3, z), _pick(_VIVID, dice[6]), SIGN
        )
        canvas.fill(_front_quad(x - width * 0.7, x + width * 0.7, top - 0.15, top, z), (225, 225, 225), SIGN)
    else:
        _paint_traffic_light(canvas, x, top, z, int(dice[7] * 3))


def _paint_traffic_light(canvas: _Canvas, x: float, y: float, z: float, lit: int) -> None:
    canvas.fill(_front_quad(x - 0.26, x + 0.26, y - 0.7, y + 0.7, z), (26, 28, 28), SIGN)
    for lamp, colour in enumerate(((110, 230, 60), (60, 190, 255), (60, 50, 255))):
        glow = colour if lamp == lit else _mix(colour, (20, 20, 20), 0.8)
        canvas.fill(_disc(x, y + 0.42 * (lamp - 1), z, 0.15), glow, SIGN)


def _paint_car(canvas: _Canvas, x: float, z: float, dice: Floats) -> None:
    """A car seen from behind on the camera's side of the road, and from the front on the other."""
    rear = x * canvas.camera.lateral > 0
    outline = _CAR_PROFILE if rear else (_CAR_PROFILE * (-1, 1) + (4.2, 0))[::-1]
    profile = outline * (1.0 + 0.1 * dice[2], 1.0 + 0.35 * dice[3] ** 3) + (z, 0)
    half = 0.82 + 0.08 * dice[4]
    flank = x + math.copysign(half, canvas.camera.lateral - x)
    facing = _RIGHT if flank > x else _LEFT
    left, right = (np.array([[edge, y, along] for along, y in profile]) for edge in (x - half, x + half))
    near_side, paint = (left if flank < x else right), _pick(_CARS, dice[5])

    canvas.fill_hull(np.concatenate([left, right]), paint, CAR, _TOP)
    canvas.fill(near_side, paint, CAR, facing)
    if z < _DETAIL:
        _paint_car_side(canvas, near_side, 1 if rear else 2, facing)
    canvas.fill(np.array([left[0], right[0], right[1], left[1]]), paint, CAR)
    screen = 1 if rear else 2
    pane = np.array([left[screen], right[screen], right[screen + 1], left[screen + 1]])
    canvas.fill(pane * 0.86 + pane.mean(axis=0) * 0.14, _GLASS, CAR)
    if z < _DETAIL:
        _paint_car_end(canvas, x, z - 0.01, half, float(profile[1, 1]), rear)


def _paint_car_side(canvas: _Canvas, profile: Floats, roof: int, facing: int) -> None:
    """Side windows and wheels; the corners from ``roof`` on are those of the cabin."""
    cabin = profile[roof : roof + 4]
    canvas.fill(cabin * 0.8 + cabin.mean(axis=0) * 0.2 + (0, 0.03, 0), _GLASS, CAR, facing)
    x, start = float(profile[0, 0]), float(profile[0, 2])
    for radius, lift, colour in ((0.33, 0.0, (28, 28, 30)), (0.18, 0.15, (120, 120, 120))):
        wheels = np.array([_wheel(x, start + along, radius) for along in (0.8, 3.4)])
        canvas.fill(wheels + (0, lift, 0), colour, CAR, facing)


def _paint_car_end(canvas: _Canvas, x: float, z: float, half: float, top: float, rear: bool) -> None:
    """Tyres, bumper, lights and plate of the end that faces the camera."""
    lamp, plate = ((40, 30, 200), (70, 200, 225)) if rear else ((235, 240, 245), (220, 225, 225))
    for edge in (-half, half):
        inner = edge * 0.7
        canvas.fill(_front_quad(x + edge, x + inner, 0, 0.3, z), (26, 26, 28), CAR)
        canvas.fill(_front_quad(x + edge * 0.97, x + inner, top - 0.3, top - 0.1, z), lamp, CAR)
    canvas.fill(_front_quad(x - half, x + half, 0.25, 0.4, z), (52, 50, 50), CAR)
    canvas.fill(_front_quad(x - 0.26, x + 0.26, 0.44, 0.56, z), plate, CAR)


def _paint_person(canvas: _Canvas, x: float, z: float, dice: Floats, label: int, lift: float) -> None:
    """A person whose legs swing; ``lift`` (metres) raises a rider onto the saddle."""
    tall = 0.92 + 0.16 * dice[3]
    swing = 0.2 * math.sin(canvas.time * 7.0 + 6.3 * dice[4])
    coat, trousers = _pick(_CLOTHES, dice[5]), _pick(_CLOTHES[:3], dice[6])
    hip, shoulder = lift + 0.85 * tall, lift + 1.45 * tall
    for foot in (-swing, swing):
        leg = np.array(
            [[x - 0.13, hip, z], [x + 0.13, hip, z], [x + foot + 0.08, lift, z], [x + foot - 0.08, lift, z]]
        )
        canvas.fill(leg, trousers, label)
    canvas.fill(
        np.array([[x - 0.2, hip, z], [x + 0.2, hip, z], [x + 0.24, shoulder, z], [x - 0.24, shoulder, z]]),
        coat,
        label,
    )
    for edge in (-0.25, 0.25) if z < _DETAIL / 2 else ():
        canvas.fill(
            _front_quad(x + edge - 0.06, x + edge + 0.06, hip, shoulder - 0.05, z),
            _mix(coat, (0, 0, 0), 0.25),
            label,
        )
    canvas.fill(_disc(x, shoulder + 0.17, z, 0.14), (120, 150, 195) if dice[7] < 0.6 else (40, 48, 60), label)


def _paint_pedestrian(canvas: _Canvas, x: float, z: float, dice: Floats) -> None:
    _paint_person(canvas, x + 1.4 * (dice[2] - 0.5), z, dice, PEDESTRIAN, 0.0)


def _paint_bicyclist(canvas: _Canvas, x: float, z: float, dice: Floats) -> None:
    for along in (1.1, 0.0):
        canvas.fill_hull(
            np.concatenate([_wheel(x - 0.03, z + along, 0.34), _wheel(x + 0.03, z + along, 0.34)]),
            (34, 34, 34),
            BICYCLIST,
            _FRONT,
        )
    canvas.fill(_front_quad(x - 0.28, x + 0.28, 0.95, 1.02, z + 0.5), (60, 60, 60), BICYCLIST)
    _paint_person(canvas, x, z, dice, BICYCLIST, 0.22)


class _Row(NamedTuple):
    """Things of one kind along the road, at most one per slot of ``spacing`` metres."""

    paint: Callable[[_Canvas, float, float, Floats], None]
    spacing: float
    density: float  # share of the slots that are taken
    offset: float  # metres outwards from the kerb; a thing on the road has a negative offset
    sides: tuple[int, ...]  # 1: the camera's side of the road, -1: the other
    footprint: tuple[float, float, float]  # width, length and height of the shadow's caster, metres
    speed: float = 0.0  # metres per second, forwards


_BOTH = (1, -1)
_FRONTAGE = (_Row(_paint_lot, _LOT, 1.0, _PAVEMENT_WIDTH, _BOTH, (0.3, _LOT, 6.5)),)
_RAILINGS = (_Row(_paint_railing, 9.0, 0.16, 0.25, _BOTH, (0.1, 6.5, 0.8)),)
_STREET = (
    _Row(_paint_tree, 15.0, 0.42, 0.6, _BOTH, (3.4, 3.4, 4.5)),
    _Row(_paint_lamp, 21.0, 0.85, 0.35, _BOTH, (0.2, 0.2, 6.0)),
    _Row(_paint_sign, 10.0, 0.8, 0.5, _BOTH, (0.3, 0.2, 2.5)),
    _Row(_paint_car, 7.5, 0.18, -0.95, _BOTH, (1.8, 4.3, 1.2)),
    _Row(_paint_car, 30.0, 0.6, _LANE, (-1,), (1.8, 4.3, 1.2), -9.0),
    _Row(_paint_pedestrian, 9.0, 0.5, 1.5, _BOTH, (0.5, 0.4, 1.7), 1.3),
    _Row(_paint_pedestrian, 9.0, 0.5, 1.8, _BOTH, (0.5, 0.4, 1.7), -1.1),
    _Row(_paint_bicyclist, 24.0, 0.5, -2.05, (1,), (0.5, 1.6, 1.6), 4.5),
    _Row(_paint_bicyclist, 24.0, 0.5, -2.05, (-1,), (0.5, 1.6, 1.6), -4.5),
)
_LEADER = _Row(_paint_car, 1.0, 1.0, _LANE, (1,), (1.8, 4.3, 1.2))  # the car ahead in the camera's lane


class _Thing(NamedTuple):
    row: _Row
    x: float
    z: float
    dice: Floats


def _noise(rng: np.random.Generator, size: int, octaves: Sequence[int]) -> Floats:
    """Fractal noise (size, size) float32 with mean 0 and deviation 1; ``octaves`` are grid sizes."""
    import cv2

    total = np.zeros((size, size), np.float32)
    for cells in octaves:
        grid = np.tile(rng.random((cells, cells)).astype(np.float32), (2, 2))  # tiled: the noise wraps around
        total += cv2.resize(grid, (2 * size, 2 * size), interpolation=cv2.INTER_CUBIC)[
            size // 2 : -size // 2, size // 2 : -size // 2
        ]
    return np.asarray((total - total.mean()) / total.std())


def _leaf_stamps(rng: np.random.Generator, count: int = 8, size: int = 128) -> Image:
    """Ragged crowns (count, size, size): 0 is empty, else the brightness of a leaf; some are nearly bare."""
    row, column = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    stamps = np.zeros((count, size, size), np.uint8)
    for index, stamp in enumerate(stamps):
        shape, leaf = _noise(rng, size, (6, 16, 48)), _noise(rng, size, (8, 32, 100))
        full = 0.62 - 0.45 * (row**2 + column**2) ** 1.5 * 2.4 + 0.2 * shape - (0.3 if index == 0 else 0.0)
        stamp[:] = np.where(full > 0, np.clip(135 + 38 * leaf - 45 * row, 60, 255), 0)
    return stamps


class StreetScene:
    """An endless drive along a street that depends on ``seed`` alone.

    Args:
        seed: any integer; another seed is another town, weather and traffic.
        size_hw: frame height and width in pixels, each at least 32.
        fps: frames per second of the rendered camera, above 0.

    Raises:
        ValueError: for a size under 32 pixels or an fps that is not above 0.
    """

    def __init__(self, seed: int = 0, size_hw: tuple[int, int] = (480, 640), fps: float = 30.0) -> None:
        if min(size_hw) < 32:
            raise ValueError(
                f"street scene: height and width must be at least 32 pixels, got {tuple(size_hw)}"
            )
        if not 0 < fps < math.inf:
            raise ValueError(f"street scene: fps must be a finite number above 0, got {fps}")
        self.seed, self.size_hw, self.fps = int(seed), (int(size_hw[0]), int(size_hw[1])), float(fps)
        town = _uniform(self.seed, 1, np.arange(1), 10)[0]
        self._side = (
            1.0 if town[0] < 0.5 else -1.0
        )  # the side of the road the camera drives on: right or left
        self._kerb = 3.8 + 0.7 * town[1]  # half the road's width, metres
        self._speed = 6.0 + 5.0 * town[2]  # metres per second
        self._waves = ((8.0, 0.012, 6.3 * town[3]), (12.0, 0.0071, 6.3 * town[4]))
        self._asphalt, self._paving = 72 + 50 * town[5], 120 + 50 * town[6]
        self._camera_height, self._camera_horizon = 1.45 + 0.35 * town[7], 0.44 + 0.06 * town[8]
        rng = np.random.default_rng(self.seed % 2**64)
        self._tile = _noise(rng, _TILE, (12, 128, 256, 512))
        self._clouds = np.clip(128 + 50 * _noise(rng, _TILE, (4, 8, 16, 48)), 0, 255).astype(np.uint8)
        self._leaves = _leaf_stamps(rng)
        height, width = self.size_hw
        self._sensor_noise = np.clip(rng.normal(128, 40, (height + 64, width + 64, 3)), 0, 255).astype(
            np.uint8
        )
        rows, columns = np.linspace(-1, 1, height)[:, None, None], np.linspace(-1, 1, width)[:, None]
        strength = 30 * town[9]
        self._vignette = np.repeat(255 - strength * (rows**2 + columns**2), 3, axis=2).astype(np.uint8)

    def render(self, index: int) -> tuple[Image, Image]:
        """Render frame ``index``, in any order.

        Returns:
            The frame, HxWx3 uint8 BGR, and its labels, HxW uint8 class ids 0..10.

        Raises:
            ValueError: for a negative index.
        """
        if index < 0:
            raise ValueError(f"street scene: frame index must be 0 or more, got {index}")
        time = index / self.fps
        canvas = _Canvas(self.size_hw, self._camera_at(time), _light_at(self.seed, time), time, self._leaves)
        layers = [
            self._things(canvas, number, rows) for number, rows in enumerate((_FRONTAGE, _RAILINGS, _STREET))
        ]
        layers[-1].append(self._leader(time))
        self._paint_sky(canvas)
        self._paint_ground(canvas)
        self._light_ground(canvas, [thing for layer in layers for thing in layer])
        self._paint_backdrop(canvas)
        for layer in layers:
            if layer is layers[-1]:
                self._roughen(canvas)
            for thing in sorted(layer, key=lambda thing: -thing.z):
                thing.row.paint(canvas, thing.x, thing.z, thing.dice)
        return self._expose(canvas, index), np.ascontiguousarray(canvas.pixels[..., 3])

    def _camera_at(self, time: float) -> _Camera:
        height, width = self.size_hw
        pitch = 0.02 * (_drift(self.seed, 2, time, 6.0) - 0.5) + 0.006 * (
            _drift(self.seed, 3, time, 0.25) - 0.5
        )
        lateral = self._side * (self._kerb + _LANE) + 0.5 * (_drift(self.seed, 4, time, 5.0) - 0.5)
        travelled = self._speed * (time + 0.8 * math.sin(0.5 * time))
        rise = self._camera_height + 0.04 * _drift(self.seed, 5, time, 0.4)
        heading, bend = 0.0, np.zeros_like(_DISTANCES)
        for metres, rate, phase in self._waves:
            angle = travelled * rate + phase
            slope = metres * rate * math.cos(angle)
            bend += metres * (np.sin(angle + rate * _DISTANCES) - math.sin(angle)) - slope * _DISTANCES
            heading += slope
        return _Camera(
            1.05 * height,
            width / 2,
            height * (self._camera_horizon + pitch),
            lateral,
            rise,
            travelled,
            heading,
            bend,
        )

    def _things(self, canvas: _Canvas, layer: int, rows: Sequence[_Row]) -> list[_Thing]:
        """All things of a layer that the camera may see."""
        reach = _FAR if rows is _FRONTAGE else _STREET_REACH
        things = []
        for number, row in enumerate(rows):
            origin = canvas.camera.travelled - row.speed * canvas.time
            first, last = (math.floor((origin + z) / row.spacing) for z in (-_LOT, reach))
            slots = np.arange(first, last)
            for side in row.sides:
                x = self._side * side * (self._kerb + row.offset)
                dices = _uniform(self.seed, 1000 + 100 * layer + 10 * number + side, slots, 14)
                starts = (
                    slots + (row.spacing - row.footprint[1]) / row.spacing * dices[:, 1]
                ) * row.spacing - origin
                things += [
                    _Thing(row, x, float(z), dice)
                    for z, dice in zip(starts, dices)
                    if dice[0] < row.density and canvas.camera.sees(x, z + row.footprint[1])
                ]
        return things

    def _leader(self, time: float) -> _Thing:
        """The car ahead: every 16 seconds another one is caught up with and then pulls away."""
        episode = math.floor(time / 16.0)
        dice = _uniform(self.seed, 6, np.array([episode]), 14)[0]
        gap = _FAR - (_FAR - 9.0 - 25.0 * dice[1]) * math.sin(math.pi * (time / 16.0 - episode))
        return _Thing(_LEADER, self._side * (self._kerb + _LANE), gap, dice)

    def _paint_sky(self, canvas: _Canvas) -> None:
        import cv2

        rows, light = max(1, int(canvas.camera.horizon) + 1), canvas.light
        fade = np.linspace(0, 1, rows)[:, None] ** 0.8
        gradient = np.array(light.zenith) * (1 - fade) + np.array(light.haze) * fade
        scale = 260.0 / self.size_hw[0]
        shift = canvas.time * 2.0 - canvas.camera.heading * canvas.camera.focal * scale
        warp = np.array([[scale, 0, shift], [0, 2 * scale, 40]])
        clouds = cv2.warpAffine(
            self._clouds,
            warp,
            (self.size_hw[1], rows),
            borderMode=cv2.BORDER_REFLECT_101,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        )
        base = np.broadcast_to(gradient[:, None].astype(np.uint8), (rows, self.size_hw[1], 3))
        canvas.pixels[:rows, :, :3] = cv2.addWeighted(
            np.ascontiguousarray(base), 1.0, cv2.merge([clouds] * 3), light.clouds, -118 * light.clouds
        )

    def _paint_ground(self, canvas: _Canvas) -> None:
        """Grass (class tree, as CamVid has it), pavements, kerbs, road and lane markings."""
        canvas.fill(_front_quad(-9 * _FAR, 9 * _FAR, -9 * _FAR, 0, _FAR), (50, 96, 84), TREE, _TOP)
        kerb, paving, asphalt = self._kerb, self._paving, self._asphalt
        wet = self._wetness(canvas.time)
        for edge, colour, label in (
            (kerb + _PAVEMENT_WIDTH + 1.1, (paving, paving, paving * 1.03), PAVEMENT),
            (kerb + 0.18, [paving * 1.15] * 3, PAVEMENT),
            (kerb, [asphalt * (1.2 - 0.4 * wet)] * 3, ROAD),
        ):
            canvas.fill(_strip(-edge, edge, _NEAR, _FAR), colour, label, _TOP)
        paint = [130 + 90 * _drift(self.seed, 8, canvas.time, 30.0)] * 3
        dashes = np.arange(-(canvas.camera.travelled % 6.0), 90.0, 6.0)
        canvas.fill(np.array([_ground_quad(-0.07, 0.07, z, z + 3.5) for z in dashes]), paint, ROAD, _TOP)
        for edge in (-kerb + 0.35, kerb - 0.35):
            canvas.fill(_strip(edge - 0.06, edge + 0.06, _NEAR, 80.0), (70, 170, 190), ROAD, _TOP)

    def _wetness(self, time: float) -> float:
        return _drift(self.seed, 7, time, 40.0)

    def _light_ground(self, canvas: _Canvas, things: Sequence[_Thing]) -> None:
        """Shadows on the ground, then haze by distance and, where it is wet, the sky's reflection."""
        import cv2

        camera, light, wet = canvas.camera, canvas.light, self._wetness(canvas.time)
        first = math.ceil(camera.horizon)
        ground = canvas.pixels[first:]
        z = camera.focal * camera.height / (np.arange(first, self.size_hw[0]) + 0.5 - camera.horizon)
        clear = np.exp(-z / light.visibility) * (1 - 0.35 * wet * z / (z + 25.0))
        gain = (self._shadows(canvas, things)[first:] * clear[:, None]).astype(np.uint8)
        glow = np.zeros(ground.shape, np.uint8)
        glow[..., :3] = ((1 - clear)[:, None] * light.haze)[:, None]
        ground[:] = cv2.add(
            cv2.multiply(ground, cv2.merge([gain, gain, gain, np.full_like(gain, 255)]), scale=1 / 255), glow
        )

    def _shadows(self, canvas: _Canvas, things: Sequence[_Thing]) -> Image:
        """Brightness (H, W) of the ground: darker under cars, and where the sun throws a shadow."""
        import cv2

        mask, light = np.full(self.size_hw, 255, np.uint8), canvas.light
        for row, x, z, _ in (thing for thing in things if thing.z < 70):
            width, length, height = row.footprint
            foot = _ground_quad(x - width / 2, x + width / 2, z, z + length)
            hull = cv2.convexHull(
                canvas.camera.project(np.concatenate([foot, foot - (light.sun * height, 0, 0)]))
            )
            cv2.fillConvexPoly(mask, hull, 255 * light.shadow)
        for row, x, z, _ in (thing for thing in things if thing.row.paint is _paint_car):
            foot = _ground_quad(x - row.footprint[0] / 2, x + row.footprint[0] / 2, z, z + row.footprint[1])
            cv2.fillConvexPoly(mask, canvas.camera.project(foot), 255 * min(0.45, light.shadow))
        return np.asarray(cv2.blur(mask, (5, 3)))

    def _paint_backdrop(self, canvas: _Canvas) -> None:
        """Distant trees and houses on the horizon."""
        x = np.linspace(-2.0 * _FAR, 2.0 * _FAR, 120)
        bearing = x / _FAR + canvas.camera.heading
        top = (
            6.0
            + 1.5 * np.sin(9 * bearing + self.seed % 63)
            + np.sin(41 * bearing)
            + 0.7 * np.sin(97 * bearing)
        )
        crowns = np.stack([x, top, np.full(120, _FAR)], -1)
        canvas.fill(np.concatenate([crowns, [[x[-1], 0, _FAR], [x[0], 0, _FAR]]]), (52, 74, 66), TREE)
        chances = _uniform(self.seed, 9, np.arange(12), 4)
        for (place, height, wall, _), direction in zip(chances, np.linspace(-1.5, 1.5, 12)):
            left = (direction + 0.1 * place - canvas.camera.heading) * _FAR
            canvas.fill(_front_quad(left, left + 14, 0, 5 + 9 * height, _FAR), _pick(_WALLS, wall), BUILDING)

    def _roughen(self, canvas: _Canvas) -> None:
        """Texture ground and frontage with noise that is fixed to the world, at half resolution."""
        import cv2

        camera, (height, width) = canvas.camera, self.size_hw
        dx = ((np.arange(0, width, 2, dtype=np.float32) - camera.centre) / camera.focal)[None]
        dy = ((np.arange(0, height, 2, dtype=np.float32) - camera.horizon) / camera.focal)[:, None]
        nearness = np.maximum(
            np.abs(dx) / (self._kerb + _PAVEMENT_WIDTH), dy / camera.height
        )  # 1 / z of the surface
        z = _TILE_SCALE / np.maximum(nearness, 1 / _FAR)
        along = z + (camera.travelled * _TILE_SCALE) % _TILE
        noise = cv2.remap(
            self._tile,
            ((dx + dy) * z).astype(np.float32),
            along.astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_WRAP,
        )
        gain = 128 + 13 * noise * np.minimum(1, 9 * nearness)
        gain = cv2.resize(gain.clip(0, 255).astype(np.uint8), (width, height))
        gain[canvas.pixels[..., 3] == SKY] = 128
        cv2.multiply(
            canvas.pixels, cv2.merge([gain, gain, gain, np.full_like(gain, 128)]), canvas.pixels, 1 / 128
        )

    def _expose(self, canvas: _Canvas, index: int) -> Image:
        """What the camera makes of the colours: blur, sensor noise, vignette, exposure and contrast."""
        import cv2

        time, (height, width) = canvas.time, self.size_hw
        frame = cv2.cvtColor(canvas.pixels, cv2.COLOR_BGRA2BGR)
        smear = 5 if _drift(self.seed, 21, time, 3.0) > 0.75 else 3
        frame = cv2.GaussianBlur(frame, (smear, 3), 0.5 + 0.6 * _drift(self.seed, 22, time, 20.0))
        row, column = (int(64 * chance) for chance in _uniform(self.seed, 23, np.array([index]), 2)[0])
        grain = 0.03 + 0.15 * _drift(self.seed, 24, time, 30.0)
        frame = cv2.addWeighted(
            frame, 1.0, self._sensor_noise[row : row + height, column : column + width], grain, -128 * grain
        )
        exposure, gamma = (
            0.85 + 0.5 * _drift(self.seed, 25, time, 12.0),
            0.8 + 0.6 * _drift(self.seed, 26, time, 25.0),
        )
        curve = 255 * np.clip(exposure * np.linspace(0, 1, 256), 0, 1) ** gamma
        return np.asarray(cv2.multiply(cv2.LUT(frame, curve.astype(np.uint8)), self._vignette, scale=1 / 255))
