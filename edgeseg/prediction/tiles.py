"""Cover a picture with windows of the network's size; where windows overlap, their probabilities are blended.

The weight of a window rises linearly from its edge, so no seam is seen. Results come in bands of rows: the memory does
not grow with the height of the picture.
"""

from __future__ import annotations

from typing import Callable, Iterator

import numpy as np

__all__ = ["BAND_ROWS", "blended_bands", "window_starts"]

BAND_ROWS = 64
"""Rows of a band of probabilities, at most: what is in memory at once."""


def blended_bands(
    probabilities: Callable[[np.ndarray], np.ndarray], picture: np.ndarray, size_hw: tuple[int, int], overlap: float
) -> Iterator[tuple[int, np.ndarray]]:
    """Give the probabilities of a picture, a band of rows at a time.

    Args:
        probabilities: of one window: HxWx3 uint8 -> CxHxW float32.
        picture: hxwx3 uint8 of any size; a smaller one than a window is continued by its mirror image. Only the rows of
            one window are looked at at a time, so it may be a ``numpy.memmap``.
        size_hw: H and W of a window.
        overlap: share of a window that it has in common with the next one, 0 to 0.75.

    Yields:
        The first row of a band, and the band's Cxkxw float32.
    """
    height, width = picture.shape[:2]
    tops, lefts = (window_starts(side, of, overlap) for side, of in zip((height, width), size_hw))
    row_weights, column_weights = (_ramp(side, overlap) for side in size_hw)
    row_sums, column_sums = _sums(tops, row_weights), _sums(lefts, column_weights)
    weights = row_weights[:, None] * column_weights
    total: np.ndarray | None = None
    for top, following in zip(tops, [*tops[1:], tops[-1] + size_hw[0]]):
        for left in lefts:
            found = probabilities(_window(picture[top : top + size_hw[0], left : left + size_hw[1]], size_hw))
            if total is None:
                total = np.zeros((len(found), size_hw[0], lefts[-1] + size_hw[1]), np.float32)
            total[:, :, left : left + size_hw[1]] += found * weights
        assert total is not None
        for begin in range(top, min(following, height), BAND_ROWS):
            end = min(begin + BAND_ROWS, following, height)
            sums = row_sums[begin:end, None] * column_sums[:width]
            yield begin, total[:, begin - top : end - top, :width] / sums
        done = following - top
        total[:, : size_hw[0] - done] = total[:, done:].copy()
        total[:, size_hw[0] - done :] = 0


def window_starts(length: int, window: int, overlap: float) -> list[int]:
    """Return where windows begin along one side: evenly, overlapping by at least a share, the last at the end."""
    if length <= window:
        return [0]
    step = max(1, int(window * (1 - overlap)))
    count = -(-(length - window) // step)
    return [round(index * (length - window) / count) for index in range(count + 1)]


def _window(part: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Return a part of a picture as a window, continued right and below where it is smaller."""
    import cv2

    missing = [of - side for of, side in zip(size_hw, part.shape)]
    if not any(missing):
        return np.ascontiguousarray(part)
    result: np.ndarray = cv2.copyMakeBorder(
        np.ascontiguousarray(part), 0, missing[0], 0, missing[1], cv2.BORDER_REFLECT_101
    )
    return result


def _ramp(window: int, overlap: float) -> np.ndarray:
    """Return the weights across a window: they rise over the overlap, are 1 between, and nowhere 0."""
    edge = max(1, int(window * overlap))
    from_edge = np.minimum(np.arange(1, window + 1), np.arange(window, 0, -1))
    return np.minimum(from_edge / edge, 1).astype(np.float32)


def _sums(starts: list[int], weights: np.ndarray) -> np.ndarray:
    sums = np.zeros(starts[-1] + len(weights), np.float32)
    for start in starts:
        sums[start : start + len(weights)] += weights
    return sums
