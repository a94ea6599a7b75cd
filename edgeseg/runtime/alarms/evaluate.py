"""Evaluate whether a rule holds for a frame, and for how long it has held."""

from __future__ import annotations

import math
import operator
from typing import Sequence

import numpy as np

from edgeseg.errors import UsageError
from edgeseg.runtime.alarms.expression import AllOf, Comparison, Condition, Duration, Not, Rule, Term
from edgeseg.runtime.alarms.roi import RoiSet
from edgeseg.runtime.frame import Segmentation

__all__ = ["Measured", "Watch"]

_ORDERS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}


class Measured:
    """Values of the terms of one frame. What several rules need is counted once.

    Args:
        result: the frame.
        classes: names by id.
        rois: the regions that terms name.
        before: (C,) area of the source's frame before; None at its first frame.
    """

    def __init__(
        self, result: Segmentation, classes: Sequence[str], rois: RoiSet, before: np.ndarray | None = None
    ) -> None:
        self._result, self._classes, self._rois, self._before = result, classes, rois, before
        self._shares: dict[str, np.ndarray] = {}

    def value(self, term: Term) -> float:
        """Return the value of a term, a share of 0-1; infinite where it is relative to an absent class.

        Raises:
            UsageError: the graph gives no confidence.
        """
        number = self._classes.index(term.name)
        if term.kind == "confidence":
            if self._result.confidence is None:
                raise UsageError("this graph gives no confidence; use area(...), or compile the model with scores")
            return float(self._result.confidence[number])
        if term.kind == "change":
            return 0.0 if self._before is None else abs(float(self._result.area[number] - self._before[number]))
        shares = self._shares_in(term.within)
        part = float(shares[number])
        if not term.relative_to:
            return part
        whole = float(shares[self._classes.index(term.relative_to)])
        if whole:
            return part / whole
        return math.inf if part else 0.0

    def holds(self, condition: Condition) -> bool:
        """Tell whether a condition is true.

        Raises:
            UsageError: the graph gives no confidence.
        """
        if isinstance(condition, Comparison):
            return bool(_ORDERS[condition.order](self.value(condition.term), condition.limit.value))
        if isinstance(condition, Not):
            return not self.holds(condition.part)
        together = all if isinstance(condition, AllOf) else any
        return together(self.holds(part) for part in condition.parts)

    def _shares_in(self, region: str) -> np.ndarray:
        """Return the share of each class in a region, or in the picture: (C,) float64."""
        if not region:
            return self._result.area
        if region not in self._shares:
            ids = self._result.ids
            inside = ids[self._rois.mask(region, (ids.shape[0], ids.shape[1]))]
            counts = np.bincount(inside, minlength=len(self._classes))[: len(self._classes)]
            self._shares[region] = counts / max(1, inside.size)
        return self._shares[region]


class Watch:
    """Follower of one rule over the frames of one source.

    Attributes:
        is_on: the alarm's state after the latest frame.
    """

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self.is_on = False
        self._frames = 0
        self._since_ns = 0

    def step(self, holds: bool, captured_ns: int) -> bool:
        """Take in whether the condition holds for the next frame, and tell whether the alarm went on or off by it.

        Args:
            holds: whether the condition holds.
            captured_ns: capture time of the frame, monotonic nanoseconds.
        """
        if holds == self.is_on:
            self._frames = 0
            return False
        if not self._frames:
            self._since_ns = captured_ns
        self._frames += 1
        if not _has_passed(
            self._rule.clear if self.is_on else self._rule.hold, self._frames, captured_ns - self._since_ns
        ):
            return False
        self.is_on, self._frames = holds, 0
        return True


def _has_passed(duration: Duration, frames: int, passed_ns: int) -> bool:
    return passed_ns >= duration.amount * 1e9 if duration.in_seconds else frames >= duration.amount
