"""Engine inspectors of different TensorRT versions, read alike; and what is not understood is never "no INT8"."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

import pytest

from edgeseg.engines.tensorrt.build import BuildRequest, built_plan
from edgeseg.engines.tensorrt.cache import read_engine
from edgeseg.engines.tensorrt.factory import TensorRtOptions
from edgeseg.engines.tensorrt.layers import LayerPrecisions, precisions_from_inspector
from edgeseg.errors import EngineError
from tests.engines.tensorrt.rig import VERSIONS, Rig
from tests.engines.tensorrt.tiny import tiny_bundle, tiny_onnx
from tests.inspector_forms import FORMS


def _layer(name: str, kind: str, reads: str, writes: str, **more: Any) -> dict[str, Any]:
    return {"Name": name, "LayerType": kind, "Inputs": [_port(reads)], "Outputs": [_port(writes)], **more}


def _port(format_: str) -> dict[str, Any]:
    return {"Name": "t", "Location": "Device", "Dimensions": [1, 8, 16, 16], "Format/Datatype": format_}


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
    {"Name": "wait", "LayerType": "signal_and_wait"},
]
MYSTERY = {"Name": "t", "Dimensions": [1, 8, 16, 16], "Encoding": "Q7"}
"""A port in a form that nobody has seen yet."""


def _text(layers: Any) -> str:
    return json.dumps({"Layers": layers, "Bindings": ["frame", "classes"]})


def test_tensorrt_8_5() -> None:
    found = precisions_from_inspector(_text(ENGINE_85))
    assert found == LayerPrecisions({"INT8": 1, "FP16": 2}, {"INT8": 1, "FP16": 1}, reformats=1)
    assert found.int8_share == found.int8_share_at_most == 0.5
    assert found.describe() == "convolutions: INT8 1, FP16 1; layers: FP16 2, INT8 1; 1 reformats"


def test_tensorrt_10_with_its_generated_kernels() -> None:
    found = precisions_from_inspector(_text(ENGINE_10))
    assert found.convolutions == {"INT8": 1, "FP16": 1}
    assert found.layers == {"INT8": 1, "FP16": 1, "FP32": 2}, "what waits for a stream computes nothing"


# --- spellings --------------------------------------------------------------------------------------------------------

WORDS = {
    "INT8": ("Int8", "INT8", "int8", "kINT8", "DataType.INT8"),
    "FP16": ("Half", "FP16", "kHALF", "float16", "DataType.HALF"),
    "FP32": ("Float", "FP32", "kFLOAT", "float32", "DataType.FLOAT"),
    "BF16": ("BFloat16", "BF16", "kBF16"),
    "FP8": ("FP8", "kFP8", "FP8E4M3"),
    "FP4": ("FP4", "kFP4", "FP4E2M1"),
    "INT4": ("Int4", "kINT4"),
    "UINT8": ("UInt8", "kUINT8"),
    "INT32": ("Int32", "kINT32"),
    "INT64": ("Int64", "kINT64"),
    "BOOL": ("Bool", "BOOL", "kBOOL"),
}
CLASSIC = (
    "Row major linear {}",
    "Row major {} format",
    "Row major linear {} format (kLINEAR)",
    "Channel major {} format where channel % 8 == 0",
    "Two wide channel vectorized row major {} format",
    "Four wide channel vectorized row major {} format",
    "Sixteen wide channel vectorized row major {} format",
    "Thirty-two wide channel vectorized row major {} format",
    "{}",
)
NHWC = "(NHWC) Channel major format"
SPELLINGS: dict[str, Callable[[str], Any]] = {
    **{f"Format/Datatype {text}": lambda word, text=text: {"Format/Datatype": text.format(word)} for text in CLASSIC},
    **{
        f"{key} apart": lambda word, key=key: {"Name": "t", key: word, "Format": NHWC, "Location": "Device"}
        for key in (
            "Datatype",
            "DataType",
            "datatype",
            "dataType",
            "DATATYPE",
            "Data_Type",
            "Data Type",
            "dtype",
            "Type",
        )
    },
    **{
        f"one string in {key}": lambda word, key=key: {"Name": "t", key: f"Datatype: {word}, Format: {NHWC}"}
        for key in ("Format/Datatype", "Datatype", "Format", "Description")
    },
    "the other way round": lambda word: {"Format": f"Format: Row major linear FP64, DataType: {word}"},
    "format text beside it": lambda word: {"Format": "Row major linear INT8 format (kLINEAR)", "DataType": word},
    "no type but the format's": lambda word: {"Datatype": None, "Format": f"Row major linear {word} format (kLINEAR)"},
    "the port is one string": lambda word: f"Name: int8, Dimensions: [1,8], Datatype: {word}, Format: {NHWC}",
    "the port is one old string": lambda word: f"Name: half, Format/Datatype: Row major linear {word} format",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_every_type(spelling: str) -> None:
    port = SPELLINGS[spelling]
    for precision, words in WORDS.items():
        for word in words:
            layer = {"Name": "a", "LayerType": "kgen", "Inputs": [port(word)], "Outputs": []}
            assert precisions_from_inspector(_text([layer])).layers == {precision: 1}, word


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_an_engine_in_every_spelling(spelling: str) -> None:
    port = SPELLINGS[spelling]
    layers = [
        {"Name": "a", "LayerType": "CaskConvolution", "Inputs": [port("Int8")], "Outputs": [port("Int8")]},
        {"Name": "b", "LayerType": "deconv", "Inputs": [port("Half")], "Outputs": [port("Half")]},
        {"Name": "c", "LayerType": "Reformat", "Inputs": [port("Int8")], "Outputs": [port("Int8")]},
    ]
    found = precisions_from_inspector(json.dumps({"Layers": layers, "I/O Tensors": [{"Name": "x"}]}))
    assert found == LayerPrecisions({"INT8": 1, "FP16": 1}, {"INT8": 1, "FP16": 1}, reformats=1)


def _lower(value: Any) -> Any:
    if isinstance(value, dict):
        return {key.lower(): _lower(one) for key, one in value.items()}
    return [_lower(one) for one in value] if isinstance(value, list) else value


ANSWERS: dict[str, Callable[[list[Any]], Any]] = {
    "with I/O Tensors": lambda layers: {"Layers": layers, "I/O Tensors": [{"Name": "x", "DataType": "Float"}]},
    "neither": lambda layers: {"Layers": layers},
    "with more": lambda layers: {"ProfilingVerbosity": "DETAILED", "Layers": layers, "Engine Metadata": {"a": "b"}},
    "LAYERS": lambda layers: {"LAYERS": layers, "Bindings": []},
    "layers": lambda layers: _lower({"Layers": layers}),
    "LayerInfo": lambda layers: {"LayerInfo": layers},
    "a list": lambda layers: layers,
    "by name": lambda layers: {"Layers": {layer.pop("Name"): layer for layer in layers}},
    "ports by name": lambda layers: {
        "Layers": [{**layer, "Inputs": {str(i): port for i, port in enumerate(layer["Inputs"])}} for layer in layers]
    },
    "one port alone": lambda layers: {"Layers": [{**layer, "Inputs": layer["Inputs"][0]} for layer in layers]},
    "no outputs": lambda layers: {"Layers": [{**layer, "Outputs": None} for layer in layers]},
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_every_shape_of_the_answer(answer: str) -> None:
    layers = json.loads(json.dumps(ENGINE_85))
    found = precisions_from_inspector(json.dumps(ANSWERS[answer](layers)))
    assert found == precisions_from_inspector(_text(ENGINE_85))


def test_control_characters_that_are_not_escaped() -> None:
    """TensorRT 8.6 writes them between the names of ONNX nodes."""
    metadata = "[ONNX Layer: a]\x1e[ONNX Layer: b]\x1f"
    text = _text([_layer("conv", "CaskConvolution", INT8_85, INT8_85, Metadata=metadata)])
    found = precisions_from_inspector(text.replace("\\u001e", "\x1e").replace("\\u001f", "\x1f"))
    assert found.convolutions == {"INT8": 1}


# --- convolutions -----------------------------------------------------------------------------------------------------

KINDS = (
    ("CaskConvolution", "Convolution", "Weights"),
    ("CudaDepthwiseConvolution", "Convolution", "Weights"),
    ("CublasConvolution", "Convolution", "Weights"),
    ("FusedConvActConvolution", "Convolution", "Weights"),
    ("CaskDeconvolutionV2", "Convolution", "Weights"),
    ("CaskConvActPool", "ConvActPool", "ConvWeights"),
)
OPERANDS = [
    ("Int8", "Int8", "INT8"),
    ("Int8", "Half", "FP16"),
    ("Int8", "Float", "FP32"),
    ("Half", "Int8", "FP16"),
    ("Float", "Int8", "FP32"),
    ("Half", "Half", "FP16"),
    ("Float", "Float", "FP32"),
    ("FP8", "FP8", "FP8"),
    ("Half", "Int4", "INT4"),
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize(("reads", "weights", "precision"), OPERANDS)
def test_a_convolution_is_int8_where_its_input_and_its_weights_are(
    kind: tuple[str, str, str], reads: str, weights: str, precision: str
) -> None:
    layer_type, parameter, field = kind
    more = {"ParameterType": parameter, field: {"Type": weights, "Count": 864}, "Bias": {"Type": "Float", "Count": 8}}
    layer = _layer("conv", layer_type, reads, "Int8", HasSparseWeights=0, **more)
    layer["Inputs"].append(_port("Half"))  # a residual: it is added, not multiplied
    found = precisions_from_inspector(_text([layer]))
    assert found.convolutions == {precision: 1}
    assert found.int8_share == (1.0 if precision == "INT8" else 0.0)


@pytest.mark.parametrize(("reads", "weights", "precision"), OPERANDS[:-1])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_weights_among_the_constants(reads: str, weights: str, precision: str, order: tuple[int, ...]) -> None:
    """TensorRT-RTX, and TensorRT 11 where it generates a kernel."""
    constants = [
        {"Name": "w", "Dimensions": [8, 8, 3, 3], "Datatype": weights},
        {"Name": "scale", "Dimensions": [1, 8, 1, 1], "Datatype": "Float"},
        {"Name": "one", "Dimensions": [1], "Datatype": "Float"},
    ]
    layer = {
        "Name": "conv_myl0_1",
        "LayerType": "correlation",
        "Inputs": [{"Name": "x", "Dimensions": [1, 8, 16, 16], "Datatype": reads}],
        "Constants": [constants[i] for i in order],
        "Outputs": [{"Name": "y", "Dimensions": [1, 8, 16, 16], "Datatype": "Float"}],
    }
    assert precisions_from_inspector(_text([layer])).convolutions == {precision: 1}


@pytest.mark.parametrize(("weights", "precision"), [("Int8", "INT8"), ("Half", "FP16")])
def test_weights_that_another_layer_computes(weights: str, precision: str) -> None:
    dynamic = {"Weights": {"Type": "Float", "Count": 0}, "HasDynamicFilter": 1, "ParameterType": "Convolution"}
    layer = _layer("conv", "CaskConvolution", INT8_85, FP16_85, **dynamic)
    layer["Inputs"].append(_port(weights))
    assert precisions_from_inspector(_text([layer])).convolutions == {precision: 1}


@pytest.mark.parametrize("inputs", [{"Inputs": []}, {"Inputs": [MYSTERY]}, {"Inputs": None}, {}])
def test_weights_alone_are_enough(inputs: dict[str, Any]) -> None:
    """A kernel that holds INT8 weights of a convolution multiplies INT8; TensorRT makes others float before."""
    layer = {"Name": "conv", "LayerType": "CaskConvolution", "Weights": {"Type": "Int8", "Count": 864}, **inputs}
    assert precisions_from_inspector(_text([layer])).convolutions == {"INT8": 1}


@pytest.mark.parametrize("weights", [{"Count": 9}, {"Type": None, "Count": 9}, {"Name": "w", "Dimensions": [8]}, {}])
@pytest.mark.parametrize(("reads", "precision"), [("Int8", "INT8"), ("Half", "FP16")])
def test_weights_that_do_not_say_their_type_leave_it_to_the_input(
    weights: dict[str, Any], reads: str, precision: str
) -> None:
    layer = _layer("conv", "CaskConvolution", reads, "Half", Weights=weights)
    assert precisions_from_inspector(_text([layer])).convolutions == {precision: 1}


@pytest.mark.parametrize(
    "said",
    [
        {"Datatype": {"Name": "Int8"}},
        {"DataType": ["Int8"]},
        {"Datatype": {"Type": "kINT8", "Vector": 32}},
        {"Format": {"Datatype": "Int8", "Layout": "NC/32HW32"}},
        {"Format/Datatype": {"Format": "Row major linear", "Datatype": "Int8"}},
        {"Tensor": {"Name": "float", "Datatype": "Int8", "Dimensions": [1, 8, 8, 8]}},
        {"DataType": "Int8", "Datatype": None},
        {"Datatype": None, "DATA TYPE": "INT8"},
    ],
    ids=json.dumps,
)
def test_a_type_within_an_object_or_beside_an_empty_field(said: dict[str, Any]) -> None:
    port = {"Name": "half", "Dimensions": [1, 8, 8, 8], **said}
    layer = {"Name": "conv", "LayerType": "CaskConvolution", "Inputs": [port], "Outputs": [port]}
    assert precisions_from_inspector(_text([layer])).convolutions == {"INT8": 1}


def test_weights_that_are_not_understood() -> None:
    def read(reads: str) -> LayerPrecisions:
        strange = _layer("conv", "CaskConvolution", reads, reads, Weights={"Type": "Q7", "Count": 9})
        return precisions_from_inspector(_text([strange, *ENGINE_85[1:]]))

    assert read("Half").convolutions == {"INT8": 1, "FP16": 2}, "a convolution that reads FP16 is none of INT8's"
    assert read("Int8").convolutions == {"INT8": 1, "FP16": 1, "unknown": 1}


def test_convolutions_inside_generated_code() -> None:
    layer = {**_layer("__myl_CorrAddReluCorr_myl0_7", "kgen", "Half", "Half"), "Constants": [_port("Half")]}
    assert precisions_from_inspector(_text([layer])).convolutions == {"FP16": 2}
    other = _layer("__myl_ConcMove_myl0_3", "kgen", "Int8", "Int8")
    assert precisions_from_inspector(_text([other])).convolutions == {}


def test_names_of_onnx_nodes_decide_nothing() -> None:
    layers = [
        _layer("/reformat/int8/conv", "CaskConvolution", FP16_85, FP16_85, Weights={"Type": "Half", "Count": 9}),
        _layer("conv_int8", "PointWiseV2", FP32_85, FP32_85),
        _layer("convert", "ConvertToFloat", FP32_85, FP32_85),
    ]
    layers[1]["Inputs"][0]["Name"] = "Datatype: Int8"
    found = precisions_from_inspector(_text(layers))
    assert found == LayerPrecisions({"FP16": 1, "FP32": 2}, {"FP16": 1}, reformats=0)


def test_uint8_is_not_int8() -> None:
    found = precisions_from_inspector(_text([_layer("cast", "Cast", "Row major linear UInt8 format", "FP32")]))
    assert found.layers == {"UINT8": 1} and found.int8_share == 0


def test_where_no_convolution_can_be_told_layers_count() -> None:
    """All of a DLA's layers are one to the inspector."""
    found = precisions_from_inspector(_text([_layer("{ForeignNode[conv1...conv9]}", "DLA", "Int8", "Int8")]))
    assert found.convolutions == {} and found.int8_share == 1.0


