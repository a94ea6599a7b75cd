"""Rounding weights for the layer's output instead of each weight for itself.

Rounding to the nearest level is the best for one weight and not for their sum: a convolution's output error is
``dw H dw'`` with the second moment H = E[x x'] of its input patches, so errors of weights whose inputs go together
should cancel. The levels are found column by column, each error passed on to the weights not yet rounded (Frantar et
al. 2022, "Optimal Brain Compression" and "GPTQ"). It needs no gradients and no training framework, and the result has
the same form, size and speed as nearest rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable

import numpy as np

from edgeseg.compiler.collect import input_size_hw
from edgeseg.compiler.graph import attribute
from edgeseg.errors import CompileError, require
from edgeseg.images import Dataset
from edgeseg.preprocess import resized_frame

if TYPE_CHECKING:
    import onnx

__all__ = ["LARGEST_PATCH", "input_moments", "rounded_levels"]

LARGEST_PATCH = 2048
"""Convolutions with more weights per output channel are rounded to nearest: H grows with the square."""
_DAMPING = 0.01
_BLOCK = 64


def input_moments(
    model: onnx.ModelProto,
    frames: Dataset,
    *,
    images: int = 64,
    positions: int = 128,
    largest_patch: int = LARGEST_PATCH,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, np.ndarray]:
    """Second moments of the input patches of a graph's convolutions, over calibration images.

    The patches are taken inside the graph, at positions drawn anew for each image from a fixed seed: memory grows
    neither with images nor with their size, and the same data give the same moments.

    Args:
        model: the folded FP32 graph, for one frame at a time.
        frames: calibration images; resized by the one ``preprocess``.
        images: how many of them are used, evenly spread.
        positions: output pixels per image and convolution.
        largest_patch: of a convolution that is looked at, in weights per output channel.
        report: called with (images done, images in all).

    Returns:
        Output name of a convolution -> float32 groups x K x K, with K = weights per output channel in the weight's
        own order (input channel, row, column). Left out are convolutions with a larger K, with weights that are not
        constant, with ``auto_pad``, or that read the graph's input directly.

    Raises:
        CompileError: there are no images.
    """
    if not len(frames):
        raise CompileError("weights cannot be rounded without calibration images; pass --calib FOLDER")
    convolutions = _convolutions(model, largest_patch)
    session = require("onnxruntime", "").InferenceSession(
        _with_patches(model, convolutions).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    outputs = [f"{convolution.output}/patches" for convolution in convolutions]
    sums = {c.output: np.zeros((c.groups, c.size, c.size), np.float32) for c in convolutions}
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(images, len(frames))).astype(int))
    rng = np.random.default_rng(0)
    for done, index in enumerate(chosen):
        taken = [convolution.pixels(rng, positions) for convolution in convolutions]
        feeds = {f"{c.output}/pixels": pixels.ravel() for c, (pixels, _) in zip(convolutions, taken)}
        feeds[model.graph.input[0].name] = resized_frame(frames[int(index)].frame, input_size_hw(model))[None]
        for convolution, (_, inside), values in zip(convolutions, taken, session.run(outputs, feeds)):
            patches = convolution.patches(values, inside)
            sums[convolution.output] += patches @ patches.transpose(0, 2, 1)
        report(done + 1, len(chosen))
    return {name: total / np.float32(len(chosen) * positions) for name, total in sums.items()}


def rounded_levels(weight: np.ndarray, scale: np.ndarray, moments: np.ndarray, limit: int) -> np.ndarray:
    """Integer levels of a convolution's weight that keep its output, not each weight, close.

    Args:
        weight: float, outputs x inputs per group x height x width.
        scale: of each output channel.
        moments: of the convolution's input patches, groups x K x K, from ``input_moments``.
        limit: the largest level; the smallest is its negative.

    Returns:
        int8 of the weight's shape. Usually a level next to the weight, but not bound to it.
    """
    groups, size, _ = moments.shape
    rows = weight.astype(np.float64).reshape(len(weight), -1) / scale.astype(np.float64)[:, None]
    columns = rows.reshape(groups, -1, size).transpose(0, 2, 1)
    power = np.einsum("gkk->gk", moments).astype(np.float64)
    order = np.argsort(-power, axis=1, kind="stable")
    left = np.take_along_axis(columns, order[:, :, None], 1)
    passed_on = _passed_on(moments, power, order)
    levels = np.empty_like(left)
    for start in range(0, size, _BLOCK):
        stop = min(start + _BLOCK, size)
        errors = np.empty_like(left[:, start:stop])
        for k in range(start, stop):
            levels[:, k] = np.clip(np.rint(left[:, k]), -limit, limit)
            errors[:, k - start] = (left[:, k] - levels[:, k]) / passed_on[:, k, k, None]
            left[:, k + 1 : stop] -= passed_on[:, k, k + 1 : stop, None] * errors[:, k - start, None]
        left[:, stop:] -= passed_on[:, start:stop, stop:].transpose(0, 2, 1) @ errors
    ordered = np.take_along_axis(levels, np.argsort(order, axis=1)[:, :, None], 1)
    return np.asarray(ordered.transpose(0, 2, 1).reshape(weight.shape), np.int8)


def _passed_on(moments: np.ndarray, power: np.ndarray, order: np.ndarray) -> np.ndarray:
    """How a weight's error goes on to those rounded after it: the upper Cholesky factor of the damped H's inverse."""
    damping = np.maximum(_DAMPING * power.mean(axis=1), 1e-12)
    damped = moments + damping[:, None, None] * np.eye(moments.shape[1])
    ordered = np.take_along_axis(np.take_along_axis(damped, order[:, :, None], 1), order[:, None, :], 2)
    return np.asarray(np.linalg.cholesky(np.linalg.inv(ordered)).transpose(0, 2, 1))


@dataclass(frozen=True)
class _Convolution:
    """What is needed to take the input patches of a convolution."""

    input: str
    output: str
    channels: int
    groups: int
    kernel_hw: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int]
    input_hw: tuple[int, int]
    output_hw: tuple[int, int]

    @property
    def size(self) -> int:
        return self.channels // self.groups * self.kernel_hw[0] * self.kernel_hw[1]

    def pixels(self, rng: np.random.Generator, positions: int) -> tuple[np.ndarray, np.ndarray]:
        """Flat input pixels of random patches, int64 kernel height x width x positions, and which are inside."""
        (height, width), places = self.input_hw, []
        for axis in (0, 1):
            corner = rng.integers(0, self.output_hw[axis], positions) * self.strides[axis] - self.pads[axis]
            places.append(np.arange(self.kernel_hw[axis])[:, None] * self.dilations[axis] + corner)
        rows, columns = places[0][:, None], places[1][None]
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        return np.where(inside, rows * width + columns, 0).astype(np.int64), inside

    def patches(self, values: np.ndarray, inside: np.ndarray) -> np.ndarray:
        """Gathered pixels, channels x (kernel x positions) -> groups x K x positions; padding is zero."""
        masked = values.reshape(self.channels, *inside.shape) * inside
        return np.asarray(masked.reshape(self.groups, self.size, inside.shape[-1]), np.float32)


def _convolutions(model: onnx.ModelProto, largest_patch: int) -> list[_Convolution]:
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.value_info}
    found = []
    for node in model.graph.node:
        if node.op_type != "Conv" or len(weights.get(node.input[1], ())) != 4 or _pads_itself(node):
            continue
        if node.input[0] not in shapes or node.output[0] not in shapes:
            continue
        found.append(_convolution(node, weights[node.input[1]], shapes))
    return [convolution for convolution in found if convolution.size <= largest_patch]


def _convolution(node: onnx.NodeProto, weight: tuple[int, ...], shapes: dict[str, list[int]]) -> _Convolution:
    _, channels, *input_hw = shapes[node.input[0]]
    return _Convolution(
        node.input[0],
        node.output[0],
        channels,
        attribute(node, "group", 1),
        (weight[2], weight[3]),
        _pair(node, "strides", 1),
        _pair(node, "dilations", 1),
        _pair(node, "pads", 0),
        (input_hw[0], input_hw[1]),
        (shapes[node.output[0]][2], shapes[node.output[0]][3]),
    )


def _pads_itself(node: onnx.NodeProto) -> bool:
    return any(a.name == "auto_pad" and a.s not in (b"", b"NOTSET", b"VALID") for a in node.attribute)


def _pair(node: onnx.NodeProto, name: str, default: int) -> tuple[int, int]:
    """The first two values of an attribute: one per axis, and of ``pads`` those in front."""
    values = next((a.ints for a in node.attribute if a.name == name), (default, default))
    return values[0], values[1]


def _with_patches(model: onnx.ModelProto, convolutions: list[_Convolution]) -> onnx.ModelProto:
    """The model with ``OUTPUT/patches`` = the input's pixels at the fed ``OUTPUT/pixels`` for every convolution."""
    onnx = require("onnx", "compile")
    extended = onnx.ModelProto()
    extended.CopyFrom(model)
    graph, types, helper = extended.graph, onnx.TensorProto, onnx.helper
    for convolution in convolutions:
        name = convolution.output
        shape = onnx.numpy_helper.from_array(np.array([convolution.channels, -1]), f"{name}/flat_shape")
        graph.initializer.append(shape)
        graph.input.append(helper.make_tensor_value_info(f"{name}/pixels", types.INT64, [None]))
        graph.node.append(helper.make_node("Reshape", [convolution.input, shape.name], [f"{name}/flat"]))
        graph.node.append(helper.make_node("Gather", [f"{name}/flat", f"{name}/pixels"], [f"{name}/patches"], axis=1))
        graph.output.append(helper.make_tensor_value_info(f"{name}/patches", types.FLOAT, None))
    return extended
