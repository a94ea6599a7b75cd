"""The accuracy gate: every INT8 graph is measured with its target's arithmetic against FP32, worst class included."""

from __future__ import annotations

import hashlib
import math
from typing import Callable, Sequence

import numpy as np

from edgeseg.compiler.step_cache import StepCache
from edgeseg.device.detect import detected_device
from edgeseg.engines.evaluate import evaluate_engine
from edgeseg.engines.ort import OrtEngine
from edgeseg.errors import require
from edgeseg.images import Dataset
from edgeseg.metrics import ConfusionMatrix
from edgeseg.report_data import Accuracy, Limits
from edgeseg.resizing import class_map_at
from edgeseg.spec import ModelSpec

__all__ = [
    "agreements",
    "executor_name",
    "labelled_sha256",
    "measured_accuracy",
    "refusals",
    "worst_drop",
]


def measured_accuracy(
    onnx: bytes,
    spec: ModelSpec,
    data: Dataset,
    *,
    float_qdq: bool = False,
    reference: Sequence[np.ndarray] | None = None,
    cache: StepCache = StepCache(),
    data_sha256: str = "",
    report: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Accuracy, list[np.ndarray]]:
    """Run a graph over a data set.

    Args:
        onnx: the compiled graph.
        spec: its classes.
        data: images, with labels or without.
        float_qdq: judge with TensorRT's arithmetic (Q/DQ in float).
        reference: FP32's class maps, to agree with; None for FP32 itself.
        cache: where class maps are kept, so that a repeated compile need not run the same graph again.
        data_sha256: ``labelled_sha256`` of the data; without it nothing is kept.
        report: called with (images done, images in all).

    Returns:
        The accuracy, and the class maps (HxW uint8) at network size.
    """
    counted = f"{len(spec.classes)} classes, {spec.ignore_id} ignored"
    key = ("judged", hashlib.sha256(onnx).hexdigest(), data_sha256, counted, str(float_qdq), executor_name())
    known = cache.load(*key) if data_sha256 else None
    if known is not None:
        confusion = ConfusionMatrix(len(spec.classes), spec.ignore_id)
        confusion.counts, maps = known["counts"], list(known["maps"])
        report(len(data), len(data))
    else:
        confusion, maps = _run(onnx, spec, data, float_qdq, report)
        if data_sha256:
            cache.save({"counts": confusion.counts, "maps": np.stack(maps)}, *key)
    # Classes without a label are left out: one stray pixel of such a class would move the mean by a class's share.
    labelled = np.where(confusion.counts.sum(1) > 0, confusion.iou(), np.nan)
    miou = float(np.nanmean(labelled)) if np.isfinite(labelled).any() else float("nan")
    iou = dict(zip(spec.classes, (float(value) for value in labelled)))
    agreement, at_boundary = (1.0, 1.0) if reference is None else agreements(maps, reference)
    common, common_miou = _commonest(confusion, spec)
    accuracy = Accuracy(len(data), agreement, at_boundary, miou, confusion.pixel_accuracy(), iou, common, common_miou)
    return accuracy, maps


def _commonest(confusion: ConfusionMatrix, spec: ModelSpec) -> tuple[str, float]:
    """See ``Accuracy``."""
    pixels = confusion.counts.sum(1)
    if not pixels.any():
        return "", math.nan
    most = int(pixels.argmax())
    return spec.classes[most], float(pixels[most] / pixels.sum() / np.count_nonzero(pixels))


def executor_name() -> str:
    """Name what runs the graphs: its version and this CPU's INT8 instructions, on which saturating kernels depend."""
    ort = require("onnxruntime", "")
    return f"onnxruntime {ort.__version__} {' '.join(detected_device().int8_instructions)}"


def labelled_sha256(data: Dataset, spec: ModelSpec) -> str:
    """Digest of a labelled data set: the resized frames and the labels, in order."""
    digest = hashlib.sha256()
    for index in range(len(data)):
        _, frame, label = data[index]
        digest.update(np.ascontiguousarray(spec.resized(frame)).tobytes())
        digest.update(b"-" if label is None else repr(label.shape).encode() + label.tobytes())
    return digest.hexdigest()


def agreements(maps: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> tuple[float, float]:
    """(share of equal pixels, the same within two pixels of the reference's class boundaries)."""
    import cv2

    equal = band_equal = band_pixels = pixels = 0
    for ours, theirs in zip(maps, reference):
        same = ours == theirs
        edges = np.zeros(theirs.shape, np.uint8)
        edges[:, 1:] |= theirs[:, 1:] != theirs[:, :-1]
        edges[1:] |= theirs[1:] != theirs[:-1]
        band = cv2.dilate(edges, np.ones((5, 5), np.uint8)) > 0
        equal, pixels = equal + int(same.sum()), pixels + same.size
        band_equal, band_pixels = band_equal + int(same[band].sum()), band_pixels + int(band.sum())
    return equal / pixels, band_equal / band_pixels if band_pixels else 1.0


def _run(
    onnx: bytes, spec: ModelSpec, data: Dataset, float_qdq: bool, report: Callable[[int, int], None]
) -> tuple[ConfusionMatrix, list[np.ndarray]]:
    maps: list[np.ndarray] = []

    def keep(index: int, classes: np.ndarray) -> None:
        maps.append(class_map_at(classes, spec.size_hw).copy())
        report(index + 1, len(data))

    with OrtEngine(onnx, float_qdq=float_qdq) as engine:
        confusion = evaluate_engine(engine, spec, data, on_map=keep)
    return confusion, maps


def refusals(fp32: Accuracy, int8: Accuracy, limits: Limits) -> list[str]:
    """Say why a graph is refused, one line each; empty when it passes. Without labels only agreement is judged."""
    reasons = []
    if math.isfinite(fp32.miou):
        if not fp32.miou - int8.miou <= limits.max_drop:
            reasons.append(_fall("mIoU", fp32.miou, int8.miou, limits.max_drop))
        worst, drop = worst_drop(fp32, int8)
        if not drop <= limits.max_class_drop:
            reasons.append(_fall(f"class {worst!r}", fp32.iou[worst], int8.iou[worst], limits.max_class_drop))
    if not int8.agreement >= limits.min_agreement:
        agrees, needed = 100 * int8.agreement, 100 * limits.min_agreement
        reasons.append(f"only {agrees:.2f} % of pixels agree with FP32, {needed:.2f} % are needed")
    if not int8.boundary_agreement >= limits.min_boundary_agreement:
        agrees, needed = 100 * int8.boundary_agreement, 100 * limits.min_boundary_agreement
        reasons.append(f"only {agrees:.2f} % of pixels at class boundaries agree with FP32, {needed:.2f} % are needed")
    return reasons


def worst_drop(fp32: Accuracy, int8: Accuracy) -> tuple[str, float]:
    """Find the class whose IoU falls most, and by how much as a fraction; ("", NaN) without labels."""
    drops = {name: iou - int8.iou.get(name, math.nan) for name, iou in fp32.iou.items() if math.isfinite(iou)}
    worst = max(drops, key=lambda name: drops[name] if math.isfinite(drops[name]) else math.inf, default="")
    return worst, drops.get(worst, math.nan)


def _fall(what: str, before: float, after: float, allowed: float) -> str:
    points = f"{100 * (before - after):.2f} points ({100 * before:.2f} -> {100 * after:.2f})"
    return f"{what} fell by {points}, allowed {100 * allowed:.2f}"
