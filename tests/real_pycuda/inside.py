"""Tests with the real pycuda and the driver of ``driver.c``; ``test_real_pycuda.py`` starts a process that has both.

After everything, whatever failed in between, the driver's counters are back at zero.
"""

from __future__ import annotations

import gc
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Callable, Iterator

import numpy as np
import pytest

from edgeseg.engines.cuda.device import KERNELS, Cuda
from edgeseg.engines.tensorrt.api import TensorRt
from edgeseg.engines.tensorrt.engine import TensorRtEngine
from edgeseg.errors import EngineError
from tests.engines.tensorrt.rig import Rig
from tests.engines.tensorrt.tiny import tiny_frames
from tests.fake_tensorrt import fake_tensorrt
from tests.real_pycuda.board import Board, Driver

CODES = (2, 719, 999)  # pycuda makes MemoryError, LaunchError and Error of them
DRIVER = Driver()


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    assert DRIVER.counts() == {}
    yield
    assert DRIVER.counts() == {}, DRIVER.misused


def _life(mapped: bool) -> None:
    """Each class of ``edgeseg.engines.cuda.device`` once, with work."""
    cuda = Cuda()
    given_back = ExitStack()
    try:

        def kept(one: Any) -> Any:
            given_back.callback(one.free)
            return one

        stream, begin, end = kept(cuda.stream()), kept(cuda.event()), kept(cuda.event())
        source = kept(cuda.buffer((2, 3, 4), np.uint8, mapped=mapped))
        target = kept(cuda.buffer((2, 3, 4), np.float32, mapped=mapped))
        kept(cuda.scratch(1000))
        kernel, _ = (kept(cuda.kernel(name, 24)) for name in KERNELS)
        assert not source.host.any() and cuda.free_bytes() > 0
        with cuda.current():
            source.host[...] = 7
            begin.record(stream)
            source.upload(stream)
            kernel.launch(source.address, target.address, stream)
            target.download(stream)
            end.record(stream)
            stream.wait_for(end)
            end.synchronize()
            stream.synchronize()
            assert (target.host == 7).all() and begin.ms_until(end) >= 0
            graph = kept(cuda.capture(stream, lambda: kernel.launch(source.address, target.address, stream)))
            source.host[...] = 9
            source.upload(stream)
            graph.launch(stream)
            target.download(stream)
            stream.synchronize()
            assert (target.host == 9).all()
    finally:
        try:
            with cuda.current():  # else pycuda makes it current for each, and aborts the process when that fails
                given_back.close()
        finally:
            given_back.close()  # what is left, when it could not be
            cuda.close()


def _every_failure(life: Callable[[], None], least: int, ways: int, not_needed: set[str]) -> None:
    """Let every driver call of a life fail, in so many ways."""
    before = DRIVER.calls
    life()
    count = DRIVER.calls - before
    assert count >= least and DRIVER.counts() == {}
    gc.collect()
    gc.freeze()  # what is alive now is not looked at again each time
    survived = set()
    for index in range(count):
        for code in (CODES[(index + way) % len(CODES)] for way in range(ways)):
            DRIVER.fail(index, code)
            said = _message(life)
            assert DRIVER.failed, f"call {index} was not reached again"
            assert said is None or ("\n" not in said and len(said) > 20), said
            survived |= {DRIVER.failed} if said is None else set()
            if DRIVER.failed == "cuCtxPopCurrent_v2" and DRIVER.library.mock_depth():
                DRIVER.library.cuCtxPopCurrent_v2(None)  # the last one: nobody is left to try again
            assert DRIVER.counts() == {}, f"call {index}, {DRIVER.failed} with {code}: {said}; misused {DRIVER.misused}"
    gc.unfreeze()
    assert survived <= not_needed


def _message(life: Callable[[], None]) -> str | None:
    """What is said when it fails; None when it did without the call."""
    try:
        life()
    except EngineError as error:
        return str(error)
    return None


_GIVING_BACK = {
    # pycuda complains, nobody can do more; what a destructor could not do it does again with the last reference
    *("cuMemFree_v2", "cuMemFreeHost", "cuModuleUnload", "cuStreamDestroy_v2", "cuEventDestroy_v2", "cuGraphDestroy"),
    *("cuGraphExecDestroy", "cuDevicePrimaryCtxRelease_v2", "cuCtxGetCurrent", "cuCtxPushCurrent_v2"),
    "cuCtxPopCurrent_v2",
    # pycuda collects garbage and tries again
    "cuMemAlloc_v2",
}
_FOR_A_GRAPH = {
    # it is not captured or not right: plain runs instead, which is said
    *("cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphInstantiateWithFlags", "cuGraphLaunch"),
    *("cuEventRecord", "cuEventSynchronize", "cuEventElapsedTime", "cuStreamWaitEvent"),
    *("cuFuncSetBlockShape", "cuLaunchKernel", "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2"),
}


@pytest.mark.parametrize("mapped", [True, False])
def test_everything_is_given_back(mapped: bool) -> None:
    for _ in range(3):
        _life(mapped)


@pytest.mark.parametrize("mapped", [True, False])
def test_every_call_fails_once(mapped: bool) -> None:
    _every_failure(lambda: _life(mapped), 50, len(CODES), _GIVING_BACK)


def test_a_capture_that_fails_leaves_the_stream_usable() -> None:
    cuda = Cuda()
    stream = cuda.stream()
    for bad in (stream.synchronize, lambda: cuda.scratch(100), lambda: (_ for _ in ()).throw(RuntimeError("bad"))):
        with pytest.raises(EngineError), cuda.current():
            cuda.capture(stream, bad)  # type: ignore[arg-type]
        with cuda.current():
            graph = cuda.capture(stream, lambda: None)
            graph.launch(stream)
            stream.synchronize()
            graph.free()
    with cuda.current():
        stream.free()
    cuda.close()


