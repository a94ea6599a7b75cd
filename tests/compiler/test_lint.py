"""Every rule of the lint on a small graph that breaks it and on one that just does not; the real parser agrees."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Callable, Iterator

import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper, numpy_helper

from edgeseg.bundle import Bundle
from edgeseg.compiler.lint.check import lint_findings
from edgeseg.compiler.lint.operators import first_importer, imported_operators
from edgeseg.compiler.lint.rule_graph import SEVERITIES, RuleGraph
from edgeseg.compiler.lint.rules import DLA_RULES, RULES
from edgeseg.compiler.lint.rules.operators import unsupported_operators
from edgeseg.compiler.lint.targets import TARGETS, Target
from edgeseg.compiler.quantize.dynamic import dynamic_int8_onnx
from edgeseg.compiler.quantize.qdq import cpu_qdq_onnx, tensorrt_qdq_onnx
from edgeseg.compiler.steps.float_graph import float_graph_from_bundle
from edgeseg.device.jetpack import RELEASES, version_tuple
from edgeseg.errors import CompileError
from edgeseg.ranges import Ranges

FIXTURE = Path(__file__).resolve().parents[1] / "importers.json"
RTX = TARGETS["tensorrt-rtx-1.7"]
JP5, JP6 = TARGETS["jetpack-5.1"], TARGETS["jetpack-6.1"]
NANO = replace(JP5, name="jetpack-4.6", tensorrt=(8, 2), opset=13, opset_verified=False, uint8_io=False)
Node, Info = helper.make_node, helper.make_tensor_value_info
X = Info("x", T.FLOAT, [1, 4, 8, 8])
Y = Info("y", T.FLOAT, [1, 4, 8, 8])
FRAME = Info("frame", T.UINT8, [1, 8, 8, 3])


def model(nodes: list[Any], constants: Any = (), *, inputs: Any = (X,), output: Any = Y, opset: int = 17) -> Any:
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in dict(constants).items()]
    graph = helper.make_graph(nodes, "graph", list(inputs), [output], initializers)
    domains = {node.domain: 1 for node in nodes if node.domain}
    imports = [helper.make_opsetid(domain, version) for domain, version in {"": opset, **domains}.items()]
    return helper.make_model(graph, opset_imports=imports, ir_version=8 if opset < 21 else 10)


def one(
    operator: str, *, inputs: Any = ("x",), constants: Any = (), output: Any = Y, opset: int = 17, **how: Any
) -> Any:
    """A single node that reads ``x`` and constants."""
    names = [*inputs, *dict(constants)]
    return model([Node(operator, names, ["y"], operator, **how)], constants, output=output, opset=opset)


def cast(to: int) -> Any:
    return one("Cast", to=to, output=Info("y", to, [1, 4, 8, 8]))


def qdq(zero: Any = np.int8(0), scale: Any = np.float32(0.1), *, opset: int = 17, x_type: int = T.FLOAT) -> Any:
    """x -> Q -> DQ -> y; no zero point when it is None."""
    parameters = ["scale"] if zero is None else ["scale", "zero"]
    constants = {"scale": scale} if zero is None else {"scale": scale, "zero": zero}
    nodes = [
        Node("QuantizeLinear", ["x", *parameters], ["q"], "q"),
        Node("DequantizeLinear", ["q", *parameters], ["y"]),
    ]
    values = [Info(name, x_type, [1, 4, 8, 8]) for name in "xy"]
    return model(nodes, constants, inputs=values[:1], output=values[1], opset=opset)


def pair(tensor: str, scale: float = 0.1) -> tuple[list[Any], dict[str, Any], str]:
    """Q/DQ of a tensor: nodes, constants, name of the result."""
    parameters = [f"{tensor}_scale", f"{tensor}_zero"]
    nodes = [
        Node("QuantizeLinear", [tensor, *parameters], [f"{tensor}_q"]),
        Node("DequantizeLinear", [f"{tensor}_q", *parameters], [f"{tensor}_dq"]),
    ]
    return nodes, dict(zip(parameters, (np.float32(scale), np.int8(0)))), f"{tensor}_dq"


def convolution(
    *,
    activation: bool = True,
    weight: bool = True,
    axis: int = 0,
    operator: str = "Conv",
    bias: Any = None,
    opset: int = 17,
) -> Any:
    """A 4 -> 4 convolution with quantized activation and weight, and a bias that is given as stored."""
    nodes, constants, source = pair("x") if activation else ([], {}, "x")
    levels = np.ones((4, 4, 1, 1), np.int8)
    if weight:
        constants.update(levels=levels, ws=np.ones(4, np.float32), wz=np.zeros(4, np.int8))
        where = {"axis": axis} if opset >= 13 else {}
        nodes.append(Node("DequantizeLinear", ["levels", "ws", "wz"], ["weight"], **where))
    else:
        constants["weight"] = levels.astype(np.float32)
    names = [source, "weight"]
    if bias is not None and bias.dtype == np.int32:
        constants.update(bias_levels=bias, bs=np.ones(4, np.float32), bz=np.zeros(4, np.int32))
        nodes.append(Node("DequantizeLinear", ["bias_levels", "bs", "bz"], ["bias"], axis=0))
        names.append("bias")
    elif bias is not None:
        constants["bias"] = bias
        names.append("bias")
    return model([*nodes, Node(operator, names, ["y"], "conv")], constants, opset=opset)


def resize(factors: Any = (1, 1, 2, 2), *, sizes: bool = False, opset: int = 17, **how: Any) -> Any:
    """Upsampling by constant scales, or by sizes."""
    options = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor", **how}
    size = [round(a * b) for a, b in zip((1, 4, 8, 8), (*[1] * (4 - len(factors)), *factors))]
    names = ["x", "", "", "sizes"] if sizes else ["x", "", "factors"]
    value = {"sizes": np.array(size, np.int64)} if sizes else {"factors": np.array(factors, np.float32)}
    return model([Node("Resize", names, ["y"], **options)], value, output=Info("y", T.FLOAT, size), opset=opset)


def resize_by_input(*, computed: bool = False) -> Any:
    """Scales that are a network input, or sizes that are computed from the input's shape."""
    options = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    output = Info("y", T.FLOAT, [1, 4, 16, 16])
    if not computed:
        inputs = (X, Info("factors", T.FLOAT, [4]))
        return model([Node("Resize", ["x", "", "factors"], ["y"], **options)], inputs=inputs, output=output)
    nodes = [Node("Shape", ["x"], ["shape"]), Node("Mul", ["shape", "two"], ["sizes"])]
    nodes.append(Node("Resize", ["x", "", "", "sizes"], ["y"], **options))
    return model(nodes, {"two": np.array([1, 1, 2, 2])}, output=output)


