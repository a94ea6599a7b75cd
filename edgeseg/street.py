"""``demo://street``: a rendered street seen from a moving car, with exact ground truth.

The world is a straight strip that a bend displaces sideways.  A point is (x, y, z) in metres: x right of the
road's centre line, y up, z ahead of the camera.  Everything that stands along the road comes from the two tables
``_FRONTAGE`` and ``_STREET``: a row says what is painted, how often, how far from the kerb and how fast it moves.
What stands in a slot of a row is hashed from (seed, row, slot), so nothing is stored and any frame can be drawn
alone.  Pixels have four channels, B, G, R and class id: one fill paints colour and label with the same shape.
"""
from __future__ import annotations

import math
from typing import Any, Callable, List, NamedTuple, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

CLASSES: Tuple[str, ...] = ("sky", "building", "pole", "road", "pavement", "tree", "sign symbol", "fence", "car",
                            "pedestrian", "bicyclist")
PALETTE: Tuple[Tuple[int, int, int], ...] = (
    (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0), (192, 128, 128),
    (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192))  # RGB
SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST = range(11)

Image = NDArray[np.uint8]
Floats = NDArray[Any]
Colour = Sequence[float]  # B, G, R in 0..255

_NEAR, _FAR = 0.6, 150.0  # metres ahead of the camera between which things are drawn
_PAVEMENT_WIDTH, _LOT = 2.7, 16.0  # metres
_LANE = -3.3  # centre of a driving lane, metres outwards from its kerb
_RIGHT, _LEFT, _FRONT, _TOP = range(4)  # the way a surface faces: +x, -x, towards the camera, up
_TILE = 512  # side of the noise tile, pixels
_TILE_SCALE = 20.0  # pixels of the noise tile per metre

_WALLS = ((58, 72, 128), (70, 88, 150), (150, 190, 215), (205, 212, 216), (120, 150, 165), (95, 105, 112),
          (60, 66, 84), (140, 170, 190), (175, 160, 140), (80, 100, 130))
_ROOFS = ((62, 60, 66), (50, 62, 100), (84, 80, 80))
_CARS = ((30, 28, 28), (190, 190, 192), (215, 216, 218), (45, 40, 140), (130, 80, 40), (90, 86, 84), (70, 90, 60),
         (60, 110, 150), (150, 130, 90))
_CLOTHES = ((32, 30, 34), (70, 45, 40), (60, 60, 150), (160, 150, 140), (110, 80, 50), (60, 90, 70), (45, 60, 90))
_VIVID = ((170, 90, 30), (60, 130, 40), (40, 170, 225), (40, 40, 190), (215, 215, 215), (120, 50, 90))
_CAR_PROFILE = np.array(((0, .25), (0, .92), (.5, 1.45), (2.3, 1.45), (3.1, .95), (4.2, .8), (4.2, .25)))


def _uniform(seed: int, salt: int, slots: NDArray[np.int64], count: int) -> Floats:
    """Hash (seed, salt, slot, column) to a (slots, count) array of floats in [0, 1)."""
    base = np.uint64((seed * 0x9E3779B97F4A7C15 + salt * 0xD1B54A32D192ED03) % 2**64)
    key = slots.astype(np.uint64)[:, None] * np.uint64(0xA0761D6478BD642F) + np.arange(1, count + 1, dtype=np.uint64)
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
    waves: Tuple[Tuple[float, float, float], ...]  # the road's bends: metres, radians per metre, phase

    def bend(self, z: Floats) -> Floats:
        """How far (metres) the road at ``z`` lies right of the tangent at the camera."""
        offset = np.zeros_like(z)
        for size, rate, phase in self.waves:
            angle = self.travelled * rate + phase
            offset += size * (np.sin(angle + rate * z) - math.sin(angle) - rate * z * math.cos(angle))
        return offset

    def heading(self) -> float:
        return sum(a * w * math.cos(self.travelled * w + p) for a, w, p in self.waves)

    def project(self, points: Floats) -> NDArray[np.int32]:
        """World points (..., 3) to whole pixels (..., 2) as column, row."""
        z = np.maximum(points[..., 2], _NEAR)
        scale = self.focal / z
        pixels = np.empty(points.shape[:-1] + (2,))
        pixels[..., 0] = self.centre + (points[..., 0] - self.lateral + self.bend(z)) * scale
        pixels[..., 1] = self.horizon + (self.height - points[..., 1]) * scale
        return np.rint(pixels.clip(-9999, 9999)).astype(np.int32)


