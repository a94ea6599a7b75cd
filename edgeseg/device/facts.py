"""Gather once everything that the doctor looks at: device, sensors, Python, cameras, container."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Mapping

from edgeseg.device.detect import Device, cpu_model, detected_device, l4t_version
from edgeseg.device.jetpack import version_tuple
from edgeseg.device.packages import installed_packages, upstream_version
from edgeseg.device.power_mode import CONFIGURATION, PowerMode, power_modes
from edgeseg.device.probe import Probe
from edgeseg.device.telemetry import Sample, telemetry_sample
from edgeseg.device.tree import matches, text_of

__all__ = ["PRESENCE", "Facts", "container_image_l4t", "gathered_facts", "host_l4t"]

ARGUS_SOCKET = "tmp/argus_socket"
ARGUS_PLUGIN = "usr/lib/aarch64-linux-gnu/gstreamer-1.0/libgstnvarguscamerasrc.so"
CV2 = "usr/lib/python3*/dist-packages/cv2*"
TENSORRT = "usr/lib/python3*/dist-packages/tensorrt"
LIBCUDA = ("usr/lib/*/libcuda.so.1", "usr/lib/*/tegra/libcuda.so.1*", "usr/lib/*/nvidia/libcuda.so.1*")
CAMERAS = "dev/video*"
RENDER_NODE = "dev/dri/renderD128"
PRESENCE = (ARGUS_SOCKET, ARGUS_PLUGIN, CV2, TENSORRT, *LIBCUDA, CAMERAS, RENDER_NODE)
"""Globs under the root of which only the existence counts."""


@dataclass(frozen=True)
class Facts:
    """Everything that the doctor judges.

    Attributes:
        device: board, releases, clocks, memory.
        probe: what the Python of the machine says.
        sample: its sensors, once.
        modes: the power modes it has.
        packages: the Debian packages that matter here, by name, with their versions.
        system_cv2: the system's (JetPack's) OpenCV modules for Python, as absolute paths.
        system_tensorrt: the same for TensorRT.
        cameras: ``/dev/video*`` with their names.
        argus_socket: whether the socket of NVIDIA's camera daemon is there.
        argus_plugin: whether GStreamer's nvarguscamerasrc is installed.
        libcuda: whether the driver's CUDA library is there.
        render_node: whether the GPU has a render node in /dev.
        image_l4t: the L4T release a container image was made for; empty outside containers or when it does not say.
        host_l4t: the L4T release of the kernel and driver below the container; likewise.
    """

    device: Device
    probe: Probe
    sample: Sample = field(default_factory=Sample)
    modes: tuple[PowerMode, ...] = ()
    packages: Mapping[str, str] = field(default_factory=dict)
    system_cv2: tuple[str, ...] = ()
    system_tensorrt: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()
    argus_socket: bool = False
    argus_plugin: bool = False
    libcuda: bool = False
    render_node: bool = False
    image_l4t: str = ""
    host_l4t: str = ""

    @property
    def l4t(self) -> tuple[int, ...]:
        """Return the L4T release as numbers; empty when unknown."""
        return version_tuple(self.device.l4t)


def gathered_facts(root: Path, probe: Probe, cameras: tuple[str, ...] = ()) -> Facts:
    """Look at a machine.

    Args:
        root: ``/``, or a recorded tree.
        probe: what its Python said; it also replaces what ``detected_device`` can only know of the running machine.
        cameras: its V4L2 devices.
    """
    device = detected_device(root)
    return Facts(
        device=_as_probed(device, probe, cpu_model(text_of(root / "proc/cpuinfo"))),
        probe=probe,
        sample=telemetry_sample(root),
        modes=power_modes(text_of(root / CONFIGURATION)),
        packages=installed_packages(root),
        system_cv2=_absolute(root, CV2),
        system_tensorrt=_absolute(root, TENSORRT),
        cameras=cameras,
        argus_socket=bool(matches(root, ARGUS_SOCKET)),
        argus_plugin=bool(matches(root, ARGUS_PLUGIN)),
        libcuda=any(matches(root, pattern) for pattern in LIBCUDA),
        render_node=bool(matches(root, RENDER_NODE)),
        image_l4t=container_image_l4t(root) if device.in_container else "",
        host_l4t=host_l4t(root) if device.in_container else "",
    )


def _as_probed(device: Device, probe: Probe, cpu: str) -> Device:
    return replace(
        device,
        cpu=cpu or probe.architecture or "unknown CPU",
        cores=probe.cores,
        architecture=probe.architecture,
        system=probe.system,
        python=probe.python,
    )


def _absolute(root: Path, pattern: str) -> tuple[str, ...]:
    return tuple("/" + path.relative_to(root).as_posix() for path in matches(root, pattern))


APT_SOURCE = "etc/apt/sources.list.d/nvidia-l4t-apt-source.list"
DRIVER = "proc/driver/nvidia/version"
MOUNTS = "proc/self/mountinfo"


def container_image_l4t(root: Path) -> str:
    """Return the release an image was made for, from NVIDIA's package, its apt source, or a release file of its own."""
    package = upstream_version(installed_packages(root).get("nvidia-l4t-core", ""))
    source = re.search(r"\br(\d+\.\d+)\b", text_of(root / APT_SOURCE))
    own = "" if _release_is_mounted(root) else l4t_version(text_of(root / "etc/nv_tegra_release"))
    return package or own or (source.group(1) if source else "")


def host_l4t(root: Path) -> str:
    """Return the release below a container: that of the mounted release file, else of the kernel's display driver.

    The driver is numbered 540.M.0 on L4T 36.M, and like the release itself on L4T 35; for others the result is empty.
    """
    if _release_is_mounted(root):
        return l4t_version(text_of(root / "etc/nv_tegra_release"))
    driver = re.search(r"\b(\d{2,3})\.(\d{1,2})\.(\d{1,3})\b", text_of(root / DRIVER))
    if driver and driver.group(1) == "540":
        return f"36.{driver.group(2)}"
    return driver.group() if driver and driver.group(1) == "35" else ""


def _release_is_mounted(root: Path) -> bool:
    return " /etc/nv_tegra_release " in text_of(root / MOUNTS)
