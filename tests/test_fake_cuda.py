"""The fake CUDA behaves like the real one where our engine could trip."""

from __future__ import annotations

import ctypes
import gc
import threading
from typing import Any, Iterator

import numpy as np
import pytest

from tests.fake_cuda import GLOBAL, THREAD_LOCAL, FakeCuda, Faults

PTX = b"""
.version 7.4
.target sm_72
.address_size 64
.visible .entry uint8_to_float32(
    .param .u64 uint8_to_float32_param_0,
    .param .u64 uint8_to_float32_param_1,
    .param .u32 uint8_to_float32_param_2
)
{
    ret;
}
.visible .entry int32_to_uint8(
    .param .u64 a,
    .param .u64 b,
    .param .u32 c
)
{
$L__BB0_1:
    @%p1 bra $L__BB0_1;
    ret;
}
"""


@pytest.fixture
def cuda() -> Iterator[FakeCuda]:
    fake = FakeCuda()
    fake.driver.init()
    context = fake.driver.Device(0).retain_primary_context()
    context.push()
    yield fake
    if fake.driver.Context.get_current() is not None:
        fake.driver.Context.pop()
    assert not fake.aborts


def capture(cuda: FakeCuda, stream: Any, mode: int = THREAD_LOCAL) -> int:
    return cuda.libcuda.cuStreamBeginCapture_v2(ctypes.c_void_p(stream.handle), ctypes.c_int(mode))


def end_capture(cuda: FakeCuda, stream: Any) -> tuple[int, ctypes.c_void_p]:
    graph = ctypes.c_void_p()
    return cuda.libcuda.cuStreamEndCapture(ctypes.c_void_p(stream.handle), ctypes.byref(graph)), graph


class TestMemory:
    def test_a_copy_there_and_back(self, cuda: FakeCuda) -> None:
        drv = cuda.driver
        device = drv.mem_alloc(16)
        drv.memcpy_htod(device, np.arange(16, dtype=np.uint8))
        back = np.zeros(16, np.uint8)
        drv.memcpy_dtoh(back, device)
        np.testing.assert_array_equal(back, np.arange(16))
        device.free()
        with pytest.raises(drv.LogicError, match="device_allocation::free failed: invalid resource handle"):
            device.free()

    def test_pagelocked_arrays_know_their_allocation(self, cuda: FakeCuda) -> None:
        drv = cuda.driver
        array = drv.pagelocked_empty((2, 3), np.float32, mem_flags=drv.host_alloc_flags.DEVICEMAP)
        assert array.shape == (2, 3) and array.flags.c_contiguous and array.flags.writeable
        assert isinstance(array.base, drv.PagelockedHostAllocation)
        assert array.base.get_device_pointer() == array.ctypes.data
        assert drv.pagelocked_empty((2, 3), np.float32, order="F").flags.f_contiguous
        assert cuda.live()["pagelocked allocations"] == 1
        array.base.free()
        assert cuda.live()["pagelocked allocations"] == 0

    def test_running_out(self, cuda: FakeCuda) -> None:
        cuda.free_mib = 1
        with pytest.raises(cuda.driver.MemoryError, match="cuMemAlloc failed: out of memory"):
            cuda.driver.mem_alloc(2 << 20)
        assert issubclass(cuda.driver.MemoryError, cuda.driver.Error)
        assert not issubclass(cuda.driver.MemoryError, MemoryError)

    def test_an_overrun_poisons_the_context(self, cuda: FakeCuda) -> None:
        drv = cuda.driver
        device = drv.mem_alloc(8)
        with pytest.raises(drv.LogicError, match="illegal memory access"):
            drv.memcpy_htod(device, np.zeros(9, np.uint8))
        with pytest.raises(drv.LogicError, match="cuMemAlloc failed: an illegal memory access"):
            drv.mem_alloc(8)
        assert cuda.poisoned

    def test_a_destructor_frees(self, cuda: FakeCuda) -> None:
        device = cuda.driver.mem_alloc(8)
        assert cuda.live()["device allocations"] == 1
        del device
        gc.collect()
        assert cuda.live()["device allocations"] == 0


