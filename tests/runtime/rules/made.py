"""Rules made at random, and what they mean, worked out the slow way."""

from __future__ import annotations

import math
import operator
import random

from edgeseg.runtime.alarms.expression import AllOf, AnyOf, Comparison, Condition, Duration, Limit, Not, Rule, Term
from edgeseg.runtime.alarms.roi import RoiSet
from edgeseg.runtime.frame import Segmentation

CLASSES = ("road", "car", "sky", "traffic light")
ROIS = ("gate", "left lane")


def made_rule(rng: random.Random) -> Rule:
    """A rule that text can say, up to three levels deep."""
    title = rng.choice(["", "busy", 'a "b" \\', "not", "source", "7"])
    source = rng.choice(["", "0", "door", "a b"])
    return Rule(_condition(rng, 3), _duration(rng), _duration(rng), title, source)


def straightforward(condition: Condition, result: Segmentation, rois: RoiSet) -> bool:
    """Whether a condition holds, pixel by pixel; for conditions without ``change``."""
    if isinstance(condition, Not):
        return not straightforward(condition.part, result, rois)
    if isinstance(condition, AllOf):
        return all(straightforward(part, result, rois) for part in condition.parts)
    if isinstance(condition, AnyOf):
        return any(straightforward(part, result, rois) for part in condition.parts)
    orders = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
    return bool(orders[condition.order](_value(condition.term, result, rois), condition.limit.value))


def _value(term: Term, result: Segmentation, rois: RoiSet) -> float:
    if term.kind == "confidence":
        assert result.confidence is not None
        return float(result.confidence[CLASSES.index(term.name)])
    height, width = result.ids.shape
    inside = rois.mask(term.within, (height, width)) if term.within else None
    looked_at = [int(result.ids[y, x]) for y in range(height) for x in range(width) if inside is None or inside[y, x]]
    part = looked_at.count(CLASSES.index(term.name)) / len(looked_at)
    if not term.relative_to:
        return part
    whole = looked_at.count(CLASSES.index(term.relative_to)) / len(looked_at)
    return part / whole if whole else math.inf if part else 0.0


def _condition(rng: random.Random, depth: int) -> Condition:
    kind = rng.randrange(6) if depth else 0
    if kind < 3:
        return _comparison(rng)
    if kind == 3:
        return Not(_condition(rng, depth - 1))
    parts = tuple(_condition(rng, depth - 1) for _ in range(rng.randrange(2, 4)))
    return AllOf(parts) if kind == 4 else AnyOf(parts)


def _comparison(rng: random.Random) -> Comparison:
    kind, order = rng.choice(["area", "area", "confidence", "change"]), rng.choice([">", ">=", "<", "<="])
    within = rng.choice(["", *ROIS]) if kind == "area" else ""
    relative_to = rng.choice(["", "", *CLASSES]) if kind == "area" else ""
    amount = rng.choice([0.0, 1.0, 0.5, 0.25, 0.1, 1e-7, round(rng.random(), 6), rng.random()])
    percent = rng.random() < 0.5
    limit = Limit(amount * 100 if percent else amount * (3 if relative_to else 1), percent)
    return Comparison(Term(kind, rng.choice(CLASSES), within, relative_to), order, limit)


def _duration(rng: random.Random) -> Duration:
    return rng.choice([Duration(), Duration(5), Duration(rng.random() * 100, True), Duration(0.25, True), Duration(3)])
