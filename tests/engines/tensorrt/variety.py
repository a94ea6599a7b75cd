"""Small networks of many shapes, as the compiler folds them: uint8 frame -> uint8 classes; drawn at random, but for the
parts that are asked for. Weights keep the values in bounds and the classes apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from edgeseg.bundle import Bundle, Golden, GraphEntry
from edgeseg.compiler.graph.tensors import float_activations
from edgeseg.ranges import Ranges
from edgeseg.recipes import Fp32
from edgeseg.report_data import Limits, Report
from edgeseg.spec import ModelSpec, Preprocess

SIZE_HW = (32, 40)
BODIES = (
    "depthwise",
    "residual",
    "concat",
    "gate",
    "pooled",
    "prelu",
    "added",
    "scaled",
    "attention",
    "linear",
    "late",
)
HEADS = ("conv", "deconv", "matmul", "gemm", "resize", "crop", "sum", "activation", "pair")
INPUTS = ("plain", "mean", "mean-std-order")


class Network:
    """A network of parts.

    Args:
        seed: of its weights.
        start: one of ``INPUTS``: what lies before the first convolution.
        bodies: of ``BODIES``: what lies between.
        head: one of ``HEADS``: what makes the logits.
        classes: how many.
        scores: with the output ``scores``.
    """

    def __init__(
        self, seed: int, start: str, bodies: tuple[str, ...], head: str, *, classes: int = 24, scores: bool = False
    ) -> None:
        self._rng = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, np.ndarray] = {}
        self.classes, self.scores = classes, scores
        self.channels = 8
        self._gain = {3: 1.5 if start == "mean-std-order" else 0.02}  # of weights that read what frames become
        tensor = self._conv(getattr(self, "_from_" + start.replace("-", "_"))(), 3, self.channels, 3)
        tensor = self._node("Clip", tensor, self._constant("low", np.float32(0)), self._constant("high", np.float32(6)))
        for body in bodies:
            tensor = getattr(self, f"_{body}")(tensor)
        self._finish(getattr(self, f"_{head}_head")(tensor))

    # parts

    def _from_plain(self) -> str:
        cast = self._named("frame_float", "Cast", "frame", to=TensorProto.FLOAT)
        return self._named("input", "Transpose", cast, perm=[0, 3, 1, 2])

    def _from_mean(self) -> str:
        cast = self._named("frame_float", "Cast", "frame", to=TensorProto.FLOAT)
        nchw = self._named("frame_nchw", "Transpose", cast, perm=[0, 3, 1, 2])
        mean = self._constant("frame_mean", np.array([103.5, 116.3, 123.7], np.float32).reshape(1, 3, 1, 1))
        return self._named("input", "Sub", nchw, mean)

    def _from_mean_std_order(self) -> str:
        cast = self._named("frame_float", "Cast", "frame", to=TensorProto.FLOAT)
        nchw = self._named("frame_nchw", "Transpose", cast, perm=[0, 3, 1, 2])
        mean = self._constant("frame_mean", np.array([103.5, 116.3, 123.7], np.float32).reshape(1, 3, 1, 1))
        std = self._constant("frame_std", np.array([57.4, 57.1, 58.4], np.float32).reshape(1, 3, 1, 1))
        scaled = self._named("frame_scaled", "Div", self._named("frame_centred", "Sub", nchw, mean), std)
        return self._named("input", "Gather", scaled, self._constant("frame_order", np.array([2, 1, 0])), axis=1)

    def _conv(self, tensor: str, inputs: int, outputs: int, size: int, *, groups: int = 1, stride: int = 1) -> str:
        fan = inputs // groups * size * size
        spread = self._gain.get(inputs, 1.5) / np.sqrt(fan)
        weight = self._rng.normal(0, spread, (outputs, inputs // groups, size, size))
        operands = [self._constant("weight", weight.astype(np.float32)), self._constant("bias", self._values(outputs))]
        pads, strides = [size // 2] * 4, [stride] * 2
        return self._node("Conv", tensor, *operands, pads=pads, group=groups, strides=strides)

    def _depthwise(self, tensor: str) -> str:
        return self._node("Relu", self._conv(tensor, self.channels, self.channels, 3, groups=self.channels))

    def _residual(self, tensor: str) -> str:
        inner = self._node("Relu", self._conv(tensor, self.channels, self.channels, 3))
        return self._node("Relu", self._node("Add", tensor, self._conv(inner, self.channels, self.channels, 1)))

    def _concat(self, tensor: str) -> str:
        other = self._node("Relu", self._conv(tensor, self.channels, self.channels, 3))
        joined = self._node("Concat", tensor, other, axis=1)
        return self._node("Relu", self._conv(joined, 2 * self.channels, self.channels, 1))

    def _gate(self, tensor: str) -> str:
        small = self._node("Relu", self._conv(self._node("GlobalAveragePool", tensor), self.channels, 4, 1))
        return self._node("Mul", tensor, self._node("Sigmoid", self._conv(small, 4, self.channels, 1)))

    def _pooled(self, tensor: str) -> str:
        small = self._node("MaxPool", tensor, kernel_shape=[2, 2], strides=[2, 2])
        return self._doubled(self._node("Relu", self._conv(small, self.channels, self.channels, 3)))

    def _prelu(self, tensor: str) -> str:
        slope = self._constant("slope", np.abs(self._values(self.channels)).reshape(-1, 1, 1))
        return self._node("PRelu", self._conv(tensor, self.channels, self.channels, 1), slope)

    def _added(self, tensor: str) -> str:
        value = self._constant("offset", self._values(self.channels).reshape(1, -1, 1, 1))
        made = self._node("Add", self._conv(tensor, self.channels, self.channels, 1), value)
        return self._node("LeakyRelu", made, alpha=0.1)

    def _scaled(self, tensor: str) -> str:
        value = self._constant("factor", (1 + self._values(self.channels)).reshape(-1, 1, 1))
        return self._node("Relu", self._node("Mul", self._conv(tensor, self.channels, self.channels, 3), value))

    def _attention(self, tensor: str) -> str:
        rows = self._rows(self._conv(tensor, self.channels, self.channels, 1))
        columns = self._node("Transpose", rows, perm=[0, 2, 1])
        weights = self._node("Softmax", self._node("MatMul", columns, rows), axis=-1)
        mixed = self._map(self._node("MatMul", rows, weights), self.channels)
        return self._node("Relu", self._conv(self._node("Add", tensor, mixed), self.channels, self.channels, 1))

    def _linear(self, tensor: str) -> str:
        kernel = self._constant("kernel", self._matrix(self.channels))
        added = self._node(
            "Add", self._node("MatMul", self._rows(tensor), kernel), self._constant("b", self._values(8))
        )
        return self._map(self._node("Relu", added), self.channels)

    def _late(self, tensor: str) -> str:
        """What the first convolution reads comes in again."""
        small = self._node("AveragePool", "input", kernel_shape=[3, 3], pads=[1] * 4)
        factor = self._constant("f", np.float32(self._gain[3]))
        joined = self._node("Concat", tensor, self._node("Mul", small, factor), axis=1)
        return self._node("Relu", self._conv(joined, self.channels + 3, self.channels, 1))

    # heads

    def _conv_head(self, tensor: str) -> str:
        return self._conv(tensor, self.channels, self.classes, 1)

    def _deconv_head(self, tensor: str) -> str:
        small = self._node("Relu", self._conv(tensor, self.channels, self.channels, 3, stride=2))
        weight = self._constant("up", self._rng.normal(0, 0.4, (self.channels, self.classes, 2, 2)).astype(np.float32))
        return self._node("ConvTranspose", small, weight, strides=[2, 2])

    def _matmul_head(self, tensor: str) -> str:
        kernel = self._constant("kernel", self._matrix(self.classes))
        return self._map(self._node("MatMul", self._rows(tensor), kernel), self.classes)

    def _gemm_head(self, tensor: str) -> str:
        flat = self._constant("flat", np.array([-1, self.channels]))
        kernel, bias = self._constant("kernel", self._matrix(self.classes).T), self._constant("b", self._values(24))
        made = self._node("Gemm", self._node("Reshape", self._rows(tensor), flat), kernel, bias, transB=1)
        shape = self._constant("shape", np.array([1, SIZE_HW[0] * SIZE_HW[1], self.classes]))
        return self._map(self._node("Reshape", made, shape), self.classes)

    def _resize_head(self, tensor: str) -> str:
        return self._doubled(self._conv(tensor, self.channels, self.classes, 3, stride=2))

    def _crop_head(self, tensor: str) -> str:
        large = self._node("Pad", self._conv_head(tensor), self._constant("pads", np.array([0, 0, 0, 0, 0, 0, 2, 2])))
        bounds = (np.array([0, 0]), np.array(SIZE_HW), np.array([2, 3]))
        return self._node("Slice", large, *(self._constant("bound", bound) for bound in bounds))

    def _sum_head(self, tensor: str) -> str:
        """Two heads of two depths; the deeper one comes first in the list of nodes."""
        deep = self._resize_head(self._depthwise(tensor))
        return self._node("Add", deep, self._conv_head(tensor))

    def _activation_head(self, tensor: str) -> str:
        return self._node("LeakyRelu", self._conv_head(tensor), alpha=0.3)

    def _pair_head(self, tensor: str) -> str:
        """Two heads that are multiplied; the one that the first nodes make is the less deep one."""
        logits = self._conv_head(tensor)
        sure = self._node("Sigmoid", self._conv(self._depthwise(tensor), self.channels, self.classes, 1))
        return self._node("Mul", logits, sure)

    # tools

    def _doubled(self, tensor: str) -> str:
        scales = self._constant("scales", np.array([1, 1, 2, 2], np.float32))
        how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        return self._node("Resize", tensor, "", scales, **how)

    def _rows(self, tensor: str) -> str:
        shape = self._constant("shape", np.array([1, -1, SIZE_HW[0] * SIZE_HW[1]]))
        return self._node("Transpose", self._node("Reshape", tensor, shape), perm=[0, 2, 1])

    def _map(self, rows: str, channels: int) -> str:
        shape = self._constant("shape", np.array([1, channels, *SIZE_HW]))
        return self._node("Reshape", self._node("Transpose", rows, perm=[0, 2, 1]), shape)

    def _matrix(self, columns: int) -> np.ndarray:
        return self._rng.normal(0, 0.6, (self.channels, columns)).astype(np.float32)

    def _values(self, count: int) -> np.ndarray:
        return self._rng.normal(0, 0.5, count).astype(np.float32)

    def _constant(self, name: str, value: Any) -> str:
        name = f"{name}{len(self._constants)}"
        self._constants[name] = np.asarray(value)
        return name

    def _node(self, op: str, *inputs: str, **attributes: Any) -> str:
        return self._named(f"t{len(self._nodes)}", op, *inputs, **attributes)

    def _named(self, output: str, op: str, *inputs: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(op, list(inputs), [output], f"{op}_{output}", **attributes))
        return output

    def _finish(self, logits: str) -> None:
        self.logits = logits
        self._named("argmax", "ArgMax", logits, axis=1, keepdims=0)
        self._named("classes_float", "Cast", "argmax", to=TensorProto.FLOAT)
        self._named("classes", "Cast", "classes_float", to=TensorProto.UINT8)
        frame = helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, *SIZE_HW, 3])
        outputs = [helper.make_tensor_value_info("classes", TensorProto.UINT8, [1, *SIZE_HW])]
        if self.scores:
            self._named("scores", "Softmax", logits, axis=1)
            outputs.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, self.classes, *SIZE_HW]))
        initializers = [numpy_helper.from_array(value, name) for name, value in self._constants.items()]
        graph = helper.make_graph(self._nodes, "variety", [frame], outputs, initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        self.model = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        onnx.checker.check_model(self.model)

    def frames(self, count: int) -> np.ndarray:
        small = np.random.default_rng(5).integers(0, 256, (count, SIZE_HW[0] // 4, SIZE_HW[1] // 4, 3), dtype=np.uint8)
        return np.repeat(np.repeat(small, 4, 1), 4, 2)

    def values(self, frames: np.ndarray) -> dict[str, np.ndarray]:
        """What ONNX Runtime computes: every float tensor and the classes, over all frames."""
        import onnxruntime

        wide = onnx.ModelProto()
        wide.CopyFrom(self.model)
        names = float_activations(self.model)
        del wide.graph.output[:]
        wide.graph.output.append(self.model.graph.output[0])
        wide.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
        session = onnxruntime.InferenceSession(wide.SerializeToString(), providers=["CPUExecutionProvider"])
        runs = [session.run(None, {"frame": frame[None]}) for frame in frames]
        return {name: np.concatenate(found) for name, found in zip(["classes", *names], zip(*runs))}

    def bundle(self) -> Bundle:
        """A bundle for implicit INT8."""
        frames = self.frames(4)
        values = self.values(frames)
        ranges = {name: (float(v.min()), float(v.max())) for name, v in values.items() if name != "classes"}
        names = tuple(f"class{index}" for index in range(self.classes))
        spec = ModelSpec(names, tuple((index, 0, 0) for index in range(self.classes)), SIZE_HW, Preprocess())
        graphs = {"fp32": GraphEntry(self.model.SerializeToString(), Fp32())}
        classes = values["classes"]
        golden = Golden(frames, np.full_like(classes, 255), classes)
        return Bundle(spec, graphs, Ranges(ranges), golden, Report(limits=Limits(min_agreement=0.0)))


def drawn(seed: int) -> Network:
    """A network of which every part is drawn."""
    rng = np.random.default_rng(seed)
    bodies = tuple(str(body) for body in rng.choice(BODIES, rng.integers(1, 5)))
    return Network(seed, str(rng.choice(INPUTS)), bodies, str(rng.choice(HEADS)), scores=bool(rng.integers(2)))
