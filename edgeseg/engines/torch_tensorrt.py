"""Run an exported program of Torch-TensorRT in PyTorch, on a CUDA machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgeseg.engines.base import CLOSED, Engine
from edgeseg.errors import EngineError, MissingDependencyError, first_line, require

__all__ = ["TorchTensorRtEngine"]


class TorchTensorRtEngine(Engine):
    """Engine for a ``.pt2`` program: uint8 NxHxWx3 BGR frames in, uint8 NxHxW class maps out.

    Args:
        program: the file; only load what you made yourself, PyTorch's format is not safe against others.
        shape: NxHxWx3 of its frames.
        device: where it was compiled for; ``"cpu"`` runs a program that holds no TensorRT engines.

    Raises:
        EngineError: the file cannot be loaded or run on this machine, or gives other shapes or types.
        MissingDependencyError: torch or torch-tensorrt is not installed.
    """

    def __init__(self, program: Path, shape: tuple[int, int, int, int], *, device: str = "cuda") -> None:
        torch = require("torch", "torch-tensorrt")
        if not program.is_file():
            raise EngineError(f"{program} does not exist; 'edgeseg compile --backend torch-tensorrt' writes it")
        on_gpu = device == "cuda"
        if on_gpu and not torch.cuda.is_available():
            raise EngineError("torch sees no CUDA GPU, and the program needs the one it was compiled on")
        if on_gpu:
            _import_torch_tensorrt()
        self._torch: Any = torch
        self._stage: Any = torch.zeros(shape, dtype=torch.uint8, pin_memory=on_gpu)
        self._frames: Any = torch.zeros(shape, dtype=torch.uint8, device=device)
        self._classes: Any = torch.zeros(shape[:3], dtype=torch.uint8, pin_memory=on_gpu)
        try:
            self._run_program: Any = torch.export.load(str(program)).module()
        except Exception as error:  # torch raises many types here, without a common base
            raise EngineError(f"torch {torch.__version__} cannot load {program}: {first_line(error)}") from error
        self.input = self._stage.numpy()
        found = self._segmented()
        if tuple(found.shape) != shape[:3] or found.dtype != torch.uint8:
            raise EngineError(f"{program} gives {found.dtype} {tuple(found.shape)}, expected uint8 {shape[:3]}")
        where = torch.cuda.get_device_name() if on_gpu else "the CPU"
        self.description = f"PyTorch {torch.__version__} on {where}, program {program.name}"

    def _segmented(self) -> Any:
        try:
            with self._torch.inference_mode():
                self._frames.copy_(self._stage, non_blocking=True)
                return self._run_program(self._frames)
        except Exception as error:  # as above
            raise EngineError(f"the program failed: {first_line(error)}") from error

    def _run(self) -> np.ndarray:
        if self._run_program is None:
            raise EngineError(CLOSED)
        self._classes.copy_(self._segmented())  # waits for the GPU
        classes: np.ndarray = self._classes.numpy()
        return classes

    def close(self) -> None:
        """Free the program. May be called twice."""
        self._run_program = self._frames = None


def _import_torch_tensorrt() -> None:
    """Import the package, which registers the operators that run TensorRT engines."""
    try:
        require("torch_tensorrt", "torch-tensorrt")
    except MissingDependencyError:
        raise
    except Exception as error:  # a bare Exception where libnvinfer is missing, else RuntimeError or OSError
        raise MissingDependencyError(f"torch_tensorrt cannot be imported: {first_line(error)}") from error
