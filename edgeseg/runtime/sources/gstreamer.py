"""Frames of a GStreamer pipeline that runs in a process of its own and lays them into shared memory."""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections import Counter
from typing import Any, Callable, Mapping, Sequence

import numpy as np

from edgeseg.credentials import redacted
from edgeseg.errors import SourceError
from edgeseg.runtime.frame import Frame
from edgeseg.runtime.gst.faults import csi_fault, end_fault, source_fault
from edgeseg.runtime.gst.pipelines import Pipeline
from edgeseg.runtime.gst.process import GstProcess
from edgeseg.runtime.sources.base import EndOfStream, FrameSource
from edgeseg.runtime.sources.media_time import MediaTime

__all__ = ["GstSource"]

_COUNTERS = struct.Struct("<QQQ")
_FRAMES_AT = 4096
_SLOTS, _WAITING_SLOTS = 24, 8
"""More than three sinks hold that hang, each with its queue; memory is taken for those that are ever filled."""
_LONGEST_SILENCE_S = 30.0
"""Of a stored source: one behind a slow network has to come first."""
_GOODBYE_S = 1.5
_LAST_WORDS_S = 3.0
"""How long a process that has failed may take to end: NVIDIA's camera source waits for threads that may print why."""


class GstSource(FrameSource):
    """A camera, stream or file through GStreamer.

    Args:
        pipeline: what to run.
        name: for people, e.g. ``"rtsp://***@10.0.0.7/main"``.
        check: called by ``open`` first; raises SourceError for what is plainly not there.
        mend: see ``FrameSource.mend``.
        poll_s: how long ``read`` waits before it says "no frame yet".
    """

    def __init__(
        self,
        pipeline: Pipeline,
        name: str,
        *,
        check: Callable[[], None] = lambda: None,
        mend: Callable[[str], bool] = lambda kind: False,
        poll_s: float = 0.2,
    ) -> None:
        self._check, self._mend = check, mend
        self.pipeline, self._name, self._poll_s = pipeline, redacted(name), poll_s
        self.is_live = not pipeline.waits
        self.description = self._name
        self._process: GstProcess | None = None
        self._board: _Board | None = None
        self._memory: _FrameMemory | None = None
        self._first = self.delivered = 0
        self._media_time = MediaTime()
        self._silent_s = 0.0
        self._ended = False
        self._lost: Counter[str] = Counter()

    @property
    def pid(self) -> int | None:
        """Return the number of the GStreamer process while it runs."""
        return self._process.pid if self._process else None

    def open(self) -> None:
        """Start the pipeline; whether frames come is seen by ``read``. Raises SourceError."""
        self.close()
        self._check()
        self._board, self._silent_s, self._ended = _Board(), 0.0, False
        properties, handles = self._inherited()
        config = {
            "pipeline": self.pipeline.text,
            "properties": properties,
            "live": self.pipeline.live,
            "software": self.pipeline.software,
            "schemes": self.pipeline.schemes,
            "waits": self.pipeline.waits,
            "slots": _WAITING_SLOTS if self.pipeline.waits else _SLOTS,
            "instead": self._instead(),
        }
        self._process = GstProcess("capture_child.py", config, [self._board.handle, *handles])

    def read(self) -> Frame | None:
        """Return the next frame; None when none has come yet. Raises EndOfStream, SourceError."""
        if self._process is None:
            raise SourceError(f"{self._name} is not open")
        if self._ended:
            raise EndOfStream
        asked = time.monotonic()
        try:
            received = self._process.receive(self._poll_s)
        except EOFError:
            raise self._died() from None
        if received is None:
            self._be_patient(time.monotonic() - asked)
            return None
        self._silent_s = 0.0
        message, handles = received
        if "frame" in message:
            return self._frame(message)
        if "caps" in message:
            self._lay_out(message, handles)
            return None
        if "eos" in message and not (self.pipeline.endless or message["camera"]):
            self._end()
            self._ended = True
            raise EndOfStream
        raise self._fault(message)

    def _inherited(self) -> tuple[Mapping[str, Mapping[str, Any]], Sequence[int]]:
        """The properties of the pipeline's elements, and the descriptors that they name."""
        return self.pipeline.properties, ()

    def _instead(self) -> list[tuple[int, str]]:
        """Where in a file other bytes are to be read than those there, and which, in hex."""
        return []

    def _end(self) -> None:
        """Raise SourceError when the stream ends and should not, or not yet."""
        assert self._board is not None
        produced, _, corrupt = self._board.counters()
        if not self.delivered:
            whole = f": all {corrupt} were corrupt" if corrupt and corrupt == produced else ""
            raise SourceError(f"{self._name} ends without a picture{whole}; play it to see what it holds", "empty")

    def mend(self, kind: str) -> bool:
        """Remove the cause of a failure of this kind, as its maker can; tell whether anything was done."""
        return self._mend(kind)

    def _fault(self, message: dict[str, Any]) -> SourceError:
        """What an error, or an end that should not be, means; the process ends first, to hear all that it prints."""
        assert self._process is not None
        self._process.end(_LAST_WORDS_S)
        printed, delivered = self._printed(), self.delivered > 0
        if "eos" in message:
            return end_fault(self._name, printed, csi=self._is_csi, delivered=delivered)
        return source_fault(self._name, message["error"], printed, delivered=delivered)

    def _be_patient(self, waited_s: float) -> None:
        """A file owes a frame whenever one is asked for and there is room; a camera's silence is the run's matter."""
        if not self.is_live and (self._memory is None or self._memory.has_room()):
            self._silent_s += waited_s
            if self._silent_s > _LONGEST_SILENCE_S:
                raise SourceError(f"{self._name}: stalled: no frame for {_LONGEST_SILENCE_S:g} s", "stalled")

    def close(self) -> None:
        """End the process. May be called twice."""
        if self._process is not None:
            # HTTP knows no goodbye, and hundreds of processes that end in good order take a busy machine's seconds.
            self._process.end(0.0 if "http" in self.pipeline.schemes else _GOODBYE_S)
            self._process = None
        self._memory = None
        if self._board is not None:
            produced, busy, corrupt = self._board.counters()
            self._lost["busy"] += busy
            self._lost["corrupt"] += corrupt
            self._lost["stopped"] += produced - busy - corrupt - self.delivered
            self._first += produced
            self.delivered = 0
            self._board.close()
            self._board = None

    def abandon(self) -> None:
        """Kill the process, from any thread."""
        process = self._process
        if process is not None:
            process.kill()

    def lost_frames(self) -> Counter[str]:
        """Count the frames that never came out, by cause."""
        total = Counter(self._lost)
        if self._board is not None:
            _, busy, corrupt = self._board.counters()
            total.update(busy=busy, corrupt=corrupt)
        return total

    def _frame(self, message: dict[str, Any]) -> Frame:
        assert self._memory is not None
        index = self._first + int(message["frame"])
        self.delivered += 1
        picture, duration_ns = self._memory.picture(int(message["slot"])), int(message["duration"])
        media_ns = None
        if self.pipeline.waits:
            media_ns = self._media_time.at(message["media"], duration_ns or (int(1e9 / self.fps) if self.fps else 0))
        return Frame(
            picture,
            index,
            int(message["at"]),
            f"{index:06d}",
            media_ns=media_ns,
            duration_ns=duration_ns,
        )

    def _lay_out(self, message: dict[str, Any], handles: list[int]) -> None:
        height, width, stride = message["caps"]
        self._memory = _FrameMemory(handles[0], (height, width), stride, message["size"])
        self.fps = float(message["fps"])
        rate = f" at {self.fps:g} fps" if self.fps else ""
        self.description = f"{self._name}, {width}x{height}{rate}, through GStreamer{_decoding(message)}"

    def _died(self) -> SourceError:
        assert self._process is not None
        status = self._process.end()
        if self._is_csi:
            fault = csi_fault(self._name, "", self._printed(), delivered=self.delivered > 0)
            if fault is not None:
                return fault
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        said = redacted(" ".join(self._process.printed().split()))[-200:] if status > 0 else ""
        return SourceError(f"{self._name}: the GStreamer process {how}" + (f" ({said})" if said else ""))

    @property
    def _is_csi(self) -> bool:
        return "nvarguscamerasrc" in self.pipeline.text

    def _printed(self) -> str:
        """The beginning and the end of what the process wrote."""
        assert self._process is not None
        return f"{self._process.printed_first()}\n{self._process.printed()}"


