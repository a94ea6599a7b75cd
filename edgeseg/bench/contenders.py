"""What is compared: our engines, and PyTorch eager on the network that people would otherwise run."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeseg.bench.measure import Contender
from edgeseg.engines.base import Engine
from edgeseg.errors import require
from edgeseg.preprocess import normalized
from edgeseg.resizing import class_map_at
from edgeseg.spec import ModelSpec, Preprocess
from edgeseg.timing import Stopwatch

__all__ = ["engine_contender", "torch_contender"]


def engine_contender(name: str, engine: Engine, spec: ModelSpec) -> Contender:
    """Frame -> class map at the frame's size through one of our engines; the steps are those of ``edgeseg run``."""

    def segment(frame: np.ndarray, watch: Stopwatch) -> np.ndarray:
        with watch.lap("preprocess"):
            spec.resized(frame, out=engine.input[0])
        with watch.lap("infer"):
            classes = engine.infer(engine.input)[0]
        for part, ms in engine.laps_ms.items():
            watch.add(part, int(ms * 1e6))
        with watch.lap("postprocess"):
            return spec.class_map_on(classes, (frame.shape[0], frame.shape[1]))

    return Contender(name, segment)


def torch_contender(size_hw: tuple[int, int], classes: int, threads: int) -> Contender:
    """Return the same steps in PyTorch eager: ``segmentation_models_pytorch.Unet("mobilenet_v2")``, random weights.

    Raises:
        MissingDependencyError: torch or segmentation-models-pytorch is not installed.
    """
    torch: Any = require("torch", "train")
    smp: Any = require("segmentation_models_pytorch", "train")
    if threads:
        torch.set_num_threads(threads)
    network = smp.Unet("mobilenet_v2", encoder_weights=None, classes=classes).eval()
    preprocess = Preprocess()

    def segment(frame: np.ndarray, watch: Stopwatch) -> np.ndarray:
        with watch.lap("preprocess"):
            image = torch.from_numpy(normalized(preprocess.resized(frame, size_hw)[None], preprocess))
        with watch.lap("infer"), torch.inference_mode():
            logits = network(image)
        with watch.lap("postprocess"):
            found = logits.argmax(1)[0].to(torch.uint8).numpy()
            return class_map_at(found, (frame.shape[0], frame.shape[1]))

    height, width = size_hw
    return Contender(f"PyTorch {torch.__version__} eager, smp Unet mobilenet_v2 {width}x{height}", segment)
