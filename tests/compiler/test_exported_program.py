"""The route through PyTorch: the exported program runs here; what Torch-TensorRT needs beyond is named exactly."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgeseg.builder.networks import PaddedNetwork
from edgeseg.compiler.importers import exported_program
from edgeseg.compiler.importers.exported_program import exported_program_from_module, tensorrt_program_from_module
from edgeseg.demo.street import StreetDataset
from edgeseg.engines.ort import OrtEngine
from edgeseg.errors import CompileError, MissingDependencyError, UsageError
from edgeseg.preprocess import normalized
from edgeseg.ranges import Ranges
from edgeseg.spec import ModelSpec, Preprocess
from tests.compiler.conftest import SPEC

HAS_GPU = torch.cuda.is_available()
HAS_PACKAGE = importlib.util.find_spec("torch_tensorrt") is not None


def _small_network(classes: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, classes, 1)).eval()


def _street(size: str, count: int) -> np.ndarray:
    frames = StreetDataset(f"demo://street?frames={count}&step=50&size={size}&seed=2")
    return np.stack([frames[index].frame for index in range(count)])


def test_the_saved_program_gives_the_class_maps_of_the_onnx_graph(
    network: PaddedNetwork, graph_and_ranges: tuple[Any, Ranges], tmp_path: Path
) -> None:
    torch.export.save(exported_program_from_module(network, SPEC, precision="fp32"), tmp_path / "street.pt2")
    program = torch.export.load(tmp_path / "street.pt2").module()
    with OrtEngine(graph_and_ranges[0].SerializeToString()) as engine:
        for frame in _street("104x72", 3):
            expected = engine.infer(frame[None])
            actual = program(torch.from_numpy(frame[None])).numpy()
            assert actual.dtype == np.uint8 and actual.shape == expected.shape == (1, 72, 104)
            assert np.mean(actual == expected) >= 0.999 and len(np.unique(actual)) > 1


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_preprocessing_is_that_of_preprocess(spec: ModelSpec, order: str) -> None:
    """Logits and not only classes: read from the program's own graph, in front of argmax."""
    unusual = replace(spec, preprocess=Preprocess((0.1, 0.4, 0.8), (0.9, 0.2, 0.5), order))
    module = _small_network()
    frames = _street("96x64", 2)
    program = exported_program_from_module(module, unusual, precision="fp32", batch=2)
    seen: list[torch.Tensor] = []

    class Watch(torch.fx.Interpreter):
        def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
            if target is torch.ops.aten.argmax.default:
                seen.append(args[0])
            return super().call_function(target, args, kwargs)

    classes = Watch(program.module()).run(torch.from_numpy(frames))
    with torch.no_grad():
        expected = module(torch.from_numpy(normalized(frames, unusual.preprocess)))
    assert torch.allclose(seen[0], expected, atol=1e-5) and torch.equal(classes, expected.argmax(1).to(torch.uint8))


def test_fp16_is_in_the_graph_and_leaves_the_module_alone(spec: ModelSpec) -> None:
    module = _small_network()
    program = exported_program_from_module(module, spec, precision="fp16", batch=2)
    frames = _street("96x64", 2)
    with torch.no_grad():
        expected = module(torch.from_numpy(normalized(frames, spec.preprocess))).argmax(1)
    assert float((program.module()(torch.from_numpy(frames)) == expected).float().mean()) > 0.99
    convolutions = [n.meta["val"].dtype for n in program.graph.nodes if "conv2d" in str(n.target)]
    assert convolutions == [torch.float16] * 2, "TensorRT 11 takes its precision from the graph alone"
    assert {(weight.dtype, weight.requires_grad) for weight in module.parameters()} == {(torch.float32, True)}


def test_what_does_not_fit_is_refused(spec: ModelSpec) -> None:
    with pytest.raises(CompileError, match=r"logits \(1, 5, 64, 96\), the spec needs \(1, 3, 64, 96\)"):
        exported_program_from_module(_small_network(5), spec, precision="fp32")
    loud = _small_network()
    with torch.no_grad():
        loud[2].weight.mul_(1e6)  # type: ignore[operator, union-attr, unused-ignore]
    exported_program_from_module(loud, spec, precision="fp32")
    with pytest.raises(CompileError, match="not finite at fp16; try fp32"):
        exported_program_from_module(loud, spec, precision="fp16")
    with pytest.raises(CompileError, match="cannot be exported at fp32"):
        exported_program_from_module(nn.Conv2d(4, 3, 1), spec, precision="fp32")


def test_bad_requests_are_refused_before_any_work(spec: ModelSpec, tmp_path: Path) -> None:
    def asked(out: str = "m.pt2", precision: str = "fp16", batch: int = 1) -> str:
        with pytest.raises(UsageError) as caught:
            tensorrt_program_from_module(_Untouchable(), spec, tmp_path / out, precision=precision, batch=batch)
        return str(caught.value)

    assert "the bundle's Q/DQ graph is what TensorRT runs" in asked(precision="int8")
    assert "fp32 or fp16, got 'bf16'" in asked(precision="bf16")
    assert "got m.engine; name it m.pt2" in asked(out="m.engine")
    assert "batch is 1 or more, got 0" in asked(batch=0)


