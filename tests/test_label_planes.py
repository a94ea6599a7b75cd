"""Planes of labels against Python that looks at one pixel after the other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as drawn

from edgeseg.errors import ImageError
from edgeseg.label_planes import class_map_of, flat_label, label_beside, pixel_counts, planes_from_ids
from edgeseg.metrics import ConfusionMatrix, MultilabelCounts
from edgeseg.spec import IGNORE_ID, ModelSpec

NAMES = ("background", "a", "b", "c")
SPEC = ModelSpec(NAMES, ((0, 0, 0),) * 4, (32, 32), ignore_id=9, mode="multilabel")
planes = drawn.arrays(np.uint8, (3, 4, 5), elements=st.sampled_from([0, 0, 1, 1]))
voids = drawn.arrays(bool, (4, 5))
ids = drawn.arrays(np.uint8, (4, 5), elements=st.sampled_from([0, 1, 2, 3, 9, IGNORE_ID]))


@given(ids)
def test_a_map_of_ids_becomes_planes_and_back(label: np.ndarray) -> None:
    made = planes_from_ids(label, SPEC)
    assert made.dtype == np.uint8 and made.shape == (3, 4, 5)
    for pixel, stack in zip(label.ravel(), made.reshape(3, -1).T.tolist()):
        assert stack == ([IGNORE_ID] * 3 if pixel > 3 else [int(pixel == 1), int(pixel == 2), int(pixel == 3)])
    np.testing.assert_array_equal(flat_label(made), np.where(label > 3, IGNORE_ID, label))
    counts = pixel_counts(made)
    assert counts[:4].tolist() == [int((label == index).sum()) for index in range(4)]
    assert counts[IGNORE_ID] == (label > 3).sum() and counts.sum() == label.size


@given(planes, voids, drawn.arrays(np.uint8, (4, 5), elements=st.integers(0, 3)))
def test_the_found_label_counts_where_the_pixel_carries_it(
    label: np.ndarray, void: np.ndarray, found: np.ndarray
) -> None:
    label[:, void] = IGNORE_ID
    beside, flat = label_beside(label, found), flat_label(label)
    for row in range(4):
        for column in range(5):
            carried = [index + 1 for index in range(3) if label[index, row, column] == 1]
            expected = found[row, column] if found[row, column] in carried else flat[row, column]
            assert beside[row, column] == expected
            sure = flat_label(label, several=7)[row, column]
            assert sure == (7 if len(carried) > 1 else flat[row, column])
            assert flat[row, column] in (carried or [IGNORE_ID if void[row, column] else 0])
    confusion = ConfusionMatrix(4)
    confusion.update(found, label)
    assert confusion.ignored == void.sum() and confusion.counts.sum() == (~void).sum()


@given(planes, voids, drawn.arrays(bool, (3, 4, 5)))
def test_decisions_are_counted_label_by_label(label: np.ndarray, void: np.ndarray, found: np.ndarray) -> None:
    label[:, void] = IGNORE_ID
    counts = MultilabelCounts(3)
    counts.update(found, label)
    for index in range(3):
        pairs = [(bool(t), bool(f)) for t, f in zip(label[index][~void], found[index][~void])]
        expected = [[pairs.count((truth, yes)) for yes in (False, True)] for truth in (False, True)]
        assert counts.counts[index].tolist() == expected


def test_planes_of_another_size_are_refused() -> None:
    with pytest.raises(ImageError, match="must match"):
        MultilabelCounts(2).update(np.zeros((2, 3, 3), bool), np.zeros((2, 3, 4), np.uint8))
    with pytest.raises(ImageError, match="must match"):
        ConfusionMatrix(3).update(np.zeros((3, 3), np.uint8), np.zeros((2, 3, 4), np.uint8))


def test_the_largest_label_above_the_threshold_is_shown() -> None:
    scores = np.array([[[0.4, 0.1, 0.5]], [[0.6, 0.2, 0.5]], [[0.59, 0.9, 0.4]]], np.float32)
    spec = ModelSpec(NAMES[:3], ((0, 0, 0),) * 3, (32, 32), mode="multilabel")
    assert class_map_of(scores, spec).tolist() == [[1, 2, 0]]
    strict = ModelSpec(NAMES[:3], ((0, 0, 0),) * 3, (32, 32), mode="multilabel", threshold=0.7)
    assert class_map_of(scores, strict).tolist() == [[0, 2, 0]]
    softmax = ModelSpec(NAMES[:3], ((0, 0, 0),) * 3, (32, 32))
    assert class_map_of(scores, softmax).tolist() == [[1, 2, 0]]