# --- what is not understood -------------------------------------------------------------------------------------------


def _mystery(name: str, kind: str) -> dict[str, Any]:
    return {"Name": name, "LayerType": kind, "Inputs": [MYSTERY], "Outputs": [MYSTERY]}


def test_a_part_that_is_not_understood_is_said_and_bounds_the_share() -> None:
    found = precisions_from_inspector(
        _text([*ENGINE_85, _mystery("later", "kgen"), _mystery("odd", "CaskConvolution")])
    )
    assert found.convolutions == {"INT8": 1, "FP16": 1, "unknown": 1} and found.not_understood == 1
    assert (found.int8_share, found.int8_share_at_most) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert "convolutions: INT8 1, FP16 1, 1 not understood" in found.describe()
    assert '"odd"' in found.sample and '"Encoding": "Q7"' in found.sample, "a convolution is the better sample"
    assert LayerPrecisions.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_layers_beside_convolutions_do_not_touch_the_share() -> None:
    found = precisions_from_inspector(_text([*ENGINE_85, _mystery("later", "kgen"), "a name only"]))
    assert found.layers["unknown"] == 2 and found.not_understood == 0
    assert found.int8_share == found.int8_share_at_most == 0.5


def test_names_among_detailed_layers_are_not_understood() -> None:
    found = precisions_from_inspector(_text([_layer("{ForeignNode[a...b]}", "DLA", "Int8", "Int8"), "conv9"]))
    assert found.layers == {"INT8": 1, "unknown": 1} and found.sample == "conv9"
    assert (found.int8_share, found.int8_share_at_most) == (0.5, 1.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not understood: it is no JSON, seen ''"),
        ("Layers:\nconv1\n", "it is no JSON, seen 'Layers: conv1'"),
        ("3", "it has no list of layers, seen '3'"),
        ("{}", "it has no list of layers, seen '{}'"),
        ('{"Layers": 3}', "it has no list of layers"),
        ('{"Layers": null, "Bindings": []}', "it has no list of layers"),
        ("[]", "names layers without types"),
        ('{"Layers": []}', "names layers without types"),
        ('{"Layers": ["conv1", "conv2"]}', "build with detailed profiling"),
        (
            '{"Layers": [{"Name": "x", "LayerType": 3, "Inputs": ["y"]}]}',
            "no type in any of its 1 layers, seen .*LayerT",
        ),
        ('{"Layers": [{"Name": "x"}, {"Name": "y"}]}', "no type in any of its 2 layers"),
        ('{"Layers": [{"LayerType": "wait"}]}', "no tensors in any of its 1 layers"),
        (_text([_mystery("a", "CaskConvolution"), _layer("b", "kgen", "Half", "Half")]), "any of its 1 convolutions"),
        (_text([_mystery("a", "deconv"), ENGINE_85[0]]), "any of its 1 convolutions, seen .*Encoding"),
        (_text([_mystery("a", "kgen")] * 9), "no type in any of its 9 layers"),
    ],
)
def test_answers_in_another_form_are_another_error_than_no_int8(text: str, said: str) -> None:
    with pytest.raises(EngineError, match=said) as raised:
        precisions_from_inspector(text)
    message = str(raised.value)
    assert "\n" not in message and len(message) < 600 and "INT8" not in message
    assert message.endswith("report this line with TensorRT's version") or "detailed profiling" in message


