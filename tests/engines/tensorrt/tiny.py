"""A bundle small enough to build hundreds of times: two convolutions, three classes, 32x48."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeseg.bundle import Bundle, Golden, GraphEntry
from edgeseg.ranges import Ranges
from edgeseg.recipes import Fp32, StaticInt8
from edgeseg.report_data import Limits, Report
from edgeseg.spec import ModelSpec, Preprocess

SIZE_HW = (32, 48)
_RNG = np.random.default_rng(0)
_WEIGHTS = {
    "w1": _RNG.normal(0, 0.01, (8, 3, 3, 3)).astype(np.float32),
    "b1": _RNG.normal(0, 0.1, 8).astype(np.float32),
    "w2": _RNG.normal(0, 0.5, (3, 8, 1, 1)).astype(np.float32),
    "b2": np.zeros(3, np.float32),
}


def tiny_spec() -> ModelSpec:
    colours = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
    return ModelSpec(("soil", "crop", "weed"), colours, SIZE_HW, Preprocess())


def tiny_onnx(
    *,
    qdq: bool = False,
    scores: bool = False,
    float16_weights: bool = False,
    half: bool = False,
    batch: int = 1,
    stride: int = 1,
    wrong: bool = False,
) -> bytes:
    """``frame`` uint8 -> ``classes`` uint8, as the compiler writes it; all of it in float16 with ``half``.

    With a ``stride`` the class map is smaller by it, as where the last enlargement is left out. What is ``wrong`` gives
    the least likely class.
    """
    tools, constants, nodes = helper, dict(_WEIGHTS), []
    if half:
        constants = {name: value.astype(np.float16) for name, value in constants.items()}
    real = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    nodes.append(tools.make_node("Cast", ["frame"], ["frame_float"], "frame_float", to=real))
    nodes.append(tools.make_node("Transpose", ["frame_float"], ["x"], "x", perm=[0, 3, 1, 2]))
    first, second, w1, w2 = "x", "relu", "w1", "w2"
    if qdq:
        constants.update(zero=np.int8(0), x_scale=np.float32(255 / 127), relu_scale=np.float32(12 / 127))
        for tensor, scale in (("x", "x_scale"), ("relu", "relu_scale")):
            pair = [
                tools.make_node("QuantizeLinear", [tensor, scale, "zero"], [f"{tensor}_q"], f"{tensor}_q"),
                tools.make_node("DequantizeLinear", [f"{tensor}_q", scale, "zero"], [f"{tensor}_d"], f"{tensor}_d"),
            ]
            if tensor == "x":
                nodes += pair
            else:
                relu_pair = pair
        for name in ("w1", "w2"):
            weight = constants.pop(name)
            scale = np.abs(weight).max((1, 2, 3)) / 127
            constants[f"{name}_scale"] = scale.astype(np.float32)
            constants[f"{name}_zero"] = np.zeros(len(scale), np.int8)
            constants[f"{name}_levels"] = np.round(weight / scale[:, None, None, None]).astype(np.int8)
            inputs = [f"{name}_levels", f"{name}_scale", f"{name}_zero"]
            nodes.append(tools.make_node("DequantizeLinear", inputs, [name], f"{name}_dequantize", axis=0))
        first, second = "x_d", "relu_d"
    if float16_weights:
        constants["w1/float16"] = constants.pop("w1").astype(np.float16)
        nodes.insert(0, tools.make_node("Cast", ["w1/float16"], ["w1"], "w1_cast", to=TensorProto.FLOAT))
    nodes.append(tools.make_node("Conv", [first, w1, "b1"], ["conv"], "conv1", pads=[1] * 4, strides=[stride] * 2))
    nodes.append(tools.make_node("Relu", ["conv"], ["relu"], "relu1"))
    if qdq:
        nodes += relu_pair
    nodes.append(tools.make_node("Conv", [second, w2, "b2"], ["logits"], "conv2"))
    nodes.append(tools.make_node("ArgMin" if wrong else "ArgMax", ["logits"], ["argmax"], "argmax", axis=1, keepdims=0))
    nodes.append(tools.make_node("Cast", ["argmax"], ["classes_float"], "classes_float", to=TensorProto.FLOAT))
    nodes.append(tools.make_node("Cast", ["classes_float"], ["classes"], "classes", to=TensorProto.UINT8))
    frame = tools.make_tensor_value_info("frame", TensorProto.UINT8, [batch, *SIZE_HW, 3])
    height, width = (side // stride for side in SIZE_HW)
    outputs = [tools.make_tensor_value_info("classes", TensorProto.UINT8, [batch, height, width])]
    if scores:
        nodes.append(tools.make_node("Softmax", ["logits"], ["scores"], "scores", axis=1))
        outputs.append(tools.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 3, height, width]))
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = tools.make_graph(nodes, "tiny", [frame], outputs, initializers)
    model = tools.make_model(graph, opset_imports=[tools.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def run_onnx(data: bytes, frames: np.ndarray) -> np.ndarray:
    """Classes by ONNX Runtime, Q/DQ in float."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    found: np.ndarray = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"]).run(
        ["classes"], {"frame": frames}
    )[0]
    return found


def tiny_frames(count: int = 4) -> np.ndarray:
    rng = np.random.default_rng(1)
    small = rng.integers(0, 256, (count, 8, 12, 3), dtype=np.uint8)
    return np.repeat(np.repeat(small, 4, 1), 4, 2)


def tiny_bundle(**changes: Any) -> Bundle:
    """FP32, Q/DQ, ranges and golden frames."""
    frames = tiny_frames()
    fp32 = tiny_onnx()
    ranges = {"frame_float": 255.0, "x": 255.0, "conv": 12.0, "relu": 12.0, "logits": 20.0}
    values: dict[str, Any] = {
        "spec": tiny_spec(),
        "graphs": {
            "fp32": GraphEntry(fp32, Fp32()),
            "int8-tensorrt": GraphEntry(tiny_onnx(qdq=True), StaticInt8("tensorrt")),
        },
        "ranges": Ranges({name: (-amax, amax) for name, amax in ranges.items()}),
        "golden": Golden(frames, np.full((len(frames), *SIZE_HW), 255, np.uint8), run_onnx_all(fp32, frames)),
        "report": Report(limits=Limits(min_agreement=0.9)),
    }
    return Bundle(**{**values, **changes})


def run_onnx_all(data: bytes, frames: np.ndarray) -> np.ndarray:
    return np.concatenate([run_onnx(data, frame[None]) for frame in frames])
