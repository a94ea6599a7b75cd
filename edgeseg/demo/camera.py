"""Project points of the world into the frame, and light them.

A point is (x, y, z) in metres: x right of the road's centre line, y up, z ahead of the camera. The world
is a straight strip that a bend displaces sideways: ``Camera.project`` takes points to pixels and bends them
on the way. ``Light.shade`` takes a colour to what the weather and the distance leave of it; ``light_at``
gives the weather and time of day of a moment.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeseg.demo.chance import Colour, Floats, drift, mix

NEAR, FAR = 0.6, 150.0  # metres ahead of the camera between which things are drawn
DISTANCES = np.arange(0.0, FAR + 20.0)  # z in metres of the knots of ``Camera.bend``
RIGHT, LEFT, FRONT, TOP = range(4)  # the way a surface faces: +x, -x, towards the camera, up


class Camera(NamedTuple):
    """Place and view of the camera, and the bend of the road ahead of it."""

    focal: float  # pixels
    centre: float  # column of the vanishing point of a straight road
    horizon: float  # row
    lateral: float  # metres right of the centre line
    height: float  # metres above the road
    travelled: float  # metres along the road
    heading: float  # slope of the road at the camera, metres right per metre ahead
    bend: Floats  # metres the road lies right of its tangent at the camera, at each of DISTANCES

    def project(self, points: Floats) -> NDArray[np.int32]:
        """Project world points (..., 3) in metres to whole pixels (..., 2) int32: column, row; z is at least NEAR."""
        z = np.maximum(points[..., 2], NEAR)
        scale = self.focal / z
        pixels = np.empty(points.shape[:-1] + (2,))
        pixels[..., 0] = (points[..., 0] + (np.interp(z, DISTANCES, self.bend) - self.lateral)) * scale + self.centre
        pixels[..., 1] = (self.height - points[..., 1]) * scale + self.horizon
        return pixels.astype(np.int32)

    def sees(self, x: float, z: float) -> bool:
        """Tell whether a thing that stands at ``x`` and ends at ``z`` (metres) can reach into the frame."""
        return z > 0 and (z + 2.0) * self.centre / self.focal > abs(x - self.lateral) - 4.0


class Light(NamedTuple):
    """Effect of the weather and the time of day on a colour."""

    gains: tuple[float, ...]  # brightness of a surface by the way it faces
    tint: Colour  # colour temperature
    zenith: Colour  # of the sky
    haze: Colour  # of the sky at the horizon, and of all that is far away
    visibility: float  # metres in which haze hides 63 % of a colour
    clouds: float  # contrast
    shadow: float  # brightness of a cast shadow, 0..1
    sun: float  # metres a shadow reaches along x, per metre of height

    def shade(self, colour: Colour, z: float, facing: int) -> tuple[float, ...]:
        """Shade ``colour`` (B, G, R in 0..255) of a surface ``z`` metres ahead that faces e.g. RIGHT, to B, G, R."""
        clear = math.exp(-max(z, 0.0) / self.visibility)
        gain = self.gains[facing] * clear
        (b, g, r), (warm_b, warm_g, warm_r), haze = colour, self.tint, [c * (1 - clear) for c in self.haze]
        return (
            min(255.0, b * warm_b * gain + haze[0]),
            min(255.0, g * warm_g * gain + haze[1]),
            min(255.0, r * warm_r * gain + haze[2]),
        )


def light_at(seed: int, time: float) -> Light:
    """Return the weather and time of day at ``time`` seconds: mostly day, about one fifth dusk."""
    sun, clear = 2.4 * drift(seed, 11, time, 40.0) - 1.2, drift(seed, 12, time, 30.0)
    day = 1.0 - 2.6 * max(0.0, drift(seed, 13, time, 60.0) - 0.74)
    warm, front = 0.1 * drift(seed, 14, time, 35.0) - 0.03 + 0.1 * (1 - day), drift(seed, 15, time, 45.0)
    direct = 0.85 * clear * day
    ambient = day * (0.85 - 0.3 * clear)
    gains = tuple(ambient + direct * part for part in (max(0.0, sun), max(0.0, -sun), 0.6 * front, 0.65))
    haze = [c * (0.25 + 0.75 * day) for c in mix((215, 212, 208), (238, 232, 226), clear)]
    zenith = [c * (0.2 + 0.8 * day) for c in mix((196, 190, 184), (226, 172, 112), clear)]
    return Light(
        gains,
        (1 - warm, 1.0, 1 + warm),
        zenith,
        haze,
        110.0 + 500.0 * drift(seed, 16, time, 50.0),
        0.15 + 0.45 * drift(seed, 17, time, 30.0),
        1 - 0.6 * clear * day,
        sun,
    )
