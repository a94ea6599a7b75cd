"""Choose which precision to run on this device, by measuring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeseg.app.bench import frames_of
from edgeseg.app.bench_config import TuneConfig
from edgeseg.app.data import dataset_from
from edgeseg.app.engines import FactoryFrom, quiet_factory
from edgeseg.app.models import bundle_or_default, model_stem
from edgeseg.errors import UsageError
from edgeseg.progress import Progress

if TYPE_CHECKING:
    from edgeseg.bench.tune import Tuning
    from edgeseg.device.detect import Device

__all__ = ["TuningReport", "tune"]


@dataclass(frozen=True)
class TuningReport:
    """What was tried and taken: the bundle (with the reason for it), this machine, the frames, the candidates."""

    model: str
    device: Device
    source: str
    tuning: Tuning

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        return {
            "model": self.model,
            "device": self.device.to_json(),
            "candidates": [candidate.to_json() for candidate in self.tuning.candidates],
            "best": self.tuning.best.name,
        }


def tune(
    config: TuneConfig, progress: Progress = Progress(), *, factory_from: FactoryFrom = quiet_factory
) -> TuningReport:
    """Build every precision that this device has, time those that pass their self-test, and remember the fastest.

    Args:
        config: of the measurement.
        progress: takes a line per step.
        factory_from: gives the maker of TensorRT engines.

    Raises:
        UsageError: there is no such flavour.
        EdgesegError: the bundle, the frames or TensorRT cannot be used, or no candidate passed.
    """
    from edgeseg.bench.tune import candidates, tuned
    from edgeseg.device.detect import detected_device
    from edgeseg.engines.tensorrt.api import FLAVOURS

    if config.flavour not in FLAVOURS:
        raise UsageError(f"`flavour` is {' or '.join(FLAVOURS)}, got {config.flavour!r}")
    bundle, name = bundle_or_default(config.model, config.require_signature)
    images = dataset_from(config.source)
    frames = frames_of(images)
    device = detected_device()
    progress.step(f"model: {name}")
    progress.step(f"device: {device.describe()}")
    with factory_from(config.flavour, progress.step) as factory:
        tried = candidates(factory, factory.dla_cores())
        progress.step(
            f"up to {len(tried)} candidates, each built, then {config.seconds:g} s after {config.warmup:g} s of warm-up"
        )
        tuning = tuned(
            factory,
            bundle,
            model_stem(name),
            tried,
            frames,
            seconds=config.seconds,
            warmup_s=config.warmup,
            on_result=progress.step,
        )
        factory.choose(bundle, "tune", tuning.best.options)
    return TuningReport(name, device, images.description, tuning)
