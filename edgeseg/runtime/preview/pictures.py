"""The latest result of every source, and its picture: painted only while somebody watches, once for all of them."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

from edgeseg.errors import require
from edgeseg.runtime.drawing.overlay import Painter
from edgeseg.runtime.frame import Segmentation

__all__ = ["MAX_VIEWERS", "Picture", "Pictures", "Viewer"]

MAX_VIEWERS = 16
_JPEG_QUALITY = 85


@dataclass(frozen=True)
class Picture:
    """A painted frame.

    Attributes:
        jpeg: the file.
        key: what it was painted from: two pictures with equal keys are the same.
        index: of its frame.
        captured_ns: of its frame.
    """

    jpeg: bytes
    key: tuple[object, ...]
    index: int
    captured_ns: int


@dataclass(eq=False)
class Viewer:
    """Somebody who watches a source. Lives in the server's event loop.

    Attributes:
        source: whose picture.
        name: chosen by the page, so that it can ask what was sent to it.
        news: set when there may be something new.
        gone: the connection is closed.
        sent: the latest picture that was handed to the connection.
    """

    source: str
    name: str
    news: asyncio.Event = field(default_factory=asyncio.Event)
    gone: bool = False
    sent: Picture | None = None

    def leave(self) -> None:
        """Say that the connection is closed."""
        self.gone = True
        self.news.set()


class Pictures:
    """Keeps one result per source; ``put`` is for the run's thread, everything else for the server.

    Args:
        painter: paints.
        executor: where; never the event loop.
    """

    def __init__(self, painter: Painter, executor: Executor) -> None:
        self._painter, self._executor = painter, executor
        self._cv2 = require("cv2", "opencv")
        self._latest: dict[str, Segmentation] = {}
        self._painting: dict[str, tuple[tuple[object, ...], asyncio.Future[Picture]]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waking = False
        self.viewers: set[Viewer] = set()
        self.closed = False

    def put(self, result: Segmentation) -> None:
        """Keep the reference, and wake the viewers if there are any."""
        self._latest[result.frame.source] = result
        if self.viewers:
            self.wake()

    def latest(self, source: str) -> Segmentation | None:
        """Return the latest result of a source."""
        return self._latest.get(source)

    def forget(self, source: str) -> None:
        """Drop what is kept of a source that was removed."""
        self._latest.pop(source, None)
        self._painting.pop(source, None)

    def age_ms(self, source: str) -> float | None:
        """Milliseconds since the latest result's frame was captured."""
        result = self._latest.get(source)
        return None if result is None else _age_ms(result.frame.captured_ns)

    def sent_to(self, name: str) -> dict[str, Any] | None:
        """Return what the viewer of that name was sent last, and how old it is; None when nobody watches by it."""
        for viewer in list(self.viewers):
            if viewer.name == name and viewer.sent is not None:
                return {
                    "source": viewer.source,
                    "frame": viewer.sent.index,
                    "age_ms": round(_age_ms(viewer.sent.captured_ns), 1),
                }
        return None

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Say which loop the viewers live in."""
        self._loop = loop

    def wake(self) -> None:
        """Make every viewer look again. From any thread."""
        loop = self._loop
        if loop is not None and not self._waking and not loop.is_closed():
            self._waking = True
            loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._waking = False
        for viewer in self.viewers:
            viewer.news.set()

    async def picture(self, source: str) -> Picture | None:
        """Return the latest result's picture, painted if it is not yet; None when there is no result."""
        result = self._latest.get(source)
        if result is None:
            return None
        key = (result.frame.index, result.frame.captured_ns, self._painter.alpha, self._painter.hidden)
        painting = self._painting.get(source)
        if painting is None or painting[0] != key:
            loop = asyncio.get_event_loop()
            future = loop.run_in_executor(self._executor, self._painted, result, key)
            painting = self._painting[source] = (key, future)
        return await asyncio.shield(painting[1])

    def _painted(self, result: Segmentation, key: tuple[object, ...]) -> Picture:
        painted = self._painter.picture(result)
        _, jpeg = self._cv2.imencode(".jpg", painted, [self._cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        return Picture(jpeg.tobytes(), key, result.frame.index, result.frame.captured_ns)


def _age_ms(captured_ns: int) -> float:
    return (time.perf_counter_ns() - captured_ns) / 1e6
