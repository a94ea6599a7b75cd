"""Rounding: moments are those of the convolutions' real inputs, and the levels keep outputs closer than nearest."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from edgeseg.compiler.ranges import Ranges
from edgeseg.compiler.rounding import input_moments, rounded_levels
from edgeseg.demo import StreetDataset
from edgeseg.errors import CompileError
from edgeseg.images import InMemory

FRAMES = StreetDataset("demo://street?frames=16&step=30&size=104x72")
UNSEEN = StreetDataset("demo://street?frames=2&step=50&size=104x72&seed=2")


def _convolutions(graph: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Output name -> weight, bias of every convolution."""
    values = {t.name: onnx.numpy_helper.to_array(t) for t in graph.graph.initializer}
    found = [node for node in graph.graph.node if node.op_type == "Conv"]
    return {n.output[0]: (values[n.input[1]], values[n.input[2]] if len(n.input) > 2 else 0.0) for n in found}


def _outputs(graph: Any, names: list[str], frame: np.ndarray) -> dict[str, np.ndarray]:
    extended = onnx.ModelProto()
    extended.CopyFrom(graph)
    for name in names:
        extended.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = ort.InferenceSession(extended.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(names, {"frame": frame[None]})))


def _nearest(weight: np.ndarray, scale: np.ndarray, limit: int) -> np.ndarray:
    return np.clip(np.rint(weight / scale.reshape(-1, 1, 1, 1)), -limit, limit).astype(np.int8)


def _scale(weight: np.ndarray, limit: int) -> np.ndarray:
    largest = np.abs(weight).max(axis=(1, 2, 3))
    return np.asarray(np.maximum(largest / limit, 1e-8), np.float32)


def test_moments_are_those_of_the_inputs_that_convolutions_read(graph_and_ranges: tuple[Any, Ranges]) -> None:
    """w H w' must be the mean square of the convolution's output, whatever its strides, padding and groups."""
    graph, _ = graph_and_ranges
    frame = FRAMES[3]
    moments = input_moments(graph, InMemory([frame], "one"), positions=8192)
    convolutions = _convolutions(graph)
    assert len(moments) > 20 and set(moments) <= set(convolutions)
    outputs = _outputs(graph, list(moments), frame.frame)
    for name, moment in moments.items():
        weight, bias = convolutions[name]
        rows = weight.astype(np.float64).reshape(len(moment), -1, moment.shape[1])
        predicted = np.einsum("gok,gkl,gol->go", rows, moment, rows, optimize=True).sum()
        squares = (outputs[name][0] - np.reshape(bias, (-1, 1, 1))) ** 2
        assert predicted == pytest.approx(squares.mean(axis=(1, 2)).sum(), rel=0.1), name


def test_moments_are_the_same_every_time_and_large_patches_are_left_out(graph_and_ranges: tuple[Any, Ranges]) -> None:
    graph, _ = graph_and_ranges
    told = []
    one = input_moments(graph, FRAMES, images=3, positions=8, largest_patch=64, report=lambda *done: told.append(done))
    two = input_moments(graph, FRAMES, images=3, positions=8, largest_patch=64)
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert all(np.array_equal(one[name], two[name]) for name in one) and set(one) == set(two)
    sizes = {name: int(np.prod(weight.shape[1:])) for name, (weight, _) in _convolutions(graph).items()}
    assert {name for name, size in sizes.items() if size <= 64} == set(one)
    with pytest.raises(CompileError, match="without calibration images"):
        input_moments(graph, InMemory([], "none"))


@pytest.mark.parametrize("limit", [63, 127])
def test_outputs_of_every_convolution_are_closer_than_with_nearest(
    graph_and_ranges: tuple[Any, Ranges], limit: int
) -> None:
    graph, _ = graph_and_ranges
    for name, moment in input_moments(graph, FRAMES, images=16, positions=64, largest_patch=600).items():
        weight, _ = _convolutions(graph)[name]
        scale = _scale(weight, limit)
        levels = rounded_levels(weight, scale, moment, limit)
        assert levels.dtype == np.int8 and levels.shape == weight.shape and np.abs(levels).max() <= limit
        errors = []
        for rounding in (levels, _nearest(weight, scale, limit)):
            error = (weight - rounding * scale.reshape(-1, 1, 1, 1)).astype(np.float64)
            rows = error.reshape(len(moment), -1, moment.shape[1])
            errors.append(np.einsum("gok,gkl,gol->", rows, moment, rows, optimize=True))
        assert errors[0] < errors[1], name


def test_the_network_is_closer_to_float_on_frames_it_was_not_rounded_on(graph_and_ranges: tuple[Any, Ranges]) -> None:
    graph, _ = graph_and_ranges
    moments = input_moments(graph, FRAMES, images=16, positions=64, largest_patch=600)
    rounded, nearest = onnx.ModelProto(), onnx.ModelProto()
    rounded.CopyFrom(graph)
    nearest.CopyFrom(graph)
    for node in graph.graph.node:
        if node.op_type == "Conv" and node.output[0] in moments:
            weight, _ = _convolutions(graph)[node.output[0]]
            scale = _scale(weight, 31)
            levels = rounded_levels(weight, scale, moments[node.output[0]], 31)
            for model, chosen in ((rounded, levels), (nearest, _nearest(weight, scale, 31))):
                tensor = next(t for t in model.graph.initializer if t.name == node.input[1])
                value = (chosen * scale.reshape(-1, 1, 1, 1)).astype(np.float32)
                tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
    logits = next(node.input[0] for node in graph.graph.node if node.op_type == "ArgMax")
    for index in range(len(UNSEEN)):
        exact, good, plain = (
            _outputs(model, [logits], UNSEEN[index].frame)[logits] for model in (graph, rounded, nearest)
        )
        assert np.square(good - exact).mean() < 0.7 * np.square(plain - exact).mean()


def test_errors_of_inputs_that_go_together_cancel() -> None:
    weight, scale = np.array([0.4, 0.4, -1.0], np.float32).reshape(1, 3, 1, 1), np.ones(1, np.float32)
    together = np.array([[[1, 1, 0], [1, 1, 0], [0, 0, 1]]], np.float32)
    assert sorted(rounded_levels(weight, scale, together, 127).ravel()[:2]) == [0, 1]
    alone = np.eye(3, dtype=np.float32)[None]
    assert list(rounded_levels(weight, scale, alone, 127).ravel()) == [0, 0, -1]


def test_inputs_that_are_never_seen_are_rounded_to_nearest() -> None:
    weight = np.linspace(-3, 3, 24, dtype=np.float32).reshape(4, 1, 2, 3)
    levels = rounded_levels(weight, np.ones(4, np.float32), np.zeros((4, 6, 6), np.float32), 2)
    assert np.array_equal(levels, np.clip(np.rint(weight), -2, 2))
