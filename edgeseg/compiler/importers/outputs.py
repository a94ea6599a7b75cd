"""What a graph gives -> ``logits`` 1xCxHxW, and ``scores`` where its probabilities are no softmax of these.

Axes, flattened pixels, the channel that a lone sigmoid or several leave out, the place of the map in the image.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeseg.compiler.graph.onnx_graph import OnnxGraph, attribute, copied_onnx
from edgeseg.compiler.graph.simplify import simplified_onnx
from edgeseg.compiler.importers.ending import PROBABILITIES, Ending
from edgeseg.compiler.importers.geometry import Axis, positions_of
from edgeseg.compiler.importers.torch_export import LOGITS
from edgeseg.compiler.importers.wanted import Wanted, hw_text
from edgeseg.errors import CompileError, EdgesegError, UsageError, require

if TYPE_CHECKING:
    import onnx

__all__ = ["SCORES", "adapt_output"]

SCORES = "scores"


def adapt_output(model: onnx.ModelProto, values: np.ndarray, end: Ending, wanted: Wanted) -> list[str]:
    """Edit a graph in place so that it gives 1xCxHxW under the name ``logits``.

    Args:
        model: canonical but for its output.
        values: float32, what it gives for a random image.
        end: how the graph ends.
        wanted: classes, size, background.

    Returns:
        A line for people per thing that was changed.

    Raises:
        UsageError: the classes or the size are not those of the graph, or a background has to be named.
        CompileError: the output is no map of classes.
    """
    tail = _Tail(model, values)
    lines = tail.in_four_axes(wanted)
    independent = _independent(tail, end, wanted)
    lines += tail.channels_first(_channel_axis(tail.values.shape, end, wanted, independent, tail.seen))
    found = tail.values.shape[1]
    if independent and found < wanted.class_count and wanted.sigmoids.background is None:
        sigmoids = replace(wanted.sigmoids, background=wanted.sigmoids.likely_background)
        wanted = replace(wanted, sigmoids=sigmoids)
    probabilities = _are_probabilities(tail.values, end, independent)
    if end.misplaced:
        lines.append("the graph's softmax runs along rows or columns, not over the classes: it stays as it is")
    lines += _with_background(tail, end, wanted, independent, probabilities)
    lines += tail.at_full_size(wanted)
    if wanted.scores:
        _add_scores(tail, found, end, wanted, independent, probabilities)
    tail.finish(wanted)
    return lines


class _Tail:
    """The end of a graph under edit, with the values that it gives for one image.

    Attributes:
        name: of the tensor at the end.
        values: of that tensor; behind a background, only their shape is kept up to date.
        seen: the shape that the graph gives, for people.
    """

    def __init__(self, model: onnx.ModelProto, values: np.ndarray) -> None:
        self._model, self._graph = model, OnnxGraph(model.graph)
        self.values, self.name = values, model.graph.output[0].name
        self.seen = "x".join(map(str, values.shape))
        self._scores = ""

    def in_four_axes(self, wanted: Wanted) -> list[str]:
        """Give a map four axes that has no batch or channels, or has its pixels in one axis."""
        shape = self.values.shape if self.values.ndim != 2 else (1, *self.values.shape)
        if len(shape) != 3:
            return []
        flat = _flattened(shape, wanted)
        now = flat or ((1, 1, *shape[1:]) if shape[0] == 1 else (1, *shape))
        if flat is None or not self._goes_down_columns():
            self._reshape(now)
            return [f"pixels back in rows: the graph gives {self.seen}"] if flat else []
        order = [0, 2, 1, 3] if flat[3] == shape[2] else [0, 1, 3, 2]
        self._reshape(tuple(now[axis] for axis in order))
        self.add("Transpose", [], perm=order)
        self.values = self.values.transpose(order)
        return [f"pixels back in columns, and columns back in rows: the graph gives {self.seen}"]

    def _reshape(self, shape: tuple[int, ...]) -> None:
        self.add("Reshape", [np.array(shape, np.int64)])
        self.values = self.values.reshape(shape)

    def _goes_down_columns(self) -> bool:
        """Whether rows and columns of the image have changed places where the graph puts its pixels into one axis."""
        turned, node = False, self._graph.maker(self.name)
        while node is not None and node.input:
            turned ^= node.op_type == "Transpose" and tuple(attribute(node, "perm", ())) in _TURNS
            node = self._graph.maker(node.input[0])
        return turned

    def channels_first(self, axis: int) -> list[str]:
        if axis == 1:
            return []
        self.add("Transpose", [], perm=[0, 3, 1, 2])
        self.values = self.values.transpose(0, 3, 1, 2)
        return ["Transpose behind: the graph gives NHWC"]

    def at_full_size(self, wanted: Wanted) -> list[str]:
        """Enlarge and place a map where it lies in the image."""
        low = self.values.shape[2:]
        if low == wanted.size_hw:
            return []
        inside = _part_of_image(self._model, self.name, self.values.shape, wanted)
        if inside is None:
            return self._enlarged(low, wanted.size_hw)
        (top, bottom), (left, right) = inside
        lines = self._enlarged(low, (bottom - top, right - left))
        return lines + self._within_image(inside, wanted)

    def _within_image(self, shown: list[tuple[int, int]], wanted: Wanted) -> list[str]:
        """Cut off what a map shows beyond the image, and repeat its edge where it does not reach that of the image."""
        lines = []
        kept = [(max(0, first), min(end, size)) for (first, end), size in zip(shown, wanted.size_hw)]
        if kept != shown:
            starts = [begin - first for (begin, _), (first, _) in zip(kept, shown)]
            ends = [end - first for (_, end), (first, _) in zip(kept, shown)]
            self.add("Slice", [np.array(part, np.int64) for part in (starts, ends, [2, 3])])
            sizes = hw_text((shown[0][1] - shown[0][0], shown[1][1] - shown[1][0]))
            lines.append(f"the graph pads inside and shows {sizes} pixels: those beyond the image are cut off")
        (top, bottom), (left, right) = kept
        height, width = wanted.size_hw
        if kept != [(0, height), (0, width)]:
            pads = [0, 0, top, left, 0, 0, height - bottom, width - right]
            self.add("Pad", [np.array(pads, np.int64)], mode="edge")
            lines.append(
                f"the graph gives only {hw_text((bottom - top, right - left))} pixels of {hw_text(wanted.size_hw)}, "
                f"from row {top} and column {left} (unpadded convolutions): they are put there, and the border repeats "
                "their edge"
            )
        return lines

    def _enlarged(self, low: tuple[int, ...], size: tuple[int, int]) -> list[str]:
        if low == size:
            return []
        how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        if all(full % part == 0 for full, part in zip(size, low)):
            scales = np.array([1, 1, *(full / part for full, part in zip(size, low))], np.float32)
            self.add("Resize", [None, scales], **how)
        else:  # a float32 scale is often one pixel short
            self.add("Resize", [None, None, np.array([*self.values.shape[:2], *size], np.int64)], **how)
        factors = "x".join(f"{full / part:g}" for full, part in zip(size, low))
        return [f"bilinear Resize of the logits by {factors}: the graph gives {hw_text(low)}"]

    def add(self, operator: str, inputs: list[np.ndarray | None], source: str | None = None, **how: Any) -> str:
        """Put a node with constant further inputs behind ``source``, else behind the end, which it then is."""
        name = self._graph.unused_name(f"logits_{operator.lower()}")
        names = [
            "" if value is None else self._graph.add_constant(f"{name}_{index}", value)
            for index, value in enumerate(inputs)
        ]
        self._graph.add(operator, [source or self.name, *names], name, **how)
        if source is None:
            self.name = name
        return name

    def joined(self, operator: str, names: list[str], **how: Any) -> str:
        """Put a node behind several tensors."""
        return self._graph.add(operator, names, self._graph.unused_name(f"scores_{operator.lower()}"), **how)

    def one(self) -> str:
        """Return the constant 1."""
        return self._graph.add_constant(self._graph.unused_name("scores_one"), np.float32(1))

    def give_scores(self, name: str) -> None:
        self._scores = name

    def finish(self, wanted: Wanted) -> None:
        """Name the outputs."""
        shape = [1, wanted.class_count, *wanted.size_hw]
        del self._model.graph.output[:]
        for name, output in ((self.name, LOGITS), (self._scores, SCORES)):
            if name:
                self._graph.rename({name: output})
                self._graph.give(output, shape=shape)


_TURNS = ((0, 1, 3, 2), (0, 3, 2, 1), (0, 2, 1, 3))
"""Transposes that swap rows and columns, of NCHW, on the way to NHWC, and of NHWC."""


def _flattened(shape: tuple[int, ...], wanted: Wanted) -> tuple[int, ...] | None:
    """The four axes of 1x(H*W)xC or 1xCx(H*W), as Keras networks give them; None for any other shape."""
    counts = {wanted.class_count, wanted.class_count - 1} - {0}
    for stride in (1, 2, 4, 8, 16, 32):
        height, width = (-(-size // stride) for size in wanted.size_hw)
        if shape[0] == 1 and shape[1] == height * width and shape[2] in counts:
            return 1, height, width, shape[2]
        if shape[0] == 1 and shape[2] == height * width and shape[1] in counts:
            return 1, shape[1], height, width
    return None


def _channel_axis(shape: tuple[int, ...], end: Ending, wanted: Wanted, independent: bool, seen: str) -> int:
    """Where the classes are. Raises when the shape is not that of logits of these classes and this size."""
    if len(shape) != 4 or shape[0] != 1:
        raise CompileError(f"{wanted.output!r} gives {seen}; logits are 1xCxHxW; pass `output` NAME of the logits")
    counts = (
        {wanted.class_count}
        | ({1} if wanted.class_count == 2 else set())
        | ({wanted.class_count - 1} if independent else set())
    )
    axes = [end.channel_axis] if end.channel_axis in (1, 3) and shape[end.channel_axis] in counts else [1, 3]
    counted = [axis for axis in axes if shape[axis] in counts]
    fitting = [axis for axis in counted if _within(np.delete(shape, [0, axis]), wanted.size_hw)]
    if len(fitting) > 1:
        fitting = [axis for axis in fitting if _covers(np.delete(shape, [0, axis]), wanted.size_hw)] or fitting
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise CompileError(
            f"{wanted.output!r} gives {seen}: which axis is the classes cannot be told; use another `size`"
        )
    if counted:
        raise UsageError(
            f"{wanted.output!r} gives {seen}, larger than its input of {hw_text(wanted.size_hw)}: the graph was made "
            "for another size; pass its own `size`, or `output` NAME of its logits"
        )
    remedy = _one_channel(shape, axes, wanted) or "pass the class names of this network, or `output` NAME of its logits"
    raise UsageError(
        f"`classes` lists {wanted.class_count}, but {wanted.output!r} gives {seen} for an input of "
        f"{hw_text(wanted.size_hw)}; {remedy}"
    )


def _one_channel(shape: tuple[int, ...], axes: list[int], wanted: Wanted) -> str:
    if 1 in [shape[axis] for axis in axes] and wanted.class_count != 2:
        return "one channel decides between two classes: list both, first what it is not"
    return ""


def _within(low: np.ndarray, size_hw: tuple[int, int]) -> bool:
    return all(0 < int(part) <= size for part, size in zip(low, size_hw))


def _covers(low: np.ndarray, size_hw: tuple[int, int]) -> bool:
    """Whether logits of some height and width show the whole image, up to one pixel of theirs."""
    height, width = (int(size) for size in low)
    return abs(height - size_hw[0] * width / size_hw[1]) <= 1 or abs(width - size_hw[1] * height / size_hw[0]) <= 1


def _part_of_image(
    model: onnx.ModelProto, tensor: str, shape: tuple[int, ...], wanted: Wanted
) -> list[tuple[int, int]] | None:
    """Rows and columns, as (first, behind the last), that a map shows; None for the whole image.

    Raises:
        CompileError: it cannot be told, and the sizes are not those of a whole image divided by a stride.
    """
    low, places = shape[2:], _positions(model, tensor, shape)
    if places is None:
        strides = {_stride(part, size) for part, size in zip(low, wanted.size_hw)}
        if None in strides:
            raise CompileError(
                f"{wanted.output!r} gives {hw_text(low)} for an input of {hw_text(wanted.size_hw)}, no fraction of it: "
                "whether that is the whole image or its middle cannot be told; export it with padded convolutions, or "
                "with its output enlarged to the size of its input"
            )
        return None
    axes = [*zip(places, low, wanted.size_hw)]
    is_padded = any(axis.step * part - size > axis.step for axis, part, size in axes)
    shown = [_shown(axis, part, size, is_padded) for axis, part, size in axes]
    whole = all(abs(size - axis.step * part) <= max(axis.step, 1) for axis, part, size in axes)
    return None if whole else shown


def _shown(axis: Axis, count: int, size: int, is_padded: bool) -> tuple[int, int]:
    """First pixel, and the one behind the last, of an image axis that ``count`` pixels of a map show.

    A map that reaches beyond the image by less than one pixel of its own shows the image: it is rounded up. Where one
    reaches further the network pads inside: behind, in front, or on both sides. Where its first pixel lies tells which;
    but only roughly, for convolutions of a stride may look at the first or at the middle of the pixels that they merge.
    """
    span = max(1, round(axis.step * count))
    half = (axis.step - 1) / 2
    if span <= size or not is_padded:
        first = min(max(0, round(axis.first - half)), size - 1)
        return first, min(size, first + span)
    surplus = span - size
    ways = (0, surplus // 2, surplus - surplus // 2, surplus)
    front = min(ways, key=lambda way: max(-axis.first - way, way + axis.first - half, 0))
    return -front, span - front


def _positions(model: onnx.ModelProto, tensor: str, shape: tuple[int, ...]) -> tuple[Axis, Axis] | None:
    """Positions on a copy in which sizes and crops that the graph computes are constants, where that can be done."""
    tools = require("onnx", "compile")
    copied = copied_onnx(model)
    del copied.graph.output[:]
    OnnxGraph(copied.graph).give(tensor, shape=shape)
    try:
        copied = simplified_onnx(copied).model
    except (EdgesegError, RuntimeError, ValueError):  # without it, crops that the graph computes stay unknown
        return None
    return positions_of(tools.shape_inference.infer_shapes(copied, data_prop=True), tensor)


def _stride(part: int, size: int) -> int | None:
    """The stride that makes ``part`` pixels of ``size``, rounded down or up; None when none does."""
    near = {max(1, size // part), round(size / part), -(-size // part)}
    return next((stride for stride in sorted(near) if part in (size // stride, -(-size // stride))), None)


def _independent(tail: _Tail, end: Ending, wanted: Wanted) -> bool:
    """Whether every channel judges by itself: by the last operator, or by values of 0-1 that do not add up to 1."""
    if wanted.sigmoids.behind_logits:
        return True
    if end.independent or end.weighted or end.activations or end.misplaced or "ArgMax" in end.removed:
        return end.independent
    return _of_zero_to_one(tail.values) and not _adds_up(tail.values)


def _are_probabilities(values: np.ndarray, end: Ending, independent: bool) -> bool:
    """Whether the tensor itself, without activations behind it, holds probabilities."""
    if end.clipped and values.shape[1] == 1:
        return True
    if end.weighted or end.activations or end.scaled:
        return False
    if end.kind_at_cut == PROBABILITIES:
        return _of_zero_to_one(values)
    return _of_zero_to_one(values) and (independent or _adds_up(values))


def _of_zero_to_one(values: np.ndarray) -> bool:
    """Whether all values can be probabilities; logits near 0 have both signs, or are all 0 in an untrained network."""
    return bool(values.min() >= 0 and 0 < values.max() <= 1 + 1e-3)


def _adds_up(values: np.ndarray) -> bool:
    return any(
        values.shape[axis] > 1 and bool(np.abs(values.sum(axis) - 1).max() < 1e-2)
        for axis in (1, 3)
        if values.ndim == 4
    )


def _with_background(tail: _Tail, end: Ending, wanted: Wanted, independent: bool, probabilities: bool) -> list[str]:
    """Add the channel of the class that stands where no other one says yes."""
    found = tail.values.shape[1]
    if found > 1 and not independent:
        if wanted.sigmoids.background is not None:
            raise UsageError(
                f"a background is for sigmoids, but the {found} channels of {wanted.output!r} are exclusive classes; "
                "leave `background` out and list it among `classes`"
            )
        if wanted.sigmoids.threshold != 0.5:
            raise UsageError(
                f"a threshold is for sigmoids, but the {found} channels are exclusive classes; leave it out"
            )
        return []
    if found > 1 and found == wanted.class_count:
        if wanted.sigmoids.exclusive:
            return []
        raise UsageError(
            f"{wanted.output!r} gives {found} sigmoids, each a class by itself, and no class stands where all are low; "
            "pass `background` NAME for those pixels (with `threshold` other than 0.5 where needed), or "
            "`background` none if one of the classes always holds"
        )
    if found > 1 and wanted.sigmoids.background is None:
        raise UsageError(
            f"{wanted.output!r} gives {found} sigmoids for {wanted.class_count} classes; pass `background` NAME: which "
            f"class stands where none is above {wanted.sigmoids.threshold:g}"
        )
    place = wanted.sigmoids.background or 0
    level = _level(end, wanted, probabilities)
    before, behind = (1, 0) if place == 0 else (0, 1)
    tail.add("Pad", [np.array([0, before, 0, 0, 0, behind, 0, 0], np.int64), np.array(level, np.float32)])
    if 0 < place < found:
        order = [*range(place), found, *range(place, found)]
        tail.add("Gather", [np.array(order, np.int64)], axis=1)
    tail.values = np.broadcast_to(tail.values[:, :1], (1, found + 1, *tail.values.shape[2:]))
    if found > 1:
        threshold = wanted.sigmoids.threshold
        return [f"{found} sigmoids: class {place} where none is above {threshold:g}, elsewhere the largest"]
    return [f"one channel became two: class {1 - place} where it is above {level:g}, class {place} elsewhere"]


def _level(end: Ending, wanted: Wanted, probabilities: bool) -> float:
    """The value of the tensor at which its probability is the threshold."""
    if not 0 < wanted.sigmoids.threshold < 1:
        raise UsageError(f"a threshold is a probability between 0 and 1, got {wanted.sigmoids.threshold:g}")
    if probabilities:
        return wanted.sigmoids.threshold
    if end.kind_at_cut is None and not end.activations:
        raise CompileError(
            f"whether {wanted.output!r} gives logits (yes above 0) or probabilities (above 0.5) cannot be told from "
            "its last operators; pass `output` NAME of the logits, or export with a channel per class"
        )
    return math.log(wanted.sigmoids.threshold / (1 - wanted.sigmoids.threshold))


def _add_scores(tail: _Tail, found: int, end: Ending, wanted: Wanted, independent: bool, probabilities: bool) -> None:
    """Give ``scores`` where the graph's own probabilities are no softmax of its logits."""
    place = (wanted.sigmoids.background or 0) if found < wanted.class_count else None
    if found == 1 or independent:
        own = tail.name
        if place is not None:
            kept = [index for index in range(wanted.class_count) if index != place]
            own = tail.add("Gather", [np.array(kept, np.int64)], own, axis=1)
        each = _clipped(tail, own) if probabilities else tail.add("Sigmoid", [], own)
        tail.give_scores(each if place is None else _with_rest(tail, each, found, place))
    elif probabilities:
        tail.give_scores(_clipped(tail, tail.name))
    elif len(end.activations) > 1:
        scores = tail.name
        for activation in end.activations[:-1]:
            scores = tail.joined(activation, [scores], **({} if activation == "Sigmoid" else {"axis": 1}))
        tail.give_scores(tail.joined("Softmax", [scores], axis=1))


def _clipped(tail: _Tail, name: str) -> str:
    return tail.add("Clip", [np.array(0, np.float32), np.array(1, np.float32)], name)


def _with_rest(tail: _Tail, each: str, found: int, place: int) -> str:
    """Sigmoids and, at its place, the probability that the largest of them is wrong."""
    largest = tail.joined("ReduceMax", [each], axes=[1], keepdims=1) if found > 1 else each
    rest = tail.joined("Sub", [tail.one(), largest])
    if place in (0, found):
        return tail.joined("Concat", [rest, each] if place == 0 else [each, rest], axis=1)
    order = [*range(place), found, *range(place, found)]
    return tail.add("Gather", [np.array(order, np.int64)], tail.joined("Concat", [each, rest], axis=1), axis=1)
