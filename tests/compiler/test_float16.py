"""The float16 graphs: typed through and through, and accepted by NVIDIA's compiler."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeseg.compiler.graph.float16 import float16_onnx
from edgeseg.compiler.graph.run import run_onnx
from edgeseg.compiler.quantize.qdq import tensorrt_qdq_onnx
from edgeseg.demo.street import StreetDataset
from edgeseg.errors import CompileError
from edgeseg.ranges import Ranges

FRAMES = StreetDataset("demo://street?frames=16&step=30&size=104x72")


def float_tensors(model: onnx.ModelProto) -> dict[int, int]:
    """Element type -> how many computed tensors have it."""
    types = [value.type.tensor_type.elem_type for value in model.graph.value_info]
    return {kind: types.count(kind) for kind in set(types)}


def test_everything_between_frame_and_classes_is_float16(graph_and_ranges: tuple[Any, Ranges]) -> None:
    graph, ranges = graph_and_ranges
    half = float16_onnx(graph)
    kinds = float_tensors(half)
    assert kinds.get(TensorProto.FLOAT, 0) == 0 and kinds[TensorProto.FLOAT16] == len(ranges.tensors)
    assert [value.type.tensor_type.elem_type for value in (half.graph.input[0], half.graph.output[0])] == [2, 2]
    assert half.ByteSize() < 0.56 * graph.ByteSize()
    frame = {"frame": FRAMES[3].frame[None]}
    same = np.mean(run_onnx(half, frame)[0] == run_onnx(graph, frame)[0])
    assert same > 0.95


def test_a_qdq_graph_keeps_its_int8_and_its_answer(graph_and_ranges: tuple[Any, Ranges]) -> None:
    graph, ranges = graph_and_ranges
    quantized = tensorrt_qdq_onnx(graph, ranges)
    half = float16_onnx(quantized)
    assert half.opset_import[0].version == 19, "float16 scales came with opset 19"
    kinds, before = float_tensors(half), float_tensors(quantized)
    assert kinds.get(TensorProto.FLOAT, 0) == 0 and kinds[TensorProto.INT8] == before[TensorProto.INT8]
    frame = {"frame": FRAMES[3].frame[None]}
    # The networks are untrained, so their margins are thin; a wrong scale or type gives about 10 %.
    assert np.mean(run_onnx(half, frame)[0] == run_onnx(quantized, frame)[0]) > 0.6


def one_layer(weight: float) -> onnx.ModelProto:
    value = numpy_helper.from_array(np.full((1,), weight, np.float32), "weight")
    nodes = [helper.make_node("Mul", ["x", "weight"], ["y"])]
    shape = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    return helper.make_model(
        helper.make_graph(nodes, "g", shape[:1], shape[1:], [value]), opset_imports=[helper.make_opsetid("", 17)]
    )


def test_a_weight_beyond_float16_is_refused_and_a_tiny_one_stays_above_zero() -> None:
    with pytest.raises(CompileError, match="weight holds 7e\\+04, which float16 cannot"):
        float16_onnx(one_layer(7e4))
    tiny = float16_onnx_weight(1e-9)
    assert tiny.dtype == np.float16 and tiny[0] > 0


def float16_onnx_weight(weight: float) -> np.ndarray:
    model = one_layer(weight)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    return np.asarray(numpy_helper.to_array(float16_onnx(model).graph.initializer[0]))
