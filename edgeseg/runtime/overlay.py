"""Class ids -> colours, and colours over a frame."""

from __future__ import annotations

import numpy as np

from edgeseg.errors import UsageError
from edgeseg.runtime.frame import Segmentation
from edgeseg.spec import ModelSpec

__all__ = ["Painter"]


class Painter:
    """Paints class maps in a spec's palette. One per run; the preview page changes it while others paint.

    Args:
        spec: its palette (RGB) is used; ids that are no class are black.
        alpha: share of the class colour in an overlay, 0-1.

    Attributes:
        alpha: may be set at any time.
        hidden: names of classes that are not painted: the picture shows through.
    """

    def __init__(self, spec: ModelSpec, alpha: float = 0.5) -> None:
        self.spec = spec
        self.alpha = alpha
        self.hidden: frozenset[str] = frozenset()
        self._colours = np.zeros((256, 3), np.uint8)
        self._colours[: len(spec.palette)] = np.asarray(spec.palette, np.uint8)[:, ::-1]
        self._painted = np.ones(256, np.uint8)

    def hide(self, names: frozenset[str]) -> None:
        """Paint all classes but these. Raises UsageError for a name that is no class."""
        unknown = sorted(names - set(self.spec.classes))
        if unknown:
            raise UsageError(f"no class {', '.join(unknown)}; there are {', '.join(self.spec.classes)}")
        painted = np.ones(256, np.uint8)
        painted[[self.spec.classes.index(name) for name in names]] = 0
        self.hidden, self._painted = names, painted

    def mask(self, classes: np.ndarray) -> np.ndarray:
        """HxW uint8 ids -> HxWx3 uint8 BGR colours."""
        return np.asarray(self._colours[classes])

    def overlay(self, image: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """HxWx3 uint8 BGR and HxW ids -> the image with the class colours over it."""
        import cv2

        alpha, painted = self.alpha, self._painted
        mixed = np.asarray(cv2.addWeighted(image, 1 - alpha, self.mask(classes), alpha, 0))
        if not painted.all():
            cv2.copyTo(image, 1 - painted[classes], mixed)
        return mixed

    def picture(self, result: Segmentation) -> np.ndarray:
        """What a video, a window or the page shows of a result: HxWx3 uint8 BGR."""
        return self.overlay(result.frame.image, result.classes)
