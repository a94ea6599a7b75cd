"""ms/frame on a CUDA GPU: PyTorch eager and compiled, ONNX Runtime CUDA, our TensorRT; CUDA graphs and overlap.

    python benchmarks/gpu.py [BUNDLE] [--flavour tensorrt|rtx] [--seconds 10] [--json FILE]
    python benchmarks/gpu.py --size 512x512 [--network unet|edge_unet]

Each contender either runs or is named with the reason why not; where none runs, that is said and nothing is measured.
Markdown goes to stdout, what happens on the way to stderr. Without ``--size`` and ``--network`` a bundle is measured at
its own size; with one of them a bundle is made here, of random weights: speed does not depend on them. gpu.md says
what is measured, and how.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Callable, Sequence

import numpy as np

from edgeseg import __version__
from edgeseg.app.data import size_hw_from
from edgeseg.app.engines import engine_cache
from edgeseg.app.models import bundle_or_default, model_stem
from edgeseg.bench.contenders import engine_contender
from edgeseg.bench.measure import Contender, Effort, Measurement, measured_side_by_side
from edgeseg.bundle import Bundle, Golden, GraphEntry
from edgeseg.demo.street import StreetDataset
from edgeseg.device.detect import detected_device
from edgeseg.device.driver_errors import broken
from edgeseg.engines.cuda.device import Cuda
from edgeseg.engines.ort import OrtEngine
from edgeseg.engines.tensorrt.api import FLAVOURS
from edgeseg.engines.tensorrt.engine import TensorRtEngine
from edgeseg.engines.tensorrt.factory import TensorRtFactory, TensorRtOptions
from edgeseg.errors import EdgesegError, EngineError, require
from edgeseg.files import atomic_write
from edgeseg.report_data import Limits, Report
from edgeseg.spec import ModelSpec, Preprocess
from edgeseg.timing import Stopwatch

SOURCE = "demo://street?frames=16&step=30&size=640x480"
PRECISIONS = ("fp32", "fp16", "int8-implicit", "int8-qdq")
MODES = tuple((memory, graph) for memory in ("copy", "mapped") for graph in ("on", "off"))
BURST = 32
NOTHING = "nothing was measured"
_PACKAGES = (
    *("numpy", "torch", "triton", "onnxruntime-gpu", "onnxruntime", "pycuda"),
    *("tensorrt", "tensorrt-cu12", "tensorrt-cu13", "tensorrt-rtx", "tensorrt-rtx-cu13"),
)
_SMI = ("name", "driver_version", "pstate", "clocks.sm", "clocks.max.sm", "clocks.mem", "power.limit")

Clock = Callable[[], int]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Candidate:
    """Something that may run here.

    Attributes:
        name: for the tables.
        open: returns the contender and a note for people, and leaves on the stack what must be closed; raises
            EdgesegError, with the reason, where it does not run.
        runs_the_bundle: its answers can be compared with those of the bundle's FP32 graph.
    """

    name: str
    open: Callable[[ExitStack], tuple[Contender, str]]
    runs_the_bundle: bool = True


@dataclass(frozen=True)
class Streaming:
    """One TensorRT engine, one frame after the other against two in flight. All times are per frame.

    Attributes:
        memory, cuda_graph: as in ``TensorRtOptions``.
        h2d_ms, compute_ms, d2h_ms: medians by CUDA events of frames that run alone.
        frame_p50_ms, frame_p99_ms: of single frames that run alone, from the host's array to the class map.
        serial_ms, overlapped_ms: medians of bursts.
        faster: overlapped against serial: median ratio of paired turns, and its 95 % interval.
        hidden: ``overlap_gain`` of paired turns: median, lowest, highest; None for mapped memory, which copies nothing.
    """

    precision: str
    memory: str
    cuda_graph: str
    h2d_ms: float
    compute_ms: float
    d2h_ms: float
    frame_p50_ms: float
    frame_p99_ms: float
    serial_ms: float
    overlapped_ms: float
    faster: tuple[float, float, float]
    hidden: tuple[float, float, float] | None
    unstable: bool


@dataclass(frozen=True)
class Ratio:
    """How many times faster one way to run a plan is than another: median of paired turns, and its 95 % interval."""

    precision: str
    what: str
    faster: tuple[float, float, float]


def overlap_gain(serial_ms: float, overlapped_ms: float, h2d_ms: float, d2h_ms: float) -> float | None:
    """The share of the copies' time that overlapping hides; None where there are no copies.

    0 is no gain, 1 means that the copies cost nothing any more. More than 1 means that the host's own work (its copy
    into page-locked memory, launches, waiting) was hidden too; below 0 two frames in flight are slower than one.
    """
    copies_ms = h2d_ms + d2h_ms
    return (serial_ms - overlapped_ms) / copies_ms if copies_ms > 0 else None


def one_line(error: BaseException) -> str:
    """A foreign exception on one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def imported(module: str, extra: str) -> Any:
    """Import a package. Raises EdgesegError where it is missing or does not load."""
    try:
        return require(module, extra)
    except EdgesegError:
        raise
    except Exception as error:  # one for another CUDA raises anything
        raise broken(module, error) from error