def upsampled(*, quantized: bool, operator: str = "Resize") -> Any:
    """x -> [Q/DQ] -> Resize or MaxPool -> Relu."""
    nodes, constants, source = pair("x") if quantized else ([], {}, "x")
    if operator == "Resize":
        constants["factors"] = np.array([1, 1, 1, 1], np.float32)
        nodes.append(Node("Resize", [source, "", "factors"], ["r"], "commuting", mode="nearest"))
    else:
        nodes.append(Node("MaxPool", [source], ["r"], "commuting", kernel_shape=[1, 1]))
    return model([*nodes, Node("Relu", ["r"], ["y"])], constants)


def activated(*, before: bool) -> Any:
    """Conv -> Relu with Q/DQ between them or behind them."""
    nodes, constants, result = pair("conv" if before else "relu")
    constants["weight"] = np.ones((4, 4, 1, 1), np.float32)
    first, relu = (
        Node("Conv", ["x", "weight"], ["conv"]),
        Node("Relu", [result if before else "conv"], ["relu"], "relu"),
    )
    middle = [*nodes, relu] if before else [relu, *nodes]
    return model([first, *middle, Node("Sigmoid", ["relu" if before else result], ["y"])], constants)


def concatenated(other: float = 0.1, *, axis: int = 1) -> Any:
    """Concat of two quantized tensors with scales 0.1 and ``other``."""
    nodes, constants, left = pair("x")
    more, values, right = pair("r", other)
    shape = [8 if index == axis else size for index, size in enumerate((1, 4, 8, 8))]
    nodes = [Node("Relu", ["x"], ["r"]), *nodes, *more, Node("Concat", [left, right], ["y"], axis=axis)]
    return model(nodes, {**constants, **values}, output=Info("y", T.FLOAT, shape))


