"""Execution contexts, which run engines on streams."""

from __future__ import annotations

import operator
import time
import types
import weakref
from typing import TYPE_CHECKING, Any, Callable

import numpy as np

from tests.fake_cuda import CODES, CuError, FakeCuda
from tests.fake_tensorrt.callbacks import guarded, usable
from tests.fake_tensorrt.objects import Dims, Managed, stored_attribute

if TYPE_CHECKING:
    from tests.fake_tensorrt.engine import ICudaEngine


class IExecutionContext(Managed):
    def _setup(self, engine: ICudaEngine, scratch: int | None) -> None:
        self._engine, self._logger, self._scratch = engine, engine._logger, scratch
        self._core = types.SimpleNamespace(alive=True, addresses={}, scratch=scratch)
        inputs = [entry for entry in engine._io.values() if entry["mode"] == "INPUT"]
        self._shapes = {entry["name"]: tuple(entry["shape"]) for entry in inputs}
        self._addresses: dict[str, int] = self._core.addresses
        self._consumed = 0
        self._profile = 0
        self._warm: Any = None
        self._inferred: dict[Any, dict[str, tuple[int, ...]]] = {}
        self._values = {
            "name": "",
            "debug_sync": False,
            "enqueue_emits_profile": True,
            "profiler": None,
            "error_recorder": None,
            "persistent_cache_limit": 0,
            "nvtx_verbosity": engine.profiling_verbosity,
        }

    name = stored_attribute("name", str)
    debug_sync = stored_attribute("debug_sync", bool)
    enqueue_emits_profile = stored_attribute("enqueue_emits_profile", bool)
    error_recorder = stored_attribute("error_recorder")
    persistent_cache_limit = stored_attribute("persistent_cache_limit", int)
    nvtx_verbosity = stored_attribute("nvtx_verbosity")
    engine = property(lambda self: self._engine)

    def _set_memory(self, memory: int) -> None:
        address = operator.index(memory)
        if address % 256:
            self._error(
                "IExecutionContext::setDeviceMemory: Error Code 3: API Usage Error (the memory is not 256-byte aligned)"
            )
            return
        self._core.scratch = address

    device_memory = property(None, _set_memory)

    def set_device_memory(self, memory: int, size: int) -> None:
        if operator.index(size) < self._engine._header["memory"]:
            self._error(
                "IExecutionContext::setDeviceMemoryV2: Error Code 3: API Usage Error (Parameter check failed, "
                "condition: size >= getDeviceMemorySizeV2())"
            )
            return
        self._set_memory(memory)

    @property
    def profiler(self) -> Any:
        return self._values["profiler"]

    @profiler.setter
    def profiler(self, value: Any) -> None:
        self._values["profiler"] = value if value is None else usable(value, self._s.module.IProfiler)

    @property
    def active_optimization_profile(self) -> int:
        return self._profile

    @active_optimization_profile.setter
    def active_optimization_profile(self, value: int) -> None:
        self._profile = int(value)

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        if not 0 <= profile_index < self._engine.num_optimization_profiles:
            self._error("Error Code 3: API Usage Error (Parameter check failed, condition: profileIndex is in range)")
            raise RuntimeError("Error in set optimization profile async.")
        self._profile = profile_index
        return True

    def _error(self, text: str) -> bool:
        self._s.log(self._logger, "ERROR", text)
        return False

    def set_input_shape(self, name: str, shape: Any) -> bool:
        if self._s.fails("trt.IExecutionContext.set_input_shape", self._logger):
            return False
        entry = self._engine._entry(name)
        if entry is None or entry["mode"] != "INPUT":
            return self._error(f"IExecutionContext::setInputShape: Error Code 3: API Usage Error ({name} is no input)")
        sizes = tuple(int(size) for size in shape)
        fixed = entry["shape"]
        if len(sizes) != len(fixed) or any(want not in (-1, size) for want, size in zip(fixed, sizes)):
            return self._error(
                "IExecutionContext::setInputShape: Error Code 3: API Usage Error (Parameter check failed, condition: "
                "engineDims.d[i] == dims.d[i]. Static dimension mismatch while setting input shape.)"
            )
        profiles = self._engine._header["profiles"]
        if profiles and name in profiles[self._profile]:
            low, _, high = profiles[self._profile][name]
            if any(not a <= size <= b for a, size, b in zip(low, sizes, high)):
                return self._error(
                    "IExecutionContext::setInputShape: Error Code 3: API Usage Error (Parameter check "
                    "failed, condition: "
                    f"satisfyProfile. Set dimension {list(sizes)} for tensor {name} does not satisfy any optimization "
                    f"profiles. Valid range for profile {self._profile}: {low}..{high}.)"
                )
        self._shapes[name] = sizes
        return True

    @property
    def all_binding_shapes_specified(self) -> bool:
        return all(-1 not in shape for shape in self._shapes.values())

    all_shape_inputs_specified = property(lambda self: True)

    def infer_shapes(self) -> list[str]:
        if self._s.fails("trt.IExecutionContext.infer_shapes", self._logger):
            raise RuntimeError("infer_shapes error code: -1")
        return [name for name, shape in self._shapes.items() if -1 in shape]

    def get_tensor_shape(self, name: str) -> Dims:
        entry = self._engine._entry(name)
        if entry is None:
            return Dims()
        if name in self._shapes:
            return Dims(self._shapes[name])
        if -1 not in entry["shape"] or not self.all_binding_shapes_specified:
            return Dims(entry["shape"])
        return Dims(self._output_shapes()[name])

    def _output_shapes(self) -> dict[str, tuple[int, ...]]:
        key = tuple(self._shapes.items())
        if key not in self._inferred:
            feed = {
                name: np.zeros(shape, self._s.numpy_of(self._engine.get_tensor_dtype(name)))
                for name, shape in self._shapes.items()
            }
            self._inferred[key] = {name: value.shape for name, value in self._engine._execute(feed).items()}
        return self._inferred[key]

    def get_tensor_strides(self, name: str) -> Dims:
        shape = list(self.get_tensor_shape(name))
        return Dims([int(np.prod(shape[i + 1 :], dtype=np.int64)) for i in range(len(shape))])

    def get_max_output_size(self, name: str) -> int:
        shape = self.get_tensor_shape(name)
        return int(np.prod(tuple(shape), dtype=np.int64)) * self._engine.get_tensor_bytes_per_component(name)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        address = operator.index(memory)
        if address < 0:
            raise TypeError("set_tensor_address(): incompatible function arguments")
        if self._s.fails("trt.IExecutionContext.set_tensor_address", self._logger):
            return False
        if self._engine._entry(name) is None:
            return False
        if address % 256:
            return self._error(
                f"IExecutionContext::setTensorAddress: Error Code 3: API Usage Error ({name}: the address "
                "has to be 256-byte aligned)"
            )
        self._addresses[name] = address
        return True

    def get_tensor_address(self, name: str) -> int:
        self._engine._entry(name)
        return self._addresses.get(name, 0)

    def set_input_consumed_event(self, event: int) -> bool:
        self._consumed = operator.index(event)
        return True

    def get_input_consumed_event(self) -> int:
        return self._consumed

    def execute_async_v3(self, stream_handle: int) -> bool:
        handle = operator.index(stream_handle)
        if self._s.fails("trt.IExecutionContext.execute_async_v3", self._logger):
            return False
        return self._enqueue(handle, dict(self._addresses))

    def execute_async_v2(self, bindings: list[int], stream_handle: int, input_consumed: Any = None) -> bool:
        if self._s.fails("trt.IExecutionContext.execute_async_v2", self._logger):
            return False
        return self._enqueue(operator.index(stream_handle), dict(zip(self._engine._io, map(operator.index, bindings))))

    def execute_v2(self, bindings: list[int]) -> bool:
        if self._s.fails("trt.IExecutionContext.execute_v2", self._logger):
            return False
        if not self._enqueue(0, dict(zip(self._engine._io, map(operator.index, bindings))), quiet=True):
            return False
        try:
            self._s.cuda.synchronize_stream(0)
        except CuError as error:
            return self._error(f"1: Error Code 1: Cuda Runtime ({CODES[error.code][1]})")
        return True

    def _enqueue(self, handle: int, addresses: dict[str, int], quiet: bool = False) -> bool:
        cuda = self._s.cuda
        missing = [name for name, shape in self._shapes.items() if -1 in shape]
        if missing:
            return self._error(
                "IExecutionContext::enqueueV3: Error Code 3: API Usage Error (Parameter check failed, condition: "
                f"allInputDimensionsSpecified(). Shape of input {missing[0]} is not specified)"
            )
        for name in self._engine._io:
            if not addresses.get(name):
                return self._error(
                    "3: [executionContext.cpp::enqueueV3::2666] Error Code 3: API Usage Error (Parameter "
                    "check failed at: "
                    "executionContext.cpp::enqueueV3::2666, condition: mContext.profileObliviousBindings.at("
                    "profileObliviousIndex) || getPtrOrNull(mOutputAllocators, profileObliviousIndex). "
                    "Address is not set "
                    f"for {'input' if name in self._shapes else 'output'} tensor {name}.)"
                )
        if self._core.scratch is None:
            return self._error(
                "3: Error Code 3: API Usage Error (no device memory was given to this execution context)"
            )
        if handle == 0 and not quiet:
            self._s.log(
                self._logger,
                "WARNING",
                "Using default stream in enqueueV3() may lead to performance issues due to additional calls to "
                "cudaStreamSynchronize() by TensorRT to ensure correct synchronization. Please use "
                "non-default stream instead.",
            )
        try:
            with cuda.runtime("enqueue"), cuda.lock:
                self._put(handle, addresses)
        except CuError as error:
            return self._error(f"1: [runner.cpp::execute::404] Error Code 1: Cuda Runtime ({CODES[error.code][1]})")
        return True

    def _put(self, handle: int, addresses: dict[str, int]) -> None:
        cuda, warm = self._s.cuda, tuple(self._shapes.items())
        cuda.stream_of(handle)
        profiler = self._values["profiler"] if self._values["enqueue_emits_profile"] else None
        if cuda.is_capturing(handle) and (self._warm != warm or profiler is not None):
            # The first enqueue for these shapes allocates and loads; reporting times needs a synchronisation.
            cuda.invalidate_capture(handle)
            raise CuError(900)
        self._warm = warm
        shapes, core, engine, scratch = dict(self._shapes), self._core, self._engine, self._core.scratch
        if cuda.is_capturing(handle):
            cuda.enqueue(handle, "tensorrt", _replay(engine, core, scratch, shapes, addresses))
        else:
            cuda.enqueue(handle, "tensorrt", lambda: _compute(engine, core, scratch, shapes, addresses))
        if self._consumed:
            event = cuda.events.get(self._consumed)
            if event is None:
                raise CuError(400)
            cuda.record_event(event, handle)
        if profiler is not None:
            started = time.perf_counter()
            cuda.synchronize_stream(handle)
            layers = self._engine._header["layers"]
            each = (time.perf_counter() - started) * 1e3 / max(len(layers), 1)
            for index, layer in enumerate(layers):
                name = str(index) if self._engine._header["verbosity"] == "NONE" else layer["Name"]
                guarded("report_layer_time", lambda name=name: profiler.report_layer_time(name, each), None)

    def report_to_profiler(self) -> bool:
        return self._values["profiler"] is not None


