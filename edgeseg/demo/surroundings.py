"""Paint the town behind all things: sky, ground, horizon, their light and their texture.

``Town`` is what the seed decides once for a whole drive. The functions are called by scene.py, in the
order in which they stand here, on a fresh canvas; ``roughen`` comes when the houses are painted and the
things on the street are not.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from edgeseg.demo.camera import FAR, NEAR, TOP
from edgeseg.demo.canvas import BUILDING, PAVEMENT, ROAD, SKY, TREE, Canvas, front_quad, ground_quad, strip
from edgeseg.demo.chance import Floats, Image, drift, pick, uniform
from edgeseg.demo.roadside import WALLS

PAVEMENT_WIDTH = 3.5  # metres
TILE = 512  # side of the noise tile, pixels
_TILE_SCALE = 20.0  # pixels of the noise tile per metre


class Town(NamedTuple):
    """Properties of a town that ``seed`` decides once."""

    seed: int
    side: float  # the side of the road the camera drives on: 1 is right, -1 left
    kerb: float  # half the road's width, metres
    speed: float  # metres per second
    waves: tuple[tuple[float, float, float], ...]  # of the bend: metres, radians per metre, phase in radians
    asphalt: float  # brightness, 0..255
    paving: float  # brightness, 0..255
    camera_height: float  # metres
    camera_horizon: float  # share of the frame's height that lies above it
    vignette: float  # how much darker the middle of the frame's edges is than its centre, 0..255


def town_of(seed: int) -> Town:
    """Return the town of any integer ``seed``."""
    chances = uniform(seed, 1, np.arange(1), 10)[0]
    return Town(
        seed,
        1.0 if chances[0] < 0.5 else -1.0,
        3.8 + 0.7 * chances[1],
        6.0 + 5.0 * chances[2],
        ((8.0, 0.012, 6.3 * chances[3]), (12.0, 0.0071, 6.3 * chances[4])),
        72 + 50 * chances[5],
        120 + 50 * chances[6],
        1.45 + 0.35 * chances[7],
        0.44 + 0.06 * chances[8],
        30 * chances[9],
    )


def paint_sky(canvas: Canvas, clouds: Image) -> None:
    """Paint the colours above the horizon, with drifting ``clouds``, a square uint8 image of brightness.

    The label stays 0, the class sky.
    """
    import cv2

    height, width = canvas.pixels.shape[:2]
    rows, light = max(1, int(canvas.camera.horizon) + 1), canvas.light
    fade = np.linspace(0, 1, rows)[:, None] ** 0.8
    gradient = np.array(light.zenith) * (1 - fade) + np.array(light.haze) * fade
    scale = 260.0 / height
    # Reflected clouds repeat. OpenCV would reflect once per repetition: longer in each hour of a camera that drives on.
    period = 2 * (clouds.shape[1] - 1)
    shift = math.fmod(canvas.time * 2.0 - canvas.camera.heading * canvas.camera.focal * scale, period)
    warp = np.array([[scale, 0, shift], [0, 2 * scale, 40]])
    drifted = cv2.warpAffine(
        clouds,
        warp,
        (width, rows),
        borderMode=cv2.BORDER_REFLECT_101,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
    )
    base = np.broadcast_to(gradient[:, None].astype(np.uint8), (rows, width, 3))
    canvas.pixels[:rows, :, :3] = cv2.addWeighted(
        np.ascontiguousarray(base), 1.0, cv2.merge([drifted] * 3), light.clouds, -118 * light.clouds
    )


def paint_ground(canvas: Canvas, town: Town) -> None:
    """Paint grass (class tree, as CamVid has it), pavements, kerbs, road and lane markings."""
    canvas.fill(front_quad(-9 * FAR, 9 * FAR, -9 * FAR, 0, FAR), (50, 96, 84), TREE, TOP)
    kerb, paving, asphalt = town.kerb, town.paving, town.asphalt
    wet = _wetness(town.seed, canvas.time)
    for edge, colour, label in (
        (kerb + PAVEMENT_WIDTH + 1.1, (paving, paving, paving * 1.03), PAVEMENT),
        (kerb + 0.18, [paving * 1.15] * 3, PAVEMENT),
        (kerb, [asphalt * (1.2 - 0.4 * wet)] * 3, ROAD),
    ):
        canvas.fill(strip(-edge, edge, NEAR, FAR), colour, label, TOP)
    paint = [130 + 90 * drift(town.seed, 8, canvas.time, 30.0)] * 3
    dashes = np.arange(-(canvas.camera.travelled % 6.0), 90.0, 6.0)
    canvas.fill(np.array([ground_quad(-0.07, 0.07, z, z + 3.5) for z in dashes]), paint, ROAD, TOP)
    for edge in (-kerb + 0.35, kerb - 0.35):
        canvas.fill(strip(edge - 0.06, edge + 0.06, NEAR, 80.0), (70, 170, 190), ROAD, TOP)


def _wetness(seed: int, time: float) -> float:
    """Return the wetness of the road at ``time`` seconds, 0..1."""
    return drift(seed, 7, time, 40.0)


def light_ground(canvas: Canvas, town: Town, shadows: Image) -> None:
    """Put ``shadows`` (H, W) uint8 on the ground, then haze by distance and, where it is wet, the sky."""
    import cv2

    camera, light, wet = canvas.camera, canvas.light, _wetness(town.seed, canvas.time)
    first = math.ceil(camera.horizon)
    ground = canvas.pixels[first:]
    z = camera.focal * camera.height / (np.arange(first, len(canvas.pixels)) + 0.5 - camera.horizon)
    clear = np.exp(-z / light.visibility) * (1 - 0.35 * wet * z / (z + 25.0))
    gain = (shadows[first:] * clear[:, None]).astype(np.uint8)
    glow = np.zeros(ground.shape, np.uint8)
    glow[..., :3] = ((1 - clear)[:, None] * light.haze)[:, None]
    ground[:] = cv2.add(
        cv2.multiply(ground, cv2.merge([gain, gain, gain, np.full_like(gain, 255)]), scale=1 / 255), glow
    )


def paint_backdrop(canvas: Canvas, seed: int) -> None:
    """Paint distant trees and houses on the horizon, which turn with the road."""
    x = np.linspace(-2.0 * FAR, 2.0 * FAR, 120)
    bearing = x / FAR + canvas.camera.heading
    top = 6.0 + 1.5 * np.sin(9 * bearing + seed % 63) + np.sin(41 * bearing) + 0.7 * np.sin(97 * bearing)
    crowns = np.stack([x, top, np.full(120, FAR)], -1)
    canvas.fill(np.concatenate([crowns, [[x[-1], 0, FAR], [x[0], 0, FAR]]]), (52, 74, 66), TREE)
    chances = uniform(seed, 9, np.arange(12), 4)
    for (place, height, wall, _), direction in zip(chances, np.linspace(-1.5, 1.5, 12)):
        left = (direction + 0.1 * place - canvas.camera.heading) * FAR
        canvas.fill(front_quad(left, left + 14, 0, 5 + 9 * height, FAR), pick(WALLS, wall), BUILDING)


def roughen(canvas: Canvas, town: Town, tile: Floats) -> None:
    """Texture ground and frontage with noise that is fixed to the world, at half resolution.

    ``tile`` is (TILE, TILE) float32 noise that wraps around, with mean 0 and deviation 1.
    """
    import cv2

    camera, (height, width) = canvas.camera, canvas.pixels.shape[:2]
    dx = ((np.arange(0, width, 2, dtype=np.float32) - camera.centre) / camera.focal)[None]
    dy = ((np.arange(0, height, 2, dtype=np.float32) - camera.horizon) / camera.focal)[:, None]
    # 1 / z of the surface: the ground, or the frontage where that is nearer
    nearness = np.maximum(np.abs(dx) / (town.kerb + PAVEMENT_WIDTH), dy / camera.height)
    z = _TILE_SCALE / np.maximum(nearness, 1 / FAR)
    along = z + (camera.travelled * _TILE_SCALE) % TILE
    noise = cv2.remap(
        tile,
        ((dx + dy) * z).astype(np.float32),
        along.astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_WRAP,
    )
    gain = 128 + 13 * noise * np.minimum(1, 9 * nearness)
    gain = cv2.resize(gain.clip(0, 255).astype(np.uint8), (width, height))
    gain[canvas.pixels[..., 3] == SKY] = 128
    cv2.multiply(canvas.pixels, cv2.merge([gain, gain, gain, np.full_like(gain, 128)]), canvas.pixels, 1 / 128)
