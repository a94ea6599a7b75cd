"""Models of other runtimes, made by their converters and run by themselves where they are installed."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeseg.app.export_config import ExportRuntimeConfig
from edgeseg.app.export_graph import export_runtime
from edgeseg.app.shipped import SHIPPED
from edgeseg.bundle import GraphEntry, write_bundle
from edgeseg.class_list import classes_from
from edgeseg.errors import EngineError, ForeignFileError, GateRefused, MissingDependencyError
from edgeseg.recipes import Fp32
from edgeseg.serving.pnnx import RUNTIMES, Converted
from tests.cli.test_cli import edgeseg, refused
from tests.engines.tensorrt.tiny import tiny_bundle, tiny_frames, tiny_onnx

NEEDS = {"ncnn": "ncnn", "litert": "litert_torch", "executorch": "executorch"}
FILES = {
    "ncnn": ("model.ncnn.param", "model.ncnn.bin"),
    "litert": ("model.tflite",),
    "executorch": ("model.pte",),
}
SHARE = {"fp16": 0.9995, "fp32": 0.9999}


def need(runtime: str) -> None:
    for module in ("pnnx", NEEDS[runtime]):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"the package {module} is not installed (pip install 'edgeseg[{runtime}]')")


def config(folder: Path, **changes: Any) -> ExportRuntimeConfig:
    bundle = replace(tiny_bundle(), graphs={"fp32": GraphEntry(tiny_onnx(**changes), Fp32())})
    write_bundle(bundle, folder / "m.edgeseg")
    return ExportRuntimeConfig(folder / "m.edgeseg", folder=folder / "out")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_shipped_model_keeps_its_classes(runtime: str, tmp_path: Path) -> None:
    need(runtime)
    done = export_runtime(runtime, ExportRuntimeConfig(SHIPPED, folder=tmp_path / "out"))
    assert done.agreement > SHARE[done.precision] and done.frames == 4
    assert done.files == (*FILES[runtime], "classes.txt")
    assert all((tmp_path / "out" / name).stat().st_size for name in done.files)
    assert classes_from(str(tmp_path / "out" / "classes.txt"))[0][:2] == ["sky", "building"]


@pytest.mark.parametrize("changes", [{"stride": 2}, {"batch": 2}, {"scores": True}])
def test_graphs_of_every_kind_keep_their_classes(tmp_path: Path, changes: dict[str, object]) -> None:
    need("ncnn")
    assert export_runtime("ncnn", config(tmp_path, **changes)).agreement > 0.99


def test_other_classes_are_refused_and_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = tiny_bundle().golden
    assert golden is not None
    wrong = Converted({"model": b""}, (golden.classes + 1) % 3)
    monkeypatch.setitem(RUNTIMES, "ncnn", replace(RUNTIMES["ncnn"], convert=lambda onnx, frames: wrong))  # type: ignore[arg-type]
    with pytest.raises(GateRefused, match="the model of ncnn has 0.00 % .*limit 99 %.* nothing was written"):
        export_runtime("ncnn", config(tmp_path))
    assert not (tmp_path / "out").exists()


def test_nobodys_file_is_replaced(tmp_path: Path) -> None:
    need("ncnn")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.ncnn.bin").write_text("mine")
    with pytest.raises(ForeignFileError, match="model.ncnn.bin is there"):
        export_runtime("ncnn", config(tmp_path))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.ncnn.bin"]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_pnnx_cannot_read_is_one_line(runtime: str) -> None:
    need(runtime)
    with pytest.raises(EngineError, match="^pnnx cannot take the graph: [^\n]*$"):
        RUNTIMES[runtime].convert(b"no graph", tiny_frames())


def test_what_ncnn_has_no_operator_for_is_named() -> None:
    """A group norm: ncnn may crash on what it does not know."""
    import onnx
    from onnx import helper

    need("ncnn")
    ports = [helper.make_tensor_value_info(name, 1, [1, 3, 32, 48]) for name in ("image", "scores")]
    constants = {
        "rows": np.array([1, 3, -1]),
        "planes": np.array([1, 3, 32, 48]),
        "ones": np.ones(3, np.float32),
        "zeros": np.zeros(3, np.float32),
    }
    nodes = [
        helper.make_node("Reshape", ["image", "rows"], ["a"]),
        helper.make_node("InstanceNormalization", ["a", "ones", "zeros"], ["b"]),
        helper.make_node("Reshape", ["b", "planes"], ["scores"]),
    ]
    tensors = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    with pytest.raises(EngineError, match="ncnn has no operator for .*; try 'edgeseg export executorch'"):
        RUNTIMES["ncnn"].convert(model.SerializeToString(), tiny_frames())


def test_a_runtime_that_crashes_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ncnn does with an Atanh."""
    import edgeseg.serving.pnnx as module

    need("ncnn")
    (tmp_path / "program.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    monkeypatch.setattr(module, "_PROGRAM", tmp_path / "program.py")
    with pytest.raises(EngineError, match="^ncnn cannot take the graph: it crashed with signal 11$"):
        export_runtime("ncnn", config(tmp_path))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_without_the_packages_it_says_what_to_install(
    runtime: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("pnnx", NEEDS[runtime]):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=rf"pip install 'edgeseg\[{runtime}\]'"):
        export_runtime(runtime, config(tmp_path))
    assert not (tmp_path / "out").exists()


def test_the_command(tmp_path: Path) -> None:
    need("ncnn")
    write_bundle(tiny_bundle(), tmp_path / "tiny.edgeseg")
    done = edgeseg("export", "ncnn", "tiny.edgeseg", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "wrote out for ncnn: model.ncnn.param, model.ncnn.bin, classes.txt" in done.stdout
    assert "on 4 golden frames have the class of the bundle's graph fp32" in done.stdout
    assert "gone.edgeseg" in refused("export", "ncnn", "gone.edgeseg", "out", cwd=tmp_path)
