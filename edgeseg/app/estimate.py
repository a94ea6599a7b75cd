"""Forecast ms per frame on a Jetson that need not be here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Sequence

from edgeseg.app.compile_config import CompileConfig
from edgeseg.app.data import size_hw_from
from edgeseg.app.estimate_config import EstimateConfig
from edgeseg.app.models import bundle_or_default
from edgeseg.app.shipped import model_path
from edgeseg.bundle import Bundle
from edgeseg.device.specifications import ARCHITECTURES, JETSONS
from edgeseg.errors import UsageError
from edgeseg.estimate.forecast import (
    CPU_GB_S,
    Fit,
    Forecast,
    Help,
    Network,
    fit_of,
    forecast,
    helps,
    mode_named,
    own_networks,
    scaled,
)
from edgeseg.estimate.kernels import total_macs
from edgeseg.estimate.measured import MeasuredRow, rows_from_text, sharpened
from edgeseg.files import text_from
from edgeseg.progress import Progress

__all__ = ["Estimate", "Fitting", "estimate", "fitting", "network_from", "network_of_bundle"]

_SIZES = (
    (256, 256),
    (384, 384),
    (360, 480),
    (512, 512),
    (480, 640),
    (768, 768),
    (512, 1024),
    (720, 1280),
    (1024, 1024),
)
"""Of inputs that ``fitting`` tries, height x width."""


@dataclass(frozen=True)
class Estimate:
    """What was forecast.

    Attributes:
        network: the graph, its kernels and sizes.
        forecasts: the one that was asked for first.
        helps: what would make the first one faster; empty where every board was asked for.
        resize_ms: of a frame on the CPU, at an assumed rate; 0 where frames have the network's size.
        fits: what they stand on, one of each architecture.
        mode_is_default: whether a power mode was needed, and nobody named one.
    """

    network: Network
    forecasts: tuple[Forecast, ...]
    helps: tuple[Help, ...]
    resize_ms: float
    fits: tuple[Fit, ...]
    mode_is_default: bool

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        first = self.forecasts[0]
        return {
            "model": self.network.name,
            "size_hw": list(self.network.size_hw),
            "kernels": len(self.network.kernels),
            "gflop": round(2 * total_macs(self.network.kernels) / 1e9, 4),
            "measured_on_device": first.is_measured,
            "power_mode_assumed": self.mode_is_default,
            "published_rows": sum(fit.rows for fit in self.fits),
            "fitted": self.fits[0].fitted,
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
        UsageError: the board has no such power mode or precision, a size is wrong, or fields contradict each other.
        EdgesegError: the model cannot be read, or its shapes cannot be inferred.
    """
    jetson = JETSONS[config.device]
    mode = mode_named(jetson, config.power_mode)
    precisions = _precisions(config.precision, jetson.architecture)
    frame_hw = size_hw_from(config.frame)
    if config.all_modes and (config.power_mode is not None or config.device != EstimateConfig().device):
        raise UsageError("`all_modes` is every board in every power mode; leave `device` and `power_mode` out")
    network = network_from(config.model, config.size, progress)
    if config.all_modes:
        laws = _all_modes(network, config)
    else:
        laws = [forecast(network, config.device, mode, precision) for precision in precisions]
    rows = [] if config.measured is None else _measured_rows(config.measured)
    forecasts = [sharpened(network, one, rows) for one in laws]
    architectures = dict.fromkeys(JETSONS[one.board].architecture for one in forecasts)
    return Estimate(
        network,
        tuple(forecasts),
        () if config.all_modes else _helps(network, laws[0], forecasts[0].gpu_ms / laws[0].gpu_ms),
        _resize_ms(frame_hw, network.size_hw),
        tuple(map(fit_of, architectures)),
        config.power_mode is None and not config.all_modes,
    )


def _helps(network: Network, law: Forecast, share: float) -> tuple[Help, ...]:
    """List what would help, of a time that is so many times that of the law."""
    return tuple(Help(one.what, one.saves_ms * share) for one in helps(network, law))


@dataclass(frozen=True)
class Fitting:
    """A network at a size that is fast enough.

    Attributes:
        network: one of the package's own, with random weights of 11 classes.
        forecast: of it.
    """

    network: Network
    forecast: Forecast

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        gflop = round(2 * total_macs(self.network.kernels) / 1e9, 3)
        size_hw = list(self.network.size_hw)
        return {"network": self.network.name, "size_hw": size_hw, "gflop": gflop, **self.forecast.to_json()}


def fitting(config: EstimateConfig) -> list[Fitting]:
    """List the package's own networks whose P90 is no longer than ``fit_ms``, those with most arithmetic first.

    Args:
        config: of the forecast; what it says of a model is not used.

    Raises:
        UsageError: the board has no such power mode or precision, or a model is named too.
    """
    if config.fit_ms is None or config.model is not None:
        raise UsageError("`fit_ms` ranks networks of the package; leave the model out")
    if config.all_modes or config.size is not None:
        raise UsageError("`fit_ms` ranks networks at sizes of their own on one board; leave `all_modes` and `size` out")
    jetson = JETSONS[config.device]
    mode = mode_named(jetson, config.power_mode)
    rows = [] if config.measured is None else _measured_rows(config.measured)
    found = []
    for base in own_networks():
        for size_hw in _SIZES:
            network = scaled(base, size_hw)
            for precision in _precisions(config.precision, jetson.architecture):
                one = sharpened(network, forecast(network, config.device, mode, precision), rows)
                if one.high_ms <= config.fit_ms:
                    found.append(Fitting(network, one))
    return sorted(found, key=lambda one: (-total_macs(one.network.kernels), one.forecast.gpu_ms))


def _measured_rows(path: Path) -> Sequence[MeasuredRow]:
    """Read a user's rows; models in a CSV are named from its folder. Raises UsageError, EdgesegError."""
    try:
        text = text_from(path.read_bytes())
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"`measured` {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error

    @lru_cache(maxsize=None)
    def read(model: str, size: str | None) -> Network:
        beside = path.parent / model
        return network_from(beside if beside.exists() else Path(model), size)

    rows = rows_from_text(text, path.name, read)
    if not rows:
        raise UsageError(f"`measured` {path} holds no rows")
    return rows


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
    if path is not None and path.suffix.lower() == ".onnx":
        return network_in_child(loaded_onnx(path), path.name, size_hw)
    if path is not None and path.suffix.lower() != ".edgeseg":
        from edgeseg.app.origins import origin_from

        origin = origin_from(path, CompileConfig(model=path, size=size), progress)
        return network_from_onnx(origin.graph, path.name)
    return network_of_bundle(*bundle_or_default(model, None), size_hw)


def network_of_bundle(bundle: Bundle, name: str, size_hw: tuple[int, int] | None = None) -> Network:
    """Read the kernels of a bundle's FP32 graph, for one frame.

    Raises:
        CompileError: it has none, or that is of another size.
    """
    from edgeseg.compiler.steps.float_graph import float_graph_from_bundle
    from edgeseg.estimate.graphs import network_from_onnx

    return network_from_onnx(float_graph_from_bundle(bundle), name, size_hw)


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
