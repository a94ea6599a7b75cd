"""Count objects: which labelled ones were found, and what was found in vain, by size. The board can do it too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Sequence

import numpy as np

from edgeseg.errors import UsageError
from edgeseg.spec import IGNORE_ID

__all__ = ["ObjectCounts", "ObjectRow", "limits_from"]


@dataclass(frozen=True)
class ObjectRow:
    """The objects of one class and size.

    Attributes:
        name: of the class.
        least: smallest area in pixels.
        below: area in pixels that is too large; None for no limit.
        labelled: objects in the labels.
        found: those of them that the prediction of their class touches.
        covered: mean share of a labelled object's pixels that are predicted as its class, 0-1; NaN for none. It is the
            per-region overlap of Bergmann et al. (MVTec AD, 2021) at one threshold.
        predicted: objects in the predictions.
        in_vain: those of them that touch no label of their class.
    """

    name: str
    least: int
    below: int | None
    labelled: int
    found: int
    covered: float
    predicted: int
    in_vain: int

    @property
    def recall(self) -> float:
        """Return the share of the labelled objects that were found, 0-1; NaN for none."""
        return self.found / self.labelled if self.labelled else float("nan")

    @property
    def size(self) -> str:
        """Return the area in words."""
        if self.below is None:
            return f"{self.least} pixels and more" if self.least else "any"
        return f"{self.least}-{self.below - 1} pixels"

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict, but for NaN."""
        return {
            "class": self.name, "least": self.least, "below": self.below, "labelled": self.labelled,
            "found": self.found, "recall": self.recall, "covered": self.covered, "predicted": self.predicted,
            "in_vain": self.in_vain,
        }  # fmt: skip


class ObjectCounts:
    """Counts of labelled and predicted objects by class and area, streamed image by image.

    An object is pixels of one class that touch each other, corners included. Pixels without a class are in no object.

    Args:
        num_classes: number of classes C.
        limits: areas in pixels at which the next size begins, rising; of ``limits_from``.
        ignore_id: label value that is no class; ``IGNORE_ID`` is none either.
    """

    def __init__(self, num_classes: int, limits: Sequence[int], ignore_id: int = IGNORE_ID) -> None:
        self.limits, self.ignore_id = tuple(limits), ignore_id
        shape = (num_classes, len(self.limits) + 1)
        self.labelled, self.found, self.predicted, self.in_vain = (np.zeros(shape, np.int64) for _ in range(4))
        self.covered = np.zeros(shape)
        """Sum of the shares of labelled objects that are covered, float64."""

    def update(self, prediction: np.ndarray, label: np.ndarray) -> None:
        """Add one pair of class maps of the same shape HxW (any integer dtype) and ids below C."""
        counted = (label != self.ignore_id) & (label != IGNORE_ID)
        for index in range(len(self.labelled)):
            drawn, found = (label == index) & counted, (prediction == index) & counted
            if drawn.any():
                sizes, shares = self._objects(drawn, found)
                np.add.at(self.labelled[index], sizes, 1)
                np.add.at(self.found[index], sizes, shares > 0)
                np.add.at(self.covered[index], sizes, shares)
            if found.any():
                sizes, shares = self._objects(found, drawn)
                np.add.at(self.predicted[index], sizes, 1)
                np.add.at(self.in_vain[index], sizes, shares == 0)

    def rows(self, names: Sequence[str]) -> list[ObjectRow]:
        """Return the counts of classes by name and size; sizes without any object are left out."""
        found = []
        bounds = list(zip((0, *self.limits), (*self.limits, None)))
        for name, *counts in zip(names, self.labelled, self.found, self.covered, self.predicted, self.in_vain):
            for (least, below), labelled, hit, covered, predicted, in_vain in zip(bounds, *counts):
                if labelled or predicted:
                    share = float(covered) / int(labelled) if labelled else float("nan")
                    row = (int(labelled), int(hit), share, int(predicted), int(in_vain))
                    found.append(ObjectRow(name, least, below, *row))
        return found

    def _objects(self, of: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return for each object of one map (HxW bool) the number of its size, and its share that another covers."""
        import cv2

        count, numbers = cv2.connectedComponents(of.astype(np.uint8), connectivity=8, ltype=cv2.CV_32S)
        areas = np.bincount(numbers.ravel(), minlength=count)[1:]
        hits = np.bincount(numbers[others & of], minlength=count)[1:]
        return np.searchsorted(self.limits, areas, side="right"), hits / areas


def limits_from(text: str) -> tuple[int, ...]:
    """Read areas in pixels at which the next size begins, such as ``16,64,256``.

    Raises:
        UsageError: they are no whole numbers of at least 1, or do not rise.
    """
    parts = [part.strip() for part in text.split(",")]
    limits = tuple(int(part) for part in parts if part.isdecimal() and len(part) < 10)
    if len(limits) < len(parts) or not all(low < high for low, high in zip((0, *limits), limits)):
        raise UsageError(f"`by_size` is areas in pixels that rise, as in 16,64,256, got {text!r}")
    return limits
