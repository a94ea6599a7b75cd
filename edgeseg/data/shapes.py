"""Draw polygons and run lengths as masks, pixel by pixel as COCO's own tools do."""

from __future__ import annotations

from typing import Sequence

import numpy as np

__all__ = ["polygon_mask", "runs_mask", "runs_of_text"]

_FINER = 5
"""COCO's tools walk the outline on a grid that is so many times finer."""


def polygon_mask(points: Sequence[float], size_hw: tuple[int, int]) -> np.ndarray:
    """Draw a polygon as HxW bool: the pixels inside of its outline, as ``rleFrPoly`` of COCO's API does.

    Args:
        points: x0, y0, x1, y1, ... in pixels from the upper left corner of the picture.
        size_hw: height and width of the picture.
    """
    height, width = size_hw
    x, y = (_FINER * np.asarray(points, np.float64).reshape(-1, 2).T + 0.5).astype(np.int64)
    u, v = _outline(x, y)
    # Where the outline enters another column, the pixels below it in that column change sides.
    at = np.flatnonzero(u[1:] != u[:-1]) + 1
    column = (np.minimum(u[at], u[at] - 1 + (u[at] < u[at - 1])) + 0.5) / _FINER - 0.5
    inside = (np.floor(column) == column) & (column >= 0) & (column <= width - 1)
    row = np.ceil(np.clip((np.minimum(v[at], v[at - 1]) + 0.5) / _FINER - 0.5, 0, height))
    changes = np.bincount((column * height + row)[inside].astype(np.int64), minlength=height * width)
    return np.asarray((np.cumsum(changes[: height * width]) % 2).astype(bool).reshape(width, height).T)


def _outline(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the points of the closed outline on the fine grid, corner by corner."""
    us, vs = [], []
    for start in range(len(x)):
        xs, xe, ys, ye = x[start], x[(start + 1) % len(x)], y[start], y[(start + 1) % len(x)]
        wide, high = abs(xe - xs), abs(ye - ys)
        flip = (wide >= high and xs > xe) or (wide < high and ys > ye)
        if flip:
            xs, xe, ys, ye = xe, xs, ye, ys
        steps = np.arange(max(wide, high) + 1)
        steps = steps[::-1] if flip else steps
        if wide >= high:
            slope = (ye - ys) / wide if wide else 0.0
            us.append(steps + xs)
            vs.append((ys + slope * steps + 0.5).astype(np.int64))
        else:
            us.append((xs + (xe - xs) / high * steps + 0.5).astype(np.int64))
            vs.append(steps + ys)
    return np.concatenate(us), np.concatenate(vs)


def runs_mask(counts: Sequence[int], size_hw: tuple[int, int]) -> np.ndarray:
    """Draw run lengths as HxW bool: pixels down the columns, first those outside.

    Raises:
        ValueError: the lengths are no whole numbers, or do not add up to the picture.
    """
    height, width = size_hw
    lengths = np.asarray(counts, np.int64)
    if (lengths != np.asarray(counts)).any():
        raise ValueError("the run lengths are no whole numbers")
    if (lengths < 0).any() or lengths.sum() != height * width:
        raise ValueError(f"the run lengths cover {lengths.sum()} of {height * width} pixels")
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return np.asarray(flat.reshape(width, height).T)


def runs_of_text(text: str) -> list[int]:
    """Read the compressed run lengths of COCO: numbers of 5 bits a letter, from the third on relative to two before.

    Raises:
        ValueError: the text ends within a number or holds other letters.
    """
    counts: list[int] = []
    at = 0
    while at < len(text):
        value, shift, more = 0, 0, True
        while more:
            if at >= len(text) or not 48 <= ord(text[at]) < 112:
                raise ValueError("the compressed run lengths are broken")
            letter = ord(text[at]) - 48
            value |= (letter & 0x1F) << shift
            more = bool(letter & 0x20)
            at, shift = at + 1, shift + 5
            if not more and letter & 0x10:
                value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    return counts
