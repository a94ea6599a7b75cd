"""CUDA for real: on a GPU where there is one, and NVIDIA's compilers on our kernels where there is none.

What needs a GPU runs on the fake device too, so that the tests themselves are known to be right before they meet one.
"""

from __future__ import annotations

import ctypes
import importlib.util
import re
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import pytest

import edgeseg.engines.cuda.device
from edgeseg.bundle import Bundle
from edgeseg.engines.base import Engine
from edgeseg.engines.cuda.device import KERNELS, Buffer, Cuda, Kernel, Stream
from edgeseg.engines.tensorrt.cache import EngineCache
from edgeseg.engines.tensorrt.factory import TensorRtFactory, TensorRtOptions
from edgeseg.errors import EdgesegError, EngineError
from tests.engine_contract import EngineContract
from tests.fake_cuda import FakeCuda

FOLDER = Path(edgeseg.engines.cuda.device.__file__).parent
PTX, SOURCE = FOLDER / "convert.ptx", FOLDER / "convert.cu"
JETSON_GPUS = ("sm_72", "sm_87", "sm_110")
OTHER_GPUS = ("sm_75", "sm_86", "sm_89", "sm_120")
_JIT_PTX = 2
_JIT_NO_SUCH_GPU = (16, 17)  # not known yet, not supported any more


# --- NVIDIA's compilers, which need no GPU ---------------------------------------------------------------------------