def test_json_round_trip() -> None:
    found = precisions_from_inspector(_text(ENGINE_85))
    assert LayerPrecisions.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_sidecars_of_older_versions_are_read() -> None:
    old = {"layers": {"INT8": 3, "unknown": 1}, "convolutions": {"INT8": 2}, "reformats": 1}
    assert LayerPrecisions.from_json(old) == LayerPrecisions({"INT8": 3, "unknown": 1}, {"INT8": 2}, 1, sample="")


# --- whole builds -----------------------------------------------------------------------------------------------------

QDQ = BuildRequest("int8-qdq")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("form", FORMS)
def test_a_build_is_proven_whatever_its_inspector_writes(version: str, form: str, tmp_path: Path) -> None:
    rig = Rig(version, tmp_path)
    rig.module.inspector_form = form
    built = built_plan(rig.api, tiny_onnx(qdq=True), QDQ)
    assert built.precisions.convolutions == {"INT8": 2} and not built.precisions.not_understood
    assert not any("understood" in note for note in built.notes)
    half = built_plan(rig.api, tiny_onnx(), BuildRequest("fp32"))
    assert "INT8" not in half.precisions.convolutions and sum(half.precisions.convolutions.values()) == 2


def _rewriting(change: Callable[[int, dict[str, Any]], None]) -> Callable[[str], str]:
    """Changes each convolution of the listing, given its number."""

    def rewritten(text: str) -> str:
        answer = json.loads(text)
        for number, layer in enumerate(one for one in answer["Layers"] if "Convolution" in one["LayerType"]):
            change(number, layer)
        return json.dumps(answer)

    return rewritten


