"""What NVIDIA's libraries raise where something is missing becomes one line that says what to do."""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edgeseg.bundle import write_bundle
from edgeseg.cli.main import app
from edgeseg.device import driver_errors
from edgeseg.device.driver_errors import explained
from edgeseg.engines.cuda.device import Cuda
from edgeseg.engines.tensorrt.api import Log, TensorRt, tensorrt_module
from edgeseg.errors import EdgesegError, EngineError, MissingDependencyError
from tests.engines.tensorrt.rig import VERSIONS
from tests.engines.tensorrt.tiny import tiny_bundle
from tests.fake_cuda import FakeCuda
from tests.fake_tensorrt import fake_tensorrt

NULLPTR = TypeError("pybind11::init(): factory function returned nullptr")
SAID = "CUDA initialization failure with error: {}. Please check your CUDA installation: http://docs.nvidia.com/"


def _cannot_open(library: str) -> ImportError:
    return ImportError(f"{library}: cannot open shared object file: No such file or directory")


@pytest.mark.parametrize(
    ("error", "log", "what", "to_do"),
    [
        (NULLPTR, SAID.format(35), "CUDA does not start; it said: ", "the NVIDIA driver is missing or older"),
        (NULLPTR, SAID.format(100), "CUDA does not start; it said: ", "no GPU is visible"),
        (NULLPTR, SAID.format(38), "CUDA does not start; it said: ", "no GPU is visible"),
        (NULLPTR, SAID.format(803), "CUDA does not start; it said: ", "restart the machine"),
        (NULLPTR, SAID.format(2), "CUDA does not start; it said: ", "close other programs or add swap"),
        (NULLPTR, "it gives no reason", "CUDA does not start", "'edgeseg doctor' says more"),
        (OSError("libcuda.so.1: cannot open shared object file"), "", "libcuda.so.1", "--runtime nvidia"),
        (
            AttributeError("/lib/libcuda.so.1: undefined symbol: cuGraphLaunch"),
            "",
            "cuGraphLaunch",
            "driver is too old",
        ),
        (ImportError("/x/_driver.so: undefined symbol: cuCtxCreate_v4"), "", "cuCtxCreate_v4", "build pycuda again"),
        (_cannot_open("libcurand.so.10"), "", "libcurand.so.10", "sudo ldconfig"),
        (_cannot_open("libcudart.so.12"), "", "libcudart.so.12", "sudo ldconfig"),
        (_cannot_open("libcudnn.so.8"), "", "libcudnn.so.8", "sudo apt install nvidia-jetpack"),
        (_cannot_open("libnvinfer.so.10"), "", "libnvinfer.so.10", "sudo apt install nvidia-jetpack"),
        (_cannot_open("libnvdla_compiler.so"), "", "libnvdla_compiler.so", "--runtime nvidia"),
        (ImportError("numpy.core.multiarray failed to import"), "", "multiarray", "build pycuda again"),
        (RuntimeError("cuInit failed: no CUDA-capable device is detected"), "", "cuInit", "no GPU is visible"),
        (OSError(13, "Permission denied", "/dev/nvhost-ctrl"), "", "/dev/nvhost-ctrl", "usermod -aG video,render"),
        (MemoryError(), "", "MemoryError", "add swap"),
        (KeyError("x"), "", "x", "'edgeseg doctor' says more"),
        (RuntimeError("one\ntwo"), "", "one", "doctor"),
    ],
    ids=str,
)
def test_each_has_its_remedy(
    error: Exception, log: str, what: str, to_do: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_errors, "DEVICES", ())
    said = explained(error, log)
    assert what in said and to_do in said.rpartition(what)[2] and "\n" not in said and "nullptr" not in said


