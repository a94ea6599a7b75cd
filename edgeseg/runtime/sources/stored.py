"""Images from a folder, a glob or a single file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Sequence

from edgeseg.errors import SourceError
from edgeseg.images import read_image
from edgeseg.runtime.frame import Frame
from edgeseg.runtime.sources.base import EndOfStream, FrameSource

__all__ = ["ImagesSource"]


class ImagesSource(FrameSource):
    """Image files in the given order; one that cannot be read stops the run with its name (ImageError).

    Raises SourceError when two files have the same name without suffix: results are named by it.
    """

    is_live = False

    def __init__(self, files: Sequence[Path], description: str) -> None:
        self._files = list(files)
        by_name: dict[str, Path] = {}
        for path in self._files:
            if path.stem in by_name:
                raise SourceError(
                    f"{by_name[path.stem]} and {path} have the same name, so their masks would overwrite each other; "
                    "run them apart"
                )
            by_name[path.stem] = path
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
