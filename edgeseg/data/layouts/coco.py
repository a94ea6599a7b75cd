"""COCO's polygons and run lengths, and what Roboflow, CVAT, labelme2coco and others export as such."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np

from edgeseg.data.coco_file import (
    annotation_file,
    categories,
    category,
    coco_files,
    image_paths,
    number,
    one_each,
    read_coco,
)
from edgeseg.data.layouts.base import COMMON, Asked, Found, Layers, Layout, flat_ids, refuse_all
from edgeseg.data.shapes import polygon_mask, runs_mask, runs_of_text
from edgeseg.errors import DatasetError, ImageError, first_line

__all__ = ["LAYOUT"]

_LONGEST, _FAR = 1 << 15, 10


@dataclass(frozen=True)
class _CocoLabel:
    """The annotations of one image."""

    path: Path
    image: Path
    size_hw: tuple[int, int]
    annotations: Sequence[Mapping[str, Any]]

    def own_ids(self, classes: int, size_hw: tuple[int, int]) -> np.ndarray:
        """Draw the annotations, small ones over large ones. Raises ImageError: one is broken."""
        return flat_ids(self.layers(size_hw))

    def layers(self, size_hw: tuple[int, int]) -> Layers:
        """Draw each annotation by itself. Raises ImageError: one is broken."""
        size_hw = self.size_hw if min(self.size_hw) > 0 else size_hw
        return Layers(size_hw, [self._drawn(one, size_hw) for one in self.annotations])

    def _drawn(self, annotation: Mapping[str, Any], size_hw: tuple[int, int]) -> tuple[int, np.ndarray]:
        try:
            return category(annotation, "category_id", self.path), _mask(annotation["segmentation"], size_hw)
        except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
            raise ImageError(
                f"{self.path}, annotation {annotation.get('id', '?')} of {self.image.name}: its segmentation is "
                f"neither polygons nor run lengths of the picture ({first_line(error)})"
            ) from error


def _mask(segmentation: Any, size_hw: tuple[int, int]) -> np.ndarray:
    """Draw a segmentation as HxW bool. Raises ValueError, TypeError, KeyError: it is broken."""
    if isinstance(segmentation, dict):
        counts = segmentation["counts"]
        size = (int(segmentation["size"][0]), int(segmentation["size"][1]))
        if size != size_hw:
            raise ValueError(f"run lengths of {size[1]}x{size[0]} in a picture of {size_hw[1]}x{size_hw[0]}")
        return runs_mask(runs_of_text(counts) if isinstance(counts, str) else counts, size_hw)
    if not isinstance(segmentation, list):
        raise ValueError("neither a list nor a table")
    if not segmentation:
        raise ValueError("it is empty, as of a box alone")
    mask = np.zeros(size_hw, bool)
    for polygon in segmentation:
        points = np.asarray(polygon, np.float64)
        if points.ndim != 1 or len(points) % 2 or len(points) < 6 or not np.isfinite(points).all():
            raise ValueError(f"a polygon of {points.size} numbers")
        if np.abs(points).max() > _FAR * max(size_hw):
            raise ValueError(f"a polygon that reaches to {np.abs(points).max():g}")
        mask |= polygon_mask(polygon, size_hw)
    return mask


def _found(where: Path, asked: Asked) -> Found:
    path = annotation_file(where, asked, is_wanted=False)
    content = read_coco(path)
    images = image_paths(content, path, asked)
    of_image: dict[int, list[Mapping[str, Any]]] = {key: [] for key in images}
    for annotation in content["annotations"]:
        category(annotation, "category_id", path)
        of_image[number(annotation, "image_id", path)].append(annotation)
    hollow = [
        f"{one.get('id', '?')} of {images[key].name}"
        for key, listed in of_image.items()
        for one in listed
        if one.get("segmentation") in (None, [], [[]], {}, "")
    ]
    pairs = ((number(one, "id", path), _size(one, path)) for one in content["images"])
    sizes = one_each(pairs, f"image ids of {path.name} have two sizes", "give each image its own")
    return Found(
        list(images.values()),
        [_CocoLabel(path, file, sizes[key], of_image[key]) for key, file in images.items()],
        f"{len(images)} images of {path.name} (COCO)",
        categories(content, path),
        covers_all=False,
        missing=lambda: refuse_all(
            hollow, f"annotations of {path.name} have an empty segmentation", "draw them, or remove them with their box"
        ),
    )


def _size(image: Mapping[str, Any], path: Path) -> tuple[int, int]:
    """Return height and width of an image; 0 and 0 where the file does not say. Raises DatasetError: nonsense."""
    if image.get("height") is None or image.get("width") is None:
        return 0, 0
    size_hw = number(image, "height", path), number(image, "width", path)
    if not 0 < min(size_hw) <= max(size_hw) <= _LONGEST:
        raise DatasetError(f"{path}: an image is said to be {size_hw[1]}x{size_hw[0]}")
    return size_hw


LAYOUT = Layout(
    _found,
    "coco://FILE.json",
    "COCO polygons and run lengths: the file, or the folder that holds it. Small annotations lie over large ones.",
    True,
    {"images": "FOLDER", "file": "FILE.json", **COMMON},
    fits=lambda path: coco_files(path, is_wanted=False),
)
