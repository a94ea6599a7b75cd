"""NVIDIA's own compiler (TensorRT-RTX, ahead of time, on this CPU) parses and builds every graph meant for TensorRT."""

from __future__ import annotations

from typing import Any

import onnx
import pytest

from edgeseg.bundle import Bundle
from edgeseg.compiler.quantize.emit import emitted_onnx
from edgeseg.compiler.quantize.qdq import tensorrt_qdq_onnx
from edgeseg.compiler.steps.float_graph import float_graph_from_bundle
from edgeseg.compiler.verify.tensorrt_rtx import kernel_plan_from_onnx, rtx_is_installed
from edgeseg.errors import CompileError
from edgeseg.ranges import Ranges
from edgeseg.recipes import RECIPES

pytestmark = pytest.mark.skipif(not rtx_is_installed(), reason="TensorRT-RTX has wheels for x86_64 only")


def test_every_architecture_builds_with_all_convolutions_in_int8(graph_and_ranges: tuple[Any, Ranges]) -> None:
    graph, ranges = graph_and_ranges
    float_plan = kernel_plan_from_onnx(graph.SerializeToString())
    plan = kernel_plan_from_onnx(tensorrt_qdq_onnx(graph, ranges).SerializeToString())
    assert plan.int8_convolutions == plan.convolutions == float_plan.convolutions > 20
    assert not plan.float_round_trips, "no tensor goes through float because of where Q/DQ stand"
    assert float_plan.int8_convolutions == 0


def test_the_shipped_graphs_build(shipped: Bundle) -> None:
    plan = kernel_plan_from_onnx(shipped.graphs["int8-tensorrt"].onnx)
    assert plan.int8_convolutions == plan.convolutions > 50
    assert plan.plan_bytes > 1_000_000
    float_plan = kernel_plan_from_onnx(float_graph_from_bundle(shipped).SerializeToString())
    assert float_plan.convolutions == plan.convolutions and len(float_plan.kernels) < len(plan.kernels)


def test_what_is_for_the_cpu_is_refused_there(shipped: Bundle) -> None:
    """The reason why there are two emitters: if this starts to build, one is enough."""
    with pytest.raises(CompileError, match="refuses the graph"):
        kernel_plan_from_onnx(shipped.graphs["int8-cpu"].onnx)
    assert shipped.ranges is not None
    graph = float_graph_from_bundle(shipped)
    dynamic = emitted_onnx(graph, None, RECIPES["int8-dynamic"])
    assert isinstance(dynamic, onnx.ModelProto)
    with pytest.raises(CompileError, match="refuses the graph"):
        kernel_plan_from_onnx(dynamic.SerializeToString())
