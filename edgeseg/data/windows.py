"""Cut large pictures into windows of one size, at the pictures' own resolution, without writing any."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from edgeseg.errors import EdgesegError, UsageError
from edgeseg.image_bytes import exif_orientation, kind_of
from edgeseg.images import Sample, read_image
from edgeseg.spec import IGNORE_ID

__all__ = ["cut", "picture_hw", "places", "window_from"]


def window_from(text: str) -> tuple[int, int]:
    """Read ``256x192`` (width x height) as (192, 256). Raises UsageError."""
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text.lower())
    height, width = (int(match[2]), int(match[1])) if match else (0, 0)
    if not (height and width):
        raise UsageError(f"`windows` is WIDTHxHEIGHT such as 256x256, got {text!r}")
    return height, width


def picture_hw(path: Path) -> tuple[int, int]:
    """Return height and width of a picture as ``read_image`` returns it; (1, 1) of one that it refuses.

    What is wrong with it is said when it is read. A PNG that is not turned says its size in its first bytes; others are
    decoded.
    """
    try:
        data = path.read_bytes()
        if kind_of(data) == "PNG" and exif_orientation(data) == 1 and len(data) > 24:
            return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")
        shape = read_image(path).shape
    except (EdgesegError, OSError):
        return 1, 1
    return shape[0], shape[1]


def places(size_hw: tuple[int, int], window_hw: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the first row and column of as few windows as cover a picture, evenly spread.

    Args:
        size_hw: of the picture.
        window_hw: of a window; a smaller picture has one.
    """
    tops, lefts = (
        [round(start) for start in np.linspace(0, max(0, side - window), math.ceil(side / window))]
        for side, window in zip(size_hw, window_hw)
    )
    return [(top, left) for top in tops for left in lefts]


def cut(sample: Sample, place: tuple[int, int], window_hw: tuple[int, int]) -> Sample:
    """Return a window of a sample, named after its place.

    What lies outside a picture that is smaller than the window is its mirror image, and no class.

    Args:
        sample: the whole picture and its label.
        place: first row and column.
        window_hw: of the window.
    """
    import cv2

    rows, columns = (slice(start, start + side) for start, side in zip(place, window_hw))
    frame, label = sample.frame[rows, columns], None if sample.label is None else sample.label[..., rows, columns]
    below, right = (side - has for side, has in zip(window_hw, frame.shape))
    if below or right:
        frame = cv2.copyMakeBorder(frame, 0, below, 0, right, cv2.BORDER_REFLECT)
        if label is not None:
            outside = [*[(0, 0)] * (label.ndim - 2), (0, below), (0, right)]
            label = np.pad(label, outside, constant_values=IGNORE_ID)
    label = None if label is None else np.ascontiguousarray(label)
    return Sample(f"{sample.name}-y{place[0]}x{place[1]}", np.ascontiguousarray(frame), label)
