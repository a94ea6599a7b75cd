"""How mask files hold class ids: as samples, palette entries, 0 and 255, or colours. One function and one row each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Mapping

import numpy as np

from edgeseg.class_list import Colour
from edgeseg.errors import ImageError
from edgeseg.image_bytes import compression_that_changes_samples, single_channel_png
from edgeseg.images import read_mask, read_mask_colours

__all__ = ["ENCODINGS", "ColourTable", "EncodedMask", "colours_mask"]

_THRESHOLD = 128

ColourTable = Mapping[Colour, int]
"""RGB colour -> id."""


@dataclass(frozen=True)
class EncodedMask:
    """A mask file of a declared encoding.

    Attributes:
        path: of the file.
        encoding: a name of ``ENCODINGS``.
        colours: for the encoding ``colours``; for ``ids`` those that a palette may show in another order.
    """

    path: Path
    encoding: str
    colours: ColourTable

    def own_ids(self, classes: int, size_hw: tuple[int, int]) -> np.ndarray:
        """Return the file's HxW integer ids. Raises ImageError: it cannot be read, or is of another encoding."""
        return ENCODINGS[self.encoding](self.path, classes, self.colours)


def _ids(path: Path, classes: int, colours: ColourTable) -> np.ndarray:
    """Read the stored samples."""
    return read_mask(path, classes, colours)


def _palette(path: Path, classes: int, colours: ColourTable) -> np.ndarray:
    """Read the entries of a palette PNG, whatever they show."""
    import cv2

    read_mask_colours(path, may_be_lossy=True)  # whole, and of one picture
    plain = single_channel_png(path.read_bytes())
    if plain is None or not plain[2]:
        raise ImageError(f"{path} is no PNG with a palette, as declared; pass masks=ids, or masks=colours")
    png, factor, _ = plain
    stretched = np.asarray(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED))
    return np.asarray(stretched // factor, np.uint8)


def _binary(path: Path, classes: int, colours: ColourTable) -> np.ndarray:
    """Read 0 as class 0, and the one other value as class 1."""
    mask = read_mask(path, 2, {(0, 0, 0): 0})
    values = np.unique(mask)
    if len(values[values > 0]) > 1:
        shown = ", ".join(map(str, values[:6])) + (", ..." if len(values) > 6 else "")
        raise ImageError(f"{path} holds the values {shown}; a binary mask holds 0 and one more, or pass masks=ids")
    return (mask > 0).astype(np.uint8)


def _threshold(path: Path, classes: int, colours: ColourTable) -> np.ndarray:
    """Read grey of 128 and more as class 1; JPEG files too."""
    image = read_mask_colours(path, may_be_lossy=True)
    grey = image[..., 0]
    if not ((grey == image[..., 1]) & (image[..., 1] == image[..., 2])).all():
        raise ImageError(f"{path} has colours; masks=threshold reads grey pictures, masks=colours reads colours")
    values = np.unique(grey)
    if len(values) == 2 and len(set(values >= _THRESHOLD)) == 1 and not _is_lossy(path):
        raise ImageError(
            f"{path} holds {values[0]} and {values[1]}, on one side of the {_THRESHOLD} of masks=threshold; pass "
            "masks=binary if these are 0 and the object, masks=ids if they are class ids"
        )
    return (grey >= _THRESHOLD).astype(np.uint8)


def _is_lossy(path: Path) -> bool:
    return bool(compression_that_changes_samples(path.read_bytes()))


def _colours(path: Path, classes: int, colours: ColourTable) -> np.ndarray:
    """Look every pixel's colour up."""
    return colours_mask(read_mask_colours(path), colours, path)


ENCODINGS: dict[str, Callable[[Path, int, ColourTable], np.ndarray]] = {
    "ids": _ids,
    "palette": _palette,
    "binary": _binary,
    "threshold": _threshold,
    "colours": _colours,
}
"""Encoding -> what reads a file of it: its path, number of classes, and colours."""


def colours_mask(bgr: np.ndarray, colours: ColourTable, path: Path) -> np.ndarray:
    """Return the ids of the colours of an HxWx3 uint8 BGR picture as HxW int32.

    Raises:
        ImageError: some colours are none of the table; the message names ``path`` and the most frequent of them.
    """
    codes = bgr[..., 2].astype(np.int32) << 16 | bgr[..., 1].astype(np.int32) << 8 | bgr[..., 0]
    known = np.array([red << 16 | green << 8 | blue for red, green, blue in colours], np.int64)
    order = np.argsort(known)
    at = np.minimum(np.searchsorted(known[order], codes), len(known) - 1)
    unknown = known[order][at] != codes
    if unknown.any():
        values, counts = np.unique(codes[unknown], return_counts=True)
        most = values[np.argsort(-counts, kind="stable")][:4]
        shown = ", ".join(f"{code >> 16} {code >> 8 & 255} {code & 255}" for code in most.tolist())
        raise ImageError(
            f"{path} has {len(values)} colours that are no class, in {int(unknown.sum())} pixels ({shown}); list them "
            "in the class list as NAME R G B, or in a file for `colours`"
        )
    ids = np.array(list(colours.values()), np.int32)[order]
    return np.asarray(ids[at])
