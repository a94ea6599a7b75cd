"""Take the ranges of INT8: frozen ones of a bundle, or those of the calibration images."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgeseg.compiler.calibration.collect import MINIMUM_FRAMES, ranges_from_frames
from edgeseg.compiler.calibration.dataset_report import calibration_report
from edgeseg.compiler.graph.tensors import graph_sha256
from edgeseg.compiler.quantize.mixed import quality
from edgeseg.compiler.steps.job import Job
from edgeseg.compiler.steps.points import point_of_recipe, static_recipe
from edgeseg.compiler.steps.prepare import Prepared
from edgeseg.errors import CompileError, UsageError
from edgeseg.images import Dataset
from edgeseg.preprocess import NetworkFrames
from edgeseg.ranges import Ranges
from edgeseg.recipes import recipe_from_name
from edgeseg.report_data import CalibrationReport

__all__ = ["Calibrated", "calibrated_ranges", "range_warnings"]


@dataclass(frozen=True)
class Calibrated:
    """Ranges, and what is known about where they come from.

    Attributes:
        ranges: of the prepared graph; None where no graph needs any.
        report: about the calibration images; None where none were read.
        notes: what a user should know.
    """

    ranges: Ranges | None = None
    report: CalibrationReport | None = None
    notes: tuple[str, ...] = ()

    @property
    def is_sound(self) -> bool:
        """Tell whether the images can be of use; float layers would hide that they are useless."""
        return self.report is None or self.report.usable >= MINIMUM_FRAMES


def calibrated_ranges(job: Job, prepared: Prepared, frozen: Ranges | None) -> Calibrated:
    """Return the frozen ranges if they belong to this graph, else those of the calibration images.

    Raises:
        CompileError: there are no images, or they are unusable.
        UsageError: the frozen ranges were taken by another calibrator than the one asked for.
    """
    if not any(recipe_from_name(name).needs_ranges for name in job.options.graphs):
        return Calibrated()
    if frozen is not None:
        return Calibrated(_checked(job, prepared, frozen))
    images = job.data.calibration
    if images is None:
        raise CompileError(
            "INT8 needs calibration images; pass `calibration` FOLDER (a few hundred frames of your camera)"
        )
    made = Calibrated()
    if len(images) >= MINIMUM_FRAMES:
        report = calibration_report(images, job.spec, report=job.counter("reading images"))
        made = Calibrated(report=report, notes=report.warnings)
    if job.options.calibrator != "auto":
        return _with_ranges(job, prepared, made, images, job.options.calibrator)
    return _best_calibrator(job, prepared, _with_ranges(job, prepared, made, images, "minmax"), images)


def _checked(job: Job, prepared: Prepared, frozen: Ranges) -> Ranges:
    if frozen.graph_sha256 != graph_sha256(prepared.graph):
        raise CompileError("the frozen ranges belong to another graph; calibrate again with `calibration` FOLDER")
    if job.options.calibrator not in ("auto", frozen.calibrator):
        raise UsageError(
            f"the frozen ranges were taken by {frozen.calibrator}, not {job.options.calibrator}; "
            "calibrate again with `calibration` FOLDER"
        )
    job.progress.step(f"ranges: frozen, {frozen.images} images ({frozen.data})")
    return frozen


def _best_calibrator(job: Job, prepared: Prepared, minmax: Calibrated, images: Dataset) -> Calibrated:
    """Where the gate refuses the first graph of ranges with ``minmax``, try other calibrators and take the best."""
    name = next(name for name in job.options.graphs if recipe_from_name(name).needs_ranges)
    recipe = static_recipe(job, name) or recipe_from_name(name)
    point = point_of_recipe(job, prepared, name, recipe, minmax.ranges)
    if not point.refused or prepared.poor or not minmax.is_sound:
        return minmax
    job.progress.step(f"{name} with minmax: {'; '.join(point.refused)}; trying percentile and mse")
    made, choices = minmax, {"minmax": (quality(point.accuracy), minmax.ranges)}
    for calibrator in ("percentile", "mse"):
        made = _with_ranges(job, prepared, made, images, calibrator)
        accuracy = point_of_recipe(job, prepared, name, recipe, made.ranges).accuracy
        choices[calibrator] = quality(accuracy), made.ranges
    best = max(choices, key=lambda calibrator: choices[calibrator][0])
    found = ", ".join(f"{calibrator} {100 * value:.2f}" for calibrator, (value, _) in choices.items())
    note = f"calibrator {best}, because the gate refused {name} with minmax: {found}"
    job.progress.step(note)
    return replace(made, ranges=choices[best][1], notes=(*made.notes, note))


def _with_ranges(job: Job, prepared: Prepared, made: Calibrated, images: Dataset, calibrator: str) -> Calibrated:
    taken = ranges_from_frames(
        prepared.graph,
        NetworkFrames(images, job.spec),
        calibrator=calibrator,
        cache=job.cache,
        data_sha256=made.report.sha256 if made.report else None,
        report=job.counter(f"calibrating ({calibrator})"),
    )
    job.progress.step(f"ranges: {len(taken.tensors)} tensors by {taken.calibrator} over {taken.images} images")
    new = [line for line in range_warnings(taken) if line not in made.notes]
    return replace(made, ranges=taken, notes=(*made.notes, *new))


def range_warnings(ranges: Ranges) -> list[str]:
    """Say what looks wrong about calibration ranges before anything is emitted from them."""
    low, high = ranges.tensors.get("frame_float", (0.0, 255.0))
    if high - low < 64:
        return [f"the calibration images span only {low:.0f}-{high:.0f} of 0-255: they are near-black or empty"]
    return []
