"""Fine-tuning for INT8: torch computes what the compiled graph computes, operator by operator and as a whole."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from edgeseg.app.train_int8 import quantized_network
from edgeseg.builder.checkpoint import Checkpoint, has_ranges, load_checkpoint, save_checkpoint
from edgeseg.builder.networks import NetworkConfig, PaddedNetwork, network_from_config
from edgeseg.builder.quantization import QuantizedNetwork
from edgeseg.builder.quantization.folding import rounded_weight
from edgeseg.builder.quantization.operators import OPERATORS, rounded_activation
from edgeseg.builder.recipe import TrainRecipe
from edgeseg.compiler.graph.onnx_graph import with_outputs
from edgeseg.compiler.graph.run import run_onnx
from edgeseg.compiler.quantize.emit import emitted_onnx
from edgeseg.compiler.steps.float_graph import float_graph_from_module
from edgeseg.compiler.verify.tensorrt_rtx import kernel_plan_from_onnx, rtx_is_installed
from edgeseg.demo import CLASSES, PALETTE
from edgeseg.demo.street import StreetDataset
from edgeseg.errors import CompileError, UsageError
from edgeseg.preprocess import normalized
from edgeseg.recipes import StaticInt8
from edgeseg.spec import ModelSpec

SPEC = ModelSpec(CLASSES, PALETTE, (64, 96), ignore_id=11)
PADDED = ModelSpec(CLASSES, PALETTE, (72, 104), ignore_id=11)
"""Not a multiple of 32, so that padding and cropping are in the graph, and crops have a graph of their own."""
STREET = StreetDataset("demo://street?frames=16&step=30&size=104x72")


def settled(architecture: str, encoder: str = "mobilenet_v2") -> PaddedNetwork:
    """A network whose BatchNorm statistics fit its weights, so that its tensors have natural ranges."""
    torch.manual_seed(0)
    network = network_from_config(NetworkConfig(architecture, encoder)).train()
    with torch.no_grad():
        for _ in range(6):
            network(torch.randn(4, 3, 64, 96))
    return network.eval()


def quantized(network: PaddedNetwork, *, per_tensor: bool, spec: ModelSpec = SPEC) -> QuantizedNetwork:
    recipe = TrainRecipe(qat=True, per_tensor=per_tensor, growth="96x64")
    return quantized_network(network, spec, [STREET], recipe)


def compiled(made: QuantizedNetwork, spec: ModelSpec, *, per_tensor: bool) -> tuple[Any, Any]:
    """What the compiler makes of the checkpoint and its ranges: the folded FP32 graph, and TensorRT's."""
    graph = float_graph_from_module(made.as_float(), spec)
    return graph, emitted_onnx(graph, made.ranges, StaticInt8("tensorrt", per_channel=not per_tensor))


def difference(made: QuantizedNetwork, spec: ModelSpec, emitted: Any) -> float:
    """How far torch is from what the compiler emits, at the worst operator."""
    frame = spec.resized(STREET[3].frame)[None]
    names = made.computed_names(spec.size_hw)
    given = run_onnx(with_outputs(emitted, names, only=True), {emitted.graph.input[0].name: frame})
    image = torch.from_numpy(normalized(frame, spec.preprocess))
    with torch.no_grad():
        assert made(image).shape == given[-1].shape == (1, len(CLASSES), *spec.size_hw)
    return made.worst_step(image, dict(zip(names, given)))[1]


def step(made: QuantizedNetwork) -> float:
    """Take one step that changes the weights, and return the norm of its gradient."""
    optimizer = torch.optim.SGD(made.parameters(), lr=1e-2)
    made.train()
    images = torch.from_numpy(np.random.default_rng(1).normal(size=(2, 3, 64, 96)).astype(np.float32))
    made(images).square().mean().backward()
    norm = torch.nn.utils.clip_grad_norm_(made.parameters(), 1.0)
    optimizer.step()
    made.eval()
    return float(norm)


