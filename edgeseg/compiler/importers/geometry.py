"""Where the pixels of a feature map lie in the image: what strides, padding, crops and enlargements make of positions.

Pixel i of a map lies at ``step * i + first`` of the image's pixels, per axis. An unpadded network gives the middle of
its image only; without that knowledge its logits would be stretched over the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Sequence

import numpy as np

from edgeseg.compiler.graph.onnx_graph import OnnxGraph, attribute, input_name

if TYPE_CHECKING:
    import onnx

__all__ = ["Axis", "positions_of"]

_WINDOWS = ("Conv", "MaxPool", "AveragePool", "LpPool")
_SAME_PLACES = (
    "Abs Add And BatchNormalization Cast Celu Clip Concat Div Dropout Elu Equal Erf Exp Gelu Greater "
    "GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization LRN LayerNormalization LeakyRelu Less "
    "Log LogSoftmax Max Mean Min Mish Mul Neg Not PRelu Pow Reciprocal Relu Selu Sigmoid Softmax Softplus "
    "Softsign Sqrt Sub Sum Tanh ThresholdedRelu Where"
)
_ELEMENTWISE = frozenset(_SAME_PLACES.split())


@dataclass(frozen=True)
class Axis:
    """Pixel i of an axis lies at ``step * i + first`` of the image's pixels."""

    step: float = 1.0
    first: float = 0.0

    def sampled(self, step: float, first: float) -> Axis:
        """Return the axis of a map whose pixel i lies at ``step * i + first`` of this one."""
        return Axis(self.step * step, self.first + self.step * first)


def positions_of(model: onnx.ModelProto, tensor: str) -> tuple[Axis, Axis] | None:
    """Find where the rows and columns of an NxCxHxW tensor lie in the graph's image.

    Args:
        model: with a static NCHW input and inferred shapes; what computes sizes should be folded already.
        tensor: its name.

    Returns:
        The axes of height and width, None where an operator (a reshape, attention) hides them.
    """
    walk = _Walk(model.graph)
    for node in model.graph.node:
        walk.visit(node)
    return walk.known.get(tensor)


