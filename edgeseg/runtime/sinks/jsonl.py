"""One JSON line per frame."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Sequence

from edgeseg.files import text_of
from edgeseg.runtime.frame import Segmentation
from edgeseg.runtime.sinks.base import FrameSink
from edgeseg.runtime.sinks.lines import LineFile
from edgeseg.spec import ModelSpec

__all__ = ["JsonlSink", "frame_record", "is_record"]


def frame_record(result: Segmentation, classes: Sequence[str]) -> dict[str, Any]:
    """Return what is reported of a frame, as a JSON-serialisable dict.

    ``{"source", "frame": index, "name", "time_s": seconds in a stored video from its first frame, "ms": {stage: ms},
    "area": {class: share of the picture, 0-1}, "confidence": {class: mean probability where it won, 0-1}}``. Classes
    that are absent are left out; so is ``source`` where it has no name, ``time_s`` where the source has no time of its
    own, and ``confidence`` where the graph gives none.
    """
    present = [(number, name) for number, name in enumerate(classes) if result.area[number]]
    record: dict[str, Any] = {"source": result.frame.source} if result.frame.source else {}
    record.update(frame=result.frame.index, name=text_of(result.frame.name))
    if result.frame.media_ns is not None:
        record["time_s"] = round(result.frame.media_ns / 1e9, 6)
    record.update(
        ms={stage: round(ms, 3) for stage, ms in result.laps_ms.items()},
        area={name: round(float(result.area[number]), 5) for number, name in present},
    )
    if result.confidence is not None:
        record["confidence"] = {name: round(float(result.confidence[number]), 4) for number, name in present}
    return record


_KEYS = {"source", "frame", "name", "ms", "area", "confidence"}


def is_record(line: bytes) -> bool:
    """Tell whether a line is the whole record of a frame or an alarm, and so of a file that edgeseg wrote."""
    try:
        record = json.loads(line.decode())  # of bytes it would take UTF-16 too
    except (ValueError, RecursionError):
        return False
    if not isinstance(record, dict):
        return False
    keys = set(record)
    return {"frame", "name", "area"} <= keys or {"alarm", "on"} <= keys or {"frame"} <= keys <= _KEYS


class JsonlSink(FrameSink):
    """Appends the ``frame_record`` of each frame to a file.

    Raises:
        ForeignFileError: the file is another program's, and ``overwrite`` is not set. SinkError: it cannot be opened.
    """

    def __init__(self, path: Path, spec: ModelSpec, *, overwrite: bool = False) -> None:
        self._classes = spec.classes
        self._lines = LineFile(path, b"", b"{", is_record, overwrite=overwrite)
        self.description = f"JSON lines in {text_of(path)}"

    def write(self, result: Segmentation) -> None:
        """Append a line. Raises SinkError."""
        self._lines.append(json.dumps(frame_record(result, self._classes)).encode() + b"\n")

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._lines.close()
