"""Render slices that look like CT of the lungs: ``python render_lung_slices.py FOLDER``.

Nobody was scanned. A patient is a handful of random numbers; organs are wobbly ellipses in Hounsfield units that change
from slice to slice, with vessels, airways, disease, noise, a couch and the circle of the scanner's field of view. The
slices are windowed to 8 bits, as people do before training. Masks are exact: 0 other, 1 lung, 2 lesion.

``FOLDER/patients`` is of one scanner, ``FOLDER/test`` of other patients on another one: more noise, thicker slices,
another window, more and other disease. A file is named ``PATIENT_SLICE.png``, so that data can be split by patient.
The same arguments give the same pictures.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

import cv2
import numpy as np

from edgeseg.images import write_png

OTHER, LUNG, LESION = range(3)
AIR, FAT, SOFT, MUSCLE, BONE = -1000.0, -100.0, 35.0, 55.0, 420.0
FINE = 2
"""Pixels of the drawing per pixel of the slice, along each side."""

Bounds = tuple[float, float]


@dataclass(frozen=True)
class Scanner:
    """What a scanner and the people before it have in common.

    Attributes:
        noise_hu: standard deviation of the noise.
        blur: sigma of the kernel, in pixels of the slice.
        grain: sigma of the noise, in pixels.
        thickness: of a slice, as a share of the height of the lungs.
        window: centre and width in HU that become 0 to 255.
        field: radius of the field of view; 1 touches the picture's sides, 1.42 its corners.
        width: half of the body's width, as a share of half of the picture.
        enhanced: share of patients with contrast agent in their vessels.
        lesions: most lesions of a patient.
        radius: of lesions, as a share of half of the picture.
        effusions: share of patients with fluid behind a lung; fluid is no lung.
    """

    noise_hu: Bounds
    blur: Bounds
    grain: Bounds
    thickness: float
    window: Bounds
    field: Bounds
    width: Bounds
    enhanced: float
    lesions: int
    radius: Bounds
    effusions: float


FIRST = Scanner(
    noise_hu=(12, 40), blur=(0.5, 0.9), grain=(0.5, 0.8), thickness=0, window=(-600, 1500), field=(0.95, 1.05),
    width=(0.74, 0.9), enhanced=0.4, lesions=6, radius=(0.02, 0.14), effusions=0.15,
)  # fmt: skip
SECOND = Scanner(
    noise_hu=(30, 75), blur=(0.6, 1.3), grain=(0.7, 1.2), thickness=0.035, window=(-500, 1600), field=(0.88, 1.42),
    width=(0.66, 0.95), enhanced=0.6, lesions=8, radius=(0.015, 0.18), effusions=0.3,
)  # fmt: skip


@dataclass(frozen=True)
class Lesion:
    """Something ill: a nodule, ground glass or a consolidation. Place and radii are shares, as of ``Scanner``."""

    kind: str
    at: tuple[float, float, float]
    radii: tuple[float, float, float]
    wobble: np.ndarray
    hu: float


class Patient:
    """A patient of a scanner; everything follows from the seed."""

    def __init__(self, scanner: Scanner, seed: Sequence[int], pixels: int) -> None:
        self.scanner, self._seed, self._pixels = scanner, tuple(seed), pixels
        rng = np.random.default_rng(np.random.SeedSequence(self._seed))
        side = np.linspace(-1, 1, FINE * pixels, dtype=np.float32)
        self._x, self._y = np.meshgrid(side, side)
        self._width = rng.uniform(*scanner.width)
        self._depth = self._width * rng.uniform(0.62, 0.76)
        self._fat, self._wall = rng.uniform(0.02, 0.09), rng.uniform(0.05, 0.08)
        self._turn, self._shift = rng.normal(0, 0.06), rng.normal(0, 0.03, 2)
        self._wobbles = rng.normal(0, 1, (12, 5))
        self._lung_hu = rng.uniform(-880, -780)
        self._heart, self._dome = rng.uniform(0.19, 0.27), rng.uniform(0.68, 0.82)
        self._blood = rng.uniform(150, 330) if rng.random() < scanner.enhanced else 45.0
        self._emphysema = rng.random() < 0.2
        self._effusion = rng.uniform(0.1, 0.3) if rng.random() < scanner.effusions else 0.0
        self._effusion_side = int(rng.integers(2))
        self._noise = rng.uniform(*scanner.noise_hu)
        self._blur, self._grain = rng.uniform(*scanner.blur), rng.uniform(*scanner.grain)
        self._field = rng.uniform(*scanner.field)
        self._couch = rng.uniform(0.02, 0.08)
        self.lesions = [self._lesion(rng) for _ in range(int(rng.integers(scanner.lesions + 1)))]

    def slice_at(self, height: float, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Render a slice.

        Args:
            height: 0 is above the lungs, 1 below them.
            number: of the slice, for its noise.

        Returns:
            A picture and its mask, both pixels x pixels uint8.
        """
        rng = np.random.default_rng(np.random.SeedSequence((*self._seed, 1 + number)))
        thick, vessels = self.scanner.thickness, int(rng.integers(1 << 31))
        hu, labels = self._tissue(height, vessels)
        if thick:  # what is above and below shows through
            hu = (hu + self._tissue(height - thick / 2, vessels)[0] + self._tissue(height + thick / 2, vessels)[0]) / 3
        size = (self._pixels, self._pixels)
        hu = cv2.GaussianBlur(cv2.resize(hu, size, interpolation=cv2.INTER_AREA), (0, 0), self._blur)
        hu = hu + self._grainy(rng, height)
        shares = [
            cv2.resize((labels == one).astype(np.float32), size, interpolation=cv2.INTER_AREA)
            for one in (OTHER, LUNG, LESION)
        ]
        mask = np.argmax(np.stack(shares), axis=0).astype(np.uint8)
        x, y = (cv2.resize(one, size, interpolation=cv2.INTER_AREA) for one in (self._x, self._y))
        outside = x**2 + y**2 > self._field**2
        hu[outside], mask[outside] = -3000, OTHER
        centre, width = self.scanner.window
        return np.clip(255 * ((hu - centre) / width + 0.5), 0, 255).round().astype(np.uint8), mask

    def _inside(
        self, at: tuple[float, float], radii: tuple[float, float], which: int = 0, wobble: float = 0.0
    ) -> np.ndarray:
        """Return how far inside a wobbly ellipse each pixel is: 1 in the middle, 0 on its border, float32."""
        u, v = (self._x - at[0]) / max(radii[0], 1e-6), (self._y - at[1]) / max(radii[1], 1e-6)
        reach = np.sqrt(u**2 + v**2)
        if wobble:
            angle, first = np.arctan2(v, u), self._wobbles[which]
            reach = reach / (
                1 + wobble * (first[0] * np.cos(2 * angle + first[1]) + first[2] * np.cos(3 * angle + first[3])
                              + 0.5 * first[4] * np.cos(5 * angle))
            )  # fmt: skip
        return np.asarray(1 - reach, np.float32)

    def _fill(
        self,
        hu: np.ndarray,
        at: tuple[float, float],
        radii: tuple[float, float],
        value: float,
        where: np.ndarray | None = None,
    ) -> None:
        """Give the pixels of a small ellipse a value, where they are ``where``."""
        scale = len(hu) / 2
        rows, columns = (
            slice(max(0, int((1 + place - radius) * scale)), max(0, int((1 + place + radius) * scale) + 2))
            for place, radius in ((at[1], radii[1]), (at[0], radii[0]))
        )
        u, v = (self._x[rows, columns] - at[0]) / radii[0], (self._y[rows, columns] - at[1]) / radii[1]
        inside = u**2 + v**2 < 1
        if where is not None:
            inside &= where[rows, columns]
        hu[rows, columns][inside] = value

    def _lungs(self, height: float) -> tuple[np.ndarray, np.ndarray]:
        """Return where the cavity of the chest is and where its lungs are, HxW bool."""
        x0, y0 = self._shift
        wide, deep = self._width - self._fat - self._wall, self._depth - self._fat - self._wall
        cavity = self._inside((x0, y0), (wide, deep), 0, 0.02) > 0
        grown = math.sqrt(max(0.0, 1 - ((height - 0.62) / 0.62) ** 2))
        centre_wide = 0.12 + 0.05 * math.sin(3 * height + self._wobbles[1][0])
        lungs = np.zeros_like(cavity)
        for side in (-1, 1):
            middle = x0 + side * 0.5 * wide
            radii = (0.47 * wide * grown, 0.88 * deep * (0.45 + 0.55 * grown))
            lungs |= self._inside((middle, y0 + 0.04 * deep), radii, 2 + (side > 0), 0.05) > 0
        lungs &= cavity & (self._inside((x0, y0 - 0.1 * deep), (centre_wide, 1.3 * deep), 4, 0.05) <= 0)
        beat = max(0.0, 1 - ((height - 0.62) / 0.3) ** 2)
        if beat:
            heart = (self._heart * math.sqrt(beat) * 1.25, self._heart * math.sqrt(beat))
            lungs &= self._inside((x0 + 0.12, y0 - 0.22 * deep), heart, 5, 0.05) <= 0
        for side, later in ((-1, 0.0), (1, 0.06)):  # the liver's dome, and the spleen's
            risen = (height - self._dome - later) / (1.05 - self._dome)
            if risen > 0:
                radii = (0.5 * wide * risen**0.5, 0.85 * deep * risen**0.5)
                lungs &= self._inside((x0 + side * 0.42 * wide, y0 - 0.12 * deep), radii, 6, 0.05) <= 0
        return cavity, lungs

    def _lesion(self, rng: np.random.Generator) -> Lesion:
        """Place a lesion in the lungs; half of them touch the wall of the chest, where their border is not seen."""
        height = rng.uniform(0.2, 0.85)
        _, lungs = self._lungs(height)
        depth = cv2.distanceTransform(lungs.astype(np.uint8), cv2.DIST_L2, 3) / (FINE * self._pixels / 2)
        near = (depth > 0) & (depth < 0.03) if rng.random() < 0.5 else depth > 0.03
        rows, columns = np.nonzero(near if near.any() else depth > 0)
        chosen = int(rng.integers(len(rows))) if len(rows) else 0
        at = (self._x[0, columns[chosen]], self._y[rows[chosen], 0]) if len(rows) else (0.4, 0.0)
        kind = str(rng.choice(["nodule", "nodule", "ground glass", "consolidation"]))
        least, most = self.scanner.radius
        radius = least * (most / least) ** rng.uniform(0, 0.6 if kind == "nodule" else 1)
        radius = radius if kind == "nodule" else max(radius, 0.05)
        stretch = rng.uniform(0.7, 1.4, 2) if kind != "nodule" else rng.uniform(0.9, 1.1, 2)
        hu = {"nodule": rng.uniform(-50, 80), "ground glass": rng.uniform(-650, -450), "consolidation": 40.0}[kind]
        wobble = rng.normal(0, 0.05 if kind == "nodule" else 0.16, 6)
        radii = (radius * stretch[0], radius * stretch[1], radius * rng.uniform(0.5, 0.9))
        return Lesion(kind, (float(at[0]), float(at[1]), height), radii, wobble, float(hu))

    def _tissue(self, height: float, vessels: int) -> tuple[np.ndarray, np.ndarray]:
        """Return HU, float32, and classes of a thin slice, both at ``FINE`` times the pixels."""
        cavity, lungs = self._lungs(height)
        hu = self._outside(height)
        hu[cavity] = SOFT
        self._middle(hu, cavity & ~lungs, height)
        if self._effusion:
            side = self._x > self._shift[0] if self._effusion_side else self._x < self._shift[0]
            level = self._shift[1] + self._depth * (1 - self._effusion - 0.5 * max(0.0, height - 0.5)) - self._wall
            fluid = lungs & side & (self._y > level)
            hu[fluid], lungs = 12, lungs & ~fluid
        labels = np.where(lungs, LUNG, OTHER).astype(np.uint8)
        self._aerate(hu, lungs, np.random.default_rng(vessels), height)
        for lesion in self.lesions:
            self._sicken(hu, labels, lungs, lesion, height)
        return hu, labels

    def _outside(self, height: float) -> np.ndarray:
        """Return HU of body wall, bones and couch."""
        hu = np.full(self._x.shape, AIR, np.float32)
        x0, y0 = self._shift
        rim = self._inside((x0, -1.3 + self._depth + self._couch), (1.6, 1.45 + y0))
        hu[np.abs(rim) < 0.006] = -300
        shoulders = 0.14 * max(0.0, 1 - height / 0.25)
        body = self._inside((x0, y0), (self._width + shoulders, self._depth), 7, 0.015)
        muscle = self._inside((x0, y0), (self._width + shoulders - self._fat, self._depth - self._fat), 8, 0.02)
        hu[body > 0], hu[muscle > 0] = FAT, MUSCLE
        wide, deep = self._width - self._fat - 0.5 * self._wall, self._depth - self._fat - 0.5 * self._wall
        for rib in range(14):
            angle = 2 * math.pi * (rib + 0.5) / 14 + 0.4 * math.sin(9 * height + rib) + self._turn
            place = (x0 + wide * math.cos(angle), y0 + deep * math.sin(angle))
            reach = 0.35 * self._wall
            radii = (reach * (1.2 + abs(math.sin(angle))), reach * (1.2 + abs(math.cos(angle))))
            self._fill(hu, place, radii, BONE)
            self._fill(hu, place, (0.45 * radii[0], 0.45 * radii[1]), 180)
        spine = (x0, y0 + 0.8 * self._depth - self._fat)
        self._fill(hu, spine, (0.11, 0.1), BONE)
        self._fill(hu, spine, (0.085, 0.075), 190)
        self._fill(hu, (spine[0], spine[1] + 0.12), (0.045, 0.04), 30)
        if height < 0.45:
            for side in (-1, 1):
                blade = (x0 + side * 0.75 * self._width, y0 + 0.6 * self._depth)
                self._fill(hu, blade, (0.16, 0.02), BONE, muscle > 0.05)
        return hu

    def _middle(self, hu: np.ndarray, where: np.ndarray, height: float) -> None:
        """Draw fat, heart, large vessels and airways between the lungs, gas in the stomach included."""
        x0, y0 = self._shift

        def draw(at: tuple[float, float], radii: tuple[float, float], value: float, inside: bool = True) -> None:
            self._fill(hu, (x0 + at[0], y0 + at[1]), radii, value, where if inside else None)

        draw((0, -0.05), (0.13, 0.3), FAT + 30)
        draw((0.12, -0.22 * self._depth), (0.23, 0.18), 0.7 * self._blood + 10)
        draw((0.09, 0.42 * self._depth), (0.05, 0.05), self._blood)
        draw((-0.05, -0.12), (0.065, 0.06), self._blood)
        if height < 0.42:
            draw((0, 0.02), (0.04, 0.035), AIR, inside=False)
        elif height < 0.58:
            apart = 0.05 + 0.7 * (height - 0.42)
            for side in (-1, 1):
                draw((side * apart, 0.04), (0.035, 0.03), AIR)
        draw((0.04, 0.3 * self._depth), (0.022, 0.018), -300 + 300 * math.sin(40 * height))
        if height > self._dome + 0.08:
            draw((0.42 * self._width, -0.3 * self._depth), (0.13, 0.08), AIR)

    def _aerate(self, hu: np.ndarray, lungs: np.ndarray, rng: np.random.Generator, height: float) -> None:
        """Fill lungs with air that is denser below, and draw their vessels and airways; some touch the wall."""
        shape = hu.shape
        cloud = cv2.resize(rng.normal(0, 1, (9, 9)).astype(np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC)
        air = self._lung_hu + 90 * (self._y / self._depth) * 0.5 + 22 * cloud
        if self._emphysema:
            holes = cv2.resize(rng.random((40, 40)).astype(np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC)
            air = np.where(holes > 0.78, -975, air)
        blood, tubes = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
        scale = shape[0] / 2
        for side in (-1, 1):
            hilum = np.array([self._shift[0] + side * 0.16, self._shift[1] + 0.02])
            for _ in range(int(rng.integers(60, 110))):
                angle, reach = rng.uniform(-math.pi, math.pi), self._width * rng.beta(1.6, 1.6)
                start = hilum + reach * np.array([side * abs(math.cos(angle)), 0.9 * math.sin(angle)])
                along = rng.uniform(0, 0.14) if rng.random() < 0.5 else 0.0
                end = start + along * (start - hilum) / max(float(np.linalg.norm(start - hilum)), 1e-3)
                end = end + rng.normal(0, 0.015, 2)
                thin = (1 - min(0.9, reach / self._width)) * rng.uniform(0.4, 1)
                thick = max(1, round(0.03 * scale * thin))
                canvas = tubes if rng.random() < 0.1 and reach < 0.3 else blood
                points = [tuple(int(round(16 * scale * (1 + one))) for one in place) for place in (start, end)]
                cv2.line(canvas, points[0], points[1], 255, thick, cv2.LINE_AA, 4)
        hu[lungs] = air[lungs]
        walls = cv2.dilate(tubes, np.ones((3, 3), np.uint8))
        for drawn, value in ((blood, max(self._blood, 40.0)), (walls, -100.0), (tubes, -960.0)):
            share = drawn.astype(np.float32) / 255
            hu[lungs] = ((1 - share) * hu + share * value)[lungs]
        if 0.3 < height < 0.8:  # a fissure
            line = np.abs(
                self._y - self._shift[1] - 0.25 * (height - 0.4) - 0.35 * np.abs(self._x - self._shift[0]) + 0.1
            )
            hu[lungs & (line < 0.004)] += 160

    def _sicken(self, hu: np.ndarray, labels: np.ndarray, lungs: np.ndarray, lesion: Lesion, height: float) -> None:
        """Draw what a slice sees of a lesion."""
        away = (height - lesion.at[2]) / lesion.radii[2]
        if abs(away) >= 1:
            return
        shrunk = math.sqrt(1 - away**2)
        u, v = ((one - at) / (radius * shrunk) for one, at, radius in zip(
            (self._x, self._y), lesion.at[:2], lesion.radii[:2]))  # fmt: skip
        angle, bumps = np.arctan2(v, u), lesion.wobble
        border = 1 + sum(bumps[n] * np.cos((n + 2) * angle + 9 * bumps[(n + 3) % 6]) for n in range(6))
        reach = np.sqrt(u**2 + v**2) / border
        where = lungs & (reach < 1)
        labels[where] = LESION
        if lesion.kind == "ground glass":
            share = np.clip(1.6 * (1 - reach), 0, 1)
            hu[where] = np.maximum(hu, (1 - share) * hu + share * lesion.hu)[where]
            return
        inner = np.full_like(hu, lesion.hu)
        if lesion.kind == "consolidation":  # airways stay open in it
            inner[np.abs(np.sin(14 * angle + 6 * reach)) * reach < 0.06] = -700
        hu[where] = inner[where]

    def _grainy(self, rng: np.random.Generator, height: float) -> np.ndarray:
        """Return the noise of a slice in HU: stronger in the middle of wide bodies, with streaks between shoulders."""
        size = (self._pixels, self._pixels)
        white = cv2.GaussianBlur(rng.normal(0, 1, size).astype(np.float32), (0, 0), self._grain)
        white -= cv2.GaussianBlur(white, (0, 0), 3 * self._grain)
        streaks = cv2.blur(rng.normal(0, 1, size).astype(np.float32), (self._pixels // 3, 1))
        x, y = (cv2.resize(one, size, interpolation=cv2.INTER_AREA) for one in (self._x, self._y))
        middle = 0.6 + 0.9 * np.exp(-((x / self._width) ** 2 + (y / self._depth) ** 2))
        shoulders = max(0.0, 1 - height / 0.3)
        noise = middle * (white / white.std() + 1.5 * shoulders * streaks / streaks.std())
        return np.asarray(self._noise * noise, np.float32)


def render(folder: Path, scanner: Scanner, seed: int, patients: int, slices: int, pixels: int) -> None:
    """Write ``images`` and ``masks`` of patients, each with slices from top to bottom."""
    for number in range(patients):
        patient = Patient(scanner, (seed, number), pixels)
        rng = np.random.default_rng(np.random.SeedSequence((seed, number, 0)))
        for index in range(slices):
            height = 0.1 + 0.84 * (index + rng.uniform(0, 1)) / slices
            picture, mask = patient.slice_at(height, index)
            name = f"p{seed}{number:03d}_s{index:02d}.png"
            for kind, data in (("images", picture), ("masks", mask)):
                (folder / kind).mkdir(parents=True, exist_ok=True)
                write_png(folder / kind / name, data)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--patients", type=int, default=30, help="of the first scanner; a third as many for the test")
    parser.add_argument("--slices", type=int, default=8, help="of each patient")
    parser.add_argument("--pixels", type=int, default=256, help="along each side")
    chosen = parser.parse_args()
    render(chosen.folder / "patients", FIRST, 1, chosen.patients, chosen.slices, chosen.pixels)
    render(chosen.folder / "test", SECOND, 2, max(1, chosen.patients // 3), chosen.slices, chosen.pixels)
