"""Build a TensorRT plan from a graph, in this process. ``worker`` runs it in one of its own."""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Iterable, Mapping, Sequence

from edgeseg.engines.tensorrt.api import Log, TensorRt
from edgeseg.engines.tensorrt.int8_zone import Int8Zone, computed_layers, int8_zone, is_float
from edgeseg.engines.tensorrt.kernels import kernels_from_log, precisions_from_kernels
from edgeseg.engines.tensorrt.layers import LayerPrecisions, precisions_from_inspector
from edgeseg.engines.tensorrt.variants import VARIANTS, GraphVariant, activation_amax, prepared_onnx, weight_amax
from edgeseg.errors import EdgesegError, EngineError, first_line
from edgeseg.ranges import SMALLEST_AMAX

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = [
    "MEMORY_ADVICE",
    "PRECISIONS",
    "RECIPE",
    "Attempt",
    "BuildRequest",
    "BuiltPlan",
    "OutOfMemory",
    "Refusal",
    "Trials",
    "built_plan",
    "refusal_error",
    "speaks_of_memory",
]

PRECISIONS = ("int8-implicit", "int8-qdq", "fp16", "fp32")
"""``int8-implicit``: the FP32 graph, its frozen ranges and the INT8 flag. ``int8-qdq``: Q/DQ nodes in the graph."""

RECIPE = 2
"""Raised when the same request would give another engine than before, so that older ones are built again."""

MEMORY_ADVICE = "close other programs, add swap, or allow less with 'edgeseg compile --workspace-mib'"

_EXHAUSTED = re.compile(
    r"out[ _]?of[ _]?memory|bad_alloc|could not be allocated|(?:failed|unable) to allocate|cannot allocate memory"
    r"|allocator error allocating|alloc_failed|memory ?allocation (?:error|fail)|cudaErrorMemoryAllocation"
    r"|(?:insuff?icient|not enough)(?: \w+)? memory|memory is insufficient|NvMap\w*Alloc\w*: .*error",
    re.IGNORECASE,
)
"""As TensorRT 8 to 11, CUDA and Jetson's memory driver say it; "insuficient" is theirs."""

_SKIPPED = re.compile(r"skipping tactic|insufficient to use tactic", re.IGNORECASE)
"""One way to run a layer needs more memory than there is; TensorRT goes on with the others."""

_UNSCALED = re.compile(r"Missing (?:scale and zero-point|dynamic range) for tensor (.+?), expect")


class OutOfMemory(EngineError):
    """TensorRT, or the system on its behalf, ran out of memory while it built."""


@dataclass(frozen=True)
class BuildRequest:
    """Request for a plan: precision and limits.

    Attributes:
        precision: one of ``PRECISIONS``.
        float_layers: for ``int8-implicit``: layers that stay in float, by their output tensor.
        amax: for ``int8-implicit``: largest magnitude by tensor, the symmetric range.
        workspace_bytes: most scratch memory that a layer may take; None leaves TensorRT's own limit.
        optimization_level: 0-5 for TensorRT 8.6 and later; None leaves its default.
        dla_core: run on this deep learning accelerator, the GPU takes what it cannot; None is GPU only.
        compute_capability: for TensorRT-RTX: build ahead of time for this GPU, like ``"SM86"``; None is the one at
            hand.
        min_int8_share: least share of convolutions that must come out as INT8 when INT8 is asked for.
    """

    precision: str
    float_layers: tuple[str, ...] = ()
    amax: Mapping[str, float] = field(default_factory=dict)
    workspace_bytes: int | None = None
    optimization_level: int | None = None
    dla_core: int | None = None
    compute_capability: str | None = None
    min_int8_share: float = 0.5


