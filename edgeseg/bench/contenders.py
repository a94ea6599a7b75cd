"""What is compared: our engines, and PyTorch eager on the network that people would otherwise run."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Mapping

import numpy as np

from edgeseg.bench.measure import Contender
from edgeseg.engines.base import Engine
from edgeseg.errors import EngineError, require
from edgeseg.preprocess import normalized
from edgeseg.resizing import class_map_at
from edgeseg.spec import ModelSpec, Preprocess
from edgeseg.timing import Stopwatch

__all__ = ["engine_contender", "torch_contender"]


def engine_contender(
    name: str, engine: Engine, spec: ModelSpec, facts: Mapping[str, Any] = MappingProxyType({})
) -> Contender:
    """Frame -> class map at the frame's size through one of our engines; the steps are those of ``edgeseg run``.

    An engine of batch N is given the frame N times.
    """

    def segment(frame: np.ndarray, watch: Stopwatch) -> np.ndarray:
        with watch.lap("preprocess"):
            for row in engine.input:
                spec.resized(frame, out=row)
        with watch.lap("infer"):
            found = engine.infer(engine.input)
        for part, ms in engine.laps_ms.items():
            watch.add(part, int(ms * 1e6))
        with watch.lap("postprocess"):
            for classes in found:
                whole = spec.class_map_on(classes, (frame.shape[0], frame.shape[1]))
        return whole

    return Contender(name, segment, len(engine.input), facts)


def torch_contender(size_hw: tuple[int, int], classes: int, threads: int, suffix: str = "") -> Contender:
    """Return the same steps in PyTorch eager: ``segmentation_models_pytorch.Unet("mobilenet_v2")``, random weights.

    Args:
        size_hw: of its input, multiples of 32.
        classes: that it tells apart.
        threads: of the CPU, 0 for all.
        suffix: that tells it from another one.

    Raises:
        MissingDependencyError: torch or segmentation-models-pytorch is not installed.
    """
    import cv2

    torch: Any = require("torch", "train")
    smp: Any = require("segmentation_models_pytorch", "train")
    threads_used = threads or torch.get_num_threads()
    network = smp.Unet("mobilenet_v2", encoder_weights=None, classes=classes).eval()
    preprocess = Preprocess()

    def segment(frame: np.ndarray, watch: Stopwatch) -> np.ndarray:
        if torch.get_num_threads() != threads_used:  # one number for the process, which another contender set
            torch.set_num_threads(threads_used)
        try:
            with watch.lap("preprocess"):
                image = torch.from_numpy(normalized(preprocess.resized(frame, size_hw)[None], preprocess))
            with watch.lap("infer"), torch.inference_mode():
                logits = network(image)
            with watch.lap("postprocess"):
                found = logits.argmax(1)[0].to(torch.uint8).numpy()
                return class_map_at(found, (frame.shape[0], frame.shape[1]))
        except (RuntimeError, MemoryError, cv2.error) as error:  # a size that memory does not hold, or OpenCV
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise EngineError(f"PyTorch at {size_hw[1]}x{size_hw[0]}: {lines[0]}") from error

    height, width = size_hw
    name = f"PyTorch {torch.__version__} eager, smp Unet mobilenet_v2 {width}x{height}{suffix}"
    return Contender(name, segment, facts={"engine": "pytorch", "threads": threads, "size_hw": [height, width]})
