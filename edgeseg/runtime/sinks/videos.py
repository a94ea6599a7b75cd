"""A video file per source."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgeseg.errors import SinkError
from edgeseg.runtime.frame import Segmentation
from edgeseg.runtime.sinks.base import FrameSink
from edgeseg.runtime.sinks.video import VideoSink

if TYPE_CHECKING:
    from edgeseg.runtime.sinks.uri import SinkContext

__all__ = ["VideoPerSource"]


class VideoPerSource(FrameSink):
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
        """Write into the video of the frame's source. Raises SinkError."""
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
        """Return the files and what encodes them."""
        if not self._context.by_source:
            return self._all()[0].description
        how = sorted({sink.how for sink in self._all()})
        return f"video {self._path}, {' and '.join(how)}, one per source"

    @property
    def remark(self) -> str:  # type: ignore[override]
        """Return what is to be known of the encoders that were passed over."""
        return "; ".join(sorted({sink.remark for sink in self._all() if sink.remark}))

    @property
    def kept(self) -> int:  # type: ignore[override]
        """Count the results that a kill can no longer take away."""
        return sum(sink.kept for sink in self._sinks.values())

    def close(self) -> None:
        """Finish every video, even if one fails. May be called twice. Raises SinkError."""
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
        """Keep what was encoded under names that say that they are parts."""
        for sink in self._all():
            sink.discard()
