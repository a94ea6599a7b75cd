"""Open a running, tested TensorRT engine of a bundle: found in the cache, else built there and then.

Everything that happens is said: what is built and why, in which precision and why, what the self-test gave.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Callable

from edgeseg.bundle import Bundle
from edgeseg.device.detect import Device, detected_device
from edgeseg.engines.cuda.device import Cuda, GpuFacts
from edgeseg.engines.golden import SelfTest, run_self_test
from edgeseg.engines.tensorrt.api import Log, TensorRt, tensorrt_module
from edgeseg.engines.tensorrt.build import PRECISIONS, RECIPE, BuildRequest, BuiltPlan, OnProgress
from edgeseg.engines.tensorrt.cache import CachedEngine, EngineCache, EngineKey, engine_from_plan, write_engine
from edgeseg.engines.tensorrt.engine import MEMORIES, SWITCHES, TensorRtEngine
from edgeseg.engines.tensorrt.worker import built_plan_in_child
from edgeseg.errors import EngineError, UsageError
from edgeseg.ranges import Ranges
from edgeseg.recipes import FP16, FP32, INT8_FP16, INT8_TENSORRT

__all__ = [
    "INT8_MODES",
    "TensorRtOptions",
    "OpenedEngine",
    "TensorRtFactory",
    "chosen_precision",
    "request_from_bundle",
]

INT8_MODES = ("auto", "implicit", "qdq")
_GIB = 2**30
_PORTABLE: dict[str, Any] = {"gpu": "any GPU", "sm_count": 0, "device": ""}
"""TensorRT-RTX finishes its engines where they are loaded: they fit every GPU of a compute capability."""


@dataclass(frozen=True)
class TensorRtOptions:
    """Options of an engine that a user may choose.

    Attributes:
        precision: one of ``PRECISIONS``; ``"int8"`` lets ``int8_mode`` decide; None takes what ``edgeseg tune``
            chose, else INT8.
        int8_mode: ``"implicit"`` (ranges beside the FP32 graph), ``"qdq"``, or ``"auto"``: implicit where it
            exists.
        workspace_mib: most scratch memory per layer; None is a quarter of the free memory, at most 1 GiB, on
            integrated GPUs and TensorRT's own limit elsewhere.
        optimization_level: 0-5, TensorRT 8.6 and later.
        dla_core: a deep learning accelerator instead of the GPU.
        allow_partial_int8: accept an engine most of whose convolutions are not INT8.
        cuda_graph: ``"auto"``, ``"on"`` or ``"off"``.
        memory: ``"auto"``, ``"mapped"`` or ``"copy"``.

    Raises:
        UsageError: a value is unknown, or a DLA core shall run fp32.
    """

    precision: str | None = None
    int8_mode: str = "auto"
    workspace_mib: int | None = None
    optimization_level: int | None = None
    dla_core: int | None = None
    allow_partial_int8: bool = False
    cuda_graph: str = "auto"
    memory: str = "auto"

    def describe(self) -> str:
        """List what differs from the defaults, as ``name=value``."""
        changed = {name: value for name, value in asdict(self).items() if value != getattr(TensorRtOptions, name)}
        return ", ".join(f"{name}={value}" for name, value in changed.items()) or "defaults"

    def __post_init__(self) -> None:
        if self.precision not in (None, "int8", *PRECISIONS):
            raise UsageError(f"no precision {self.precision!r}; there are int8, {', '.join(PRECISIONS)}")
        if self.int8_mode not in INT8_MODES:
            raise UsageError(f"`int8_mode` is {', '.join(INT8_MODES)}, got {self.int8_mode!r}")
        if self.cuda_graph not in SWITCHES or self.memory not in MEMORIES:
            raise UsageError(f"`cuda_graph` is {', '.join(SWITCHES)} and `memory` {', '.join(MEMORIES)}")
        if self.dla_core is not None and self.precision == "fp32":
            raise UsageError("a DLA core runs FP16 and INT8, not fp32")


@dataclass(frozen=True)
class OpenedEngine:
    """An engine that is ready.

    Attributes:
        engine: open and tested; the caller closes it.
        cached: its file and sidecar.
        self_test: what the golden frames gave, now or when it was first started.
        precision: precision that it was built in.
    """

    engine: TensorRtEngine
    cached: CachedEngine
    self_test: SelfTest
    precision: str


def chosen_precision(api: TensorRt, bundle: Bundle, options: TensorRtOptions) -> tuple[str, str]:
    """Choose the precision to build and say why, for people.

    Raises:
        EngineError: this TensorRT or this bundle has no such precision.
    """
    wanted, why = options.precision or "int8", "as asked"
    if wanted == "int8":
        implicit = api.implicit_int8 and bundle.ranges is not None and FP32 in bundle.graphs
        if options.int8_mode == "auto":
            wanted = "int8-implicit" if implicit else "int8-qdq"
            lack = "the bundle has no ranges" if api.implicit_int8 else f"{api.name} has no implicit INT8"
            lack = "the bundle has no FP32 graph" if FP32 not in bundle.graphs else lack
            why = f"{api.name} places INT8 itself, from the frozen ranges" if implicit else lack
        else:
            wanted = f"int8-{options.int8_mode}"
    if wanted == "int8-implicit" and not api.implicit_int8:
        raise EngineError(f"{api.name} has no implicit INT8 (removed in 11); use `int8_mode` qdq")
    if options.dla_core is not None and wanted == "int8-qdq" and api.precision_flags:
        raise EngineError(f"a DLA core runs FP16 and implicit INT8 with {api.name}, not {wanted}")
    if wanted == "int8-implicit" and bundle.ranges is None:
        raise EngineError("the bundle has no ranges; 'edgeseg compile --int8 --calib FOLDER' on the host takes them")
    return wanted, why


def request_from_bundle(
    api: TensorRt, bundle: Bundle, precision: str, options: TensorRtOptions
) -> tuple[str, BuildRequest, list[str]]:
    """Choose the bundle's graph to build from, and return its name, the request and notes for people.

    Raises:
        EngineError: the bundle has no such graph.
    """
    notes = []
    graph = FP32
    if precision == "int8-qdq":
        graph = INT8_TENSORRT
        if not api.precision_flags:
            if INT8_FP16 in bundle.graphs:
                graph = INT8_FP16
            else:
                notes.append(
                    f"{api.name} takes precision from the graph alone, and this one's rest is float32; "
                    "'edgeseg compile --int8 --fp16' on the host makes a float16 rest"
                )
    elif precision == "fp16" and not api.precision_flags:
        graph = FP16
    if graph not in bundle.graphs:
        compiles = "edgeseg compile --fp16" if graph == FP16 else "edgeseg compile --int8"
        raise EngineError(
            f"the bundle has no graph {graph!r} for {precision} (it has {', '.join(bundle.graphs)}); "
            f"'{compiles}' on the host makes it"
        )
    request = BuildRequest(
        precision,
        workspace_bytes=None if options.workspace_mib is None else options.workspace_mib * 2**20,
        optimization_level=options.optimization_level,
        dla_core=options.dla_core,
        min_int8_share=0.0 if options.allow_partial_int8 or options.dla_core is not None else 0.5,
    )
    if precision == "int8-implicit":
        ranges = bundle.ranges or Ranges({})
        request = replace(
            request, amax={name: ranges.amax(name) for name in ranges.tensors}, float_layers=bundle.float_layers
        )
    return graph, request, notes


class TensorRtFactory:
    """Maker of engines of bundles on the GPU of this machine.

    Args:
        cache: where engines are kept.
        flavour: ``"tensorrt"`` or ``"rtx"``.
        say: takes one line for people at a time.
        on_progress: called while TensorRT builds, with (phase, steps done, steps in all).
        api: stands for TensorRT in tests.
        open_cuda: stands for the CUDA driver in tests.
        build: builds in another process; in this one in tests.
        device: returns the board; a recorded one in tests.

    Raises:
        EngineError: TensorRT cannot be used.
        MissingDependencyError: TensorRT is not installed.
    """

    def __init__(
        self,
        cache: EngineCache,
        flavour: str = "tensorrt",
        *,
        say: Callable[[str], None] = lambda line: None,
        on_progress: OnProgress = lambda phase, done, total: None,
        api: TensorRt | None = None,
        open_cuda: Callable[[], Cuda] = Cuda,
        build: Callable[..., BuiltPlan] = built_plan_in_child,
        device: Callable[[], Device] = detected_device,
    ) -> None:
        self.api = api or tensorrt_module(flavour)
        self.cache = cache
        self._say, self._on_progress, self._open_cuda, self._build = say, on_progress, open_cuda, build
        self._device = device

    def open(
        self,
        bundle: Bundle,
        model: str,
        options: TensorRtOptions,
        *,
        rebuild: bool = False,
        test: bool = False,
        refuse: bool = True,
    ) -> OpenedEngine:
        """Open an engine, from the cache or newly built, that has passed the golden frames.

        Args:
            bundle: the bundle to make it of.
            model: name of the bundle for files and messages.
            options: what was asked for.
            rebuild: build even if the cache has it.
            test: run the golden frames even if they passed before.
            refuse: raise when they fail; else the caller looks at ``self_test``.

        Raises:
            EngineError: it cannot be built or loaded.
            GateRefused: it failed the self-test.
        """
        facts = self._facts()
        options = self._with_choice(bundle, facts, options)
        precision, graph, request = self._planned(bundle, options)
        key = self._key(bundle, model, graph, request, options, facts)
        own = bundle.signer is not None
        cached, plan = self._found_or_built(key, bundle.graphs[graph].onnx, request, facts, rebuild, own)
        cuda = self._open_cuda()
        try:
            engine = TensorRtEngine(
                plan,
                self.api,
                cuda,
                precision,
                cuda_graph=options.cuda_graph,
                memory=options.memory,
                dla_core=request.dla_core,
            )
        except BaseException:
            cuda.close()
            raise
        if engine.graph_note:
            self._say(f"note: {engine.graph_note}")
        try:
            return self._tested(engine, cached, bundle, precision, test, refuse)
        except BaseException:
            engine.close()
            raise

    def _facts(self) -> GpuFacts:
        """Read facts of the GPU; its context is not kept while an engine is built, which needs the memory."""
        cuda = self._open_cuda()
        cuda.close()
        return cuda.facts

    def _planned(self, bundle: Bundle, options: TensorRtOptions) -> tuple[str, str, BuildRequest]:
        """Choose precision, graph and request, and say them with the reasons."""
        precision, why = chosen_precision(self.api, bundle, options)
        self._say(f"precision: {precision} ({why})")
        graph, request, notes = request_from_bundle(self.api, bundle, precision, options)
        for note in notes:
            self._say(f"note: {note}")
        return precision, graph, request

    def dla_cores(self) -> int:
        """Count the deep learning accelerators that this TensorRT can use here.

        Raises:
            EngineError: CUDA does not start.
        """
        log, cuda = Log(), self._open_cuda()
        try:
            with cuda.current():  # else TensorRT takes the context for good
                return int(self.api.runtime(self.api.logger(log), log).num_DLA_cores)
        finally:
            cuda.close()

    def build_ahead(
        self, bundle: Bundle, model: str, options: TensorRtOptions, compute_capability: str, target: Path
    ) -> CachedEngine:
        """Build for a GPU that need not be here, into a file. It is tested where it is first loaded.

        Args:
            bundle: the bundle to build of.
            model: name of the bundle.
            options: precision and limits.
            compute_capability: like ``"SM86"``.
            target: NAME.engine; its sidecar is written beside it.

        Raises:
            EngineError: it cannot be built; only TensorRT-RTX can build ahead of time.
            OSError: the file cannot be written.
        """
        precision, graph, request = self._planned(bundle, options)
        capability = (int(compute_capability[2:-1] or 0), int(compute_capability[-1:] or 0))
        facts = GpuFacts("any GPU", capability, 0, integrated=False, total_bytes=0)
        key = self._key(bundle, model, graph, request, options, facts)
        self._say(f"building {precision} with {self.api.name} for {compute_capability}")
        built = self._build(
            self.api.flavour,
            bundle.graphs[graph].onnx,
            replace(request, compute_capability=compute_capability),
            on_progress=self._on_progress,
        )
        for line in build_lines(built):
            self._say(line)
        engine = engine_from_plan(target, key, built)
        write_engine(engine, built.plan)
        return engine

    def choose(self, bundle: Bundle, by: str, options: TensorRtOptions) -> None:
        """Let later starts without options take these.

        Raises:
            EngineError: the GPU cannot be used.
            OSError: the disk refused.
        """
        self.cache.choose(model_digest(bundle), self._place(self._facts()), by, asdict(options))

    def _place(self, facts: GpuFacts) -> str:
        """Name what a choice is bound to: TensorRT, GPU, board and its power mode."""
        device = self._device()
        capability = ".".join(map(str, facts.compute_capability))
        gpu = f"{self.api.name} on {facts.name} ({capability}, {facts.sm_count} SMs)"
        return ", ".join(part for part in (gpu, device.board, device.power_mode) if part)

    def _with_choice(self, bundle: Bundle, facts: GpuFacts, options: TensorRtOptions) -> TensorRtOptions:
        """Take the stored choice, if there is one, where options name no precision."""
        if replace(options, cuda_graph="auto", memory="auto") != TensorRtOptions():
            return options
        choices, place = self.cache.choices(model_digest(bundle)), self._place(facts)
        if place not in choices:
            for other, chosen in choices.items():
                self._say(f"note: 'edgeseg {chosen['by']}' chose for {other}; this is {place}, run it here too")
            return options
        chosen = choices[place]
        try:
            taken = TensorRtOptions(**{**chosen["options"], "cuda_graph": options.cuda_graph, "memory": options.memory})
        except (TypeError, UsageError):
            self._say(f"note: what 'edgeseg {chosen['by']}' chose is of another edgeseg and not used; run it again")
            return options
        self._say(f"options as 'edgeseg {chosen['by']}' chose them for this model here: {taken.describe()}")
        return taken

    def _workspace(self, facts: GpuFacts) -> int | None:
        """Return a quarter of the available memory, at most 1 GiB, in bytes; None where the GPU has its own memory."""
        if not facts.integrated:
            return None
        available = int(self._device().memory_available_gib * _GIB)
        if available < _GIB:
            self._say(f"note: only {available // 2**20} MiB of memory are available; the build may be killed")
        return max(min(available // 4, _GIB), 2**20)

    def _key(
        self,
        bundle: Bundle,
        model: str,
        graph: str,
        request: BuildRequest,
        options: TensorRtOptions,
        facts: GpuFacts,
    ) -> EngineKey:
        place = _PORTABLE if self.api.flavour == "rtx" else _place_of(facts, self._device())
        ranges = json.dumps(dict(request.amax), sort_keys=True).encode() if request.amax else b""
        size_hw = bundle.spec.size_hw
        flags = {
            "workspace_mib": options.workspace_mib,
            "level": request.optimization_level,
            "dla": request.dla_core,
            "partial_int8": options.allow_partial_int8,
            "recipe": RECIPE,
            "float_layers": list(request.float_layers),
        }
        return EngineKey(
            model=model,
            precision=request.precision,
            graph_sha256=hashlib.sha256(bundle.graphs[graph].onnx).hexdigest(),
            ranges_sha256=hashlib.sha256(ranges).hexdigest() if ranges else "",
            shape=(*size_hw, 3),
            options=json.dumps(flags, sort_keys=True),
            tensorrt=self.api.name,
            compute_capability=".".join(map(str, facts.compute_capability)),
            **place,
        )

    def _found_or_built(
        self, key: EngineKey, onnx: bytes, request: BuildRequest, facts: GpuFacts, rebuild: bool, own: bool
    ) -> tuple[CachedEngine, bytes]:
        """Return the engine of a key, and its plan; with ``own`` only one that was built on this machine."""
        found, _ = self.cache.find(key, own=own)
        if found is not None and not rebuild:
            return found
        with self.cache.building(lambda: self._say("waiting for another build on this device")):
            found, reason = self.cache.find(key, own=own)
            if found is not None and not rebuild:
                return found
            reason = "as asked" if found is not None else reason or "it is not in the cache yet"
            if request.workspace_bytes is None:
                request = replace(request, workspace_bytes=self._workspace(facts))
            limit = request.workspace_bytes
            memory = "" if limit is None else f", workspace at most {limit // 2**20} MiB"
            self._say(f"building {key.precision} with {self.api.name} for {key.gpu}{memory}: {reason}")
            known = self.cache.timing_cache(key)
            flavour = self.api.flavour
            built = self._build(flavour, onnx, request, timing_cache=known, on_progress=self._on_progress)
            for line in build_lines(built):
                self._say(line)
            engine = engine_from_plan(self.cache.path(key), key, built)
            try:
                self.cache.store(engine, built.plan)
                self.cache.keep_timing_cache(key, built.timing_cache)
            except OSError as error:
                self._say(f"note: {self.cache.folder} cannot keep it ({error.strerror}); it is built again next time")
            return engine, built.plan

    def _tested(
        self,
        engine: TensorRtEngine,
        cached: CachedEngine,
        bundle: Bundle,
        precision: str,
        test: bool,
        refuse: bool,
    ) -> OpenedEngine:
        if cached.self_test is not None and cached.self_test["passed"] and not test:
            known = {name: value for name, value in cached.self_test.items() if name != "passed"}
            return OpenedEngine(engine, cached, SelfTest(**{**known, "lost": tuple(known["lost"])}), precision)
        result = run_self_test(engine, bundle, precision)
        try:
            cached = self.cache.note_self_test(cached, result.to_json())
        except OSError as error:
            self._say(f"note: {self.cache.folder} cannot keep the result of the self-test ({error.strerror})")
        self._say(f"self-test: {result.describe()}")
        if refuse:
            result.require(f"the {precision} engine of {self.api.name}")
        return OpenedEngine(engine, cached, result, precision)


def _place_of(facts: GpuFacts, device: Device) -> dict[str, Any]:
    board = f"{device.board} (L4T {device.l4t or 'unknown'})" if device.board else ""
    return {"gpu": facts.name, "sm_count": facts.sm_count, "device": board}


def model_digest(bundle: Bundle) -> str:
    """Hash what a choice of precision is bound to: all graphs of a bundle, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for name in sorted(bundle.graphs):
        digest.update(name.encode() + hashlib.sha256(bundle.graphs[name].onnx).digest())
    return digest.hexdigest()


def build_lines(built: BuiltPlan) -> list[str]:
    """Describe what a build gave, in lines for people."""
    said = [f"built in {built.build_s:.0f} s, {len(built.plan) / 1e6:.1f} MB, {built.variant.describe()}"]
    said.append(f"precision of its layers: {built.precisions.describe()}")
    return [*said, *(f"note: {note}" for note in built.notes)]
