"""Any exporter's graph -> the canonical network graph, proven against the original.

This calls ONNX's converter and shape inference and ONNX Runtime, which a malformed graph can crash or stall: for
graphs from elsewhere it runs in a child process (``isolation``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgeseg.compiler.graph.onnx_graph import OnnxGraph, copied_onnx, nested_graphs, nested_nodes
from edgeseg.compiler.graph.run import run_onnx
from edgeseg.compiler.importers.cleaning import (
    bypass_identities,
    cast_to_float32,
    cut_at_logits,
    fix_input,
    has_half_floats,
    inline_branches,
    inlined_onnx,
    switch_to_inference,
)
from edgeseg.compiler.importers.ending import ending_of
from edgeseg.compiler.importers.onnx_file import opset_of
from edgeseg.compiler.importers.opsets import at_readable_opset
from edgeseg.compiler.importers.outputs import adapt_output
from edgeseg.compiler.importers.torch_export import INPUT, LOGITS
from edgeseg.compiler.importers.wanted import Wanted, hw_text
from edgeseg.errors import CompileError, first_line, require

if TYPE_CHECKING:
    import onnx

__all__ = ["network_graph"]

_RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial")
_BRIGHTNESS = (0.299, 0.587, 0.114)
_TOLERANCE, _HALF_TOLERANCE = 1e-3, 5e-2
"""Largest difference from the original's logits, relative to the largest; the second when it computes in float16."""
_OUR_NAMES = frozenset(
    f"{INPUT} {LOGITS} scores classes classes_float argmax argmax_uint8 class_planes class_planes_padded "
    "class_mixtures planes_shape planes_pads mixture_weights mixtures_last mixtures_shape mixtures_of_classes "
    "classes_of_pixels pixels_shape classes_in_rows rows_shape classes_uncropped classes_start classes_end "
    "classes_axes flat_shape flat_logits".split()
)
_OUR_ENDINGS = (
    *("/scale", "/zero_point", "/quantized", "/dequantized", "/levels", "/bias", "/corrected_bias", "/apart"),
    *("/min", "/max", "/mean", "/high", "/float16"),
)
"""Names that later steps give, and the endings that they put behind a tensor's name."""


def network_graph(model: onnx.ModelProto, wanted: Wanted) -> tuple[onnx.ModelProto, list[str]]:
    """Run the steps of ``network_graph_from_onnx`` in this process. Raises CompileError, UsageError."""
    original = inlined_onnx(model)
    lines = _without_branches(original, wanted)
    lines += switch_to_inference(original.graph)
    end = ending_of(original.graph, wanted.output, opset_of(original))
    lines += cut_at_logits(original.graph, end, wanted.output)
    expected, remark = _computed_by_original(original, wanted)
    lines += remark
    tolerance = _HALF_TOLERANCE if has_half_floats(original.graph) else _TOLERANCE
    body = copied_onnx(original)
    lines += bypass_identities(body.graph)
    lines += fix_input(body.graph, _in_layout((1, wanted.channels, *wanted.size_hw), wanted.layout))
    lines += cast_to_float32(body.graph)
    _declare_output(body.graph, None if expected is None else expected.shape)
    body, converted = at_readable_opset(body)
    lines += converted
    logits = _computed(body, wanted)
    if expected is not None:
        _prove_equal(logits, expected, tolerance)
    lines += _adapt_input(body.graph, wanted)
    lines += adapt_output(body, logits, end, wanted)
    return _finished(body, wanted), lines


def _in_layout(nchw: tuple[Any, ...], layout: str) -> tuple[Any, ...]:
    return tuple(nchw["NCHW".index(axis)] for axis in layout)


def _image(wanted: Wanted) -> np.ndarray:
    """The random float32 image that proves, in the graph's own layout and range."""
    rng = np.random.default_rng(0)
    shape = _in_layout((1, wanted.channels, *wanted.size_hw), wanted.layout)
    if wanted.dtype == "uint8":
        return rng.integers(0, 256, shape).astype(np.float32)
    return rng.standard_normal(shape, dtype=np.float32)


def _without_branches(model: onnx.ModelProto, wanted: Wanted) -> list[str]:
    """Inline every If whose condition hangs on sizes, not on the image."""
    about_image = _computed_from_image(model.graph)
    conditions = {node.input[0] for node in model.graph.node if node.op_type == "If"} - about_image
    if not conditions:
        return []
    asking = copied_onnx(model)
    del asking.graph.output[:]
    for name in conditions:
        asking.graph.output.add().name = name
    try:
        answers = run_onnx(asking, {wanted.input: _image(wanted).astype(wanted.dtype)})
    except Exception:  # ONNX Runtime raises many types; the branches stay, and what follows says why it does not run
        return []
    decided = {value.name: bool(np.all(answer)) for value, answer in zip(asking.graph.output, answers)}
    return inline_branches(model.graph, decided) + _without_branches(model, wanted)


def _computed_from_image(graph: onnx.GraphProto) -> set[str]:
    """Tensors whose values, not only whose sizes, depend on the input; for control flow that is taken for granted."""
    found = {value.name for value in graph.input}
    for node in graph.node:
        has_body = any(entry.HasField("g") for entry in node.attribute)
        if has_body or (found.intersection(node.input) and node.op_type not in ("Shape", "Size")):
            found.update(node.output)
    return found


