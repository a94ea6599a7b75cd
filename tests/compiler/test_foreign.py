"""Real exports of small networks, and what else people have: layouts, precisions, endings, opsets."""

from __future__ import annotations

import functools
import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from segmentation_models_pytorch import Unet
from torch import nn
from torch.nn import functional

from edgeseg.compiler.graph.fold import folded_onnx
from edgeseg.compiler.graph.run import run_onnx
from edgeseg.compiler.graph.simplify import simplified_onnx
from edgeseg.compiler.importers.canonical import network_graph
from edgeseg.compiler.importers.isolation import network_graph_in_child
from edgeseg.compiler.importers.onnx_network import (
    graph_facts,
    leftovers,
    loaded_onnx,
    missing_facts,
    network_graph_from_onnx,
    wanted_from_facts,
)
from edgeseg.compiler.importers.wanted import OwnerFacts, Sigmoids, Wanted, sigmoids_of_classes
from edgeseg.compiler.options import NetworkOptions
from edgeseg.compiler.steps.float_graph import float_graph_from_module
from edgeseg.errors import CompileError, EdgesegError, UsageError
from edgeseg.spec import ModelSpec

SIZE = (64, 96)
UNSAID: dict[str, Any] = {"size_hw": None, "layout": None, "output": None}


class Network(nn.Module):
    """Stride 4 inside, with the operators that segmentation networks are made of."""

    def __init__(self, channels: int = 5) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU6())
        self.deep = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1, groups=8), nn.BatchNorm2d(8), nn.SiLU(), nn.Dropout(0.5))
        self.head = nn.Conv2d(16, channels, 1)
        self.auxiliary = nn.Conv2d(8, channels, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        fine = self.stem(image)
        deep = self.deep(fine)
        deep = deep * functional.adaptive_avg_pool2d(deep, 1).sigmoid()
        raised = functional.interpolate(deep, size=fine.shape[2:], mode="bilinear", align_corners=False)
        return self.head(torch.cat([fine, raised], 1))


class Ending(nn.Module):
    """A network and what comes before and behind it."""

    def __init__(self, kind: str = "full", channels: int = 5) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kind, self.network = kind, Network(channels)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -0.5, 0.5)
                nn.init.uniform_(module.running_var, 0.5, 2)

    def logits(self, image: torch.Tensor) -> torch.Tensor:
        low = self.network(image)
        return functional.interpolate(low, size=image.shape[2:], mode="bilinear", align_corners=False)

    def forward(self, image: torch.Tensor) -> Any:
        if self.kind == "low":
            return self.network(image)
        if self.kind == "nhwc":
            return self.logits(image.permute(0, 3, 1, 2)).softmax(1).permute(0, 2, 3, 1)
        if self.kind == "uint8":
            scaled = (image.permute(0, 3, 1, 2).float() - 127.5) / 60
            return self.logits(scaled)
        logits = self.logits(image)
        auxiliary = functional.interpolate(self.network.auxiliary(self.network.stem(image)), size=image.shape[2:])
        endings = {
            "full": lambda: logits,
            "softmax": lambda: logits.softmax(1),
            "sigmoid": lambda: logits.sigmoid(),
            "squeezed": lambda: logits.sigmoid().squeeze(1),
            "argmax": lambda: logits.softmax(1).argmax(1),
            "threshold": lambda: (logits.sigmoid() > 0.5).float(),
            "nearest": lambda: functional.interpolate(logits.argmax(1, keepdim=True).float(), scale_factor=0.5),
            "auxiliary": lambda: (logits, auxiliary),
        }
        return endings[self.kind]()


