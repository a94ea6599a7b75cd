"""Load a model, open an engine for it, segment one image: what a Python program does without a camera loop."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from edgeseg.app.config import EngineOptions
from edgeseg.app.engines import opened_engine
from edgeseg.app.shipped import model_path
from edgeseg.bundle import Bundle, read_bundle
from edgeseg.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from edgeseg.engines.base import Engine
    from edgeseg.runtime.frame import Segmentation

__all__ = ["load", "open_engine", "segment"]


def load(path: str | Path | None = None) -> Bundle:
    """Read and verify a bundle; without a path the shipped model.

    Args:
        path: of a ``.edgeseg`` file, or the name of a shipped model. ``read_bundle`` also demands signatures.

    Raises:
        BundleError: missing, truncated, altered, or from a newer edgeseg.
    """
    return read_bundle(model_path(path))


def open_engine(
    model: Bundle, engine: str | EngineOptions = "auto", *, on_note: Callable[[str], None] = lambda line: None
) -> Engine:
    """Open an engine for a model; TensorRT's is built first where the cache of this machine has none.

    Args:
        model: of ``load`` or ``compile_model``.
        engine: ``"auto"`` (TensorRT on a Jetson, else the CPU engine that ``edgeseg tune`` chose or that is measured
            fastest for such a CPU; ``on_note`` hears why), ``"onnxruntime"``, ``"openvino"``,
            ``"tensorrt"``, ``"rtx"``, or options.
        on_note: takes a line for people at a time, while an engine is chosen, built and tested.

    Returns:
        The engine, a context manager.

    Raises:
        EngineError: it cannot be opened here. MissingDependencyError: its package is not installed.
        UsageError: there is no such engine or graph.
    """
    options = engine if isinstance(engine, EngineOptions) else EngineOptions(engine=engine)
    if not isinstance(model, Bundle):
        raise UsageError(f"an engine is opened for a Bundle, got a {type(model).__name__}; edgeseg.load reads one")
    opened = opened_engine(model, "model.edgeseg", options, tell=on_note)
    opened.spec = model.spec
    return opened


def segment(engine: Engine, image: np.ndarray) -> Segmentation:
    """Segment one image.

    Args:
        engine: of ``open_engine``. Of an engine for batches the first place is used.
        image: HxWx3 uint8, BGR, of any size.

    Returns:
        ``classes`` is the class map at the image's size (HxW uint8), ``ids`` that at the network's, ``area`` the share
        of each class. Its arrays are its own.

    Raises:
        EngineError: the engine is closed or failed. ImageError: the image is not HxWx3 uint8, or empty.
    """
    from edgeseg.runtime.frame import Frame, Segmentation
    from edgeseg.runtime.loop.pipeline import confidence_per_class
    from edgeseg.spec import Preprocess

    if isinstance(engine, Bundle):
        raise UsageError("an image is segmented by an engine, got a Bundle; edgeseg.open_engine opens one for it")
    taken_ns = time.perf_counter_ns()
    preprocess = Preprocess() if engine.spec is None else engine.spec.preprocess
    preprocess.resized(image, (engine.input.shape[1], engine.input.shape[2]), out=engine.input[0])
    prepared_ns = time.perf_counter_ns()
    ids = engine.infer(engine.input)[0].copy()
    laps_ms = {"preprocess": (prepared_ns - taken_ns) / 1e6, "infer": (time.perf_counter_ns() - prepared_ns) / 1e6}
    confidence = None if engine.scores is None else confidence_per_class(engine.scores[0], ids)
    count = 256 if engine.spec is None else len(engine.spec.classes)
    return Segmentation(Frame(image, 0, taken_ns, "0"), ids, laps_ms, count, confidence, preprocess.resize)
