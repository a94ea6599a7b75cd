"""Keep regions of interest: named polygons, and the pixels they cover."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path
from typing import Any, Collection, Sequence, Tuple

import numpy as np

from edgeseg.errors import EdgesegError, InputError, SinkError, UsageError, first_line
from edgeseg.files import atomic_write, file_state

__all__ = ["RoiSet"]

Points = Tuple[Tuple[float, float], ...]

_MOST_REGIONS = 64
_MOST_POINTS = 1000
_LARGEST_FILE_BYTES = 4 * 2**20
_SUBPIXEL_BITS = 8


class RoiSet:
    """Named polygons in relative coordinates: x and y 0-1, (0, 0) the upper left corner. Any thread may call.

    Args:
        classes: names that a region may not have.
        path: the file to read, where there is one, and to keep changes in; None to keep them in memory. It holds
            ``{"rois": {NAME: [[x, y], ...]}}``, in pixels of a picture if it has ``"size": [width, height]`` as
            well.

    Raises:
        InputError: the file cannot be read, or what it holds makes no sense.
    """

    def __init__(self, classes: Collection[str] = (), path: Path | None = None) -> None:
        self._classes, self._path = frozenset(classes), path
        self._polygons: dict[str, Points] = {}
        self._masks: dict[tuple[str, tuple[int, int]], tuple[Points, np.ndarray]] = {}
        self._pinned: frozenset[str] = frozenset()
        self._lock = threading.Lock()
        self._seen = None if path is None else file_state(path)
        if path is not None and path.exists():
            self._polygons = _polygons_in(path, self._classes)

    @property
    def names(self) -> list[str]:
        """Return the names of the regions, in the order in which they were made."""
        return list(self._polygons)

    def pin(self, names: Collection[str]) -> None:
        """Protect regions that rules use: they may be changed but not removed."""
        self._pinned = self._pinned | frozenset(names)

    def put(self, name: str, points: Sequence[Sequence[float]]) -> None:
        """Make a region or change one.

        Args:
            name: 1 to 64 printable characters, no class.
            points: 3 to 1000 pairs (x, y), 0-1.

        Raises:
            UsageError: name or points make no sense.
            SinkError: the file cannot be written; nothing has changed.
        """
        polygon = _checked(name, points, self._classes)
        with self._lock:
            if name not in self._polygons and len(self._polygons) >= _MOST_REGIONS:
                raise UsageError(f"there are {_MOST_REGIONS} regions already; remove one first")
            self._replace({**self._polygons, name: polygon})

    def remove(self, name: str) -> None:
        """Forget a region.

        Raises:
            UsageError: there is no such region, or a rule uses it.
            SinkError: the file cannot be written; nothing has changed.
        """
        with self._lock:
            if name not in self._polygons:
                raise UsageError(f"no region {name!r}; there are {', '.join(self._polygons) or 'none'}")
            if name in self._pinned:
                raise UsageError(f"an alarm uses the region {name!r}; change it instead")
            self._replace({other: points for other, points in self._polygons.items() if other != name})

    def mask(self, name: str, size_hw: tuple[int, int]) -> np.ndarray:
        """Return the pixels that a region covers or touches, HxW bool; the mask is made once per size.

        Raises:
            KeyError: there is no such region.
        """
        points = self._polygons[name]
        known = self._masks.get((name, size_hw))
        if known is None or known[0] is not points:
            known = self._masks[name, size_hw] = (points, _rasterised(points, size_hw))
        return known[1]

    def to_json(self) -> dict[str, Any]:
        """Return ``{"rois": {NAME: [[x, y], ...]}}`` in relative coordinates."""
        polygons = self._polygons
        return {"rois": {name: [list(point) for point in points] for name, points in polygons.items()}}

    def _replace(self, polygons: dict[str, Points]) -> None:
        before, self._polygons = self._polygons, polygons
        if self._path is None:
            return
        if file_state(self._path) not in (self._seen, None):
            self._polygons = before
            raise SinkError(f"{self._path} was changed by another program; start again to read it, then draw")
        try:
            atomic_write(self._path, json.dumps(self.to_json(), indent=1).encode() + b"\n")
            self._seen = file_state(self._path)
        except OSError as error:
            self._polygons = before
            raise SinkError(
                f"{self._path} cannot be written: {error.strerror}; the regions stay as they were"
            ) from error


def _polygons_in(path: Path, classes: Collection[str]) -> dict[str, Points]:
    try:
        if path.stat().st_size > _LARGEST_FILE_BYTES:
            raise InputError(f"{path} has {path.stat().st_size} bytes; a file of regions has at most 4 MiB")
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON file: {first_line(error)}") from error
    regions = content.get("rois") if isinstance(content, dict) else None
    if not isinstance(regions, dict) or set(content) - {"rois", "size"}:
        raise InputError(f'{path} must hold {{"rois": {{NAME: [[x, y], ...]}}}}, and "size" for pixels; nothing else')
    if len(regions) > _MOST_REGIONS:
        raise InputError(f"{path} holds {len(regions)} regions; at most {_MOST_REGIONS} can be used")
    try:
        scale = _scale(content["size"]) if "size" in content else (1.0, 1.0)
        return {name: _checked(name, points, classes, scale) for name, points in regions.items()}
    except EdgesegError as error:
        raise InputError(f"{path}: {error}") from error


def _scale(size: Any) -> tuple[float, float]:
    if not (isinstance(size, list) and len(size) == 2 and all(_is_number(side) and side > 0 for side in size)):
        raise UsageError('"size" is [width, height] in pixels')
    return float(size[0]), float(size[1])


def _checked(name: str, points: Any, classes: Collection[str], scale: tuple[float, float] = (1.0, 1.0)) -> Points:
    if not isinstance(name, str) or not 1 <= len(name.strip()) <= len(name) <= 64 or not name.isprintable():
        raise UsageError("the name of a region has 1 to 64 printable characters")
    if name in classes:
        raise UsageError(f"the region {name!r} is named like a class; give it another name")
    if not isinstance(points, (list, tuple)) or not 3 <= len(points) <= _MOST_POINTS:
        raise UsageError(f"the region {name!r} needs a list of 3 to {_MOST_POINTS} points [x, y]")
    polygon = []
    for point in points:
        if not isinstance(point, (list, tuple)) or len(point) != 2 or not all(_is_number(value) for value in point):
            raise UsageError(f"the region {name!r} has a point that is not [x, y]: {str(point)[:40]}")
        x, y = point[0] / scale[0], point[1] / scale[1]
        if not (0 <= x <= 1 and 0 <= y <= 1):
            raise UsageError(
                f"the region {name!r} has a point outside the picture: {str(point)[:40]}; "
                'coordinates are 0 to 1, or pixels if the file gives "size"'
            )
        polygon.append((x, y))
    if _area(polygon) < 1e-9:
        raise UsageError(f"the region {name!r} has no area")
    return tuple(polygon)


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer above all floats
        return False


def _area(polygon: Sequence[tuple[float, float]]) -> float:
    following = [*polygon[1:], polygon[0]]
    return abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(polygon, following))) / 2


def _rasterised(points: Points, size_hw: tuple[int, int]) -> np.ndarray:
    import cv2

    height, width = size_hw
    corners = np.array(points) * (width, height) - 0.5
    canvas = np.zeros(size_hw, np.uint8)
    cv2.fillPoly(canvas, [np.rint(corners * 2**_SUBPIXEL_BITS).astype(np.int32)], 1, shift=_SUBPIXEL_BITS)
    return canvas.astype(bool)
