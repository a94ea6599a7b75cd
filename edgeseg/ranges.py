"""Ranges: the source of truth of INT8. Every INT8 graph and every TensorRT range is made from them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Mapping

from edgeseg.errors import CompileError, first_line
from edgeseg.json_object import JsonObject, is_finite

__all__ = [
    "LEVELS",
    "SMALLEST_AMAX",
    "SMALLEST_QDQ_SCALE",
    "SMALLEST_SCALE",
    "Ranges",
    "amax_of",
    "asymmetric_scale",
    "symmetric_scale",
]

SCHEMA = 1
LEVELS = 127
"""Steps of symmetric INT8 on either side of zero."""
SMALLEST_SCALE = 2.0**-126
"""Scale of a tensor that is always zero: the smallest normal float32, because TensorRT refuses zero."""
SMALLEST_AMAX = LEVELS * SMALLEST_SCALE
SMALLEST_QDQ_SCALE = 1e-8
"""The same in a Q/DQ graph, where input scale times weight scale must stay a normal float32 too."""


@dataclass(frozen=True)
class Ranges:
    """Tensor name -> (low, high) over a calibration set.

    Attributes:
        tensors: range of every float activation of the folded FP32 graph.
        means: mean per channel of every convolution's input, from which the bias correction follows.
        calibrator: how they were taken, e.g. ``"minmax"``.
        images: how many calibration images were seen.
        graph_sha256: digest of the graph they belong to.
        data_sha256: digest of the network inputs, in order.
        data: description of the calibration set.
    """

    tensors: Mapping[str, tuple[float, float]]
    means: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    calibrator: str = ""
    images: int = 0
    graph_sha256: str = ""
    data_sha256: str = ""
    data: str = ""

    def amax(self, tensor: str) -> float:
        """Return the largest magnitude of a tensor. Raises CompileError for a tensor without a range."""
        return amax_of(*self.of(tensor))

    def scale(self, tensor: str) -> float:
        """Return the symmetric scale of a tensor, never zero. Raises CompileError for a tensor without a range."""
        return max(symmetric_scale(*self.of(tensor)), SMALLEST_SCALE)

    def of(self, tensor: str) -> tuple[float, float]:
        """Return (low, high) of a tensor. Raises CompileError when it has none."""
        if tensor not in self.tensors:
            raise CompileError(f"tensor {tensor!r} has no calibrated range; the ranges belong to another graph")
        return self.tensors[tensor]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict that ``from_json`` turns back into equal ranges."""
        tensors = {name: [low, high] for name, (low, high) in self.tensors.items()}
        means = {name: list(values) for name, values in self.means.items()}
        return {"schema": SCHEMA, **asdict(self), "tensors": tensors, "means": means}

    @classmethod
    def from_json(cls, data: Any) -> Ranges:
        """Read what ``to_json`` gave. Raises CompileError when it is newer or malformed."""
        try:
            facts = JsonObject(data, "the ranges")
            if facts.whole("schema", SCHEMA) > SCHEMA:
                raise CompileError(f"ranges have schema {facts.whole('schema')}, this edgeseg reads up to {SCHEMA}")
            return cls(
                tensors={name: _ends(name, ends) for name, ends in facts.object("tensors").facts.items()},
                means={name: _means(name, values) for name, values in facts.object("means").facts.items()},
                calibrator=facts.text("calibrator"),
                images=facts.whole("images"),
                graph_sha256=facts.text("graph_sha256"),
                data_sha256=facts.text("data_sha256"),
                data=facts.text("data"),
            )
        except (TypeError, ValueError) as error:
            raise CompileError(f"ranges are malformed: {first_line(error)}") from error


def amax_of(low: float, high: float) -> float:
    """Return the largest magnitude of a range."""
    return max(abs(low), abs(high))


def symmetric_scale(low: float, high: float) -> float:
    """Return the step of symmetric INT8 over a range; 0 for a tensor that is always zero."""
    return amax_of(low, high) / LEVELS


def asymmetric_scale(low: float, high: float) -> float:
    """Return the step of uint8 over a range that holds zero."""
    return (high - low) / 255


def _ends(name: str, ends: Any) -> tuple[float, float]:
    low, high = ends
    if not (is_finite(low) and is_finite(high)):
        raise ValueError(f"the range of {name} is {str(ends)[:80]}, which are no two finite numbers")
    if not (low <= high and math.isfinite(high - low)):
        raise ValueError(f"the range of {name} is {str(ends)[:80]}: it is not finite or ends before it begins")
    return float(low), float(high)


def _means(name: str, values: Any) -> tuple[float, ...]:
    if not isinstance(values, list) or not all(map(is_finite, values)):
        raise ValueError(f"the means of {name} are no finite numbers")
    return tuple(map(float, values))
