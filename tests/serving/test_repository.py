"""What is written for Triton: its form by Triton's own protobuf, and what is refused."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeseg.app.export import export_triton
from edgeseg.app.export_config import ExportTritonConfig
from edgeseg.app.shipped import SHIPPED
from edgeseg.bundle import Bundle, read_bundle, write_bundle
from edgeseg.engines.select import engine_from_bundle
from edgeseg.engines.tensorrt.factory import TensorRtOptions
from edgeseg.errors import EngineError, ForeignFileError, UsageError
from edgeseg.serving.repository import onnx_model, python_model, repository_files, tensorrt_model
from tests.cli.test_cli import edgeseg, refused
from tests.cli.test_device_commands import Board
from tests.engines.tensorrt.rig import Rig
from tests.engines.tensorrt.tiny import tiny_bundle

text_format = pytest.importorskip("google.protobuf.text_format", reason="the package protobuf is not installed")
service = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="the package tritonclient is not installed")


def configuration(files: dict[str, bytes], name: str) -> Any:
    """config.pbtxt, read by the message that Triton reads it into; an unknown field is an error."""
    return text_format.Parse(files[f"{name}/config.pbtxt"].decode(), service.ModelConfig())


def test_the_python_model_is_the_bundle_with_a_program(shipped: Bundle) -> None:
    content = SHIPPED.read_bytes()
    files = repository_files(shipped, "street", python_model(shipped, content, "openvino"))
    config = configuration(files, "street")
    assert (config.name, config.backend, config.max_batch_size) == ("street", "python", 0)
    assert [(one.name, one.data_type, list(one.dims)) for one in (*config.input, *config.output)] == [
        ("frames", service.TYPE_UINT8, [-1, 360, 480, 3]),
        ("classes", service.TYPE_UINT8, [-1, 360, 480]),
    ]
    assert config.parameters["engine"].string_value == "openvino"
    assert json.loads(config.parameters["edgeseg_classes"].string_value) == list(shipped.spec.classes)
    (warm_up,) = config.model_warmup
    sizes = list(warm_up.inputs["frames"].dims)
    assert warm_up.inputs["frames"].input_data_file == "golden" and sizes == [1, 360, 480, 3]
    assert shipped.golden is not None
    np.testing.assert_array_equal(
        np.frombuffer(files["street/warmup/golden"], np.uint8).reshape(sizes), shipped.golden.frames[:1]
    )
    assert files["street/1/model.edgeseg"] == content and json.loads(files["street/spec.json"])
    compile(files["street/1/model.py"], "model.py", "exec")


@pytest.mark.parametrize("graph", ["int8-cpu", "fp32"])
def test_a_graph_has_its_own_names_and_sizes(shipped: Bundle, graph: str) -> None:
    import onnx

    entry = shipped.graphs[graph]
    config = configuration(repository_files(shipped, "a.b", onnx_model(entry.onnx, graph, on_cpu=True)), "a.b")
    loaded = onnx.load_from_string(entry.onnx).graph
    assert config.backend == "onnxruntime" and config.instance_group[0].kind == service.ModelInstanceGroup.KIND_CPU
    assert (config.input[0].name, config.output[0].name) == (loaded.input[0].name, loaded.output[0].name)
    assert list(config.input[0].dims) == [1, 360, 480, 3] and list(config.output[0].dims) == [1, 360, 480]


@pytest.mark.parametrize("version", ["8.5.2.2", "10.13.3.9"])
def test_an_engine_has_the_types_of_its_ports(tmp_path: Path, version: str) -> None:
    """Built by the fake TensorRT: the form is checked, not the numbers."""
    rig = Rig(version, tmp_path)
    bundle = tiny_bundle()
    opened = rig.factory.open(bundle, "tiny", TensorRtOptions())
    plan, has_floats = opened.cached.plan(), opened.cached.float_ports
    with opened.engine as engine:
        served = tensorrt_model(plan, engine, ("frame", "classes"), float_ports=has_floats)
    files = repository_files(bundle, "tiny", served)
    config = configuration(files, "tiny")
    assert files["tiny/1/model.plan"] == plan and config.backend == "tensorrt"
    kinds = (service.TYPE_FP32, service.TYPE_INT32) if has_floats else (service.TYPE_UINT8, service.TYPE_UINT8)
    assert (config.input[0].data_type, config.output[0].data_type) == kinds
    assert len(files["tiny/warmup/golden"]) == np.prod(list(config.input[0].dims)) * (4 if has_floats else 1)


@pytest.mark.parametrize("version", ["8.5.2.2", "11.4.1.1"])
def test_the_command_builds_an_engine_and_serves_the_one_that_was_tested(tmp_path: Path, version: str) -> None:
    """With the fake TensorRT under its real name; the plan is that of the cache."""
    board = Board(tmp_path, version)
    said = board.run("export", "triton", "tiny.edgeseg", "--backend", "tensorrt", "models")
    assert "self-test: " in said and "wrote tiny for Triton's tensorrt backend: tiny/1/model.plan" in said
    folder = tmp_path / "models" / "tiny"
    (engine,) = board.engines()
    assert (folder / "1" / "model.plan").read_bytes() == engine.read_bytes()
    config = configuration({"tiny/config.pbtxt": (folder / "config.pbtxt").read_bytes()}, "tiny")
    ports = [(port.name, port.data_type, list(port.dims)) for port in (config.input[0], config.output[0])]
    assert ports == [("frame", service.TYPE_UINT8, [1, 32, 48, 3]), ("classes", service.TYPE_UINT8, [1, 32, 48])]
    assert config.backend == "tensorrt"
    assert config.instance_group[0].kind == service.ModelInstanceGroup.KIND_GPU
    assert (folder / "warmup" / "golden").stat().st_size == 32 * 48 * 3


def test_a_tensorrt_without_uint8_serves_floats(tmp_path: Path) -> None:
    rig = Rig("8.5.2.2", tmp_path / "cache", uint8_io=False)
    write_bundle(tiny_bundle(), tmp_path / "tiny.edgeseg")
    config = ExportTritonConfig(tmp_path / "tiny.edgeseg", repository=tmp_path, backend="tensorrt", graph="fp16")
    done = export_triton(config, factory_from=lambda flavour, tell: nullcontext(rig.factory))
    read = configuration({file: (tmp_path / file).read_bytes() for file in done.files}, "tiny")
    assert (read.input[0].data_type, read.output[0].data_type) == (service.TYPE_FP32, service.TYPE_INT32)
    assert (tmp_path / "tiny" / "warmup" / "golden").stat().st_size == 4 * 32 * 48 * 3
    assert done.backend == "tensorrt" and rig.builds >= 1 and not rig.leaks()


def test_an_engine_that_fails_its_test_is_not_served(tmp_path: Path) -> None:
    board = Board(tmp_path, "10.3.0.30")
    bundle = tiny_bundle()
    assert bundle.golden is not None
    wrong = replace(bundle.golden, classes=(bundle.golden.classes + 1) % 3)
    write_bundle(replace(bundle, golden=wrong), tmp_path / "tiny.edgeseg")
    said = board.run("export", "triton", "tiny.edgeseg", "--backend", "tensorrt", "models", code=3)
    assert "self-test failed" in said and not (tmp_path / "models").exists()
    assert "no precision" in board.run("export", "triton", "--backend", "tensorrt", "--graph", "int9", code=2)


@pytest.mark.parametrize("name", ['a"b', "back\\slash", "Straße", "路", "semi; colon: {}"])
def test_classes_of_any_name_arrive_as_they_are(shipped: Bundle, name: str) -> None:
    spec = replace(shipped.spec, classes=(name, *shipped.spec.classes[1:]))
    files = repository_files(replace(shipped, spec=spec, golden=None), "m", python_model(shipped, b"", "auto"))
    config = configuration(files, "m")
    assert json.loads(config.parameters["edgeseg_classes"].string_value)[0] == name
    assert not config.model_warmup and "m/warmup/golden" not in files


def test_a_batch_is_a_graph_of_that_many_frames(shipped: Bundle, tmp_path: Path) -> None:
    done = export_triton(ExportTritonConfig(SHIPPED, repository=tmp_path, name="two", backend="onnxruntime", batch=2))
    assert done.files[0] == "two/1/model.onnx"
    from edgeseg.engines.ort import OrtEngine

    assert shipped.golden is not None
    frames = shipped.golden.frames[:2]
    with OrtEngine((tmp_path / "two/1/model.onnx").read_bytes()) as pair, engine_from_bundle(shipped) as single:
        found = pair.infer(frames).copy()
        np.testing.assert_array_equal(found, np.concatenate([single.infer(frame[None]).copy() for frame in frames]))
    assert len((tmp_path / "two/warmup/golden").read_bytes()) == frames.nbytes


def test_a_model_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    config = ExportTritonConfig(SHIPPED, repository=tmp_path, name="m")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.pbtxt").write_text("mine")
    with pytest.raises(ForeignFileError, match="config.pbtxt is there and is not replaced"):
        export_triton(config)
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["config.pbtxt"]
    export_triton(replace(config, overwrite=True))
    assert (tmp_path / "m" / "config.pbtxt").read_text().startswith('name: "m"')


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "../up"}, "`name` is up to 64 letters"),
        ({"name": "a b"}, "`name` is up to 64 letters"),
        ({"batch": 2}, "`batch` is for `backend` onnxruntime; python takes what the bundle has"),
        ({"graph": "fp32"}, "`graph` is for `backend` onnxruntime and tensorrt"),
    ],
)
def test_what_makes_no_sense_is_one_line(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        export_triton(replace(ExportTritonConfig(SHIPPED, repository=tmp_path), **changes))
    assert not list(tmp_path.iterdir())


def test_a_graph_that_is_not_for_onnx_runtime_is_refused(tmp_path: Path) -> None:
    for graph in ("int8-tensorrt", "none"):
        config = ExportTritonConfig(SHIPPED, repository=tmp_path, backend="onnxruntime", graph=graph)
        with pytest.raises(EngineError, match=f"no graph '{graph}' for ONNX Runtime; it has int8-cpu, fp32"):
            export_triton(config)


def test_the_command_says_what_it_wrote_and_what_comes_next(tmp_path: Path) -> None:
    write_bundle(read_bundle(SHIPPED), tmp_path / "mine.edgeseg")
    done = edgeseg("export", "triton", "mine.edgeseg", "models", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"next: tritonserver --model-repository {tmp_path / 'models'}" in done.stdout
    assert (tmp_path / "models" / "mine" / "1" / "model.edgeseg").read_bytes() == (
        tmp_path / "mine.edgeseg"
    ).read_bytes()
    assert "is there and is not replaced" in refused("export", "triton", "mine.edgeseg", "models", cwd=tmp_path)
    assert "gone.edgeseg" in refused("export", "triton", "gone.edgeseg", cwd=tmp_path)
