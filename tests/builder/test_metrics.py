"""Our mIoU and Dice are those of torchmetrics, of smp and of a ten-line script."""

from __future__ import annotations

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import torchmetrics

from edgeseg.metrics import ConfusionMatrix
from edgeseg.spec import IGNORE_ID


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ignore", [IGNORE_ID, 7])
def test_miou_and_dice_over_many_images_with_void_and_absent_classes(seed: int, ignore: int) -> None:
    rng = np.random.default_rng(seed)
    classes, present = 7, rng.permutation(7)[: 3 + seed]
    labels = rng.choice([*present, ignore], (5, 23, 31)).astype(np.uint8)
    found = np.where(rng.random(labels.shape) < 0.6, labels, rng.choice(present, labels.shape)).astype(np.uint8)
    found[labels == ignore] = rng.integers(0, classes, int((labels == ignore).sum()))  # what is void does not count
    ours = ConfusionMatrix(classes, ignore)
    for one, label in zip(found, labels):
        ours.update(one, label)

    # The ten-line script.
    ious = []
    for index in range(classes):
        counted = labels != ignore
        both = int((counted & (labels == index) & (found == index)).sum())
        either = int((counted & ((labels == index) | (found == index))).sum())
        if either:
            ious.append(both / either)
    assert ours.miou() == pytest.approx(np.mean(ious), abs=1e-6)

    jaccard = torchmetrics.JaccardIndex("multiclass", num_classes=classes, average="none", ignore_index=ignore)
    theirs = jaccard(torch.from_numpy(found).long(), torch.from_numpy(labels).long()).numpy()
    occurs = np.isfinite(ours.iou())
    np.testing.assert_allclose(ours.iou()[occurs], theirs[occurs], atol=1e-6)
    assert ours.miou() == pytest.approx(float(theirs[occurs].mean()), abs=1e-6)

    as_long = torch.from_numpy(np.where(labels == ignore, -1, labels.astype(int)))
    counts = smp.metrics.get_stats(
        torch.from_numpy(found).long(), as_long, mode="multiclass", ignore_index=-1, num_classes=classes
    )
    summed = [one.sum(0, keepdim=True) for one in counts]
    dice = smp.metrics.f1_score(*summed, reduction="none")[0].numpy()
    iou = smp.metrics.iou_score(*summed, reduction="none")[0].numpy()
    np.testing.assert_allclose(ours.dice()[occurs], dice[occurs], atol=1e-6)
    np.testing.assert_allclose(ours.iou()[occurs], iou[occurs], atol=1e-6)
    assert ours.mean_dice() == pytest.approx(float(dice[occurs].mean()), abs=1e-6)


def test_nothing_counted_is_no_number() -> None:
    nothing = ConfusionMatrix(3)
    nothing.update(np.zeros((2, 2), np.uint8), np.full((2, 2), IGNORE_ID, np.uint8))
    assert np.isnan(nothing.miou()) and np.isnan(nothing.mean_dice())
