"""Implicit INT8 stays where the host's Q/DQ graph has it, whatever TensorRT makes of its ranges."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

import edgeseg
from edgeseg.bundle import GraphEntry, read_bundle
from edgeseg.engines.tensorrt.api import Log
from edgeseg.engines.tensorrt.build import BuildRequest, built_plan
from edgeseg.engines.tensorrt.factory import TensorRtOptions
from edgeseg.engines.tensorrt.int8_zone import Int8Zone, int8_zone
from edgeseg.engines.tensorrt.variants import GraphVariant, activation_amax, prepared_onnx, weight_amax
from edgeseg.ranges import Ranges
from edgeseg.recipes import StaticInt8
from tests.engines.tensorrt.rig import VERSIONS, Rig
from tests.engines.tensorrt.tiny import tiny_bundle
from tests.engines.tensorrt.variety import BODIES, HEADS, INPUTS, Network, drawn

IMPLICIT = [version for version in VERSIONS if not version.startswith("11")]
KINDS = [(start, "residual", "conv") for start in INPUTS]
KINDS += [("mean", body, "conv") for body in BODIES] + [("mean", "residual", head) for head in HEADS]


def _built(folder: Path, bundle: Any, version: str = "8.5.2.2", **settings: Any) -> Any:
    rig = Rig(version, folder, **settings)
    options = TensorRtOptions(precision="int8", int8_mode="implicit")
    made = rig.factory.open(bundle, "model", options, refuse=False)
    made.engine.close()
    return made


def _network(rig: Rig, onnx: bytes) -> Any:
    """Parsed by the fake, with all that it belongs to."""
    logger = rig.api.logger(Log())
    builder = rig.api.trt.Builder(logger)
    network = builder.create_network(rig.api.network_flags())
    parser = rig.api.trt.OnnxParser(network, logger)
    assert parser.parse(onnx)
    return network


def _zone(rig: Rig, network: Network, float_layers: tuple[str, ...] = (), shuffle: int | None = None) -> Int8Zone:
    onnx = network.model.SerializeToString()
    parsed = _network(rig, onnx)
    amax = _amax(network)
    return int8_zone(parsed if shuffle is None else _Shuffled(parsed, shuffle), amax, weight_amax(onnx), float_layers)


def _amax(network: Network) -> dict[str, float]:
    tensors = (network.bundle().ranges or Ranges({})).tensors
    return {name: max(abs(low), abs(high)) for name, (low, high) in tensors.items()}


class _Shuffled:
    """A network whose layers are listed in another order."""

    def __init__(self, network: Any, seed: int) -> None:
        self._network = network
        self._order = random.Random(seed).sample(range(network.num_layers), network.num_layers)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def get_layer(self, index: int) -> Any:
        return self._network.get_layer(self._order[index])


@pytest.mark.parametrize(("start", "body", "head"), KINDS)
def test_the_worst_use_of_ranges_keeps_the_classes(start: str, body: str, head: str, tmp_path: Path) -> None:
    bundle = Network(1, start, (body,), head).bundle()
    usual = _built(tmp_path / "usual", bundle).self_test.agreement
    found = _built(tmp_path / "worst", bundle, worst_int8=True).self_test.agreement
    assert found > 0.92 and found > usual - 0.03, f"usual {usual:.3f}, worst {found:.3f}"


@pytest.mark.parametrize("seed", range(30))
def test_drawn_networks_keep_their_classes(seed: int, tmp_path: Path) -> None:
    version = IMPLICIT[seed % len(IMPLICIT)]
    settings = {"uint8_io": version != "8.5.2.2" or seed % 2 == 0}
    bundle = drawn(seed).bundle()
    usual = _built(tmp_path / "usual", bundle, version, **settings)
    assert usual.cached.notes == (), "every tensor within the network has its range"
    found = _built(tmp_path / "worst", bundle, version, worst_int8=True, **settings).self_test.agreement
    assert found > 0.9 and found > usual.self_test.agreement - 0.04, (usual.self_test.agreement, found)


@pytest.mark.parametrize("version", IMPLICIT)
def test_the_shipped_model_passes_its_self_test_in_the_worst_case(version: str, tmp_path: Path) -> None:
    bundle = read_bundle(Path(edgeseg.__file__).parent / "models" / "street.edgeseg")
    made = _built(tmp_path, bundle, version, worst_int8=True)
    assert made.self_test.passed and made.self_test.agreement > 0.98, made.self_test.describe()
    assert made.cached.precisions.convolutions == {"INT8": 61} and made.cached.notes == ()


def test_ranges_everywhere_would_lose_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the fake's worst case is worth."""

    def everywhere(network: Any, amax: Any, constants: Any, float_layers: Any) -> Int8Zone:
        return Int8Zone(amax, (), frozenset(), (), ())

    monkeypatch.setattr("edgeseg.engines.tensorrt.build.int8_zone", everywhere)
    street = read_bundle(Path(edgeseg.__file__).parent / "models" / "street.edgeseg")
    assert _built(tmp_path / "usual", street).self_test.passed
    assert _built(tmp_path / "worst", street, worst_int8=True).self_test.agreement < 0.7


