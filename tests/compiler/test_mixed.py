"""Sensitivity, the search for a mix that passes, and the choice among mixes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import edgeseg.compiler.steps.emit as emit_step
from edgeseg.compiler.options import CompileData, CompileOptions, FloatModel
from edgeseg.compiler.pipeline import bundle_from_graph
from edgeseg.compiler.quantize.mixed import best_point, pareto_front, tried_mixes
from edgeseg.compiler.quantize.qdq import cpu_qdq_onnx, int8_convolutions, layer_names, tensorrt_qdq_onnx
from edgeseg.compiler.quantize.qdq_editor import ENLARGEMENT
from edgeseg.compiler.quantize.sensitivity import layer_sensitivities, logits, relative_error, sensitivity_key
from edgeseg.compiler.step_cache import StepCache
from edgeseg.compiler.verify.roofline import layer_costs, roofline_ms
from edgeseg.demo.street import StreetDataset
from edgeseg.device.specifications import BOARDS
from edgeseg.errors import CompileError, GateRefused
from edgeseg.preprocess import NetworkFrames
from edgeseg.progress import Progress
from edgeseg.ranges import Ranges
from edgeseg.recipes import INT8_GRAPHS
from edgeseg.report_data import Accuracy, Limits, MixedPoint
from tests.compiler.conftest import SPEC, one_network

FRAMES = StreetDataset("demo://street?frames=2&step=50&size=104x72&seed=3")


def point(floats: int, miou: float, *, ms: float | None = None, refused: bool = False, size: int = 100) -> MixedPoint:
    accuracy = Accuracy(4, 0.99, 0.95, miou, 0.9, {"road": miou})
    layers = tuple(f"layer{index}" for index in range(floats))
    return MixedPoint(layers, accuracy, 0.0, ("no",) if refused else (), size, ms)


@one_network
def test_the_worst_layer_of_a_real_network_is_the_one_that_was_spoilt(graph_and_ranges: tuple[Any, Ranges]) -> None:
    """A range a hundred times too wide ruins exactly the layer that reads the tensor."""
    graph, ranges = graph_and_ranges
    victim = [node for node in graph.graph.node if node.op_type == "Conv"][-4]
    low, high = ranges.tensors[victim.input[0]]
    spoilt = Ranges(
        {**ranges.tensors, victim.input[0]: (100 * low - 100, 100 * high + 100)},
        ranges.means, "minmax", 16, ranges.graph_sha256, "spoilt", "spoilt",
    )  # fmt: skip
    ranked = layer_sensitivities(graph, spoilt, NetworkFrames(FRAMES, SPEC))
    assert ranked[0].layer == victim.output[0]
    assert [one.error for one in ranked] == sorted((one.error for one in ranked), reverse=True)
    assert {one.layer for one in ranked} == set(layer_names(graph))
    rest = layer_sensitivities(graph, ranges, NetworkFrames(FRAMES, SPEC))
    assert ranked[0].sqnr_db < min(one.sqnr_db for one in rest)
    inputs = [FRAMES[i].frame[None] for i in range(2)]
    spared = tensorrt_qdq_onnx(graph, spoilt, float_layers={victim.output[0]})
    whole = tensorrt_qdq_onnx(graph, spoilt)
    expected = logits(graph, inputs)
    assert relative_error(logits(spared, inputs), expected) < 0.5 * relative_error(logits(whole, inputs), expected)


@one_network
def test_known_layers_are_not_measured_again(graph_and_ranges: tuple[Any, Ranges], tmp_path: Path) -> None:
    graph, ranges = graph_and_ranges
    names = layer_names(graph)
    cache = StepCache(tmp_path)
    key = sensitivity_key(graph, ranges, [FRAMES[i].frame[None] for i in range(2)])
    cache.save({"layers": np.array(names), "errors": np.arange(len(names), dtype=float)}, *key)
    ranked = layer_sensitivities(graph, ranges, NetworkFrames(FRAMES, SPEC), cache=cache)
    assert [one.layer for one in ranked] == names[::-1]


def test_float_layers_are_float_in_both_graphs(graph_and_ranges: tuple[Any, Ranges]) -> None:
    graph, ranges = graph_and_ranges
    spared = set(layer_names(graph)[3:9])
    for emitted in (tensorrt_qdq_onnx, cpu_qdq_onnx):
        quantized = emitted(graph, ranges, float_layers=spared)
        makers = {output: node.op_type for node in quantized.graph.node for output in node.output}
        floats = {
            node.output[0]
            for node in quantized.graph.node
            if node.op_type == "Conv"
            and makers.get(node.input[1]) != "DequantizeLinear"
            and node.output[0] != ENLARGEMENT
        }
        assert floats == spared
        assert all(
            makers.get(node.input[0]) != "DequantizeLinear" for node in quantized.graph.node if node.output[0] in spared
        )
        done, total = int8_convolutions(quantized)
        assert total - done == len(spared)
    with pytest.raises(CompileError, match="no layer 'nothing'"):
        tensorrt_qdq_onnx(graph, ranges, float_layers={"nothing"})
    with pytest.raises(CompileError, match="would not be INT8"):
        tensorrt_qdq_onnx(graph, ranges, float_layers=layer_names(graph))


def test_the_search_ends_at_the_fewest_layers_that_pass() -> None:
    """The gate passes from 11 float layers on; 0, 1, 2, 4, 8, 16 are tried, then 12, 10 and 11."""
    ranked = [f"layer{index}" for index in range(40)]
    asked: list[int] = []

    def judged(floats: tuple[str, ...]) -> MixedPoint:
        assert floats == tuple(ranked[: len(floats)])
        asked.append(len(floats))
        return point(len(floats), 0.7, refused=len(floats) < 11)

    points = tried_mixes(ranked, judged)
    chosen = best_point(points)
    assert chosen is not None and len(chosen.float_layers) == 11
    assert asked == [0, 1, 2, 4, 8, 16, 12, 10, 11]
    assert [len(p.float_layers) for p in points] == sorted(asked)


def test_a_good_graph_needs_one_look_and_a_hopeless_one_ends() -> None:
    ranked = [f"layer{index}" for index in range(5)]
    assert len(tried_mixes(ranked, lambda floats: point(len(floats), 0.7))) == 1
    hopeless = tried_mixes(ranked, lambda floats: point(len(floats), 0.1, refused=True))
    assert [len(p.float_layers) for p in hopeless] == [0, 1, 2, 4] and best_point(hopeless) is None


def test_a_budget_takes_the_most_accurate_point_within_it() -> None:
    points = [point(0, 0.70, ms=10), point(2, 0.71, ms=12), point(4, 0.72, ms=20), point(8, 0.6, ms=5, refused=True)]
    assert best_point(points, 15.0) is points[1]
    assert best_point(points, 25.0) is points[2]
    assert best_point(points, 6.0) is None, "the refused one does not count"
    assert best_point(points) is points[0]


def test_the_front_holds_what_nothing_beats() -> None:
    points = [point(0, 0.70, ms=10), point(1, 0.69, ms=12), point(2, 0.72, ms=20), point(3, 0.72, ms=25)]
    assert pareto_front(points) == [points[0], points[2]]
    sized = [point(0, 0.70, size=10), point(1, 0.71, size=20), point(2, 0.70, size=30)]
    assert pareto_front(sized) == sized[:2]


def test_points_without_labels_go_by_agreement_and_have_valid_json() -> None:
    unlabelled = Accuracy(4, 0.9, 0.8, math.nan, math.nan, {"road": math.nan})
    bare = MixedPoint((), unlabelled, math.nan, (), 1)
    assert bare.to_json()["worst_drop"] is None and bare.to_json()["miou"] is None
    assert pareto_front([bare]) == [bare]


def test_layer_costs_of_a_known_convolution() -> None:
    """3x3, 8 -> 16 channels in 4 groups at 10x12: 16 x 10 x 12 outputs of 2 x 9 multiply-adds each."""
    helper, types = onnx.helper, onnx.TensorProto
    weight = onnx.numpy_helper.from_array(np.ones((16, 2, 3, 3), np.float32), "w")
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=4, pads=[1, 1, 1, 1])
    value = [helper.make_tensor_value_info(n, types.FLOAT, [1, c, 10, 12]) for n, c in (("x", 8), ("y", 16))]
    graph = helper.make_model(helper.make_graph([node], "g", value[:1], value[1:], [weight]))
    (cost,) = layer_costs(graph)
    assert cost.macs == 16 * 10 * 12 * 2 * 9
    assert cost.elements == 8 * 120 + 16 * 120 + 16 * 18
    board = BOARDS["orin-nano"]
    int8, half = roofline_ms([cost], board, ()), roofline_ms([cost], board, {"y"})
    assert int8 > 0 and half == pytest.approx(2 * int8, rel=1e-2)


@one_network
def test_a_network_that_is_poor_before_int8_is_told_so_at_once_and_not_repaired(
    graph_and_ranges: tuple[Any, Ranges], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its decoder has random weights. Every repair would ask for a ranking of its layers."""
    graph, ranges = graph_and_ranges
    said: list[str] = []

    def ranked(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("INT8 of an untrained network is repaired")

    monkeypatch.setattr(emit_step, "layer_sensitivities", ranked)
    model, options = FloatModel(graph, SPEC, ranges), CompileOptions(("int8-cpu",), limits=Limits(min_agreement=1.0))
    with pytest.raises(GateRefused, match="mIoU .* before anything is quantized") as refused:
        bundle_from_graph(model, CompileData(FRAMES), options, progress=Progress(step=said.append))
    assert "everywhere would score" in str(refused.value) and "mixes" not in str(refused.value)
    assert said[0].startswith("fp32, before anything is quantized: mIoU ") and "the network is poor" in said[1]


def test_an_option_alone_does_not_leave_int8_out() -> None:
    """Equalising for INT8, and then none, was what ``CompileOptions(equalize=True)`` gave."""
    assert CompileOptions(equalize=True).graphs == INT8_GRAPHS


@one_network
def test_a_stored_poor_network_says_so_in_its_report(graph_and_ranges: tuple[Any, Ranges]) -> None:
    graph, _ = graph_and_ranges
    options = CompileOptions(graphs=())
    made = bundle_from_graph(FloatModel(graph, SPEC), CompileData(FRAMES), options)
    assert "before anything is quantized" in (made.bundle.report.network_is_poor or "")
    assert any("the network is poor" in note for note in made.notes)