@pytest.mark.parametrize(
    ("architecture", "per_tensor", "spec"),
    [("edge_unet", True, PADDED), ("unet", False, SPEC)],
    ids=["edge_unet", "unet"],
)
def test_what_is_trained_is_what_the_compiler_emits(architecture: str, per_tensor: bool, spec: ModelSpec) -> None:
    """Before and after a step; ``unet`` joins maps, which share a scale."""
    network = settled(architecture)
    names = list(network.state_dict())
    made = quantized(network, per_tensor=per_tensor, spec=spec)
    trained, convolutions = made.trained
    assert trained == convolutions > 50
    assert difference(made, spec, compiled(made, spec, per_tensor=per_tensor)[1]) < 1e-3
    before = [parameter.clone() for parameter in made.parameters()]
    assert step(made) > 0
    graph, emitted = compiled(made, spec, per_tensor=per_tensor)
    assert difference(made, spec, emitted) < 1e-3
    wider = replace(made.ranges, tensors={name: (1.2 * a, 1.2 * b) for name, (a, b) in made.ranges.tensors.items()})
    emitted = emitted_onnx(graph, wider, StaticInt8("tensorrt", per_channel=not per_tensor))
    assert difference(made, spec, emitted) > 2e-3, "this comparison can fail"
    assert list(made.state_dict()) == names
    assert not all(torch.equal(one, other) for one, other in zip(before, made.parameters()))


def test_training_starts_with_biases_that_make_up_for_rounding() -> None:
    network = settled("edge_unet")
    head = network.network.head.bias.clone()  # type: ignore[union-attr,operator]
    quantized(network, per_tensor=True)
    assert 0 < float((network.network.head.bias - head).detach().abs().max()) < 1  # type: ignore[union-attr,operator]


def test_what_is_kept_has_weights_that_the_compiler_rounds_to_themselves() -> None:
    made = quantized(settled("edge_unet"), per_tensor=True)
    step(made)
    folded, emitted = compiled(made, SPEC, per_tensor=True)
    levels = {one.name: onnx.numpy_helper.to_array(one) for one in emitted.graph.initializer}
    inputs = {node.output[0]: node.input[1] for node in folded.graph.node if node.op_type == "Conv"}
    weights = {one.name: onnx.numpy_helper.to_array(one) for one in folded.graph.initializer}
    assert len(inputs) > 50
    for name in inputs.values():
        stored = levels[f"{name}/levels"] * levels[f"{name}/scale"].max()
        np.testing.assert_allclose(weights[name], stored, atol=1e-4 * np.abs(stored).max())


def test_every_weight_has_a_gradient_and_statistics_stay() -> None:
    made = quantized(settled("edge_unet"), per_tensor=True)
    with pytest.raises(CompileError, match="no INT8 graph was made for images of 96x32"):
        made(torch.zeros(1, 3, 32, 96))
    statistics = {name: value.clone() for name, value in made.named_buffers()}
    step(made)
    assert all(parameter.grad is not None for parameter in made.parameters())
    assert all(torch.equal(value, statistics[name]) for name, value in made.named_buffers())


def test_fine_tuning_halves_the_error_of_rounding_per_tensor() -> None:
    """A channel of large weights makes the steps of all others coarse; the float network's logits are the goal."""
    network = settled("edge_unet")
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d) and module.groups > 1:
                module.weight[0] *= 40
    frames = np.stack([SPEC.resized(STREET[index].frame) for index in (0, 5, 10, 15)])
    images = torch.from_numpy(normalized(frames, SPEC.preprocess))
    with torch.no_grad():
        goal = network(images)
    made = quantized(network, per_tensor=True)
    optimizer = torch.optim.Adam(made.parameters(), lr=3e-4)
    lost = []
    for _ in range(24):
        optimizer.zero_grad()
        loss = (made(images) - goal).square().mean() / goal.var()
        loss.backward()
        optimizer.step()
        lost.append(loss.item())
    assert lost[0] > 0.05, "rounding per tensor costs something"
    assert lost[-1] < lost[0] / 2, lost


def test_a_checkpoint_brings_its_ranges(tmp_path: Any) -> None:
    made = quantized(settled("edge_unet"), per_tensor=False)
    path = tmp_path / "int8.safetensors"
    save_checkpoint(Checkpoint(made, made.config, SPEC, {}, made.ranges), path)
    assert has_ranges(path) and load_checkpoint(path).ranges == made.ranges
    save_checkpoint(Checkpoint(made, made.config, SPEC), path)
    assert not has_ranges(path) and load_checkpoint(path).ranges is None