def exported(module: nn.Module, *, opset: int = 17, dynamic: bool = True, train: bool = False) -> onnx.ModelProto:
    kind = getattr(module, "kind", "full")
    image = torch.zeros(1, 3, *SIZE)
    if kind in ("nhwc", "uint8"):
        image = image.permute(0, 2, 3, 1)
    image = image.to(torch.uint8 if kind == "uint8" else next(module.parameters()).dtype)
    height, width = (1, 2) if kind in ("nhwc", "uint8") else (2, 3)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.train(train),
            (image,),
            buffer,
            dynamo=False,
            opset_version=opset,
            input_names=["image"],
            output_names=["out", "aux"] if kind == "auxiliary" else ["out"],
            dynamic_axes={"image": {0: "batch", height: "height", width: "width"}} if dynamic else None,
            training=torch.onnx.TrainingMode.TRAINING if train else torch.onnx.TrainingMode.EVAL,
            do_constant_folding=not train,
        )
    module.eval()
    return onnx.load_model_from_string(buffer.getvalue())


@functools.lru_cache(maxsize=None)
def _export(kind: str, channels: int = 5, opset: int = 17) -> tuple[Ending, bytes]:
    module = Ending(kind, channels).eval()
    return module, exported(module, opset=opset).SerializeToString()


def export(kind: str, channels: int = 5, opset: int = 17) -> tuple[Ending, onnx.ModelProto]:
    module, content = _export(kind, channels, opset)
    return module, onnx.load_model_from_string(content)


def cleaned(model: onnx.ModelProto, **said: Any) -> tuple[onnx.ModelProto, list[str]]:
    """``network_graph_from_onnx`` without the child process: these graphs are ours."""
    owner = OwnerFacts(**{"class_count": 5, "size_hw": SIZE, **said})
    return network_graph(model, wanted_from_facts(model, owner))


def assert_canonical(model: onnx.ModelProto, classes: int = 5, size_hw: tuple[int, int] = SIZE) -> None:
    (opset,), (source,), (sink,) = model.opset_import, model.graph.input, model.graph.output
    assert 13 <= opset.version <= 17 and opset.domain == ""
    for value, name, channels in ((source, "input", 3), (sink, "logits", classes)):
        assert value.name == name and value.type.tensor_type.elem_type == TensorProto.FLOAT
        assert [dim.dim_value for dim in value.type.tensor_type.shape.dim] == [1, channels, *size_hw]
    operators = {node.op_type for node in model.graph.node}
    assert not operators & {"Identity", "Dropout", "Constant", "Softmax", "ArgMax"}
    floats = {t.data_type for t in model.graph.initializer} & {TensorProto.FLOAT16, TensorProto.DOUBLE}
    assert not floats and not any(tensor.external_data for tensor in model.graph.initializer)


def logits_of(model: onnx.ModelProto, image: np.ndarray) -> np.ndarray:
    return np.asarray(run_onnx(model, {"input": image})[0])


