"""COCO panoptic: a JSON file, and a PNG of segment ids for every image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping

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
    text,
)
from edgeseg.data.encodings import colours_mask
from edgeseg.data.layouts.base import COMMON, UNLABELLED, Asked, Found, Layout, refuse_all, written_path
from edgeseg.errors import DatasetError
from edgeseg.images import read_mask_colours

__all__ = ["LAYOUT"]


@dataclass(frozen=True)
class _SegmentMask:
    """A PNG whose colour is a segment's id, and the category of each segment."""

    path: Path
    segments: Mapping[int, int]

    def own_ids(self, classes: int, size_hw: tuple[int, int]) -> np.ndarray:
        """Return HxW category ids. Raises ImageError: a segment is not listed, or the file cannot be read."""
        colours = {(own & 255, own >> 8 & 255, own >> 16): kind for own, kind in self.segments.items()}
        return colours_mask(read_mask_colours(self.path), {(0, 0, 0): UNLABELLED, **colours}, self.path)


def _found(where: Path, asked: Asked) -> Found:
    path = annotation_file(where, asked, is_wanted=True)
    content = read_coco(path)
    images = image_paths(content, path, asked)
    folder = asked.folder("labels", path.parent) or path.with_suffix("")
    pairs = [(number(one, "image_id", path), _label(one, folder, path)) for one in content["annotations"]]
    masks = one_each(pairs, f"images of {path.name} have two annotations", "keep one of them")
    one_each(((mask.path, key) for key, mask in masks.items()), "masks are of two images", "give each image its own")
    lost = [str(mask.path) for mask in masks.values() if not mask.path.is_file()]
    refuse_all(lost, f"masks of {path.name} are missing", "say where they are with `labels`")
    absent = [file.name for key, file in images.items() if key not in masks]
    return Found(
        list(images.values()),
        [masks.get(key) for key in images],
        f"{len(images)} images of {path.name} (COCO panoptic)",
        categories(content, path),
        missing=lambda: refuse_all(absent, f"images of {path.name} have no annotation", "remove them from the file"),
    )


def _label(annotation: Mapping[str, Any], folder: Path, path: Path) -> _SegmentMask:
    listed = annotation.get("segments_info")
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise DatasetError(f"{path}: an annotation has no list segments_info of tables")
    file = written_path(folder, text(annotation, "file_name", path))
    segments = one_each(
        ((number(one, "id", path), category(one, "category_id", path)) for one in listed),
        f"segment ids of {file.name} have two categories", "give each segment its own",
    )  # fmt: skip
    strange = [str(own) for own in segments if not 0 < own < 1 << 24]
    refuse_all(strange, f"segment ids of {file.name} are no colour", "a segment id is 1 to 16777215; 0 is no segment")
    return _SegmentMask(file, segments)


LAYOUT = Layout(
    _found,
    "coco-panoptic://FILE.json",
    "COCO panoptic: the file, or the folder that holds it; the PNGs are in the folder of its name, or in `labels`.",
    True,
    {"images": "FOLDER", "labels": "FOLDER", "file": "FILE.json", **COMMON},
    fits=lambda path: coco_files(path, is_wanted=True),
)