def _decoding(message: Mapping[str, Any]) -> str:
    """What decodes, and which decoders that rank before it do not work."""
    decoder = message["decoder"]
    passed = [name for name in dict.fromkeys(message["tried"]) if name != decoder]
    if not decoder:
        return ""
    return f", decoded by {decoder}" + (f" ({', '.join(passed)} does not work here)" if passed else "")


class _Board:
    """Shared counters that outlive the process that counts."""

    def __init__(self) -> None:
        self.handle = os.memfd_create("edgeseg-board")
        os.ftruncate(self.handle, 4096)
        self._map = mmap.mmap(self.handle, 4096)

    def counters(self) -> tuple[int, int, int]:
        produced, busy, corrupt = _COUNTERS.unpack_from(self._map)
        return produced, busy, corrupt

    def close(self) -> None:
        self._map.close()
        os.close(self.handle)


class _FrameMemory:
    """The slots that a capture process fills, as arrays; an array that nobody refers to frees its slot."""

    def __init__(self, handle: int, size_hw: tuple[int, int], stride: int, size: int) -> None:
        self._size_hw, self._stride, self._size = size_hw, stride, size
        try:
            shared = mmap.mmap(handle, 0)
        finally:
            os.close(handle)
        self._bytes = np.frombuffer(shared, np.uint8)
        self._address = self._bytes.__array_interface__["data"][0]

    def has_room(self) -> bool:
        """Tell whether a stored source's next frame has a free slot."""
        return not self._bytes[:_WAITING_SLOTS].all()

    def picture(self, slot: int) -> np.ndarray:
        """HxWx3 uint8 BGR on the slot's memory."""
        height, width = self._size_hw
        interface = {
            "version": 3,
            "typestr": "|u1",
            "shape": (height, width, 3),
            "strides": (self._stride, 3, 1),
            "data": (self._address + _FRAMES_AT + slot * self._size, False),
        }
        return np.asarray(_Slot(interface, self._bytes, slot))


class _Slot:
    """Keeps a slot taken as long as an array on it lives."""

    __slots__ = ("__array_interface__", "_bytes", "_slot")

    def __init__(self, interface: dict[str, Any], shared: np.ndarray, slot: int) -> None:
        self.__array_interface__ = interface
        self._bytes, self._slot = shared, slot

    def __del__(self) -> None:
        self._bytes[self._slot] = 0
