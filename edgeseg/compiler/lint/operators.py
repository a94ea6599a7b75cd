"""Which ONNX operators the parser of each TensorRT imports: those for which NVIDIA's onnx-tensorrt defines an importer.

What no version imports needs a plugin of that name. TensorRT's own operators (``TRT_...``) are left out.
"""

from __future__ import annotations

from functools import lru_cache

__all__ = ["first_importer", "imported_operators"]

_ADDED = {
    (8, 5): (
        "Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Cast Ceil Celu Clip "
        "Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DepthToSpace DequantizeLinear Div Dropout "
        "Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements GatherND Gemm "
        "GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample HardSigmoid HardSwish Identity "
        "If ImageScaler InstanceNormalization IsNaN LRN LSTM LeakyRelu Less LessOrEqual Log LogSoftmax Loop "
        "LpNormalization LpPool MatMul Max MaxPool Mean MeanVarianceNormalization Min Mod Mul Neg NonMaxSuppression "
        "NonZero Not OneHot Or PRelu Pad ParametricSoftplus Pow QuantizeLinear RNN RandomNormal RandomNormalLike "
        "RandomUniform RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax "
        "ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence RoiAlign Round "
        "ScaledTanh Scan Scatter ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax "
        "Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu "
        "Unsqueeze Upsample Where Xor"
    ),
    (8, 6): "GroupNormalization IsInf LayerNormalization",
    (10, 0): "CastLike Gelu Hardmax Mish",
    (10, 1): "DeformConv",
    (10, 4): "BlackmanWindow HammingWindow HannWindow",
    (10, 5): "STFT",
    (10, 14): "Attention",
    (10, 15): "RMSNormalization RotaryEmbedding TensorScatter",
    (11, 0): "Swish",
    (11, 2): "DFT",
}
"""Version -> the operators that it was the first to import; none was taken away."""

_RTX_FROM, _RTX_ADDED, _RTX_LACKS = (11, 1), "CausalConvWithState LinearAttention", "DeformConv"
"""TensorRT-RTX 1.7, by what its parser says of itself: TensorRT 11.1's, more and less."""


@lru_cache(maxsize=None)
def imported_operators(product: str, version: tuple[int, int]) -> frozenset[str]:
    """Return the operators that ``"TensorRT"`` or ``"TensorRT-RTX"`` of a version (major, minor) imports.

    Before 8.5 they are those of 8.5, and of TensorRT-RTX those of 1.7 whatever its version.
    """
    if product == "TensorRT-RTX":
        own = imported_operators("TensorRT", _RTX_FROM) | set(_RTX_ADDED.split())
        return own - set(_RTX_LACKS.split())
    until = max(version, min(_ADDED))
    return frozenset(name for since, names in _ADDED.items() if since <= until for name in names.split())


def first_importer(operator: str) -> tuple[int, int] | None:
    """Return the first TensorRT, (major, minor), that imports an operator; None when none does."""
    return next((since for since, names in _ADDED.items() if operator in names.split()), None)
