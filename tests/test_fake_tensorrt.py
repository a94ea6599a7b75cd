"""The fake TensorRT refuses what TensorRT refuses, version by version."""

from __future__ import annotations

import ctypes
import gc
import json
import struct
from typing import Any, Iterator

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.fake_cuda import FakeCuda
from tests.fake_tensorrt import fake_tensorrt

VERSIONS = ["8.5.2.2", "8.6.2.3", "10.3.0.30", "10.13.3.9", "10.16.2.10", "11.4.1.1"]
OLD, NEW = VERSIONS[0], VERSIONS[2]


@pytest.fixture
def cuda() -> Iterator[FakeCuda]:
    fake = FakeCuda()
    fake.driver.init()
    fake.driver.Device(0).retain_primary_context().push()
    yield fake
    fake.driver.Context.pop()
    assert not fake.implicit_contexts


def tensor(name: str, elem_type: int, shape: Any) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, elem_type, shape)


def constant(name: str, values: Any, dtype: Any = np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, dtype), name)


WEIGHT = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)


def model(nodes: list, inputs: list, outputs: list, constants: list = (), opset: int = 17) -> bytes:  # type: ignore[assignment]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, list(constants))
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    proto.ir_version = 8
    return proto.SerializeToString()


def conv(shape: Any = (1, 3, 8, 8), opset: int = 17, last: tuple[str, int] = ("argmax", TensorProto.INT64)) -> bytes:
    """Conv, Relu, ArgMax over the channels."""
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["conv"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv"], ["relu"], "relu1"),
        helper.make_node("ArgMax", ["relu"], ["argmax"], "argmax1", axis=1, keepdims=0),
    ]
    out = tensor(last[0], last[1], None)
    return model(nodes, [tensor("image", TensorProto.FLOAT, shape)], [out], [constant("w", WEIGHT)], opset)


