"""Golden frames: what a device tests itself on, and how closely it has to agree."""

from __future__ import annotations

from typing import Mapping

import numpy as np

from edgeseg.bundle import Golden, GraphEntry
from edgeseg.compiler.steps.job import Job
from edgeseg.compiler.verify.gate import measured_accuracy
from edgeseg.engines.golden import FLOAT_AGREEMENT
from edgeseg.images import InMemory, Sample
from edgeseg.label_planes import flat_label
from edgeseg.recipes import INT8_CPU, INT8_TENSORRT

__all__ = ["golden_frames", "self_test_limits"]

GOLDEN_FRAMES = 4


def golden_frames(job: Job, onnx: bytes) -> Golden:
    """Choose a few evenly spread frames at network size, with labels and FP32's answer.

    Args:
        job: the compilation.
        onnx: the FP32 graph for one frame.

    Raises:
        ImageError: a frame cannot be used.
    """
    data, spec = job.data.golden or job.data.evaluation, job.spec
    indices = np.unique(np.linspace(0, len(data) - 1, min(GOLDEN_FRAMES, len(data))).astype(int))
    chosen = [_at_network_size(job, data[int(index)]) for index in indices]
    _, maps = measured_accuracy(onnx, spec, InMemory(chosen, "golden frames"))
    labels = [np.full(spec.size_hw, spec.ignore_id, np.uint8) if s.label is None else s.label for s in chosen]
    return Golden(np.stack([s.frame for s in chosen]), np.stack(labels), np.stack(maps))


def self_test_limits(job: Job, entries: Mapping[str, GraphEntry], golden: Golden) -> dict[str, float]:
    """Return the share of the golden pixels in which a device must agree with FP32, by precision.

    For INT8 it is the gate's limit, or a point less than the host measured on these very frames if that is lower. CPU
    graphs have one of their own: their weights have 7 bits.
    """
    limits = {**FLOAT_AGREEMENT, "int8": job.options.limits.min_agreement}
    if job.options.batch != 1:
        return limits
    frames = InMemory([Sample("", frame, None) for frame in golden.frames], "golden frames")
    for key, name in (("int8", INT8_TENSORRT), (INT8_CPU, INT8_CPU)):
        if name in entries:
            accuracy, _ = measured_accuracy(
                entries[name].onnx,
                job.spec,
                frames,
                float_qdq=entries[name].target == "tensorrt",
                reference=list(golden.classes),
            )
            limits[key] = round(min(job.options.limits.min_agreement, accuracy.agreement - 0.01), 4)
    return limits


def _at_network_size(job: Job, sample: Sample) -> Sample:
    label = sample.label
    if label is not None:  # which of several labels is right, one value per pixel cannot say
        label = job.spec.resized_labels(flat_label(label, several=job.spec.ignore_id))
    return Sample(sample.name, job.spec.resized(sample.frame), label)
