"""``--preview HOST:PORT``."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Sequence

from edgeseg.errors import require
from edgeseg.runtime.drawing.overlay import Painter
from edgeseg.runtime.frame import Segmentation
from edgeseg.runtime.loop.control import RunControl
from edgeseg.runtime.monitoring.prometheus import Collect, RunMetrics
from edgeseg.runtime.preview.address import bound
from edgeseg.runtime.preview.app import application
from edgeseg.runtime.preview.guard import Guard
from edgeseg.runtime.preview.operation import Alarms, Page, Rois
from edgeseg.runtime.preview.pictures import Pictures
from edgeseg.runtime.preview.server import ServerThread
from edgeseg.runtime.preview.snapshots import Snapshots
from edgeseg.runtime.sinks.base import FrameSink

__all__ = ["PreviewSink"]


class PreviewSink(FrameSink):
    """Serves a page that shows and steers a run, its API, /metrics and /healthz. ``write`` keeps a reference, no more.

    Args:
        control: the run.
        painter: paints the pictures; the page changes its alpha and hidden classes.
        address: ``HOST:PORT``; port 0 lets the kernel choose.
        token: asked of every request; may be empty on loopback only. At least 16 characters.
        rois: regions that the page may draw; None hides that.
        alarms: shown on the page and in the metrics.
        snapshots: folder for snapshots; made when the first one is taken.
        extra_metrics: more metrics, see ``RunMetrics``.

    Attributes:
        url: of the page, without the token.

    Raises:
        UsageError: no such address, or one that others reach and no token.
        SinkError: the port is in use.
        MissingDependencyError: the extra ``preview`` is not installed.
    """

    def __init__(
        self,
        control: RunControl,
        painter: Painter,
        address: str,
        *,
        token: str = "",
        rois: Rois | None = None,
        alarms: Alarms | None = None,
        snapshots: Path,
        extra_metrics: Sequence[Collect] = (),
    ) -> None:
        for package in ("starlette", "uvicorn", "h11", "prometheus_client"):
            require(package, "preview")
        where = bound(address, token)
        self.url = where.url
        self.description = f"page at {self.url}"
        self._painting = ThreadPoolExecutor(1, "edgeseg-preview-paint")
        self._answering = ThreadPoolExecutor(4, "edgeseg-preview-api")
        self._pictures = pictures = Pictures(painter, self._painting)
        metrics = RunMetrics(control.state, alarms=alarms, extra=extra_metrics)

        def app(drop: Callable[[Any], None]) -> Any:
            page = Page(control, painter, pictures, Snapshots(snapshots), metrics, drop, rois, alarms)
            return Guard(application(page, self._answering), where.host, token)

        self._server = ServerThread(app, where, pictures.attach, self._end_streams)

    def _end_streams(self) -> None:
        self._pictures.closed = True
        self._pictures.wake()

    def write(self, result: Segmentation) -> None:
        """Keep the result as its source's latest."""
        self._pictures.put(result)

    def close(self) -> None:
        """Stop the server, within the run's deadline."""
        self._server.close(self.deadline.left(2.0))
        # A source that is being opened just now may take longer than anybody wants to wait.
        for executor in (self._painting, self._answering):
            closing = threading.Thread(target=executor.shutdown, name="edgeseg-preview-close", daemon=True)
            closing.start()
            closing.join(self.deadline.left(0.5))
