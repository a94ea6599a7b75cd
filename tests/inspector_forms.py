"""What the engine inspector of each TensorRT writes, made of one description of the layers.

- ``classic``, TensorRT 8.5 to 10: as NVIDIA's Engine Explorer recorded it.
- ``split``, TensorRT 11: the migration guide says that ``Format/Datatype`` became two fields and ``Bindings`` became
  ``I/O Tensors``, and shows the latter. NVIDIA's tool for 11.1 reads ``Datatype`` and ``Format`` of a layer's tensors.
- ``rtx``, TensorRT-RTX 1.7: as its builds print their kernels, here in JSON.

A port of a described layer has ``Name``, ``Dimensions``, ``word`` (its type) and ``format`` (the classic text).
"""

from __future__ import annotations

import json
from typing import Any

__all__ = ["FORMS", "engine_information", "form_of", "written_layer"]

FORMS = ("classic", "split", "rtx")
_KINDS = {"Convolution": "correlation", "Deconvolution": "deconv"}
_TYPE_WORDS = ("FP32", "FP16", "Int8", "UInt8", "Int32", "Int64", "BOOL")


def form_of(version: tuple[int, ...]) -> str:
    """The form of a version of TensorRT."""
    return "split" if version >= (11,) else "classic"


def engine_information(layers: list[Any], io: list[dict[str, Any]], version: tuple[int, ...], form: str) -> str:
    """The whole answer in JSON.

    Args:
        layers: written layers, or names where the engine was built without detailed profiling.
        io: the engine's inputs and outputs: ``name``, ``mode``, ``dtype`` and ``shape``.
        version: of TensorRT.
        form: one of ``FORMS``.
    """
    if form == "classic":
        text = json.dumps({"Layers": layers, "Bindings": [entry["name"] for entry in io]}, indent=2)
        # NVIDIA/TensorRT issue 2779: 8.6 does not escape the control characters that separate names of ONNX nodes.
        return text.replace("\\u001e", "\x1e") if (8, 6) <= version < (10,) else text
    return json.dumps({"Layers": layers, "I/O Tensors": [_io_tensor(entry) for entry in io]}, indent=2)


def written_layer(layer: dict[str, Any], form: str) -> dict[str, Any]:
    """A described layer as the inspector writes it."""
    if form == "rtx":
        return _generated(layer)
    ports = {part: [_port(port, form) for port in layer[part]] for part in ("Inputs", "Outputs")}
    return {key: ports.get(key, value) for key, value in layer.items()}


def _port(port: dict[str, Any], form: str) -> dict[str, Any]:
    common = {"Name": port["Name"], "Location": "Device", "Dimensions": port["Dimensions"]}
    if form == "classic":
        return {**common, "Format/Datatype": port["format"]}
    words = [word for word in port["format"].split() if word not in (*_TYPE_WORDS, port["word"])]
    return {**common, "Datatype": port["word"], "Format": " ".join(words) or "Row major linear format"}


def _generated(layer: dict[str, Any]) -> dict[str, Any]:
    weights = layer.get("Weights")
    deconvolution = "Deconvolution" in layer["LayerType"]
    kind = "kgen" if weights is None else _KINDS["Deconvolution" if deconvolution else "Convolution"]
    constants = (
        [] if weights is None else [("weights", [8, 8, 3, 3], weights["Type"]), ("scale", [1, 8, 1, 1], "Float")]
    )
    return {
        "Name": layer["Name"],
        "LayerType": kind,
        "Inputs": [_generated_port(port["Name"], port["Dimensions"], port["word"]) for port in layer["Inputs"]],
        "Constants": [_generated_port(*constant) for constant in constants],
        "Outputs": [_generated_port(port["Name"], port["Dimensions"], port["word"]) for port in layer["Outputs"]],
        "TacticName": "__myelin_CASK_STUB" if weights else f"{layer['Name']}_0x1",
        "StreamId": 0,
        "Metadata": layer.get("Metadata", ""),
    }


def _generated_port(name: str, dimensions: list[int], word: str) -> dict[str, Any]:
    return {
        "Name": f"{name}_myl0",
        "Dimensions": dimensions,
        "Strides": [1] * len(dimensions),
        "StrideOrder": list(range(len(dimensions)))[::-1],
        "Datatype": word,
        "Format": "(NHWC) Channel major format" if len(dimensions) == 4 else "(Linear) Row major linear format",
    }


def _io_tensor(entry: dict[str, Any]) -> dict[str, Any]:
    shape, dtype = entry["shape"], entry["dtype"].title()
    linear = {"Float": "FP32", "Half": "FP16"}.get(dtype, dtype.upper())
    return {
        "Name": entry["name"],
        "IOMode": entry["mode"].title(),
        "DataType": dtype,
        "Dimensions": shape,
        "Location": "Device",
        "IsShapeInferenceIO": False,
        "ProfileInfo": [
            {
                "MinShape": shape,
                "OptShape": shape,
                "MaxShape": shape,
                "Format": f"Row major linear {linear} format (kLINEAR)",
            }
        ],
    }
