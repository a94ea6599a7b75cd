"""Images from a folder, a glob or a single file."""

from __future__ import annotations

import time
from itertools import count
from pathlib import Path
from typing import Iterator, Sequence

import numpy as np

from edgeseg.errors import ImageError
from edgeseg.images import read_pages
from edgeseg.picture_files import result_names
from edgeseg.runtime.frame import Frame
from edgeseg.runtime.sources.base import EndOfStream, FrameSource

__all__ = ["ImagesSource"]


class ImagesSource(FrameSource):
    """Image files in the given order, and the pages of a TIFF; ``read`` raises ImageError for one that cannot be read.

    Whoever goes on reading after that gets the next one. Results are named as the file without its suffix; where
    several files share that, see ``result_names``, and pages are numbered from 1 behind it.

    Attributes:
        renamed: ``FILE are called NAME`` for each file whose results are called otherwise.
    """

    is_live = False

    def __init__(self, files: Sequence[Path], description: str) -> None:
        self._files = list(files)
        self._names = result_names(self._files)
        self._taken = {name.casefold() for name in self._names}
        self._frames: Iterator[Frame | ImageError] = iter(())
        self.description = description
        named = zip(self._files, self._names)
        self.renamed = [f"{path} are called {name}" for path, name in named if name != path.stem]
        if self.renamed:
            self.description += f"; files share names, so the results of {self.renamed[0]}"

    def open(self) -> None:
        """Begin with the first image."""
        self._frames = self._all()

    def read(self) -> Frame | None:
        """Return the next image. Raises EndOfStream, ImageError."""
        found = next(self._frames, None)
        if found is None:
            raise EndOfStream
        if isinstance(found, ImageError):
            raise found
        return found

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _all(self) -> Iterator[Frame | ImageError]:
        index = 0
        for path, name in zip(self._files, self._names):
            try:
                for image, named in self._pages(path, name):
                    yield Frame(image, index, time.perf_counter_ns(), named)
                    index += 1
            except ImageError as error:  # a value, since a generator that raises has ended
                yield error

    def _pages(self, path: Path, name: str) -> Iterator[tuple[np.ndarray, str]]:
        pages = read_pages(path)
        image, following = next(pages), next(pages, None)
        for page in count(1):
            yield image, name if page == 1 and following is None else self._page_name(name, page)
            if following is None:
                break
            image, following = following, next(pages, None)

    def _page_name(self, name: str, page: int) -> str:
        paged = f"{name}-{page:04d}"
        while paged.casefold() in self._taken:
            paged += "-page"
        return paged
