"""One JSON line per frame."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from edgeseg.errors import SinkError
from edgeseg.runtime.frame import Segmentation
from edgeseg.runtime.sinks.base import FrameSink
from edgeseg.spec import ModelSpec

__all__ = ["JsonlSink"]


class JsonlSink(FrameSink):
    """Appends ``{"frame", "name", "ms": {stage: ms}, "area": {class: share of pixels}}`` per frame, unbuffered."""

    def __init__(self, path: Path, spec: ModelSpec) -> None:
        self._classes = spec.classes
        self._path = path
        self.description = f"JSON lines in {path}"
        try:
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - closed in close()
        except OSError as error:
            raise SinkError(f"{path} cannot be opened: {error.strerror}") from error

    def write(self, result: Segmentation) -> None:
        shares = np.bincount(result.classes.ravel(), minlength=len(self._classes)) / result.classes.size
        line = {
            "frame": result.frame.index,
            "name": result.frame.name,
            "ms": {stage: round(ms, 3) for stage, ms in result.laps_ms.items()},
            "area": {name: round(float(share), 5) for name, share in zip(self._classes, shares) if share},
        }
        try:
            self._file.write(json.dumps(line).encode() + b"\n")
        except OSError as error:
            raise SinkError(
                f"{self._path} cannot be written: {error.strerror}; free space or pass another --sink"
            ) from error

    def close(self) -> None:
        self._file.close()
