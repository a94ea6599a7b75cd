"""What ``edgeseg bench``, ``tune``, ``eval`` and ``verify`` can be told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Sequence

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
from edgeseg.app.shipped import absolute_model

__all__ = ["BenchConfig", "EvalConfig", "TuneConfig", "VerifyConfig"]


def _source_field() -> Any:
    return option(
        "demo://street?frames=16&step=30&size=640x480",
        help="Frames to time with: a folder or demo://street?frames=N.",
        is_path=True,
        absolute=absolute_data,
    )


_PANELS = ("Beside the times", "Other questions", "Results as files")


@dataclass(frozen=True)
class BenchConfig(Config):
    """A measurement of everything that runs a bundle here."""

    models: Sequence[Path] = option(
        (),
        is_argument=True,
        is_path=True,
        absolute=absolute_model,
        help="Bundles, of any sizes and batches, or names of 'edgeseg models'; else your newest *.edgeseg here, else "
        "the shipped one.",
    )
    source: str = _source_field()
    seconds: float = option(10.0, help="Measuring time per contender.", at_least=0.1)
    calls: int = option(0, help="Time so many calls per contender in place of `seconds`.", at_least=0)
    warmup: float = option(3.0, help="Warm-up time per contender, in seconds.", at_least=0.0)
    warmup_calls: int = option(2, help="Calls that the warm-up has at least.", at_least=2)
    engine: str = engine_field(help="auto: all that runs here; else only the one named.")
    threads: Sequence[int] = option(
        (0,),
        help="CPU threads for every contender, 0 for all; several: each of them is timed.",
        at_least=0,
        at_most=1024,
    )
    torch: bool = option(True, help="Also time PyTorch eager, where it is installed.")
    torch_size: Optional[str] = option(
        None, help="Input of the PyTorch network, WIDTHxHEIGHT; else the model's, rounded up to 32."
    )
    data: Optional[str] = option(
        None,
        help="Folder of images and masks: adds mIoU and the worst class per graph.",
        is_path=True,
        absolute=absolute_data,
        panel=_PANELS[0],
    )
    camera_fps: float = option(
        0.0, help="Also the age of results where a camera gives so many frames per second; 0 leaves it out.",
        at_least=0, at_most=10_000, panel=_PANELS[0],
    )  # fmt: skip
    memory: bool = option(True, help="Also the peak memory of each graph in a process of its own.", panel=_PANELS[0])
    layers: bool = option(False, help="Also the time of each layer.", panel=_PANELS[0])
    soak: str = option(
        "", help="In place of a comparison: run the first contender so long, as in 90s, 20m or 1h.", panel=_PANELS[1]
    )
    compare: bool = option(
        False, help="`models` are two files of `result`, before and after: tell what changed.", panel=_PANELS[1]
    )
    result: Optional[Path] = option(
        None, help="Write the JSON document, which `compare` reads.", is_path=True, panel=_PANELS[2]
    )
    html: Optional[Path] = option(None, help="Write a page with charts.", is_path=True, panel=_PANELS[2])
    csv: Optional[Path] = option(None, help="Write a table.", is_path=True, panel=_PANELS[2])
    overwrite: bool = option(False, help="Replace files of these names.", panel=_PANELS[2])
    calibrate: Optional[Path] = option(
        None,
        is_path=True,
        metavar="ROWS.json",
        panel=_PANELS[2],
        help="On a Jetson: write what TensorRT took, for 'edgeseg estimate --measured'. Rows that are there stay.",
    )
    require_signature: Optional[Path] = signature_field()


@dataclass(frozen=True)
class TuneConfig(Config):
    """A choice of what runs a bundle on this device."""

    model: Optional[Path] = model_field()
    flavour: str = option(
        "auto", help="auto: TensorRT on a Jetson, the engines of the CPU elsewhere; or cpu, tensorrt, rtx."
    )
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
    threads: int = option(0, help="CPU threads, 0 for all.", at_least=0, at_most=1024)
    require_signature: Optional[Path] = signature_field()


@dataclass(frozen=True)
class VerifyConfig(Config):
    """A self-test of a bundle on what would run it here."""

    model: Optional[Path] = model_field()
    graph: Optional[str] = graph_field()
    engine: str = engine_field()
    require_signature: Optional[Path] = signature_field()
