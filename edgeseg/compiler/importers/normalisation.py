"""Graphs that normalise their image by themselves, and the refusal to normalise it a second time.

Subtractions and factors in front of the first layer are one scaling ``y = scale * x + shift`` per channel. Whether that
takes pixels of 0-255 or of 0-1 is told by its result: networks are trained on values a few units wide around 0, or on
raw pixels less their mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Tuple

import numpy as np

from edgeseg.compiler.graph.onnx_graph import attribute
from edgeseg.errors import UsageError, require
from edgeseg.spec import Preprocess

if TYPE_CHECKING:
    import onnx

__all__ = ["OwnScaling", "check_scaled_once", "own_scaling"]

_PASSED = (
    *("Cast", "Transpose", "Identity", "Dropout", "Gather", "Slice", "Reshape", "Flatten", "Squeeze", "Unsqueeze"),
    *("Resize", "Upsample", "Pad", "Split", "Clip", "Expand", "Tile", "DepthToSpace", "SpaceToDepth"),
)
_ASIDE = ("Shape", "Size", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "IsNaN", "IsInf")
_NARROWEST, _WIDEST = 0.5, 8.0
"""Widths of what a network takes, from the darkest to the brightest pixel: 1 to 5.5 are usual."""
_RAW = 255.0
_COPYING = ("Identity", "Reshape", "Unsqueeze", "Squeeze", "Cast", "Expand", "Flatten", "Transpose")

Step = Tuple[float, float]


@dataclass(frozen=True)
class OwnScaling:
    """What a graph does to its image before the first layer: ``scale * x + shift``, mean over channels.

    Attributes:
        scale, shift: of the scaling.
        takes: largest pixel value of the image that it is made for: 255, 1, or None when neither fits.
    """

    scale: float
    shift: float
    takes: int | None

    def preprocess(self) -> tuple[float, float]:
        """Mean and std (of 0-1) with which a frame becomes the image that the scaling is made for."""
        return (0.0, 1 / 255) if self.takes == 255 else (0.0, 1.0)


def own_scaling(graph: onnx.GraphProto, image: str, dtype: str = "float32") -> OwnScaling | None:
    """Find the scaling that a graph does by itself; None when it does none.

    Args:
        graph: as exported or simplified.
        image: name of its input.
        dtype: of the input as the file has it; one of uint8 always takes 0-255.
    """
    scale, shift = _scaling(graph, image)
    if dtype == "uint8":
        return OwnScaling(scale, shift, 255)
    if abs(scale - 1) < 1e-3 and abs(shift) < 1e-3:
        return None
    takes = next((top for top in (255, 1) if _usual(scale, shift, top)), None)
    return OwnScaling(scale, shift, takes)


def check_scaled_once(own: OwnScaling | None, preprocess: Preprocess) -> None:
    """Refuse a mean and std beside a graph that normalises by itself.

    Raises:
        UsageError: the frame would be normalised twice; says which mean and std are right.
    """
    if own is None or own.takes is None:
        return
    mean, std = own.preprocess()
    given_mean, given_std = float(np.mean(preprocess.mean)), float(np.mean(preprocess.std))
    if abs(given_mean - mean) < 1e-3 and abs(given_std - std) < 1e-2 * std:
        return
    low, high = ((top - given_mean) / given_std * own.scale + own.shift for top in (0.0, 1.0))
    same = own.takes == 1 and abs(1 / own.scale - given_std) < 0.02 and abs(-own.shift / own.scale - given_mean) < 0.02
    if own.takes == 1 and not same and _NARROWEST <= high - low <= _WIDEST and low < 0.6 and high > -0.6:
        return  # a second scaling that makes sense: a network trained on [-1, 1] with a layer of its own in front
    remedy = "leave `mean` and `std` out, or state" if own.takes == 255 else "state"
    raise UsageError(
        f"the graph takes pixels of 0-{own.takes} and normalises by itself ({own.scale:.4g} * pixel {own.shift:+.4g}), "
        f"so that this mean and std would do it twice; {remedy} mean {mean:g} and std {std:.7g} for every channel"
    )


def _usual(scale: float, shift: float, top: int) -> bool:
    """Whether a scaling makes of pixels of 0-top what networks take: a few units around 0, or 0 to 1, or raw pixels."""
    low, high = shift, scale * top + shift
    width = high - low
    if abs(width - _RAW) < 1:
        return -_RAW < low < -1 or abs(low) < 1e-3
    return _NARROWEST <= width <= _WIDEST and low <= 1e-3 and high > 0.1 and abs(low) < 2 * high + 1e-3


def _scaling(graph: onnx.GraphProto, image: str) -> Step:
    """Scale and shift, mean over channels, of what the first layer takes.

    Channels may be scaled apart and joined again, and the image may be read by others too.
    """
    values = _Constants(graph)
    scaled: dict[str, Step] = {image: (1.0, 0.0)}
    last = image
    for node in graph.node:
        taken = [name for name in node.input if name in scaled]
        if not taken or node.op_type in _ASIDE:
            continue
        step = _after(node, scaled, values)
        if step is None or not np.isfinite(step).all():
            return scaled[taken[0]]
        scaled.update((name, step) for name in node.output)
        last = node.output[0]
    return scaled[last]


def _after(node: onnx.NodeProto, scaled: dict[str, Step], values: _Constants) -> Step | None:
    """Scale and shift of what an operator gives; None where that is no scaling of the image."""
    inputs = [name for name in node.input if name]
    own = [scaled[name] for name in inputs if name in scaled]
    if node.op_type == "Concat":
        return _mean(own) if len(own) == len(inputs) else None
    if node.op_type == "Where" and inputs[0] not in scaled:
        return own[0] if len(own) == 1 and any(name in values for name in inputs[1:]) else None
    if node.op_type in ("Add", "Sub", "Sum") and len(own) == len(inputs) == 2:
        sign = -1 if node.op_type == "Sub" else 1
        return own[0][0] + sign * own[1][0], own[0][1] + sign * own[1][1]
    if inputs[0] in scaled and len(own) == 1 and node.op_type in _PASSED:
        return own[0]
    if len(own) != 1:
        return None
    step = _step(node, next(name for name in inputs if name in scaled), values)
    return None if step is None else (own[0][0] * step[0], own[0][1] * step[0] + step[1])


def _step(node: onnx.NodeProto, tensor: str, values: _Constants) -> Step | None:
    """Scale and shift of one operator with constants; None for any other operator."""
    if node.op_type == "Neg":
        return -1.0, 0.0
    if node.op_type == "BatchNormalization" and all(name in values for name in node.input[1:]):
        gain, bias, mean, variance = (values[name] for name in node.input[1:5])
        epsilon = attribute(node, "epsilon", 1e-5)
        factor = gain / np.sqrt(variance + epsilon)
        return float(factor.mean()), float((bias - mean * factor).mean())
    if node.op_type == "Conv" and node.input[0] == tensor:
        return _of_pointwise(node, values)
    if node.op_type not in ("Add", "Sub", "Mul", "Div", "Sum", "Max", "Min") or len(node.input) != 2:
        return None
    first = node.input[0] == tensor
    other = node.input[1 if first else 0]
    if other not in values:
        return None
    value = values[other]
    if node.op_type in ("Max", "Min"):
        return 1.0, 0.0
    if node.op_type in ("Add", "Sum"):
        return 1.0, float(value.mean())
    if node.op_type == "Sub":
        return (1.0, -float(value.mean())) if first else (-1.0, float(value.mean()))
    if node.op_type == "Mul":
        return float(value.mean()), 0.0
    return (float((1 / value).mean()), 0.0) if first and value.all() else None


def _of_pointwise(node: onnx.NodeProto, values: _Constants) -> Step | None:
    """Scale and shift of a convolution that scales each channel by itself; None for one that is a layer."""
    weights = values[node.input[1]] if node.input[1] in values else np.zeros(0)
    if weights.shape not in ((1, 1, 1, 1), (3, 1, 1, 1), (3, 3, 1, 1)):
        return None
    used = weights.reshape(len(weights), -1)
    if (np.count_nonzero(used, axis=1) != 1).any() or len(set(used.nonzero()[1])) != used.shape[1]:
        return None  # it mixes channels
    shift = 0.0
    if len(node.input) > 2:
        if node.input[2] not in values:
            return None
        shift = float(values[node.input[2]].mean())
    return float(used.sum(axis=1).mean()), shift


def _mean(steps: list[Step]) -> Step:
    return float(np.mean([step[0] for step in steps])), float(np.mean([step[1] for step in steps]))


class _Constants:
    """Values of weights as float64, and of what only copies or reshapes them; read when they are asked for."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._tools = require("onnx", "compile")
        self._origins: dict[str, Any] = {
            tensor.name: tensor for tensor in graph.initializer if tensor.data_location != tensor.EXTERNAL
        }
        for node in graph.node:
            if node.op_type == "Constant":
                entry = next((a for a in node.attribute if a.name.startswith("value")), None)
                if entry is not None:
                    self._origins[node.output[0]] = entry.t if entry.HasField("t") else entry
            elif node.op_type in _COPYING and node.input and node.input[0] in self._origins:
                self._origins[node.output[0]] = self._origins[node.input[0]]

    def __contains__(self, name: str) -> bool:
        return name in self._origins and np.issubdtype(self._read(name).dtype, np.number)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._read(name).astype(np.float64)

    def _read(self, name: str) -> np.ndarray:
        origin = self._origins[name]
        if isinstance(origin, self._tools.TensorProto):
            return np.asarray(self._tools.numpy_helper.to_array(origin))
        return np.asarray(self._tools.helper.get_attribute_value(origin))
