"""Dynamic INT8: weights quantized now, activation scales per frame. A CPU artefact; TensorRT cannot load it."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Iterator

from edgeseg.errors import require
from edgeseg.files import scratch_folder

if TYPE_CHECKING:
    import onnx

__all__ = ["dynamic_int8_onnx"]


def dynamic_int8_onnx(model: onnx.ModelProto) -> onnx.ModelProto:
    """Quantize all convolutions dynamically with ONNX Runtime (``ConvInteger`` has u8 kernels only, so u8 weights)."""
    onnx_package = require("onnx", "compile")
    quantization = require("onnxruntime.quantization", "compile")
    with scratch_folder() as folder, _without_preprocess_hint():
        source, target = folder / "fp32.onnx", folder / "dynamic.onnx"
        onnx_package.save(model, source)
        quantization.quantize_dynamic(
            source, target, weight_type=quantization.QuantType.QUInt8, op_types_to_quantize=["Conv", "Gemm", "MatMul"]
        )
        quantized: onnx.ModelProto = onnx_package.load(target)
    return quantized


@contextmanager
def _without_preprocess_hint() -> Iterator[None]:
    """ONNX Runtime suggests its own pre-processing script on the root logger; our graph is simplified already."""

    def keep(record: logging.LogRecord) -> bool:
        return "pre-processing before quantization" not in record.getMessage()

    root = logging.getLogger()
    root.addFilter(keep)
    try:
        yield
    finally:
        root.removeFilter(keep)
