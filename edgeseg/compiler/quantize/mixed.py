"""Mixed precision: the layers that INT8 hurts most go back to float until the gate passes."""

from __future__ import annotations

from typing import Callable, Sequence

from edgeseg.report_data import Accuracy, MixedPoint

__all__ = ["best_point", "pareto_front", "tried_mixes", "quality"]

_REFINEMENTS = 3


def tried_mixes(
    ranked: Sequence[str], judge: Callable[[tuple[str, ...]], MixedPoint], *, whole: bool = False
) -> list[MixedPoint]:
    """Try 0, 1, 2, 4, ... of the most sensitive layers in float until the gate passes, then fewer.

    Args:
        ranked: layers, the most sensitive first.
        judge: emits and judges the graph with these layers in float.
        whole: go on after the first that passes, for a table of the whole trade-off.

    Returns:
        Every point that was tried, by number of float layers. The last layer is never left out: it would not be INT8.
    """
    tried: dict[int, MixedPoint] = {}
    for count in _doubling(len(ranked)):
        tried[count] = judge(tuple(ranked[:count]))
        if not tried[count].refused and not whole:
            break
    passing = min((count for count, point in tried.items() if not point.refused), default=None)
    if passing is not None:
        below = max((count for count in tried if count < passing), default=passing)
        for _ in range(_REFINEMENTS):
            middle = (below + passing) // 2
            if middle in tried:
                break
            tried[middle] = judge(tuple(ranked[:middle]))
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
    """Return the points that no other beats in both accuracy and latency (in size where there is no latency)."""

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
    """Return what choices are ordered by: mIoU, or the agreement with FP32 where there are no labels."""
    return accuracy.miou if accuracy.miou == accuracy.miou else accuracy.agreement


def _doubling(layers: int) -> list[int]:
    """0, 1, 2, 4, ... below the number of layers."""
    counts, count = [0], 1
    while count < layers:
        counts.append(count)
        count *= 2
    return counts
