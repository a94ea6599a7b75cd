"""Serve a bundle in Triton's Python backend. The server's Python needs numpy and edgeseg.

'edgeseg export triton' writes this file beside model.edgeseg.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np

import edgeseg
from edgeseg.resizing import class_map_at


class TritonPythonModel:
    """Any number of frames NxHxWx3 uint8 BGR in, class ids NxHxW uint8 out."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Open the engine, which is tested on the golden frames where it is built."""
        self._triton: Any = importlib.import_module("triton_python_backend_utils")  # is in the server only
        config = json.loads(args["model_config"])
        engine = config["parameters"]["engine"]["string_value"]
        here = Path(args["model_repository"]) / args["model_version"]
        self._bundle = edgeseg.read_bundle(here / "model.edgeseg")
        log = self._triton.Logger.log_info
        self._engine = edgeseg.open_engine(
            self._bundle, edgeseg.EngineOptions(engine=engine), on_note=lambda line: log(f"edgeseg: {line}")
        )
        self._output = config["output"][0]["name"]
        self._input = config["input"][0]["name"]
        log(f"edgeseg: {self._engine.description}")

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer requests one after the other; a wrong one gets an error of its own."""
        return [self._answered(request) for request in requests]

    def _answered(self, request: Any) -> Any:
        triton = self._triton
        # Arrays go in and out by DLPack: before Triton 24.12 its own conversions do not know NumPy 2, and say nothing.
        frames = np.from_dlpack(triton.get_input_tensor_by_name(request, self._input))
        try:
            classes = self._segmented(frames)
        except edgeseg.EdgesegError as error:
            return triton.InferenceResponse(error=triton.TritonError(str(error)))
        return triton.InferenceResponse([triton.Tensor.from_dlpack(self._output, classes)])

    def _segmented(self, frames: np.ndarray) -> np.ndarray:
        if not len(frames):
            raise edgeseg.EngineError("a request holds one frame or more")
        at_once = len(self._engine.input)
        found = np.empty(frames.shape[:3], np.uint8)
        for start in range(0, len(frames), at_once):
            part = frames[start : start + at_once]
            self._engine.input[: len(part)] = part
            for index, classes in enumerate(self._engine.infer(self._engine.input)[: len(part)]):
                found[start + index] = class_map_at(classes, frames.shape[1:3])
        return found

    def finalize(self) -> None:
        """Close the engine."""
        self._engine.close()
