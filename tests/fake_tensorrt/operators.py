"""What the ONNX parser imports, and the layers that it makes of operators."""

from __future__ import annotations

import json
from pathlib import Path

_IMPORTERS = json.loads((Path(__file__).parents[1] / "importers.json").read_text())["operators"]
IMPORTERS = {
    tuple(map(int, name.split("."))): frozenset(names.split())
    for name, names in _IMPORTERS.items()
    if not name.startswith("rtx")
}
"""Version -> the operators that its ONNX parser imports, as NVIDIA's sources define them. The opset plays no part: the
parser reads what is newer than itself by the newest definition that it knows."""
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

BEFORE_8_6 = {"CAST": "IDENTITY", "NORMALIZATION": "PLUGIN_V2"}
"""What 8.5's parser adds for layers that came with 8.6."""
WEIGHT_INPUTS = {
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
BROADCASTING = {op for op, layer in LAYER_OF_OP.items() if layer == "ELEMENTWISE"} | {"MatMul", "PRelu", "Where"}