class TestStreams:
    def test_lazy_until_synchronised(self, cuda: FakeCuda) -> None:
        drv = cuda.driver
        stream, device = drv.Stream(), drv.mem_alloc(4)
        source, target = drv.pagelocked_empty(4, np.uint8), drv.pagelocked_empty(4, np.uint8)
        target[:] = 0
        source[:] = 7
        drv.memcpy_htod_async(device, source, stream)
        drv.memcpy_dtoh_async(target, device, stream)
        assert (target == 0).all()
        source[:] = 8
        stream.synchronize()
        assert (target == 8).all(), "the source is read when the copy runs"

    def test_pageable_memory_is_staged_and_noted(self, cuda: FakeCuda) -> None:
        drv = cuda.driver
        stream, device, source = drv.Stream(), drv.mem_alloc(4), np.full(4, 7, np.uint8)
        drv.memcpy_htod_async(device, source, stream)
        source[:] = 8
        target = np.zeros(4, np.uint8)
        drv.memcpy_dtoh_async(target, device, stream)
        assert (target == 7).all()
        assert cuda.pageable_copies == ["memcpy_htod_async", "memcpy_dtoh_async"]

    def test_wait_for_event_orders_two_streams(self, cuda: FakeCuda) -> None:
        drv = cuda.driver
        first, second, event, device = drv.Stream(1), drv.Stream(1), drv.Event(), drv.mem_alloc(4)
        source, target = drv.pagelocked_empty(4, np.uint8), drv.pagelocked_empty(4, np.uint8)
        source[:] = 5
        drv.memcpy_htod_async(device, source, first)
        event.record(first)
        second.wait_for_event(event)
        drv.memcpy_dtoh_async(target, device, second)
        second.synchronize()
        assert (target == 5).all()

    def test_a_synchronous_copy_does_not_wait_for_a_non_blocking_stream(self, cuda: FakeCuda) -> None:
        drv = cuda.driver
        device, source, target = drv.mem_alloc(4), drv.pagelocked_empty(4, np.uint8), np.zeros(4, np.uint8)
        source[:] = 5
        for flags, expected in ((1, 0xCD), (0, 5)):
            stream = drv.Stream(flags)
            drv.memcpy_htod_async(device, source, stream)
            drv.memcpy_dtoh(target, device)
            assert (target == expected).all()

    def test_events_measure_and_polling_ends(self, cuda: FakeCuda) -> None:
        drv = cuda.driver
        stream, start, end = drv.Stream(), drv.Event(), drv.Event()
        start.record(stream)
        end.record(stream)
        with pytest.raises(drv.RuntimeError, match="device not ready"):
            end.time_since(start)
        polls = 0
        while not end.query():
            polls += 1
        assert polls > 0 and end.time_since(start) >= 0
        silent = drv.Event(drv.event_flags.DISABLE_TIMING).record(stream).synchronize()
        with pytest.raises(drv.LogicError, match="invalid resource handle"):
            silent.time_since(start)

    def test_an_error_shows_at_the_next_synchronisation(self, cuda: FakeCuda) -> None:
        drv = cuda.driver
        stream, source, device = drv.Stream(), drv.pagelocked_empty(16, np.uint8), drv.mem_alloc(8)
        drv.memcpy_htod_async(device, source, stream)
        with pytest.raises(drv.LogicError, match="cuStreamSynchronize failed: an illegal memory access"):
            stream.synchronize()
        with pytest.raises(drv.LogicError):
            drv.Stream()


