"""Turn a camera frame into network input: the one definition used by training, calibration, evaluation and runtime.

The compiled graph starts at the resized uint8 BGR frame; normalisation is inside it. ``normalized`` is the same
arithmetic in numpy, for training, and for the proof that the graph does the same.
"""

from __future__ import annotations

import numpy as np

from edgeseg.errors import ImageError
from edgeseg.spec import Preprocess

__all__ = ["class_map_at", "normalized", "resized_frame"]


def resized_frame(frame: np.ndarray, size_hw: tuple[int, int], out: np.ndarray | None = None) -> np.ndarray:
    """Stretch a frame to the network's size.

    Args:
        frame: HxWx3 uint8, BGR.
        size_hw: target height and width in pixels.
        out: optional array of the target shape that receives the result (no allocation per frame).

    Returns:
        ``size_hw``x3 uint8, BGR; bilinear when enlarging, area-averaged when shrinking by two or more.

    Raises:
        ImageError: the frame is not HxWx3 uint8.
    """
    import cv2

    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        raise ImageError(f"a frame is HxWx3 uint8 (BGR), got {frame.shape} {frame.dtype}")
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


def normalized(frames: np.ndarray, preprocess: Preprocess) -> np.ndarray:
    """Normalise frames of the network's size into the network's float input.

    Args:
        frames: NxHxWx3 uint8, BGR.
        preprocess: channel order, mean and std.

    Returns:
        Nx3xHxW float32, contiguous.
    """
    ordered = frames[..., ::-1] if preprocess.channel_order == "RGB" else frames
    scale, offset = preprocess.scale_and_offset()
    scaled = (ordered.astype(np.float32) - offset) / scale
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def class_map_at(classes: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Resize class ids to another size (nearest neighbour by pixel centres): HxW uint8 -> ``size_hw`` uint8."""
    import cv2

    height, width = size_hw
    if classes.shape == (height, width):
        return classes
    result: np.ndarray = cv2.resize(classes, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return result
