"""Decide which things stand where, and paint one frame of them from first to last stroke.

What stands along the road comes from the tables ``_FRONTAGE``, ``_RAILINGS`` and ``_STREET``. A row says
what is painted, how often, how far from the kerb and how fast it moves, so a new kind of thing is a painter
and a row. What stands in a slot of a row is hashed from (seed, row, slot): nothing is stored and any frame
can be drawn alone. Each table is a layer, painted from far to near over the one before.
"""

from __future__ import annotations

import math
from typing import Callable, NamedTuple, Sequence

import numpy as np

from edgeseg.demo.camera import DISTANCES, FAR, Camera, light_at
from edgeseg.demo.canvas import Canvas, ground_quad
from edgeseg.demo.chance import Floats, Image, drift, leaf_stamps, noise, uniform
from edgeseg.demo.roadside import LOT, paint_lamp, paint_lot, paint_railing, paint_sign, paint_tree
from edgeseg.demo.surroundings import (
    PAVEMENT_WIDTH,
    TILE,
    Town,
    light_ground,
    paint_backdrop,
    paint_ground,
    paint_sky,
    roughen,
    town_of,
)
from edgeseg.demo.traffic import paint_bicyclist, paint_car, paint_pedestrian

_STREET_REACH = 80.0  # metres beyond which small things are left out
_LANE = -2.8  # centre of a driving lane, metres outwards from its kerb


class _Row(NamedTuple):
    """Things of one kind along the road, at most one per slot of ``spacing`` metres."""

    paint: Callable[[Canvas, float, float, Floats], None]  # called with canvas, x, z, dice
    spacing: float
    density: float  # share of the slots that are taken
    offset: float  # metres outwards from the kerb; a thing on the road has a negative offset
    sides: tuple[int, ...]  # 1: the camera's side of the road, -1: the other
    footprint: tuple[float, float, float]  # width, length and height of the shadow's caster, metres
    speed: float = 0.0  # metres per second, forwards


_BOTH = (1, -1)
_FRONTAGE = (_Row(paint_lot, LOT, 1.0, PAVEMENT_WIDTH, _BOTH, (0.3, LOT, 6.5)),)
_RAILINGS = (_Row(paint_railing, 9.0, 0.16, 0.25, _BOTH, (0.1, 6.5, 0.8)),)
_STREET = (
    _Row(paint_tree, 15.0, 0.42, 0.6, _BOTH, (3.4, 3.4, 4.5)),
    _Row(paint_lamp, 21.0, 0.85, 0.35, _BOTH, (0.2, 0.2, 6.0)),
    _Row(paint_sign, 10.0, 0.8, 0.5, _BOTH, (0.3, 0.2, 2.5)),
    _Row(paint_car, 7.5, 0.18, -0.95, _BOTH, (1.8, 4.3, 1.2)),
    _Row(paint_car, 30.0, 0.6, _LANE, (-1,), (1.8, 4.3, 1.2), -9.0),
    _Row(paint_pedestrian, 9.0, 0.5, 1.5, _BOTH, (0.5, 0.4, 1.7), 1.3),
    _Row(paint_pedestrian, 9.0, 0.5, 1.8, _BOTH, (0.5, 0.4, 1.7), -1.1),
    _Row(paint_bicyclist, 24.0, 0.24, -2.05, (1,), (0.5, 1.6, 1.6), 4.5),
    _Row(paint_bicyclist, 24.0, 0.24, -2.05, (-1,), (0.5, 1.6, 1.6), -4.5),
)
_LEADER = _Row(paint_car, 1.0, 1.0, _LANE, (1,), (1.8, 4.3, 1.2))  # the car ahead in the camera's lane
_LAYERS = (_FRONTAGE, _RAILINGS, _STREET)  # at most ten rows each: the salt of a row counts by tens


class _Thing(NamedTuple):
    """One thing of a row, where this frame has it."""

    row: _Row
    x: float  # metres right of the centre line
    z: float  # metres from the camera to its nearer end
    dice: Floats  # (14,) float64 in 0..1


