"""Measure segmentation: confusion matrix, IoU per class, mIoU, pixel accuracy. Plain numpy runs on the device too."""

from __future__ import annotations

import numpy as np

from edgeseg.errors import ImageError
from edgeseg.spec import IGNORE_ID

__all__ = ["ConfusionMatrix"]


class ConfusionMatrix:
    """Counts of (label, prediction) pairs, streamed image by image.

    Args:
        num_classes: number of classes C.
        ignore_id: label value that is not counted; ``IGNORE_ID`` is not counted either.
    """

    def __init__(self, num_classes: int, ignore_id: int = IGNORE_ID) -> None:
        self.ignore_id = ignore_id
        self.counts = np.zeros((num_classes, num_classes), np.int64)
        """CxC int64; row = label, column = prediction."""
        self.ignored = 0
        """Pixels whose label is no class."""

    def update(self, prediction: np.ndarray, label: np.ndarray) -> None:
        """Add one pair of class maps of the same shape (any integer dtype).

        Raises:
            ImageError: the shapes differ, or an id lies outside the classes.
        """
        if prediction.shape != label.shape:
            raise ImageError(f"prediction is {prediction.shape} and label is {label.shape}; they must match")
        num = len(self.counts)
        counted = (label != self.ignore_id) & (label != IGNORE_ID)
        pairs = label[counted].astype(np.int64) * num + prediction[counted]
        for what, ids in (("label", label[counted]), ("prediction", prediction[counted])):
            if ids.size and int(ids.max()) >= num:
                raise ImageError(f"{what} has class id {int(ids.max())}, but there are {num} classes (0-{num - 1})")
        self.ignored += label.size - len(pairs)
        self.counts += np.bincount(pairs, minlength=num * num).reshape(num, num)

    def iou(self) -> np.ndarray:
        """Return the intersection over union per class: (C,) float64 of 0-1, NaN for a class that does not occur."""
        hits = np.diag(self.counts).astype(np.float64)
        union = self.counts.sum(0) + self.counts.sum(1) - hits
        return np.asarray(np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0))

    def miou(self) -> float:
        """Return the mean IoU (0-1) over the classes that occur; NaN when nothing was counted."""
        iou = self.iou()
        return float(np.nanmean(iou)) if np.isfinite(iou).any() else float("nan")

    def dice(self) -> np.ndarray:
        """Return the Dice score (F1) per class: (C,) float64 of 0-1, NaN for a class that does not occur."""
        iou = self.iou()
        return np.asarray(2 * iou / (1 + iou))

    def mean_dice(self) -> float:
        """Return the mean Dice score (0-1) over the classes that occur; NaN when nothing was counted."""
        dice = self.dice()
        return float(np.nanmean(dice)) if np.isfinite(dice).any() else float("nan")

    def pixel_accuracy(self) -> float:
        """Return the share (0-1) of counted pixels with the right class; NaN when nothing was counted."""
        total = int(self.counts.sum())
        return float(np.trace(self.counts) / total) if total else float("nan")
