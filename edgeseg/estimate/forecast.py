"""Forecast the time of a frame on a Jetson in a power mode, with a band and with what would help."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Mapping

import numpy as np

from edgeseg.device.specifications import ARCHITECTURES, JETSONS, Jetson
from edgeseg.errors import UsageError
from edgeseg.estimate.kernels import Kernel
from edgeseg.estimate.law import Gpu, KernelTable, Parameters, frame_ms, work_of

__all__ = [
    "PARAMETERS",
    "Fit",
    "Forecast",
    "Help",
    "KernelTime",
    "Network",
    "fit_of",
    "forecast",
    "gpu_of",
    "helps",
    "mode_named",
    "own_networks",
    "scaled",
]

PARAMETERS = Path(__file__).with_name("parameters.json")
CPU_GB_S = 1.0
"""Bytes that one core of a Jetson is taken to resize per second, in 10^9: an assumption, no row measures it."""


@dataclass(frozen=True)
class Network:
    """A graph as a forecast sees it.

    Attributes:
        name: for people.
        size_hw: of its input.
        kernels: of the partition.
        input_bytes, output_bytes: of a frame and of its result.
    """

    name: str
    size_hw: tuple[int, int]
    kernels: tuple[Kernel, ...]
    input_bytes: int
    output_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        return {**asdict(self), "size_hw": list(self.size_hw), "kernels": [one.to_json() for one in self.kernels]}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Network:
        """Return what ``to_json`` gave. Raises KeyError, TypeError, ValueError: it is something else."""
        height, width = map(int, facts["size_hw"])
        kernels = tuple(map(Kernel.from_json, facts["kernels"]))
        if not kernels or height < 1 or width < 1:
            raise ValueError("a network has kernels and a size")
        return cls(str(facts["name"]), (height, width), kernels, int(facts["input_bytes"]), int(facts["output_bytes"]))


@dataclass(frozen=True)
class Fit:
    """What was fitted for an architecture.

    Attributes:
        parameters: of the law.
        band: factors on a forecast, between which 80 % of the published rows lie that the fit did not see.
        rows: how many published rows of this architecture it stands on.
        by_precision: the same, by precision.
        fitted: date.
    """

    parameters: Parameters
    band: tuple[float, float]
    rows: int
    by_precision: Mapping[str, int]
    fitted: str


@lru_cache(maxsize=None)
def fit_of(architecture: str) -> Fit:
    """Return what is known of an architecture of ``ARCHITECTURES``."""
    facts = json.loads(PARAMETERS.read_text(encoding="utf-8"))
    one = facts["architectures"][architecture]
    low, high = one["band"]
    return Fit(Parameters.from_json(one["parameters"]), (low, high), one["rows"], one["by_precision"], facts["fitted"])


@dataclass(frozen=True)
class KernelTime:
    """One kernel of a forecast; ``limit`` is what it waits for: start, arithmetic or memory."""

    kernel: Kernel
    ms: float
    limit: str

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        operators = list(self.kernel.operators)
        facts = {"name": self.kernel.name, "kind": self.kernel.kind, "operators": operators}
        return {**facts, "gflop": 2 * self.kernel.macs / 1e9, "ms": round(self.ms, 5), "limit": self.limit}


@dataclass(frozen=True)
class Help:
    """A change and the ms of GPU time that it is forecast to save."""

    what: str
    saves_ms: float


@dataclass(frozen=True)
class Forecast:
    """The time of a frame.

    Attributes:
        board: key of ``JETSONS``.
        mode: of its power.
        precision: of the engine.
        gpu_ms: of the engine's kernels.
        low_ms, high_ms: P10 and P90 of it.
        copies_ms: of the frame to the GPU and the result back.
        layers: in graph order, by the law.
        basis: what the user measured that it stands on; empty where it stands on the law alone.
        is_measured: whether that was on this board, in this mode and precision.
    """

    board: str
    mode: str
    precision: str
    gpu_ms: float
    low_ms: float
    high_ms: float
    copies_ms: float
    layers: tuple[KernelTime, ...]
    basis: str = ""
    is_measured: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict, without the layers."""
        ms = {name: round(getattr(self, name), 4) for name in ("gpu_ms", "low_ms", "high_ms", "copies_ms")}
        where = {"board": self.board, "power_mode": self.mode, "precision": self.precision}
        return {**where, **ms, "measured": self.basis}


def own_networks() -> list[Network]:
    """Return networks that can be had with random weights of 11 classes, at 512x512: ``benchmarks/estimate.py``."""
    facts = json.loads(PARAMETERS.with_name("networks.json").read_text(encoding="utf-8"))
    return [Network.from_json(one) for one in facts]