def torch_with_gpu() -> Any:
    """PyTorch. Raises EdgesegError where it is missing or sees no GPU."""
    torch = imported("torch", "train")
    try:
        torch.zeros(1, device="cuda")
    except Exception as error:  # AssertionError of a CPU build, RuntimeError and others of CUDA
        raise EngineError(f"PyTorch {torch.__version__} cannot use a GPU: {one_line(error)}") from error
    return torch


def onnxruntime_with_gpu() -> Any:
    """ONNX Runtime. Raises EdgesegError where it is missing or was built without CUDA."""
    ort = imported("onnxruntime", "")
    providers = ort.get_available_providers()
    if "CUDAExecutionProvider" not in providers:
        raise EngineError(
            f"onnxruntime {ort.__version__} has no CUDAExecutionProvider (it has {', '.join(providers)}); "
            "the package onnxruntime-gpu has"
        )
    if hasattr(ort, "preload_dlls"):  # finds CUDA and cuDNN in pip packages
        ort.preload_dlls()
    return ort


def tensorrt_with_gpu(flavour: str, say: Say) -> TensorRtFactory:
    """A maker of engines. Raises EdgesegError where TensorRT, pycuda, the driver or the GPU is missing."""
    factory = TensorRtFactory(engine_cache(), flavour, say=say)
    Cuda().close()
    return factory


def network_of(bundle: Bundle) -> tuple[Any, str]:
    """The network that a bundle was made from, with random weights, and which one it is; else smp's Unet.

    Raises:
        MissingDependencyError: the packages that hold the network are not installed.
    """
    networks: Any = require("edgeseg.builder.networks", "train")
    stored = bundle.provenance.get("network")
    if stored:
        config, why = networks.NetworkConfig.from_json(stored), "the bundle's own network"
    else:
        config = networks.NetworkConfig("unet", "mobilenet_v2", len(bundle.spec.classes))
        why = "the bundle does not say which network it was made from"
    return networks.network_from_config(config).eval(), f"{config.architecture} + {config.encoder} ({why})"


