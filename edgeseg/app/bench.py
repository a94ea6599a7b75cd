"""Measure this machine: every graph of bundles in every engine, side by side with PyTorch eager."""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Mapping, Sequence

from edgeseg import __version__
from edgeseg.app.bench_beside import Beside, Besides, labelled_for
from edgeseg.app.bench_config import BenchConfig
from edgeseg.app.bench_opening import (
    Opened,
    Opening,
    engines_asked_for,
    first_unasked,
    missing_for_torch,
    named_models,
    opened_contenders,
    refuse_torch_size,
    torch_contenders,
)
from edgeseg.app.calibration_rows import CalibrationRows
from edgeseg.app.data import dataset_from
from edgeseg.app.engines import FactoryFrom, quiet_factory
from edgeseg.app.fields import fields_of, value_of
from edgeseg.errors import EdgesegError, UsageError
from edgeseg.images import Dataset
from edgeseg.progress import Progress

if TYPE_CHECKING:
    import numpy as np

    from edgeseg.bench.compare import Comparison
    from edgeseg.bench.measure import Contender, Measurement
    from edgeseg.bench.soak import Soak
    from edgeseg.device.detect import Device

__all__ = ["BenchReport", "bench", "compare", "frames_of"]

_FRAMES = 64
_SOAK = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)(s|m|h)")
_UNITS_S = {"s": 1, "m": 60, "h": 3600}


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
        left_out: what could not be opened, a line each.
        failed: what was asked for besides the times and could not be measured or kept, a line each.
        is_interrupted: whether somebody interrupted it. What was measured by then is here.
        digests: SHA-256 of what is in each bundle, in hexadecimal.
    """

    config: BenchConfig
    models: Sequence[str]
    size_hw: tuple[int, int]
    device: Device
    source: str
    measured: Sequence[Measurement] = ()
    beside: Mapping[str, Beside] = field(default_factory=dict)
    soak: Soak | None = None
    throttled: Sequence[str] = ()
    missing: Sequence[str] = ()
    left_out: Sequence[str] = ()
    failed: Sequence[str] = ()
    is_interrupted: bool = False
    digests: Sequence[str] = ()

    def of(self, measurement: Measurement) -> Beside:
        """Return what was measured beside the times of a contender."""
        return self.beside.get(measurement.name, Beside())

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict; what was not measured is None."""
        return {
            "edgeseg": __version__,
            "model": ", ".join(self.models),
            "model_sha256": list(self.digests),
            "size_hw": list(self.size_hw),
            "device": self.device.to_json(),
            "source": self.source,
            "seconds": None if self.config.soak else self.config.seconds,
            "calls": self.config.calls,
            "warmup_s": 0.0 if self.config.soak else self.config.warmup,
            "threads": list(dict.fromkeys(self.config.threads)),
            "throttled": list(self.throttled),
            "left_out": list(self.left_out),
            "missing": list(self.missing),
            "failed": list(self.failed),
            "interrupted": self.is_interrupted,
            "contenders": [
                {
                    **one.to_json(),
                    **self.of(one).to_json(),
                    "ours_is_times_faster": list(self.measured[0].ratio_to(one)),
                }
                for one in self.measured
            ],
            "soak": None if self.soak is None else {"asked": self.config.soak, **self.soak.to_json()},
        }


def bench(
    config: BenchConfig, progress: Progress = Progress(), *, factory_from: FactoryFrom = quiet_factory
) -> BenchReport:
    """Time the graphs of bundles in every engine of this machine, in alternating turns.

    An interrupt (KeyboardInterrupt) ends it early once every contender has had a turn; then the report says so.

    Args:
        config: of the measurement.
        progress: takes a line per step, and counts inside long steps.
        factory_from: gives the maker of TensorRT engines.

    Raises:
        UsageError: a value cannot be used.
        EdgesegError: a bundle, the frames, the labels or an engine cannot be used.
    """
    from edgeseg.device.detect import detected_device
    from edgeseg.engines.tensorrt.factory import model_digest

    soak_s = _soak_seconds(config)
    refuse_torch_size(config)
    models = named_models(config)
    images = dataset_from(config.source)
    frames, device = frames_of(images), detected_device()
    engines = engines_asked_for(config.engine)
    rows = None if config.calibrate is None else CalibrationRows(config.calibrate, device, engines)
    labelled = labelled_for(config, models)
    for model in models:
        height, width = model.bundle.spec.size_hw
        progress.step(f"edgeseg {__version__}, {model.name}, {width}x{height}")
    progress.step(device.describe())
    names, size_hw = [model.name for model in models], models[0].bundle.spec.size_hw
    digests = [model_digest(model.bundle) for model in models]
    about = BenchReport(config, names, size_hw, device, images.description, digests=digests)
    with ExitStack() as stack:
        threads = tuple(dict.fromkeys(config.threads))
        leaves_out = config.engine == "auto" and not soak_s
        first = first_unasked(config.engine, models[0].bundle, progress.step)
        opening = Opening(stack, progress.step, factory_from, threads, first, leaves_out)
        contenders = opened_contenders(models, engines, opening)
        if soak_s:
            return _soaked(about, next(contenders).contender, frames, soak_s, progress)
        opened = list(contenders)
        about = replace(about, left_out=opening.left_out, missing=missing_for_torch() if config.torch else ())
        rivals = []
        if config.torch and not about.missing:
            progress.step("opening PyTorch")
            rivals = torch_contenders(config, models[0].bundle, opening)
        progress.step(f"graphs are timed in {' and in '.join(engines)}")
        report = _timed(about, [*(one.contender for one in opened), *rivals], frames, progress)
        return report if report.is_interrupted else _with_besides(report, opened, frames, labelled, rows, progress)


