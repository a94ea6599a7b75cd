"""Do ONNX Runtime's INT8 kernels saturate here? One convolution, largest inputs and weights, INT8 against float.

Run it under ``valgrind --tool=none`` to see what a CPU with AVX2 and without VNNI does: valgrind offers AVX2 only.
"""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

CHANNELS = 32


def quantized_convolution(groups: int, kernel: int, weight: int) -> bytes:
    """u8 activations, s8 weights all equal to ``weight``, as ONNX Q/DQ."""
    shape = (CHANNELS, CHANNELS // groups, kernel, kernel)
    constants = {
        "w": np.full(shape, weight, np.int8),
        "w_scale": np.ones(CHANNELS, np.float32),
        "w_zero": np.zeros(CHANNELS, np.int8),
        "x_scale": np.float32(1),
        "y_scale": np.float32(40_000),
        "zero": np.uint8(0),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x_scale", "zero"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "x_scale", "zero"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["wd"], axis=0),
        helper.make_node("Conv", ["xd", "wd"], ["c"], group=groups, pads=[kernel // 2] * 4),
        helper.make_node("QuantizeLinear", ["c", "y_scale", "zero"], ["cq"]),
        helper.make_node("DequantizeLinear", ["cq", "y_scale", "zero"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, CHANNELS, 16, 16])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "saturation", [x], [y], initializers)
    model: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()
    return model


def centre(model: bytes, *, float_qdq: bool) -> float:
    """The output's centre for an all-255 input."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.disable_quant_qdq", "1" if float_qdq else "0")
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    output = session.run(None, {"x": np.full((1, CHANNELS, 16, 16), 255, np.float32)})[0]
    return float(output[0, 0, 8, 8])


def main() -> None:
    """Print a line per kind of convolution and weight."""
    for name, groups, kernel in (("dense 3x3", 1, 3), ("dense 1x1", 1, 1), ("depthwise 3x3", CHANNELS, 3)):
        for weight in (63, 127):
            model = quantized_convolution(groups, kernel, weight)
            int8, exact = centre(model, float_qdq=False), centre(model, float_qdq=True)
            verdict = "ok" if abs(int8 - exact) <= 80_000 else "SATURATED"
            print(f"{name:14} weights {weight:3}: INT8 kernel {int8:10.0f}, exact {exact:10.0f}  {verdict}", flush=True)


if __name__ == "__main__":
    main()
