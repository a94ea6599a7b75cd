"""A CUDA device without a GPU: what ``pycuda.driver`` and ``ctypes.CDLL("libcuda.so.1")`` would be.

Written from pycuda 2026.1 (``src/cpp/cuda.hpp``, ``src/wrapper/wrap_cudadrv.cpp``, ``pycuda/driver.py``) and the CUDA
driver API documentation. Memory is host memory with real addresses, streams are lazy, contexts are per thread and
poisoned by an illegal access. Freshly allocated memory holds 0xCD and freed page-locked memory 0xDD, so that stale
reads show.
"""

from __future__ import annotations

import bisect
import builtins
import ctypes
import enum
import functools
import gc
import re
import struct
import sys
import threading
import time
import types
import warnings
import weakref
from collections import deque
from contextlib import contextmanager, suppress
from typing import Any, Callable, Iterator

import numpy as np

MIB = 1 << 20
GLOBAL, THREAD_LOCAL, RELAXED = 0, 1, 2

CODES = {
    0: ("CUDA_SUCCESS", "no error"),
    1: ("CUDA_ERROR_INVALID_VALUE", "invalid argument"),
    2: ("CUDA_ERROR_OUT_OF_MEMORY", "out of memory"),
    3: ("CUDA_ERROR_NOT_INITIALIZED", "initialization error"),
    100: ("CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"),
    101: ("CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"),
    200: ("CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"),
    201: ("CUDA_ERROR_INVALID_CONTEXT", "invalid device context"),
    218: ("CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"),
    222: ("CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "the provided PTX was compiled with an unsupported toolchain."),
    400: ("CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"),
    401: ("CUDA_ERROR_ILLEGAL_STATE", "the operation cannot be performed in the present state"),
    500: ("CUDA_ERROR_NOT_FOUND", "named symbol not found"),
    600: ("CUDA_ERROR_NOT_READY", "device not ready"),
    700: ("CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"),
    709: ("CUDA_ERROR_CONTEXT_IS_DESTROYED", "context is destroyed"),
    719: ("CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"),
    801: ("CUDA_ERROR_NOT_SUPPORTED", "operation not supported"),
    900: ("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"),
    901: ("CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"),
    902: ("CUDA_ERROR_STREAM_CAPTURE_MERGE", "operation would result in a merge of separate capture sequences"),
    903: ("CUDA_ERROR_STREAM_CAPTURE_UNMATCHED", "capture was not ended in the same stream as it began"),
    904: ("CUDA_ERROR_STREAM_CAPTURE_UNJOINED", "capturing stream has unjoined work"),
    905: ("CUDA_ERROR_STREAM_CAPTURE_ISOLATION", "dependency created on uncaptured work in another stream"),
    906: (
        "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT",
        "operation would make the legacy stream depend on a capturing blocking stream",
    ),
    907: ("CUDA_ERROR_CAPTURED_EVENT", "operation not permitted on an event last recorded in a capturing stream"),
    908: (
        "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD",
        "attempt to terminate a thread-local capture sequence from another thread",
    ),
    999: ("CUDA_ERROR_UNKNOWN", "unknown error"),
}


# The exceptions of pycuda._driver: MemoryError and RuntimeError are pycuda's own, not the built-in ones.
class Error(Exception):
    __module__ = "pycuda._driver"


class MemoryError(Error):
    __module__ = "pycuda._driver"


class LogicError(Error):
    __module__ = "pycuda._driver"


class LaunchError(Error):
    __module__ = "pycuda._driver"


class RuntimeError(Error):
    __module__ = "pycuda._driver"


class CompileError(Error):
    __module__ = "pycuda.driver"


_CLASS_OF_CODE = {719: LaunchError, 2: MemoryError, 100: RuntimeError, 600: RuntimeError, 999: Error}


def pycuda_error(routine: str, code: int, detail: str = "") -> Error:
    """What ``translate_cuda_error`` makes of a CUresult."""
    text = f"{routine} failed: {CODES[code][1]}" + (f" - {detail}" if detail else "")
    return _CLASS_OF_CODE.get(code, LogicError)(text)


class CuError(Exception):
    """A CUresult on its way to the API that reports it."""

    def __init__(self, code: int, detail: str = "") -> None:
        super().__init__(f"{code} {CODES[code][1]}")
        self.code = code
        self.detail = detail


class Faults:
    """Counts every call of the fakes and makes chosen ones fail."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._indices: set[int] = set()
        self._next: list[list[Any]] = []
        self._lock = threading.Lock()
        self._foreign: Exception | None = None
        self.failed: list[tuple[int, str]] = []

    def hit(self, name: str) -> bool:
        """Note the call; True if it has to fail. Raises what it was told to."""
        with self._lock:
            index = len(self._names)
            self._names.append(name)
            fail = index in self._indices
            for waiting in list(self._next):
                if waiting[0] == name:
                    waiting[1] -= 1
                    if waiting[1] == 0:
                        self._next.remove(waiting)
                        fail = True
            if fail:
                self.failed.append((index, name))
                if self._foreign is not None and not name.startswith("libcuda."):  # a C function returns a number
                    raise type(self._foreign)(*self._foreign.args)
            return fail

    def record(self) -> list[str]:
        """The names of all calls so far, in order; their positions are what ``fail_at`` takes."""
        with self._lock:
            return list(self._names)

    def fail_at(self, index: int) -> None:
        self._indices.add(index)

    def fail_next(self, name: str, nth: int = 1) -> None:
        """Fail the nth call of that name from now on."""
        self._next.append([name, nth])

    def raise_instead(self, error: Exception) -> None:
        """Let calls that fail raise this, as bindings do when something else than the driver is wrong."""
        self._foreign = error

    def reset(self) -> None:
        with self._lock:
            self._names.clear()
            self._indices.clear()
            self._next.clear()
            self.failed.clear()


class device_attribute(enum.IntEnum):
    MAX_THREADS_PER_BLOCK = 1
    MAX_SHARED_MEMORY_PER_BLOCK = 8
    WARP_SIZE = 10
    CLOCK_RATE = 13
    MULTIPROCESSOR_COUNT = 16
    INTEGRATED = 18
    CAN_MAP_HOST_MEMORY = 19
    MEMORY_CLOCK_RATE = 36
    GLOBAL_MEMORY_BUS_WIDTH = 37
    L2_CACHE_SIZE = 38
    ASYNC_ENGINE_COUNT = 40
    UNIFIED_ADDRESSING = 41
    COMPUTE_CAPABILITY_MAJOR = 75
    COMPUTE_CAPABILITY_MINOR = 76
    MANAGED_MEMORY = 83
    PAGEABLE_MEMORY_ACCESS = 88
    CONCURRENT_MANAGED_ACCESS = 89


class event_flags(enum.IntEnum):
    DEFAULT = 0
    BLOCKING_SYNC = 1
    DISABLE_TIMING = 2
    INTERPROCESS = 4


class host_alloc_flags:
    PORTABLE = 1
    DEVICEMAP = 2
    WRITECOMBINED = 4


class mem_attach_flags(enum.IntEnum):
    GLOBAL = 1
    HOST = 2
    SINGLE = 4


# --- memory ----------------------------------------------------------------------------------------------------------


class _Block:
    """One live allocation: 256-byte aligned, with a gap on both sides so that an overrun never meets a neighbour."""

    def __init__(self, kind: str, nbytes: int, flags: int = 0) -> None:
        raw = np.full(nbytes + 1024, 0xCD, np.uint8)
        offset = 256 + (-(raw.ctypes.data + 256)) % 256
        self.kind, self.nbytes, self.flags = kind, nbytes, flags
        self.bytes = raw[offset : offset + nbytes]
        self.address = int(self.bytes.ctypes.data)


class Memory:
    """The address space of the device. Any access outside of a live allocation is an illegal memory access."""

    def __init__(self, uva: bool = True) -> None:
        self.blocks: dict[int, _Block] = {}
        self._sorted: list[int] = []
        self._uva = uva

    def add(self, block: _Block) -> None:
        self.blocks[block.address] = block
        bisect.insort(self._sorted, block.address)

    def remove(self, address: int) -> _Block:
        self._sorted.remove(address)
        return self.blocks.pop(address)

    def block_of(self, address: int) -> _Block | None:
        index = bisect.bisect_right(self._sorted, address) - 1
        if index < 0:
            return None
        block = self.blocks[self._sorted[index]]
        return block if address < block.address + max(block.nbytes, 1) else None

    def view(self, address: int, nbytes: int) -> np.ndarray:
        """The bytes at an address as the device sees them, writable."""
        block = self.block_of(int(address))
        if block is None or address + nbytes > block.address + block.nbytes:
            raise CuError(700, f"{nbytes} bytes at {address:#x}")
        if block.kind == "pagelocked" and not self._uva and not block.flags & host_alloc_flags.DEVICEMAP:
            raise CuError(700, "host memory that is not mapped")
        start = int(address) - block.address
        return block.bytes[start : start + nbytes]

    def array(self, address: int, shape: Any, dtype: Any) -> np.ndarray:
        dtype = np.dtype(dtype)
        count = int(np.prod(shape, dtype=np.int64))
        return self.view(address, count * dtype.itemsize).view(dtype).reshape(shape)


# --- streams, events, graphs -----------------------------------------------------------------------------------------


class _Op:
    def __init__(self, seq: int, label: str, run: Callable[[], None]) -> None:
        self.seq, self.label, self.run = seq, label, run


class _Capture:
    def __init__(self, origin: _StreamState, mode: int) -> None:
        self.origin, self.mode = origin, mode
        self.thread = threading.get_ident()
        self.ops: list[tuple[str, Callable[[], None]]] = []
        self.invalid = False
        self.streams = {origin}
        self.unjoined: set[_StreamState] = set()

    def forbids_here(self) -> bool:
        return self.mode == GLOBAL or (self.mode == THREAD_LOCAL and self.thread == threading.get_ident())


class _StreamState:
    def __init__(self, handle: int, blocking: bool) -> None:
        self.handle, self.blocking = handle, blocking
        self.queue: deque[_Op] = deque()
        self.capture: _Capture | None = None


class _Marker:
    """One record of an event."""

    def __init__(self, stream: _StreamState, seq: int) -> None:
        self.stream, self.seq = stream, seq
        self.done_at: float | None = None


class _EventState:
    def __init__(self, handle: int, flags: int) -> None:
        self.handle, self.flags = handle, flags
        self.marker: _Marker | None = None
        self.captured: tuple[_Capture, _StreamState] | None = None


class _ContextStack:
    """pycuda's own stack of contexts of one thread; destroying it non-empty aborts the process."""

    def __init__(self, aborts: list[str]) -> None:
        self.items: list[Any] = []
        self._aborts = aborts
        self._thread = threading.current_thread().name

    def __del__(self) -> None:
        if self.items:
            self._aborts.append(
                f"PyCUDA ERROR: The context stack was not empty upon module cleanup (thread {self._thread})."
            )


class _Thread(threading.local):
    def __init__(self, aborts: list[str], stacks: list[Any]) -> None:
        self.pycuda = _ContextStack(aborts)
        self.cuda: list[_Primary] = []
        stacks.append(weakref.ref(self.pycuda))


class _Primary:
    """The primary context of the device."""

    handle = 0x5555_4000_0000

    def __init__(self) -> None:
        self.retained = 0
        self.poison = 0


class FakeCuda:
    """One device. ``driver`` is pycuda.driver, ``libcuda`` the shared library; a test may add to ``kernels``."""

    def __init__(
        self,
        integrated: bool = True,
        compute_capability: tuple[int, int] = (8, 7),
        sm_count: int = 8,
        name: str = "Orin",
        total_mib: int = 7620,
        free_mib: int = 4000,
        cuda_version: tuple[int, int, int] = (12, 6, 0),
        uva: bool = True,
        faults: Faults | None = None,
    ) -> None:
        self.integrated = integrated
        self.compute_capability = compute_capability
        self.sm_count = sm_count
        self.name = name
        self.total_mib = total_mib
        self.free_mib = free_mib
        self.cuda_version = cuda_version
        self.faults = Faults() if faults is None else faults
        self.kernels: dict[str, Callable[[Memory, list[Any], Any, Any], None]] = dict(KERNELS)
        self.memory = Memory(uva)
        self.lock = threading.RLock()
        self.initialised = False
        self.aborts: list[str] = []
        """What would have called abort(): a thread that ended with contexts on its stack."""
        self.pageable_copies: list[str] = []
        """Asynchronous copies of pageable memory: they are not asynchronous."""
        self.default_stream_uses: list[str] = []
        """Work that was put on the legacy default stream."""
        self.leaked_at_detach: dict[str, int] = {}
        """What was still alive when the last reference to the primary context went."""
        self.implicit_contexts: list[str] = []
        """TensorRT calls made while no context was current: the CUDA runtime took the primary one by itself."""
        self.init_error = 0
        """What cuInit fails with, and TensorRT's start: 100 without a device, 999 without permission for its files."""
        self.runtime_error = 0
        """What only CUDA's runtime, and so TensorRT's start, fails with: 35 when the driver is older."""
        self.allocations = 0
        self._runtime_retained = False
        self._context_stacks: list[Any] = []
        self._thread = _Thread(self.aborts, self._context_stacks)
        self._primary = _Primary()
        self._handles = 0x5555_5000_0000
        self._seq = 0
        self._default = _StreamState(0, True)
        self.streams: dict[int, _StreamState] = {0: self._default}
        self.events: dict[int, _EventState] = {}
        self._captures: list[_Capture] = []
        self.graphs: dict[int, list[tuple[str, Callable[[], None]]]] = {}
        self.graph_execs: dict[int, list[tuple[str, Callable[[], None]]]] = {}
        self.modules_loaded: set[int] = set()
        self.driver = _driver_module(self)
        self.libcuda = LibCuda(self)

    # --- what tests ask

    def live(self) -> dict[str, int]:
        kinds = [block.kind for block in self.memory.blocks.values()]
        stacks = [ref() for ref in self._context_stacks]
        return {
            "device allocations": kinds.count("device"),
            "pagelocked allocations": kinds.count("pagelocked"),
            "streams": len(self.streams) - 1,
            "events": len(self.events),
            "graphs": len(self.graphs),
            "graph execs": len(self.graph_execs),
            "modules": len(self.modules_loaded),
            "contexts retained": self._primary.retained,
            "contexts pushed": sum(len(stack.items) for stack in stacks if stack is not None),
        }

    @property
    def poisoned(self) -> bool:
        """An illegal access happened: nothing works in this context any more, freeing included."""
        return self._primary.poison != 0

    def mark(self) -> int:
        return self.allocations

    def allocated_since(self, mark: int = 0) -> int:
        """How many calls made something (memory, stream, event, module, graph) since the mark."""
        return self.allocations - mark

    @property
    def modules(self) -> dict[str, types.ModuleType]:
        """For ``monkeypatch.setitem(sys.modules, ...)``."""
        package = types.ModuleType("pycuda")
        package.VERSION = (2024, 1, 2)
        package.VERSION_TEXT = "2024.1.2"
        package.driver = self.driver
        return {"pycuda": package, "pycuda.driver": self.driver}

    @property
    def used_bytes(self) -> int:
        blocks = self.memory.blocks.values()
        return sum(block.nbytes for block in blocks if self.integrated or block.kind == "device")

    # --- the driver, in terms of CUresult

    @contextmanager
    def api(self, name: str, routine: str, injected: int) -> Iterator[None]:
        """A pycuda call: may be told to fail, and turns CUresults into pycuda's exceptions."""
        if self.faults.hit(name):
            raise pycuda_error(routine, injected)
        with self.lock:
            try:
                yield
            except CuError as error:
                raise pycuda_error(routine, error.code, error.detail if error.code in (200, 218, 222) else "") from None

    def handle(self) -> int:
        self._handles += 0x100
        return self._handles

    def require_context(self) -> None:
        if not self.initialised:
            raise CuError(3)
        if not self._thread.cuda:
            raise CuError(201)
        if self._primary.retained == 0:
            raise CuError(709)
        if self._primary.poison:
            raise CuError(self._primary.poison)

    def has_context(self) -> bool:
        return bool(self._thread.cuda) and self._primary.retained > 0

    def poison(self, code: int = 700) -> None:
        """What an illegal access does: every later call in this context fails too."""
        self._primary.poison = code
        for stream in self.streams.values():
            stream.queue.clear()

    def unsafe(self) -> None:
        """A call that is not allowed while a capture is going on; it invalidates the capture."""
        hit = [capture for capture in self._captures if capture.forbids_here()]
        for capture in hit:
            capture.invalid = True
        if hit:
            raise CuError(900)

    def allocate(self, kind: str, nbytes: int, flags: int = 0) -> _Block:
        self.require_context()
        self.unsafe()
        if nbytes <= 0:
            raise CuError(1)
        if self.used_bytes + nbytes > self.free_mib * MIB and (self.integrated or kind == "device"):
            raise CuError(2)
        block = _Block(kind, nbytes, flags)
        self.memory.add(block)
        self.allocations += 1
        return block

    def release(self, address: int) -> None:
        """cuMemFree and cuMemFreeHost: both wait for the work in flight."""
        self.require_context()
        self.unsafe()
        if address not in self.memory.blocks:
            raise CuError(1)
        self._drain_all()
        block = self.memory.remove(address)
        block.bytes[:] = 0xDD

    def create_stream(self, flags: int) -> _StreamState:
        self.require_context()
        if flags not in (0, 1):
            raise CuError(1)
        state = _StreamState(self.handle(), blocking=flags == 0)
        self.streams[state.handle] = state
        self.allocations += 1
        return state

    def stream_of(self, handle: int) -> _StreamState:
        if handle not in self.streams:
            raise CuError(400)
        return self.streams[handle]

    def is_capturing(self, handle: int) -> bool:
        return handle in self.streams and self.streams[handle].capture is not None

    def invalidate_capture(self, handle: int) -> None:
        capture = self.streams[handle].capture
        if capture is not None:
            capture.invalid = True

    def enqueue(self, handle: int, label: str, run: Callable[[], None]) -> None:
        """Put work on a stream, or into the graph that the stream is capturing."""
        self.require_context()
        stream = self.stream_of(handle)
        if handle == 0:
            self.default_stream_uses.append(label)
            self._refuse_legacy_during_capture()
        if stream.capture is not None:
            if stream.capture.invalid:
                raise CuError(901)
            stream.capture.ops.append((label, run))
            if stream is not stream.capture.origin:
                stream.capture.unjoined.add(stream)
            return
        self._seq += 1
        stream.queue.append(_Op(self._seq, label, run))

    def _refuse_legacy_during_capture(self) -> None:
        hit = [capture for capture in self._captures if any(stream.blocking for stream in capture.streams)]
        for capture in hit:
            capture.invalid = True
        if hit:
            raise CuError(906)

    def _drain(self, stream: _StreamState, until: int | None = None, at_most: int | None = None) -> None:
        """Run the work of a stream in order, up to and including sequence number ``until``."""
        done = 0
        while stream.queue and (until is None or stream.queue[0].seq <= until) and (at_most is None or done < at_most):
            op = stream.queue.popleft()
            if stream is self._default:
                for other in list(self.streams.values()):
                    if other.blocking and other is not stream:
                        self._drain(other, op.seq)
            elif stream.blocking:
                self._drain(self._default, op.seq)
            try:
                op.run()
            except CuError as error:
                self.poison(error.code)
                raise
            done += 1

    def _drain_all(self) -> None:
        for stream in list(self.streams.values()):
            self._drain(stream)

    def synchronize_stream(self, handle: int) -> None:
        self.require_context()
        stream = self.stream_of(handle)
        if handle == 0:
            self._refuse_legacy_during_capture()
            for other in list(self.streams.values()):
                if other.blocking:
                    self._drain(other)
        if stream.capture is not None:
            stream.capture.invalid = True
            raise CuError(900)
        self._drain(stream)

    def synchronize_context(self) -> None:
        self.require_context()
        for capture in self._captures:
            capture.invalid = True
        if self._captures:
            raise CuError(900)
        self._drain_all()

    def synchronous_copy(self) -> None:
        """What comes before a synchronous copy: it runs on the legacy default stream."""
        self.require_context()
        self._refuse_legacy_during_capture()
        self.unsafe()
        self.synchronize_stream(0)

    def query_stream(self, handle: int) -> bool:
        """Asking lets the device do one more piece of work, so that a polling loop ends."""
        self.require_context()
        stream = self.stream_of(handle)
        if stream.capture is not None:
            stream.capture.invalid = True
            raise CuError(900)
        if not stream.queue:
            return True
        self._drain(stream, at_most=1)
        return False

    def create_event(self, flags: int) -> _EventState:
        self.require_context()
        if flags & ~7:
            raise CuError(1)
        state = _EventState(self.handle(), flags)
        self.events[state.handle] = state
        self.allocations += 1
        return state

    def record_event(self, event: _EventState, handle: int) -> None:
        self.require_context()
        stream = self.stream_of(handle)
        if handle == 0:
            self._refuse_legacy_during_capture()
        if stream.capture is not None:
            if stream.capture.invalid:
                raise CuError(901)
            event.captured, event.marker = (stream.capture, stream), None
            return
        event.captured = None
        event.marker = self.marker_on(stream)

    def marker_on(self, stream: _StreamState) -> _Marker:
        self._seq += 1
        marker = _Marker(stream, self._seq)

        def run() -> None:
            marker.done_at = time.perf_counter()

        stream.queue.append(_Op(self._seq, "event record", run))
        return marker

    def wait_event(self, handle: int, event: _EventState) -> None:
        self.require_context()
        stream = self.stream_of(handle)
        if event.captured is not None:
            capture, source = event.captured
            if capture not in self._captures:
                raise CuError(1)
            if stream.capture is not None and stream.capture is not capture:
                stream.capture.invalid = capture.invalid = True
                raise CuError(902)
            if stream.capture is None:
                stream.capture = capture
                capture.streams.add(stream)
                capture.unjoined.add(stream)
            capture.unjoined.discard(source)
            return
        if stream.capture is not None:
            stream.capture.invalid = True
            raise CuError(905)
        marker = event.marker
        if marker is not None and marker.done_at is None:
            self.enqueue(handle, "wait for event", lambda: self._drain(marker.stream, marker.seq))

    def synchronize_event(self, event: _EventState) -> None:
        self.require_context()
        if event.captured is not None:
            event.captured[0].invalid = True
            raise CuError(907)
        if event.marker is not None:
            self._drain(event.marker.stream, event.marker.seq)

    def query_event(self, event: _EventState) -> bool:
        self.require_context()
        if event.captured is not None:
            event.captured[0].invalid = True
            raise CuError(907)
        self.unsafe()
        if event.marker is None or event.marker.done_at is not None:
            return True
        self._drain(event.marker.stream, event.marker.seq, at_most=1)
        return False

    def elapsed_ms(self, start: _EventState, end: _EventState) -> float:
        self.require_context()
        for event in (start, end):
            if event.captured is not None or event.marker is None or event.flags & event_flags.DISABLE_TIMING:
                raise CuError(400)
            if event.marker.done_at is None:
                raise CuError(600)
        return max((end.marker.done_at - start.marker.done_at) * 1e3, 0.0)  # type: ignore[union-attr, operator]

    def begin_capture(self, handle: int, mode: int) -> None:
        self.require_context()
        stream = self.stream_of(handle)
        if handle == 0:
            raise CuError(900)
        if mode not in (GLOBAL, THREAD_LOCAL, RELAXED):
            raise CuError(1)
        if stream.capture is not None:
            stream.capture.invalid = True
            raise CuError(401)
        stream.capture = _Capture(stream, mode)
        self._captures.append(stream.capture)

    def end_capture(self, handle: int) -> int:
        self.require_context()
        stream = self.stream_of(handle)
        capture = stream.capture
        if capture is None:
            raise CuError(401)
        if capture.mode != RELAXED and capture.thread != threading.get_ident():
            raise CuError(908)
        if capture.origin is not stream:
            capture.invalid = True
            raise CuError(903)
        self._forget(capture)
        if capture.invalid:
            raise CuError(901)
        if capture.unjoined:
            raise CuError(904)
        graph = self.handle()
        self.graphs[graph] = capture.ops
        self.allocations += 1
        return graph

    def _forget(self, capture: _Capture) -> None:
        self._captures.remove(capture)
        for stream in capture.streams:
            stream.capture = None

    def abandon_capture(self, handle: int) -> None:
        capture = self.stream_of(handle).capture
        if capture is not None:
            self._forget(capture)

    def retain(self) -> None:
        self._primary.retained += 1

    def release_primary(self) -> None:
        self._primary.retained -= 1
        if self._primary.retained:
            return
        left = {
            key: count
            for key, count in self.live().items()
            if count and key not in ("contexts retained", "contexts pushed")
        }
        self.leaked_at_detach.update(left)
        for address in list(self.memory.blocks):
            self.memory.remove(address)
        self.streams = {0: self._default}
        self._default.queue.clear()
        for objects in (self.events, self.graphs, self.graph_execs, self.modules_loaded):
            objects.clear()
        self._captures.clear()
        self._primary.poison = 0

    # --- for the fake TensorRT, which uses the CUDA runtime

    @contextmanager
    def runtime(self, what: str) -> Iterator[None]:
        """A call through the CUDA runtime: where no context is current it makes the primary one current, for good."""
        with self.lock:
            if not self._thread.cuda:
                self.implicit_contexts.append(what)
                self.initialised = True
                if not self._runtime_retained:
                    self._runtime_retained = True
                    self.retain()
                self._thread.cuda.append(self._primary)
            self.require_context()
        yield

    def device_malloc(self, nbytes: int) -> int:
        with self.lock:
            return self.allocate("device", nbytes).address

    def device_free(self, address: int) -> None:
        """For destructors: never raises."""
        with self.lock:
            block = self.memory.blocks.get(address)
            if block is None:
                return
            try:
                if self.has_context():
                    self._drain_all()
            except CuError:
                pass
            if address in self.memory.blocks:
                self.memory.remove(address)


# --- kernels ---------------------------------------------------------------------------------------------------------


def _threads(grid: Any, block: Any) -> int:
    return int(np.prod(grid, dtype=np.int64) * np.prod(block, dtype=np.int64))


def _uint8_to_float32(memory: Memory, args: list[Any], grid: Any, block: Any) -> None:
    source, target, count = args
    count = min(count, _threads(grid, block))
    memory.array(target, count, np.float32)[:] = memory.array(source, count, np.uint8)


def _int32_to_uint8(memory: Memory, args: list[Any], grid: Any, block: Any) -> None:
    source, target, count = args
    count = min(count, _threads(grid, block))
    memory.array(target, count, np.uint8)[:] = memory.array(source, count, np.int32).astype(np.uint8)


KERNELS: dict[str, Callable[[Memory, list[Any], Any, Any], None]] = {
    "uint8_to_float32": _uint8_to_float32,
    "int32_to_uint8": _int32_to_uint8,
}

_PTX_OF_CUDA = {(11, 4): (7, 4), (11, 8): (7, 8), (12, 2): (8, 2), (12, 6): (8, 5), (13, 0): (9, 0), (13, 2): (9, 2)}
_PARAM = re.compile(r"\.param\s+(?:\.align\s+\d+\s+)?\.([a-z])(\d+)\b")


class _Entry:
    def __init__(self, text: str, name: str) -> None:
        head = re.search(r"\.entry\s+" + re.escape(name) + r"\s*\(([^)]*)\)", text)
        assert head is not None
        end = re.search(r"\.entry\s", text[head.end() :])
        body = text[head.end() : head.end() + end.start()] if end else text[head.end() :]
        self.params = [(kind, int(bits) // 8) for kind, bits in _PARAM.findall(head.group(1))]
        labels = {match.group(1): match.start() for match in re.finditer(r"^\s*([$\w]+):", body, re.MULTILINE)}
        jumps = [(match.group(1), match.start()) for match in re.finditer(r"\bbra(?:\.uni)?\s+([$\w]+)", body)]
        self.loops = any(label in labels and labels[label] < at for label, at in jumps)
        """A backward jump: the kernel strides over the grid, so that any grid covers all elements."""

    @property
    def nbytes(self) -> int:
        total = 0
        for _, size in self.params:
            total = -(-total // size) * size + size
        return total


# --- pycuda.driver ---------------------------------------------------------------------------------------------------


class _Bound:
    """Base of pycuda's classes; each FakeCuda has its own subclasses."""

    _cuda: FakeCuda


class Device(_Bound):
    def __init__(self, ordinal: int | str, /) -> None:
        cuda = self._cuda
        with cuda.api("pycuda.Device", "cuDeviceGet", 101):
            if not cuda.initialised:
                raise CuError(3)
            if ordinal not in (0, "0000:00:00.0"):
                raise CuError(101)

    @classmethod
    def count(cls) -> int:
        with cls._cuda.api("pycuda.Device.count", "cuDeviceGetCount", 3):
            if not cls._cuda.initialised:
                raise CuError(3)
            return 1

    def name(self) -> str:
        with self._cuda.api("pycuda.Device.name", "cuDeviceGetName", 101):
            return self._cuda.name

    def pci_bus_id(self) -> str:
        with self._cuda.api("pycuda.Device.pci_bus_id", "cuDeviceGetPCIBusId", 101):
            return "0000:00:00.0"

    def compute_capability(self) -> tuple[int, int]:
        with self._cuda.api("pycuda.Device.compute_capability", "cuDeviceComputeCapability", 101):
            return tuple(self._cuda.compute_capability)  # type: ignore[return-value]

    def total_memory(self) -> int:
        with self._cuda.api("pycuda.Device.total_memory", "cuDeviceTotalMem", 101):
            return self._cuda.total_mib * MIB

    def get_attribute(self, attribute: device_attribute, /) -> int:
        cuda = self._cuda
        with cuda.api("pycuda.Device.get_attribute", "cuDeviceGetAttribute", 1):
            if not isinstance(attribute, device_attribute):
                raise TypeError(
                    "Python argument types in Device.get_attribute(Device, ...) did not match C++ signature"
                )
            values = {
                device_attribute.INTEGRATED: int(cuda.integrated),
                device_attribute.MULTIPROCESSOR_COUNT: cuda.sm_count,
                device_attribute.CAN_MAP_HOST_MEMORY: 1,
                device_attribute.UNIFIED_ADDRESSING: 1,
                device_attribute.COMPUTE_CAPABILITY_MAJOR: cuda.compute_capability[0],
                device_attribute.COMPUTE_CAPABILITY_MINOR: cuda.compute_capability[1],
                device_attribute.MANAGED_MEMORY: 1,
                device_attribute.CONCURRENT_MANAGED_ACCESS: int(not cuda.integrated),
                device_attribute.PAGEABLE_MEMORY_ACCESS: 0,
                device_attribute.WARP_SIZE: 32,
                device_attribute.MAX_THREADS_PER_BLOCK: 1024,
                device_attribute.MAX_SHARED_MEMORY_PER_BLOCK: 49152,
                device_attribute.CLOCK_RATE: 624750,
                device_attribute.MEMORY_CLOCK_RATE: 2133000,
                device_attribute.GLOBAL_MEMORY_BUS_WIDTH: 128,
                device_attribute.L2_CACHE_SIZE: 2 * MIB,
                device_attribute.ASYNC_ENGINE_COUNT: 1 if cuda.integrated else 2,
            }
            return values[attribute]

    def get_attributes(self) -> dict[device_attribute, int]:
        return {attribute: self.get_attribute(attribute) for attribute in device_attribute}

    def __getattr__(self, name: str) -> int:
        if name.startswith("_"):
            raise AttributeError(name)
        return self.get_attribute(getattr(device_attribute, name.upper()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return 0

    def retain_primary_context(self) -> Context:
        cuda = self._cuda
        with cuda.api("pycuda.Device.retain_primary_context", "cuDevicePrimaryCtxRetain", 2):
            cuda.retain()
            context = object.__new__(cuda.driver.Context)
            context._valid = True
            context._thread = threading.get_ident()
            return context  # type: ignore[no-any-return]


class Context(_Bound):
    """pycuda's view of a context. It keeps a stack of its own next to CUDA's."""

    _valid: bool
    _thread: int

    def __init__(self) -> None:
        raise builtins.RuntimeError("This class cannot be instantiated from Python")

    @property
    def handle(self) -> int:
        return _Primary.handle

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Context)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return id(self)

    @classmethod
    def _top(cls, but: Context | None = None) -> Context | None:
        items = cls._cuda._thread.pycuda.items
        while items:
            if items[-1] is not but and items[-1]._valid:
                return items[-1]  # type: ignore[no-any-return]
            items.pop()
        return None

    @classmethod
    def get_current(cls) -> Context | None:
        return cls._top()

    def push(self) -> None:
        cuda = self._cuda
        if cuda.faults.hit("pycuda.Context.push"):
            if cuda._thread.pycuda.items and cuda._thread.cuda:
                cuda._thread.cuda.pop()  # as in pycuda, which still believes it to be current
            raise pycuda_error("cuCtxPushCurrent", 201)
        with cuda.lock:
            try:
                self._push()
            except CuError as error:
                raise pycuda_error("cuCtxPushCurrent", error.code) from None

    def _push(self) -> None:
        thread = self._cuda._thread
        if not self._valid:
            raise CuError(709)
        if thread.pycuda.items and thread.cuda:
            thread.cuda.pop()
        thread.cuda.append(self._cuda._primary)
        thread.pycuda.items.append(self)

    @classmethod
    def pop(cls) -> None:
        cuda = cls._cuda
        if cuda.faults.hit("pycuda.Context.pop"):
            raise pycuda_error("cuCtxPopCurrent", 201)
        with cuda.lock:
            cls._pop()

    @classmethod
    def _pop(cls) -> None:
        thread = cls._cuda._thread
        items = thread.pycuda.items
        if not items:
            raise pycuda_error("context::pop", 201, "cannot pop non-current context")
        if not thread.cuda:
            raise pycuda_error("cuCtxPopCurrent", 201)
        thread.cuda.pop()
        items.pop()
        if cls._top() is not None:
            thread.cuda.append(cls._cuda._primary)

    @classmethod
    def synchronize(cls) -> None:
        with cls._cuda.api("pycuda.Context.synchronize", "cuCtxSynchronize", 719):
            cls._cuda.synchronize_context()

    @classmethod
    def get_device(cls) -> Device:
        with cls._cuda.api("pycuda.Context.get_device", "cuCtxGetDevice", 201):
            cls._cuda.require_context()
            return object.__new__(cls._cuda.driver.Device)  # type: ignore[no-any-return]

    def detach(self) -> None:
        if self._cuda.faults.hit("pycuda.Context.detach"):
            _warn_cleanup("cuDevicePrimaryCtxRelease", 999)
        self._detach()

    def _detach(self) -> None:
        if not self._valid:
            raise pycuda_error("context::detach", 201, "cannot detach from invalid context")
        cuda = self._cuda
        with cuda.lock:
            was_active = self._top() is self
            if was_active:
                cuda.release_primary()
            elif self._thread == threading.get_ident():
                # As in pycuda: pushed on CUDA's stack, and releasing a primary context does not pop it.
                cuda._thread.cuda.append(cuda._primary)
                cuda.release_primary()
            self._valid = False
            if was_active and self._top(self) is not None:
                cuda._thread.cuda.append(cuda._primary)

    def __del__(self) -> None:
        if getattr(self, "_valid", False) and not sys.is_finalizing():
            self._detach()


def _warn_cleanup(routine: str, code: int) -> None:
    print(
        f"PyCUDA WARNING: a clean-up operation failed (dead context maybe?)\n{routine} failed: {CODES[code][1]}",
        file=sys.stderr,
    )


class _ContextDependent(_Bound):
    """Remembers the context it was made in, because it can only be cleaned up there."""

    _ward: Context | None = None
    _kind = ""

    def _acquire(self) -> None:
        current = self._cuda.driver.Context._top()
        if current is None:
            raise pycuda_error("explicit_context_dependent", 201, "no currently active context?")
        self._ward = current

    def _clean_up(self, routine: str, release: Callable[[], None]) -> None:
        """pycuda's scoped_context_activation around a clean-up that must not raise."""
        ward, cuda = self._ward, self._cuda
        if ward is None or not ward._valid:
            return
        with cuda.lock:
            switch = cuda.driver.Context._top() is not ward
            if switch and threading.get_ident() != ward._thread:
                warnings.warn(
                    f"{self._kind} in out-of-thread context could not be cleaned up", UserWarning, stacklevel=3
                )
                return
            if switch:
                ward._push()
            try:
                release()
            except CuError as error:
                _warn_cleanup(routine, error.code)
            finally:
                if switch:
                    cuda.driver.Context._pop()


class _Allocation(_ContextDependent):
    """Shared by device and page-locked memory: free once, by hand or by the destructor."""

    _block: _Block
    _freed = True
    _routine = ""
    _interface: dict[str, Any] | None = None

    @property
    def __array_interface__(self) -> dict[str, Any]:
        """Only for numpy to make the array with this object as its base."""
        if self._interface is None:
            raise AttributeError("__array_interface__")
        return self._interface

    def _own(self, block: _Block) -> None:
        self._block, self._freed = block, False
        self._acquire()

    def _free(self) -> None:
        self._freed = True
        self._clean_up(self._routine, lambda: self._cuda.release(self._block.address))
        self._ward = None

    def _free_by_hand(self) -> None:
        failing = self._cuda.faults.hit(f"pycuda.{type(self).__name__}.free")
        if self._freed:
            raise pycuda_error(f"{self._kind}::free", 400)
        if failing:
            _warn_cleanup(self._routine, 719)
        self._free()

    def __del__(self) -> None:
        if not self._freed and not sys.is_finalizing():
            self._free()


class DeviceAllocation(_Allocation):
    _kind, _routine = "device_allocation", "cuMemFree"

    def free(self) -> None:
        self._free_by_hand()

    def __int__(self) -> int:
        return self._block.address

    __index__ = __int__

    def as_buffer(self, size: int, offset: int = 0) -> memoryview:
        return memoryview(self._cuda.memory.view(self._block.address + offset, size))


class HostPointer(_Allocation):
    def get_device_pointer(self) -> int:
        cuda = self._cuda
        with cuda.api(f"pycuda.{type(self).__name__}.get_device_pointer", "cuMemHostGetDevicePointer", 1):
            cuda.require_context()
            if self._freed or not (cuda.memory._uva or self._block.flags & host_alloc_flags.DEVICEMAP):
                raise CuError(1)
            return self._block.address


class PagelockedHostAllocation(HostPointer):
    _kind, _routine = "pagelocked_host_allocation", "cuMemFreeHost"

    def free(self) -> None:
        self._free_by_hand()

    def get_flags(self) -> int:
        with self._cuda.api("pycuda.PagelockedHostAllocation.get_flags", "cuMemHostGetFlags", 1):
            return self._block.flags | host_alloc_flags.DEVICEMAP if self._cuda.memory._uva else self._block.flags


class ManagedAllocation(DeviceAllocation):
    def get_device_pointer(self) -> int:
        return self._block.address

    def attach(self, mem_flags: int, stream: Stream | None = None) -> None:
        with self._cuda.api("pycuda.ManagedAllocation.attach", "cuStreamAttachMemAsync", 1):
            self._cuda.require_context()


class Stream(_ContextDependent):
    _kind = "stream"
    _state: _StreamState | None = None

    def __init__(self, flags: int = 0) -> None:
        cuda = self._cuda
        with cuda.api("pycuda.Stream", "cuStreamCreate", 2):
            self._acquire()
            self._state = cuda.create_stream(int(flags))

    @property
    def handle(self) -> int:
        assert self._state is not None
        return self._state.handle

    def synchronize(self) -> None:
        with self._cuda.api("pycuda.Stream.synchronize", "cuStreamSynchronize", 719):
            self._cuda.synchronize_stream(self.handle)

    def is_done(self) -> bool:
        with self._cuda.api("pycuda.Stream.is_done", "cuStreamQuery", 719):
            return self._cuda.query_stream(self.handle)

    def wait_for_event(self, evt: Event, /) -> None:
        with self._cuda.api("pycuda.Stream.wait_for_event", "cuStreamWaitEvent", 400):
            self._cuda.wait_event(self.handle, evt._state)

    def __del__(self) -> None:
        if self._state is not None and not sys.is_finalizing():
            self._clean_up("cuStreamDestroy", self._destroy)

    def _destroy(self) -> None:
        # cuStreamDestroy returns at once; the work in the stream is still done.
        cuda, state = self._cuda, self._state
        cuda.require_context()
        assert state is not None
        cuda.abandon_capture(state.handle)
        cuda._drain(state)
        cuda.streams.pop(state.handle, None)


class Event(_ContextDependent):
    _kind = "event"
    _state: _EventState = None  # type: ignore[assignment]

    def __init__(self, flags: int = 0) -> None:
        cuda = self._cuda
        with cuda.api("pycuda.Event", "cuEventCreate", 2):
            self._acquire()
            self._state = cuda.create_event(int(flags))

    def record(self, stream: Stream | None = None) -> Event:
        with self._cuda.api("pycuda.Event.record", "cuEventRecord", 400):
            self._cuda.record_event(self._state, _handle(stream))
        return self

    def synchronize(self) -> Event:
        with self._cuda.api("pycuda.Event.synchronize", "cuEventSynchronize", 719):
            self._cuda.synchronize_event(self._state)
        return self

    def query(self) -> bool:
        with self._cuda.api("pycuda.Event.query", "cuEventQuery", 719):
            return self._cuda.query_event(self._state)

    def time_since(self, start: Event, /) -> float:
        with self._cuda.api("pycuda.Event.time_since", "cuEventElapsedTime", 400):
            return self._cuda.elapsed_ms(start._state, self._state)

    def time_till(self, end: Event, /) -> float:
        with self._cuda.api("pycuda.Event.time_till", "cuEventElapsedTime", 400):
            return self._cuda.elapsed_ms(self._state, end._state)

    def __del__(self) -> None:
        if self._state is not None and not sys.is_finalizing():
            self._clean_up("cuEventDestroy", self._destroy)

    def _destroy(self) -> None:
        self._cuda.require_context()
        self._cuda.events.pop(self._state.handle, None)


class Module(_ContextDependent):
    _kind = "module"
    _text: str
    _id: int | None = None

    def get_function(self, name: str) -> Function:
        cuda = self._cuda
        with cuda.api("pycuda.Module.get_function", "cuModuleGetFunction", 500):
            cuda.require_context()
            if not re.search(r"\.entry\s+" + re.escape(name) + r"\s*\(", self._text):
                raise CuError(500)
            if name not in cuda.kernels:
                raise NotImplementedError(f"the fake has no kernel {name!r}: put one into FakeCuda.kernels")
            function = object.__new__(cuda.driver.Function)
            function._module, function._name, function._entry = self, name, _Entry(self._text, name)
            return function  # type: ignore[no-any-return]

    def __del__(self) -> None:
        if self._id is not None and not sys.is_finalizing():
            self._clean_up("cuModuleUnload", self._unload)

    def _unload(self) -> None:
        self._cuda.require_context()
        self._cuda.modules_loaded.discard(self._id)  # type: ignore[arg-type]


class Function(_Bound):
    _module: Module
    _name: str
    _entry: _Entry

    def __call__(
        self,
        *args: Any,
        block: tuple[int, ...] | None = None,
        grid: tuple[int, ...] = (1, 1),
        stream: Stream | None = None,
        shared: int = 0,
        texrefs: Any = (),
        time_kernel: bool = False,
    ) -> None:
        if block is None:
            raise ValueError("must specify block size")
        buffer = _argument_buffer(args)
        cuda = self._cuda
        with cuda.api("pycuda.Function.__call__", "cuLaunchKernel", 719):
            cuda.require_context()
            self._check(buffer, grid, block)
            values = self._values(buffer)
            kernel, memory = cuda.kernels[self._name], cuda.memory
            extent = (2**31,) if self._entry.loops else grid
            cuda.enqueue(_handle(stream), self._name, lambda: kernel(memory, list(values), extent, block))

    def _check(self, buffer: bytes, grid: tuple[int, ...], block: tuple[int, ...]) -> None:
        sizes = [int(size) for size in (*grid, *block)]
        threads = int(np.prod(block, dtype=np.int64))
        if min(sizes) < 1 or threads > 1024 or max(tuple(grid)[1:] or (1,)) > 65535:
            raise CuError(1)
        if self._entry.params and len(buffer) != self._entry.nbytes:
            raise CuError(1)

    def _values(self, buffer: bytes) -> list[Any]:
        values, offset = [], 0
        for kind, size in self._entry.params:
            offset = -(-offset // size) * size
            letter = {"f": {2: "e", 4: "f", 8: "d"}, "s": {1: "b", 2: "h", 4: "i", 8: "q"}}.get(
                kind, {1: "B", 2: "H", 4: "I", 8: "Q"}
            )[size]
            values.append(struct.unpack_from("<" + letter, buffer, offset)[0])
            offset += size
        return values

    def get_attribute(self, attribute: Any, /) -> int:
        return 1024


def _argument_buffer(args: tuple[Any, ...]) -> bytes:
    """driver.py's _build_arg_buf: only numpy scalars, allocations and arrays by value; a plain int is refused."""
    form, values = "", []
    for index, arg in enumerate(args):
        if isinstance(arg, np.number):
            form += arg.dtype.char
            values.append(arg.item())
        elif isinstance(arg, DeviceAllocation):
            form += "P"
            values.append(int(arg))
        elif isinstance(arg, np.ndarray):
            if isinstance(arg.base, ManagedAllocation):
                form += "P"
                values.append(int(arg.base))
            else:
                form += f"{arg.nbytes}s"
                values.append(arg.tobytes())
        else:
            interface = getattr(arg, "__cuda_array_interface__", None)
            if not interface and not hasattr(arg, "gpudata"):
                raise TypeError(f"invalid type on parameter #{index} (0-based)")
            form += "P"
            values.append(int(interface["data"][0] if interface else arg.gpudata))
    return struct.pack(form, *values)


def _handle(stream: Stream | None) -> int:
    if stream is None:
        return 0
    if not isinstance(stream, Stream):
        raise TypeError(f"No registered converter was able to produce a C++ rvalue of type stream from {type(stream)}")
    return stream.handle


def _host(value: Any, writable: bool) -> np.ndarray:
    """The bytes of a buffer that is contiguous in some order."""
    if isinstance(value, np.ndarray):
        if not (value.flags.c_contiguous or value.flags.f_contiguous):
            raise ValueError("ndarray is not contiguous")
        if writable and not value.flags.writeable:
            raise ValueError("buffer source array is read-only")
        return value.ravel(order="K").view(np.uint8) if value.nbytes else np.empty(0, np.uint8)
    view = memoryview(value)
    if writable and view.readonly:
        raise BufferError("Object is not writable.")
    return np.frombuffer(view.cast("B"), np.uint8)


def _address(value: Any) -> int:
    if isinstance(value, (DeviceAllocation, int, np.integer)) and not isinstance(value, bool):
        return int(value)
    raise TypeError(f"Python argument types did not match C++ signature: {type(value).__name__} is no device address")


class _Calls:
    """The functions of pycuda.driver."""

    def __init__(self, cuda: FakeCuda) -> None:
        self._cuda = cuda

    def init(self, flags: int = 0) -> None:
        with self._cuda.api("pycuda.init", "cuInit", 100):
            if self._cuda.init_error:
                raise CuError(self._cuda.init_error)
            self._cuda.initialised = True

    def get_version(self) -> tuple[int, int, int]:
        return tuple(self._cuda.cuda_version)  # type: ignore[return-value]

    def get_driver_version(self) -> int:
        with self._cuda.api("pycuda.get_driver_version", "cuDriverGetVersion", 1):
            return self._cuda.cuda_version[0] * 1000 + self._cuda.cuda_version[1] * 10

    def mem_get_info(self) -> tuple[int, int]:
        cuda = self._cuda
        with cuda.api("pycuda.mem_get_info", "cuMemGetInfo", 201):
            cuda.require_context()
            return max(cuda.free_mib * MIB - cuda.used_bytes, 0), cuda.total_mib * MIB

    def mem_alloc(self, bytes: int, /) -> DeviceAllocation:
        cuda = self._cuda
        with cuda.api("pycuda.mem_alloc", "cuMemAlloc", 2):
            try:
                block = cuda.allocate("device", int(bytes))
            except CuError as error:
                if error.code != 2:
                    raise
                gc.collect()
                block = cuda.allocate("device", int(bytes))
            return self._owner(cuda.driver.DeviceAllocation, block)

    def _owner(self, cls: Any, block: _Block) -> Any:
        owner = object.__new__(cls)
        owner._own(block)
        return owner

    def _array(self, cls: Any, kind: str, shape: Any, dtype: Any, order: str, flags: int) -> np.ndarray:
        dtype = np.dtype(dtype)
        dims = (int(shape),) if np.ndim(shape) == 0 else tuple(int(size) for size in shape)
        if order not in ("C", "F"):
            raise pycuda_error("numpy_empty", 1, "unrecognized order specifier")
        owner = self._owner(
            cls, self._cuda.allocate(kind, int(np.prod(dims, dtype=np.int64)) * dtype.itemsize, int(flags))
        )
        return _array_on(owner, dims, dtype, order)

    def pagelocked_empty(self, shape: Any, dtype: Any, order: str = "C", mem_flags: int = 0) -> np.ndarray:
        cuda = self._cuda
        with cuda.api("pycuda.pagelocked_empty", "cuMemHostAlloc", 2):
            return self._array(cuda.driver.PagelockedHostAllocation, "pagelocked", shape, dtype, order, mem_flags)

    def pagelocked_zeros(self, shape: Any, dtype: Any, order: str = "C", mem_flags: int = 0) -> np.ndarray:
        result = self.pagelocked_empty(shape, dtype, order, mem_flags)
        result.fill(0)
        return result

    def managed_empty(self, shape: Any, dtype: Any, order: str = "C", mem_flags: int = 0) -> np.ndarray:
        cuda = self._cuda
        with cuda.api("pycuda.managed_empty", "cuMemAllocManaged", 2):
            if mem_flags not in (1, 2):
                raise CuError(1)
            return self._array(cuda.driver.ManagedAllocation, "device", shape, dtype, order, mem_flags)

    def memcpy_htod(self, dest: Any, src: Any) -> None:
        source, target, cuda = _host(src, False), _address(dest), self._cuda
        with cuda.api("pycuda.memcpy_htod", "cuMemcpyHtoD", 1):
            cuda.synchronous_copy()
            self._move(target, source.copy())

    def memcpy_dtoh(self, dest: Any, src: Any) -> None:
        target, source, cuda = _host(dest, True), _address(src), self._cuda
        with cuda.api("pycuda.memcpy_dtoh", "cuMemcpyDtoH", 1):
            cuda.synchronous_copy()
            target[:] = self._checked(source, target.nbytes)

    def memcpy_dtod(self, dest: Any, src: Any, size: int) -> None:
        cuda = self._cuda
        with cuda.api("pycuda.memcpy_dtod", "cuMemcpyDtoD", 1):
            cuda.synchronous_copy()
            self._move(_address(dest), self._checked(_address(src), size).copy())

    def _checked(self, address: int, nbytes: int) -> np.ndarray:
        try:
            return self._cuda.memory.view(address, nbytes)
        except CuError as error:
            self._cuda.poison(error.code)
            raise

    def _move(self, address: int, values: np.ndarray) -> None:
        self._checked(address, values.nbytes)[:] = values

    def memcpy_htod_async(self, dest: Any, src: Any, stream: Stream | None = None) -> None:
        source, target, cuda = _host(src, False), _address(dest), self._cuda
        with cuda.api("pycuda.memcpy_htod_async", "cuMemcpyHtoDAsync", 1):
            cuda.require_context()
            start, count, memory = source.ctypes.data, source.nbytes, cuda.memory
            if memory.block_of(start) is None:
                self._pageable("memcpy_htod_async", stream)
                staged = source.copy()
                cuda.enqueue(_handle(stream), "htod", lambda: _copy(memory.view(target, count), staged))
            else:
                cuda.enqueue(
                    _handle(stream), "htod", lambda: _copy(memory.view(target, count), memory.view(start, count))
                )

    def memcpy_dtoh_async(self, dest: Any, src: Any, stream: Stream | None = None) -> None:
        target, source, cuda = _host(dest, True), _address(src), self._cuda
        with cuda.api("pycuda.memcpy_dtoh_async", "cuMemcpyDtoHAsync", 1):
            cuda.require_context()
            start, count, memory = target.ctypes.data, target.nbytes, cuda.memory
            if memory.block_of(start) is None:
                self._pageable("memcpy_dtoh_async", stream)
                cuda.enqueue(_handle(stream), "dtoh", lambda: _copy(target, memory.view(source, count)))
                cuda.synchronize_stream(_handle(stream))
            else:
                cuda.enqueue(
                    _handle(stream), "dtoh", lambda: _copy(memory.view(start, count), memory.view(source, count))
                )

    def memcpy_dtod_async(self, dest: Any, src: Any, size: int, stream: Stream | None = None) -> None:
        target, source, cuda = _address(dest), _address(src), self._cuda
        with cuda.api("pycuda.memcpy_dtod_async", "cuMemcpyDtoDAsync", 1):
            memory = cuda.memory
            cuda.enqueue(
                _handle(stream), "dtod", lambda: _copy(memory.view(target, size), memory.view(source, size).copy())
            )

    def _pageable(self, what: str, stream: Stream | None) -> None:
        self._cuda.pageable_copies.append(what)
        handle = _handle(stream)
        if self._cuda.is_capturing(handle):
            self._cuda.invalidate_capture(handle)
            raise CuError(900)

    def memset_d8(self, dest: Any, data: int, size: int) -> None:
        with self._cuda.api("pycuda.memset_d8", "cuMemsetD8", 1):
            self._cuda.synchronous_copy()
            self._checked(_address(dest), size)[:] = data

    def memset_d8_async(self, dest: Any, data: int, size: int, stream: Stream | None = None) -> None:
        target, cuda = _address(dest), self._cuda
        with cuda.api("pycuda.memset_d8_async", "cuMemsetD8Async", 1):
            memory = cuda.memory
            cuda.enqueue(_handle(stream), "memset", lambda: _fill(memory.view(target, size), data))

    def module_from_buffer(self, buffer: Any, options: Any = (), message_handler: Any = None) -> Module:
        cuda = self._cuda
        text = bytes(memoryview(buffer)).decode("utf-8", "replace")
        with cuda.api("pycuda.module_from_buffer", "cuModuleLoadDataEx", 218):
            cuda.require_context()
            version = re.search(r"^\s*\.version\s+(\d+)\.(\d+)", text, re.MULTILINE)
            target = re.search(r"^\s*\.target\s+(?:sm|compute)_(\d+)", text, re.MULTILINE)
            if version is None or target is None:
                raise CuError(200)
            limit = _PTX_OF_CUDA.get(cuda.cuda_version[:2])
            if limit is not None and (int(version.group(1)), int(version.group(2))) > limit:
                raise CuError(
                    222,
                    f"ptxas fatal   : Unsupported .version {version.group(1)}.{version.group(2)}; "
                    f"current version is '{limit[0]}.{limit[1]}'",
                )
            if int(target.group(1)) > cuda.compute_capability[0] * 10 + cuda.compute_capability[1]:
                raise CuError(218, "ptxas fatal   : SM version specified by .target is higher than default SM version")
            module = object.__new__(cuda.driver.Module)
            module._acquire()
            module._text, module._id = text, cuda.handle()
            cuda.modules_loaded.add(module._id)
            cuda.allocations += 1
            return module  # type: ignore[no-any-return]


def _copy(target: np.ndarray, source: np.ndarray) -> None:
    target[:] = source


def _fill(target: np.ndarray, value: int) -> None:
    target[:] = value


def _array_on(owner: _Allocation, shape: tuple[int, ...], dtype: np.dtype, order: str) -> np.ndarray:
    """An array whose ``base`` is the allocation object, as pycuda's numpy_empty makes it."""
    strides = [dtype.itemsize] * len(shape)
    axes = range(len(shape) - 1, 0, -1) if order == "C" else range(len(shape) - 1)
    for axis in axes:
        step = -1 if order == "C" else 1
        strides[axis + step] = strides[axis] * shape[axis]
    owner._interface = {
        "shape": shape,
        "typestr": dtype.str,
        "strides": tuple(strides),
        "data": (owner._block.address, False),
        "version": 3,
    }
    return np.asarray(owner)


_CLASSES = (
    Device,
    Context,
    DeviceAllocation,
    HostPointer,
    PagelockedHostAllocation,
    ManagedAllocation,
    Stream,
    Event,
    Module,
    Function,
)


def _like_native(call: Callable[..., Any]) -> Callable[..., Any]:
    """Errors of C++ have no Python frames, so they keep no stream, event or buffer alive."""

    @functools.wraps(call)
    def native(*args: Any, **options: Any) -> Any:
        try:
            return call(*args, **options)
        except Exception as error:
            failure = error.with_traceback(None)
            failure.__context__ = None
        del args, options
        try:
            raise failure
        finally:
            del failure

    return native


def _native_methods(cls: type) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__[:-1]):
        for name, value in vars(base).items():
            if name.startswith("_") and name != "__init__":  # Function.__call__ is one of pycuda's in Python
                continue
            if isinstance(value, classmethod):
                found[name] = classmethod(_like_native(value.__func__))
            elif isinstance(value, types.FunctionType):
                found[name] = _like_native(value)
    return found


def _driver_module(cuda: FakeCuda) -> types.ModuleType:
    module = types.ModuleType("pycuda.driver")
    for cls in _CLASSES:
        namespace = {**_native_methods(cls), "_cuda": cuda, "__module__": "pycuda._driver"}
        setattr(module, cls.__name__, type(cls.__name__, (cls,), namespace))
    calls = _Calls(cuda)
    for name in dir(calls):
        if not name.startswith("_"):
            setattr(module, name, _like_native(getattr(calls, name)))
    for thing in (
        Error,
        MemoryError,
        LogicError,
        LaunchError,
        RuntimeError,
        CompileError,
        device_attribute,
        event_flags,
        host_alloc_flags,
        mem_attach_flags,
    ):
        setattr(module, thing.__name__, thing)
    module.HostAllocation = module.PagelockedHostAllocation
    return module


# --- libcuda.so.1 ----------------------------------------------------------------------------------------------------


def _number(value: Any, declared: bool) -> int:
    """An argument as C receives it. Without ``argtypes`` ctypes passes a Python int as a 32-bit int."""
    if value is None:
        return 0
    if isinstance(value, int):
        return value if declared else ctypes.c_int(value).value
    inner = getattr(value, "value", None)
    if isinstance(value, ctypes._SimpleCData):
        return 0 if inner is None else int(inner)
    raise ctypes.ArgumentError(f"Don't know how to convert parameter {value!r}")


def _target(value: Any) -> Any:
    """What a pointer argument points to."""
    if hasattr(value, "_obj"):
        return value._obj
    if isinstance(value, ctypes._Pointer):
        return value.contents
    raise ctypes.ArgumentError(f"expected a pointer (byref or pointer), got {value!r}")


class _CFunction:
    """A function of a ctypes library: ``argtypes`` and ``restype`` can be set."""

    def __init__(self, cuda: FakeCuda, name: str, run: Callable[..., None], injected: int, needs_context: bool) -> None:
        self.__name__ = name
        self.argtypes: Any = None
        self.restype: Any = ctypes.c_int
        self._cuda, self._run, self._injected, self._needs_context = cuda, run, injected, needs_context

    def __call__(self, *args: Any) -> int:
        if self.argtypes is not None and len(args) < len(self.argtypes):
            raise TypeError(f"this function takes at least {len(self.argtypes)} arguments ({len(args)} given)")
        declared = self.argtypes is not None
        if self._needs_context and self._cuda.faults.hit(f"libcuda.{self.__name__}"):
            if self.__name__ == "cuStreamEndCapture":
                # It fails by saying that the capture was invalidated, and ends it.
                with suppress(CuError), self._cuda.lock:
                    self._cuda.abandon_capture(_number(args[0], declared=True))
            elif self.__name__.endswith("Destroy"):
                # As with pycuda's clean-ups: it complains, and nobody could do more about it.
                with suppress(CuError), self._cuda.lock:
                    self._run(lambda value: _number(value, declared), *args)
            return self._injected
        with self._cuda.lock:
            try:
                self._run(lambda value: _number(value, declared), *args)
            except CuError as error:
                return error.code
        return 0


class LibCuda:
    """The functions of libcuda.so.1 that pycuda lacks; they return CUresults."""

    def __init__(self, cuda: FakeCuda) -> None:
        self._cuda = cuda
        self._functions: dict[str, _CFunction] = {}
        self._name = "libcuda.so.1"

    def __getattr__(self, name: str) -> _CFunction:
        if name.startswith("_") or not hasattr(type(self), "_" + name):
            raise AttributeError(f"/lib/aarch64-linux-gnu/libcuda.so.1: undefined symbol: {name}")
        if name == "cuGraphInstantiateWithFlags" and self._cuda.cuda_version < (11, 4):
            raise AttributeError(f"/lib/aarch64-linux-gnu/libcuda.so.1: undefined symbol: {name}")
        if name not in self._functions:
            injected = {"cuGraphInstantiateWithFlags": 2, "cuStreamEndCapture": 901, "cuStreamBeginCapture_v2": 900}
            pure = name in ("cuGetErrorString", "cuGetErrorName")
            run = getattr(self, "_" + name)
            self._functions[name] = _CFunction(self._cuda, name, run, injected.get(name, 700), not pure)
        return self._functions[name]

    def __getitem__(self, name: str) -> _CFunction:
        return getattr(self, name)  # type: ignore[no-any-return]

    def _cuCtxGetCurrent(self, n: Callable[[Any], int], context: Any) -> None:
        _target(context).value = _Primary.handle if self._cuda._thread.cuda else None

    def _cuCtxPopCurrent_v2(self, n: Callable[[Any], int], context: Any) -> None:
        stack = self._cuda._thread.cuda
        if not stack:
            raise CuError(201)
        stack.pop()
        _target(context).value = 1

    def _cuStreamBeginCapture_v2(self, n: Callable[[Any], int], stream: Any, mode: Any) -> None:
        self._cuda.begin_capture(n(stream), n(mode))

    def _cuStreamEndCapture(self, n: Callable[[Any], int], stream: Any, graph: Any) -> None:
        out = _target(graph)
        out.value = None
        out.value = self._cuda.end_capture(n(stream))

    def _cuStreamIsCapturing(self, n: Callable[[Any], int], stream: Any, status: Any) -> None:
        self._cuda.require_context()
        capture = self._cuda.stream_of(n(stream)).capture
        _target(status).value = 0 if capture is None else 2 if capture.invalid else 1

    def _cuGraphInstantiateWithFlags(self, n: Callable[[Any], int], out: Any, graph: Any, flags: Any) -> None:
        cuda = self._cuda
        cuda.require_context()
        if n(graph) not in cuda.graphs or n(flags) & ~0xF:
            raise CuError(1)
        handle = cuda.handle()
        cuda.graph_execs[handle] = list(cuda.graphs[n(graph)])
        cuda.allocations += 1
        _target(out).value = handle

    def _cuGraphLaunch(self, n: Callable[[Any], int], graph_exec: Any, stream: Any) -> None:
        cuda = self._cuda
        cuda.require_context()
        if n(graph_exec) not in cuda.graph_execs:
            raise CuError(400)
        cuda.stream_of(n(stream))
        for label, run in cuda.graph_execs[n(graph_exec)]:
            cuda.enqueue(n(stream), label, run)

    def _cuGraphExecDestroy(self, n: Callable[[Any], int], graph_exec: Any) -> None:
        if n(graph_exec) not in self._cuda.graph_execs:  # no context is needed for it
            raise CuError(400)
        del self._cuda.graph_execs[n(graph_exec)]

    def _cuGraphDestroy(self, n: Callable[[Any], int], graph: Any) -> None:
        if n(graph) not in self._cuda.graphs:
            raise CuError(400)
        del self._cuda.graphs[n(graph)]

    def _cuGetErrorString(self, n: Callable[[Any], int], code: Any, text: Any) -> None:
        self._error_text(n(code), text, 1)

    def _cuGetErrorName(self, n: Callable[[Any], int], code: Any, text: Any) -> None:
        self._error_text(n(code), text, 0)

    def _error_text(self, code: int, text: Any, which: int) -> None:
        out = _target(text)
        out.value = None
        if code not in CODES:
            raise CuError(1)
        out.value = CODES[code][which].encode()
