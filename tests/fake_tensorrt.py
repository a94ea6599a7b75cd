"""The Python module ``tensorrt`` without a GPU, for any version from 8.5 to 11.

Written from the sources of the bindings (``pyCore.cpp``, ``pyInt8.cpp``) and of the ONNX parser, and messages in issue
threads. Names, parameters and numbers are those of the compiled bindings (``tests.tensorrt_surface``). What a version
does not have does not exist: AttributeError. Whatever returns None or False in TensorRT does so here, after an ERROR
through the logger. Engines run in ONNX Runtime, on the lazy streams of ``tests.fake_cuda``.
"""

from __future__ import annotations

import ctypes
import functools
import inspect
import json
import operator
import os
import re
import struct
import sys
import time
import types
import weakref
import zlib
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from tests.fake_cuda import CODES, MIB, CuError, FakeCuda, Faults
from tests.fake_int8 import worst_int8
from tests.inspector_forms import engine_information, form_of, written_layer
from tests.tensorrt_surface import ENUMS, surface_of

_IMPORTERS = json.loads((Path(__file__).parent / "importers.json").read_text())["operators"]
IMPORTERS = {
    tuple(map(int, name.split("."))): frozenset(names.split())
    for name, names in _IMPORTERS.items()
    if not name.startswith("rtx")
}
"""Version -> the operators that its ONNX parser imports, as NVIDIA's sources define them. The opset plays no part: the
parser reads what is newer than itself by the newest definition that it knows."""
MAGIC = b"ftrt"
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
FUSED_ACTIVATIONS = ("Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSwish", "HardSigmoid", "Tanh", "PRelu")
INT8_OPS = (*WEIGHTED, *FUSED_ACTIVATIONS, "Add", "Mul", "Concat", "Resize", "MaxPool", "AveragePool")
DLA_OPS = {"Conv", "ConvTranspose", "MaxPool", "AveragePool", "Relu", "Clip", "Sigmoid", "Tanh", "Add", "Mul", "Concat"}

LAYER_OF_OP = {
    "Conv": "CONVOLUTION",
    "ConvTranspose": "DECONVOLUTION",
    "MaxPool": "POOLING",
    "AveragePool": "POOLING",
    "GlobalAveragePool": "REDUCE",
    "Concat": "CONCATENATION",
    "Softmax": "SOFTMAX",
    "LogSoftmax": "SOFTMAX",
    "Resize": "RESIZE",
    "Upsample": "RESIZE",
    "ArgMax": "TOPK",
    "ArgMin": "TOPK",
    "TopK": "TOPK",
    "Cast": "CAST",
    "QuantizeLinear": "QUANTIZE",
    "DequantizeLinear": "DEQUANTIZE",
    "Slice": "SLICE",
    "Split": "SLICE",
    "Pad": "SLICE",
    "Expand": "SLICE",
    "Gather": "GATHER",
    "MatMul": "MATRIX_MULTIPLY",
    "Gemm": "MATRIX_MULTIPLY",
    "Constant": "CONSTANT",
    "Identity": "IDENTITY",
    "Dropout": "IDENTITY",
    "BatchNormalization": "SCALE",
    "InstanceNormalization": "NORMALIZATION",
    "LayerNormalization": "NORMALIZATION",
    "Shape": "SHAPE",
    "Where": "SELECT",
    "ConstantOfShape": "FILL",
    "Range": "FILL",
    "PRelu": "PARAMETRIC_RELU",
    "Einsum": "EINSUM",
    "ReduceMean": "REDUCE",
    "ReduceSum": "REDUCE",
    "ReduceMax": "REDUCE",
    "ReduceMin": "REDUCE",
}
for _op in (
    "Relu",
    "Clip",
    "LeakyRelu",
    "Sigmoid",
    "Tanh",
    "HardSigmoid",
    "HardSwish",
    "Elu",
    "Selu",
    "Softplus",
    "Gelu",
):
    LAYER_OF_OP[_op] = "ACTIVATION"
for _op in ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "DepthToSpace", "SpaceToDepth"):
    LAYER_OF_OP[_op] = "SHUFFLE"
for _op in ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Mod", "Sum", "And", "Or", "Equal", "Greater", "Less"):
    LAYER_OF_OP[_op] = "ELEMENTWISE"
for _op in ("Sqrt", "Exp", "Log", "Abs", "Neg", "Floor", "Ceil", "Round", "Erf", "Reciprocal", "Not", "Sin", "Cos"):
    LAYER_OF_OP[_op] = "UNARY"

_BEFORE_8_6 = {"CAST": "IDENTITY", "NORMALIZATION": "PLUGIN_V2"}
"""What 8.5's parser adds for layers that came with 8.6."""
_WEIGHT_INPUTS = {
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "BatchNormalization": (1, 2, 3, 4),
    "Clip": (1, 2),
    "ConstantOfShape": (0,),
    "Dropout": (1, 2),
    "Expand": (1,),
    "InstanceNormalization": (1, 2),
    "Pad": (1, 2, 3),
    "Range": (0, 1, 2),
    "ReduceMax": (1,),
    "ReduceMean": (1,),
    "ReduceMin": (1,),
    "ReduceSum": (1,),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "TopK": (1,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
}
"""Inputs that the ONNX parser reads as weights or shapes; any other initializer becomes a CONSTANT layer."""
_BROADCASTING = {op for op, layer in LAYER_OF_OP.items() if layer == "ELEMENTWISE"} | {"MatMul", "PRelu", "Where"}


# --- small types -----------------------------------------------------------------------------------------------------


class _Enum:
    """A pybind11 enum: int() works, arithmetic does not, and order only where the bindings ask for it."""

    __members__: dict[str, Any]
    name: str
    value: int

    def __new__(cls, value: int) -> Any:
        if not isinstance(value, int):
            raise TypeError(f"__init__(): incompatible constructor arguments: {cls.__name__}(value: int)")
        for member in cls.__members__.values():
            if member.value == value:
                return member
        return cls._made("???", value)

    @classmethod
    def _made(cls, name: str, value: int) -> Any:
        made = object.__new__(cls)
        made.__dict__.update(name=name, value=int(value))
        return made

    def __int__(self) -> int:
        return self.value

    __index__ = __int__

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.value == other.value  # type: ignore[attr-defined]

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return self.value

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self.name}"

    def __repr__(self) -> str:
        return f"<{self}: {self.value}>"


class _OrderedEnum(_Enum):
    def _number(self, other: Any) -> int:
        if type(other) is not type(self):
            raise TypeError("Expected an enumeration of matching type!")
        return int(other)

    def __lt__(self, other: Any) -> bool:
        return self.value < self._number(other)

    def __le__(self, other: Any) -> bool:
        return self.value <= self._number(other)

    def __gt__(self, other: Any) -> bool:
        return self.value > self._number(other)

    def __ge__(self, other: Any) -> bool:
        return self.value >= self._number(other)


def _enum(enum_name: str, base: type[_Enum], members: dict[str, int]) -> Any:
    cls: Any = type(enum_name, (base,), {"__members__": {}, "__module__": "tensorrt.tensorrt"})
    for key, number in members.items():
        cls.__members__[key] = cls._made(key, number)
        setattr(cls, key, cls.__members__[key])
    return cls