def assert_computes(model: onnx.ModelProto, module: Ending, rtol: float = 1e-4) -> None:
    """The graph's logits are those of the torch module, on an image that the cleaning did not see."""
    size = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    image = np.random.default_rng(7).standard_normal(size, dtype=np.float32)
    with torch.inference_mode():
        expected = module.eval().float().logits(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(logits_of(model, image), expected, rtol=0, atol=rtol * np.abs(expected).max())


def test_a_dynamic_export_is_fixed_simplified_and_folded() -> None:
    module, model = export("full")
    made, lines = cleaned(model, size_hw=(48, 80))
    assert_canonical(made, size_hw=(48, 80))
    assert_computes(made, module)
    assert lines == ["input fixed to 1x3x48x80"]
    simplified = simplified_onnx(made).model
    assert leftovers(made)[0].endswith(" Shape") and leftovers(simplified) == []
    spec = ModelSpec(tuple("abcde"), ((0, 0, 0),) * 5, (48, 80))
    assert folded_onnx(simplified, spec).graph.output[0].name == "classes"


def test_an_smp_unet_through_the_child_process() -> None:
    module = Unet("mobilenet_v2", encoder_weights=None, classes=5).eval()
    torch.manual_seed(1)
    image = torch.randn(1, 3, 64, 64)
    made, _ = network_graph_from_onnx(exported(module), OwnerFacts(5, (64, 64)))
    assert_canonical(made, size_hw=(64, 64))
    with torch.inference_mode():
        expected = module(image).numpy()
    np.testing.assert_allclose(logits_of(made, image.numpy()), expected, atol=1e-4 * np.abs(expected).max())
    assert leftovers(simplified_onnx(made).model) == []


def test_nhwc_gets_transposes_that_cancel() -> None:
    module, model = export("nhwc")
    facts = graph_facts(model)
    assert facts.inputs[0].layout == "NHWC" and facts.inputs[0].shape == (None, None, None, 3)
    assert (facts.outputs[0].kind, facts.outputs[0].class_count) == ("probabilities", 5)
    made, lines = cleaned(model)
    assert_canonical(made)
    assert_computes(made, module)
    assert "Transpose in front: the graph takes NHWC" in lines
    assert "Transpose" not in [node.op_type for node in simplified_onnx(made).model.graph.node]


def test_training_mode_is_switched_off() -> None:
    module = Ending()
    made, lines = cleaned(exported(module, train=True))
    assert_canonical(made)
    assert_computes(made, module)
    assert lines[:2] == ["2 BatchNormalization switched from training to inference", "removed 1 Dropout"]


@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "argmax"])
@pytest.mark.parametrize("opset", [11, 17])
def test_what_comes_behind_the_logits_is_removed(kind: str, opset: int) -> None:
    module, model = export(kind, opset=opset)
    made, lines = cleaned(model, sigmoids=Sigmoids(exclusive=kind == "sigmoid"))
    assert_canonical(made)
    assert_computes(made, module)
    removed = next(line for line in lines if line.startswith("removed behind the logits"))
    assert {"softmax": "Softmax", "sigmoid": "Sigmoid", "argmax": "ArgMax, "}[kind] in removed
    assert ("opset 11 -> 13" in lines) == (opset == 11)


@pytest.mark.parametrize("kind", ["full", "sigmoid", "squeezed"])
def test_one_channel_becomes_two_classes(kind: str) -> None:
    module, model = export(kind, channels=1)
    made, lines = cleaned(model, class_count=2)
    assert_canonical(made, classes=2)
    assert "one channel became two: class 1 where it is above 0, class 0 elsewhere" in lines
    image = np.random.default_rng(7).standard_normal((1, 3, *SIZE), dtype=np.float32)
    with torch.inference_mode():
        expected = module.logits(torch.from_numpy(image)).numpy()[0, 0]
    assert 0.02 < np.mean(expected > 0) < 0.98
    assert np.mean(logits_of(made, image)[0].argmax(0) == (expected > 0)) > 0.9999
    assert not logits_of(made, image)[0, 0].any()
    assert ("1 If decided by the fixed size" in lines) == (kind == "squeezed"), (
        "torch asks whether there is one channel"
    )


def test_a_probability_that_cannot_be_undone_is_compared_with_a_half() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Sigmoid", ["a"], ["p"]),
        helper.make_node("Resize", ["p", "", "s"], ["y"], mode="linear"),
    ]
    weights = {"w": np.random.default_rng(0).standard_normal((1, 3, 1, 1)), "s": np.array([1, 1, 2, 2])}
    model = handmade(nodes, weights, output=[1, 1, 128, 192])
    with pytest.raises(UsageError, match="gives 1x1x128x192, larger than its input of 96x64"):
        cleaned(model, class_count=2)
    model.graph.node[0].attribute.append(helper.make_attribute("strides", [2, 2]))
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    made, lines = cleaned(model, class_count=2)
    assert "one channel became two: class 1 where it is above 0.5, class 0 elsewhere" in lines
    assert (logits_of(made, np.zeros((1, 3, *SIZE), np.float32))[:, 0] == 0.5).all()