def frame_to_classes(torch: Any, network: Any, spec: ModelSpec, dtype: Any, device: str, channels_last: bool) -> Any:
    """A torch function from 1xHxWx3 uint8 to 1xHxW uint8 that does everything on the device, as the bundle's graph."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = network.to(device=device, dtype=dtype, memory_format=layout)
    mean, std = (
        torch.tensor(values, device=device).mul(255).view(1, 3, 1, 1)
        for values in (spec.preprocess.mean, spec.preprocess.std)
    )
    swap = spec.preprocess.channel_order == "RGB"

    def step(frame: Any) -> Any:
        image = frame.permute(0, 3, 1, 2)
        image = image.flip(1) if swap else image
        image = ((image.float() - mean) / std).to(dtype).contiguous(memory_format=layout)
        return network(image).argmax(1).to(torch.uint8)

    return step


def torch_runner(
    torch: Any, network: Any, spec: ModelSpec, stack: ExitStack, *, half: bool, compiled: bool, device: str
) -> tuple[np.ndarray, np.ndarray, Callable[[], None]]:
    """(frame buffer, class map buffer, what takes one to the other and waits until it is done)."""
    on_gpu = device == "cuda"
    if on_gpu:
        stack.enter_context(torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=True))
    dtype = torch.float16 if half else torch.float32
    step = frame_to_classes(torch, network, spec, dtype, device, channels_last=half)
    if compiled:
        step = torch.compile(step, mode="max-autotune", dynamic=False)
    frame_host = torch.zeros((1, *spec.size_hw, 3), dtype=torch.uint8, pin_memory=on_gpu)
    classes_host = torch.zeros((1, *spec.size_hw), dtype=torch.uint8, pin_memory=on_gpu)
    frame_device = torch.zeros_like(frame_host, device=device)

    def run() -> None:
        with torch.no_grad() if compiled else torch.inference_mode():
            frame_device.copy_(frame_host, non_blocking=True)
            classes_host.copy_(step(frame_device), non_blocking=True)
        if on_gpu:
            torch.cuda.current_stream().synchronize()

    return frame_host.numpy()[0], classes_host.numpy()[0], run


def torch_contender(
    name: str, bundle: Bundle, stack: ExitStack, *, half: bool, compiled: bool, device: str = "cuda"
) -> tuple[Contender, str]:
    """PyTorch as its users tune it: page-locked buffers, a uint8 upload, everything on the GPU, cuDNN's benchmark.

    Raises:
        EdgesegError: PyTorch, the network or the GPU is missing, or PyTorch failed.
    """
    torch = torch_with_gpu() if device == "cuda" else require("torch", "train")
    network, note = network_of(bundle)
    began = time.perf_counter()
    try:
        image, classes, run = torch_runner(
            torch, network, bundle.spec, stack, half=half, compiled=compiled, device=device
        )
        run()
    except Exception as error:  # torch, its compiler and Triton raise many types without a common base
        raise EngineError(f"PyTorch {torch.__version__} failed: {one_line(error)}") from error
    took_s = time.perf_counter() - began

    def segment(frame: np.ndarray, watch: Stopwatch) -> np.ndarray:
        with watch.lap("preprocess"):
            bundle.spec.resized(frame, out=image)
        with watch.lap("infer"):
            run()
        with watch.lap("postprocess"):
            return bundle.spec.class_map_on(classes, (frame.shape[0], frame.shape[1]))

    return Contender(name, segment), f"{note}, {'compiled' if compiled else 'first frame'} in {took_s:.1f} s"


def ort_contender(
    name: str, bundle: Bundle, options: dict[str, str], device: str = "cuda", provider: str = "CUDAExecutionProvider"
) -> tuple[Contender, str]:
    """The bundle's FP32 graph in ONNX Runtime, its ports bound to device memory.

    Raises:
        EdgesegError: ONNX Runtime or its provider is missing, would run on the CPU instead, or failed.
    """
    ort = onnxruntime_with_gpu() if device == "cuda" else require("onnxruntime", "")
    if "fp32" not in bundle.graphs:
        raise EngineError(f"the bundle has no graph 'fp32' (it has {', '.join(bundle.graphs)})")
    try:
        session, note = _ort_session(ort, bundle.graphs["fp32"].onnx, provider, options, alone=device == "cuda")
        feed, result = session.get_inputs()[0], session.get_outputs()[0]
        host = np.zeros(feed.shape, np.uint8)
        frames = ort.OrtValue.ortvalue_from_numpy(host, device, 0)
        classes = ort.OrtValue.ortvalue_from_numpy(np.zeros(result.shape, np.uint8), device, 0)
        binding = session.io_binding()
        binding.bind_ortvalue_input(feed.name, frames)
        binding.bind_ortvalue_output(result.name, classes)
        for extra in session.get_outputs()[1:]:
            binding.bind_output(extra.name, device)
        session.run_with_iobinding(binding)
    except EngineError:
        raise
    except Exception as error:  # onnxruntime raises its own types, without a public common base
        raise EngineError(f"onnxruntime {ort.__version__} failed: {one_line(error)}") from error

    def segment(frame: np.ndarray, watch: Stopwatch) -> np.ndarray:
        with watch.lap("preprocess"):
            bundle.spec.resized(frame, out=host[0])
        with watch.lap("infer"):
            frames.update_inplace(host)
            session.run_with_iobinding(binding)
            binding.synchronize_outputs()
            found = classes.numpy()[0]
        with watch.lap("postprocess"):
            return bundle.spec.class_map_on(found, (frame.shape[0], frame.shape[1]))

    return Contender(name, segment), note


def _ort_session(ort: Any, onnx: bytes, provider: str, options: dict[str, str], *, alone: bool) -> tuple[Any, str]:
    """A session on this provider; ``alone`` wants every node there, and says so where that is refused."""
    for fallback in ("1", "0") if alone else ("0",):
        settings = ort.SessionOptions()
        settings.log_severity_level = 3
        settings.add_session_config_entry("session.disable_cpu_ep_fallback", fallback)
        try:
            session = ort.InferenceSession(onnx, settings, providers=[(provider, options)], enable_fallback=0)
        except Exception:  # as above; the second try says why
            if fallback == "0":
                raise
            continue
        if provider not in session.get_providers():  # it falls back with no more than a warning
            raise EngineError(f"onnxruntime {ort.__version__} could not start its {provider} and ran on the CPU")
        where = "every node on the GPU" if fallback == "1" else "some nodes on the CPU"
        return session, f"onnxruntime {ort.__version__}, {where if alone else provider}"
    raise AssertionError("the second try returns or raises")


def tensorrt_contender(
    name: str, bundle: Bundle, model: str, factory: TensorRtFactory, precision: str, stack: ExitStack
) -> tuple[Contender, str]:
    """Our engine with its defaults, self-tested. Raises EdgesegError where it cannot be built, or fails the test."""
    opened = factory.open(bundle, model, TensorRtOptions(precision=precision))
    engine = stack.enter_context(opened.engine)
    cached = opened.cached
    note = f"{engine.description}, built in {cached.build_s:.0f} s, {cached.precisions.describe()}"
    return engine_contender(name, engine, bundle.spec), f"{note}; {engine.graph_note}" if engine.graph_note else note


def candidates(bundle: Bundle, model: str, flavour: str, factory: Callable[[], TensorRtFactory]) -> list[Candidate]:
    """Everything that takes part in the first table, in its order.

    Args:
        bundle: of which all are made.
        model: its name for files.
        flavour: of TensorRT.
        factory: opens TensorRT; raises EdgesegError where there is none.
    """

    def by_torch(name: str, half: bool, compiled: bool) -> Candidate:
        def open_(stack: ExitStack) -> tuple[Contender, str]:
            return torch_contender(name, bundle, stack, half=half, compiled=compiled)

        return Candidate(name, open_, runs_the_bundle=False)

    def by_ort(name: str, options: dict[str, str]) -> Candidate:
        return Candidate(name, lambda stack: ort_contender(name, bundle, options))

    def by_tensorrt(precision: str) -> Candidate:
        name = f"edgeseg {'TensorRT-RTX' if flavour == 'rtx' else 'TensorRT'} {precision}"
        return Candidate(name, lambda stack: tensorrt_contender(name, bundle, model, factory(), precision, stack))

    return [
        by_torch("PyTorch eager FP32", half=False, compiled=False),
        by_torch("PyTorch eager FP16 channels-last", half=True, compiled=False),
        by_torch("torch.compile max-autotune FP32", half=False, compiled=True),
        by_torch("torch.compile max-autotune FP16 channels-last", half=True, compiled=True),
        by_ort("ONNX Runtime CUDA FP32", {"device_id": "0"}),
        by_ort("ONNX Runtime CUDA FP32, CUDA graph", {"device_id": "0", "enable_cuda_graph": "1"}),
        *(by_tensorrt(precision) for precision in PRECISIONS),
    ]


def contenders(
    of: Sequence[Candidate], stack: ExitStack, say: Say
) -> tuple[list[Contender], dict[str, str], dict[str, str]]:
    """Open what opens: (contenders, name -> note of each, name -> why it is skipped)."""
    opened: list[Contender] = []
    notes: dict[str, str] = {}
    skipped: dict[str, str] = {}
    for candidate in of:
        with ExitStack() as own:
            try:
                contender, notes[candidate.name] = candidate.open(own)
            except EdgesegError as error:
                skipped[candidate.name] = str(error)
                say(f"{candidate.name}: skipped: {error}")
                continue
            stack.push(own.pop_all())
        opened.append(contender)
        say(f"{candidate.name}: runs: {notes[candidate.name]}")
    return opened, notes, skipped


def agreement(contender: Contender, bundle: Bundle) -> float | None:
    """The share of the golden frames' pixels with the class that FP32 gave on the host."""
    if bundle.golden is None:
        return None
    watch = Stopwatch()
    found = np.stack([contender.segment(frame, watch).copy() for frame in bundle.golden.frames])
    return float((found == bundle.golden.classes).mean())


