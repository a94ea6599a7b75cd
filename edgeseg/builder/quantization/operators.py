"""Compute the operators of a compiled graph with torch, with gradients: one table, operator -> function."""

from __future__ import annotations

import math
from typing import Any, Callable, Mapping, Sequence, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from edgeseg.errors import CompileError

__all__ = ["OPERATORS", "rounded_activation"]

Inputs = Sequence[Any]
How = Mapping[str, Any]
_LOWEST, _HIGHEST = -128, 127
"""What QuantizeLinear saturates to."""


def rounded_activation(value: Tensor, scale: Tensor) -> Tensor:
    """Round an activation to int8 levels and back, as QuantizeLinear and DequantizeLinear with zero point 0 do.

    The gradient passes where the value is not clipped: the straight-through estimator (Bengio et al. 2013, "Estimating
    or Propagating Gradients Through Stochastic Neurons for Conditional Computation").

    Args:
        value: float32 of any shape.
        scale: float32 scalar.
    """
    return cast(Tensor, _Rounded.apply(value, scale))


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, scale: Tensor) -> Tensor:
        levels = value / scale
        ctx.save_for_backward((levels >= _LOWEST) & (levels <= _HIGHEST))
        return levels.round_().clamp_(_LOWEST, _HIGHEST).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None


def _quantized(inputs: Inputs, how: How) -> Tensor:
    """The levels are not kept: what comes out is dequantized already, so DequantizeLinear passes it on."""
    value, scale, zero = inputs
    if scale.ndim or int(zero) or zero.dtype is not torch.int8:
        raise CompileError("a QuantizeLinear is not symmetric int8 with one scale; fine-tune for TensorRT's graph")
    return rounded_activation(value, scale)


def _dequantized(inputs: Inputs, how: How) -> Tensor:
    value, scale = inputs[:2]
    if value.is_floating_point():
        return cast(Tensor, value)
    axis = how.get("axis", 1)
    along = scale.reshape([-1 if place == axis else 1 for place in range(value.ndim)]) if scale.ndim else scale
    return cast(Tensor, value.to(torch.float32) * along)


def _sides(inputs: Inputs, how: How, fill: float = 0.0) -> tuple[Tensor, Any]:
    """The input and its padding as torch takes it: one number per axis, or padded by hand where sides differ."""
    if how.get("auto_pad", b"NOTSET") not in (b"NOTSET", b""):
        raise CompileError("the graph pads by rule (auto_pad); export it with numbers")
    pads = list(how.get("pads", (0, 0, 0, 0)))
    half = len(pads) // 2
    if pads[:half] == pads[half:]:
        return inputs[0], tuple(pads[:half])
    around = [side for axis in reversed(range(half)) for side in (pads[axis], pads[axis + half])]
    return F.pad(inputs[0], around, value=fill), (0,) * half


def _convolution(inputs: Inputs, how: How) -> Tensor:
    value, padding = _sides(inputs, how)
    bias = inputs[2] if len(inputs) > 2 else None
    strides, dilations = tuple(how.get("strides", (1, 1))), tuple(how.get("dilations", (1, 1)))
    return F.conv2d(value, inputs[1], bias, strides, padding, dilations, how.get("group", 1))


def _transposed(inputs: Inputs, how: How) -> Tensor:
    pads = list(how.get("pads", (0, 0, 0, 0)))
    if pads[:2] != pads[2:] or how.get("output_shape"):
        raise CompileError("a transposed convolution has sides of different padding, which fine-tuning does not know")
    bias = inputs[2] if len(inputs) > 2 else None
    return F.conv_transpose2d(
        inputs[0],
        inputs[1],
        bias,
        tuple(how.get("strides", (1, 1))),
        tuple(pads[:2]),
        tuple(how.get("output_padding", (0, 0))),
        how.get("group", 1),
        tuple(how.get("dilations", (1, 1))),
    )


def _largest(inputs: Inputs, how: How) -> Tensor:
    value, padding = _sides(inputs, how, -math.inf)
    strides, dilations = tuple(how.get("strides", (1, 1))), tuple(how.get("dilations", (1, 1)))
    return F.max_pool2d(value, tuple(how["kernel_shape"]), strides, padding, dilations, bool(how.get("ceil_mode", 0)))


