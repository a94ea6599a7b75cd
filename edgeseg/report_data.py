"""What a compilation measured: ``compile`` writes it into the bundle, and inspect, the page and devices read it.

Every class has ``to_json`` and ``from_json``. NaN is null in JSON. What an older report lacks has its default, and what
a newer one has besides is kept in the file.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Callable, Mapping, TypeVar

from edgeseg.errors import BundleError, first_line
from edgeseg.json_object import JsonObject

__all__ = [
    "Accuracy",
    "CalibrationReport",
    "Finding",
    "FloatRoundTrip",
    "GraphResult",
    "KernelPlanSummary",
    "LayerSensitivity",
    "Limits",
    "MixedPoint",
    "PreparationStep",
    "Report",
]

SCHEMA = 2
_POOR = 0.1
_T = TypeVar("_T")


@dataclass(frozen=True)
class Limits:
    """What the gate allows, as fractions (0.01 is one point).

    Attributes:
        max_drop: of mIoU against FP32.
        max_class_drop: of any class's IoU against FP32.
        min_agreement: share of pixels with FP32's class.
        min_boundary_agreement: the same share among pixels near FP32's class boundaries.
    """

    max_drop: float = 0.01
    max_class_drop: float = 0.03
    min_agreement: float = 0.95
    min_boundary_agreement: float = 0.80

    @classmethod
    def from_json(cls, facts: JsonObject) -> Limits:
        """Read limits. Raises ValueError for one that is no finite number."""
        return cls(**{one.name: facts.finite(one.name, one.default) for one in fields(cls)})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Accuracy:
    """What one graph achieves on an evaluation set.

    Attributes:
        images: how many.
        agreement: share of pixels with the FP32 graph's class.
        boundary_agreement: the same share within two pixels of a class boundary of the FP32 graph.
        miou: mean IoU over the classes that the labels hold; NaN where there are no labels, like all that follows.
        pixel_accuracy: share of labelled pixels that are right.
        iou: IoU per class name; NaN for a class that the labels do not hold.
        commonest: the class that most labelled pixels have; empty without labels.
        commonest_miou: what answering that class everywhere would score.
    """

    images: int
    agreement: float
    boundary_agreement: float
    miou: float
    pixel_accuracy: float
    iou: Mapping[str, float]
    commonest: str = ""
    commonest_miou: float = math.nan

    @property
    def is_poor(self) -> bool:
        """Tell whether less than a tenth of the way from one class everywhere to a perfect answer is done."""
        return self.miou < self.commonest_miou + _POOR * (1 - self.commonest_miou)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict with six decimals."""
        return {
            "images": self.images,
            "agreement": _rounded(self.agreement),
            "boundary_agreement": _rounded(self.boundary_agreement),
            "miou": _rounded(self.miou),
            "pixel_accuracy": _rounded(self.pixel_accuracy),
            "iou": {name: _rounded(value) for name, value in self.iou.items()},
            "commonest": self.commonest,
            "commonest_miou": _rounded(self.commonest_miou),
        }

    @classmethod
    def from_json(cls, facts: JsonObject) -> Accuracy:
        """Read an accuracy. Raises ValueError."""
        return cls(
            images=facts.whole("images"),
            agreement=facts.number("agreement"),
            boundary_agreement=facts.number("boundary_agreement"),
            miou=facts.number("miou"),
            pixel_accuracy=facts.number("pixel_accuracy"),
            iou=facts.numbers("iou"),
            commonest=facts.text("commonest"),
            commonest_miou=facts.number("commonest_miou"),
        )


@dataclass(frozen=True)
class MixedPoint:
    """One choice of layers that stay in float, and what it gives.

    Attributes:
        float_layers: by their output tensor, the most sensitive first.
        accuracy: on the evaluation set with the target's arithmetic.
        worst_drop: largest loss of a class's IoU against FP32, as a fraction; NaN without labels.
        refused: why the gate refuses it; empty when it passes.
        size_bytes: of the ONNX file.
        measured_ms: median per frame on this machine's CPU; None for graphs that are not a CPU's.
        roofline_ms: bound per frame on the board that was named; None without one.
    """

    float_layers: tuple[str, ...]
    accuracy: Accuracy
    worst_drop: float
    refused: tuple[str, ...]
    size_bytes: int
    measured_ms: float | None = None
    roofline_ms: float | None = None

    @property
    def latency_ms(self) -> float | None:
        """Return what a budget is compared with: measured where it was, else the bound."""
        return self.measured_ms if self.measured_ms is not None else self.roofline_ms

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        return {
            "float_layers": list(self.float_layers),
            "refused": list(self.refused),
            "size_bytes": self.size_bytes,
            "worst_drop": _rounded(self.worst_drop),
            "measured_ms": self.measured_ms,
            "roofline_ms": self.roofline_ms,
            **self.accuracy.to_json(),
        }

    @classmethod
    def from_json(cls, facts: JsonObject) -> MixedPoint:
        """Read a point. Raises ValueError."""
        return cls(
            float_layers=facts.texts("float_layers"),
            accuracy=Accuracy.from_json(facts),
            worst_drop=facts.number("worst_drop"),
            refused=facts.texts("refused"),
            size_bytes=facts.whole("size_bytes"),
            measured_ms=facts.optional_number("measured_ms"),
            roofline_ms=facts.optional_number("roofline_ms"),
        )


