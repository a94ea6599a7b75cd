"""Find what is wrong with a machine for segmentation, and the command that mends it. Pure: Facts in, findings out."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from typing import Callable

from edgeseg.device.driver_errors import remedy
from edgeseg.device.facts import Facts
from edgeseg.device.gstreamer import NVIDIA_ELEMENTS, gstreamer_install, gstreamer_packages
from edgeseg.device.jetpack import (
    OLDEST_TENSORRT,
    RELEASES,
    SOCS,
    TENSORRT_11_JETPACK,
    Series,
    image_of_l4t,
    release,
    release_of_l4t,
    series_of_l4t,
    version_tuple,
)
from edgeseg.device.power_mode import fastest_power_mode
from edgeseg.device.telemetry import throttled_now

__all__ = ["Finding", "findings"]

PROBLEM, WARNING, NOTE = "problem", "warning", "note"


@dataclass(frozen=True)
class Finding:
    """Something worth saying about a machine.

    Attributes:
        name: short and stable, for machines.
        severity: ``"problem"`` (something that edgeseg needs does not work), ``"warning"`` or ``"note"``.
        what: what is the matter.
        seen: the evidence.
        fix: what to do; a command wherever one does it.
    """

    name: str
    severity: str
    what: str
    seen: str
    fix: str

    def to_json(self) -> dict[str, str]:
        """Return a JSON-serialisable dict of all fields."""
        return asdict(self)


def findings(facts: Facts) -> list[Finding]:
    """Return everything worth saying: problems first, then warnings, then notes."""
    found = [finding for check in _CHECKS for finding in [check(facts)] if finding is not None]
    return sorted(found, key=lambda finding: (PROBLEM, WARNING, NOTE).index(finding.severity))


# The board and its release

_USABLE: Series = next(one.series for one in RELEASES if one.usable)


def _old_jetpack(facts: Facts) -> Finding | None:
    first = min(_USABLE.l4t)
    if not facts.l4t or facts.l4t[0] >= first:
        return None
    return Finding(
        "jetpack-4",
        PROBLEM,
        f"this JetPack is too old: JetPack {_USABLE.jetpack} (L4T {first}) is the first that edgeseg supports",
        f"JetPack {facts.device.jetpack}, L4T {facts.device.l4t}",
        "flash JetPack 5.1 (Xavier) or 6 (Orin) with NVIDIA SDK Manager; for Nano and TX2 there is none",
    )


def _old_tensorrt(facts: Facts) -> Finding | None:
    known = release_of_l4t(facts.device.l4t)
    if known is None or known.usable or _old_jetpack(facts) or _version(facts.device.tensorrt) >= OLDEST_TENSORRT:
        return None
    return Finding(
        "tensorrt-too-old",
        PROBLEM,
        "the TensorRT of this JetPack is too old: edgeseg needs " + ".".join(map(str, OLDEST_TENSORRT)),
        f"JetPack {facts.device.jetpack}, TensorRT {facts.device.tensorrt or known.tensorrt}",
        "update to JetPack 5.1 or newer with apt or NVIDIA SDK Manager",
    )


def _unknown_l4t(facts: Facts) -> Finding | None:
    device = facts.device
    if not device.is_jetson or (device.l4t and not device.jetpack.startswith("unknown")) or device.in_container:
        return None
    return Finding(
        "l4t-unknown",
        WARNING,
        "this L4T release is not one that this version knows, so nothing is assumed about it",
        f"L4T {device.l4t or 'not stated in /etc/nv_tegra_release nor by the nvidia-l4t-core package'}",
        "pip install --upgrade edgeseg; if that does not help, report it with this block",
    )


def _no_int8_kernels(facts: Facts) -> Finding | None:
    if facts.device.compute_capability not in [soc.compute_capability for soc in SOCS.values() if not soc.int8_kernels]:
        return None
    return Finding(
        "no-int8-kernels",
        WARNING,
        "this GPU has no INT8 kernels: TensorRT needs compute capability 6.1, or 7 and up, for them",
        f"{facts.device.soc}, compute capability {facts.device.compute_capability}",
        "edgeseg compile --fp16",
    )


# OpenCV


def _cv2_missing(facts: Facts) -> Finding | None:
    module = facts.probe.module("cv2")
    if not facts.probe.python or module.works or _numpy_is_why(facts, module.error):
        return None
    if not facts.device.is_jetson:
        fix = f"{_pip(facts)} install opencv-python"
    elif facts.system_cv2 and facts.probe.environment == "venv":
        fix = _new_environment()
    else:
        fix = _apt(facts, "install python3-opencv")
    seen = module.error or "not installed" + (f"; the system has {facts.system_cv2[0]}" if facts.system_cv2 else "")
    return Finding("cv2-missing", PROBLEM, "Python cannot import OpenCV (cv2)", seen, fix)


def _cv2_shadowed(facts: Facts) -> Finding | None:
    module = facts.probe.module("cv2")
    if not (module.works and facts.system_cv2 and facts.device.is_jetson and module.detail.startswith("NO")):
        return None
    if module.path.startswith("/usr/lib/python3"):
        return None
    return Finding(
        "cv2-shadowed",
        WARNING,
        "another OpenCV, without GStreamer, hides JetPack's: programs that open cameras by it fail (edgeseg does not)",
        f"cv2 {module.version} from {module.path} (GStreamer: {module.detail}) before {facts.system_cv2[0]}",
        _without_wheels(facts) or f"remove {module.path}",
    )


def _cv2_without_gstreamer(facts: Facts) -> Finding | None:
    module = facts.probe.module("cv2")
    if not module.works or not module.detail.startswith("NO") or _cv2_shadowed(facts):
        return None
    if not facts.device.is_jetson:
        return Finding(
            "cv2-without-gstreamer",
            NOTE,
            "OpenCV has no GStreamer; edgeseg does not need it to",
            f"cv2 {module.version} from {module.path}",
            "nothing, unless you need them: sudo apt install python3-opencv",
        )
    return Finding(
        "cv2-without-gstreamer",
        WARNING,
        "OpenCV has no GStreamer: programs that open CSI cameras with it fail (edgeseg does not)",
        f"cv2 {module.version} from {module.path}",
        _apt(facts, "install python3-opencv") + _then(_without_wheels(facts)),
    )


def _cv2_wheel_beside(facts: Facts) -> Finding | None:
    wheels = _opencv_wheels(facts)
    if not wheels or not facts.device.is_jetson or not facts.system_cv2 or _cv2_shadowed(facts):
        return None
    if not facts.probe.module("cv2").works:
        return None
    return Finding(
        "cv2-wheel-beside",
        WARNING,
        "pip's OpenCV is installed beside JetPack's; which of them is imported depends on the order of sys.path",
        f"{', '.join(wheels)} beside {facts.system_cv2[0]}; imported now: {facts.probe.module('cv2').path}",
        _without_wheels(facts),
    )


# NumPy


def _numpy_two(facts: Facts) -> Finding | None:
    numpy = _version(facts.probe.module("numpy").version)
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
        _old_numpy(facts),
    )


def _numpy_and_nptype(facts: Facts) -> Finding | None:
    numpy, tensorrt = (_version(facts.probe.module(name).version) for name in ("numpy", "tensorrt"))
    if not tensorrt or tensorrt >= (8, 5, 3) or numpy < (1, 24):
        return None
    return Finding(
        "tensorrt-nptype",
        NOTE,
        "trt.nptype() of this TensorRT fails with this NumPy (np.bool is gone); edgeseg never calls it, your code may",
        f"tensorrt {facts.probe.module('tensorrt').version}, numpy {facts.probe.module('numpy').version}",
        f"nothing for edgeseg; for other code: {_pip(facts)} install 'numpy<1.24'",
    )


# TensorRT, pycuda, torch, onnxruntime


def _tensorrt_hidden(facts: Facts) -> Finding | None:
    module, device, probe = facts.probe.module("tensorrt"), facts.device, facts.probe
    if not probe.python or module.works or not device.tensorrt or not device.is_jetson or _container_without_gpu(facts):
        return None
    versions = re.findall(r"python(3\.\d+)", " ".join(facts.system_tensorrt))
    mine = ".".join(probe.python.split(".")[:2])
    if not facts.system_tensorrt:
        fix = _apt(facts, "install python3-libnvinfer")
    elif versions and mine not in versions:
        fix = _new_environment(f"python{versions[0]}")
    elif probe.environment == "venv":
        fix = _new_environment()
    else:
        fix = _apt(facts, "install --reinstall python3-libnvinfer")
    there = f", its Python module is {facts.system_tensorrt[0]}" if facts.system_tensorrt else ""
    return Finding(
        "tensorrt-hidden",
        PROBLEM,
        "TensorRT is installed, but this Python cannot import it",
        f"libnvinfer {device.tensorrt}{there}; Python {probe.python} ({probe.environment}): "
        f"{module.error or 'tensorrt not found'}",
        fix,
    )


def _tensorrt_missing(facts: Facts) -> Finding | None:
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


_TENSORRT_WHEELS = r"tensorrt([_-]cu\d+)?([_-](libs|bindings))?"


def _tensorrt_wheel(facts: Facts) -> Finding | None:
    wheels = _of(facts, r"tensorrt([_-]cu\d+)?[_-]libs")
    if not wheels or not facts.device.is_jetson:
        return None
    uninstall = f"{_pip(facts)} uninstall -y {' '.join(_of(facts, _TENSORRT_WHEELS))}"
    series = series_of_l4t(facts.device.l4t)
    if series is not None and series.sbsa:
        return Finding(
            "tensorrt-wheel",
            NOTE,
            "pip's TensorRT is used beside JetPack's; engines of the one do not load in the other",
            _listed(facts, wheels),
            f"nothing, if that is what you want; else {uninstall}",
        )
    return Finding(
        "tensorrt-wheel",
        PROBLEM,
        "pip's TensorRT is for servers: on this JetPack it cannot build engines (NVIDIA/TensorRT #4176)",
        _listed(facts, wheels),
        uninstall + _then(_new_environment() if facts.probe.environment == "venv" else ""),
    )


def _tensorrt_eleven(facts: Facts) -> Finding | None:
    version = facts.probe.module("tensorrt").version
    if _version(version) < (11,) or _tensorrt_unsupported(facts):
        return None
    return Finding(
        "tensorrt-11",
        NOTE,
        "this TensorRT has no implicit INT8 calibration; edgeseg gives it the graph with Q/DQ",
        f"tensorrt {version}",
        "nothing; edgeseg compile --int8 does it",
    )


def _tensorrt_unsupported(facts: Facts) -> Finding | None:
    device, version = facts.device, facts.probe.module("tensorrt").version or facts.device.tensorrt
    known = release(device.jetpack)
    if known is None or known.runs_tensorrt(_version(version)):
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


def _pycuda_missing(facts: Facts) -> Finding | None:
    module = facts.probe.module("pycuda")
    if not facts.device.is_jetson or not facts.probe.module("tensorrt").works or module.works:
        return None
    if _numpy_is_why(facts, module.error) or _container_without_gpu(facts):
        return None
    build = f"PATH=/usr/local/cuda/bin:$PATH {_pip(facts)}"
    return Finding(
        "pycuda-missing",
        PROBLEM,
        "Python cannot import pycuda, which the TensorRT engine needs",
        module.error or "not installed",
        remedy(module.error, f"{build} install --no-cache-dir --force-reinstall --no-deps pycuda")
        if module.error
        else f"{build} install pycuda",
    )


def _cuda_stuck(facts: Facts) -> Finding | None:
    module = facts.probe.module("pycuda")
    if not module.works or not module.error or _container_without_gpu(facts):
        return None
    return Finding(
        "cuda-stuck",
        PROBLEM,
        "CUDA does not start, so that no TensorRT engine runs",
        module.error,
        remedy(module.error, "restart the machine; if it stays, install JetPack's driver again"),
    )


def _torch_build(facts: Facts) -> Finding | None:
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
        f"{_pip(facts)} uninstall -y torch torchvision, or install NVIDIA's wheel for JetPack {facts.device.jetpack}",
    )


def _onnxruntime_missing(facts: Facts) -> Finding | None:
    module = facts.probe.module("onnxruntime")
    if not facts.probe.python or module.works:
        return None
    return Finding(
        "onnxruntime-missing",
        PROBLEM,
        "Python cannot import onnxruntime, which every CPU graph needs",
        module.error or "not installed",
        f"{_pip(facts)} install --force-reinstall onnxruntime",
    )


# GStreamer, which carries CSI and network cameras and H.264 in a process of its own


def _gstreamer_bindings(facts: Facts) -> Finding | None:
    found = facts.probe.gstreamer
    if found is None or found.works:
        return None
    other_python = "cannot import name '_gi'" in found.error
    return Finding(
        "gstreamer-bindings",
        PROBLEM if facts.device.is_jetson else NOTE,
        "python3-gi is there, but /usr/bin/python3 is not the Python that it was made for: no CSI and network cameras"
        if other_python
        else "no Python has GStreamer's bindings: no CSI and network cameras, no H.264",
        found.error or "no Python was found",
        _apt(facts, "install --reinstall python3-minimal") + "   # makes /usr/bin/python3 the system's own again"
        if other_python
        else _apt(facts, gstreamer_install()),
    )


def _gstreamer_parts(facts: Facts) -> Finding | None:
    found = facts.probe.gstreamer
    if found is None or not found.works:
        return None
    lacking = {name: package for package, names in gstreamer_packages().items() for name in names}
    lacking = {name: package for name, package in lacking.items() if name in found.missing}
    if not lacking:
        return None
    absent = [name for name, package in lacking.items() if package not in facts.packages]
    return Finding(
        "gstreamer-parts",
        WARNING if facts.device.is_jetson else NOTE,
        "GStreamer lacks parts that cameras, videos or H.264 need"
        if absent
        else "parts of GStreamer are installed but do not load",
        f"GStreamer {found.version} without {', '.join(f'{name} ({package})' for name, package in lacking.items())}",
        _apt(facts, gstreamer_install(absent))
        if absent
        else f"rm -rf ~/.cache/gstreamer-1.0; then this says why: gst-inspect-1.0 {next(iter(lacking))}",
    )


def _gstreamer_nvidia(facts: Facts) -> Finding | None:
    found = facts.probe.gstreamer
    if found is None or not found.works or not facts.device.is_jetson or _argus_plugin(facts):
        return None
    lacking = [name for name in NVIDIA_ELEMENTS if name in found.missing]
    if not lacking or _container_without_gpu(facts):
        return None
    return Finding(
        "gstreamer-nvidia",
        WARNING,
        "NVIDIA's GStreamer elements do not load: CSI cameras and the hardware's decoder cannot be used",
        f"GStreamer {found.version} without {', '.join(lacking)}",
        "start the container with: docker run --runtime nvidia"
        if facts.device.in_container
        else "sudo apt install --reinstall nvidia-l4t-gstreamer nvidia-l4t-camera && rm -rf ~/.cache/gstreamer-1.0",
    )


# Cameras and permissions


def _argus_socket(facts: Facts) -> Finding | None:
    if not facts.device.is_jetson or facts.argus_socket:
        return None
    if facts.device.in_container:
        return Finding(
            "argus-socket",
            WARNING,
            "the container does not see the camera daemon: CSI cameras cannot be opened in it",
            "no /tmp/argus_socket",
            "start it with: docker run --runtime nvidia -v /tmp/argus_socket:/tmp/argus_socket",
        )
    return Finding(
        "argus-socket",
        WARNING,
        "the camera daemon is not running: CSI cameras cannot be opened",
        "no /tmp/argus_socket",
        "sudo systemctl restart nvargus-daemon",
    )


def _argus_plugin(facts: Facts) -> Finding | None:
    if not facts.device.is_jetson or facts.argus_plugin or _container_without_gpu(facts):
        return None
    return Finding(
        "argus-plugin",
        WARNING,
        "GStreamer has no nvarguscamerasrc: CSI cameras cannot be opened",
        "no libgstnvarguscamerasrc.so",
        "start the container with: docker run --runtime nvidia"
        if facts.device.in_container
        else "sudo apt install nvidia-l4t-gstreamer nvidia-l4t-camera",
    )


def _no_camera(facts: Facts) -> Finding | None:
    if facts.cameras:
        return None
    return Finding(
        "no-camera",
        NOTE,
        "no camera is there; network cameras, files and demo://street work",
        "no /dev/video*",
        "start the container with: docker run --device /dev/video0"
        if facts.device.in_container
        else "plug one in, then: ls /dev/video*",
    )


def _groups(facts: Facts) -> Finding | None:
    groups = facts.probe.groups
    if not groups or "root" in groups or not (facts.device.is_jetson or facts.cameras):
        return None
    wanted = ["video"] + (["render"] if facts.device.is_jetson and facts.render_node else [])
    lacking = [group for group in wanted if group not in groups]
    if not lacking:
        return None
    return Finding(
        "groups",
        WARNING,
        "your user may not use " + ("the GPU and cameras" if facts.device.is_jetson else "the cameras"),
        f"not in the group{'s' if len(lacking) > 1 else ''} {' and '.join(lacking)}",
        f'sudo usermod -aG {",".join(lacking)} "$USER", then log in again',
    )


def _no_display(facts: Facts) -> Finding | None:
    if facts.probe.display or not facts.probe.python:
        return None
    return Finding(
        "no-display",
        NOTE,
        "there is no desktop, so display:// cannot open a window",
        "neither DISPLAY nor WAYLAND_DISPLAY is set",
        "write files instead: edgeseg run --sink out.mp4",
    )


# Containers


def _container_without_gpu(facts: Facts) -> Finding | None:
    if not facts.device.in_container or facts.libcuda or not facts.device.is_jetson:
        return None
    return Finding(
        "container-without-gpu",
        PROBLEM,
        "the container has no GPU driver: TensorRT and CUDA cannot run in it",
        "no libcuda.so.1",
        "start it with: docker run --runtime nvidia",
    )


def _container_mismatch(facts: Facts) -> Finding | None:
    image, host = facts.image_l4t, facts.host_l4t
    if not image or not host or _runs_on(image) == _runs_on(host):
        return None
    tag = image_of_l4t(host)
    return Finding(
        "container-l4t",
        PROBLEM,
        "the container image is for another L4T than the board below it runs",
        f"image L4T {image}, board L4T {host}",
        f"docker run --runtime nvidia nvcr.io/nvidia/l4t-jetpack:{tag}" if tag else f"use an image for L4T {host}",
    )


def _runs_on(l4t: str) -> tuple[tuple[int, ...], str]:
    """Return what releases that run each other's containers have in common."""
    return version_tuple(l4t)[:1], image_of_l4t(l4t)