class _Light(NamedTuple):
    gains: Tuple[float, ...]  # brightness of a surface by the way it faces
    tint: Colour  # colour temperature
    zenith: Colour
    haze: Colour
    visibility: float  # metres in which haze hides 63 % of a colour
    clouds: float  # contrast
    shadow: float  # brightness of a cast shadow, 0..1
    sun: float  # metres a shadow reaches along x, per metre of height

    def shade(self, colour: Colour, z: float, facing: int) -> Tuple[float, ...]:
        clear = math.exp(-max(z, 0.0) / self.visibility)
        gain = self.gains[facing] * clear
        return tuple(min(255.0, c * t * gain + h * (1 - clear)) for c, t, h in zip(colour, self.tint, self.haze))


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
    return _Light(gains, (1 - warm, 1.0, 1 + warm), zenith, haze, 110.0 + 500.0 * _drift(seed, 16, time, 50.0),
                  0.15 + 0.45 * _drift(seed, 17, time, 30.0), 1 - 0.6 * clear * day, sun)


class _Canvas:
    """Four-channel pixels (B, G, R, class id), and the camera and light they are painted with."""

    def __init__(self, size_hw: Tuple[int, int], camera: _Camera, light: _Light, time: float, leaves: Image) -> None:
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
        cv2.fillConvexPoly(self.pixels, hull, self.light.shade(colour, float(points[0, 2]), facing) + (label,))

    def foliage(self, x: float, y: float, z: float, size: Tuple[float, float], colour: Colour, kind: float) -> None:
        """Stamp leaves, ``size`` = (width, height) in metres, centred on (x, y, z)."""
        import cv2
        half = np.array([size[0] / 2, -size[1] / 2, 0.0])
        start, stop = self.camera.project(np.array([x, y, z]) + np.array([-half, half]))
        span = np.maximum(stop - start, 1)
        height, width = self.pixels.shape[:2]
        low = np.clip(start, 0, (width, height))
        columns, rows = (int(n) for n in np.clip(start + span, 0, (width, height)) - low)
        if columns == 0 or rows == 0 or z < _NEAR:
            return
        leaf = self.leaves[int(kind * len(self.leaves))]
        scale = leaf.shape[0] / span
        offset = (low - start) * scale
        warp = np.array([[scale[0], 0, offset[0]], [0, scale[1], offset[1]]])
        shades = cv2.warpAffine(leaf, warp, (columns, rows), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        ramp = np.linspace(0.1, 1.5, 256)[:, None] * colour
        lit = np.array([self.light.shade(ramp[0], z, _TOP), self.light.shade(ramp[-1], z, _TOP)])
        table = np.full((256, 4), TREE, np.uint8)
        table[:, :3] = lit[0] + np.linspace(0, 1, 256)[:, None] * (lit[1] - lit[0])
        area = self.pixels[low[1]:low[1] + rows, low[0]:low[0] + columns]
        np.copyto(area, table[shades], where=(shades > 40)[..., None])


def _side_quad(x: float, z0: Any, z1: Any, y0: Any, y1: Any) -> Floats:
    """Rectangles in the plane of constant x: (4, 3), or (n, 4, 3) for vectors."""
    y, z = np.stack([y0, y0, y1, y1], -1), np.stack([z0, z1, z1, z0], -1)
    return np.stack([np.full(y.shape, x), y, z], -1)


def _front_quad(x0: float, x1: float, y0: float, y1: float, z: float) -> Floats:
    return np.array([[x0, y0, z], [x1, y0, z], [x1, y1, z], [x0, y1, z]])


def _ground_quad(x0: float, x1: float, z0: float, z1: float) -> Floats:
    return np.array([[x0, 0, z0], [x0, 0, z1], [x1, 0, z1], [x1, 0, z0]])


def _strip(x0: float, x1: float, z0: float, z1: float, steps: int = 32) -> Floats:
    """A band of the ground between x0 and x1 that follows the bend of the road: (2 * steps, 3)."""
    z = np.geomspace(z0, z1, steps)
    sides = [np.stack([np.full(steps, x), np.zeros(steps), z], -1) for x in (x0, x1)]
    return np.concatenate([sides[0], sides[1][::-1]])


def _disc(x: float, y: float, z: float, radius: float, corners: int = 12) -> Floats:
    """A regular polygon that faces the camera, one corner up."""
    turn = np.arange(corners) * (2 * math.pi / corners)
    return np.stack([x + radius * np.sin(turn), y + radius * np.cos(turn), np.full(corners, z)], -1)


def _wheel(x: float, z: float, radius: float) -> Floats:
    return np.asarray(_disc(z, radius, x, radius)[:, [2, 1, 0]])  # a disc in the plane of constant x


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
    height, wall = 4.6 + 6.5 * dice[4], _pick(_WALLS, dice[5])
    canvas.fill(_front_quad(x, back, 0, height, z), wall, BUILDING)
    canvas.fill(_side_quad(x, z, end, 0, height), wall, BUILDING, facing)
    if dice[6] < 0.7:
        ridge = np.array([(x + back) / 2, height + 2.4, z])
        eave = np.array([x, height, z])
        far = np.array([0, 0, end - z])
        canvas.fill(np.array([eave, ridge, [back, height, z]]), wall, BUILDING)
        canvas.fill(np.array([eave, eave + far, ridge + far, ridge]), _pick(_ROOFS, dice[7]), BUILDING, facing)
        canvas.fill(_front_quad(ridge[0] - 0.5, ridge[0] + 0.5, ridge[1] - 1, ridge[1] + 1.1, z + 1), wall, BUILDING)
    _paint_openings(canvas, x, z, height, dice)


def _paint_openings(canvas: _Canvas, x: float, z: float, height: float, dice: Floats) -> None:
    """Windows on every floor, and at street level a door or a shop front."""
    facing = _LEFT if x > 0 else _RIGHT
    shop = dice[8] < 0.5
    columns, rows = np.meshgrid(z + np.arange(1.0, _LOT - 1.5, 2.2 + 1.6 * dice[9]),
                                np.arange(3.7 if shop else 1.0, height - 1.3, 2.8))
    starts, floors = columns.ravel(), rows.ravel()
    if len(starts):
        if z < 50:
            frames = _side_quad(x, starts - 0.12, starts + 1.22, floors - 0.15, floors + 1.6)
            canvas.fill(frames, _mix((215, 215, 215), (90, 90, 90), float(dice[10])), BUILDING, facing)
        glass = (150, 130, 110) if dice[11] < 0.3 else (58, 50, 46)
        canvas.fill(_side_quad(x, starts, starts + 1.1, floors, floors + 1.45), glass, BUILDING, facing)
    if shop:
        canvas.fill(_side_quad(x, z + 0.3, z + _LOT - 0.5, 2.8, 3.4), _pick(_VIVID, dice[12]), BUILDING, facing)
        panes = z + np.arange(0.5, _LOT - 2, 2.6)
        canvas.fill(_side_quad(x, panes, panes + 2.3, panes * 0 + 0.4, panes * 0 + 2.7), (66, 62, 60), BUILDING, facing)
    else:
        door = z + 4.0 + 6 * dice[13]
        canvas.fill(_side_quad(x, door, door + 1.1, 0, 2.2), _pick(_VIVID, dice[12]), BUILDING, facing)


def _paint_garden(canvas: _Canvas, x: float, z: float, dice: Floats) -> None:
    """A house set back, a tree or two, a hedge, and a fence along the pavement."""
    side = math.copysign(1.0, x)
    if dice[3] < 0.6:
        _paint_building(canvas, x + side * 7.0, z, dice[::-1])
    leaf = _mix((48, 92, 78), (36, 66, 62), float(dice[4]))
    for depth, chance in ((11.0, dice[5]), (4.5, dice[6])):
        _paint_tree(canvas, x + side * 2.5, z + depth, np.roll(dice, 3) * 0.999 if chance < 0.7 else dice)
    for depth in np.arange(_LOT - 1.0, 0, -2.5):
        canvas.foliage(x + side * 0.7, 0.9, z + depth, (2.6, 2.4 + dice[7]), leaf, float((dice[8] + depth / 7) % 1))
    _paint_fence(canvas, x, z, z + _LOT - 0.4, 1.0 + 0.7 * dice[9], dice)


def _paint_fence(canvas: _Canvas, x: float, z0: float, z1: float, height: float, dice: Floats) -> None:
    facing = _LEFT if x > 0 else _RIGHT
    paint = _mix((40, 44, 46), (110, 130, 150), float(dice[10]))
    canvas.fill(_side_quad(x, z0, z1, 0, height), _mix(paint, (60, 74, 72), 0.55), FENCE, facing)
    if z0 < 45:
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
    for shift, level, kind in ((-0.5, 0.62, dice[7]), (0.5, 0.66, dice[8]), (0.0, 0.8, dice[9])):
        canvas.foliage(x + shift * width * 0.5, height * level, z, (width, height * 0.5), leaf, float(kind))


def _paint_pole(canvas: _Canvas, x: float, z: float, height: float, width: float, colour: Colour) -> None:
    canvas.fill(_front_quad(x - width / 2, x + width / 2, 0, height, z), colour, POLE)


def _paint_lamp(canvas: _Canvas, x: float, z: float, dice: Floats) -> None:
    height, colour = 5.0 + 2.5 * dice[2], _mix((60, 64, 64), (150, 152, 150), float(dice[3]))
    reach = math.copysign(1.3, -x)
    _paint_pole(canvas, x, z, height, 0.17, colour)
    canvas.fill(_front_quad(x, x + reach, height, height + 0.1, z), colour, POLE)
    canvas.fill(_front_quad(x + reach * 0.7, x + reach, height - 0.1, height + 0.12, z), (190, 200, 205), POLE)


def _paint_sign(canvas: _Canvas, x: float, z: float, dice: Floats) -> None:
    """A round, triangular or rectangular sign or a traffic light, on its pole."""
    top = 2.3 + 0.8 * dice[2]
    _paint_pole(canvas, x, z, top, 0.1, (118, 120, 120))
    if dice[3] < 0.3:
        canvas.fill(_disc(x, top, z, 0.42), (40, 36, 190), SIGN)
        canvas.fill(_disc(x, top, z, 0.29), (225, 225, 225) if dice[4] < 0.7 else (170, 80, 30), SIGN)
    elif dice[3] < 0.5:
        canvas.fill(_disc(x, top, z, 0.58, 3), (40, 36, 190), SIGN)
        canvas.fill(_disc(x, top - 0.02, z, 0.36, 3), (225, 225, 225), SIGN)
    elif dice[3] < 0.75:
        width, height = 0.5 + 0.5 * dice[4], 0.4 + 0.5 * dice[5]
        canvas.fill(_front_quad(x - width, x + width, top - height, top + 0.3, z), _pick(_VIVID, dice[6]), SIGN)
        canvas.fill(_front_quad(x - width * 0.7, x + width * 0.7, top - 0.15, top, z), (225, 225, 225), SIGN)
    else:
        _paint_traffic_light(canvas, x, top, z, int(dice[7] * 3))


def _paint_traffic_light(canvas: _Canvas, x: float, y: float, z: float, lit: int) -> None:
    canvas.fill(_front_quad(x - 0.26, x + 0.26, y - 0.7, y + 0.7, z), (26, 28, 28), SIGN)
    for lamp, colour in enumerate(((110, 230, 60), (60, 190, 255), (60, 50, 255))):
        glow = colour if lamp == lit else _mix(colour, (20, 20, 20), 0.8)
        canvas.fill(_disc(x, y + 0.42 * (lamp - 1), z, 0.15, 8), glow, SIGN)


def _paint_car(canvas: _Canvas, x: float, z: float, dice: Floats) -> None:
    """A car seen from behind on the camera's side of the road, and from the front on the other."""
    rear = x * canvas.camera.lateral > 0
    outline = _CAR_PROFILE if rear else (_CAR_PROFILE * (-1, 1) + (4.2, 0))[::-1]
    profile = outline * (1.0 + 0.1 * dice[2], 1.0 + 0.35 * dice[3] ** 3) + (z, 0)
    half = 0.82 + 0.08 * dice[4]
    flank = x + math.copysign(half, canvas.camera.lateral - x)
    facing = _RIGHT if flank > x else _LEFT
    left, right = (np.insert(profile[:, ::-1], 0, edge, axis=1) for edge in (x - half, x + half))
    near_side, paint, glass = (left if flank < x else right), _pick(_CARS, dice[5]), (62, 56, 52)

    canvas.fill_hull(np.concatenate([left, right]), paint, CAR, _TOP)
    canvas.fill(near_side, paint, CAR, facing)
    middle = near_side[1:6].mean(axis=0)
    canvas.fill((near_side[[1, 2, 3, 4]] if rear else near_side[[2, 3, 4, 5]]) * (1, 0.8, 0.8)
                + middle * (0, 0.2, 0.2) + (0, 0.06, 0), glass, CAR, facing)
    for along in (0.8, 3.4):
        canvas.fill(_wheel(flank, z + along, 0.33), (28, 28, 30), CAR, facing)
        canvas.fill(_wheel(flank, z + along, 0.18) + (0, 0.15, 0), (120, 120, 120), CAR, facing)
    canvas.fill(np.array([left[0], right[0], right[1], left[1]]), paint, CAR)
    screen = 1 if rear else 2
    pane = np.array([left[screen], right[screen], right[screen + 1], left[screen + 1]])
    canvas.fill(pane * 0.86 + pane.mean(axis=0) * 0.14, glass, CAR)
    _paint_car_end(canvas, x, z - 0.01, half, float(profile[1, 1]), rear)


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
        leg = np.array([[x - 0.13, hip, z], [x + 0.13, hip, z], [x + foot + 0.08, lift, z], [x + foot - 0.08, lift, z]])
        canvas.fill(leg, trousers, label)
    canvas.fill(np.array([[x - 0.2, hip, z], [x + 0.2, hip, z], [x + 0.24, shoulder, z], [x - 0.24, shoulder, z]]),
                coat, label)
    for edge in (-0.25, 0.25):
        canvas.fill(_front_quad(x + edge - 0.06, x + edge + 0.06, hip, shoulder - 0.05, z), _mix(coat, (0, 0, 0), 0.25),
                    label)
    canvas.fill(_disc(x, shoulder + 0.17, z, 0.14, 9), (120, 150, 195) if dice[7] < 0.6 else (40, 48, 60), label)


def _paint_pedestrian(canvas: _Canvas, x: float, z: float, dice: Floats) -> None:
    _paint_person(canvas, x + 1.4 * (dice[2] - 0.5), z, dice, PEDESTRIAN, 0.0)


def _paint_bicyclist(canvas: _Canvas, x: float, z: float, dice: Floats) -> None:
    for along in (1.1, 0.0):
        canvas.fill_hull(np.concatenate([_wheel(x - 0.03, z + along, 0.34), _wheel(x + 0.03, z + along, 0.34)]),
                         (34, 34, 34), BICYCLIST, _FRONT)
    canvas.fill(_front_quad(x - 0.28, x + 0.28, 0.95, 1.02, z + 0.5), (60, 60, 60), BICYCLIST)
    _paint_person(canvas, x, z, dice, BICYCLIST, 0.22)


class _Row(NamedTuple):
    """Things of one kind along the road, at most one per slot of ``spacing`` metres."""

    paint: Callable[[_Canvas, float, float, Floats], None]
    spacing: float
    density: float  # share of the slots that are taken
    offset: float  # metres outwards from the kerb; a thing on the road has a negative offset
    sides: Tuple[int, ...]  # 1: the camera's side of the road, -1: the other
    footprint: Tuple[float, float, float]  # width, length and height of the shadow's caster, metres
    speed: float = 0.0  # metres per second, forwards


_BOTH = (1, -1)
_FRONTAGE = (_Row(_paint_lot, _LOT, 1.0, _PAVEMENT_WIDTH, _BOTH, (0.3, _LOT, 6.5)),)
_STREET = (
    _Row(_paint_tree, 15.0, 0.42, 0.6, _BOTH, (3.4, 3.4, 4.5)),
    _Row(_paint_lamp, 21.0, 0.85, 0.35, _BOTH, (0.2, 0.2, 6.0)),
    _Row(_paint_sign, 10.0, 0.8, 0.5, _BOTH, (0.3, 0.2, 2.5)),
    _Row(_paint_railing, 9.0, 0.16, 0.25, _BOTH, (0.1, 6.5, 0.8)),
    _Row(_paint_car, 7.5, 0.36, -0.95, _BOTH, (1.8, 4.3, 1.2)),
    _Row(_paint_car, 30.0, 0.6, _LANE, (-1,), (1.8, 4.3, 1.2), -9.0),
    _Row(_paint_pedestrian, 9.0, 0.5, 1.5, _BOTH, (0.5, 0.4, 1.7), 1.3),
    _Row(_paint_pedestrian, 9.0, 0.5, 1.8, _BOTH, (0.5, 0.4, 1.7), -1.1),
    _Row(_paint_bicyclist, 22.0, 0.6, -2.2, (1,), (0.5, 1.6, 1.6), 4.5),
    _Row(_paint_bicyclist, 22.0, 0.6, -2.2, (-1,), (0.5, 1.6, 1.6), -4.5),
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
        total += cv2.resize(grid, (2 * size, 2 * size), interpolation=cv2.INTER_CUBIC)[size // 2:-size // 2,
                                                                                      size // 2:-size // 2]
    return np.asarray((total - total.mean()) / total.std())


def _leaf_stamps(rng: np.random.Generator, count: int = 8, size: int = 128) -> Image:
    """Ragged crowns (count, size, size): 0 is empty, else the brightness of a leaf; some are nearly bare."""
    row, column = np.mgrid[-1:1:size * 1j, -1:1:size * 1j]
    stamps = np.zeros((count, size, size), np.uint8)
    for index, stamp in enumerate(stamps):
        shape, leaf = _noise(rng, size, (6, 16, 48)), _noise(rng, size, (8, 32, 100))
        full = 0.62 - 0.45 * (row ** 2 + column ** 2) ** 1.5 * 2.4 + 0.2 * shape - (0.3 if index == 0 else 0.0)
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

    def __init__(self, seed: int = 0, size_hw: Tuple[int, int] = (480, 640), fps: float = 30.0) -> None:
        if min(size_hw) < 32:
            raise ValueError(f"street scene: height and width must be at least 32 pixels, got {tuple(size_hw)}")
        if not 0 < fps < math.inf:
            raise ValueError(f"street scene: fps must be a finite number above 0, got {fps}")
        self.seed, self.size_hw, self.fps = int(seed), (int(size_hw[0]), int(size_hw[1])), float(fps)
        town = _uniform(self.seed, 1, np.arange(1), 10)[0]
        self._side = 1.0 if town[0] < 0.5 else -1.0  # the side of the road the camera drives on: right or left
        self._kerb = 4.7 + 0.8 * town[1]  # half the road's width, metres
        self._speed = 6.0 + 5.0 * town[2]  # metres per second
        self._waves = ((8.0, 0.012, 6.3 * town[3]), (12.0, 0.0071, 6.3 * town[4]))
        self._asphalt, self._paving = 72 + 50 * town[5], 120 + 50 * town[6]
        self._camera_height, self._camera_horizon = 1.45 + 0.35 * town[7], 0.44 + 0.06 * town[8]
        rng = np.random.default_rng(self.seed % 2**64)
        self._tile = _noise(rng, _TILE, (8, 64, 256, 256))
        self._clouds = np.clip(128 + 50 * _noise(rng, _TILE, (4, 8, 16, 48)), 0, 255).astype(np.uint8)
        self._leaves = _leaf_stamps(rng)
        height, width = self.size_hw
        self._sensor_noise = np.clip(rng.normal(128, 40, (height + 64, width + 64, 3)), 0, 255).astype(np.uint8)
        rows, columns = np.linspace(-1, 1, height)[:, None, None], np.linspace(-1, 1, width)[:, None]
        strength = 30 * town[9]
        self._vignette = np.repeat(255 - strength * (rows ** 2 + columns ** 2), 3, axis=2).astype(np.uint8)

    def render(self, index: int) -> Tuple[Image, Image]:
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
        frontage, street = self._things(canvas, _FRONTAGE), self._things(canvas, _STREET)
        street = sorted(street + [self._leader(time)], key=lambda thing: -thing.z)
        self._paint_sky(canvas)
        self._paint_ground(canvas)
        self._cast_shadows(canvas, frontage + street)
        self._paint_backdrop(canvas)
        for thing in sorted(frontage, key=lambda thing: -thing.z):
            thing.row.paint(canvas, thing.x, thing.z, thing.dice)
        self._roughen(canvas)
        for thing in street:
            thing.row.paint(canvas, thing.x, thing.z, thing.dice)
        return self._expose(canvas, index), np.ascontiguousarray(canvas.pixels[..., 3])

    def _camera_at(self, time: float) -> _Camera:
        height, width = self.size_hw
        pitch = 0.02 * (_drift(self.seed, 2, time, 6.0) - 0.5) + 0.006 * (_drift(self.seed, 3, time, 0.25) - 0.5)
        lateral = self._side * (self._kerb + _LANE) + 0.5 * (_drift(self.seed, 4, time, 5.0) - 0.5)
        travelled = self._speed * (time + 0.8 * math.sin(0.5 * time))
        bump = 0.04 * _drift(self.seed, 5, time, 0.4)
        return _Camera(1.05 * height, width / 2, height * (self._camera_horizon + pitch), lateral,
                       self._camera_height + bump, travelled, self._waves)

    def _things(self, canvas: _Canvas, rows: Sequence[_Row]) -> List[_Thing]:
        """All that stands along the road from just behind the camera to the far limit."""
        things = []
        for number, row in enumerate(rows):
            origin = canvas.camera.travelled - row.speed * canvas.time
            slots = np.arange(math.floor((origin - _LOT) / row.spacing), math.floor((origin + _FAR) / row.spacing))
            for side in row.sides:
                salt = 100 + 10 * number + side + 1000 * (rows is _STREET)
                for slot, dice in zip(slots, _uniform(self.seed, salt, slots, 14)):
                    if dice[0] < row.density:
                        x, jitter = self._side * side * (self._kerb + row.offset), 0.4 * dice[1] * (rows is _STREET)
                        things.append(_Thing(row, x, float((slot + jitter) * row.spacing - origin), dice))
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
        shift = canvas.time * 2.0 - canvas.camera.heading() * canvas.camera.focal * scale
        warp = np.array([[scale, 0, shift], [0, 2 * scale, 40]])
        clouds = cv2.warpAffine(self._clouds, warp, (self.size_hw[1], rows), borderMode=cv2.BORDER_REFLECT_101,
                                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        base = np.broadcast_to(gradient[:, None].astype(np.uint8), (rows, self.size_hw[1], 3))
        canvas.pixels[:rows, :, :3] = cv2.addWeighted(np.ascontiguousarray(base), 1.0, cv2.merge([clouds] * 3),
                                                      light.clouds, -118 * light.clouds)

    def _paint_ground(self, canvas: _Canvas) -> None:
        """Grass (class tree, as CamVid has it), pavements, kerbs, road and lane markings."""
        canvas.fill(_front_quad(-9 * _FAR, 9 * _FAR, -9 * _FAR, 0, _FAR), (50, 96, 84), TREE, _TOP)
        kerb, paving, asphalt = self._kerb, self._paving, self._asphalt
        wet = _drift(self.seed, 7, canvas.time, 40.0)
        for edge, colour, label in ((kerb + _PAVEMENT_WIDTH, (paving, paving, paving * 1.03), PAVEMENT),
                                    (kerb + 0.18, [paving * 1.15] * 3, PAVEMENT),
                                    (kerb, [asphalt * (1.2 - 0.4 * wet)] * 3, ROAD)):
            canvas.fill(_strip(-edge, edge, _NEAR, _FAR), colour, label, _TOP)
        paint = [130 + 90 * _drift(self.seed, 8, canvas.time, 30.0)] * 3
        start = -(canvas.camera.travelled % 6.0)
        for dash in np.arange(start, 90.0, 6.0):
            canvas.fill(_strip(-0.07, 0.07, max(dash, _NEAR), max(dash + 3.5, _NEAR), 3), paint, ROAD, _TOP)
        for edge in (-kerb + 0.35, kerb - 0.35):
            canvas.fill(_strip(edge - 0.06, edge + 0.06, _NEAR, 80.0), (70, 170, 190), ROAD, _TOP)
        self._haze_ground(canvas, wet)

    def _haze_ground(self, canvas: _Canvas, wet: float) -> None:
        """Blend the ground with the haze by distance, and with the sky's reflection where it is wet."""
        camera, light = canvas.camera, canvas.light
        first = max(0, math.ceil(camera.horizon))
        z = camera.focal * camera.height / (np.arange(first, self.size_hw[0]) + 0.5 - camera.horizon)
        share = 1 - np.exp(-z / light.visibility) * (1 - 0.35 * wet * z / (z + 25.0))
        ground = canvas.pixels[first:, :, :3]
        keep, add = ((1 - share) * 256).astype(np.uint16), share[:, None] * light.haze
        ground[:] = (ground * keep[:, None, None] >> 8) + add.astype(np.uint16)[:, None]

    def _cast_shadows(self, canvas: _Canvas, things: Sequence[_Thing]) -> None:
        """Darken the ground under things, and where the sun throws their shadow."""
        import cv2
        first = min(max(0, math.ceil(canvas.camera.horizon)), self.size_hw[0] - 1)
        mask = np.full(self.size_hw, 255, np.uint8)
        for x, z, (width, length, height) in ((thing.x, thing.z, thing.row.footprint) for thing in things):
            foot = _ground_quad(x - width / 2, x + width / 2, z, z + length)
            if z < 70:
                throw = foot - (canvas.light.sun * height, 0, 0)
                hull = cv2.convexHull(canvas.camera.project(np.concatenate([foot, throw])))
                cv2.fillConvexPoly(mask, hull, 255 * canvas.light.shadow)
        for thing in things:
            if thing.row.paint is _paint_car:
                width, length, _ = thing.row.footprint
                foot = _ground_quad(thing.x - width / 2, thing.x + width / 2, thing.z, thing.z + length)
                cv2.fillConvexPoly(mask, canvas.camera.project(foot), 255 * min(0.45, canvas.light.shadow))
        soft = cv2.blur(mask[first:], (5, 3))
        ground = canvas.pixels[first:, :, :3]
        ground[:] = cv2.multiply(np.ascontiguousarray(ground), cv2.merge([soft] * 3), scale=1 / 255)

    def _paint_backdrop(self, canvas: _Canvas) -> None:
        """Distant trees and houses on the horizon."""
        x = np.linspace(-2.0 * _FAR, 2.0 * _FAR, 120)
        bearing = x / _FAR + canvas.camera.heading()
        top = 6.0 + 1.5 * np.sin(9 * bearing + self.seed) + np.sin(41 * bearing) + 0.7 * np.sin(97 * bearing)
        crowns = np.stack([x, top, np.full(120, _FAR)], -1)
        canvas.fill(np.concatenate([crowns, [[x[-1], 0, _FAR], [x[0], 0, _FAR]]]), (52, 74, 66), TREE)
        chances = _uniform(self.seed, 9, np.arange(12), 4)
        for (place, height, wall, _), direction in zip(chances, np.linspace(-1.5, 1.5, 12)):
            left = (direction + 0.1 * place - canvas.camera.heading()) * _FAR
            canvas.fill(_front_quad(left, left + 14, 0, 5 + 9 * height, _FAR), _pick(_WALLS, wall), BUILDING)

    def _roughen(self, canvas: _Canvas) -> None:
        """Texture ground and frontage with noise that is fixed to the world, at half resolution."""
        import cv2
        camera, (height, width) = canvas.camera, self.size_hw
        dx = ((np.arange(0, width, 2, dtype=np.float32) - camera.centre) / camera.focal)[None]
        dy = ((np.arange(0, height, 2, dtype=np.float32) - camera.horizon) / camera.focal)[:, None]
        nearness = np.maximum(np.abs(dx) / (self._kerb + _PAVEMENT_WIDTH), dy / camera.height)  # 1 / z of the surface
        z = _TILE_SCALE / np.maximum(nearness, 1 / _FAR)
        along = z + (camera.travelled * _TILE_SCALE) % _TILE
        noise = cv2.remap(self._tile, ((dx + dy) * z).astype(np.float32), along.astype(np.float32), cv2.INTER_LINEAR,
                          borderMode=cv2.BORDER_WRAP)
        gain = 128 + 13 * noise * np.minimum(1, 9 * nearness)
        gain = cv2.resize(gain.clip(0, 255).astype(np.uint8), (width, height))
        gain[canvas.pixels[..., 3] == SKY] = 128
        cv2.multiply(canvas.pixels, cv2.merge([gain, gain, gain, np.full_like(gain, 128)]), canvas.pixels, 1 / 128)

    def _expose(self, canvas: _Canvas, index: int) -> Image:
        """What the camera makes of the colours: blur, sensor noise, vignette, exposure and contrast."""
        import cv2
        time, (height, width) = canvas.time, self.size_hw
        frame = np.ascontiguousarray(canvas.pixels[..., :3])
        smear = 5 if _drift(self.seed, 21, time, 3.0) > 0.75 else 3
        frame = cv2.GaussianBlur(frame, (smear, 3), 0.5 + 0.6 * _drift(self.seed, 22, time, 20.0))
        row, column = (int(64 * chance) for chance in _uniform(self.seed, 23, np.array([index]), 2)[0])
        grain = 0.03 + 0.15 * _drift(self.seed, 24, time, 30.0)
        frame = cv2.addWeighted(frame, 1.0, self._sensor_noise[row:row + height, column:column + width], grain,
                                -128 * grain)
        exposure, gamma = 0.85 + 0.5 * _drift(self.seed, 25, time, 12.0), 0.8 + 0.6 * _drift(self.seed, 26, time, 25.0)
        curve = 255 * np.clip(exposure * np.linspace(0, 1, 256), 0, 1) ** gamma
        return np.asarray(cv2.multiply(cv2.LUT(frame, curve.astype(np.uint8)), self._vignette, scale=1 / 255))