def _encode(layer: dict[str, Any]) -> None:
    layer.update(Inputs=[MYSTERY], Outputs=[MYSTERY])
    layer.pop("Weights", None)


def test_a_listing_in_another_form_is_no_proof_and_no_refutation(tmp_path: Path) -> None:
    rig = Rig("11.4.1.1", tmp_path)
    rig.module.rewritten = _rewriting(lambda number, layer: _encode(layer))
    for share in (0.5, 0.0):
        with pytest.raises(EngineError, match="this inspector's output is not understood: .*Encoding") as raised:
            built_plan(rig.api, tiny_onnx(qdq=True), replace(QDQ, min_int8_share=share))
        assert "no INT8" not in str(raised.value) and "--fp16' builds without INT8" in str(raised.value)


def test_a_float_build_needs_no_proof(tmp_path: Path) -> None:
    rig = Rig("11.4.1.1", tmp_path)
    rig.module.rewritten = lambda text: '{"Engine": {}}'
    built = built_plan(rig.api, tiny_onnx(), BuildRequest("fp32"))
    assert built.precisions == LayerPrecisions({}, {}, 0)
    (note,) = [note for note in built.notes if "understood" in note]
    assert note.startswith("the precision of its layers is not known: this inspector's output is not understood")
    assert not any("the rest is fused" in note for note in built.notes)