# Power, heat, memory, disk


def _power_mode(facts: Facts) -> Finding | None:
    fastest, device = fastest_power_mode(facts.modes), facts.device
    mine = [mode for mode in facts.modes if mode.identifier == device.power_mode_id]
    if fastest is None or not mine or mine[0] == fastest:
        return None
    slower = mine[0].gpu_max_mhz < fastest.gpu_max_mhz
    limit = f", GPU up to {mine[0].gpu_max_mhz:.0f} MHz" if math.isfinite(mine[0].gpu_max_mhz) else ""
    return Finding(
        "power-mode",
        WARNING if slower else NOTE,
        "the power mode holds the GPU back" if slower else "the power mode is not the fastest one",
        f"{mine[0].name} ({mine[0].identifier}){limit}; {fastest.name} ({fastest.identifier}) allows more",
        f"sudo nvpmodel -m {fastest.identifier}",
    )


def _clocks(facts: Facts) -> Finding | None:
    device = facts.device
    if not device.gpu_max_mhz or device.clocks_locked:
        return None
    return Finding(
        "clocks",
        NOTE,
        "clocks follow the load, so measurements vary",
        f"GPU between {device.gpu_min_mhz:.0f} and {device.gpu_max_mhz:.0f} MHz, governor {device.gpu_governor or '?'}",
        "before edgeseg bench: sudo jetson_clocks",
    )