class TestKernels:
    def launch(self, cuda: FakeCuda, name: str, source: Any, target: Any, count: int, **options: Any) -> None:
        function = cuda.driver.module_from_buffer(PTX).get_function(name)
        options = {"block": (256, 1, 1), "grid": (1, 1), **options}
        function(np.uintp(source), np.uintp(target), np.uint32(count), **options)

    def test_convert(self, cuda: FakeCuda) -> None:
        drv = cuda.driver
        stream = drv.Stream()
        source, target = drv.pagelocked_empty(10, np.uint8), drv.pagelocked_empty(10, np.float32)
        source[:] = np.arange(10)
        target[:] = -1
        pointers = source.base.get_device_pointer(), target.base.get_device_pointer()
        self.launch(cuda, "uint8_to_float32", *pointers, 10, stream=stream)
        assert (target == -1).all()
        stream.synchronize()
        np.testing.assert_array_equal(target, np.arange(10))

    def test_too_small_a_grid_leaves_the_rest_unless_the_kernel_loops(self, cuda: FakeCuda) -> None:
        drv = cuda.driver
        ints, bytes_ = drv.pagelocked_empty(10, np.int32), drv.pagelocked_zeros(10, np.uint8)
        ints[:] = 3
        self.launch(cuda, "int32_to_uint8", ints.ctypes.data, bytes_.ctypes.data, 10, block=(4, 1, 1))
        drv.Context.synchronize()
        assert (bytes_ == 3).all()
        floats = drv.pagelocked_zeros(10, np.float32)
        self.launch(cuda, "uint8_to_float32", bytes_.ctypes.data, floats.ctypes.data, 10, block=(4, 1, 1))
        drv.Context.synchronize()
        assert floats.tolist() == [3.0] * 4 + [0.0] * 6

    def test_refusals(self, cuda: FakeCuda) -> None:
        drv = cuda.driver
        with pytest.raises(drv.LogicError, match="device kernel image is invalid"):
            drv.module_from_buffer(b"hello")
        with pytest.raises(drv.LogicError, match="unsupported toolchain"):
            drv.module_from_buffer(PTX.replace(b"7.4", b"9.3"))
        with pytest.raises(drv.LogicError, match="PTX JIT compilation failed"):
            drv.module_from_buffer(PTX.replace(b"sm_72", b"sm_90"))
        module = drv.module_from_buffer(PTX)
        with pytest.raises(drv.LogicError, match="cuModuleGetFunction failed: named symbol not found"):
            module.get_function("nothing")
        function = module.get_function("uint8_to_float32")
        with pytest.raises(TypeError, match=r"invalid type on parameter #0 \(0-based\)"):
            function(1234, np.uintp(0), np.uint32(1), block=(1, 1, 1))
        with pytest.raises(ValueError, match="must specify block size"):
            function(np.uint32(1))
        with pytest.raises(drv.LogicError, match="cuLaunchKernel failed: invalid argument"):
            function(np.uintp(0), np.uintp(0), np.uint32(1), block=(2048, 1, 1))
        with pytest.raises(drv.LogicError, match="cuLaunchKernel failed: invalid argument"):
            function(np.uintp(0), np.uint32(1), block=(32, 1, 1))


