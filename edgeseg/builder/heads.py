"""What a network's logits mean: a softmax over classes, or a sigmoid for every class but class 0."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from edgeseg.builder.data import class_weights
from edgeseg.builder.losses import Criterion, criterion_from_text
from edgeseg.builder.sigmoid_losses import sigmoid_criterion_from_text
from edgeseg.labels import LabelCounts
from edgeseg.metrics import ConfusionMatrix, MultilabelCounts
from edgeseg.resizing import class_map_at
from edgeseg.spec import ModelSpec

__all__ = ["class_ids", "count_found", "criterion_of", "new_counts", "probabilities", "weights_by_rarity"]


def class_ids(logits: Tensor, spec: ModelSpec) -> Tensor:
    """Return the class of every pixel: NxKxHxW logits -> NxHxW uint8, as the compiled graph does.

    The largest logit wins; of sigmoids the largest that is above the threshold, else class 0.
    """
    if spec.has_sigmoids:
        logits = torch.cat([torch.full_like(logits[:, :1], _level(spec)), logits], 1)
    return logits.argmax(1).to(torch.uint8)


def probabilities(logits: Tensor, spec: ModelSpec) -> Tensor:
    """Return the probability of every class: NxKxHxW logits -> NxCxHxW, as a compiled graph scores.

    Of sigmoids, class 0 has what the largest of them leaves.
    """
    if not spec.has_sigmoids:
        return logits.softmax(1)
    each = logits.sigmoid()
    return torch.cat([1 - each.amax(1, keepdim=True), each], 1)


def criterion_of(text: str, spec: ModelSpec) -> Criterion:
    """Build the loss that a recipe names for networks of a spec. Raises UsageError: a name or value is wrong."""
    if spec.has_sigmoids:
        return sigmoid_criterion_from_text(text, spec.outputs)
    return criterion_from_text(text, len(spec.classes))


def weights_by_rarity(labels: LabelCounts, spec: ModelSpec) -> Tensor:
    """Return the weight of every output by how rare its class is, (K,) float32.

    With a softmax it is ``class_weights``. With sigmoids it is the weight of the pixels that carry a label against
    those that do not, by the same rule for these two.
    """
    if not spec.has_sigmoids:
        return class_weights(labels.classes)
    weights = []
    for pixels in labels.classes[1:]:
        without, held = class_weights(np.array([max(0, labels.pixels - pixels), pixels]))
        weights.append(held / without)
    return torch.stack(weights)


def new_counts(spec: ModelSpec) -> ConfusionMatrix | MultilabelCounts:
    """Return empty counts of what a network finds."""
    if spec.mode == "multilabel":
        return MultilabelCounts(spec.outputs)
    return ConfusionMatrix(len(spec.classes), spec.ignore_id)


def count_found(counts: ConfusionMatrix | MultilabelCounts, logits: Tensor, label: np.ndarray, spec: ModelSpec) -> None:
    """Count what a network finds in one image, at the label's size.

    Args:
        counts: of ``new_counts``.
        logits: KxHxW.
        label: HxW uint8 class ids, or KxHxW planes.
        spec: mode and threshold.
    """
    size_hw = (int(label.shape[-2]), int(label.shape[-1]))
    if isinstance(counts, ConfusionMatrix):
        counts.update(class_map_at(class_ids(logits[None], spec)[0].cpu().numpy(), size_hw), label)
        return
    found = (logits > _level(spec)).to(torch.uint8).cpu().numpy()
    counts.update(np.stack([class_map_at(plane, size_hw) for plane in found]) > 0, label)


def _level(spec: ModelSpec) -> float:
    """Return the logit whose sigmoid is the threshold."""
    return math.log(spec.threshold / (1 - spec.threshold))
