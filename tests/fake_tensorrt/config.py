"""The builder's configuration: flags, profiles, timing cache, devices."""

from __future__ import annotations

import json
import operator
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.fake_cuda import MIB
from tests.fake_tensorrt.callbacks import usable
from tests.fake_tensorrt.objects import Dims, Managed, Native, stored_attribute
from tests.fake_tensorrt.operators import DLA_OPS, WEIGHTED

if TYPE_CHECKING:
    from tests.fake_tensorrt.builder import Builder
    from tests.fake_tensorrt.network import ILayer


class IOptimizationProfile(Native):
    def _setup(self) -> None:
        self._shapes: dict[str, list[tuple[int, ...]]] = {}
        self._values = {"extra_memory_target": 1.0}

    extra_memory_target = stored_attribute("extra_memory_target", float)

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        shapes = [tuple(int(size) for size in shape) for shape in (min, opt, max)]
        for low, high, which in ((0, 1, "opt"), (1, 2, "max")):
            if len(shapes[low]) != len(shapes[high]) or any(a > b for a, b in zip(shapes[low], shapes[high])):
                raise RuntimeError(f"Shape provided for {which} is inconsistent with other shapes.")
        self._shapes[input] = shapes

    def get_shape(self, input: str) -> list[Dims]:
        return [Dims(shape) for shape in self._shapes.get(input, [])]

    def __bool__(self) -> bool:
        return bool(self._shapes)


class ITimingCache(Native):
    def _setup(self, header: dict[str, Any] | None, entries: dict[str, float]) -> None:
        self._header, self._entries = header, entries

    def serialize(self) -> Any:
        if self._s.fails("trt.ITimingCache.serialize", None):
            return None
        body = json.dumps({"header": self._s.timing_header(), "entries": self._entries}).encode()
        return self._s.host_memory(b"ftrtTC" + struct.pack("<II", len(body), zlib.crc32(body)) + body)

    def combine(self, input_cache: ITimingCache, ignore_mismatch: bool) -> bool:
        if input_cache._header is None or input_cache._header["version"] != self._s.timing_header()["version"]:
            return False
        for key, value in input_cache._entries.items():
            self._entries.setdefault(key, value)
        return True

    def reset(self) -> bool:
        self._entries.clear()
        return True


