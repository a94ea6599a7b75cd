"""Detect the machine a measurement was taken on: board, JetPack, CPU, memory, clocks. The root can be injected."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeseg.device.jetpack import SOCS, jetpack_version
from edgeseg.device.packages import installed_packages, newest_version, upstream_version
from edgeseg.device.power_mode import current_power_mode
from edgeseg.device.telemetry import Clock, telemetry_sample
from edgeseg.device.tree import matches, text_of

__all__ = ["Device", "detected_device", "l4t_version"]


@dataclass(frozen=True)
class Device:
    """A machine. What could not be read is empty, zero or None.

    Attributes:
        board: model name from the device tree; empty on a PC.
        l4t: L4T version such as ``"35.4.1"``; empty when this is no Jetson.
        cpu: model name.
        cores: logical CPU cores that this process may use.
        int8_instructions: those of AVX2, AVX-VNNI, AVX512-VNNI, AMX-INT8, ARM dot product and I8MM that the CPU
            has.
        memory_gib: total memory.
        architecture: ``x86_64``, ``aarch64``, ...
        system: kernel name and release.
        python: version.
        jetpack: ``"5.1.2"``, or ``"unknown (L4T 39.9)"``.
        soc: ``"tegra194"`` (Xavier), ``"tegra234"`` (Orin), ``"tegra264"`` (Thor).
        module: part number of the module, such as ``"p3668-0001"``.
        compute_capability: compute capability of the SoC's GPU, such as ``"8.7"``.
        power_mode: nvpmodel's name for it.
        power_mode_id: nvpmodel's number for it.
        cuda: version of the toolkit under ``/usr/local/cuda``, else of the CUDA runtime package.
        tensorrt: version of the system's libnvinfer package; what Python imports may be another.
        in_container: whether this is a container.
        gpu_mhz, gpu_min_mhz, gpu_max_mhz: the GPU's clock now, and the floor and the ceiling that are set.
        gpu_governor: governor of the GPU's clock.
        memory_available_gib: what can be allocated without swapping.
        swap_gib: total swap, zram included.
        dla_cores: deep-learning accelerators that the device tree enables.
    """

    board: str
    l4t: str
    cpu: str
    cores: int
    int8_instructions: tuple[str, ...]
    memory_gib: float
    architecture: str
    system: str
    python: str
    jetpack: str = ""
    soc: str = ""
    module: str = ""
    compute_capability: str = ""
    power_mode: str = ""
    power_mode_id: int | None = None
    cuda: str = ""
    tensorrt: str = ""
    in_container: bool = False
    gpu_mhz: float = 0.0
    gpu_min_mhz: float = 0.0
    gpu_max_mhz: float = 0.0
    gpu_governor: str = ""
    memory_available_gib: float = 0.0
    swap_gib: float = 0.0
    dla_cores: int | None = None

    @property
    def is_jetson(self) -> bool:
        """Tell whether anything at all says that this is a Jetson."""
        return bool(self.l4t or self.soc)

    @property
    def clocks_locked(self) -> bool:
        """Tell whether the GPU's clock has no freedom, as after jetson_clocks."""
        return 0 < self.gpu_max_mhz == self.gpu_min_mhz

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict of all fields."""
        return {**asdict(self), "int8_instructions": list(self.int8_instructions)}

    def describe(self) -> str:
        """Describe the machine in one line for people."""
        jetpack = f"JetPack {self.jetpack}, " if self.jetpack and not self.jetpack.startswith("unknown") else ""
        mode = f", {self.power_mode}" if self.power_mode else ""
        where = f"{self.board} ({jetpack}L4T {self.l4t or 'unknown'}{mode}), " if self.board else ""
        int8 = ", ".join(self.int8_instructions) or "no INT8 instructions"
        return f"{where}{self.cpu}, {self.cores} cores ({int8}), {self.memory_gib:.0f} GiB, Python {self.python}"


_FLAGS = {
    "avx2": "AVX2",
    "avx_vnni": "AVX-VNNI",
    "avx512_vnni": "AVX512-VNNI",
    "amx_int8": "AMX-INT8",
    "asimddp": "ARM dot product",
    "i8mm": "ARM I8MM",
}


def detected_device(root: Path = Path("/")) -> Device:
    """Read what this machine is. ``root`` stands for ``/`` in tests; what is missing is empty, never guessed."""
    cpuinfo, meminfo = text_of(root / "proc/cpuinfo"), text_of(root / "proc/meminfo")
    compatible = text_of(root / "proc/device-tree/compatible")
    packages = installed_packages(root)
    l4t = l4t_version(text_of(root / "etc/nv_tegra_release")) or upstream_version(packages.get("nvidia-l4t-core", ""))
    tegra = _tegra_attributes(root)
    soc = soc_name(compatible, text_of(tegra / "soc_id") if tegra else "")
    mode = current_power_mode(root)
    gpu = telemetry_sample(root).clocks.get("gpu", Clock()) if soc or l4t else Clock()
    return Device(
        board=text_of(root / "proc/device-tree/model") or (text_of(tegra / "machine") if tegra else ""),
        l4t=l4t,
        cpu=cpu_model(cpuinfo) or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        int8_instructions=int8_instructions(cpuinfo),
        memory_gib=_gib(meminfo, "MemTotal"),
        architecture=platform.machine(),
        system=f"{platform.system()} {platform.release()}",
        python=".".join(map(str, sys.version_info[:3])),
        jetpack=jetpack_version(l4t, packages.get("nvidia-jetpack", "")),
        soc=soc,
        module=module_part(compatible),
        compute_capability=SOCS[soc].compute_capability if soc in SOCS else "",
        power_mode=mode.name if mode else "",
        power_mode_id=mode.identifier if mode else None,
        cuda=cuda_version(text_of(root / "usr/local/cuda/version.json"))
        or newest_version(packages, r"cuda-cudart-\d+-\d+"),
        tensorrt=newest_version(packages, r"libnvinfer\d+"),
        in_container=is_container(root),
        gpu_mhz=gpu.mhz,
        gpu_min_mhz=gpu.min_mhz,
        gpu_max_mhz=gpu.max_mhz,
        gpu_governor=gpu.governor,
        memory_available_gib=_gib(meminfo, "MemAvailable"),
        swap_gib=_gib(meminfo, "SwapTotal"),
        dla_cores=dla_cores(root) if soc else None,
    )


def l4t_version(release: str) -> str:
    """Parse ``# R35 (release), REVISION: 4.1, ...`` to ``35.4.1``; empty for anything else."""
    match = re.search(
        r"^\W*R(\d+)\s*\(release\)\s*,\s*REVISION:\s*(\d+(?:\.\d+)*)", release, re.IGNORECASE | re.MULTILINE
    )
    return f"{match.group(1)}.{match.group(2)}" if match else ""


