"""Losses of sigmoids are those of smp and PyTorch, with void and without objects."""

from __future__ import annotations

import math
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor
from torch.nn import functional as F

from edgeseg.builder.losses import LOSSES
from edgeseg.builder.sigmoid_losses import SIGMOID_LOSSES, SigmoidCriterion, sigmoid_criterion_from_text
from edgeseg.errors import UsageError
from edgeseg.spec import IGNORE_ID

DRAWN = torch.Generator().manual_seed(5)
LOGITS = torch.randn(2, 3, 9, 7, generator=DRAWN) * 2
PLANES = torch.randint(0, 2, (2, 3, 9, 7), generator=DRAWN)
VOID = PLANES.clone()
VOID[0, :, :4] = IGNORE_ID


def loss_of(text: str, logits: Tensor, labels: Tensor, weights: Any = None, progress: float = 0.0) -> Tensor:
    criterion = sigmoid_criterion_from_text(text, logits.shape[1])
    if weights is not None:
        criterion.weights.copy_(torch.tensor(weights))
    criterion.progress = progress
    found: Tensor = criterion(logits, labels)
    return found


def smp_loss(text: str, mode: str, ignore: int | None = IGNORE_ID) -> Any:
    kinds = {
        "ce": lambda: smp.losses.SoftBCEWithLogitsLoss(ignore_index=ignore),
        "ce(smoothing=0.1)": lambda: smp.losses.SoftBCEWithLogitsLoss(ignore_index=ignore, smooth_factor=0.1),
        "dice": lambda: smp.losses.DiceLoss(mode, ignore_index=ignore),
        "dice(smooth=1e-5,log)": lambda: smp.losses.DiceLoss(mode, ignore_index=ignore, smooth=1e-5, log_loss=True),
        "focal(gamma=3)": lambda: smp.losses.FocalLoss(mode, ignore_index=ignore, gamma=3.0),
        "jaccard(smooth=1)": lambda: smp.losses.JaccardLoss(mode, smooth=1.0),
        "lovasz": lambda: smp.losses.LovaszLoss(mode, ignore_index=ignore),
        "lovasz(per_image)": lambda: smp.losses.LovaszLoss(mode, ignore_index=ignore, per_image=True),
        "tversky(alpha=0.2,beta=0.9,gamma=0.5)": lambda: smp.losses.TverskyLoss(
            mode, ignore_index=ignore, alpha=0.2, beta=0.9, gamma=0.5
        ),
    }
    return kinds[text]()


TEXTS = (
    *("ce", "ce(smoothing=0.1)", "dice", "dice(smooth=1e-5,log)", "focal(gamma=3)", "jaccard(smooth=1)", "lovasz"),
    *("lovasz(per_image)", "tversky(alpha=0.2,beta=0.9,gamma=0.5)"),
)


@pytest.mark.parametrize("text", TEXTS)
def test_binary_is_smps_binary_loss(text: str) -> None:
    ids = PLANES[:, 0]
    theirs = smp_loss(text, "binary", None)(LOGITS[:, :1], ids[:, None].float() if text != "lovasz" else ids[:, None])
    assert float(loss_of(text, LOGITS[:, :1], ids)) == pytest.approx(float(theirs), rel=1e-5)


@pytest.mark.parametrize("text", TEXTS)
def test_several_labels_are_smps_multilabel_loss(text: str) -> None:
    theirs = smp_loss(text, "multilabel", None)(LOGITS, PLANES.float() if "lovasz" not in text else PLANES)
    assert float(loss_of(text, LOGITS, PLANES)) == pytest.approx(float(theirs), rel=1e-5)


@pytest.mark.parametrize("text", [one for one in TEXTS if not one.startswith(("ce", "focal", "jaccard"))])
def test_void_is_left_out_as_smp_does(text: str) -> None:
    theirs = smp_loss(text, "multilabel")(LOGITS, VOID)
    assert float(loss_of(text, LOGITS, VOID)) == pytest.approx(float(theirs), rel=1e-5)


@pytest.mark.parametrize("name", SIGMOID_LOSSES)
def test_what_is_void_changes_nothing(name: str) -> None:
    other = torch.where(VOID == IGNORE_ID, LOGITS + 7, LOGITS)
    assert float(loss_of(name, LOGITS, VOID)) == pytest.approx(float(loss_of(name, other, VOID)), rel=1e-6)
    logits = LOGITS.clone().requires_grad_()
    loss_of(name, logits, VOID).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None and not logits.grad[VOID == IGNORE_ID].any() and torch.isfinite(logits.grad).all()


def test_cross_entropy_weighs_the_pixels_of_a_label_as_pytorch_does() -> None:
    weights = [3.0, 0.5, 1.0]
    counted = VOID != IGNORE_ID
    each = F.binary_cross_entropy_with_logits(
        LOGITS, (VOID == 1).float(), pos_weight=torch.tensor(weights).view(3, 1, 1), reduction="none"
    )[counted]
    assert float(loss_of("ce", LOGITS, VOID, weights)) == pytest.approx(float(each.mean()), rel=1e-6)
    hardest = each.sort(descending=True).values[: round(0.3 * len(each))]
    assert float(loss_of("ce(keep=0.3,after=0.5)", LOGITS, VOID, weights, 0.6)) == pytest.approx(
        float(hardest.mean()), rel=1e-6
    )
    assert float(loss_of("ce(keep=0.3,after=0.5)", LOGITS, VOID, weights, 0.4)) == pytest.approx(
        float(each.mean()), rel=1e-6
    )


@pytest.mark.parametrize("name", SIGMOID_LOSSES)
@pytest.mark.parametrize("value", [0, 1])
def test_images_without_objects_and_of_nothing_else_can_be_learned(name: str, value: int) -> None:
    logits = LOGITS.clone().requires_grad_()
    loss = loss_of(f"ce+{name}", logits, torch.full_like(PLANES, value))
    loss.backward()  # type: ignore[no-untyped-call]
    assert math.isfinite(float(loss)) and logits.grad is not None and torch.isfinite(logits.grad).all()
    assert bool(((logits.grad > 0) == (value == 0)).all()), "every logit is pushed to the label"


def test_the_names_are_those_of_softmax_and_wrong_ones_are_told() -> None:
    assert list(SIGMOID_LOSSES) == list(LOSSES)
    with pytest.raises(UsageError, match="no 'bce'; did you mean ce"):
        sigmoid_criterion_from_text("bce", 1)
    with pytest.raises(UsageError, match="no setting 'foreground'"):
        sigmoid_criterion_from_text("dice(foreground)", 1)
    with pytest.raises(UsageError, match="from 0 to 0.499"):
        sigmoid_criterion_from_text("ce(smoothing=0.5)", 1)
    assert isinstance(sigmoid_criterion_from_text("ce+0.5*dice", 1), SigmoidCriterion)