class Dims:
    """Like a tuple, but none; it compares with lists and tuples only."""

    MAX_DIMS = property(lambda self: 8)

    def __init__(self, shape: Sequence[int] = ()) -> None:
        if isinstance(shape, str):
            raise TypeError("__init__(): incompatible constructor arguments: Dims(shape: List[int])")
        self._dims = tuple(operator.index(size) for size in shape)
        if len(self._dims) > 8:
            raise ValueError(f"Input length {len(self._dims)}. Max expected length is 8")

    def __len__(self) -> int:
        return len(self._dims)

    def __getitem__(self, index: Any, /) -> Any:
        return self._dims[index]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (tuple, list)):
            raise TypeError("__eq__(): incompatible function arguments: expected a list or a tuple")
        return self._dims == tuple(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return str(self._dims)

    __str__ = __repr__


class _Native:
    """An object of the bindings: no constructor and no attributes but its own."""

    _s: _State

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError(f"tensorrt.tensorrt.{type(self).__name__}: No constructor defined!")

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            found = getattr(type(self), name, None)
            if not isinstance(found, property):
                raise AttributeError(f"'tensorrt.tensorrt.{type(self).__name__}' object has no attribute '{name}'")
            if found.fset is None:
                raise AttributeError(f"can't set attribute '{name}'")
        object.__setattr__(self, name, value)


class _Managed(_Native):
    """One that can stand in a ``with``, to no effect."""

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


def _stored(name: str, kind: Callable[[Any], Any] = lambda value: value) -> property:
    """A readable and writable attribute."""

    def get(self: Any) -> Any:
        return self._values[name]

    def put(self: Any, value: Any) -> None:
        self._values[name] = kind(value)

    return property(get, put)


class IHostMemory(ctypes.c_ubyte * 0):  # type: ignore[misc]
    """A buffer and nothing else. (Before Python 3.12 only what is made in C can be one: an array of ctypes.)"""

    _s: _State

    def __init__(self, *args: Any) -> None:
        raise TypeError("tensorrt.tensorrt.IHostMemory: No constructor defined!")

    @property
    def nbytes(self) -> int:
        return ctypes.sizeof(self)

    @property
    def dtype(self) -> Any:
        return self._s.DataType.INT8

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def __len__(self) -> int:
        raise TypeError("object of type 'tensorrt.tensorrt.IHostMemory' has no len()")

    def __getitem__(self, index: Any) -> Any:
        raise TypeError("'tensorrt.tensorrt.IHostMemory' object is not subscriptable")

    def __iter__(self) -> Any:
        raise TypeError("'tensorrt.tensorrt.IHostMemory' object is not iterable")

    def __bool__(self) -> bool:
        return True


# --- what the application implements -----------------------------------------------------------------------------


class _Checked(type):
    """pybind11's metaclass: an __init__ that forgets its base is a TypeError."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__call__(*args, **kwargs)
        if not made._initialised:
            bound = next(base for base in cls.__mro__ if "_s" in vars(base))
            name = f"{bound.__module__}.{bound.__name__}"
            raise TypeError(f"{name}.__init__() must be called when overriding __init__")
        return made


class _Trampoline(metaclass=_Checked):
    """A class to derive from. What is not overridden says so and answers with nothing."""

    _initialised = False

    def __init__(self) -> None:
        self._initialised = True

    def __setattr__(self, name: str, value: Any) -> None:
        if "_s" in vars(type(self)) and not hasattr(type(self), name):
            raise AttributeError(f"'tensorrt.tensorrt.{type(self).__name__}' object has no attribute '{name}'")
        object.__setattr__(self, name, value)


def _pure_virtual(name: str) -> None:
    text = f'Tried to call pure virtual function "{name}"'
    print(f"[ERROR] Exception caught in {name.rpartition('::')[2]}(): {text}", file=sys.stderr)


def _usable(value: Any, base: Any) -> Any:
    if not isinstance(value, base):
        raise TypeError(f"incompatible function arguments: expected tensorrt.tensorrt.{base.__name__}, got {value!r}")
    return value


class ILogger(_Trampoline):
    def log(self, severity: Any, msg: str) -> None:
        _pure_virtual("ILogger::log")

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


class Logger(ILogger):
    min_severity: Any = property(lambda self: self._min_severity, lambda self, value: self._set(value))
    _min_severity: Any = None

    def __init__(self, min_severity: Any = None) -> None:
        ILogger.__init__(self)
        self._set(self.WARNING if min_severity is None else min_severity)  # type: ignore[attr-defined]

    def _set(self, value: Any) -> None:
        self._min_severity = value

    def log(self, severity: Any, msg: str) -> None:
        if severity <= self.min_severity:
            print(f"[TRT] [{severity.name[0]}] {msg}", file=sys.stderr)


class IProfiler(_Trampoline):
    def report_layer_time(self, layer_name: str, ms: float) -> None:
        _pure_virtual("IProfiler::report_layer_time")


class Profiler(IProfiler):
    def report_layer_time(self, layer_name: str, ms: float) -> None:
        print(f"{layer_name}: {ms}ms")


class IProgressMonitor(_Trampoline):
    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        _pure_virtual("IProgressMonitor::phase_start")

    def step_complete(self, phase_name: str, step: int) -> bool:
        _pure_virtual("IProgressMonitor::step_complete")
        return False

    def phase_finish(self, phase_name: str) -> None:
        _pure_virtual("IProgressMonitor::phase_finish")


class IInt8Calibrator(_Trampoline):
    _algorithm = ""

    def get_batch_size(self) -> int:
        _pure_virtual("Derived::get_batch_size")
        return -1

    def get_algorithm(self) -> Any:
        return getattr(self._s.CalibrationAlgoType, self._algorithm)  # type: ignore[attr-defined]

    def get_batch(self, names: list[str]) -> Any:
        return []

    def read_calibration_cache(self) -> Any:
        raise TypeError("Unable to convert function return value to a Python type!")

    def write_calibration_cache(self, cache: Any) -> None:
        return None


class IInt8EntropyCalibrator2(IInt8Calibrator):
    _algorithm = "ENTROPY_CALIBRATION_2"


class IInt8MinMaxCalibrator(IInt8Calibrator):
    _algorithm = "MINMAX_CALIBRATION"


class IInt8EntropyCalibrator(IInt8Calibrator):
    _algorithm = "ENTROPY_CALIBRATION"


_CACHE_NAME = {
    "ENTROPY_CALIBRATION_2": "EntropyCalibration2",
    "MINMAX_CALIBRATION": "MinMaxCalibration",
    "ENTROPY_CALIBRATION": "EntropyCalibration",
}


def _caught(name: str, call: Callable[[], Any], otherwise: Any) -> Any:
    """pyInt8.cpp and pyCore.cpp: an exception of a callback is printed and stands for a value."""
    try:
        return call()
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        print(f"[ERROR] Exception caught in {name}(): {text}", file=sys.stderr)
        return otherwise


# --- the ONNX graph ---------------------------------------------------------------------------------------------------


class _Graph:
    """An ONNX model with the shape and type of every tensor."""

    def __init__(self, model: onnx.ModelProto) -> None:
        with suppress(Exception):
            model = shape_inference.infer_shapes(model)
        self.model = model
        graph = model.graph
        self.nodes = list(graph.node)
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        for node in self.nodes:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
                self.initializers[node.output[0]] = node.attribute[0].t
        self.types: dict[str, int] = {name: tensor.data_type for name, tensor in self.initializers.items()}
        self.shapes: dict[str, tuple[int, ...]] = {name: tuple(t.dims) for name, t in self.initializers.items()}
        for value in (*graph.value_info, *graph.input, *graph.output):
            tensor = value.type.tensor_type
            self.types[value.name] = tensor.elem_type
            if tensor.HasField("shape"):
                self.shapes[value.name] = tuple(
                    d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim
                )
        self.inputs = [value.name for value in graph.input if value.name not in self.initializers]
        self.outputs = [value.name for value in graph.output]
        self.producer = {name: node for node in self.nodes for name in node.output}
        self.consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                self.consumers.setdefault(name, []).append(node)

        self.folded = set(self.initializers)
        """Tensors that are made from constants alone."""
        for node in self.nodes:
            if all(name in self.folded for name in node.input if name):
                self.folded.update(node.output)

    def constant(self, name: str) -> np.ndarray | None:
        """The value of an initializer, also behind a Cast to float."""
        if name in self.initializers:
            return numpy_helper.to_array(self.initializers[name])
        node = self.producer.get(name)
        if node is None or node.op_type not in ("Cast", "Identity") or self.types.get(name) != TensorProto.FLOAT:
            return None
        value = self.constant(node.input[0])
        return None if value is None else value.astype(np.float32)

    def is_constant_chain(self, name: str, through: tuple[str, ...]) -> bool:
        """An initializer, or one behind the given operators."""
        if name in self.initializers:
            return True
        node = self.producer.get(name)
        return node is not None and node.op_type in through and self.is_constant_chain(node.input[0], through)

    def name_of(self, node: onnx.NodeProto) -> str:
        if node.name:
            return node.name
        index = next(i for i, other in enumerate(self.nodes) if other is node)
        return f"(Unnamed Layer* {index}) [{LAYER_OF_OP.get(node.op_type, node.op_type).title()}]"

    @property
    def has_qdq(self) -> bool:
        return any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in self.nodes)


def _session(model: onnx.ModelProto) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _without_type_clash(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without the intermediate shapes, which no longer hold."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    return copy


def _with_all_floats_as_outputs(graph: _Graph) -> tuple[onnx.ModelProto, list[str]]:
    copy = _without_type_clash(graph.model)
    del copy.graph.output[:]
    floats = (TensorProto.FLOAT, TensorProto.FLOAT16)
    made = [name for node in graph.nodes for name in node.output if name not in graph.folded]
    names = [name for name in made if graph.types.get(name) in floats]
    copy.graph.output.extend(helper.make_tensor_value_info(name, graph.types[name], None) for name in names)
    return copy, names


def _fake_quantized(graph: _Graph, int8_nodes: set[int], ranges: dict[str, float]) -> onnx.ModelProto:
    """Implicit INT8: each INT8 layer reads its activations and weights through a quantizer."""
    copy = _without_type_clash(graph.model)
    nodes, made = [], set()
    for index, node in enumerate(copy.graph.node):
        if index in int8_nodes and node.op_type in WEIGHTED and node.input[0] in ranges:
            source = node.input[0]
            quantized = f"{source}::int8"
            if quantized not in made:
                made.add(quantized)
                scale = np.float32(max(ranges[source], 1e-12) / 127.0)
                copy.graph.initializer.append(numpy_helper.from_array(np.array(scale), f"{source}::scale"))
                copy.graph.initializer.append(numpy_helper.from_array(np.array(0, np.int8), f"{source}::zero"))
                rest = [f"{source}::scale", f"{source}::zero"]
                nodes.append(helper.make_node("QuantizeLinear", [source, *rest], [f"{source}::q"]))
                nodes.append(helper.make_node("DequantizeLinear", [f"{source}::q", *rest], [quantized]))
            node.input[0] = quantized
            weight = graph.constant(node.input[1])
            if weight is not None and weight.ndim > 1:
                axis = 1 if node.op_type in ("ConvTranspose", "MatMul") else 0
                rest_axes = tuple(i for i in range(weight.ndim) if i != axis)
                step = np.maximum(np.abs(weight).max(axis=rest_axes, keepdims=True) / 127.0, 1e-12)
                rounded = (np.rint(weight / step) * step).astype(weight.dtype)
                name = f"{node.input[1]}::int8"
                if name not in made:
                    made.add(name)
                    copy.graph.initializer.append(numpy_helper.from_array(rounded, name))
                node.input[1] = name
        nodes.append(node)
    kept = [onnx.NodeProto() for _ in nodes]
    for new, old in zip(kept, nodes):
        new.CopyFrom(old)
    del copy.graph.node[:]
    copy.graph.node.extend(kept)
    return copy


# --- network and parser -----------------------------------------------------------------------------------------------


class ITensor(_Native):
    def _setup(self, network: INetworkDefinition, name: str, dtype: Any, shape: Sequence[int]) -> None:
        self._network, self._onnx_name, self._name = network, name, name
        self._dtype, self._shape, self._range = dtype, tuple(shape), None
        self._dtype_set = False
        self._values = {
            "allowed_formats": 8191,
            "location": self._s.TensorLocation.DEVICE,
            "broadcast_across_batch": False,
        }

    allowed_formats = _stored("allowed_formats", int)
    location = _stored("location")
    broadcast_across_batch = _stored("broadcast_across_batch")

    @property
    def name(self) -> str:
        return self._name

    @name.setter
    def name(self, value: str) -> None:
        self._name = str(value)

    @property
    def shape(self) -> Dims:
        return Dims(self._shape)

    @shape.setter
    def shape(self, value: Sequence[int]) -> None:
        self._shape = tuple(int(size) for size in value)

    @property
    def dtype(self) -> Any:
        return self._dtype

    @dtype.setter
    def dtype(self, value: Any) -> None:
        if not isinstance(value, self._s.DataType):
            raise TypeError("incompatible function arguments: expected tensorrt.tensorrt.DataType")
        self._dtype, self._dtype_set = value, True

    @property
    def is_network_input(self) -> bool:
        return any(tensor is self for tensor in self._network._inputs)

    @property
    def is_network_output(self) -> bool:
        return any(tensor is self for tensor in self._network._outputs)

    is_shape_tensor = property(lambda self: False)
    is_execution_tensor = property(lambda self: True)

    def set_dynamic_range(self, min: float, max: float) -> bool:
        if self._s.fails("trt.ITensor.set_dynamic_range", self._network._logger):
            return False
        if not (np.isfinite(min) and np.isfinite(max)) or min > max:
            self._s.log(self._network._logger, "ERROR", f"Invalid dynamic range for tensor {self._name}")
            return False
        self._range = (float(min), float(max))
        return True

    @property
    def dynamic_range(self) -> tuple[float, float] | None:
        return self._range

    @dynamic_range.setter
    def dynamic_range(self, value: Sequence[float]) -> None:
        if len(value) != 2:
            raise ValueError("Dynamic range must contain exactly 2 elements")
        if not self.set_dynamic_range(*value):
            raise RuntimeError("Error in set dynamic range")

    def reset_dynamic_range(self) -> None:
        self._range = None


class ILayer(_Native):
    def _setup(
        self, network: INetworkDefinition, node: onnx.NodeProto, inputs: list[ITensor], outputs: list[ITensor]
    ) -> None:
        self._network, self._index, self._node = network, len(network._layers), node
        graph = network._graph
        assert graph is not None
        self._name = node.name or graph.name_of(node)
        kind = LAYER_OF_OP.get(node.op_type, "ELEMENTWISE")
        self._type = self._s.LayerType.__members__.get(kind) or getattr(self._s.LayerType, _BEFORE_8_6[kind])
        self._inputs, self._outputs = inputs, outputs
        self._precision: Any = None
        self._output_types: dict[int, Any] = {}
        imported = any(node is other for other in graph.nodes)
        self._values = {"metadata": f"[ONNX Layer: {self._name}]" if imported else ""}

    metadata = _stored("metadata", str)

    @property
    def name(self) -> str:
        return self._name

    @name.setter
    def name(self, value: str) -> None:
        self._name = str(value)

    type = property(lambda self: self._type)
    num_inputs = property(lambda self: len(self._inputs))
    num_outputs = property(lambda self: len(self._outputs))

    def get_input(self, index: int) -> ITensor | None:
        return self._inputs[index] if 0 <= index < len(self._inputs) else None

    def get_output(self, index: int) -> ITensor | None:
        return self._outputs[index] if 0 <= index < len(self._outputs) else None

    def get_output_type(self, index: int) -> Any:
        return self._output_types.get(index, self._outputs[index]._dtype)

    @property
    def precision(self) -> Any:
        return self._s.DataType.FLOAT if self._precision is None else self._precision

    @precision.setter
    def precision(self, value: Any) -> None:
        self._precision = value

    precision_is_set = property(lambda self: self._precision is not None)

    def reset_precision(self) -> None:
        self._precision = None

    def set_output_type(self, index: int, dtype: Any) -> None:
        self._output_types[index] = dtype

    def output_type_is_set(self, index: int) -> bool:
        return index in self._output_types

    def reset_output_type(self, index: int) -> None:
        self._output_types.pop(index, None)


class INetworkDefinition(_Managed):
    def _setup(self, builder: Builder, flags: int) -> None:
        self._builder, self._logger, self._flags = builder, builder._logger, flags
        self._graph: _Graph | None = None
        self._tensors: dict[str, ITensor] = {}
        self._layers: list[ILayer] = []
        self._inputs: list[ITensor] = []
        self._outputs: list[ITensor] = []
        self._values = {"name": "Unnamed Network 0", "error_recorder": None}

    name = _stored("name", str)
    error_recorder = _stored("error_recorder")
    num_layers = property(lambda self: len(self._layers))
    num_inputs = property(lambda self: len(self._inputs))
    num_outputs = property(lambda self: len(self._outputs))
    flags = property(lambda self: self._flags)
    builder = property(lambda self: self._builder)
    has_implicit_batch_dimension = property(lambda self: self._implicit_batch)
    _implicit_batch = property(lambda self: self._s.version < (10,) and not self._flags & 1)

    def get_flag(self, flag: Any) -> bool:
        return bool(self._flags >> int(flag) & 1)

    def _tensor(self, name: str) -> ITensor:
        if name not in self._tensors:
            graph = self._graph
            assert graph is not None
            dtype = self._s.dtype_of_onnx(graph.types.get(name, TensorProto.FLOAT))
            self._tensors[name] = self._s.make("ITensor", self, name, dtype, graph.shapes.get(name, ()))
        return self._tensors[name]

    def _fill(self, graph: _Graph) -> None:
        self._graph = graph
        self._inputs = [self._tensor(name) for name in graph.inputs]
        for node in graph.nodes:
            if node.op_type != "Constant":
                sources = self._sources(graph, node)
                made = [self._tensor(name) for name in node.output if name]
                if node.op_type == "Gemm" and len(sources) > 2:
                    sources = self._multiplied(graph, node, sources)
                    node = helper.make_node("Add", node.input[2:], node.output, f"{graph.name_of(node)}_bias")
                self._layers.append(self._s.make("ILayer", self, node, sources, made))
        self._outputs = [self._operand(graph, name) for name in graph.outputs]
        self._values["name"] = graph.model.graph.name or "Unnamed Network 0"

    def _multiplied(self, graph: _Graph, node: onnx.NodeProto, sources: list[ITensor]) -> list[ITensor]:
        """Of a Gemm the product, which nobody named, and the bias, which another layer adds."""
        name, shape = self._unnamed("Matrix Multiply", graph.name_of(node)), graph.shapes.get(node.output[0], ())
        made = self._tensors[name] = self._s.make("ITensor", self, name, sources[0]._dtype, shape)
        self._layers.append(self._s.make("ILayer", self, node, sources[:2], [made]))
        return [made, self._with_rank(graph, sources[2], len(shape))]

    def _sources(self, graph: _Graph, node: onnx.NodeProto) -> list[ITensor]:
        """What the layer of a node reads; the parser adds layers for constants and for lower ranks before it."""
        kept = _WEIGHT_INPUTS.get(node.op_type, ())
        names = [name for i, name in enumerate(node.input) if name and not (i in kept and name in graph.initializers)]
        sources = [self._operand(graph, name) for name in names]
        if node.op_type in _BROADCASTING and all(name in graph.shapes for name in names):
            rank = max(len(source._shape) for source in sources)
            sources = [self._with_rank(graph, source, rank) for source in sources]
        return sources

    def _operand(self, graph: _Graph, name: str) -> ITensor:
        """A tensor; an initializer becomes one through a CONSTANT layer of its name, made at its first use."""
        if name not in graph.initializers or name in self._tensors:
            return self._tensor(name)
        made = self._tensor(name)
        made._name = self._unnamed("Constant", name)
        node = helper.make_node("Constant", [], [name], name)
        self._layers.append(self._s.make("ILayer", self, node, [], [made]))
        return made

    def _with_rank(self, graph: _Graph, source: ITensor, rank: int) -> ITensor:
        """``source``, behind a SHUFFLE layer that puts ones before its shape where it has fewer dimensions."""
        if len(source._shape) == rank:
            return source
        layer = f"(Unnamed Layer* {len(self._layers)}) [Shuffle]"
        if self._s.version >= (10,):
            count = sum(other._name.startswith("ONNXTRT_Broadcast") for other in self._layers)
            layer = f"ONNXTRT_Broadcast_{count}" if count else "ONNXTRT_Broadcast"
        name = self._unnamed("Shuffle", layer)
        shape = (1,) * (rank - len(source._shape)) + source._shape
        made = self._tensors[name] = self._s.make("ITensor", self, name, source._dtype, shape)
        node = helper.make_node("Reshape", [source._onnx_name], [name], layer)
        self._layers.append(self._s.make("ILayer", self, node, [source], [made]))
        return made

    def _unnamed(self, kind: str, layer: str) -> str:
        """What a tensor that nobody named is called: after its layer's number in 8.x, after its name from 10.1 on."""
        if self._s.version < (10,):
            return f"(Unnamed Layer* {len(self._layers)}) [{kind}]_output"
        return f"{layer}_output"

    def get_layer(self, index: int) -> ILayer | None:
        return self._layers[index] if 0 <= index < len(self._layers) else None

    def get_input(self, index: int) -> ITensor | None:
        return self._inputs[index] if 0 <= index < len(self._inputs) else None

    def get_output(self, index: int) -> ITensor | None:
        return self._outputs[index] if 0 <= index < len(self._outputs) else None

    def __len__(self) -> int:
        return len(self._layers)

    def __getitem__(self, index: int, /) -> ILayer:
        return self._layers[index]

    def mark_output(self, tensor: ITensor) -> None:
        if not any(other is tensor for other in self._outputs):
            self._outputs.append(tensor)

    def unmark_output(self, tensor: ITensor) -> None:
        self._outputs = [other for other in self._outputs if other is not tensor]

    @property
    def _strongly_typed(self) -> bool:
        if self._s.version >= (11,):
            return True
        return self._s.version >= (10,) and bool(self._flags & 2)


class ParserError(_Native):
    def _setup(self, code: str, desc: str, node: int, name: str = "", op: str = "", func: str = "parseNode") -> None:
        self._fields = (getattr(self._s.ErrorCode, code), desc, node, name, op, func)

    def code(self) -> Any:
        return self._fields[0]

    def desc(self) -> str:
        return self._fields[1]

    def file(self) -> str:
        return "ModelImporter.cpp"

    def line(self) -> int:
        return 836

    def func(self) -> str:
        return self._fields[5]

    def node(self) -> int:
        return self._fields[2]

    def node_name(self) -> str:
        return self._fields[3]

    def node_operator(self) -> str:
        return self._fields[4]

    def local_function_stack(self) -> list[str]:
        return []

    def local_function_stack_size(self) -> int:
        return 0

    def __str__(self) -> str:
        code, desc, node, name, op, func = self._fields
        where = f" (node {node} with name: {name}, operator: {op})" if op else ""
        return f"In {func}:{self.line()} [{code.value}]{where}: {desc}"

    __repr__ = __str__


class _Refused(Exception):
    def __init__(self, code: str, desc: str) -> None:
        super().__init__(desc)
        self.code, self.desc = code, desc


class OnnxParser(_Managed):
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self._logger = _usable(logger, self._s.module.ILogger)
        if not isinstance(network, self._s.module.INetworkDefinition):
            raise TypeError("__init__(): incompatible constructor arguments")
        if self._s.fails("trt.OnnxParser", logger):
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self._network = network
        self._errors: list[ParserError] = []
        self._values = {"flags": 1}
        self._s.track("parsers", self)

    flags = _stored("flags", int)

    num_errors = property(lambda self: len(self._errors))

    def get_error(self, index: int) -> ParserError | None:
        return self._errors[index] if 0 <= index < len(self._errors) else None

    def clear_errors(self) -> None:
        self._errors.clear()

    def set_flag(self, flag: Any) -> None:
        self._values["flags"] |= 1 << int(flag)

    def clear_flag(self, flag: Any) -> None:
        self._values["flags"] &= ~(1 << int(flag))

    def get_flag(self, flag: Any) -> bool:
        return bool(self._values["flags"] >> int(flag) & 1)

    def supports_operator(self, op_name: str) -> bool:
        return op_name in self._s.importers

    def parse_from_file(self, model: str) -> bool:
        if not os.path.isfile(model):
            self._s.log(self._logger, "ERROR", f"Could not open file {model}")
            self._refuse("MODEL_DESERIALIZE_FAILED", f"Failed to open file: {model}")
            return False
        with open(model, "rb") as file:
            return self.parse(file.read(), model)

    def parse(self, model: Any, path: str | None = None) -> bool:
        data = bytes(memoryview(model))
        if self._s.fails("trt.OnnxParser.parse", self._logger):
            self._refuse("INTERNAL_ERROR", "injected failure")
            return False
        if self._network._implicit_batch:
            text = (
                "This version of the ONNX parser only supports TensorRT INetworkDefinitions with an explicit batch "
                "dimension. Please ensure the network was created using the EXPLICIT_BATCH "
                "NetworkDefinitionCreationFlag."
            )
            self._refuse("INVALID_VALUE", text)
            return False
        try:
            proto = onnx.load_model_from_string(data)
            readable = bool(proto.graph.node) or bool(proto.graph.output)
        except Exception:
            readable = False
        if not readable:
            self._refuse("MODEL_DESERIALIZE_FAILED", "Failed to parse ONNX model from the given buffer")
            return False
        if any(tensor.data_location == TensorProto.EXTERNAL for tensor in proto.graph.initializer):
            if path is None:
                self._refuse("INVALID_VALUE", "Failed to open file: the weights are external and no path was given")
                return False
            onnx.load_external_data_for_model(proto, os.path.dirname(os.path.abspath(path)))
        return self._import(_Graph(proto))

    def _import(self, graph: _Graph) -> bool:
        opset = max((entry.version for entry in graph.model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
        info = (
            f"----------------------------------------------------------------\n"
            f"ONNX IR version:  0.0.{graph.model.ir_version}\nOpset version:    {opset}"
        )
        self._s.log(self._logger, "INFO", info)
        if self._s.version < (10,) and any(t.data_type == TensorProto.INT64 for t in graph.model.graph.initializer):
            text = (
                "onnx2trt_utils.cpp:377: Your ONNX model has been generated with INT64 weights, while TensorRT does "
                "not natively support INT64. Attempting to cast down to INT32."
            )
            self._s.log(self._logger, "WARNING", text)
        for index, node in enumerate(graph.nodes):
            try:
                _check_node(self._s, graph, node)
            except _Refused as refused:
                name = graph.name_of(node)
                self._s.log(
                    self._logger,
                    "ERROR",
                    f'ModelImporter.cpp:836: While parsing node number {index} [{node.op_type} -> "{node.output[0]}"]:',
                )
                self._refuse(refused.code, refused.desc, index, name, node.op_type)
                return False
            self._s.log(self._logger, "VERBOSE", f"Parsing node: {graph.name_of(node)} [{node.op_type}]")
        self._network._fill(graph)
        return True

    def _refuse(self, code: str, desc: str, node: int = -1, name: str = "", op: str = "") -> None:
        error = self._s.make("ParserError", code, desc, node, name, op)
        self._errors.append(error)
        self._s.log(self._logger, "ERROR", f"ModelImporter.cpp:839: ERROR: {error}")

    def supports_model(self, model: Any, path: str | None = None) -> tuple[bool, list[Any]]:
        return self._supports(model), []

    def supports_model_v2(self, model: Any, path: str | None = None) -> bool:
        return self._supports(model)

    def _supports(self, model: Any) -> bool:
        graph = _Graph(onnx.load_model_from_string(bytes(memoryview(model))))
        try:
            for node in graph.nodes:
                _check_node(self._s, graph, node)
        except _Refused:
            return False
        return True


def _check_node(state: _State, graph: _Graph, node: onnx.NodeProto) -> None:
    """What onnx-tensorrt refuses."""
    op, old = node.op_type, state.version < (10,)
    if op not in state.importers or node.domain not in ("", "ai.onnx"):
        raise _Refused(
            "UNSUPPORTED_NODE",
            f'Assertion failed: creator && "Plugin not found, are the plugin name, version, and namespace correct?" '
            f"(No importer registered for op: {op}. Attempting to import as plugin.)",
        )
    sources = [graph.types.get(name) for name in node.input]
    if op in ("QuantizeLinear", "DequantizeLinear"):
        _check_quantizer(state, graph, node)
    elif sources and sources[0] == TensorProto.UINT8 and op != "Cast" and node.input[0] not in graph.initializers:
        raise _Refused(
            "UNSUPPORTED_NODE",
            'Assertion failed: legalUINT8 && "TensorRT does not support UINT8 types for intermediate tensors!"',
        )
    for name in node.output:
        if graph.types.get(name) != TensorProto.UINT8 or op in ("Constant", "QuantizeLinear"):
            continue
        if name not in graph.outputs:
            raise _Refused(
                "UNSUPPORTED_NODE",
                'Assertion failed: legalUINT8 && "TensorRT does not support UINT8 types for intermediate tensors!"',
            )
        if old and sources[0] not in (TensorProto.FLOAT, TensorProto.FLOAT16):
            raise _Refused(
                "UNSUPPORTED_NODE",
                f"{graph.name_of(node)}: ICastLayer/IIdentityLayer: only FLOAT and HALF can be converted to UINT8",
            )
    if op == "Cast" and old and sources[0] == TensorProto.UINT8:
        target = graph.types.get(node.output[0])
        if target not in (TensorProto.FLOAT, TensorProto.FLOAT16) and node.input[0] not in graph.initializers:
            raise _Refused(
                "UNSUPPORTED_NODE",
                f"{graph.name_of(node)}: ICastLayer/IIdentityLayer: UINT8 can only be converted to FLOAT and HALF",
            )
    if op in ("Conv", "ConvTranspose"):
        through = (
            ("QuantizeLinear", "DequantizeLinear")
            if old
            else ("QuantizeLinear", "DequantizeLinear", "Cast", "Identity")
        )
        if not graph.is_constant_chain(node.input[1], through):
            raise _Refused("UNSUPPORTED_NODE", "Assertion failed: kernel weights must be an initializer!")
    if op == "Resize":
        sizes = [name for name in list(node.input)[2:4] if name]
        through = () if old else ("Cast", "Identity")
        if not sizes or not all(graph.is_constant_chain(name, through) for name in sizes):
            raise _Refused(
                "UNSUPPORTED_NODE", 'Assertion failed: scales.is_weights() && "Resize scales must be an initializer!"'
            )


def _check_quantizer(state: _State, graph: _Graph, node: onnx.NodeProto) -> None:
    zero_point = node.input[2] if len(node.input) > 2 else ""
    if state.version < (10,) and not zero_point:
        raise _Refused(
            "INVALID_NODE",
            'Assertion failed: (inputs.size() == 3) && "This version of TensorRT requires 3 inputs for the '
            'DequantizeLinear operator."'
            if state.version < (8, 6)
            else f"Invalid Node - {graph.name_of(node)}\n"
            "vector::_M_range_check: __n (which is 2) >= this->size() (which is 2)",
        )
    if not graph.is_constant_chain(node.input[1], ("Cast", "Identity")):
        raise _Refused(
            "UNSUPPORTED_NODE", "Assertion failed: scale is an initializer! (dynamic scales are not supported)"
        )
    scale = graph.constant(node.input[1])
    if scale is not None and not (np.isfinite(scale).all() and (scale > 0).all()):
        raise _Refused(
            "INVALID_NODE", 'Assertion failed: scaleAllPositive && "Scale coefficients must all be positive"'
        )
    quantized = graph.types.get(node.output[0] if node.op_type == "QuantizeLinear" else node.input[0])
    if quantized == TensorProto.INT32:
        raise _Refused(
            "UNSUPPORTED_NODE_DATATYPE" if state.version >= (10,) else "UNSUPPORTED_NODE",
            "Assertion failed: DequantizeLinear: INT32 input is not supported (bias has to stay in floating point)",
        )
    if quantized not in (TensorProto.INT8, None):  # stricter than 10 and later, which read a missing zero point as INT8
        name = TensorProto.DataType.Name(quantized)
        raise _Refused(
            "UNSUPPORTED_NODE_DATATYPE" if state.version >= (10,) else "UNSUPPORTED_NODE",
            f"Assertion failed: {node.op_type}: quantized type {name} is not supported, only INT8",
        )
    if zero_point:
        zero = graph.constant(zero_point)
        if zero is None or np.any(zero.astype(np.int64) != 0):
            raise _Refused(
                "INVALID_NODE",
                'Assertion failed: shiftIsAllZeros(zeroPoint) && "TRT only supports symmetric quantization - zeroPt '
                'must be all zeros"'
                if state.version < (8, 6)
                else 'Assertion failed: shiftIsAllZeros(zeroPoint) && "TensorRT only supports symmetric quantization. '
                'The zero point for the QuantizeLinear/DequantizeLinear operator must be all zeros."',
            )


# --- builder ----------------------------------------------------------------------------------------------------------


class IOptimizationProfile(_Native):
    def _setup(self) -> None:
        self._shapes: dict[str, list[tuple[int, ...]]] = {}
        self._values = {"extra_memory_target": 1.0}

    extra_memory_target = _stored("extra_memory_target", float)

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


class ITimingCache(_Native):
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


class IBuilderConfig(_Managed):
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

    profiling_verbosity = _stored("profiling_verbosity")
    builder_optimization_level = _stored("builder_optimization_level", int)
    hardware_compatibility_level = _stored("hardware_compatibility_level")
    default_device_type = _stored("default_device_type")
    DLA_core = _stored("DLA_core", int)
    profile_stream = _stored("profile_stream", int)
    max_aux_streams = _stored("max_aux_streams", int)
    avg_timing_iterations = _stored("avg_timing_iterations", int)
    engine_capability = _stored("engine_capability")
    plugins_to_serialize = _stored("plugins_to_serialize", list)
    quantization_flags = _stored("quantization_flags", int)
    max_workspace_size = _stored("max_workspace_size", int)
    tiling_optimization_level = _stored("tiling_optimization_level")
    max_num_tactics = _stored("max_num_tactics", int)

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
        self._calibrator = value if value is None else _usable(value, self._s.module.IInt8Calibrator)

    @property
    def progress_monitor(self) -> Any:
        return self._monitor

    @progress_monitor.setter
    def progress_monitor(self, value: Any) -> None:
        self._monitor = value if value is None else _usable(value, self._s.module.IProgressMonitor)

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


class Builder(_Managed):
    def __init__(self, logger: ILogger) -> None:
        self._logger = _usable(logger, self._s.module.ILogger)
        self._s.start("trt.Builder", logger)
        self._values = {"max_threads": 1, "error_recorder": None}
        self._s.track("builders", self)
        used = self._s.cuda.total_mib - self._s.cuda.free_mib
        text = f"[MemUsageChange] Init CUDA: CPU +183, GPU +0, now: CPU 221, GPU {used} (MiB)"
        self._s.log(logger, "INFO", text)

    max_threads = _stored("max_threads", int)
    error_recorder = _stored("error_recorder")
    logger = property(lambda self: self._logger)
    num_DLA_cores = property(lambda self: self._s.num_dla_cores)
    max_DLA_batch_size = property(lambda self: 4096)
    platform_has_tf32 = property(lambda self: self._s.cuda.compute_capability >= (8, 0))
    platform_has_fast_fp16 = property(lambda self: self._s.cuda.compute_capability >= (5, 3))
    platform_has_fast_int8 = property(lambda self: self._s.fast_int8)

    def create_network(self, flags: int = 0) -> Any:
        flags = operator.index(flags)
        if self._s.fails("trt.Builder.create_network", self._logger):
            return None
        network = self._s.make("INetworkDefinition", self, flags)
        self._s.track("networks", network)
        return network

    def create_builder_config(self) -> Any:
        if self._s.fails("trt.Builder.create_builder_config", self._logger):
            return None
        config = self._s.make("IBuilderConfig", self)
        self._s.track("configs", config)
        return config

    def create_optimization_profile(self) -> Any:
        return self._s.make("IOptimizationProfile")

    def is_network_supported(self, network: INetworkDefinition, config: IBuilderConfig) -> bool:
        return network._graph is not None

    def reset(self) -> None:
        pass

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> Any:
        state = self._s
        if state.fails("trt.Builder.build_serialized_network", self._logger):
            return None
        try:
            with state.cuda.runtime("build_serialized_network"):
                plan = _Build(state, self._logger, network, config).plan()
        except _Stop as stop:
            if stop.text:
                state.log(self._logger, "ERROR", stop.text)
            return None
        except CuError as error:
            state.log(
                self._logger,
                "ERROR",
                f"1: [caskUtils.cpp::trtSmToCask::114] Error Code 1: Cuda Runtime ({CODES[error.code][1]})",
            )
            return None
        return state.host_memory(plan)


class _Stop(Exception):
    """The build fails; the text is logged as an ERROR."""

    def __init__(self, text: str = "") -> None:
        super().__init__(text)
        self.text = text


class _Build:
    """One build: checks, calibration, precision of each layer, fusion, and the plan."""

    def __init__(self, state: _State, logger: Any, network: INetworkDefinition, config: IBuilderConfig) -> None:
        self.s, self.logger, self.network, self.config = state, logger, network, config
        if network._graph is None or not network._outputs:
            raise _Stop(
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
            self.fused = _Fusion(self)
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
                    raise _Stop(
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
            raise _Stop(
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
            raise _Stop(
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
            raise _Stop("Error Code 9: API Usage Error (Hardware compatibility is only supported on Ampere and later)")

    def check_weak_precision(self) -> None:
        """A type in the network needs its flag."""
        asked = [layer._precision for layer in self.network._layers if layer._precision is not None]
        asked += [dtype for layer in self.network._layers for dtype in layer._output_types.values()]
        names = {dtype.name for dtype in asked}
        made = [name for node in self.graph.nodes for name in node.output if name not in self.graph.folded]
        half = any(self.graph.types.get(name) == TensorProto.FLOAT16 for name in (*made, *self.graph.inputs))
        for flag, wanted in (("INT8", self.graph.has_qdq or "INT8" in names), ("FP16", half or "HALF" in names)):
            if wanted and not self.config._has(flag):
                raise _Stop(
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
                raise _Stop(
                    f"4: [network.cpp::validate] Error Code 4: Internal Error (tensor {tensor._name} is "
                    f"{natural.name} in the network and cannot be {tensor._dtype.name})"
                )

    def check_shapes(self) -> None:
        for tensor in self.network._inputs:
            if -1 not in tensor._shape:
                continue
            if not self.config._profiles:
                raise _Stop(
                    "4: [network.cpp::validate::3062] Error Code 4: Internal Error (Network has dynamic "
                    "or shape inputs, "
                    "but no optimization profile has been defined.)"
                )
            for profile in self.config._profiles:
                if tensor._name not in profile._shapes:
                    raise _Stop(
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
            raise _Stop(
                "Error Code 3: API Usage Error (Parameter check failed, condition: dlaCore >= 0 && "
                "dlaCore < getNbDLACores())"
            )
        if not (config._has("FP16") or config._has("INT8")) and not self.network._strongly_typed:
            raise _Stop("4: Error Code 4: Internal Error (DLA requires FP16 or INT8 precision)")
        fallback = config._has("GPU_FALLBACK")
        for layer in wanted:
            if config.can_run_on_DLA(layer):
                continue
            if not fallback:
                raise _Stop(
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
            if not bool(_caught("step_complete", lambda: monitor.step_complete(name, index), False)):
                raise _Stop(
                    "IBuilder::buildSerializedNetwork: Error Code 11: The build was cancelled by the progress monitor"
                )

        _caught("phase_start", lambda: monitor.phase_start(name, parent, steps), None)
        try:
            yield step
        finally:
            _caught("phase_finish", lambda: monitor.phase_finish(name), None)

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
            raise _Stop("Builder failed while configuring INT8 mode.")
        if calibrator is not None:
            self.ranges = self.calibrated(_usable(calibrator, self.s.module.IInt8Calibrator))
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
        _caught("get_batch_size", calibrator.get_batch_size, -1)
        cache = _caught("read_calibration_cache", lambda: self.cache_bytes(calibrator), None)
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
        _caught("write_calibration_cache", lambda: calibrator.write_calibration_cache(memoryview(text.encode())), None)
        return amax

    def cache_bytes(self, calibrator: Any) -> bytes | None:
        cache = calibrator.read_calibration_cache()
        return None if cache is None else bytes(memoryview(cache))

    def cache_header(self, calibrator: Any) -> str:
        return f"TRT-{self.s.version_code}-{_CACHE_NAME[calibrator._algorithm]}"

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
                raise _Stop("Builder failed while configuring INT8 mode.") from None
            ranges[names.get(name, name)] = scale * 127.0
        self.log("VERBOSE", f"Using the calibration table with {len(ranges)} tensors")
        return ranges

    def run_calibration(self, calibrator: Any) -> tuple[dict[str, float], int]:
        model, names = _with_all_floats_as_outputs(self.graph)
        session, inputs = _session(model), self.network._inputs
        amax: dict[str, float] = {}
        batches = 0
        while True:
            pointers = _caught("get_batch", lambda: self.pointers(calibrator, [t._name for t in inputs]), None)
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
            model = _without_type_clash(self.graph.model)
        elif state.module.worst_int8:
            flags = ("OBEY_PRECISION_CONSTRAINTS", "PREFER_PRECISION_CONSTRAINTS")
            constrained = any(config._has(flag) for flag in flags)
            model = worst_int8(self.graph, network._layers, self.ranges, constrained=constrained)
        else:
            model = _fake_quantized(self.graph, int8, self.ranges)
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
        return _packed(header, model.SerializeToString())


def _packed(header: dict[str, Any], model: bytes) -> bytes:
    text = json.dumps(header).encode()
    body = struct.pack("<I", len(text)) + text + zlib.compress(model, 1)
    return MAGIC + struct.pack("<QI", len(body), zlib.crc32(body)) + body


class _Fusion:
    """The layers of the engine, as TensorRT names and fuses them."""

    def __init__(self, build: _Build) -> None:
        self.b, self.graph, self.s = build, build.graph, build.s
        self.layers: list[dict[str, Any]] = []
        self.done: set[int] = set()
        self.format_of: dict[str, str] = {}
        self.index = {id(node): index for index, node in enumerate(self.graph.nodes)}
        for tensor in build.network._inputs:
            self.format_of[tensor._onnx_name] = {"FLOAT": "Float", "HALF": "Half", "UINT8": "UInt8"}.get(
                tensor._dtype.name, tensor._dtype.name.title()
            )
        on_dla = self.on_dla()
        for index, node in enumerate(self.graph.nodes):
            if id(node) in on_dla and id(node) not in self.done:
                self.foreign(index, on_dla)
            elif id(node) not in self.done:
                self.add(node)

    def on_dla(self) -> set[int]:
        config = self.b.config
        return {
            id(layer._node)
            for layer in self.b.network._layers
            if config.get_device_type(layer) == self.s.DeviceType.DLA and config.can_run_on_DLA(layer)
        }

    def foreign(self, index: int, on_dla: set[int]) -> None:
        """A run of layers that the DLA executes as one."""
        run = []
        for node in self.graph.nodes[index:]:
            if id(node) in on_dla:
                run.append(node)
            elif node.op_type not in ("Constant", "QuantizeLinear", "DequantizeLinear"):
                break
        first, last = self.graph.name_of(run[0]), self.graph.name_of(run[-1])
        name = f"{{ForeignNode[{first}...{last}]}}" if len(run) > 1 else f"{{ForeignNode[{first}]}}"
        self.emit(name, "DLA", run, run[-1].output[0], "DLA")

    def add(self, node: onnx.NodeProto) -> None:
        op = node.op_type
        if op in ("Constant", "DequantizeLinear") or all(
            name in self.graph.initializers for name in node.input if name
        ):
            self.forward(node)
        elif op == "QuantizeLinear":
            self.quantize(node)
        elif op in WEIGHTED:
            self.weighted(node)
        else:
            kind = {
                "Cast": "Reformat" if self.s.version < (10,) else "Cast",
                "Resize": "Resize",
                "MaxPool": "CaskPooling",
                "AveragePool": "CaskPooling",
                "ArgMax": "TopK",
                "Softmax": "CaskSoftMaxV2",
                "Transpose": "Shuffle",
                "Reshape": "NoOp",
                "Slice": "Slice",
                "Concat": "Reformat",
            }.get(op, "PointWiseV2" if self.s.version < (10, 13) else "kgen")
            name = self.graph.name_of(node)
            pointwise = kind in ("PointWiseV2", "kgen")
            self.emit(f"PWN({name})" if pointwise else name, kind, [node], node.output[0], op)

    def forward(self, node: onnx.NodeProto) -> None:
        self.done.add(id(node))
        for name in node.output:
            self.format_of[name] = self.format_of.get(node.input[0] if node.input else "", "Int8")

    def quantize(self, node: onnx.NodeProto) -> None:
        """Absorbed by the layer before it, else a Reformat of its own."""
        self.done.add(id(node))
        source = node.input[0]
        if source in self.graph.initializers or self.format_of.get(source) == "Int8":
            self.format_of[node.output[0]] = "Int8"
            return
        self.emit(self.graph.name_of(node), "Reformat", [node], node.output[0], "QuantizeLinear", origin="QDQ")

    def single_consumer(self, name: str) -> onnx.NodeProto | None:
        after = self.graph.consumers.get(name, [])
        return after[0] if len(after) == 1 and name not in self.graph.outputs else None

    def weighted(self, node: onnx.NodeProto) -> None:
        parts, group, out = [self.graph.name_of(node)], [node], node.output[0]
        producer = self.graph.producer.get(node.input[1])
        if producer is not None and producer.op_type == "DequantizeLinear":
            quantizer = self.graph.producer.get(producer.input[0], producer)
            weight = quantizer.input[0]
            parts.insert(0, f"{weight} + {self.graph.name_of(quantizer)}")
        position = self.index[id(node)]
        after = self.single_consumer(out)
        if after is not None and after.op_type == "BatchNormalization":
            parts, group, out = [*parts, self.graph.name_of(after)], [*group, after], after.output[0]
            after = self.single_consumer(out)
        if after is not None and after.op_type == "Add" and id(after) not in self.done:
            others = [self.graph.producer.get(name) for name in after.input if name != out]
            if all(other is None or self.index[id(other)] < position or id(other) in self.done for other in others):
                parts, group, out = [*parts, self.graph.name_of(after)], [*group, after], after.output[0]
                after = self.single_consumer(out)
        if after is not None and after.op_type in FUSED_ACTIVATIONS and id(after) not in self.done:
            name = self.graph.name_of(after)
            parts.append(name if after.op_type == "Relu" else f"PWN({name})")
            group, out = [*group, after], after.output[0]
        kind = {"Conv": "CaskConvolution", "ConvTranspose": "CaskDeconvolutionV2"}.get(
            node.op_type, "CaskGemmMatrixMultiply"
        )
        self.emit(" + ".join(parts), kind, group, out, node.op_type)

    def emit(self, name: str, kind: str, group: list[onnx.NodeProto], out: str, op: str, origin: str = "") -> None:
        self.done.update(id(node) for node in group)
        precision = self.b.precision[self.index[id(group[0])]]
        made = {output for node in group for output in node.output}
        names = [
            source
            for node in group
            for position, source in enumerate(node.input)
            if source
            and source not in made
            and source not in self.graph.initializers
            and not (node.op_type in WEIGHTED and position > 0)
        ]
        if op == "QuantizeLinear":
            produced = "Int8"
        elif op == "Cast":
            produced = self.cast_format(out)
        elif precision == "Int8":
            produced = self.int8_output(out)
        else:
            produced = precision
        inputs = []
        for position, source in enumerate(names):
            have = self.format_of.get(source, "Float")
            want = (
                precision if precision in ("Int8", "Half", "Float") and op not in ("Cast", "QuantizeLinear") else have
            )
            if have != want and have in ("Int8", "Half", "Float"):
                reformatted = f"Reformatted Input Tensor {position} to {name}"
                self.record(
                    f"Reformatting CopyNode for Input Tensor {position} to {name}",
                    "Reformat",
                    [(source, have)],
                    (reformatted, want),
                    "Reformat",
                    "REFORMAT",
                    source,
                )
                inputs.append((reformatted, want))
            else:
                inputs.append((source, have))
        self.record(name, kind, inputs, (out, produced), op, origin, out)
        self.format_of[out] = produced

    def cast_format(self, out: str) -> str:
        dtype = self.graph.types.get(out, TensorProto.FLOAT)
        return {
            TensorProto.FLOAT16: "Half",
            TensorProto.UINT8: "UInt8",
            TensorProto.INT32: "Int32",
            TensorProto.INT64: "Int64",
        }.get(dtype, "Half" if self.b.config._has("FP16") and not self.b.network._strongly_typed else "Float")

    def int8_output(self, out: str) -> str:
        after = self.graph.consumers.get(out, [])
        base = "Half" if self.b.config._has("FP16") else "Float"
        if out in self.graph.outputs or not after:
            return base
        if self.graph.has_qdq:
            return "Int8" if all(node.op_type == "QuantizeLinear" for node in after) else base
        return (
            "Int8"
            if out in self.b.ranges and any(self.b.precision[self.index[id(n)]] == "Int8" for n in after)
            else base
        )

    def record(
        self,
        name: str,
        kind: str,
        inputs: list[tuple[str, str]],
        output: tuple[str, str],
        op: str,
        origin: str,
        shaped: str,
    ) -> None:
        parameter = {
            "Conv": "Convolution",
            "ConvTranspose": "Convolution",
            "Gemm": "MatrixMultiply",
            "MatMul": "MatrixMultiply",
        }
        vectorized = kind.startswith("Cask") or kind == "Reformat"

        def tensor(pair: tuple[str, str]) -> dict[str, Any]:
            label, precision = pair
            dims = self.graph.shapes.get(label, self.graph.shapes.get(shaped, ()))
            text = precision if kind == "kgen" else _format_text(precision, vectorized and len(dims) == 4)
            return {"Name": label, "Dimensions": list(dims), "word": precision, "format": text}

        reads_int8 = any(precision == "Int8" for _, precision in inputs)
        entry = {
            "Name": name,
            "LayerType": kind,
            "Inputs": [tensor(pair) for pair in inputs],
            "Outputs": [tensor(output)],
            "ParameterType": parameter.get(op, {"Cast": "Reformat", "QuantizeLinear": "Reformat"}.get(op, op)),
        }
        if op in ("Conv", "ConvTranspose"):
            entry["Weights"] = {
                "Type": "Int8" if reads_int8 else "Half" if inputs[0][1] == "Half" else "Float",
                "Count": 1,
            }
        if origin:
            entry["Origin"] = origin
        cc = "sm{}{}".format(*self.s.cuda.compute_capability)
        kernel = (
            "i8i8_i8i32_f32" if reads_int8 else "f16f16_f16f16_f16" if output[1] == "Half" else "f32f32_tf32f32_f32"
        )
        entry["TacticName"] = f"{cc}_xmma_fprop_implicit_gemm_{kernel}" if kind.startswith("Cask") else ""
        entry["TacticValue"] = f"0x{zlib.crc32(name.encode()):016x}"
        if self.s.version >= (8, 6):
            entry["StreamId"] = 0
            entry["Metadata"] = "\x1e".join(f"[ONNX Layer: {part}]" for part in name.split(" + "))
        self.layers.append(entry)


def _format_text(precision: str, vectorized: bool) -> str:
    """TensorRT's long descriptions of formats."""
    if precision == "Int8":
        return "Thirty-two wide channel vectorized row major Int8 format" if vectorized else "Row major Int8 format"
    if precision == "Half":
        return "Channel major FP16 format where channel % 8 == 0" if vectorized else "Row major linear FP16 format"
    return {
        "Float": "Row major linear FP32",
        "Int32": "Row major linear Int32",
        "Int64": "Row major linear Int64 format",
        "UInt8": "Row major linear UInt8 format",
        "Bool": "Row major linear BOOL",
    }.get(precision, "Unknown format")


# --- runtime ----------------------------------------------------------------------------------------------------------


class Runtime(_Managed):
    def __init__(self, logger: ILogger) -> None:
        self._logger = _usable(logger, self._s.module.ILogger)
        self._s.start("trt.Runtime", logger)
        self._values = {
            "DLA_core": -1,
            "max_threads": 1,
            "error_recorder": None,
            "engine_host_code_allowed": False,
            "temporary_directory": None,
        }
        self._s.track("runtimes", self)

    @property
    def DLA_core(self) -> int:
        """-1 where it is unset or there are no cores."""
        return int(self._values["DLA_core"])

    @DLA_core.setter
    def DLA_core(self, core: int) -> None:
        cores, core = self._s.num_dla_cores, operator.index(core)
        if cores and not -1 <= core < cores:
            text = "IRuntime::setDLACore: Error Code 3: API Usage Error (Parameter check failed, condition: dlaCore < "
            self._s.log(self._logger, "ERROR", f"{text}getNbDLACores())")
        elif cores:  # without any it does nothing, as documented
            self._values["DLA_core"] = core

    max_threads = _stored("max_threads", int)
    error_recorder = _stored("error_recorder")
    engine_host_code_allowed = _stored("engine_host_code_allowed", bool)
    temporary_directory = _stored("temporary_directory")
    num_DLA_cores = property(lambda self: self._s.num_dla_cores)
    logger = property(lambda self: self._logger)

    def deserialize_cuda_engine(self, serialized_engine: Any) -> Any:
        state = self._s
        data = bytes(memoryview(serialized_engine))
        if state.fails("trt.Runtime.deserialize_cuda_engine", self._logger):
            return None
        state.log(self._logger, "INFO", f"Loaded engine size: {len(data) // MIB} MiB")
        try:
            with state.cuda.runtime("deserialize_cuda_engine"):
                header, model = self._unpacked(data)
                if header["dla"] and self.DLA_core < 0:
                    # The worst case. NVIDIA documents -1 as "not used"; 10.3 is known to take core 0, whatever core the
                    # plan was built for.
                    raise _Stop("3: Error Code 3: API Usage Error (the engine uses DLA and no DLA core is set)")
                weights = state.cuda.device_malloc(max(len(model), 1))
        except _Stop as stop:
            state.log(self._logger, "ERROR", stop.text)
            tail = "deserializeCudaEngine: Error Code 4: Internal Error (Engine deserialization failed.)"
            state.log(
                self._logger, "ERROR", f"4: [runtime.cpp::{tail}" if state.version < (10,) else f"IRuntime::{tail}"
            )
            return None
        except CuError as error:
            state.log(
                self._logger,
                "ERROR",
                f"1: [defaultAllocator.cpp::allocate::31] Error Code 1: Cuda Runtime ({CODES[error.code][1]})",
            )
            return None
        state.dla_core_used = self.DLA_core if header["dla"] else None
        engine = state.make("ICudaEngine", self, header, model)
        weakref.finalize(engine, state.cuda.device_free, weights).atexit = False
        state.track("engines", engine)
        return engine

    def _unpacked(self, data: bytes) -> tuple[dict[str, Any], bytes]:
        state = self._s
        if len(data) < 16 or data[:4] != MAGIC:
            raise _Stop(
                "1: [stdArchiveReader.cpp::StdArchiveReader::32] Error Code 1: Serialization (Serialization assertion "
                "magicTagRead == kPLAN_MAGIC_TAG failed. Trying to load an engine created with "
                "incompatible serialization "
                "version or that is no engine. Magic tag does not match)"
            )
        size, check = struct.unpack_from("<QI", data, 4)
        body = data[16:]
        if len(body) < 4 or len(body) < min(size, 4):
            raise _Stop("1: Error Code 1: Serialization (Serialization assertion size >= sizeof(header) failed.)")
        try:
            length = struct.unpack_from("<I", body)[0]
            header = json.loads(body[4 : 4 + length])
        except ValueError:
            header = None
        if header is not None and header["version"] != state.version_text:
            raise _Stop(
                "6: The engine plan file is not compatible with this version of TensorRT, expecting library version "
                f"{state.version_text} got {header['version']}, please rebuild."
            )
        if len(body) != size:
            raise _Stop(
                "1: Error Code 1: Serialization (Serialization assertion stream.size() == planSize "
                "failed. The plan is truncated)"
            )
        if header is None or zlib.crc32(body) != check:
            raise _Stop(
                "1: Error Code 1: Serialization (Serialization assertion checksum failed. The plan is corrupted)"
            )
        here, built = tuple(state.cuda.compute_capability), tuple(header["cc"])
        compatible = header["hardware"] == "AMPERE_PLUS" and here >= (8, 0) and built >= (8, 0)
        if here != built and not compatible:
            raise _Stop(
                "6: The engine plan file is generated on an incompatible device, expecting compute "
                f"{here[0]}.{here[1]} got compute {built[0]}.{built[1]}, please rebuild."
            )
        if header["device"] != state.cuda.name or header["sm"] != state.cuda.sm_count:
            text = (
                "Using an engine plan file across different models of devices is not recommended and is likely to "
                "affect performance or even cause errors."
            )
            state.log(self._logger, "WARNING", text)
        return header, zlib.decompress(body[4 + length :])


class EngineInspector(_Native):
    def _setup(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self._values = {"execution_context": None, "error_recorder": None}

    execution_context = _stored("execution_context")
    error_recorder = _stored("error_recorder")

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


class ICudaEngine(_Managed):
    def _setup(self, runtime: Runtime, header: dict[str, Any], model: bytes) -> None:
        self._runtime, self._logger, self._header, self._model = runtime, runtime._logger, header, model
        self._io = {entry["name"]: entry for entry in header["io"]}
        self._run: Any = None
        self._values = {"error_recorder": None, "weight_streaming_budget_v2": 0}

    error_recorder = _stored("error_recorder")
    weight_streaming_budget_v2 = _stored("weight_streaming_budget_v2", int)
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
        return self._s.host_memory(_packed(self._header, self._model))

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
        weakref.finalize(context, _dispose, state.cuda, scratch, context._core).atexit = False
        return context

    def create_execution_context_without_device_memory(self) -> Any:
        return self._context_of_user()

    def _context_of_user(self) -> Any:
        """A context on memory that its user sets; the memory outlives it."""
        if self._s.fails("trt.ICudaEngine.create_execution_context", self._logger):
            return None
        context = self._context(None)
        weakref.finalize(context, _dispose, self._s.cuda, None, context._core).atexit = False
        return context

    def _context(self, scratch: int | None) -> Any:
        context = self._s.make("IExecutionContext", self, scratch)
        self._s.track("contexts", context)
        return context

    def _execute(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the graph; ``feed`` and the result go by the names of the engine."""
        if self._run is None:
            self._run = _session(onnx.load_model_from_string(self._model))
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


class IExecutionContext(_Managed):
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

    name = _stored("name", str)
    debug_sync = _stored("debug_sync", bool)
    enqueue_emits_profile = _stored("enqueue_emits_profile", bool)
    error_recorder = _stored("error_recorder")
    persistent_cache_limit = _stored("persistent_cache_limit", int)
    nvtx_verbosity = _stored("nvtx_verbosity")
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
        self._values["profiler"] = value if value is None else _usable(value, self._s.module.IProfiler)

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
                _caught("report_layer_time", lambda name=name: profiler.report_layer_time(name, each), None)

    def report_to_profiler(self) -> bool:
        return self._values["profiler"] is not None


def _dispose(cuda: FakeCuda, scratch: int | None, core: Any) -> None:
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


# --- the module -------------------------------------------------------------------------------------------------------

_CLASSES = (
    IHostMemory,
    ILogger,
    Logger,
    IProfiler,
    Profiler,
    IProgressMonitor,
    IInt8Calibrator,
    IInt8EntropyCalibrator2,
    IInt8MinMaxCalibrator,
    IInt8EntropyCalibrator,
    ITensor,
    ILayer,
    INetworkDefinition,
    ParserError,
    OnnxParser,
    IOptimizationProfile,
    ITimingCache,
    IBuilderConfig,
    Builder,
    Runtime,
    EngineInspector,
    ICudaEngine,
    IExecutionContext,
)


class _State:
    """What one fake module knows; its enums are attributes."""

    module: Any
    DataType: Any

    def __init__(self, version: str, cuda: FakeCuda, faults: Faults, dla_cores: int) -> None:
        self.version_text = version
        self.version = tuple(int(part) for part in version.split("."))
        self.cuda, self.faults, self._dla_cores = cuda, faults, dla_cores
        self.alive: Counter[str] = Counter()
        self.timings = 0
        self.executions = 0
        self.dla_core_used: int | None = None
        real = surface_of(version)
        self.names: dict[str, str] = real["names"]
        ordered = {name.rpartition(".")[2] for name, kind in self.names.items() if kind == "ordered enum"}
        self.enums = {
            name: _enum(name, _OrderedEnum if name in ordered else _Enum, members)
            for name, members in real["enums"].items()
        }
        self.__dict__.update(self.enums)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"tensorrt {self.version_text} has no {name}")

    @property
    def importers(self) -> frozenset[str]:
        """The operators that this version's ONNX parser imports; in between two known versions, the older's."""
        return IMPORTERS[max(known for known in IMPORTERS if known <= self.version)]

    @property
    def num_dla_cores(self) -> int:
        """10.7 was the last 10.x with DLA; 11.4.1 brought it back."""
        without = (10, 8) <= self.version < (11, 4, 1)
        return 0 if without or self.cuda.compute_capability >= (10, 0) else self._dla_cores

    @property
    def fast_int8(self) -> bool:
        cc = tuple(self.cuda.compute_capability)
        return cc == (6, 1) or cc >= (7, 0)

    @property
    def version_code(self) -> int:
        major, minor, patch = self.version[:3]
        return major * (10000 if major >= 10 else 1000) + minor * 100 + patch

    def timing_header(self) -> dict[str, Any]:
        cuda = self.cuda
        return {
            "version": self.version_text,
            "cc": list(cuda.compute_capability),
            "device": cuda.name,
            "sm": cuda.sm_count,
        }

    def make(self, name: str, *args: Any) -> Any:
        cls = getattr(self.module, name)
        made = object.__new__(cls)
        made._setup(*args)
        return made

    def host_memory(self, data: bytes) -> Any:
        sized = type(
            "IHostMemory", (self.module.IHostMemory,), {"_length_": len(data), "__module__": "tensorrt.tensorrt"}
        )
        memory = sized.from_buffer_copy(data)  # type: ignore[attr-defined]
        self.track("host memories", memory)
        return memory

    def track(self, kind: str, value: Any) -> None:
        self.alive[kind] += 1
        weakref.finalize(value, self.alive.subtract, {kind: 1}).atexit = False

    def log(self, logger: Any, severity: str, text: str) -> None:
        if logger is None:
            return
        level = getattr(self.enums["Severity"], severity)
        _caught("log", lambda: _usable(logger, self.module.ILogger).log(level, text), None)

    def fails(self, name: str, logger: Any) -> bool:
        """Note the call; if it has to fail, say so as TensorRT does."""
        if not self.faults.hit(name):
            return False
        call = name.split(".", 1)[1].replace(".", "::")
        self.log(logger, "ERROR", f"2: [{call}] Error Code 2: Internal Error (Assertion status == kSUCCESS failed. )")
        return True

    def start(self, name: str, logger: Any) -> None:
        """What makes a builder or a runtime: it starts CUDA, and pybind11 is given nothing where it does not."""
        code = self.cuda.init_error or self.cuda.runtime_error
        if code:
            self.log(logger, "WARNING", "Unable to determine GPU memory usage")
            url = "http://docs.nvidia.com/cuda/cuda-installation-guide-linux/index.html"
            text = f"CUDA initialization failure with error: {code}. Please check your CUDA installation: {url}"
            self.log(logger, "WARNING", text)
        if code or self.fails(name, logger):
            raise TypeError("pybind11::init(): factory function returned nullptr")

    def dtype_of_onnx(self, elem_type: int) -> Any:
        name = {
            TensorProto.FLOAT: "FLOAT",
            TensorProto.DOUBLE: "FLOAT",
            TensorProto.FLOAT16: "HALF",
            TensorProto.INT8: "INT8",
            TensorProto.UINT8: "UINT8",
            TensorProto.INT32: "INT32",
            TensorProto.INT64: "INT64" if self.version >= (10,) else "INT32",
            TensorProto.BOOL: "BOOL",
        }.get(elem_type, "FLOAT")
        return getattr(self.DataType, name)

    def numpy_of(self, dtype: Any) -> Any:
        return np.dtype(_NUMPY_OF[dtype.name])


_NUMPY_OF = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "INT32": np.int32,
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "INT64": np.int64,
}


def _with_parameters_of(kind: str, function: Any) -> Any:
    """The method without the optional parameters that this version does not know."""
    full, known = inspect.signature(function), re.findall(r"\w+", kind)
    kept = [each for each in full.parameters.values() if each.default is each.empty or each.name in known]
    if len(kept) == len(full.parameters):
        return function
    signature = full.replace(parameters=kept)

    @functools.wraps(function)
    def bound(*args: Any, **kwargs: Any) -> Any:
        signature.bind(*args, **kwargs)  # TypeError
        return function(*args, **kwargs)

    bound.__signature__ = signature  # type: ignore[attr-defined]
    return bound


def _bound_classes(state: _State) -> dict[str, Any]:
    """Copies of the classes with just the attributes of the version."""
    bound: dict[str, Any] = {}
    for cls in _CLASSES:
        if cls.__name__ not in state.names:
            continue
        bases = tuple(bound.get(base.__name__, base) for base in cls.__bases__)
        namespace: dict[str, Any] = {"_s": state, "__module__": "tensorrt.tensorrt"}
        for name, value in vars(cls).items():
            kind = state.names.get(f"{cls.__name__}.{name}", "")
            if name in ("__dict__", "__weakref__", "__module__") or not (kind or name.startswith("_")):
                continue
            if kind == "r" and isinstance(value, property):
                value = property(value.fget)
            namespace[name] = _with_parameters_of(kind, value) if kind.startswith("(") else value
        bound[cls.__name__] = type(cls)(cls.__name__, bases, namespace)
    return bound


def fake_tensorrt(
    version: str,
    cuda: FakeCuda,
    faults: Faults | None = None,
    *,
    dla_cores: int = 0,
    uint8_io: bool = True,
    replay: str = "captured",
    strict_cache_header: bool = True,
    build_needs_mib: int = 0,
    worst_int8: bool = False,
) -> Any:
    """A module that behaves like ``tensorrt`` of that version on that device.

    Beyond TensorRT's own names it has: ``live()``, counts of living objects; ``fake``, its state (``fake.timings``
    kernels timed, ``fake.executions`` inferences run); and, changeable at any time, ``uint8_io``,
    ``strict_cache_header``, ``build_needs_mib``, ``worst_int8`` (see ``tests.fake_int8``), ``inspector_form`` (one of
    ``inspector_forms.FORMS``), ``rewritten``: the inspector's JSON -> what it answers instead, and ``replay``: a graph
    uses the addresses that were ``"captured"``, or, at worst, the context's ``"current"`` ones.
    """
    state = _State(version, cuda, cuda.faults if faults is None else faults, dla_cores)
    module: Any = types.ModuleType("tensorrt")
    state.module = module
    module.__version__ = version
    for name, cls in _bound_classes(state).items():
        setattr(module, name, cls)
    for name, kind in state.names.items():
        owner, _, member = name.rpartition(".")
        scope = getattr(module, owner, None) if owner else module
        if scope is not None and kind in ENUMS:
            setattr(scope, member, state.enums[member])
        elif scope is not None and kind.startswith("= "):
            enum, _, value = kind[2:].partition(".")
            setattr(scope, member, getattr(state.enums[enum], value))
    module.Dims = Dims
    module.volume = lambda iterable: int(np.prod(tuple(iterable), dtype=np.int64))
    module.nptype = _nptype(state)
    module.init_libnvinfer_plugins = lambda logger, namespace: not state.fails("trt.init_libnvinfer_plugins", logger)
    module.get_nv_onnx_parser_version = lambda: state.version_code
    module.uint8_io = uint8_io
    module.replay = replay
    module.strict_cache_header = strict_cache_header
    module.build_needs_mib = build_needs_mib
    module.worst_int8 = worst_int8
    module.inspector_form = form_of(state.version)
    module.rewritten = lambda text: text
    module.fake = state
    module.live = lambda: {kind: state.alive[kind] for kind in _KINDS}
    return module


_KINDS = ("builders", "networks", "parsers", "configs", "runtimes", "engines", "contexts", "host memories")


def _nptype(state: _State) -> Callable[[Any], Any]:
    def nptype(trt_type: Any) -> Any:
        numpy = tuple(int(part) for part in np.__version__.split(".")[:2])
        if state.version < (8, 5, 3) and numpy >= (1, 24):
            raise AttributeError("module 'numpy' has no attribute 'bool'")
        if trt_type.name not in _NUMPY_OF:
            raise TypeError(f"Could not resolve TensorRT datatype to an equivalent numpy datatype: {trt_type}")
        return _NUMPY_OF[trt_type.name]

    return nptype