def argmax(*casts: int) -> Any:
    """ArgMax and casts behind it."""
    names = ["indices", *(f"cast{index}" for index in range(len(casts)))]
    names[-1] = "y"
    nodes = [Node("ArgMax", ["x"], names[:1], axis=1, keepdims=0)]
    nodes += [Node("Cast", [a], [b], "cast", to=to) for a, b, to in zip(names, names[1:], casts)]
    return model(nodes, output=Info("y", casts[-1] if casts else T.INT64, [1, 8, 8]))


def framed(*, transpose_first: bool) -> Any:
    """A uint8 frame to float NCHW."""
    nodes = [
        Node("Transpose", ["frame"], ["t"], "transpose", perm=[0, 3, 1, 2]),
        Node("Cast", ["t"], ["y"], to=T.FLOAT),
    ]
    if not transpose_first:
        nodes = [Node("Cast", ["frame"], ["t"], to=T.FLOAT), Node("Transpose", ["t"], ["y"], perm=[0, 3, 1, 2])]
    return model(nodes, inputs=(FRAME,), output=Info("y", T.FLOAT, [1, 3, 8, 8]))


def dynamic(operator: str) -> Any:
    """Dynamic INT8: weights and scales of a frame."""
    nodes = [Node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]), Node(operator, ["q", "s", "z"], ["y"])]
    return model(nodes)


def weights_in(kind: type, *, external: bool = False) -> Any:
    """x + a constant that is cast to float."""
    made = model(
        [Node("Cast", ["w"], ["f"], "cast", to=T.FLOAT), Node("Add", ["x", "f"], ["y"])],
        {"w": np.ones((1, 4, 8, 8), kind)},
    )
    if external:
        tensor = made.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = T.EXTERNAL
        tensor.external_data.add(key="location", value="weights.data")
    return made


def dequantized(kind: type) -> Any:
    """x + a constant that is dequantized without a zero point."""
    nodes = [Node("DequantizeLinear", ["w", "s"], ["f"]), Node("Add", ["x", "f"], ["y"])]
    return model(nodes, {"w": np.ones(8, kind), "s": np.float32(1)})


def sliced(end: int) -> Any:
    ends = {"starts": np.array([0]), "ends": np.array([end]), "axes": np.array([1])}
    return one("Slice", constants=ends)


def normalized(training: int) -> Any:
    statistics = {name: np.ones(4, np.float32) for name in ("scale", "bias", "mean", "variance")}
    names = ["x", *statistics]
    outputs = ["y", "new_mean", "new_variance"] if training else ["y"]
    return model([Node("BatchNormalization", names, outputs, training_mode=training)], statistics)


def gated(*, same: bool) -> Any:
    """SiLU, or a gate that is computed elsewhere."""
    nodes = [
        Node("Relu", ["x"], ["r"]),
        Node("Sigmoid", ["x"], ["s"]),
        Node("Mul", ["s", "x" if same else "r"], ["y"], "mul"),
    ]
    return model(nodes)


def looped() -> Any:
    values = [Info("i", T.INT64, []), Info("c", T.BOOL, []), Info("v", T.FLOAT, [1, 4, 8, 8])]
    results = [Info("d", T.BOOL, []), Info("u", T.FLOAT, [1, 4, 8, 8])]
    body = helper.make_graph([Node("Identity", ["c"], ["d"]), Node("Relu", ["v"], ["u"])], "body", values, results)
    return model([Node("Loop", ["n", "go", "x"], ["y"], body=body)], {"n": np.array(3), "go": np.array(True)})


def reduced(opset: int, *, axes: bool = True) -> Any:
    """The mean over height and width, whose axes are an input from opset 18 on."""
    how = {"axes": [2, 3]} if opset < 18 and axes else {}
    constants = {"axes": np.array([2, 3])} if opset >= 18 and axes else {}
    shape = [1, 4, 1, 1] if axes else [1, 1, 1, 1]
    return one("ReduceMean", constants=constants, output=Info("y", T.FLOAT, shape), opset=opset, **how)


def padded(*, axes: bool) -> Any:
    """Zeros to the right and below, with the axes that opset 18 has."""
    pads = [0, 0, 1, 1] if axes else [0, 0, 0, 0, 0, 0, 1, 1]
    constants = {"pads": np.array(pads), "value": np.float32(0), **({"axes": np.array([2, 3])} if axes else {})}
    return one("Pad", constants=constants, output=Info("y", T.FLOAT, [1, 4, 9, 9]), opset=18)