def streaming_contenders(name: str, engine: TensorRtEngine) -> tuple[Contender, Contender]:
    """(one frame after the other, two in flight). What they take as a frame is a burst, MxNxHxWx3, run to its end."""

    def serial(burst: np.ndarray, watch: Stopwatch) -> np.ndarray:
        for frames in burst:
            with watch.lap("alone"):
                classes = engine.infer(frames)
            for part, ms in engine.laps_ms.items():
                watch.add(part, int(ms * 1e6))
        return classes

    def overlapped(burst: np.ndarray, watch: Stopwatch) -> np.ndarray:
        engine.submit(burst[0])
        for frames in burst[1:]:
            engine.submit(frames)
            engine.collect()
        return engine.collect()

    return Contender(f"{name} serial", serial), Contender(f"{name} overlapped", overlapped)


def bursts(frames: Sequence[np.ndarray], shape: tuple[int, ...], length: int = BURST) -> list[np.ndarray]:
    """Camera frames at an engine's size, as one burst for ``streaming_contenders``."""
    batch, height, width, _ = shape
    resized = [Preprocess().resized(frame, (height, width)) for frame in frames]
    burst = [np.repeat(resized[index % len(resized)][None], batch, 0) for index in range(length)]
    return [np.stack(burst)]


def streaming(
    bundle: Bundle,
    model: str,
    factory: TensorRtFactory,
    precision: str,
    frames: Sequence[np.ndarray],
    *,
    seconds: float,
    warmup_s: float,
    clock_ns: Clock = time.perf_counter_ns,
    burst: int = BURST,
) -> tuple[list[Streaming], list[Ratio], dict[str, str]]:
    """One precision in every mode, all in alternating turns: (rows, paired ratios, mode -> why it is skipped)."""
    with ExitStack() as stack:
        pairs: dict[tuple[str, str], tuple[Contender, Contender]] = {}
        skipped: dict[str, str] = {}
        for memory, graph in MODES:
            name = f"{precision}, {memory}, CUDA graph {graph}"
            options = TensorRtOptions(precision=precision, memory=memory, cuda_graph=graph)
            try:
                engine = stack.enter_context(factory.open(bundle, model, options).engine)
            except EdgesegError as error:
                skipped[name] = str(error)
                continue
            pairs[memory, graph] = streaming_contenders(name, engine)
            shape = engine.input.shape
        if not pairs:
            return [], [], skipped
        every = [contender for pair in pairs.values() for contender in pair]
        inputs = bursts(frames, shape, burst)
        found = iter(measured_side_by_side(every, inputs, Effort(seconds, warmup_s), clock_ns=clock_ns))
        measured = {mode: (next(found), next(found)) for mode in pairs}
    rows = [_streaming_row(precision, *mode, *pair, burst) for mode, pair in measured.items()]
    return rows, _ratios(precision, measured), skipped


