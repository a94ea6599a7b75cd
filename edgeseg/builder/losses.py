"""Build losses from their names: ``LOSSES`` has those that there are, ``criterion_from_text`` reads sums of them.

``ce+0.5*dice`` is cross-entropy plus half of Dice. Settings stand in brackets: ``ce(keep=0.4)+dice(smooth=1e-5,log)``.
"""

from __future__ import annotations

import inspect
import math
import re
from dataclasses import dataclass
from typing import Any, Callable, Mapping

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeseg.builder.choice import choice
from edgeseg.errors import UsageError
from edgeseg.spec import IGNORE_ID

__all__ = ["LOSSES", "Criterion", "Loss", "Pixels", "criterion_from_text", "terms_from_text", "within"]


@dataclass(frozen=True)
class Pixels:
    """What a loss is computed on.

    Attributes:
        logits: NxCxHxW float32.
        labels: NxHxW int64, of sigmoids NxCxHxW planes; ``IGNORE_ID`` is void.
        weights: weight per class, (C,) float32.
        progress: share of the epochs that are done, 0-1.
    """

    logits: Tensor
    labels: Tensor
    weights: Tensor
    progress: float


Loss = Callable[[Pixels], Tensor]


def cross_entropy(classes: int, smoothing: float = 0.0, keep: float = 1.0, after: float = 0.0) -> Loss:
    """Return cross-entropy: the mean over the pixels that are no void, weighted by class.

    Args:
        classes: number of classes C.
        smoothing: share of a label that is spread over all classes (label smoothing).
        keep: share of the pixels, those with the largest loss, that are learned from (OHEM).
        after: share of the training after which ``keep`` holds; all pixels count until then.
    """
    within("ce", "smoothing", smoothing, 0, 0.999)
    within("ce", "keep", keep, 1e-6, 1)
    within("ce", "after", after, 0, 1)

    def loss(of: Pixels) -> Tensor:
        if keep == 1 or of.progress < after:
            return F.cross_entropy(of.logits, of.labels, of.weights, ignore_index=IGNORE_ID, label_smoothing=smoothing)
        each = F.cross_entropy(
            of.logits, of.labels, of.weights, ignore_index=IGNORE_ID, label_smoothing=smoothing, reduction="none"
        )
        counted = of.labels != IGNORE_ID
        hardest, at = each[counted].topk(max(1, round(keep * int(counted.sum()))))
        return hardest.sum() / of.weights[of.labels[counted][at]].sum()

    return loss


def dice(classes: int, smooth: float = 0.0, log: bool = False, foreground: bool = False) -> Loss:
    """Return Dice: 1 - 2 TP / (2 TP + FP + FN) of probabilities, per class over the batch, the mean over classes.

    A class that the batch does not hold adds nothing.

    Args:
        classes: number of classes C.
        smooth: added above and below; 1e-5 is usual in medicine.
        log: take -log of the score instead of 1 - score.
        foreground: leave class 0 out.
    """
    within("dice", "smooth", smooth, 0, math.inf)
    counted = list(range(1, classes)) if foreground else None
    return _of_smp(smp.losses.DiceLoss, smooth=smooth, log_loss=log, classes=counted)


def tversky(classes: int, alpha: float = 0.3, beta: float = 0.7, gamma: float = 1.0, smooth: float = 0.0) -> Loss:
    """Return Tversky: Dice whose false positives and false negatives weigh differently.

    Args:
        classes: number of classes C.
        alpha: weight of false positives; 0.5 and 0.5 are Dice.
        beta: weight of false negatives; above ``alpha`` less is missed and more is found in vain.
        gamma: exponent of the mean over classes.
        smooth: added above and below.
    """
    for name, value in (("alpha", alpha), ("beta", beta), ("gamma", gamma), ("smooth", smooth)):
        within("tversky", name, value, 0, math.inf)
    return _of_smp(smp.losses.TverskyLoss, alpha=alpha, beta=beta, gamma=gamma, smooth=smooth)


def jaccard(classes: int, smooth: float = 0.0, log: bool = False) -> Loss:
    """Return Jaccard: 1 - IoU of probabilities, otherwise as Dice.

    Args:
        classes: number of classes C.
        smooth: added above and below.
        log: take -log of the score instead of 1 - score.
    """
    within("jaccard", "smooth", smooth, 0, math.inf)
    # JaccardLoss of older smp has no ignore_index; Tversky with both weights 1 is the same.
    return _of_smp(smp.losses.TverskyLoss, alpha=1.0, beta=1.0, smooth=smooth, log_loss=log)


def focal(classes: int, gamma: float = 2.0) -> Loss:
    """Return focal loss: (1 - p)^gamma times the binary cross-entropy of every class, the mean over all.

    Args:
        classes: number of classes C.
        gamma: the larger, the less easy pixels count; 0 is binary cross-entropy.
    """
    within("focal", "gamma", gamma, 0, math.inf)
    return _of_smp(smp.losses.FocalLoss, gamma=gamma)