def _camera_at(town: Town, size_hw: tuple[int, int], time: float) -> Camera:
    """Return the camera at ``time`` seconds: it drives in its lane, sways, pitches and jolts."""
    height, width = size_hw
    pitch = 0.02 * (drift(town.seed, 2, time, 6.0) - 0.5) + 0.006 * (drift(town.seed, 3, time, 0.25) - 0.5)
    lateral = town.side * (town.kerb + _LANE) + 0.5 * (drift(town.seed, 4, time, 5.0) - 0.5)
    travelled = town.speed * (time + 0.8 * math.sin(0.5 * time))
    rise = town.camera_height + 0.04 * drift(town.seed, 5, time, 0.4)
    heading, bend = 0.0, np.zeros_like(DISTANCES)
    for metres, rate, phase in town.waves:
        angle = travelled * rate + phase
        slope = metres * rate * math.cos(angle)
        bend += metres * (np.sin(angle + rate * DISTANCES) - math.sin(angle)) - slope * DISTANCES
        heading += slope
    return Camera(
        1.05 * height,
        width / 2,
        height * (town.camera_horizon + pitch),
        lateral,
        rise,
        travelled,
        heading,
        bend,
    )


def _shadows(canvas: Canvas, things: Sequence[_Thing]) -> Image:
    """Return the brightness (H, W) uint8 of the ground: darker under cars, and where the sun throws a shadow."""
    import cv2

    mask, light = np.full(canvas.pixels.shape[:2], 255, np.uint8), canvas.light
    for row, x, z, _ in (thing for thing in things if thing.z < 70):
        width, length, height = row.footprint
        foot = ground_quad(x - width / 2, x + width / 2, z, z + length)
        hull = cv2.convexHull(canvas.camera.project(np.concatenate([foot, foot - (light.sun * height, 0, 0)])))
        cv2.fillConvexPoly(mask, hull, 255 * light.shadow)
    for row, x, z, _ in (thing for thing in things if thing.row.paint is paint_car):
        foot = ground_quad(x - row.footprint[0] / 2, x + row.footprint[0] / 2, z, z + row.footprint[1])
        cv2.fillConvexPoly(mask, canvas.camera.project(foot), 255 * min(0.45, light.shadow))
    return np.asarray(cv2.blur(mask, (5, 3)))


