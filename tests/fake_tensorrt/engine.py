"""Engines and their inspector."""

from __future__ import annotations

import json
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from tests.fake_cuda import CODES, CuError
from tests.fake_tensorrt.build import packed
from tests.fake_tensorrt.context import dispose
from tests.fake_tensorrt.graph import onnx_session
from tests.fake_tensorrt.objects import Dims, Managed, Native, stored_attribute
from tests.inspector_forms import engine_information, written_layer

if TYPE_CHECKING:
    from tests.fake_tensorrt.runtime import Runtime


class EngineInspector(Native):
    def _setup(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self._values = {"execution_context": None, "error_recorder": None}

    execution_context = stored_attribute("execution_context")
    error_recorder = stored_attribute("error_recorder")

    def _layer(self, layer: dict[str, Any]) -> Any:
        verbosity = self._engine._header["verbosity"]
        if verbosity == "NONE":
            return ""
        return written_layer(layer, self._s.module.inspector_form) if verbosity == "DETAILED" else layer["Name"]

    def get_engine_information(self, format: Any) -> str:
        if self._s.fails("trt.EngineInspector.get_engine_information", self._engine._logger):
            return ""
        header = self._engine._header
        layers = [self._layer(layer) for layer in header["layers"]] if header["verbosity"] != "NONE" else []
        if format == self._s.LayerInformationFormat.JSON:
            return self._s.module.rewritten(
                engine_information(layers, header["io"], self._s.version, self._s.module.inspector_form)
            )
        lines = [
            layer if isinstance(layer, str) else ", ".join(f"{k}: {v}" for k, v in layer.items()) for layer in layers
        ]
        return "\n".join(["Layers:", *lines, "", "Bindings:", *(entry["name"] for entry in header["io"]), ""])

    def get_layer_information(self, layer_index: int, format: Any) -> str:
        layers = self._engine._header["layers"]
        if not 0 <= layer_index < len(layers):
            self._s.log(
                self._engine._logger,
                "ERROR",
                "Error Code 3: API Usage Error (Parameter check failed, condition: layerIndex < mNbLayers)",
            )
            return ""
        layer = self._layer(layers[layer_index])
        if format == self._s.LayerInformationFormat.JSON:
            return json.dumps(layer)
        return layer if isinstance(layer, str) else ", ".join(f"{k}: {v}" for k, v in layer.items())


class ICudaEngine(Managed):
    def _setup(self, runtime: Runtime, header: dict[str, Any], model: bytes) -> None:
        self._runtime, self._logger, self._header, self._model = runtime, runtime._logger, header, model
        self._io = {entry["name"]: entry for entry in header["io"]}
        self._run: Any = None
        self._values = {"error_recorder": None, "weight_streaming_budget_v2": 0}

    error_recorder = stored_attribute("error_recorder")
    weight_streaming_budget_v2 = stored_attribute("weight_streaming_budget_v2", int)
    num_io_tensors = property(lambda self: len(self._io))
    num_layers = property(lambda self: len(self._header["layers"]))
    num_optimization_profiles = property(lambda self: max(len(self._header["profiles"]), 1))
    name = property(lambda self: self._header["name"])
    refittable = property(lambda self: False)
    device_memory_size = property(lambda self: self._header["memory"])
    device_memory_size_v2 = property(lambda self: self._header["memory"])
    streamable_weights_size = property(lambda self: 0)
    num_aux_streams = property(lambda self: 0)
    has_implicit_batch_dimension = property(lambda self: False)
    num_bindings = property(lambda self: len(self._io))
    engine_capability = property(lambda self: self._s.EngineCapability.STANDARD)
    profiling_verbosity = property(lambda self: getattr(self._s.ProfilingVerbosity, self._header["verbosity"]))
    hardware_compatibility_level = property(
        lambda self: getattr(self._s.HardwareCompatibilityLevel, self._header["hardware"])
    )

    def _entry(self, name: str) -> dict[str, Any] | None:
        if not isinstance(name, str):
            raise TypeError("incompatible function arguments: expected str")
        if name not in self._io:
            self._s.log(self._logger, "ERROR", f"3: Error Code 3: API Usage Error (given invalid tensor name: {name})")
        return self._io.get(name)

    def get_tensor_name(self, index: int) -> str | None:
        return list(self._io)[index] if 0 <= index < len(self._io) else None

    def get_tensor_mode(self, name: str) -> Any:
        entry = self._entry(name)
        return self._s.TensorIOMode.NONE if entry is None else getattr(self._s.TensorIOMode, entry["mode"])

    def get_tensor_shape(self, name: str) -> Dims:
        entry = self._entry(name)
        return Dims(() if entry is None else entry["shape"])

    def get_tensor_dtype(self, name: str) -> Any:
        entry = self._entry(name)
        return self._s.DataType.FLOAT if entry is None else getattr(self._s.DataType, entry["dtype"])

    def get_tensor_format(self, name: str) -> Any:
        self._entry(name)
        return self._s.TensorFormat.LINEAR

    def get_tensor_format_desc(self, name: str) -> str:
        entry = self._entry(name)
        if entry is None:
            return ""
        return "Row major linear {} format (kLINEAR)".format(
            {"FLOAT": "FP32", "HALF": "FP16", "UINT8": "UInt8"}.get(entry["dtype"], entry["dtype"].title())
        )

    def get_tensor_location(self, name: str) -> Any:
        self._entry(name)
        return self._s.TensorLocation.DEVICE

    def get_tensor_bytes_per_component(self, name: str) -> int:
        return self._s.numpy_of(self.get_tensor_dtype(name)).itemsize  # type: ignore[no-any-return]

    def get_tensor_components_per_element(self, name: str) -> int:
        return 1

    def get_tensor_vectorized_dim(self, name: str) -> int:
        return -1

    def is_shape_inference_io(self, name: str) -> bool:
        return False

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Dims]:
        profiles = self._header["profiles"]
        if not profiles:
            return [self.get_tensor_shape(name)] * 3
        return [Dims(shape) for shape in profiles[profile_index].get(name, [self._io[name]["shape"]] * 3)]

    def get_tensor_profile_values(self, name: str, profile_index: int) -> list[list[int]]:
        return []

    def serialize(self) -> Any:
        return self._s.host_memory(packed(self._header, self._model))

    def create_engine_inspector(self) -> Any:
        if self._s.fails("trt.ICudaEngine.create_engine_inspector", self._logger):
            return None
        return self._s.make("EngineInspector", self)

    def create_execution_context(self, strategy: Any = None) -> Any:
        state = self._s
        if strategy is not None and strategy == state.ExecutionContextAllocationStrategy.USER_MANAGED:
            return self._context_of_user()
        if state.fails("trt.ICudaEngine.create_execution_context", self._logger):
            return None
        try:
            with state.cuda.runtime("create_execution_context"):
                scratch = state.cuda.device_malloc(self._header["memory"])
        except CuError as error:
            where = "1: [defaultAllocator.cpp::allocate::31] Error Code 1: Cuda Runtime"
            state.log(self._logger, "ERROR", f"{where} ({CODES[error.code][1]})")
            state.log(
                self._logger,
                "ERROR",
                "2: [executionContext.cpp::ExecutionContext::436] Error Code 2: OutOfMemory (no further information)",
            )
            return None
        context = self._context(scratch)
        weakref.finalize(context, dispose, state.cuda, scratch, context._core).atexit = False
        return context

    def create_execution_context_without_device_memory(self) -> Any:
        return self._context_of_user()

    def _context_of_user(self) -> Any:
        """A context on memory that its user sets; the memory outlives it."""
        if self._s.fails("trt.ICudaEngine.create_execution_context", self._logger):
            return None
        context = self._context(None)
        weakref.finalize(context, dispose, self._s.cuda, None, context._core).atexit = False
        return context

    def _context(self, scratch: int | None) -> Any:
        context = self._s.make("IExecutionContext", self, scratch)
        self._s.track("contexts", context)
        return context

    def _execute(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the graph; ``feed`` and the result go by the names of the engine."""
        if self._run is None:
            self._run = onnx_session(onnx.load_model_from_string(self._model))
        wanted = {value.name: value.type for value in self._run.get_inputs()}
        by_onnx = {}
        for name, value in feed.items():
            key = self._io[name]["onnx"]
            by_onnx[key] = value.astype(_NUMPY_OF_ORT.get(wanted[key], value.dtype), copy=True)
        outputs = [entry for entry in self._io.values() if entry["mode"] == "OUTPUT"]
        values = self._run.run([entry["onnx"] for entry in outputs], by_onnx)
        return {
            entry["name"]: value.astype(self._s.numpy_of(getattr(self._s.DataType, entry["dtype"])), copy=False)
            for entry, value in zip(outputs, values)
        }


_NUMPY_OF_ORT = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}
