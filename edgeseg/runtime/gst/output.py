"""Pictures into an output process: a video file or an RTSP server."""

from __future__ import annotations

import mmap
import os
import signal
import time
from typing import Any, Mapping

import numpy as np

from edgeseg.credentials import redacted
from edgeseg.errors import SinkError
from edgeseg.runtime.gst.process import GstProcess

__all__ = ["GstOutput", "encoder_remark"]

_FRAMES_AT = 4096
_SLOTS = 4
_LEAST_SIDE = 16
_PATIENCE_S, _START_S = 5.0, 20.0
_CRASHES = tuple(-number for number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE))


class GstOutput:
    """One output process.

    Args:
        what: for people, e.g. ``"out.mp4"``.
        size_hw: of every picture. H.264 as players take it has even sizes only: an odd one gets a row or column more
            that repeats the last, and one that is smaller than encoders take gets more of them.
        config: of the process, besides the size.
        refused: encoders that do not work -> why, passed over; those that turn out not to are added.

    Attributes:
        encoder: the element that encodes.
        kept: pictures of a file that a kill can no longer take away.

    Raises:
        SinkError: it does not start. MissingDependencyError: GStreamer is not installed.
    """

    def __init__(
        self, what: str, size_hw: tuple[int, int], config: Mapping[str, Any], refused: dict[str, str] | None = None
    ) -> None:
        self.kept = 0
        self._asked = False
        self.encoder = self._trying = self._reason = ""
        self._what, self._refused = what, {} if refused is None else refused
        height, width = (max(_LEAST_SIDE, side + side % 2) for side in size_hw)
        self._size_hw = size_hw
        stride = (3 * width + 3) // 4 * 4  # GStreamer begins every row at a multiple of 4 bytes
        length = _FRAMES_AT + _SLOTS * height * stride
        handle = os.memfd_create("edgeseg-pictures")
        try:
            os.ftruncate(handle, length)
            shared = np.frombuffer(mmap.mmap(handle, length), np.uint8)
            self._taken = shared[:_SLOTS]
            rows = shared[_FRAMES_AT:].reshape(_SLOTS, height, stride)
            shape, steps = (_SLOTS, height, width, 3), (height * stride, stride, 3, 1)
            self._slots = np.lib.stride_tricks.as_strided(rows, shape, steps)
            while not self._starts({**config, "height": height, "width": width}, handle):
                pass
        finally:
            os.close(handle)

    def _starts(self, config: Mapping[str, Any], handle: int) -> bool:
        """Start a process, which tries an encoder; False when that one does not work and is refused from now on."""
        self._trying = ""
        self._process = GstProcess("output_child.py", {**config, "refused": self._refused}, [handle])
        try:
            self.encoder = str(self._await("ready", _START_S)["encoder"])
        except SinkError:
            self._process.end(0 if self._trying else 0.5)
            if not self._trying:
                raise
            self._refused[self._trying] = self._reason
            return False
        return True

    def write(self, picture: np.ndarray, pts_ns: int, duration_ns: int = 0) -> None:
        """Hand over HxWx3 uint8 BGR, when it is shown and for how long (0: till the next).

        Raises:
            SinkError: the process failed or hangs.
        """
        self._hear(0)
        give_up_at = time.monotonic() + _PATIENCE_S
        while self._taken.all():
            if time.monotonic() > give_up_at:
                raise self._fault(f"the encoder takes no picture for {_PATIENCE_S:g} s")
            self._hear(0.005)
        slot = int(np.argmin(self._taken))
        self._fill(self._slots[slot], picture)
        self._taken[slot] = 1
        if not self._process.send({"slot": slot, "pts": pts_ns, "duration": duration_ns}):
            self._hear(0)  # it may have said why
            raise self._died()

    def _fill(self, place: np.ndarray, picture: np.ndarray) -> None:
        height, width = self._size_hw
        place[:height, :width] = picture
        place[:height, width:] = picture[:, -1:]
        place[height:] = place[height - 1 : height]

    def ask_to_finish(self) -> None:
        """Begin to end in good order; returns at once. ``finish`` follows."""
        if not self._asked:  # what the process did not read when it ends would take its last message with it
            self._asked = True
            self._process.send({"stop": True})

    def finish(self, patience_s: float = 2 * _PATIENCE_S) -> None:
        """End in good order. Raises SinkError when what was written is not whole, or that takes longer."""
        self.ask_to_finish()
        try:
            self._await("finished", patience_s)
        finally:
            self._process.end(0.5)

    def kill(self) -> None:
        """End at once."""
        self._process.end(0)

    def _await(self, wanted: str, seconds: float) -> Mapping[str, Any]:
        give_up_at = time.monotonic() + seconds
        while time.monotonic() < give_up_at:
            message = self._hear(0.2)
            if wanted in message:
                return message
        raise self._fault("the encoder does not answer")

    def _hear(self, timeout_s: float) -> Mapping[str, Any]:
        """The next message, if any; raises SinkError for an error."""
        while True:
            try:
                received = self._process.receive(timeout_s)
            except EOFError:
                raise self._died() from None
            if received is None:
                return {}
            message = received[0]
            if "error" in message:
                blamed = message.get("encoder", "")
                fault = self._fault(f"{blamed}: {message['error']}" if blamed else message["error"])
                if blamed:
                    self._refused[blamed] = redacted(message["error"])
                raise fault
            if "trying" in message:
                self._trying = message["trying"]
            elif "kept" in message:
                self.kept = message["kept"]
            else:
                return message

    def _died(self) -> SinkError:
        status = self._process.end(1.0)
        said = redacted(" ".join(self._process.printed().split()))[-200:]
        how = f"killed by signal {-status}" if status < 0 else "gone"
        fault = self._fault(f"the encoder process is {how}" + (f" ({said})" if said else ""))
        if status in _CRASHES and self.encoder:
            self._refused[self.encoder] = self._reason
        return fault

    def _fault(self, reason: str) -> SinkError:
        self._reason = redacted(reason)
        return SinkError(f"{self._what}: {self._reason}")


def encoder_remark(encoder: str, refused: Mapping[str, str]) -> str:
    """Say which encoders were passed over, and why; empty where there are none."""
    return "".join(f"{name} does not work here ({why}); " for name, why in refused.items()) + (
        f"{encoder} encodes" if refused else ""
    )
