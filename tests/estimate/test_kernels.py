"""Graphs become the kernels that TensorRT documents: one per convolution, whatever follows it point by point."""

from __future__ import annotations

from typing import Any, Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgeseg.bundle import Bundle
from edgeseg.compiler.steps.float_graph import float_graph_from_bundle
from edgeseg.compiler.verify.tensorrt_rtx import kernel_plan_from_onnx, rtx_is_installed
from edgeseg.errors import CompileError
from edgeseg.estimate.kernels import Kernel, fused_kernels, total_macs

onnx = pytest.importorskip("onnx", reason="graphs are read with onnx (the extra `compile`)")


def kernels(nodes: Sequence[Any], outputs: Sequence[str], **weights: Sequence[int]) -> tuple[Kernel, ...]:
    """Partition a graph of one image ``x`` of 1x8x16x16 with float weights of some shapes."""
    helper, types = onnx.helper, onnx.TensorProto
    values = [helper.make_tensor_value_info("x", types.FLOAT, [1, 8, 16, 16])]
    results = [helper.make_tensor_value_info(name, types.FLOAT, None) for name in outputs]
    size = {name: int(onnx.numpy_helper.np.prod(shape)) for name, shape in weights.items()}
    tensors = [helper.make_tensor(name, types.FLOAT, shape, [0.5] * size[name]) for name, shape in weights.items()]
    graph = helper.make_graph(list(nodes), "g", values, results, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    return fused_kernels(onnx.shape_inference.infer_shapes(model))


def node(operator: str, inputs: str, output: str, **how: Any) -> Any:
    return onnx.helper.make_node(operator, inputs.split(), [output], output, **how)


def operators(found: Sequence[Kernel]) -> list[tuple[str, ...]]:
    return [kernel.operators for kernel in found]


def test_a_convolution_takes_the_residual_and_the_function_behind_it() -> None:
    nodes = [
        node("Conv", "x a", "y", pads=[1, 1, 1, 1]),
        node("Relu", "y", "z"),
        node("Conv", "z b", "w"),
        node("Add", "w x", "s"),
        node("Relu", "s", "out"),
    ]
    first, second = kernels(nodes, ["out"], a=(16, 8, 3, 3), b=(8, 16, 1, 1))
    assert (first.kind, first.operators) == ("convolution", ("Conv", "Relu"))
    assert (second.kind, second.operators) == ("pointwise-convolution", ("Conv", "Add", "Relu"))
    assert first.macs == 256 * 16 * 8 * 9 and (first.rows, first.columns, first.depth) == (256, 16, 72)
    assert second.read == 256 * (16 + 8) and second.written == 256 * 8 and second.weights == 16 * 8


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Sigmoid", "y", "s"), node("Mul", "y s", "out")],
        [node("Add", "y c", "p"), node("Clip", "p c c", "q"), node("Mul", "y q", "r"), node("Div", "r c", "out")],
        [node("Softplus", "y", "s"), node("Tanh", "s", "t"), node("Mul", "t y", "out")],
    ],
    ids=["silu", "hard-swish", "mish"],
)
def test_a_function_that_is_written_as_several_nodes_stays_with_its_convolution(nodes: list[Any]) -> None:
    (kernel,) = kernels([node("Conv", "x a", "y"), *nodes], ["out"], a=(8, 8, 1, 1), c=())
    assert kernel.kind == "pointwise-convolution" and kernel.read == kernel.written == 8 * 256


def test_a_tensor_that_others_read_too_is_written() -> None:
    nodes = [
        node("Conv", "x a", "y"),
        node("Relu", "y", "z"),
        node("GlobalAveragePool", "y", "m"),
        node("Conv", "m a", "g"),
        node("Sigmoid", "g", "s"),
        node("Mul", "z s", "out"),
    ]
    found = kernels(nodes, ["out"], a=(8, 8, 1, 1))
    assert operators(found) == [("Conv",), ("Relu", "Mul"), ("GlobalAveragePool",), ("Conv", "Sigmoid")]


def test_channels_are_joined_in_place_once_and_copied_after_that() -> None:
    nodes = [
        node("Conv", "x a", "p"),
        node("Conv", "x b", "q"),
        node("Concat", "p q", "c", axis=1),
        node("Conv", "c w", "r"),
        node("Concat", "p r", "out", axis=1),
    ]
    found = kernels(nodes, ["out"], a=(8, 8, 1, 1), b=(4, 8, 1, 1), w=(8, 12, 1, 1))
    assert operators(found) == [("Conv",), ("Conv",), ("Conv",), ("Concat",)]
    assert (found[-1].kind, found[-1].read, found[-1].written) == ("copy", 8 * 256, 8 * 256)


def test_depthwise_and_transposed_convolutions_are_counted_as_what_they_multiply() -> None:
    nodes = [node("Conv", "x a", "y", group=8), node("ConvTranspose", "y b", "out", strides=[2, 2])]
    depthwise, transposed = kernels(nodes, ["out"], a=(8, 1, 1, 1), b=(8, 4, 2, 2))
    assert (depthwise.kind, depthwise.macs) == ("depthwise", 8 * 256)
    assert (transposed.kind, transposed.macs, transposed.written) == ("transposed", 256 * 8 * 4 * 4, 4 * 1024)


