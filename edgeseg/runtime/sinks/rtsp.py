"""What the painter shows, for RTSP clients."""

from __future__ import annotations

from urllib.parse import unquote

from edgeseg.credentials import address_parts, redacted
from edgeseg.errors import SinkError, UsageError
from edgeseg.runtime.drawing.overlay import Painter
from edgeseg.runtime.frame import Segmentation
from edgeseg.runtime.gst.output import GstOutput, encoder_remark
from edgeseg.runtime.sinks.base import FrameSink

__all__ = ["RtspSink"]

_PATIENCE_S = 10.0


class RtspSink(FrameSink):
    """Serves ``rtsp://[USER:PASSWORD@]HOST:PORT/PATH`` as H.264; the server starts with the first frame, and
    shows that frame's source only.

    Args:
        uri: HOST ``127.0.0.1`` serves this machine only; ``@`` or ``0.0.0.0`` everybody, and then USER and PASSWORD are
            required.
        painter: draws the picture.

    Raises:
        UsageError: the URI makes no sense, or everybody could watch.
    """

    def __init__(self, uri: str, painter: Painter) -> None:
        parts = address_parts(uri.replace("rtsp://@:", "rtsp://0.0.0.0:"), at_later=False)
        host, port = parts.hostname or "", parts.port or 8554
        if not host:
            raise UsageError(f"{redacted(uri)} names no address to serve at; rtsp://127.0.0.1:8554/edgeseg")
        if bool(parts.username) != bool(parts.password):
            raise UsageError(f"{redacted(uri)}: a user has a password and a password a user: rtsp://USER:PASSWORD@...")
        if host not in ("127.0.0.1", "localhost") and not parts.password:
            raise UsageError(
                f"{redacted(uri)}: other machines may watch only with rtsp://USER:PASSWORD@{host}:{port}/..."
            )
        self._config = {
            "kind": "rtsp",
            "host": host,
            "port": port,
            "mount": parts.path if parts.path.strip("/") else "/edgeseg",
            "user": unquote(parts.username or ""),
            "password": unquote(parts.password or ""),
            "gop": 15,
        }
        self._painter = painter
        self._output: GstOutput | None = None
        self._size_hw = (0, 0)
        self._source: str | None = None
        self._refused: dict[str, str] = {}
        self._name = self.description = f"RTSP server rtsp://{host}:{port}{self._config['mount']}"

    def write(self, result: Segmentation) -> None:
        """Show the picture to the clients; results of other sources than the first are not shown. Raises SinkError."""
        self._source = self._source or result.frame.source
        if result.frame.source != self._source:
            return
        picture = self._painter.picture(result)
        size_hw = (picture.shape[0], picture.shape[1])
        if self._output is not None and size_hw != self._size_hw:
            self.close()
        if self._output is None:
            kbps = max(500, size_hw[0] * size_hw[1] * 3 // 1000)
            self._output = GstOutput(self._name, size_hw, {**self._config, "kbps": kbps}, self._refused)
            self.description = f"{self._name}, H.264 by {self._output.encoder}"
            self.remark = encoder_remark(self._output.encoder, self._refused)
            self._size_hw = size_hw
        try:
            self._output.write(picture, 0)
        except SinkError:
            self._output.kill()
            self._output = None
            raise

    def close(self) -> None:
        """Stop the server. May be called twice."""
        output, self._output = self._output, None
        if output is not None:
            output.finish(self.deadline.left(_PATIENCE_S))
