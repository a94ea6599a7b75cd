"""Class ids -> colours, and colours over a frame."""

from __future__ import annotations

import numpy as np

from edgeseg.spec import ModelSpec

__all__ = ["Painter"]


class Painter:
    """Paints class maps in a spec's palette.

    Args:
        spec: its palette (RGB) is used; ids that are no class are black.
        alpha: share of the class colour in an overlay, 0-1.
    """

    def __init__(self, spec: ModelSpec, alpha: float = 0.5) -> None:
        self._alpha = alpha
        self._colours = np.zeros((256, 3), np.uint8)
        self._colours[: len(spec.palette)] = np.asarray(spec.palette, np.uint8)[:, ::-1]

    def mask(self, classes: np.ndarray) -> np.ndarray:
        """HxW uint8 ids -> HxWx3 uint8 BGR colours."""
        return np.asarray(self._colours[classes])

    def overlay(self, image: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """HxWx3 uint8 BGR and HxW ids -> the image with the class colours over it."""
        import cv2

        return np.asarray(cv2.addWeighted(image, 1 - self._alpha, self.mask(classes), self._alpha, 0))
