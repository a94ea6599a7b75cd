"""Look for a learning rate: watch the loss while the rate rises (Smith 2015)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Iterable

from torch import Tensor

from edgeseg.builder.choice import choice
from edgeseg.builder.optimization import OPTIMIZERS
from edgeseg.builder.task import SegmentationTask, parameter_groups
from edgeseg.errors import TrainingError

__all__ = ["RateSearch", "rate_search"]

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
        rates.append(_LOW * (_HIGH / _LOW) ** (step / max(1, steps - 1)))
        for group, share in zip(optimizer.param_groups, shares):
            group["lr"] = share * rates[-1]
        loss = task.loss_of(batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        mean = _KEPT * mean + (1 - _KEPT) * loss.item()
        losses.append(mean / (1 - _KEPT ** (step + 1)))
        if not math.isfinite(losses[-1]) or losses[-1] > _DIVERGED * min(losses):
            break
    finite = [value if math.isfinite(value) else math.inf for value in losses]
    lowest = finite.index(min(finite))
    if lowest == 0:
        raise TrainingError(
            f"the loss rose from the first step on ({finite[0]:.3f}), so no learning rate was found; look at the masks"
        )
    return RateSearch(tuple(rates), tuple(losses), rates[lowest] / _BELOW_BEST)