@pytest.mark.parametrize("size", [(64, 96), (66, 90)])
def test_logits_of_lower_resolution_are_raised(size: tuple[int, int]) -> None:
    module, model = export("low")
    made, lines = cleaned(model, size_hw=size)
    assert_canonical(made, size_hw=size)
    assert_computes(made, module)
    assert lines[-1] == f"bilinear Resize of the logits by 2x2: the graph gives {size[1] // 2}x{size[0] // 2}"


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_floats_become_float32(dtype: torch.dtype) -> None:
    module = Ending().to(dtype)
    model = exported(module)
    made, lines = cleaned(model)
    assert_canonical(made)
    assert_computes(made, module, 1e-2 if dtype == torch.float16 else 1e-4)
    assert any("became float32" in line for line in lines)
    assert not any("not compared" in line for line in lines) or dtype == torch.float64


def test_a_uint8_graph_normalises_by_itself() -> None:
    module, model = export("uint8")
    assert graph_facts(model).inputs[0].dtype == "uint8"
    flags: dict[str, Any] = {"class_count": 5, "size_hw": SIZE, "layout": None, "output": None, "channel_order": True}
    assert missing_facts(graph_facts(model), normalisation=False, **flags) == []
    made, lines = cleaned(model)
    assert_canonical(made)
    assert "the uint8 input became float32 of 0-255: the graph normalises by itself" in lines
    frame = np.random.default_rng(7).integers(0, 256, (1, 3, *SIZE)).astype(np.float32)
    with torch.inference_mode():
        expected = module.logits(torch.from_numpy((frame - 127.5) / 60)).numpy()
    np.testing.assert_allclose(logits_of(made, frame), expected, atol=1e-4 * np.abs(expected).max())


def test_several_outputs_are_asked_for_and_the_others_dropped() -> None:
    module, model = export("auxiliary")
    with pytest.raises(UsageError) as asked:
        cleaned(model)
    assert "`output` NAME (the graph gives 'out' float32" in str(asked.value) and "'aux' float32" in str(asked.value)
    made, lines = cleaned(model, output="out")
    assert_computes(made, module)
    assert "outputs left out: 'aux' (with " in lines[0]
    assert not [t for t in made.graph.initializer if "auxiliary" in t.name], "the head's weights go with it"
    with pytest.raises(UsageError, match="`output` 'main' is not in the graph, which gives 'out'"):
        cleaned(model, output="main")


@pytest.mark.parametrize(("kind", "operator"), [("threshold", "Sigmoid"), ("nearest", "Resize")])
def test_class_maps_are_refused_but_the_way_in_is_named(kind: str, operator: str) -> None:
    """What a threshold or a resampled arg-max reads can be passed as `output`."""
    module, model = export(kind, channels=1 if kind == "threshold" else 5)
    assert graph_facts(model).outputs[0].kind == "class-map"
    with pytest.raises(CompileError, match="is a class map, not logits") as refused:
        cleaned(model, class_count=2 if kind == "threshold" else 5)
    inner = str(refused.value).split("pass `output` '")[1].split("'")[0]
    assert next(node.op_type for node in model.graph.node if inner in node.output) == operator
    if kind == "nearest":
        assert_computes(cleaned(model, output=inner)[0], module)


@pytest.mark.parametrize("opset", [18, 20, 21])
def test_newer_opsets_are_restated_as_17(opset: int) -> None:
    module, model = export("softmax")
    newer = onnx.version_converter.convert_version(model, opset)
    made, lines = cleaned(newer)
    assert_canonical(made)
    assert_computes(made, module)
    assert f"opset {opset} -> 17" in lines