def nvidia_libraries(name: str) -> list[Any]:
    """A CUDA library as it came with PyTorch's packages, the newest first; skips where there is none."""
    spec = importlib.util.find_spec("nvidia")
    folders = [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
    found = [file for folder in folders for file in folder.glob(f"*/lib/{name}.so.1[0-9]")]
    if not found:
        pytest.skip(f"{name} is not installed; it comes with PyTorch for CUDA")
    for part in (part for file in found for part in file.parent.glob(f"{name}-builtins.so.*")):
        ctypes.CDLL(str(part))  # nvrtc looks for it by name alone, which only finds what is loaded
    return [ctypes.CDLL(str(file)) for file in sorted(found, key=lambda file: file.suffix, reverse=True)]


def assembled(ptx: bytes, architecture: str) -> bytes:
    """What a driver's assembler makes of PTX, by an nvJitLink that knows the GPU; skips where none does."""
    for linker in nvidia_libraries("libnvJitLink"):
        cubin = _linked(linker, ptx, architecture)
        if cubin is not None:
            return cubin
    return pytest.skip(f"no nvJitLink for {architecture} here; for sm_72: pip install nvidia-nvjitlink-cu12")


def _linked(linker: Any, ptx: bytes, architecture: str) -> bytes | None:
    """None where this nvJitLink does not know the GPU: 13 says so at once, 12 when it assembles."""
    handle, options = ctypes.c_void_p(), (ctypes.c_char_p * 1)(f"-arch={architecture}".encode())
    made = linker.nvJitLinkCreate(ctypes.byref(handle), 1, options)
    if made in _JIT_NO_SUCH_GPU:
        return None
    assert made == 0, f"nvJitLinkCreate for {architecture}: {made}"
    try:
        data = ptx + b"\0"
        done = linker.nvJitLinkAddData(handle, _JIT_PTX, data, ctypes.c_size_t(len(data)), b"convert.ptx")
        done = done or linker.nvJitLinkComplete(handle)
        said = _said(linker.nvJitLinkGetErrorLogSize, linker.nvJitLinkGetErrorLog, handle)
        if done and f"'{architecture}' is not defined" in said:
            return None
        assert done == 0, said
        size = ctypes.c_size_t()
        assert linker.nvJitLinkGetLinkedCubinSize(handle, ctypes.byref(size)) == 0
        cubin = ctypes.create_string_buffer(size.value)
        assert linker.nvJitLinkGetLinkedCubin(handle, cubin) == 0
        return cubin.raw
    finally:
        linker.nvJitLinkDestroy(ctypes.byref(handle))


def compiled(source: bytes, architecture: str) -> str:
    """What nvrtc makes of CUDA C++: PTX."""
    compiler = nvidia_libraries("libnvrtc")[0]
    program = ctypes.c_void_p()
    assert compiler.nvrtcCreateProgram(ctypes.byref(program), source, b"convert.cu", 0, None, None) == 0
    try:
        options = (ctypes.c_char_p * 1)(f"--gpu-architecture={architecture}".encode())
        done = compiler.nvrtcCompileProgram(program, 1, options)
        assert done == 0, _said(compiler.nvrtcGetProgramLogSize, compiler.nvrtcGetProgramLog, program)
        return _said(compiler.nvrtcGetPTXSize, compiler.nvrtcGetPTX, program)
    finally:
        compiler.nvrtcDestroyProgram(ctypes.byref(program))


def _said(size_of: Any, get: Any, handle: ctypes.c_void_p) -> str:
    size = ctypes.c_size_t()
    assert size_of(handle, ctypes.byref(size)) == 0
    text = ctypes.create_string_buffer(size.value + 1)
    assert get(handle, text) == 0
    return text.value.decode()


def entries(ptx: str) -> dict[str, list[str]]:
    """Kernel -> types of its parameters."""
    found = re.findall(r"\.visible\s+\.entry\s+(\w+)\s*\(([^)]*)\)", ptx)
    # nvrtc may declare what a parameter points to: .param .u64 .ptr .align 1
    return {name: re.findall(r"\.param\s+\.(\w+)", parameters) for name, parameters in found}


def test_the_kernels_are_those_that_the_engine_launches() -> None:
    """Names, and the number and sizes of what ``Kernel.launch`` passes."""
    passed: list[Any] = []

    def function(*arguments: Any, **launch: Any) -> None:
        passed.append((arguments, launch))

    class AnyStream:
        raw = None

    Kernel(function, 257).launch(16, 32, AnyStream())  # type: ignore[arg-type]
    ((arguments, launch),) = passed
    assert launch["grid"] == (2, 1), "two blocks of 256 threads for 257 elements"
    declared = entries(PTX.read_text(encoding="utf-8"))
    assert set(declared) == set(KERNELS)
    for name, types in declared.items():
        assert [int(kind[1:]) // 8 for kind in types] == [argument.nbytes for argument in arguments], name


@pytest.mark.parametrize("architecture", [*JETSON_GPUS, *OTHER_GPUS])
def test_the_shipped_ptx_assembles(architecture: str) -> None:
    cubin = assembled(PTX.read_bytes(), architecture)
    assert cubin.startswith(b"\x7fELF") and all(name.encode() in cubin for name in KERNELS)


def test_a_broken_ptx_does_not_assemble() -> None:
    with pytest.raises(AssertionError, match="convert.ptx|ptxas|error"):
        assembled(PTX.read_bytes().replace(b"cvt.rn.f32.u16", b"cvt.rn.f32.u17"), "sm_87")


def test_the_source_compiles_to_the_kernels_of_the_shipped_ptx() -> None:
    made = compiled(SOURCE.read_bytes(), "compute_87")
    assert entries(made) == entries(PTX.read_text(encoding="utf-8"))
    assert assembled(made.encode(), "sm_87").startswith(b"\x7fELF")


# --- the GPU ---------------------------------------------------------------------------------------------------------


@contextmanager
def opened_cuda(which: str) -> Iterator[Cuda]:
    """The fake device, or the real one; skips, saying why, where there is none."""
    if which == "fake":
        fake = FakeCuda(integrated=False)
        cuda = Cuda(driver=fake.driver, library=fake.libcuda)
    else:
        try:
            cuda = Cuda()
        except EdgesegError as error:
            pytest.skip(f"no GPU: {error}")
    try:
        yield cuda
    finally:
        cuda.close()


@pytest.fixture(params=["fake", "gpu"])
def cuda(request: Any) -> Iterator[Cuda]:
    with opened_cuda(request.param) as cuda:
        yield cuda


@pytest.fixture
def stream(cuda: Cuda) -> Iterator[Stream]:
    stream = cuda.stream()
    yield stream
    with cuda.current():
        stream.free()


@contextmanager
def buffers(cuda: Cuda, *wanted: tuple[int, Any, bool]) -> Iterator[list[Buffer]]:
    """Buffers of (elements, type, mapped), freed in the end."""
    made = [cuda.buffer((count,), dtype, mapped=mapped) for count, dtype, mapped in wanted]
    try:
        yield made
    finally:
        with cuda.current():
            for buffer in made:
                buffer.free()


def test_what_the_driver_says_of_itself(cuda: Cuda) -> None:
    facts = cuda.facts
    assert facts.name and facts.compute_capability >= (5, 3) and facts.sm_count >= 1
    assert cuda.free_bytes() > 0 and facts.total_bytes > 2**30


@pytest.mark.parametrize("count", [1, 4097, 1_000_003])
def test_up_and_down_again(cuda: Cuda, stream: Stream, count: int) -> None:
    sent = np.random.default_rng(0).integers(0, 256, count, dtype=np.uint8)
    with buffers(cuda, (count, np.uint8, False)) as (buffer,), cuda.current():
        assert not buffer.host.any(), "a new buffer is zero"
        buffer.host[:] = sent
        buffer.upload(stream)
        stream.synchronize()
        buffer.host[:] = 255 - sent
        buffer.download(stream)
        stream.synchronize()
        np.testing.assert_array_equal(buffer.host, sent)


@pytest.mark.parametrize("mapped", [False, True], ids=["copied", "mapped"])
@pytest.mark.parametrize("count", [1, 255, 256, 257, 360 * 480 * 3])
def test_kernels_give_numpys_answer(cuda: Cuda, stream: Stream, count: int, mapped: bool) -> None:
    values = np.random.default_rng(count).integers(0, 256, count)
    for name, source, target in (
        ("uint8_to_float32", np.uint8, np.float32),
        ("int32_to_uint8", np.int32, np.uint8),
    ):
        kernel = cuda.kernel(name, count)
        with buffers(cuda, (count, source, mapped), (count + 1, target, mapped)) as (before, after), cuda.current():
            before.host[:] = values
            after.host[:] = 77
            before.upload(stream)
            after.upload(stream)
            kernel.launch(before.address, after.address, stream)
            after.download(stream)
            stream.synchronize()
            np.testing.assert_array_equal(after.host[:count], values.astype(target))
            assert after.host[count] == 77, "nothing is written behind the last element"
            kernel.free()


def test_events_wait_across_streams_and_measure(cuda: Cuda, stream: Stream) -> None:
    count, other = 1_000_000, cuda.stream()
    begin, end = cuda.event(), cuda.event()
    kernel = cuda.kernel("uint8_to_float32", count)
    with buffers(cuda, (count, np.uint8, False), (count, np.float32, False)) as (before, after), cuda.current():
        before.host[:] = 3
        begin.record(stream)
        before.upload(stream)
        end.record(stream)
        other.wait_for(end)
        kernel.launch(before.address, after.address, other)
        after.download(other)
        other.synchronize()
        assert (after.host == 3).all() and begin.ms_until(end) >= 0
        for made in (kernel, begin, end, other):
            made.free()


def test_a_captured_graph_replays_with_what_is_in_the_buffers(cuda: Cuda, stream: Stream) -> None:
    count = 1000
    kernel = cuda.kernel("uint8_to_float32", count)
    with buffers(cuda, (count, np.uint8, False), (count, np.float32, False)) as (before, after), cuda.current():
        kernel.launch(before.address, after.address, stream)  # loads the kernel
        stream.synchronize()
        graph = cuda.capture(stream, lambda: kernel.launch(before.address, after.address, stream))
        for value in (7, 200):
            before.host[:] = value
            before.upload(stream)
            graph.launch(stream)
            after.download(stream)
            stream.synchronize()
            assert (after.host == value).all()
        graph.free()
        kernel.free()


def test_a_capture_that_fails_leaves_the_stream_usable(cuda: Cuda, stream: Stream) -> None:
    with pytest.raises(EngineError), cuda.current():
        cuda.capture(stream, stream.synchronize)  # waiting is not allowed in a capture
    kernel = cuda.kernel("uint8_to_float32", 10)
    with buffers(cuda, (10, np.uint8, False), (10, np.float32, False)) as (before, after), cuda.current():
        before.host[:] = 5
        before.upload(stream)
        kernel.launch(before.address, after.address, stream)
        after.download(stream)
        stream.synchronize()
        assert (after.host == 5).all()
        kernel.free()


# --- TensorRT --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> EngineCache:
    """So that each engine is built once for this file."""
    return EngineCache(tmp_path_factory.mktemp("engines"))


def board(which: str, cache: EngineCache, shipped: Bundle) -> tuple[TensorRtFactory, Bundle]:
    """The fake board with a tiny bundle, or a real TensorRT with the shipped one; skips, saying why, without a GPU."""
    if which == "fake":
        pytest.importorskip("onnx", reason="onnx is not installed: pip install 'edgeseg[test]'")
        from tests.engines.tensorrt.rig import Rig
        from tests.engines.tensorrt.tiny import tiny_bundle

        return Rig("10.3.0.30", cache.folder / "fake", integrated=False).factory, tiny_bundle()
    with opened_cuda("gpu"):
        pass
    try:
        return TensorRtFactory(cache, which), shipped
    except EdgesegError as error:
        pytest.skip(f"no TensorRT: {error}")


BOARDS = ("fake", "tensorrt", "rtx")


@pytest.fixture(params=BOARDS)
def factory_and_bundle(request: Any, cache: EngineCache, shipped: Bundle) -> tuple[TensorRtFactory, Bundle]:
    return board(request.param, cache, shipped)


class TestTensorRtOnADevice(EngineContract):
    @pytest.fixture(params=[("fp32", "copy", "off"), ("fp32", "mapped", "on"), ("int8", "copy", "on")], ids=str)
    def engine(self, request: Any, factory_and_bundle: tuple[TensorRtFactory, Bundle]) -> Iterator[Engine]:
        factory, bundle = factory_and_bundle
        precision, memory, graph = request.param
        options = TensorRtOptions(precision=precision, memory=memory, cuda_graph=graph)
        with factory.open(bundle, "device-test", options).engine as engine:
            yield engine

    @pytest.fixture
    def frames(self, factory_and_bundle: tuple[TensorRtFactory, Bundle]) -> np.ndarray:
        golden = factory_and_bundle[1].golden
        assert golden is not None
        return golden.frames[:2, None]


def test_two_in_flight_give_the_answers_of_one(factory_and_bundle: tuple[TensorRtFactory, Bundle]) -> None:
    factory, bundle = factory_and_bundle
    assert bundle.golden is not None
    frames = bundle.golden.frames[:, None]
    for memory in ("copy", "mapped"):
        options = TensorRtOptions(precision="fp32", memory=memory)
        with factory.open(bundle, "device-test", options).engine as engine:
            expected = [engine.infer(frame).copy() for frame in frames]
            assert set(engine.laps_ms) == {"h2d", "compute", "d2h"} and engine.laps_ms["compute"] > 0
            engine.submit(frames[0])
            for index in range(1, len(frames)):
                engine.submit(frames[index])
                np.testing.assert_array_equal(engine.collect(), expected[index - 1])
            np.testing.assert_array_equal(engine.collect(), expected[-1])


@pytest.mark.parametrize("which", BOARDS)
def test_two_engines_beside_pytorch(which: str, cache: EngineCache, shipped: Bundle) -> None:
    """All share the device's primary context; none may take it away from the others, or leave it current."""
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'edgeseg[train]'")
    factory, bundle = board(which, cache, shipped)
    if which != "fake" and not torch.cuda.is_available():
        pytest.skip(f"PyTorch {torch.__version__} sees no GPU")
    device = "cpu" if which == "fake" else "cuda"
    assert bundle.golden is not None
    frame = bundle.golden.frames[0][None]
    matrix = torch.arange(64.0, device=device).reshape(8, 8)

    def product() -> Any:
        return (matrix @ matrix).cpu()

    expected = product()
    first, second = (
        factory.open(bundle, "device-test", TensorRtOptions(precision=precision)).engine
        for precision in ("fp32", "int8")
    )
    answers = first.infer(frame).copy(), second.infer(frame).copy()
    for _ in range(3):
        np.testing.assert_array_equal(first.infer(frame), answers[0])
        assert torch.equal(product(), expected)
        np.testing.assert_array_equal(second.infer(frame), answers[1])
    first.close()
    assert torch.equal(product(), expected)
    np.testing.assert_array_equal(second.infer(frame), answers[1])
    second.close()
    assert torch.equal(product(), expected)
    assert torch.equal(torch.ones(4, device=device).cpu(), torch.ones(4)), "PyTorch can still allocate"
