"""How a segmentation graph ends: where its logits are, and what comes after them.

Softmax, sigmoid and log-softmax keep the order of the channels, and arg-max only reads it, so that the tensor in front
of them gives the same classes. What resamples a class map or compares with a threshold does not end in logits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Callable

from edgeseg.compiler.graph import attribute

if TYPE_CHECKING:
    import onnx

__all__ = ["CLASS_MAP", "LOGITS", "PROBABILITIES", "Ending", "ending_of"]

LOGITS, PROBABILITIES, CLASS_MAP = "logits", "probabilities", "class-map"
_ACTIVATIONS = ("Softmax", "LogSoftmax", "Sigmoid")
_INDEPENDENT = ("Sigmoid", "HardSigmoid")
_COPIES = ("Identity", "Dropout", "Cast")
_SHUFFLES = ("Transpose", "Squeeze", "Unsqueeze")
_RESAMPLING = ("Resize", "Upsample", "Slice", "Pad", "Clip", "Reshape", *_SHUFFLES)
_COMPARISONS = ("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal")
_CLASS_MAPS = ("ArgMax", "Round", "Floor", "Ceil", "Sign", "OneHot", "TopK", *_COMPARISONS)
_LINEAR = ("Conv", "ConvTranspose", "BatchNormalization", "Gemm", "MatMul", "Einsum", "Add", "Sub", "Mul", "Concat")
_KINDS = {LOGITS: _LINEAR, PROBABILITIES: (*_ACTIVATIONS, "HardSigmoid"), CLASS_MAP: _CLASS_MAPS}
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
        classes: channels of ``tensor``, where a convolution tells.
        before_class_map: what the operator reads that makes a class map which cannot be removed.
        independent: whether the last activation function judges every channel by itself (a sigmoid), and the graph
            does not look for the largest.
        weighted: whether ``tensor`` comes straight from a layer with weights: then its values are logits.
    """

    tensor: str
    removed: tuple[str, ...] = ()
    kind: str | None = None
    kind_at_cut: str | None = None
    channel_axis: int | None = None
    classes: int | None = None
    before_class_map: str | None = None
    independent: bool = False
    weighted: bool = False

    @property
    def activations(self) -> tuple[str, ...]:
        """The activation functions behind ``tensor``, the first one first."""
        return tuple(name for name in reversed(self.removed) if name in _ACTIVATIONS)


def ending_of(graph: onnx.GraphProto, output: str) -> Ending:
    """Walk back from an output, or from any tensor, of a sorted graph to its logits."""
    makers = {name: node for node in graph.node for name in node.output}
    end = Ending(output)
    node = makers.get(output)
    while node is not None and _removable(node):
        end = _one_back(end, node)
        node = makers.get(end.tensor)
    kind = _kind(end.tensor, makers)
    last = _first(end.tensor, makers, lambda node: node.op_type not in (*_RESAMPLING, *_COPIES))
    operator = last.op_type if last is not None else ""
    axis, classes = _channels(end.tensor, makers, {tensor.name: tensor for tensor in graph.initializer})
    return replace(
        end,
        kind=end.kind or kind,
        kind_at_cut=kind,
        channel_axis=end.channel_axis if axis is None else axis,
        classes=classes,
        before_class_map=_before_class_map(end.tensor, makers) if kind == CLASS_MAP else None,
        independent="ArgMax" not in end.removed
        and (end.activations[-1] if end.activations else operator) in _INDEPENDENT,
        weighted=operator in _WEIGHTED,
    )


def _removable(node: onnx.NodeProto) -> bool:
    if not node.input:
        return False
    if node.op_type == "ArgMax" or (node.op_type in ("Softmax", "LogSoftmax") and _has(node, "axis")):
        return attribute(node, "axis", 0) in (1, 3, -1, -3)
    return node.op_type in (*_ACTIVATIONS, *_COPIES, *_SHUFFLES)


def _one_back(end: Ending, node: onnx.NodeProto) -> Ending:
    axis, kind = end.channel_axis, end.kind
    if node.op_type == "Transpose":
        axis = _before_transpose(axis, node)
    elif node.op_type in _SHUFFLES:
        axis = None
    elif node.op_type == "ArgMax" or _has(node, "axis"):
        axis = attribute(node, "axis", 0) % 4
    if node.op_type == "ArgMax":
        kind = CLASS_MAP
    elif node.op_type in _ACTIVATIONS:
        kind = kind or PROBABILITIES
    removed = end.removed if node.op_type in _COPIES else (*end.removed, node.op_type)
    return replace(end, tensor=node.input[0], removed=removed, kind=kind, channel_axis=axis)


def _before_transpose(axis: int | None, node: onnx.NodeProto) -> int | None:
    permutation = _ints(node, "perm")
    return permutation[axis] if axis is not None and axis < len(permutation) else None


def _kind(tensor: str, makers: dict[str, Any]) -> str | None:
    node = _first(tensor, makers, lambda node: node.op_type not in (*_RESAMPLING, *_COPIES))
    return next((kind for kind, operators in _KINDS.items() if node is not None and node.op_type in operators), None)


def _before_class_map(tensor: str, makers: dict[str, Any]) -> str | None:
    node = _first(tensor, makers, lambda node: node.op_type in _CLASS_MAPS)
    return node.input[0] if node is not None and node.input else None


def _channels(tensor: str, makers: dict[str, Any], weights: dict[str, Any]) -> tuple[int | None, int | None]:
    """(channel axis, channels) of a tensor that comes from a convolution through operators that keep its channels."""
    permutations = []

    def arrived(node: Any) -> bool:
        if node.op_type == "Transpose":
            permutations.append(_ints(node, "perm"))
        biased = node.op_type in ("Add", "Mul") and len(node.input) == 2 and node.input[1] in weights
        return not biased and node.op_type not in (*_COPIES, "Transpose", "Resize", "Upsample", "Clip", *_ACTIVATIONS)

    node = _first(tensor, makers, arrived)
    if node is None or node.op_type not in ("Conv", "ConvTranspose") or len(node.input) < 2:
        return None, None
    axis = 1
    for permutation in reversed(permutations):
        if sorted(permutation) != [0, 1, 2, 3]:
            return None, None
        axis = permutation.index(axis)
    weight = weights.get(node.input[1])
    if weight is None or len(weight.dims) != 4:
        return axis, None
    groups = attribute(node, "group", 1)
    return axis, weight.dims[0] if node.op_type == "Conv" else weight.dims[1] * groups


def _first(tensor: str, makers: dict[str, Any], wanted: Callable[[Any], bool]) -> Any:
    """The first wanted node, following first inputs back; None when the graph starts before."""
    node = makers.get(tensor)
    while node is not None and not wanted(node):
        node = makers.get(node.input[0]) if node.input else None
    return node


def _ints(node: onnx.NodeProto, name: str) -> list[int]:
    return next((list(a.ints) for a in node.attribute if a.name == name), [])


def _has(node: onnx.NodeProto, name: str) -> bool:
    return any(a.name == name for a in node.attribute)
