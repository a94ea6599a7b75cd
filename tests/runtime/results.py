"""Segmentations for the tests of sinks and rules."""

from __future__ import annotations

import cv2
import numpy as np

from edgeseg.metrics import ConfusionMatrix
from edgeseg.runtime.drawing.overlay import Painter
from edgeseg.runtime.frame import Frame, Segmentation
from edgeseg.runtime.sinks.uri import SinkContext
from edgeseg.runtime.state import RunState, SourceState
from edgeseg.spec import ModelSpec


def blocks(seed: int, size_hw: tuple[int, int] = (64, 96), classes: int = 3) -> np.ndarray:
    """HxW uint8 ids in regions of a few pixels to a third of the picture, with holes and ragged edges."""
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.random((*size_hw, classes)).astype(np.float32), (0, 0), 3 + seed % 5)
    return noise.reshape(*size_hw, classes).argmax(axis=2).astype(np.uint8)


def segmentation(
    ids: np.ndarray,
    index: int = 0,
    source: str = "",
    captured_ns: int = 0,
    confidence: np.ndarray | None = None,
    size_hw: tuple[int, int] | None = None,
    class_count: int = 3,
) -> Segmentation:
    """A result whose frame is grey, as large as the ids unless ``size_hw`` says otherwise."""
    image = np.full((*(size_hw or ids.shape), 3), 100, np.uint8)
    frame = Frame(image, index, captured_ns, f"{index:06d}", source=source)
    return Segmentation(frame, ids, {"infer": 12.3456, "frame": 15.0}, class_count, confidence)


def context(spec: ModelSpec, fps: float = 0.0, by_source: bool = False, overwrite: bool = False) -> SinkContext:
    """Of a run with one source: a video where it has ``fps``, else a live one."""
    state = RunState(ConfusionMatrix(len(spec.classes), spec.ignore_id))
    state.sources[""] = SourceState("", "a video", is_live=not fps, announced_fps=fps)
    return SinkContext(spec, Painter(spec), state, by_source=by_source, overwrite=overwrite)
