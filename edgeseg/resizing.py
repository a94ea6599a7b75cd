"""Rules by which a frame becomes the network's size, and a class map the frame's. A second rule is one more row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping, Protocol

from edgeseg.errors import ImageError

if TYPE_CHECKING:
    import numpy as np

__all__ = ["RULES", "ResizeRule", "Stretch", "class_map_at", "require_frame"]


class ResizeRule(Protocol):
    """How frames and class maps go to the network's size and back."""

    def frame(self, frame: np.ndarray, size_hw: tuple[int, int], out: np.ndarray | None = None) -> np.ndarray:
        """Bring a frame to the network's size.

        Args:
            frame: HxWx3 uint8, BGR.
            size_hw: height and width of the network's input in pixels.
            out: optional array of the target shape that receives the result (no allocation per frame).

        Returns:
            ``size_hw``x3 uint8, BGR.
        """

    def labels(self, labels: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
        """Bring a frame's labels to the network's size: HxW uint8 -> ``size_hw`` uint8."""

    def class_map(self, classes: np.ndarray, frame_hw: tuple[int, int]) -> np.ndarray:
        """Bring the network's class map to the frame's size: hxw uint8 -> ``frame_hw`` uint8."""


class Stretch:
    """Both axes are scaled to the network's size. Bilinear; area-averaged when a frame shrinks by two or more."""

    def frame(self, frame: np.ndarray, size_hw: tuple[int, int], out: np.ndarray | None = None) -> np.ndarray:
        """Stretch a frame, as in ``ResizeRule``."""
        import cv2
        import numpy as np

        height, width = size_hw
        if frame.shape[:2] == (height, width):
            if out is None:
                return frame
            np.copyto(out, frame)
            return out
        shrinks = frame.shape[0] >= 2 * height and frame.shape[1] >= 2 * width
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        result: np.ndarray = cv2.resize(frame, (width, height), dst=out, interpolation=method)
        return result

    def labels(self, labels: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
        """Stretch labels, as in ``ResizeRule``."""
        return class_map_at(labels, size_hw)

    def class_map(self, classes: np.ndarray, frame_hw: tuple[int, int]) -> np.ndarray:
        """Stretch a class map, as in ``ResizeRule``."""
        return class_map_at(classes, frame_hw)


RULES: Mapping[str, ResizeRule] = {"stretch": Stretch()}
"""Values of ``Preprocess.resize``."""


def require_frame(frame: np.ndarray) -> None:
    """Raise ImageError unless it is a camera frame: HxWx3 uint8, not empty."""
    if not (hasattr(frame, "dtype") and hasattr(frame, "ndim")):
        raise ImageError(f"a frame is an array HxWx3 uint8 (BGR), got a {type(frame).__name__}")
    if not frame.size or frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != "uint8":
        raise ImageError(f"a frame is HxWx3 uint8 (BGR), got {frame.shape} {frame.dtype}")


def class_map_at(classes: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Scale class ids to another size (nearest neighbour by pixel centres): HxW uint8 -> ``size_hw`` uint8."""
    import cv2

    height, width = size_hw
    if classes.shape == (height, width):
        return classes
    result: np.ndarray = cv2.resize(classes, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return result