@pytest.mark.skipif(not rtx_is_installed(), reason="TensorRT-RTX has wheels for x86_64 only")
def test_tensorrt_accepts_the_graph_of_a_network_fine_tuned_per_tensor() -> None:
    made = quantized(settled("edge_unet"), per_tensor=True)
    step(made)
    plan = kernel_plan_from_onnx(compiled(made, SPEC, per_tensor=True)[1].SerializeToString())
    assert plan.int8_convolutions == plan.convolutions > 50 and not plan.float_round_trips


def test_too_few_images_for_ranges_are_refused() -> None:
    few = StreetDataset("demo://street?frames=4&size=104x72")
    network = network_from_config(NetworkConfig())
    with pytest.raises(UsageError, match="16 training images or more, got 4"):
        quantized_network(network, SPEC, [few], TrainRecipe(qat=True, crop=64))


def test_activations_are_clipped_where_the_gradient_ends() -> None:
    value = torch.tensor([-300.0, -64.2, 0.5, 1.5, 63.4, 300.0], requires_grad=True)
    rounded = rounded_activation(value, torch.tensor(0.5))
    rounded.sum().backward()
    assert rounded.tolist() == [-64.0, -64.0, 0.5, 1.5, 63.5, 63.5]
    assert value.grad is not None and value.grad.tolist() == [0, 0, 1, 1, 1, 0]


def test_weights_have_127_levels_on_either_side_per_channel_or_in_all() -> None:
    weight = torch.tensor([[1.0, 0.3], [0.01, -0.004]], requires_grad=True)
    per_channel = rounded_weight(weight, 0, per_channel=True)
    assert torch.allclose(per_channel, torch.tensor([[127, 38], [127, -51]]) * torch.tensor([[1.0], [0.01]]) / 127)
    per_tensor = rounded_weight(weight, 0, per_channel=False)
    assert torch.allclose(per_tensor, torch.tensor([[127.0, 38], [1, -1]]) / 127)
    per_tensor.sum().backward()
    assert weight.grad is not None and weight.grad.tolist() == [[1, 1], [1, 1]]


MAP, SMALL = (2, 4, 6, 8), (2, 4)
_rng = np.random.default_rng(0)


def noise(*shape: int) -> np.ndarray:
    return _rng.normal(size=shape).astype(np.float32)


