"""Graphs as other tools write them: names, control flow, old and new options. The class map is the graph's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional

from edgeseg.compiler.calibration.collect import ranges_from_frames
from edgeseg.compiler.graph.run import run_onnx
from edgeseg.compiler.importers.canonical import network_graph
from edgeseg.compiler.importers.onnx_network import wanted_from_facts
from edgeseg.compiler.importers.wanted import OwnerFacts
from edgeseg.compiler.quantize.qdq import cpu_qdq_onnx, tensorrt_qdq_onnx
from edgeseg.compiler.quantize.qdq_editor import layer_names
from edgeseg.compiler.steps.float_graph import float_graph_from_network
from edgeseg.errors import CompileError
from edgeseg.images import InMemory, Sample
from edgeseg.preprocess import NetworkFrames, normalized
from edgeseg.spec import ModelSpec, Preprocess

SIZE = (32, 64)
SPEC = ModelSpec(tuple("abcd"), ((0, 0, 0),) * 4, SIZE, Preprocess((0.4,) * 3, (0.2,) * 3))
node = helper.make_node
quick = settings(max_examples=30, derandomize=True)


def value_info(name: str, shape: list[Any], kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def network(
    middle: list[onnx.NodeProto], constants: dict[str, np.ndarray], *, opset: int = 17, layout: str = "NCHW"
) -> onnx.ModelProto:
    """A convolution of stride 2 makes ``a``, 8 maps; the middle makes ``z``; a head and an enlargement follow."""
    rng = np.random.default_rng(0)
    values = {
        "w": rng.standard_normal((8, 3, 3, 3)).astype(np.float32) / 3,
        "head": rng.standard_normal((4, 8, 1, 1)).astype(np.float32) / 2,
        "size": np.array([1, 1, 2, 2], np.float32),
        "roi": np.zeros(0, np.float32),
        **constants,
    }
    nodes = [
        *([node("Transpose", ["image"], ["nchw"], perm=[0, 3, 1, 2])] if layout == "NHWC" else []),
        node("Conv", ["nchw" if layout == "NHWC" else "image", "w"], ["c"], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["a"]),
        *middle,
        node("Conv", ["z", "head"], ["h"]),
    ]
    if opset < 11:
        nodes.append(node("Upsample", ["h", "size"], ["out"], mode="nearest"))
    else:
        nodes.append(node("Resize", ["h", "roi", "size"], ["out"], mode="nearest"))
    shape = [1, 3, *SIZE] if layout == "NCHW" else [1, *SIZE, 3]
    graph = helper.make_graph(
        nodes,
        "net",
        [value_info("image", shape)],
        [value_info("out", [1, 4, "h", "w"])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def smooth_frames(count: int = 16) -> InMemory:
    low = torch.from_numpy(np.random.default_rng(5).uniform(0, 255, (count, 3, 5, 6)).astype(np.float32))
    large = functional.interpolate(low, size=SIZE, mode="bilinear").byte().permute(0, 2, 3, 1)
    return InMemory([Sample(str(i), np.ascontiguousarray(f), None) for i, f in enumerate(large.numpy())], "smooth")


FRAMES = smooth_frames()


def folded(model: onnx.ModelProto) -> onnx.ModelProto:
    graph, _ = network_graph(model, wanted_from_facts(model, OwnerFacts(4)))
    return float_graph_from_network(graph, SPEC)


def classes_of(graph: onnx.ModelProto, index: int) -> np.ndarray:
    return np.asarray(run_onnx(graph, {"frame": FRAMES[index].frame[None]})[0])


def expect_the_graphs_own_classes(model: onnx.ModelProto, original: onnx.ModelProto | None = None) -> onnx.ModelProto:
    """FP32 gives what ONNX Runtime makes of the file, and both INT8 graphs nearly that."""
    graph = folded(model)
    original = original or model
    image = normalized(FRAMES[0].frame[None], SPEC.preprocess)
    if original.graph.input[0].type.tensor_type.shape.dim[3].dim_value == 3:
        image = np.ascontiguousarray(image.transpose(0, 2, 3, 1))
    expected = run_onnx(original, {"image": image})[0].argmax(1)
    assert np.mean(classes_of(graph, 0) == expected) > 0.999
    ranges = ranges_from_frames(graph, NetworkFrames(FRAMES, SPEC))
    for emitted in (tensorrt_qdq_onnx(graph, ranges), cpu_qdq_onnx(graph, ranges)):
        agrees = [np.mean(classes_of(emitted, index) == classes_of(graph, index)) for index in range(4)]
        assert np.mean(agrees) > 0.95
    return graph


# Names


def renamed(model: onnx.ModelProto, names: dict[str, str]) -> onnx.ModelProto:
    other = onnx.ModelProto()
    other.CopyFrom(model)
    for each in other.graph.node:
        each.input[:] = [names.get(name, name) for name in each.input]
        each.output[:] = [names.get(name, name) for name in each.output]
    for each in (*other.graph.initializer, *other.graph.output):
        each.name = names.get(each.name, each.name)
    return other


def names_given_to(graph: onnx.ModelProto) -> set[str]:
    """All names that the later steps put into a folded graph, from the graphs themselves."""
    ranges = ranges_from_frames(graph, NetworkFrames(FRAMES, SPEC))
    emitted = [graph, tensorrt_qdq_onnx(graph, ranges), cpu_qdq_onnx(graph, ranges)]
    made = {name for one in emitted for each in one.graph.node for name in each.output}
    return made | {tensor.name for one in emitted for tensor in one.graph.initializer}


BLOCK = [node("Conv", ["a", "w2", "b2"], ["m"], pads=[1, 1, 1, 1]), node("Relu", ["m"], ["z"])]
BLOCK_WEIGHTS = {
    "w2": np.random.default_rng(1).standard_normal((8, 8, 3, 3)).astype(np.float32) / 6,
    "b2": np.random.default_rng(2).standard_normal(8).astype(np.float32),
}


def bilinear(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same with the enlargement that the CPU graph writes in other operators."""
    model.graph.node[-1].attribute[0].s = b"linear"
    return model


