"""Hold all CUDA code: the primary context, buffers, streams, events, graphs and the conversion kernels.

pycuda does the work; CUDA graphs, which it lacks, are called in the driver library itself. The device's primary
context is retained, so that other users of CUDA in the process (PyTorch) share it, and it is current only while one
of our calls runs. One thread owns a ``Cuda`` and everything made with it; other threads hand frames over in queues.
"""

from __future__ import annotations

import ctypes
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator

import numpy as np

from edgeseg.device.driver_errors import broken, translated
from edgeseg.engines.base import CLOSED
from edgeseg.errors import EngineError, MissingDependencyError, require

__all__ = ["KERNELS", "Buffer", "Cuda", "CudaGraph", "Event", "GpuFacts", "Kernel", "Scratch", "Stream"]

KERNELS = ("uint8_to_float32", "int32_to_uint8")
"""Of ``convert.ptx``; each takes (input address, output address, number of elements)."""

_THREADS = 256
_CAPTURE_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: calls of other threads do not break the capture
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: the default stream, which other users of CUDA may hold up, does not matter
_CURRENT = threading.local()
_CAPTURE_FAILED = "a CUDA graph could not be captured"
_GRAPH_CALLS = (
    "cuStreamBeginCapture_v2",
    "cuStreamEndCapture",
    "cuGraphInstantiateWithFlags",  # CUDA 11.4 and later
    "cuGraphDestroy",
    "cuGraphLaunch",
    "cuGraphExecDestroy",
)


@dataclass(frozen=True)
class GpuFacts:
    """Facts that the driver states about a GPU.

    Attributes:
        name: like ``"Orin"``.
        compute_capability: like ``(8, 7)``.
        sm_count: streaming multiprocessors.
        integrated: it shares its memory with the CPU, as on every Jetson.
        total_bytes: memory of the device.
    """

    name: str
    compute_capability: tuple[int, int]
    sm_count: int
    integrated: bool
    total_bytes: int


class Buffer:
    """Host memory that the GPU can use, with its device address.

    Attributes:
        host: numpy array over the host memory, page-locked.
        address: device address of the same content; of mapped memory the same bytes, else a copy's.
        mapped: no copy is needed: CPU and GPU share the bytes.
    """

    def __init__(self, cuda: Cuda, shape: tuple[int, ...], dtype: Any, mapped: bool) -> None:
        driver, self._cuda, self.mapped = cuda.driver, cuda, mapped
        self._device: Any = None
        flags = driver.host_alloc_flags.DEVICEMAP if mapped else 0
        self.host: np.ndarray = driver.pagelocked_empty(shape, dtype, mem_flags=flags)
        self._pages: Any = self.host.base
        try:
            if mapped:
                self.address = int(self._pages.get_device_pointer())
            else:
                self._device = driver.mem_alloc(max(self.host.nbytes, 1))
                self.address = int(self._device)
        except BaseException:
            self._pages.free()
            raise
        self.host[...] = 0

    def upload(self, stream: Stream) -> None:
        """Queue the copy to the device; nothing for mapped memory."""
        if not self.mapped:
            self._cuda.driver.memcpy_htod_async(self.address, self.host, stream.raw)

    def download(self, stream: Stream) -> None:
        """Queue the copy to the host; nothing for mapped memory."""
        if not self.mapped:
            self._cuda.driver.memcpy_dtoh_async(self.host, self.address, stream.raw)

    def free(self) -> None:
        """Free the memory; ``host`` must not be touched any more."""
        try:
            if self._device is not None:
                self._device.free()
        finally:
            self._pages.free()


class Scratch:
    """Memory that only the GPU sees, at ``address``."""

    def __init__(self, cuda: Cuda, size_bytes: int) -> None:
        self._device: Any = cuda.driver.mem_alloc(size_bytes)
        self.address = int(self._device)

    def free(self) -> None:
        """Free the memory."""
        self._device.free()


