"""Measure this machine: every graph of bundles in every engine, side by side with PyTorch eager."""

from __future__ import annotations

import importlib.util
import math
import re
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Iterator, Mapping, NamedTuple, Sequence

from edgeseg import __version__
from edgeseg.app.bench_config import BenchConfig
from edgeseg.app.calibration_rows import CalibrationRows
from edgeseg.app.data import dataset_from, size_hw_from
from edgeseg.app.engines import FactoryFrom, cpu_pick, engine_name, quiet_factory
from edgeseg.app.models import bundle_or_default, model_stem
from edgeseg.bundle import Bundle
from edgeseg.errors import EdgesegError, UsageError
from edgeseg.images import Dataset
from edgeseg.labels import refuse_unusable_labels
from edgeseg.progress import Progress

if TYPE_CHECKING:
    import numpy as np

    from edgeseg.bench.camera_rate import CameraRate
    from edgeseg.bench.compare import Comparison
    from edgeseg.bench.layers import LayerTime
    from edgeseg.bench.measure import Contender, Measurement
    from edgeseg.bench.soak import Soak
    from edgeseg.device.detect import Device
    from edgeseg.engines.base import Engine
    from edgeseg.engines.host_choice import HostChoice

__all__ = ["Beside", "BenchReport", "bench", "compare"]

_FRAMES = 64
_SOAK = re.compile(r"([0-9]+(?:\.[0-9]+)?)(s|m|h)")
_UNITS_S = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Beside:
    """What was measured of a contender beside its times. What was not asked for is None or empty.

    Attributes:
        miou: mean IoU.
        worst_class: name of the class with the lowest IoU, and that.
        peak_memory_mib: of a process that runs the graph alone.
        camera: ages of results at the rate of a camera.
        layers: times, slowest first.
    """

    miou: float | None = None
    worst_class: tuple[str, float] | None = None
    peak_memory_mib: float | None = None
    camera: CameraRate | None = None
    layers: Sequence[LayerTime] = ()

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        return {
            "miou": None if self.miou is None or math.isnan(self.miou) else self.miou,
            "worst_class": self.worst_class,
            "peak_memory_mib": self.peak_memory_mib,
            "camera": None if self.camera is None else self.camera.to_json(),
            "layers": [layer.to_json() for layer in self.layers],
        }


