"""Small stand-ins for the seams with hardware behind them."""

from __future__ import annotations

from typing import Sequence

import numpy as np

from edgeseg.engines.base import Engine
from edgeseg.errors import EngineError
from edgeseg.runtime.frame import Frame, Segmentation
from edgeseg.runtime.sinks import FrameSink
from edgeseg.runtime.sources import EndOfStream, FrameSource


class FakeClock:
    """A nanosecond clock that moves only when told."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns

    def advance_ms(self, ms: float) -> None:
        self.now_ns += int(ms * 1e6)


class ThresholdEngine(Engine):
    """Class 1 where a frame is brighter than 127, else 0: an engine whose answer a test can work out."""

    description = "threshold"

    def __init__(self, height: int = 64, width: int = 96, batch: int = 1) -> None:
        self.input = np.zeros((batch, height, width, 3), np.uint8)
        self._output = np.zeros((batch, height, width), np.uint8)
        self._open = True

    def _run(self) -> np.ndarray:
        if not self._open:
            raise EngineError("the engine is closed; open it again")
        np.greater(self.input.max(axis=3), 127, out=self._output, casting="unsafe")
        return self._output

    def close(self) -> None:
        self._open = False


class ScriptedSource(FrameSource):
    """Plays a list: arrays are frames, None is "no frame yet", an exception is raised; then the stream ends."""

    def __init__(self, script: Sequence[np.ndarray | None | BaseException], live: bool = False) -> None:
        self._script = list(script)
        self._index = 0
        self.is_live = live
        self.description = "scripted"
        self.opened = self.closed = 0

    def open(self) -> None:
        self.opened += 1

    def read(self) -> Frame | None:
        if not self._script:
            raise EndOfStream
        item = self._script.pop(0)
        if isinstance(item, BaseException):
            raise item
        if item is None:
            return None
        frame = Frame(item, self._index, 0, f"{self._index:06d}")
        self._index += 1
        return frame

    def close(self) -> None:
        self.closed += 1


class CollectingSink(FrameSink):
    """Keeps the name and a copy of each class map."""

    description = "collect"

    def __init__(self) -> None:
        self.names: list[str] = []
        self.maps: list[np.ndarray] = []
        self.closed = 0

    def write(self, result: Segmentation) -> None:
        self.names.append(result.frame.name)
        self.maps.append(result.classes.copy())

    def close(self) -> None:
        self.closed += 1
