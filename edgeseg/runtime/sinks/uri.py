"""URI -> sink."""

from __future__ import annotations

from pathlib import Path

from edgeseg.errors import SinkError
from edgeseg.runtime.frame import Segmentation
from edgeseg.runtime.overlay import Painter
from edgeseg.runtime.sinks.base import FrameSink
from edgeseg.runtime.sinks.folder import FolderSink
from edgeseg.runtime.sinks.jsonl import JsonlSink
from edgeseg.runtime.sinks.video import VideoSink
from edgeseg.runtime.sinks.window import WindowSink
from edgeseg.spec import ModelSpec

__all__ = ["NullSink", "sink_from_uri"]


class NullSink(FrameSink):
    """Throws results away: for measuring."""

    description = "nothing (null://)"

    def write(self, result: Segmentation) -> None:
        pass


def sink_from_uri(uri: str, spec: ModelSpec, painter: Painter, fps: float = 30.0) -> FrameSink:
    """The sink that a URI names.

    Args:
        uri: ``display://``, a video file (.mp4, .mkv, .avi), ``jsonl://FILE``, ``null://``, or a folder.
        spec: class names.
        painter: draws overlays.
        fps: rate that a video file announces.

    Raises:
        SinkError: unknown or not writable.
    """
    if uri == "null://":
        return NullSink()
    if uri.startswith("display://"):
        return WindowSink(painter)
    if uri.startswith("jsonl://"):
        return JsonlSink(Path(uri[len("jsonl://") :]), spec)
    if "://" in uri:
        raise SinkError(f"no sink {uri!r}; there are display://, jsonl://FILE, null://, a video file, a folder")
    path = Path(uri)
    if path.suffix and not path.is_dir():
        return VideoSink(path, painter, fps)
    return FolderSink(path, painter)
