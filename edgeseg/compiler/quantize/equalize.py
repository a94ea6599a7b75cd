"""Cross-layer equalisation: even out the weight ranges of channels without changing what the network computes.

Where one convolution feeds another through nothing or a positively homogeneous activation function, an output channel
of the first may be divided by s > 0 when the second's weights for it are multiplied by s (Nagel et al. 2019, "Data-Free
Quantization Through Weight Equalization and Bias Correction", section 4.1). Relu, LeakyRelu and PRelu are homogeneous.
Clip(0, 6) is not, and dropping its bound ruins these networks (benchmarks/repair.md). But a channel that never
reaches the bound on calibration images may be scaled as long as it stays below, and then nothing is clipped either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeseg.compiler.graph.onnx_graph import OnnxGraph, attribute, copied_onnx, dims_of, input_name, with_outputs
from edgeseg.errors import CompileError, require
from edgeseg.preprocess import NetworkFrames

if TYPE_CHECKING:
    import onnx

__all__ = ["equalized_onnx"]

_HOMOGENEOUS = ("Relu", "LeakyRelu", "PRelu")
_ROUNDS = 100
_CONVERGED = 1e-3
_LARGEST_SCALE = 1e3
_TOLERANCE = 1e-3
_PROOF_FRAMES = 3


def equalized_onnx(model: onnx.ModelProto, frames: NetworkFrames | None = None) -> tuple[onnx.ModelProto, list[str]]:
    """Make the weight ranges of a graph evener without changing its function.

    Args:
        model: the folded FP32 graph, for one frame at a time.
        frames: calibration images. With them, channels in front of a Clip from 0 that stay below its bound on all
            images are equalised too; without, only what holds for every input.

    Returns:
        A new model, and lines that say what was done.

    Raises:
        CompileError: the equalised graph computes something else on the proof frames.
    """
    equalized = copied_onnx(model)
    graph = OnnxGraph(equalized.graph)
    graph.lift_constants()
    pairs = _pairs(graph, bounded=frames is not None)
    if not pairs:
        return equalized, ["equalisation: no two convolutions can be equalised"]
    highs = _channel_highs(model, [pair for pair in pairs if np.isfinite(pair.bound)], frames)
    weights = _Weights(graph, pairs)
    before = weights.largest_ratio()
    rounds = weights.equalize(highs)
    weights.store(graph)
    difference = _largest_difference(model, equalized, frames)
    if not difference <= _TOLERANCE:
        raise CompileError(
            f"equalisation changed what the graph computes (largest relative difference {difference:.2g}); "
            "leave it out for this network"
        )
    bounded = sum(pair.first in highs for pair in pairs)
    return equalized, [
        f"equalisation: {len(pairs)} pairs of convolutions ({bounded} across a bounded activation) in {rounds} rounds",
        f"equalisation: largest ratio of channel ranges {before:.3g} -> {weights.largest_ratio():.3g}, "
        f"largest output difference {difference:.1e}",
    ]


@dataclass(frozen=True)
class _Pair:
    """Two convolutions in a row: output names, and the bound of the activation function between them (inf: none)."""

    first: str
    second: str
    bound: float


def _pairs(graph: OnnxGraph, bounded: bool) -> list[_Pair]:
    outputs = {value.name for value in graph.proto.output}

    def only_reader(tensor: str) -> onnx.NodeProto | None:
        found = graph.readers(tensor)
        return found[0] if len(found) == 1 and tensor not in outputs else None

    def own_weights(node: onnx.NodeProto) -> bool:
        names = [name for name in node.input[1:] if name]
        return node.op_type == "Conv" and all(n in graph.constants and len(graph.readers(n)) == 1 for n in names)

    pairs = []
    for first in graph.nodes:
        if not own_weights(first):
            continue
        bound, tensor = float("inf"), first.output[0]
        behind = only_reader(tensor)
        if behind is not None and behind.op_type != "Conv" and behind.input[0] == tensor:
            bound, tensor = _bound(behind, graph), behind.output[0]
            behind = only_reader(tensor)
        if behind is None or not own_weights(behind) or behind.input[0] != tensor:
            continue
        if bound > 0 and (bounded or not np.isfinite(bound)):
            pairs.append(_Pair(first.output[0], behind.output[0], bound))
    return pairs


def _bound(node: onnx.NodeProto, graph: OnnxGraph) -> float:
    """Where an activation function stops to be homogeneous: inf for never, NaN when it is not at all."""
    if node.op_type in _HOMOGENEOUS:
        return float("inf")
    low, high = graph.value(input_name(node, 1)), graph.value(input_name(node, 2))
    if node.op_type != "Clip" or low is None or float(low) != 0:
        return float("nan")
    if not input_name(node, 2):
        return float("inf")
    return float("nan") if high is None else float(high)


class _Weights:
    """The weights of all pairs in float64, equalised in place."""

    def __init__(self, graph: OnnxGraph, pairs: list[_Pair]) -> None:
        nodes = {name: graph.makers[name] for pair in pairs for name in (pair.first, pair.second)}
        self._pairs = pairs
        self._inputs = {name: [n for n in node.input[1:] if n] for name, node in nodes.items()}
        self._groups = {name: attribute(node, "group", 1) for name, node in nodes.items()}
        self._values = {n: np.asarray(graph.value(n), np.float64) for names in self._inputs.values() for n in names}

    def equalize(self, highs: dict[str, np.ndarray]) -> int:
        """Go over the pairs until no scale moves any more; returns how many rounds it took.

        Args:
            highs: largest value of each channel in front of a bounded activation function; changed in place.
        """
        total = {pair.first: np.ones(len(self._rows(pair))) for pair in self._pairs}
        for done in range(_ROUNDS):
            moved = 0.0
            for pair in self._pairs:
                scale = self._scale(pair, highs.get(pair.first))
                scale = np.clip(scale, 1 / (_LARGEST_SCALE * total[pair.first]), _LARGEST_SCALE / total[pair.first])
                total[pair.first] *= scale
                moved = max(moved, float(np.abs(np.log(scale)).max()))
                self._apply(pair, scale)
                if pair.first in highs:
                    highs[pair.first] = highs[pair.first] / scale
            if moved < _CONVERGED:
                return done + 1
        return _ROUNDS

    def largest_ratio(self) -> float:
        """Largest over smallest channel range of the weights on either side, over all pairs."""
        ratios = [1.0]
        for pair in self._pairs:
            for ranges in (self._rows(pair), self._columns(pair)):
                live = ranges[ranges > 0]
                ratios.append(float(live.max() / live.min()) if len(live) else 1.0)
        return max(ratios)

    def store(self, graph: OnnxGraph) -> None:
        for name, value in self._values.items():
            graph.set_constant(name, value.astype(np.float32))

    def _rows(self, pair: _Pair) -> np.ndarray:
        """Range of the first's weights for each of its output channels."""
        weight = self._values[self._inputs[pair.first][0]]
        return np.asarray(np.abs(weight).reshape(len(weight), -1).max(axis=1))

    def _columns(self, pair: _Pair) -> np.ndarray:
        """Range of the second's weights for each of its input channels."""
        return np.asarray(np.abs(self._by_input(pair)).max(axis=(1, 3)).ravel())

    def _by_input(self, pair: _Pair) -> np.ndarray:
        """A view of the second's weight: groups x outputs per group x inputs per group x kernel."""
        weight, groups = self._values[self._inputs[pair.second][0]], self._groups[pair.second]
        return np.asarray(weight.reshape(groups, len(weight) // groups, weight.shape[1], -1))

    def _scale(self, pair: _Pair, high: np.ndarray | None) -> np.ndarray:
        """What makes both ranges of a channel equal; 1 for dead channels and for those that reach the bound."""
        rows, columns = self._rows(pair), self._columns(pair)
        live = (rows > 0) & (columns > 0)
        scale = np.sqrt(np.where(live, rows, 1) / np.where(live, columns, 1))
        if high is None:
            return scale
        return np.where(high >= pair.bound, 1.0, np.maximum(scale, high / pair.bound * (1 + 1e-6)))

    def _apply(self, pair: _Pair, scale: np.ndarray) -> None:
        for name in self._inputs[pair.first]:
            value = self._values[name]
            value /= scale.reshape(-1, *([1] * (value.ndim - 1)))
        by_input = self._by_input(pair)
        by_input *= scale.reshape(by_input.shape[0], 1, by_input.shape[2], 1)


def _channel_highs(model: onnx.ModelProto, pairs: list[_Pair], frames: NetworkFrames | None) -> dict[str, np.ndarray]:
    """Largest value of each output channel of the first convolutions over all frames, reduced inside the graph."""
    if not pairs or frames is None:
        return {}
    names = [pair.first for pair in pairs]
    extended = copied_onnx(model)
    graph = OnnxGraph(extended.graph)
    for name in names:
        graph.give(graph.add("ReduceMax", [name], f"{name}/high", axes=[0, 2, 3], keepdims=0))
    session = _session(extended)
    highs = [np.array(-np.inf)] * len(names)
    for index in range(len(frames)):
        feeds = {model.graph.input[0].name: frames[index][None]}
        seen = session.run([f"{name}/high" for name in names], feeds)
        highs = [np.maximum(high, value.astype(np.float64)) for high, value in zip(highs, seen)]
    return dict(zip(names, highs))


def _largest_difference(before: onnx.ModelProto, after: onnx.ModelProto, frames: NetworkFrames | None) -> float:
    """Largest difference of what ArgMax reads (else of the output), relative to the largest value; NaN if one is."""
    scores = next((n.input[0] for n in before.graph.node if n.op_type == "ArgMax"), before.graph.output[0].name)
    sessions = [_session(with_outputs(model, [scores])) for model in (before, after)]
    source = before.graph.input[0]
    if frames is None:
        rng = np.random.default_rng(0)
        shown = [rng.integers(0, 256, dims_of(source)[1:], dtype=np.uint8) for _ in range(_PROOF_FRAMES)]
    else:
        shown = frames.evenly_spread(_PROOF_FRAMES)
    differences = [0.0]
    for frame in shown:
        one, other = (s.run([scores], {source.name: frame[None]})[0].astype(np.float64) for s in sessions)
        differences.append(float(np.abs(one - other).max() / max(1e-6, np.abs(one).max())))
    return float(np.max(differences))


def _session(model: onnx.ModelProto) -> Any:
    ort = require("onnxruntime", "")
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
