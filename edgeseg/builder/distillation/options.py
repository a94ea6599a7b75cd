"""Say how a network learns from teachers: ``kl=0.5,temperature=2,scales=0.8:1:1.33``."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from edgeseg.builder.choice import choice
from edgeseg.errors import UsageError

__all__ = ["FEATURE_STRIDE", "Distillation", "distillation_from_text"]

FEATURE_STRIDE = 16
"""Pixels of a network's input per place of the features that are compared."""


@dataclass(frozen=True)
class Distillation:
    """How a network learns from teachers.

    Attributes:
        kl: factor of the KL divergence of the classes of every pixel.
        temperature: what logits are divided by in it; above 1, classes that the teacher finds unlikely count more.
        channel: factor of channel-wise distillation, of where in a crop a class is; 0 leaves it out.
        channel_temperature: what its values are divided by.
        labels: factor of the loss of the labels.
        scales: sizes of the views that teachers see, in sizes of the teacher.
        flip: whether they see every view mirrored, too.
        stride: pixels of the student's input per value of a stored map, in both directions.
        feature: factor of the distance of the encoders' features at stride 16, see ``features``; 0 leaves it out.
    """

    kl: float = 0.5
    temperature: float = 2.0
    channel: float = 0.0
    channel_temperature: float = 4.0
    labels: float = 1.0
    scales: tuple[float, ...] = (0.8, 1.0, 1.33)
    flip: bool = True
    stride: int = 4
    feature: float = 0.0


_BOUNDS: dict[str, tuple[float, float]] = {
    "kl": (0, math.inf),
    "temperature": (0.1, 100),
    "channel": (0, math.inf),
    "channel_temperature": (0.1, 100),
    "feature": (0, math.inf),
    "labels": (0, math.inf),
    "scales": (0.1, 8),
    "flip": (0, 1),
    "stride": (1, 32),
}
_WHOLE = ("flip", "stride")


def distillation_from_text(text: str) -> Distillation:
    """Read ``NAME=VALUE,...`` with the names of ``Distillation``; several scales are joined by ``:``.

    Raises:
        UsageError: a name or a value is wrong, or nothing is learned from the teachers.
    """
    known = {field.name: field for field in fields(Distillation)}
    values: dict[str, Any] = {}
    for part in (one.strip() for one in text.split(",") if one.strip()):
        name, _, value = part.partition("=")
        choice("distill", name.strip(), known, what="setting")
        numbers = [_number(name.strip(), one) for one in value.split(":")]
        if name.strip() != "scales" and len(numbers) > 1:
            raise UsageError(f"`distill` has {part}; only scales takes several numbers")
        values[name.strip()] = _like(known[name.strip()].default, numbers)
    how = Distillation(**values)
    if not (how.kl or how.channel or how.feature):
        raise UsageError("`distill` has kl=0 and neither channel nor feature, so nothing is learned from `teacher`")
    return how


def _like(default: Any, numbers: list[float]) -> Any:
    """Return numbers in the type of a default."""
    return tuple(numbers) if isinstance(default, tuple) else type(default)(numbers[0])


def _number(name: str, text: str) -> float:
    low, high = _BOUNDS[name]
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (low <= value <= high and math.isfinite(value)) or (name in _WHOLE and value != int(value)):
        kind = "a whole number" if name in _WHOLE else "a number"
        limits = f"from {low:g} to {high:g}" if math.isfinite(high) else f"of at least {low:g}"
        raise UsageError(f"`distill` has {name}={text.strip()}; {name} is {kind} {limits}")
    return value
