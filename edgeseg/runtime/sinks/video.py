"""What the painter shows, as a video file."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Callable, Protocol

import numpy as np

from edgeseg.errors import SinkError, require
from edgeseg.runtime.frame import Segmentation
from edgeseg.runtime.gst.output import GstOutput, encoder_remark
from edgeseg.runtime.gst.process import gstreamer_python
from edgeseg.runtime.overlay import Painter
from edgeseg.runtime.sinks.base import FrameSink

__all__ = ["VIDEO_SINK_SUFFIXES", "VideoSink"]

VIDEO_SINK_SUFFIXES = (".mp4", ".mkv", ".avi")
_CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "mp4v"}
_LEAST_FREE_BYTES = 16 * 2**20


class VideoSink(FrameSink):
    """Records to ``NAME.partial.SUFFIX`` and renames on close: what is called NAME is whole.

    With GStreamer: H.264, in fragments of half a second, so that a recording that is killed can be played up to there;
    pictures stand at the time of their capture. Without it, and for .avi: MPEG-4 or Motion JPEG by OpenCV at a
    constant rate, which only a clean end makes playable.

    A frame of another size, and the first one after a failure, begin the next part: ``NAME-2.SUFFIX`` and so on.

    Args:
        path: .mp4, .mkv or .avi. An existing file is replaced when the new one is whole.
        painter: draws the picture.
        rate: name of a source -> frames per second of a stored one; 0 for live sources, whose capture times count.

    Attributes:
        how: the codec and, once it is known, what encodes.
    """

    def __init__(self, path: Path, painter: Painter, rate: Callable[[str], float] = lambda source: 0.0) -> None:
        suffix = path.suffix.lower()
        if suffix not in VIDEO_SINK_SUFFIXES:
            raise SinkError(f"no video format {path.suffix!r}; there are {', '.join(VIDEO_SINK_SUFFIXES)}")
        if not path.parent.is_dir():
            raise SinkError(f"{path.parent} is not a folder; create it first")
        if not os.access(path.parent, os.W_OK):
            raise SinkError(f"{path.parent} is not writable; choose another folder")
        self._path, self._painter, self._rate = path, painter, rate
        self._fps = 0.0
        self._by_gstreamer = suffix != ".avi" and gstreamer_python() is not None
        self._refused: dict[str, str] = {}
        self._writer: _Writer | None = None
        self._part = self._kept = 0
        self._size_hw = (0, 0)
        self._first_ns = self._first_index = self._count = self._pts = 0
        self.how = (
            "H.264" if self._by_gstreamer else "Motion JPEG" if suffix == ".avi" else "MPEG-4 (GStreamer is not there)"
        )

    @property
    def description(self) -> str:  # type: ignore[override]
        return f"video {self._path}, {self.how}"

    @property
    def kept(self) -> int:  # type: ignore[override]
        """Pictures that a kill can no longer take away; with OpenCV only the end of a part makes it whole."""
        return self._kept + (self._writer.kept if self._writer else 0)

    def write(self, result: Segmentation) -> None:
        picture = self._painter.picture(result)
        size_hw = (picture.shape[0], picture.shape[1])
        if self._writer is not None and size_hw != self._size_hw:
            self.close()
        if self._count % 30 == 0 and shutil.disk_usage(self._path.parent).free < _LEAST_FREE_BYTES:
            raise SinkError(f"the disk of {self._path} is full (under 16 MiB free); free space or pass another --sink")
        if self._writer is None:
            self._begin(result, size_hw)
        assert self._writer is not None
        try:
            self._writer.write(picture, self._pts_ns(result))
        except SinkError as error:
            lost = self._count - self._writer.kept
            self.discard()
            raise SinkError(f"{error}; what was written is in {self._partial().name}", lost) from error
        self._count += 1

    def close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.finish()
            self._kept += self._count
            os.replace(self._partial(), self._target())

    def discard(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            self._kept += writer.kept
            writer.kill()

    def _begin(self, result: Segmentation, size_hw: tuple[int, int]) -> None:
        self._part += 1
        self._fps = self._rate(result.frame.source)
        self._size_hw, self._count, self._pts = size_hw, 0, -1_000_000
        self._first_ns, self._first_index = result.frame.captured_ns, result.frame.index
        partial = self._partial()
        if partial.exists():  # of a run that was killed: it may be all that is left of it
            os.replace(partial, _free_name(partial))
        if self._by_gstreamer:
            kbps = max(500, size_hw[0] * size_hw[1] * 3 // 1000)
            config = {"kind": "file", "path": str(partial), "gop": 15, "kbps": kbps}
            output = GstOutput(str(self._path), size_hw, config, self._refused)
            self._writer, self.how = output, f"H.264 by {output.encoder}"
            self.remark = encoder_remark(output.encoder, self._refused)
        else:
            self._writer = _OpenCvWriter(partial, self._fps or 30.0, size_hw)

    def _pts_ns(self, result: Segmentation) -> int:
        """When the picture is shown; always later than the one before, as containers ask for."""
        if self._fps:
            wanted = int((result.frame.index - self._first_index) / self._fps * 1e9)
        else:
            wanted = result.frame.captured_ns - self._first_ns
        self._pts = max(wanted, self._pts + 1_000_000)
        return self._pts

    def _target(self) -> Path:
        stem = self._path.stem if self._part == 1 else f"{self._path.stem}-{self._part}"
        return self._path.with_name(stem + self._path.suffix)

    def _partial(self) -> Path:
        return self._target().with_suffix(f".partial{self._path.suffix}")


class _Writer(Protocol):
    kept: int

    def write(self, picture: np.ndarray, pts_ns: int) -> None: ...

    def finish(self) -> None: ...

    def kill(self) -> None: ...


class _OpenCvWriter:
    """A video by OpenCV at a constant rate."""

    kept = 0

    def __init__(self, path: Path, fps: float, size_hw: tuple[int, int]) -> None:
        cv2 = require("cv2", "opencv")
        codec = cv2.VideoWriter_fourcc(*_CODECS[path.suffix.lower()])
        self._writer: Any = cv2.VideoWriter(str(path), codec, fps, (size_hw[1], size_hw[0]))
        if not self._writer.isOpened():
            raise SinkError(f"{path} cannot be opened for writing; is the folder writable?")

    def write(self, picture: np.ndarray, pts_ns: int) -> None:
        self._writer.write(picture)

    def finish(self) -> None:
        self._writer.release()

    def kill(self) -> None:
        self._writer.release()


def _free_name(partial: Path) -> Path:
    """``out.partial.mp4`` -> the first of ``out.partial-1.mp4``, ``out.partial-2.mp4`` ... that is free."""
    number = 1
    while partial.with_name(f"{partial.stem}-{number}{partial.suffix}").exists():
        number += 1
    return partial.with_name(f"{partial.stem}-{number}{partial.suffix}")