def functional(inner: str = "Relu") -> Any:
    """Relu and another operator through a function that the graph defines."""
    made = model([Node("Twice", ["x"], ["y"], domain="local")])
    imports = [helper.make_opsetid("", 17)]
    body = [Node("Relu", ["a"], ["b"]), Node(inner, ["b"], ["c"])]
    made.functions.append(helper.make_function("local", "Twice", ["a"], ["c"], body, imports))
    return made


def two_convolutions() -> Any:
    made = convolution(weight=False)
    second = Node("Conv", ["x_dq", "weight"], ["second"], "second")
    made.graph.node.insert(2, second)
    made.graph.node.append(Node("Add", ["first", "second"], ["y"]))
    made.graph.node[3].output[0] = "first"
    return made


PLAIN = partial(one, "Relu")
HALF = np.float16(0.1)


@dataclass(frozen=True)
class Case:
    """A graph that a rule finds something in, and one in which it does not."""

    rule: str
    bad: Any
    good: Any
    target: Target = JP6
    severity: str = "error"
    dla: bool = False


CASES = [
    Case("unsupported-operator", dynamic("DequantizeLinear"), qdq()),
    Case("unsupported-operator", one("Det", output=Info("y", T.FLOAT, [1, 4])), PLAIN()),
    Case("unsupported-operator", one("Hardmax"), one("Softmax"), JP5),
    Case("unsupported-operator", one("NonZero", output=Info("y", T.INT64, [4, "n"])), PLAIN(), RTX),
    Case("custom-operator", one("FusedConv", domain="com.microsoft"), one("EfficientNMS_TRT", domain="TRT")),
    Case("custom-operator", one("Reluu"), PLAIN()),
    Case("custom-operator", one("Swish"), one("HardSwish"), severity="warning"),
    Case("unsupported-operator", one("Gelu", opset=20), one("Elu"), JP5),
    Case("local-function", functional(), PLAIN(), JP5),
    Case("unsupported-operator", functional("Det"), functional(), JP6),
    Case("opset", one("Cast", to=T.FLOAT, opset=21), one("Cast", to=T.FLOAT, opset=20), severity="warning"),
    Case("unread-axes", reduced(18), reduced(17), JP5),
    Case("unread-axes", reduced(18, axes=True), reduced(18, axes=False), TARGETS["jetpack-6.0"]),
    Case("unread-axes", padded(axes=True), padded(axes=False), JP5),
    Case("unread-axes", resize((2, 2), axes=[2, 3], opset=18), resize(opset=18), JP5),
    Case("opset", PLAIN(opset=18), PLAIN(opset=17), JP5, "warning"),
    Case("dynamic-shape", model([Node("Relu", ["x"], ["y"])], inputs=(Info("x", T.FLOAT, ["n", 4, 8, 8]),)), PLAIN()),
    Case("dynamic-shape", model([Node("Relu", ["x"], ["y"])], inputs=(Info("x", T.FLOAT, [1, 4, -1, 8]),)), PLAIN()),
    Case("runtime-shape", one("Shape", output=Info("y", T.INT64, [4])), PLAIN(), severity="warning"),
    Case("runtime-shape", looped(), PLAIN(), severity="warning"),
    Case("runtime-shape", one("NonZero", output=Info("y", T.INT64, [4, "n"])), PLAIN(), severity="warning"),
    Case("training-mode", normalized(training=1), normalized(training=0)),
    Case("training-mode", one("Dropout", constants={"r": np.float32(0.5), "t": np.array(True)}), one("Dropout")),
    Case("external-data", weights_in(np.float32, external=True), weights_in(np.float32)),
    Case("unsupported-type", cast(T.INT16), cast(T.INT32)),
    Case("unsupported-type", cast(T.BFLOAT16), cast(T.FLOAT16), JP5),
    Case("uint8-io", framed(transpose_first=False), PLAIN(), NANO),
    Case("uint8-reader", framed(transpose_first=True), framed(transpose_first=False)),
    Case("uint8-intermediate", argmax(T.UINT8, T.FLOAT), argmax(T.INT32, T.FLOAT)),
    Case("uint8-cast", argmax(T.UINT8), argmax(T.FLOAT, T.UINT8), JP5),
    Case("uint8-cast", argmax(T.UINT8), argmax(T.FLOAT, T.UINT8), TARGETS["jetpack-6.0"], "warning"),
    Case("int64-io", argmax(), argmax(T.INT32), JP5, "warning"),
    Case("int64-io", argmax(), argmax(T.INT32), JP6, "note"),
    Case("int64-constant", sliced(2**31), PLAIN(), JP5, "warning"),
    Case("int64-constant", sliced(2**63 - 1), PLAIN(), JP5, "note"),
    Case("int64-constant", sliced(4), PLAIN(), JP5, "note"),
    Case("resize-mode", resize(coordinate_transformation_mode="tf_half_pixel_for_nn", opset=11), resize(opset=11)),
    Case(
        "resize-mode",
        resize(mode="linear", coordinate_transformation_mode="half_pixel_symmetric", opset=19),
        resize(mode="linear", coordinate_transformation_mode="align_corners", opset=19),
    ),
    Case("resize-mode", resize(mode="linear", antialias=1, opset=18), resize(mode="linear", antialias=0, opset=18)),
    Case(
        "resize-mode",
        resize(sizes=True, keep_aspect_ratio_policy="not_larger", opset=18),
        resize(sizes=True, keep_aspect_ratio_policy="stretch", opset=18),
    ),
    Case("resize-cubic", resize(mode="cubic"), resize(mode="linear"), severity="warning"),
    Case("resize-sizes", resize_by_input(), resize()),
    Case("resize-sizes", resize_by_input(computed=True), resize(sizes=True), severity="warning"),
    Case(
        "max-pool",
        model([Node("MaxPool", ["x"], ["y", "i"], kernel_shape=[1, 1])]),
        one("MaxPool", kernel_shape=[1, 1]),
    ),
    Case(
        "max-pool",
        one("MaxPool", kernel_shape=[1, 1], dilations=[2, 2]),
        one("MaxPool", kernel_shape=[1, 1], dilations=[1, 1]),
    ),
    Case("zero-point", qdq(np.int8(3)), qdq()),
    Case("zero-point", qdq(None), qdq(), JP5),
    Case("uint8-quantization", qdq(np.uint8(0)), qdq(), JP5),
    Case("uint8-quantization", qdq(np.uint8(0)), qdq(), severity="warning"),
    Case("uint8-quantization", qdq(None), qdq(), severity="warning"),
    Case("uint8-quantization", dequantized(np.uint8), dequantized(np.int8)),
    Case("int32-bias", convolution(bias=np.zeros(4, np.int32)), convolution(bias=np.zeros(4, np.float32))),
    Case("scale", qdq(scale=np.float32(0)), qdq(scale=np.float32(1e-8))),
    Case("per-channel-opset", convolution(opset=12), convolution(opset=13), severity="warning"),
    Case("float16-scale", qdq(scale=HALF, x_type=T.FLOAT16), qdq(), severity="warning"),
    Case("float16-scale", qdq(scale=HALF, x_type=T.FLOAT16), qdq(), JP5),
    Case(
        "float16-scale",
        qdq(scale=HALF, x_type=T.FLOAT16),
        qdq(scale=HALF, x_type=T.FLOAT16, opset=19),
        severity="warning",
    ),
    Case("weight-axis", convolution(axis=1), convolution(axis=0), severity="warning"),
    Case(
        "weight-axis",
        convolution(operator="ConvTranspose", axis=0),
        convolution(operator="ConvTranspose", axis=1),
        severity="warning",
    ),
    Case("half-quantized", convolution(weight=False), convolution(), severity="warning"),
    Case(
        "half-quantized", convolution(activation=False), convolution(activation=False, weight=False), severity="warning"
    ),
    Case("qdq-placement", upsampled(quantized=True), upsampled(quantized=False), severity="warning"),
    Case(
        "qdq-placement",
        upsampled(quantized=True, operator="MaxPool"),
        upsampled(quantized=False, operator="MaxPool"),
        severity="warning",
    ),
    Case("qdq-placement", activated(before=True), activated(before=False), severity="warning"),
    Case("concat-scales", concatenated(0.2), concatenated(0.1), severity="warning"),
    Case("batch-normalization", normalized(training=0), PLAIN(), severity="warning"),
    Case("int8-flag", qdq(), PLAIN(), severity="note"),
    Case("int8-flag", qdq(), PLAIN(), JP5, "note"),
    Case("precision-flags", PLAIN(), cast(T.FLOAT16), TARGETS["jetpack-7.2-trt11"], "note"),
    Case("implicit-calibration", PLAIN(), qdq(), RTX, "note"),
    Case("float16-weight", weights_in(np.float16), weights_in(np.float64), severity="note"),
    Case("dla-absent", PLAIN(), qdq(), TARGETS["jetpack-7.0"], dla=True),
    Case("dla-boards", PLAIN(), PLAIN(), severity="note", dla=True),
    Case("dla-qdq", qdq(), PLAIN(), dla=True),
    Case("dla-resize", resize((1, 1, 1.5, 1.5)), resize(), severity="warning", dla=True),
    Case("dla-resize", resize((1, 1, 33, 33)), resize((1, 1, 32, 32)), severity="warning", dla=True),
    Case("dla-resize", resize(sizes=True), resize(), severity="warning", dla=True),
    Case(
        "dla-resize",
        resize((1, 1, 5, 5), mode="linear", coordinate_transformation_mode="half_pixel"),
        resize((1, 1, 4, 4), mode="linear", coordinate_transformation_mode="half_pixel"),
        severity="warning",
        dla=True,
    ),
    Case("dla-concat", concatenated(axis=2), concatenated(axis=1), severity="warning", dla=True),
    Case(
        "dla-conv-transpose",
        one("ConvTranspose", constants={"w": np.ones((4, 1, 1, 1), np.float32)}, group=4),
        one("ConvTranspose", constants={"w": np.ones((4, 4, 1, 1), np.float32)}),
        severity="warning",
        dla=True,
    ),
    Case("dla-silu", gated(same=True), gated(same=False), severity="warning", dla=True),
    Case(
        "dla-operator",
        one("GlobalAveragePool", output=Info("y", T.FLOAT, [1, 4, 1, 1])),
        PLAIN(),
        severity="note",
        dla=True,
    ),
]
IDS = [f"{index}-{case.rule}-{case.target.name}" for index, case in enumerate(CASES)]


