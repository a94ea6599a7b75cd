"""The kernel plan is read from TensorRT-RTX's build log; where it is installed, from real builds."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeseg.compiler.verify.tensorrt_rtx import KernelPlan, kernel_plan_from_onnx, rtx_is_installed
from edgeseg.engines.tensorrt.kernels import kernels_from_log
from edgeseg.errors import CompileError, EngineError, MissingDependencyError

needs_rtx = pytest.mark.skipif(not rtx_is_installed(), reason="TensorRT-RTX has wheels for x86_64 only")


def _tensor(name: str, shape: str, dtype: str) -> str:
    """As TensorRT-RTX 1.7.1 writes it."""
    return f"{{ Name: {name}, Dimensions: [{shape}], Strides: [1], StrideOrder: [0], Datatype: {dtype}, Format: (Linear) Row major linear format }}"  # noqa: E501


def _line(name: str, kind: str, reads: str, constants: str, writes: str, *layers: str) -> str:
    metadata = "".join(f"[ONNX Layer: {layer}]" for layer in layers)
    return (
        f"Name: {name}, LayerType: {kind}, Inputs: [ {reads}], Constants: [ {constants}], Outputs: [ {writes}], "
        f"TacticName: {name}_0x1, StreamId: 0, Metadata: {metadata}"
    )


WEIGHTS = _tensor("w", "8,8,3,3", "Int8") + ", " + _tensor("s", "1,8,1,1", "Float")
WAIT = "Name: __mye17026_myl0_102, LayerType: wait, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 1, EventId: 1, Metadata: "  # noqa: E501


def _plan(*lines: str) -> KernelPlan:
    return KernelPlan("SM86", "1.7.1", kernels_from_log(["Layers:", *lines, ""]), 1000, 0.5)


def _a(name: str, dtype: str = "Float", shape: str = "1,8,16,16") -> str:
    return _tensor(name, shape, dtype)


def test_an_int8_convolution_and_its_unfused_epilogue() -> None:
    plan = _plan(
        _line("/conv_myl0_0", "correlation", _a("x", "Int8"), WEIGHTS, _a("y"), "/conv", "x/dequantized"),
        _line("__myl_MulAddReluMulMinMaxRounCast_myl0_1", "kgen", _a("y"), "", _a("z", "Int8"), "/conv", "/relu"),
        WAIT,
    )
    assert (plan.convolutions, plan.int8_convolutions, len(plan.kernels), plan.fused) == (1, 1, 2, 2)
    assert plan.conversions == 1, "the epilogue only makes INT8 of float"
    assert plan.float_round_trips == (), "but its input comes from a convolution: no placement avoids that"
    assert plan.kernels[0].layers == ("/conv", "x/dequantized")
    assert plan.activation_bytes == 8 * 256 * (1 + 4 + 4 + 1)


def test_a_float_copy_for_a_residual_is_a_round_trip() -> None:
    plan = _plan(
        _line("__myl_MulAdd_myl0_0", "kgen", _a("y"), "", _a("z", "Int8") + ", " + _a("copy"), "/project"),
        _line("/conv_myl0_1", "correlation", _a("z", "Int8"), WEIGHTS, _a("u"), "/conv"),
        _line("__myl_AddRounCast_myl0_2", "kgen", _a("copy") + ", " + _a("u"), "", _a("v", "Int8"), "/add"),
    )
    (trip,) = plan.float_round_trips
    assert (trip.tensor, trip.written_by, trip.read_by) == ("1x8x16x16 Float", ("/project",), ("/add",))


def test_a_kernel_that_only_dequantizes_is_a_round_trip() -> None:
    plan = _plan(
        _line("__myl_CastMul_myl0_0", "kgen", _a("x", "Int8"), "", _a("y", "Half"), "x/dequantized"),
        _line("/pool_myl0_1", "maxpool", _a("y", "Half"), "", _a("z", "Half"), "/pool"),
    )
    (trip,) = plan.float_round_trips
    assert (trip.tensor, trip.written_by, trip.read_by) == ("1x8x16x16 Half", ("x/dequantized",), ())


def test_convolutions_inside_generated_code_count() -> None:
    pixel = "1,8,1,1"
    plan = _plan(
        _line("__myl_CorrSilu_myl0_0", "runtime_fusion", _a("x"), _a("w"), _a("y"), "/stem"),
        _line("__myl_RounCastCorrMul_myl0_1", "kgen", _a("m", shape=pixel), WEIGHTS, _a("n", shape=pixel), "/se"),
        _line("/Corridor/pool_myl0_2", "maxpool", _a("y"), "", _a("z"), "/Corridor/pool"),
        _line("up_myl0_3", "deconv", _a("z") + ", " + _a("weights"), "", _a("o"), "up"),
    )
    assert (plan.convolutions, plan.int8_convolutions) == (3, 1)


def test_a_log_of_another_format_is_not_read_as_an_empty_plan() -> None:
    with pytest.raises(EngineError, match="unknown format"):
        kernels_from_log(["Name: a, LayerType: correlation, Reads: x, Writes: y"])
    with pytest.raises(EngineError, match="names no kernels"):
        kernels_from_log(["Engine generation completed in 3.4 seconds."])


def test_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    assert not rtx_is_installed()
    with pytest.raises(MissingDependencyError, match="tensorrt_rtx"):
        kernel_plan_from_onnx(b"")


def _quantized_chain(zero_point: int = 0) -> bytes:
    """Two quantized convolutions with a float Relu between them and a quantized output."""
    rng = np.random.default_rng(0)
    constants = {"scale": np.float32(0.05), "zero": np.int8(zero_point)}
    nodes, tensor = [], "x"
    for i in range(2):
        constants[f"levels{i}"] = rng.integers(-127, 128, (32, 32, 3, 3)).astype(np.int8)
        constants[f"scales{i}"] = rng.uniform(0.001, 0.01, 32).astype(np.float32)
        constants[f"zeros{i}"] = np.zeros(32, np.int8)
        nodes += [
            helper.make_node("QuantizeLinear", [tensor, "scale", "zero"], [f"q{i}"], f"q{i}"),
            helper.make_node("DequantizeLinear", [f"q{i}", "scale", "zero"], [f"d{i}"], f"d{i}"),
            helper.make_node("DequantizeLinear", [f"levels{i}", f"scales{i}", f"zeros{i}"], [f"w{i}"], f"w{i}", axis=0),
            helper.make_node("Conv", [f"d{i}", f"w{i}"], [f"c{i}"], f"conv{i}", pads=[1] * 4),
            helper.make_node("Relu", [f"c{i}"], [f"r{i}"], f"relu{i}"),
        ]
        tensor = f"r{i}"
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 32, 16, 16]) for name in ("x", tensor))
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "chain", [x], [y], initializers)
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


@needs_rtx
def test_a_real_build(capfd: pytest.CaptureFixture[str]) -> None:
    plan = kernel_plan_from_onnx(_quantized_chain(), "SM86")
    assert (plan.convolutions, plan.int8_convolutions) == (2, 2)
    assert {layer for kernel in plan.kernels for layer in kernel.layers} >= {"conv0", "relu0", "conv1", "relu1"}
    assert plan.float_round_trips == () and plan.fused >= 2
    assert plan.plan_bytes > 10_000 and plan.build_s > 0
    assert json.loads(json.dumps(plan.to_json()))["int8_convolutions"] == 2
    assert capfd.readouterr() == ("", "")


@needs_rtx
def test_turing_runs_the_same_graph_in_float() -> None:
    plan = kernel_plan_from_onnx(_quantized_chain(), "SM75")
    assert (plan.convolutions, plan.int8_convolutions) == (2, 0)
    assert plan.float_round_trips == (), "nothing is written as INT8 there"


@needs_rtx
def test_what_is_refused_says_why_on_one_line() -> None:
    with pytest.raises(CompileError, match="for SM86: TensorRT-RTX 1.* refuses the graph: .+") as refused:
        kernel_plan_from_onnx(_quantized_chain(zero_point=3))
    assert "\n" not in str(refused.value)
    with pytest.raises(CompileError, match="the graph is no ONNX model"):
        kernel_plan_from_onnx(b"this is not a graph")


@needs_rtx
def test_a_build_that_does_not_end_is_stopped() -> None:
    with pytest.raises(CompileError, match="did not end within 0 s"):
        kernel_plan_from_onnx(_quantized_chain(), timeout_s=0.05)


@needs_rtx
def test_a_breakdown_of_the_compiler_does_not_take_us_down(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho terminate called >&2\nkill -ABRT $$\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(CompileError, match=r"broke down \(signal 6\); its last words: terminate called"):
        kernel_plan_from_onnx(_quantized_chain())


def test_unknown_capabilities_are_named() -> None:
    with pytest.raises(CompileError, match="cannot build for 'SM87'; it can for SM75, SM80, SM86"):
        kernel_plan_from_onnx(b"", "SM87")