def test_operators_and_options_that_opset_17_lacks() -> None:
    """Gelu and GroupNormalization become their definitions, inputs become attributes; the numbers stay."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Gelu", ["a"], ["b"]),
        helper.make_node("GroupNormalization", ["b", "g", "g"], ["c"], num_groups=2),
        helper.make_node("Split", ["c"], ["d", "e"], axis=1, num_outputs=2),
        helper.make_node("ReduceMean", ["d", "axes"], ["f"], keepdims=1),
        helper.make_node("Mul", ["f", "e"], ["h"]),
        helper.make_node("Mish", ["h"], ["i"]),
        helper.make_node("AveragePool", ["i"], ["j"], kernel_shape=[1, 1], dilations=[1, 1]),
        helper.make_node("Conv", ["j", "v"], ["y"]),
    ]
    rng = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {"w": (4, 3, 1, 1), "g": (4,), "v": (5, 2, 1, 1)}
    weights = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    weights["axes"] = np.array([2, 3])
    model = handmade(nodes, weights, output=[1, 5, *SIZE], opset=21)
    made, lines = cleaned(model)
    assert_canonical(made)
    assert "opset 21 -> 17" in lines
    image = rng.standard_normal((1, 3, *SIZE), dtype=np.float32)
    np.testing.assert_allclose(logits_of(made, image), run_onnx(model, {"x": image})[0], atol=1e-5)
    model.graph.node[4].input[1] = "c"
    with pytest.raises(CompileError, match="computes its axes while it runs; export with opset 17"):
        cleaned(model)


def test_names_that_the_compiler_gives_are_freed() -> None:
    nodes = [
        helper.make_node("Conv", ["logits", "frame"], ["input"]),
        helper.make_node("Relu", ["input"], ["frame_mean"]),
        helper.make_node("Conv", ["frame_mean", "classes"], ["argmax"]),
    ]
    rng = np.random.default_rng(0)
    weights = {"frame": rng.standard_normal((4, 3, 1, 1)), "classes": rng.standard_normal((5, 4, 1, 1))}
    model = handmade(nodes, weights, output=[1, 5, *SIZE], names=("logits", "argmax"))
    made, _ = cleaned(model)
    assert_canonical(made)
    spec = ModelSpec(tuple("abcde"), ((0, 0, 0),) * 5, SIZE)
    folded = folded_onnx(simplified_onnx(made).model, spec)
    frame = rng.integers(0, 256, (1, *SIZE, 3), dtype=np.uint8)
    assert len(np.unique(run_onnx(folded, {"frame": frame})[0])) > 1


def handmade(
    nodes: list[onnx.NodeProto],
    weights: dict[str, np.ndarray],
    *,
    output: list[int],
    opset: int = 17,
    source: Any = (1, 3, *SIZE),
    names: tuple[str, str] = ("x", "y"),
) -> onnx.ModelProto:
    tensors = [
        numpy_helper.from_array(value.astype(np.float32) if name != "axes" else value, name)
        for name, value in weights.items()
    ]
    graph = helper.make_graph(
        nodes,
        "handmade",
        [helper.make_tensor_value_info(names[0], TensorProto.FLOAT, source)],
        [helper.make_tensor_value_info(names[1], TensorProto.FLOAT, output)],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def convolution(**how: Any) -> onnx.ModelProto:
    weights = {"w": np.random.default_rng(0).standard_normal((5, how.pop("channels", 3), 1, 1))}
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Conv", ["r", "w"], ["y"])]
    return handmade(nodes, weights, **{"output": [1, 5, *SIZE], **how})


def test_everything_unknown_is_asked_for_at_once() -> None:
    model = convolution(source=["n", "c", "h", "w"], output=["n", "c", "h", "w"])
    nothing: dict[str, Any] = {"class_count": None, **UNSAID}
    lines = missing_facts(graph_facts(model), **nothing, normalisation=False, channel_order=False)
    assert [line.split()[0] for line in lines] == ["`layout`", "`size`", "`classes`", "`mean`", "`channel_order`"]
    assert "the graph gives 5 channels" in lines[2] and "float32 ?x?x?x?" in lines[0]
    known = missing_facts(
        graph_facts(model), **{**nothing, "layout": "NCHW", "class_count": 5}, normalisation=True, channel_order=True
    )
    assert known == ["`size` WIDTHxHEIGHT (the input is 'x' float32 ?x?x?x?)"]
    with pytest.raises(UsageError, match="pass `layout` NCHW or NHWC .*"):
        cleaned(model, size_hw=None)
    assert_canonical(cleaned(model, layout="NCHW")[0])


@pytest.mark.parametrize(
    ("model", "flags", "error", "words"),
    [
        (convolution(), {"size_hw": (32, 32)}, UsageError, "`size` says 32x32, but the graph is fixed at 96x64"),
        (
            convolution(),
            {"layout": "NHWC"},
            UsageError,
            "`layout` says NHWC, but the input 'x' float32 1x3x64x96 is NCHW",
        ),
        (convolution(), {"class_count": 7}, UsageError, "`classes` lists 7, but 'y' gives 1x5x64x96"),
        (convolution(source=[4, 3, *SIZE]), {}, CompileError, "a fixed batch; export with batch 1"),
        (convolution(source=[1, 4, *SIZE], channels=4), {"layout": "NCHW"}, CompileError, "has 4 channels"),
        (convolution(source=[3, *SIZE]), {}, CompileError, "an image network takes 4 axes"),
    ],
)
def test_contradictions(model: onnx.ModelProto, flags: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        cleaned(model, **flags)


def test_quantized_graphs_and_several_inputs_are_refused() -> None:
    quantized, two = convolution(), convolution()
    quantized.graph.node[0].CopyFrom(helper.make_node("DynamicQuantizeLinear", ["x"], ["r", "scale", "zero"]))
    with pytest.raises(CompileError, match="quantized already .DynamicQuantizeLinear.; hand over the float graph"):
        cleaned(quantized)
    two.graph.input.append(helper.make_tensor_value_info("points", TensorProto.INT64, [1, 2]))
    with pytest.raises(CompileError, match="takes 2 inputs .*'points' int64 1x2.*; export with one input"):
        cleaned(two)


def test_damaged_weights_are_noticed() -> None:
    model = convolution()
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full((5, 3, 1, 1), np.nan, np.float32), "w"))
    with pytest.raises(CompileError, match="NaN or infinite logits"):
        cleaned(model)


def crashing() -> onnx.ModelProto:
    """Passes the ONNX checker; shape inference, the converter and ONNX Runtime abort on it (onnx 1.23)."""
    nodes = [
        helper.make_node("ConvTranspose", ["x", "w"], ["t"], strides=[2, 2], pads=[0, 0, 2**31, 0]),
        helper.make_node("Slice", ["t", "axes", "axes", "axes"], ["y"]),
    ]
    return handmade(nodes, {"w": np.ones((3, 5, 2, 2)), "axes": np.array([2])}, output=[1, 5, *SIZE])


def endless() -> onnx.ModelProto:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["now"], ["next"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("now", TensorProto.FLOAT, [1, 5, *SIZE]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [1, 5, *SIZE]),
        ],
    )
    model = convolution()
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node[1].output[0] = "c"
    model.graph.node.append(helper.make_node("Loop", ["", "yes", "c"], ["y"], body=body))
    return model


def enormous() -> onnx.ModelProto:
    model = convolution()
    scales = np.array([1, 1, 30_000, 30_000], np.float32)
    model.graph.initializer.append(numpy_helper.from_array(scales, "s"))
    model.graph.node[1].output[0] = "c"
    model.graph.node.append(helper.make_node("Resize", ["c", "", "s"], ["y"], mode="nearest"))
    return model


@pytest.mark.parametrize(
    ("model", "words"),
    [(crashing(), "crashes ONNX's libraries"), (endless(), "busy for more than 4 s"), (enormous(), "does not run at")],
)
def test_hostile_graphs_end_in_the_child(model: onnx.ModelProto, words: str) -> None:
    onnx.checker.check_model(model)
    wanted = wanted_from_facts(model, OwnerFacts(5))
    with pytest.raises(CompileError, match=words) as refused:
        network_graph_in_child(model, wanted, limit_s=4 if "busy" in words else 120)
    assert "\n" not in str(refused.value)


EXTREME = st.sampled_from([-(2**63), -1, 0, 1, 2, 255, 2**31, 2**62, 2**63 - 1])


@settings(max_examples=5, derandomize=True)
@given(
    numbers=st.lists(EXTREME, min_size=12, max_size=12), operator=st.sampled_from(["ConvTranspose", "MaxPool", "Conv"])
)
def test_extreme_attributes_raise_only_our_errors(numbers: list[int], operator: str) -> None:
    model = crashing()
    node = model.graph.node[0]
    node.op_type = operator
    del node.attribute[:], node.input[1 if operator == "MaxPool" else 2 :]
    pads, strides, dilations, kernel = numbers[:4], numbers[4:6], numbers[6:8], numbers[8:10]
    shapes = {"pads": pads, "strides": strides, "dilations": dilations, "kernel_shape": kernel}
    node.attribute.extend(helper.make_attribute(name, value) for name, value in shapes.items())
    try:
        network_graph_in_child(model, wanted_from_facts(model, OwnerFacts(5)), limit_s=20)
    except EdgesegError as error:
        assert "\n" not in str(error)


def test_what_is_wanted_crosses_to_the_child_unchanged() -> None:
    wanted = Wanted("x", "uint8", "NHWC", (64, 96), "y", 3, 1, "BGR", Sigmoids(2, True, 0, 0.3), scores=True)
    assert Wanted.from_json(json.loads(json.dumps(wanted.to_json()))) == wanted


def test_a_background_is_a_class_or_none() -> None:
    assert sigmoids_of_classes(("background", "road")) == Sigmoids(likely_background=0)
    assert sigmoids_of_classes(("sky", "road"), "road", 0.3) == Sigmoids(background=1, threshold=0.3)
    assert sigmoids_of_classes(("sky", "road"), "none") == Sigmoids(exclusive=True)
    assert sigmoids_of_classes(("sky", "none"), "none") == Sigmoids(background=1), "a class of that name is one"
    with pytest.raises(UsageError, match="'rood' is no class; there are sky, road, or none"):
        sigmoids_of_classes(("sky", "road"), "rood")


def test_a_module_has_no_layout_or_output_to_name() -> None:
    spec = ModelSpec(("a", "b"), ((0, 0, 0),) * 2, SIZE)
    for options in (NetworkOptions(layout="NHWC"), NetworkOptions(output="logits")):
        with pytest.raises(UsageError, match="for ONNX graphs; a torch module"):
            float_graph_from_module(nn.Conv2d(3, 2, 1), spec, options)


def test_usage_errors_come_out_of_the_child_as_such() -> None:
    with pytest.raises(UsageError, match="`classes` lists 7"):
        network_graph_from_onnx(convolution(), OwnerFacts(7))


def test_a_file_and_its_weights_beside_it(tmp_path: Path) -> None:
    module, model = export("full")
    options: dict[str, Any] = {"save_as_external_data": True, "location": "net.data", "size_threshold": 0}
    onnx.save(model, tmp_path / "net.onnx", **options)
    assert (tmp_path / "net.data").stat().st_size > 1000
    assert_computes(cleaned(loaded_onnx(tmp_path / "net.onnx"))[0], module)


def test_a_branch_on_the_image_stays_and_is_named() -> None:
    """Only sizes may decide an If for good."""
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(operator, ["c"], [name])],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 5, *SIZE])],
        )
        for name, operator in (("then", "Neg"), ("else", "Abs"))
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("ReduceMax", ["x"], ["brightest"], keepdims=0),
        helper.make_node("Greater", ["brightest", "limit"], ["bright"]),
        helper.make_node("If", ["bright"], ["y"], **branches),
    ]
    weights = {"w": np.random.default_rng(0).standard_normal((5, 3, 1, 1)), "limit": np.array(1e9)}
    made, lines = cleaned(handmade(nodes, weights, output=[1, 5, *SIZE]))
    assert leftovers(made) == ["1 If"] and lines == []


def test_one_line_whatever_the_graph_is_called() -> None:
    model = convolution(names=("x", "y"))
    model.graph.input[0].name = model.graph.node[0].input[0] = "x\ny\x00"
    with pytest.raises(EdgesegError) as refused:
        cleaned(model, size_hw=(1, 1))
    assert "\n" not in str(refused.value)
