"""Graphs that normalise their image by themselves, and the refusal to normalise it a second time.

Subtractions and factors in front of the first layer are one scaling ``y = scale * x + shift`` per channel. Whether that
takes pixels of 0-255 or of 0-1 is told by its result: networks are trained on values a few units wide around 0, or on
raw pixels less their mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeseg.errors import UsageError, require
from edgeseg.spec import Preprocess

if TYPE_CHECKING:
    import onnx

__all__ = ["OwnScaling", "check_scaled_once", "own_scaling"]

_PASSED = ("Cast", "Transpose", "Identity", "Dropout", "Gather", "Slice", "Reshape", "Squeeze", "Unsqueeze", "Resize")
_NARROWEST, _WIDEST = 0.5, 8.0
"""Widths of what a network takes, from the darkest to the brightest pixel: 1 to 5.5 are usual."""
_RAW = 255.0


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
    """The scaling that a graph does by itself; None when it does none.

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
    remedy = "leave --mean and --std out, or state" if own.takes == 255 else "state"
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


def _scaling(graph: onnx.GraphProto, image: str) -> tuple[float, float]:
    """Scale and shift, mean over channels, of the constants that act on the image one after the other."""
    values = _constants(graph)
    scale, shift, tensor = 1.0, 0.0, image
    while True:
        readers = [node for node in graph.node if tensor in node.input]
        if len(readers) != 1:
            return scale, shift
        step = (1.0, 0.0) if readers[0].op_type in _PASSED else _step(readers[0], tensor, values)
        if step is None or not np.isfinite(step).all():
            return scale, shift
        scale, shift, tensor = scale * step[0], shift * step[0] + step[1], readers[0].output[0]


def _step(node: onnx.NodeProto, tensor: str, values: dict[str, np.ndarray]) -> tuple[float, float] | None:
    """Scale and shift of one operator with a constant per channel; None for any other operator."""
    if node.op_type == "BatchNormalization" and all(name in values for name in node.input[1:]):
        gain, bias, mean, variance = (values[name].astype(np.float64) for name in node.input[1:5])
        epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
        factor = gain / np.sqrt(variance + epsilon)
        return float(factor.mean()), float((bias - mean * factor).mean())
    if node.op_type not in ("Add", "Sub", "Mul", "Div") or len(node.input) != 2:
        return None
    first = node.input[0] == tensor
    other = values.get(node.input[1 if first else 0])
    if other is None or other.size not in (1, 3) or not np.issubdtype(other.dtype, np.number):
        return None
    value = other.astype(np.float64)
    if node.op_type == "Add":
        return 1.0, float(value.mean())
    if node.op_type == "Sub":
        return (1.0, -float(value.mean())) if first else (-1.0, float(value.mean()))
    if node.op_type == "Mul":
        return float(value.mean()), 0.0
    return (float((1 / value).mean()), 0.0) if first and value.all() else None


def _constants(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    """Values of weights, and of what only copies or reshapes them."""
    tools = require("onnx", "compile")
    values = {t.name: np.asarray(tools.numpy_helper.to_array(t)) for t in graph.initializer if _small(t.dims)}
    for node in graph.node:
        if node.op_type == "Constant":
            entry = next((a for a in node.attribute if a.name.startswith("value")), None)
            if entry is not None and entry.HasField("t"):
                if _small(entry.t.dims):
                    values[node.output[0]] = np.asarray(tools.numpy_helper.to_array(entry.t))
            elif entry is not None:
                stated: Any = tools.helper.get_attribute_value(entry)
                values[node.output[0]] = np.asarray(stated)
        elif node.input and node.input[0] in values and node.op_type in ("Identity", "Reshape", "Unsqueeze", "Cast"):
            values[node.output[0]] = values[node.input[0]]
    return values


def _small(dims: Any) -> bool:
    return int(np.prod(dims)) <= 64