def rules(found: list[Any], severity: str = "") -> set[str]:
    return {finding.rule for finding in found if not severity or finding.severity == severity}


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_a_rule_finds_what_it_is_for_and_nothing_else(case: Case) -> None:
    found = [finding for finding in lint_findings(case.bad, case.target, dla=case.dla) if finding.rule == case.rule]
    assert min(SEVERITIES.index(finding.severity) for finding in found) == SEVERITIES.index(case.severity)
    assert all(finding.where and finding.what and finding.fix for finding in found)
    if case.rule not in ("dla-boards", "dla-absent"):
        assert case.rule not in rules(lint_findings(case.good, case.target, dla=case.dla))


def test_every_rule_has_a_case() -> None:
    for rule in (*RULES, *DLA_RULES):
        cases = [case for case in CASES if case.dla or rule in RULES]
        assert any(list(rule(RuleGraph(case.bad), case.target)) for case in cases), rule.__name__


def test_every_tensorrt_of_a_jetpack_is_a_target() -> None:
    brought = {version for one in RELEASES if one.usable for version in (one.tensorrt, one.newer_tensorrt) if version}
    missing = {version_tuple(version)[:2] for version in brought} - {target.tensorrt for target in TARGETS.values()}
    assert not missing, "add a row to TARGETS in edgeseg/compiler/lint/targets.py"


