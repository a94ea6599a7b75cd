"""What the painter shows, as a video file."""

from __future__ import annotations

import mmap
import os
import shutil
from pathlib import Path
from typing import Any, Callable, Protocol

import numpy as np

from edgeseg.errors import ForeignFileError, SinkError, require
from edgeseg.runtime.drawing.overlay import Painter
from edgeseg.runtime.frame import Segmentation
from edgeseg.runtime.gst.output import GstOutput, encoder_remark
from edgeseg.runtime.gst.process import gstreamer_python
from edgeseg.runtime.sinks.base import FrameSink
from edgeseg.runtime.sinks.own import refuse_unless_plain
from edgeseg.runtime.sinks.place import Place, PlaceTaken

__all__ = ["VIDEO_SINK_SUFFIXES", "VideoSink"]

VIDEO_SINK_SUFFIXES = (".mp4", ".mkv", ".avi")
_CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "mp4v"}
_PATIENCE_S = 10.0
_LEAST_FREE_BYTES = 16 * 2**20


class VideoSink(FrameSink):
    """Records to ``NAME.partial.SUFFIX`` and renames on close: what is called NAME is whole.

    With GStreamer: H.264, in fragments of half a second, so that a recording that is killed can be played up to there;
    pictures stand at their time in the source where it has one, else at that of their capture. Without it, and for
    .avi: MPEG-4 or Motion JPEG by OpenCV at a constant rate, which only a clean end makes playable; a picture is
    repeated where a stored video pauses.

    A frame of another size that a live source sends, and the first one after a failure, begin the next part:
    ``NAME-2.SUFFIX`` and so on, the next name that nobody has. Pictures of stored sources are fitted into the size of
    the first one, with black borders. A part without a picture is removed.

    Args:
        path: .mp4, .mkv or .avi.
        painter: draws the picture.
        rate: name of a source -> frames per second of a stored one; 0 for live sources, whose capture times count.
        overwrite: a file that is there is replaced when the new one is whole.
        goes_on: where the name is taken, begin with the next part instead of an error: for live sources, whose run is
            started again after a power cut.

    Attributes:
        how: the codec and, once it is known, what encodes.

    Raises:
        ForeignFileError: the file exists.
        SinkError: another run writes it, or the folder cannot be written.
    """

    def __init__(
        self,
        path: Path,
        painter: Painter,
        rate: Callable[[str], float] = lambda source: 0.0,
        *,
        overwrite: bool = False,
        goes_on: bool = False,
    ) -> None:
        suffix = path.suffix.lower()
        if suffix not in VIDEO_SINK_SUFFIXES:
            raise SinkError(f"no video format {path.suffix!r}; there are {', '.join(VIDEO_SINK_SUFFIXES)}")
        if not path.parent.is_dir():
            raise SinkError(f"{path.parent} is not a folder; create it first")
        if not os.access(path.parent, os.W_OK):
            raise SinkError(f"{path.parent} is not writable; choose another folder")
        refuse_unless_plain(path)
        self._path, self._painter, self._rate = path, painter, rate
        self._overwrite, self._goes_on = overwrite, goes_on
        self._fps = 0.0
        self._by_gstreamer = suffix != ".avi" and gstreamer_python() is not None
        self._refused: dict[str, str] = {}
        self._writer: _Writer | None = None
        self._part = self._kept = 0
        self._size_hw = (0, 0)
        self._first_ns = self._first_index = self._count = self._pts = 0
        self._place: Place | None = self._next_place()
        if self._part > 1:
            self.remark = f"{path} is taken and stays as it is; this run begins with {self._place.target.name}"
        self.how = (
            "H.264" if self._by_gstreamer else "Motion JPEG" if suffix == ".avi" else "MPEG-4 (GStreamer is not there)"
        )

    @property
    def description(self) -> str:  # type: ignore[override]
        """Return the file and what encodes it."""
        return f"video {self._path if self._place is None else self._place.target}, {self.how}"

    @property
    def kept(self) -> int:  # type: ignore[override]
        """Pictures that a kill can no longer take away; with OpenCV only the end of a part makes it whole."""
        return self._kept + (self._writer.kept if self._writer else 0)

    def write(self, result: Segmentation) -> None:
        """Encode the picture, with its own time. Raises SinkError."""
        picture = self._painter.picture(result)
        size_hw = (picture.shape[0], picture.shape[1])
        if self._writer is not None and size_hw != self._size_hw:
            if self._fps:
                picture = self._fitted(picture)
            else:
                self.close()
        if (self._writer is None or self._count % 30 == 0) and shutil.disk_usage(
            self._path.parent
        ).free < _LEAST_FREE_BYTES:
            raise SinkError(f"the disk of {self._path} is full (under 16 MiB free); free space or pass another `sinks`")
        if self._writer is None:
            self._begin(result, size_hw)
        assert self._writer is not None
        try:
            self._writer.write(picture, *self._times(result))
        except SinkError as error:
            lost = self._count - self._writer.kept
            left = self._discarded()
            raise SinkError(
                f"{error}; {f'what was written is in {left}' if left else 'nothing is kept'}", lost
            ) from error
        self._count += 1

    def close(self) -> None:
        """Finish the file and give it its name. May be called twice. Raises SinkError."""
        writer, self._writer = self._writer, None
        if writer is None:
            self._drop_place()
            return
        try:
            writer.finish(self.deadline.left(_PATIENCE_S))
        except SinkError:
            self._kept += writer.kept
            self._leave_part()
            raise
        self._kept += self._count
        place, self._place = self._place, None
        assert place is not None
        name = place.publish(replace=self._may_replace())
        if name != place.target:
            self.remark = f"{place.target.name} was made by somebody else meanwhile; this is in {name.name}"

    def ask_to_finish(self) -> None:
        """Begin to end; ``close`` follows."""
        if self._writer is not None:
            self._writer.ask_to_finish()

    def discard(self) -> None:
        """Keep what was encoded under a name that says it is a part."""
        self._discarded()

    def _discarded(self) -> str:
        """End the part; the name of what is left of it, empty when that is nothing."""
        writer, self._writer = self._writer, None
        if writer is None:
            self._drop_place()
            return ""
        self._kept += writer.kept
        writer.kill()
        return self._leave_part()

    def _leave_part(self) -> str:
        """Keep what a writer that failed left, if that is anything; its name."""
        place = self._place
        if place is None or not (self._count and _holds_pictures(place.partial)):
            self._drop_place()
            return ""
        self._place = None
        place.release()
        return place.partial.name

    def _drop_place(self) -> None:
        """Give a name back that nothing was written to; the next part may have it."""
        place, self._place = self._place, None
        if place is not None:
            place.remove()
            self._part -= 1

    def _next_place(self) -> Place:
        while True:
            self._part += 1
            target = self._target()
            if os.path.lexists(target) and not self._may_replace():
                if self._part == 1 and not self._goes_on:
                    raise ForeignFileError(
                        f"{target} exists; a video never replaces another file, so name a new one, or pass `overwrite`"
                    )
                continue
            try:
                return Place(target)
            except PlaceTaken:
                if self._part == 1 and not self._goes_on:
                    raise

    def _may_replace(self) -> bool:
        """Only the name that was asked for: later parts may be anybody's."""
        return self._overwrite and self._part == 1

    def _begin(self, result: Segmentation, size_hw: tuple[int, int]) -> None:
        self._place = self._place or self._next_place()
        self._fps = self._rate(result.frame.source)
        self._size_hw, self._count, self._pts = size_hw, 0, -1_000_000
        self._first_ns, self._first_index = result.frame.at_ns, result.frame.index
        partial = self._place.partial
        if self._by_gstreamer:
            kbps = max(500, size_hw[0] * size_hw[1] * 3 // 1000)
            config = {"kind": "file", "path": str(partial), "gop": 15, "kbps": kbps}
            output = GstOutput(str(self._path), size_hw, config, self._refused)
            self._writer, self.how = output, f"H.264 by {output.encoder}"
            self.remark = encoder_remark(output.encoder, self._refused) or self.remark
        else:
            self._writer = _OpenCvWriter(partial, self._fps or 30.0, size_hw, repeats=result.frame.media_ns is not None)

    def _times(self, result: Segmentation) -> tuple[int, int]:
        """When the picture is shown and for how long; always later than the one before, as containers ask for."""
        frame = result.frame
        if frame.media_ns is None and self._fps:
            wanted, duration = int((frame.index - self._first_index) / self._fps * 1e9), int(1e9 / self._fps)
        else:
            wanted, duration = frame.at_ns - self._first_ns, frame.duration_ns
        before, self._pts = self._pts, max(wanted, self._pts + 1_000_000)
        # The last picture of a camera has no end; one as long as that before it is the least surprising.
        return self._pts, duration or (self._pts - before if self._count else int(1e9 / (self._fps or 30)))

    def _fitted(self, picture: np.ndarray) -> np.ndarray:
        """The picture as large as the part allows, in its middle, on black."""
        cv2 = require("cv2", "opencv")
        self.remark = "pictures of other sizes are fitted into {1}x{0} with black borders".format(*self._size_hw)
        scale = min(mine / theirs for mine, theirs in zip(self._size_hw, picture.shape))
        height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
        top, left = (self._size_hw[0] - height) // 2, (self._size_hw[1] - width) // 2
        fitted = np.zeros((*self._size_hw, 3), np.uint8)
        fitted[top : top + height, left : left + width] = cv2.resize(
            picture, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        )
        return fitted

    def _target(self) -> Path:
        stem = self._path.stem if self._part == 1 else f"{self._path.stem}-{self._part}"
        return self._path.with_name(stem + self._path.suffix)


class _Writer(Protocol):
    kept: int

    def write(self, picture: np.ndarray, pts_ns: int, duration_ns: int = 0) -> None: ...

    def ask_to_finish(self) -> None: ...

    def finish(self, patience_s: float) -> None: ...

    def kill(self) -> None: ...


class _OpenCvWriter:
    """A video by OpenCV at a constant rate; with ``repeats``, pictures are repeated where the next comes later."""

    kept = 0

    def __init__(self, path: Path, fps: float, size_hw: tuple[int, int], repeats: bool) -> None:
        cv2 = require("cv2", "opencv")
        codec = cv2.VideoWriter_fourcc(*_CODECS[path.suffix.lower()])
        self._writer: Any = cv2.VideoWriter(str(path), codec, fps, (size_hw[1], size_hw[0]))
        if not self._writer.isOpened():
            raise SinkError(f"{path} cannot be opened for writing; is the folder writable?")
        self._fps, self._repeats = fps, repeats
        self._written = self._end_ns = 0
        self._last: np.ndarray | None = None

    def write(self, picture: np.ndarray, pts_ns: int, duration_ns: int = 0) -> None:
        self._hold_until(pts_ns)
        self._writer.write(picture)
        self._written += 1
        self._last, self._end_ns = picture, pts_ns + duration_ns

    def _hold_until(self, pts_ns: int) -> None:
        """Repeat the last picture up to a time; pictures that come faster than the rate are all kept."""
        while self._repeats and self._last is not None and self._written < round(pts_ns * self._fps / 1e9):
            self._writer.write(self._last)
            self._written += 1

    def ask_to_finish(self) -> None:
        pass  # it encodes as it is written to

    def finish(self, patience_s: float) -> None:
        self._hold_until(self._end_ns)
        self._writer.release()

    def kill(self) -> None:
        self._writer.release()


def _holds_pictures(path: Path) -> bool:
    """Whether anything can be played of what a writer that failed left: a fragment of MP4, a cluster of Matroska, or
    whatever OpenCV wrote."""
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return any(content.find(mark) >= 0 for mark in (b"moof", b"mdat", b"movi", b"\x1f\x43\xb6\x75"))
    except (OSError, ValueError):  # nothing in it
        return False
