"""Evaluate an engine on a data set against its labels."""

from __future__ import annotations

from typing import Callable

import numpy as np

from edgeseg.engines.base import Engine
from edgeseg.images import Dataset
from edgeseg.label_planes import label_beside
from edgeseg.metrics import ConfusionMatrix
from edgeseg.spec import ModelSpec

__all__ = ["evaluate_engine"]


def evaluate_engine(
    engine: Engine,
    spec: ModelSpec,
    data: Dataset,
    *,
    on_map: Callable[[int, np.ndarray], None] = lambda index, classes: None,
    on_pair: Callable[[np.ndarray, np.ndarray], None] = lambda classes, label: None,
) -> ConfusionMatrix:
    """Run every image of a data set and count predictions against labels, at the labels' own size.

    Args:
        engine: an engine for one frame at a time.
        spec: spec of its graph.
        data: images; those without labels are run but not counted.
        on_map: called with (index, HxW class map at network size, valid during the call).
        on_pair: called with (class map, label) of an image that has one, both HxW uint8 at the label's size.

    Raises:
        ImageError: an image or label cannot be used.
    """
    confusion = ConfusionMatrix(len(spec.classes), spec.ignore_id)
    for index in range(len(data)):
        _, frame, label = data[index]
        spec.resized(frame, out=engine.input[0])
        classes = engine.infer(engine.input)[0]
        if label is not None:
            found = spec.class_map_on(classes, (label.shape[-2], label.shape[-1]))
            confusion.update(found, label)
            on_pair(found, label_beside(label, found))
        on_map(index, classes)
    return confusion