def test_names_that_later_steps_give_are_free() -> None:
    """Whatever a network's tensors are called, also as ours will be."""
    model = bilinear(network(BLOCK, BLOCK_WEIGHTS))
    theirs = sorted(
        {name for each in model.graph.node for name in (*each.input, *each.output)} - {"image", "roi", "out"}
    )
    ours = sorted(names_given_to(folded(model)) - {*theirs, "image", "roi", "out"})
    ours += ["z/min", "z/max", "z/mean", "a/mean", "z/high", "scores", "frame_std", "w/float16", "z/apart/scale"]
    assert len(ours) > 40
    for start in range(0, len(ours), len(theirs)):
        part = ours[start : start + len(theirs)]
        expect_the_graphs_own_classes(renamed(model, dict(zip(theirs[::-1] if start % 2 else theirs, part))))


@quick
@given(
    words=st.lists(
        st.text(min_size=1, max_size=8).filter(lambda t: "\x00" not in t), min_size=6, max_size=6, unique=True
    )
)
def test_names_of_any_text(words: list[str]) -> None:
    model = bilinear(network(BLOCK, BLOCK_WEIGHTS))
    named = renamed(model, dict(zip(["a", "m", "z", "w2", "b2", "head"], words)))
    if set(words) & {"image", "out", "c", "h", "w", "size", "roi"}:
        return
    graph = folded(named)
    assert np.array_equal(classes_of(graph, 0), classes_of(folded(model), 0))


def test_nodes_of_the_same_name() -> None:
    model = network(BLOCK, BLOCK_WEIGHTS)
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    for each in model.graph.node:
        each.name = "same"
    expect_the_graphs_own_classes(model, plain)


# Control flow


def branch(source: str, operator: str, *inputs: str, made: str = "inner") -> onnx.GraphProto:
    nodes = [node(operator, [source, *inputs], [f"{made}/1"]), node("Identity", [f"{made}/1"], [made])]
    return helper.make_graph(nodes, "branch", [], [value_info(made, [1, 8, 16, 32])])


def chosen(condition: str, source: str, output: str, made: str) -> onnx.NodeProto:
    how = {
        "then_branch": branch(source, "Mul", "two", made=made),
        "else_branch": branch(source, "Neg", made=made),
    }
    return node("If", [condition], [output], **how)


