"""Look for a learning rate: watch the loss while the rate rises (Smith 2015)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import count
from typing import Iterable, Sequence

import torch
from torch import Tensor

from edgeseg.builder.batches import training_batches, usable_crops
from edgeseg.builder.choice import choice
from edgeseg.builder.failures import in_one_line
from edgeseg.builder.heads import weights_by_rarity
from edgeseg.builder.networks import PaddedNetwork
from edgeseg.builder.optimization import OPTIMIZERS
from edgeseg.builder.recipe import TrainRecipe
from edgeseg.builder.task import SegmentationTask, parameter_groups
from edgeseg.errors import TrainingError
from edgeseg.images import Dataset
from edgeseg.spec import IGNORE_ID, ModelSpec

__all__ = ["RateSearch", "find_rate", "rate_search"]

_LOW, _HIGH = 1e-6, 1.0
_KEPT = 0.9
_DIVERGED = 3.0
_BELOW_BEST = 10.0


@dataclass(frozen=True)
class RateSearch:
    """Loss over the learning rate.

    Attributes:
        rates: of the decoder, one per step, rising by a constant factor.
        losses: mean of the losses so far, the latest weighing most.
        rate: the rate to train with, a tenth of that with the lowest loss.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    rate: float


def find_rate(
    network: PaddedNetwork, spec: ModelSpec, training: Sequence[Dataset], recipe: TrainRecipe, steps: int
) -> RateSearch:
    """Search the learning rate of a network on its training images.

    Args:
        network: the network with its initial weights; they are of no use afterwards.
        spec: classes, size, preprocessing.
        training: labelled data sets, mixed.
        recipe: its batch, first crops, loss and optimizer are used.
        steps: steps at most.

    Raises:
        DatasetError: there are fewer images than one batch, or fewer than two classes in the masks.
        UsageError: a field of the recipe cannot be used.
        TrainingError: the loss did not fall.
    """
    labels, crops = usable_crops(training, spec, recipe)
    torch.manual_seed(recipe.seed)
    task = SegmentationTask(network, spec, recipe, weights_by_rarity(labels, spec))
    task.loss.weights.copy_(task.class_weights)
    epochs = (batch for epoch in count() for batch in training_batches(crops, recipe, epoch))
    with in_one_line(recipe.batch, crops.largest, recipe.workers):
        return rate_search(task, epochs, steps)


def rate_search(task: SegmentationTask, batches: Iterable[tuple[Tensor, Tensor]], steps: int) -> RateSearch:
    """Train while the learning rate rises from 1e-6 to 1, until the loss is three times its lowest.

    Args:
        task: what is trained; its weights are of no use afterwards.
        batches: at least ``steps`` of them, (Nx3xHxW float32, NxHxW int64).
        steps: steps at most.

    Raises:
        TrainingError: the loss did not fall.
    """
    recipe = task.recipe
    groups = parameter_groups(task.network, 1.0, recipe.encoder_rate)
    shares = [group["lr"] for group in groups]
    optimizer = choice("optimizer", recipe.optimizer, OPTIMIZERS)(groups, recipe.weight_decay)
    task.train()
    rates: list[float] = []
    losses: list[float] = []
    mean = 0.0
    for step, batch in zip(range(steps), batches):
        if not (batch[1] != IGNORE_ID).any():
            continue  # nothing but void
        rates.append(_LOW * (_HIGH / _LOW) ** (step / max(1, steps - 1)))
        for group, share in zip(optimizer.param_groups, shares):
            group["lr"] = share * rates[-1]
        loss = task.loss_of(batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        mean = _KEPT * mean + (1 - _KEPT) * loss.item()
        losses.append(mean / (1 - _KEPT ** (len(losses) + 1)))
        if not math.isfinite(losses[-1]) or losses[-1] > _DIVERGED * min(losses):
            break
    finite = [value if math.isfinite(value) else math.inf for value in losses]
    lowest = finite.index(min(finite)) if finite else 0
    if lowest == 0:
        raise TrainingError(
            f"the loss never fell in {len(finite)} steps, so no learning rate was found; look at the masks"
        )
    return RateSearch(tuple(rates), tuple(losses), rates[lowest] / _BELOW_BEST)
