"""GStreamer, which carries CSI and network cameras and H.264 in a process of its own."""

from __future__ import annotations

from edgeseg.device.doctor.cameras import argus_plugin
from edgeseg.device.doctor.commands import apt
from edgeseg.device.doctor.container import container_without_gpu
from edgeseg.device.doctor.finding import NOTE, PROBLEM, WARNING, Finding
from edgeseg.device.facts import Facts
from edgeseg.device.gstreamer import NVIDIA_ELEMENTS, gstreamer_install, gstreamer_packages

__all__ = ["gstreamer_bindings", "gstreamer_nvidia", "gstreamer_parts"]


def gstreamer_bindings(facts: Facts) -> Finding | None:
    """Find that no Python has GStreamer's bindings."""
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
        apt(facts, "install --reinstall python3-minimal") + "   # makes /usr/bin/python3 the system's own again"
        if other_python
        else apt(facts, gstreamer_install()),
    )


def gstreamer_parts(facts: Facts) -> Finding | None:
    """Find parts of GStreamer that are missing or do not load."""
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
        apt(facts, gstreamer_install(absent))
        if absent
        else f"rm -rf ~/.cache/gstreamer-1.0; then this says why: gst-inspect-1.0 {next(iter(lacking))}",
    )


def gstreamer_nvidia(facts: Facts) -> Finding | None:
    """Find NVIDIA's elements of GStreamer that do not load."""
    found = facts.probe.gstreamer
    if found is None or not found.works or not facts.device.is_jetson or argus_plugin(facts):
        return None
    lacking = [name for name in NVIDIA_ELEMENTS if name in found.missing]
    if not lacking or container_without_gpu(facts):
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
