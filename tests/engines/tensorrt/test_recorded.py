"""The layer reader on what real engines said; see ``recorded/README.md`` for where it is from and who counted."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from edgeseg.engines.tensorrt.kernels import kernels_from_log, precisions_from_kernels
from edgeseg.engines.tensorrt.layers import LayerPrecisions, precisions_from_inspector
from edgeseg.errors import EngineError

RECORDED = Path(__file__).with_name("recorded")
ENGINES = json.loads((RECORDED / "engine-explorer.json").read_text(encoding="utf-8"))
RTX_LOG = (RECORDED / "tensorrt-rtx-1.7.1-sm86.log").read_text(encoding="utf-8").splitlines()
RTX_INT8 = ("both", "depthwise", "head")
RTX_FLOAT = ("weights_only", "input_only", "neither", "up", "squeeze")
PRECISION = {"Int8": "INT8", "Half": "FP16", "FP16": "FP16", "Float": "FP32", "FP32": "FP32"}


def _named(engine: dict[str, Any]) -> str:
    return str(engine["engine"])


def _layer(form: list[Any], number: int) -> dict[str, Any]:
    kind, parameter, origin, begins, reads, writes, field, weights = form[1:]

    def ports(formats: list[str]) -> list[dict[str, Any]]:
        return [
            {"Name": f"{number}.{i}", "Location": "Device", "Dimensions": [1, 64, 56, 56], "Format/Datatype": text}
            for i, text in enumerate(formats)
        ]

    layer = {"Name": f"{begins} {number}".strip(), "LayerType": kind, "Inputs": ports(reads), "Outputs": ports(writes)}
    more = {"ParameterType": parameter, "Origin": origin, field: {"Type": weights, "Count": 864} if field else ""}
    return {**layer, **{key: value for key, value in more.items() if value}}


def _listing(engine: dict[str, Any]) -> str:
    forms = [form for form in engine["forms"] for _ in range(form[0])]
    return json.dumps({"Layers": [_layer(form, number) for number, form in enumerate(forms)], "Bindings": ["x", "y"]})


def _check(found: LayerPrecisions, expected: dict[str, Any]) -> None:
    counted = {PRECISION[word]: count for word, count in expected["weights"].items()}
    assert found.convolutions == counted == {PRECISION[word]: count for word, count in expected["reads"].items()}
    others = {PRECISION[word]: count for word, count in expected["others"].items()}
    assert found.layers == {name: counted.get(name, 0) + others.get(name, 0) for name in {**counted, **others}}
    assert found.reformats == expected["reformats"]
    assert sum(found.layers.values()) + found.reformats == expected["layers"], "every layer is counted once"
    assert found.not_understood == 0 and found.sample == ""


@pytest.mark.parametrize("engine", ENGINES, ids=_named)
def test_the_engines_of_nvidias_explorer(engine: dict[str, Any]) -> None:
    found = precisions_from_inspector(_listing(engine))
    _check(found, engine["expected"])
    assert found.int8_share == (1.0 if "qat" in engine["engine"] else 0.0)


def test_whole_files() -> None:
    folder = os.environ.get("EDGESEG_INSPECTOR_RECORDS")
    if folder is None:
        pytest.skip("EDGESEG_INSPECTOR_RECORDS names no folder with whole recordings")
    known = {engine["blob"]: engine for engine in ENGINES}
    read = 0
    for path in sorted(Path(folder).glob("*.json")):
        data = path.read_bytes()
        engine = known.get(hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest())
        if engine is not None:
            _check(precisions_from_inspector(data.decode()), engine["expected"])
            read += 1
    assert read, f"none of the files in {folder} is known"


def _rtx_layer(line: str) -> dict[str, Any]:
    """A line of the plan as the same fields in JSON."""
    head = re.match(r"Name: (.*), LayerType: (\w+), Inputs: ", line)
    assert head is not None, line
    layer: dict[str, Any] = {"Name": head[1], "LayerType": head[2]}
    for part, ended in (("Inputs", "Constants"), ("Constants", "Outputs"), ("Outputs", "TacticName")):
        listed = re.search(rf"{part}: \[(.*?)\], {ended}: ", line)
        assert listed is not None, line
        layer[part] = [_rtx_tensor(text) for text in re.findall(r"\{ (.*?) \}", listed[1])]
    return {**layer, "TacticName": line.partition("TacticName: ")[2].partition(",")[0], "StreamId": 0, "Metadata": ""}


def _rtx_tensor(text: str) -> dict[str, Any]:
    fields = dict(part.split(": ", 1) for part in re.split(r", (?=[A-Z]\w+: )", text))
    lists = ("Dimensions", "Strides", "StrideOrder")
    return {key: json.loads(value) if key in lists else value for key, value in fields.items()}


def _rtx_layers() -> list[dict[str, Any]]:
    return [_rtx_layer(line) for line in RTX_LOG if ", LayerType: " in line]


def _as_tensorrt_10(layer: dict[str, Any], turn: int) -> dict[str, Any]:
    """As TensorRT 10 lists what it generates: constants among the inputs, in some order, and one field for the type."""
    ports = [
        {"Name": port["Name"], "Dimensions": port["Dimensions"], "Format/Datatype": port["Datatype"]}
        for port in layer["Constants"] + layer["Inputs"]
    ]
    turned = ports[turn % max(len(ports), 1) :] + ports[: turn % max(len(ports), 1)]
    return {**{key: value for key, value in layer.items() if key != "Constants"}, "Inputs": turned}


def _convolution(layers: list[dict[str, Any]], name: str) -> dict[str, Any]:
    (found,) = [layer for layer in layers if re.fullmatch(rf"{name}_myl0_\d+", layer["Name"])]
    return found


def test_the_plan_of_tensorrt_rtx() -> None:
    layers = _rtx_layers()
    found = precisions_from_inspector(json.dumps({"Layers": layers, "I/O Tensors": []}))
    assert found.convolutions == {"INT8": len(RTX_INT8), "FP32": len(RTX_FLOAT)}
    assert sum(found.layers.values()) == len(layers) == 18 and found.not_understood == 0
    assert found.convolutions == precisions_from_kernels(kernels_from_log(RTX_LOG)).convolutions, (
        "as the build log says"
    )


@pytest.mark.parametrize("turn", range(5))
def test_the_same_kernels_as_tensorrt_10_would_list_them(turn: int) -> None:
    layers = [_as_tensorrt_10(layer, turn) for layer in _rtx_layers()]
    found = precisions_from_inspector(json.dumps({"Layers": layers, "Bindings": []}))
    assert found.convolutions == {"INT8": len(RTX_INT8), "FP32": len(RTX_FLOAT)}


@pytest.mark.parametrize("name", RTX_INT8 + RTX_FLOAT)
def test_each_convolution_of_the_plan(name: str) -> None:
    layer = _convolution(_rtx_layers(), name)
    found = precisions_from_inspector(json.dumps([layer]))
    assert found.convolutions == {"INT8" if name in RTX_INT8 else "FP32": 1}


@pytest.mark.parametrize(
    ("old", "new"), [("Datatype: ", "DataType: "), ("Datatype: Int8", "Datatype: INT8"), ("Datatype: ", "datatype: ")]
)
def test_the_build_log_in_other_spellings(old: str, new: str) -> None:
    lines = [line.replace(old, new) for line in RTX_LOG]
    assert lines != RTX_LOG
    assert precisions_from_kernels(kernels_from_log(lines)) == precisions_from_kernels(kernels_from_log(RTX_LOG))


@pytest.mark.parametrize(
    ("old", "new"), [("Datatype: ", "Encoding: "), ("Dimensions: [", "Shape: ["), ("{ Name", "Name")]
)
def test_a_build_log_in_another_form_is_no_proof_and_no_refutation(old: str, new: str) -> None:
    with pytest.raises(EngineError, match="writes its kernel plan in an unknown format, use version 1.7: '"):
        kernels_from_log([line.replace(old, new) for line in RTX_LOG])