def test_a_graph_that_just_works_has_nothing_to_say() -> None:
    for target in TARGETS.values():
        assert not rules(lint_findings(PLAIN(), target), "error") | rules(lint_findings(PLAIN(), target), "warning")


def test_alike_findings_are_one_and_errors_come_first() -> None:
    made = two_convolutions()
    before = made.SerializeToString()
    found = lint_findings(made, TARGETS["jetpack-5.1"])
    (half,) = [finding for finding in found if finding.rule == "half-quantized"]
    assert half.where == "second and 1 more"
    order = [SEVERITIES.index(finding.severity) for finding in lint_findings(argmax(T.UINT8), JP5)]
    assert order == sorted(order) and order[0] == 0
    assert json.loads(json.dumps(half.to_json())) == {
        "severity": "warning",
        "rule": "half-quantized",
        "where": "second and 1 more",
        "what": "Conv runs in float: only its activation is quantized",
        "fix": "quantize both inputs, or neither",
    }
    assert made.SerializeToString() == before, "the lint changes nothing"


IMPORTERS = {name: set(names.split()) for name, names in json.loads(FIXTURE.read_text())["operators"].items()}
EVERY_OPERATOR = sorted({schema.name for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == ""})


def row_of(target: Target) -> str:
    """The row of the fixture that a target stands for."""
    return f"rtx-{target.tensorrt[0]}.{target.tensorrt[1]}" if target is RTX else "{}.{}".format(*target.tensorrt)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_what_a_version_has_no_importer_for_is_an_error_and_nothing_else(target: Target) -> None:
    """Against NVIDIA's parsers, operator by operator: the rule looks at the name alone."""
    refused, graph = set(), RuleGraph(PLAIN())
    for operator in EVERY_OPERATOR:
        graph.nodes[0].op_type = operator
        found = [finding for finding in unsupported_operators(graph, target) if finding.severity == "error"]
        assert all(operator in finding.what and finding.fix for finding in found)
        refused |= {operator for _ in found}
    assert refused == set(EVERY_OPERATOR) - (IMPORTERS[row_of(target)] - set(target.lacks))
    assert {"DynamicQuantizeLinear", "ConvInteger", "QLinearConv", "Det", "SequenceAt"} <= refused