def test_files_that_may_not_be_opened_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA itself says no more than that there is no device."""
    (tmp_path / "nvhost-gpu").touch()
    monkeypatch.setattr(driver_errors, "DEVICES", (str(tmp_path / "nvhost*"),))
    failures = [RuntimeError(f"cuInit failed: {text}") for text in ("unknown error", "no CUDA-capable device", "x")]
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    for failure in failures:
        assert f"may not open {tmp_path}/nvhost-gpu: sudo usermod -aG video,render" in explained(failure)
    assert "usermod" not in explained(RuntimeError("cuMemAlloc failed: out of memory"))
    monkeypatch.setattr(os, "access", lambda path, mode: True)
    assert "no GPU is visible" in explained(failures[1])


def _raising(monkeypatch: pytest.MonkeyPatch, raising: dict[str, Exception]) -> None:
    real = importlib.import_module

    def import_module(name: str, package: str | None = None) -> Any:
        if name in raising:
            raise raising[name]
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", import_module)


def test_a_tensorrt_that_does_not_import(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        _raising(patch, {"tensorrt": _cannot_open("libnvinfer.so.8")})
        with pytest.raises(EngineError, match="tensorrt is installed but broken: libnvinfer.so.8: .*nvidia-jetpack"):
            tensorrt_module()
    with monkeypatch.context() as patch:
        _raising(patch, {"tensorrt": ModuleNotFoundError("No module named 'x'", name="tensorrt_bindings")})
        with pytest.raises(EngineError, match="tensorrt is installed but broken: No module named 'x'"):
            tensorrt_module()
    with monkeypatch.context() as patch:
        _raising(patch, {"tensorrt": OSError("libnvinfer.so.8: invalid ELF header")})
        with pytest.raises(EngineError, match="installed but broken: OSError: libnvinfer.so.8: invalid ELF header; "):
            tensorrt_module()
    with monkeypatch.context() as patch:
        _raising(patch, {"tensorrt": ModuleNotFoundError("No module named 'tensorrt'", name="tensorrt")})
        with pytest.raises(MissingDependencyError, match="on a Jetson it comes with JetPack"):
            tensorrt_module()


@pytest.mark.parametrize(
    ("error", "to_do"),
    [
        (_cannot_open("libcuda.so.1"), "the NVIDIA driver is not there"),
        (ImportError("_driver.so: undefined symbol: cuCtxCreate_v4"), "build pycuda again"),
        (
            RuntimeError("module compiled against ABI version 0x1000009 but numpy.core is 0x2000000"),
            "build pycuda again",
        ),
    ],
    ids=str,
)
def test_a_pycuda_that_does_not_import(error: Exception, to_do: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _raising(monkeypatch, {"pycuda.driver": error})
    with pytest.raises(EngineError, match=f"pycuda is installed but broken: .*{to_do}"):
        Cuda()


class Without:
    """A library that lacks a symbol."""

    def __init__(self, library: Any, name: str) -> None:
        self._library, self._lacks = library, name

    def __getattr__(self, name: str) -> Any:
        if name == self._lacks:
            raise AttributeError(f"/lib/libcuda.so.1: undefined symbol: {name}")
        return getattr(self._library, name)


@pytest.mark.parametrize("code", [3, 100, 101, 999])
def test_a_driver_that_does_not_start(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_errors, "DEVICES", ())
    fake = FakeCuda()
    fake.init_error = code
    with pytest.raises(EngineError, match="^CUDA cannot be used: cuInit failed: .+; .+"):
        Cuda(driver=fake.driver, library=fake.libcuda)


def test_a_driver_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeCuda()

    def absent(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file: No such file or directory")

    monkeypatch.setattr("ctypes.CDLL", absent)
    with pytest.raises(EngineError, match="CUDA cannot be used: libcuda.so.1: .*; the NVIDIA driver is not there"):
        Cuda(driver=fake.driver)


@pytest.mark.parametrize("name", ["cuCtxGetCurrent", "cuCtxPopCurrent_v2", "cuGetErrorString"])
def test_a_driver_without_a_symbol(name: str) -> None:
    fake = FakeCuda()
    with pytest.raises(EngineError, match=f"undefined symbol: {name}; the NVIDIA driver is too old"):
        Cuda(driver=fake.driver, library=Without(fake.libcuda, name))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_tensorrt_that_does_not_start(version: str) -> None:
    fake = FakeCuda()
    fake.runtime_error = 35
    api, log = TensorRt(fake_tensorrt(version, fake)), Log()
    for make in (api.runtime, api.builder):
        with pytest.raises(EngineError) as raised:
            make(api.logger(log), log)
        said = str(raised.value)
        assert said.startswith(f"TensorRT {version} failed: CUDA does not start; it said: CUDA initialization failure")
        assert "error: 35" in said and "; the NVIDIA driver is missing or older than this CUDA" in said
        assert "\n" not in said


def test_what_is_raised_while_the_context_is_current() -> None:
    fake = FakeCuda()
    cuda = Cuda(driver=fake.driver, library=fake.libcuda)
    for error in (TypeError("no match in C++"), AttributeError("undefined symbol: cuX"), OSError(5, "Input/output")):
        with pytest.raises(EngineError, match="^CUDA failed: .+; .+"), cuda.current():
            raise error
    with pytest.raises(EngineError, match="^as it is$"), cuda.current():
        raise EngineError("as it is")
    assert not fake._thread.cuda
    cuda.close()


# --- the commands ----------------------------------------------------------------------------------------------------

COMMANDS = (
    ("compile", "tiny.edgeseg", "--int8", "--flavour", "tensorrt"),
    ("run", "tiny.edgeseg", "--engine", "tensorrt", "--source", "demo://street?frames=1", "--sink", "out"),
    ("tune", "tiny.edgeseg", "--flavour", "tensorrt", "--seconds", "0.1", "--warmup", "0"),
    ("bench", "tiny.edgeseg", "--engine", "tensorrt", "--seconds", "0.1", "--warmup", "0", "--no-torch"),
    ("verify", "tiny.edgeseg", "--engine", "tensorrt"),
)


class Machine:
    """A machine with TensorRT and pycuda on which something is missing."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        with suppress(ImportError):
            importlib.import_module("torch")  # a first import where libraries do not load leaves half of it behind
        self.fake = FakeCuda()
        self.raising: dict[str, Exception] = {}
        for name, module in self.fake.modules.items():
            patch.setitem(sys.modules, name, module)
        patch.setitem(sys.modules, "tensorrt", fake_tensorrt("10.3.0.30", self.fake, dla_cores=1))
        patch.setattr(driver_errors, "DEVICES", ())
        patch.setattr("ctypes.CDLL", self._library)
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.chdir(folder)
        _raising(patch, self.raising)
        write_bundle(tiny_bundle(), folder / "tiny.edgeseg")

    def _library(self, name: str) -> Any:
        if name in self.raising:
            raise self.raising[name]
        return self.fake.libcuda

    def run(self, *words: str) -> Any:  # click's Result, whose package depends on the version of typer
        return CliRunner().invoke(app, list(words))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def _trouble(machine: Machine, trouble: str) -> str:
    """Break something; returns what has to be said."""
    if trouble == "no device":
        machine.fake.init_error = 100
        return "no GPU is visible"
    if trouble == "no driver":
        machine.raising["libcuda.so.1"] = OSError("libcuda.so.1: cannot open shared object file")
        return "the NVIDIA driver is not there"
    if trouble == "no driver for pycuda":
        machine.raising["pycuda.driver"] = _cannot_open("libcuda.so.1")
        return "the NVIDIA driver is not there"
    if trouble == "no libnvinfer":
        machine.raising["tensorrt"] = _cannot_open("libnvinfer.so.10")
        return "sudo apt install nvidia-jetpack"
    machine.fake.faults.raise_instead(AttributeError("no such thing"))
    machine.fake.faults.fail_next("pycuda.Device.retain_primary_context")
    return "no such thing; 'edgeseg doctor' says more"


