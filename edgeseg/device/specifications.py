"""List published peak rates of the boards, for a lower bound on latency where no board is at hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping

__all__ = ["BOARDS", "Board"]


@dataclass(frozen=True)
class Board:
    """Dense peak rates of a board's GPU in the power mode that its name says (MAXN where it says none).

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


BOARDS: Mapping[str, Board] = {
    "xavier-nx": Board("Jetson Xavier NX, 15 W", 13.6, 6.8, 51.2),
    "agx-xavier": Board("Jetson AGX Xavier", 22.6, 11.3, 136.5),
    "orin-nano": Board("Jetson Orin Nano 8GB, 15 W", 20.5, 10.2, 68.3),
    "orin-nano-super": Board("Jetson Orin Nano 8GB, MAXN Super", 33.4, 16.7, 102.4),
    "orin-nx": Board("Jetson Orin NX 16GB, MAXN", 30.1, 15.0, 102.4),
    "agx-orin": Board("Jetson AGX Orin 64GB, MAXN", 85.2, 42.6, 204.7),
}
"""From NVIDIA's module data sheets: SMs x clock x tensor-core rate, memory clock x bus width."""