def test_the_share_is_proven_over_all_convolutions(tmp_path: Path) -> None:
    rig = Rig("11.4.1.1", tmp_path)
    rig.module.rewritten = _rewriting(lambda number, layer: _encode(layer) if number else None)
    built = built_plan(rig.api, tiny_onnx(qdq=True), QDQ)
    assert built.precisions.convolutions == {"INT8": 1, "unknown": 1}
    (note,) = [note for note in built.notes if "understood" in note]
    assert note.startswith("what the inspector says of 1 of the engine's 2 convolutions is not understood, seen {")
    with pytest.raises(EngineError, match=r"INT8 cannot be proven .*1 of the engine's 2 .*--allow-partial-int8"):
        built_plan(rig.api, tiny_onnx(qdq=True), replace(QDQ, min_int8_share=0.75))
    accepted = built_plan(rig.api, tiny_onnx(qdq=True), replace(QDQ, min_int8_share=0.0))
    assert accepted.precisions.int8_share == 0.5


def test_what_is_known_not_to_be_int8_is_refused_as_that(tmp_path: Path) -> None:
    def one_float(number: int, layer: dict[str, Any]) -> None:
        if number:
            _encode(layer)
        else:
            layer["Weights"] = {"Type": "Half", "Count": 9}

    rig = Rig("11.4.1.1", tmp_path)
    rig.module.rewritten = _rewriting(one_float)
    with pytest.raises(EngineError, match="made only 50 % of the convolutions INT8 .*1 not understood"):
        built_plan(rig.api, tiny_onnx(qdq=True), replace(QDQ, min_int8_share=0.75))
    for share in (0.5, 0.0):
        with pytest.raises(EngineError, match="INT8 cannot be proven .*--fp16' builds without INT8"):
            built_plan(rig.api, tiny_onnx(qdq=True), replace(QDQ, min_int8_share=share))