def test_ranges_begin_and_end_with_the_layers_that_have_weights(tmp_path: Path) -> None:
    for start in INPUTS:
        for head in HEADS:
            network = Network(2, start, ("pooled",), head, scores=True)
            zone = _zone(Rig("8.5.2.2", tmp_path), network)
            assert not [name for name in zone.ranges if name.startswith("frame")]
            assert "input" in zone.ranges, "the first convolution reads it in INT8"
            ends = {layer.get_output(0).name for layer in zone.last}
            assert len(ends) == {"sum": 2, "pair": 2}.get(head, 1) and ends <= zone.ranges.keys()
            assert {network.logits, "classes_float", "scores"} - ends <= zone.outside and not zone.missing


@pytest.mark.parametrize("seed", range(12))
def test_the_order_of_the_list_does_not_matter(seed: int, tmp_path: Path) -> None:
    rig, network = Rig("10.3.0.30", tmp_path), drawn(seed)
    expected = _zone(rig, network)
    for shuffle in range(3):
        found = _zone(rig, network, shuffle=shuffle)
        assert found.ranges == expected.ranges and found.outside == expected.outside


def test_the_last_layers_are_held_to_write_float_and_nothing_else_is(tmp_path: Path) -> None:
    for head, dla, dtype in (
        ("conv", None, "FLOAT"),
        ("sum", None, "FLOAT"),
        ("gemm", None, "FLOAT"),
        ("conv", 0, "HALF"),
    ):
        rig, seen = Rig("8.5.2.2", tmp_path, dla_cores=1), []
        build = rig.module.Builder.build_serialized_network

        def spied(builder: Any, network: Any, config: Any, build: Any = build, seen: Any = seen) -> Any:
            seen.append((network, config))
            return build(builder, network, config)

        rig.module.Builder.build_serialized_network = spied
        network = Network(3, "mean", ("concat",), head)
        request = BuildRequest("int8-implicit", amax=_amax(network), dla_core=dla, min_int8_share=0.0)
        built_plan(rig.api, network.model.SerializeToString(), request)
        ((parsed, config),) = seen
        layers = [parsed.get_layer(index) for index in range(parsed.num_layers)]
        held = [layer for layer in layers if layer.output_type_is_set(0)]
        assert len(held) == (2 if head == "sum" else 1) and not any(layer.precision_is_set for layer in layers)
        assert {layer.get_output_type(0).name for layer in held} == {dtype}
        assert config.get_flag(rig.module.BuilderFlag.PREFER_PRECISION_CONSTRAINTS)


@pytest.mark.parametrize(("op", "types"), [("TopK", {0: "HALF"}), ("Split", {0: "HALF", 1: "HALF"})])
def test_a_layer_with_several_outputs_is_held_in_all_that_are_float(
    op: str, types: dict[int, str], tmp_path: Path
) -> None:
    network = Network(3, "mean", ("concat",), "conv")
    amax, onnx = _amax(network), network.model
    (argmax,) = [index for index, node in enumerate(onnx.graph.node) if node.op_type == "ArgMax"]
    size = np.array([1] if op == "TopK" else [12, 12], np.int64)
    onnx.graph.initializer.append(numpy_helper.from_array(size, "sizes"))
    outputs = ["values", "indices"] if op == "TopK" else ["values", "others"]
    onnx.graph.node.insert(argmax, helper.make_node(op, [network.logits, "sizes"], outputs, op.lower(), axis=1))
    onnx.graph.node[argmax + 1].input[0] = "values"
    rig, seen = Rig("8.5.2.2", tmp_path), []
    build = rig.module.Builder.build_serialized_network

    def spied(builder: Any, network: Any, config: Any) -> Any:
        seen.append(network)
        return build(builder, network, config)

    rig.module.Builder.build_serialized_network = spied
    request = BuildRequest("int8-implicit", amax=amax, float_layers=("values",), min_int8_share=0.0)
    built_plan(rig.api, onnx.SerializeToString(), request)
    (parsed,) = seen
    (layer,) = [
        parsed.get_layer(index) for index in range(parsed.num_layers) if parsed.get_layer(index).name == op.lower()
    ]
    held = {number: layer.get_output_type(number).name for number in range(2) if layer.output_type_is_set(number)}
    assert held == types


