"""How graphs end, in every way in which that is written: the class map is what the graph itself says."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeseg.compiler.graph.run import run_onnx
from edgeseg.compiler.importers.canonical import network_graph
from edgeseg.compiler.importers.ending import ending_of
from edgeseg.compiler.importers.onnx_network import graph_facts, wanted_from_facts
from edgeseg.compiler.importers.wanted import OwnerFacts, Sigmoids
from edgeseg.errors import CompileError, UsageError

SIZE = (24, 32)
node = helper.make_node
each_once = settings(max_examples=60, derandomize=True)


def ending_in(
    tail: list[onnx.NodeProto], constants: dict[str, Any], *, channels: int = 4, opset: int = 17, layout: str = "NCHW"
) -> onnx.ModelProto:
    """A convolution, and behind its output ``x`` (in some layout) a tail that makes ``out``."""
    rng = np.random.default_rng(0)
    values = {"w": rng.standard_normal((channels, 3, 3, 3)), "b": 0.3 * rng.standard_normal(channels), **constants}
    weights = [
        numpy_helper.from_array(
            np.asarray(value, np.int64 if isinstance(value, list) and isinstance(value[0], int) else np.float32), name
        )
        for name, value in values.items()
    ]
    nodes = [node("Conv", ["image", "w", "b"], ["x" if layout == "NCHW" else "first"], pads=[1, 1, 1, 1])]
    if layout == "NHWC":
        nodes.append(node("Transpose", ["first"], ["x"], perm=[0, 2, 3, 1]))
    graph = helper.make_graph(
        [*nodes, *tail],
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, *SIZE])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def image() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((1, 3, *SIZE), dtype=np.float32)


def logits_of(model: onnx.ModelProto, classes: int, **sigmoids: Any) -> tuple[np.ndarray, list[str]]:
    owner = OwnerFacts(classes, sigmoids=Sigmoids(**sigmoids))
    network, lines = network_graph(model, wanted_from_facts(model, owner))
    return np.asarray(run_onnx(network, {"input": image()})[0]), lines


def given_by(model: onnx.ModelProto) -> np.ndarray:
    return np.asarray(run_onnx(model, {"image": image()})[0])


@each_once
@given(
    opset=st.sampled_from([8, 11, 12, 13, 17, 18]),
    axis=st.sampled_from([None, -3, -2, -1, 1, 2, 3]),
    operator=st.sampled_from(["Softmax", "LogSoftmax"]),
    layout=st.sampled_from(["NCHW", "NHWC"]),
)
def test_a_softmax_over_any_axis(opset: int, axis: int | None, operator: str, layout: str) -> None:
    """Only one over the classes keeps their order. Before opset 13 it runs over its axis and all behind it."""
    stated = {} if axis is None else {"axis": axis % 4 if opset < 11 else axis}
    model = ending_in([node(operator, ["x"], ["out"], **stated)], {}, opset=opset, layout=layout)
    expected = given_by(model).argmax(1 if layout == "NCHW" else 3)
    logits, lines = logits_of(model, 4)
    assert np.mean(logits.argmax(1) == expected) > 0.999
    default = 1 if opset < 13 else -1
    chosen = (default if axis is None else axis) % 4
    channels = layout.index("C")
    over_classes = chosen <= channels if opset < 13 else chosen == channels
    assert (f"removed behind the logits: {operator}" in " ".join(lines)) == over_classes
    if not over_classes:
        assert ("not over the classes: it stays" in " ".join(lines)) or operator == "LogSoftmax"


FACTORS = st.lists(
    st.tuples(st.sampled_from(["Mul", "Mul left", "Div", "Add", "Sub"]), st.sampled_from([0.5, 2.0, 255.0])),
    min_size=1,
    max_size=3,
)


def scaled(factors: list[tuple[str, float]], source: str) -> tuple[list[onnx.NodeProto], dict[str, Any], str]:
    """Nodes that multiply ``source`` by numbers and add some, their constants, and the name of the result."""
    nodes, constants, name = [], {}, source
    for index, (operator, value) in enumerate(factors):
        constants[f"k{index}"] = value
        inputs = [f"k{index}", name] if operator == "Mul left" else [name, f"k{index}"]
        nodes.append(node(operator.split()[0], inputs, [f"s{index}"]))
        name = f"s{index}"
    return nodes, constants, name


@each_once
@given(factors=FACTORS, resized=st.sampled_from(["no", "before", "behind"]), channels=st.sampled_from([1, 3]))
def test_probabilities_of_any_scale(factors: list[tuple[str, float]], resized: str, channels: int) -> None:
    """A graph that gives 0-255 says yes above the half of its own scale."""
    enlarged = node("Resize", ["p", "", "scales"], ["q"], mode="linear")
    nodes, constants, name = scaled(factors, "q" if resized == "before" else "p")
    tail = [node("Sigmoid", ["x"], ["p"]), *([enlarged] if resized == "before" else []), *nodes]
    tail.append(
        node("Resize", [name, "", "scales"], ["out"], mode="linear")
        if resized == "behind"
        else node("Identity", [name], ["out"])
    )
    model = ending_in(tail, {**constants, "scales": [1.0, 1.0, 1.0, 1.0]}, channels=channels)
    sure = given_by(ending_in([node("Sigmoid", ["x"], ["out"])], {}, channels=channels))
    if resized == "behind":
        with pytest.raises(CompileError, match="logits .yes above 0. or probabilities .above 0.5. cannot be told"):
            logits_of(model, channels + 1, background=0)
        return
    if channels > 1:
        with pytest.raises(UsageError, match="gives 3 sigmoids, each a class by itself"):
            logits_of(model, channels)
    logits, _ = logits_of(model, channels + 1, background=0)
    expected = np.where(sure.max(1) > 0.5, 1 + sure.argmax(1), 0)
    assert np.mean(logits.argmax(1) == expected) > 0.999


@each_once
@given(factors=FACTORS, sign=st.sampled_from([1.0, -1.0]))
def test_scaled_softmaxes_and_logits_keep_their_order(factors: list[tuple[str, float]], sign: float) -> None:
    nodes, constants, name = scaled([*factors, ("Mul", sign)], "p")
    for first in (node("Softmax", ["x"], ["p"], axis=1), node("Identity", ["x"], ["p"])):
        model = ending_in([first, *nodes, node("Identity", [name], ["out"])], constants)
        logits, lines = logits_of(model, 4)
        assert np.mean(logits.argmax(1) == given_by(model).argmax(1)) > 0.999
        taken = first.op_type == "Softmax" and sign > 0
        assert ("Softmax" in " ".join(lines)) == taken


@pytest.mark.parametrize("factor", [0.0, 1e-7, 1e-4])
def test_logits_near_zero_are_no_sigmoids(factor: float) -> None:
    """An untrained head gives 0 everywhere."""
    model = ending_in([node("Mul", ["x", "k"], ["out"])], {"k": factor})
    logits, _ = logits_of(model, 4)
    assert np.array_equal(logits.argmax(1), given_by(model).argmax(1))


def test_what_an_output_is_said_to_be() -> None:
    """Facts for people, from the raw file, in which numbers are Constant nodes."""
    number = helper.make_tensor("k", TensorProto.FLOAT, [1], [255.0])
    tail = [node("Sigmoid", ["x"], ["p"]), node("Constant", [], ["k"], value=number), node("Mul", ["p", "k"], ["out"])]
    end = ending_of(ending_in(tail, {}).graph, "out", 17)
    assert (end.tensor, end.removed, end.independent, end.kind) == ("x", ("Mul", "Sigmoid"), True, "probabilities")


def test_a_constant_whose_file_states_no_type() -> None:
    """Files damaged in one byte hold such attributes; what they say is read, and nothing ends in a traceback."""
    number = node("Constant", [], ["k"], value=helper.make_tensor("k", TensorProto.FLOAT, [1], [2.0]))
    model = ending_in([number, node("Mul", ["x", "k"], ["out"])], {})
    for each in model.graph.node:
        for entry in each.attribute:
            if each.op_type == "Constant":
                entry.type = onnx.AttributeProto.UNDEFINED
    assert graph_facts(model).outputs[0].kind == "logits"
