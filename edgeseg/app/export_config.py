"""What ``edgeseg export`` can be told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from edgeseg.app.fields import Config, option
from edgeseg.app.model_fields import engine_field, graph_field, model_field, signature_field
from edgeseg.serving.deepstream import PRECISIONS
from edgeseg.serving.repository import BACKENDS

__all__ = ["ExportDeepstreamConfig", "ExportRuntimeConfig", "ExportTritonConfig"]


@dataclass(frozen=True)
class ExportTritonConfig(Config):
    """A model in a repository of NVIDIA's Triton Inference Server."""

    model: Optional[Path] = model_field()
    repository: Path = option(Path("models"), is_argument=True, is_path=True, help="Folder of the server's models.")
    name: str = option("", help="Name of the model in the server; else that of the bundle's file.")
    backend: str = option(
        "python",
        help="python: edgeseg runs the bundle in the server. onnxruntime: a graph. tensorrt: an engine, built here.",
        choices=BACKENDS,
    )
    graph: Optional[str] = graph_field()
    engine: str = engine_field("With `backend` python: what runs the bundle in the server.")
    batch: int = option(0, help="With `backend` onnxruntime: frames per request, else those of the bundle.", at_least=0)
    overwrite: bool = option(False, help="Replace a model of that name.")
    require_signature: Optional[Path] = signature_field()


@dataclass(frozen=True)
class ExportDeepstreamConfig(Config):
    """A folder for nvinfer of NVIDIA's DeepStream."""

    model: Optional[Path] = model_field()
    folder: Path = option(Path("deepstream"), is_argument=True, is_path=True, help="Folder to write.")
    precision: str = option(
        "auto",
        help="auto: int8 where the bundle has a Q/DQ graph for TensorRT, else fp16.",
        choices=("auto", *PRECISIONS),
    )
    batch: int = option(1, help="Most frames at once: the batch-size of nvstreammux.", at_least=1)
    overwrite: bool = option(False, help="Replace files of the folder.")
    require_signature: Optional[Path] = signature_field()


@dataclass(frozen=True)
class ExportRuntimeConfig(Config):
    """A model of another runtime: ncnn, LiteRT or ExecuTorch."""

    model: Optional[Path] = model_field()
    folder: Path = option(Path("exported"), is_argument=True, is_path=True, help="Folder to write.")
    overwrite: bool = option(False, help="Replace files of the folder.")
    require_signature: Optional[Path] = signature_field()
