"""A video file through OpenCV (FFmpeg)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from edgeseg.errors import SourceError, require
from edgeseg.runtime.frame import Frame
from edgeseg.runtime.sources.base import EndOfStream, FrameSource

__all__ = ["VIDEO_SUFFIXES", "VideoSource"]

VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".ts")


class VideoSource(FrameSource):
    """Every frame of a video file, in order."""

    is_live = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._capture: Any = None
        self._index = 0
        self._announced = 0
        self.description = f"video {path}"

    def open(self) -> None:
        cv2 = require("cv2", "opencv")
        if not self._path.is_file():
            raise SourceError(f"no video file {self._path}")
        capture = cv2.VideoCapture(str(self._path))
        if not capture.isOpened():
            raise SourceError(
                f"{self._path} cannot be opened as a video ({self._path.stat().st_size} bytes): "
                "truncated, not a video, or a codec that this OpenCV lacks"
            )
        self._announced = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self._capture = capture
        self.fps = max(0.0, float(capture.get(cv2.CAP_PROP_FPS)))
        width, height = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        self.description = f"video {self._path}, {width}x{height}, {self._announced or 'unknown number of'} frames"

    def read(self) -> Frame | None:
        arrived, image = self._capture.read()
        if not arrived:
            self._refuse_early_end()
            raise EndOfStream
        frame = Frame(image, self._index, time.perf_counter_ns(), f"{self._index:06d}")
        self._index += 1
        return frame

    def _refuse_early_end(self) -> None:
        """Containers announce a frame or two too many at times; a tenth too many is a broken file."""
        if self._index == 0 or self._index < 0.9 * self._announced:
            raise SourceError(
                f"{self._path} ends after {self._index} of {self._announced} frames: it is truncated or damaged"
            )

    def close(self) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None
