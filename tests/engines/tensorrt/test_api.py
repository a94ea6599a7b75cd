"""What we use of TensorRT exists where we say, and is called as its types want."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any, Iterator

import pytest

import edgeseg
from edgeseg.engines.tensorrt.api import OLDER_ONLY, Log, TensorRt, tensorrt_module
from edgeseg.errors import EngineError, MissingDependencyError
from tests.engines.tensorrt.rig import VERSIONS
from tests.fake_cuda import FakeCuda
from tests.fake_tensorrt import fake_tensorrt

PACKAGE = Path(edgeseg.__file__).parent / "engines" / "tensorrt"
STUBS = PACKAGE.parents[2] / ".venvs" / "stubs"


def _used_names() -> set[str]:
    """Every attribute, and every string (flags are looked up by name), in the files that speak to TensorRT."""
    used = set()
    for name in ("api", "build", "engine", "factory"):
        tree = ast.parse((PACKAGE / f"{name}.py").read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                used.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                used.add(node.value)
            elif isinstance(node, ast.keyword) and node.arg:
                used.add(node.arg)
    return used


def _vocabulary(module: Any) -> Iterator[str]:
    for name in dir(module):
        yield name
        thing = getattr(module, name)
        if isinstance(thing, type):
            yield from dir(thing)


def _words_of_the_stubs() -> set[str]:
    tree = ast.parse((STUBS / "tensorrt_bindings" / "tensorrt.pyi").read_text())
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


@pytest.mark.skipif(
    not STUBS.is_dir(), reason="tensorrt-stubs are not in .venvs/stubs; 'make setup-dev' puts them there"
)
def test_every_attribute_is_in_tensorrt_rtx_or_listed_as_older() -> None:
    rtx = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has wheels for x86_64 Linux only")
    of_tensorrt = _used_names() & _words_of_the_stubs()
    newest = set(_vocabulary(rtx))
    assert len(of_tensorrt) > 60, "the test no longer sees what we use"
    missing = {name for name in of_tensorrt - newest if not name.startswith("__")}
    older = {name.rpartition(".")[2] for name in OLDER_ONLY}
    assert missing - older == set(), "neither in TensorRT-RTX nor listed as older-only"
    assert older <= of_tensorrt, "listed as older-only but not used"
    for name in OLDER_ONLY:
        owner, _, attribute = name.partition(".")
        assert not hasattr(getattr(rtx, owner), attribute), f"TensorRT-RTX has {name}"


@pytest.mark.skipif(
    not STUBS.is_dir(), reason="tensorrt-stubs are not in .venvs/stubs; 'make setup-dev' puts them there"
)
def test_calls_fit_the_types_of_tensorrt_10_13(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is not installed")
    root = PACKAGE.parents[2]
    broken = tmp_path / "broken.py"
    broken.write_text(
        "import tensorrt as trt\n"
        "def f(tensor: trt.ITensor, builder: trt.Builder) -> None:\n"
        "    tensor.set_dynamic_range('low', 1.0)\n"
        "    builder.no_such_call()\n"
    )
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache")]
    ours = [str(PACKAGE / f"{name}.py") for name in ("api", "build", "engine")]
    done = subprocess.run([*command, *ours], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    done = subprocess.run([*command, str(broken)], cwd=root, capture_output=True, text=True)
    assert "set_dynamic_range" in done.stdout and "no_such_call" in done.stdout, "the stubs are not seen"


@pytest.mark.parametrize("version", VERSIONS)
def test_what_a_version_can_is_found_by_looking(version: str) -> None:
    api = TensorRt(fake_tensorrt(version, FakeCuda()))
    newest = version.startswith("11")
    assert api.implicit_int8 is not newest and api.precision_flags is not newest
    assert api.network_flags() == (0 if newest else 1)
    assert (api.flag("INT8") is None) is newest and api.flag("NO_SUCH_FLAG") is None
    assert api.name == f"TensorRT {version}"
    for name, expected in (("FLOAT", "float32"), ("UINT8", "uint8"), ("INT32", "int32"), ("HALF", "float16")):
        assert api.dtype(getattr(api.trt.DataType, name)).__name__ == expected


def test_a_module_without_tensorrt_in_it_is_refused() -> None:
    with pytest.raises(EngineError, match="holds no TensorRT"):
        TensorRt(types.ModuleType("tensorrt"))  # type: ignore[arg-type]
    old = types.SimpleNamespace(__version__="8.2.1.8", Builder=object, ICudaEngine=object)
    with pytest.raises(EngineError, match="TensorRT 8.2.1.8 is too old; edgeseg needs 8.5"):
        TensorRt(old)  # type: ignore[arg-type]


def test_what_cannot_be_imported_says_where_it_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingDependencyError, match="on a Jetson it comes with JetPack.*--system-site-packages"):
        tensorrt_module()
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'edgeseg\[rtx\]'"):
        tensorrt_module("rtx")


def test_the_last_errors_are_the_reason() -> None:
    assert Log(["a\nb", "c"]).reason() == "a b; c" and Log().reason() == "it gives no reason"


def test_a_real_build_ahead_of_time_through_the_same_builder(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has wheels for x86_64 Linux only")
    from edgeseg.bundle import write_bundle
    from tests.engines.tensorrt.tiny import tiny_bundle

    write_bundle(tiny_bundle(), tmp_path / "tiny.edgeseg")
    command = [sys.executable, "-m", "edgeseg", "compile", "tiny.edgeseg", "--int8", "--flavour", "rtx", "--json"]
    done = subprocess.run([*command, "--compute-capability", "SM86"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["precisions"]["convolutions"]["INT8"] >= 1
    assert document["key"]["gpu"] == "any GPU" and document["key"]["compute_capability"] == "8.6"
    assert (tmp_path / "tiny-sm86.engine").stat().st_size == document["plan_bytes"]
    done = subprocess.run([*command, "--compute-capability", "SM72"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "it can for SM120" in done.stderr