class _Walk:
    """Positions of all tensors, in graph order."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = OnnxGraph(graph)
        self._shapes = self._graph.shapes
        self.known: dict[str, tuple[Axis, Axis]] = {graph.input[0].name: (Axis(), Axis())}
        self._channels_last: set[str] = set()

    def visit(self, node: onnx.NodeProto) -> None:
        found = self._of(node)
        if found is None:
            return
        self.known[node.output[0]] = found
        last = bool(self._channels_last.intersection(node.input))
        if last != (node.op_type == "Transpose"):
            self._channels_last.add(node.output[0])

    def _of(self, node: onnx.NodeProto) -> tuple[Axis, Axis] | None:
        if node.op_type in _ELEMENTWISE:
            return self._earliest(node)
        source = self.known.get(node.input[0]) if node.input else None
        if source is None:
            return None
        if node.op_type in _WINDOWS:
            return self._each(node, source, self._window(node))
        if node.op_type == "ConvTranspose":
            return self._each(node, source, self._transposed(node))
        if node.op_type in ("Resize", "Upsample"):
            return self._each(node, source, self._resized(node))
        if node.op_type == "Slice":
            return self._each(node, source, self._sliced(node))
        if node.op_type == "Pad":
            return self._each(node, source, self._padded(node))
        if node.op_type == "Transpose":
            # To channels last and back; any other order hides where rows and columns are.
            back = [0, 3, 1, 2] if node.input[0] in self._channels_last else [0, 2, 3, 1]
            return source if attribute(node, "perm", ()) == back else None
        if node.op_type == "DepthToSpace":
            return self._shuffled(source, 1 / attribute(node, "blocksize", 1))
        if node.op_type == "SpaceToDepth":
            return self._shuffled(source, attribute(node, "blocksize", 1))
        return None

    def _earliest(self, node: onnx.NodeProto) -> tuple[Axis, Axis] | None:
        """The positions of the input of the output's size that was made first.

        Where a decoder joins a skip connection, strides of odd sizes have moved the deeper map by some pixels.
        """
        shape = self._shapes.get(node.output[0])
        same = {name for name in node.input if self._like(self._shapes.get(name), shape, node)}
        return next((found for name, found in self.known.items() if name in same), None)

    def _like(self, one: list[int] | None, other: list[int] | None, node: onnx.NodeProto) -> bool:
        """Whether two maps have the same height and width."""
        if one is None or other is None or len(one) != 4 or len(other) != 4:
            return False
        rows = 1 if self._channels_last.intersection(node.input) else 2
        return one[rows : rows + 2] == other[rows : rows + 2]

    def _each(
        self, node: onnx.NodeProto, source: tuple[Axis, Axis], how: Sequence[tuple[float, float]] | None
    ) -> tuple[Axis, Axis] | None:
        if how is None or len(how) != 2:
            return None
        return source[0].sampled(*how[0]), source[1].sampled(*how[1])

    def _window(self, node: onnx.NodeProto) -> list[tuple[float, float]] | None:
        kernel = self._kernel(node)
        strides, dilations = attribute(node, "strides", ()) or [1, 1], attribute(node, "dilations", ()) or [1, 1]
        before = self._pads_before(node, kernel, strides, dilations)
        if len(kernel) != 2 or before is None:
            return None
        return [(s, d * (k - 1) / 2 - p) for k, s, d, p in zip(kernel, strides, dilations, before)]

    def _constant(self, node: onnx.NodeProto, index: int) -> np.ndarray | None:
        """The value of an input of one axis or more, where it is stored."""
        value = self._graph.value(input_name(node, index))
        return value if value is not None and value.ndim else None

    def _kernel(self, node: onnx.NodeProto) -> list[int]:
        stated: list[int] = attribute(node, "kernel_shape", ())
        return stated or self._shapes.get(input_name(node, 1), [])[2:]

    def _pads_before(
        self, node: onnx.NodeProto, kernel: list[int], strides: list[int], dilations: list[int]
    ) -> list[float] | None:
        auto = attribute(node, "auto_pad", "NOTSET")
        if auto in ("NOTSET", "VALID"):
            pads = attribute(node, "pads", ()) if auto == "NOTSET" else []
            return [float(pad) for pad in (pads or [0, 0])[:2]]
        before, after = _sides(self._shapes.get(node.input[0])), _sides(self._shapes.get(node.output[0]))
        if before is None or after is None or len(kernel) != 2:
            return None
        pads = []
        for small, large, k, s, d in zip(after, before, kernel, strides, dilations):
            whole = max(0, (small - 1) * s + d * (k - 1) + 1 - large)
            pads.append(float(whole // 2 if auto == "SAME_UPPER" else whole - whole // 2))
        return pads

    def _transposed(self, node: onnx.NodeProto) -> list[tuple[float, float]] | None:
        kernel = self._kernel(node)
        strides, dilations = attribute(node, "strides", ()) or [1, 1], attribute(node, "dilations", ()) or [1, 1]
        auto = attribute(node, "auto_pad", "NOTSET")
        if len(kernel) != 2 or auto not in ("NOTSET", "VALID") or attribute(node, "output_shape", ()):
            return None
        before = (attribute(node, "pads", ()) or [0, 0])[:2]
        return [(1 / s, (p - d * (k - 1) / 2) / s) for k, s, d, p in zip(kernel, strides, dilations, before)]

    def _resized(self, node: onnx.NodeProto) -> list[tuple[float, float]] | None:
        small, large = _sides(self._shapes.get(node.input[0])), _sides(self._shapes.get(node.output[0]))
        if small is None or large is None:
            return None
        if node.input[0] in self._channels_last:
            return None
        default = "asymmetric" if node.op_type == "Upsample" else "half_pixel"
        mode = attribute(node, "coordinate_transformation_mode", default)
        if attribute(node, "mode", "nearest") == "nearest":
            mode = "half_pixel"  # a pixel is repeated, and lies in the middle of its copies
        scales = self._constant(node, 2)
        pairs = []
        for axis, (low, high) in enumerate(zip(small, large)):
            step = 1 / float(scales[2 + axis]) if scales is not None and scales.size == 4 else low / high
            if mode == "align_corners":
                pairs.append(((low - 1) / max(1, high - 1), 0.0))
            elif mode in ("half_pixel", "pytorch_half_pixel"):
                pairs.append((step, step / 2 - 0.5))
            elif mode == "asymmetric":
                pairs.append((step, 0.0))
            else:
                return None
        return pairs

    def _sliced(self, node: onnx.NodeProto) -> list[tuple[float, float]] | None:
        starts, axes, steps = (self._constant(node, index) for index in (1, 3, 4))
        sides = self._shapes.get(node.input[0])
        if starts is None or sides is None or len(sides) != 4 or (input_name(node, 4) and steps is None):
            return None
        chosen = list(range(len(starts))) if axes is None else [int(axis) % 4 for axis in axes]
        rows = 1 if node.input[0] in self._channels_last else 2
        pairs = {rows: (1.0, 0.0), rows + 1: (1.0, 0.0)}
        for index, axis in enumerate(chosen):
            start, step = int(starts[index]), 1 if steps is None else int(steps[index])
            pairs[axis] = (float(step), float(min(start + sides[axis] if start < 0 else start, sides[axis])))
        return [pairs[rows], pairs[rows + 1]]

    def _padded(self, node: onnx.NodeProto) -> list[tuple[float, float]] | None:
        pads = self._constant(node, 1)
        if pads is None or pads.size != 8 or input_name(node, 3):
            return None
        rows = 1 if node.input[0] in self._channels_last else 2
        return [(1.0, -float(pads[rows])), (1.0, -float(pads[rows + 1]))]

    def _shuffled(self, source: tuple[Axis, Axis], step: float) -> tuple[Axis, Axis]:
        rows, columns = (axis.sampled(step, step / 2 - 0.5) for axis in source)
        return rows, columns


def _sides(shape: Sequence[int] | None) -> tuple[int, int] | None:
    return (shape[2], shape[3]) if shape is not None and len(shape) == 4 and min(shape) > 0 else None
