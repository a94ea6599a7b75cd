"""Render pictures that look like brushed metal under a line camera: ``python render_metal_surfaces.py FOLDER``.

No metal was photographed. A coil is a handful of random numbers: brushing, grain, lighting, marks of the rolls. Most
pictures are clean. The others have a few scratches, pits and inclusions of 2 to 40 pixels, a few thousandths of all
pixels. Oil, fibres and marks of rolls look like defects and are none. Masks are exact: 0 clean, 1 scratch, 2 pit,
3 inclusion.

``FOLDER/train`` and ``FOLDER/val`` are different coils of one line. ``FOLDER/test`` is of another line: larger
pictures, other brushing, light and grain, fainter defects. A file is named ``COIL_NUMBER.png``. The same arguments give
the same pictures.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Sequence

import cv2
import numpy as np

from edgeseg.images import write_png

CLEAN, SCRATCH, PIT, INCLUSION = range(4)
FINE = 4
"""Pixels of the drawing of a defect per pixel of the picture, along each side."""

Bounds = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """What a line of production and its camera have in common.

    Attributes:
        size_hw: of a picture.
        brightness: mean grey of the metal.
        angle: of the brushing, in degrees from the horizontal.
        stroke: length of a brush stroke in pixels.
        texture: standard deviation of the brushing in grey values.
        grain: standard deviation of the camera's noise.
        slope: largest change of the light across a picture, as a share.
        strength: of a defect, in standard deviations of what is around it.
        defective: share of pictures with defects.
    """

    size_hw: tuple[int, int]
    brightness: Bounds
    angle: Bounds
    stroke: Bounds
    texture: Bounds
    grain: Bounds
    slope: Bounds
    strength: Bounds
    defective: float


FIRST = Line(
    size_hw=(576, 768), brightness=(95, 165), angle=(-12, 12), stroke=(60, 220), texture=(6, 15), grain=(1.5, 4),
    slope=(0.05, 0.35), strength=(2.5, 7.0), defective=0.4,
)  # fmt: skip
SECOND = Line(
    size_hw=(960, 1280), brightness=(80, 180), angle=(10, 40), stroke=(30, 150), texture=(7, 18), grain=(3, 6),
    slope=(0.2, 0.5), strength=(2.2, 6.0), defective=0.4,
)  # fmt: skip


class Coil:
    """A coil of metal; everything follows from the seed."""

    def __init__(self, line: Line, seed: Sequence[int]) -> None:
        self._line, self._seed = line, tuple(seed)
        rng = np.random.default_rng(np.random.SeedSequence(self._seed))
        self._brightness, self._angle = rng.uniform(*line.brightness), rng.uniform(*line.angle)
        self._stroke, self._texture = rng.uniform(*line.stroke), rng.uniform(*line.texture)
        self._grain = rng.uniform(*line.grain)
        self._roll_mark, self._roll_strength = rng.uniform(35, 160), rng.uniform(0, 3)

    def picture(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Render a picture and its mask, both HxW uint8."""
        rng = np.random.default_rng(np.random.SeedSequence((*self._seed, 1 + number)))
        grey = self._brightness + self._brushed(rng) + self._harmless(rng)
        mask = np.zeros(grey.shape, np.uint8)
        if rng.random() < self._line.defective:
            for _ in range(int(rng.integers(2, 10))):
                _DEFECTS[int(rng.integers(len(_DEFECTS)))](rng, grey, mask, self._line.strength, self._noise)
        grey = grey * self._light(rng) + rng.normal(0, self._grain, grey.shape).astype(np.float32)
        return np.clip(grey, 0, 255).round().astype(np.uint8), mask

    @property
    def _noise(self) -> float:
        """Return the standard deviation of what surrounds a defect."""
        return math.hypot(0.6 * self._texture, self._grain)

    def _brushed(self, rng: np.random.Generator) -> np.ndarray:
        """Return strokes of brushes along one direction: short ones, long ones, and how dense they are."""
        height, width = self._line.size_hw
        side = int(math.hypot(height, width)) + 8
        total = np.zeros((side, side), np.float32)
        for length, thick, share in (
            (self._stroke, 0.6, 1.0),
            (self._stroke / 4, 0.4, 0.5),
            (3 * self._stroke, 2.5, 0.6),
        ):
            noise = cv2.GaussianBlur(
                rng.normal(0, 1, (side, side)).astype(np.float32), (1, 0), sigmaX=1e-3, sigmaY=thick
            )
            noise = cv2.blur(noise, (max(3, int(length)), 1))
            total += share * noise / noise.std()
        turn = cv2.getRotationMatrix2D((side / 2, side / 2), self._angle + rng.normal(0, 0.5), 1)
        turned = cv2.warpAffine(
            total / total.std(), turn, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )
        top, left = (side - height) // 2, (side - width) // 2
        return np.asarray(self._texture * turned[top : top + height, left : left + width])

    def _harmless(self, rng: np.random.Generator) -> np.ndarray:
        """Return what looks like a defect and is none: marks of rolls, oil, fibres."""
        height, width = self._line.size_hw
        row, column = np.mgrid[:height, :width].astype(np.float32)
        along = math.radians(self._angle)
        across = column * math.sin(along) + row * math.cos(along)
        total = self._roll_strength * np.sin(2 * math.pi * across / self._roll_mark + rng.uniform(0, 6))
        for _ in range(int(rng.integers(0, 4))):
            cells = int(rng.integers(4, 9))
            cloud = cv2.resize(
                rng.normal(0, 1, (cells, cells)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
            )
            soft = 1 / (1 + np.exp(-6 * (cloud - 1.4)))
            total += rng.uniform(-18, 12) * soft
        fibres = np.zeros((height, width), np.uint8)
        for _ in range(int(rng.poisson(0.6))):
            cv2.polylines(
                fibres, [_walk(rng, (width, height), rng.uniform(40, 140), 0.35, 16)], False, 255, 2, cv2.LINE_AA, 4
            )
        total -= rng.uniform(6, 16) * cv2.GaussianBlur(fibres, (0, 0), 1.6).astype(np.float32) / 255
        return np.asarray(total, np.float32)

    def _light(self, rng: np.random.Generator) -> np.ndarray:
        """Return the light on each pixel, around 1: a slope, a band of gloss, a darker rim."""
        height, width = self._line.size_hw
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
        angle, slope = rng.uniform(0, 2 * math.pi), rng.uniform(*self._line.slope)
        light = 1 + slope * (x * math.cos(angle) + y * math.sin(angle)) / 1.4
        light += rng.uniform(0, 0.25) * np.exp(-(((y - rng.uniform(-1, 1)) / rng.uniform(0.2, 0.6)) ** 2))
        return np.asarray(light * (1 - rng.uniform(0, 0.15) * (x**2 + y**2)), np.float32)


def _walk(rng: np.random.Generator, size: tuple[int, int], length: float, bend: float, unit: int) -> np.ndarray:
    """Return a curve as Nx1x2 int32 in parts of a pixel: ``unit`` to a pixel."""
    at, angle, points = rng.uniform(0, 1, 2) * size, rng.uniform(0, 2 * math.pi), []
    for _ in range(8):
        points.append(at.copy())
        at = at + length / 7 * np.array([math.cos(angle), math.sin(angle)])
        angle += rng.normal(0, bend)
    return np.round(unit * np.array(points)).astype(np.int32)[:, None]


def _scratch(rng: np.random.Generator, grey: np.ndarray, mask: np.ndarray, strength: Bounds, noise: float) -> None:
    """Draw a thin straight line, bright with a dark flank or dark with a bright one, that fades at its ends."""
    length, wide = rng.uniform(12, 110), rng.uniform(0.8, 2.2)
    side = FINE * (int(length) + 12)
    canvas = np.zeros((side, side), np.uint8)
    points = _walk(rng, (1, 1), length, 0.03, 16)[:, 0] * FINE
    points += (16 * side // 2 - (points.min(0) + points.max(0)) // 2).astype(np.int32)
    cv2.polylines(canvas, [points[:, None]], False, 255, max(1, round(FINE * wide)), cv2.LINE_AA, 4)
    line = _shrunk(canvas)
    flank = np.roll(line, (1, 1), (0, 1)) * (1 - line)
    amount = rng.choice([-1, 1]) * rng.uniform(*strength) * noise
    _stamp(rng, grey, mask, SCRATCH, line > 0.35, amount * (line - 0.4 * flank))


def _pit(rng: np.random.Generator, grey: np.ndarray, mask: np.ndarray, strength: Bounds, noise: float) -> None:
    """Draw a small dark hole with a rim that is bright on one side; or several of them beside each other."""
    for _ in range(int(rng.choice([1, 1, 1, 2, 4]))):
        radius = 1.0 * 7 ** rng.uniform(0, 1)
        side = 2 * int(2 * radius + 4)
        y, x = np.mgrid[:side, :side].astype(np.float32) - (side - 1) / 2 + rng.uniform(-0.5, 0.5)
        reach = np.hypot(x, y * rng.uniform(0.75, 1.3)) / radius
        hole = 1 / (1 + np.exp(np.clip(4 * radius * (reach - 1), -30, 30)))
        rim = np.exp(-((3 * (reach - 1.15)) ** 2)) * np.clip((x + y) / radius, 0, 1)
        amount = rng.uniform(*strength) * noise * (1.3 if radius < 2 else 1)
        _stamp(rng, grey, mask, PIT, hole > 0.5, amount * (0.7 * rim - hole))


def _inclusion(rng: np.random.Generator, grey: np.ndarray, mask: np.ndarray, strength: Bounds, noise: float) -> None:
    """Draw an irregular patch, longer than wide, darker or lighter, with a texture of its own."""
    long = 4.0 * 10 ** rng.uniform(0, 1)
    short = long * rng.uniform(0.2, 0.7)
    side = 2 * int(0.8 * long + 5)
    y, x = np.mgrid[:side, :side].astype(np.float32) - (side - 1) / 2
    angle = rng.normal(0, 0.5)
    u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    cells = max(3, round(side / 6))
    bumps = cv2.resize(rng.normal(0, 1, (cells, cells)).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
    inside = 1 - np.hypot(2 * u / long, 2 * v / max(short, 2.0)) + 0.22 * bumps
    patch = 1 / (1 + np.exp(np.clip(-4 * max(short, 2.0) * inside / 2, -30, 30)))
    amount = rng.choice([-1, -1, 1]) * rng.uniform(*strength) * noise
    _stamp(rng, grey, mask, INCLUSION, patch > 0.5, amount * patch * (0.75 + 0.15 * bumps))


def _shrunk(canvas: np.ndarray) -> np.ndarray:
    side = canvas.shape[0] // FINE
    return np.asarray(cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA) / np.float32(255))


def _stamp(
    rng: np.random.Generator, grey: np.ndarray, mask: np.ndarray, label: int, where: np.ndarray, change: np.ndarray
) -> None:
    """Add a change of grey at a random place, and its label. What does not fit into the picture is left out."""
    height, width = where.shape
    if not where.any() or height > grey.shape[0] or width > grey.shape[1]:
        return
    top, left = int(rng.integers(grey.shape[0] - height + 1)), int(rng.integers(grey.shape[1] - width + 1))
    place = np.s_[top : top + height, left : left + width]
    grey[place] += change
    mask[place][where] = label


_DEFECTS = (_scratch, _pit, _inclusion)


def render(folder: Path, line: Line, seed: int, coils: int, pictures: int) -> None:
    """Write ``images`` and ``masks`` of coils."""
    for coil in range(coils):
        surface = Coil(line, (seed, coil))
        for number in range(pictures):
            name = f"c{seed}{coil:02d}_{number:03d}.png"
            for kind, data in zip(("images", "masks"), surface.picture(number)):
                (folder / kind).mkdir(parents=True, exist_ok=True)
                write_png(folder / kind / name, data)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--coils", type=int, default=12, help="to train on; a third as many for val, and for the test")
    parser.add_argument("--pictures", type=int, default=10, help="of each coil")
    parser.add_argument("--divide", type=int, default=1, help="sides of pictures by this, for trying")
    chosen = parser.parse_args()
    some = max(1, chosen.coils // 3)
    first, second = (
        replace(line, size_hw=(line.size_hw[0] // chosen.divide, line.size_hw[1] // chosen.divide))
        for line in (FIRST, SECOND)
    )
    render(chosen.folder / "train", first, 1, chosen.coils, chosen.pictures)
    render(chosen.folder / "val", first, 2, some, chosen.pictures)
    render(chosen.folder / "test", second, 3, some, chosen.pictures)
