"""edgeseg: semantic segmentation from training to an NVIDIA Jetson. See README.md for the commands."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeseg.app.config import EngineOptions, RunConfig
    from edgeseg.app.network import build
    from edgeseg.app.predict import open_predictor
    from edgeseg.app.run import run
    from edgeseg.app.segment import load, open_engine, segment
    from edgeseg.app.train import train
    from edgeseg.app.train_config import TrainConfig
    from edgeseg.bundle import Bundle, read_bundle, write_bundle
    from edgeseg.compiler.options import CompileOptions, NetworkOptions
    from edgeseg.compiler.pipeline import Compilation, compile_model
    from edgeseg.engines.base import Engine
    from edgeseg.errors import (
        BundleError,
        CheckpointError,
        CompileError,
        DatasetError,
        DeployError,
        EdgesegError,
        EngineError,
        ForeignFileError,
        GateRefused,
        ImageError,
        InputError,
        MissingDependencyError,
        SignatureError,
        SinkError,
        SourceError,
        SpecError,
        TrainingError,
        UsageError,
    )
    from edgeseg.images import Dataset
    from edgeseg.metrics import ConfusionMatrix
    from edgeseg.prediction.predictor import Prediction, PredictOptions, Predictor
    from edgeseg.ranges import Ranges
    from edgeseg.recipes import Recipe
    from edgeseg.report_data import Limits
    from edgeseg.runtime.frame import Frame, Segmentation
    from edgeseg.runtime.sinks.base import FrameSink
    from edgeseg.runtime.sources.base import EndOfStream, FrameSource
    from edgeseg.spec import ModelSpec, Preprocess

__version__ = "0.3.0"
__all__ = [
    "Bundle",
    "BundleError",
    "CheckpointError",
    "Compilation",
    "CompileError",
    "CompileOptions",
    "ConfusionMatrix",
    "Dataset",
    "DatasetError",
    "DeployError",
    "EdgesegError",
    "EndOfStream",
    "Engine",
    "EngineError",
    "EngineOptions",
    "ForeignFileError",
    "Frame",
    "FrameSink",
    "FrameSource",
    "GateRefused",
    "ImageError",
    "InputError",
    "Limits",
    "MissingDependencyError",
    "ModelSpec",
    "NetworkOptions",
    "PredictOptions",
    "Prediction",
    "Predictor",
    "Preprocess",
    "Ranges",
    "Recipe",
    "RunConfig",
    "Segmentation",
    "SignatureError",
    "SinkError",
    "SourceError",
    "SpecError",
    "TrainConfig",
    "TrainingError",
    "UsageError",
    "build",
    "compile_model",
    "load",
    "open_engine",
    "open_predictor",
    "read_bundle",
    "run",
    "segment",
    "train",
    "write_bundle",
]

_MODULES = {
    "edgeseg.app.config": (
        "EngineOptions",
        "RunConfig",
    ),
    "edgeseg.app.network": ("build",),
    "edgeseg.app.predict": ("open_predictor",),
    "edgeseg.app.run": ("run",),
    "edgeseg.app.segment": (
        "load",
        "open_engine",
        "segment",
    ),
    "edgeseg.app.train": ("train",),
    "edgeseg.app.train_config": ("TrainConfig",),
    "edgeseg.bundle": (
        "Bundle",
        "read_bundle",
        "write_bundle",
    ),
    "edgeseg.compiler.options": (
        "CompileOptions",
        "NetworkOptions",
    ),
    "edgeseg.compiler.pipeline": (
        "Compilation",
        "compile_model",
    ),
    "edgeseg.engines.base": ("Engine",),
    "edgeseg.errors": (
        "BundleError",
        "CheckpointError",
        "CompileError",
        "DatasetError",
        "DeployError",
        "EdgesegError",
        "EngineError",
        "ForeignFileError",
        "GateRefused",
        "ImageError",
        "InputError",
        "MissingDependencyError",
        "SignatureError",
        "SinkError",
        "SourceError",
        "SpecError",
        "TrainingError",
        "UsageError",
    ),
    "edgeseg.images": ("Dataset",),
    "edgeseg.metrics": ("ConfusionMatrix",),
    "edgeseg.prediction.predictor": (
        "PredictOptions",
        "Prediction",
        "Predictor",
    ),
    "edgeseg.ranges": ("Ranges",),
    "edgeseg.recipes": ("Recipe",),
    "edgeseg.report_data": ("Limits",),
    "edgeseg.runtime.frame": (
        "Frame",
        "Segmentation",
    ),
    "edgeseg.runtime.sinks.base": ("FrameSink",),
    "edgeseg.runtime.sources.base": (
        "EndOfStream",
        "FrameSource",
    ),
    "edgeseg.spec": (
        "ModelSpec",
        "Preprocess",
    ),
}
"""Where a public name comes from. It is imported when it is asked for: a device runs without the compiler."""
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Return a public name, imported now. Raises AttributeError: there is none of that name."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'edgeseg' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