def test_float_weights_are_found_out(tmp_path: Path) -> None:
    rig = Rig("11.4.1.1", tmp_path)
    rig.module.rewritten = _rewriting(lambda number, layer: layer.update(Weights={"Type": "Half", "Count": 9}))
    with pytest.raises(EngineError, match="built no INT8 layer although INT8 was asked for .convolutions: FP16 2"):
        built_plan(rig.api, tiny_onnx(qdq=True), QDQ)


def test_the_sidecar_keeps_what_was_not_understood(tmp_path: Path) -> None:
    rig = Rig("11.4.1.1", tmp_path)
    rig.module.rewritten = _rewriting(lambda number, layer: _encode(layer) if number else None)
    made = rig.factory.open(tiny_bundle(), "tiny", TensorRtOptions(precision="int8"))
    made.engine.close()
    assert read_engine(made.cached.path).precisions == made.cached.precisions
    assert "Encoding" in made.cached.precisions.sample
    assert any("convolutions: INT8 1, 1 not understood" in line for line in rig.said)
    sidecar = made.cached.path.with_name(made.cached.path.name + ".json")
    older = json.loads(sidecar.read_text())
    del older["precisions"]["sample"]
    sidecar.write_text(json.dumps(older))
    assert read_engine(made.cached.path).precisions == replace(made.cached.precisions, sample="")
