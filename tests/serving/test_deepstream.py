"""The folder for nvinfer: its form by GLib's own reader, its graph by what nvinfer does with it, refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeseg.app.export_config import ExportDeepstreamConfig
from edgeseg.app.export_graph import export_deepstream
from edgeseg.app.shipped import SHIPPED
from edgeseg.bundle import Bundle, GraphEntry, write_bundle
from edgeseg.class_list import classes_from
from edgeseg.errors import CompileError, EngineError, ForeignFileError, GateRefused
from edgeseg.recipes import Fp32
from edgeseg.serving.deepstream import deepstream_files, nvinfer_class_maps
from tests.cli.test_cli import edgeseg, refused
from tests.engines.tensorrt.tiny import tiny_bundle, tiny_onnx, tiny_spec
from tests.serving.key_file import KeyFile

KEYS = {
    "batch-size": "integer",
    "gie-unique-id": "integer",
    "infer-dims": "integer_list",
    "int8-calib-file": "string",
    "labelfile-path": "string",
    "maintain-aspect-ratio": "integer",
    "model-color-format": "integer",
    "model-engine-file": "string",
    "net-scale-factor": "double",
    "network-input-order": "integer",
    "network-mode": "integer",
    "network-type": "integer",
    "num-detected-classes": "integer",
    "onnx-file": "string",
    "output-blob-names": "string_list",
    "process-mode": "integer",
    "scaling-filter": "integer",
    "segmentation-output-order": "integer",
    "segmentation-threshold": "double",
}
"""Keys of nvinfer's group ``property``, each with the call of GLib that DeepStream 9.1 reads it by.

Of gstnvinfer_property_parser.cpp in github.com/NVIDIA/DeepStream. A boolean there is written as 0 or 1 here.
"""


def exported(folder: Path, bundle: Bundle, **changes: Any) -> dict[str, Any]:
    """The configuration of a bundle's export, as nvinfer reads it; an unknown key is an error."""
    write_bundle(bundle, folder / "m.edgeseg")
    export_deepstream(ExportDeepstreamConfig(folder / "m.edgeseg", folder=folder / "out", **changes))
    file = KeyFile(folder / "out" / "config_infer.txt")
    return {key: file.get("property", key, KEYS[key]) for key in file.keys("property")}


def with_graphs(**graphs: bytes) -> Bundle:
    bundle = tiny_bundle()
    entries = {name: GraphEntry(onnx, Fp32()) for name, onnx in graphs.items()}
    return replace(bundle, graphs={**bundle.graphs, **entries})


def reshaped(serialised: bytes, *shapes: list[int]) -> bytes:
    """The graph with reshapes between its convolutions."""
    import onnx

    model = onnx.load_from_string(serialised)
    conv = next(node for node in model.graph.node if node.name == "conv2")
    place, tensor = list(model.graph.node).index(conv), conv.input[0]
    for index, shape in enumerate(shapes):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(shape, np.int64), f"shape{index}"))
        node = onnx.helper.make_node("Reshape", [tensor, f"shape{index}"], [f"reshaped{index}"])
        model.graph.node.insert(place + index, node)
        tensor = f"reshaped{index}"
    conv = next(node for node in model.graph.node if node.name == "conv2")
    conv.input[0] = tensor
    return bytes(model.SerializeToString())


def test_the_configuration_says_what_the_graph_is(tmp_path: Path) -> None:
    import onnx

    config = exported(tmp_path, tiny_bundle())
    names = ("network-mode", "network-type", "segmentation-output-order", "network-input-order", "model-color-format")
    assert [config[name] for name in names] == [1, 2, 0, 0, 1]
    assert (config["net-scale-factor"], config["segmentation-threshold"], config["maintain-aspect-ratio"]) == (1, 0, 0)
    for key in ("onnx-file", "int8-calib-file", "labelfile-path"):
        assert (tmp_path / "out" / config[key]).is_file(), key
    model = onnx.load(str(tmp_path / "out" / config["onnx-file"]))
    assert {node.op_type for node in model.graph.node} >= {"QuantizeLinear", "DequantizeLinear"}
    (image,), (scores,) = model.graph.input, model.graph.output
    sizes = [[dim.dim_value for dim in port.type.tensor_type.shape.dim[1:]] for port in (image, scores)]
    assert sizes == [config["infer-dims"], [config["num-detected-classes"], 32, 48]]
    assert [port.type.tensor_type.shape.dim[0].dim_param for port in (image, scores)] == ["batch", "batch"]
    assert {port.type.tensor_type.elem_type for port in (image, scores)} == {onnx.TensorProto.FLOAT}
    assert config["output-blob-names"] == [scores.name]
    assert config["model-engine-file"] == f"{config['onnx-file']}_b1_gpu0_int8.engine"