class TestGraphs:
    def test_replay_uses_the_recorded_addresses(self, cuda: FakeCuda) -> None:
        drv, lib = cuda.driver, cuda.libcuda
        stream, device = drv.Stream(1), drv.mem_alloc(4)
        source, target = drv.pagelocked_zeros(4, np.uint8), drv.pagelocked_zeros(4, np.uint8)
        assert capture(cuda, stream) == 0
        drv.memcpy_htod_async(device, source, stream)
        drv.memcpy_dtoh_async(target, device, stream)
        code, graph = end_capture(cuda, stream)
        assert code == 0 and graph.value
        graph_exec = ctypes.c_void_p()
        assert lib.cuGraphInstantiateWithFlags(ctypes.byref(graph_exec), graph, ctypes.c_ulonglong(0)) == 0
        assert lib.cuGraphDestroy(graph) == 0
        for value in (3, 4):
            source[:] = value
            assert lib.cuGraphLaunch(graph_exec, ctypes.c_void_p(stream.handle)) == 0
            stream.synchronize()
            assert (target == value).all()
        assert lib.cuGraphExecDestroy(graph_exec) == 0
        assert cuda.live()["graphs"] == cuda.live()["graph execs"] == 0

    def test_forbidden_calls_invalidate_the_capture(self, cuda: FakeCuda) -> None:
        drv = cuda.driver
        stream, host, device = drv.Stream(1), np.zeros(4, np.uint8), drv.mem_alloc(4)
        for forbidden in (
            stream.synchronize,
            drv.Context.synchronize,
            lambda: drv.mem_alloc(4),
            lambda: drv.memcpy_htod(device, host),
            lambda: drv.memcpy_htod_async(device, host, stream),
        ):
            assert capture(cuda, stream, GLOBAL) == 0
            with pytest.raises(drv.LogicError, match="operation not permitted when stream is capturing"):
                forbidden()
            code, graph = end_capture(cuda, stream)
            assert code == 901 and not graph.value
        stream.synchronize()

    def test_thread_local_mode_leaves_other_threads_alone(self, cuda: FakeCuda) -> None:
        drv = cuda.driver
        stream, results = drv.Stream(1), []

        def other() -> None:
            context = drv.Device(0).retain_primary_context()
            context.push()
            try:
                drv.mem_alloc(4).free()
                results.append("ok")
            except drv.LogicError as error:
                results.append(str(error))
            drv.Context.pop()

        for mode, code in ((THREAD_LOCAL, 0), (GLOBAL, 901)):
            assert capture(cuda, stream, mode) == 0
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
            assert end_capture(cuda, stream)[0] == code
        assert results[0] == "ok" and "capturing" in results[1]

    def test_the_default_stream_cannot_be_captured(self, cuda: FakeCuda) -> None:
        assert cuda.libcuda.cuStreamBeginCapture_v2(None, 1) == 900
        assert cuda.libcuda.cuStreamEndCapture(None, ctypes.byref(ctypes.c_void_p())) == 401

    def test_a_failing_end_ends_the_capture(self, cuda: FakeCuda) -> None:
        stream = cuda.driver.Stream(1)
        assert capture(cuda, stream) == 0
        cuda.faults.fail_next("libcuda.cuStreamEndCapture")
        assert end_capture(cuda, stream)[0] == 901
        stream.synchronize()
        assert capture(cuda, stream) == 0
        cuda.faults.fail_next("libcuda.cuGraphDestroy")
        assert cuda.libcuda.cuGraphDestroy(end_capture(cuda, stream)[1]) == 700
        assert cuda.live()["graphs"] == 0

    def test_a_plain_int_is_cut_to_32_bits_without_argtypes(self, cuda: FakeCuda) -> None:
        stream, begin = cuda.driver.Stream(1), cuda.libcuda.cuStreamBeginCapture_v2
        assert begin(stream.handle, 1) == 400
        begin.argtypes = [ctypes.c_void_p, ctypes.c_int]
        assert begin(stream.handle, 1) == 0

    def test_error_strings(self, cuda: FakeCuda) -> None:
        text = ctypes.c_char_p()
        assert cuda.libcuda.cuGetErrorString(700, ctypes.byref(text)) == 0
        assert text.value == b"an illegal memory access was encountered"
        with pytest.raises(AttributeError, match="undefined symbol"):
            _ = cuda.libcuda.cuNothing