def _average(inputs: Inputs, how: How) -> Tensor:
    counts = bool(how.get("count_include_pad", 0))
    value, padding = _sides(inputs, how)
    if value is not inputs[0] and not counts:
        raise CompileError("an average has sides of different padding, which fine-tuning does not know")
    strides = tuple(how.get("strides", (1, 1)))
    return F.avg_pool2d(value, tuple(how["kernel_shape"]), strides, padding, bool(how.get("ceil_mode", 0)), counts)


def _resized(inputs: Inputs, how: How) -> Tensor:
    value = inputs[0]
    if len(inputs) > 3 and inputs[3] is not None:
        size = [int(side) for side in inputs[3].tolist()[2:]]
    else:
        size = [math.floor(side * scale + 1e-6) for side, scale in zip(value.shape[2:], inputs[2].tolist()[2:])]
    mode, where = (
        how.get("mode", b"nearest").decode(),
        how.get("coordinate_transformation_mode", b"half_pixel").decode(),
    )
    if mode == "nearest" and where == "asymmetric" and how.get("nearest_mode") == b"floor":
        return F.interpolate(value, size, mode="nearest")
    if mode in ("linear", "cubic") and where in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        kind = "bilinear" if mode == "linear" else "bicubic"
        return F.interpolate(value, size, mode=kind, align_corners=where == "align_corners")
    raise CompileError(f"the graph resizes by {mode} and {where}, which fine-tuning does not know")


def _sliced(inputs: Inputs, how: How) -> Tensor:
    value, starts, ends = inputs[0], inputs[1].tolist(), inputs[2].tolist()
    axes = inputs[3].tolist() if len(inputs) > 3 and inputs[3] is not None else range(len(starts))
    steps = inputs[4].tolist() if len(inputs) > 4 and inputs[4] is not None else [1] * len(starts)
    places = [slice(None)] * value.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps):
        if step < 1:
            raise CompileError("the graph reads an axis backwards (Slice), which fine-tuning does not know")
        places[axis] = slice(start, min(end, value.shape[axis]), step)
    return cast(Tensor, value[tuple(places)])


def _padded(inputs: Inputs, how: How) -> Tensor:
    value, pads = inputs[0], inputs[1].tolist()
    if len(inputs) > 3 and inputs[3] is not None:
        raise CompileError("the graph pads along named axes (Pad), which fine-tuning does not know")
    half = len(pads) // 2
    around = [side for axis in reversed(range(half)) for side in (pads[axis], pads[axis + half])]
    kind = how.get("mode", b"constant").decode()
    if kind != "constant":
        return F.pad(value, around[:4], mode={"reflect": "reflect", "edge": "replicate"}[kind])
    return F.pad(value, around, value=float(inputs[2]) if len(inputs) > 2 and inputs[2] is not None else 0.0)


def _reshaped(inputs: Inputs, how: How) -> Tensor:
    value, shape = inputs[0], inputs[1].tolist()
    shape = [value.shape[place] if side == 0 else side for place, side in enumerate(shape)]
    if shape[0] == 1:
        shape[0] = value.shape[0]  # the graph is of one frame, a batch has many
    return cast(Tensor, value.reshape(shape))


def _clipped(inputs: Inputs, how: How) -> Tensor:
    low, high = [float(one) if one is not None else None for one in (*inputs[1:], None, None)[:2]]
    return torch.clamp(inputs[0], low, high)


def _mean(inputs: Inputs, how: How) -> Tensor:
    return cast(Tensor, inputs[0].mean(_axes(inputs, how), keepdim=bool(how.get("keepdims", 1))))


def _sum(inputs: Inputs, how: How) -> Tensor:
    return cast(Tensor, inputs[0].sum(_axes(inputs, how), keepdim=bool(how.get("keepdims", 1))))


def _product(inputs: Inputs, how: How) -> Tensor:
    one = inputs[0].t() if how.get("transA") else inputs[0]
    other = inputs[1].t() if how.get("transB") else inputs[1]
    product: Tensor = how.get("alpha", 1.0) * (one @ other)
    return product + how.get("beta", 1.0) * inputs[2] if len(inputs) > 2 else product


