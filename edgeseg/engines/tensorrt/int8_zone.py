"""Decide for implicit INT8 which tensors get a range, and with it the permission to be INT8.

TensorRT may run any layer in INT8 whose tensors have ranges, if that is fastest; a tensor without one stays in float.
So a tensor gets a range only where the Q/DQ graph of the host quantizes too: where a layer with weights reads it, and
between such layers. Not in front of the first one: 8 bits of ``frame`` minus its mean are not the network's input in 8
bits. Not behind the last one: ArgMax would compare what was rounded, and class ids that were divided by their scale
come out truncated, as other classes.

The last layer itself has a range on both sides, because NVIDIA's guide asks for that where INT8 is multiplied (by
TensorRT's issues 993 and 1165 the output may lack it), and is held to write float: layers that multiply INT8 and write
FP32 are the mixed ones that the guide names, and where there is no such kernel one that multiplies float fits as well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Collection, Iterable, Iterator, Mapping

from edgeseg.errors import EngineError

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["Int8Zone", "computed_layers", "int8_zone", "is_float"]

_WEIGHTED = ("CONVOLUTION", "DECONVOLUTION", "FULLY_CONNECTED", "MATRIX_MULTIPLY")
"""Layers where a stretch of INT8 begins and ends. Other inputs than the first have scales of their own, channel by
channel, but in a multiplication of matrices."""

_MOVERS = ("SHUFFLE", "SLICE", "IDENTITY", "CAST", "PADDING", "POOLING", "RESIZE")
"""Layers whose output stays within the range of their input."""

_SUFFIX = re.compile(r"_\d+$")
"""What the parser adds to the name of a constant's layer when another layer has that name."""


@dataclass(frozen=True, eq=False)
class _Layer:
    """Facts about a layer that the flow of data needs; tensors by name."""

    layer: trt.ILayer
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def reads(self) -> tuple[str, ...]:
        """Return its inputs without the weights of a convolution."""
        return self.inputs if self.kind == "MATRIX_MULTIPLY" else self.inputs[:1]


@dataclass(frozen=True)
class Int8Zone:
    """Part of a network where INT8 is allowed.

    Attributes:
        ranges: largest magnitude by tensor.
        missing: tensors within the zone whose range nobody knows, in the network's order.
        outside: tensors of float that get none because INT8 must not be there.
        last: layers that may multiply INT8 but have to write float.
        kept: layers that have to stay in float.
    """

    ranges: Mapping[str, float]
    missing: tuple[str, ...]
    outside: frozenset[str]
    last: tuple[trt.ILayer, ...]
    kept: tuple[trt.ILayer, ...]


def int8_zone(
    network: trt.INetworkDefinition,
    amax: Mapping[str, float],
    constants: Mapping[str, float],
    float_layers: Collection[str] = (),
) -> Int8Zone:
    """Find where INT8 may be in a parsed network, by the flow of its data.

    Args:
        network: network of a graph without Q/DQ.
        amax: largest magnitude by tensor, for the tensors that the host saw.
        constants: the same for constants, by the name of the initializer.
        float_layers: layers that stay in float, by the ONNX tensor that they make.

    Raises:
        EngineError: the network has no such layer.
    """
    flow = _Flow(network)
    kept = flow.layers_of(float_layers, amax)
    int8 = [layer for layer in flow.layers if flow.has_weights(layer) and layer not in kept]
    zone = flow.between(int8)
    last = [flow.end_of(layer, amax) for layer in int8 if not zone.intersection(layer.outputs)]
    ends = {name for layer in last for name in layer.outputs if name in amax}
    known = {name: flow.range_of(name, amax, constants) for name in flow.floats if name in zone | ends}
    products = {name for layer in int8 if layer.kind == "MATRIX_MULTIPLY" for name in layer.outputs}  # before a bias
    return Int8Zone(
        ranges={name: value for name, value in known.items() if value is not None},
        missing=tuple(name for name, value in known.items() if value is None and name not in products),
        outside=frozenset(flow.floats) - zone - ends,
        last=tuple(layer.layer for layer in last),
        kept=tuple(layer.layer for layer in kept),
    )


def computed_layers(network: trt.INetworkDefinition) -> list[trt.ILayer]:
    """List the layers that depend on a network's inputs, in its order; a build folds the others."""
    flow = _Flow(network)
    return [layer.layer for layer in flow.layers if not flow.is_constant(layer)]


