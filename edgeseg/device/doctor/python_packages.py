"""NumPy, ONNX Runtime and torch."""

from __future__ import annotations

import re

from edgeseg.device.doctor.commands import pip, version_of
from edgeseg.device.doctor.finding import NOTE, PROBLEM, WARNING, Finding
from edgeseg.device.facts import Facts

__all__ = ["numpy_and_nptype", "numpy_is_why", "numpy_two", "onnxruntime_missing", "torch_build"]


def numpy_two(facts: Facts) -> Finding | None:
    """Find NumPy 2 with packages that were built for NumPy 1."""
    numpy = version_of(facts.probe.module("numpy").version)
    if not numpy or numpy[0] < 2:
        return None
    clashing = {
        name: module.error or module.warning
        for name, module in facts.probe.modules.items()
        if name != "numpy" and _numpy_clash(module.error or module.warning)
    }
    if not clashing:
        return None
    return Finding(
        "numpy-2",
        PROBLEM,
        f"NumPy 2 is installed; built for NumPy 1: {', '.join(clashing)}",
        f"numpy {facts.probe.module('numpy').version}; {next(iter(clashing.values()))}",
        f"{pip(facts)} install 'numpy<2'",
    )


def numpy_and_nptype(facts: Facts) -> Finding | None:
    """Find a TensorRT whose ``nptype`` fails with this NumPy."""
    numpy, tensorrt = (version_of(facts.probe.module(name).version) for name in ("numpy", "tensorrt"))
    if not tensorrt or tensorrt >= (8, 5, 3) or numpy < (1, 24):
        return None
    return Finding(
        "tensorrt-nptype",
        NOTE,
        "trt.nptype() of this TensorRT fails with this NumPy (np.bool is gone); edgeseg never calls it, your code may",
        f"tensorrt {facts.probe.module('tensorrt').version}, numpy {facts.probe.module('numpy').version}",
        f"nothing for edgeseg; for other code: {pip(facts)} install 'numpy<1.24'",
    )


def onnxruntime_missing(facts: Facts) -> Finding | None:
    """Find that Python cannot import onnxruntime."""
    module = facts.probe.module("onnxruntime")
    if not facts.probe.python or module.works:
        return None
    return Finding(
        "onnxruntime-missing",
        PROBLEM,
        "Python cannot import onnxruntime, which every CPU graph needs",
        module.error or "not installed",
        f"{pip(facts)} install --force-reinstall onnxruntime",
    )


def torch_build(facts: Facts) -> Finding | None:
    """Find a torch that cannot use the board's GPU."""
    module, cuda = facts.probe.module("torch"), facts.device.cuda
    if not facts.device.is_jetson or not module.version or not module.detail:
        return None
    if module.detail != "none" and (not cuda or module.detail.split(".")[0] == cuda.split(".")[0]):
        return None
    kind = "is a CPU build" if module.detail == "none" else f"was built for CUDA {module.detail}"
    return Finding(
        "torch-build",
        WARNING,
        f"torch {kind}, so it cannot use this GPU; edgeseg needs no torch on the board",
        f"torch {module.version} from {module.path}; CUDA {cuda or 'not found'}",
        f"{pip(facts)} uninstall -y torch torchvision, or install NVIDIA's wheel for JetPack {facts.device.jetpack}",
    )


def numpy_is_why(facts: Facts, error: str) -> bool:
    """Tell whether the finding about NumPy 2 already explains this error."""
    return _numpy_clash(error) and numpy_two(facts) is not None


def _numpy_clash(text: str) -> bool:
    """Tell whether a message is one of those with which binaries for NumPy 1 greet NumPy 2."""
    return bool(
        re.search(r"compiled using NumPy 1|_ARRAY_API not found|numpy\.core\.multiarray|Numpy is not avail", text)
    )
