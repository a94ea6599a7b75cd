"""Measure segmentation: confusion matrix, IoU per class, mIoU, pixel accuracy. Plain numpy runs on the device too."""

from __future__ import annotations

import numpy as np

from edgeseg.errors import ImageError
from edgeseg.label_planes import label_beside
from edgeseg.spec import IGNORE_ID

__all__ = ["ConfusionMatrix", "MultilabelCounts", "tallies"]


def tallies(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return pixels per class: rightly found, labelled, found, and all that were counted; (C,) int64 each.

    Args:
        counts: of a ``ConfusionMatrix`` (CxC) or of ``MultilabelCounts`` (Cx2x2).
    """
    if counts.ndim == 3:
        return counts[:, 1, 1], counts[:, 1].sum(1), counts[:, :, 1].sum(1), counts.sum((1, 2))
    return np.diag(counts), counts.sum(1), counts.sum(0), np.full(len(counts), counts.sum())


class _Measures:
    """What is computed of counts."""

    counts: np.ndarray

    def iou(self) -> np.ndarray:
        """Return the intersection over union per class: (C,) float64 of 0-1, NaN for a class that does not occur."""
        hits, labelled, found, _ = tallies(self.counts)
        union = labelled + found - hits
        return np.asarray(np.divide(hits.astype(np.float64), union, out=np.full(len(hits), np.nan), where=union > 0))

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
        """Return the share (0-1) of right decisions among those that were counted; NaN when nothing was counted."""
        total = int(self.counts.sum())
        right = self.counts.trace(axis1=-2, axis2=-1).sum()
        return float(right / total) if total else float("nan")


class ConfusionMatrix(_Measures):
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
        """Add a class map and its label.

        Args:
            prediction: HxW class ids of any integer dtype.
            label: HxW class ids, or KxHxW planes: of several labels of a pixel, the found one counts.

        Raises:
            ImageError: the shapes differ, or an id lies outside the classes.
        """
        label = label_beside(label, prediction) if prediction.shape == label.shape[1:] else label
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


class MultilabelCounts(_Measures):
    """Counts of the decisions on every label, of which a pixel may carry several, streamed image by image.

    Args:
        num_labels: number of labels K.
    """

    def __init__(self, num_labels: int) -> None:
        self.counts = np.zeros((num_labels, 2, 2), np.int64)
        """Kx2x2 int64; row = does not carry or carries the label, column = was not found or was found."""

    def update(self, found: np.ndarray, label: np.ndarray) -> None:
        """Add what was found in one image.

        Args:
            found: KxHxW bool.
            label: KxHxW planes of 0, 1 and ``IGNORE_ID``, which is not counted.

        Raises:
            ImageError: the shapes differ.
        """
        if found.shape != label.shape:
            raise ImageError(f"prediction is {found.shape} and label is {label.shape}; they must match")
        for one, plane, counts in zip(found, label, self.counts):
            counted = plane != IGNORE_ID
            pairs = 2 * (plane[counted] == 1).astype(np.int64) + one[counted]
            counts += np.bincount(pairs, minlength=4).reshape(2, 2)