def _streaming_row(
    precision: str, memory: str, graph: str, serial: Measurement, overlapped: Measurement, burst: int
) -> Streaming:
    serial_ms, overlapped_ms = (median(m.turn_medians_ms) / burst for m in (serial, overlapped))
    h2d_ms, compute_ms, d2h_ms = (serial.stages[part].p50_ms for part in ("h2d", "compute", "d2h"))
    paired = zip(serial.turn_medians_ms, overlapped.turn_medians_ms)
    every = [overlap_gain(one / burst, two / burst, h2d_ms, d2h_ms) for one, two in paired]
    gains = [gain for gain in every if gain is not None]
    return Streaming(
        precision=precision,
        memory=memory,
        cuda_graph=graph,
        h2d_ms=h2d_ms,
        compute_ms=compute_ms,
        d2h_ms=d2h_ms,
        frame_p50_ms=serial.stages["alone"].p50_ms,
        frame_p99_ms=serial.stages["alone"].p99_ms,
        serial_ms=serial_ms,
        overlapped_ms=overlapped_ms,
        faster=overlapped.ratio_to(serial),
        hidden=(median(gains), min(gains), max(gains)) if gains and memory == "copy" else None,
        unstable=serial.unstable or overlapped.unstable,
    )


def _ratios(precision: str, measured: dict[tuple[str, str], tuple[Measurement, Measurement]]) -> list[Ratio]:
    """What a CUDA graph gives, and mapped memory; for every mode of which both sides ran."""
    ratios = []
    for way, kind in enumerate(("serial", "overlapped")):
        for memory in ("copy", "mapped"):
            if (memory, "on") in measured and (memory, "off") in measured:
                faster = measured[memory, "on"][way].ratio_to(measured[memory, "off"][way])
                ratios.append(Ratio(precision, f"CUDA graph on against off ({memory}, {kind})", faster))
        for graph in ("on", "off"):
            if ("mapped", graph) in measured and ("copy", graph) in measured:
                faster = measured["mapped", graph][way].ratio_to(measured["copy", graph][way])
                ratios.append(Ratio(precision, f"mapped against copy (CUDA graph {graph}, {kind})", faster))
    return ratios


