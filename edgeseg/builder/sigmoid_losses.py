"""Losses of networks with a sigmoid per class, for binary and for multi-label masks; the names are those of softmax.

Labels are planes: 1 where a pixel carries the label, 0 where not, ``IGNORE_ID`` where nobody says. One plane is binary.
"""

from __future__ import annotations

import math
from typing import Callable

import segmentation_models_pytorch as smp
import torch
from torch import Tensor
from torch.nn import functional as F

from edgeseg.builder.losses import Criterion, Loss, Pixels, terms_from_text, within
from edgeseg.spec import IGNORE_ID

__all__ = ["SIGMOID_LOSSES", "SigmoidCriterion", "sigmoid_criterion_from_text"]

_MODE = "multilabel"


def binary_cross_entropy(outputs: int, smoothing: float = 0.0, keep: float = 1.0, after: float = 0.0) -> Loss:
    """Return binary cross-entropy: the mean over all planes' pixels that are no void.

    The weights are those of the pixels that carry a label (``pos_weight`` of PyTorch).

    Args:
        outputs: number of planes K.
        smoothing: what 0 and 1 become: ``smoothing`` and ``1 - smoothing``.
        keep: share of the pixels, those with the largest loss, that are learned from (OHEM).
        after: share of the training after which ``keep`` holds; all pixels count until then.
    """
    within("ce", "smoothing", smoothing, 0, 0.499)
    within("ce", "keep", keep, 1e-6, 1)
    within("ce", "after", after, 0, 1)

    def loss(of: Pixels) -> Tensor:
        wanted = (of.labels == 1).to(of.logits.dtype) * (1 - 2 * smoothing) + smoothing
        each = F.binary_cross_entropy_with_logits(
            of.logits, wanted, pos_weight=of.weights.view(-1, 1, 1), reduction="none"
        )[of.labels != IGNORE_ID]
        if keep < 1 and of.progress >= after:
            each = each.topk(max(1, round(keep * each.numel()))).values
        return each.mean()

    return loss


def dice(outputs: int, smooth: float = 0.0, log: bool = False) -> Loss:
    """Return Dice: 1 - 2 TP / (2 TP + FP + FN) of probabilities, per label over the batch, the mean over labels.

    A label that the batch does not hold adds nothing: with few objects add ``ce``, which punishes what is found there.

    Args:
        outputs: number of planes K.
        smooth: added above and below; 1e-5 is usual in medicine.
        log: take -log of the score instead of 1 - score.
    """
    within("dice", "smooth", smooth, 0, math.inf)
    return _of_smp(smp.losses.DiceLoss(_MODE, ignore_index=IGNORE_ID, smooth=smooth, log_loss=log))


def tversky(outputs: int, alpha: float = 0.3, beta: float = 0.7, gamma: float = 1.0, smooth: float = 0.0) -> Loss:
    """Return Tversky: Dice whose false positives and false negatives weigh differently.

    Args:
        outputs: number of planes K.
        alpha: weight of false positives; 0.5 and 0.5 are Dice.
        beta: weight of false negatives; above ``alpha`` less is missed and more is found in vain.
        gamma: exponent of the mean over labels.
        smooth: added above and below.
    """
    for name, value in (("alpha", alpha), ("beta", beta), ("gamma", gamma), ("smooth", smooth)):
        within("tversky", name, value, 0, math.inf)
    built = smp.losses.TverskyLoss(_MODE, ignore_index=IGNORE_ID, alpha=alpha, beta=beta, gamma=gamma, smooth=smooth)
    return _of_smp(built)


def jaccard(outputs: int, smooth: float = 0.0, log: bool = False) -> Loss:
    """Return Jaccard: 1 - IoU of probabilities, otherwise as Dice.

    Args:
        outputs: number of planes K.
        smooth: added above and below.
        log: take -log of the score instead of 1 - score.
    """
    within("jaccard", "smooth", smooth, 0, math.inf)
    built = smp.losses.TverskyLoss(_MODE, ignore_index=IGNORE_ID, alpha=1.0, beta=1.0, smooth=smooth, log_loss=log)
    return _of_smp(built)


def focal(outputs: int, gamma: float = 2.0) -> Loss:
    """Return focal loss: (1 - p)^gamma times binary cross-entropy, the mean over the labels that are not all void.

    Args:
        outputs: number of planes K.
        gamma: the larger, the less easy pixels count; 0 is binary cross-entropy.
    """
    within("focal", "gamma", gamma, 0, math.inf)
    # smp's own mode of several labels cannot leave void out.
    of_one = smp.losses.FocalLoss("binary", ignore_index=IGNORE_ID, gamma=gamma)

    def loss(of: Pixels) -> Tensor:
        planes = [k for k in range(outputs) if (of.labels[:, k] != IGNORE_ID).any()]
        return torch.stack([of_one(of.logits[:, k], of.labels[:, k]) for k in planes]).mean()

    return loss


def lovasz(outputs: int, per_image: bool = False) -> Loss:
    """Return Lovasz hinge: a surrogate of 1 - IoU, of all labels together. It sorts: slow on a CPU.

    Args:
        outputs: number of planes K.
        per_image: per image and not over the batch; an image of nothing but void is left out.
    """
    built = smp.losses.LovaszLoss(_MODE, ignore_index=IGNORE_ID)

    def loss(of: Pixels) -> Tensor:
        if not per_image:
            return built(of.logits, of.labels)  # type: ignore[no-any-return]
        images = [(one[None], label[None]) for one, label in zip(of.logits, of.labels) if (label != IGNORE_ID).any()]
        return torch.stack([built(one, label) for one, label in images]).mean()

    return loss


SIGMOID_LOSSES: dict[str, Callable[..., Loss]] = {
    "ce": binary_cross_entropy,
    "dice": dice,
    "focal": focal,
    "jaccard": jaccard,
    "lovasz": lovasz,
    "tversky": tversky,
}
"""Name -> what builds the loss from the number of outputs and settings."""


class SigmoidCriterion(Criterion):
    """A weighted sum of losses of sigmoids."""

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss of logits NxKxHxW of any float type, in float32.

        Args:
            logits: of the network.
            labels: NxKxHxW int64 planes, or NxHxW int64 class ids 0 and 1 where K is 1; ``IGNORE_ID`` is void, and at
                least one pixel must be none.
        """
        return super().forward(logits, labels[:, None] if labels.dim() == 3 else labels)


def sigmoid_criterion_from_text(text: str, outputs: int) -> SigmoidCriterion:
    """Build the sum of losses that a text names, as ``criterion_from_text`` does.

    Args:
        text: such as ``ce+0.5*dice(smooth=1)``, of ``SIGMOID_LOSSES``.
        outputs: number of outputs K.

    Raises:
        UsageError: a name, a setting or a value is wrong; the message says what is right.
    """
    return SigmoidCriterion(terms_from_text(text, outputs, SIGMOID_LOSSES), outputs)


def _of_smp(built: torch.nn.Module) -> Loss:
    return lambda of: built(of.logits, of.labels)