@pytest.mark.parametrize(("precision", "mode"), [("fp16", 2), ("fp32", 0)])
def test_a_float_graph_for_several_cameras(tmp_path: Path, precision: str, mode: int) -> None:
    config = exported(tmp_path, tiny_bundle(), precision=precision, batch=3)
    assert config["network-mode"] == mode and config["batch-size"] == 3 and "int8-calib-file" not in config
    assert config["model-engine-file"].endswith(f"_b3_gpu0_{precision}.engine")
    onnx, golden = (tmp_path / "out" / config["onnx-file"]).read_bytes(), tiny_bundle().golden
    assert golden is not None
    for batch in (1, 2, 4):
        np.testing.assert_array_equal(nvinfer_class_maps(onnx, golden.frames, batch), golden.classes)


def test_a_bundle_without_int8_is_exported_as_fp16(tmp_path: Path) -> None:
    bundle = tiny_bundle()
    assert exported(tmp_path, replace(bundle, graphs={"fp32": bundle.graphs["fp32"]}))["network-mode"] == 2


def test_labels_and_colours_are_those_of_the_model(tmp_path: Path) -> None:
    spec = tiny_spec()
    files = deepstream_files(replace(spec, classes=("a; b", "Straße", "sign symbol")), b"", "fp32", 1)
    assert files["labels.txt"].decode().split("\n") == ["a, b", "Straße", "sign symbol", ""]
    (tmp_path / "colours.txt").write_bytes(deepstream_files(spec, b"", "fp32", 1)["colours.txt"])
    assert classes_from(str(tmp_path / "colours.txt")) == (list(spec.classes), list(spec.palette))


def test_another_graph_has_another_name_and_so_another_engine() -> None:
    """TensorRT's engine of the old graph lies in the folder."""
    first, second = (next(iter(deepstream_files(tiny_spec(), onnx, "fp16", 1))) for onnx in (b"1", b"2"))
    assert first != second


@pytest.mark.parametrize("changes", [{"scores": True}, {"float16_weights": True}, {"stride": 2}, {"batch": 2}])
def test_graphs_of_every_kind_keep_their_classes(tmp_path: Path, changes: dict[str, Any]) -> None:
    """One that gives scores, or takes the class before the last enlargement: nvinfer needs them at the frame's size."""
    write_bundle(with_graphs(fp32=tiny_onnx(**changes)), tmp_path / "m.edgeseg")
    config = ExportDeepstreamConfig(tmp_path / "m.edgeseg", folder=tmp_path / "out", precision="fp32")
    assert export_deepstream(config).agreement == 1


@pytest.mark.parametrize("qdq", [False, True])
def test_reshapes_to_one_frame_are_opened_for_more(tmp_path: Path, qdq: bool) -> None:
    """As in attention and group norms."""
    onnx = reshaped(tiny_onnx(qdq=qdq), [1, 8, -1], [1, 8, 32, 48])
    write_bundle(with_graphs(**{"int8-tensorrt" if qdq else "fp32": onnx}), tmp_path / "m.edgeseg")
    config = ExportDeepstreamConfig(
        tmp_path / "m.edgeseg", folder=tmp_path / "out", precision="int8" if qdq else "fp32", batch=3
    )
    assert export_deepstream(config).agreement == 1


def test_a_graph_that_cannot_take_more_frames_is_one_line(tmp_path: Path) -> None:
    onnx = reshaped(tiny_onnx(), [8, -1], [1, 8, 32, 48])
    write_bundle(with_graphs(fp32=onnx), tmp_path / "m.edgeseg")
    config = ExportDeepstreamConfig(tmp_path / "m.edgeseg", folder=tmp_path / "out", precision="fp32")
    with pytest.raises(EngineError, match="^the graph does not run on 2 frames at once: [^\n]*$"):
        export_deepstream(replace(config, batch=2))
    assert not (tmp_path / "out").exists()
    assert export_deepstream(config).agreement == 1


