"""What ``edgeseg bench``, ``tune``, ``eval`` and ``verify`` can be told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from edgeseg.app.data import absolute_data
from edgeseg.app.fields import Config, option
from edgeseg.app.model_fields import (
    engine_field,
    fallback_field,
    graph_field,
    model_field,
    program_field,
    signature_field,
)

__all__ = ["BenchConfig", "EvalConfig", "TuneConfig", "VerifyConfig"]


def _source_field() -> Any:
    return option(
        "demo://street?frames=16&step=30&size=640x480",
        help="Frames to time with: a folder or demo://street?frames=N.",
        is_path=True,
        absolute=absolute_data,
    )


@dataclass(frozen=True)
class BenchConfig(Config):
    """A measurement of everything that runs a bundle here."""

    model: Optional[Path] = model_field()
    source: str = _source_field()
    data: Optional[str] = option(
        None, help="Folder of images and masks: adds mIoU per graph.", is_path=True, absolute=absolute_data
    )
    seconds: float = option(10.0, help="Measuring time per contender.", at_least=0.1)
    warmup: float = option(3.0, help="Warm-up time per contender, in seconds.", at_least=0.0)
    engine: str = engine_field(help="auto: all that runs here; else only the one named.")
    threads: int = option(0, help="CPU threads for every contender, 0 for all.", at_least=0)
    torch: bool = option(True, help="Also time PyTorch eager, where it is installed.")
    torch_size: Optional[str] = option(
        None, help="Input of the PyTorch network, WIDTHxHEIGHT; else the model's, rounded up to 32."
    )
    require_signature: Optional[Path] = signature_field()


@dataclass(frozen=True)
class TuneConfig(Config):
    """A choice among the precisions of TensorRT on this device."""

    model: Optional[Path] = model_field()
    flavour: str = option("tensorrt", help="tensorrt or rtx.")
    source: str = _source_field()
    seconds: float = option(10.0, help="Measuring time per candidate.", at_least=0.1)
    warmup: float = option(5.0, help="Warm-up time per candidate, in seconds.", at_least=0.0)
    require_signature: Optional[Path] = signature_field()


@dataclass(frozen=True)
class EvalConfig(Config):
    """An evaluation of a bundle, or of a folder of masks, against labels."""

    model: Optional[Path] = model_field()
    data: Optional[str] = option(
        None,
        help="Folder of images with masks beside them, or demo://street?frames=N.",
        is_path=True,
        absolute=absolute_data,
    )
    masks: Optional[Path] = option(
        None, help="Instead of running the model: masks written by 'edgeseg run'.", is_path=True
    )
    labels: Optional[Path] = option(
        None, help="Folder of label masks, where they are not beside the images.", is_path=True
    )
    by_size: Optional[str] = option(
        None,
        help="Count objects too, connected pixels of a class, by area: limits in pixels, as in 16,64,256.",
    )
    graph: Optional[str] = graph_field()
    engine: str = engine_field()
    fallback: bool = fallback_field()
    program: Optional[Path] = program_field()
    threads: int = option(0, help="CPU threads, 0 for all.", at_least=0)
    require_signature: Optional[Path] = signature_field()


@dataclass(frozen=True)
class VerifyConfig(Config):
    """A self-test of a bundle on what would run it here."""

    model: Optional[Path] = model_field()
    graph: Optional[str] = graph_field()
    engine: str = engine_field()
    require_signature: Optional[Path] = signature_field()