class IBuilderConfig(Managed):
    def _setup(self, builder: Builder) -> None:
        state = self._s
        self._builder, self._logger = builder, builder._logger
        self._flag_bits = 1 << int(state.BuilderFlag.TF32)
        self._pools: dict[Any, int] = {}
        self._profiles: list[IOptimizationProfile] = []
        self._calibration_profile: IOptimizationProfile | None = None
        self._timing_cache: ITimingCache | None = None
        self._calibrator: Any = None
        self._monitor: Any = None
        self._device_types: dict[int, Any] = {}
        self._previews: dict[Any, bool] = {}
        self._tactics = 0b11111
        self._values = {
            "profiling_verbosity": state.ProfilingVerbosity.LAYER_NAMES_ONLY,
            "builder_optimization_level": 3,
            "hardware_compatibility_level": getattr(getattr(state, "HardwareCompatibilityLevel", None), "NONE", None),
            "default_device_type": state.DeviceType.GPU,
            "DLA_core": -1,
            "profile_stream": 0,
            "max_aux_streams": 0,
            "avg_timing_iterations": 1,
            "engine_capability": state.EngineCapability.STANDARD,
            "plugins_to_serialize": [],
            "quantization_flags": 0,
            "max_workspace_size": 0,
            "tiling_optimization_level": 0,
            "max_num_tactics": -1,
        }

    profiling_verbosity = stored_attribute("profiling_verbosity")
    builder_optimization_level = stored_attribute("builder_optimization_level", int)
    hardware_compatibility_level = stored_attribute("hardware_compatibility_level")
    default_device_type = stored_attribute("default_device_type")
    DLA_core = stored_attribute("DLA_core", int)
    profile_stream = stored_attribute("profile_stream", int)
    max_aux_streams = stored_attribute("max_aux_streams", int)
    avg_timing_iterations = stored_attribute("avg_timing_iterations", int)
    engine_capability = stored_attribute("engine_capability")
    plugins_to_serialize = stored_attribute("plugins_to_serialize", list)
    quantization_flags = stored_attribute("quantization_flags", int)
    max_workspace_size = stored_attribute("max_workspace_size", int)
    tiling_optimization_level = stored_attribute("tiling_optimization_level")
    max_num_tactics = stored_attribute("max_num_tactics", int)

    @property
    def flags(self) -> int:
        return self._flag_bits

    @flags.setter
    def flags(self, value: int) -> None:
        self._flag_bits = int(value)

    @property
    def int8_calibrator(self) -> Any:
        return self._calibrator

    @int8_calibrator.setter
    def int8_calibrator(self, value: Any) -> None:
        self._calibrator = value if value is None else usable(value, self._s.module.IInt8Calibrator)

    @property
    def progress_monitor(self) -> Any:
        return self._monitor

    @progress_monitor.setter
    def progress_monitor(self, value: Any) -> None:
        self._monitor = value if value is None else usable(value, self._s.module.IProgressMonitor)

    def set_flag(self, flag: Any) -> None:
        self._flag_bits |= 1 << self._flag(flag)

    def clear_flag(self, flag: Any) -> None:
        self._flag_bits &= ~(1 << self._flag(flag))

    def get_flag(self, flag: Any) -> bool:
        return bool(self._flag_bits >> self._flag(flag) & 1)

    def _flag(self, flag: Any) -> int:
        if not isinstance(flag, self._s.BuilderFlag):
            raise TypeError("incompatible function arguments: expected tensorrt.tensorrt.BuilderFlag")
        return int(flag)

    def _has(self, name: str) -> bool:
        flag = getattr(self._s.BuilderFlag, name, None)
        return flag is not None and self.get_flag(flag)

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        if not isinstance(pool, self._s.MemoryPoolType):
            raise TypeError("incompatible function arguments: expected tensorrt.tensorrt.MemoryPoolType")
        self._pools[pool] = operator.index(pool_size)

    def get_memory_pool_limit(self, pool: Any) -> int:
        return self._pools.get(pool, self._s.cuda.total_mib * MIB)

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        if not profile:
            return -1
        self._profiles.append(profile)
        return len(self._profiles) - 1

    num_optimization_profiles = property(lambda self: len(self._profiles))

    def set_calibration_profile(self, profile: IOptimizationProfile) -> bool:
        self._calibration_profile = profile
        return True

    def get_calibration_profile(self) -> IOptimizationProfile | None:
        return self._calibration_profile

    def create_timing_cache(self, serialized_timing_cache: Any) -> Any:
        state, data = self._s, bytes(memoryview(serialized_timing_cache))
        if state.fails("trt.IBuilderConfig.create_timing_cache", self._logger):
            return None
        if not data:
            return state.make("ITimingCache", state.timing_header(), {})
        try:
            size, check = struct.unpack_from("<II", data, 6)
            body = data[14:]
            if data[:6] != b"ftrtTC" or len(body) != size or zlib.crc32(body) != check:
                raise ValueError
            content = json.loads(body)
            return state.make("ITimingCache", content["header"], dict(content["entries"]))
        except (ValueError, struct.error):
            state.log(self._logger, "WARNING", "The timing cache could not be read (magic tag does not match)")
            return state.make("ITimingCache", None, {})

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        state, header = self._s, cache._header
        if state.fails("trt.IBuilderConfig.set_timing_cache", self._logger):
            return False
        mine = state.timing_header()
        if header is None or header["version"] != mine["version"] or (header != mine and not ignore_mismatch):
            text = "The timing cache was made by another TensorRT or on another device; it is not used"
            state.log(self._logger, "WARNING", text)
            return False
        self._timing_cache = cache
        return True

    def get_timing_cache(self) -> ITimingCache | None:
        return self._timing_cache

    def can_run_on_DLA(self, layer: ILayer) -> bool:
        return self._s.num_dla_cores > 0 and _runs_on_dla(layer)

    def set_device_type(self, layer: ILayer, device_type: Any) -> None:
        self._device_types[layer._index] = device_type

    def get_device_type(self, layer: ILayer) -> Any:
        return self._device_types.get(layer._index, self._values["default_device_type"])

    def is_device_type_set(self, layer: ILayer) -> bool:
        return layer._index in self._device_types

    def reset_device_type(self, layer: ILayer) -> None:
        self._device_types.pop(layer._index, None)

    def set_preview_feature(self, feature: Any, enable: bool) -> None:
        self._previews[feature] = bool(enable)

    def get_preview_feature(self, feature: Any) -> bool:
        return self._previews.get(feature, False)

    def set_tactic_sources(self, tactic_sources: int) -> bool:
        self._tactics = int(tactic_sources)
        return True

    def get_tactic_sources(self) -> int:
        return self._tactics

    def reset(self) -> None:
        self._setup(self._builder)


def _half_or_int8(graph: Any, node: onnx.NodeProto) -> bool:
    """Whether a node computes in FP16 by its type, or in INT8 because its input and weight are dequantized."""
    makers = [graph.producer.get(name) for name in node.input[:2]]
    int8 = node.op_type in WEIGHTED and all(maker and maker.op_type == "DequantizeLinear" for maker in makers)
    return int8 or graph.types.get(node.output[0]) == TensorProto.FLOAT16


def _runs_on_dla(layer: ILayer) -> bool:
    """Convolutions, pooling, simple activations; nearest Resize by an integer factor; Concat of channels.

    FP16 and INT8 only, which in a strongly typed network the graph says.
    """
    node, network = layer._node, layer._network
    if network._strongly_typed and not _half_or_int8(network._graph, node):
        return False
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if node.op_type == "Resize":
        graph = layer._network._graph
        scales = graph.constant(node.input[2]) if graph is not None and len(node.input) > 2 and node.input[2] else None
        return (
            scales is not None and bool((scales == np.rint(scales)).all()) and attributes.get("mode", b"") == b"nearest"
        )
    if node.op_type == "Concat":
        return attributes.get("axis") == 1
    return node.op_type in DLA_OPS