def _throttled(facts: Facts) -> Finding | None:
    reasons = throttled_now(facts.sample) if facts.device.is_jetson else []
    if not reasons:
        return None
    hottest = facts.sample.hottest
    heat = f"; hottest: {hottest[0]} {hottest[1]:.1f} C" if hottest else ""
    return Finding(
        "throttled",
        WARNING,
        "the board is throttled at this moment",
        "; ".join(reasons) + heat,
        "let it cool, set the fan to full: sudo jetson_clocks --fan; check the power supply",
    )


def _over_current(facts: Facts) -> Finding | None:
    counts = {name: count for name, count in facts.sample.over_current.items() if count > 0}
    if not counts:
        return None
    return Finding(
        "over-current",
        NOTE,
        "the board's power protection has reacted since it booted, which slows it down for a moment",
        ", ".join(f"{name} {count} times" for name, count in sorted(counts.items())),
        "see whether it goes on under your load; if so use a stronger supply or a lower power mode",
    )


_BUILD_GIB = 2.5  # TensorRT's builder with its libraries takes 1 to 2.5 GB beside the network


def _memory(facts: Facts) -> Finding | None:
    device = facts.device
    if not device.is_jetson or not device.memory_available_gib:
        return None
    if device.memory_available_gib >= _BUILD_GIB or device.memory_available_gib + device.swap_gib >= 2 * _BUILD_GIB:
        return None
    return Finding(
        "memory",
        WARNING,
        f"building a TensorRT engine may run out of memory: it takes up to {_BUILD_GIB} GiB",
        f"{device.memory_available_gib} GiB available, {device.swap_gib} GiB swap",
        "stop the desktop: sudo systemctl isolate multi-user.target; or add swap: sudo fallocate -l 4G /swapfile && "
        "sudo chmod 600 /swapfile && sudo mkswap /swapfile && sudo swapon /swapfile",
    )


