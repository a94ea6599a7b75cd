"""Convert class maps to COCO run lengths and polygons, and to boundaries."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["boundaries", "coco_polygons", "coco_rle", "compressed_counts"]

_LONGEST_CHARS = 7  # of one run length: 5 bits each, and 32 bits are enough for any picture


def boundaries(classes: np.ndarray, thickness: int = 1, out: np.ndarray | None = None) -> np.ndarray:
    """Mark where a class ends: HxW uint8, not 0 within ``thickness`` pixels of a pixel of another class.

    Args:
        classes: HxW uint8 class ids.
        thickness: width of the mark to either side, in pixels.
        out: HxW uint8 array that receives the result; None allocates one.
    """
    import cv2

    side = 2 * thickness + 1
    kernel = np.ones((side, side), np.uint8)
    return np.asarray(cv2.morphologyEx(classes, cv2.MORPH_GRADIENT, kernel, dst=out))


def coco_rle(classes: np.ndarray) -> dict[int, dict[str, Any]]:
    """Encode every class of a class map as COCO's compressed run lengths.

    Args:
        classes: HxW uint8 class ids.

    Returns:
        ``{"size": [H, W], "counts": str}`` by class id, for the ids that are there, ascending.
    """
    columns = classes.T.ravel()
    starts = np.concatenate(([0], np.flatnonzero(columns[1:] != columns[:-1]) + 1))
    ends = np.append(starts[1:], columns.size)
    owners = columns[starts]
    encoded: dict[int, dict[str, Any]] = {}
    for owner in np.unique(owners):
        mine = owners == owner
        counts = np.diff(_edges(starts[mine], ends[mine], columns.size))
        encoded[int(owner)] = {"size": list(classes.shape), "counts": compressed_counts(counts)}
    return encoded


def compressed_counts(counts: np.ndarray) -> str:
    """Compress run lengths, (n,) int64 with a run of 0 first, to COCO's text.

    The text holds 5 bits per character, of the difference to the length two places before.
    """
    rest = counts.astype(np.int64)
    rest[3:] -= counts[1:-2]
    chars = np.zeros((len(rest), _LONGEST_CHARS), np.uint8)
    used = np.zeros(chars.shape, bool)
    open_ = np.ones(len(rest), bool)
    for place in range(_LONGEST_CHARS):
        bits = rest & 31
        rest = rest >> 5
        more = np.where(bits & 16, rest != -1, rest != 0)
        chars[:, place] = (bits | (more << 5)) + 48
        used[:, place] = open_
        open_ = open_ & more
    return chars[used].tobytes().decode("ascii")


def coco_polygons(mask: np.ndarray) -> list[list[float]]:
    """Trace the regions of a mask as COCO polygons ``[x0, y0, x1, y1, ...]`` in pixels.

    (0, 0) is the picture's upper left corner. A hole is joined to its region's outline by a cut without width, since
    COCO knows no holes. The outline runs a quarter of a pixel within the edges of the region's pixels, so that drawing
    it with pycocotools gives the mask again, but for a few pixels on the edge.

    Args:
        mask: HxW uint8 or bool.
    """
    import cv2

    doubled = np.repeat(np.repeat(mask.astype(np.uint8), 2, axis=0), 2, axis=1)
    outlines, hierarchy = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)[-2:]
    rings, links = [outline.reshape(-1, 2) for outline in outlines], np.reshape(hierarchy, (-1, 4))
    polygons = []
    for ring, (_, _, hole, parent) in zip(rings, links):
        if parent >= 0:  # it is a hole itself
            continue
        while hole >= 0:
            ring = _with_hole(ring, rings[hole])
            hole = links[hole][0]
        polygons.append(((ring + 0.5) / 2).ravel().tolist())
    return polygons


def _edges(starts: np.ndarray, ends: np.ndarray, size: int) -> np.ndarray:
    """Join 0 and where ones start and end in turn; an empty last run of zeros is left out, as COCO does."""
    edges = np.empty(2 * len(starts) + 1, np.int64)
    edges[0], edges[1::2], edges[2::2] = 0, starts, ends
    return edges if edges[-1] == size else np.append(edges, size)


def _with_hole(ring: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Extend a ring around a hole: there and back between the first point of the hole and the nearest one."""
    near = int(np.abs(ring - hole[0]).sum(axis=1).argmin())
    return np.concatenate((ring[: near + 1], hole, hole[:1], ring[near:]))
