"""The machine a measurement was taken on: board, L4T, CPU, memory. Pure parsers over an injected root."""

from __future__ import annotations

import os
import platform
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["Device", "detected_device"]


@dataclass(frozen=True)
class Device:
    """A machine.

    Attributes:
        board: model name from the device tree; empty on a PC.
        l4t: L4T version such as ``"35.4.1"``; empty when this is no Jetson.
        cpu: model name.
        cores: logical CPU cores that this process may use.
        int8_instructions: what of AVX2, AVX-VNNI, AVX512-VNNI, AMX-INT8, ARM dot product and I8MM the CPU has.
        memory_gib: total memory.
        architecture: ``x86_64``, ``aarch64``, ...
        system: kernel name and release.
        python: version.
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

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return {**asdict(self), "int8_instructions": list(self.int8_instructions)}

    def describe(self) -> str:
        """One line for people."""
        where = f"{self.board} (L4T {self.l4t or 'unknown'}), " if self.board else ""
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
    cpuinfo = _text(root / "proc/cpuinfo")
    meminfo = re.search(r"MemTotal:\s+(\d+) kB", _text(root / "proc/meminfo"))
    return Device(
        board=_text(root / "proc/device-tree/model").strip("\0\n "),
        l4t=l4t_version(_text(root / "etc/nv_tegra_release")),
        cpu=cpu_model(cpuinfo) or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        int8_instructions=int8_instructions(cpuinfo),
        memory_gib=round(int(meminfo.group(1)) / 2**20, 1) if meminfo else 0.0,
        architecture=platform.machine(),
        system=f"{platform.system()} {platform.release()}",
        python=".".join(map(str, sys.version_info[:3])),
    )


def l4t_version(release: str) -> str:
    """``# R35 (release), REVISION: 4.1, ...`` -> ``35.4.1``; empty for anything else."""
    match = re.match(r"# R(\d+) \(release\), REVISION: ([\d.]+)", release)
    return f"{match.group(1)}.{match.group(2)}" if match else ""


def cpu_model(cpuinfo: str) -> str:
    """The CPU's name from /proc/cpuinfo (x86: ``model name``; ARM boards name it ``Model`` or not at all)."""
    match = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return match.group(1).strip() if match else ""


def int8_instructions(cpuinfo: str) -> tuple[str, ...]:
    """Which INT8-relevant instruction sets /proc/cpuinfo lists."""
    match = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    flags = set(match.group(1).split()) if match else set()
    return tuple(name for flag, name in _FLAGS.items() if flag in flags)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