@dataclass(frozen=True)
class BenchReport:
    """What was measured.

    Attributes:
        config: of the measurement.
        models: the bundles, each with the reason why it was taken.
        size_hw: of the first network's input.
        device: this machine.
        source: what the frames are of.
        measured: of every contender, ours first; none for a soak.
        beside: by the names of contenders.
        soak: of the first contender, where it was asked for.
        throttled: why the numbers are not to be trusted, a line each.
        missing: packages without which PyTorch was not timed.
    """

    config: BenchConfig
    models: Sequence[str]
    size_hw: tuple[int, int]
    device: Device
    source: str
    measured: Sequence[Measurement]
    beside: Mapping[str, Beside]
    soak: Soak | None
    throttled: Sequence[str]
    missing: Sequence[str]

    def of(self, measurement: Measurement) -> Beside:
        """Return what was measured beside the times of a contender."""
        return self.beside.get(measurement.name, Beside())

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict; what was not measured is None."""
        return {
            "edgeseg": __version__,
            "model": ", ".join(self.models),
            "size_hw": list(self.size_hw),
            "device": self.device.to_json(),
            "source": self.source,
            "seconds": self.config.seconds,
            "calls": self.config.calls,
            "warmup_s": self.config.warmup,
            "threads": list(self.config.threads),
            "throttled": list(self.throttled),
            "contenders": [
                {
                    **one.to_json(),
                    **self.of(one).to_json(),
                    "ours_is_times_faster": list(self.measured[0].ratio_to(one)),
                }
                for one in self.measured
            ],
            "soak": None if self.soak is None else self.soak.to_json(),
        }


@dataclass(frozen=True)
class _Opened:
    """An engine and what is timed of it."""

    contender: Contender
    engine: Engine
    bundle: Bundle
    graph: str
    by: str
    threads: int


class _Model(NamedTuple):
    """A bundle, its name with the reason why it was taken, and what its contenders are called by besides a graph."""

    bundle: Bundle
    name: str
    prefix: str


@dataclass(frozen=True)
class _Opening:
    """How engines are opened: what closes them, what takes lines for people, what makes those of TensorRT."""

    stack: ExitStack
    tell: Callable[[str], None]
    factory_from: FactoryFrom
    threads: Sequence[int]

    def suffix(self, threads: int) -> str:
        """Return what tells a contender from that with other threads."""
        return f", {threads or 'all'} threads" if len(self.threads) > 1 else ""


def bench(
    config: BenchConfig, progress: Progress = Progress(), *, factory_from: FactoryFrom = quiet_factory
) -> BenchReport:
    """Time the graphs of bundles in every engine of this machine, in alternating turns.

    Args:
        config: of the measurement.
        progress: takes a line per step, and counts inside long steps.
        factory_from: gives the maker of TensorRT engines.

    Raises:
        UsageError: a value cannot be used.
        EdgesegError: a bundle, the frames, the labels or an engine cannot be used.
    """
    from edgeseg.bench.measure import Effort, measured_side_by_side
    from edgeseg.bench.soak import soaked
    from edgeseg.device.detect import detected_device
    from edgeseg.device.telemetry import Telemetry, throttled_between

    soak_s = _soak_seconds(config.soak)
    models = _models(config)
    images = dataset_from(config.source)
    frames = frames_of(images)
    device, telemetry = detected_device(), Telemetry()
    missing = _missing_for_torch() if config.torch and not soak_s else []
    engines = _engines(config.engine)
    rows = None if config.calibrate is None else CalibrationRows(config.calibrate, device, engines)
    labelled = _labelled(config, models)
    soak, measured, beside = None, [], {}
    with ExitStack() as stack:
        opening = _Opening(stack, progress.step, factory_from, tuple(dict.fromkeys(config.threads)))
        for model in models:
            height, width = model.bundle.spec.size_hw
            progress.step(f"edgeseg {__version__}, {model.name}, {width}x{height}")
        progress.step(device.describe())
        opened = []
        for one in _contenders(models, engines, opening, _unasked(config.engine, models[0].bundle, progress)):
            progress.step(f"opened {one.contender.name}")
            opened.append(one)
            if soak_s:
                break
        before = telemetry.sample()
        if soak_s:
            progress.step(f"running {opened[0].contender.name} for {config.soak}, without a warm-up")
            soak = soaked(opened[0].contender, frames, soak_s, telemetry.sample, report=progress.count)
        else:
            contenders = [one.contender for one in opened]
            if config.torch and not missing:
                progress.step("opening PyTorch")
                contenders.append(_torch_contender(config, models[0].bundle))
            progress.step(f"graphs are timed in {' and in '.join(engines)}")
            progress.step(_announced(config, len(contenders)))
            effort = Effort(config.seconds, config.warmup, config.calls, config.warmup_calls)
            measured = measured_side_by_side(contenders, frames, effort, sample=telemetry.sample, report=progress.count)
            beside = {one.contender.name: _beside(one, config, frames, labelled, progress) for one in opened}
            if rows is not None:
                progress.step(rows.add([(one.bundle, times) for one, times in zip(opened, measured)]))
        throttled = throttled_between(before, telemetry.sample())
    names, size_hw = [model.name for model in models], models[0].bundle.spec.size_hw
    return BenchReport(config, names, size_hw, device, images.description, measured, beside, soak, throttled, missing)


def _models(config: BenchConfig) -> list[_Model]:
    """Read the bundles. Of two with one name the second has a number."""
    found: list[_Model] = []
    for path in config.models or (None,):
        bundle, name = bundle_or_default(path, config.require_signature)
        prefix = f"{model_stem(name)}: " if len(config.models) > 1 else ""
        again = sum(model_stem(model.name) == model_stem(name) for model in found)
        found.append(_Model(bundle, name, f"{model_stem(name)} ({again + 1}): " if again else prefix))
    return found


def compare(config: BenchConfig) -> Comparison:
    """Compare two results of ``bench``, whose files ``config.models`` names, before and after.

    Raises:
        UsageError: they are not two, or cannot be compared. InputError: one cannot be read.
    """
    from edgeseg.bench.compare import compared, result_from_file

    if len(config.models) != 2:
        raise UsageError(f"`compare` takes two files of `result`, got {len(config.models)}")
    before, after = (result_from_file(path) for path in config.models)
    return compared(before, after)


def _announced(config: BenchConfig, contenders: int) -> str:
    said = f"timing {contenders} contenders in alternating turns, "
    if config.calls:
        return f"{said}{config.calls} calls each after {config.warmup:g} s of warm-up"
    took = contenders * (config.seconds + config.warmup)
    return f"{said}{config.seconds:g} s each after {config.warmup:g} s of warm-up: about {took:.0f} s"


def _soak_seconds(text: str) -> float:
    """Return the seconds of a text such as ``20m``; 0 for an empty one."""
    found = _SOAK.fullmatch(text)
    if text and (found is None or not float(found[1])):
        raise UsageError(f"`soak` is a time such as 90s, 20m or 1h, got {text!r}")
    return 0.0 if found is None else float(found[1]) * _UNITS_S[found[2]]


def frames_of(images: Dataset) -> list[np.ndarray]:
    """Return at most 64 frames to time with, HxWx3 uint8 BGR. Raises ImageError."""
    return [images[index].frame for index in range(min(len(images), _FRAMES))]


def _labelled(config: BenchConfig, models: Sequence[_Model]) -> Dataset | None:
    """Return labelled data that fits every bundle."""
    if config.data is None:
        return None
    spec = models[0].bundle.spec
    for model in models:
        if model.bundle.spec.classes != spec.classes:
            raise UsageError(f"{model.name} has other classes than {models[0].name}; time them with `data` one by one")
    labelled = dataset_from(config.data, spec=spec, need_labels=True)
    refuse_unusable_labels(labelled, spec)
    return labelled


def _beside(
    one: _Opened, config: BenchConfig, frames: Sequence[np.ndarray], labelled: Dataset | None, progress: Progress
) -> Beside:
    """Measure what was asked for beside the times. No engine is timed meanwhile."""
    from edgeseg.bench.camera_rate import at_camera_rate
    from edgeseg.bench.layers import LAYER_TIMERS, layer_times
    from edgeseg.bench.memory import peak_memory_mib
    from edgeseg.engines.select import CPU_ENGINES

    name, onnx = one.contender.name, one.bundle.graphs[one.graph].onnx if one.graph in one.bundle.graphs else b""
    miou, worst = (None, None) if labelled is None else _accuracy(one, labelled, progress)
    memory = None
    if config.memory and one.by in CPU_ENGINES:
        progress.step(f"peak memory of {name}")
        memory = peak_memory_mib(one.by, one.graph, onnx, one.threads)
    camera = None
    if config.camera_fps:
        progress.step(f"{name} behind a camera of {config.camera_fps:g} frames per second, {config.seconds:g} s")
        camera = at_camera_rate(one.contender, frames, config.camera_fps, config.seconds)
    layers: Sequence[LayerTime] = ()
    if config.layers and one.by in LAYER_TIMERS:
        progress.step(f"layers of {name}")
        one.bundle.spec.resized(frames[0], out=one.engine.input[0])
        layers = layer_times(one.by, onnx, one.engine.input, threads=one.threads)
    return Beside(miou, worst, memory, camera, layers)


def _accuracy(one: _Opened, labelled: Dataset, progress: Progress) -> tuple[float, tuple[str, float] | None]:
    from edgeseg.engines.evaluate import evaluate_engine

    def done(index: int, classes: Any) -> None:
        progress.count(f"mIoU of {one.contender.name}", index + 1, len(labelled))

    confusion = evaluate_engine(one.engine, one.bundle.spec, labelled, on_map=done)
    known = {name: float(iou) for name, iou in zip(one.bundle.spec.classes, confusion.iou()) if iou == iou}
    worst = min(known.items(), key=lambda item: item[1], default=None)
    return confusion.miou(), worst


def _engines(asked: str) -> list[str]:
    """Return what to time: one engine, or all that are here."""
    from edgeseg.engines.select import ENGINES, installed_engines

    if asked != "auto" and ENGINES[asked].takes_program:
        raise UsageError("bench times bundles; a program of torch-tensorrt is timed by 'edgeseg run --program'")
    if asked != "auto":
        return [asked]
    on_board = ["tensorrt"] if engine_name(asked) == "tensorrt" else []
    return on_board + installed_engines()


def _unasked(asked: str, bundle: Bundle, progress: Progress) -> HostChoice | None:
    """Return what ``auto`` takes on this CPU, which is timed first, and say it; None where another engine runs."""
    if engine_name(asked) is not None:
        return None
    pick = cpu_pick(bundle)
    progress.step(f"first what runs take: {pick.describe()}")
    return pick.choice


def _torch_contender(config: BenchConfig, bundle: Bundle) -> Contender:
    """Return PyTorch eager at a size that its network takes: multiples of 32."""
    from edgeseg.bench.contenders import torch_contender

    height, width = size_hw_from(config.torch_size) if config.torch_size else bundle.spec.size_hw
    size_hw = (height + -height % 32, width + -width % 32)
    return torch_contender(size_hw, len(bundle.spec.classes), config.threads[0] if config.threads else 0)


def _missing_for_torch() -> list[str]:
    names = ("torch", "segmentation_models_pytorch")
    return [name for name in names if importlib.util.find_spec(name) is None]


def _contenders(
    models: Sequence[_Model], engines: Sequence[str], opening: _Opening, first: HostChoice | None
) -> Iterator[_Opened]:
    """Open every graph of every bundle in every engine until the stack closes, beginning with ``first``."""
    from edgeseg.engines.select import ENGINES, cpu_graphs, engine_from_bundle

    for model in models:
        for by in sorted(engines, key=lambda name: first is not None and name != first.engine):
            if ENGINES[by].is_built:
                yield from _tensorrt_contenders(model, by, opening)
                continue
            for graph in sorted(cpu_graphs(model.bundle), key=lambda name: first is not None and name != first.graph):
                for threads in opening.threads:
                    engine = engine_from_bundle(model.bundle, graph, threads=threads, engine=by)
                    opening.stack.enter_context(engine)
                    called = graph if by == "onnxruntime" else f"{graph} in {by}"
                    yield _opened(model, f"{called}{opening.suffix(threads)}", engine, graph, by, threads)


def _opened(model: _Model, called: str, engine: Engine, graph: str, by: str, threads: int) -> _Opened:
    from edgeseg.bench.contenders import engine_contender

    held, spec = model.bundle.graphs.get(graph), model.bundle.spec
    facts = {
        "model": model_stem(model.name),
        "graph": graph,
        "engine": by,
        "threads": threads,
        "size_hw": list(spec.size_hw),
        "graph_mib": None if held is None else round(len(held.onnx) / 2**20, 3),
    }
    contender = engine_contender(f"{model.prefix}{called}", engine, spec, facts)
    return _Opened(contender, engine, model.bundle, graph, by, threads)


def _tensorrt_contenders(model: _Model, flavour: str, opening: _Opening) -> Iterator[_Opened]:
    """Open what ``edgeseg run`` would take, INT8 and FP16; a precision that TensorRT refuses is said and left out."""
    from edgeseg.engines.tensorrt.factory import TensorRtOptions

    with opening.factory_from(flavour, opening.tell) as factory:
        timed = set()
        for precision in (None, "int8", "fp16"):
            try:
                made = factory.open(model.bundle, model_stem(model.name), TensorRtOptions(precision=precision))
            except EdgesegError as error:
                if precision is None:
                    raise
                opening.tell(f"{precision} in TensorRT is left out: {error}")
                continue
            if made.cached.path in timed:
                made.engine.close()
                continue
            timed.add(made.cached.path)
            engine = opening.stack.enter_context(made.engine)
            yield _opened(model, f"{made.precision} in TensorRT", engine, str(made.precision), flavour, 0)
