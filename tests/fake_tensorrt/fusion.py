"""The layers of an engine, as TensorRT names and fuses them."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import onnx
from onnx import TensorProto

from tests.fake_tensorrt.operators import FUSED_ACTIVATIONS, WEIGHTED

if TYPE_CHECKING:
    from tests.fake_tensorrt.build import Build


class Fusion:
    """The layers of the engine, as TensorRT names and fuses them."""

    def __init__(self, build: Build) -> None:
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