class TestContexts:
    def test_each_thread_needs_its_own(self, cuda: FakeCuda) -> None:
        drv, errors = cuda.driver, []
        stream = drv.Stream()

        def other() -> None:
            for call in (lambda: drv.mem_alloc(4), drv.Stream, stream.synchronize):
                try:
                    call()
                except drv.LogicError as error:
                    errors.append(str(error))

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert len(errors) == 3 and all("invalid device context" in error for error in errors)

    def test_a_thread_that_leaves_its_context_pushed_aborts(self) -> None:
        fake = FakeCuda()
        fake.driver.init()

        def other() -> None:
            fake.driver.Device(0).retain_primary_context().push()

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        gc.collect()
        assert "context stack was not empty" in fake.aborts[0]

    def test_retain_push_pop_detach(self) -> None:
        fake = FakeCuda()
        drv = fake.driver
        with pytest.raises(drv.LogicError, match="initialization error"):
            drv.Device(0)
        drv.init()
        one, two = drv.Device(0).retain_primary_context(), drv.Device(0).retain_primary_context()
        assert one == two and fake.live()["contexts retained"] == 2
        one.push()
        assert drv.Context.get_current() is one and fake.live()["contexts pushed"] == 1
        drv.mem_alloc(4).free()
        drv.Context.pop()
        with pytest.raises(drv.LogicError, match="cannot pop non-current context"):
            drv.Context.pop()
        one.detach()
        two.detach()
        assert not any(fake.live().values())
        with pytest.raises(drv.LogicError, match="cannot detach from invalid context"):
            one.detach()

    def test_freeing_in_another_thread_warns_and_leaks(self, cuda: FakeCuda) -> None:
        device = cuda.driver.mem_alloc(4)
        with pytest.warns(UserWarning, match="device_allocation in out-of-thread context"):
            thread = threading.Thread(target=device.free)
            thread.start()
            thread.join()
        assert cuda.live()["device allocations"] == 1


class TestFaultsAndAccounting:
    def run(self, faults: Faults) -> list[str]:
        fake = FakeCuda(faults=faults)
        drv = fake.driver
        drv.init()
        context = drv.Device(0).retain_primary_context()
        context.push()
        try:
            device = drv.mem_alloc(4)
            drv.memcpy_htod(device, np.zeros(4, np.uint8))
            device.free()
        finally:
            drv.Context.pop()
            context.detach()
        return faults.record()

    def test_every_call_can_fail(self) -> None:
        names = self.run(Faults())
        assert names[:5] == [
            "pycuda.init",
            "pycuda.Device",
            "pycuda.Device.retain_primary_context",
            "pycuda.Context.push",
            "pycuda.mem_alloc",
        ]
        for index, error in ((0, "RuntimeError"), (4, "MemoryError"), (5, "LogicError")):
            faults = Faults()
            faults.fail_at(index)
            with pytest.raises(Exception) as caught:
                self.run(faults)
            assert type(caught.value).__name__ == error and faults.failed == [(index, names[index])]

    def test_fail_next(self, cuda: FakeCuda) -> None:
        cuda.faults.fail_next("pycuda.mem_alloc", nth=2)
        keep = cuda.driver.mem_alloc(4)
        with pytest.raises(cuda.driver.MemoryError):
            cuda.driver.mem_alloc(4)
        cuda.faults.fail_next("libcuda.cuStreamBeginCapture_v2")
        assert capture(cuda, cuda.driver.Stream(1)) == 900
        keep.free()

    def test_an_error_keeps_nothing_alive(self, cuda: FakeCuda) -> None:
        stream, event = cuda.driver.Stream(), cuda.driver.Event()
        cuda.faults.fail_next("pycuda.Event.record")
        with pytest.raises(cuda.driver.LogicError) as caught:
            event.record(stream)
        del stream, event
        assert caught.value is not None and cuda.live()["streams"] == cuda.live()["events"] == 0

    def test_allocations_are_counted(self, cuda: FakeCuda) -> None:
        drv = cuda.driver
        mark = cuda.mark()
        device, stream = drv.mem_alloc(4), drv.Stream()
        assert cuda.allocated_since(mark) == 2
        mark = cuda.mark()
        drv.memcpy_htod_async(device, drv.pagelocked_empty(4, np.uint8), stream)
        assert cuda.allocated_since(mark) == 1
        assert cuda.live()["streams"] == 1

    def test_device(self) -> None:
        fake = FakeCuda(integrated=False, compute_capability=(7, 5), name="T4")
        fake.driver.init()
        device, attribute = fake.driver.Device(0), fake.driver.device_attribute
        assert device.name() == "T4" and device.compute_capability() == (7, 5)
        assert device.get_attribute(attribute.INTEGRATED) == 0 and device.warp_size == 32
        assert fake.driver.get_driver_version() == 12060 and fake.driver.get_version() == (12, 6, 0)
        assert not hasattr(fake.driver, "Managed")
