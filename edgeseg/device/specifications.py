"""Published GPU clocks and memory clocks of the Jetsons, mode by mode, and the peak rates that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping

__all__ = ["ARCHITECTURES", "BOARDS", "JETSONS", "Architecture", "Board", "Clocks", "Jetson", "jetson_of_module"]


@dataclass(frozen=True)
class Architecture:
    """How much one streaming multiprocessor (SM) does per clock.

    Attributes:
        dense: precision -> operations per clock of dense products, the fastest unit that TensorRT takes by default (a
            multiply-add counts two). A precision that is missing has no kernels.
        scalar: operations per clock outside tensor cores, FP32.
    """

    dense: Mapping[str, int]
    scalar: int

    def uses_tensor_cores(self, precision: str) -> bool:
        """Return whether dense products run on tensor cores: they are at least four times as fast as the others."""
        return self.dense[precision] >= 4 * self.scalar


ARCHITECTURES: Mapping[str, Architecture] = {
    "maxwell": Architecture({"fp32": 256, "fp16": 512}, 256),
    "pascal": Architecture({"fp32": 256, "fp16": 512}, 256),
    "volta": Architecture({"fp32": 128, "fp16": 1024, "int8": 2048}, 128),
    "ampere": Architecture({"fp32": 1024, "fp16": 2048, "int8": 4096}, 256),
}
"""FP32 of Ampere is TF32 on tensor cores, which TensorRT uses unless it is forbidden."""


@dataclass(frozen=True)
class Clocks:
    """What a power mode lets the GPU and the memory do.

    Attributes:
        sms: streaming multiprocessors that are on.
        gpu_mhz: highest clock of the GPU.
        memory_gb_s: memory clock x bus width, in 10^9 bytes per second.
    """

    sms: int
    gpu_mhz: float
    memory_gb_s: float


@dataclass(frozen=True)
class Jetson:
    """A module.

    Attributes:
        name: for people.
        architecture: of its GPU, a key of ``ARCHITECTURES``.
        l2_kib: cache that all SMs share.
        modes: name -> clocks, the fastest first. Modes that differ only in CPU cores are one.
        default: mode that a board is delivered in.
        also: name of a mode that is not in ``modes`` -> the one there with the same clocks of GPU and memory.
    """

    name: str
    architecture: str
    l2_kib: int
    modes: Mapping[str, Clocks]
    default: str
    also: Mapping[str, str]

    def peak_tops(self, mode: str, precision: str) -> float:
        """Return dense operations per second at the mode's clocks, in 10^12; 0 where there are no such kernels."""
        clocks = self.modes[mode]
        return clocks.sms * clocks.gpu_mhz * ARCHITECTURES[self.architecture].dense.get(precision, 0) / 1e6


_JETSONS = (
    ("nano", "Jetson Nano 4GB", "maxwell", 256, "MAXN"),
    ("tx2", "Jetson TX2 8GB", "pascal", 512, "MAXP"),
    ("xavier-nx", "Jetson Xavier NX 8GB", "volta", 512, "10W_DESKTOP"),
    ("agx-xavier", "Jetson AGX Xavier 32GB", "volta", 512, "15W"),
    ("orin-nano-4gb", "Jetson Orin Nano 4GB", "ampere", 2048, "10W"),
    ("orin-nano", "Jetson Orin Nano 8GB", "ampere", 2048, "15W"),
    ("orin-nx-8gb", "Jetson Orin NX 8GB", "ampere", 2048, "15W"),
    ("orin-nx", "Jetson Orin NX 16GB", "ampere", 2048, "15W"),
    ("agx-orin-32gb", "Jetson AGX Orin 32GB", "ampere", 4096, "30W"),
    ("agx-orin", "Jetson AGX Orin 64GB", "ampere", 4096, "30W"),
)
"""Key, name, architecture, L2 cache in KiB, mode that it is delivered in."""