@pytest.mark.parametrize("truth", [True, False])
@pytest.mark.parametrize("made", [("inner", "inner"), ("x", "y"), ("a", "z")])
def test_branches_that_use_the_same_names(truth: bool, made: tuple[str, str]) -> None:
    """Names inside branches may repeat each other; both are inlined."""
    if "a" in made:  # a name from around it may not be made again inside
        made = ("inner", "h1")
    middle = [chosen("yes", "a", "i", made[0]), chosen("yes", "i", "z", made[1])]
    expect_the_graphs_own_classes(network(middle, {"yes": np.array(truth), "two": np.array(2, np.float32)}))


@pytest.mark.parametrize("threshold", [-5.0, 5.0])
def test_branches_on_the_image_read_what_is_around_them(threshold: float) -> None:
    """Weights, and the image itself, that only a branch reads, or that it shares with the rest."""
    strided = node("Conv", ["image", "w"], ["again"], strides=[2, 2], pads=[1, 1, 1, 1])
    how = {
        "then_branch": helper.make_graph([strided], "then", [], [value_info("again", [1, 8, 16, 32])]),
        "else_branch": branch("a", "Mul", "two"),
    }
    middle = [
        node("ReduceMean", ["a"], ["mean"], keepdims=0),
        node("Greater", ["mean", "threshold"], ["bright"]),
        node("If", ["bright"], ["i"], **how),
        node("Add", ["i", "a"], ["z"]),
    ]
    constants = {"threshold": np.array(threshold, np.float32), "two": np.array(2, np.float32)}
    expect_the_graphs_own_classes(network(middle, constants))


def test_loops_and_scans() -> None:
    maps = [1, 8, 16, 32]
    body = helper.make_graph(
        [node("Identity", ["go"], ["on"]), node("Mul", ["state", "half"], ["next"])],
        "body",
        [value_info("turn", [], TensorProto.INT64), value_info("go", [], TensorProto.BOOL), value_info("state", maps)],
        [value_info("on", [], TensorProto.BOOL), value_info("next", maps)],
    )
    rows = helper.make_graph(
        [node("Add", ["sum", "row"], ["grown"]), node("Identity", ["grown"], ["made"])],
        "rows",
        [value_info("sum", [1, 8, 32]), value_info("row", [1, 8, 32])],
        [value_info("grown", [1, 8, 32]), value_info("made", [1, 8, 32])],
    )
    middle = [
        node("Loop", ["turns", "yes", "a"], ["l"], body=body),
        node(
            "Scan", ["zero", "l"], ["end", "z"], body=rows, num_scan_inputs=1, scan_input_axes=[2], scan_output_axes=[2]
        ),
    ]
    constants = {
        "turns": np.array(3),
        "yes": np.array(True),
        "half": np.array(0.5, np.float32),
        "zero": np.zeros((1, 8, 32), np.float32),
    }
    expect_the_graphs_own_classes(bilinear(network(middle, constants)))


def test_a_joined_sequence_is_refused_in_one_line() -> None:
    middle = [node("SplitToSequence", ["a"], ["s"], axis=1), node("ConcatFromSequence", ["s"], ["z"], axis=1)]
    with pytest.raises(CompileError, match="joins a sequence .ConcatFromSequence.; export it with split and cat"):
        folded(network(middle, {}))


def test_empty_tensors_need_no_range() -> None:
    middle = [node("Slice", ["a", "none", "none", "axis"], ["e"]), node("Concat", ["e", "a"], ["z"], axis=1)]
    expect_the_graphs_own_classes(network(middle, {"none": np.array([0]), "axis": np.array([1])}))


# Options of operators over opsets


