"""Containers."""

from __future__ import annotations

from edgeseg.device.doctor.finding import PROBLEM, Finding
from edgeseg.device.facts import Facts
from edgeseg.device.jetpack import image_of_l4t, version_tuple

__all__ = ["container_mismatch", "container_without_gpu"]


def container_without_gpu(facts: Facts) -> Finding | None:
    """Find a container that does not see the GPU's driver."""
    if not facts.device.in_container or facts.libcuda or not facts.device.is_jetson:
        return None
    return Finding(
        "container-without-gpu",
        PROBLEM,
        "the container has no GPU driver: TensorRT and CUDA cannot run in it",
        "no libcuda.so.1",
        "start it with: docker run --runtime nvidia",
    )


def container_mismatch(facts: Facts) -> Finding | None:
    """Find a container whose L4T the board's does not run."""
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
