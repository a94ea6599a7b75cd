"""Count what the labels of a data set hold, before anything is trained or measured on them."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Sequence

import numpy as np

from edgeseg.errors import DatasetError, ImageError
from edgeseg.images import Dataset, StoredDataset, ignored_ids
from edgeseg.label_planes import pixel_counts
from edgeseg.spec import IGNORE_ID, ModelSpec

__all__ = ["LabelCounts", "label_counts", "refuse_single_class", "refuse_unusable_labels"]

_MOST_SHOWN = 20


@dataclass(frozen=True)
class LabelCounts:
    """Counts of the values of all masks of a data set.

    Attributes:
        masks: number of masks.
        classes: pixels per class id, int64 of length C; a pixel with several labels counts for each.
        ignored: pixels that are no class.
        one_class_masks: masks that hold one class and ``IGNORE_ID`` and nothing else, as masks of 0 and 255 do.
        pictures: a digest of each different image.
        pixels: pixels that are a class.
    """

    masks: int
    classes: np.ndarray
    ignored: int
    one_class_masks: int
    pictures: frozenset[bytes] = frozenset()
    pixels: int = 0

    def absent(self, spec: ModelSpec) -> tuple[str, ...]:
        """Return the names of the classes that no mask holds."""
        return tuple(name for name, pixels in zip(spec.classes, self.classes) if not pixels)

    def __add__(self, other: LabelCounts) -> LabelCounts:
        return LabelCounts(
            self.masks + other.masks,
            self.classes + other.classes,
            self.ignored + other.ignored,
            self.one_class_masks + other.one_class_masks,
            self.pictures | other.pictures,
            self.pixels + other.pixels,
        )


def label_counts(data: Dataset, spec: ModelSpec) -> LabelCounts:
    """Read every sample once and count its label.

    Raises:
        ImageError: images or masks cannot be read or do not fit; the message names all of them.
    """

    pictures: set[bytes] = set()

    def of_sample(index: int) -> LabelCounts | ImageError:
        try:
            _, frame, label = data[index]
        except ImageError as error:
            return error
        pictures.add(hashlib.blake2b(frame.tobytes(), digest_size=16).digest())
        histogram = pixel_counts(np.zeros((0, 0), np.uint8) if label is None else label)
        classes = histogram[: len(spec.classes)]
        ignored = int(histogram.sum() - classes.sum())
        pixels = 0 if label is None else label.shape[-2] * label.shape[-1] - ignored
        is_one = np.count_nonzero(classes) == 1 and histogram[IGNORE_ID] > 0
        return LabelCounts(1, classes, ignored, int(is_one), pixels=pixels)

    broken: list[ImageError] = []
    total = LabelCounts(0, np.zeros(len(spec.classes), np.int64), 0, 0)
    # Files are decoded in parallel; other data sets need not stand several threads.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1) if isinstance(data, StoredDataset) else 1) as threads:
        for one in threads.map(of_sample, range(len(data))):
            if isinstance(one, ImageError):
                broken.append(one)
            else:
                total += one
    _refuse_broken(broken, len(data))
    return replace(total, pictures=frozenset(pictures))


def _refuse_broken(broken: Sequence[ImageError], images: int) -> None:
    """Raise ImageError saying what is wrong with all files that cannot be used, in one line."""
    if len(broken) == 1:
        raise broken[0]
    if broken:
        shown = "; ".join(f"({number}) {error}" for number, error in enumerate(broken[:_MOST_SHOWN], 1))
        more = f"; and {len(broken) - _MOST_SHOWN} more" if len(broken) > _MOST_SHOWN else ""
        raise ImageError(
            f"{len(broken)} of {images} images or their masks cannot be used: {shown}{more} ('edgeseg data check' "
            "lists all)"
        )


def refuse_unusable_labels(data: Dataset, spec: ModelSpec) -> None:
    """Look at all masks of a folder before a long work on it; other data sets and folders without masks pass.

    Raises:
        DatasetError: the masks hold fewer than two classes.
        ImageError: images or masks cannot be read or do not fit; the message names all of them.
    """
    if isinstance(data, StoredDataset) and data.has_labels:
        held = label_counts(data, spec)
        refuse_single_class(held.classes, held.ignored, spec, f"the masks of {data.description}")


def refuse_single_class(classes: np.ndarray, ignored: int, spec: ModelSpec, where: str) -> None:
    """Refuse labels that hold fewer than two classes: on one class, a network that finds nothing scores 100 %.

    Args:
        classes: labelled pixels per class id, of length C.
        ignored: pixels of no class; where masks are of 0 and 255, they are the object.
        spec: names of the classes, and the value that is ignored.
        where: name of the labels, for the message.

    Raises:
        DatasetError: fewer than two classes have pixels.
    """
    held = [name for name, pixels in zip(spec.classes, classes) if pixels]
    if len(held) > 1:
        return
    count, several = len(spec.classes), ", ".join(held) or "none"
    remedy = (
        f"{ignored_ids(spec)} is ignored, so masks of 0 and 255 must be converted to 0 and 1 (or declared: "
        "data://FOLDER?masks=binary)"
        if ignored
        else "the masks are empty or belong to other images"
    )
    raise DatasetError(f"{where} hold only {len(held)} of the {count} classes (ids 0-{count - 1}; {several}); {remedy}")