def _computed_by_original(original: onnx.ModelProto, wanted: Wanted) -> tuple[np.ndarray | None, list[str]]:
    try:
        return np.asarray(run_onnx(original, {wanted.input: _image(wanted).astype(wanted.dtype)})[0]), []
    except Exception as error:  # ONNX Runtime raises many types, without a common base
        return None, [f"not compared with the original, which ONNX Runtime does not run: {first_line(error)[:200]}"]


def _computed(body: onnx.ModelProto, wanted: Wanted) -> np.ndarray:
    drawn = sorted({node.op_type for node in nested_nodes(body.graph) if node.op_type in _RANDOM})
    if drawn:
        raise CompileError(
            f"the graph draws random numbers ({', '.join(drawn)}), so that a picture has other masks each time; export "
            "it in evaluation mode (model.eval())"
        )
    try:
        require("onnx.shape_inference", "compile").infer_shapes(body, strict_mode=True, data_prop=True)
        logits = np.asarray(run_onnx(body, {wanted.input: _image(wanted)})[0])
    except Exception as error:  # as above; shape inference comes first because a wrong Concat reads foreign memory
        raise CompileError(
            f"the graph does not run at {hw_text(wanted.size_hw)}: {first_line(error)[:300]}; pass the "
            "`size` that it was made for, or export it again"
        ) from error
    if logits.dtype != np.float32:
        raise CompileError(f"{wanted.output!r} is of type {logits.dtype}, not logits; pass `output` NAME of the logits")
    if np.isnan(logits).any() or np.isposinf(logits).any():
        raise CompileError("the graph gives NaN or infinite logits on a random image; its weights are damaged")
    if np.isneginf(logits).any():
        raise CompileError(
            "the graph gives logits of minus infinity, by a class that is masked out or by the logarithm of 0, which "
            "cannot be enlarged or quantized; mask with -1e4, or pass `output` NAME of the tensor in front"
        )
    return logits


def _prove_equal(logits: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    if logits.shape != expected.shape:
        raise CompileError(f"cleaning changed the logits from {expected.shape} to {logits.shape}; please report this")
    worst = float(np.abs(logits - expected.astype(np.float32)).max())
    if not worst <= tolerance * max(1e-6, float(np.abs(logits).max())):
        raise CompileError(
            f"the cleaned graph differs from the original by {worst:.3g} (largest logit {np.abs(logits).max():.3g}); "
            "please report this network"
        )


def _declare_output(graph: onnx.GraphProto, shape: tuple[int, ...] | None) -> None:
    name = graph.output[0].name
    del graph.output[:]
    OnnxGraph(graph).give(name, shape=shape or list("nchw"))


def _adapt_input(proto: onnx.GraphProto, wanted: Wanted) -> list[str]:
    """NCHW under the name ``input``, whatever the graph's layout and names."""
    tools, graph = require("onnx", "compile"), OnnxGraph(proto)
    graph.rename(_free_names(graph, proto.input[0].name))
    lines = []
    if wanted.layout == "NHWC":
        inner = graph.unused_name("input_nhwc")
        graph.rename({proto.input[0].name: inner})
        graph.add("Transpose", [INPUT], inner, at=0, perm=[0, 2, 3, 1])
        lines = ["Transpose in front: the graph takes NHWC"]
    if wanted.channels == 1:
        lines.insert(0, _grey_in_front(graph, wanted.channel_order))
    del proto.input[:]
    proto.input.append(tools.helper.make_tensor_value_info(INPUT, tools.TensorProto.FLOAT, [1, 3, *wanted.size_hw]))
    return lines


def _grey_in_front(graph: OnnxGraph, channel_order: str) -> str:
    """Let a one-channel network read the brightness of a colour image (ITU-R BT.601, as OpenCV takes it)."""
    weights = np.array(_BRIGHTNESS if channel_order == "RGB" else _BRIGHTNESS[::-1], np.float32)
    inner, name = graph.unused_name("input_grey"), graph.unused_name("input_grey_weights")
    graph.rename({INPUT: inner})
    graph.add_constant(name, weights.reshape(1, 3, 1, 1))
    graph.add("Conv", [INPUT, name], inner, at=0, kernel_shape=[1, 1])
    return "grey in front: the graph takes one channel, and gets 0.299 R + 0.587 G + 0.114 B"


def _free_names(graph: OnnxGraph, image: str) -> dict[str, str]:
    """New names for tensors whose names this compiler gives to its own."""
    names = {name for node in nested_nodes(graph.proto) for name in (*node.input, *node.output)}
    names |= {tensor.name for body in nested_graphs(graph.proto) for tensor in body.initializer}
    taken = {name for name in names if name in _OUR_NAMES or name.startswith("frame") or name.endswith(_OUR_ENDINGS)}
    return {**{name: graph.unused_name(f"network/{name}/") for name in taken - {image}}, image: INPUT}


def _finished(model: onnx.ModelProto, wanted: Wanted) -> onnx.ModelProto:
    """The model without stale annotations, checked and run once more."""
    tools = require("onnx", "compile")
    del model.graph.value_info[:], model.functions[:], model.metadata_props[:], model.training_info[:]
    try:
        finished: onnx.ModelProto = tools.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        tools.checker.check_model(finished, full_check=True)
        logits = run_onnx(finished, {INPUT: np.zeros((1, 3, *wanted.size_hw), np.float32)})[0]
    except Exception as error:  # the native checkers raise their own types, without a common base
        raise CompileError(f"the cleaned graph is not valid: {first_line(error)[:300]}; export it again") from error
    if logits.shape != (1, wanted.class_count, *wanted.size_hw):
        raise CompileError(f"the cleaned graph gives {logits.shape} for {hw_text(wanted.size_hw)}; please report this")
    return finished
