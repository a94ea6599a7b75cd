"""Engine inspectors of different TensorRT versions, read alike."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edgeseg.engines.tensorrt.layers import LayerPrecisions, precisions_from_inspector
from edgeseg.errors import EngineError


def _layer(name: str, kind: str, reads: str, writes: str, **more: Any) -> dict[str, Any]:
    def port(format_: str) -> dict[str, Any]:
        return {"Name": "t", "Location": "Device", "Dimensions": [1, 8, 16, 16], "Format/Datatype": format_}

    return {"Name": name, "LayerType": kind, "Inputs": [port(reads)], "Outputs": [port(writes)], **more}


INT8_85 = "Thirty-two wide channel vectorized row major Int8 format"
FP16_85 = "Channel major FP16 format where channel % 8 == 0"
FP32_85 = "Row major linear FP32"
ENGINE_85 = [
    _layer("Reformatting CopyNode for Input Tensor 0 to conv1", "Reformat", FP32_85, INT8_85, Origin="REFORMAT"),
    _layer("conv1 + relu1", "CaskConvolution", INT8_85, INT8_85, ParameterType="Convolution"),
    _layer("up", "CaskDeconvolutionV2", FP16_85, FP16_85, ParameterType="Convolution"),
    _layer("add", "PointWiseV2", FP16_85, FP16_85, ParameterType="PointWise"),
]
ENGINE_10 = [
    _layer("conv1 + relu1", "CaskConvolution", "Int8", "Int8"),
    _layer("__myl_Conv_myl0_1", "correlation", "Half", "Half"),
    _layer("resize", "kgen", "Float", "UInt8"),
    {"Name": "constant", "LayerType": "Constant", "Inputs": [], "Outputs": [{"Format/Datatype": "FP32"}]},
    {"Name": "signal", "LayerType": "signal", "Inputs": [], "Outputs": []},
]


def _text(layers: Any) -> str:
    return json.dumps({"Layers": layers, "Bindings": ["frame", "classes"]})


def test_tensorrt_8_5() -> None:
    found = precisions_from_inspector(_text(ENGINE_85))
    assert found == LayerPrecisions({"INT8": 1, "FP16": 2}, {"INT8": 1, "FP16": 1}, reformats=1)
    assert found.int8_share == 0.5
    assert found.describe() == "convolutions: INT8 1, FP16 1; layers: FP16 2, INT8 1; 1 reformats"


def test_tensorrt_10_with_its_generated_kernels() -> None:
    found = precisions_from_inspector(_text(ENGINE_10))
    assert found.convolutions == {"INT8": 1, "FP16": 1}
    assert found.layers == {"INT8": 1, "FP16": 1, "FP32": 2, "unknown": 1}


def test_uint8_is_not_int8() -> None:
    found = precisions_from_inspector(_text([_layer("cast", "Cast", "Row major linear UInt8 format", "FP32")]))
    assert found.layers == {"UINT8": 1} and found.int8_share == 0


def test_where_no_convolution_can_be_told_layers_count() -> None:
    """All of a DLA's layers are one to the inspector."""
    found = precisions_from_inspector(_text([_layer("{ForeignNode[conv1...conv9]}", "DLA", "Int8", "Int8")]))
    assert found.convolutions == {} and found.int8_share == 1.0


def test_json_round_trip() -> None:
    found = precisions_from_inspector(_text(ENGINE_85))
    assert LayerPrecisions.from_json(json.loads(json.dumps(found.to_json()))) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "unknown form"),
        ("[]", "unknown form"),
        ("{}", "unknown form"),
        ('{"Layers": []}', "names layers without types"),
        ('{"Layers": ["conv1", "conv2"]}', "build with detailed profiling"),
        ('{"Layers": [{"Name": "x", "LayerType": 3, "Inputs": ["y"]}]}', ""),
    ],
)
def test_other_answers_are_refused_or_unknown(text: str, said: str) -> None:
    if said:
        with pytest.raises(EngineError, match=said):
            precisions_from_inspector(text)
    else:
        assert precisions_from_inspector(text).layers == {"unknown": 1}
