"""Hash chances from numbers, and name the types and colours that all modules share.

Nothing here keeps state: ``uniform`` hashes (seed, salt, slot) to numbers, ``drift`` makes of them a smooth
walk over time, and ``noise`` and ``leaf_stamps`` make images from a generator. A salt separates one use
from another, so no two uses may share one: surroundings.py has 1 and 7..9, scene.py 2..6, 21..26 and from
1000 on, camera.py 11..17.
"""

from __future__ import annotations

import math
from typing import Any, Sequence

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # (H, W) or (H, W, channels)
Floats = NDArray[Any]
Colour = Sequence[float]  # B, G, R in 0..255


def uniform(seed: int, salt: int, slots: NDArray[np.int64], count: int) -> Floats:
    """Hash (seed, salt, slot, column) to a (slots, count) array of float64 in [0, 1); ``slots`` is 1-D."""
    base = np.uint64((seed * 0x9E3779B97F4A7C15 + salt * 0xD1B54A32D192ED03) % 2**64)
    key = slots.astype(np.uint64)[:, None] * np.uint64(0xA0761D6478BD642F) + np.arange(1, count + 1, dtype=np.uint64)
    key ^= base
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 0x9FB21C651E98DF25)):
        key = (key ^ (key >> np.uint64(shift))) * np.uint64(factor)
    return np.asarray((key >> np.uint64(40)).astype(np.float64) / 2**24)


def drift(seed: int, salt: int, time: float, period: float) -> float:
    """Return a smooth random walk in 0..1 that takes a new value every ``period`` seconds of ``time``."""
    knot = math.floor(time / period)
    start, stop = uniform(seed, salt, np.array([knot, knot + 1]), 1)[:, 0]
    blend = time / period - knot
    return float(start + (stop - start) * blend * blend * (3 - 2 * blend))


def pick(colours: Sequence[Colour], chance: float) -> Colour:
    """Choose one of ``colours``; the digits of ``chance`` (0..1) that do not choose it make it lighter or darker."""
    position = chance * len(colours)
    gain = 0.8 + 0.4 * (position % 1.0)
    return [channel * gain for channel in colours[int(position)]]


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Return the colour that lies ``share`` (0..1) of the way from ``first`` to ``second``."""
    return [a + (b - a) * share for a, b in zip(first, second)]


def noise(rng: np.random.Generator, size: int, octaves: Sequence[int]) -> Floats:
    """Make fractal noise (size, size) float32 with mean 0 and deviation 1; ``octaves`` are numbers of cells."""
    import cv2

    total = np.zeros((size, size), np.float32)
    for cells in octaves:
        grid = np.tile(rng.random((cells, cells)).astype(np.float32), (2, 2))  # tiled: the noise wraps around
        total += cv2.resize(grid, (2 * size, 2 * size), interpolation=cv2.INTER_CUBIC)[
            size // 2 : -size // 2, size // 2 : -size // 2
        ]
    return np.asarray((total - total.mean()) / total.std())


def leaf_stamps(rng: np.random.Generator, count: int = 8, size: int = 128) -> Image:
    """Make ragged crowns (count, size, size) uint8: 0 is empty, else a leaf's brightness; some are nearly bare."""
    row, column = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    stamps = np.zeros((count, size, size), np.uint8)
    for index, stamp in enumerate(stamps):
        shape, leaf = noise(rng, size, (6, 16, 48)), noise(rng, size, (8, 32, 100))
        full = 0.62 - 0.45 * (row**2 + column**2) ** 1.5 * 2.4 + 0.2 * shape - (0.3 if index == 0 else 0.0)
        stamp[:] = np.where(full > 0, np.clip(135 + 38 * leaf - 45 * row, 60, 255), 0)
    return stamps
