"""A board whose driver is ``driver.c``: what the fake TensorRT needs of it, in a process that was given that driver."""

from __future__ import annotations

import ctypes
import gc
import threading
from contextlib import contextmanager
from typing import Any, Callable, Iterator

import numpy as np

from tests.fake_cuda import CuError, Faults

KINDS = ("page-locked", "device", "streams", "events", "modules", "graphs", "graph execs")
_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Driver:
    """The driver's counters, and the call that is to fail."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL("libcuda.so.1")
        self.library.mock_calls.restype = ctypes.c_long
        self.library.mock_failed.restype = self.library.mock_misused.restype = ctypes.c_char_p

    def counts(self) -> dict[str, int]:
        """What is not zero of: living objects, those lost with the context, contexts, misuses, pageable copies."""
        gc.collect()
        numbers = (ctypes.c_long * (2 * len(KINDS) + 4))()
        self.library.mock_counts(numbers)
        names = [*KINDS, *(f"{kind} lost" for kind in KINDS), "retained", "pushed", "misuses", "pageable copies"]
        return {name: int(count) for name, count in zip(names, numbers) if count}

    @property
    def calls(self) -> int:
        """Calls so far."""
        return int(self.library.mock_calls())

    @property
    def failed(self) -> str:
        """The call that was made to fail; empty when it did not come to it."""
        return bytes(self.library.mock_failed()).decode()

    @property
    def misused(self) -> str:
        """The latest call that a driver would have refused."""
        return bytes(self.library.mock_misused()).decode()

    def fail(self, after: int, code: int) -> None:
        """Let one call fail, after so many others."""
        self.library.mock_fail(ctypes.c_long(after), code)

    def check(self, name: str, *arguments: Any) -> None:
        """A call as the CUDA runtime makes it."""
        code = getattr(self.library, name)(*arguments)
        if code:
            raise CuError(code)


class Memory:
    """Views of the driver's memory."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def view(self, address: int, size_bytes: int) -> np.ndarray:
        if not self._driver.library.mock_holds(ctypes.c_uint64(address), ctypes.c_size_t(size_bytes)):
            raise CuError(700)
        return np.frombuffer((ctypes.c_uint8 * size_bytes).from_address(address), np.uint8)

    def array(self, address: int, shape: Any, dtype: Any) -> np.ndarray:
        size_bytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        return self.view(address, size_bytes).view(dtype).reshape(shape)


class Board:
    """In place of ``FakeCuda`` under the fake TensorRT. Its kernels are host functions on the driver's streams.

    Attributes:
        errors: what a kernel raised.
        implicit_contexts: calls of TensorRT's without a current context.
    """

    name, compute_capability, sm_count, integrated = "Orin", (8, 7), 8, True
    total_mib, free_mib, used_bytes, init_error, runtime_error = 7620, 4000, 0, 0, 0

    def __init__(self, driver: Driver) -> None:
        self.driver, self.memory = driver, Memory(driver)
        self.faults, self.lock = Faults(), threading.RLock()
        self.errors: list[BaseException] = []
        self.implicit_contexts: list[str] = []
        self._kernels: list[Any] = []

    @contextmanager
    def runtime(self, what: str) -> Iterator[None]:
        if not self.driver.library.mock_depth():
            self.implicit_contexts.append(what)
            raise CuError(201)
        yield

    def device_malloc(self, size_bytes: int) -> int:
        address = ctypes.c_uint64()
        self.driver.check("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size_bytes))
        return int(address.value)

    def device_free(self, address: int) -> None:
        library = self.driver.library
        if library.mock_depth():
            library.cuMemFree_v2(ctypes.c_uint64(address))
            return
        self.implicit_contexts.append("free")
        context = ctypes.c_void_p()
        library.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0)
        library.cuCtxPushCurrent_v2(context)
        library.cuMemFree_v2(ctypes.c_uint64(address))
        library.cuCtxPopCurrent_v2(None)
        library.cuDevicePrimaryCtxRelease_v2(0)

    def stream_of(self, handle: int) -> None:
        """The driver knows its streams."""

    def is_capturing(self, handle: int) -> bool:
        return bool(self.driver.library.mock_capturing(ctypes.c_void_p(handle)))

    def invalidate_capture(self, handle: int) -> None:
        self.driver.library.cuStreamSynchronize(ctypes.c_void_p(handle))

    def enqueue(self, handle: int, label: str, run: Callable[[], None]) -> None:
        def kernel(data: Any) -> None:
            try:
                run()
            except BaseException as error:
                self.errors.append(error)

        callback = _CALLBACK(kernel)
        capturing = self.is_capturing(handle)
        self.driver.check("cuLaunchHostFunc", ctypes.c_void_p(handle), callback, None)
        if capturing:
            self._kernels.append(callback)  # a graph calls it again
