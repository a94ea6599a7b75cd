"""The accuracy gate: every INT8 graph is measured with its target's arithmetic against FP32, worst class included."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Callable

import numpy as np

from edgeseg.engines.evaluate import evaluated
from edgeseg.engines.ort import OrtEngine
from edgeseg.images import Dataset
from edgeseg.spec import ModelSpec

__all__ = ["Accuracy", "Limits", "measured_accuracy", "refusals"]


@dataclass(frozen=True)
class Limits:
    """What the gate allows, as fractions (0.01 is one point).

    Attributes:
        max_drop: of mIoU against FP32.
        max_class_drop: of any class's IoU against FP32.
        min_agreement: share of pixels with FP32's class.
    """

    max_drop: float = 0.01
    max_class_drop: float = 0.03
    min_agreement: float = 0.95


@dataclass(frozen=True)
class Accuracy:
    """What one graph achieves on an evaluation set.

    Attributes:
        images: how many.
        agreement: share of pixels with the FP32 graph's class.
        miou: mean IoU over the classes that the labels hold; NaN where there are no labels, like all that follows.
        pixel_accuracy: share of labelled pixels that are right.
        iou: IoU per class name; NaN for a class that the labels do not hold.
    """

    images: int
    agreement: float
    miou: float
    pixel_accuracy: float
    iou: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict; NaN becomes None."""
        return {
            "images": self.images,
            "agreement": _finite(self.agreement),
            "miou": _finite(self.miou),
            "pixel_accuracy": _finite(self.pixel_accuracy),
            "iou": {name: _finite(value) for name, value in self.iou.items()},
        }


def measured_accuracy(
    onnx: bytes,
    spec: ModelSpec,
    data: Dataset,
    *,
    float_qdq: bool = False,
    reference: list[np.ndarray] | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Accuracy, list[np.ndarray]]:
    """Run a graph over a data set.

    Args:
        onnx: the compiled graph.
        spec: its classes.
        data: images, with labels or without.
        float_qdq: judge with TensorRT's arithmetic (Q/DQ in float).
        reference: FP32's class maps, to agree with; None for FP32 itself.
        report: called with (images done, images in all).

    Returns:
        The accuracy, and the class maps at network size.
    """
    maps: list[np.ndarray] = []

    def keep(index: int, classes: np.ndarray) -> None:
        maps.append(classes.copy())
        report(index + 1, len(data))

    with OrtEngine(onnx, float_qdq=float_qdq) as engine:
        confusion = evaluated(engine, spec, data, on_map=keep)
    agreement = 1.0 if reference is None else float(np.mean([np.mean(a == b) for a, b in zip(maps, reference)]))
    # Classes without a label are left out: one stray pixel of such a class would move the mean by a class's share.
    labelled = np.where(confusion.counts.sum(1) > 0, confusion.iou(), np.nan)
    miou = float(np.nanmean(labelled)) if np.isfinite(labelled).any() else float("nan")
    iou = dict(zip(spec.classes, (float(value) for value in labelled)))
    return Accuracy(len(data), agreement, miou, confusion.pixel_accuracy(), iou), maps


def refusals(fp32: Accuracy, int8: Accuracy, limits: Limits) -> list[str]:
    """Why a graph is refused, one line each; empty when it passes. Without labels only the agreement is judged."""
    reasons = []
    if math.isfinite(fp32.miou):
        if not fp32.miou - int8.miou <= limits.max_drop:
            reasons.append(_fall("mIoU", fp32.miou, int8.miou, limits.max_drop))
        drops = {name: iou - int8.iou[name] for name, iou in fp32.iou.items() if math.isfinite(iou)}
        worst = max(drops, key=lambda name: drops[name])
        if not drops[worst] <= limits.max_class_drop:
            reasons.append(_fall(f"class {worst!r}", fp32.iou[worst], int8.iou[worst], limits.max_class_drop))
    if not int8.agreement >= limits.min_agreement:
        agrees, needed = 100 * int8.agreement, 100 * limits.min_agreement
        reasons.append(f"only {agrees:.2f} % of pixels agree with FP32, {needed:.2f} % are needed")
    return reasons


def _fall(what: str, before: float, after: float, allowed: float) -> str:
    points = f"{100 * (before - after):.2f} points ({100 * before:.2f} -> {100 * after:.2f})"
    return f"{what} fell by {points}, allowed {100 * allowed:.2f}"


def _finite(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