def dispose(cuda: FakeCuda, scratch: int | None, core: Any) -> None:
    """The end of a context: freeing its own memory waits for the device; what runs later (a graph) is lost."""
    if scratch is not None:
        cuda.device_free(scratch)
    core.alive = False


def _replay(engine: ICudaEngine, core: Any, *captured: Any) -> Callable[[], None]:
    """One inference as a node of a graph, which keeps neither the engine nor the context."""
    kept = weakref.ref(engine)

    def run() -> None:
        there = kept()
        if there is None:
            raise CuError(700)
        scratch, shapes, addresses = captured
        if there._s.module.replay == "current":
            # The worst case of what NVIDIA leaves undefined: a graph of a context that was changed after the capture.
            scratch, addresses = core.scratch, core.addresses
        _compute(there, core, scratch, shapes, addresses)

    return run


def _compute(
    engine: ICudaEngine,
    core: Any,
    scratch: int | None,
    shapes: dict[str, tuple[int, ...]],
    addresses: dict[str, int],
) -> None:
    """One inference, when the stream gets there."""
    state, memory = engine._s, engine._s.cuda.memory
    if not core.alive:
        raise CuError(700)
    if scratch is not None:
        activations = memory.view(scratch, engine._header["memory"])
        activations[:] = state.executions & 0xFF  # what another context left there is gone
    feed = {
        name: memory.array(addresses[name], shape, state.numpy_of(engine.get_tensor_dtype(name)))
        for name, shape in shapes.items()
    }
    for name, value in engine._execute(feed).items():
        memory.array(addresses[name], value.shape, value.dtype)[...] = value
    state.executions += 1
