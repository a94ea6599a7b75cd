"""Make the folded FP32 graph, from which every other graph is emitted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeseg.bundle import Bundle
from edgeseg.compiler.graph.batch import batched_onnx
from edgeseg.compiler.graph.fold import folded_onnx
from edgeseg.compiler.graph.simplify import simplified_onnx
from edgeseg.compiler.graph.storage import float32_weights
from edgeseg.compiler.importers.canonical import network_graph
from edgeseg.compiler.importers.normalisation import check_scaled_once, own_scaling
from edgeseg.compiler.importers.onnx_network import graph_facts, network_graph_from_onnx, wanted_from_facts
from edgeseg.compiler.importers.torch_export import onnx_from_module
from edgeseg.compiler.importers.wanted import OwnerFacts, Sigmoids, sigmoids_of_classes
from edgeseg.compiler.options import NetworkOptions
from edgeseg.errors import CompileError, UsageError, require
from edgeseg.progress import Progress
from edgeseg.recipes import FP32
from edgeseg.spec import ModelSpec

if TYPE_CHECKING:
    import onnx
    from torch import nn

__all__ = ["float_graph_from_bundle", "float_graph_from_module", "float_graph_from_network", "float_graph_from_onnx"]


def float_graph_from_module(
    module: nn.Module,
    spec: ModelSpec,
    options: NetworkOptions = NetworkOptions(),
    progress: Progress = Progress(),
) -> onnx.ModelProto:
    """torch module (float NCHW -> logits) -> the folded FP32 graph, whose frames have three channels in any case.

    Raises:
        CompileError: the module cannot be exported.
        UsageError: it normalises by itself, or needs a background; or an option is for ONNX graphs alone.
    """
    if options.layout is not None or options.output is not None:
        raise UsageError("`layout` and `output` are for ONNX graphs; a torch module takes NCHW and gives its logits")
    exported = onnx_from_module(module, spec.size_hw, class_count=len(spec.classes), report=progress.step)
    network, lines = network_graph(exported, wanted_from_facts(exported, _owner_facts(spec, options, layout="NCHW")))
    for line in lines:
        progress.step(line)
    return float_graph_from_network(network, spec, options, progress)


def float_graph_from_onnx(
    model: onnx.ModelProto,
    spec: ModelSpec,
    options: NetworkOptions = NetworkOptions(),
    progress: Progress = Progress(),
) -> tuple[onnx.ModelProto, list[str]]:
    """ONNX graph of any exporter -> the folded FP32 graph, and a line for people per thing that was changed.

    Args:
        model: as ``loaded_onnx`` gives it. It is not changed.
        spec: of its network.
        options: what the graph does not say about itself.
        progress: takes these lines and those of the steps.

    Raises:
        CompileError: the graph is malformed, quantized, gives no logits, or does not run.
        UsageError: it normalises what the spec normalises, or something has to be said that it does not say.
    """
    check_scaled_once(graph_facts(model).scaling, spec.preprocess)
    network, lines = network_graph_from_onnx(model, _owner_facts(spec, options, layout=options.layout))
    for line in lines:
        progress.step(line)
    return float_graph_from_network(network, spec, options, progress), lines


def float_graph_from_network(
    network: onnx.ModelProto,
    spec: ModelSpec,
    options: NetworkOptions = NetworkOptions(),
    progress: Progress = Progress(),
) -> onnx.ModelProto:
    """Network graph (float NCHW -> logits) -> the folded FP32 graph.

    Raises CompileError, and UsageError where the spec would normalise what the graph normalises by itself.
    """
    simplified = simplified_onnx(network, options.simplifier)
    graph = simplified.model.graph
    _refuse_sequences(graph)
    check_scaled_once(own_scaling(graph, graph.input[0].name), spec.preprocess)
    progress.step(
        f"simplified with {options.simplifier}: {simplified.nodes_before} -> {simplified.nodes_after} nodes, "
        f"largest output difference {simplified.max_difference:.1e}"
    )
    folded = folded_onnx(simplified.model, spec, scores=options.scores)
    progress.step(
        "folded: uint8 BGR frame in, normalisation and argmax inside, uint8 class map out"
        + (", scores too" if options.scores else "")
    )
    return folded


def float_graph_from_bundle(bundle: Bundle) -> onnx.ModelProto:
    """Return a bundle's FP32 graph for one frame, with float32 weights. Raises CompileError when it has none."""
    onnx = require("onnx", "compile")
    if FP32 not in bundle.graphs:
        raise CompileError("the bundle holds no fp32 graph to compile from")
    return batched_onnx(float32_weights(onnx.load_model_from_string(bundle.graphs[FP32].onnx)), 1)


def _owner_facts(spec: ModelSpec, options: NetworkOptions, *, layout: str | None) -> OwnerFacts:
    return OwnerFacts(
        class_count=len(spec.classes),
        size_hw=spec.size_hw,
        layout=layout,
        output=options.output,
        channel_order=spec.preprocess.channel_order,
        sigmoids=_sigmoids(spec, options),
        scores=options.scores,
    )


def _sigmoids(spec: ModelSpec, options: NetworkOptions) -> Sigmoids:
    """Say how sigmoids become classes. Raises UsageError: what the spec says is said again."""
    if not spec.has_sigmoids:
        return sigmoids_of_classes(spec.classes, options.background, options.threshold)
    if options.background is not None or options.threshold != NetworkOptions.threshold:
        raise UsageError(
            f"the spec is of mode {spec.mode} and has the background {spec.classes[0]!r} and the threshold "
            f"{spec.threshold:g}; leave `background` and `threshold` out, and change the spec's threshold"
        )
    return Sigmoids(background=0, threshold=spec.threshold, behind_logits=True)


def _refuse_sequences(graph: onnx.GraphProto) -> None:
    """What joins a sequence hides the shapes that INT8 needs, and no TensorRT has it."""
    if any(node.op_type == "ConcatFromSequence" for node in graph.node):
        raise CompileError(
            "the graph joins a sequence (ConcatFromSequence); export it with split and cat of fixed sizes"
        )
