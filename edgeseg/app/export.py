"""Write a model for a server of others."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from edgeseg.app.engines import FactoryFrom, quiet_factory
from edgeseg.app.export_config import ExportTritonConfig
from edgeseg.app.models import bundle_or_default, chosen_path, model_stem
from edgeseg.bundle import Bundle
from edgeseg.errors import EngineError, UsageError, require
from edgeseg.serving.repository import (
    ServedModel,
    onnx_model,
    python_model,
    repository_files,
    tensorrt_model,
    write_files,
)

__all__ = ["Exported", "export_triton"]

_NAME = re.compile(r"[A-Za-z0-9_][\w.-]{0,63}", re.ASCII)


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        model: the bundle's name, with the reason why it was taken.
        name: of the model in the server.
        backend: that runs it.
        files: paths below the repository.
        repository: the folder.
    """

    model: str
    name: str
    backend: str
    files: tuple[str, ...]
    repository: Path

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        return {**vars(self), "files": list(self.files), "repository": str(self.repository)}


def export_triton(
    config: ExportTritonConfig,
    tell: Callable[[str], None] = lambda line: None,
    *,
    factory_from: FactoryFrom = quiet_factory,
) -> Exported:
    """Write a model into a repository of Triton.

    Args:
        config: of the export.
        tell: takes a line for people at a time.
        factory_from: gives the maker of TensorRT engines.

    Raises:
        UsageError: the configuration makes no sense.
        ForeignFileError: the model is there already.
        EdgesegError: the bundle cannot be read, or has no such graph, or TensorRT cannot build it here.
    """
    bundle, model = bundle_or_default(config.model, config.require_signature)
    name = config.name or model_stem(model)
    if not _NAME.fullmatch(name):
        raise UsageError(f"`name` is up to 64 letters, digits, dots, dashes and underscores, got {name!r}")
    if config.batch and config.backend != "onnxruntime":
        raise UsageError(f"`batch` is for `backend` onnxruntime; {config.backend} takes what the bundle has")
    if config.graph is not None and config.backend == "python":
        raise UsageError(
            "`graph` is for `backend` onnxruntime and tensorrt; `engine` says what runs the bundle in python"
        )
    served = _served(config, bundle, model, tell, factory_from)
    files = repository_files(bundle, name, served)
    write_files(config.repository, files, overwrite=config.overwrite)
    return Exported(model, name, served.backend, tuple(files), config.repository)


def _served(
    config: ExportTritonConfig, bundle: Bundle, model: str, tell: Callable[[str], None], factory_from: FactoryFrom
) -> ServedModel:
    if config.backend == "python":
        return python_model(bundle, chosen_path(config.model).read_bytes(), config.engine)
    if config.backend == "onnxruntime":
        return _graph(config, bundle)
    return _plan(config, bundle, model, tell, factory_from)


def _graph(config: ExportTritonConfig, bundle: Bundle) -> ServedModel:
    from edgeseg.engines.select import cpu_graphs

    names = cpu_graphs(bundle)
    graph = config.graph or (names[0] if names else "")
    if graph not in names:
        raise EngineError(f"the bundle has no graph {graph!r} for ONNX Runtime; it has {', '.join(names) or 'none'}")
    onnx = bundle.graphs[graph].onnx
    if config.batch:
        from edgeseg.compiler.graph.batch import batched_onnx

        loaded = require("onnx", "compile").load_from_string(onnx)
        onnx = batched_onnx(loaded, config.batch).SerializeToString()
    return onnx_model(onnx, graph, on_cpu=bundle.graphs[graph].target == "cpu")


def _plan(
    config: ExportTritonConfig, bundle: Bundle, model: str, tell: Callable[[str], None], factory_from: FactoryFrom
) -> ServedModel:
    from edgeseg.engines.ort import OrtEngine
    from edgeseg.engines.tensorrt.factory import TensorRtOptions

    with factory_from("tensorrt", tell) as factory:
        opened = factory.open(bundle, model_stem(model), TensorRtOptions(precision=config.graph))
    with opened.engine as engine:
        # The graphs of a bundle name their ports alike.
        name, entry = next(iter(bundle.graphs.items()))
        with OrtEngine(entry.onnx, name, threads=1, float_qdq=True) as graph:
            names = graph.port_names
        return tensorrt_model(opened.cached.plan(), engine, names, float_ports=opened.cached.float_ports)
