"""Every call into TensorRT and CUDA fails once: one clear error each time, and nothing stays allocated."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

from edgeseg.engines.tensorrt.factory import TensorRtOptions
from edgeseg.errors import EdgesegError
from tests.engines.tensorrt.rig import VERSIONS, Rig
from tests.engines.tensorrt.tiny import tiny_bundle, tiny_frames

BUNDLE = tiny_bundle()
CASES = [(version, integrated, True) for version in VERSIONS for integrated in (True, False)]
CASES += [("8.5.2.2", integrated, False) for integrated in (True, False)]  # with the conversion kernels


def _whole_life(rig: Rig, options: TensorRtOptions) -> np.ndarray:
    """Build, load, test, run, run two in flight, close."""
    with rig.factory.open(BUNDLE, "tiny", options).engine as engine:
        first: np.ndarray = engine.infer(tiny_frames(1)).copy()
        engine.submit(tiny_frames(1))
        engine.submit(tiny_frames(1))
        engine.collect()
        np.testing.assert_array_equal(engine.collect(), first)
    return first


@pytest.mark.parametrize(("version", "integrated", "uint8_io"), CASES)
def test_every_failure_point(version: str, integrated: bool, uint8_io: bool, tmp_path: Path) -> None:
    _every_call_fails(version, integrated, uint8_io, tmp_path, None)


@pytest.mark.parametrize(("version", "integrated", "uint8_io"), [("8.5.2.2", False, False), ("10.3.0.30", True, True)])
def test_every_call_raises_something_foreign(version: str, integrated: bool, uint8_io: bool, tmp_path: Path) -> None:
    """As pybind11, Boost.Python and ctypes do when something else than the device is wrong."""
    _every_call_fails(version, integrated, uint8_io, tmp_path, AttributeError("undefined symbol: of another release"))


def _every_call_fails(
    version: str, integrated: bool, uint8_io: bool, tmp_path: Path, foreign: Exception | None
) -> None:
    def rig(name: str) -> Rig:
        return Rig(version, tmp_path / name, integrated=integrated, uint8_io=uint8_io)

    healthy = rig("healthy")
    options = TensorRtOptions(precision="int8" if uint8_io else "fp32")
    expected = _whole_life(healthy, options)
    assert not healthy.leaks()
    calls = healthy.fake.faults.record()
    assert len(calls) > 150 and healthy.module.fake.faults is healthy.fake.faults
    gc.collect()
    gc.freeze()  # what is alive now is not looked at again each time
    survived: set[str] = set()
    for index, call in enumerate(calls):
        if foreign is not None and call.endswith(".free"):
            continue  # pycuda's raises only where it has freed before
        broken = rig(f"broken{index}")
        broken.fake.faults.fail_at(index)
        if foreign is not None:
            broken.fake.faults.raise_instead(foreign)
        message = _message(broken, options, expected)
        assert broken.fake.faults.failed == [(index, call)], f"{call} was not reached again"
        if message is None:
            survived.add(call)
        else:
            assert "\n" not in message and len(message) > 20, f"{call}: {message!r}"
        assert not broken.fake.default_stream_uses and not broken.fake.aborts, call
        assert broken.leaks() == {}, f"call {index}, {call}: {message}"
    gc.unfreeze()
    assert foreign is not None or survived - _NOT_NEEDED == set()


def _message(rig: Rig, options: TensorRtOptions, expected: np.ndarray) -> str | None:
    """What is said when it fails; None when it did without the call, with the same answer."""
    try:
        np.testing.assert_array_equal(_whole_life(rig, options), expected)
    except EdgesegError as error:
        said = str(error)
        error.__traceback__ = None
        return said
    finally:
        gc.collect()
    return None


_NOT_NEEDED = {
    # the next way to write the graph is tried
    "trt.Builder",
    "trt.Builder.build_serialized_network",
    "trt.Builder.create_builder_config",
    "trt.Builder.create_network",
    "trt.ICudaEngine.create_engine_inspector",
    "trt.ITensor.set_dynamic_range",
    "trt.OnnxParser",
    "trt.OnnxParser.parse",
    "trt.Runtime",
    "trt.Runtime.deserialize_cuda_engine",
    # kernels are timed again
    "trt.IBuilderConfig.create_timing_cache",
    "trt.IBuilderConfig.set_timing_cache",
    "trt.ITimingCache.serialize",
    # while a CUDA graph is captured and verified: plain runs instead, which is said
    "libcuda.cuStreamBeginCapture_v2",
    "libcuda.cuStreamEndCapture",
    "libcuda.cuGraphInstantiateWithFlags",
    "libcuda.cuGraphLaunch",
    "pycuda.Context.push",
    "pycuda.Context.pop",
    "pycuda.Event.record",
    "pycuda.Event.synchronize",
    "pycuda.Event.time_till",
    "pycuda.Function.__call__",
    "pycuda.Stream.wait_for_event",
    "pycuda.memcpy_dtoh_async",
    "pycuda.memcpy_htod_async",
    "trt.IExecutionContext.execute_async_v3",
    "trt.IExecutionContext.set_tensor_address",
    # giving back: the driver complains, nobody can do more
    "libcuda.cuCtxGetCurrent",
    "libcuda.cuCtxPopCurrent_v2",
    "libcuda.cuGraphDestroy",
    "libcuda.cuGraphExecDestroy",
    "pycuda.Context.detach",
    "pycuda.DeviceAllocation.free",
    "pycuda.PagelockedHostAllocation.free",
}
"""Calls that may fail, at least at one moment of an engine's life, and the answer is still right."""
