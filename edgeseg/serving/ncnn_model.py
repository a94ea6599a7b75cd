"""Make a model of ncnn, the runtime of phones and small boards, with ncnn's own converter pnnx."""

from __future__ import annotations

import importlib.util
import subprocess
import tempfile
from pathlib import Path
from typing import Mapping

import numpy as np

from edgeseg.errors import EngineError, require

__all__ = ["ncnn_class_maps", "ncnn_files"]

_PARAM, _BIN = "model.ncnn.param", "model.ncnn.bin"
_TIMEOUT_S = 600


def ncnn_files(onnx: bytes, size_hw: tuple[int, int]) -> dict[str, bytes]:
    """Convert a graph; weights become float16.

    Args:
        onnx: 1x3xHxW float32 -> 1xCxHxW float32.
        size_hw: height and width of the frames in pixels.

    Returns:
        ``model.ncnn.param`` and ``model.ncnn.bin``: blob ``in0`` 3xHxW float32 -> ``out0`` CxHxW float32.

    Raises:
        EngineError: pnnx fails, or leaves an operator that ncnn has not.
        MissingDependencyError: the package pnnx is not installed.
    """
    program = _pnnx()
    height, width = size_hw
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "model.onnx").write_bytes(onnx)
        command = [program, "model.onnx", f"inputshape=[1,3,{height},{width}]f32", "fp16=1"]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise EngineError(f"pnnx does not run: {error}") from error
        made = [Path(folder) / name for name in (_PARAM, _BIN)]
        if done.returncode or not all(path.is_file() for path in made):
            said = (done.stderr or done.stdout).strip().splitlines()
            raise EngineError(f"pnnx cannot convert the graph: {said[-1][:200] if said else 'it says nothing'}")
        return {path.name: path.read_bytes() for path in made}


def _pnnx() -> str:
    """Return the path of the converter. The package imports torch, which the converter needs not."""
    package = importlib.util.find_spec("pnnx")
    if package is None or package.origin is None:
        return str(require("pnnx", "ncnn").EXEC_PATH)
    return str(Path(package.origin).with_name("pnnx"))


def ncnn_class_maps(files: Mapping[str, bytes], frames: np.ndarray) -> np.ndarray:
    """Run a model of ``ncnn_files`` by ncnn on this CPU.

    Args:
        files: of the model.
        frames: NxHxWx3 uint8 BGR at network size.

    Returns:
        NxHxW uint8 class ids.

    Raises:
        EngineError: ncnn cannot load or run it.
        MissingDependencyError: the package ncnn is not installed.
    """
    ncnn = require("ncnn", "ncnn")
    found = []
    with tempfile.TemporaryDirectory() as folder, ncnn.Net() as net:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        if net.load_param(str(Path(folder) / _PARAM)) or net.load_model(str(Path(folder) / _BIN)):
            raise EngineError("ncnn cannot load what pnnx made; the graph has an operator that ncnn has not")
        for frame in frames:
            planes = np.ascontiguousarray(frame.transpose(2, 0, 1), np.float32)
            with net.create_extractor() as extractor:
                extractor.input("in0", ncnn.Mat(planes))
                failed, scores = extractor.extract("out0")
                if failed:
                    raise EngineError("ncnn cannot run what pnnx made; the graph has an operator that ncnn has not")
                found.append(np.array(scores).argmax(0).astype(np.uint8))
    return np.stack(found)
