"""Operators that came after opset 17 or after the oldest parser, restated so that every TensorRT loads them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgeseg.compiler.importers.opsets import at_readable_opset
from edgeseg.compiler.lint.check import lint_findings
from edgeseg.compiler.lint.targets import TARGETS

CASES: list[tuple[str, int, dict[str, Any]]] = [
    ("Gelu", 20, {}),
    ("Gelu", 20, {"approximate": "tanh"}),
    ("Mish", 18, {}),
    ("CastLike", 15, {}),
    ("CastLike", 21, {}),
    ("Swish", 24, {}),
    ("Swish", 24, {"alpha": 1.5}),
]


@pytest.mark.parametrize(("operator", "opset", "how"), CASES)
def test_every_tensorrt_loads_what_is_restated(operator: str, opset: int, how: dict[str, Any]) -> None:
    if not onnx.defs.has(operator, opset, ""):
        pytest.skip(f"onnx {onnx.__version__} has no {operator}")
    inputs = ["x", "like"] if operator == "CastLike" else ["x"]
    value = helper.make_tensor_value_info
    ends = [value(name, TensorProto.FLOAT, [1, 4, 8, 8]) for name in ("x", "y")]
    like = [numpy_helper.from_array(np.zeros(1, np.float32), "like")]
    graph = helper.make_graph([helper.make_node(operator, inputs, ["y"], **how)], "graph", ends[:1], ends[1:], like)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    frames = {"x": np.random.default_rng(0).normal(0, 3, (1, 4, 8, 8)).astype(np.float32)}
    (before,) = ReferenceEvaluator(model).run(None, frames)
    restated, _ = at_readable_opset(model)
    onnx.checker.check_model(restated)
    (after,) = ReferenceEvaluator(restated).run(None, frames)
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)
    for target in TARGETS.values():
        assert [finding.what for finding in lint_findings(restated, target) if finding.severity == "error"] == []
