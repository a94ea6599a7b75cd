"""Measure this machine: every graph of a bundle in every engine, side by side with PyTorch eager."""

from __future__ import annotations

import importlib.util
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Iterator, Sequence

from edgeseg import __version__
from edgeseg.app.bench_config import BenchConfig
from edgeseg.app.data import dataset_from, size_hw_from
from edgeseg.app.engines import FactoryFrom, engine_name, quiet_factory
from edgeseg.app.models import bundle_or_default, model_stem
from edgeseg.bundle import Bundle
from edgeseg.errors import EdgesegError, UsageError
from edgeseg.images import Dataset
from edgeseg.labels import refuse_unusable_labels
from edgeseg.progress import Progress

if TYPE_CHECKING:
    import numpy as np

    from edgeseg.bench.measure import Contender, Measurement
    from edgeseg.device.detect import Device
    from edgeseg.engines.base import Engine

__all__ = ["BenchReport", "bench"]

_FRAMES = 64


@dataclass(frozen=True)
class BenchReport:
    """What was measured.

    Attributes:
        config: of the measurement.
        model: the bundle, with the reason why it was taken.
        size_hw: of the network's input.
        device: this machine.
        source: what the frames are of.
        measured: of every contender, ours first.
        miou: by the names of contenders; empty where no labels were given.
        throttled: why the numbers are not to be trusted, a line each.
        missing: packages without which PyTorch was not timed.
    """

    config: BenchConfig
    model: str
    size_hw: tuple[int, int]
    device: Device
    source: str
    measured: Sequence[Measurement]
    miou: dict[str, float]
    throttled: Sequence[str]
    missing: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict; accuracies that were not measured are None."""
        ours = self.measured[0]
        return {
            "edgeseg": __version__,
            "model": self.model,
            "size_hw": list(self.size_hw),
            "device": self.device.to_json(),
            "source": self.source,
            "seconds": self.config.seconds,
            "warmup_s": self.config.warmup,
            "threads": self.config.threads,
            "throttled": self.throttled,
            "contenders": [
                {**one.to_json(), "miou": self.miou.get(one.name), "ours_is_times_faster": list(ours.ratio_to(one))}
                for one in self.measured
            ],
        }


@dataclass(frozen=True)
class _Opening:
    """How engines are opened: what closes them, what takes lines for people, what makes those of TensorRT."""

    stack: ExitStack
    tell: Callable[[str], None]
    factory_from: FactoryFrom


def bench(
    config: BenchConfig, progress: Progress = Progress(), *, factory_from: FactoryFrom = quiet_factory
) -> BenchReport:
    """Time the graphs of a bundle in every engine of this machine, in alternating turns.

    Args:
        config: of the measurement.
        progress: takes a line per step, and counts inside long steps.
        factory_from: gives the maker of TensorRT engines.

    Raises:
        UsageError: a value cannot be used.
        EdgesegError: the bundle, the frames, the labels or an engine cannot be used.
    """
    from edgeseg.bench.measure import measured_side_by_side
    from edgeseg.device.detect import detected_device
    from edgeseg.device.telemetry import Telemetry, throttled_between

    bundle, name = bundle_or_default(config.model, config.require_signature)
    images = dataset_from(config.source)
    frames = frames_of(images)
    device, telemetry = detected_device(), Telemetry()
    missing = _missing_for_torch() if config.torch else []
    engines = _engines(config.engine)
    labelled = _labelled(config, bundle)
    with ExitStack() as stack:
        opening = _Opening(stack, progress.step, factory_from)
        progress.step(f"edgeseg {__version__}, {name}, {bundle.spec.size_hw[1]}x{bundle.spec.size_hw[0]}")
        progress.step(device.describe())
        opened = []
        for contender, engine in _contenders(bundle, name, engines, config.threads, opening):
            progress.step(f"opened {contender.name}")
            opened.append((contender, engine))
        contenders = [contender for contender, _ in opened]
        if config.torch and not missing:
            progress.step("opening PyTorch")
            contenders.append(_torch_contender(config, bundle))
        miou = {}
        if labelled is not None:
            miou = {one.name: _miou(one.name, engine, bundle, labelled, progress) for one, engine in opened}
        progress.step(f"graphs are timed in {' and in '.join(engines)}")
        progress.step(
            f"timing {len(contenders)} contenders in alternating turns, {config.seconds:g} s each after "
            f"{config.warmup:g} s of warm-up: about {len(contenders) * (config.seconds + config.warmup):.0f} s"
        )
        before = telemetry.sample()
        measured = measured_side_by_side(
            contenders, frames, seconds=config.seconds, warmup_s=config.warmup, report=progress.count
        )
        throttled = throttled_between(before, telemetry.sample())
    return BenchReport(
        config, name, bundle.spec.size_hw, device, images.description, measured, miou, throttled, missing
    )


def frames_of(images: Dataset) -> list[np.ndarray]:
    """Return at most 64 frames to time with, HxWx3 uint8 BGR. Raises ImageError."""
    return [images[index].frame for index in range(min(len(images), _FRAMES))]


def _labelled(config: BenchConfig, bundle: Bundle) -> Dataset | None:
    if config.data is None:
        return None
    labelled = dataset_from(config.data, spec=bundle.spec, need_labels=True)
    refuse_unusable_labels(labelled, bundle.spec)
    return labelled


def _miou(name: str, engine: Engine, bundle: Bundle, labelled: Dataset, progress: Progress) -> float:
    from edgeseg.engines.evaluate import evaluate_engine

    def done(index: int, classes: Any) -> None:
        progress.count(f"mIoU of {name}", index + 1, len(labelled))

    return evaluate_engine(engine, bundle.spec, labelled, on_map=done).miou()


def _engines(asked: str) -> list[str]:
    """Return what to time: one engine, or all that are here."""
    from edgeseg.engines.select import ENGINES, installed_engines

    if asked != "auto" and ENGINES[asked].takes_program:
        raise UsageError("bench times bundles; a program of torch-tensorrt is timed by 'edgeseg run --program'")
    if asked != "auto":
        return [asked]
    on_board = ["tensorrt"] if engine_name(asked) == "tensorrt" else []
    return on_board + installed_engines()


def _torch_contender(config: BenchConfig, bundle: Bundle) -> Contender:
    """Return PyTorch eager at a size that its network takes: multiples of 32."""
    from edgeseg.bench.contenders import torch_contender

    height, width = size_hw_from(config.torch_size) if config.torch_size else bundle.spec.size_hw
    size_hw = (height + -height % 32, width + -width % 32)
    return torch_contender(size_hw, len(bundle.spec.classes), config.threads)


def _missing_for_torch() -> list[str]:
    names = ("torch", "segmentation_models_pytorch")
    return [name for name in names if importlib.util.find_spec(name) is None]


def _contenders(
    bundle: Bundle, name: str, engines: Sequence[str], threads: int, opening: _Opening
) -> Iterator[tuple[Contender, Engine]]:
    """Open every graph in every engine until the stack closes."""
    from edgeseg.bench.contenders import engine_contender
    from edgeseg.engines.select import ENGINES, cpu_graphs, engine_from_bundle

    for by in engines:
        if ENGINES[by].is_built:
            yield from _tensorrt_contenders(bundle, name, by, opening)
            continue
        for graph in cpu_graphs(bundle):
            engine = opening.stack.enter_context(engine_from_bundle(bundle, graph, threads=threads, engine=by))
            yield engine_contender(graph if by == "onnxruntime" else f"{graph} in {by}", engine, bundle.spec), engine


def _tensorrt_contenders(
    bundle: Bundle, name: str, flavour: str, opening: _Opening
) -> Iterator[tuple[Contender, Engine]]:
    """Open what ``edgeseg run`` would take, INT8 and FP16; a precision that TensorRT refuses is said and left out."""
    from edgeseg.bench.contenders import engine_contender
    from edgeseg.engines.tensorrt.factory import TensorRtOptions

    with opening.factory_from(flavour, opening.tell) as factory:
        timed = set()
        for precision in (None, "int8", "fp16"):
            try:
                made = factory.open(bundle, model_stem(name), TensorRtOptions(precision=precision))
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
            yield engine_contender(f"{made.precision} in TensorRT", engine, bundle.spec), engine
