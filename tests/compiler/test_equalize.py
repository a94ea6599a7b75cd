"""Equalisation: channel ranges become equal, what the network computes stays, and bounds are respected."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from edgeseg.compiler.quantize import equalize
from edgeseg.compiler.quantize.equalize import equalized_onnx
from edgeseg.demo.street import StreetDataset
from edgeseg.errors import CompileError
from edgeseg.preprocess import NetworkFrames
from edgeseg.ranges import Ranges
from tests.compiler.conftest import SPEC

SMALL = replace(SPEC, size_hw=(32, 32))
FRAMES = NetworkFrames(StreetDataset("demo://street?frames=8&step=30&size=32x32"), SMALL)
NETWORK_FRAMES = NetworkFrames(StreetDataset("demo://street?frames=4&step=30&size=104x72"), SPEC)


def _chain(activation: str, *, groups: int = 1, readers: int = 1, spread: float = 100.0) -> Any:
    """frame -> 1x1 convolution -> activation -> 3x3 convolution (-> argmax), with very uneven channels."""
    helper, types, rng = onnx.helper, onnx.TensorProto, np.random.default_rng(0)
    uneven = np.geomspace(1 / spread, spread, 6).reshape(-1, 1, 1, 1)
    constants = {
        "w1": rng.uniform(0.5, 1, (6, 3, 1, 1)) * uneven / 255,
        "b1": rng.standard_normal(6) * uneven.ravel() / 10,
        "w2": rng.standard_normal((6, 6 // groups, 3, 3)),
        "low": np.array(0.0),
        "high": np.array(6.0),
        "slope": np.full((6, 1, 1), 0.2),
    }
    inputs = {"Clip": ["c", "low", "high"], "PRelu": ["c", "slope"]}.get(activation, ["c"])
    nodes = [
        helper.make_node("Cast", ["frame"], ["f"], "f", to=types.FLOAT),
        helper.make_node("Transpose", ["f"], ["x"], "x", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["x", "w1", "b1"], ["c"], "c"),
        helper.make_node(activation, inputs, ["a"], "a"),
        helper.make_node("Conv", ["a", "w2"], ["y"], "y", pads=[1, 1, 1, 1], group=groups),
        helper.make_node("Add", ["y", "a"] if readers == 2 else ["y", "low"], ["z"], "z"),
        helper.make_node("ArgMax", ["z"], ["m"], "m", axis=1, keepdims=0),
        helper.make_node("Cast", ["m"], ["classes"], "classes", to=types.UINT8),
    ]
    frame = helper.make_tensor_value_info("frame", types.UINT8, [1, 32, 32, 3])
    classes = helper.make_tensor_value_info("classes", types.UINT8, [1, 32, 32])
    tensors = [onnx.numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()]
    read = {name for node in nodes for name in node.input}
    tensors = [tensor for tensor in tensors if tensor.name in read]
    graph = helper.make_graph(nodes, "chain", [frame], [classes], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _values(model: Any) -> dict[str, np.ndarray]:
    return {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}


def _scores(model: Any, name: str, frame: np.ndarray) -> np.ndarray:
    extended = onnx.ModelProto()
    extended.CopyFrom(model)
    extended.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = ort.InferenceSession(extended.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run([name], {"frame": frame[None]})[0])


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu", "PRelu"])
def test_ranges_become_equal_and_the_function_stays(activation: str, groups: int) -> None:
    model = _chain(activation, groups=groups)
    equalized, lines = equalized_onnx(model)
    assert "1 pairs" in lines[0]
    values = _values(equalized)
    rows = np.abs(values["w1"]).max(axis=(1, 2, 3))
    columns = np.abs(values["w2"].reshape(groups, 6 // groups, 6 // groups, 9)).max(axis=(1, 3)).ravel()
    np.testing.assert_allclose(rows, columns, rtol=1e-4)
    noise = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    before, after = _scores(model, "z", noise), _scores(equalized, "z", noise)
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4 * np.abs(before).max())


def test_what_cannot_be_equalised_is_left_alone() -> None:
    for model in (_chain("Sigmoid"), _chain("Relu", readers=2), _chain("Clip")):
        equalized, lines = equalized_onnx(model)
        assert lines == ["equalisation: no two convolutions can be equalised"]
        assert all(np.array_equal(value, _values(equalized)[name]) for name, value in _values(model).items())


def test_across_relu6_only_channels_that_stay_below_the_bound_move() -> None:
    model = _chain("Clip")
    before = [_scores(model, "c", FRAMES[index]) for index in range(len(FRAMES))]
    equalized, lines = equalized_onnx(model, FRAMES)
    assert "(1 across a bounded activation)" in lines[0]
    highs = np.max([scores.max(axis=(0, 2, 3)) for scores in before], axis=0)
    unmoved = (_values(equalized)["w1"] == _values(model)["w1"]).all(axis=(1, 2, 3))
    assert unmoved[highs >= 6].all() and not unmoved[highs < 6].all()
    assert (highs >= 6).any() and (highs < 6).any(), "both kinds of channels are in the test"
    for index in range(len(FRAMES)):
        frame = FRAMES[index]
        assert (_scores(equalized, "c", frame).max(axis=(0, 2, 3))[highs < 6] <= 6).all(), "nothing new is clipped"
        expected = _scores(model, "z", frame)
        np.testing.assert_allclose(
            _scores(equalized, "z", frame), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max()
        )


def test_a_real_network_keeps_its_scores(graph_and_ranges: tuple[Any, Ranges]) -> None:
    graph, _ = graph_and_ranges
    scores = next(node.input[0] for node in graph.graph.node if node.op_type == "ArgMax")
    for frames in (None, NETWORK_FRAMES):
        equalized, lines = equalized_onnx(graph, frames)
        assert len(lines) == 2
        assert any(not np.array_equal(value, _values(equalized)[name]) for name, value in _values(graph).items())
        frame = NETWORK_FRAMES[1]
        expected = _scores(graph, scores, frame)
        np.testing.assert_allclose(
            _scores(equalized, scores, frame), expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max()
        )


def test_a_changed_function_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a function that is not homogeneous passed for one, the proof would notice."""
    monkeypatch.setattr(equalize, "_HOMOGENEOUS", ("Sigmoid",))
    with pytest.raises(CompileError, match="equalisation changed what the graph computes"):
        equalized_onnx(_chain("Sigmoid"))
