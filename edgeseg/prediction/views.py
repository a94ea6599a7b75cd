"""Average what a network says of several views of one picture: scaled, mirrored (test-time augmentation)."""

from __future__ import annotations

from typing import Sequence

import numpy as np

from edgeseg.prediction.network import ScoringNetwork
from edgeseg.prediction.tiles import blended_bands

__all__ = ["averaged", "resized_probabilities"]

_OVERLAP = 0.5
"""Of the windows that cover an enlarged view."""


def averaged(network: ScoringNetwork, picture: np.ndarray, scales: Sequence[float], flip: bool) -> np.ndarray:
    """Return the mean probabilities over all views of a picture.

    Args:
        network: what is asked.
        picture: hxwx3 uint8 BGR of any size.
        scales: sizes of the views, in sizes of the network. A view that is larger than the network is covered with
            windows, a smaller one is continued by its mirror image.
        flip: look at every view mirrored, too.

    Returns:
        CxHxW float32 at ``network.spec.size_hw``.
    """
    size_hw = network.spec.size_hw
    total: np.ndarray | None = None
    for scale in scales:
        view = network.spec.preprocess.resized(picture, (_scaled(size_hw[0], scale), _scaled(size_hw[1], scale)))
        for is_mirrored in (False, True) if flip else (False,):
            found = _of_view(network, view[:, ::-1] if is_mirrored else view)
            found = resized_probabilities(found[:, :, ::-1] if is_mirrored else found, size_hw)
            total = found if total is None else total + found
    assert total is not None
    total /= np.float32(len(scales) * (2 if flip else 1))
    return total


def resized_probabilities(probabilities: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Resize CxHxW float32 to another H and W, each class by itself: area-averaged when shrinking, else bilinear."""
    import cv2

    height, width = size_hw
    if probabilities.shape[1:] == size_hw:
        return np.ascontiguousarray(probabilities)
    shrinks = probabilities.shape[1] > height and probabilities.shape[2] > width
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    planes = (np.ascontiguousarray(plane) for plane in probabilities)
    return np.stack([cv2.resize(plane, (width, height), interpolation=method) for plane in planes])


def _of_view(network: ScoringNetwork, view: np.ndarray) -> np.ndarray:
    size_hw = network.spec.size_hw

    def of_window(window: np.ndarray) -> np.ndarray:
        return resized_probabilities(network.probabilities(window), size_hw)

    if view.shape[:2] == size_hw:
        return of_window(np.ascontiguousarray(view))
    return np.concatenate([band for _, band in blended_bands(of_window, view, size_hw, _OVERLAP)], axis=1)


def _scaled(side: int, scale: float) -> int:
    return max(1, round(side * scale))
