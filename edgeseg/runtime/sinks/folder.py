"""Masks (class ids) and overlays as PNG files."""

from __future__ import annotations

from pathlib import Path

from edgeseg.errors import SinkError
from edgeseg.images import write_png
from edgeseg.runtime.frame import Segmentation
from edgeseg.runtime.overlay import Painter
from edgeseg.runtime.sinks.base import FrameSink

__all__ = ["FolderSink"]


class FolderSink(FrameSink):
    """``FOLDER/masks/NAME.png`` holds class ids at the frame's size, ``FOLDER/overlays/NAME.png`` the picture."""

    def __init__(self, folder: Path, painter: Painter) -> None:
        self._masks, self._overlays = folder / "masks", folder / "overlays"
        self._painter = painter
        self.description = f"masks and overlays in {folder}"
        try:
            for part in (self._masks, self._overlays):
                part.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SinkError(f"{folder} cannot be created: {error.strerror}") from error

    def write(self, result: Segmentation) -> None:
        name = f"{result.frame.name}.png"
        try:
            write_png(self._masks / name, result.classes)
            write_png(self._overlays / name, self._painter.overlay(result.frame.image, result.classes))
        except OSError as error:
            raise SinkError(
                f"{self._masks.parent} cannot be written: {error.strerror}; free space or pass another --sink"
            ) from error