def test_a_size_that_is_not_known_is_said() -> None:
    with pytest.raises(CompileError, match="of GridSample is not known; export with fixed sizes"):
        kernels([node("GridSample", "x x", "y"), node("Relu", "y", "out")], ["out"])


COUNTED = {
    *("Conv", "ConvTranspose", "Gemm", "MatMul", "Resize", "Upsample", "MaxPool", "AveragePool", "Concat", "Slice"),
    *("Split", "Gather", "Softmax", "ArgMax", "Relu", "Add", "Sum", "Shape", "Reshape", "Transpose", "Pad"),
}


def known(operator: str, domain: str = "") -> bool:
    """Return whether an operator is counted, whose output's shape the exporter states."""
    helper, types = onnx.helper, onnx.TensorProto
    values = [helper.make_tensor_value_info(name, types.FLOAT, [1, 8, 16, 16]) for name in ("x", "y", "out")]
    nodes = [helper.make_node(operator, ["x"], ["y"], domain=domain), node("Relu", "y", "out")]
    model = helper.make_model(helper.make_graph(nodes, "g", values[:1], values[2:], value_info=values[1:2]))
    try:
        fused_kernels(model)
    except CompileError as error:
        if f"the work of {f'{domain}.' if domain else ''}{operator} is not known here" in str(error):
            return False
    except (IndexError, KeyError):  # this node lacks what the operator needs
        pass
    return True


def test_every_operator_of_onnx_is_counted_or_said() -> None:
    """What multiplies, loops or draws lots is said, of whatever opset; else the forecast would be too low."""
    names = sorted({one.name for one in onnx.defs.get_all_schemas() if not one.domain})
    unknown = {name for name in names if not known(name)}
    assert not unknown & COUNTED and set(names) >= COUNTED
    assert unknown >= {"If", "Loop", "LSTM", "Einsum", "DeformConv", "QLinearConv", "NonMaxSuppression", "STFT"}
    assert len(unknown) < len(names) / 2


@given(name=st.text("ABCabc", min_size=1, max_size=8), domain=st.sampled_from(["", "com.microsoft", "ours"]))
@example(name="Relu", domain="com.microsoft")
@example(name="FusedConv", domain="com.microsoft")
def test_an_operator_of_others_is_said(name: str, domain: str) -> None:
    assert not known(name, domain)


def test_products_of_vectors_are_counted() -> None:
    nodes = [node("Reshape", "x flat", "v"), node("MatMul", "v w", "out")]
    helper, types = onnx.helper, onnx.TensorProto
    values = [helper.make_tensor_value_info("x", types.FLOAT, [1, 8, 16, 16])]
    weights = [
        helper.make_tensor("flat", types.INT64, [1], [2048]),
        helper.make_tensor("w", types.FLOAT, [2048], [0.5] * 2048),
    ]
    result = [helper.make_tensor_value_info("out", types.FLOAT, [])]
    model = helper.make_model(helper.make_graph(nodes, "g", values, result, weights))
    (kernel,) = fused_kernels(onnx.shape_inference.infer_shapes(model))
    assert (kernel.kind, kernel.macs) == ("product", 2048)


def test_the_shipped_graphs_with_and_without_qdq_are_the_same_kernels(shipped: Bundle) -> None:
    found = {}
    for name in ("fp32", "int8-tensorrt"):
        model = onnx.load_from_string(shipped.graphs[name].onnx)
        found[name] = fused_kernels(onnx.shape_inference.infer_shapes(model, data_prop=True))
    plain, quantized = (sorted((k.kind, k.macs, k.read) for k in found[name]) for name in found)
    assert plain == quantized
    assert total_macs(found["fp32"]) == pytest.approx(1.513e9, rel=1e-3)
    convolutions = [kernel for kernel in found["int8-tensorrt"] if kernel.macs]
    assert len(convolutions) == 61 and not any(kernel.is_float for kernel in convolutions)
    assert all(kernel.is_float for kernel in found["int8-tensorrt"][-3:])


@pytest.mark.skipif(not rtx_is_installed(), reason="TensorRT-RTX is not installed (the extra `rtx`)")
def test_there_are_as_many_kernels_as_tensorrt_rtx_prints(shipped: Bundle) -> None:
    model = float_graph_from_bundle(shipped)
    ours = fused_kernels(onnx.shape_inference.infer_shapes(model, data_prop=True))
    plan = kernel_plan_from_onnx(model.SerializeToString())
    assert len(ours) == len(plan.kernels) and sum(kernel.macs > 0 for kernel in ours) == plan.convolutions


def test_a_kernel_survives_json(shipped: Bundle) -> None:
    kernel = Kernel("a", "convolution", ("Conv", "Relu"), macs=7, is_float=True)
    assert Kernel.from_json(kernel.to_json()) == kernel