class _Flow:
    """A network as a graph of tensor names.

    Attributes:
        layers: in the network's order, on which nothing depends.
        floats: tensors of a float type.
    """

    def __init__(self, network: trt.INetworkDefinition) -> None:
        self.layers = [_read(network.get_layer(index)) for index in range(network.num_layers)]
        sources = [network.get_input(index) for index in range(network.num_inputs)]
        made = [tensor for layer in self.layers for tensor in _tensors(layer.layer)]
        self.floats = list(dict.fromkeys(tensor.name for tensor in (*sources, *made) if is_float(tensor)))
        self._makers = {name: layer for layer in self.layers for name in layer.outputs}
        self._readers: dict[str, list[_Layer]] = {}
        for layer in self.layers:
            for name in layer.inputs:
                self._readers.setdefault(name, []).append(layer)
        from_sources = _reached((tensor.name for tensor in sources), lambda name: self._ahead(name, ()))
        self._constant = {name for name in self._makers if name not in from_sources}

    def is_constant(self, layer: _Layer) -> bool:
        """Tell whether nothing that a layer makes depends on the network's inputs."""
        return self._constant.issuperset(layer.outputs)

    def has_weights(self, layer: _Layer) -> bool:
        """Tell whether a layer is worth INT8; the product of two activations (attention) is not."""
        return layer.kind in _WEIGHTED and (
            layer.kind != "MATRIX_MULTIPLY" or not self._constant.isdisjoint(layer.inputs)
        )

    def layers_of(self, tensors: Collection[str], named: Collection[str]) -> list[_Layer]:
        """Find the layers that make ONNX tensors; an operator (Gemm) may have several with nameless tensors between."""
        found: list[_Layer] = []
        for tensor in sorted(tensors):
            if tensor not in self._makers:
                raise EngineError(f"layer {tensor!r}, which must stay in float, is not in TensorRT's network")
            waiting = [self._makers[tensor]]
            while waiting:
                layer = waiting.pop()
                found.append(layer)
                if layer.kind not in _WEIGHTED:
                    inner = (name for name in layer.inputs if name not in named and name not in self._constant)
                    waiting += [self._makers[name] for name in inner if name in self._makers]
        return found

    def end_of(self, layer: _Layer, named: Collection[str]) -> _Layer:
        """Find the last layer of the operator that a layer is of: the one whose tensor ONNX knows."""
        readers = self._readers.get(layer.outputs[0], [])
        if layer.outputs[0] in named or len(readers) != 1 or readers[0].kind in _WEIGHTED or not readers[0].outputs:
            return layer
        return self.end_of(readers[0], named)

    def between(self, int8: Collection[_Layer]) -> set[str]:
        """Find tensors of float that INT8 layers read, those from one to another, and constants used there."""
        read = {name for layer in int8 for name in layer.reads}
        behind = _reached((name for layer in int8 for name in layer.outputs), lambda name: self._ahead(name, _WEIGHTED))
        before = _reached(read, lambda name: self._back(name))
        wanted = (before & behind - self._constant) | read
        used = {
            name
            for layer in self.layers
            if wanted.intersection(layer.inputs) and wanted.intersection(layer.outputs) and layer.kind not in _WEIGHTED
            for name in layer.inputs
        }
        constants = _reached((used | read) & self._constant, lambda name: self._back(name))
        return (wanted | constants) & set(self.floats)

    def range_of(self, tensor: str, amax: Mapping[str, float], constants: Mapping[str, float]) -> float | None:
        """Return the largest magnitude of a tensor; None when it is not known."""
        if tensor in amax:
            return amax[tensor]
        maker = self._makers.get(tensor)
        if maker is None:
            return None
        if maker.kind == "CONSTANT":  # its tensor has a name of TensorRT's, its layer that of the initializer
            name = maker.layer.name
            return constants.get(name, constants.get(_SUFFIX.sub("", name)))
        return self.range_of(maker.inputs[0], amax, constants) if maker.kind in _MOVERS and maker.inputs else None

    def _ahead(self, tensor: str, borders: Collection[str]) -> Iterator[str]:
        for layer in self._readers.get(tensor, ()):
            if layer.kind not in (*borders, "SHAPE"):
                yield from layer.outputs

    def _back(self, tensor: str) -> Iterable[str]:
        layer = self._makers.get(tensor)
        return () if layer is None or layer.kind in (*_WEIGHTED, "SHAPE") else layer.inputs


def _reached(starts: Iterable[str], onward: Callable[[str], Iterable[str]]) -> set[str]:
    """Collect everything that the flow reaches, the starts included."""
    found: set[str] = set()
    waiting = list(starts)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += onward(name)
    return found


def _read(layer: trt.ILayer) -> _Layer:
    inputs = [layer.get_input(number) for number in range(layer.num_inputs)]
    names = tuple(tensor.name for tensor in inputs if tensor is not None)
    return _Layer(layer, str(layer.type).rpartition(".")[2], names, tuple(tensor.name for tensor in _tensors(layer)))


def _tensors(layer: trt.ILayer) -> list[trt.ITensor]:
    outputs = [layer.get_output(number) for number in range(layer.num_outputs)]
    return [tensor for tensor in outputs if tensor is not None]


def is_float(tensor: trt.ITensor) -> bool:
    """Tell whether a tensor of a network holds float32 or float16."""
    return str(tensor.dtype).rpartition(".")[2] in ("FLOAT", "HALF")
