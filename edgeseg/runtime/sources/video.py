"""Video files: through GStreamer where it is, else through OpenCV (FFmpeg)."""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence

from edgeseg.errors import SourceError, require
from edgeseg.files import text_of
from edgeseg.runtime.frame import Frame
from edgeseg.runtime.gst.pipelines import CaptureOptions, file_pipeline
from edgeseg.runtime.sources.base import EndOfStream, FrameSource
from edgeseg.runtime.sources.container import corrections, missing_bytes
from edgeseg.runtime.sources.gstreamer import GstSource
from edgeseg.runtime.sources.media_time import MediaTime

__all__ = ["VIDEO_SUFFIXES", "GstVideo", "OpenCvVideo"]

VIDEO_SUFFIXES = (
    *(".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".3gp", ".3g2", ".qt"),
    *(".flv", ".f4v", ".wmv", ".asf", ".ogv", ".vob", ".m2v", ".mxf", ".divx", ".h264", ".264", ".h265", ".265"),
    *(".hevc", ".mjpg", ".mjpeg", ".ivf"),
)


class GstVideo(GstSource):
    """Every frame of a video file, in order and upright, with its time in the file.

    Args:
        path: of the file, whatever its name is made of: GStreamer gets a descriptor.
        options: size, flip and hardware.
    """

    def __init__(self, path: Path, options: CaptureOptions = CaptureOptions()) -> None:
        super().__init__(file_pipeline(path, options), f"video {text_of(path)}")
        self._path = path
        self._file = -1

    def close(self) -> None:
        """Close the file. May be called twice."""
        super().close()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _inherited(self) -> tuple[Mapping[str, Mapping[str, Any]], Sequence[int]]:
        self._file = _descriptor_of(self._path)
        return {"origin": {"location": f"/proc/self/fd/{self._file}"}}, [self._file]

    def _instead(self) -> list[tuple[int, str]]:
        try:
            return [(at, data.hex()) for at, data in corrections(self._path)]
        except OSError:  # the reader will say so
            return []

    def _frame(self, message: dict[str, Any]) -> Frame:
        """The frame; a copy where its reader holds so many that the file could not go on."""
        frame = super()._frame(message)
        assert self._memory is not None
        return frame if self._memory.has_room() else replace(frame, image=frame.image.copy())

    def _fault(self, message: dict[str, Any]) -> SourceError:
        fault = super()._fault(message)
        if self.delivered or fault.kind not in ("codec", "broken"):
            return _cut(self._path, self.delivered) or fault
        return _unopened(self._path, str(fault).partition(": ")[2].replace(f"/proc/self/fd/{self._file}", "the file"))

    def _end(self) -> None:
        cut = _cut(self._path, self.delivered)
        if cut is not None:
            raise cut
        super()._end()


class OpenCvVideo(FrameSource):
    """Every frame of a video file, in order and upright, with its time in the file.

    FFmpeg's own complaints decide which frames are whole, for OpenCV hands out what it could not convert as well. A
    file of interlaced pictures is refused, since OpenCV 4.13 and later give black for them.

    Args:
        path: of the file, whatever its name is made of: FFmpeg gets a descriptor.
    """

    is_live = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._capture: Any = None
        self._file = -1
        self._index = self._corrupt = 0
        self._media_time = MediaTime()
        self.description = f"video {text_of(path)}"

    def open(self) -> None:
        """Open the file. Raises SourceError."""
        cv2 = require("cv2", "opencv")
        self.close()
        _refuse_silence()
        self._file = _descriptor_of(self._path)
        with _complaints() as complaints:
            capture = cv2.VideoCapture(f"/proc/self/fd/{self._file}", cv2.CAP_FFMPEG)
        if not capture.isOpened():
            self.close()
            raise _unopened(self._path, " ".join(complaints()[-1:]) or "OpenCV does not say why")
        self._capture, self._index, self._media_time = capture, 0, MediaTime()
        self.fps = max(0.0, float(capture.get(cv2.CAP_PROP_FPS)))
        width, height = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        self.description = f"video {text_of(self._path)}, {width}x{height} at {self.fps:g} fps, through OpenCV"

    def read(self) -> Frame | None:
        """Return the next frame. Raises EndOfStream; SourceError: the file ends before it should."""
        with _complaints() as complaints:
            arrived, image = self._capture.read()
        said = complaints()
        if not arrived:
            self._end(said)
            raise EndOfStream
        if any("swscaler" in line for line in said):
            why = "of interlaced video" if "interlaced" in " ".join(said) else f"({said[-1]})"
            raise SourceError(
                f"{text_of(self._path)}: OpenCV cannot convert the pictures {why} and would give black; "
                "install GStreamer, which can: 'edgeseg doctor' says how",
                "codec",
            )
        index, self._index = self._index, self._index + 1
        told_ns = int(float(self._capture.get(0)) * 1e6)  # CAP_PROP_POS_MSEC
        media_ns = self._media_time.at(told_ns, int(1e9 / self.fps) if self.fps else 0)
        return Frame(image, index, time.perf_counter_ns(), f"{index:06d}", media_ns=media_ns)

    def _end(self, said: Sequence[str]) -> None:
        """Raise SourceError when the file is cut, or gave nothing."""
        fault = _cut(self._path, self._index)
        if fault is None and not self._index:
            why = f" ({said[0]})" if said else ""
            fault = SourceError(
                f"{text_of(self._path)} ends without a picture{why}; play it to see what it holds", "empty"
            )
        if fault is not None:
            raise fault

    def close(self) -> None:
        """Close the file. May be called twice."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _descriptor_of(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise SourceError(f"{text_of(path)} cannot be read: {error.strerror}") from error


def _unopened(path: Path, why: str) -> SourceError:
    size = path.stat().st_size if path.exists() else 0
    return SourceError(
        f"{text_of(path)} cannot be opened as a video ({size} bytes): truncated, not a video, or a codec that is "
        f"missing here ({why})"
    )


def _cut(path: Path, frames: int) -> SourceError | None:
    """The error of a file whose end is missing; None for a whole one."""
    try:
        missing = missing_bytes(path)
    except OSError as error:
        return SourceError(f"{text_of(path)} cannot be read: {error.strerror}")
    if not missing:
        return None
    return SourceError(
        f"{text_of(path)} ends after {frames} frames and {missing} bytes early: it is truncated or damaged"
    )


def _refuse_silence() -> None:
    """Raise SourceError where FFmpeg may not say which pictures it could not convert: they would pass for whole ones.

    OpenCV reads these variables when it is loaded, so that they cannot be changed for it here.
    """
    for name in ("OPENCV_FFMPEG_LOGLEVEL", "OPENCV_FFMPEG_DEBUG"):
        if name in os.environ:
            raise SourceError(
                f"{name} hides which pictures FFmpeg cannot convert; unset it, or install GStreamer",
                "codec",
            )


_STDERR = threading.Lock()


@contextmanager
def _complaints() -> Iterator[Any]:
    """What FFmpeg writes to the standard error meanwhile, as a function that gives its lines.

    FFmpeg says nowhere else that a picture is not what it should be. What other threads write there at that time is
    written afterwards.
    """
    lines: list[str] = []
    with _STDERR:
        heard, before = os.memfd_create("edgeseg-stderr"), os.dup(2)
        os.dup2(heard, 2)
        try:
            yield lambda: lines
        finally:
            os.dup2(before, 2)
            said = os.pread(heard, 1 << 20, 0)
            os.close(heard)
            os.close(before)
    ours = (
        b"[OPENCV:FFMPEG",
        b"[swscaler",
        b"[h264",
        b"[mov",
        b"[hevc",
        b"[ WARN",
        b"[ERROR",
        b"[mpeg",
        b"[avi",
        b"[matroska",
        b"[in#",
    )
    for line in said.splitlines(keepends=True):
        if b" @ 0x" in line or line.startswith(ours):
            lines.append(line.decode(errors="replace").strip())
        elif not (lines and line.startswith(b" (")):  # FFmpeg goes on in a second line
            os.write(2, line)
