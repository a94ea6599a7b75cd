"""Read the camera images of a ROS bag (``rosbag://FILE``)."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Mapping

from edgeseg.errors import SourceError, UsageError, first_line, require
from edgeseg.files import text_of
from edgeseg.runtime.frame import Frame
from edgeseg.runtime.rosbag.pictures import COMPRESSED, RAW, picture_of
from edgeseg.runtime.sources.base import EndOfStream, FrameSource

__all__ = ["RosbagSource"]


class RosbagSource(FrameSource):
    """Images of one topic of a bag, in the order in which they were recorded.

    Args:
        path: a ROS 2 bag, which is a folder with ``metadata.yaml`` or a single .mcap or .db3 file, or a .bag of ROS 1.
        topic: of ``sensor_msgs/Image`` or ``CompressedImage``; None where the bag has just one.
    """

    is_live = False

    def __init__(self, path: Path, topic: str | None = None) -> None:
        self._path, self._wanted = path, topic
        self._reader: Any = None
        self._messages: Iterator[Any] = iter(())
        self._index = 0
        self._first_ns: int | None = None
        self._latest_ns = 0
        self.description = f"bag {text_of(path)}" + (f", {topic}" if topic else "")

    def open(self) -> None:
        """Open the bag.

        Raises:
            SourceError: it is missing, damaged or cut, or has no such images.
            UsageError: it has several topics of images, and none is named.
        """
        require("rosbags", "rosbag")
        from rosbags.highlevel import AnyReader
        from rosbags.typesys import Stores, get_typestore

        self.close()
        if not self._path.exists():
            raise SourceError(f"{text_of(self._path)} is no bag: there is no such file or folder", "not found")
        with self._reading():
            # Bags of before ROS 2 Iron in SQLite carry no definitions. Those of images never changed.
            reader = AnyReader([self._path], default_typestore=get_typestore(Stores.ROS2_HUMBLE))
            reader.open()
        self._reader = reader
        try:
            topic, connections = self._chosen(_image_topics(reader))
        except BaseException:
            self.close()
            raise
        count = sum(one.msgcount for one in connections)
        with self._reading():
            self._messages = reader.messages(connections)
            span_s = (reader.end_time - reader.start_time) / 1e9
        self.fps = (count - 1) / span_s if count > 1 and span_s > 0 else 0.0
        self._index, self._first_ns, self._latest_ns = 0, None, 0
        self.description = f"bag {text_of(self._path)}, {count} images of {topic}"

    def read(self) -> Frame | None:
        """Return the next image. Raises EndOfStream; SourceError: the bag or the image is damaged."""
        if self._reader is None:
            raise SourceError(f"{self.description} is not open")
        where = f"image {self._index + 1} of {self.description}"
        with self._reading():
            connection, logged_ns, data = next(self._messages, (None, 0, b""))
            if connection is None:
                raise EndOfStream
            message = self._reader.deserialize(data, connection.msgtype)
        image = picture_of(message, connection.msgtype, where)
        header = message.header
        stamp_ns = header.stamp.sec * 1_000_000_000 + header.stamp.nanosec or logged_ns
        if self._first_ns is None:
            self._first_ns = stamp_ns
        self._latest_ns = max(self._latest_ns, stamp_ns - self._first_ns)
        index, self._index = self._index, self._index + 1
        return Frame(
            image,
            index,
            time.perf_counter_ns(),
            f"{index:06d}",
            media_ns=self._latest_ns,
            stamp_ns=stamp_ns,
            frame_id=header.frame_id,
        )

    def close(self) -> None:
        """Close the bag. May be called twice."""
        reader, self._reader = self._reader, None
        self._messages = iter(())
        if reader is not None:
            reader.close()

    def _chosen(self, topics: Mapping[str, list[Any]]) -> tuple[str, list[Any]]:
        """Return the topic that is read, and where the bag has it."""
        name, bag = self._wanted, text_of(self._path)
        if not topics:
            raise SourceError(f"{bag} holds no images (sensor_msgs/Image or CompressedImage)")
        if name is None and len(topics) > 1:
            raise UsageError(f"{bag} holds images of several topics; name one: ?topic={' or '.join(topics)}")
        if name is not None and name not in topics:
            raise SourceError(f"{bag} holds no images of {name}; it holds those of {', '.join(topics)}", "not found")
        chosen = name or next(iter(topics))
        return chosen, topics[chosen]

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Have the library's errors in one line: of a damaged bag it raises them in any form."""
        try:
            yield
        except (SourceError, EndOfStream):
            raise
        except Exception as error:
            raise SourceError(
                f"{text_of(self._path)} cannot be read as a bag, or is cut ({first_line(error)}); 'ros2 bag reindex' "
                "mends a folder whose recording was killed, 'mcap recover' an .mcap file",
                "broken",
            ) from error


def _image_topics(reader: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for connection in reader.connections:
        if connection.msgtype in (RAW, COMPRESSED):
            found.setdefault(connection.topic, []).append(connection)
    return dict(sorted(found.items()))
