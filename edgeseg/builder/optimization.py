"""Optimizers and learning-rate schedules by name."""

from __future__ import annotations

import math
from typing import Any, Callable

import torch

from edgeseg.builder.choice import choice

__all__ = ["OPTIMIZERS", "SCHEDULES", "rate_factor"]


def adamw(groups: list[dict[str, Any]], weight_decay: float) -> torch.optim.Optimizer:
    """Return AdamW: the usual choice; its rate is about 0.002 for a decoder from scratch."""
    return torch.optim.AdamW(groups, weight_decay=weight_decay)


def sgd(groups: list[dict[str, Any]], weight_decay: float) -> torch.optim.Optimizer:
    """Return SGD with Nesterov momentum 0.9; its rate is about ten times that of AdamW."""
    return torch.optim.SGD(groups, lr=0.0, momentum=0.9, nesterov=True, weight_decay=weight_decay)


OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]], float], torch.optim.Optimizer]] = {"adamw": adamw, "sgd": sgd}
"""Name -> what builds it from groups of parameters with their rates, and the weight decay."""


def one_cycle(share: float) -> float:
    """Return the factor of one cycle: from 1/25 up to 1 in the first 30 %, then down to 1/10,000, along cosines."""
    if share < 0.3:
        return _cosine(1 / 25, 1.0, share / 0.3)
    return _cosine(1.0, 1e-4, (share - 0.3) / 0.7)


def step(share: float) -> float:
    """Return the factor of steps: 1, a tenth from 60 % on, a hundredth from 85 % on."""
    return 1.0 if share < 0.6 else 0.1 if share < 0.85 else 0.01


SCHEDULES: dict[str, Callable[[float], float]] = {
    "poly": lambda share: (1 - share) ** 0.9,
    "cosine": lambda share: _cosine(1.0, 0.0, share),
    "one-cycle": one_cycle,
    "step": step,
    "constant": lambda share: 1.0,
}
"""Name -> factor of the learning rate after a share, 0-1, of the steps."""


def rate_factor(schedule: str, step: int, steps: int, warm_up: int = 0) -> float:
    """Return the factor of the learning rate in a step.

    It is a function of the step and not of the rate before, so that a run can be resumed for more epochs.

    Args:
        schedule: a name of ``SCHEDULES``.
        step: number of the step, from 0.
        steps: steps in all.
        warm_up: steps in which the rate rises linearly, before the schedule begins.

    Raises:
        UsageError: there is no such schedule.
    """
    factor = choice("schedule", schedule, SCHEDULES)
    if step < warm_up:
        return (step + 1) / (warm_up + 1) * factor(0.0)
    return factor(min(1.0, (step - warm_up) / max(1, steps - warm_up)))


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
