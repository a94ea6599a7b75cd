"""TensorRT, and pycuda, which its engine needs."""

from __future__ import annotations

import re

from edgeseg.device.doctor.commands import apt, distributions, listed, new_environment, pip, then, version_of
from edgeseg.device.doctor.container import container_without_gpu
from edgeseg.device.doctor.finding import NOTE, PROBLEM, WARNING, Finding
from edgeseg.device.doctor.python_packages import numpy_is_why
from edgeseg.device.driver_errors import remedy
from edgeseg.device.facts import Facts
from edgeseg.device.jetpack import TENSORRT_11_JETPACK, release, series_of_l4t

__all__ = [
    "cuda_stuck",
    "pycuda_missing",
    "tensorrt_eleven",
    "tensorrt_hidden",
    "tensorrt_missing",
    "tensorrt_unsupported",
    "tensorrt_wheel",
]

_TENSORRT_WHEELS = r"tensorrt([_-]cu\d+)?([_-](libs|bindings))?"


def tensorrt_hidden(facts: Facts) -> Finding | None:
    """Find a TensorRT that is installed but not for this Python."""
    module, device, probe = facts.probe.module("tensorrt"), facts.device, facts.probe
    if not probe.python or module.works or not device.tensorrt or not device.is_jetson or container_without_gpu(facts):
        return None
    versions = re.findall(r"python(3\.\d+)", " ".join(facts.system_tensorrt))
    mine = ".".join(probe.python.split(".")[:2])
    if not facts.system_tensorrt:
        fix = apt(facts, "install python3-libnvinfer")
    elif versions and mine not in versions:
        fix = new_environment(f"python{versions[0]}")
    elif probe.environment == "venv":
        fix = new_environment()
    else:
        fix = apt(facts, "install --reinstall python3-libnvinfer")
    there = f", its Python module is {facts.system_tensorrt[0]}" if facts.system_tensorrt else ""
    return Finding(
        "tensorrt-hidden",
        PROBLEM,
        "TensorRT is installed, but this Python cannot import it",
        f"libnvinfer {device.tensorrt}{there}; Python {probe.python} ({probe.environment}): "
        f"{module.error or 'tensorrt not found'}",
        fix,
    )


def tensorrt_missing(facts: Facts) -> Finding | None:
    """Find a board without TensorRT."""
    device = facts.device
    if not device.is_jetson or device.tensorrt or not facts.probe.python or facts.probe.module("tensorrt").works:
        return None
    return Finding(
        "tensorrt-missing",
        PROBLEM,
        "TensorRT is not installed",
        "no libnvinfer package, and Python finds no tensorrt",
        "start from an image that has it, such as nvcr.io/nvidia/l4t-jetpack"
        if device.in_container
        else "sudo apt install nvidia-jetpack",
    )


def tensorrt_wheel(facts: Facts) -> Finding | None:
    """Find pip's TensorRT on a board."""
    wheels = distributions(facts, r"tensorrt([_-]cu\d+)?[_-]libs")
    if not wheels or not facts.device.is_jetson:
        return None
    uninstall = f"{pip(facts)} uninstall -y {' '.join(distributions(facts, _TENSORRT_WHEELS))}"
    series = series_of_l4t(facts.device.l4t)
    if series is not None and series.sbsa:
        return Finding(
            "tensorrt-wheel",
            NOTE,
            "pip's TensorRT is used beside JetPack's; engines of the one do not load in the other",
            listed(facts, wheels),
            f"nothing, if that is what you want; else {uninstall}",
        )
    return Finding(
        "tensorrt-wheel",
        PROBLEM,
        "pip's TensorRT is for servers: on this JetPack it cannot build engines (NVIDIA/TensorRT #4176)",
        listed(facts, wheels),
        uninstall + then(new_environment() if facts.probe.environment == "venv" else ""),
    )


def tensorrt_eleven(facts: Facts) -> Finding | None:
    """Find a TensorRT without implicit calibration."""
    version = facts.probe.module("tensorrt").version
    if version_of(version) < (11,) or tensorrt_unsupported(facts):
        return None
    return Finding(
        "tensorrt-11",
        NOTE,
        "this TensorRT has no implicit INT8 calibration; edgeseg gives it the graph with Q/DQ",
        f"tensorrt {version}",
        "nothing; edgeseg compile --int8 does it",
    )


def tensorrt_unsupported(facts: Facts) -> Finding | None:
    """Find a TensorRT that NVIDIA does not support on this JetPack."""
    device, version = facts.device, facts.probe.module("tensorrt").version or facts.device.tensorrt
    known = release(device.jetpack)
    if known is None or known.runs_tensorrt(version_of(version)):
        return None
    first = release(TENSORRT_11_JETPACK)
    return Finding(
        "tensorrt-unsupported",
        WARNING,
        f"NVIDIA does not support this TensorRT on JetPack {device.jetpack}",
        f"tensorrt {version}; TensorRT 11 is supported from {first.newer_tensorrt if first else 'no version'} "
        f"with JetPack {TENSORRT_11_JETPACK}",
        f"use the TensorRT that this JetPack brings, {known.tensorrt}, or update JetPack",
    )


def pycuda_missing(facts: Facts) -> Finding | None:
    """Find that Python cannot import pycuda, unless something else is why."""
    module = facts.probe.module("pycuda")
    if not facts.device.is_jetson or not facts.probe.module("tensorrt").works or module.works:
        return None
    if numpy_is_why(facts, module.error) or container_without_gpu(facts):
        return None
    build = f"PATH=/usr/local/cuda/bin:$PATH {pip(facts)}"
    return Finding(
        "pycuda-missing",
        PROBLEM,
        "Python cannot import pycuda, which the TensorRT engine needs",
        module.error or "not installed",
        remedy(module.error, f"{build} install --no-cache-dir --force-reinstall --no-deps pycuda")
        if module.error
        else f"{build} install pycuda",
    )


def cuda_stuck(facts: Facts) -> Finding | None:
    """Find a CUDA driver that does not start."""
    module = facts.probe.module("pycuda")
    if not module.works or not module.error or container_without_gpu(facts):
        return None
    return Finding(
        "cuda-stuck",
        PROBLEM,
        "CUDA does not start, so that no TensorRT engine runs",
        module.error,
        remedy(module.error, "restart the machine; if it stays, install JetPack's driver again"),
    )
