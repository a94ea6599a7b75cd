"""Make models of ncnn, LiteRT and ExecuTorch by pnnx, ncnn's own converter.

pnnx reads ONNX and writes a model of ncnn, and the same network as a program of PyTorch. LiteRT and ExecuTorch take
that. Each model runs on the golden frames at once, since a converter that drops something says nothing.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Mapping

import numpy as np

from edgeseg.errors import EngineError, require
from edgeseg.recipes import FP16, FP32

__all__ = ["RUNTIMES", "Converted", "Runtime"]

_PARAM, _BIN = "model.ncnn.param", "model.ncnn.bin"
_PROGRAM = Path(__file__).with_name("torch_program.py")
_TIMEOUT_S = 1800


@dataclass(frozen=True)
class Converted:
    """A model of another runtime.

    Attributes:
        files: its files by name.
        classes: NxHxW uint8 ids that the runtime gave for the frames.
    """

    files: Mapping[str, bytes]
    classes: np.ndarray


@dataclass(frozen=True)
class Runtime:
    """A row of ``RUNTIMES``.

    Attributes:
        title: as its makers write it.
        precision: of the weights, ``"fp16"`` or ``"fp32"``.
        convert: takes an ONNX model from Nx3xHxW float32, BGR of 0-255, to scores NxCxHxW, and frames NxHxWx3 uint8
            BGR. Raises EngineError: the converter or the runtime fails; MissingDependencyError: it is not installed.
    """

    title: str
    precision: str
    convert: Callable[[bytes, np.ndarray], Converted]


def _ncnn(onnx: bytes, frames: np.ndarray) -> Converted:
    """Blob ``in0`` 3xHxW float32 BGR of 0-255 -> ``out0`` CxHxW float32."""
    ncnn = require("ncnn", "ncnn")
    found = []
    with tempfile.TemporaryDirectory() as folder:
        files = _made_by_pnnx(onnx, frames.shape[1:3], "ncnn", Path(folder), (_PARAM, _BIN))
        with ncnn.Net() as net:
            if net.load_param(f"{folder}/{_PARAM}") or net.load_model(f"{folder}/{_BIN}"):
                raise EngineError("ncnn cannot load what pnnx made; the graph has an operator that ncnn has not")
            for frame in frames:
                planes = np.ascontiguousarray(frame.transpose(2, 0, 1), np.float32)
                with net.create_extractor() as extractor:
                    extractor.input("in0", ncnn.Mat(planes))
                    failed, scores = extractor.extract("out0")
                    if failed:
                        raise EngineError("ncnn cannot run what pnnx made; the graph has an operator that ncnn has not")
                    found.append(np.array(scores).argmax(0).astype(np.uint8))
    return Converted(files, np.stack(found))


def _litert(onnx: bytes, frames: np.ndarray) -> Converted:
    """1xHxWx3 float32 BGR of 0-255 -> 1xHxWxC float32."""
    return _converted_by_torch(onnx, frames, "litert", "litert_torch", "model.tflite")


def _executorch(onnx: bytes, frames: np.ndarray) -> Converted:
    """1x3xHxW float32 BGR of 0-255 -> 1xCxHxW float32, for ExecuTorch's XNNPACK."""
    return _converted_by_torch(onnx, frames, "executorch", "executorch", "model.pte")


def _converted_by_torch(onnx: bytes, frames: np.ndarray, runtime: str, module: str, name: str) -> Converted:
    """In a process of its own: these libraries print a lot, and start threads that stay."""
    _require_installed(module, runtime)
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        _made_by_pnnx(onnx, frames.shape[1:3], runtime, here, ("model_pnnx.py", "model.pnnx.bin"))
        np.save(here / "frames.npy", frames)
        command = [sys.executable, "-c", _PROGRAM.read_text(), runtime, name]
        (content,) = _made_by(command, here, (name,)).values()
        return Converted({name: content}, np.load(here / "classes.npy", allow_pickle=False))


def _made_by_pnnx(
    onnx: bytes, size_hw: tuple[int, ...], extra: str, folder: Path, names: tuple[str, ...]
) -> dict[str, bytes]:
    _require_installed("pnnx", extra)
    package = importlib.util.find_spec("pnnx")
    assert package is not None and package.origin is not None
    program = Path(package.origin).with_name("pnnx")  # the package itself imports torch, which its program needs not
    height, width = size_hw
    (folder / "model.onnx").write_bytes(onnx)
    return _made_by([str(program), "model.onnx", f"inputshape=[1,3,{height},{width}]f32", "fp16=1"], folder, names)


def _made_by(command: list[str], folder: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """Run a converter in a folder; return the files that it made."""
    what = Path(command[0]).name if len(command) < 5 else command[3]
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"{what} does not run: {error}") from error
    if done.returncode or not all((folder / name).is_file() for name in names):
        said = (done.stderr or done.stdout).strip().splitlines()
        raise EngineError(f"{what} cannot convert the graph: {said[-1][:200] if said else 'it says nothing'}")
    return {name: (folder / name).read_bytes() for name in names}


def _require_installed(module: str, extra: str) -> None:
    """Raise MissingDependencyError unless a package is here, without importing one that is."""
    if importlib.util.find_spec(module) is None:
        require(module, extra)


RUNTIMES: Mapping[str, Runtime] = {
    "ncnn": Runtime("ncnn", FP16, _ncnn),
    "litert": Runtime("LiteRT", FP32, _litert),
    "executorch": Runtime("ExecuTorch", FP32, _executorch),
}
"""What ``edgeseg export`` writes beside models for servers; each is an extra of that name."""
