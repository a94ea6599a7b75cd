"""Pascal VOC: ``JPEGImages``, ``SegmentationClass`` of palette PNGs, lists in ``ImageSets/Segmentation``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Mapping

import numpy as np

from edgeseg.class_list import Colour
from edgeseg.data.colours import colour_table
from edgeseg.data.encodings import ColourTable, colours_mask
from edgeseg.data.layouts.base import COMMON, Asked, Found, Layout, composed, images_by_name, one_of, refuse_all
from edgeseg.errors import DatasetError
from edgeseg.files import lines_from, text_from
from edgeseg.image_bytes import single_channel_png
from edgeseg.images import read_mask, read_mask_colours
from edgeseg.picture_files import IMAGE_SUFFIXES, is_hidden

__all__ = ["LAYOUT"]

_CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
_BORDER = 255
_LABEL = re.compile(
    r"\s*(?P<name>.*?\S)\s*:\s*(?P<red>\d{1,3})\s*,\s*(?P<green>\d{1,3})\s*,\s*(?P<blue>\d{1,3})\s*(?::.*)?"
)
"""A line of CVAT's label map."""


@dataclass(frozen=True)
class _VocMask:
    """A mask of palette entries, or of the colours that those show. Where both are there, the known colours count."""

    path: Path
    colours: ColourTable

    def own_ids(self, classes: int, size_hw: tuple[int, int]) -> np.ndarray:
        """Return HxW ids. Raises ImageError: a colour is none of the label map, or the file cannot be read."""
        if not self.path.is_file() or single_channel_png(self.path.read_bytes()) is not None:
            return read_mask(self.path, classes, self.colours)
        return colours_mask(read_mask_colours(self.path), self.colours, self.path)


def _found(where: Path, asked: Asked) -> Found:
    images, masks = images_by_name(where / "JPEGImages"), images_by_name(where / "SegmentationClass")
    names = _listed(where, asked, images, masks)
    refuse_all([name for name in names if name not in images], f"images of {where} are missing", "put them back")
    classes, colours = _label_map(where)
    absent = [name for name in names if name not in masks]
    return Found(
        [images[name] for name in names],
        [_VocMask(masks[name], colours) if name in masks else None for name in names],
        f"{len(names)} images in {Path(*where.resolve().parts[-2:])} (Pascal VOC)",
        {**classes, _BORDER: "border"},
        void=frozenset([_BORDER]),
        missing=lambda: refuse_all(absent, f"images of {where} have no mask", "list only those that have one"),
    )


def _listed(where: Path, asked: Asked, images: Mapping[str, Path], masks: Mapping[str, Path]) -> list[str]:
    """Return the names of one set, each once, or of all masks where no set is wanted and none is there."""
    folder = where / "ImageSets" / "Segmentation"
    wanted = asked.values.get("set")
    lists = sorted(path for path in folder.glob("*.txt") if not is_hidden(path)) if folder.is_dir() else []
    if wanted is None and not lists:
        return sorted(masks)
    if wanted is None:
        path = one_of(lists, f"{folder} lists several sets", "set")
    else:
        path = folder / f"{wanted}.txt"
    if not path.is_file():
        raise DatasetError(f"{path} does not exist; `set` is one of {', '.join(one.stem for one in lists) or 'none'}")
    lines = [composed(line.strip()) for line in lines_from(text_from(path.read_bytes())) if line.strip()]
    return list(dict.fromkeys(_image_name(line, images) for line in lines))


def _image_name(line: str, images: Mapping[str, Path]) -> str:
    """Return the name of an image that a line means: it may have a suffix, and a flag as in the lists of one class."""
    bare = re.sub(r"\s+-?[01]$", "", line)
    without = [str(Path(one).with_suffix("")) for one in (line, bare) if Path(one).suffix.lower() in IMAGE_SUFFIXES]
    return next((name for name in (line, bare, *without) if name in images), line)


def _label_map(where: Path) -> tuple[dict[int, str], ColourTable]:
    """Return names and colours: those of ``labelmap.txt`` (CVAT: ``name:r,g,b::``), else those of the data set."""
    path = where / "labelmap.txt"
    if not path.is_file():
        colours = _colour_map(256)
        return dict(enumerate(_CLASSES)), {colours[own]: own for own in (*range(len(_CLASSES)), _BORDER)}
    names: list[str] = []
    palette: list[Colour] = []
    for number, line in enumerate(lines_from(text_from(path.read_bytes())), 1):
        if not line.strip() or line.startswith("#"):
            continue
        entry = _LABEL.fullmatch(line)
        colour = tuple(map(int, entry.group("red", "green", "blue"))) if entry else (256, 0, 0)
        if entry is None or max(colour) > 255:
            raise DatasetError(f"{path}, line {number}: {line!r} is not NAME:R,G,B::")
        names.append(entry["name"])
        palette.append((colour[0], colour[1], colour[2]))
    return dict(enumerate(names)), colour_table(names, palette, path)


def _colour_map(count: int) -> list[tuple[int, int, int]]:
    """Return the colours of VOC's palette: the bits of an id, three by three, from the highest bit of each channel."""
    table = []
    for index in range(count):
        colour = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                colour[channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit)
        table.append((colour[0], colour[1], colour[2]))
    return table


LAYOUT = Layout(
    _found,
    "voc://FOLDER",
    "Pascal VOC, and what CVAT exports as such: `JPEGImages`, `SegmentationClass`, `ImageSets/Segmentation/SET.txt`, "
    "`labelmap.txt`.",
    True,
    {"set": "NAME", **COMMON},
    fits=lambda path: (path / "JPEGImages").is_dir() and (path / "SegmentationClass").is_dir(),
)
