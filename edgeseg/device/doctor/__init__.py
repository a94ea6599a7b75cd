"""Find what is wrong with a machine for segmentation, and the command that mends it. Pure: Facts in, findings out."""

from __future__ import annotations

from typing import Callable

from edgeseg.device.doctor import board, cameras, container, gstreamer, opencv, python_packages, resources, tensorrt
from edgeseg.device.doctor.finding import NOTE, PROBLEM, WARNING, Finding
from edgeseg.device.facts import Facts

__all__ = ["CHECKS", "Finding", "findings"]

CHECKS: tuple[Callable[[Facts], Finding | None], ...] = (
    board.old_jetpack,
    board.old_tensorrt,
    board.unknown_l4t,
    board.no_int8_kernels,
    container.container_without_gpu,
    container.container_mismatch,
    opencv.cv2_missing,
    opencv.cv2_shadowed,
    opencv.cv2_without_gstreamer,
    opencv.cv2_wheel_beside,
    python_packages.numpy_two,
    python_packages.numpy_and_nptype,
    python_packages.onnxruntime_missing,
    tensorrt.tensorrt_hidden,
    tensorrt.tensorrt_missing,
    tensorrt.tensorrt_wheel,
    tensorrt.tensorrt_eleven,
    tensorrt.tensorrt_unsupported,
    tensorrt.pycuda_missing,
    tensorrt.cuda_stuck,
    python_packages.torch_build,
    gstreamer.gstreamer_bindings,
    gstreamer.gstreamer_parts,
    gstreamer.gstreamer_nvidia,
    cameras.argus_plugin,
    cameras.argus_socket,
    cameras.no_camera,
    cameras.groups,
    cameras.no_display,
    resources.power_mode,
    resources.clocks,
    resources.throttled,
    resources.over_current,
    resources.memory,
    resources.disk,
)
"""What is looked at. A check returns None where there is nothing to say."""


def findings(facts: Facts) -> list[Finding]:
    """Return everything worth saying: problems first, then warnings, then notes."""
    found = [finding for check in CHECKS for finding in [check(facts)] if finding is not None]
    return sorted(found, key=lambda finding: (PROBLEM, WARNING, NOTE).index(finding.severity))