def test_the_shipped_model_has_the_classes_of_its_graphs(tmp_path: Path) -> None:
    done = export_deepstream(ExportDeepstreamConfig(SHIPPED, folder=tmp_path / "out"))
    assert (done.graph, done.precision, done.frames) == ("int8-tensorrt", "int8", 4)
    assert done.agreement > 0.9999


def test_nvidias_compiler_takes_the_graph_and_runs_it_in_int8(tmp_path: Path) -> None:
    """TensorRT-RTX builds for another GPU on this CPU. nvinfer sets the number of frames; here it is 1."""
    import onnx

    from edgeseg.compiler.verify.tensorrt_rtx import kernel_plan_from_onnx, rtx_is_installed

    if not rtx_is_installed():
        pytest.skip("TensorRT-RTX is not installed (pip install 'edgeseg[rtx]')")
    config = exported(tmp_path, tiny_bundle())
    model = onnx.load(str(tmp_path / "out" / config["onnx-file"]))
    for port in (*model.graph.input, *model.graph.output):
        port.type.tensor_type.shape.dim[0].dim_value = 1
    plan = kernel_plan_from_onnx(model.SerializeToString())
    assert plan.convolutions == plan.int8_convolutions == 2


def test_what_cannot_be_exported_or_proven_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    bundle = tiny_bundle()
    only = {"fp32": bundle.graphs["fp32"]}
    for changed, precision, kind, said in (
        (replace(bundle, golden=None), "auto", EngineError, "no golden frames"),
        (replace(bundle, graphs=only), "int8", EngineError, "the bundle has no graph 'int8-tensorrt'; it has fp32"),
        (
            with_graphs(fp32=tiny_onnx(wrong=True)),
            "fp32",
            CompileError,
            "does not map NHWC frames to the class of NCHW",
        ),
    ):
        with pytest.raises(kind, match=said):
            exported(tmp_path, changed, precision=precision)
    assert not (tmp_path / "out").exists()


def test_a_graph_that_gives_other_classes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a step of the export were wrong: the frame's channels come in another order."""
    import edgeseg.app.export_graph as module

    def turned(onnx: bytes, frames: np.ndarray, batch: int) -> np.ndarray:
        return nvinfer_class_maps(onnx, frames[..., ::-1], batch)

    monkeypatch.setattr(module, "nvinfer_class_maps", turned)
    with pytest.raises(
        GateRefused, match=r"has \d+\.\d\d % of pixels as the graph of the bundle on .*nothing was written"
    ):
        exported(tmp_path, tiny_bundle())
    assert not (tmp_path / "out").exists()


def test_nobodys_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "labels.txt").write_text("mine")
    with pytest.raises(ForeignFileError, match="labels.txt is there and is not replaced"):
        exported(tmp_path, tiny_bundle())
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["labels.txt"]
    exported(tmp_path, tiny_bundle(), overwrite=True)
    assert (tmp_path / "out" / "labels.txt").read_text() == "soil\ncrop\nweed\n"


def test_the_command_says_what_it_proved_and_how_to_go_on(tmp_path: Path) -> None:
    write_bundle(tiny_bundle(), tmp_path / "tiny.edgeseg")
    done = edgeseg("export", "deepstream", "tiny.edgeseg", "a folder", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "agreement: 100.00 % of pixels on 4 golden frames have the class of the bundle's graph int8" in done.stdout
    assert "! nvinfer config-file-path='a folder/config_infer.txt' ! nvsegvisual batch-size=1 width=48 " in done.stdout
    assert "not replaced" in refused("export", "deepstream", "tiny.edgeseg", "a folder", cwd=tmp_path)
    (tmp_path / "file").write_text("mine")
    assert "cannot be written" in refused("export", "deepstream", "tiny.edgeseg", "file", cwd=tmp_path)
    assert (tmp_path / "file").read_text() == "mine"