# constants


@pytest.mark.parametrize("version", IMPLICIT)
@pytest.mark.parametrize(
    ("bodies", "head", "constants"),
    [
        (("added",), "conv", ["offset"]),
        (("scaled",), "conv", ["factor"]),
        (("prelu",), "conv", ["slope"]),
        (("linear",), "conv", ["kernel", "b"]),
        (("residual",), "matmul", ["kernel"]),
        (("residual",), "gemm", ["kernel"]),
        (("added", "prelu", "linear"), "matmul", ["offset", "slope", "kernel", "b", "kernel"]),
    ],
)
def test_constants_get_their_range_by_the_name_of_their_layer(
    bodies: tuple[str, ...], head: str, constants: list[str], version: str, tmp_path: Path
) -> None:
    network = Network(4, "mean", bodies, head)
    rig = Rig(version, tmp_path)
    zone = _zone(rig, network)
    parsed = _network(rig, network.model.SerializeToString())
    layers = [parsed.get_layer(index) for index in range(parsed.num_layers)]
    made = {layer.name: layer.get_output(0).name for layer in layers if str(layer.type).endswith("CONSTANT")}
    values = weight_amax(network.model.SerializeToString())
    ranged = {name: zone.ranges[tensor] for name, tensor in made.items() if tensor in zone.ranges}
    assert sorted(name.rstrip("0123456789") for name in ranged) == sorted(constants)
    assert ranged == {name: values[name] for name in ranged} and not set(made.values()) & set(values)
    assert "frame_mean" in "".join(made) and not zone.missing


def test_a_constant_whose_name_is_taken_is_known_all_the_same(tmp_path: Path) -> None:
    """TensorRT's parser then puts a number behind the name of the constant's layer."""
    network = Network(4, "mean", ("added",), "conv")
    (name,) = [tensor.name for tensor in network.model.graph.initializer if tensor.name.startswith("offset")]
    rig = Rig("8.5.2.2", tmp_path)
    parsed = _network(rig, network.model.SerializeToString())
    layers = [parsed.get_layer(index) for index in range(parsed.num_layers)]
    (constant,) = [layer for layer in layers if layer.name == name]
    constant.name = f"{name}_7"
    values = weight_amax(network.model.SerializeToString())
    zone = int8_zone(parsed, _amax(network), values)
    assert zone.ranges[constant.get_output(0).name] == values[name] and not zone.missing


def test_values_of_constant_nodes_are_known(tmp_path: Path) -> None:
    network = Network(4, "mean", ("added",), "conv")
    graph = network.model.graph
    (tensor,) = [tensor for tensor in graph.initializer if tensor.name.startswith("offset")]
    node = graph.node.add(op_type="Constant", output=[tensor.name])
    node.attribute.add(name="value", type=4).t.CopyFrom(tensor)
    graph.initializer.remove(tensor)
    assert tensor.name in weight_amax(network.model.SerializeToString())


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_note_counts_tensors_between_int8_layers_without_a_range(count: int, tmp_path: Path) -> None:
    network = Network(5, "mean", ("residual", "concat"), "resize", scores=True)
    bundle = network.bundle()
    assert _built(tmp_path / "whole", bundle).cached.notes == ()
    inner = [name for name in _zone(Rig("8.5.2.2", tmp_path), network).ranges if name.startswith("t")]
    gone = inner[2 : 2 + count]
    tensors = {name: pair for name, pair in (bundle.ranges or Ranges({})).tensors.items() if name not in gone}
    made = _built(tmp_path / "less", replace(bundle, ranges=Ranges(tensors)))
    expected = f"{count} tensors between INT8 layers have no range and stay in float, e.g. {gone[0]}"
    assert made.cached.notes == (expected,)
    outside = {
        name: pair for name, pair in (bundle.ranges or Ranges({})).tensors.items() if not name.startswith("frame")
    }
    assert _built(tmp_path / "outside", replace(bundle, ranges=Ranges(outside))).cached.notes == ()


