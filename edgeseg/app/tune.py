"""Choose what runs a bundle on this device, by measuring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Sequence

from edgeseg.app.bench import frames_of
from edgeseg.app.bench_config import TuneConfig
from edgeseg.app.data import dataset_from
from edgeseg.app.engines import FactoryFrom, host_choices, quiet_factory
from edgeseg.app.models import bundle_or_default, model_stem
from edgeseg.errors import EdgesegError, UsageError
from edgeseg.progress import Progress

if TYPE_CHECKING:
    import numpy as np

    from edgeseg.bench.candidates import Tuning
    from edgeseg.bundle import Bundle
    from edgeseg.device.detect import Device
    from edgeseg.engines.host_choice import HostChoice
    from edgeseg.engines.tensorrt.factory import TensorRtFactory, TensorRtOptions

__all__ = ["TuningReport", "tune"]


@dataclass(frozen=True)
class TuningReport:
    """What was tried and taken.

    Attributes:
        model: the bundle, with the reason for it.
        device: this machine.
        source: what the frames are of.
        tuning: the candidates.
        not_kept: why later runs will not take the fastest; empty when they will.
    """

    model: str
    device: Device
    source: str
    tuning: Tuning[Any]
    not_kept: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        return {
            "model": self.model,
            "device": self.device.to_json(),
            "candidates": [candidate.to_json() for candidate in self.tuning.candidates],
            "best": self.tuning.best.name,
            "not_kept": self.not_kept,
        }


def tune(
    config: TuneConfig, progress: Progress = Progress(), *, factory_from: FactoryFrom = quiet_factory
) -> TuningReport:
    """Time all that can run a bundle here and passes its self-test, and remember the fastest.

    On a Jetson these are the precisions of TensorRT, elsewhere the engines of the CPU with their graphs and threads.

    Args:
        config: of the measurement.
        progress: takes a line per step.
        factory_from: gives the maker of TensorRT engines.

    Raises:
        UsageError: there is no such flavour.
        EdgesegError: the bundle, the frames or TensorRT cannot be used, or no candidate passed.
    """
    from edgeseg.device.detect import detected_device
    from edgeseg.engines.tensorrt.api import FLAVOURS

    flavours = ("auto", "cpu", *FLAVOURS)
    if config.flavour not in flavours:
        raise UsageError(f"`flavour` is {' or '.join(flavours)}, got {config.flavour!r}")
    bundle, name = bundle_or_default(config.model, config.require_signature)
    images = dataset_from(config.source)
    frames = frames_of(images)
    device = detected_device()
    progress.step(f"model: {name}")
    progress.step(f"device: {device.describe()}")
    flavour = config.flavour if config.flavour != "auto" else "tensorrt" if device.is_jetson else "cpu"
    tuning: Tuning[Any]
    if flavour == "cpu":
        tuning = _tuned_on_host(config, bundle, frames, device, progress)
        not_kept = _why_not_kept(tuning, lambda: host_choices().keep(bundle, tuning.best.way))
        return TuningReport(name, device, images.description, tuning, not_kept)
    with factory_from(flavour, progress.step) as factory:
        tuning = _tuned_in_tensorrt(config, bundle, model_stem(name), frames, factory, progress)
        not_kept = _why_not_kept(tuning, lambda: factory.choose(bundle, "tune", tuning.best.way))
    return TuningReport(name, device, images.description, tuning, not_kept)


def _why_not_kept(tuning: Tuning[Any], keep: Callable[[], None]) -> str:
    """Keep a choice of a whole measurement. What was measured is not lost where the disk refuses it."""
    if tuning.is_interrupted:
        return "the measurement was interrupted, so no choice was kept"
    try:
        keep()
    except (OSError, EdgesegError) as error:
        why = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else error
        return f"the choice was not kept, so later runs do not take it: {why}"
    return ""


def _tuned_on_host(
    config: TuneConfig, bundle: Bundle, frames: Sequence[np.ndarray], device: Device, progress: Progress
) -> Tuning[HostChoice]:
    from edgeseg.bench.measure import Effort
    from edgeseg.bench.tune_host import host_candidates, tuned_on_host

    tried = host_candidates(bundle, device)
    progress.step(f"{len(tried)} candidates, {config.seconds:g} s each after {config.warmup:g} s of warm-up")
    effort = Effort(config.seconds, config.warmup)
    return tuned_on_host(bundle, tried, frames, effort, on_result=progress.step, report=progress.count)


def _tuned_in_tensorrt(
    config: TuneConfig,
    bundle: Bundle,
    model: str,
    frames: Sequence[np.ndarray],
    factory: TensorRtFactory,
    progress: Progress,
) -> Tuning[TensorRtOptions]:
    from edgeseg.bench.tune import candidates, tuned

    tried = candidates(factory, factory.dla_cores())
    progress.step(
        f"up to {len(tried)} candidates, each built, then {config.seconds:g} s after {config.warmup:g} s of warm-up"
    )
    return tuned(
        factory,
        bundle,
        model,
        tried,
        frames,
        seconds=config.seconds,
        warmup_s=config.warmup,
        on_result=progress.step,
    )