def gpu_of(board: str, mode: str) -> Gpu:
    """Return the GPU of a board in one of its modes."""
    jetson = JETSONS[board]
    return Gpu(jetson.architecture, jetson.modes[mode], jetson.l2_kib)


def mode_named(jetson: Jetson, asked: str | None) -> str:
    """Return the mode of a board that a name means, as nvpmodel or people write it; None is the delivered one.

    Raises:
        UsageError: it has no such mode.
    """
    if asked is None:
        return jetson.default
    name = asked.upper().replace(" ", "_").replace("-", "_")
    name = name[len("MODE_") :] if name.startswith("MODE_") else name
    parts = name.split("_")
    while parts and (parts[-1].endswith("CORE") or parts[-1] in ("ALL", "ARM")):
        parts.pop()
    short = "_".join(parts)
    found = short if short in jetson.modes else jetson.also.get(short)
    if found is None:
        raise UsageError(f"{jetson.name} has no power mode {asked!r}; `power_mode` is one of {', '.join(jetson.modes)}")
    return found


def forecast(network: Network, board: str, mode: str, precision: str) -> Forecast:
    """Forecast the time of a frame.

    Args:
        network: one frame of it.
        board: key of ``JETSONS``.
        mode: one of the board's.
        precision: fp32, fp16 or int8.

    Raises:
        UsageError: TensorRT has no such kernels for the board's GPU.
    """
    jetson = JETSONS[board]
    if precision not in ARCHITECTURES[jetson.architecture].dense:
        raise UsageError(f"TensorRT has no {precision} kernels for the GPU of {jetson.name}; pass `precision` fp16")
    fit, gpu = fit_of(jetson.architecture), gpu_of(board, mode)
    work = work_of(KernelTable(network.kernels), gpu, precision)
    by = fit.parameters
    parts = np.array([work.start_ms(by), work.arithmetic_ms(by), work.memory_ms(by)])
    times, limits = work.ms(by), parts.argmax(axis=0)
    layers = tuple(
        KernelTime(kernel, float(ms), ("start", "arithmetic", "memory")[limit])
        for kernel, ms, limit in zip(network.kernels, times, limits)
    )
    gpu_ms = frame_ms(work, by)
    moved = network.input_bytes + network.output_bytes
    # Memory is shared: a copy reads and writes it once.
    copies_ms = 2 * moved / (by.bandwidth * gpu.clocks.memory_gb_s * 1e6)
    low, high = (gpu_ms * factor for factor in fit.band)
    return Forecast(board, mode, precision, gpu_ms, low, high, copies_ms, layers)


def scaled(network: Network, size_hw: tuple[int, int]) -> Network:
    """Return a network at another input size: the same kernels, with as many times the pixels."""
    share = size_hw[0] * size_hw[1] / (network.size_hw[0] * network.size_hw[1])

    def grown(number: int) -> int:
        return round(number * share)

    kernels = tuple(
        replace(
            one,
            macs=grown(one.macs),
            rows=max(grown(one.rows), min(one.rows, 1)),
            read=grown(one.read),
            written=grown(one.written),
            fixed_bytes=grown(one.fixed_bytes),
        )
        for one in network.kernels
    )
    return Network(network.name, size_hw, kernels, grown(network.input_bytes), grown(network.output_bytes))


def helps(network: Network, now: Forecast) -> list[Help]:
    """List what would make a frame faster on this board, what saves most first."""
    jetson = JETSONS[now.board]
    found = []
    fastest = next(iter(jetson.modes))
    if fastest != now.mode:
        after = forecast(network, now.board, fastest, now.precision).gpu_ms
        found.append(Help(f"power mode {fastest}", now.gpu_ms - after))
    for precision in ("int8", "fp16"):
        has = precision in ARCHITECTURES[jetson.architecture].dense
        if has and precision != now.precision:
            after = forecast(network, now.board, now.mode, precision).gpu_ms
            found.append(Help(f"precision {precision}", now.gpu_ms - after))
    height, width = (side * 3 // 4 for side in network.size_hw)
    after = forecast(scaled(network, (height, width)), now.board, now.mode, now.precision).gpu_ms
    found.append(Help(f"an input of {width}x{height}", now.gpu_ms - after))
    fit = fit_of(jetson.architecture)
    work = work_of(KernelTable(network.kernels), gpu_of(now.board, now.mode), now.precision)
    found.append(Help("a CUDA graph", now.gpu_ms - frame_ms(work, fit.parameters, recorded=True)))
    return sorted((one for one in found if one.saves_ms > 0), key=lambda one: -one.saves_ms)
