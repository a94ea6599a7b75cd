from __future__ import annotations

import math

import numpy as np
import pytest

from edgeseg.errors import ImageError
from edgeseg.metrics import ConfusionMatrix


def test_worked_example() -> None:
    confusion = ConfusionMatrix(3, ignore_id=9)
    confusion.update(np.array([[0, 0, 1, 1, 2]], np.uint8), np.array([[0, 1, 1, 9, 255]], np.uint8))
    np.testing.assert_allclose(confusion.iou(), [1 / 2, 1 / 2, np.nan])
    np.testing.assert_allclose(confusion.dice(), [2 / 3, 2 / 3, np.nan])
    assert confusion.miou() == 0.5
    assert confusion.pixel_accuracy() == pytest.approx(2 / 3)
    assert confusion.ignored == 2


def test_one_pixel_counts_and_an_absent_class_divides_by_nothing() -> None:
    confusion = ConfusionMatrix(2)
    confusion.update(np.array([[1]], np.uint8), np.array([[1]], np.uint8))
    with np.errstate(all="raise"):
        np.testing.assert_array_equal(confusion.iou(), [np.nan, 1.0])


def test_streaming_equals_one_update() -> None:
    rng = np.random.default_rng(0)
    predictions, labels = rng.integers(0, 5, (2, 6, 40, 30), dtype=np.uint8)
    whole, parts = ConfusionMatrix(5), ConfusionMatrix(5)
    whole.update(predictions, labels)
    for prediction, label in zip(predictions, labels):
        parts.update(prediction, label)
    np.testing.assert_array_equal(whole.counts, parts.counts)


def test_agrees_with_torchmetrics() -> None:
    torch = pytest.importorskip("torch")
    from torchmetrics.classification import MulticlassJaccardIndex

    rng = np.random.default_rng(1)
    prediction = rng.integers(0, 11, (3, 50, 60))
    label = np.where(rng.random((3, 50, 60)) < 0.7, prediction, rng.integers(0, 12, (3, 50, 60)))
    confusion = ConfusionMatrix(11, ignore_id=11)
    confusion.update(prediction.astype(np.uint8), label.astype(np.uint8))
    reference = MulticlassJaccardIndex(11, average="none", ignore_index=11)
    expected = reference(torch.from_numpy(prediction), torch.from_numpy(label)).numpy()
    np.testing.assert_allclose(confusion.iou(), expected, atol=1e-6)


def test_nothing_counted_is_nan() -> None:
    confusion = ConfusionMatrix(3, ignore_id=9)
    confusion.update(np.zeros((2, 2), np.uint8), np.full((2, 2), 9, np.uint8))
    assert math.isnan(confusion.miou()) and math.isnan(confusion.pixel_accuracy())


def test_wrong_shapes_and_ids_are_refused() -> None:
    confusion = ConfusionMatrix(3)
    with pytest.raises(ImageError, match="must match"):
        confusion.update(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8))
    with pytest.raises(ImageError, match=r"label has class id 3, but there are 3 classes \(0-2\)"):
        confusion.update(np.zeros((1, 1), np.uint8), np.full((1, 1), 3, np.uint8))
    with pytest.raises(ImageError, match="prediction has class id 7"):
        confusion.update(np.full((1, 1), 7, np.uint8), np.zeros((1, 1), np.uint8))
    assert not confusion.counts.any()
