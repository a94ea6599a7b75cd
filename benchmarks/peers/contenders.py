"""Who is compared: a row of the table each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entrant:
    """A row of the table.

    Attributes:
        name: for people.
        program: of ``programs``, without ``run_`` and ``.py``.
        variant: what that program is asked for.
        environment: of ``requirements``; empty for the Python that runs the script.
        takes: what the graph takes and gives, or what the engine was given.
        ours: whether it is edgeseg.
    """

    name: str
    program: str
    variant: str = ""
    environment: str = ""
    takes: str = "planes to scores"
    ours: bool = False


_FRAME = "frame to classes"

ENTRANTS = (
    Entrant("PyTorch eager", "torch", "eager", takes="torch module"),
    Entrant("torch.compile", "torch", "compile", takes="torch module"),
    Entrant("ONNX Runtime FP32", "onnxruntime", "fp32", "onnxruntime"),
    Entrant("ONNX Runtime quantize_static", "onnxruntime", "int8", "onnxruntime"),
    Entrant("OpenCV + ONNX Runtime, the first loop", "onnxruntime", "loop", "onnxruntime"),
    Entrant("OpenVINO", "openvino", "float", "openvino"),
    Entrant("OpenVINO + NNCF INT8", "openvino", "int8", "openvino"),
    Entrant("OpenVINO, our FP32 graph", "openvino", "float-frame", "openvino", _FRAME),
    Entrant("OpenVINO + NNCF INT8 of our FP32 graph", "openvino", "int8-frame", "openvino", _FRAME),
    Entrant("LiteRT (XNNPACK)", "litert", "", "litert"),
    Entrant("ncnn", "ncnn", "", "ncnn"),
    Entrant("MNN", "mnn", "", "mnn"),
    Entrant("ExecuTorch (XNNPACK)", "executorch", "", "executorch"),
    Entrant("Ultralytics' pipeline", "ultralytics", "", "ultralytics"),
    Entrant("edgeseg FP32 in ONNX Runtime", "edgeseg", "fp32/onnxruntime", takes=_FRAME, ours=True),
    Entrant("edgeseg FP32 in OpenVINO", "edgeseg", "fp32/openvino", takes=_FRAME, ours=True),
    Entrant("edgeseg int8-cpu in ONNX Runtime", "edgeseg", "int8-cpu/onnxruntime", takes=_FRAME, ours=True),
    Entrant("edgeseg int8-cpu in OpenVINO", "edgeseg", "int8-cpu/openvino", takes=_FRAME, ours=True),
    Entrant("edgeseg auto", "edgeseg", "auto", takes=_FRAME, ours=True),
)
REFERENCE = "edgeseg FP32 in ONNX Runtime"
"""Whose class maps the others are compared with."""
EAGER = "PyTorch eager"