def lovasz(classes: int, per_image: bool = False) -> Loss:
    """Return Lovasz-softmax: a surrogate of 1 - IoU, the mean over the classes that occur. It sorts: slow on a CPU.

    Args:
        classes: number of classes C.
        per_image: per image and not over the batch; an image of nothing but void adds 0.
    """

    def loss(of: Pixels) -> Tensor:
        if not per_image:
            return _lovasz(of.logits, of.labels)
        # smp gives an empty tensor for an image of nothing but void.
        images = [(one[None], label[None]) for one, label in zip(of.logits, of.labels) if (label != IGNORE_ID).any()]
        return torch.stack([_lovasz(one, label) for one, label in images]).mean()

    return loss


_lovasz: Callable[[Tensor, Tensor], Tensor] = smp.losses.LovaszLoss("multiclass", ignore_index=IGNORE_ID)

LOSSES: dict[str, Callable[..., Loss]] = {
    "ce": cross_entropy,
    "dice": dice,
    "focal": focal,
    "jaccard": jaccard,
    "lovasz": lovasz,
    "tversky": tversky,
}
"""Name -> what builds the loss from the number of classes and settings."""


class Criterion(nn.Module):
    """A weighted sum of losses.

    Args:
        terms: (factor, loss) of every term.
        classes: number of classes C.

    Attributes:
        weights: weight per class, (C,) float32; of cross-entropy.
        progress: share of the epochs that are done, 0-1.
    """

    weights: Tensor

    def __init__(self, terms: list[tuple[float, Loss]], classes: int) -> None:
        super().__init__()
        self.register_buffer("weights", torch.ones(classes), persistent=False)
        self.progress = 0.0
        self._terms = terms

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss of logits NxCxHxW of any float type and labels NxHxW int64, in float32.

        At least one pixel must be no void: the mean over no pixel is not a number.
        """
        # Sums over many pixels overflow in float16.
        of = Pixels(logits.float(), labels, self.weights, self.progress)
        return torch.stack([factor * loss(of) for factor, loss in self._terms]).sum()


def criterion_from_text(text: str, classes: int) -> Criterion:
    """Build the sum of losses that a text names, such as ``ce+0.5*dice(smooth=1)``.

    Args:
        text: terms joined by ``+``, each ``NAME`` of ``LOSSES`` with an optional ``FACTOR*`` in front and settings
            in brackets behind; a setting that is yes or no is its name alone.
        classes: number of classes C.

    Raises:
        UsageError: a name, a setting or a value is wrong; the message says what is right.
    """
    return Criterion(terms_from_text(text, classes, LOSSES), classes)


def terms_from_text(text: str, classes: int, table: Mapping[str, Callable[..., Loss]]) -> list[tuple[float, Loss]]:
    """Build the terms of a sum of losses of a table; see ``criterion_from_text``. Raises UsageError."""
    return [_term(one, classes, table) for one in re.split(r"\+(?![^(]*\))", re.sub(r"\s", "", text))]


def _term(text: str, classes: int, table: Mapping[str, Callable[..., Loss]]) -> tuple[float, Loss]:
    match = re.fullmatch(r"(?:([^*()]+)\*)?([^*()]+)(?:\((.*)\))?", text)
    if not match:
        raise UsageError(f"`loss` is a sum such as ce+0.5*dice(smooth=1), got {text!r} in it")
    factor = _number("loss", "factor", match[1] or "1")
    if not factor > 0:
        raise UsageError(f"`loss` has the factor {match[1]}; a factor is above 0")
    build = choice("loss", match[2], table)
    settings = [one.partition("=") for one in (match[3] or "").split(",") if one]
    return factor, build(classes, **{name: _setting(match[2], build, name, value) for name, _, value in settings})


def _setting(loss: str, build: Callable[..., Loss], name: str, text: str) -> Any:
    known = dict(list(inspect.signature(build).parameters.items())[1:])
    default = choice(f"loss {loss}", name, known, what="setting").default
    if not isinstance(default, bool):
        return _number(loss, name, text)
    if text in ("", "true", "false"):
        return text != "false"
    raise UsageError(f"`loss` has {loss}({name}={text}); {name} is true or false")


def _number(loss: str, name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"the {name} of {loss} is a number, got {text!r}") from None


def within(loss: str, name: str, value: float, low: float, high: float) -> None:
    """Raise UsageError for a setting of a loss that is out of its limits."""
    if not (low <= value <= high and math.isfinite(value)):
        limits = f"from {low:g} to {high:g}" if math.isfinite(high) else f"of at least {low:g}"
        raise UsageError(f"the {name} of {loss} is a number {limits}, got {value:g}")


def _of_smp(kind: Callable[..., nn.Module], **settings: Any) -> Loss:
    built = kind("multiclass", ignore_index=IGNORE_ID, **settings)
    return lambda of: built(of.logits, of.labels)
