"""Objects by size: what counts as one, as found, and as found in vain."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeseg.errors import UsageError
from edgeseg.objects import ObjectCounts, limits_from
from edgeseg.spec import IGNORE_ID


def drawn(text: str) -> np.ndarray:
    return np.array([[int(one) for one in row] for row in text.split()], np.uint8)


def test_a_worked_example() -> None:
    counts = ObjectCounts(2, limits_from("2,4"))
    label = drawn("1000 0011 0011 0000")
    counts.update(drawn("0000 0001 0000 1100"), label)
    one = {(row.least, row.below): row for row in counts.rows(["clean", "pit"]) if row.name == "pit"}
    small, middle, large = one[0, 2], one[2, 4], one[4, None]
    assert (small.labelled, small.found, small.recall) == (1, 0, 0)
    assert (large.labelled, large.found, large.covered) == (1, 1, 0.25)
    assert (small.predicted, small.in_vain) == (1, 0), "it touches the large one"
    assert (middle.labelled, middle.predicted, middle.in_vain) == (0, 1, 1)
    assert math.isnan(middle.recall) and math.isnan(middle.covered)


def test_corners_connect_and_other_classes_do_not() -> None:
    counts = ObjectCounts(3, (3,))
    counts.update(drawn("100 010 002"), drawn("100 010 002"))
    rows = {(row.name, row.least): row.labelled for row in counts.rows("abc")}
    assert rows == {("a", 3): 1, ("b", 0): 1, ("c", 0): 1}


@pytest.mark.parametrize("void", [9, IGNORE_ID])
def test_what_is_no_class_is_in_no_object(void: int) -> None:
    counts = ObjectCounts(2, (2,), ignore_id=9)
    label = np.array([[0, void, void, 1]], np.uint8)
    counts.update(np.array([[0, 1, 1, 1]], np.uint8), label)
    [row] = [row for row in counts.rows("ab") if row.name == "b"]
    assert (row.least, row.labelled, row.found, row.predicted, row.in_vain) == (0, 1, 1, 1, 0)


def test_images_add_up() -> None:
    rng = np.random.default_rng(0)
    labels, predictions = (rng.integers(0, 3, (4, 20, 20), dtype=np.uint8) for _ in range(2))
    every, each = ObjectCounts(3, (4, 16)), [ObjectCounts(3, (4, 16)) for _ in labels]
    for label, prediction, one in zip(labels, predictions, each):
        every.update(prediction, label)
        one.update(prediction, label)
    np.testing.assert_array_equal(every.labelled, sum(one.labelled for one in each))
    np.testing.assert_array_equal(every.in_vain, sum(one.in_vain for one in each))


@pytest.mark.parametrize("text", ["", "0", "4,4", "16,4", "4;16", "4,x", "-4", "4,,8", "1" * 30])
def test_wrong_limits_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="areas in pixels that rise"):
        limits_from(text)