TROUBLES = ("no device", "no driver", "no driver for pycuda", "no libnvinfer", "anything")


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_every_command_says_it_on_one_line(words: tuple[str, ...], trouble: str, machine: Machine) -> None:
    to_do = _trouble(machine, trouble)
    error = machine.run(*words).exception
    assert isinstance(error, EdgesegError), repr(error)
    assert to_do in str(error) and "\n" not in str(error)


def test_tune_with_a_driver_that_is_older_than_tensorrt(machine: Machine) -> None:
    """pycuda starts, and the first of TensorRT's objects is made in this process."""
    machine.fake.runtime_error = 35
    error = machine.run("tune", "tiny.edgeseg", "--flavour", "tensorrt").exception
    assert isinstance(error, EngineError) and "the NVIDIA driver is missing or older" in str(error)


@pytest.mark.parametrize("trouble", TROUBLES)
def test_the_benchmark_names_it_and_measures_nothing(
    trouble: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmarks = Path(__file__).resolve().parents[2] / "benchmarks"
    if not benchmarks.is_dir():
        pytest.skip("benchmarks/ is not part of this source distribution")
    monkeypatch.syspath_prepend(str(benchmarks))
    gpu = importlib.import_module("gpu")
    to_do = _trouble(machine, trouble)
    factory, _ = gpu.reachable("tensorrt", lambda line: None)
    assert isinstance(factory, EdgesegError) and to_do in str(factory) and "\n" not in str(factory)


@pytest.mark.parametrize("module", ["torch", "onnxruntime"])
def test_the_benchmark_survives_what_other_packages_raise(
    module: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmarks = Path(__file__).resolve().parents[2] / "benchmarks"
    if not benchmarks.is_dir():
        pytest.skip("benchmarks/ is not part of this source distribution")
    monkeypatch.syspath_prepend(str(benchmarks))
    gpu = importlib.import_module("gpu")
    machine.raising[module] = OSError("libcudart.so.13: cannot open shared object file")
    find = gpu.torch_with_gpu if module == "torch" else gpu.onnxruntime_with_gpu
    with pytest.raises(EdgesegError, match="libcudart.so.13: cannot open"):
        find()