def _disk(facts: Facts) -> Finding | None:
    free = facts.probe.disk_free_gib
    if not facts.probe.python or free >= 2:
        return None
    return Finding(
        "disk",
        WARNING,
        "the disk is nearly full: engines and recordings need room",
        f"{free} GiB free in the home folder",
        "sudo apt clean; then see what is large: du -xh ~ | sort -h | tail",
    )


_CHECKS: tuple[Callable[[Facts], Finding | None], ...]
_CHECKS = (
    _old_jetpack,
    _old_tensorrt,
    _unknown_l4t,
    _no_int8_kernels,
    _container_without_gpu,
    _container_mismatch,
    _cv2_missing,
    _cv2_shadowed,
    _cv2_without_gstreamer,
    _cv2_wheel_beside,
    _numpy_two,
    _numpy_and_nptype,
    _onnxruntime_missing,
    _tensorrt_hidden,
    _tensorrt_missing,
    _tensorrt_wheel,
    _tensorrt_eleven,
    _tensorrt_unsupported,
    _pycuda_missing,
    _cuda_stuck,
    _torch_build,
    _gstreamer_bindings,
    _gstreamer_parts,
    _gstreamer_nvidia,
    _argus_plugin,
    _argus_socket,
    _no_camera,
    _groups,
    _no_display,
    _power_mode,
    _clocks,
    _throttled,
    _over_current,
    _memory,
    _disk,
)