def whole(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


CASES: dict[str, list[tuple[list[Any], dict[str, Any]]]] = {
    "Add": [([noise(*MAP), noise(1, 4, 1, 1)], {})],
    "AveragePool": [
        ([noise(*MAP)], {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ([noise(*MAP)], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [1, 1], "count_include_pad": 1}),
    ],
    "Cast": [([noise(*MAP)], {"to": 1})],
    "Clip": [([noise(*MAP), np.float32(0), np.float32(0.5)], {}), ([noise(*MAP), np.float32(0)], {})],
    "Concat": [([noise(*MAP), noise(*MAP)], {"axis": 1})],
    "Conv": [
        ([noise(*MAP), noise(6, 2, 3, 3), noise(6)], {"group": 2, "pads": [1, 1, 1, 1], "strides": [2, 1]}),
        ([noise(*MAP), noise(6, 4, 3, 3)], {"pads": [0, 1, 2, 1], "dilations": [2, 1]}),
    ],
    "ConvTranspose": [([noise(*MAP), noise(4, 3, 2, 2), noise(3)], {"strides": [2, 2]})],
    "DequantizeLinear": [
        ([np.array([[1, -7], [3, 4]], np.int8), noise(2), np.zeros(2, np.int8)], {"axis": 0}),
        ([np.array([[1, -7], [3, 4]], np.int8), np.float32(0.3), np.int8(0)], {}),
    ],
    "Div": [([noise(*MAP), noise(*MAP)], {})],
    "Elu": [([noise(*MAP)], {"alpha": 0.7})],
    "Erf": [([noise(*MAP)], {})],
    "Exp": [([noise(*MAP)], {})],
    "Flatten": [([noise(*MAP)], {"axis": 1})],
    "Gather": [([noise(*MAP), whole(2, 1, 0)], {"axis": 1}), ([noise(*MAP), np.int64(1)], {"axis": 2})],
    "Gemm": [([noise(2, 3), noise(4, 3), noise(4)], {"transB": 1}), ([noise(3, 2), noise(3, 4)], {"transA": 1})],
    "GlobalAveragePool": [([noise(*MAP)], {})],
    "HardSigmoid": [([noise(*MAP)], {"alpha": 1 / 6, "beta": 0.5})],
    "HardSwish": [([noise(*MAP)], {})],
    "Identity": [([noise(*MAP)], {})],
    "InstanceNormalization": [([noise(2, 4, 24), noise(4), noise(4)], {"epsilon": 1e-3})],
    "LayerNormalization": [([noise(2, 3, 8), noise(8), noise(8)], {"axis": -1, "epsilon": 1e-6})],
    "LeakyRelu": [([noise(*MAP)], {"alpha": 0.2})],
    "MatMul": [([noise(2, 3, 4), noise(4, 5)], {})],
    "MaxPool": [
        ([noise(*MAP)], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ([noise(*MAP)], {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [0, 0, 1, 1]}),
    ],
    "Mul": [([noise(*MAP), noise(2, 4, 1, 1)], {})],
    "PRelu": [([noise(*MAP), noise(4, 1, 1)], {})],
    "Pad": [
        ([noise(*MAP), whole(0, 0, 0, 1, 0, 0, 2, 3)], {}),
        ([noise(*MAP), whole(0, 0, 1, 1, 0, 0, 1, 1)], {"mode": "reflect"}),
    ],
    "Pow": [([np.abs(noise(*MAP)), np.float32(1.5)], {})],
    "QuantizeLinear": [],  # its levels never stand alone: see the tests of rounding
    "ReduceMean": [([noise(*MAP)], {"axes": [2, 3], "keepdims": 0})],
    "ReduceSum": [([noise(*MAP), whole(1)], {"keepdims": 0})],
    "Relu": [([noise(*MAP)], {})],
    "Reshape": [([noise(*MAP), whole(2, 0, -1)], {})],
    "Resize": [
        ([noise(*MAP), np.zeros(0, np.float32), np.array([1, 1, 2, 2], np.float32)], how)
        for how in (
            {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
            {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
            {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
        )
    ]
    + [([noise(*MAP), np.zeros(0, np.float32), np.zeros(0, np.float32), whole(2, 4, 9, 5)], {"mode": "linear"})],
    "Sigmoid": [([noise(*MAP)], {})],
    "Slice": [
        ([noise(*MAP), whole(1, 0), whole(5, 2**62), whole(2, 3), whole(1, 2)], {}),
        ([noise(*MAP), whole(-3), whole(-1), whole(3)], {}),
    ],
    "Softmax": [([noise(*MAP)], {"axis": 1})],
    "Softplus": [([noise(*MAP)], {})],
    "Sqrt": [([np.abs(noise(*MAP))], {})],
    "Squeeze": [([noise(2, 4, 1, 1), whole(2, 3)], {})],
    "Sub": [([noise(*MAP), noise(1, 4, 1, 1)], {})],
    "Tanh": [([noise(*MAP)], {})],
    "Transpose": [([noise(*MAP)], {"perm": [0, 2, 3, 1]})],
    "Unsqueeze": [([noise(*SMALL), whole(2, 3)], {})],
}
"""Operator -> inputs and attributes; all inputs are also given as constants."""


def test_every_operator_has_a_case() -> None:
    assert set(CASES) == set(OPERATORS)


@pytest.mark.parametrize("operator", [name for name, cases in CASES.items() if cases])
def test_operators_compute_what_onnx_runtime_computes(operator: str) -> None:
    for inputs, how in CASES[operator]:
        names = [f"x{place}" for place in range(len(inputs))]
        node = helper.make_node(operator, names, ["y"], **how)
        kinds = [helper.np_dtype_to_tensor_dtype(np.asarray(one).dtype) for one in inputs]
        graph = helper.make_graph(
            [node],
            operator,
            [helper.make_tensor_value_info(names[0], kinds[0], np.shape(inputs[0]))],
            [helper.make_tensor_value_info("y", 1, None)],
            [onnx.numpy_helper.from_array(np.asarray(one), name) for one, name in zip(inputs[1:], names[1:])],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        expected = run_onnx(model, {names[0]: inputs[0]})[0]
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        empty = [None if np.size(one) == 0 else torch.from_numpy(np.array(one)) for one in inputs]
        found = OPERATORS[operator](empty, attributes).numpy()
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
