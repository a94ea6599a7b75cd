"""Cameras, permissions and the desktop."""

from __future__ import annotations

from edgeseg.device.doctor.container import container_without_gpu
from edgeseg.device.doctor.finding import NOTE, WARNING, Finding
from edgeseg.device.facts import Facts

__all__ = ["argus_plugin", "argus_socket", "groups", "no_camera", "no_display"]


def argus_plugin(facts: Facts) -> Finding | None:
    """Find a GStreamer without the element for CSI cameras."""
    if not facts.device.is_jetson or facts.argus_plugin or container_without_gpu(facts):
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


def argus_socket(facts: Facts) -> Finding | None:
    """Find that the camera daemon does not run."""
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


def no_camera(facts: Facts) -> Finding | None:
    """Find that there is no camera."""
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


def groups(facts: Facts) -> Finding | None:
    """Find groups that the user is not in and that devices ask for."""
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


def no_display(facts: Facts) -> Finding | None:
    """Find that there is no desktop."""
    if facts.probe.display or not facts.probe.python:
        return None
    return Finding(
        "no-display",
        NOTE,
        "there is no desktop, so display:// cannot open a window",
        "neither DISPLAY nor WAYLAND_DISPLAY is set",
        "write files instead: edgeseg run --sink out.mp4",
    )
