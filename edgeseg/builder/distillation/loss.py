"""Measure how far a network is from its teachers."""

from __future__ import annotations

import torch
from torch import Tensor

from edgeseg.builder.distillation.options import Distillation
from edgeseg.spec import IGNORE_ID

__all__ = ["channel_divergence", "distilled", "pixel_divergence"]

_NOWHERE = -1e4
"""Logit of a void pixel among the pixels of a crop. Minus infinity would make its gradient no number."""


def distilled(loss: Tensor, logits: Tensor, labels: Tensor, maps: Tensor, how: Distillation) -> Tensor:
    """Add to the loss of the labels what teachers say.

    Args:
        loss: of the labels, a scalar.
        logits: of the student, NxCxHxW of any float type.
        labels: NxHxW int64; at least one is not ``IGNORE_ID``.
        maps: log-probabilities of the teachers, NxCxHxW of any float type.
        how: factors and temperatures.
    """
    counted, logits, maps = labels != IGNORE_ID, logits.float(), maps.float()
    total = how.labels * loss
    if how.kl:
        total = total + how.kl * pixel_divergence(logits, maps, counted, how.temperature)
    if how.channel:
        total = total + how.channel * channel_divergence(logits, maps, counted, how.channel_temperature)
    return total


def pixel_divergence(logits: Tensor, teacher: Tensor, counted: Tensor, temperature: float) -> Tensor:
    """Compute T^2 times KL(teacher || student) of the classes of a pixel, the mean over the pixels that count.

    Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network". T^2 keeps the size of the gradient.

    Args:
        logits: NxCxHxW float32.
        teacher: logits or log-probabilities, NxCxHxW float32.
        counted: NxHxW bool; at least one pixel.
        temperature: T, what both are divided by.
    """
    found = torch.log_softmax(logits / temperature, 1)
    wanted = torch.log_softmax(teacher / temperature, 1)
    each = (wanted.exp() * (wanted - found)).sum(1)
    return temperature**2 * each[counted].mean()


def channel_divergence(logits: Tensor, teacher: Tensor, counted: Tensor, temperature: float) -> Tensor:
    """Compute T^2 times KL(teacher || student) of where in an image a class is, the mean over classes and images.

    Shu et al. 2021, "Channel-wise Knowledge Distillation for Dense Prediction". A class is a distribution over the
    pixels of an image: the softmax over them of its values divided by T. Here the values are log-probabilities and not
    logits, because the mean over several teachers and views has no logits. Void pixels are left out.

    Args:
        logits: NxCxHxW float32.
        teacher: logits or log-probabilities, NxCxHxW float32.
        counted: NxHxW bool; at least one pixel.
        temperature: T.
    """
    void = ~counted.flatten(1)[:, None]

    def places(values: Tensor) -> Tensor:
        of_class = torch.log_softmax(values, 1).flatten(2) / temperature
        return torch.log_softmax(of_class.masked_fill(void, _NOWHERE), 2)

    found, wanted = places(logits), places(teacher)
    each = (wanted.exp() * (wanted - found)).sum(2)
    return temperature**2 * each[counted.flatten(1).any(1)].mean()
