"""Read the kernel plan that TensorRT-RTX names in its build log: the proof of INT8 where no GPU can be asked."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import Iterable

from edgeseg.engines.tensorrt.layers import LayerPrecisions, generated_convolutions
from edgeseg.errors import EngineError

__all__ = ["FLOATS", "Kernel", "Tensor", "kernels_from_log", "precisions_from_kernels"]

_BYTES = {"Float": 4, "Half": 2, "BFloat16": 2, "Int8": 1, "UInt8": 1, "Bool": 1, "FP8": 1, "Int32": 4, "Int64": 8}
FLOATS = ("Float", "Half", "BFloat16")
_CONVOLUTIONS = ("correlation", "deconv")
_SYNCHRONISATION = ("signal", "wait")
_LINE = re.compile(
    r"Name: (?P<name>.*?), LayerType: (?P<kind>\w+), Inputs: (?P<inputs>.*?)(?:, Constants: (?P<constants>.*?))?"
    r", Outputs: (?P<outputs>.*?), TacticName: .*?Metadata: ?(?P<layers>.*)"
)
_TENSOR = re.compile(r"\{ Name: (.*?), Dimensions: \[([-\d, ]*)\][^{}]*?\bDatatype: (\w+)", re.IGNORECASE)
_WORDS = {word.lower(): word for word in _BYTES}
_LAYER = re.compile(r"\[ONNX Layer: (.*?)\]")


@dataclass(frozen=True)
class Tensor:
    """An input or output of a kernel. ``dtype`` is TensorRT's word: ``Float``, ``Half``, ``Int8``, ``UInt8``..."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def size_bytes(self) -> int:
        """Return its size in bytes."""
        return math.prod(self.shape) * _BYTES.get(self.dtype, 4)

    def __str__(self) -> str:
        return f"{'x'.join(map(str, self.shape))} {self.dtype}"


@dataclass(frozen=True)
class Kernel:
    """One launch on the GPU.

    Attributes:
        name: the compiler's name; of a generated kernel the operations in it, like ``MulAddReluRounCast``.
        kind: ``correlation`` and ``deconv`` are convolutions, ``kgen`` is generated pointwise code, and so on.
        layers: names of the ONNX nodes that are in it, as far as the compiler says.
        inputs: activations, and weights that another kernel computes.
        constants: weights, scales and biases.
        outputs: activations.
    """

    name: str
    kind: str
    layers: tuple[str, ...]
    inputs: tuple[Tensor, ...]
    constants: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @property
    def convolutions(self) -> int:
        """Count the convolutions that are in it."""
        return 1 if self.kind in _CONVOLUTIONS else generated_convolutions(self.name)

    @property
    def int8_convolutions(self) -> int:
        """Count those that multiply INT8: their weights are stored as INT8 and not made float by another kernel."""
        return self.convolutions if any(tensor.dtype == "Int8" for tensor in self.constants) else 0

    @property
    def is_conversion(self) -> bool:
        """Tell whether it has no convolution and reads only float to write only INT8, or the other way round."""
        read, written = ({tensor.dtype for tensor in tensors} for tensors in (self.inputs, self.outputs))
        return not self.convolutions and (
            (_all_float(read) and written == {"Int8"}) or (read == {"Int8"} and _all_float(written))
        )


def kernels_from_log(lines: Iterable[str]) -> tuple[Kernel, ...]:
    """Parse the kernels that a detailed build log names; lines that wait for another stream are no kernels.

    Raises:
        EngineError: the log names no kernels, or in a format that is not known here.
    """
    kernels = []
    for line in lines:
        if ", LayerType: " not in line:
            continue
        found = _LINE.search(line)
        if found is None:
            raise _unknown_format(line)
        if found["kind"] not in _SYNCHRONISATION:
            kernels.append(
                Kernel(
                    found["name"],
                    found["kind"],
                    tuple(_LAYER.findall(found["layers"])),
                    *(_tensors(found[part] or "") for part in ("inputs", "constants", "outputs")),
                )
            )
    if not kernels:
        raise EngineError("this TensorRT-RTX names no kernels in its build log; use version 1.7, which does")
    return tuple(kernels)


def _unknown_format(seen: str) -> EngineError:
    return EngineError(
        f"this TensorRT-RTX writes its kernel plan in an unknown format, use version 1.7: {seen[:120]!r}"
    )


def _tensors(listing: str) -> tuple[Tensor, ...]:
    found = _TENSOR.findall(listing)
    if len(found) != len(re.findall(r"\bName: ", listing)):
        raise _unknown_format(listing)
    return tuple(
        Tensor(name, tuple(int(n) for n in shape.split(",") if n), _WORDS.get(dtype.lower(), dtype))
        for name, shape, dtype in found
    )


def _all_float(dtypes: set[str]) -> bool:
    return bool(dtypes) and dtypes.issubset(FLOATS)


def _precision(kernel: Kernel) -> str:
    """Return the precision of a kernel's inputs."""
    read = {tensor.dtype for tensor in kernel.inputs}
    return "INT8" if "Int8" in read else "FP16" if "Half" in read else "FP32"


def precisions_from_kernels(kernels: Iterable[Kernel]) -> LayerPrecisions:
    """Count layers, convolutions and conversions as an engine's inspector would."""
    listed = list(kernels)
    total, int8 = sum(k.convolutions for k in listed), sum(k.int8_convolutions for k in listed)
    layers = Counter(_precision(kernel) for kernel in listed)
    floating = "FP16" if layers.get("FP16", 0) > layers.get("FP32", 0) else "FP32"
    convolutions = {name: count for name, count in (("INT8", int8), (floating, total - int8)) if count}
    return LayerPrecisions(dict(layers), convolutions, sum(k.is_conversion for k in listed))
