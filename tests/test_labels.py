"""Labels that would make a number mean nothing are refused wherever a number is made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeseg.errors import DatasetError, ImageError
from edgeseg.images import FolderDataset, InMemory, Sample, write_png
from edgeseg.labels import label_counts, refuse_single_class, refuse_unusable_labels
from edgeseg.metrics import ConfusionMatrix
from edgeseg.spec import IGNORE_ID, ModelSpec

BINARY = ModelSpec(("ground", "disc"), ((0, 0, 0), (255, 0, 0)), (64, 96))
FRAME = np.zeros((8, 12, 3), np.uint8)


def data_of(masks: list[np.ndarray]) -> InMemory:
    return InMemory([Sample(str(i), FRAME, mask) for i, mask in enumerate(masks)], "masks")


values = st.lists(st.sampled_from([0, 1, 2, 9, IGNORE_ID]), min_size=1, max_size=4)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(values, min_size=1, max_size=5))
def test_counts_against_python_and_refusal_of_what_cannot_be_told_apart(sets: list[list[int]]) -> None:
    spec = ModelSpec(("a", "b", "c"), ((0, 0, 0),) * 3, (64, 96), ignore_id=9)
    masks = [np.resize(np.array(held, np.uint8), (8, 12)) for held in sets]
    counts = label_counts(data_of(masks), spec)
    together = np.concatenate([mask.ravel() for mask in masks]).tolist()
    assert counts.masks == len(masks) and counts.classes.tolist() == [together.count(c) for c in range(3)]
    assert counts.ignored == together.count(9) + together.count(IGNORE_ID)
    assert counts.one_class_masks == sum(IGNORE_ID in held and len(set(held) & {0, 1, 2}) == 1 for held in sets)
    if len(set(together) & {0, 1, 2}) < 2:
        with pytest.raises(DatasetError, match="hold only [01] of the 3 classes"):
            refuse_single_class(counts.classes, counts.ignored, spec, "the masks")
    else:
        refuse_single_class(counts.classes, counts.ignored, spec, "the masks")


@given(values, values)
def test_the_confusion_matrix_counts_what_it_ignores(label: list[int], found: list[int]) -> None:
    confusion = ConfusionMatrix(10, ignore_id=9)
    truth, prediction = np.resize(np.array(label, np.uint8), 12), np.resize(np.array(found, np.uint8) % 3, 12)
    confusion.update(prediction, truth)
    confusion.update(prediction, truth)
    assert confusion.ignored == 2 * int(((truth == 9) | (truth == IGNORE_ID)).sum())
    assert confusion.ignored + confusion.counts.sum() == 24


def folder(tmp_path: Path, mask: np.ndarray, count: int = 3) -> FolderDataset:
    for name in ("val", "valannot"):
        (tmp_path / name).mkdir()
    for index in range(count):
        write_png(tmp_path / "val" / f"{index}.png", FRAME)
        write_png(tmp_path / "valannot" / f"{index}.png", mask)
    return FolderDataset(tmp_path / "val", spec=BINARY, need_labels=True)


def test_masks_of_0_and_255_say_what_to_do(tmp_path: Path) -> None:
    mask = np.zeros(FRAME.shape[:2], np.uint8)
    mask[2:5] = 255
    with pytest.raises(
        DatasetError, match="only 1 of the 2 classes .*ground.; 255 is ignored, so masks of 0 and 255 must"
    ):
        refuse_unusable_labels(folder(tmp_path, mask), BINARY)


def test_empty_masks_say_what_they_are(tmp_path: Path) -> None:
    data = folder(tmp_path, np.zeros(FRAME.shape[:2], np.uint8))
    with pytest.raises(DatasetError, match="the masks are empty or belong to other images"):
        refuse_unusable_labels(data, BINARY)
    refuse_unusable_labels(FolderDataset(tmp_path / "val"), BINARY)  # without masks there is nothing to refuse


def test_every_mask_is_looked_at(tmp_path: Path) -> None:
    data = folder(tmp_path, np.array([[0, 1] * 6] * 8, np.uint8), count=250)
    write_png(tmp_path / "valannot" / "201.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(ImageError, match=r"201\.png is 4x4 but its image is 12x8"):
        label_counts(data, BINARY)
