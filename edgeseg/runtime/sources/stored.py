"""Images from a folder, a glob or a single file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Sequence

from edgeseg.images import read_image
from edgeseg.runtime.frame import Frame
from edgeseg.runtime.sources.base import EndOfStream, FrameSource

__all__ = ["ImagesSource"]


class ImagesSource(FrameSource):
    """Image files in the given order; one that cannot be read stops the run with its name (ImageError)."""

    is_live = False

    def __init__(self, files: Sequence[Path], description: str) -> None:
        self._files = list(files)
        self._index = 0
        self.description = description

    def open(self) -> None:
        self._index = 0

    def read(self) -> Frame | None:
        if self._index == len(self._files):
            raise EndOfStream
        path = self._files[self._index]
        image = read_image(path)
        frame = Frame(image, self._index, time.perf_counter_ns(), path.stem)
        self._index += 1
        return frame

    def close(self) -> None:
        pass
