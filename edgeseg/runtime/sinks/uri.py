"""URI -> sink."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Callable
from urllib.parse import parse_qsl

from edgeseg.credentials import redacted
from edgeseg.errors import SinkError, UsageError
from edgeseg.runtime.drawing.overlay import Painter
from edgeseg.runtime.frame import Segmentation
from edgeseg.runtime.sinks.base import FrameSink
from edgeseg.runtime.sinks.coco import CocoSink
from edgeseg.runtime.sinks.csv_file import CsvSink
from edgeseg.runtime.sinks.folder import FolderSink
from edgeseg.runtime.sinks.jsonl import JsonlSink
from edgeseg.runtime.sinks.mqtt import MqttSink
from edgeseg.runtime.sinks.rtsp import RtspSink
from edgeseg.runtime.sinks.video import VIDEO_SINK_SUFFIXES, VideoSink
from edgeseg.runtime.sinks.window import WindowSink
from edgeseg.runtime.state import RunState
from edgeseg.spec import ModelSpec

__all__ = ["NullSink", "SinkContext", "sink_from_uri"]


class NullSink(FrameSink):
    """Throws results away: for measuring."""

    description = "nothing (null://)"

    def write(self, result: Segmentation) -> None:
        pass


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


def sink_from_uri(uri: str, context: SinkContext) -> FrameSink:
    """The sink that a URI names.

    Args:
        uri: ``display://``, a video file (.mp4, .mkv, .avi), a folder, ``jsonl://FILE``, ``csv://FILE``,
            ``coco://FILE?format=rle|polygons``, ``rtsp://127.0.0.1:8554/PATH``, ``mqtt://[USER:PASSWORD@]HOST/TOPIC``,
            ``record://FILE``, or ``null://``.
        context: what it needs to know.

    Raises:
        ForeignFileError: it would replace what edgeseg did not write. SinkError: unknown or not writable.
        UsageError: the URI makes no sense.
        MissingDependencyError: it needs a package that is not installed.
    """
    if not uri.strip():
        raise UsageError("--sink is empty; name a file or a folder, or leave it out")
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return _file_sink(Path(uri), context)
    spec = context.spec
    makers: dict[str, Callable[[], FrameSink]] = {
        "null": NullSink,
        "display": lambda: WindowSink(context.painter),
        "jsonl": lambda: JsonlSink(Path(rest), spec, overwrite=context.overwrite),
        "csv": lambda: CsvSink(Path(rest), spec, overwrite=context.overwrite),
        "coco": lambda: _coco(rest, context),
        "rtsp": lambda: _rtsp(uri, context),
        "mqtt": lambda: MqttSink(uri, spec),
        "mqtts": lambda: MqttSink(uri, spec),
        "record": lambda: _recording(uri, context),
    }
    if scheme not in makers:
        raise SinkError(
            f"no sink {redacted(uri)!r}; there are {', '.join(f'{name}://' for name in makers)}, a video file, a folder"
        )
    return makers[scheme]()


def _rtsp(uri: str, context: SinkContext) -> FrameSink:
    if context.by_source:
        raise UsageError(f"{redacted(uri)} shows one source; run the others apart, or use --preview")
    return RtspSink(uri, context.painter)


def _file_sink(path: Path, context: SinkContext) -> FrameSink:
    if not path.suffix or path.is_dir():
        return FolderSink(path, context.painter, context.by_source, overwrite=context.overwrite)
    if path.suffix.lower() not in VIDEO_SINK_SUFFIXES:
        raise SinkError(
            f"no sink for {path.suffix} files; there are {', '.join(VIDEO_SINK_SUFFIXES)}, jsonl://FILE, csv://FILE, "
            "coco://FILE, or a folder (a name without a suffix)"
        )
    return _VideoPerSource(path, context)


class _VideoPerSource(FrameSink):
    """``NAME.SUFFIX`` for the first source, ``NAME-SOURCE.SUFFIX`` for others; with ``by_source`` for all."""

    def __init__(self, path: Path, context: SinkContext) -> None:
        self._path, self._context = path, context
        self._sinks: dict[str, VideoSink] = {}
        self._spare: VideoSink | None = None
        names = list(context.state.sources)
        try:
            if context.by_source:
                for name in names:  # now, so that a name that is taken is said before anything is done
                    self._sinks[name] = self._made(self._path_of(name), goes_on=not context.rate(name))
            else:
                self._spare = self._made(path, goes_on=not any(map(context.rate, names)))
        except SinkError:
            self.discard()
            raise

    def write(self, result: Segmentation) -> None:
        name = result.frame.source
        if name not in self._sinks:
            self._sinks[name] = self._spare or self._made(self._path_of(name), goes_on=True)
            self._spare = None
        self._sinks[name].deadline = self.deadline
        self._sinks[name].write(result)

    def _path_of(self, source: str) -> Path:
        return self._path.with_name(f"{self._path.stem}-{source.replace('/', '_')}{self._path.suffix}")

    def _made(self, path: Path, *, goes_on: bool) -> VideoSink:
        context = self._context
        return VideoSink(path, context.painter, context.rate, overwrite=context.overwrite, goes_on=goes_on)

    def _all(self) -> list[VideoSink]:
        return [*self._sinks.values(), *([self._spare] if self._spare else [])]

    @property
    def description(self) -> str:  # type: ignore[override]
        if not self._context.by_source:
            return self._all()[0].description
        how = sorted({sink.how for sink in self._all()})
        return f"video {self._path}, {' and '.join(how)}, one per source"

    @property
    def remark(self) -> str:  # type: ignore[override]
        return "; ".join(sorted({sink.remark for sink in self._all() if sink.remark}))

    @property
    def kept(self) -> int:  # type: ignore[override]
        return sum(sink.kept for sink in self._sinks.values())

    def close(self) -> None:
        failure: SinkError | None = None
        for sink in self._all():
            sink.ask_to_finish()
        for sink in self._all():
            sink.deadline = self.deadline
            try:
                sink.close()
            except SinkError as error:  # the others are closed all the same
                failure = failure or error
        if failure is not None:
            raise failure

    def discard(self) -> None:
        for sink in self._all():
            sink.discard()


def _recording(uri: str, context: SinkContext) -> FrameSink:
    from edgeseg.runtime.recording.sink import RecordSink  # it needs sinks.base, which is of this package

    return RecordSink(uri, context.spec, context.engine, context.state, overwrite=context.overwrite)


def _coco(rest: str, context: SinkContext) -> CocoSink:
    name, _, query = rest.partition("?")
    values = dict(parse_qsl(query, keep_blank_values=True))
    form = values.pop("format", "rle")
    if values:
        raise UsageError(f"coco:// has no parameter {', '.join(values)}; it has format=rle|polygons")
    return CocoSink(Path(name), context.spec, form, overwrite=context.overwrite)