@dataclass(frozen=True)
class GraphResult:
    """One emitted graph and what it achieves.

    Attributes:
        name: key in the bundle.
        size_bytes: of the ONNX file.
        int8_convolutions: (in INT8, in all); for CPU graphs as ONNX Runtime executes them on the machine that compiled,
            for TensorRT those that read quantized activations and weights. None where nobody counted.
        accuracy: on the evaluation set with the target's arithmetic.
        refused: why the gate refused it; empty when it passed.
        float_layers: layers that stay in float, by their output tensor.
        tried: every mix of precisions that was judged on the way.
    """

    name: str
    size_bytes: int
    int8_convolutions: tuple[int, int] | None
    accuracy: Accuracy
    refused: tuple[str, ...] = ()
    float_layers: tuple[str, ...] = ()
    tried: tuple[MixedPoint, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict without the name, which is its key."""
        return {
            "size_bytes": self.size_bytes,
            "int8_convolutions": None if self.int8_convolutions is None else list(self.int8_convolutions),
            "refused": list(self.refused),
            "float_layers": list(self.float_layers),
            "tried": [point.to_json() for point in self.tried],
            **self.accuracy.to_json(),
        }

    @classmethod
    def from_json(cls, name: str, facts: JsonObject) -> GraphResult:
        """Read a result. Raises ValueError."""
        counted = facts.values("int8_convolutions")
        if counted and not (len(counted) == 2 and all(type(count) is int for count in counted)):
            raise ValueError(f"int8_convolutions of {name} is {str(counted)[:80]} and not two whole numbers")
        return cls(
            name=name,
            size_bytes=facts.whole("size_bytes"),
            int8_convolutions=(counted[0], counted[1]) if counted else None,
            accuracy=Accuracy.from_json(facts),
            refused=facts.texts("refused"),
            float_layers=facts.texts("float_layers"),
            tried=tuple(MixedPoint.from_json(point) for point in facts.listed("tried")),
        )


@dataclass(frozen=True)
class PreparationStep:
    """The FP32 graph after one step before calibration.

    Attributes:
        step: what was done.
        nodes: how many the graph has.
        size_bytes: of the graph.
        accuracy: on the evaluation set; its agreement is with the graph after the first step.
    """

    step: str
    nodes: int
    size_bytes: int
    accuracy: Accuracy

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        return {"step": self.step, "nodes": self.nodes, "size_bytes": self.size_bytes, **self.accuracy.to_json()}

    @classmethod
    def from_json(cls, facts: JsonObject) -> PreparationStep:
        """Read a step. Raises ValueError."""
        accuracy = Accuracy.from_json(facts)
        return cls(facts.text("step"), facts.whole("nodes"), facts.whole("size_bytes"), accuracy)


@dataclass(frozen=True)
class LayerSensitivity:
    """What one layer costs in INT8.

    Attributes:
        layer: its output tensor.
        error: squared error of the logits relative to their variance, with only this layer in INT8.
        sqnr_db: the same as signal-to-quantization-noise ratio in decibels.
    """

    layer: str
    error: float
    sqnr_db: float

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        return asdict(self)

    @classmethod
    def from_json(cls, facts: JsonObject) -> LayerSensitivity:
        """Read a sensitivity. Raises ValueError."""
        return cls(facts.text("layer"), facts.number("error"), facts.number("sqnr_db"))


@dataclass(frozen=True)
class CalibrationReport:
    """What a calibration set holds.

    Attributes:
        data: description of the set.
        sha256: digest of the network inputs, in order.
        images: how many.
        duplicates: images that equal an earlier one at network size.
        near_black: images whose 99th percentile of brightness is below 16 of 255.
        near_white: images whose 1st percentile of brightness is above 240 of 255.
        labelled: images with a label.
        class_shares: share of the labelled pixels per class name; empty without labels.
        examples: names of the first images that ``duplicates``, ``near_black`` and ``near_white`` count, by these.
        warnings: what is wrong with the set, one line each; empty when nothing is.
    """

    data: str
    sha256: str
    images: int
    duplicates: int
    near_black: int
    near_white: int
    labelled: int
    class_shares: Mapping[str, float]
    examples: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def usable(self) -> int:
        """Images that are neither repeated nor near-black nor near-white; an image may be counted out twice."""
        return max(0, self.images - self.duplicates - self.near_black - self.near_white)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        examples = {kind: list(names) for kind, names in self.examples.items()}
        return {**asdict(self), "examples": examples, "warnings": list(self.warnings)}

    @classmethod
    def from_json(cls, facts: JsonObject) -> CalibrationReport:
        """Read a calibration set's report. Raises ValueError."""
        examples = facts.object("examples")
        return cls(
            data=facts.text("data"),
            sha256=facts.text("sha256"),
            images=facts.whole("images"),
            duplicates=facts.whole("duplicates"),
            near_black=facts.whole("near_black"),
            near_white=facts.whole("near_white"),
            labelled=facts.whole("labelled"),
            class_shares=facts.numbers("class_shares"),
            examples={kind: examples.texts(kind) for kind in examples.facts},
            warnings=facts.texts("warnings"),
        )


@dataclass(frozen=True)
class Finding:
    """One thing that lint found wrong with a graph, or that has to be known.

    Attributes:
        severity: ``"error"``, ``"warning"`` or ``"note"``.
        rule: short name, the same for every finding of its kind.
        where: node or tensor.
        what: was seen and what follows from it.
        fix: what to pass or to do.
    """

    severity: str
    rule: str
    where: str
    what: str
    fix: str

    def to_json(self) -> dict[str, str]:
        """Return a JSON-serialisable dict."""
        return asdict(self)

    @classmethod
    def from_json(cls, facts: JsonObject) -> Finding:
        """Read a finding. Raises ValueError."""
        return cls(*(facts.text(one.name) for one in fields(cls)))


@dataclass(frozen=True)
class FloatRoundTrip:
    """A float tensor in memory between two kernels that a better place for Q/DQ would have made INT8.

    Attributes:
        tensor: its shape and type, like ``1x24x64x64 Float``.
        written_by: ONNX nodes of the kernel that writes it, which has no convolution.
        read_by: ONNX nodes of the kernel that reads it and writes INT8; empty for a kernel that only makes INT8 float.
    """

    tensor: str
    written_by: tuple[str, ...]
    read_by: tuple[str, ...]

    @classmethod
    def from_json(cls, facts: JsonObject) -> FloatRoundTrip:
        """Read a round trip. Raises ValueError."""
        return cls(facts.text("tensor"), facts.texts("written_by"), facts.texts("read_by"))


@dataclass(frozen=True)
class KernelPlanSummary:
    """What TensorRT-RTX made of a graph, in numbers; ``KernelPlan`` explains them.

    Attributes:
        compute_capability: like ``"SM86"``.
        tensorrt_rtx: its version.
        kernels: how many.
        convolutions: how many are in them.
        int8_convolutions: how many of those multiply INT8.
        conversions: kernels that only change float to INT8 or back.
        float_round_trips: float tensors that placement is to blame for.
        fused: kernels with more than one ONNX node.
        activation_bytes: read and written for one frame.
        plan_bytes: size of the engine.
        build_s: seconds for parsing and building.
        kinds: kernels by kind.
    """

    compute_capability: str
    tensorrt_rtx: str
    kernels: int
    convolutions: int
    int8_convolutions: int
    conversions: int
    float_round_trips: tuple[FloatRoundTrip, ...]
    fused: int
    activation_bytes: int
    plan_bytes: int
    build_s: float
    kinds: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        return {**asdict(self), "float_round_trips": [asdict(trip) for trip in self.float_round_trips]}

    @classmethod
    def from_json(cls, facts: JsonObject) -> KernelPlanSummary:
        """Read a summary. Raises ValueError."""
        kinds = facts.object("kinds")
        counts = ("kernels", "convolutions", "int8_convolutions", "conversions", "fused")
        return cls(
            compute_capability=facts.text("compute_capability"),
            tensorrt_rtx=facts.text("tensorrt_rtx"),
            float_round_trips=tuple(FloatRoundTrip.from_json(trip) for trip in facts.listed("float_round_trips")),
            activation_bytes=facts.whole("activation_bytes"),
            plan_bytes=facts.whole("plan_bytes"),
            build_s=facts.number("build_s"),
            kinds={kind: kinds.whole(kind) for kind in kinds.facts},
            **{count: facts.whole(count) for count in counts},
        )


@dataclass(frozen=True)
class Report:
    """Everything that was measured when a bundle was compiled; an empty one says that nothing was.

    Attributes:
        evaluation_data: on which the graphs were judged.
        gate: whether the gate was on.
        board: that latency was bounded for.
        limits: of the gate.
        notes: lines for people.
        network_is_poor: why, in words; None where it is not.
        steps: the FP32 graph before calibration.
        calibration: what the calibration set held; None where none was read.
        sensitivity: layers by what their INT8 costs, worst first.
        lint: graph -> target -> findings.
        kernel_plans: graph -> compute capability -> plan.
        graphs: graph -> what it achieved, those included that the gate kept out of the bundle.
        self_test: precision -> least share of golden pixels in which a device must agree with FP32.
    """

    evaluation_data: str = ""
    gate: bool = True
    board: str | None = None
    limits: Limits = Limits()
    notes: tuple[str, ...] = ()
    network_is_poor: str | None = None
    steps: tuple[PreparationStep, ...] = ()
    calibration: CalibrationReport | None = None
    sensitivity: tuple[LayerSensitivity, ...] = ()
    lint: Mapping[str, Mapping[str, tuple[Finding, ...]]] = field(default_factory=dict)
    kernel_plans: Mapping[str, Mapping[str, KernelPlanSummary]] = field(default_factory=dict)
    graphs: Mapping[str, GraphResult] = field(default_factory=dict)
    self_test: Mapping[str, float] = field(default_factory=dict)
    _stored: Mapping[str, Any] | None = field(default=None, init=False, repr=False, compare=False)
    """The document that it was read from, so that writing it again changes nothing; ``replace`` drops it."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict; of a report that was read the very document."""
        if self._stored is not None:
            return dict(self._stored)
        return {
            "schema": SCHEMA,
            "evaluation_data": self.evaluation_data,
            "gate": self.gate,
            "board": self.board,
            "limits": asdict(self.limits),
            "notes": list(self.notes),
            "network_is_poor": self.network_is_poor,
            "steps": [step.to_json() for step in self.steps],
            "calibration": None if self.calibration is None else self.calibration.to_json(),
            "sensitivity": [one.to_json() for one in self.sensitivity],
            "lint": _by_two(self.lint, lambda findings: [finding.to_json() for finding in findings]),
            "kernel_plans": _by_two(self.kernel_plans, KernelPlanSummary.to_json),
            "graphs": {name: result.to_json() for name, result in self.graphs.items()},
            "self_test": dict(self.self_test),
        }

    @classmethod
    def from_json(cls, data: Any) -> Report:
        """Read what ``to_json`` gave, or an older edgeseg's. Raises BundleError when it is newer or malformed."""
        try:
            return cls._read(JsonObject(data, "the report"))
        except ValueError as error:
            raise BundleError(
                f"it holds a report that this edgeseg cannot read ({first_line(error)}); compile it again"
            ) from error

    @classmethod
    def _read(cls, facts: JsonObject) -> Report:
        if facts.whole("schema", SCHEMA) > SCHEMA:
            raise ValueError(f"its schema is {facts.whole('schema')}, this edgeseg reads up to {SCHEMA}")
        tests = facts.object("self_test")
        report = cls(
            evaluation_data=facts.text("evaluation_data"),
            gate=facts.flag("gate", True),
            board=facts.optional_text("board"),
            limits=Limits.from_json(facts.object("limits")),
            notes=facts.texts("notes"),
            network_is_poor=facts.optional_text("network_is_poor"),
            steps=tuple(PreparationStep.from_json(step) for step in facts.listed("steps")),
            calibration=CalibrationReport.from_json(facts.object("calibration")) if "calibration" in facts else None,
            sensitivity=tuple(LayerSensitivity.from_json(one) for one in facts.listed("sensitivity")),
            lint={
                name: {target: tuple(map(Finding.from_json, targets.listed(target))) for target in targets.facts}
                for name, targets in facts.objects("lint").items()
            },
            kernel_plans={
                name: {key: KernelPlanSummary.from_json(plan) for key, plan in plans.inner().items()}
                for name, plans in facts.objects("kernel_plans").items()
            },
            graphs={name: GraphResult.from_json(name, result) for name, result in facts.objects("graphs").items()},
            self_test={precision: tests.finite(precision, 0.0) for precision in tests.facts},
        )
        object.__setattr__(report, "_stored", facts.facts)
        return report

    def as_stored(self) -> Report:
        """Return the report as a file holds it: what is read from there has six decimals."""
        return Report.from_json(json.loads(json.dumps(self.to_json())))


def _by_two(tree: Mapping[str, Mapping[str, _T]], made: Callable[[_T], Any]) -> dict[str, dict[str, Any]]:
    return {name: {key: made(value) for key, value in inner.items()} for name, inner in tree.items()}


def _rounded(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
