"""Name the eleven classes, and paint colour and label with one and the same shape.

Pixels have four channels, B, G, R and class id, and every fill writes all four at once: that is why the
ground truth is exact to the pixel. ``Canvas`` draws polygons and foliage given in metres; the functions
below it build the shapes that the painters use (rectangles facing a side, the camera or the sky, discs,
wheels, bands of the road).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgeseg.demo.camera import FRONT, NEAR, TOP, Camera, Light
from edgeseg.demo.chance import Colour, Floats, Image

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
)  # R, G, B, as CamVid has them
SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST = range(11)

DETAIL = 45.0  # metres beyond which lights, wheels, bars and the like are left out
_RAMP = np.linspace(0, 1, 256)[:, None]


class Canvas:
    """Pixels (H, W, 4) uint8 of B, G, R and class id, with the camera and light they are painted by.

    ``time`` is in seconds; ``leaves`` are stamps from ``chance.leaf_stamps``.
    """

    def __init__(self, size_hw: tuple[int, int], camera: Camera, light: Light, time: float, leaves: Image) -> None:
        self.pixels: Image = np.zeros(size_hw + (4,), np.uint8)
        self.camera, self.light, self.time, self.leaves = camera, light, time, leaves

    def fill(self, points: Floats, colour: Colour, label: int, facing: int = FRONT) -> None:
        """Fill a polygon (k, 3), or n of them (n, k, 3) that do not overlap, given as world points."""
        import cv2

        polygons = points if points.ndim == 3 else points[None]
        shaded = self.light.shade(colour, float(polygons[0, 0, 2]), facing)
        cv2.fillPoly(self.pixels, list(self.camera.project(polygons)), shaded + (label,))

    def fill_hull(self, points: Floats, colour: Colour, label: int, facing: int) -> None:
        """Fill the convex outline of world points (n, 3), as the frame shows them."""
        import cv2

        hull = cv2.convexHull(self.camera.project(points.reshape(-1, 3)))
        cv2.fillConvexPoly(self.pixels, hull, self.light.shade(colour, float(points[0, 2]), facing) + (label,))

    def foliage(self, x: float, y: float, z: float, size: tuple[float, float], colour: Colour, kind: float) -> None:
        """Stamp leaves of class tree, ``size`` = (width, height) in metres, centred on (x, y, z).

        ``kind`` in [0, 1) chooses the stamp.
        """
        import cv2

        corners = np.array([[x - size[0] / 2, y + size[1] / 2, z], [x + size[0] / 2, y - size[1] / 2, z]])
        (left, top), (right, bottom) = self.camera.project(corners).tolist()
        height, width = self.pixels.shape[:2]
        x0, x1, y0, y1 = max(left, 0), min(right, width), max(top, 0), min(bottom, height)
        if x0 >= x1 or y0 >= y1 or z < NEAR:
            return
        leaf = self.leaves[int(kind * len(self.leaves))]
        across, down = leaf.shape[1] / (right - left), leaf.shape[0] / (bottom - top)
        warp = np.array([[across, 0, (x0 - left) * across], [0, down, (y0 - top) * down]])
        shades = cv2.warpAffine(leaf, warp, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        dark, bright = (np.array(self.light.shade([c * gain for c in colour], z, TOP)) for gain in (0.1, 1.5))
        table = np.full((256, 4), TREE, np.uint8)
        table[:, :3] = dark + _RAMP * (bright - dark)
        words = self.pixels.view(np.uint32)[..., 0]  # the four channels of a pixel as one number
        area = words[y0:y1, x0:x1]
        np.copyto(area, table.view(np.uint32)[:, 0][shades], where=shades > 40)


def side_quad(x: float, z0: Any, z1: Any, y0: Any, y1: Any) -> Floats:
    """Return rectangles in the plane of constant x: (4, 3), or (n, 4, 3) for vectors, in metres."""
    quads = np.empty(np.shape(z0) + (4, 3))
    quads[..., 0] = x
    for corner, (y, z) in enumerate(((y0, z0), (y0, z1), (y1, z1), (y1, z0))):
        quads[..., corner, 1], quads[..., corner, 2] = y, z
    return quads


def front_quad(x0: float, x1: float, y0: float, y1: float, z: float) -> Floats:
    """Return a rectangle (4, 3) in metres that faces the camera."""
    return np.array([[x0, y0, z], [x1, y0, z], [x1, y1, z], [x0, y1, z]])


def ground_quad(x0: float, x1: float, z0: float, z1: float) -> Floats:
    """Return a rectangle (4, 3) in metres that lies on the ground."""
    return np.array([[x0, 0, z0], [x0, 0, z1], [x1, 0, z1], [x1, 0, z0]])


def strip(x0: float, x1: float, z0: float, z1: float, steps: int = 32) -> Floats:
    """Return a band of the ground between x0 and x1 that follows the bend of the road: (2 * steps, 3) in metres."""
    z = z0 * (z1 / z0) ** np.linspace(0, 1, steps)
    sides = [np.stack([np.full(steps, x), np.zeros(steps), z], -1) for x in (x0, x1)]
    return np.concatenate([sides[0], sides[1][::-1]])


def _regular(corners: int) -> Floats:
    """Return a regular polygon (corners, 3) of radius 1 that faces the camera, one corner up."""
    turn = np.arange(corners) * (2 * math.pi / corners)
    return np.stack([np.sin(turn), np.cos(turn), np.zeros(corners)], -1)


_ROUND, TRIANGLE = _regular(12), _regular(3)
_WHEEL = _ROUND[:, [2, 1, 0]]  # turned into the plane of constant x


def disc(x: float, y: float, z: float, radius: float, shape: Floats = _ROUND) -> Floats:
    """Return ``shape`` (k, 3), by default a circle, of ``radius`` metres around (x, y, z), facing the camera."""
    return shape * radius + (x, y, z)


def wheel(x: float, z: float, radius: float) -> Floats:
    """Return a circle (12, 3) in the plane of constant x that stands on the ground; ``radius`` is in metres."""
    return _WHEEL * radius + (x, radius, z)