def test_ranges_that_tensorrt_misses_on_its_own_are_noted(tmp_path: Path) -> None:
    rig = Rig("8.5.2.2", tmp_path)
    build = rig.module.Builder.build_serialized_network

    def talkative(builder: Any, network: Any, config: Any) -> Any:
        for name in ("frame_float", "made by fusion", "made by fusion, too"):
            text = f"Missing scale and zero-point for tensor {name}, expect fall back to non-int8 implementation"
            builder.logger.log(rig.module.ILogger.WARNING, text)
        return build(builder, network, config)

    rig.module.Builder.build_serialized_network = talkative
    made = rig.factory.open(tiny_bundle(), "tiny", TensorRtOptions())
    made.engine.close()
    assert made.cached.notes == ("TensorRT misses the range of 2 tensors, e.g. made by fusion",)


# layers that stay in float


@pytest.mark.parametrize("head", ["conv", "gemm", "deconv", "matmul"])
def test_layers_in_float_end_a_stretch_of_int8(head: str, tmp_path: Path) -> None:
    network = Network(6, "mean", ("residual", "depthwise"), head)
    weighted = ("Conv", "ConvTranspose", "Gemm", "MatMul")
    layers = [node.output[0] for node in network.model.graph.node if node.op_type in weighted]
    bundle = network.bundle()
    for kept in layers:
        recipe = GraphEntry(bundle.graphs["fp32"].onnx, StaticInt8("tensorrt", float_layers=(kept,)))
        mixed = replace(bundle, graphs={**bundle.graphs, "int8-tensorrt": recipe})
        usual, worst = (_built(tmp_path / f"{kept}{how}", mixed, worst_int8=how) for how in (False, True))
        assert worst.self_test.agreement > usual.self_test.agreement - 0.04 and worst.self_test.agreement > 0.9
        zone = _zone(Rig("8.5.2.2", tmp_path), network, (kept,))
        assert kept not in zone.ranges or any(
            kept in node.input for node in network.model.graph.node if node.op_type in weighted
        )


def test_all_layers_of_one_operator_stay_in_float(tmp_path: Path) -> None:
    network = Network(7, "plain", ("residual",), "gemm")
    (gemm,) = [node for node in network.model.graph.node if node.op_type == "Gemm"]
    zone = _zone(Rig("8.5.2.2", tmp_path), network, (gemm.output[0],))
    kinds = [str(layer.type).rpartition(".")[2] for layer in zone.kept]
    assert kinds == ["ELEMENTWISE", "MATRIX_MULTIPLY"] and gemm.input[0] not in zone.ranges


def test_what_an_activation_cuts_off_takes_no_part_in_the_range() -> None:
    network = Network(8, "mean", ("residual",), "activation")
    onnx = network.model.SerializeToString()
    amax = _amax(network)
    found = activation_amax(onnx, amax)
    readers: dict[str, list[Any]] = {}
    for node in network.model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    cut = {name for name in amax if found[name] < amax[name]}
    assert cut and all(node.op_type in ("Relu", "Clip") for name in cut for node in readers[name])
    assert all(found[name] == amax[readers[name][0].output[0]] for name in cut)
    assert found[network.logits] == amax[network.logits] and found.keys() == amax.keys()


def test_the_variants_of_a_graph_have_the_same_ranges(tmp_path: Path) -> None:
    bundle = tiny_bundle()
    amax = {name: high for name, (_, high) in (bundle.ranges or Ranges({})).tensors.items()}
    zones = []
    for ports in (False, True):
        onnx = prepared_onnx(bundle.graphs["fp32"].onnx, GraphVariant(float_ports=ports))
        zones.append(int8_zone(_network(Rig("8.5.2.2", tmp_path), onnx), amax, weight_amax(onnx)).ranges)
    assert zones[0] == zones[1] == {name: amax[name] for name in ("x", "conv", "relu", "logits")}
    assert np.isfinite(list(zones[0].values())).all()
