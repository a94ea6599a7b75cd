"""How a segmentation graph ends: where its logits are, and what comes after them.

Softmax, sigmoid and log-softmax keep the order of the channels, and arg-max only reads it, so that the tensor in front
of them gives the same classes. So does a factor above 0 behind them, as in graphs that give 0-255. A softmax along rows
or columns changes the order, and stays. What resamples a class map or compares with a threshold does not end in logits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Callable

import numpy as np

from edgeseg.compiler.graph.onnx_graph import OnnxGraph, attribute

if TYPE_CHECKING:
    import onnx

__all__ = ["CLASS_MAP", "LOGITS", "PROBABILITIES", "Ending", "ending_of"]

LOGITS, PROBABILITIES, CLASS_MAP = "logits", "probabilities", "class-map"
_ACTIVATIONS = ("Softmax", "LogSoftmax", "Sigmoid")
_INDEPENDENT = ("Sigmoid", "HardSigmoid")
_PROBABILITIES = (*_ACTIVATIONS, "HardSigmoid")
_SOFTMAXES = ("Softmax", "LogSoftmax")
_SCALINGS = ("Mul", "Div", "Add", "Sub")
_COPIES = ("Identity", "Dropout", "Cast")
_SHUFFLES = ("Transpose", "Squeeze", "Unsqueeze")
_MOVED_CHANNELS = ((0, 1, 2, 3), (0, 2, 3, 1), (0, 3, 1, 2))
_RESAMPLING = ("Resize", "Upsample", "Slice", "Pad", "Clip", "Reshape", *_SHUFFLES)
_COMPARISONS = ("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal")
_CLASS_MAPS = ("ArgMax", "Round", "Floor", "Ceil", "Sign", "OneHot", "TopK", *_COMPARISONS)
_LINEAR = ("Conv", "ConvTranspose", "BatchNormalization", "Gemm", "MatMul", "Einsum", "Add", "Sub", "Mul", "Concat")
_KINDS = {LOGITS: _LINEAR, PROBABILITIES: _PROBABILITIES, CLASS_MAP: _CLASS_MAPS}
_WEIGHTED = ("Conv", "ConvTranspose", "BatchNormalization", "Gemm", "MatMul", "Einsum")


@dataclass(frozen=True)
class Ending:
    """What was found walking back from an output.

    Attributes:
        tensor: where to cut: the logits, if the graph has them.
        removed: operators behind ``tensor`` that change no class, the last one first.
        kind: of the output itself: ``"logits"``, ``"probabilities"``, ``"class-map"`` or None when it cannot be told.
        kind_at_cut: of ``tensor``.
        channel_axis: of the four axes of ``tensor``, where an operator tells.
        class_count: channels of ``tensor``, where a convolution tells.
        before_class_map: what the operator reads that makes a class map which cannot be removed.
        independent: whether the last activation function judges every channel by itself (a sigmoid), and the graph
            does not look for the largest.
        weighted: whether ``tensor`` comes from layers with weights, maybe scaled, shifted or summed: its values are
            logits.
        misplaced: the softmax that ``tensor`` comes from runs along rows or columns, not over the classes.
        scaled: ``tensor`` holds probabilities that were multiplied or shifted, as to 0-255, and then resampled.
        clipped: ``tensor`` is cut off below 0 and above 1.
    """

    tensor: str
    removed: tuple[str, ...] = ()
    kind: str | None = None
    kind_at_cut: str | None = None
    channel_axis: int | None = None
    class_count: int | None = None
    before_class_map: str | None = None
    independent: bool = False
    weighted: bool = False
    misplaced: bool = False
    scaled: bool = False
    clipped: bool = False

    @property
    def activations(self) -> tuple[str, ...]:
        """List the activation functions behind ``tensor``, the first one first."""
        return tuple(name for name in reversed(self.removed) if name in _ACTIVATIONS)


def ending_of(graph: onnx.GraphProto, output: str, opset: int) -> Ending:
    """Walk back from an output, or from any tensor, of a sorted graph of an opset to its logits."""
    tail = _Tail(graph, opset)
    end = Ending(output)
    node = tail.graph.maker(output)
    while node is not None and tail.is_removable(node):
        if node.op_type == "Transpose":
            tail.order = tail.order_behind(node)
        end = _one_back(end, node, tail)
        node = tail.graph.maker(end.tensor)
    last = tail.first(end.tensor, lambda node: node.op_type not in (*_RESAMPLING, *_COPIES))
    operator = last.op_type if last is not None else ""
    scaled = tail.scaled_activation(last) if last is not None else ""
    kind = next((kind for kind, operators in _KINDS.items() if operator in operators and not scaled), None)
    axis, class_count = tail.channels(end.tensor)
    is_weighted = tail.is_weighted(end.tensor)
    kind = LOGITS if kind is None and is_weighted else kind
    return replace(
        end,
        kind=end.kind or kind,
        kind_at_cut=kind,
        channel_axis=end.channel_axis if axis is None else axis,
        class_count=class_count,
        before_class_map=tail.before_class_map(end.tensor) if kind == CLASS_MAP else None,
        independent="ArgMax" not in end.removed
        and (end.activations[-1] if end.activations else scaled or operator) in _INDEPENDENT,
        weighted=is_weighted,
        misplaced=operator in _SOFTMAXES and not tail.keeps_order(last),
        scaled=bool(scaled),
        clipped=tail.is_clipped(end.tensor),
    )


class _Tail:
    """A graph to be walked back from an output.

    Attributes:
        order: which axis of the tensor where the walk stands each axis of the output is.
    """

    def __init__(self, graph: onnx.GraphProto, opset: int) -> None:
        self.graph, self.opset = OnnxGraph(graph), opset
        self.order: tuple[int, ...] = (0, 1, 2, 3)

    def first(self, tensor: str, wanted: Callable[[Any], bool]) -> Any:
        """Find the first wanted node, following first inputs back; None when the graph starts before."""
        node = self.graph.maker(tensor)
        while node is not None and not wanted(node):
            node = self.graph.maker(self.data(node))
        return node

    def data(self, node: onnx.NodeProto) -> str:
        """Return the input that an operator works on: the first, but for a constant in front of a factor or summand."""
        scaled = self._scaled(node)
        return scaled or (node.input[0] if node.input else "")

    def is_removable(self, node: onnx.NodeProto) -> bool:
        """Tell whether the tensor in front of an operator gives the same classes."""
        if not node.input:
            return False
        if node.op_type == "ArgMax":
            return attribute(node, "axis", 0) in (1, 3, -1, -3)
        if node.op_type in _SOFTMAXES:
            return self.keeps_order(node)
        if node.op_type in _SHUFFLES:
            return self.keeps_pixels(node)
        return node.op_type in (*_ACTIVATIONS, *_COPIES) or bool(self.scaled_activation(node))

    def order_behind(self, transpose: onnx.NodeProto, order: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """Return an order, else that of the walk, as of the tensor in front of a Transpose of its rank."""
        order = order or self.order
        turned = attribute(transpose, "perm", ())
        return tuple(turned[axis] for axis in order) if len(turned) == len(order) else order

    def keeps_pixels(self, node: onnx.NodeProto) -> bool:
        """Tell whether a shuffle of axes leaves rows in front of columns and drops neither."""
        if node.op_type == "Transpose":
            order = self.order_behind(node)
            before = self.first(node.input[0], lambda node: node.op_type not in (*_ACTIVATIONS, *_COPIES))
            # A softmax over the classes may stand between two that swap rows and columns and swap them back.
            is_turned = before is not None and before.op_type == "Transpose"
            behind_both = self.order_behind(before, order) if is_turned else order
            return order in _MOVED_CHANNELS or behind_both in _MOVED_CHANNELS or len(attribute(node, "perm", ())) == 3
        axes = attribute(node, "axes", None)
        if axes is None and len(node.input) > 1:
            known = self.graph.value(node.input[1])
            axes = None if known is None else known.reshape(-1).tolist()
        return node.op_type == "Unsqueeze" or axes is None or not {2, -2}.intersection(axes)

    def keeps_order(self, softmax: onnx.NodeProto) -> bool:
        """Tell whether a softmax runs over the channels: before opset 13, over its axis and all behind it."""
        axis: int = attribute(softmax, "axis", 1 if self.opset < 13 else -1)
        known, _ = self.channels(softmax.input[0])
        if known is None:
            return axis in (1, -1, 3, -3)
        return axis % 4 <= known if self.opset < 13 else axis % 4 == known

    def scaled_activation(self, node: onnx.NodeProto) -> str:
        """Find the activation function whose result an operator scales or shifts by one number, as to 0-255."""
        scaled = self._scaled(node)
        while scaled is not None:
            behind = self.first(scaled, lambda node: node.op_type not in (*_RESAMPLING, *_COPIES))
            if behind is None or behind.op_type in _PROBABILITIES:
                return behind.op_type if behind is not None else ""
            scaled = self._scaled(behind)
        return ""

    def _scaled(self, node: onnx.NodeProto) -> str | None:
        """What an operator scales or shifts by one number, in the same order; None for any other operator."""
        if node.op_type not in _SCALINGS or len(node.input) != 2:
            return None
        for index, name in enumerate(node.input):
            value = self._number(name)
            if value is None:
                continue
            if node.op_type == "Add" or (node.op_type == "Mul" and value > 0):
                return str(node.input[1 - index])
            return str(node.input[0]) if index == 1 and (node.op_type == "Sub" or value > 0) else None
        return None

    def is_weighted(self, tensor: str) -> bool:
        """Tell whether values are those of layers with weights, maybe scaled, shifted or summed."""
        node = self.first(tensor, lambda node: node.op_type not in (*_RESAMPLING, *_COPIES))
        if node is None or node.op_type in _WEIGHTED:
            return node is not None
        scaled = self._scaled(node)
        if scaled is not None:
            return self.is_weighted(scaled)
        summed = node.op_type in ("Add", "Sub", "Sum", "Mean")
        return summed and all(self.is_weighted(name) for name in node.input if name not in self.graph.constants)

    def is_clipped(self, tensor: str) -> bool:
        """Tell whether values are cut off below 0 and above 1, and then only resampled: so mattes end."""
        node = self.first(tensor, lambda node: node.op_type == "Clip" or node.op_type not in (*_RESAMPLING, *_COPIES))
        if node is None or node.op_type != "Clip":
            return False
        low, high = attribute(node, "min", None), attribute(node, "max", None)
        if len(node.input) == 3:
            low, high = (self._number(name) for name in node.input[1:])
        return (low, high) == (0, 1)

    def _number(self, name: str) -> float | None:
        """The value of a constant of one number."""
        if name not in self.graph.constants or int(np.prod(self.graph.shapes[name])) != 1:
            return None
        value = self.graph.value(name)
        return None if value is None else float(value.reshape(-1)[0])

    def before_class_map(self, tensor: str) -> str | None:
        node = self.first(tensor, lambda node: node.op_type in _CLASS_MAPS)
        return node.input[0] if node is not None and node.input else None

    def channels(self, tensor: str) -> tuple[int | None, int | None]:
        """(channel axis, channels) of a tensor that comes from a convolution through what keeps its channels."""
        permutations = []

        def arrived(node: Any) -> bool:
            if node.op_type == "Transpose":
                permutations.append(attribute(node, "perm", ()))
            biased = node.op_type in ("Add", "Mul") and len(node.input) == 2 and node.input[1] in self.graph.constants
            if biased or self._scaled(node) is not None:
                return False
            return node.op_type not in (*_COPIES, "Transpose", "Resize", "Upsample", "Clip", *_ACTIVATIONS)

        node = self.first(tensor, arrived)
        if node is None or node.op_type not in ("Conv", "ConvTranspose") or len(node.input) < 2:
            return None, None
        axis = 1
        for permutation in reversed(permutations):
            if sorted(permutation) != [0, 1, 2, 3]:
                return None, None
            axis = permutation.index(axis)
        sizes = self.graph.shapes[node.input[1]] if node.input[1] in self.graph.constants else []
        if len(sizes) != 4:
            return axis, None
        groups = attribute(node, "group", 1)
        return axis, sizes[0] if node.op_type == "Conv" else sizes[1] * groups


def _one_back(end: Ending, node: onnx.NodeProto, tail: _Tail) -> Ending:
    axis, kind = end.channel_axis, end.kind
    if node.op_type == "Transpose":
        axis = _before_transpose(axis, node)
    elif node.op_type in _SHUFFLES:
        axis = None
    elif node.op_type == "ArgMax" or (attribute(node, "axis", None) is not None and tail.opset >= 13):
        axis = attribute(node, "axis", 0) % 4
    if node.op_type == "ArgMax":
        kind = CLASS_MAP
    elif node.op_type in _ACTIVATIONS:
        kind = kind or PROBABILITIES
    removed = end.removed if node.op_type in _COPIES else (*end.removed, node.op_type)
    return replace(end, tensor=tail.data(node), removed=removed, kind=kind, channel_axis=axis)


def _before_transpose(axis: int | None, node: onnx.NodeProto) -> int | None:
    permutation = attribute(node, "perm", ())
    return permutation[axis] if axis is not None and axis < len(permutation) else None
