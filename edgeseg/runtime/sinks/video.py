"""Overlay as a video file."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from edgeseg.errors import SinkError, require
from edgeseg.runtime.frame import Segmentation
from edgeseg.runtime.overlay import Painter
from edgeseg.runtime.sinks.base import FrameSink

__all__ = ["VideoSink"]

_CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "mp4v"}
_LEAST_FREE_BYTES = 16 * 2**20


class VideoSink(FrameSink):
    """Writes beside the target and renames on close: a video is whole or not there.

    After a failure what there is becomes ``NAME.partial.SUFFIX``, and an older NAME stays.

    Args:
        path: .mp4, .mkv (MPEG-4) or .avi (Motion JPEG).
        painter: draws the overlay.
        fps: rate that the file announces.
    """

    def __init__(self, path: Path, painter: Painter, fps: float) -> None:
        if path.suffix.lower() not in _CODECS:
            raise SinkError(f"no video format {path.suffix!r}; there are {', '.join(_CODECS)}")
        if not path.parent.is_dir():
            raise SinkError(f"{path.parent} is not a folder; create it first")
        self._path, self._painter, self._fps = path, painter, fps
        self._temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
        self._writer: Any = None
        self._size_hw = (0, 0)
        self._written = 0
        self.description = f"overlay video {path}"

    def write(self, result: Segmentation) -> None:
        size_hw = result.classes.shape
        if self._writer is None:
            self._open(size_hw)
        elif size_hw != self._size_hw:
            raise SinkError(
                f"{self._path}: the frame size changed from {self._size_hw[1]}x{self._size_hw[0]} to "
                f"{size_hw[1]}x{size_hw[0]}; a video has one size, use a folder sink"
            )
        if self._written % 30 == 0 and shutil.disk_usage(self._path.parent).free < _LEAST_FREE_BYTES:
            raise SinkError(f"the disk of {self._path} is full (under 16 MiB free); free space or pass another --sink")
        self._writer.write(self._painter.overlay(result.frame.image, result.classes))
        self._written += 1

    def close(self) -> None:
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        os.replace(self._temporary, self._path)

    def discard(self) -> None:
        if self._writer is not None:
            self._writer.release()
            self._writer = None
            os.replace(self._temporary, self._path.with_suffix(f".partial{self._path.suffix}"))

    def _open(self, size_hw: tuple[int, int]) -> None:
        cv2 = require("cv2", "opencv")
        codec = cv2.VideoWriter_fourcc(*_CODECS[self._path.suffix.lower()])
        self._size_hw = size_hw
        self._writer = cv2.VideoWriter(str(self._temporary), codec, self._fps, (size_hw[1], size_hw[0]))
        if not self._writer.isOpened():
            self._writer = None
            raise SinkError(f"{self._path} cannot be opened for writing; is the folder writable?")
