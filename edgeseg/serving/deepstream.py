"""Make a folder for nvinfer, the element of NVIDIA's DeepStream that runs networks in GStreamer.

nvinfer gives a network ``net-scale-factor * (pixel - offset)`` as float NCHW, and takes scores of every class as float
NCHW. One factor for all channels cannot stand for a deviation per channel, so normalisation stays in the graph.
"""

from __future__ import annotations

import hashlib
import shlex
from pathlib import Path
from typing import Any, Mapping

import numpy as np

import edgeseg
from edgeseg.errors import EngineError, first_line, require
from edgeseg.spec import ModelSpec

__all__ = ["CONFIG", "PRECISIONS", "deepstream_files", "nvinfer_class_maps", "pipeline"]

CONFIG = "config_infer.txt"
PRECISIONS: Mapping[str, int] = {"fp32": 0, "int8": 1, "fp16": 2}
"""Precision -> ``network-mode``."""
_CALIBRATION = "int8_is_on.txt"
_NO_CLASS = 255
_THRESHOLD = 0.0

_HEAD = """\
# Configuration of nvinfer, written by edgeseg {version}. Paths are relative to this file.
# The keys are those of nvinfer's parser up to DeepStream 9.1. No DeepStream was run to write or to test this file.
#
# The graph takes the frame as BGR of 0-255 and normalises it itself: no factor and no offsets here.
# It gives a probability per class, so that 0 is the right threshold: every pixel gets its most probable class.
# Frames are stretched to the network's size, without bars.
"""
_ABOUT_INT8 = """\
#
# INT8: scales are in the graph (Q/DQ nodes) and no calibration is needed. nvinfer turns INT8 on only where
# int8-calib-file is a file, so there is one. TensorRT does not read it.
"""


def deepstream_files(spec: ModelSpec, onnx: bytes, precision: str, batch: int) -> dict[str, bytes]:
    """Return the files of the folder by name; the configuration comes last.

    Args:
        spec: of the model.
        onnx: Nx3xHxW float32 BGR of 0-255 -> ``scores`` NxCxHxW float32, probabilities.
        precision: a key of ``PRECISIONS``.
        batch: most frames at once.
    """
    # TensorRT's engine is kept under the graph's name: another graph must not find the engine of this one.
    graph = f"model-{hashlib.sha256(onnx).hexdigest()[:8]}.onnx"
    files = {graph: onnx, "labels.txt": _labels(spec), "colours.txt": colours(spec)}
    if precision == "int8":
        files[_CALIBRATION] = b"TensorRT does not read this file: the graph has its scales in Q/DQ nodes.\n"
    files[CONFIG] = _configuration(spec, graph, precision, batch).encode()
    return files


def _labels(spec: ModelSpec) -> bytes:
    """One class per line; nvinfer splits a line at every semicolon."""
    return "".join(f"{name.replace(';', ',')}\n" for name in spec.classes).encode()


def colours(spec: ModelSpec) -> bytes:
    """Return ``NAME R G B`` per line, in the order of the ids."""
    return "".join(
        f"{name} {red} {green} {blue}\n" for name, (red, green, blue) in zip(spec.classes, spec.palette)
    ).encode()


def _configuration(spec: ModelSpec, graph: str, precision: str, batch: int) -> str:
    height, width = spec.size_hw
    keys: dict[str, Any] = {
        "gie-unique-id": 1,
        "process-mode": 1,
        "onnx-file": graph,
        "model-engine-file": f"{graph}_b{batch}_gpu0_{precision}.engine",
        **({"int8-calib-file": _CALIBRATION} if precision == "int8" else {}),
        "network-mode": PRECISIONS[precision],
        "batch-size": batch,
        "infer-dims": f"3;{height};{width}",
        "network-input-order": 0,
        "model-color-format": 1,
        "net-scale-factor": 1.0,
        "maintain-aspect-ratio": 0,
        "scaling-filter": 1,
        "network-type": 2,
        "num-detected-classes": len(spec.classes),
        "output-blob-names": "scores",
        "segmentation-output-order": 0,
        "segmentation-threshold": _THRESHOLD,
        "labelfile-path": "labels.txt",
    }
    head = _HEAD.format(version=edgeseg.__version__) + (_ABOUT_INT8 if precision == "int8" else "")
    example = f"#\n# {pipeline(spec, Path(CONFIG), batch)}\n"
    return head + example + "\n[property]\n" + "".join(f"{key}={value}\n" for key, value in keys.items())


def pipeline(spec: ModelSpec, config: Path, batch: int) -> str:
    """Return a command that shows a video with the classes in nvsegvisual's colours."""
    height, width = spec.size_hw
    return " ! ".join(
        (
            "gst-launch-1.0 uridecodebin uri=file:///PATH/TO/VIDEO.mp4",
            f"mux.sink_0 nvstreammux name=mux batch-size={batch} width=1280 height=720",
            f"nvinfer config-file-path={shlex.quote(str(config))}",
            f"nvsegvisual batch-size={batch} width={width} height={height}",
            "nvvideoconvert",
            "nveglglessink",
        )
    )


def nvinfer_class_maps(onnx: bytes, frames: np.ndarray, batch: int) -> np.ndarray:
    """Do in NumPy and ONNX Runtime what nvinfer does with the configuration of ``deepstream_files``.

    Args:
        onnx: the graph.
        frames: NxHxWx3 uint8 BGR at network size.
        batch: frames at once; the last ones may be fewer.

    Returns:
        NxHxW uint8 class ids; 255 where no class is above the threshold.

    Raises:
        EngineError: the graph does not run.
    """
    ort = require("onnxruntime", "")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.disable_quant_qdq", "1")  # the arithmetic of TensorRT
    found = []
    try:
        session = ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        for start in range(0, len(frames), batch):
            planes = frames[start : start + batch].transpose(0, 3, 1, 2).astype(np.float32)
            (scores,) = session.run(["scores"], {session.get_inputs()[0].name: planes})
            found.append(np.where(scores.max(1) > _THRESHOLD, scores.argmax(1), _NO_CLASS).astype(np.uint8))
    except Exception as error:  # onnxruntime raises its own types, without a public common base
        raise EngineError(f"the graph does not run on {batch} frames at once: {first_line(error)[:200]}") from error
    return np.concatenate(found)
