"""Export, simplify, fold, ranges, Q/DQ and dynamic INT8 on every architecture."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from edgeseg.builder.networks import PaddedNetwork
from edgeseg.compiler.calibration.collect import ranges_from_frames
from edgeseg.compiler.graph.simplify import simplified_onnx
from edgeseg.compiler.graph.storage import float16_weights, float32_weights
from edgeseg.compiler.quantize.cpu_layout import cpu_layout_onnx
from edgeseg.compiler.quantize.emit import emitted_onnx
from edgeseg.compiler.quantize.qdq import cpu_qdq_onnx, int8_convolutions, tensorrt_qdq_onnx
from edgeseg.compiler.quantize.qdq_editor import ENLARGEMENT
from edgeseg.compiler.verify.executed_precision import executed_int8_convolutions
from edgeseg.demo.street import StreetDataset
from edgeseg.engines.ort import OrtEngine
from edgeseg.errors import CompileError
from edgeseg.preprocess import NetworkFrames, normalized
from edgeseg.ranges import Ranges
from edgeseg.recipes import RECIPES
from tests.compiler.conftest import SPEC

FRAMES = [StreetDataset("demo://street?frames=4&step=50&size=104x72&seed=2")[i].frame[None] for i in range(4)]


def _makers(graph: Any) -> dict[str, Any]:
    return {output: node for node in graph.graph.node for output in node.output}


def _initializers(graph: Any) -> dict[str, np.ndarray]:
    return {t.name: onnx.numpy_helper.to_array(t) for t in graph.graph.initializer}


def _classes(graph: Any, **how: Any) -> list[np.ndarray]:
    with OrtEngine(graph.SerializeToString(), **how) as engine:
        return [engine.infer(frame).copy() for frame in FRAMES]


def test_the_folded_graph_does_what_preprocess_and_the_network_do(
    network: PaddedNetwork, graph_and_ranges: tuple[Any, Ranges]
) -> None:
    """Golden vectors: the same frame through numpy + torch and through the graph."""
    for frame, actual in zip(FRAMES, _classes(graph_and_ranges[0])):
        with torch.inference_mode():
            expected = network(torch.from_numpy(normalized(frame, SPEC.preprocess))).argmax(1).numpy()
        assert np.mean(actual == expected) > 0.999
        assert len(np.unique(actual)) > 1


def test_float_graph_is_what_tensorrt_8_reads(graph_and_ranges: tuple[Any, Ranges]) -> None:
    graph, _ = graph_and_ranges
    assert graph.opset_import[0].version <= 17
    operators = [node.op_type for node in graph.graph.node]
    assert not set(operators) & {"BatchNormalization", "Shape", "Identity", "If", "Loop"}
    assert operators.index("Cast") < operators.index("Transpose"), "TensorRT refuses Transpose on uint8"
    (frame,), (classes,) = graph.graph.input, graph.graph.output
    assert frame.type.tensor_type.elem_type == classes.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [d.dim_value for d in frame.type.tensor_type.shape.dim] == [1, 72, 104, 3]
    assert all(not t.external_data for t in graph.graph.initializer)


def test_tensorrt_rules(graph_and_ranges: tuple[Any, Ranges]) -> None:
    graph = tensorrt_qdq_onnx(*graph_and_ranges)
    assert len(set(int8_convolutions(graph))) == 1, "every convolution is INT8"
    makers, values = _makers(graph), _initializers(graph)
    for node in graph.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert values[node.input[2]].dtype == np.int8 and not values[node.input[2]].any()
        if node.op_type == "Conv":
            weight = makers[node.input[1]]
            assert values[weight.input[0]].dtype == np.int8
            assert values[weight.input[1]].shape == (values[weight.input[0]].shape[0],), "per output channel"
            assert values[node.input[2]].dtype == np.float32, "bias stays in float"
        if node.op_type == "Resize":
            assert makers[node.input[0]].op_type != "DequantizeLinear", "nothing in front of Resize"
        if node.op_type == "Add":
            quantized = [makers[name].op_type == "DequantizeLinear" for name in node.input if name in makers]
            assert sum(quantized) >= 1, "the residual is quantized"
        if node.op_type == "Concat":
            assert len({float(values[makers[name].input[1]]) for name in node.input}) == 1, "one scale per Concat"


def test_activations_are_quantized_after_their_activation_function(graph_and_ranges: tuple[Any, Ranges]) -> None:
    graph, ranges = graph_and_ranges
    followed = {node.input[0] for node in graph.graph.node if node.op_type in ("Clip", "Relu")}
    for emitted in (tensorrt_qdq_onnx(graph, ranges), cpu_qdq_onnx(graph, ranges)):
        quantized = {node.input[0] for node in emitted.graph.node if node.op_type == "QuantizeLinear"}
        convolutions = {node.output[0] for node in graph.graph.node if node.op_type == "Conv"}
        assert not quantized & followed & convolutions


def test_cpu_rules(graph_and_ranges: tuple[Any, Ranges]) -> None:
    graph = cpu_qdq_onnx(*graph_and_ranges)
    makers, values = _makers(graph), _initializers(graph)
    seen = set()
    for node in graph.graph.node:
        if node.op_type == "QuantizeLinear":
            assert values[node.input[2]].dtype == np.uint8
        if node.op_type == "Conv" and node.output[0] != ENLARGEMENT:
            levels = values[makers[node.input[1]].input[0]]
            depthwise = levels.shape[1] == 1 and levels.shape[0] > 1
            assert np.abs(levels).max() <= (127 if depthwise else 63)
            seen.add((depthwise, int(np.abs(levels).max())))
            assert values[makers[node.input[2]].input[0]].dtype == np.int32
    assert (True, 127) in seen and (False, 63) in seen


def test_the_cpu_layout_computes_the_same_classes(graph_and_ranges: tuple[Any, Ranges]) -> None:
    """In float, before Q/DQ goes in: another order of the same arithmetic."""
    graph, ranges = graph_and_ranges
    laid_out = cpu_layout_onnx(graph, ranges)
    assert np.mean(np.stack(_classes(laid_out)) == np.stack(_classes(graph))) > 0.999
    assert _classes(laid_out)[0].shape == (1, 72, 104)


def test_every_convolution_of_the_cpu_graph_is_executed_in_int8(graph_and_ranges: tuple[Any, Ranges]) -> None:
    int8, total = executed_int8_convolutions(cpu_qdq_onnx(*graph_and_ranges).SerializeToString())
    assert int8 == total > 20
    assert executed_int8_convolutions(graph_and_ranges[0].SerializeToString())[0] == 0


def test_the_ranges_are_the_real_extrema(graph_and_ranges: tuple[Any, Ranges]) -> None:
    graph, ranges = graph_and_ranges
    low, high = ranges.of("frame_float")
    data = StreetDataset("demo://street?frames=16&step=30&size=104x72")
    pixels = [data[index].frame for index in range(16)]
    assert (low, high) == (min(p.min() for p in pixels), max(p.max() for p in pixels))
    assert ranges.images == 16 and Ranges.from_json(ranges.to_json()) == ranges
    with pytest.raises(CompileError, match="has no calibrated range"):
        ranges.amax("nothing")


def test_int8_graphs_stay_close_to_float(graph_and_ranges: tuple[Any, Ranges]) -> None:
    graph, ranges = graph_and_ranges
    expected = np.stack(_classes(graph))
    tensorrt = np.stack(_classes(tensorrt_qdq_onnx(graph, ranges), float_qdq=True))
    cpu = np.stack(_classes(cpu_qdq_onnx(graph, ranges)))
    # The networks are untrained, so their margins are thin; a wrong scale or order gives about 10 %.
    assert np.mean(tensorrt == expected) > 0.6
    assert np.mean(cpu == expected) > 0.6


def test_dynamic_int8_runs_on_the_cpu(graph_and_ranges: tuple[Any, Ranges]) -> None:
    dynamic = emitted_onnx(*graph_and_ranges, RECIPES["int8-dynamic"])
    quantized, total = int8_convolutions(dynamic)
    assert quantized == total > 0
    assert _classes(dynamic)[0].shape == (1, 72, 104)


def test_float16_storage_round_trip(graph_and_ranges: tuple[Any, Ranges]) -> None:
    graph, _ = graph_and_ranges
    half = float16_weights(graph)
    assert half.ByteSize() < 0.65 * graph.ByteSize()
    back = float32_weights(half)
    assert [n.op_type for n in back.graph.node] == [n.op_type for n in graph.graph.node]
    for name, value in _initializers(graph).items():
        np.testing.assert_allclose(_initializers(back)[name], value, rtol=1e-3, atol=1e-6)
    assert np.mean(np.stack(_classes(half)) == np.stack(_classes(graph))) > 0.98


def test_simplifiers_agree_and_a_wrong_one_is_caught(
    graph_and_ranges: tuple[Any, Ranges], network: PaddedNetwork
) -> None:
    from edgeseg.compiler.graph import simplify
    from edgeseg.compiler.importers.torch_export import onnx_from_module

    exported = onnx_from_module(network, SPEC.size_hw)
    for simplifier in ("onnxsim", "onnxslim"):
        simplified = simplified_onnx(exported, simplifier)
        assert simplified.nodes_after < simplified.nodes_before and simplified.max_difference < 1e-4
    assert simplified_onnx(exported, "none").nodes_after == len(exported.graph.node)
    with pytest.raises(CompileError, match="there are onnxsim, onnxslim, none"):
        simplified_onnx(exported, "magic")
    broken = onnx.ModelProto()
    broken.CopyFrom(exported)
    weight = max(broken.graph.initializer, key=lambda t: len(t.raw_data))
    weight.raw_data = bytes(len(weight.raw_data))
    assert simplify._largest_difference(exported, broken) > 1e-3


def test_a_dead_channel_keeps_its_bias() -> None:
    """Weights of zero would give a scale of zero, and a bias that does not fit into 32 bits."""
    for sign in (1.0, -1.0):
        graph, ranges = _one_convolution(bias=np.array([sign, 0.5], np.float32))
        with OrtEngine(cpu_qdq_onnx(graph, ranges).SerializeToString()) as engine:
            classes = engine.infer(np.full((1, 32, 32, 3), 200, np.uint8))
        assert set(np.unique(classes)) == ({0} if sign > 0 else {1})


def test_constant_nodes_are_constants() -> None:
    graph, ranges = _one_convolution(bias=np.array([-1.0, 1.0], np.float32), as_nodes=True)
    for emitted in (cpu_qdq_onnx(graph, ranges), tensorrt_qdq_onnx(graph, ranges)):
        assert int8_convolutions(emitted) == (1, 1)


def _one_convolution(bias: np.ndarray, as_nodes: bool = False) -> tuple[Any, Ranges]:
    """frame -> float -> 1x1 convolution whose first channel is dead -> + constant -> argmax."""
    helper, types = onnx.helper, onnx.TensorProto
    weight = np.zeros((2, 3, 1, 1), np.float32)
    weight[1] = 1e-4
    constants = {"w": weight, "b": bias, "shift": np.zeros((1, 2, 1, 1), np.float32)}
    tensors = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    nodes = [
        helper.make_node("Cast", ["frame"], ["f"], "f", to=types.FLOAT),
        helper.make_node("Transpose", ["f"], ["x"], "x", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["x", "w", "b"], ["c"], "c"),
        helper.make_node("Add", ["c", "shift"], ["y"], "y"),
        helper.make_node("ArgMax", ["y"], ["a"], "a", axis=1, keepdims=0),
        helper.make_node("Cast", ["a"], ["classes"], "classes", to=types.UINT8),
    ]
    if as_nodes:
        nodes = [helper.make_node("Constant", [], [t.name], t.name, value=t) for t in tensors] + nodes
        tensors = []
    frame = helper.make_tensor_value_info("frame", types.UINT8, [1, 32, 32, 3])
    classes = helper.make_tensor_value_info("classes", types.UINT8, [1, 32, 32])
    made = helper.make_graph(nodes, "one", [frame], [classes], tensors)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    inferred = onnx.shape_inference.infer_shapes(model)
    frames = NetworkFrames(StreetDataset("demo://street?frames=16&size=32x32"), replace(SPEC, size_hw=(32, 32)))
    return inferred, ranges_from_frames(inferred, frames)