@pytest.mark.parametrize("row", IMPORTERS)
def test_the_table_of_importers_is_the_fixture(row: str) -> None:
    product = "TensorRT-RTX" if row.startswith("rtx") else "TensorRT"
    major, minor = map(int, row.replace("rtx-", "").split("."))
    assert imported_operators(product, (major, minor)) == IMPORTERS[row]
    if product == "TensorRT":
        later = {operator for operator in EVERY_OPERATOR if (first_importer(operator) or (99, 0)) > (major, minor)}
        assert later == set(EVERY_OPERATOR) - IMPORTERS[row]


def test_the_oldest_versions_lack_what_came_later() -> None:
    for operator, opset, missing in (
        ("Gelu", 20, {"jetpack-5.1", "jetpack-6.0"}),
        ("Mish", 18, {"jetpack-5.1", "jetpack-6.0"}),
        ("CastLike", 15, {"jetpack-5.1", "jetpack-6.0"}),
        ("LayerNormalization", 17, {"jetpack-5.1"}),
    ):
        inputs = ("x", "x") if operator != "Gelu" and operator != "Mish" else ("x",)
        made = one(operator, inputs=inputs, opset=opset)
        lacking = {
            name for name, target in TARGETS.items() if "unsupported-operator" in rules(lint_findings(made, target))
        }
        assert lacking == missing, operator
    (found,) = (f for f in lint_findings(one("Mish", opset=18), JP5) if f.rule == "unsupported-operator")
    assert found.what == (
        "Mish has no importer in the ONNX parser of TensorRT 8.5; TensorRT 10.0 was the first to have one"
    )
    assert "opset_version=17" in found.fix


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_a_newer_opset_is_no_error(target: Target) -> None:
    newest = onnx.defs.onnx_opset_version()
    for made in (PLAIN(opset=newest), one("Cast", to=T.FLOAT, opset=newest)):
        found = lint_findings(made, target)
        assert not rules(found, "error")
        assert ("opset" in rules(found, "warning")) == (newest > target.opset)


