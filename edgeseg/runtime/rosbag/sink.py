"""Write class maps to a ROS 2 bag (``rosbag://FOLDER``)."""

from __future__ import annotations

import json
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from edgeseg.errors import ForeignFileError, SinkError, UsageError, first_line, require
from edgeseg.files import text_of
from edgeseg.runtime.frame import Frame, Segmentation
from edgeseg.runtime.rosbag.pictures import RAW
from edgeseg.runtime.sinks.base import FrameSink
from edgeseg.spec import ModelSpec

__all__ = ["RosbagSink"]

_TOPIC = re.compile(r"(?:/[A-Za-z_][A-Za-z0-9_]*)+")
_STAMPS_NS = 2**31 * 1_000_000_000
"""What a stamp has no more of: its seconds are of 32 bits with a sign."""


class RosbagSink(FrameSink):
    """Class ids as ``sensor_msgs/Image`` of encoding mono8, with the stamp and the frame_id of the camera's image.

    Frames of a source without stamps have the time when they were captured. The folder gets ``metadata.yaml`` when the
    run ends in good order, so a bag that is incomplete does not look complete.

    Args:
        path: of the new folder.
        spec: its class names are stored with the bag.
        topic: of the masks; where there are several sources, their names are put behind it.
        storage: ``mcap`` or ``sqlite3``.
        by_source: several sources.

    Raises:
        UsageError: the topic is none.
        ForeignFileError: something is there already.
        SinkError: the folder cannot be made.
        MissingDependencyError: rosbags is not installed.
    """

    def __init__(self, path: Path, spec: ModelSpec, topic: str, storage: str, *, by_source: bool = False) -> None:
        if not _TOPIC.fullmatch(topic):
            raise UsageError(
                f"the topic of a bag is /NAME or /NAME/NAME, of letters, digits and underscores, got {topic!r}"
            )
        if path.exists() or path.is_symlink():
            raise ForeignFileError(
                f"{text_of(path)} is there, and a bag replaces nothing, with `overwrite` either; name another folder"
            )
        require("rosbags", "rosbag")
        from rosbags.rosbag2 import StoragePlugin, Writer
        from rosbags.typesys import Stores, get_typestore

        self._path, self._topic, self._by_source = path, topic, by_source
        self._types = get_typestore(Stores.ROS2_HUMBLE)
        self._topics: dict[str, Any] = {}
        self._names: set[str] = set()
        # Version 8 is read by Humble, Iron and Jazzy.
        writer = Writer(path, version=8, storage_plugin=StoragePlugin[storage.upper()])
        writer.set_custom_data("edgeseg_classes", json.dumps(list(spec.classes)))
        try:
            writer.open()
        except Exception as error:
            raise SinkError(f"{text_of(path)} cannot be made ({first_line(error)}); name another folder") from error
        self._writer: Any = writer
        self._unix_ns = time.time_ns() - time.perf_counter_ns()
        self.description = f"masks in the bag {text_of(path)}"

    def write(self, result: Segmentation) -> None:
        """Append a mask. Raises SinkError."""
        frame = result.frame
        stamp_ns = frame.captured_ns + self._unix_ns if frame.stamp_ns is None else frame.stamp_ns
        if not 0 <= stamp_ns < _STAMPS_NS:
            raise SinkError(
                f"frame {frame.name} has the stamp {stamp_ns} ns, which is none from 1970 to 2038 as of ROS"
            )
        try:
            topic = self._topic_of(frame)
            frame_id = text_of(frame.frame_id)
            self._writer.write(topic, stamp_ns, self._serialised(result.classes, stamp_ns, frame_id))
        except Exception as error:  # of the disk, or of SQLite
            raise SinkError(f"{text_of(self._path)} cannot be written ({first_line(error)}); free space") from error

    def close(self) -> None:
        """Finish the bag. May be called twice. Raises SinkError."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        try:
            writer.close()
        except Exception as error:  # of the disk, or of SQLite
            with suppress(Exception):
                writer.abort()
            raise SinkError(f"{text_of(self._path)} cannot be finished ({first_line(error)}); free space") from error

    def discard(self) -> None:
        """Leave the bag without ``metadata.yaml``."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(Exception):
                writer.abort()

    def _topic_of(self, frame: Frame) -> Any:
        source = frame.source if self._by_source else ""
        if source not in self._topics:
            name = f"{self._topic}/{_plain(source)}" if self._by_source else self._topic
            while name in self._names:  # of a source whose name differs in what a topic cannot have
                name += "_"
            self._names.add(name)
            self._topics[source] = self._writer.add_connection(name, RAW, typestore=self._types)
        return self._topics[source]

    def _serialised(self, classes: np.ndarray, stamp_ns: int, frame_id: str) -> bytes:
        types = self._types.types
        seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
        stamp = types["builtin_interfaces/msg/Time"](seconds, nanoseconds)
        header = types["std_msgs/msg/Header"](stamp, frame_id)
        height, width = classes.shape
        message = types[RAW](
            header=header,
            height=height,
            width=width,
            encoding="mono8",
            is_bigendian=0,
            step=width,
            data=classes.ravel(),
        )
        return bytes(self._types.serialize_cdr(message, RAW))


def _plain(source: str) -> str:
    """Return a name that a topic may have: letters, digits and underscores, a letter first."""
    name = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in source)
    return name if name[:1].isalpha() else f"source_{name}"