def uint8_conv(first: str = "Cast", last: str = "argmax") -> bytes:
    """uint8 in and out, as the graphs we ship."""
    start = [
        helper.make_node("Cast", ["frame"], ["float"], "cast_in", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["image"], "transpose", perm=[0, 3, 1, 2]),
    ]
    if first == "Transpose":
        start = [
            helper.make_node("Transpose", ["frame"], ["turned"], "transpose", perm=[0, 3, 1, 2]),
            helper.make_node("Cast", ["turned"], ["image"], "cast_in", to=TensorProto.FLOAT),
        ]
    middle = [
        helper.make_node("Conv", ["image", "w"], ["conv"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("ArgMax", ["conv"], ["argmax"], "argmax1", axis=1, keepdims=0),
        helper.make_node("Cast", ["argmax"], ["argmax_f"], "cast_f", to=TensorProto.FLOAT),
        helper.make_node("Cast", [last], ["classes"], "cast_out", to=TensorProto.UINT8),
    ]
    inputs, outputs = [tensor("frame", TensorProto.UINT8, (1, 8, 8, 3))], [tensor("classes", TensorProto.UINT8, None)]
    return model(start + middle, inputs, outputs, [constant("w", WEIGHT)])


def qdq(zero: int = 0, zero_type: Any = np.int8) -> bytes:
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "s", "z"], ["q"], "quant"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["dq"], "dequant"),
        helper.make_node("DequantizeLinear", ["w8", "s", "z8"], ["w"], "dequant_w"),
        helper.make_node("Conv", ["dq", "w"], ["conv"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Clip", ["conv", "low", "high"], ["out"], "clip1"),
    ]
    constants = [
        constant("s", 0.02),
        constant("z", zero, zero_type),
        constant("z8", 0, np.int8),
        constant("w8", np.clip(np.rint(WEIGHT / 0.02), -127, 127), np.int8),
        constant("low", 0.0),
        constant("high", 6.0),
    ]
    shape = (1, 3, 8, 8)
    inputs, outputs = [tensor("image", TensorProto.FLOAT, shape)], [tensor("out", TensorProto.FLOAT, (1, 4, 8, 8))]
    return model(nodes, inputs, outputs, constants)


class Bench:
    """A builder with everything around it."""

    dla_core = -1

    def __init__(self, version: str, cuda: FakeCuda, **options: Any) -> None:
        self.trt = trt = fake_tensorrt(version, cuda, **options)
        self.cuda = cuda

        class Collect(trt.ILogger):
            def __init__(self) -> None:
                trt.ILogger.__init__(self)
                self.lines: list[str] = []

            def log(self, severity: Any, msg: str) -> None:
                self.lines.append(f"{severity.name}: {msg}")

        self.logger = Collect()
        self.builder = trt.Builder(self.logger)
        explicit = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
        self.network = self.builder.create_network(0 if explicit is None else 1 << int(explicit))
        self.parser = trt.OnnxParser(self.network, self.logger)
        self.config = self.builder.create_builder_config()
        self.config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED

    def flag(self, *names: str) -> Bench:
        for name in names:
            self.config.set_flag(getattr(self.trt.BuilderFlag, name))
        return self

    def parse(self, data: bytes) -> Bench:
        assert self.parser.parse(data), self.errors()
        return self

    def build(self) -> Any:
        return self.builder.build_serialized_network(self.network, self.config)

    def engine(self, plan: Any = None) -> Any:
        self.runtime = self.trt.Runtime(self.logger)
        self.runtime.DLA_core = self.dla_core
        return self.runtime.deserialize_cuda_engine(self.build() if plan is None else plan)

    def layers(self, engine: Any) -> list[Any]:
        inspector = engine.create_engine_inspector()
        return json.loads(inspector.get_engine_information(self.trt.LayerInformationFormat.JSON))["Layers"]

    def errors(self) -> str:
        return "\n".join(line for line in self.logger.lines if line.startswith("ERROR"))

    def warnings(self) -> str:
        return "\n".join(line for line in self.logger.lines if line.startswith("WARNING"))

    def refuses(self, data: bytes) -> str:
        assert self.parser.parse(data) is False
        assert self.parser.num_errors == 1
        return self.parser.get_error(0).desc()


class Bound:
    """An execution context with mapped buffers."""

    def __init__(self, bench: Bench, engine: Any) -> None:
        self.context, drv = engine.create_execution_context(), bench.cuda.driver
        self.stream, self.arrays = drv.Stream(1), {}
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            dtype = bench.trt.fake.numpy_of(engine.get_tensor_dtype(name))
            array = drv.pagelocked_empty(tuple(self.context.get_tensor_shape(name)), dtype, mem_flags=2)
            array.fill(0)
            assert self.context.set_tensor_address(name, array.base.get_device_pointer())
            self.arrays[name] = array

    def run(self) -> None:
        assert self.context.execute_async_v3(self.stream.handle)
        self.stream.synchronize()


class TestVersions:
    @pytest.mark.parametrize(
        ("where", "name", "first", "last"),
        [
            ("", "IInt8EntropyCalibrator2", 0, 5),
            ("", "IProgressMonitor", 2, 6),
            ("", "HardwareCompatibilityLevel", 1, 6),
            ("BuilderFlag", "INT8", 0, 5),
            ("BuilderFlag", "FP16", 0, 5),
            ("BuilderFlag", "STRICT_TYPES", 0, 2),
            ("BuilderFlag", "TF32", 0, 6),
            ("NetworkDefinitionCreationFlag", "EXPLICIT_BATCH", 0, 5),
            ("NetworkDefinitionCreationFlag", "STRONGLY_TYPED", 2, 6),
            ("DataType", "INT64", 2, 6),
            ("DataType", "UINT8", 0, 6),
            ("IBuilderConfig", "max_workspace_size", 0, 2),
            ("IBuilderConfig", "set_memory_pool_limit", 0, 6),
            ("IBuilderConfig", "int8_calibrator", 0, 5),
            ("IBuilderConfig", "progress_monitor", 2, 6),
            ("IBuilderConfig", "builder_optimization_level", 1, 6),
            ("Builder", "platform_has_fast_int8", 0, 5),
            ("Builder", "num_DLA_cores", 0, 6),
            ("ITensor", "set_dynamic_range", 0, 5),
            ("ITensor", "dynamic_range", 0, 5),
            ("ILayer", "precision", 0, 5),
            ("ILayer", "set_output_type", 0, 5),
            ("ICudaEngine", "num_bindings", 0, 2),
            ("ICudaEngine", "num_io_tensors", 0, 6),
            ("ICudaEngine", "device_memory_size", 0, 5),
            ("ICudaEngine", "get_tensor_profile_values", 2, 6),
            ("IExecutionContext", "execute_async_v2", 0, 2),
            ("IExecutionContext", "execute_async_v3", 0, 6),
        ],
    )
    def test_attributes_exist_only_where_they_do(self, where: str, name: str, first: int, last: int) -> None:
        for index, version in enumerate(VERSIONS):
            module = fake_tensorrt(version, FakeCuda())
            owner = getattr(module, where) if where else module
            assert hasattr(owner, name) == (first <= index < last), version

    def test_flag_numbers(self) -> None:
        flags = [fake_tensorrt(version, FakeCuda()).NetworkDefinitionCreationFlag for version in (NEW, VERSIONS[5])]
        assert [int(flag.STRONGLY_TYPED) for flag in flags] == [1, 0]
        assert int(flags[1].PREFER_JIT_PYTHON_PLUGINS) == 1

    def test_attributes_cannot_be_made_up(self, cuda: FakeCuda) -> None:
        config = Bench(OLD, cuda).config
        with pytest.raises(AttributeError, match="progress_monitor"):
            config.progress_monitor = None
        config.max_workspace_size = 1 << 20
        with pytest.raises(AttributeError):
            Bench(NEW, cuda).config.max_workspace_size = 1

    def test_nptype_meets_numpy(self) -> None:
        trt = fake_tensorrt("8.5.2.2", FakeCuda())
        if tuple(int(part) for part in np.__version__.split(".")[:2]) >= (1, 24):
            with pytest.raises(AttributeError, match="no attribute 'bool'"):
                trt.nptype(trt.float32)
        assert fake_tensorrt("8.6.2.3", FakeCuda()).nptype(trt.float32) is np.float32

    def test_base_init_must_be_called(self, cuda: FakeCuda) -> None:
        trt = fake_tensorrt(OLD, cuda)
        for base in (trt.ILogger, trt.IProfiler, trt.IInt8EntropyCalibrator2):
            silent = type("Silent", (base,), {"__init__": lambda self: None})
            with pytest.raises(TypeError, match=rf"tensorrt.{base.__name__}.__init__\(\) must be called"):
                silent()
        with pytest.raises(TypeError):
            trt.Builder(None)

    def test_what_is_not_overridden_says_so(self, capfd: Any) -> None:
        trt = fake_tensorrt(NEW, FakeCuda())
        assert trt.IProgressMonitor().step_complete("build", 1) is False
        assert 'Tried to call pure virtual function "IProgressMonitor::step_complete"' in capfd.readouterr().err

    def test_no_dla_core_is_chosen_at_first(self, cuda: FakeCuda) -> None:
        bench = Bench(NEW, cuda)
        assert bench.trt.Runtime(bench.logger).DLA_core == -1


class TestParser:
    def test_network(self, cuda: FakeCuda) -> None:
        bench = Bench(NEW, cuda).parse(conv())
        network = bench.network
        assert [network.get_layer(i).name for i in range(network.num_layers)] == ["conv1", "relu1", "argmax1"]
        assert network.get_layer(0).type == bench.trt.LayerType.CONVOLUTION
        image, out = network.get_input(0), network.get_output(0)
        assert image.name == "image" and image.shape == (1, 3, 8, 8) and image.is_network_input
        assert out.dtype == bench.trt.DataType.INT64 and out.is_network_output
        assert network.get_layer(0).get_output(0).name == "conv" and network.get_layer(9) is None

    @pytest.mark.parametrize("version", VERSIONS)
    def test_an_initializer_as_an_operand_is_a_layer(self, cuda: FakeCuda, version: str) -> None:
        nodes = [
            helper.make_node("Mul", ["image", "scale"], ["scaled"], "mul1"),
            helper.make_node("Add", ["scaled", "shift"], ["shifted"], "add1"),
            helper.make_node("Mul", ["shifted", "scale"], ["again"], "mul2"),
            helper.make_node("Conv", ["again", "w", "bias"], ["conv"], "conv1"),
            helper.make_node("Clip", ["conv", "low", "high"], ["out"], "clip1"),
        ]
        constants = [constant("w", WEIGHT), constant("bias", np.zeros(4)), constant("low", 0), constant("high", 6)]
        constants += [constant("scale", np.ones((1, 3, 1, 1))), constant("shift", 0.5)]
        io = [tensor("image", TensorProto.FLOAT, (1, 3, 8, 8))], [tensor("out", TensorProto.FLOAT, (1, 4, 6, 6))]
        bench = Bench(version, cuda).parse(model(nodes, *io, constants))
        layers = [bench.network.get_layer(index) for index in range(bench.network.num_layers)]
        seen = [(layer.type.name, layer.name, layer.get_output(0).name) for layer in layers]
        numbered = bench.trt.fake.version < (10,)
        row = "ONNXTRT_Broadcast" if bench.trt.fake.version >= (10,) else "(Unnamed Layer* 3) [Shuffle]"
        assert seen == [
            ("CONSTANT", "scale", "(Unnamed Layer* 0) [Constant]_output" if numbered else "scale_output"),
            ("ELEMENTWISE", "mul1", "scaled"),
            ("CONSTANT", "shift", "(Unnamed Layer* 2) [Constant]_output" if numbered else "shift_output"),
            ("SHUFFLE", row, "(Unnamed Layer* 3) [Shuffle]_output" if numbered else f"{row}_output"),
            ("ELEMENTWISE", "add1", "shifted"),
            ("ELEMENTWISE", "mul2", "again"),
            ("CONVOLUTION", "conv1", "conv"),
            ("ACTIVATION", "clip1", "out"),
        ]
        assert [layer.num_inputs for layer in layers] == [0, 2, 0, 1, 2, 2, 1, 1]
        assert layers[5].get_input(1) is layers[0].get_output(0)
        assert layers[4].get_input(1).shape == (1, 1, 1, 1) and layers[2].get_output(0).shape == ()

    @pytest.mark.parametrize("empty", [False, True])
    @pytest.mark.parametrize("op", ["QuantizeLinear", "DequantizeLinear"])
    def test_a_quantizer_needs_its_zero_point_before_10(self, cuda: FakeCuda, op: str, empty: bool) -> None:
        proto = onnx.load_model_from_string(qdq())
        for node in proto.graph.node:
            if node.op_type == op:
                node.input[2:] = [""] if empty else []
        data = proto.SerializeToString()
        for version, words in ((OLD, "requires 3 inputs"), ("8.6.2.3", "_M_range_check")):
            bench = Bench(version, cuda)
            assert words in bench.refuses(data)
            assert bench.parser.get_error(0).code() == bench.trt.ErrorCode.INVALID_NODE
        if op == "DequantizeLinear":
            Bench(NEW, cuda).parse(data)

    def test_int64_becomes_int32_before_10(self, cuda: FakeCuda) -> None:
        bench = Bench(OLD, cuda).parse(conv())
        assert bench.network.get_output(0).dtype == bench.trt.DataType.INT32

    def test_no_onnx(self, cuda: FakeCuda) -> None:
        bench = Bench(NEW, cuda)
        assert "Failed to parse" in bench.refuses(b"hello")
        assert bench.parser.get_error(0).code() == bench.trt.ErrorCode.MODEL_DESERIALIZE_FAILED
        assert not bench.parser.parse_from_file("/nowhere.onnx")

    @pytest.mark.parametrize("version", VERSIONS)
    def test_a_newer_opset_is_parsed_on(self, cuda: FakeCuda, version: str) -> None:
        for opset in (17, 20, onnx.defs.onnx_opset_version()):
            Bench(version, cuda).parse(conv(opset=opset))

    @pytest.mark.parametrize("version", VERSIONS)
    def test_operators_have_importers_from_a_version_on(self, cuda: FakeCuda, version: str) -> None:
        parser = Bench(version, cuda).parser
        first = {"LayerNormalization": (8, 6), "Mish": (10,), "Gelu": (10,), "CastLike": (10,), "STFT": (10, 5)}
        mine = tuple(map(int, version.split(".")))
        for operator, since in {**first, "Swish": (11,), "Conv": (8,), "Det": (99,)}.items():
            assert parser.supports_operator(operator) == (mine >= since), operator

    def test_explicit_batch_is_needed_before_10(self, cuda: FakeCuda) -> None:
        bench = Bench(OLD, cuda)
        bench.network = bench.builder.create_network(0)
        bench.parser = bench.trt.OnnxParser(bench.network, bench.logger)
        assert "EXPLICIT_BATCH" in bench.refuses(conv())

    def test_uint8_feeds_only_a_cast(self, cuda: FakeCuda) -> None:
        for version in VERSIONS:
            bench = Bench(version, cuda)
            assert "TensorRT does not support UINT8 types for intermediate tensors" in bench.refuses(
                uint8_conv("Transpose", "argmax_f")
            )
            assert bench.parser.get_error(0).node() == 0
            Bench(version, cuda).parse(uint8_conv(last="argmax_f"))

    def test_uint8_out_of_integers_from_10(self, cuda: FakeCuda) -> None:
        for version in VERSIONS:
            if version.startswith("8"):
                assert "only FLOAT and HALF can be converted to UINT8" in Bench(version, cuda).refuses(uint8_conv())
            else:
                Bench(version, cuda).parse(uint8_conv())

    @pytest.mark.parametrize("op", ["DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"])
    def test_dynamic_int8(self, cuda: FakeCuda, op: str) -> None:
        nodes = [helper.make_node(op, ["x"], ["y"], "n")]
        data = model(nodes, [tensor("x", TensorProto.FLOAT, (1, 4))], [tensor("y", TensorProto.FLOAT, (1, 4))])
        assert f"No importer registered for op: {op}" in Bench(NEW, cuda).refuses(data)

    def test_quantizers(self, cuda: FakeCuda) -> None:
        Bench(NEW, cuda).parse(qdq())
        assert "must be all zeros" in Bench(NEW, cuda).refuses(qdq(zero=3))
        assert "only INT8" in Bench(NEW, cuda).refuses(qdq(zero=0, zero_type=np.uint8))
        nodes = [helper.make_node("DequantizeLinear", ["b", "s", "z"], ["y"], "n")]
        constants = [constant("b", [1, 2], np.int32), constant("s", 1.0), constant("z", 0, np.int32)]
        data = model(nodes, [], [tensor("y", TensorProto.FLOAT, (2,))], constants)
        assert "INT32 input is not supported" in Bench(NEW, cuda).refuses(data)

    def test_weights(self, cuda: FakeCuda) -> None:
        nodes = [
            helper.make_node("Cast", ["w16"], ["w"], "cast", to=TensorProto.FLOAT),
            helper.make_node("Conv", ["x", "w"], ["y"], "conv1"),
        ]
        shapes = [tensor("x", TensorProto.FLOAT, (1, 3, 8, 8))], [tensor("y", TensorProto.FLOAT, (1, 4, 6, 6))]
        data = model(nodes, *shapes, [constant("w16", WEIGHT, np.float16)])
        assert "kernel weights must be an initializer" in Bench(OLD, cuda).refuses(data)
        Bench(NEW, cuda).parse(data)
        both = [*shapes[0], tensor("w", TensorProto.FLOAT, (4, 3, 3, 3))]
        assert "kernel weights" in Bench(NEW, cuda).refuses(model(nodes[1:], both, shapes[1]))

    def test_resize_scales(self, cuda: FakeCuda) -> None:
        nodes = [helper.make_node("Resize", ["x", "", "s"], ["y"], "resize")]
        inputs = [tensor("x", TensorProto.FLOAT, (1, 3, 8, 8)), tensor("s", TensorProto.FLOAT, (4,))]
        data = model(nodes, inputs, [tensor("y", TensorProto.FLOAT, None)])
        assert "Resize scales must be an initializer!" in Bench(OLD, cuda).refuses(data)


class TestBuild:
    @pytest.mark.parametrize("version", VERSIONS)
    def test_a_plan_is_a_buffer_and_runs(self, cuda: FakeCuda, version: str) -> None:
        bench = Bench(version, cuda).parse(conv())
        plan = bench.build()
        assert plan.nbytes == len(bytes(plan)) == memoryview(plan).nbytes
        with pytest.raises(TypeError):
            len(plan)
        bound = Bound(bench, bench.engine(plan))
        bound.arrays["image"][:] = np.random.default_rng(1).normal(size=(1, 3, 8, 8))
        assert bound.context.execute_async_v3(bound.stream.handle)
        assert not bound.arrays["argmax"].any(), "lazy"
        bound.stream.synchronize()
        assert bound.arrays["argmax"].any()
        assert bound.arrays["argmax"].dtype == (np.int32 if version.startswith("8") else np.int64)

    def test_qdq_needs_the_int8_flag_unless_strongly_typed(self, cuda: FakeCuda) -> None:
        for version in VERSIONS:
            bench = Bench(version, cuda).parse(qdq())
            assert (bench.build() is None) == (not version.startswith("11"))
            if version.startswith("11"):
                continue
            assert "but int8 is not configured in the builder" in bench.errors()
            assert bench.flag("INT8").build() is not None

    def test_strong_typing_and_precision_flags_exclude_each_other(self, cuda: FakeCuda) -> None:
        bench = Bench(NEW, cuda)
        typed = bench.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
        bench.network = bench.builder.create_network(1 << int(typed))
        bench.parser = bench.trt.OnnxParser(bench.network, bench.logger)
        bench.parse(qdq())
        assert bench.build() is not None
        assert bench.flag("INT8").build() is None and "strongly typed" in bench.errors()

    def test_inspector(self, cuda: FakeCuda) -> None:
        bench = Bench(OLD, cuda).parse(qdq()).flag("INT8")
        layers = bench.layers(bench.engine())
        assert [layer["Name"] for layer in layers] == ["quant", "w8 + dequant_w + conv1 + PWN(clip1)"]
        assert [layer["LayerType"] for layer in layers] == ["Reformat", "CaskConvolution"]
        assert layers[1]["Inputs"][0]["Format/Datatype"] == "Thirty-two wide channel vectorized row major Int8 format"
        assert layers[1]["Outputs"][0]["Format/Datatype"] == "Row major linear FP32"
        assert layers[1]["ParameterType"] == "Convolution" and "i8i8" in layers[1]["TacticName"]
        bench.config.profiling_verbosity = bench.trt.ProfilingVerbosity.LAYER_NAMES_ONLY
        engine = bench.engine()
        assert bench.layers(engine) == ["quant", "w8 + dequant_w + conv1 + PWN(clip1)"]
        inspector = engine.create_engine_inspector()
        assert json.loads(inspector.get_layer_information(0, bench.trt.LayerInformationFormat.JSON)) == "quant"
        bench.config.profiling_verbosity = bench.trt.ProfilingVerbosity.NONE
        assert bench.layers(bench.engine()) == []

    def test_fp16_and_reformatting(self, cuda: FakeCuda) -> None:
        bench = Bench(OLD, cuda).parse(conv()).flag("FP16")
        layers = bench.layers(bench.engine())
        assert layers[0]["Name"] == "Reformatting CopyNode for Input Tensor 0 to conv1 + relu1"
        assert layers[1]["Inputs"][0]["Format/Datatype"] == "Channel major FP16 format where channel % 8 == 0"

    def test_half_in_the_graph_needs_the_flag_unless_strongly_typed(self, cuda: FakeCuda) -> None:
        nodes = [
            helper.make_node("Cast", ["x"], ["h"], "down", to=TensorProto.FLOAT16),
            helper.make_node("Relu", ["h"], ["r"], "relu1"),
            helper.make_node("Cast", ["r"], ["y"], "up", to=TensorProto.FLOAT),
        ]
        data = model(nodes, [tensor("x", TensorProto.FLOAT, (1, 4))], [tensor("y", TensorProto.FLOAT, (1, 4))])
        for version in VERSIONS[:5]:
            bench = Bench(version, cuda).parse(data)
            assert bench.build() is None and "but fp16 is not configured in the builder" in bench.errors()
            assert bench.flag("FP16").build() is not None
        assert Bench(VERSIONS[5], cuda).parse(data).build() is not None

    def test_types_of_ports_by_hand(self, cuda: FakeCuda) -> None:
        bench = Bench(NEW, cuda).parse(conv())
        bench.network.get_output(0).dtype = bench.trt.DataType.INT32
        assert bench.engine().get_tensor_dtype("argmax") == bench.trt.DataType.INT32
        bench.network.get_input(0).dtype = bench.trt.DataType.UINT8
        assert bench.build() is None and "cannot be UINT8" in bench.errors()

    def test_out_of_memory(self, cuda: FakeCuda) -> None:
        bench = Bench(NEW, cuda, build_needs_mib=5000).parse(conv())
        assert bench.build() is None and "Cuda Runtime (out of memory)" in bench.errors()

    def test_uint8_io_can_be_missing(self, cuda: FakeCuda) -> None:
        bench = Bench(NEW, cuda, uint8_io=False).parse(uint8_conv())
        assert bench.build() is None and "UINT8 I/O not supported" in bench.errors()

    def test_dynamic_shapes_need_a_profile(self, cuda: FakeCuda) -> None:
        bench = Bench(NEW, cuda).parse(conv(("n", 3, 8, 8)))
        assert bench.build() is None and "no optimization profile" in bench.errors()
        profile = bench.builder.create_optimization_profile()
        profile.set_shape("image", (1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 8, 8))
        assert bench.config.add_optimization_profile(profile) == 0
        engine = bench.engine()
        context = engine.create_execution_context()
        assert engine.get_tensor_shape("image") == (-1, 3, 8, 8)
        assert context.infer_shapes() == ["image"] and not context.all_binding_shapes_specified
        assert not context.set_input_shape("image", (8, 3, 8, 8)) and "does not satisfy" in bench.errors()
        assert context.set_input_shape("image", (2, 3, 8, 8))
        assert context.get_tensor_shape("argmax") == (2, 8, 8)

    def test_progress_can_cancel(self, cuda: FakeCuda) -> None:
        bench = Bench(NEW, cuda).parse(conv())
        trt = bench.trt

        class Monitor(trt.IProgressMonitor):
            def __init__(self, answer: Any) -> None:
                trt.IProgressMonitor.__init__(self)
                self.answer, self.seen = answer, []

            def phase_start(self, phase_name: str, parent_phase: Any, num_steps: int) -> None:
                self.seen.append(("start", phase_name, parent_phase))

            def step_complete(self, phase_name: str, step: int) -> Any:
                return self.answer

            def phase_finish(self, phase_name: str) -> None:
                self.seen.append(("finish", phase_name))

        bench.config.progress_monitor = monitor = Monitor(True)
        assert bench.build() is not None
        assert monitor.seen[0] == ("start", "Building engine", None) and monitor.seen[-1] == (
            "finish",
            "Building engine",
        )
        for answer in (False, None):
            bench.config.progress_monitor = monitor = Monitor(answer)
            assert bench.build() is None and "cancelled" in bench.errors()
            assert monitor.seen[-1] == ("finish", "Building engine")

    def test_timing_cache(self, cuda: FakeCuda) -> None:
        bench = Bench(NEW, cuda).parse(conv())
        cache = bench.config.create_timing_cache(b"")
        assert bench.config.set_timing_cache(cache, False)
        bench.build()
        timed = bench.trt.fake.timings
        assert timed > 0
        saved = bytes(bench.config.get_timing_cache().serialize())
        again = Bench(NEW, cuda).parse(conv())
        assert again.config.set_timing_cache(again.config.create_timing_cache(saved), False)
        again.build()
        assert again.trt.fake.timings == 0
        other = Bench(OLD, cuda)
        assert not other.config.set_timing_cache(other.config.create_timing_cache(saved), True)
        assert "timing cache" in other.warnings()
        assert not other.config.set_timing_cache(other.config.create_timing_cache(b"rubbish"), False)


class TestDla:
    def test_cores(self) -> None:
        for version, cores in zip([*VERSIONS, "11.3.0.1"], (2, 2, 2, 0, 0, 2, 0)):
            assert fake_tensorrt(version, FakeCuda(), dla_cores=2).fake.num_dla_cores == cores, version

    def test_a_layer_that_cannot_needs_fallback(self, cuda: FakeCuda) -> None:
        bench = Bench(NEW, cuda, dla_cores=2).parse(conv()).flag("FP16")
        network, config = bench.network, bench.config
        assert [config.can_run_on_DLA(network.get_layer(i)) for i in range(3)] == [True, True, False]
        config.default_device_type, config.DLA_core = bench.trt.DeviceType.DLA, 1
        assert bench.build() is None and "layer argmax1 is not supported on DLA" in bench.errors()
        assert bench.flag("GPU_FALLBACK").build() is not None
        bench.dla_core = 1
        layers = bench.layers(bench.engine())
        assert ("{ForeignNode[conv1...relu1]}", "DLA") in [(layer["Name"], layer["LayerType"]) for layer in layers]
        config.DLA_core = 2
        assert bench.build() is None

    def test_a_plan_for_dla_wants_a_core_that_is_set(self, cuda: FakeCuda) -> None:
        bench = Bench(NEW, cuda, dla_cores=2).parse(conv()).flag("FP16", "GPU_FALLBACK")
        assert bench.engine() is not None, "a plan for the GPU wants none"
        bench.config.default_device_type, bench.config.DLA_core = bench.trt.DeviceType.DLA, 1
        assert bench.engine() is None and "no DLA core is set" in bench.errors()
        for core, expected in ((1, 1), (2, -1), (-1, -1)):
            bench.runtime = bench.trt.Runtime(bench.logger)
            assert bench.runtime.DLA_core == -1, "the default"
            bench.runtime.DLA_core = core
            assert bench.runtime.DLA_core == expected
        assert "dlaCore < getNbDLACores()" in bench.errors()
        bench.dla_core = 1
        assert bench.engine() is not None and bench.trt.fake.dla_core_used == 1
        without = Bench(NEW, cuda)
        without.runtime = without.trt.Runtime(without.logger)
        without.runtime.DLA_core = 0
        assert without.runtime.DLA_core == -1, "where there are no cores, setting one does nothing"


class TestInt8:
    def calibrator(self, bench: Bench, cache: bytes | None = None, batches: Any = (), pointer: Any = None) -> Any:
        trt, drv = bench.trt, bench.cuda.driver

        class Calibrator(trt.IInt8EntropyCalibrator2):
            def __init__(self) -> None:
                trt.IInt8EntropyCalibrator2.__init__(self)
                self.device = drv.mem_alloc(4 * 3 * 64)
                self.batches, self.written, self.calls = list(batches), None, 0

            def get_batch_size(self) -> int:
                return 1

            def get_batch(self, names: list[str]) -> Any:
                self.calls += 1
                assert names == ["image"]
                if not self.batches:
                    return None
                batch = self.batches.pop(0)
                if isinstance(batch, Exception):
                    raise batch
                drv.memcpy_htod(self.device, batch)
                return [int(self.device) if pointer is None else pointer]

            def read_calibration_cache(self) -> bytes | None:
                return cache

            def write_calibration_cache(self, data: Any) -> None:
                self.written = bytes(data)

        return Calibrator()

    def test_calibration(self, cuda: FakeCuda) -> None:
        bench = Bench(OLD, cuda).parse(conv()).flag("INT8")
        images = [np.full((1, 3, 8, 8), value, np.float32) for value in (1.0, 2.0)]
        bench.config.int8_calibrator = calibrator = self.calibrator(bench, batches=images)
        engine = bench.engine()
        assert calibrator.calls == 3
        lines = calibrator.written.decode().splitlines()
        assert lines[0] == "TRT-8502-EntropyCalibration2"
        assert dict(line.split(": ") for line in lines[1:])["image"] == struct.pack(">f", 2 / 127).hex()
        assert "Int8" in bench.layers(engine)[1]["Inputs"][0]["Format/Datatype"]
        bound = Bound(bench, engine)
        bound.arrays["image"][:] = 1
        bound.run()
        assert bound.arrays["argmax"].any()

    def test_a_cache_is_used_if_its_header_fits(self, cuda: FakeCuda) -> None:
        for header, version, used in (
            ("TRT-8502-EntropyCalibration2", OLD, True),
            ("TRT-100300-EntropyCalibration2", NEW, True),
            ("TRT-8601-EntropyCalibration2", OLD, False),
            ("TRT-8502-MinMaxCalibration", OLD, False),
        ):
            bench = Bench(version, cuda).parse(conv()).flag("INT8")
            text = f"{header}\nimage: 3c010204\nconv: 3c010204\nrelu: 3c010204\n"
            bench.config.int8_calibrator = calibrator = self.calibrator(bench, text.encode())
            assert bench.build() is not None
            assert calibrator.calls == (0 if used else 1) and (calibrator.written is None) == used
        lenient = Bench(OLD, cuda, strict_cache_header=False).parse(conv()).flag("INT8")
        cache = b"TRT-8601-EntropyCalibration2\nimage: 3c010204\n"
        lenient.config.int8_calibrator = calibrator = self.calibrator(lenient, cache)
        engine = lenient.engine()
        assert calibrator.calls == 0
        assert "Missing scale and zero-point for tensor conv, expect fall back to non-int8" in lenient.warnings()
        assert "Int8" not in json.dumps(lenient.layers(engine))

    def test_an_exception_in_get_batch_is_the_end_of_the_data(self, cuda: FakeCuda, capsys: Any) -> None:
        bench = Bench(OLD, cuda).parse(conv()).flag("INT8")
        bench.config.int8_calibrator = calibrator = self.calibrator(bench, batches=[ValueError("no more")])
        assert bench.build() is not None, "over no image at all"
        assert calibrator.calls == 1
        assert "[ERROR] Exception caught in get_batch(): ValueError: no more" in capsys.readouterr().err

    def test_a_bad_pointer_is_an_illegal_access(self) -> None:
        cuda = FakeCuda()
        cuda.driver.init()
        cuda.driver.Device(0).retain_primary_context().push()
        bench = Bench(OLD, cuda).parse(conv()).flag("INT8")
        image = np.zeros((1, 3, 8, 8), np.float32)
        bench.config.int8_calibrator = self.calibrator(bench, batches=[image], pointer=4096)
        assert bench.build() is None and "illegal memory access" in bench.errors()
        with pytest.raises(cuda.driver.LogicError, match="illegal memory access"):
            cuda.driver.Context.synchronize()
        cuda.driver.Context.pop()

    def test_ranges_by_hand(self, cuda: FakeCuda) -> None:
        bench = Bench(NEW, cuda).parse(conv()).flag("INT8")
        assert bench.build() is None and "no scaling factors detected" in bench.errors()
        for index in range(2):
            layer = bench.network.get_layer(index)
            for value in (layer.get_input(0), layer.get_output(0)):
                assert value.set_dynamic_range(-2.0, 2.0) and value.dynamic_range == (-2.0, 2.0)
        assert "Int8" in json.dumps(bench.layers(bench.engine()))
        bench.network.get_layer(0).precision = bench.trt.DataType.FLOAT
        bench.flag("OBEY_PRECISION_CONSTRAINTS")
        conv1 = [layer for layer in bench.layers(bench.engine()) if "conv1" in layer["Name"]][-1]
        assert "Int8" not in conv1["Inputs"][0]["Format/Datatype"]


class TestPlans:
    def plan(self, cuda: FakeCuda, version: str = NEW) -> bytes:
        return bytes(Bench(version, cuda).parse(conv()).build())

    def test_refusals(self, cuda: FakeCuda) -> None:
        plan = self.plan(cuda)
        for broken, text in (
            (self.plan(cuda, OLD), "expecting library version 10.3.0.30 got 8.5.2.2, please rebuild"),
            (plan[:-10], "truncated"),
            (plan[:-10] + bytes(10), "corrupted"),
            (b"{}" + plan, "kPLAN_MAGIC_TAG"),
            (b"", "kPLAN_MAGIC_TAG"),
        ):
            bench = Bench(NEW, cuda)
            assert bench.engine(broken) is None and text in bench.errors()
            assert "Engine deserialization failed" in bench.errors()

    def test_another_device(self, cuda: FakeCuda) -> None:
        plan = self.plan(cuda)
        xavier = FakeCuda(compute_capability=(7, 2), name="Xavier")
        xavier.driver.init()
        xavier.driver.Device(0).retain_primary_context().push()
        bench = Bench(NEW, xavier)
        assert bench.engine(plan) is None and "expecting compute 7.2 got compute 8.7, please rebuild" in bench.errors()
        xavier.driver.Context.pop()
        cuda.name = "Orin Nano"
        bench = Bench(NEW, cuda)
        assert bench.engine(plan) is not None and "different models of devices" in bench.warnings()


class TestExecution:
    def test_what_is_missing_is_false(self, cuda: FakeCuda) -> None:
        bench = Bench(NEW, cuda).parse(conv())
        engine = bench.engine()
        context, stream = engine.create_execution_context(), cuda.driver.Stream(1)
        assert context.execute_async_v3(stream.handle) is False and "Address is not set for input" in bench.errors()
        assert context.set_tensor_address("nothing", 4096) is False
        assert context.set_input_shape("image", (1, 3, 9, 8)) is False and "Static dimension mismatch" in bench.errors()
        assert context.set_tensor_address("image", 4097) is False
        assert engine.get_tensor_mode("image") == bench.trt.TensorIOMode.INPUT
        assert engine.get_tensor_location("image") == bench.trt.TensorLocation.DEVICE

    def test_a_wild_address_poisons(self) -> None:
        cuda = FakeCuda()
        cuda.driver.init()
        cuda.driver.Device(0).retain_primary_context().push()
        bench = Bench(NEW, cuda).parse(conv())
        bound = Bound(bench, bench.engine())
        bound.context.set_tensor_address("image", 4096)
        assert bound.context.execute_async_v3(bound.stream.handle)
        with pytest.raises(cuda.driver.LogicError, match="illegal memory access"):
            bound.stream.synchronize()
        assert bound.context.execute_async_v3(bound.stream.handle) is False
        cuda.driver.Context.pop()

    def test_the_default_stream_warns(self, cuda: FakeCuda) -> None:
        bench = Bench(NEW, cuda).parse(conv())
        bound = Bound(bench, bench.engine())
        assert bound.context.execute_async_v3(0)
        assert "Using default stream in enqueueV3()" in bench.warnings()

    def test_capture_after_one_enqueue(self, cuda: FakeCuda) -> None:
        lib = cuda.libcuda
        bench = Bench(OLD, cuda).parse(conv())
        bound = Bound(bench, bench.engine())
        stream, graph, graph_exec = ctypes.c_void_p(bound.stream.handle), ctypes.c_void_p(), ctypes.c_void_p()
        lib.cuStreamBeginCapture_v2(stream, ctypes.c_int(1))
        assert bound.context.execute_async_v3(bound.stream.handle) is False
        assert lib.cuStreamEndCapture(stream, ctypes.byref(graph)) == 901
        bound.run()
        lib.cuStreamBeginCapture_v2(stream, ctypes.c_int(1))
        assert bound.context.execute_async_v3(bound.stream.handle)
        assert lib.cuStreamEndCapture(stream, ctypes.byref(graph)) == 0
        assert lib.cuGraphInstantiateWithFlags(ctypes.byref(graph_exec), graph, ctypes.c_ulonglong(0)) == 0
        before = bound.arrays["argmax"].copy()
        bound.arrays["image"][:] = np.random.default_rng(1).normal(size=(1, 3, 8, 8))
        assert lib.cuGraphLaunch(graph_exec, stream) == 0
        bound.stream.synchronize()
        assert (bound.arrays["argmax"] != before).any()
        bound.context = None
        assert lib.cuGraphLaunch(graph_exec, stream) == 0
        with pytest.raises(cuda.driver.LogicError, match="illegal memory access"):
            bound.stream.synchronize()

    def test_profiler(self, cuda: FakeCuda) -> None:
        bench = Bench(NEW, cuda).parse(conv())
        trt, names = bench.trt, []

        class Profiler(trt.IProfiler):
            def __init__(self) -> None:
                trt.IProfiler.__init__(self)

            def report_layer_time(self, layer_name: str, ms: float) -> None:
                names.append(layer_name)

        bound = Bound(bench, bench.engine())
        bound.context.profiler = Profiler()
        assert bound.context.execute_async_v3(bound.stream.handle)
        assert names == ["conv1 + relu1", "argmax1"]

    def test_memory_is_counted_and_given_back(self, cuda: FakeCuda) -> None:
        bench = Bench(NEW, cuda).parse(conv())
        engine = bench.engine()
        assert cuda.live()["device allocations"] == 1, "weights"
        context = engine.create_execution_context()
        assert cuda.live()["device allocations"] == 2
        assert bench.trt.live()["engines"] == bench.trt.live()["contexts"] == 1
        mark = cuda.mark()
        del engine
        gc.collect()
        assert bench.trt.live()["engines"] == 1, "the context keeps its engine"
        del context
        gc.collect()
        assert cuda.live()["device allocations"] == 0 and cuda.allocated_since(mark) == 0
        trt = bench.trt
        del bench
        gc.collect()
        assert not any(trt.live().values())

    def test_steady_state_allocates_nothing(self, cuda: FakeCuda) -> None:
        bench = Bench(NEW, cuda).parse(conv())
        bound = Bound(bench, bench.engine())
        mark = cuda.mark()
        for _ in range(3):
            bound.run()
        assert cuda.allocated_since(mark) == 0


class TestFaults:
    @pytest.mark.parametrize(
        "name",
        [
            "trt.Builder.build_serialized_network",
            "trt.Builder.create_network",
            "trt.Builder.create_builder_config",
            "trt.Runtime.deserialize_cuda_engine",
            "trt.ICudaEngine.create_execution_context",
            "trt.IExecutionContext.set_tensor_address",
            "trt.IExecutionContext.execute_async_v3",
            "trt.OnnxParser.parse",
        ],
    )
    def test_the_call_fails_its_way_and_says_so(self, cuda: FakeCuda, name: str) -> None:
        bench = Bench(NEW, cuda)
        if name != "trt.OnnxParser.parse":
            bench.parse(conv())
        engine = bench.engine() if "Engine" in name or "Context" in name else None
        context = engine.create_execution_context() if "Context" in name else None
        cuda.faults.fail_next(name)
        result = {
            "build_serialized_network": bench.build,
            "create_network": bench.builder.create_network,
            "create_builder_config": bench.builder.create_builder_config,
            "deserialize_cuda_engine": lambda: bench.trt.Runtime(bench.logger).deserialize_cuda_engine(b"x"),
            "create_execution_context": lambda: engine.create_execution_context(),
            "set_tensor_address": lambda: context.set_tensor_address("image", 0),
            "execute_async_v3": lambda: context.execute_async_v3(0),
            "parse": lambda: bench.parser.parse(conv()),
        }[name.rsplit(".", 1)[1]]()
        assert not result and result in (None, False)
        assert "Internal Error" in bench.errors()

    def test_constructors_raise(self, cuda: FakeCuda) -> None:
        cuda.faults.fail_next("trt.Builder")
        with pytest.raises(TypeError, match="factory function returned nullptr"):
            Bench(NEW, cuda)

    def test_no_context_is_noted(self) -> None:
        cuda = FakeCuda()
        bench = Bench(NEW, cuda).parse(conv())
        assert bench.build() is not None
        assert cuda.implicit_contexts == ["build_serialized_network"]