def _axes(inputs: Inputs, how: How) -> list[int]:
    return list(inputs[1].tolist() if len(inputs) > 1 and inputs[1] is not None else how["axes"])


def _unsqueezed(inputs: Inputs, how: How) -> Tensor:
    value = inputs[0]
    for axis in sorted(_axes(inputs, how)):
        value = value.unsqueeze(axis)
    return cast(Tensor, value)


def _gathered(inputs: Inputs, how: How) -> Tensor:
    value, places, axis = inputs[0], inputs[1], how.get("axis", 0)
    if not places.ndim:
        return cast(Tensor, value.select(axis, int(places)))
    return cast(Tensor, value.index_select(axis, places.to(value.device)))


def _cast(inputs: Inputs, how: How) -> Tensor:
    if how["to"] != 1:
        raise CompileError("the graph casts to another type than float32 inside, which fine-tuning does not know")
    return cast(Tensor, inputs[0].to(torch.float32))


OPERATORS: Mapping[str, Callable[[Inputs, How], Tensor]] = {
    "Add": lambda inputs, how: inputs[0] + inputs[1],
    "AveragePool": _average,
    "Cast": _cast,
    "Clip": _clipped,
    "Concat": lambda inputs, how: torch.cat(list(inputs), how["axis"]),
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "DequantizeLinear": _dequantized,
    "Div": lambda inputs, how: inputs[0] / inputs[1],
    "Elu": lambda inputs, how: F.elu(inputs[0], how.get("alpha", 1.0)),
    "Erf": lambda inputs, how: torch.erf(inputs[0]),
    "Exp": lambda inputs, how: torch.exp(inputs[0]),
    "Flatten": lambda inputs, how: inputs[0].flatten(how.get("axis", 1)),
    "Gather": _gathered,
    "Gemm": _product,
    "GlobalAveragePool": lambda inputs, how: inputs[0].mean((2, 3), keepdim=True),
    "HardSigmoid": lambda inputs, how: torch.clamp(inputs[0] * how.get("alpha", 0.2) + how.get("beta", 0.5), 0, 1),
    "HardSwish": lambda inputs, how: F.hardswish(inputs[0]),
    "Identity": lambda inputs, how: inputs[0],
    "InstanceNormalization": lambda inputs, how: F.instance_norm(
        inputs[0], weight=inputs[1], bias=inputs[2], eps=how.get("epsilon", 1e-5)
    ),
    "LayerNormalization": lambda inputs, how: F.layer_norm(
        inputs[0], inputs[1].shape, inputs[1], inputs[2] if len(inputs) > 2 else None, how.get("epsilon", 1e-5)
    ),
    "LeakyRelu": lambda inputs, how: F.leaky_relu(inputs[0], how.get("alpha", 0.01)),
    "MatMul": lambda inputs, how: inputs[0] @ inputs[1],
    "MaxPool": _largest,
    "Mul": lambda inputs, how: inputs[0] * inputs[1],
    "PRelu": lambda inputs, how: torch.where(inputs[0] < 0, inputs[0] * inputs[1], inputs[0]),
    "Pad": _padded,
    "Pow": lambda inputs, how: inputs[0] ** inputs[1],
    "QuantizeLinear": _quantized,
    "ReduceMean": _mean,
    "ReduceSum": _sum,
    "Relu": lambda inputs, how: F.relu(inputs[0]),
    "Reshape": _reshaped,
    "Resize": _resized,
    "Sigmoid": lambda inputs, how: inputs[0].sigmoid(),
    "Slice": _sliced,
    "Softmax": lambda inputs, how: inputs[0].softmax(how.get("axis", -1)),
    "Softplus": lambda inputs, how: F.softplus(inputs[0]),
    "Sqrt": lambda inputs, how: inputs[0].sqrt(),
    "Squeeze": lambda inputs, how: inputs[0].squeeze(tuple(_axes(inputs, how))),
    "Sub": lambda inputs, how: inputs[0] - inputs[1],
    "Tanh": lambda inputs, how: inputs[0].tanh(),
    "Transpose": lambda inputs, how: inputs[0].permute(how["perm"]),
    "Unsqueeze": _unsqueezed,
}
"""ONNX operator -> (its inputs, None for one that is left out; its attributes) -> its output."""
