"""Ranges from calibration images: extrema first, histograms second where the calibrator asks for them."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, Callable, Mapping

import numpy as np

from edgeseg.compiler.calibration.calibrators import BINS, needs_histogram, range_from_histogram
from edgeseg.compiler.graph.onnx_graph import OnnxGraph, copied_onnx, with_outputs
from edgeseg.compiler.graph.tensors import float_activations, graph_sha256
from edgeseg.compiler.step_cache import StepCache
from edgeseg.errors import CompileError, first_line, require
from edgeseg.preprocess import NetworkFrames
from edgeseg.ranges import SCHEMA, Ranges, amax_of

if TYPE_CHECKING:
    import onnx

__all__ = ["MINIMUM_FRAMES", "ranges_from_frames"]

MINIMUM_FRAMES = 16
"""Fewer calibration images than this are refused."""
_STORE_EVERY_S = 10.0
_NO_NUMBER = 1e30
"""From here on a value stands for infinity: masks are filled with it, or with the largest number of a type."""


def ranges_from_frames(
    model: onnx.ModelProto,
    frames: NetworkFrames,
    *,
    calibrator: str = "minmax",
    cache: StepCache = StepCache(),
    data_sha256: str | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Ranges:
    """Ranges of every float activation, and channel means of convolution inputs, over a calibration set.

    A tensor that holds infinity (an attention mask, a neutral element of a maximum, the logarithm of 0) gets no range,
    and so stays in float: a mask clipped to the smallest finite value would let through what it hides.

    Extrema and means are reduced inside the graph and histograms are streamed, so memory does not grow with images.
    The same data give the same ranges bit for bit.

    Args:
        model: the folded FP32 graph, for one frame at a time.
        frames: calibration images.
        calibrator: one of ``CALIBRATORS``; those that need histograms go over the images twice.
        cache: where the state is kept, so that an interrupted calibration goes on where it stopped.
        data_sha256: of the frames, where it is known already.
        report: called with (images done, images in all), over all passes.

    Raises:
        CompileError: too few images, a tensor that is not a number, or ONNX Runtime does not run the graph.
        UsageError: unknown calibrator.
    """
    passes = 2 if needs_histogram(calibrator) else 1
    if len(frames) < MINIMUM_FRAMES:
        raise CompileError(
            f"{len(frames)} calibration images are too few, at least {MINIMUM_FRAMES} are needed and a few hundred "
            "are usual; pass a larger folder to `calibration`"
        )
    total = passes * len(frames)
    data = data_sha256 or frames.sha256()
    key = (str(SCHEMA), graph_sha256(model), data)
    extrema = _Extrema(model)
    _feed(extrema, model, frames, cache, key, lambda done: report(done, total))
    tensors = extrema.tensors(smooth=calibrator == "moving-average")
    broken = [name for name, (low, high) in tensors.items() if math.isnan(low + high)]
    if broken:
        raise CompileError(
            f"{len(broken)} tensors are not numbers on the calibration images, first {broken[0]!r}: its operator "
            "divides by 0 or compares infinities; look at the network on one of these images"
        )
    tensors = {name: ends for name, ends in tensors.items() if amax_of(*ends) < _NO_NUMBER}
    if passes == 2:
        histograms = _Histograms(model, tensors)
        _feed(histograms, model, frames, cache, key, lambda done: report(len(frames) + done, total))
        tensors = {
            name: range_from_histogram(calibrator, counts, *tensors[name])
            for name, counts in zip(tensors, histograms.counts)
        }
    return Ranges(tensors, extrema.channel_means(), calibrator, len(frames), key[1], data, frames.description)


class _Extrema:
    """First pass: minimum, maximum, their moving averages, and channel means, reduced inside the graph."""

    kind = "extrema"
    _MOMENTUM = 0.01
    """Weight of a new image in the moving averages, as in PyTorch's MovingAverageMinMaxObserver."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._names, self._inputs = float_activations(model), _convolution_inputs(model)
        self._session = _session(_with_reductions(model, self._names, self._inputs))
        self._outputs = [f"{name}/{end}" for end in ("min", "max") for name in self._names]
        self._outputs += [f"{name}/mean" for name in self._inputs]
        self.done = 0
        self._low, self._high = np.full(len(self._names), np.inf), np.full(len(self._names), -np.inf)
        self._smooth = np.zeros((2, len(self._names)))
        self._sums = [np.zeros(1)] * len(self._inputs)

    def add(self, feeds: Mapping[str, np.ndarray]) -> None:
        values = _run(self._session, self._outputs, feeds)
        count = len(self._names)
        seen = np.array([float(value) for value in values[: 2 * count]]).reshape(2, count)
        self._low, self._high = np.minimum(self._low, seen[0]), np.maximum(self._high, seen[1])
        with np.errstate(invalid="ignore", over="ignore"):  # of tensors that hold infinity
            self._smooth = self._smooth + self._MOMENTUM * (seen - self._smooth) if self.done else seen
        self._sums = [total + mean.astype(np.float64) for total, mean in zip(self._sums, values[2 * count :])]
        self.done += 1

    def tensors(self, smooth: bool) -> dict[str, tuple[float, float]]:
        # The moving average of an infinity is no number, its extrema still tell.
        endless = np.maximum(np.abs(self._low), np.abs(self._high)) >= _NO_NUMBER
        low, high = np.where(endless, (self._low, self._high), self._smooth) if smooth else (self._low, self._high)
        return {name: (float(lo), float(hi)) for name, lo, hi in zip(self._names, low, high)}

    def channel_means(self) -> dict[str, tuple[float, ...]]:
        return {name: tuple(float(v) for v in sums / self.done) for name, sums in zip(self._inputs, self._sums)}

    def state(self) -> dict[str, np.ndarray]:
        sums = {f"sum{index}": sums for index, sums in enumerate(self._sums)}
        return {"done": np.array(self.done), "low": self._low, "high": self._high, "smooth": self._smooth, **sums}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.done = int(state["done"])
        self._low, self._high, self._smooth = state["low"], state["high"], state["smooth"]
        self._sums = [state[f"sum{index}"] for index in range(len(self._inputs))]


