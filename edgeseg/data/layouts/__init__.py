"""The table of layouts: how labelled data lies on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Mapping

from edgeseg.data.layouts import cityscapes, class_folders, coco, coco_panoptic, csv_pairs, folders, voc, yolo
from edgeseg.data.layouts.base import Layout
from edgeseg.errors import UsageError

__all__ = ["LAYOUTS", "layout_of"]

LAYOUTS: Mapping[str, Layout] = {
    "voc": voc.LAYOUT,
    "cityscapes": cityscapes.LAYOUT,
    "yolo": yolo.LAYOUT,
    "coco": coco.LAYOUT,
    "coco-panoptic": coco_panoptic.LAYOUT,
    "csv": csv_pairs.LAYOUT,
    "class-folders": class_folders.LAYOUT,
    "folders": folders.LAYOUT,
}
"""Scheme -> layout. A path without a scheme has the one that fits it; ``folders`` fits every folder."""


def layout_of(path: Path) -> str:
    """Return the layout of a path by what is there.

    Raises:
        UsageError: none fits, or several do.
    """
    fitting = [name for name, layout in LAYOUTS.items() if name != "folders" and layout.fits(path)]
    if len(fitting) > 1:
        raise UsageError(f"{path} could be {' or '.join(fitting)}; say which: {fitting[0]}://{path}")
    if not fitting and not LAYOUTS["folders"].fits(path):
        kinds = ", ".join(layout.shown for layout in LAYOUTS.values())
        seen = "has no layout that is known" if path.exists() else "does not exist"
        raise UsageError(f"{path} {seen}; pass a folder of images, or one of {kinds}")
    return fitting[0] if fitting else "folders"