def made_bundle(architecture: str, size_hw: tuple[int, int]) -> Bundle:
    """A network of ours with random weights and every graph for TensorRT, ranges and golden frames of the street.

    INT8 must agree with FP32 on half of the pixels only: the margins between random classes are thin.
    """
    from cpu_engines import settled_network

    from edgeseg.compiler.calibration.collect import ranges_from_frames
    from edgeseg.compiler.quantize.emit import emitted_onnx
    from edgeseg.compiler.steps.float_graph import float_graph_from_module
    from edgeseg.demo import CLASSES, PALETTE
    from edgeseg.preprocess import NetworkFrames
    from edgeseg.recipes import RECIPES, Fp32

    spec = ModelSpec(CLASSES, PALETTE, size_hw, ignore_id=len(CLASSES))
    data = StreetDataset(SOURCE)
    graph = float_graph_from_module(settled_network(architecture), spec)
    ranges = ranges_from_frames(graph, NetworkFrames(data, spec))
    recipes = {"fp32": Fp32(), **{name: RECIPES[name] for name in ("int8-tensorrt", "int8-fp16", "fp16")}}
    network = {"architecture": architecture, "encoder": "mobilenet_v2", "classes": len(CLASSES)}
    return Bundle(
        spec,
        {
            name: GraphEntry(emitted_onnx(graph, ranges, recipe).SerializeToString(), recipe)
            for name, recipe in recipes.items()
        },
        ranges=ranges,
        golden=golden_of(graph.SerializeToString(), data, spec),
        report=Report(limits=Limits(min_agreement=0.5)),
        provenance={"network": network, "note": "random weights"},
    )