class _Histograms:
    """Second pass: a histogram of every tensor over [-amax, amax]; the tensors leave the graph a few at a time."""

    kind = "histograms"
    _MOST_BYTES = 128 << 20

    def __init__(self, model: onnx.ModelProto, tensors: Mapping[str, tuple[float, float]]) -> None:
        self._amax = {name: amax_of(*ends) for name, ends in tensors.items()}
        self._groups = _groups(model, list(tensors), self._MOST_BYTES)
        self._sessions = [_session(with_outputs(model, group)) for group in self._groups]
        self.counts = np.zeros((len(tensors), BINS), np.int64)
        self._row = {name: index for index, name in enumerate(tensors)}
        self.done = 0

    def add(self, feeds: Mapping[str, np.ndarray]) -> None:
        for group, session in zip(self._groups, self._sessions):
            for name, value in zip(group, _run(session, group, feeds)):
                self.counts[self._row[name]] += _histogram(value, self._amax[name])
        self.done += 1

    def state(self) -> dict[str, np.ndarray]:
        return {"done": np.array(self.done), "counts": self.counts}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.done, self.counts = int(state["done"]), state["counts"]


def _feed(
    collector: _Extrema | _Histograms,
    model: onnx.ModelProto,
    frames: NetworkFrames,
    cache: StepCache,
    key: tuple[str, ...],
    report: Callable[[int], None],
) -> None:
    """Feed all frames to a collector, from where an earlier run left it; its state is stored every few seconds."""
    stored = time.monotonic()
    state = cache.load(collector.kind, *key)
    if state is not None:
        collector.restore(state)
        report(collector.done)
    for index in range(collector.done, len(frames)):
        collector.add({model.graph.input[0].name: frames[index][None]})
        report(index + 1)
        if time.monotonic() - stored > _STORE_EVERY_S or index + 1 == len(frames):
            cache.save(collector.state(), collector.kind, *key)
            stored = time.monotonic()


def _session(model: onnx.ModelProto) -> Any:
    ort = require("onnxruntime", "")
    try:
        return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises many types, without a common base
        raise CompileError(
            f"ONNX Runtime does not load the graph for calibration: {first_line(error)[:300]}"
        ) from error


def _run(session: Any, outputs: list[str], feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    try:
        return [np.asarray(value) for value in session.run(outputs, feeds)]
    except Exception as error:  # as above
        raise CompileError(f"ONNX Runtime fails on a calibration image: {first_line(error)[:300]}") from error


def _histogram(value: np.ndarray, amax: float) -> np.ndarray:
    """int64 counts in ``BINS`` bins over [-amax, amax]; OpenCV counts several times faster than numpy."""
    import cv2

    if amax == 0:
        return np.zeros(BINS, np.int64)
    flat = np.ascontiguousarray(value, np.float32).reshape(1, -1)
    beyond = float(np.nextafter(np.float32(amax), np.float32(np.inf)))
    counts = cv2.calcHist([flat], [0], None, [BINS], [-beyond, beyond])
    return np.asarray(counts).ravel().astype(np.int64)


def _convolution_inputs(model: onnx.ModelProto) -> list[str]:
    """Names of the float maps that convolutions over two axes read."""
    graph = OnnxGraph(model.graph)
    maps = {name for name in float_activations(model) if len(graph.shapes[name]) == 4}
    return sorted({node.input[0] for node in graph.of("Conv")} & maps)


def _with_reductions(model: onnx.ModelProto, names: list[str], inputs: list[str]) -> onnx.ModelProto:
    """The model with ``NAME/min``, ``NAME/max`` and, for convolutions' inputs, ``NAME/mean`` per channel as outputs."""
    extended = copied_onnx(model)
    graph = OnnxGraph(extended.graph)
    for name in names:
        graph.give(graph.add("ReduceMin", [name], f"{name}/min", keepdims=0))
        graph.give(graph.add("ReduceMax", [name], f"{name}/max", keepdims=0))
    for name in inputs:
        graph.give(graph.add("ReduceMean", [name], f"{name}/mean", axes=[0, 2, 3], keepdims=0))
    return extended


def _groups(model: onnx.ModelProto, names: list[str], most_bytes: int) -> list[list[str]]:
    """The names in consecutive groups of at most ``most_bytes`` (or of one tensor)."""
    shapes = OnnxGraph(model.graph).shapes
    groups: list[list[str]] = []
    room = 0
    for name in names:
        size = 4 * int(np.prod([max(1, side) for side in shapes[name]], dtype=np.int64))
        if not groups or size > room:
            groups.append([])
            room = most_bytes
        groups[-1].append(name)
        room -= size
    return groups