@dataclass(frozen=True)
class BuiltPlan:
    """A serialised engine with what it turned out to be.

    Attributes:
        plan: TensorRT's bytes.
        variant: how the graph had to be written for this TensorRT.
        precisions: precisions of its layers, by the engine's inspector; built ahead of time, by the log of the
            build.
        timing_cache: what TensorRT learnt about this GPU's kernels; empty where it keeps none.
        notes: what a user should know, e.g. tensors without a range or the split between DLA and GPU.
        kernel_log: lines of TensorRT-RTX that name its kernels.
        build_s: seconds for parsing and building.
    """

    plan: bytes
    variant: GraphVariant
    precisions: LayerPrecisions
    timing_cache: bytes
    notes: tuple[str, ...]
    kernel_log: tuple[str, ...]
    build_s: float


OnProgress = Callable[[str, int, int], None]
"""Called with (phase, steps done, steps in all)."""


@dataclass(frozen=True)
class Refusal:
    """Reason why a graph was not taken as it was written; ``variant`` describes the way in words."""

    reason: str
    variant: str


@dataclass(frozen=True)
class Trials:
    """Variants of a graph to try one after the other, and what became of the first ones in an earlier process.

    Attributes:
        variants: ways to write the graph.
        first: where to begin among those that differ for the graph.
        refusals: refusals of those before ``first``.
    """

    variants: tuple[GraphVariant, ...] = VARIANTS
    first: int = 0
    refusals: tuple[Refusal, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict that ``from_json`` turns back into an equal object."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Trials:
        """Build it from what ``to_json`` returned."""
        variants = tuple(GraphVariant(**variant) for variant in data["variants"])
        return cls(variants, data["first"], tuple(Refusal(**refusal) for refusal in data["refusals"]))


@dataclass(frozen=True)
class Attempt:
    """Announcement of a variant of the graph that is about to be built.

    Attributes:
        index: number of the variant, in the order in which this TensorRT gets them.
        variant: the variant in words.
        tensorrt: name of the TensorRT.
        refusals: refusals of the variants before.
    """

    index: int
    variant: str
    tensorrt: str
    refusals: tuple[Refusal, ...]


def built_plan(
    api: TensorRt,
    onnx: bytes,
    request: BuildRequest,
    *,
    timing_cache: bytes = b"",
    trials: Trials = Trials(),
    on_progress: OnProgress = lambda phase, done, total: None,
    on_attempt: Callable[[Attempt], None] = lambda attempt: None,
    new_log: Callable[[], Log] = Log,
) -> BuiltPlan:
    """Build a plan, with the first of the graph's variants that this TensorRT takes.

    Whatever goes wrong with one variant, but for a lack of memory, may go well with the next.

    Args:
        api: the TensorRT to build with.
        onnx: a graph of a bundle.
        request: precision and limits.
        timing_cache: cache of an earlier build with this TensorRT on this GPU, or empty.
        trials: ways to write the graph, and how far an earlier process came.
        on_progress: called while it builds, where TensorRT reports its progress (10 and later).
        on_attempt: called before each variant.
        new_log: makes what keeps TensorRT's messages, one for each variant.

    Raises:
        OutOfMemory: TensorRT had too little memory.
        EngineError: this TensorRT cannot build that precision, refuses every variant, or built no INT8 although
            asked.
    """
    if request.precision == "int8-implicit" and not api.implicit_int8:
        raise EngineError(f"{api.name} has no implicit INT8; build int8-qdq")
    ways, unwritten = _ways(api, onnx, trials.variants)
    refused = list(trials.refusals)
    for index, variant in enumerate(ways[trials.first :], trials.first):
        on_attempt(Attempt(index, variant.describe(), api.name, tuple(refused)))
        log = new_log()
        try:
            return _built(api, prepared_onnx(onnx, variant), request, variant, timing_cache, on_progress, log)
        except EdgesegError:
            raise
        except MemoryError as error:  # std::bad_alloc in Python
            raise OutOfMemory(f"{api.name} ran out of memory while building; {MEMORY_ADVICE}") from error
        except Exception as error:  # TensorRT's bindings raise many types, without a common base
            refused.append(Refusal(_reason(api, error, log), variant.describe()))
    raise refusal_error(api.name, [*refused, *unwritten]) if ways else EngineError(unwritten[0].reason)


def refusal_error(tensorrt: str, refusals: Sequence[Refusal]) -> EngineError:
    """Return the error for a graph of which no variant was taken: each reason once, with its variants."""
    variants: dict[str, list[str]] = {}
    for refusal in refusals:
        variants.setdefault(refusal.reason, []).append(refusal.variant)
    said = "; then ".join(f"{reason} ({'; '.join(where)})" for reason, where in variants.items())
    return EngineError(f"{tensorrt} refuses the graph: {said}")


def speaks_of_memory(lines: Iterable[str]) -> bool:
    """Tell whether a line says that memory ran out; a tactic that was skipped for its size does not."""
    return any(_EXHAUSTED.search(line) and not _SKIPPED.search(line) for line in lines)


def _ways(api: TensorRt, onnx: bytes, variants: Sequence[GraphVariant]) -> tuple[list[GraphVariant], list[Refusal]]:
    """List the variants that differ for this graph, in the order to try them, and those that it cannot be written in.

    INT8 constants in front of DequantizeLinear come first only where TensorRT has 4-bit weights (10), which come so.
    Before, NVIDIA's own tools write float weights with Q/DQ pairs, and INT8 constants meet failed assertions.
    """
    ways: dict[bytes, GraphVariant] = {}
    unwritten = []
    for variant in variants:
        try:
            ways.setdefault(hashlib.sha256(prepared_onnx(onnx, variant)).digest(), variant)
        except EngineError as error:
            unwritten.append(Refusal(str(error), variant.describe()))
    if hasattr(api.trt.DataType, "INT4"):
        return list(ways.values()), unwritten
    return sorted(ways.values(), key=lambda variant: (variant.float_ports, not variant.weights_as_pairs)), unwritten


class _Refused(Exception):
    """Error of one way of writing the graph; another way may be taken."""


def _reason(api: TensorRt, error: Exception, log: Log) -> str:
    """Explain why a variant was not built. Raises OutOfMemory when that holds for all of them.

    Errors decide. Warnings about tactics that need too much memory come with builds that succeed, too: they count
    only where no error says anything else.
    """
    own = str(error) if isinstance(error, _Refused) else f"{type(error).__name__}: {first_line(error)[:300]}"
    errors = [line for line in (own, *log.errors) if line and not _SKIPPED.search(line)]
    short = any(_EXHAUSTED.search(line) for line in (*log.errors, *log.warnings))
    if speaks_of_memory(errors) or (short and not errors):
        raise OutOfMemory(f"{api.name} ran out of memory while building ({log.reason()}); {MEMORY_ADVICE}") from error
    if not own:
        own = log.reason()
    elif log.errors and not isinstance(error, _Refused):
        own = f"{own}; it said: {log.reason()}"
    return f"{own}, and it skipped tactics for lack of memory" if short else own


def _built(
    api: TensorRt,
    onnx: bytes,
    request: BuildRequest,
    variant: GraphVariant,
    timing_cache: bytes,
    on_progress: OnProgress,
    log: Log,
) -> BuiltPlan:
    began = time.perf_counter()
    data, learnt, convolutions, notes = _serialised(api, onnx, request, timing_cache, on_progress, log)
    # The builder's memory is free again by now, for the engine that is looked into.
    ahead = request.compute_capability is not None
    precisions = (
        precisions_from_kernels(kernels_from_log(log.kernels)) if ahead else _inspected(api, data, request, notes)
    )
    if request.precision.startswith("int8"):
        _prove_int8(api, precisions, request, convolutions)
    visible = sum(precisions.convolutions.values())
    if visible < convolutions and precisions.layers and request.dla_core is None:
        notes.append(f"the engine shows {visible} of the network's {convolutions} convolutions, the rest is fused")
    return BuiltPlan(data, variant, precisions, learnt, tuple(notes), tuple(log.kernels), time.perf_counter() - began)


def _serialised(
    api: TensorRt, onnx: bytes, request: BuildRequest, timing_cache: bytes, on_progress: OnProgress, log: Log
) -> tuple[bytes, bytes, int, list[str]]:
    """Build and serialise: return the plan, the timing cache, the convolutions of the network, and notes."""
    logger = api.logger(log)
    builder = api.builder(logger, log)
    network: trt.INetworkDefinition = _some(builder.create_network(api.network_flags()), "a network", log)
    parser: trt.OnnxParser = api.trt.OnnxParser(network, logger)
    if not parser.parse(onnx):
        raise _Refused(_parser_errors(parser))
    config = _some(builder.create_builder_config(), "a builder configuration", log)
    _configure(api, config, request, on_progress)
    zone, notes = None, []
    if request.precision == "int8-implicit":
        amax = activation_amax(onnx, request.amax)
        zone = int8_zone(network, amax, weight_amax(onnx), request.float_layers)
        notes += _place_int8(api, config, network, zone, request)
    if request.dla_core is not None:
        notes.append(_use_dla(api, builder, config, network, request.dla_core))
    cache = _attach_timing_cache(config, timing_cache, notes)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise _Refused
    notes += _unscaled(log, zone)
    kinds = (api.trt.LayerType.CONVOLUTION, api.trt.LayerType.DECONVOLUTION)
    convolutions = sum(network.get_layer(index).type in kinds for index in range(network.num_layers))
    learnt = None if cache is None else cache.serialize()
    return bytes(memoryview(plan)), b"" if learnt is None else bytes(memoryview(learnt)), convolutions, notes


def _configure(api: TensorRt, config: trt.IBuilderConfig, request: BuildRequest, on_progress: OnProgress) -> None:
    config.profiling_verbosity = api.trt.ProfilingVerbosity.DETAILED
    if request.workspace_bytes is not None:
        config.set_memory_pool_limit(api.trt.MemoryPoolType.WORKSPACE, request.workspace_bytes)
    if request.optimization_level is not None:
        if not hasattr(config, "builder_optimization_level"):
            raise EngineError(f"{api.name} has no optimization levels (8.6 and later have); leave `opt_level` out")
        config.builder_optimization_level = request.optimization_level
    wanted: tuple[str, ...] = {"fp32": (), "fp16": ("FP16",)}.get(request.precision, ("FP16", "INT8"))
    if request.precision == "int8-implicit":
        wanted += ("OBEY_PRECISION_CONSTRAINTS" if request.float_layers else "PREFER_PRECISION_CONSTRAINTS",)
    for name in wanted if api.precision_flags else ():
        config.set_flag(api.flag(name))
    if request.precision == "fp32":
        config.clear_flag(api.trt.BuilderFlag.TF32)  # it keeps 10 of 23 bits, and FP32 was asked for
    if request.compute_capability is not None:
        _target(api, config, request.compute_capability)
    if hasattr(api.trt, "IProgressMonitor") and hasattr(config, "progress_monitor"):
        config.progress_monitor = _monitor(api, on_progress)


def _target(api: TensorRt, config: Any, compute_capability: str) -> None:
    """Build ahead of time for a GPU that need not be here; only TensorRT-RTX can."""
    capabilities = getattr(api.trt, "ComputeCapability", None)
    chosen = getattr(capabilities, compute_capability, None)
    if chosen is None:
        known = [name for name in dir(capabilities) if name.startswith("SM")] if capabilities else []
        raise EngineError(
            f"{api.name} cannot build ahead of time for {compute_capability!r}; "
            + (f"it can for {', '.join(known)}" if known else "only `flavour` rtx can")
        )
    config.num_compute_capabilities = 1
    config.set_compute_capability(chosen, 0)


def _monitor(api: TensorRt, on_progress: OnProgress) -> trt.IProgressMonitor:
    module = api.trt
    steps: dict[str, int] = {}

    class Monitor(module.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            module.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            steps[phase_name] = num_steps
            on_progress(phase_name, 0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            on_progress(phase_name, step + 1, steps.get(phase_name, step + 1))
            return True

        def phase_finish(self, phase_name: str) -> None:
            on_progress(phase_name, steps.get(phase_name, 1), steps.pop(phase_name, 1))

    return Monitor()


def _place_int8(
    api: TensorRt, config: trt.IBuilderConfig, network: trt.INetworkDefinition, zone: Int8Zone, request: BuildRequest
) -> list[str]:
    """Give the tensors of the zone their symmetric ranges, and hold in float what has to be.

    Ranges are set tensor by tensor, not handed over as a calibration cache: a cache is skipped without an error when
    its header or its names do not please TensorRT.
    """
    for layer in zone.kept:
        layer.precision = api.trt.DataType.HALF
        _write_floats_as(layer, api.trt.DataType.HALF)
    for layer in zone.last:  # a DLA writes no FP32
        _write_floats_as(layer, api.trt.DataType.FLOAT if request.dla_core is None else api.trt.DataType.HALF)
    if not zone.ranges and not zone.missing:
        config.clear_flag(api.flag("INT8"))  # no layer is left for it, and the flag without ranges is an error
        return []
    if not zone.ranges.keys() & request.amax.keys():
        raise EngineError("no tensor of the graph has a calibrated range: the ranges belong to another graph")
    for tensor in _all_tensors(network):
        if tensor.name in zone.ranges:
            limit = max(zone.ranges[tensor.name], SMALLEST_AMAX)
            if not tensor.set_dynamic_range(-limit, limit):
                raise _Refused(f"TensorRT refuses the range {limit:g} of {tensor.name}")
    if not zone.missing:
        return []
    return [f"{len(zone.missing)} tensors between INT8 layers have no range and stay in float, e.g. {zone.missing[0]}"]


def _write_floats_as(layer: trt.ILayer, dtype: trt.DataType) -> None:
    """Hold a layer to a float type in every output; the indices of a TopK and the like stay whole numbers."""
    for number in range(layer.num_outputs):
        tensor = layer.get_output(number)
        if tensor is not None and is_float(tensor):
            layer.set_output_type(number, dtype)


def _all_tensors(network: trt.INetworkDefinition) -> Iterable[trt.ITensor]:
    for index in range(network.num_inputs):
        yield network.get_input(index)
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        yield from filter(None, (layer.get_output(number) for number in range(layer.num_outputs)))


def _unscaled(log: Log, zone: Int8Zone | None) -> list[str]:
    """Write a note on ranges that TensorRT misses, without those left out on purpose or named in another note."""
    known = zone.outside.union(zone.missing) if zone is not None else frozenset()
    named = [_UNSCALED.search(line) for line in log.warnings]
    missed = [found[1] for found in named if found is not None and found[1] not in known]
    return [f"TensorRT misses the range of {len(missed)} tensors, e.g. {missed[0]}"] if missed else []


def _use_dla(
    api: TensorRt, builder: trt.Builder, config: trt.IBuilderConfig, network: trt.INetworkDefinition, core: int
) -> str:
    """Put what can run there on a DLA core, and describe the split for people."""
    api.check_dla_core(builder, core)
    config.default_device_type = api.trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(api.trt.BuilderFlag.GPU_FALLBACK)
    able = [bool(config.can_run_on_DLA(layer)) for layer in computed_layers(network)]
    if not any(able):
        raise EngineError(
            f"{api.name} can run none of the {len(able)} layers on DLA {core}, which computes in FP16 and INT8 only; "
            "leave `dla` out"
        )
    crossings = sum(one != other for one, other in zip(able, able[1:]))
    advice = "; more than 4 cost more than they give, try without `dla`" if crossings > 4 else ""
    return f"{sum(able)}/{len(able)} layers can run on DLA {core}, {crossings} transitions{advice}"


def _attach_timing_cache(config: trt.IBuilderConfig, data: bytes, notes: list[str]) -> trt.ITimingCache | None:
    """Attach what earlier builds learnt; None where TensorRT keeps no timing cache."""
    if not hasattr(config, "create_timing_cache"):
        return None
    cache = config.create_timing_cache(data)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        if not data:
            return None
        notes.append("the timing cache was made by another TensorRT or GPU and is made again")
        return _attach_timing_cache(config, b"", notes)
    return cache


def _inspected(api: TensorRt, plan: bytes, request: BuildRequest, notes: list[str]) -> LayerPrecisions:
    log = Log()
    runtime = api.runtime(api.logger(log), log, request.dla_core)
    engine = _some(runtime.deserialize_cuda_engine(plan), "the engine it has just built", log)
    listing = api.inspected(engine)
    api.heard("inspector.json", listing)
    if not listing:
        raise EngineError(f"TensorRT's engine inspector listed no layers: {log.reason()}")
    try:
        found = precisions_from_inspector(listing)
    except EngineError as error:
        if request.precision.startswith("int8"):
            raise EngineError(
                f"INT8 cannot be proven: {error}; 'edgeseg compile --fp16' builds without INT8"
            ) from error
        notes.append(f"the precision of its layers is not known: {error}")
        return LayerPrecisions({}, {}, 0)
    if found.not_understood:
        notes.append(f"{_what_is_not_understood(found)}, and counts as not INT8")
    return found


def _what_is_not_understood(precisions: LayerPrecisions) -> str:
    counted = precisions.convolutions or precisions.layers
    kind = "convolutions" if precisions.convolutions else "layers"
    return (
        f"what the inspector says of {precisions.not_understood} of the engine's {sum(counted.values())} {kind} is not "
        f"understood, seen {precisions.sample}"
    )


def _prove_int8(api: TensorRt, precisions: LayerPrecisions, request: BuildRequest, convolutions: int) -> None:
    """Raise EngineError unless enough convolutions are INT8; what was not understood proves nothing."""
    visible = sum(precisions.convolutions.values())
    if request.dla_core is None and visible < convolutions / 2 and request.min_int8_share:
        raise EngineError(
            f"the engine shows only {visible} of {convolutions} convolutions ({precisions.describe()}), so that INT8 "
            "cannot be proven; 'edgeseg compile --allow-partial-int8' accepts it"
        )
    share, at_most = precisions.int8_share, precisions.int8_share_at_most
    if at_most == 0:
        raise EngineError(
            f"{api.name} built no INT8 layer although INT8 was asked for ({precisions.describe()}); "
            "use 'edgeseg compile --fp16', or 'edgeseg compile --int8 --int8-mode qdq' where it was implicit"
        )
    if at_most < request.min_int8_share:
        raise EngineError(
            f"{api.name} made only {100 * at_most:.0f} % of the convolutions INT8 ({precisions.describe()}), wanted "
            f"{100 * request.min_int8_share:.0f} %; it found others faster: 'edgeseg tune' compares, "
            "'edgeseg compile --allow-partial-int8' accepts"
        )
    if share == 0 or share < request.min_int8_share:
        accept = (
            "'edgeseg compile --allow-partial-int8' accepts what is proven"
            if share
            else "'edgeseg compile --fp16' builds without INT8"
        )
        raise EngineError(
            f"INT8 cannot be proven ({precisions.describe()}): {_what_is_not_understood(precisions)}; report this line "
            f"with the version, {api.name}; {accept}"
        )


def _parser_errors(parser: trt.OnnxParser) -> str:
    said = [parser.get_error(index).desc() for index in range(min(parser.num_errors, 3))]
    return "; ".join(" ".join(text.split())[:300] for text in said)


def _some(made: Any, what: str, log: Log) -> Any:
    """Refuse the variant where TensorRT answers None, as other libraries raise."""
    if made is None:
        raise _Refused(f"TensorRT could not make {what}: {log.reason()}")
    return made
