"""Ask teachers: the mean of what they say of several views of an image."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edgeseg.builder.checkpoint import is_own_checkpoint, load_checkpoint
from edgeseg.builder.distillation.options import Distillation
from edgeseg.builder.foreign import foreign_network
from edgeseg.builder.networks import PaddedNetwork
from edgeseg.errors import CheckpointError, TrainingError, UsageError
from edgeseg.preprocess import normalized
from edgeseg.spec import ModelSpec

__all__ = ["Teacher", "load_teacher", "map_size", "teacher_map"]

_LEAST = -20.0
"""Smallest log-probability of a map. Float16 has steps of 1/64 there, and 2e-9 is as good as nothing."""
_STEP = 32
"""Views that are not of the teacher's own size have sides of a multiple of this many pixels, so that none is padded."""


@dataclass(frozen=True)
class Teacher:
    """A trained network that another one learns from.

    Attributes:
        name: of its file, for people.
        network: in evaluation mode.
        spec: its classes, size and preprocessing.
    """

    name: str
    network: PaddedNetwork
    spec: ModelSpec

    def sha256(self) -> str:
        """Return a digest of all that decides what the teacher says: weights, network, spec."""
        about = {"network": self.network.config.to_json(), "spec": self.spec.to_json()}
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
        for name, value in sorted(self.network.state_dict().items()):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def probabilities(self, images: Tensor) -> Tensor:
        """Return NxCxHxW float32, C being the classes of ``spec``, of a normalised NxIxHxW float32."""
        found: Tensor = self.network(images).float()
        activation = self.network.config.activation
        if found.shape[1] == 1:
            of_second = found if activation == "sigmoid" else found.sigmoid()
            return torch.cat((1 - of_second, of_second), 1)
        if activation == "softmax":
            return found
        return found.exp() if activation == "logsoftmax" else found.softmax(1)


def load_teacher(path: Path, student: ModelSpec, described: ModelSpec | None = None) -> Teacher:
    """Load a checkpoint of edgeseg or of segmentation-models-pytorch as a teacher.

    Args:
        path: of the checkpoint.
        student: spec of the network that is to learn from it.
        described: spec of a checkpoint that carries none.

    Raises:
        CheckpointError: it cannot be read, or what it gives are no probabilities of the classes.
        UsageError: a checkpoint of others is not described, its classes are not those of the student, or the student
            has sigmoids.
    """
    if student.has_sigmoids:
        raise UsageError(f"teachers teach networks of mode multiclass, and this one is {student.mode}; leave them out")
    if is_own_checkpoint(path):
        checkpoint = load_checkpoint(path)
        teacher = Teacher(path.name, checkpoint.network, checkpoint.spec)
    else:
        network = foreign_network(path)
        if described is None:
            raise UsageError(
                f"the teacher {path} does not say its classes, size and preprocessing; pass `teacher_spec` FILE.json, "
                "a spec as 'edgeseg inspect --json' prints it"
            )
        teacher = Teacher(path.name, network, described)
    _refuse_other_outputs(teacher, path)
    theirs, ours = teacher.spec.classes, student.classes
    if sorted(theirs) != sorted(ours):
        raise UsageError(
            f"the teacher {path} knows the classes {', '.join(theirs)}, and the network that learns from it "
            f"{', '.join(ours)}; both must have the same names"
        )
    return teacher


def _refuse_other_outputs(teacher: Teacher, path: Path) -> None:
    config, classes = teacher.network.config, len(teacher.spec.classes)
    if config.classes not in (classes, 1) or (config.classes == 1 and classes != 2):
        raise CheckpointError(f"the teacher {path} gives {config.classes} channels, and its spec names {classes}")
    if config.activation == "sigmoid" and config.classes > 1:
        raise CheckpointError(
            f"the teacher {path} gives a probability of its own for each of {classes} classes, which do not exclude "
            "each other; pass one with softmax or without an activation"
        )
    if config.in_channels == 4:
        raise CheckpointError(f"the teacher {path} takes images of 4 channels; training images have 3")


def map_size(spec: ModelSpec, stride: int) -> tuple[int, int]:
    """Return height and width of the map of an image: those of the network's input over the stride, rounded up."""
    return -(-spec.size_hw[0] // stride), -(-spec.size_hw[1] // stride)


def teacher_map(
    teachers: Sequence[Teacher], frame: np.ndarray, student: ModelSpec, how: Distillation, device: torch.device
) -> np.ndarray:
    """Return log-probabilities, Cxhxw float16, that are the mean over teachers, scales and mirrored views.

    Args:
        teachers: on ``device``, in evaluation mode.
        frame: HxWx3 uint8 BGR of any size.
        student: its classes give the order of the channels, its size that of the map, see ``map_size``.
        how: says scales, flip and stride.
        device: what computes.

    Raises:
        TrainingError: the device has too little memory.
    """
    size, total, views = map_size(student, how.stride), torch.zeros(()), 0
    for teacher in teachers:
        order = [teacher.spec.classes.index(name) for name in student.classes]
        for scale in how.scales:
            found = _of_view(teacher, frame, _view_size(teacher.spec, scale), how.flip, device)
            total = total + _resized(found, size)[:, order].sum(0).cpu()
            views += len(found)
    logs = (total / views).clamp_min(1e-30).log().clamp_min(_LEAST)
    stored: np.ndarray = logs.numpy().astype(np.float16)
    return stored


def _of_view(teacher: Teacher, frame: np.ndarray, size_hw: tuple[int, int], flip: bool, device: torch.device) -> Tensor:
    """Return the probabilities of a view, and of its mirror image turned back: 1 or 2 x C x ``size_hw``."""
    view = teacher.spec.preprocess.resized(frame, size_hw)[None]
    image = torch.from_numpy(normalized(view, teacher.spec.preprocess)).to(device)
    try:
        with torch.inference_mode():
            found = teacher.probabilities(torch.cat((image, image.flip(3))) if flip else image)
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise TrainingError(
            f"the teacher {teacher.name} needs more memory than there is for a view of {size_hw[1]}x{size_hw[0]}; pass "
            "smaller scales in `distill`, as in scales=1"
        ) from error
    return torch.cat((found[:1], found[1:].flip(3)))


def _view_size(spec: ModelSpec, scale: float) -> tuple[int, int]:
    if scale == 1:
        return spec.size_hw
    height, width = (max(_STEP, _STEP * round(scale * side / _STEP)) for side in spec.size_hw)
    return height, width


def _resized(found: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize NxCxHxW: bilinear, over a wider area when it shrinks."""
    if found.shape[2:] == size:
        return found
    return F.interpolate(found, size, mode="bilinear", align_corners=False, antialias=True)
