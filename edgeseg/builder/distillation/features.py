"""Learn what teachers' encoders see: features at stride 16.

Romero et al. 2015, "FitNets: Hints for Thin Deep Nets": a layer of its own maps the student's features to those of a
teacher. Features have length 1 at every place here, so that a teacher's scale of values does not matter.
"""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeseg.builder.distillation.options import FEATURE_STRIDE
from edgeseg.builder.distillation.teacher import Teacher
from edgeseg.builder.networks import PaddedNetwork
from edgeseg.builder.processes import whole_batch
from edgeseg.errors import UsageError
from edgeseg.preprocess import normalized
from edgeseg.spec import IGNORE_ID, ModelSpec

__all__ = ["FeatureHints", "channels_of", "teacher_features"]

_PROBE = 64
"""Side in pixels of an image that shows how many channels there are."""


class _Watch:
    """The features that the encoder of a network gave last.

    Args:
        network: whose encoder is watched until ``close``.
        name: of the network, for people.

    Raises:
        UsageError: it has no encoder whose features can be had.
    """

    def __init__(self, network: PaddedNetwork, name: str) -> None:
        encoder = getattr(network.network, "encoder", None)
        if not isinstance(encoder, nn.Module):
            raise UsageError(f"{name} has no encoder, so `distill` has to have feature=0")
        self._name = name
        self._seen: Tensor | None = None
        self._handle = encoder.register_forward_hook(self._take)

    def _take(self, module: nn.Module, images: tuple[Any, ...], found: Any) -> None:
        places = [-(-side // FEATURE_STRIDE) for side in images[0].shape[2:]]
        fitting = [one for one in found if one.ndim == 4 and list(one.shape[2:]) == places]
        self._seen = fitting[-1] if fitting else None

    def features(self) -> Tensor:
        """Return the deepest features at stride 16 of the last images, NxFxhxw. Raises UsageError: there are none."""
        if self._seen is None:
            raise UsageError(
                f"the encoder of {self._name} has no features at stride {FEATURE_STRIDE}, so `distill` has to have "
                "feature=0"
            )
        return self._seen

    def close(self) -> None:
        """Let go of the encoder and its features."""
        self._handle.remove()
        self._seen = None


def channels_of(network: PaddedNetwork, name: str) -> int:
    """Count the channels of a network's features. Raises UsageError: it has none at stride 16."""
    device = next(network.parameters()).device
    return int(_features(network, name, torch.zeros(1, 3, _PROBE, _PROBE, device=device)).shape[1])


def teacher_features(
    teachers: Sequence[Teacher], frame: np.ndarray, student: ModelSpec, device: torch.device
) -> np.ndarray:
    """Return the features of all teachers one after the other, Fxhxw float16, each of length 1 at every place.

    A teacher sees the image once, at its own size.

    Args:
        teachers: on ``device``, in evaluation mode.
        frame: HxWx3 uint8 BGR of any size.
        student: h and w are its size over 16, rounded up.
        device: what computes.

    Raises:
        UsageError: a teacher has no features at stride 16.
    """
    size = [-(-side // FEATURE_STRIDE) for side in student.size_hw]
    parts = []
    for teacher in teachers:
        view = teacher.spec.preprocess.resized(frame, teacher.spec.size_hw)[None]
        image = torch.from_numpy(normalized(view, teacher.spec.preprocess)).to(device)
        found = _features(teacher.network, f"the teacher {teacher.name}", image)
        rows, columns = (-(-side // FEATURE_STRIDE) for side in image.shape[2:])
        found = found[:, :, :rows, :columns]  # without what was padded right and below
        parts.append(F.normalize(F.interpolate(found, size, mode="bilinear", align_corners=False), dim=1))
    stored: np.ndarray = torch.cat(parts, 1)[0].cpu().numpy().astype(np.float16)
    return stored


def _features(network: PaddedNetwork, name: str, images: Tensor) -> Tensor:
    was_training = network.training
    watch = _Watch(network.eval(), name)
    try:
        with torch.inference_mode():
            network(images)
        return watch.features().float()
    finally:
        watch.close()
        network.train(was_training)


class FeatureHints(nn.Module):
    """Distance of a student's features from those of its teachers, with a trained 1x1 convolution per teacher.

    The convolutions are no part of the network that is kept.

    Args:
        student: the network under training.
        channels: of each teacher's features.

    Raises:
        UsageError: the student has no features at stride 16.
    """

    def __init__(self, student: PaddedNetwork, channels: Sequence[int]) -> None:
        super().__init__()
        name = "the network"
        own = channels_of(student, name)
        self._channels = list(channels)
        self._watch = _Watch(student, name)
        self.to_teacher = nn.ModuleList(nn.Conv2d(own, theirs, 1) for theirs in channels)

    def forward(self, wanted: Tensor, labels: Tensor) -> Tensor:
        """Compute 1 - cosine, the mean over teachers and over places of whose pixels half have a label.

        Args:
            wanted: features of the teachers for the images that the student saw last, NxFxhxw of any float type; those
                of the whole batch, of which it may have seen a share.
            labels: NxHxW int64, of the whole batch.
        """
        own = self._watch.features().float()
        counted = F.avg_pool2d((labels != IGNORE_ID).float()[:, None], FEATURE_STRIDE)[:, 0] >= 0.5
        parts = torch.split(wanted.float(), self._channels, 1)
        seen = [whole_batch(layer(own)) for layer in self.to_teacher]
        distances = torch.stack([1 - F.cosine_similarity(one, part, 1) for one, part in zip(seen, parts)]).mean(0)
        return distances[counted].mean() if counted.any() else 0.0 * distances.mean()