def golden_of(onnx: bytes, data: StreetDataset, spec: ModelSpec) -> Golden:
    """Four frames at network size, what FP32 says of them, and their true labels."""
    samples = [data[index] for index in range(0, len(data), len(data) // 4)]
    frames = np.stack([spec.resized(sample.frame) for sample in samples])
    with OrtEngine(onnx, "fp32") as engine:
        classes = np.concatenate([engine.infer(frame[None]).copy() for frame in frames])
    labels = [spec.resized_labels(sample.label) for sample in samples if sample.label is not None]
    return Golden(frames, np.stack(labels), classes)


def chosen_bundle(path: Path | None, size: str | None, network: str | None) -> tuple[Bundle, str]:
    """The bundle to measure and what it is. Raises EdgesegError."""
    if size is None and network is None:
        return bundle_or_default(path, None)
    require("torch", "train")
    require("onnx", "compile")
    size_hw, architecture = size_hw_from(size or "512x512"), network or "unet"
    named = f"{architecture} + mobilenet_v2 {size_hw[1]}x{size_hw[0]}, random weights"
    return made_bundle(architecture, size_hw), named


def gpu_facts() -> dict[str, str]:
    """What nvidia-smi says now; empty where there is none, as on most Jetsons."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return {}
    query = [command, f"--query-gpu={','.join(_SMI)}", "--format=csv,noheader", "--id=0"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    return parsed_smi(answer)


def parsed_smi(line: str) -> dict[str, str]:
    """One line of nvidia-smi's answer, less what it does not know."""
    values = [value.strip() for value in line.strip().split("\n")[0].split(",")]
    known = zip(_SMI, values) if len(values) == len(_SMI) else ()
    return {key: value for key, value in known if value and not value.startswith("[")}


def versions() -> dict[str, str]:
    """Package -> version, of those that are installed; CUDA and cuDNN as PyTorch brings them."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    torch = sys.modules.get("torch")
    if torch is not None:
        found["torch's CUDA"] = str(torch.version.cuda)
        found["torch's cuDNN"] = str(torch.backends.cudnn.version())
    return found


def clocks() -> dict[str, Any]:
    """Power mode and clocks now: taken before and after, since both move a GPU's numbers more than anything else."""
    device = detected_device()
    board = {"power_mode": device.power_mode, "gpu_mhz": device.gpu_mhz, "clocks_locked": device.clocks_locked}
    return {**gpu_facts(), **(board if device.is_jetson else {})}


def markdown(document: dict[str, Any]) -> str:
    """The whole report."""
    lines = [
        f"edgeseg {document['edgeseg']}, {document['model']}, {document['size']}, {document['frames']}",
        f"{document['machine']}; {document['tensorrt'] or 'no TensorRT'}; {_listed(document['versions'])}",
        f"before: {_listed(document['before'])}; after: {_listed(document['after'])}",
        "",
    ]
    if document["contenders"]:
        reference = document["contenders"][0]["name"]
        lines += [
            f"| contender | p50 ms | p90 | p99 | pre | infer | post | faster than {reference} | as FP32 on the host |",
            "|---|---|---|---|---|---|---|---|---|",
            *map(_contender_line, document["contenders"]),
            "",
        ]
    if document["streaming"]:
        lines += [
            "| TensorRT | memory | CUDA graph | h2d ms | compute | d2h | frame p50 | p99 | serial fps | overlapped fps "
            "| overlapped is faster by | copies hidden |",
            f"|{'---|' * 12}",
            *(_streaming_line(row) for row in document["streaming"]),
            "",
        ]
    if document["ratios"]:
        lines += ["| TensorRT | what | faster by (paired turns) |", "|---|---|---|"]
        lines += [f"| {row['precision']} | {row['what']} | {_times(row['faster'])} |" for row in document["ratios"]]
        lines.append("")
    lines += [f"- {name}: {note}" for name, note in document["notes"].items()]
    lines += [f"- {name}: skipped: {reason}" for name, reason in document["skipped"].items()]
    return "\n".join(lines)


def _contender_line(row: dict[str, Any]) -> str:
    frame, stages = row["ms_per_frame"], row["stages_ms"]
    times = [frame["p50_ms"], frame["p90_ms"], frame["p99_ms"]]
    times += [stages[stage]["p50_ms"] for stage in ("preprocess", "infer", "postprocess")]
    agrees = "-" if row["agreement"] is None else f"{100 * row['agreement']:.2f} %"
    name = row["name"] + (" (UNSTABLE)" if row["unstable"] else "")
    return f"| {' | '.join([name, *(f'{ms:.3f}' for ms in times), _times(row['faster_than_first']), agrees])} |"


def _streaming_line(row: dict[str, Any]) -> str:
    name = row["precision"] + (" (UNSTABLE)" if row["unstable"] else "")
    times = [row[key] for key in ("h2d_ms", "compute_ms", "d2h_ms", "frame_p50_ms", "frame_p99_ms")]
    rates = [f"{1e3 / row[key]:.0f}" for key in ("serial_ms", "overlapped_ms")]
    hidden = "-" if row["hidden"] is None else "{:.0%} ({:.0%} to {:.0%})".format(*row["hidden"])
    cells = [name, row["memory"], row["cuda_graph"], *(f"{ms:.3f}" for ms in times), *rates]
    return f"| {' | '.join([*cells, _times(row['faster']), hidden])} |"


def _times(ratio: Sequence[float]) -> str:
    return "{:.2f}x ({:.2f}-{:.2f})".format(*ratio)


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items()) or "unknown"


def measured(
    bundle: Bundle,
    model: str,
    of: Sequence[Candidate],
    factory: TensorRtFactory | None,
    frames: Sequence[np.ndarray],
    *,
    seconds: float,
    warmup_s: float,
    say: Say,
    clock_ns: Clock = time.perf_counter_ns,
    precisions: Sequence[str] = PRECISIONS,
    burst: int = BURST,
) -> dict[str, Any]:
    """Both tables as JSON-ready lists: contenders, streaming, ratios, notes and skipped. Nothing where nothing runs."""
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        opened, notes, skipped = contenders(of, stack, say)
        if opened:
            say(f"timing {len(opened)} contenders in alternating turns, {seconds:g} s each after {warmup_s:g} s")
            comparable = {candidate.name for candidate in of if candidate.runs_the_bundle}
            agrees = {one.name: agreement(one, bundle) if one.name in comparable else None for one in opened}
            results = measured_side_by_side(opened, frames, Effort(seconds, warmup_s), clock_ns=clock_ns)
            rows = [
                {**m.to_json(), "faster_than_first": m.ratio_to(results[0]), "agreement": agrees[m.name]}
                for m in results
            ]
    streams: list[Streaming] = []
    ratios: list[Ratio] = []
    for precision in precisions:
        if factory is None:
            break
        say(f"{precision}: one frame after the other against two in flight, in {len(MODES)} modes")
        try:
            some, more, reasons = streaming(
                bundle,
                model,
                factory,
                precision,
                frames,
                seconds=seconds,
                warmup_s=warmup_s,
                clock_ns=clock_ns,
                burst=burst,
            )
        except EdgesegError as error:  # what was measured before is not lost
            skipped[f"{precision}, all modes"] = str(error)
            continue
        streams, ratios = streams + some, ratios + more
        skipped.update(reasons)
    return {
        "contenders": rows,
        "streaming": [asdict(row) for row in streams],
        "ratios": [asdict(ratio) for ratio in ratios],
        "notes": notes,
        "skipped": skipped,
    }


def reachable(flavour: str, say: Say) -> tuple[TensorRtFactory | EdgesegError, bool]:
    """(TensorRT or why there is none, whether anything at all can run here)."""
    factory: TensorRtFactory | EdgesegError
    try:
        factory = tensorrt_with_gpu(flavour, say)
    except EdgesegError as error:
        factory = error
    some = not isinstance(factory, EdgesegError)
    for find in (torch_with_gpu, onnxruntime_with_gpu):
        try:
            find()
            some = True
        except EdgesegError:
            continue
    return factory, some


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?", help="else the newest *.edgeseg here, else the shipped one")
    parser.add_argument("--flavour", choices=tuple(FLAVOURS), default="tensorrt")
    parser.add_argument("--size", help="WIDTHxHEIGHT of a network made here, of random weights")
    parser.add_argument("--network", choices=("unet", "edge_unet"), help="that network; unet if only --size is given")
    parser.add_argument("--seconds", type=float, default=10.0, help="per contender")
    parser.add_argument("--warmup", type=float, default=3.0, help="seconds per contender")
    parser.add_argument("--json", type=Path, help="store the raw output")
    options = parser.parse_args(arguments)
    if options.bundle is not None and (options.size or options.network):
        parser.error("a bundle has its own size and network; leave --size and --network out, or the bundle")
    return options


def report(options: argparse.Namespace, say: Say) -> dict[str, Any]:
    """Measure what can be measured. Raises EdgesegError for a bundle that cannot be read or made."""
    found, some = reachable(options.flavour, say)
    usable = None if isinstance(found, EdgesegError) else found

    def factory() -> TensorRtFactory:
        if isinstance(found, EdgesegError):
            raise found
        return found

    # Where nothing will run, no network is made.
    bundle, model = chosen_bundle(options.bundle, *((options.size, options.network) if some else (None, None)))
    stem = model_stem(model.split(",")[0])
    before = clocks()
    images = StreetDataset(SOURCE)
    tables = measured(
        *(bundle, stem, candidates(bundle, stem, options.flavour, factory), usable),
        [images[index].frame for index in range(len(images))],
        seconds=options.seconds,
        warmup_s=options.warmup,
        say=say,
    )
    return {
        "schema": 1,
        "edgeseg": __version__,
        "measured": bool(tables["contenders"] or tables["streaming"]),
        "model": model if some else "",
        "size": f"{bundle.spec.size_hw[1]}x{bundle.spec.size_hw[0]}" if some else "",
        "frames": images.description,
        "seconds": options.seconds,
        "warmup_s": options.warmup,
        "machine": detected_device().describe(),
        "device": detected_device().to_json(),
        "tensorrt": "" if usable is None else usable.api.name,
        "versions": versions(),
        "before": before,
        "after": clocks(),
        **tables,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report, or why there is none. Returns the exit code."""
    options = parsed(arguments)

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    try:
        document = report(options, say)
    except EdgesegError as error:
        say(f"error: {error}")
        return error.exit_code
    if options.json is not None:
        atomic_write(options.json, json.dumps(document, indent=1).encode())
    if document["measured"]:
        print(markdown(document))
        return 0
    for name, reason in document["skipped"].items():
        print(f"{name}: skipped: {reason}")
    print(NOTHING)
    return 0


if __name__ == "__main__":
    sys.exit(main())
