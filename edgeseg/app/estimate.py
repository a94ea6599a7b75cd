"""Forecast ms per frame on a Jetson that need not be here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeseg.app.compile_config import CompileConfig
from edgeseg.app.data import size_hw_from
from edgeseg.app.estimate_config import EstimateConfig
from edgeseg.app.models import bundle_or_default
from edgeseg.app.shipped import model_path
from edgeseg.device.specifications import ARCHITECTURES, JETSONS
from edgeseg.errors import CompileError, UsageError, require
from edgeseg.estimate.forecast import CPU_GB_S, Fit, Forecast, Help, Network, fit_of, forecast, helps, mode_named
from edgeseg.progress import Progress
from edgeseg.recipes import FP32

__all__ = ["Estimate", "estimate", "network_from"]


@dataclass(frozen=True)
class Estimate:
    """What was forecast.

    Attributes:
        network: the graph, its kernels and sizes.
        forecasts: the one that was asked for first.
        helps: what would make the first one faster.
        resize_ms: of a frame on the CPU, at an assumed rate; 0 where frames have the network's size.
        fit: what the first one stands on.
        mode_is_default: whether nobody named a power mode.
    """

    network: Network
    forecasts: tuple[Forecast, ...]
    helps: tuple[Help, ...]
    resize_ms: float
    fit: Fit
    mode_is_default: bool

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        first = self.forecasts[0]
        return {
            "model": self.network.name,
            "size_hw": list(self.network.size_hw),
            "kernels": len(self.network.kernels),
            "gflop": round(2 * sum(kernel.macs for kernel in self.network.kernels) / 1e9, 4),
            "measured_on_device": False,
            "power_mode_assumed": self.mode_is_default,
            "published_rows": self.fit.rows,
            "fitted": self.fit.fitted,
            "cpu_resize_ms": round(self.resize_ms, 3),
            "forecasts": [one.to_json() for one in self.forecasts],
            "helps": [{"what": one.what, "saves_ms": round(one.saves_ms, 4)} for one in self.helps],
            "layers": [one.to_json() for one in first.layers],
        }


def estimate(config: EstimateConfig, progress: Progress = Progress()) -> Estimate:
    """Forecast the time of a frame from the graph alone.

    Args:
        config: of the forecast.
        progress: takes a line per step.

    Raises:
        UsageError: the board has no such power mode or precision, or a size is wrong.
        EdgesegError: the model cannot be read, or its shapes cannot be inferred.
    """
    jetson = JETSONS[config.device]
    mode = mode_named(jetson, config.power_mode)
    precisions = _precisions(config.precision, jetson.architecture)
    frame_hw = size_hw_from(config.frame)
    network = network_from(config.model, config.size, progress)
    if config.all_modes:
        forecasts = _all_modes(network, config)
    else:
        forecasts = [forecast(network, config.device, mode, precision) for precision in precisions]
    return Estimate(
        network,
        tuple(forecasts),
        tuple(helps(network, forecasts[0])),
        _resize_ms(frame_hw, network.size_hw),
        fit_of(JETSONS[forecasts[0].board].architecture),
        config.power_mode is None,
    )


def network_from(model: Path | None, size: str | None, progress: Progress = Progress()) -> Network:
    """Read the kernels of a model.

    Args:
        model: a bundle, the name of a shipped one, an ONNX file or a checkpoint; None as ``bundle_or_default``.
        size: WIDTHxHEIGHT of what leaves it open.
        progress: takes a line per step.

    Raises:
        EdgesegError: it cannot be read, or its shapes cannot be inferred.
    """
    from edgeseg.compiler.importers.onnx_file import loaded_onnx
    from edgeseg.estimate.graphs import network_from_onnx, network_in_child

    path = None if model is None else model_path(model)
    size_hw = None if size is None else size_hw_from(size)
    if path is not None and path.suffix == ".onnx":
        return network_in_child(loaded_onnx(path), path.name, size_hw)
    if path is not None and path.suffix != ".edgeseg":
        from edgeseg.app.origins import origin_from

        origin = origin_from(path, CompileConfig(model=path, size=size), progress)
        return network_from_onnx(origin.graph, path.name)
    bundle, name = bundle_or_default(model, None)
    if FP32 not in bundle.graphs:
        raise CompileError(f"{name} holds no fp32 graph to read shapes from")
    graph = require("onnx", "compile").load_model_from_string(bundle.graphs[FP32].onnx)
    return network_from_onnx(graph, name, size_hw)


def _precisions(asked: str, architecture: str) -> list[str]:
    """Return what to forecast. Raises UsageError: TensorRT has no such kernels there."""
    there = ARCHITECTURES[architecture].dense
    if asked == "auto":
        return [precision for precision in ("int8", "fp16") if precision in there]
    return [asked]


def _all_modes(network: Network, config: EstimateConfig) -> list[Forecast]:
    found = []
    for board, jetson in JETSONS.items():
        for mode in jetson.modes:
            for precision in _precisions(config.precision, jetson.architecture):
                if precision in ARCHITECTURES[jetson.architecture].dense:
                    found.append(forecast(network, board, mode, precision))
    if not found:
        raise UsageError(f"no board has kernels for `precision` {config.precision}")
    return found


def _resize_ms(frame_hw: tuple[int, int], size_hw: tuple[int, int]) -> float:
    """Return what reading a frame and writing the network's takes one core, at an assumed rate."""
    if frame_hw == size_hw:
        return 0.0
    return 3 * (frame_hw[0] * frame_hw[1] + size_hw[0] * size_hw[1]) / (CPU_GB_S * 1e6)