def soc_name(compatible: str, soc_id: str = "") -> str:
    """Return e.g. ``tegra194`` from the device tree's ``compatible``, or from the chip number where that is hidden."""
    match = re.search(r"nvidia,(tegra\d{3})", compatible)
    if match:
        return match.group(1)
    return next((soc.name for soc in SOCS.values() if soc.chip_id == soc_id), "")


def _tegra_attributes(root: Path) -> Path | None:
    """Find the folder in which the kernel's Tegra driver describes the chip; other drivers number theirs too."""
    folders = matches(root, "sys/devices/soc[0-9]*")
    return next((folder for folder in folders if text_of(folder / "family") == "Tegra"), None)


def module_part(compatible: str) -> str:
    """Return the part after the carrier board's: ``nvidia,p3509-0000+p3668-0001 nvidia,tegra194`` -> ``p3668-0001``."""
    match = re.search(r"nvidia,(?:p\d{4}-\d{4}\+)?(p\d{4}-\d{4})", compatible)
    return match.group(1) if match else ""


def cuda_version(document: str) -> str:
    """Return the toolkit's version from the text of its ``version.json``; empty for anything else."""
    try:
        return str(json.loads(document)["cuda"]["version"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def is_container(root: Path) -> bool:
    """Tell whether the marks of Docker, Podman, Kubernetes or systemd-nspawn are there."""
    marks = (".dockerenv", "run/.containerenv", "run/systemd/container")
    cgroups = text_of(root / "proc/1/cgroup")
    return any((root / mark).exists() for mark in marks) or bool(re.search(r"docker|kubepods|containerd|lxc", cgroups))


def dla_cores(root: Path) -> int | None:
    """Count the DLA nodes of the device tree that are not disabled; None when the tree cannot be seen."""
    hosts = matches(root, "proc/device-tree/host1x@*") + matches(root, "proc/device-tree/bus@0/host1x@*")
    if not hosts:
        return None
    nodes = [node for host in hosts for node in matches(host, "nvdla*")]
    return sum(text_of(node / "status") in ("", "okay", "ok") for node in nodes)


def cpu_model(cpuinfo: str) -> str:
    """Return the CPU's name from /proc/cpuinfo (x86: ``model name``; ARM boards name it ``Model`` or not at all)."""
    match = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return match.group(1).strip() if match else ""


def int8_instructions(cpuinfo: str) -> tuple[str, ...]:
    """List the INT8-relevant instruction sets that /proc/cpuinfo names."""
    match = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    flags = set(match.group(1).split()) if match else set()
    return tuple(name for flag, name in _FLAGS.items() if flag in flags)


def _gib(meminfo: str, name: str) -> float:
    match = re.search(rf"^{name}:\s+(\d{{1,15}}) kB", meminfo, re.MULTILINE)
    return round(int(match.group(1)) / 2**20, 1) if match else 0.0
