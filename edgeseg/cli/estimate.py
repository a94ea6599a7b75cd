"""``edgeseg estimate``: ms per frame on a Jetson that need not be here."""

from typing import Sequence

from edgeseg.app.estimate import Estimate, Fitting, fitting
from edgeseg.app.estimate import estimate as forecast_of
from edgeseg.app.estimate_config import EstimateConfig
from edgeseg.cli.console import JsonFlag, print_json, say, say_aside, table
from edgeseg.cli.options import command
from edgeseg.cli.progress import told_progress
from edgeseg.device.specifications import JETSONS
from edgeseg.estimate.forecast import Fit, Forecast, fit_of, mode_named
from edgeseg.estimate.kernels import total_macs


def _estimate(config: EstimateConfig, as_json: JsonFlag = False) -> None:
    """Forecast ms per frame on a Jetson from the graph alone, with a band. Nothing is measured on that Jetson.

    Example: edgeseg estimate street.edgeseg --device xavier-nx --power-mode 15W
    """
    if config.fit_ms is not None:
        _print_fitting(fitting(config), config, as_json)
        return
    with told_progress(say_aside if as_json else say) as progress:
        found = forecast_of(config, progress)
    if as_json:
        print_json(found.to_json())
        return
    height, width = found.network.size_hw
    gflop = 2 * total_macs(found.network.kernels) / 1e9
    say(f"{found.network.name}, {width}x{height}: {len(found.network.kernels)} kernels, {gflop:.2f} GFLOP per frame")
    _print_forecasts(found)
    if not config.all_modes:
        _print_one(found, config)
    for basis in sorted({one.basis for one in found.forecasts if one.basis}):
        say(f"measured: {basis}")
    _print_origin(found.fits, found.forecasts, config.measured is not None)


def _source(one: Forecast) -> str:
    """Return what a forecast's name in a table ends in, where rows stand behind it."""
    if one.is_measured:
        return ", measured"
    return ", from a measurement elsewhere" if one.basis else ""


def _print_origin(fits: Sequence[Fit], forecasts: Sequence[Forecast], had_rows: bool) -> None:
    """Say what forecasts stand on that no measured row of their board, mode and precision gave."""
    are_measured = [one.is_measured for one in forecasts]
    if all(are_measured) and are_measured:
        return
    if had_rows and not any(one.basis for one in forecasts):
        say("the measured rows do not help: none is of this network")
    which = "no measurement of this device was used" if not any(are_measured) else "of the others nothing was measured"
    of = "its architecture" if len(fits) == 1 else f"{len(fits)} architectures"
    rows = sum(fit.rows for fit in fits)
    say(f"{which}: parameters of {of} were fitted to {rows} published rows on {fits[0].fitted}")
    say("P10 and P90 are of published rows of networks that a fit did not see")


def _print_fitting(found: Sequence[Fitting], config: EstimateConfig, as_json: bool) -> None:
    if as_json:
        print_json({"fit_ms": config.fit_ms, "fitting": [one.to_json() for one in found]})
        return
    rows = []
    for one in found:
        height, width = one.network.size_hw
        ms = (f"{number:.2f}" for number in (one.forecast.gpu_ms, one.forecast.low_ms, one.forecast.high_ms))
        gflop = 2 * total_macs(one.network.kernels) / 1e9
        precision = f"{one.forecast.precision.upper()}{_source(one.forecast)}"
        rows.append([one.network.name, f"{width}x{height}", precision, f"{gflop:.2f}", *ms])
    jetson = JETSONS[config.device]
    mode = mode_named(jetson, config.power_mode)
    title = f"{jetson.name}, {mode}: P90 of GPU ms up to {config.fit_ms:g}, most arithmetic first"
    table(title, ["network", "size", "precision", "GFLOP", "GPU ms", "P10", "P90"], rows)
    if not found:
        say(f"nothing fits into {config.fit_ms:g} ms; try a faster power mode or a longer time")
    _print_origin([fit_of(jetson.architecture)], [one.forecast for one in found], config.measured is not None)


estimate = command(EstimateConfig, _estimate)


def _print_forecasts(found: Estimate) -> None:
    rows = [
        [
            f"{JETSONS[one.board].name}, {one.mode}, {one.precision.upper()}{_source(one)}",
            *(f"{ms:.2f}" for ms in (one.gpu_ms, one.low_ms, one.high_ms, one.copies_ms)),
            f"{1e3 / one.gpu_ms:.0f}",
        ]
        for one in found.forecasts
    ]
    table("forecast ms per frame, batch 1", ["board, power mode", "GPU ms", "P10", "P90", "copies ms", "GPU fps"], rows)


def _print_one(found: Estimate, config: EstimateConfig) -> None:
    first = found.forecasts[0]
    if found.mode_is_default:
        modes = ", ".join(JETSONS[first.board].modes)
        say(f"power mode {first.mode} is assumed, in which the board is delivered; --power-mode is one of {modes}")
    if found.resize_ms:
        say(
            f"CPU: {found.resize_ms:.1f} ms for resizing a {config.frame} frame, if a core moves 1 GB/s (an assumption)"
        )
    slowest = sorted(first.layers, key=lambda one: -one.ms)[: config.layers]
    if slowest:
        rows = [
            [one.kernel.name, one.kernel.kind, f"{2 * one.kernel.macs / 1e9:.3f}", f"{one.ms:.3f}",
             f"{100 * one.ms / first.gpu_ms:.1f}", one.limit]
            for one in slowest
        ]  # fmt: skip
        table(
            f"the slowest kernels, {first.precision.upper()}",
            ["kernel", "kind", "GFLOP", "ms", "% of GPU", "limited by"],
            rows,
        )
    for limit in ("start", "arithmetic", "memory"):
        share = sum(one.ms for one in first.layers if one.limit == limit) / first.gpu_ms
        say(f"{100 * share:.0f} % of the GPU time is in kernels limited by {limit}")
    for one in found.helps:
        say(f"would help: {one.what}, {one.saves_ms:.2f} ms less")