_MODES = (
    ("nano", "MAXN", 1, 921.6, 25.6, "10W"),
    ("nano", "5W", 1, 640, 25.6, ""),
    ("tx2", "MAXN", 2, 1300.5, 59.7, ""),
    ("tx2", "MAXP", 2, 1120, 51.2, ""),
    ("tx2", "MAXQ", 2, 850, 42.6, ""),
    ("xavier-nx", "20W", 6, 1109.25, 59.7, ""),
    ("xavier-nx", "15W", 6, 1109.25, 51.2, ""),
    ("xavier-nx", "10W", 6, 803.25, 51.2, ""),
    ("xavier-nx", "10W_DESKTOP", 6, 510, 51.2, ""),
    ("agx-xavier", "MAXN", 8, 1377, 136.5, ""),
    ("agx-xavier", "30W", 8, 900, 102.4, ""),
    ("agx-xavier", "15W", 8, 670, 85.2, ""),
    ("agx-xavier", "10W", 4, 520, 68.2, ""),
    ("orin-nano-4gb", "MAXN_SUPER", 4, 1020, 51.2, "25W"),
    ("orin-nano-4gb", "10W", 4, 624.75, 34.1, ""),
    ("orin-nano-4gb", "7W", 4, 408, 34.1, ""),
    ("orin-nano", "MAXN_SUPER", 8, 1020, 102.4, ""),
    ("orin-nano", "25W", 8, 918, 102.4, ""),
    ("orin-nano", "15W", 8, 624.75, 68.3, ""),
    ("orin-nano", "7W", 4, 408, 68.3, ""),
    ("orin-nx-8gb", "MAXN_SUPER", 8, 1173, 102.4, "40W"),
    ("orin-nx-8gb", "MAXN", 8, 765, 102.4, ""),
    ("orin-nx-8gb", "20W", 8, 408, 102.4, ""),
    ("orin-nx-8gb", "15W", 4, 612, 102.4, ""),
    ("orin-nx-8gb", "10W", 4, 612, 68.3, ""),
    ("orin-nx", "MAXN_SUPER", 8, 1173, 102.4, "40W"),
    ("orin-nx", "MAXN", 8, 918, 102.4, ""),
    ("orin-nx", "25W", 8, 408, 102.4, ""),
    ("orin-nx", "15W", 4, 612, 102.4, ""),
    ("orin-nx", "10W", 4, 612, 68.3, ""),
    ("agx-orin-32gb", "MAXN", 14, 930.75, 204.7, ""),
    ("agx-orin-32gb", "40W", 14, 816, 204.7, ""),
    ("agx-orin-32gb", "30W", 8, 612, 204.7, ""),
    ("agx-orin-32gb", "15W", 6, 408, 136.5, ""),
    ("agx-orin", "MAXN", 16, 1300.5, 204.7, ""),
    ("agx-orin", "50W", 16, 816, 204.7, ""),
    ("agx-orin", "30W", 8, 612, 204.7, ""),
    ("agx-orin", "15W", 6, 408, 136.5, ""),
)
"""Key, mode, SMs that are on, GPU MHz, 10^9 bytes per second of memory, and another mode with the same clocks.

From NVIDIA's nvpmodel configurations and module data sheets. The fastest mode of a module is the first.
"""

JETSONS: Mapping[str, Jetson] = {
    key: Jetson(
        name,
        architecture,
        l2_kib,
        {mode: Clocks(sms, mhz, gb_s) for of, mode, sms, mhz, gb_s, _ in _MODES if of == key},
        default,
        {also: mode for of, mode, _, _, _, also in _MODES if of == key and also},
    )
    for key, name, architecture, l2_kib, default in _JETSONS
}
"""Modules by key. A mode may turn SMs off, and cap the memory clock."""


_MODULES = {
    "p3448": "nano",
    "p3310": "tx2",
    "p3668": "xavier-nx",
    "p2888": "agx-xavier",
    "p3767-0000": "orin-nx",
    "p3767-0001": "orin-nx-8gb",
    "p3767-0003": "orin-nano",
    "p3767-0005": "orin-nano",
    "p3767-0004": "orin-nano-4gb",
    "p3701-0000": "agx-orin",
    "p3701-0004": "agx-orin-32gb",
    "p3701-0005": "agx-orin",
}


def jetson_of_module(part: str) -> str | None:
    """Return the key in ``JETSONS`` of a module's part number, such as ``p3668-0001``; None of one not known here."""
    return next((key for start, key in _MODULES.items() if part.startswith(start)), None)


@dataclass(frozen=True)
class Board:
    """Dense peak rates of a board's GPU in the power mode that its name says.

    Attributes:
        name: for people.
        int8_tops: INT8 tensor-core operations per second, in 10^12 (a multiply-add counts two).
        fp16_tflops: FP16 tensor-core operations per second, in 10^12.
        memory_gb_s: memory bandwidth in 10^9 bytes per second.
    """

    name: str
    int8_tops: float
    fp16_tflops: float
    memory_gb_s: float


def _board(key: str, mode: str) -> Board:
    jetson = JETSONS[key]
    int8, fp16 = (jetson.peak_tops(mode, precision) for precision in ("int8", "fp16"))
    return Board(f"{jetson.name}, {mode}", int8, fp16, jetson.modes[mode].memory_gb_s)


BOARDS: Mapping[str, Board] = {
    name: _board(key, mode)
    for name, key, mode in (
        ("xavier-nx", "xavier-nx", "15W"),
        ("agx-xavier", "agx-xavier", "MAXN"),
        ("orin-nano", "orin-nano", "15W"),
        ("orin-nano-super", "orin-nano", "MAXN_SUPER"),
        ("orin-nx", "orin-nx", "MAXN"),
        ("agx-orin", "agx-orin", "MAXN"),
    )
}
