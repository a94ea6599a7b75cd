"""The table of sinks: how each scheme is opened, what it writes, and what it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Mapping

from edgeseg.credentials import redacted
from edgeseg.errors import SinkError, UsageError
from edgeseg.runtime.frame import Segmentation
from edgeseg.runtime.sinks.base import FrameSink
from edgeseg.uris import Location, UriKind, known_kinds, located

if TYPE_CHECKING:
    from edgeseg.runtime.drawing.overlay import Painter
    from edgeseg.runtime.state import RunState
    from edgeseg.spec import ModelSpec

__all__ = ["SINKS", "NullSink", "SinkContext", "SinkKind", "sink_from_uri", "sink_kind", "sinks_help"]


@dataclass(frozen=True)
class SinkContext:
    """What sinks need to know of a run.

    Attributes:
        spec: class names.
        painter: draws pictures.
        state: of the run.
        engine: its description.
        by_source: several sources: files and folders get the source's name; else only those that come later do.
        overwrite: files that were there are replaced.
    """

    spec: ModelSpec
    painter: Painter
    state: RunState
    engine: str = ""
    by_source: bool = False
    overwrite: bool = False

    def rate(self, source: str) -> float:
        """Frames per second of a stored source (30 where it does not say); 0 for a live one.

        Frames of a replay carry the names of the recorded sources, which are no sources of this run.
        """
        only = next(iter(self.state.sources.values())) if len(self.state.sources) == 1 else None
        mine = self.state.sources.get(source, only)
        return 0.0 if mine is None or mine.is_live else mine.announced_fps or 30.0


class NullSink(FrameSink):
    """Throws results away: for measuring."""

    description = "nothing (null://)"

    def write(self, result: Segmentation) -> None:
        """Throw the result away."""


# What an opener opens is imported in it, so that the table costs nothing to read.


def _refuse_place(at: Location) -> None:
    """Refuse what stands behind a scheme that takes nothing: it would be ignored. Raises UsageError."""
    if at.place:
        raise UsageError(f"{at.uri.partition('://')[0]}:// takes nothing behind it, got {redacted(at.uri)}")


def _open_null(at: Location, context: SinkContext) -> FrameSink:
    _refuse_place(at)
    return NullSink()


def _open_window(at: Location, context: SinkContext) -> FrameSink:
    from edgeseg.runtime.sinks.window import WindowSink

    _refuse_place(at)
    return WindowSink(context.painter)


def _open_path(at: Location, context: SinkContext) -> FrameSink:
    from edgeseg.runtime.sinks.folder import FolderSink
    from edgeseg.runtime.sinks.video import VIDEO_SINK_SUFFIXES
    from edgeseg.runtime.sinks.videos import VideoPerSource

    path = Path(at.uri)
    if not path.suffix or path.is_dir():
        return FolderSink(path, context.painter, context.by_source, overwrite=context.overwrite)
    if path.suffix.lower() not in VIDEO_SINK_SUFFIXES:
        raise SinkError(
            f"no sink for {path.suffix} files; there are {', '.join(VIDEO_SINK_SUFFIXES)}, "
            f"{', '.join(kind.shown for scheme, kind in SINKS.items() if scheme and kind.is_path)}, "
            "or a folder (a name without a suffix)"
        )
    return VideoPerSource(path, context)


def _open_jsonl(at: Location, context: SinkContext) -> FrameSink:
    from edgeseg.runtime.sinks.jsonl import JsonlSink

    return JsonlSink(Path(at.place), context.spec, overwrite=context.overwrite)


def _open_csv(at: Location, context: SinkContext) -> FrameSink:
    from edgeseg.runtime.sinks.csv_file import CsvSink

    return CsvSink(Path(at.place), context.spec, overwrite=context.overwrite)


def _open_coco(at: Location, context: SinkContext) -> FrameSink:
    from edgeseg.runtime.sinks.coco import CocoSink

    form = at.values.get("format", "rle")
    return CocoSink(Path(at.place), context.spec, form, overwrite=context.overwrite)


def _open_rtsp(at: Location, context: SinkContext) -> FrameSink:
    from edgeseg.runtime.sinks.rtsp import RtspSink

    if context.by_source:
        raise UsageError(f"{redacted(at.uri)} shows one source; run the others apart, or use `preview`")
    return RtspSink(at.uri, context.painter)


def _open_mqtt(at: Location, context: SinkContext) -> FrameSink:
    from edgeseg.runtime.sinks.mqtt import MqttSink

    return MqttSink(at.uri, context.spec)


def _open_recording(at: Location, context: SinkContext) -> FrameSink:
    from edgeseg.runtime.recording.sink import RecordSink

    picture = at.values.get("format", "png")
    return RecordSink(Path(at.place), context.spec, context.engine, context.state, picture, overwrite=context.overwrite)


def _open_rosbag(at: Location, context: SinkContext) -> FrameSink:
    from edgeseg.runtime.rosbag.sink import RosbagSink

    topic = at.values.get("topic", "/edgeseg/mask")
    storage = at.values.get("storage", "mcap")
    return RosbagSink(Path(at.place), context.spec, topic, storage, by_source=context.by_source)


@dataclass(frozen=True)
class SinkKind(UriKind):
    """A row of ``SINKS``.

    Attributes:
        open: makes the sink of a URI, for a run.
        files: the files that it writes when it is given a path.
        not_in_service: why a service cannot have it; empty where it can.
    """

    open: Callable[[Location, SinkContext], FrameSink]
    files: Callable[[Path], tuple[Path, ...]] = lambda path: (path,)
    not_in_service: str = ""


SINKS: Mapping[str, SinkKind] = {
    "display": SinkKind(
        _open_window,
        "display://",
        "a window",
        not_in_service="a service has no desktop, so display:// cannot work; use `preview`, a file or jsonl://",
    ),
    "": SinkKind(
        _open_path,
        "out.mp4, a folder",
        "a video (`.mp4`, `.mkv`, `.avi`); in a folder `masks/` (class ids), `overlays/`, with `visualize` mask also "
        "`colours/`: one PNG per frame, written whole",
        is_path=True,
    ),
    "jsonl": SinkKind(_open_jsonl, "jsonl://FILE", "a line of JSON per frame; appends", is_path=True),
    "csv": SinkKind(_open_csv, "csv://FILE", "a row per frame; appends", is_path=True),
    "coco": SinkKind(
        _open_coco,
        "coco://FILE",
        "COCO annotations; `rle`, the default, is exact",
        is_path=True,
        parameters={"format": "rle|polygons"},
        files=lambda path: (path, path.with_suffix(".jsonl")),
    ),
    "rtsp": SinkKind(
        _open_rtsp,
        "rtsp://127.0.0.1:8554/PATH",
        "an RTSP server; for other machines only with `rtsp://user:password@0.0.0.0:8554/street`",
    ),
    "mqtt": SinkKind(
        _open_mqtt,
        "mqtt://HOST/TOPIC",
        "a message of JSON per frame; `mqtt://user:password@host/topic`; `mqtts://` for TLS, there also `ca=FILE`; "
        "needs `pip install '.[mqtt]'`",
        parameters={"qos": "0|1|2"},
    ),
    "mqtts": SinkKind(_open_mqtt, "", "`mqtt://` over TLS", parameters={"qos": "0|1|2", "ca": "FILE"}),
    "record": SinkKind(
        _open_recording,
        "record://FILE",
        "frames, times, drops and class maps in one SQLite file; `png`, the default, is exact",
        is_path=True,
        parameters={"format": "png|jpeg"},
        not_in_service="a service starts again and a recording never replaces another; record with 'edgeseg run'",
    ),
    "rosbag": SinkKind(
        _open_rosbag,
        "rosbag://FOLDER",
        "class ids as images (mono8) of a new ROS 2 bag, with the camera's stamps: [ROS bags](../how-to/rosbags.md); "
        "needs `pip install '.[rosbag]'`",
        is_path=True,
        parameters={"topic": "TOPIC", "storage": "mcap|sqlite3"},
        not_in_service="a service starts again and a bag never replaces another; write one with 'edgeseg run'",
    ),
    "null": SinkKind(_open_null, "null://", "nothing"),
}
"""Scheme -> what it is; "" is a path without a scheme."""


def sinks_help() -> str:
    """Return the sinks that there are, for ``run --help``."""
    return known_kinds(SINKS.values())


def sink_kind(uri: str) -> SinkKind:
    """Return the row of a URI.

    Raises:
        UsageError: it is empty. SinkError: there is no such sink.
    """
    if not uri.strip():
        raise UsageError("`sinks` is empty; name a file or a folder, or leave it out")
    scheme = uri.partition("://")[0] if "://" in uri else ""
    if "://" in uri and not scheme or scheme not in SINKS:
        raise SinkError(f"no sink {redacted(uri)!r}; there are {sinks_help()}")
    return SINKS[scheme]


def sink_from_uri(uri: str, context: SinkContext) -> FrameSink:
    """Make the sink that a URI names.

    Args:
        uri: of a scheme of ``SINKS``, a video file, or a folder.
        context: what it needs to know.

    Raises:
        ForeignFileError: it would replace what edgeseg did not write. SinkError: unknown or not writable.
        UsageError: the URI makes no sense.
        MissingDependencyError: it needs a package that is not installed.
    """
    kind = sink_kind(uri)
    return kind.open(located(uri, kind), context)
