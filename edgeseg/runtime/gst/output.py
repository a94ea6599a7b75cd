"""Pictures into an output process: a video file or an RTSP server."""

from __future__ import annotations

import mmap
import os
import time
from typing import Any, Mapping

import numpy as np

from edgeseg.errors import SinkError
from edgeseg.runtime.credentials import redacted
from edgeseg.runtime.gst.process import GstProcess

__all__ = ["GstOutput"]

_FRAMES_AT = 4096
_SLOTS = 4
_PATIENCE_S = 5.0


class GstOutput:
    """One output process.

    Args:
        what: for people, e.g. ``"out.mp4"``.
        size_hw: of every picture.
        config: of the process, besides the size.

    Attributes:
        kept: pictures of a file that a kill can no longer take away.

    Raises:
        SinkError: it does not start. MissingDependencyError: GStreamer is not installed.
    """

    def __init__(self, what: str, size_hw: tuple[int, int], config: Mapping[str, Any]) -> None:
        self.kept = 0
        self._what = what
        height, width = size_hw
        length = _FRAMES_AT + _SLOTS * height * width * 3
        handle = os.memfd_create("edgeseg-pictures")
        try:
            os.ftruncate(handle, length)
            shared = np.frombuffer(mmap.mmap(handle, length), np.uint8)
            self._taken = shared[:_SLOTS]
            self._slots = shared[_FRAMES_AT:].reshape(_SLOTS, height, width, 3)
            self._process = GstProcess("output_child.py", {**config, "height": height, "width": width}, [handle])
        finally:
            os.close(handle)
        try:
            self._await("ready")
        except SinkError:
            self._process.end(0.5)
            raise

    def write(self, picture: np.ndarray, pts_ns: int) -> None:
        """Hand over HxWx3 uint8 BGR. Raises SinkError: the process failed or hangs."""
        self._hear(0)
        give_up_at = time.monotonic() + _PATIENCE_S
        while self._taken.all():
            if time.monotonic() > give_up_at:
                raise SinkError(f"{self._what}: the encoder takes no picture for {_PATIENCE_S:g} s")
            self._hear(0.005)
        slot = int(np.argmin(self._taken))
        np.copyto(self._slots[slot], picture)
        self._taken[slot] = 1
        if not self._process.send({"slot": slot, "pts": pts_ns}):
            raise SinkError(f"{self._what}: the encoder process is gone")

    def finish(self) -> None:
        """End in good order. Raises SinkError when what was written is not whole."""
        self._process.send({"stop": True})
        try:
            self._await("finished")
        finally:
            self._process.end(0.5)

    def kill(self) -> None:
        """End at once."""
        self._process.end(0)

    def _await(self, wanted: str) -> None:
        give_up_at = time.monotonic() + 2 * _PATIENCE_S
        while time.monotonic() < give_up_at:
            if wanted in self._hear(0.2):
                return
        raise SinkError(f"{self._what}: the encoder does not answer")

    def _hear(self, timeout_s: float) -> Mapping[str, Any]:
        """The next message, if any; raises SinkError for an error."""
        while True:
            try:
                received = self._process.receive(timeout_s)
            except EOFError:
                said = redacted(" ".join(self._process.printed().split()))[-200:]
                raise SinkError(f"{self._what}: the encoder process is gone" + (f" ({said})" if said else "")) from None
            if received is None:
                return {}
            message = received[0]
            if "error" in message:
                raise SinkError(f"{self._what}: {redacted(message['error'])}")
            if "kept" not in message:
                return message
            self.kept = message["kept"]