@quick
@given(
    kernel=st.integers(1, 5),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    how=st.sampled_from(["pads", "output_padding", "SAME_UPPER", "SAME_LOWER", "output_shape"]),
    group=st.sampled_from([1, 2, 8]),
    opset=st.sampled_from([8, 10, 11, 13, 17, 18]),
    layout=st.sampled_from(["NCHW", "NHWC"]),
)
def test_transposed_convolutions(
    kernel: int, stride: int, dilation: int, how: str, group: int, opset: int, layout: str
) -> None:
    """Padding in each of the ways in which Keras, PyTorch and Paddle write it, and groups."""
    extent = dilation * (kernel - 1) + 1
    said: dict[str, Any] = {"auto_pad": how} if how.startswith("SAME") else {}
    if how in ("pads", "output_padding"):
        said["pads"] = [max(0, (extent - stride) // 2)] * 4
    if how == "output_padding" and stride > 1:
        said["output_padding"] = [1, stride - 1]
    if how == "output_shape":
        said["output_shape"] = [16 * stride, 32 * stride]
    weight = np.random.default_rng(3).standard_normal((8, 8 // group, kernel, kernel)).astype(np.float32) / kernel
    up = node("ConvTranspose", ["a", "up"], ["u"], strides=[stride] * 2, dilations=[dilation] * 2, group=group, **said)
    back = node("MaxPool", ["u"], ["z"], kernel_shape=[stride] * 2, strides=[stride] * 2, auto_pad="SAME_UPPER")
    model = network([up, back], {"up": weight}, opset=opset, layout=layout)
    try:
        sizes = run_onnx(model, {"image": np.zeros([1, *SIZE, 3] if layout == "NHWC" else [1, 3, *SIZE], np.float32)})[
            0
        ]
    except Exception:  # options that exclude each other
        return
    if sizes.shape[2:] != SIZE:
        return
    expect_the_graphs_own_classes(model)


def test_transposed_convolutions_with_groups_stay_float() -> None:
    """One scale per weight would be shared by channels of very different size; per-group scales TensorRT has not."""
    weight = np.ones((8, 1, 2, 2), np.float32) * np.logspace(-3, 0, 8, dtype=np.float32).reshape(8, 1, 1, 1)
    middle = [
        node("ConvTranspose", ["a", "up"], ["u"], strides=[2, 2], group=8),
        node("Div", ["u", "sizes"], ["v"]),
        node("AveragePool", ["v"], ["z"], kernel_shape=[2, 2], strides=[2, 2]),
    ]
    graph = expect_the_graphs_own_classes(
        network(middle, {"up": weight, "sizes": weight[:, :, :1, :1].reshape(1, 8, 1, 1)})
    )
    grouped = next(each.output[0] for each in graph.graph.node if each.op_type == "ConvTranspose")
    assert grouped not in layer_names(graph) and len(layer_names(graph)) == 2


@pytest.mark.parametrize("hidden", [-100.0, -65504.0, -3.0e38])
@pytest.mark.parametrize("operator", ["Add", "Where"])
def test_masks_do_not_take_the_range_of_what_they_hide(hidden: float, operator: str) -> None:
    """Swin adds -100, exports of float16 networks the smallest number of their type."""
    mask = np.random.default_rng(4).random((1, 1, 16, 32)) > 0.3
    hide = node("Add", ["a", "mask"], ["s"]) if operator == "Add" else node("Where", ["mask", "a", "low"], ["s"])
    middle = [
        hide,
        node("Softmax", ["s"], ["p"], axis=3),
        node("Mul", ["p", "a"], ["q"]),
        node("Add", ["q", "a"], ["z"]),
    ]
    added = np.where(mask, 0, hidden).astype(np.float32)
    constants = {"mask": added if operator == "Add" else mask, "low": np.array(hidden, np.float32)}
    graph = expect_the_graphs_own_classes(network(middle, constants))
    emitted = cpu_qdq_onnx(graph, ranges_from_frames(graph, NetworkFrames(FRAMES, SPEC)))
    makers = {name: each for each in emitted.graph.node for name in each.output}
    softmax = next(each for each in emitted.graph.node if each.op_type == "Softmax")
    assert makers[softmax.input[0]].op_type != "DequantizeLinear"


@pytest.mark.parametrize("axes", [[2, 3], [3, 2], [-2, -1]])
@pytest.mark.parametrize("opset", [18, 19])
def test_scales_of_rows_and_columns_alone(axes: list[int], opset: int) -> None:
    middle = [
        node("Resize", ["a", "", "by"], ["u"], mode="linear", axes=axes),
        node("Resize", ["u", "", "", "to"], ["z"], mode="linear"),
    ]
    by = [2.0, 1.5] if axes[0] % 4 == 2 else [1.5, 2.0]
    constants = {"by": np.float32(by), "to": np.array([1, 8, 16, 32])}
    expect_the_graphs_own_classes(network(middle, constants, opset=opset))
