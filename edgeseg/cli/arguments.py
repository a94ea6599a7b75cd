"""Options that several commands share."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Optional

import typer
from typing_extensions import Annotated

from edgeseg.app.config import REQUIRE_SIGNATURE

__all__ = [
    "EngineName",
    "EngineOption",
    "FallbackOption",
    "GraphOption",
    "ProgramOption",
    "RequireSignatureOption",
]


class EngineName(str, Enum):
    """What may follow ``--engine``."""

    auto = "auto"
    onnxruntime = "onnxruntime"
    openvino = "openvino"
    tensorrt = "tensorrt"
    rtx = "rtx"
    torch_tensorrt = "torch-tensorrt"


EngineOption = Annotated[
    EngineName,
    typer.Option(
        "--engine", help="auto: TensorRT on a Jetson, ONNX Runtime elsewhere. rtx: TensorRT-RTX on an RTX GPU."
    ),
]
GraphOption = Annotated[
    Optional[str],
    typer.Option(
        help="Graph of the bundle, e.g. int8-cpu or fp32; for TensorRT: int8-implicit, int8-qdq, fp16 or fp32."
    ),
]
ProgramOption = Annotated[
    Optional[Path],
    typer.Option(help="With --engine torch-tensorrt: the .pt2 program that was compiled of the same network."),
]
FallbackOption = Annotated[
    bool, typer.Option("--fallback", help="Where TensorRT cannot be used, run on the CPU and say so.")
]

RequireSignatureOption = Annotated[
    Optional[Path],
    typer.Option(
        "--require-signature",
        envvar=REQUIRE_SIGNATURE,
        metavar="PUBLIC_KEY",
        help="Open a bundle only if 'edgeseg sign' signed it with the key of this PEM file (or one of several).",
    ),
]