class _Untouchable(nn.Module):
    """Fails when anything is done with it."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _Untouchable:
        raise AssertionError("work was begun")

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        raise AssertionError("work was begun")


@pytest.mark.skipif(HAS_GPU, reason="this machine has a CUDA GPU")
def test_without_a_gpu_one_line_says_what_is_missing_before_any_work(spec: ModelSpec, tmp_path: Path) -> None:
    with pytest.raises(CompileError) as caught:
        tensorrt_program_from_module(_Untouchable(), spec, tmp_path / "m.pt2", precision="fp16")
    line = str(caught.value)
    assert "\n" not in line and "run this on the GPU machine" in line
    assert re.search(r"torch says: (Found no NVIDIA driver|No CUDA GPU|Torch not compiled with CUDA)", line), line
    assert ("pip install 'edgeseg[torch-tensorrt]'" in line) != HAS_PACKAGE
    assert list(tmp_path.iterdir()) == []


def test_with_a_gpu_only_the_package_is_asked_for() -> None:
    exported_program._check_machine("", package=True)
    with pytest.raises(MissingDependencyError, match=r"torch-tensorrt is missing; pip install 'edgeseg\[torch-tens"):
        exported_program._check_machine("", package=False)


@pytest.mark.skipif("torch_tensorrt" in sys.modules, reason="torch_tensorrt is already imported")
def test_a_package_without_its_libraries_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the real one behaves: it prints, then raises a bare Exception with several lines."""
    (tmp_path / "torch_tensorrt.py").write_text(
        "print('import error')\nraise Exception('Could not find libnvinfer.so.11\\n  Search paths: []')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MissingDependencyError) as caught:
        exported_program._check_import()
    assert str(caught.value) == (
        "torch_tensorrt cannot be imported (Could not find libnvinfer.so.11); "
        "pip install 'edgeseg[torch-tensorrt]' in a new environment"
    )
    assert capsys.readouterr().out == ""


def test_what_stays_in_pytorch_is_counted() -> None:
    """A graph in the form that torch_tensorrt's partitioner gives."""

    class Cast(nn.Module):
        def forward(self, classes: torch.Tensor) -> torch.Tensor:
            return torch.ops.aten._to_copy.default(classes, dtype=torch.uint8)  # type: ignore[no-any-return]

    engine, rest = nn.Identity(), torch.fx.symbolic_trace(Cast())
    root = nn.ModuleDict({"_run_on_acc_0": engine, "_run_on_gpu_1": rest})
    graph = torch.fx.Graph()
    frame = graph.placeholder("frame")
    graph.output(graph.call_module("_run_on_gpu_1", (graph.call_module("_run_on_acc_0", (frame,)),)))
    assert exported_program._partition(torch.fx.GraphModule(root, graph)) == (1, ("aten._to_copy.default",))
    assert exported_program._partition(rest) == (0, ("aten._to_copy.default",)), "a graph that was not partitioned"


@pytest.mark.skipif(not HAS_PACKAGE, reason="torch-tensorrt is not installed")
def test_our_calls_fit_the_installed_torch_tensorrt() -> None:
    """Read from its source, since it does not import without a GPU; its ``**kwargs`` would swallow a renamed option."""
    spec = importlib.util.find_spec("torch_tensorrt")
    assert spec is not None and spec.origin is not None
    package = Path(spec.origin).parent
    compiling = _parameters(package / "dynamo" / "_compiler.py", "compile")
    assert compiling[0] == "exported_program"
    assert {"arg_inputs", "disable_tf32", "min_block_size", "workspace_size"} <= set(compiling)
    saving = _parameters(package / "_compile.py", "save")
    assert saving[:2] == ["module", "file_path"] and {"output_format", "arg_inputs"} <= set(saving)


def _parameters(source: Path, function: str) -> list[str]:
    body = ast.parse(source.read_text()).body
    (found,) = (node for node in body if isinstance(node, ast.FunctionDef) and node.name == function)
    return [argument.arg for argument in (*found.args.args, *found.args.kwonlyargs)]


@pytest.mark.skipif(not (HAS_GPU and HAS_PACKAGE), reason="needs torch-tensorrt and a CUDA GPU")
@pytest.mark.parametrize("precision", exported_program.PRECISIONS)
def test_a_gpu_runs_the_saved_program(spec: ModelSpec, tmp_path: Path, precision: str) -> None:
    made = tensorrt_program_from_module(_small_network(), spec, tmp_path / "m.pt2", precision=precision, batch=2)
    assert made.engines == 1 and made.torch_operators == ("aten._to_copy.default",) and made.agreement >= 0.98
    assert [path.name for path in tmp_path.iterdir()] == ["m.pt2"]
    program = torch.export.load(tmp_path / "m.pt2").module()
    assert program(torch.from_numpy(_street("96x64", 2)).cuda()).dtype == torch.uint8
