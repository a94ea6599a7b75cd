"""Make models of ncnn, LiteRT and ExecuTorch by pnnx, ncnn's own converter.

pnnx reads ONNX and writes a model of ncnn, and the same network as a program of PyTorch. LiteRT and ExecuTorch take
that. Each model runs on the golden frames at once, since a converter that drops something says nothing.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Mapping, Sequence

import numpy as np

from edgeseg.errors import EngineError, require
from edgeseg.files import scratch_folder
from edgeseg.recipes import FP16, FP32

__all__ = ["RUNTIMES", "Converted", "Runtime"]

_PROGRAM = Path(__file__).with_name("runtime_program.py")
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
    return _converted(onnx, frames, "ncnn", "ncnn", ("model.ncnn.param", "model.ncnn.bin"))


def _litert(onnx: bytes, frames: np.ndarray) -> Converted:
    """1xHxWx3 float32 BGR of 0-255 -> 1xHxWxC float32."""
    return _converted(onnx, frames, "litert", "litert_torch", ("model.tflite",))


def _executorch(onnx: bytes, frames: np.ndarray) -> Converted:
    """1x3xHxW float32 BGR of 0-255 -> 1xCxHxW float32, for ExecuTorch's XNNPACK."""
    return _converted(onnx, frames, "executorch", "executorch", ("model.pte",))


def _converted(onnx: bytes, frames: np.ndarray, runtime: str, module: str, names: Sequence[str]) -> Converted:
    for package in (module, "pnnx"):  # neither is imported here
        if importlib.util.find_spec(package) is None:
            require(package, runtime)
    with scratch_folder() as here:
        (here / "model.onnx").write_bytes(onnx)
        np.save(here / "frames.npy", frames)
        height, width = frames.shape[1:3]
        _run([_pnnx(), "model.onnx", f"inputshape=[1,3,{height},{width}]f32", "fp16=1"], "pnnx", here)
        if runtime == "ncnn":
            _refuse_unknown(here / names[0])
        _run([sys.executable, "-c", _PROGRAM.read_text(), runtime, names[0]], runtime, here)
        classes = np.load(here / "classes.npy", allow_pickle=False)
        return Converted({name: (here / name).read_bytes() for name in names}, classes)


def _pnnx() -> str:
    """Return the path of the converter. The package around it imports torch, which it needs not."""
    package = importlib.util.find_spec("pnnx")
    assert package is not None and package.origin is not None
    return str(Path(package.origin).with_name("pnnx"))


def _refuse_unknown(param: Path) -> None:
    """Refuse what ncnn has no layer for: pnnx leaves it under its name in PyTorch, and ncnn may crash."""
    kinds = {line.split()[0] for line in param.read_text().splitlines()[2:]} if param.is_file() else set()
    unknown = sorted(kind for kind in kinds if "." in kind)
    if unknown:
        raise EngineError(f"ncnn has no operator for {', '.join(unknown)}; try 'edgeseg export executorch'")


def _run(command: Sequence[str], what: str, folder: Path) -> None:
    """Run a converter in a folder. Raises EngineError: it fails or crashes, or leaves nothing."""
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"{what} does not run: {error}") from error
    result = folder / ("model.pnnx.bin" if what == "pnnx" else "classes.npy")
    if done.returncode or not result.is_file():
        said = (done.stderr or done.stdout).strip().splitlines()
        crashed = f"it crashed with signal {-done.returncode}" if done.returncode < 0 else "it says nothing"
        raise EngineError(f"{what} cannot take the graph: {said[-1][:200] if said else crashed}")


RUNTIMES: Mapping[str, Runtime] = {
    "ncnn": Runtime("ncnn", FP16, _ncnn),
    "litert": Runtime("LiteRT", FP32, _litert),
    "executorch": Runtime("ExecuTorch", FP32, _executorch),
}
"""What ``edgeseg export`` writes beside models for servers; each is an extra of that name."""
