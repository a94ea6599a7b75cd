"""One build: checks, calibration, precisions, and the plan."""

from __future__ import annotations

import json
import operator
import struct
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Callable, Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.fake_cuda import MIB, CuError
from tests.fake_int8 import worst_int8
from tests.fake_tensorrt.callbacks import CACHE_NAME, guarded, usable
from tests.fake_tensorrt.fusion import Fusion
from tests.fake_tensorrt.graph import fake_quantized, onnx_session, with_all_floats_as_outputs, without_type_clash
from tests.fake_tensorrt.operators import INT8_OPS, WEIGHTED

if TYPE_CHECKING:
    from tests.fake_tensorrt.config import IBuilderConfig
    from tests.fake_tensorrt.network import INetworkDefinition, ITensor
    from tests.fake_tensorrt.state import State

MAGIC = b"ftrt"


class Stop(Exception):
    """The build fails; the text is logged as an ERROR."""

    def __init__(self, text: str = "") -> None:
        super().__init__(text)
        self.text = text


class Build:
    """One build: checks, calibration, precision of each layer, fusion, and the plan."""

    def __init__(self, state: State, logger: Any, network: INetworkDefinition, config: IBuilderConfig) -> None:
        self.s, self.logger, self.network, self.config = state, logger, network, config
        if network._graph is None or not network._outputs:
            raise Stop(
                "4: [network.cpp::validate::2965] Error Code 4: Internal Error (Network must have at least one output)"
            )
        self.graph = network._graph
        self.layers = {id(layer._node): layer for layer in network._layers}
        self.ranges: dict[str, float] = {}

    def log(self, severity: str, text: str) -> None:
        self.s.log(self.logger, severity, text)

    def plan(self) -> bytes:
        self.check()
        with self.progress("Building engine", None, 4) as step:
            step()
            if self.config._has("INT8") and not self.graph.has_qdq:
                self.implicit_ranges()
            step()
            self.precision = self.precisions()
            self.fused = Fusion(self)
            entries = self.time_kernels(self.fused.layers)
            step()
            self.log("INFO", f"Total Activation Memory: {self.activation_bytes()}")
            step()
        self.log("VERBOSE", "Engine Layer Information:")
        for layer in self.fused.layers:
            self.log("VERBOSE", f"Layer({layer['LayerType']}): {layer['Name']}, Tactic: {layer['TacticName']}")
        del entries
        return self.serialized()

    def check(self) -> None:
        state, config, network = self.s, self.config, self.network
        self.log("INFO", "Graph optimization time: 0.01 seconds.")
        if network._strongly_typed:
            for name in ("FP16", "INT8", "BF16", "FP8", "INT4"):
                if config._has(name):
                    raise Stop(
                        "IBuilder::buildSerializedNetwork: Error Code 3: API Usage Error (Parameter check failed, "
                        f"condition: !config.getFlag(BuilderFlag::k{name}). {name} precision flag must not "
                        "be set for a "
                        "strongly typed network.)"
                    )
        else:
            self.check_weak_precision()
        self.check_types()
        uint8 = [t for t in (*network._inputs, *network._outputs) if t._dtype == state.DataType.UINT8]
        if uint8 and not state.module.uint8_io:
            raise Stop(
                f"4: [network.cpp::validate] Error Code 4: Internal Error (UINT8 I/O not supported: {uint8[0]._name})"
            )
        self.check_shapes()
        self.check_dla()
        need = state.module.build_needs_mib
        free = state.cuda.free_mib - state.cuda.used_bytes / MIB
        if free < need:
            self.log(
                "WARNING",
                f"Requested amount of GPU memory ({need * MIB} bytes) could not be allocated. There may "
                "not be enough free memory for allocation to succeed.",
            )
            self.log("ERROR", "1: [defaultAllocator.cpp::allocate::31] Error Code 1: Cuda Runtime (out of memory)")
            raise Stop(
                "2: [builder.cpp::buildSerializedNetwork::751] Error Code 2: Internal Error (Assertion "
                "engine != nullptr failed. )"
            )
        if config._has("INT8") and not state.fast_int8:
            self.log(
                "WARNING",
                "Int8 support requested on hardware without native Int8 support, performance will be "
                "negatively affected.",
            )
        level = config._values["hardware_compatibility_level"]
        if level is not None and level.name == "AMPERE_PLUS" and state.cuda.compute_capability < (8, 0):
            raise Stop("Error Code 9: API Usage Error (Hardware compatibility is only supported on Ampere and later)")

    def check_weak_precision(self) -> None:
        """A type in the network needs its flag."""
        asked = [layer._precision for layer in self.network._layers if layer._precision is not None]
        asked += [dtype for layer in self.network._layers for dtype in layer._output_types.values()]
        names = {dtype.name for dtype in asked}
        made = [name for node in self.graph.nodes for name in node.output if name not in self.graph.folded]
        half = any(self.graph.types.get(name) == TensorProto.FLOAT16 for name in (*made, *self.graph.inputs))
        for flag, wanted in (("INT8", self.graph.has_qdq or "INT8" in names), ("FP16", half or "HALF" in names)):
            if wanted and not self.config._has(flag):
                raise Stop(
                    f"4: [network.cpp::validate::2882] Error Code 4: Internal Error ({flag.lower()} "
                    "precision has been set "
                    f"for a layer or layer output, but {flag.lower()} is not configured in the builder)"
                )

    def check_types(self) -> None:
        """A type put on an input or output by hand."""
        for tensor in (*self.network._inputs, *self.network._outputs):
            natural = self.s.dtype_of_onnx(self.graph.types.get(tensor._onnx_name, TensorProto.FLOAT))
            if not tensor._dtype_set or tensor._dtype == natural:
                continue
            if self.network._strongly_typed or self.s.DataType.UINT8 in (tensor._dtype, natural):
                raise Stop(
                    f"4: [network.cpp::validate] Error Code 4: Internal Error (tensor {tensor._name} is "
                    f"{natural.name} in the network and cannot be {tensor._dtype.name})"
                )

    def check_shapes(self) -> None:
        for tensor in self.network._inputs:
            if -1 not in tensor._shape:
                continue
            if not self.config._profiles:
                raise Stop(
                    "4: [network.cpp::validate::3062] Error Code 4: Internal Error (Network has dynamic "
                    "or shape inputs, "
                    "but no optimization profile has been defined.)"
                )
            for profile in self.config._profiles:
                if tensor._name not in profile._shapes:
                    raise Stop(
                        f"4: Error Code 4: Internal Error ({tensor._name}: optimization profile is missing "
                        "values for shape input.)"
                    )

    def check_dla(self) -> None:
        state, config = self.s, self.config
        dla = state.DeviceType.DLA
        wanted = [layer for layer in self.network._layers if config.get_device_type(layer) == dla]
        if not wanted:
            return
        if state.num_dla_cores == 0 or not -1 <= config._values["DLA_core"] < state.num_dla_cores:
            raise Stop(
                "Error Code 3: API Usage Error (Parameter check failed, condition: dlaCore >= 0 && "
                "dlaCore < getNbDLACores())"
            )
        if not (config._has("FP16") or config._has("INT8")) and not self.network._strongly_typed:
            raise Stop("4: Error Code 4: Internal Error (DLA requires FP16 or INT8 precision)")
        fallback = config._has("GPU_FALLBACK")
        for layer in wanted:
            if config.can_run_on_DLA(layer):
                continue
            if not fallback:
                raise Stop(
                    "4: [network.cpp::validate::2836] Error Code 4: Internal Error (Default DLA is enabled but layer "
                    f"{layer._name} is not supported on DLA and falling back to GPU is not enabled.)"
                )
            self.log(
                "WARNING",
                f"Layer '{layer._name}' (Operation): Unsupported on DLA. Switching this layer's device type to GPU.",
            )

    @contextmanager
    def progress(self, name: str, parent: str | None, steps: int) -> Iterator[Callable[[], None]]:
        monitor = self.config._monitor
        if monitor is None:
            yield lambda: None
            return
        done = [0]

        def step() -> None:
            index, done[0] = done[0], done[0] + 1
            if not bool(guarded("step_complete", lambda: monitor.step_complete(name, index), False)):
                raise Stop(
                    "IBuilder::buildSerializedNetwork: Error Code 11: The build was cancelled by the progress monitor"
                )

        guarded("phase_start", lambda: monitor.phase_start(name, parent, steps), None)
        try:
            yield step
        finally:
            guarded("phase_finish", lambda: monitor.phase_finish(name), None)

    def time_kernels(self, layers: list[dict[str, Any]]) -> dict[str, float]:
        cache = self.config._timing_cache
        entries = {} if cache is None else cache._entries
        if cache is None and not self.config._has("DISABLE_TIMING_CACHE"):
            self.log("INFO", "Local timing cache in use. Profiling results in this builder pass will not be stored.")
        with self.progress("Timing graph nodes", "Building engine", max(len(layers), 1)) as step:
            for layer in layers:
                key = f"{layer['LayerType']}:{layer['Name']}:{layer['Outputs'][0]['format']}"
                if key not in entries:
                    self.s.timings += 1
                    entries[key] = 0.01
                step()
        return entries

    # implicit quantization

    def implicit_ranges(self) -> None:
        calibrator = self.config._calibrator
        given = {t._onnx_name: max(map(abs, t._range)) for t in self.network._tensors.values() if t._range is not None}
        if calibrator is None and not given:
            self.log(
                "WARNING",
                "Int8 mode specified but no calibrator specified. Please ensure that you supply Int8 "
                "scales for the network layers manually.",
            )
            self.log(
                "ERROR",
                "4: [standardEngineBuilder.cpp::initCalibrationParams::1460] Error Code 4: Internal Error "
                "(Calibration failure "
                "occurred with no scaling factors detected. This could be due to no int8 calibrator or "
                "insufficient custom "
                "scales for network layers. Please see int8 sample to setup calibration correctly.)",
            )
            raise Stop("Builder failed while configuring INT8 mode.")
        if calibrator is not None:
            self.ranges = self.calibrated(usable(calibrator, self.s.module.IInt8Calibrator))
        self.ranges.update(given)
        floats = (TensorProto.FLOAT, TensorProto.FLOAT16)
        constants = [layer._node.output[0] for layer in self.network._layers if layer._node.op_type == "Constant"]
        made = [name for node in self.graph.nodes for name in node.output if name not in self.graph.folded]
        for name in (*self.graph.inputs, *constants, *made):
            if self.graph.types.get(name) in floats and name not in self.ranges:
                self.log(
                    "WARNING",
                    f"Missing scale and zero-point for tensor {self.network._tensor(name)._name}, expect "
                    "fall back to non-int8 "
                    "implementation for any layer consuming or producing given tensor",
                )

    def calibrated(self, calibrator: Any) -> dict[str, float]:
        self.log("INFO", "Starting Calibration.")
        guarded("get_batch_size", calibrator.get_batch_size, -1)
        cache = guarded("read_calibration_cache", lambda: self.cache_bytes(calibrator), None)
        if cache:
            ranges = self.ranges_of_cache(cache, calibrator)
            if ranges is not None:
                return ranges
        amax, batches = self.run_calibration(calibrator)
        self.log(
            "INFO", f"Post Processing Calibration data in 0.01 seconds. Calibration completed with {batches} batches."
        )
        text = f"{self.cache_header(calibrator)}\n"
        for name, value in amax.items():
            text += f"{self.network._tensor(name)._name}: {struct.pack('>f', np.float32(value / 127.0)).hex()}\n"
        guarded("write_calibration_cache", lambda: calibrator.write_calibration_cache(memoryview(text.encode())), None)
        return amax

    def cache_bytes(self, calibrator: Any) -> bytes | None:
        cache = calibrator.read_calibration_cache()
        return None if cache is None else bytes(memoryview(cache))

    def cache_header(self, calibrator: Any) -> str:
        return f"TRT-{self.s.version_code}-{CACHE_NAME[calibrator._algorithm]}"

    def ranges_of_cache(self, cache: bytes, calibrator: Any) -> dict[str, float] | None:
        lines = cache.decode("utf-8", "replace").splitlines()
        parts = lines[0].split("-")
        mine = self.cache_header(calibrator).split("-")
        if len(parts) != 3 or parts[0] != "TRT" or parts[2] != mine[2]:
            self.log("WARNING", "Calibration table does not match calibrator algorithm type.")
            return None
        if parts[1] != mine[1] and self.s.module.strict_cache_header:
            self.log(
                "WARNING",
                f"Calibration table {lines[0]} is incompatible with this version of TensorRT; it is not used.",
            )
            return None
        names = {tensor._name: name for name, tensor in self.network._tensors.items()}
        ranges = {}
        for line in lines[1:]:
            if not line.strip():
                continue
            name, colon, value = line.rpartition(":")
            try:
                if not colon:
                    raise ValueError
                scale = struct.unpack(">f", bytes.fromhex(value.strip().zfill(8)))[0]
            except (ValueError, struct.error):
                self.log("ERROR", f"Calibration table is corrupt: {line!r}")
                raise Stop("Builder failed while configuring INT8 mode.") from None
            ranges[names.get(name, name)] = scale * 127.0
        self.log("VERBOSE", f"Using the calibration table with {len(ranges)} tensors")
        return ranges

    def run_calibration(self, calibrator: Any) -> tuple[dict[str, float], int]:
        model, names = with_all_floats_as_outputs(self.graph)
        session, inputs = onnx_session(model), self.network._inputs
        amax: dict[str, float] = {}
        batches = 0
        while True:
            pointers = guarded("get_batch", lambda: self.pointers(calibrator, [t._name for t in inputs]), None)
            if not pointers:
                break
            if len(pointers) < len(inputs):
                raise RuntimeError(
                    f"would segfault: get_batch returned {len(pointers)} pointers for {len(inputs)} inputs"
                )
            feed = {}
            for tensor, pointer in zip(inputs, pointers):
                dtype = self.s.numpy_of(tensor._dtype)
                try:
                    view = self.s.cuda.memory.array(pointer, self.calibration_shape(tensor), dtype)
                except CuError as error:
                    self.s.cuda.poison(error.code)
                    raise
                feed[tensor._onnx_name] = view.copy()
            values = dict(zip(names, session.run(names, feed)))
            values.update({name: value for name, value in feed.items() if value.dtype.kind == "f"})
            for name, value in values.items():
                amax[name] = max(amax.get(name, 0.0), float(np.abs(value).max(initial=0.0)))
            self.log("INFO", f"  Calibrated batch {batches} in 0.01 seconds.")
            batches += 1
        if batches == 0:
            amax = {name: float("nan") for name in names}
        return amax, batches

    def pointers(self, calibrator: Any, names: list[str]) -> list[int] | None:
        result = calibrator.get_batch(names)
        if result is None:
            return None
        if isinstance(result, (str, bytes, dict, set)):
            raise TypeError("Unable to cast Python instance to C++ type 'std::vector<unsigned long>'")
        return [operator.index(pointer) for pointer in result]

    def calibration_shape(self, tensor: ITensor) -> tuple[int, ...]:
        if -1 not in tensor._shape:
            return tensor._shape
        profile = self.config._calibration_profile
        if profile is None:
            self.log("WARNING", "Calibration Profile is not defined. Running calibration with Profile 0")
            profile = self.config._profiles[0]
        return profile._shapes[tensor._name][1]

    # precision

    def precisions(self) -> dict[int, str]:
        """The precision of every node, by its position."""
        return {index: self.precision_of(node) for index, node in enumerate(self.graph.nodes)}

    def precision_of(self, node: onnx.NodeProto) -> str:
        graph = self.graph
        out = graph.types.get(node.output[0], TensorProto.FLOAT)
        whole = {
            TensorProto.INT32: "Int32",
            TensorProto.INT64: "Int64",
            TensorProto.BOOL: "Bool",
            TensorProto.UINT8: "UInt8",
        }
        if out in whole and node.op_type != "Cast":
            return "Int32" if self.s.version < (10,) and out == TensorProto.INT64 else whole[out]
        if self.network._strongly_typed:
            base = "Half" if out == TensorProto.FLOAT16 else "Float"
        else:
            base = "Half" if self.config._has("FP16") else "Float"
        asked = self.asked(node)
        if asked in ("Float", "Half"):
            return asked
        if graph.has_qdq:
            return "Int8" if self.explicit_int8(node) else base
        if self.ranges and node.op_type in INT8_OPS:
            touched = [name for name in (*node.input[:1], *node.output) if name]
            if node.op_type in ("Add", "Mul", "Concat"):
                touched = [name for name in (*node.input, *node.output) if name not in graph.folded]
            if all(name in self.ranges for name in touched):
                return "Int8"
        return base

    def asked(self, node: onnx.NodeProto) -> str | None:
        layer = self.layers.get(id(node))
        if layer is None or layer._precision is None or self.network._strongly_typed:
            return None
        if not (self.config._has("OBEY_PRECISION_CONSTRAINTS") or self.config._has("PREFER_PRECISION_CONSTRAINTS")):
            return None
        return {"FLOAT": "Float", "HALF": "Half", "INT8": "Int8"}.get(layer._precision.name)

    def explicit_int8(self, node: onnx.NodeProto) -> bool:
        def dequantized(name: str) -> bool:
            producer = self.graph.producer.get(name)
            return producer is not None and producer.op_type == "DequantizeLinear"

        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            return True
        if node.op_type in WEIGHTED:
            return dequantized(node.input[0]) and dequantized(node.input[1])
        data = [name for name in node.input if name and name not in self.graph.initializers]
        after = self.graph.consumers.get(node.output[0], [])
        return (
            node.op_type in INT8_OPS
            and bool(data)
            and all(dequantized(name) for name in data)
            and bool(after)
            and all(other.op_type == "QuantizeLinear" for other in after)
        )

    # the plan

    def activation_bytes(self) -> int:
        sizes = [int(np.prod([max(d, 1) for d in shape], dtype=np.int64)) for shape in self.graph.shapes.values()]
        return -(-max(sizes, default=1) * 4 // 256) * 256

    def serialized(self) -> bytes:
        state, network, config = self.s, self.network, self.config
        int8 = {index for index, kind in self.precision.items() if kind == "Int8"}
        if self.graph.has_qdq or not self.ranges:
            model = without_type_clash(self.graph.model)
        elif state.module.worst_int8:
            flags = ("OBEY_PRECISION_CONSTRAINTS", "PREFER_PRECISION_CONSTRAINTS")
            constrained = any(config._has(flag) for flag in flags)
            model = worst_int8(self.graph, network._layers, self.ranges, constrained=constrained)
        else:
            model = fake_quantized(self.graph, int8, self.ranges)
        kept = {tensor._onnx_name for tensor in network._outputs}
        for value in [value for value in model.graph.output if value.name not in kept]:
            model.graph.output.remove(value)
        present = {value.name for value in model.graph.output}
        for name in kept - present:
            model.graph.output.append(helper.make_tensor_value_info(name, self.graph.types[name], None))
        header = {
            **state.timing_header(),
            "name": network._values["name"],
            "verbosity": config._values["profiling_verbosity"].name,
            "hardware": getattr(config._values["hardware_compatibility_level"], "name", "NONE"),
            "io": [
                {
                    "name": tensor._name,
                    "onnx": tensor._onnx_name,
                    "mode": mode,
                    "dtype": tensor._dtype.name,
                    "shape": list(tensor._shape),
                }
                for mode, tensors in (("INPUT", network._inputs), ("OUTPUT", network._outputs))
                for tensor in tensors
            ],
            "profiles": [{k: [list(x) for x in v] for k, v in profile._shapes.items()} for profile in config._profiles],
            "layers": self.fused.layers,
            "memory": self.activation_bytes(),
            "dla": any(
                self.config.get_device_type(layer) == state.DeviceType.DLA and self.config.can_run_on_DLA(layer)
                for layer in network._layers
            ),
        }
        return packed(header, model.SerializeToString())


def packed(header: dict[str, Any], model: bytes) -> bytes:
    text = json.dumps(header).encode()
    body = struct.pack("<I", len(text)) + text + zlib.compress(model, 1)
    return MAGIC + struct.pack("<QI", len(body), zlib.crc32(body)) + body
