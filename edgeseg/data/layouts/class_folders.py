"""A folder of masks per class, so that a pixel may carry several: ``images/NAME`` and ``masks/CLASS/NAME``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Mapping

import numpy as np

from edgeseg.data.encodings import EncodedMask
from edgeseg.data.layouts.base import COMMON, Asked, Found, Layers, Layout, flat_ids, refuse_all
from edgeseg.errors import DatasetError, ImageError
from edgeseg.mask_files import mask_files, pictures_below
from edgeseg.picture_files import IMAGE_SUFFIXES, is_hidden, natural_key

__all__ = ["LAYOUT"]

_ENCODINGS = ("binary", "threshold")


@dataclass(frozen=True)
class _FolderLabel:
    """The masks of one image, by the own id of their class."""

    path: Path
    masks: Mapping[int, EncodedMask]

    def own_ids(self, classes: int, size_hw: tuple[int, int]) -> np.ndarray:
        """Draw the masks, small ones over large ones. Raises ImageError: one cannot be read, or the sizes differ."""
        return flat_ids(self.layers(size_hw))

    def layers(self, size_hw: tuple[int, int]) -> Layers:
        """Read the masks. Raises ImageError: one cannot be read, or the sizes differ."""
        read = [(own, mask.own_ids(2, size_hw) == 1) for own, mask in self.masks.items()]
        first = read[0][1]
        for own, mask in read:
            if mask.shape != first.shape:
                raise ImageError(
                    f"{self.masks[own].path} is {mask.shape[1]}x{mask.shape[0]} and {self.path} is "
                    f"{first.shape[1]}x{first.shape[0]}; masks must have the size of their images"
                )
        height, width = first.shape
        return Layers((height, width), read)


def _found(where: Path, asked: Asked) -> Found:
    above = asked.folder("labels", where) or where / "masks"
    folders = _class_folders(above)
    if not folders:
        raise DatasetError(f"{above} holds no folder of masks for each class; they are masks/CLASS/NAME.png")
    encoding = asked.values.get("masks", _ENCODINGS[0])
    names = dict(enumerate((folder.name for folder in folders), 1))
    of_image: dict[Path, dict[int, EncodedMask]] = {}
    strange = []
    for own, folder in enumerate(folders, 1):
        found = mask_files(where / "images", folder, asked.values.get("names"), may_be_lossy=encoding == "threshold")
        for image, path in zip(found.images, found.masks):
            held = of_image.setdefault(image, {})
            if path is not None:
                held[own] = EncodedMask(path, encoding, {})
        if not any(found.masks):
            strange.append(f"{folder.name} ({pictures_below(folder)[0].name})")
    refuse_all(strange, f"folders of {above} hold masks, but none of an image", "a mask has the name of its image")
    images = sorted(of_image, key=natural_key)
    masks = [of_image[image] for image in images]
    labels = [_FolderLabel(next(iter(held.values())).path, held) if held else None for held in masks]
    unmasked = [image.name for image, label in zip(images, labels) if label is None]
    empty = sum(len(folders) - len(held) for held in masks)
    left_out = f", {empty} masks that are not there count as empty" if empty else ""
    return Found(
        images,
        labels,
        f"{len(images)} images in {Path(*where.resolve().parts[-2:])} ({len(folders)} folders of masks{left_out})",
        names,
        covers_all=False,
        missing=lambda: refuse_all(
            unmasked, f"images have no mask in any folder of {above}", "write one that is all 0"
        ),
    )


def _class_folders(above: Path) -> list[Path]:
    """Return the folders below a folder that hold pictures, in natural order."""
    if not above.is_dir():
        return []
    held = [path for path in above.iterdir() if path.is_dir() and not is_hidden(path) and pictures_below(path)]
    return sorted(held, key=lambda path: natural_key(path))


def _fits(where: Path) -> bool:
    """Tell whether ``masks`` has folders that ``images`` has not; one folder alone could be a set."""
    images, masks = where / "images", where / "masks"
    if not (images.is_dir() and masks.is_dir()) or any(path.is_dir() for path in images.iterdir()):
        return False
    return len(_class_folders(masks)) > 1 and not any(path.suffix.lower() in IMAGE_SUFFIXES for path in masks.iterdir())


LAYOUT = Layout(
    _found,
    "class-folders://FOLDER",
    "A folder of masks per class: `images/NAME.jpg` and `masks/CLASS/NAME.png` of 0 and one other value. Small ones "
    "lie over large ones, unless a pixel may carry several. A mask that is not there is empty.",
    True,
    {"masks": "|".join(_ENCODINGS), "labels": "FOLDER", "names": "IMAGE:MASK", **COMMON},
    fits=_fits,
)