class StreetScene:
    """An endless drive along a street that depends on ``seed`` alone.

    Args:
        seed: any integer; another seed is another town, weather and traffic.
        size_hw: frame height and width in pixels, each at least 32.
        fps: frames per second of the rendered camera, above 0.

    Raises:
        ValueError: the size is under 32 pixels, or fps is not above 0.
    """

    def __init__(self, seed: int = 0, size_hw: tuple[int, int] = (480, 640), fps: float = 30.0) -> None:
        if min(size_hw) < 32:
            raise ValueError(f"street scene: height and width must be at least 32 pixels, got {tuple(size_hw)}")
        if not 0 < fps < math.inf:
            raise ValueError(f"street scene: fps must be a finite number above 0, got {fps}")
        self.seed, self.size_hw, self.fps = int(seed), (int(size_hw[0]), int(size_hw[1])), float(fps)
        self._town = town_of(self.seed)
        rng = np.random.default_rng(self.seed % 2**64)
        self._tile = noise(rng, TILE, (12, 128, 256, 512))
        self._clouds = np.clip(128 + 50 * noise(rng, TILE, (4, 8, 16, 48)), 0, 255).astype(np.uint8)
        self._leaves = leaf_stamps(rng)
        height, width = self.size_hw
        self._sensor_noise = np.clip(rng.normal(128, 40, (height + 64, width + 64, 3)), 0, 255).astype(np.uint8)
        rows, columns = np.linspace(-1, 1, height)[:, None, None], np.linspace(-1, 1, width)[:, None]
        self._vignette = np.repeat(255 - self._town.vignette * (rows**2 + columns**2), 3, axis=2).astype(np.uint8)

    def render(self, index: int) -> tuple[Image, Image]:
        """Render frame ``index``, in any order.

        Returns:
            The frame, HxWx3 uint8 BGR, and its labels, HxW uint8 class ids 0..10.

        Raises:
            ValueError: ``index`` is negative.
        """
        if index < 0:
            raise ValueError(f"street scene: frame index must be 0 or more, got {index}")
        time = index / self.fps
        camera = _camera_at(self._town, self.size_hw, time)
        canvas = Canvas(self.size_hw, camera, light_at(self.seed, time), time, self._leaves)
        layers = [self._things(canvas, number, rows) for number, rows in enumerate(_LAYERS)]
        layers[-1].append(self._leader(time))
        paint_sky(canvas, self._clouds)
        paint_ground(canvas, self._town)
        light_ground(canvas, self._town, _shadows(canvas, [thing for layer in layers for thing in layer]))
        paint_backdrop(canvas, self.seed)
        for layer in layers:
            if layer is layers[-1]:
                roughen(canvas, self._town, self._tile)
            for thing in sorted(layer, key=lambda thing: -thing.z):
                thing.row.paint(canvas, thing.x, thing.z, thing.dice)
        return self._expose(canvas, index), np.ascontiguousarray(canvas.pixels[..., 3])

    def _things(self, canvas: Canvas, layer: int, rows: Sequence[_Row]) -> list[_Thing]:
        """Return all things of a layer that the camera may see."""
        reach = FAR if rows is _FRONTAGE else _STREET_REACH
        things = []
        for number, row in enumerate(rows):
            origin = canvas.camera.travelled - row.speed * canvas.time
            first, last = (math.floor((origin + z) / row.spacing) for z in (-LOT, reach))
            slots = np.arange(first, last)
            for side in row.sides:
                x = self._town.side * side * (self._town.kerb + row.offset)
                dices = uniform(self.seed, 1000 + 100 * layer + 10 * number + side, slots, 14)
                starts = (slots + (row.spacing - row.footprint[1]) / row.spacing * dices[:, 1]) * row.spacing - origin
                things += [
                    _Thing(row, x, float(z), dice)
                    for z, dice in zip(starts, dices)
                    if dice[0] < row.density and canvas.camera.sees(x, z + row.footprint[1])
                ]
        return things

    def _leader(self, time: float) -> _Thing:
        """Place the car ahead: every 16 seconds another one is caught up with and then pulls away."""
        episode = math.floor(time / 16.0)
        dice = uniform(self.seed, 6, np.array([episode]), 14)[0]
        gap = FAR - (FAR - 9.0 - 25.0 * dice[1]) * math.sin(math.pi * (time / 16.0 - episode))
        return _Thing(_LEADER, self._town.side * (self._town.kerb + _LANE), gap, dice)

    def _expose(self, canvas: Canvas, index: int) -> Image:
        """Expose the frame as a camera does: blur, sensor noise, vignette, exposure and contrast."""
        import cv2

        time, (height, width) = canvas.time, self.size_hw
        frame = cv2.cvtColor(canvas.pixels, cv2.COLOR_BGRA2BGR)
        smear = 5 if drift(self.seed, 21, time, 3.0) > 0.75 else 3
        frame = cv2.GaussianBlur(frame, (smear, 3), 0.5 + 0.6 * drift(self.seed, 22, time, 20.0))
        row, column = (int(64 * chance) for chance in uniform(self.seed, 23, np.array([index]), 2)[0])
        grain = 0.03 + 0.15 * drift(self.seed, 24, time, 30.0)
        frame = cv2.addWeighted(
            frame, 1.0, self._sensor_noise[row : row + height, column : column + width], grain, -128 * grain
        )
        exposure, gamma = (
            0.85 + 0.5 * drift(self.seed, 25, time, 12.0),
            0.8 + 0.6 * drift(self.seed, 26, time, 25.0),
        )
        curve = 255 * np.clip(exposure * np.linspace(0, 1, 256), 0, 1) ** gamma
        return np.asarray(cv2.multiply(cv2.LUT(frame, curve.astype(np.uint8)), self._vignette, scale=1 / 255))
