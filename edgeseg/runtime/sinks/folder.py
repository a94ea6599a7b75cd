"""Masks (class ids) and pictures as PNG files."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import numpy as np

from edgeseg.errors import ForeignFileError, SinkError
from edgeseg.runtime.drawing.overlay import Painter
from edgeseg.runtime.frame import Segmentation
from edgeseg.runtime.sinks.base import FrameSink
from edgeseg.runtime.sinks.own import foreign_picture, keep_picture

__all__ = ["FolderSink"]


class FolderSink(FrameSink):
    """``FOLDER/masks/NAME.png`` holds class ids at the frame's size; pictures go beside it, as the painter is set.

    ``FOLDER/overlays/NAME.png`` is the painter's picture, for ``overlay`` and ``contours``; ``FOLDER/colours/NAME.png``
    are the class colours, for ``mask``.

    Args:
        folder: made where it is missing.
        painter: its ``visualize`` at each frame decides.
        by_source: put the files of each source in a folder of its own (``masks/SOURCE/NAME.png``), since frames of
            several sources may have the same names; without it those of every source but the first.
        overwrite: pictures that edgeseg did not write are replaced too. Without it only those of former runs are.

    Raises:
        ForeignFileError: there are pictures that edgeseg did not write, such as a data set's masks.
        SinkError: the folder cannot be made, or another run writes there.
    """

    def __init__(self, folder: Path, painter: Painter, by_source: bool = False, *, overwrite: bool = False) -> None:
        self._folder, self._painter, self._by_source, self._overwrite = folder, painter, by_source, overwrite
        self._first: str | None = None
        self.description = f"masks and {', '.join(_parts(painter)) or 'no pictures'} in {folder}"
        foreign = None if overwrite else self._foreign()
        if foreign is not None:
            raise ForeignFileError(
                f"{folder} holds pictures that edgeseg did not write, such as {foreign}; masks are not put among them: "
                "name another folder, or pass `overwrite`"
            )
        try:
            for part in ("masks", *_parts(painter)):
                (folder / part).mkdir(parents=True, exist_ok=True)
            self._lock = _locked(folder / "masks")
        except OSError as error:
            raise SinkError(f"{folder} cannot be created: {error.strerror}") from error

    def close(self) -> None:
        """Release the folder. May be called twice."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def write(self, result: Segmentation) -> None:
        """Write the mask and the pictures that are wanted as PNG files, each whole. Raises SinkError."""
        parts = _parts(self._painter)
        try:
            self._keep("masks", result, result.classes)
            if "overlays" in parts:
                self._keep("overlays", result, self._painter.picture(result))
            if "colours" in parts:
                self._keep("colours", result, self._painter.mask(result.classes))
        except OSError as error:
            raise SinkError(
                f"{self._folder} cannot be written: {error.strerror}; free space or pass another `sinks`"
            ) from error

    def _keep(self, part: str, result: Segmentation, picture: np.ndarray) -> None:
        folder = self._folder / part
        self._first = result.frame.source if self._first is None else self._first
        if self._by_source or result.frame.source != self._first:
            folder = folder / result.frame.source.replace("/", "_")
        folder.mkdir(parents=True, exist_ok=True)  # it may have been removed meanwhile
        keep_picture(folder / f"{result.frame.name}.png", picture, overwrite=self._overwrite)

    def _foreign(self) -> Path | None:
        found = (foreign_picture(self._folder / part) for part in ("masks", *_parts(self._painter)))
        return next((path for path in found if path is not None), None)


def _locked(folder: Path) -> int:
    """A descriptor that holds the folder against other runs, whose frames have the same names.

    Raises:
        SinkError: another one holds it. OSError: it cannot be opened.
    """
    descriptor = os.open(str(folder), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise SinkError(f"{folder.parent} is being written by another run or sink; give each its own folder") from error
    except OSError:
        pass  # a file system without locks
    return descriptor


def _parts(painter: Painter) -> tuple[str, ...]:
    overlays = ("overlays",) if {"overlay", "contours"} & set(painter.visualize) else ()
    return (*overlays, "colours") if "mask" in painter.visualize else overlays
