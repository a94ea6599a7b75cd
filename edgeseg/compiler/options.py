"""What a compilation can be told, and what it starts from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Mapping

from edgeseg.device.specifications import Board
from edgeseg.images import Dataset
from edgeseg.ranges import Ranges
from edgeseg.recipes import INT8_GRAPHS
from edgeseg.report_data import Limits
from edgeseg.spec import ModelSpec

if TYPE_CHECKING:
    import onnx

__all__ = ["CompileData", "CompileOptions", "FloatModel", "NetworkOptions"]


@dataclass(frozen=True)
class NetworkOptions:
    """How the FP32 graph is made of a network.

    Attributes:
        simplifier: ``"onnxsim"``, ``"onnxslim"`` or ``"none"``.
        scores: output class probabilities too.
        background: of a network with several sigmoids, the class that stands where none is above ``threshold``;
            ``"none"`` if they are exclusive classes, and the largest wins.
        threshold: probability above which a sigmoid says yes.
        layout: of an ONNX graph's input, ``"NCHW"`` or ``"NHWC"``; None where the graph tells.
        output: of an ONNX graph, the output or tensor that holds the logits; None where there is one output.
    """

    simplifier: str = "onnxsim"
    scores: bool = False
    background: str | None = None
    threshold: float = 0.5
    layout: str | None = None
    output: str | None = None


@dataclass(frozen=True)
class CompileOptions:
    """What to emit and what to allow.

    Attributes:
        graphs: names of graphs beside ``fp32``, of ``recipes.RECIPES``; none for FP32 alone.
        calibrator: how ranges are taken, of ``calibrators.CALIBRATORS``; ``"auto"`` is ``minmax``, and where the gate
            refuses what that gives for the first static graph, ``percentile`` and ``mse`` too, and the best is kept.
        limits: of the accuracy gate.
        gate: False stores graphs that the gate refuses, and stamps the bundle.
        equalize: cross-layer equalisation before calibration.
        bias_correction: shift biases by the mean error of rounding the weights.
        per_channel: weight scales per output channel.
        float_layers: layers that always stay in float, by their output tensor.
        mixed: put the most sensitive layers back to float where the gate refuses.
        sensitivity: rank the layers even if the gate passes.
        pareto: try the whole range of float layers and keep the table.
        budget_ms: take the most accurate choice within this time: the CPU's measured, or the board's bound.
        board: for the bound on latency.
        float16_weights: store the FP32 weights as float16.
        argmax_first: take the class before the last enlargement.
        batch: frames per inference.
        compute_capabilities: what TensorRT-RTX is asked to build TensorRT's graphs for, e.g. ``"SM86"``.
        network: how the FP32 graph is made of a network; nothing is made where that graph is given.
    """

    graphs: tuple[str, ...] = INT8_GRAPHS
    calibrator: str = "auto"
    limits: Limits = Limits()
    gate: bool = True
    equalize: bool = False
    bias_correction: bool = True
    per_channel: bool = True
    float_layers: tuple[str, ...] = ()
    mixed: bool = True
    sensitivity: bool = False
    pareto: bool = False
    budget_ms: float | None = None
    board: Board | None = None
    float16_weights: bool = False
    argmax_first: bool = False
    batch: int = 1
    compute_capabilities: tuple[str, ...] = ()
    network: NetworkOptions = NetworkOptions()

    @property
    def searches(self) -> bool:
        """Tell whether mixes of INT8 and float layers are tried even if the gate passes."""
        return self.pareto or self.budget_ms is not None


@dataclass(frozen=True)
class FloatModel:
    """A folded FP32 graph for one frame, and what is known with it.

    Attributes:
        graph: uint8 BGR frame in, uint8 class map out.
        spec: of its network.
        ranges: frozen ranges of this very graph; None to calibrate.
        provenance: stored in the manifest.
        notes: lines of earlier steps that belong into the report.
    """

    graph: onnx.ModelProto
    spec: ModelSpec
    ranges: Ranges | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class CompileData:
    """Images that a compilation looks at.

    Attributes:
        evaluation: images on which every graph is judged; labels make it mIoU, else agreement with FP32.
        calibration: images from which INT8 takes its ranges.
        golden: frames of which a few are stored for the device's self-test; None takes the evaluation images.
    """

    evaluation: Dataset
    calibration: Dataset | None = None
    golden: Dataset | None = None
