"""Mixed precision: the layers that INT8 hurts most go back to float until the gate passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Sequence

from edgeseg.compiler.verify.gate import Accuracy

__all__ = ["MixedPoint", "best_point", "pareto_front", "passing_mix", "quality"]

_REFINEMENTS = 3


@dataclass(frozen=True)
class MixedPoint:
    """One choice of layers that stay in float, and what it gives.

    Attributes:
        float_layers: by their output tensor, the most sensitive first.
        accuracy: on the evaluation set with the target's arithmetic.
        worst_drop: largest loss of a class's IoU against FP32, as a fraction; NaN without labels.
        refused: why the gate refuses it; empty when it passes.
        size_bytes: of the ONNX file.
        measured_ms: median per frame on this machine's CPU; None for graphs that are not a CPU's.
        roofline_ms: bound per frame on the board that was named; None without one.
    """

    float_layers: tuple[str, ...]
    accuracy: Accuracy
    worst_drop: float
    refused: tuple[str, ...]
    size_bytes: int
    measured_ms: float | None = None
    roofline_ms: float | None = None

    @property
    def latency_ms(self) -> float | None:
        """What a budget is compared with: measured where it was, else the bound."""
        return self.measured_ms if self.measured_ms is not None else self.roofline_ms

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return {
            "float_layers": list(self.float_layers),
            "refused": list(self.refused),
            "size_bytes": self.size_bytes,
            "worst_drop": None if self.worst_drop != self.worst_drop else round(self.worst_drop, 6),
            "measured_ms": self.measured_ms,
            "roofline_ms": self.roofline_ms,
            **self.accuracy.to_json(),
        }


def passing_mix(
    ranked: Sequence[str], judged: Callable[[tuple[str, ...]], MixedPoint], *, whole: bool = False
) -> list[MixedPoint]:
    """Try 0, 1, 2, 4, ... of the most sensitive layers in float until the gate passes, then fewer.

    Args:
        ranked: layers, the most sensitive first.
        judged: emits and judges the graph with these layers in float.
        whole: go on after the first that passes, for a table of the whole trade-off.

    Returns:
        Every point that was tried, by number of float layers. The last layer is never left out: it would not be INT8.
    """
    tried: dict[int, MixedPoint] = {}
    for count in _doubling(len(ranked)):
        tried[count] = judged(tuple(ranked[:count]))
        if not tried[count].refused and not whole:
            break
    passing = min((count for count, point in tried.items() if not point.refused), default=None)
    if passing is not None:
        below = max((count for count in tried if count < passing), default=passing)
        for _ in range(_REFINEMENTS):
            middle = (below + passing) // 2
            if middle in tried:
                break
            tried[middle] = judged(tuple(ranked[:middle]))
            below, passing = (below, middle) if not tried[middle].refused else (middle, passing)
    return [tried[count] for count in sorted(tried)]


def best_point(points: Sequence[MixedPoint], budget_ms: float | None = None) -> MixedPoint | None:
    """Without a budget the passing point with the fewest float layers; with one the most accurate within it."""
    passing = [point for point in points if not point.refused]
    if budget_ms is None:
        return min(passing, key=lambda point: len(point.float_layers), default=None)
    affordable = [p for p in passing if p.latency_ms is not None and p.latency_ms <= budget_ms]
    return max(affordable, key=lambda point: quality(point.accuracy), default=None)


def pareto_front(points: Sequence[MixedPoint]) -> list[MixedPoint]:
    """The points that no other beats in both accuracy and latency (in size where there is no latency)."""

    def cost(point: MixedPoint) -> float:
        return point.latency_ms if point.latency_ms is not None else float(point.size_bytes)

    return [
        point
        for point in points
        if not any(
            quality(other.accuracy) >= quality(point.accuracy)
            and cost(other) <= cost(point)
            and (quality(other.accuracy), -cost(other)) != (quality(point.accuracy), -cost(point))
            for other in points
        )
    ]


def quality(accuracy: Accuracy) -> float:
    """What choices are ordered by: mIoU, or the agreement with FP32 where there are no labels."""
    return accuracy.miou if accuracy.miou == accuracy.miou else accuracy.agreement


def _doubling(layers: int) -> list[int]:
    """0, 1, 2, 4, ... below the number of layers."""
    counts, count = [0], 1
    while count < layers:
        counts.append(count)
        count *= 2
    return counts
