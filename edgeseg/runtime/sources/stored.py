"""Images from a folder, a glob or a single file."""

from __future__ import annotations

import time
from itertools import count
from pathlib import Path
from typing import Iterator, Sequence

from edgeseg.images import read_pages
from edgeseg.picture_files import result_names
from edgeseg.runtime.frame import Frame
from edgeseg.runtime.sources.base import EndOfStream, FrameSource

__all__ = ["ImagesSource"]


class ImagesSource(FrameSource):
    """Image files in the given order, and the pages of a TIFF; one that cannot be read stops the run with its name.

    Results are named as the file without its suffix; where several files share that, see ``result_names``, and pages
    are numbered from 1 behind it. ``read`` raises ImageError.
    """

    is_live = False

    def __init__(self, files: Sequence[Path], description: str) -> None:
        self._files = list(files)
        self._names = result_names(self._files)
        self._taken = {name.casefold() for name in self._names}
        self._frames: Iterator[Frame] = iter(())
        self.description = description
        renamed = next(((path, name) for path, name in zip(self._files, self._names) if name != path.stem), None)
        if renamed:
            self.description += f"; files share names, so the results of {renamed[0]} are called {renamed[1]}"

    def open(self) -> None:
        """Begin with the first image."""
        self._frames = self._all()

    def read(self) -> Frame | None:
        """Return the next image. Raises EndOfStream, SourceError."""
        try:
            return next(self._frames)
        except StopIteration:
            raise EndOfStream from None

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _all(self) -> Iterator[Frame]:
        index = 0
        for path, name in zip(self._files, self._names):
            pages = read_pages(path)
            image, following = next(pages), next(pages, None)
            for page in count(1):
                named = name if page == 1 and following is None else self._page_name(name, page)
                yield Frame(image, index, time.perf_counter_ns(), named)
                index += 1
                if following is None:
                    break
                image, following = following, next(pages, None)

    def _page_name(self, name: str, page: int) -> str:
        paged = f"{name}-{page:04d}"
        while paged.casefold() in self._taken:
            paged += "-page"
        return paged
