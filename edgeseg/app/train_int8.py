"""Make a network train under the arithmetic of its INT8 graph: the compiler gives the graph, the builder runs it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Mapping, Sequence

import numpy as np

from edgeseg.app.train_config import TrainConfig
from edgeseg.errors import CompileError, UsageError, require
from edgeseg.images import Dataset, Sample, joined
from edgeseg.preprocess import NetworkFrames, normalized
from edgeseg.ranges import Ranges
from edgeseg.recipes import StaticInt8
from edgeseg.spec import ModelSpec

if TYPE_CHECKING:
    import onnx

    from edgeseg.builder.networks import PaddedNetwork
    from edgeseg.builder.quantization import QuantizedNetwork, TrainedGraph
    from edgeseg.builder.recipe import TrainRecipe

__all__ = ["quantized_network", "refuse_without_checkpoint"]

_FRAMES = 256
_MOST_DIFFERENT = 0.01
"""Mean difference of an operator's output relative to its standard deviation; a level is about 0.02."""


def refuse_without_checkpoint(config: TrainConfig) -> None:
    """Refuse what cannot be fine-tuned for INT8, before anything is read. Raises UsageError."""
    if config.per_tensor and not config.qat:
        raise UsageError("`per_tensor` is for `qat`; add it")
    if not config.qat:
        return
    if not Path(config.weights).exists():
        raise UsageError(
            f"`qat` fine-tunes a trained network, and `weights` {config.weights!r} is no file; train without `qat` "
            "first, then pass its best.safetensors"
        )
    if config.keep != "all":
        raise UsageError(f"`qat` fine-tunes a whole network; leave `keep` {config.keep} out")
    if config.compiled:
        raise UsageError("`qat` runs the compiler's graph, which torch.compile was not tried on; leave `compiled` out")


def quantized_network(
    network: PaddedNetwork,
    spec: ModelSpec,
    training: Sequence[Dataset],
    recipe: TrainRecipe,
    report: Callable[[str], None] = lambda line: None,
) -> QuantizedNetwork:
    """Return a network that computes as the INT8 graph that the compiler would emit for TensorRT now.

    Ranges are those of training images, at most 256, evenly spread.

    Args:
        network: with the weights to start from. It is used, not copied.
        spec: classes, size and preprocessing.
        training: where the calibration images come from.
        recipe: says the sizes of crops, and whether weights have one scale or one per channel.
        report: takes a line per step.

    Raises:
        CompileError: the network cannot be exported, calibrated or quantized, or torch computes something else.
        UsageError: there are too few training images.
    """
    require("onnx", "compile")
    from edgeseg.builder.quantization import QuantizedNetwork
    from edgeseg.builder.recipe import crop_stages
    from edgeseg.compiler.calibration.collect import MINIMUM_FRAMES, ranges_from_frames
    from edgeseg.compiler.quantize.emit import emitted_onnx

    sizes = [spec.size_hw, *((stage.height, stage.width) for stage in crop_stages(recipe))]
    images = joined(training)
    if len(images) < MINIMUM_FRAMES:
        raise UsageError(f"`qat` takes ranges from {MINIMUM_FRAMES} training images or more, got {len(images)}")
    graphs = _folded_graphs(network, spec, sizes)
    frames = NetworkFrames(_Spread(images, _FRAMES), spec)
    report(f"int8: ranges of {len(frames)} training images")
    ranges = ranges_from_frames(graphs[spec.size_hw], frames)
    corrected = StaticInt8("tensorrt", per_channel=not recipe.per_tensor)
    # Training moves the biases itself. What it leaves is rounded already, so that nothing is left to be corrected.
    emitted = _emitted_graphs(graphs, ranges, replace(corrected, bias_correction=False))
    made = QuantizedNetwork(network, spec, emitted, ranges, per_channel=not recipe.per_tensor)
    _refuse_other_arithmetic(made, emitted, frames[0], spec)
    made.take_biases(emitted_onnx(graphs[spec.size_hw], ranges, corrected))
    trained, all_of_them = made.trained
    report(
        f"int8: {trained} of {all_of_them} convolutions are trained, with one weight scale per "
        f"{'tensor' if recipe.per_tensor else 'channel'}"
    )
    return made


class _Spread:
    """At most so many images of a data set, evenly spread."""

    def __init__(self, data: Dataset, count: int) -> None:
        self._data = data
        self._places = np.unique(np.linspace(0, len(data) - 1, min(count, len(data))).astype(int))
        self.description = data.description

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Sample:
        return self._data[int(self._places[index])]


def _folded_graphs(
    network: PaddedNetwork, spec: ModelSpec, sizes: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], onnx.ModelProto]:
    """Return the folded FP32 graph of every size, once each: size in pixels -> graph."""
    from edgeseg.compiler.steps.float_graph import float_graph_from_module

    return {size: float_graph_from_module(network, replace(spec, size_hw=size)) for size in dict.fromkeys(sizes)}


def _emitted_graphs(
    graphs: Mapping[tuple[int, int], onnx.ModelProto], ranges: Ranges, recipe: StaticInt8
) -> list[TrainedGraph]:
    """Emit the INT8 graph of every size from one set of ranges. Raises CompileError: they are not of one kind."""
    from edgeseg.builder.quantization import TrainedGraph
    from edgeseg.compiler.quantize.emit import emitted_onnx

    made = [TrainedGraph(size, graph, emitted_onnx(graph, ranges, recipe)) for size, graph in graphs.items()]
    pairs = {sum(node.op_type == "QuantizeLinear" for node in one.quantized.graph.node) for one in made}
    if len(pairs) > 1:
        sizes = ", ".join(f"{width}x{height}" for height, width in graphs)
        raise CompileError(
            f"the INT8 graphs of the sizes {sizes} round {' and '.join(map(str, sorted(pairs)))} tensors; pass `crop` "
            "or `growth` of the network's own size"
        )
    return made


def _refuse_other_arithmetic(
    made: QuantizedNetwork, graphs: Sequence[TrainedGraph], frame: np.ndarray, spec: ModelSpec
) -> None:
    """Compare torch with the compiled graph, operator by operator, in the smallest size. Raises CompileError."""
    import torch

    from edgeseg.compiler.graph.onnx_graph import with_outputs
    from edgeseg.compiler.graph.run import run_onnx

    graph = min(graphs, key=lambda one: one.size_hw[0] * one.size_hw[1])
    names = made.computed_names(graph.size_hw)
    shown = replace(spec, size_hw=graph.size_hw).resized(frame)[None]
    given = run_onnx(with_outputs(graph.quantized, names, only=True), {graph.quantized.graph.input[0].name: shown})
    image = torch.from_numpy(normalized(shown, spec.preprocess))
    name, difference = made.worst_step(image, dict(zip(names, given)))
    if not difference <= _MOST_DIFFERENT:
        raise CompileError(
            f"torch computes {name} otherwise than the compiled INT8 graph, by {difference:.2g} of its spread; please "
            "report this network"
        )