class Stream:
    """A queue of GPU work that waits for nobody else's. pycuda destroys it with its last reference: ``raw``."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self.raw: Any = cuda.driver.Stream(_NON_BLOCKING)

    @property
    def handle(self) -> int:
        """Return the number by which TensorRT and the driver library know it."""
        return int(self.raw.handle)

    def wait_for(self, event: Event) -> None:
        """Queue a wait for an event of another stream."""
        self.raw.wait_for_event(event.raw)

    def synchronize(self) -> None:
        """Wait until everything queued is done."""
        self.raw.synchronize()

    def renew(self) -> None:
        """Replace it by an empty queue: a stream whose capture could not be ended is of no use."""
        self.raw = self._cuda.driver.Stream(_NON_BLOCKING)

    def free(self) -> None:
        """Destroy the stream."""
        self.raw = None


class Event:
    """A point in a stream, with its time."""

    def __init__(self, cuda: Cuda) -> None:
        self.raw: Any = cuda.driver.Event()

    def record(self, stream: Stream) -> None:
        """Record the event behind what is queued."""
        self.raw.record(stream.raw)

    def synchronize(self) -> None:
        """Wait until the stream has come to the event."""
        self.raw.synchronize()

    def ms_until(self, later: Event) -> float:
        """Return the milliseconds to a later event; both must have been reached."""
        return float(self.raw.time_till(later.raw))

    def free(self) -> None:
        """Destroy the event."""
        self.raw = None


class Kernel:
    """A conversion on the device, for a fixed number of elements."""

    def __init__(self, function: Any, count: int) -> None:
        self.raw: Any = function
        self._count = count

    def launch(self, source: int, target: int, stream: Stream) -> None:
        """Queue the conversion, from one device address to another."""
        arguments = (np.uintp(source), np.uintp(target), np.uint32(self._count))
        self.raw(*arguments, block=(_THREADS, 1, 1), grid=(-(-self._count // _THREADS), 1), stream=stream.raw)

    def free(self) -> None:
        """Release the kernel and its module."""
        self.raw = None


class CudaGraph:
    """A captured sequence of GPU work that one call starts again."""

    def __init__(self, cuda: Cuda, handle: int) -> None:
        self._cuda, self._handle = cuda, handle

    def launch(self, stream: Stream) -> None:
        """Queue the whole sequence.

        Raises:
            EngineError: the driver refused.
        """
        library = self._cuda.library
        self._cuda.check(library.cuGraphLaunch(ctypes.c_void_p(self._handle), _raw(stream)), "a CUDA graph launch")

    def free(self) -> None:
        """Destroy the graph."""
        self._cuda.library.cuGraphExecDestroy(ctypes.c_void_p(self._handle))


class Cuda:
    """One GPU and its primary context, for one thread.

    Args:
        index: number of the GPU.
        driver: the module ``pycuda.driver``, or what stands for it in tests.
        library: ``libcuda.so.1``, or what stands for it in tests.

    Raises:
        EngineError: there is no driver or no GPU, or the context cannot be made; the message says what to do.
        MissingDependencyError: pycuda is not installed.
    """

    def __init__(self, index: int = 0, *, driver: Any = None, library: Any = None) -> None:
        self.driver: Any = driver or _pycuda_driver()
        self._owner = threading.get_ident()
        self._context: Any = None
        self._module: Any = None
        with translated("CUDA cannot be used"):
            self.library: Any = library or ctypes.CDLL("libcuda.so.1")
            self._now, self._pop = self.library.cuCtxGetCurrent, self.library.cuCtxPopCurrent_v2
            self._error_text = self.library.cuGetErrorString
            self.driver.init()
            count = self.driver.Device.count()
            if index >= count:
                raise EngineError(f"there is no GPU {index}; the CUDA driver sees {count}")
            device = self.driver.Device(index)
            attribute = self.driver.device_attribute
            self.facts = GpuFacts(
                device.name(),
                (int(device.compute_capability()[0]), int(device.compute_capability()[1])),
                device.get_attribute(attribute.MULTIPROCESSOR_COUNT),
                bool(device.get_attribute(attribute.INTEGRATED)),
                device.total_memory(),
            )
            self._context = device.retain_primary_context()

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the context current for the body of a ``with``; what driver and bindings raise becomes EngineError.

        Raises:
            EngineError: it is closed, belongs to another thread, or a CUDA call in the body failed.
        """
        if self._context is None:
            raise EngineError(CLOSED)
        if threading.get_ident() != self._owner:
            raise EngineError("this engine belongs to the thread that opened it; hand frames over in a queue")
        with translated("CUDA failed"):
            outer = getattr(_CURRENT, "cuda", None)
            if outer is self:  # a push on top of it takes the context from the driver first, and may fail then
                yield
                return
            self._context.push()
            _CURRENT.cuda = self
            try:
                yield
            finally:
                _CURRENT.cuda = outer
                self.driver.Context.pop()

    def free_bytes(self) -> int:
        """Return the device memory that is free now, in bytes; on a Jetson that is the system's."""
        with self.current():
            return int(self.driver.mem_get_info()[0])

    def stream(self) -> Stream:
        """Make a new stream.

        Raises:
            EngineError: CUDA failed.
        """
        with self.current():
            return Stream(self)

    def event(self) -> Event:
        """Make a new event.

        Raises:
            EngineError: CUDA failed.
        """
        with self.current():
            return Event(self)

    def buffer(self, shape: tuple[int, ...], dtype: Any, *, mapped: bool) -> Buffer:
        """Make a zeroed buffer.

        Args:
            shape: shape of ``Buffer.host``.
            dtype: numpy type of ``Buffer.host``.
            mapped: share the host memory with the GPU instead of copying.

        Raises:
            EngineError: there is no memory.
        """
        with self.current():
            return Buffer(self, shape, dtype, mapped)

    def scratch(self, size_bytes: int) -> Scratch:
        """Allocate uninitialised memory on the device.

        Raises:
            EngineError: there is none.
        """
        with self.current():
            return Scratch(self, size_bytes)

    def kernel(self, name: str, count: int) -> Kernel:
        """Load one of ``KERNELS``, for ``count`` elements.

        Raises:
            EngineError: CUDA failed.
        """
        with self.current():
            if self._module is None:
                self._module = self.driver.module_from_buffer(Path(__file__).with_name("convert.ptx").read_bytes())
            return Kernel(self._module.get_function(name), count)

    def capture(self, stream: Stream, enqueue: Callable[[], None]) -> CudaGraph:
        """Capture what ``enqueue`` puts on a stream, as a graph. Call it with the context current.

        Raises:
            EngineError: something in it cannot be captured; the stream is empty and usable afterwards.
        """
        graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
        for name in _GRAPH_CALLS:
            if not hasattr(self.library, name):
                raise EngineError(f"{_CAPTURE_FAILED}: the NVIDIA driver has no {name}; it is older than CUDA 11.4")
        self.check(self.library.cuStreamBeginCapture_v2(_raw(stream), _CAPTURE_THREAD_LOCAL), _CAPTURE_FAILED)
        try:
            try:
                enqueue()
            finally:
                ended = self.library.cuStreamEndCapture(_raw(stream), ctypes.byref(graph))
            self.check(ended, _CAPTURE_FAILED)
            made = self.library.cuGraphInstantiateWithFlags(ctypes.byref(executable), graph, ctypes.c_ulonglong(0))
            self.check(made, _CAPTURE_FAILED)
        except BaseException:
            stream.renew()
            raise
        finally:
            if graph.value:
                self.library.cuGraphDestroy(graph)
        return CudaGraph(self, executable.value or 0)

    def check(self, result: int, what: str) -> None:
        """Check an answer of the driver library.

        Raises:
            EngineError: the answer is not success; the message begins with ``what``.
        """
        if result:
            text = ctypes.c_char_p()
            self._error_text(result, ctypes.byref(text))
            raise EngineError(f"{what}: {(text.value or b'unknown error').decode()} (CUDA error {result})")

    def close(self) -> None:
        """Release the primary context. May be called twice.

        Raises:
            EngineError: CUDA failed.
        """
        if self._context is None:
            return
        own = threading.get_ident() == self._owner
        with translated("CUDA failed"), ExitStack() as last:
            last.callback(self._detach, own)
            if own and self._module is not None:
                # pycuda would make the context current itself, and aborts the process when it cannot undo that.
                with self.current():
                    self._module = None

    def _detach(self, own: bool) -> None:
        context, self._context, self._module = self._context, None, None
        context.detach()
        if own:
            # pycuda makes a context current to release it, and the release of a primary one leaves it on the stack.
            now = ctypes.c_void_p()
            if self._now(ctypes.byref(now)) or now.value:  # nothing is on it where pycuda could not
                self._pop(ctypes.byref(now))


def _raw(stream: Stream) -> ctypes.c_void_p:
    return ctypes.c_void_p(stream.handle)


def _pycuda_driver() -> Any:
    """Import the module ``pycuda.driver``.

    Raises:
        EngineError: it is installed but does not import: no driver, another CUDA, another NumPy.
        MissingDependencyError: it is not installed.
    """
    try:
        return require("pycuda.driver", "tensorrt")
    except Exception as error:  # a native module that does not fit raises anything on import
        if isinstance(error, MissingDependencyError) and isinstance(error.__cause__, ModuleNotFoundError):
            raise
        raise broken("pycuda", error) from error
