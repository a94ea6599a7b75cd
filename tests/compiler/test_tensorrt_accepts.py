"""NVIDIA's own compiler (TensorRT-RTX, ahead of time, on this CPU) parses and builds every graph meant for TensorRT."""

from __future__ import annotations

from typing import Any

import onnx
import pytest

from edgeseg.bundle import Bundle
from edgeseg.compiler.compile import float_graph_from_bundle, int8_graphs
from edgeseg.compiler.qdq import tensorrt_qdq_onnx
from edgeseg.compiler.ranges import Ranges

trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has wheels for x86_64 Linux only")


class _Silent(trt.ILogger):  # type: ignore[misc, name-defined, unused-ignore]
    """Keeps what the compiler says, the kernel plan included."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.lines: list[str] = []

    def log(self, severity: Any, message: str) -> None:
        self.lines += message.split("\n")


def build(graph: bytes) -> tuple[int, int]:
    """Parse and build for SM86. Returns (convolution kernels that read INT8, convolution kernels)."""
    logger = _Silent()
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    errors = [] if parser.parse(graph) else [parser.get_error(i).desc() for i in range(parser.num_errors)]
    if errors:
        raise AssertionError(errors[:3])
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.num_compute_capabilities = 1
    assert config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    plan = builder.build_serialized_network(network, config)
    assert plan is not None and plan.nbytes > 10_000
    kernels = [line for line in logger.lines if line.startswith("Name:") and "LayerType: correlation" in line]
    return sum("Datatype: Int8" in line.split("Outputs:")[0] for line in kernels), len(kernels)


def test_every_architecture_builds_with_all_convolutions_in_int8(graph_and_ranges: tuple[Any, Ranges]) -> None:
    graph, ranges = graph_and_ranges
    _, float_kernels = build(graph.SerializeToString())
    int8, kernels = build(tensorrt_qdq_onnx(graph, ranges).SerializeToString())
    assert int8 == kernels > 20 and float_kernels > 20


def test_the_shipped_graphs_build(shipped: Bundle) -> None:
    int8, kernels = build(shipped.graphs["int8-tensorrt"].onnx)
    assert int8 == kernels > 50
    build(float_graph_from_bundle(shipped).SerializeToString())


def test_what_is_for_the_cpu_is_refused_there(shipped: Bundle) -> None:
    """The reason why there are two emitters: if this starts to build, one is enough."""
    with pytest.raises(AssertionError):
        build(shipped.graphs["int8-cpu"].onnx)
    assert shipped.ranges is not None
    graph = float_graph_from_bundle(shipped)
    dynamic = int8_graphs(graph, Ranges.from_json(shipped.ranges))["int8-dynamic"]
    assert isinstance(dynamic, onnx.ModelProto)
    with pytest.raises(AssertionError):
        build(dynamic.SerializeToString())