def test_the_fixture_of_importers_is_what_the_sources_define() -> None:
    """``EDGESEG_ONNX_TENSORRT`` names a clone of onnx-tensorrt; its branches are named after the releases."""
    clone = os.environ.get("EDGESEG_ONNX_TENSORRT")
    if not clone:
        pytest.skip("EDGESEG_ONNX_TENSORRT names no clone of onnx-tensorrt")
    for version in ("8.5", "8.6", "10.0", "10.1"):
        command = ["git", "-C", clone, "grep", "-hoE", r"^ *DEFINE_BUILTIN_OP_IMPORTER\(\w+\)", f"{version}-GA"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        defined = set(re.findall(r"\((\w+)\)", done.stdout))
        assert IMPORTERS[version] == {n for n in defined if not n.startswith("TRT_") and not n.endswith("Importer")}


def test_the_fixture_of_importers_is_what_the_real_parser_says() -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has wheels for x86_64 Linux only")
    if not trt.__version__.startswith("1.7."):
        pytest.skip(f"the fixture is of TensorRT-RTX 1.7, not {trt.__version__}")
    logger = silent(trt)
    parser = trt.OnnxParser(trt.Builder(logger).create_network(0), logger)
    asked = {*EVERY_OPERATOR, *IMPORTERS["rtx-1.7"]}
    assert {operator for operator in asked if parser.supports_operator(operator)} == IMPORTERS["rtx-1.7"]


def test_what_was_not_verified_says_so() -> None:
    def said(made: Any, target: str, rule: str) -> str:
        return next(finding.what for finding in lint_findings(made, TARGETS[target]) if finding.rule == rule)

    newer = one("Cast", to=T.FLOAT, opset=21)
    assert "not verified" in said(newer, "jetpack-6.1", "opset")
    assert (
        said(newer, "jetpack-5.1", "opset") == "opset 21 is above the 17 that TensorRT 8.5 reads; redefined since: Cast"
    )
    assert "not verified" in said(argmax(T.UINT8), "jetpack-6.0", "uint8-cast")
    assert "not verified" not in said(argmax(T.UINT8), "jetpack-5.1", "uint8-cast")


def test_operators_in_the_branches_of_control_flow_are_seen() -> None:
    made = looped()
    made.graph.node[0].attribute[0].g.node[1].op_type = "Unique"
    assert "unsupported-operator" in rules(lint_findings(made, JP6), "error")


def test_a_graph_that_is_not_onnx_is_refused() -> None:
    made = one("FusedConv", domain="com.microsoft")
    del made.opset_import[1:]
    with pytest.raises(CompileError, match="is not valid ONNX: .*com.microsoft"):
        lint_findings(made, JP6)
    with pytest.raises(CompileError, match="is not valid ONNX: axis of y is a float"):
        lint_findings(model([Node("Concat", ["x"], ["y"], axis=0.5)]), JP6, dla=True)


def test_our_graphs_have_no_error_for_any_jetpack(graph_and_ranges: tuple[Any, Ranges]) -> None:
    graph, ranges = graph_and_ranges
    emitted = tensorrt_qdq_onnx(graph, ranges)
    for target in TARGETS.values():
        assert not rules(lint_findings(graph, target), "error") | rules(lint_findings(emitted, target), "error")
        assert not rules(lint_findings(emitted, target), "warning")


def test_graphs_for_the_cpu_have_errors_for_every_tensorrt(graph_and_ranges: tuple[Any, Ranges]) -> None:
    graph, ranges = graph_and_ranges
    integer, per_frame = cpu_qdq_onnx(graph, ranges), dynamic_int8_onnx(graph)
    for target in TARGETS.values():
        assert rules(lint_findings(integer, target), "error") >= {"zero-point", "int32-bias"}
        assert "unsupported-operator" in rules(lint_findings(per_frame, target), "error")


def silent(trt: Any) -> Any:
    """A logger that says nothing."""

    class Silent(trt.ILogger):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            pass

    return Silent()


Accepts = Callable[..., bool]


@pytest.fixture(scope="module")
def rtx_accepts() -> Iterator[Accepts]:
    """Whether NVIDIA's parser takes a graph, and on request whether its builder makes an engine of it."""
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has wheels for x86_64 Linux only")
    logger = silent(trt)
    builder = trt.Builder(logger)

    def accepts(graph: bytes, *, build: bool = False) -> bool:
        network = builder.create_network(0)
        if not trt.OnnxParser(network, logger).parse(graph):
            return False
        config = builder.create_builder_config()
        config.num_compute_capabilities = 1
        assert config.set_compute_capability(trt.ComputeCapability.SM86, 0)
        return not build or builder.build_serialized_network(network, config) is not None

    yield accepts


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_the_real_parser_agrees_on_small_graphs(case: Case, rtx_accepts: Accepts) -> None:
    """For TensorRT-RTX an error is a refusal, and what is refused has an error."""
    for made in (case.bad, case.good):
        if "EfficientNMS_TRT" in {node.op_type for node in made.graph.node}:
            continue  # a plugin's name, without the plugin
        errors = rules(lint_findings(made, RTX), "error")
        accepted = rtx_accepts(made.SerializeToString(), build=case.rule == "dynamic-shape")
        assert accepted == (not errors), errors


def test_the_real_parser_agrees_on_our_graphs(shipped: Bundle, rtx_accepts: Accepts) -> None:
    graphs = {name: onnx.load_model_from_string(entry.onnx) for name, entry in shipped.graphs.items()}
    graphs["int8-dynamic"] = dynamic_int8_onnx(float_graph_from_bundle(shipped))
    accepted = {name: rtx_accepts(made.SerializeToString()) for name, made in graphs.items()}
    assert accepted == {name: not rules(lint_findings(made, RTX), "error") for name, made in graphs.items()}
    assert accepted == {"fp32": True, "int8-tensorrt": True, "int8-cpu": False, "int8-dynamic": False}