def test_contexts_nest_and_none_stays_current() -> None:
    outer, inner = Cuda(), Cuda()
    with outer.current():
        stream = outer.stream()
        buffer = outer.buffer((4,), np.uint8, mapped=True)
        with inner.current():
            other = inner.stream()
            copied = inner.buffer((4,), np.uint8, mapped=False)
        buffer.host[...] = 1
    assert DRIVER.library.mock_depth() == 0
    with pytest.raises(EngineError, match="CUDA failed: v; "), outer.current(), inner.current():
        raise ValueError("v")
    assert DRIVER.library.mock_depth() == 0
    with outer.current():
        buffer.free()
        stream.free()
    outer.close()
    assert DRIVER.library.mock_depth() == 0, "the other still holds the primary context"
    with inner.current():
        copied.upload(other)
        other.synchronize()
        copied.free()
        other.free()
    inner.close()


def test_each_thread_has_a_context_of_its_own() -> None:
    problems: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(5):
                _life(mapped=False)
            assert DRIVER.library.mock_depth() == 0
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems


def test_another_thread_is_refused_and_may_drop_what_it_was_given() -> None:
    cuda = Cuda()
    said: list[str] = []

    def elsewhere() -> None:
        try:
            cuda.stream()
        except EngineError as error:
            said.append(str(error))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert said == ["this engine belongs to the thread that opened it; hand frames over in a queue"]
    cuda.close()


# --- the TensorRT engine ---------------------------------------------------------------------------------------------

VERSIONS = ("8.5.2.2", "10.3.0.30", "11.4.1.1")
WAYS = [
    (version, memory, graph, uint8_io)
    for version in VERSIONS
    for memory in ("mapped", "copy")
    for graph in ("auto", "off")
    for uint8_io in ((True, False) if version.startswith("8") else (True,))
]


@pytest.fixture(scope="module")
def plan_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., bytes]:
    """Plans, built on the fake device."""
    plans: dict[Any, bytes] = {}

    def build(version: str, uint8_io: bool) -> bytes:
        if (version, uint8_io) not in plans:
            rig = Rig(version, tmp_path_factory.mktemp("engines"), uint8_io=uint8_io)
            rig.engine(precision="fp32").close()
            (path,) = rig.cache.folder.glob("*.engine")
            plans[version, uint8_io] = path.read_bytes()
        return plans[version, uint8_io]

    return build


class Life:
    """Open an engine, run it, run two in flight, close it."""

    def __init__(self, plan: bytes, version: str, memory: str, graph: str, uint8_io: bool) -> None:
        self.plan, self.memory, self.graph = plan, memory, graph
        self.board = Board(DRIVER)
        self.module = fake_tensorrt(version, self.board, uint8_io=uint8_io, replay="current")  # type: ignore[arg-type]
        self.expected: list[np.ndarray] = []

    def __call__(self) -> None:
        frames = tiny_frames(3)
        self.board.implicit_contexts.clear()
        engine = TensorRtEngine(self.plan, TensorRt(self.module), Cuda(), cuda_graph=self.graph, memory=self.memory)
        with engine:
            found = [engine.infer(frame[None]).copy() for frame in frames]
            engine.submit(frames[:1])
            engine.submit(frames[1:2])
            found += [engine.collect().copy(), engine.collect().copy()]
            assert ("CUDA graph" in engine.description) == (self.graph != "off" and not engine.graph_note)
        self.expected = self.expected or [found[0], found[1], found[2], found[0], found[1]]
        for one, right in zip(found, self.expected):
            np.testing.assert_array_equal(one, right)
        assert not self.board.implicit_contexts and not self.board.errors


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_an_engine_gives_everything_back(way: Any, plan_of: Callable[..., bytes]) -> None:
    version, _, _, uint8_io = way
    life = Life(plan_of(version, uint8_io), *way)
    for _ in range(3):
        life()
    assert any((one != life.expected[0]).any() for one in life.expected), "the frames are told apart"
    gc.collect()
    assert not any(life.module.live().values())


@pytest.mark.parametrize("way", [("8.5.2.2", "copy", "auto", False), ("10.3.0.30", "mapped", "auto", True)], ids=str)
def test_every_call_of_an_engines_life_fails_once(way: Any, plan_of: Callable[..., bytes]) -> None:
    life = Life(plan_of(way[0], way[3]), *way)
    _every_failure(life, 150, 1, _GIVING_BACK | _FOR_A_GRAPH)
    gc.collect()
    assert not any(life.module.live().values())


def test_engines_share_the_device(plan_of: Callable[..., bytes]) -> None:
    plan = plan_of("10.3.0.30", True)
    module = fake_tensorrt("10.3.0.30", Board(DRIVER))  # type: ignore[arg-type]
    frame = tiny_frames(1)
    first, second = (TensorRtEngine(plan, TensorRt(module), Cuda(), memory="copy") for _ in range(2))
    expected = first.infer(frame).copy()
    np.testing.assert_array_equal(second.infer(frame), expected)
    first.close()
    np.testing.assert_array_equal(second.infer(frame), expected)
    second.close()
    first.close()


def test_a_plan_that_does_not_load_leaves_nothing(plan_of: Callable[..., bytes], tmp_path: Path) -> None:
    plan = plan_of("10.3.0.30", True)
    module = fake_tensorrt("10.3.0.30", Board(DRIVER))  # type: ignore[arg-type]
    with pytest.raises(EngineError, match="could not load the plan"):
        TensorRtEngine(plan[:-1], TensorRt(module), Cuda())
