"""Compute how long kernels take on a GPU: a fixed cost, and the longer of padded arithmetic and memory traffic."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Mapping, Sequence

import numpy as np

from edgeseg.device.specifications import ARCHITECTURES, Clocks
from edgeseg.estimate.kernels import Kernel

__all__ = ["WIDTH", "Gpu", "KernelTable", "Parameters", "Work", "frame_ms", "work_of"]

WIDTH: Mapping[str, int] = {"fp32": 4, "fp16": 2, "int8": 1}
"""Precision -> bytes per value."""

_TILES = ((256, 128), (128, 128), (128, 64), (64, 64), (64, 32), (32, 32))
"""Rows x columns that one block of threads computes. TensorRT times many and keeps the fastest."""
_SPLITS = (1, 2, 4)
"""Into how many parts a long sum may be split, so that small maps fill all SMs."""
_SPLIT_EFFICIENCY = 0.85
_PACKET = {"fp32": 4, "fp16": 8, "int8": 32}
"""Channels that tensor cores take at once; fewer are padded."""


@dataclass(frozen=True)
class Gpu:
    """A GPU in a power mode: its architecture, its clocks, its shared cache in KiB."""

    architecture: str
    clocks: Clocks
    l2_kib: int


@dataclass(frozen=True)
class Parameters:
    """Numbers of one architecture that were fitted to published rows.

    Attributes:
        start_cycles: GPU cycles that a kernel costs whatever it does, in thousands.
        start_kb: traffic with the memory that a kernel costs besides, in 10^3 bytes at its peak rate.
        frame_cycles: GPU cycles once per frame, in thousands.
        spatial, pointwise, scalar: share of the peak rate that the best tile of a convolution larger than 1x1, of a 1x1
            convolution or product, and of a depthwise or grouped convolution reaches.
        stream: share of the memory's peak rate at which weights are read.
        bandwidth: the same of activations, which tiles read more than once.
        int8: factor on these shares in INT8 on tensor cores.
        cuda: factor on them where products run outside tensor cores; Winograd's algorithm may take it over the peak.
        recorded: factor on ``start_cycles`` where a CUDA graph starts the kernels.
    """

    start_cycles: float
    start_kb: float
    frame_cycles: float
    spatial: float
    pointwise: float
    scalar: float
    stream: float
    bandwidth: float
    int8: float
    cuda: float
    recorded: float

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Parameters:
        """Return what a file of parameters holds."""
        return cls(**{one.name: float(facts[one.name]) for one in fields(cls)})


class KernelTable:
    """Kernels as arrays, one value per kernel, so that a whole graph is computed at once."""

    def __init__(self, kernels: Sequence[Kernel]) -> None:
        self.kernels = tuple(kernels)
        self.kinds = np.array([kernel.kind for kernel in kernels])
        self.is_float = np.array([kernel.is_float for kernel in kernels], bool)
        numbers = ("macs", "rows", "columns", "depth", "groups", "read", "written", "weights", "fixed_bytes")
        self.of = {name: np.array([getattr(kernel, name) for kernel in kernels], float) for name in numbers}
        self.is_dense = np.isin(self.kinds, ("convolution", "pointwise-convolution", "transposed", "product"))
        self.is_spatial = np.isin(self.kinds, ("convolution", "transposed"))
        self.is_scalar = np.isin(self.kinds, ("grouped", "depthwise"))
        self._cycles: dict[tuple[str, str, int], np.ndarray] = {}

    def dense_cycles(self, architecture: str, precision: str, sms: int) -> np.ndarray:
        """Return the GPU cycles of dense products at full efficiency, after padding and wave quantisation."""
        key = (architecture, precision, sms)
        if key not in self._cycles:
            self._cycles[key] = self._dense_cycles(architecture, precision, sms)
        return self._cycles[key]

    def _dense_cycles(self, architecture: str, precision: str, sms: int) -> np.ndarray:
        about = ARCHITECTURES[architecture]
        packet = _PACKET[precision] if about.uses_tensor_cores(precision) else 1
        rows, groups = self.of["rows"], self.of["groups"]
        columns, depth = (np.ceil(self.of[name] / packet) * packet for name in ("columns", "depth"))
        best = np.full(len(self.kernels), np.inf)
        for high, wide in _TILES:
            share = (high * wide / (high + wide) / (256 * 128 / 384)) ** 0.25  # smaller tiles read more per product
            tiles = np.ceil(rows / high) * np.ceil(columns / wide) * groups
            for split in _SPLITS:
                waves = np.ceil(tiles * split / sms)
                work = waves * high * wide * np.ceil(depth / split) * 2
                found = work / share / (1 if split == 1 else _SPLIT_EFFICIENCY)
                best = np.minimum(best, found)
        return best / about.dense[precision]


@dataclass(frozen=True)
class Work:
    """What kernels would take at full efficiency, in ms; arrays of one value per kernel.

    Attributes:
        spatial, pointwise: dense products in tiles, of convolutions larger than 1x1 and of others.
        scalar: products of depthwise and grouped convolutions.
        activations: what no cache holds of them, at the memory's peak rate.
        weights: of dense, depthwise and grouped products.
        start: of a thousand GPU cycles.
        fetch: of a thousand bytes from memory.
        unit: that makes the products: ``"tensor"``, ``"int8"`` for tensor cores in INT8, or ``"cuda"``.
    """

    spatial: np.ndarray
    pointwise: np.ndarray
    scalar: np.ndarray
    activations: np.ndarray
    weights: np.ndarray
    start: np.ndarray
    fetch: np.ndarray
    unit: np.ndarray

    def arithmetic_ms(self, by: Parameters) -> np.ndarray:
        """Return the time of products."""
        factor = np.select([self.unit == "int8", self.unit == "cuda"], [by.int8, by.cuda], 1.0)
        dense = (self.spatial / by.spatial + self.pointwise / by.pointwise) / factor
        return np.asarray(dense + self.scalar / by.scalar)

    def memory_ms(self, by: Parameters) -> np.ndarray:
        """Return the time of reading and writing."""
        return np.asarray(self.activations / by.bandwidth + self.weights / by.stream)

    def start_ms(self, by: Parameters, recorded: Any = False) -> np.ndarray:
        """Return what it costs to start each kernel, by a CUDA graph or one by one."""
        start = self.start * by.start_cycles + self.fetch * by.start_kb
        return np.asarray(start * np.where(recorded, by.recorded, 1.0))

    def ms(self, by: Parameters, recorded: Any = False) -> np.ndarray:
        """Return the time of each kernel."""
        return np.asarray(self.start_ms(by, recorded) + np.maximum(self.arithmetic_ms(by), self.memory_ms(by)))


def work_of(table: KernelTable, gpu: Gpu, precision: str) -> Work:
    """Return what kernels take on a GPU at full efficiency.

    Args:
        table: of the kernels.
        gpu: and its clocks.
        precision: fp32, fp16 or int8. In INT8 kernels that stay in float are FP16.
    """
    about, clocks = ARCHITECTURES[gpu.architecture], gpu.clocks
    per_ms = clocks.gpu_mhz * 1e3
    dense = table.dense_cycles(gpu.architecture, precision, clocks.sms) / per_ms
    tensor = "int8" if precision == "int8" else "tensor"
    unit = tensor if about.uses_tensor_cores(precision) else "cuda"
    units = np.full(len(table.kernels), unit, "<U6")
    width = np.full(len(table.kernels), WIDTH[precision])
    if precision == "int8" and table.is_float.any():
        half = table.dense_cycles(gpu.architecture, "fp16", clocks.sms) / per_ms
        dense, units = np.where(table.is_float, half, dense), np.where(table.is_float, "tensor", units)
        width = np.where(table.is_float, WIDTH["fp16"], width)
    activations = (table.of["read"] + table.of["written"]) * width + table.of["fixed_bytes"]
    # What fits into the cache was just written there, and is read from there.
    missed = np.clip(activations / (gpu.l2_kib * 1024.0) - 0.5, 0.0, 1.0)
    peak = clocks.memory_gb_s * 1e6
    scalar = 2 * table.of["macs"] / (clocks.sms * about.scalar * per_ms)
    return Work(
        spatial=np.where(table.is_spatial, dense, 0.0),
        pointwise=np.where(table.is_dense & ~table.is_spatial, dense, 0.0),
        scalar=np.where(table.is_scalar, scalar, 0.0),
        activations=activations * missed / peak,
        weights=table.of["weights"] * width / peak,
        start=np.full(len(table.kernels), 1e3 / per_ms),
        fetch=np.full(len(table.kernels), 1e3 / peak),
        unit=units,
    )


def frame_ms(work: Work, by: Parameters, *, recorded: bool = False) -> float:
    """Return the GPU time of a frame."""
    return float(work.ms(by, recorded).sum() + work.start[0] * by.frame_cycles)