def _soaked(
    about: BenchReport, contender: Contender, frames: Sequence[np.ndarray], seconds: float, progress: Progress
) -> BenchReport:
    from edgeseg.bench.measure import Interrupted
    from edgeseg.bench.soak import soaked
    from edgeseg.device.telemetry import Telemetry, throttled_between

    telemetry, is_interrupted = Telemetry(), False
    before = telemetry.sample()
    progress.step(f"running {contender.name} for {about.config.soak}, without a warm-up")
    try:
        soak = soaked(contender, frames, seconds, telemetry.sample, report=progress.count)
    except Interrupted as stopped:
        soak, is_interrupted = stopped.found, True
    throttled = throttled_between(before, telemetry.sample())
    return replace(about, soak=soak, throttled=throttled, is_interrupted=is_interrupted)


def _timed(
    about: BenchReport, contenders: Sequence[Contender], frames: Sequence[np.ndarray], progress: Progress
) -> BenchReport:
    from edgeseg.bench.measure import Effort, Interrupted, measured_side_by_side
    from edgeseg.device.telemetry import Telemetry, throttled_between

    config, telemetry, is_interrupted = about.config, Telemetry(), False
    failed: list[str] = []
    before = telemetry.sample()
    progress.step(_announced(config, len(contenders)))
    effort = Effort(config.seconds, config.warmup, config.calls, config.warmup_calls)
    try:
        measured = measured_side_by_side(
            contenders, frames, effort, sample=telemetry.sample, report=progress.count, failed=failed.append
        )
    except Interrupted as stopped:
        measured, is_interrupted = stopped.found, True
        names = {one.name for one in measured}
        late = [one.name for one in contenders if one.name not in names]
        failed += [f"{name} was not timed before the interrupt" for name in late if not any(name in f for f in failed)]
    throttled = throttled_between(before, telemetry.sample())
    return replace(about, measured=measured, throttled=throttled, failed=failed, is_interrupted=is_interrupted)


def _with_besides(
    report: BenchReport,
    opened: Sequence[Opened],
    frames: Sequence[np.ndarray],
    labelled: Dataset | None,
    rows: CalibrationRows | None,
    progress: Progress,
) -> BenchReport:
    """Add what was asked for beside the times. The times are kept whatever happens to the rest."""
    failed = list(report.failed)
    beside: dict[str, Beside] = {}
    times_of = {times.name: times for times in report.measured}
    opened = [one for one in opened if one.contender.name in times_of]
    if rows is not None:
        try:
            progress.step(rows.add([(one.bundle, times_of[one.contender.name]) for one in opened]))
        except (EdgesegError, OSError) as error:
            failed.append(f"rows for 'edgeseg estimate': {error}")
    besides, is_interrupted = Besides(report.config, frames, labelled, progress, failed.append), False
    try:
        for one in opened:
            beside[one.contender.name] = besides.of(one)
    except KeyboardInterrupt:
        is_interrupted = True
    return replace(report, beside=beside, failed=failed, is_interrupted=is_interrupted)


def compare(config: BenchConfig) -> Comparison:
    """Compare two results of ``bench``, whose files ``config.models`` names, before and after.

    Raises:
        UsageError: they are not two, or cannot be compared, or something is to be measured, too.
        InputError: one cannot be read.
    """
    from edgeseg.bench.compare import compared, result_from_file

    _refuse_beside(config, "compare", "reads two files and measures nothing", ("soak", *_OF_TIMES, "result", "html"))
    if len(config.models) != 2:
        raise UsageError(f"`compare` takes two files of `result`, got {len(config.models)}")
    before, after = (result_from_file(path) for path in config.models)
    return compared(before, after)


_OF_TIMES = ("csv", "data", "camera_fps", "layers", "calibrate", "calls")
"""Fields that ask for something of a measurement side by side."""


def _refuse_beside(config: BenchConfig, what: str, does: str, names: Sequence[str]) -> None:
    """Raise UsageError where fields are given that another one leaves no room for."""
    given = [field.name for field in fields_of(BenchConfig) if value_of(config, field) != field.default]
    idle = [f"`{name}`" for name in names if name in given]
    if idle:
        raise UsageError(f"`{what}` {does}; leave {' and '.join(idle)} out")


def _announced(config: BenchConfig, contenders: int) -> str:
    said = f"timing {contenders} contenders in alternating turns, "
    if config.calls:
        return f"{said}{config.calls} calls each after {config.warmup:g} s of warm-up"
    took = contenders * (config.seconds + config.warmup)
    return f"{said}{config.seconds:g} s each after {config.warmup:g} s of warm-up: about {took:.0f} s"


def _soak_seconds(config: BenchConfig) -> float:
    """Return the seconds of a text such as ``20m``; 0 for an empty one."""
    found = _SOAK.fullmatch(config.soak)
    if config.soak and (found is None or not float(found[1])):
        raise UsageError(f"`soak` is a time such as 90s, 20m or 1h, got {config.soak!r}")
    if found is None:
        return 0.0
    _refuse_beside(config, "soak", "runs one contender in place of a comparison", _OF_TIMES)
    return float(found[1]) * _UNITS_S[found[2]]


def frames_of(images: Dataset) -> list[np.ndarray]:
    """Return at most 64 frames to time with, HxWx3 uint8 BGR. Raises ImageError."""
    return [images[index].frame for index in range(min(len(images), _FRAMES))]
