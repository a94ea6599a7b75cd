"""Labels of which a pixel may carry several: a plane per label, and what a map of one class per pixel makes of them.

Planes are KxHxW uint8: 1 where a pixel carries the label of class k + 1, 0 where not, ``IGNORE_ID`` where nobody says.
"""

from __future__ import annotations

import numpy as np

from edgeseg.spec import IGNORE_ID, ModelSpec

__all__ = ["class_map_of", "flat_label", "label_beside", "pixel_counts", "planes_from_ids"]


def planes_from_ids(ids: np.ndarray, spec: ModelSpec) -> np.ndarray:
    """Return the planes of a map of one class per pixel.

    Args:
        ids: HxW uint8 class ids of the spec; 0 carries no label.
        spec: number of classes, and the value that is ignored.

    Returns:
        KxHxW uint8 of 0, 1 and ``IGNORE_ID``, K one less than the classes.
    """
    labels = np.arange(1, len(spec.classes)).reshape(-1, 1, 1)
    planes = np.asarray(ids[None] == labels, np.uint8)
    planes[:, (ids == spec.ignore_id) | (ids == IGNORE_ID)] = IGNORE_ID
    return planes


def flat_label(label: np.ndarray, *, several: int | None = None) -> np.ndarray:
    """Return a label as HxW uint8 class ids to look at: of several, the one with the fewest pixels.

    Args:
        label: HxW class ids, which come back as they are, or KxHxW planes.
        several: value of pixels that carry several labels, in place of that.
    """
    if label.ndim != 3:
        return label
    held = label == 1
    ids = np.zeros(label.shape[1:], np.uint8)
    for index in np.argsort(-held.sum((1, 2)), kind="stable"):
        ids[held[index]] = index + 1
    ids[(label == IGNORE_ID).all(0)] = IGNORE_ID
    if several is not None:
        ids[held.sum(0) > 1] = several
    return ids


def label_beside(label: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return what a map of one class per pixel is counted against, as HxW uint8 class ids.

    Of a pixel that carries several labels, it is the found one if that is among them: the map has room for one.

    Args:
        label: HxW class ids, which come back as they are, or KxHxW planes.
        found: HxW class ids.
    """
    if label.ndim != 3:
        return label
    ids = flat_label(label)
    plane = np.take_along_axis(label, np.clip(found, 1, len(label))[None].astype(np.int64) - 1, 0)[0]
    is_label = (found > 0) & (found <= len(label))
    ids[is_label & (plane == 1)] = found[is_label & (plane == 1)]
    ids[is_label & (plane == IGNORE_ID)] = IGNORE_ID
    return ids


def pixel_counts(label: np.ndarray) -> np.ndarray:
    """Count the pixels of every class id.

    Args:
        label: HxW uint8 class ids, or KxHxW planes, of which a pixel counts for every label that it carries.

    Returns:
        (256,) int64; class 0 of planes are the pixels without a label.
    """
    if label.ndim != 3:
        return np.bincount(label.ravel(), minlength=256)
    counts = np.zeros(256, np.int64)
    counts[0] = int((label == 0).all(0).sum())
    counts[1 : len(label) + 1] = (label == 1).sum((1, 2))
    counts[IGNORE_ID] = int((label == IGNORE_ID).all(0).sum())
    return counts


def class_map_of(probabilities: np.ndarray, spec: ModelSpec) -> np.ndarray:
    """Return the class of every pixel, HxW uint8: the most probable one, of sigmoids if it is above the threshold.

    Args:
        probabilities: CxHxW float, class 0 included.
        spec: mode and threshold.
    """
    if not spec.has_sigmoids:
        return np.asarray(probabilities.argmax(axis=0), np.uint8)
    labels = probabilities[1:]
    return np.where(labels.max(axis=0) > spec.threshold, labels.argmax(axis=0) + 1, 0).astype(np.uint8)
