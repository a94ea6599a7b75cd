"""Read a network out of an ONNX graph of any exporter: fix its sizes, infer its shapes, count its kernels."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Mapping

from edgeseg.compiler.graph.onnx_graph import OnnxGraph, dims_of
from edgeseg.compiler.graph.simplify import simplified_onnx
from edgeseg.compiler.importers.cleaning import inlined_onnx
from edgeseg.compiler.importers.isolation import answer_in_child, answer_of_child
from edgeseg.errors import CompileError, MissingDependencyError, require
from edgeseg.estimate.forecast import Network
from edgeseg.estimate.kernels import fused_kernels, input_bytes

if TYPE_CHECKING:
    import onnx

__all__ = ["network_from_onnx", "network_in_child"]


def network_in_child(model: onnx.ModelProto, name: str, size_hw: tuple[int, int] | None) -> Network:
    """Run ``network_from_onnx`` in a child process, for a graph may come from anywhere.

    Raises:
        CompileError: the graph cannot be used, or its sizes are not fixed and none is given.
    """
    request = {"name": name, "size_hw": size_hw}
    facts, _ = answer_of_child(__name__, request, model.SerializeToString())
    try:
        return Network.from_json(json.loads(facts))
    except ValueError as error:  # a count that no network has
        raise CompileError(f"the graph is too large to be forecast ({error}); pass a smaller `size`") from error


def network_from_onnx(model: onnx.ModelProto, name: str, size_hw: tuple[int, int] | None = None) -> Network:
    """Return the kernels of a graph for one image.

    Args:
        model: with one image as input; it is not kept.
        name: for people.
        size_hw: of the image, where the graph leaves it open.

    Raises:
        CompileError: the graph has no image as input, another size than asked for, or shapes that cannot be inferred.
    """
    tools = require("onnx", "compile")
    if model.functions:
        model = inlined_onnx(model)
    size_hw = _fix_input(model, size_hw)
    inferred = tools.shape_inference.infer_shapes(model, data_prop=True)
    try:
        kernels = fused_kernels(inferred)
    except CompileError:  # a simplifier computes shapes, and what control flow depends on
        inferred = tools.shape_inference.infer_shapes(_simplified(model), data_prop=True)
        kernels = fused_kernels(inferred)
    return Network(name, size_hw, kernels, *input_bytes(inferred))


def _simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    """Compute what a graph computes of its shapes."""
    try:
        return simplified_onnx(model).model
    except MissingDependencyError:
        return simplified_onnx(model, "onnxslim").model


def _fix_input(model: onnx.ModelProto, size_hw: tuple[int, int] | None) -> tuple[int, int]:
    """Give the image one batch and a size, and forget what was said of other shapes."""
    weights = set(OnnxGraph(model.graph).constants)
    images = [value for value in model.graph.input if value.name not in weights]
    if len(images) != 1 or len(dims_of(images[0])) != 4:
        seen = ", ".join(f"{value.name!r} of {len(dims_of(value))} axes" for value in images) or "none"
        raise CompileError(f"the network has to have one input, an image of four axes; it has {seen}")
    dims = images[0].type.tensor_type.shape.dim
    if dims[0].dim_value > 1:
        raise CompileError(
            f"the graph takes {dims[0].dim_value} images at a time; export it for one, or for any number"
        )
    places = (1, 2) if dims[3].dim_value in (1, 3, 4) and dims[1].dim_value not in (1, 3, 4) else (2, 3)
    stated = (max(0, dims[places[0]].dim_value), max(0, dims[places[1]].dim_value))
    if size_hw is None and 0 in stated:
        raise CompileError("the graph leaves the size of the image open; pass `size` WIDTHxHEIGHT")
    if size_hw is not None and any(known not in (0, asked) for known, asked in zip(stated, size_hw)):
        raise CompileError(f"the graph is for {stated[1]}x{stated[0]} alone; leave `size` out, or export it again")
    size = size_hw or stated
    is_open = any(dim.dim_value < 1 for dim in dims)
    for place, side in ((0, 1), *zip(places, size)):
        dims[place].dim_value = side
    if is_open:
        del model.graph.value_info[:]
        for value in model.graph.output:
            value.type.tensor_type.ClearField("shape")
    return size


def _counted(content: bytes, request: Mapping[str, Any]) -> tuple[str, bytes]:
    model = require("onnx", "compile").ModelProto.FromString(content)
    size = request["size_hw"]
    network = network_from_onnx(model, request["name"], None if size is None else (size[0], size[1]))
    return json.dumps(network.to_json()), b""


def _child() -> None:
    answer_in_child(_counted)