# Pieces of commands


def _pip(facts: Facts) -> str:
    """Return the pip command of the very Python that was asked."""
    return f"{facts.probe.executable or 'python3'} -m pip"


def _apt(facts: Facts, what: str) -> str:
    return ("" if "root" in facts.probe.groups else "sudo ") + f"apt {what}"


def _then(command: str) -> str:
    return f" && {command}" if command else ""


def _new_environment(python: str = "python3") -> str:
    """Return a command that makes a virtual environment with the system's packages, and edgeseg in it."""
    make = f"{python} -m venv --system-site-packages ~/edgeseg-env && ~/edgeseg-env/bin/pip install '.[tensorrt]'"
    return f"{make}   # in a clone of edgeseg, where jetson/setup.sh does it all"


def _old_numpy(facts: Facts) -> str:
    return f"{_pip(facts)} install 'numpy<2'"


def _numpy_clash(text: str) -> bool:
    """Tell whether a message is one of those with which binaries for NumPy 1 greet NumPy 2."""
    return bool(
        re.search(r"compiled using NumPy 1|_ARRAY_API not found|numpy\.core\.multiarray|Numpy is not avail", text)
    )


def _numpy_is_why(facts: Facts, error: str) -> bool:
    """Tell whether the finding about NumPy 2 already explains this error."""
    return _numpy_clash(error) and _numpy_two(facts) is not None


def _of(facts: Facts, pattern: str) -> list[str]:
    return [name for name in facts.probe.distributions if re.fullmatch(pattern, name)]


def _opencv_wheels(facts: Facts) -> list[str]:
    return _of(facts, r"opencv-(contrib-)?python(-headless)?")


def _without_wheels(facts: Facts) -> str:
    wheels = _opencv_wheels(facts)
    return f"{_pip(facts)} uninstall -y {' '.join(wheels)}" if wheels else ""


def _listed(facts: Facts, names: list[str]) -> str:
    return ", ".join(f"{name} {facts.probe.distributions[name]}" for name in names)


def _version(text: str) -> tuple[int, ...]:
    """Parse ``"8.5.2.2"`` to (8, 5, 2, 2); what follows the dotted numbers is left out."""
    match = re.match(r"\d{1,6}(\.\d{1,6})*", text)
    return tuple(map(int, match.group().split("."))) if match else ()
