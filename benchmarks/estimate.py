"""Fit the parameters of ``edgeseg estimate`` to published latencies, and say how far its forecasts are off.

    python benchmarks/estimate.py fit --rows ROWS.csv --rows MORE.csv [--parameters OUT.json] [--plot OUT.png]

Columns of ROWS are described in ``estimate_rows.py``. Needs scipy, and matplotlib for --plot. The first time that a
network is built it needs torch, torchvision, timm and onnxslim; its kernels are kept in ``--cache``.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from dataclasses import fields
from datetime import date
from pathlib import Path
from typing import Any, Callable, Sequence

import numpy as np
from estimate_networks import SHIPPED, network_of_ours
from estimate_relatives import published_laws, relatives_report, sharpened_ratios, times_of
from estimate_rows import Row, rows_from
from scipy.optimize import least_squares, nnls
from scipy.stats import spearmanr

from edgeseg.device.specifications import ARCHITECTURES
from edgeseg.estimate.forecast import fit_of
from edgeseg.estimate.law import Parameters, Work, frame_ms, work_of

NAMES = [one.name for one in fields(Parameters)]
START = Parameters(10, 150, 60, 0.6, 0.4, 0.25, 0.75, 0.5, 0.7, 1.5, 0.5)
"""Where every fit begins, and what a parameter without rows stays at."""
_WIDTH_OF_START, _WIDTH_OF_ARCHITECTURE = 1.0, 0.4
"""Of priors, in logarithms: of what architectures have in common, and of each around it."""
_KNOWN = {"stream": 0.1, "start_kb": 2.5}
"""Narrower priors: no memory streams faster than its peak, and long reads come near it."""
_SPREAD = 0.2
"""Relative error beyond which a row counts less."""


class Evidence:
    """Rows as arrays: the kernels of all of them behind each other."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = list(rows)
        works = [work_of(row.table, row.gpu, row.precision) for row in rows]
        self.work = Work(**{f.name: np.concatenate([getattr(w, f.name) for w in works]) for f in fields(Work)})
        counts = [len(row.table.kernels) for row in rows]
        self._starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        self._recorded = np.repeat([row.recorded for row in rows], counts)
        self._frame = np.array([w.start[0] for w in works])
        self._names = list(ARCHITECTURES)
        self._of_row = np.array([self._names.index(row.gpu.architecture) for row in rows])
        self._of_kernel = np.repeat(self._of_row, counts)
        self.measured = np.array([row.measured_ms for row in rows])
        # A family that is measured often says less per row.
        groups = Counter((row.board, row.family, row.precision) for row in rows)
        self.weights = np.array([groups[row.board, row.family, row.precision] ** -0.25 for row in rows])

    def forecast(self, theta: np.ndarray) -> np.ndarray:
        """theta: logarithms, one row per architecture -> ms of every row."""
        values = np.exp(theta)
        by = Parameters(*values[self._of_kernel].T)
        total = np.add.reduceat(self.work.ms(by, self._recorded), self._starts)
        return np.asarray(total + self._frame * values[self._of_row, NAMES.index("frame_cycles")])

    def errors(self, theta: np.ndarray) -> np.ndarray:
        return np.asarray(np.log(self.forecast(theta) / self.measured))


def fitted(evidence: Evidence, begin: np.ndarray | None = None) -> np.ndarray:
    """Fit all architectures at once; what they have in common steadies those with few rows.

    ``begin`` is where the search starts: the fit of nearly the same rows is near.
    """
    wide = np.array([_KNOWN.get(name, 1.0) for name in NAMES])
    over, around = _WIDTH_OF_START * wide, _WIDTH_OF_ARCHITECTURE * wide
    start, count, size = np.log([getattr(START, name) for name in NAMES]), len(ARCHITECTURES), len(NAMES)

    def split(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return x[:size], x[size:].reshape(count, size)

    def residuals(x: np.ndarray) -> np.ndarray:
        common, each = split(x)
        rows = evidence.weights * evidence.errors(each) / _SPREAD
        rows = np.sign(rows) * np.sqrt(2 * (np.sqrt(1 + rows**2) - 1))  # soft L1 of the rows alone
        return np.concatenate([rows, (common - start) / over, ((each - common) / around).ravel()])

    def jacobian(x: np.ndarray) -> np.ndarray:
        base, step = residuals(x), 1e-5
        common, each = split(x)
        rows = len(evidence.rows)
        slopes = np.zeros((len(base), len(x)))
        for at in range(size):
            moved = each.copy()
            moved[:, at] += step
            slope = (residuals(np.concatenate([common, moved.ravel()]))[:rows] - base[:rows]) / step
            slopes[np.arange(rows), size + evidence._of_row * size + at] = slope
            slopes[rows + at, at] = 1 / over[at]
            for arch in range(count):
                place = rows + size + arch * size + at
                slopes[place, at], slopes[place, size + arch * size + at] = -1 / around[at], 1 / around[at]
        return slopes

    first = np.tile(start, (count, 1)) if begin is None else begin
    x = np.concatenate([first.mean(axis=0), first.ravel()])
    return split(least_squares(residuals, x, jac=jacobian, xtol=1e-5, ftol=1e-6, max_nfev=100).x)[1]


def left_out(rows: Sequence[Row], key: Callable[[Row], Any]) -> np.ndarray:
    """Return ln(forecast / measured) of every row, by parameters that were fitted without the rows of its key."""
    errors, near = np.full(len(rows), np.nan), fitted(Evidence(rows))
    for held in sorted({key(row) for row in rows}):
        out = np.array([key(row) == held for row in rows])
        theta = fitted(Evidence([row for row, is_out in zip(rows, out) if not is_out]), near)
        errors[out] = Evidence([row for row, is_out in zip(rows, out) if is_out]).errors(theta)
    return errors


def baseline_left_out(rows: Sequence[Row], key: Callable[[Row], Any]) -> np.ndarray:
    """The same of t = a + FLOP / (efficiency x peak), fitted per board, mode and precision; NaN without other rows."""
    flop = np.array([2e-9 * row.table.of["macs"].sum() for row in rows])
    measured = np.array([row.measured_ms for row in rows])
    cells = [(row.board, row.mode, row.precision) for row in rows]
    errors = np.full(len(rows), np.nan)
    for at, row in enumerate(rows):
        others = [other for other in range(len(rows)) if cells[other] == cells[at] and key(rows[other]) != key(row)]
        if len(others) >= 3:
            scale = 1 / measured[others]
            a = np.stack([scale, flop[others] * scale], axis=1)
            fit, _ = nnls(a, np.ones(len(others)))
            errors[at] = np.log(max(fit[0] + fit[1] * flop[at], 1e-3) / measured[at])
    return errors


def quantile(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    """Return the weighted quantile."""
    order = np.argsort(values)
    place = (np.cumsum(weights[order]) - weights[order] / 2) / weights.sum()
    return float(np.interp(share, place, values[order]))


def band(rows: Sequence[Row], errors: np.ndarray, architecture: str) -> tuple[float, float]:
    """Return P10 and P90 of measured / forecast; where an architecture has few families, all rows speak for it."""
    mine = np.array([row.gpu.architecture == architecture for row in rows])
    if len({row.family for row in rows if row.gpu.architecture == architecture}) < 6:
        mine = np.ones(len(rows), bool)
    # A network that comes is of another family, so every family speaks once, however often it was measured.
    families = Counter(row.family for row, is_mine in zip(rows, mine) if is_mine)
    weights = np.array([1 / families[row.family] for row, is_mine in zip(rows, mine) if is_mine])
    low, high = (quantile(-errors[mine], weights, share) for share in (0.1, 0.9))
    return float(np.exp(low)), float(np.exp(high))


def covered(rows: Sequence[Row], errors: np.ndarray) -> np.ndarray:
    """Tell of each row whether it lies in the band that rows of other families give."""
    inside = np.zeros(len(rows), bool)
    for family in sorted({row.family for row in rows}):
        others = [at for at, row in enumerate(rows) if row.family != family]
        bands = {one: band([rows[at] for at in others], errors[others], one) for one in ARCHITECTURES}
        for at, row in enumerate(rows):
            if row.family == family:
                low, high = bands[row.gpu.architecture]
                inside[at] = low <= np.exp(-errors[at]) <= high
    return inside


def parameters_json(rows: Sequence[Row], theta: np.ndarray, errors: np.ndarray) -> dict[str, Any]:
    """Return what the product ships: parameters, bands, counts of rows, the date and the sources."""
    architectures = {}
    for name, values in zip(ARCHITECTURES, np.exp(theta)):
        mine = [row for row in rows if row.gpu.architecture == name]
        architectures[name] = {
            "parameters": {one: float(f"{value:.4g}") for one, value in zip(NAMES, values)},
            "band": [round(one, 3) for one in band(rows, errors, name)],
            "rows": len(mine),
            "by_precision": dict(sorted(Counter(row.precision for row in mine).items())),
        }
    named = [re.search(r"github:[\w.-]+/[\w.-]+", row.source) for row in rows]
    sources = sorted({one[0] for one in named if one})
    return {"fitted": date.today().isoformat(), "rows": len(rows), "sources": sources, "architectures": architectures}


def summary(name: str, errors: np.ndarray, measured: np.ndarray) -> str:
    """Return a row of a Markdown table."""
    known = np.isfinite(errors)
    off = np.abs(np.exp(errors[known]) - 1)
    forecast = measured[known] * np.exp(errors[known])
    rank = spearmanr(forecast, measured[known]).statistic if known.sum() > 2 else float("nan")
    return (
        f"| {name} | {known.sum()} | {100 * np.median(off):.1f} | {100 * np.quantile(off, 0.9):.0f} | "
        f"{100 * (np.exp(np.median(errors[known])) - 1):+.0f} | {rank:.3f} |"
    )


def report(rows: Sequence[Row], errors: dict[str, np.ndarray]) -> list[str]:
    """Return the lines of a Markdown report."""
    measured = np.array([row.measured_ms for row in rows])
    lines = ["| rows | count | median error % | P90 % | bias % | rank correlation |", "|---|---|---|---|---|---|"]
    lines += [summary(name, one, measured) for name, one in errors.items()]
    families = errors["all, leave one family out"]
    keys: list[tuple[str, Callable[[Row], str]]] = [
        ("", lambda row: f"{row.board}, {row.precision.upper()}"),
        ("family ", lambda row: f"{row.family} on {row.gpu.architecture}"),
    ]
    for title, key in keys:
        for name in sorted({key(row) for row in rows}):
            mine = np.array([key(row) == name for row in rows])
            lines.append(summary(f"{title}{name}", families[mine], measured[mine]))
    return lines


def plot(path: Path, rows: Sequence[Row], errors: np.ndarray) -> None:
    """Draw forecast / measured over the measured time, a colour per architecture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 4.5), dpi=100)
    for name in ARCHITECTURES:
        mine = np.array([row.gpu.architecture == name for row in rows])
        measured = np.array([row.measured_ms for row in rows])[mine]
        axes.scatter(measured, np.exp(errors[mine]), s=9, alpha=0.6, label=f"{name}, {mine.sum()} rows")
    axes.axhline(1, color="black", linewidth=0.8)
    for off in (0.75, 1 / 0.75):
        axes.axhline(off, color="grey", linewidth=0.6, linestyle="--")
    axes.set(xscale="log", yscale="log", xlabel="measured ms", ylabel="forecast / measured")
    axes.set_title("Each row forecast by a fit that saw no network of its family")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)


def fit(options: argparse.Namespace) -> None:
    """Fit, judge, and write what was asked for."""
    rows, left_out_rows = rows_from(options.rows, options.cache)
    print(f"{len(rows)} rows are used; {sum(left_out_rows.values())} are not:")
    for why, count in left_out_rows.most_common():
        print(f"  {count} {why}")
    evidence = Evidence(rows)
    theta = fitted(evidence)
    by_family, by_board = left_out(rows, lambda row: row.family), left_out(rows, lambda row: row.board)
    baseline = baseline_left_out(rows, lambda row: row.family)
    errors = {
        "all, in the fit": evidence.errors(theta),
        "all, leave one family out": by_family,
        "all, leave one device out": by_board,
        "baseline a + b x FLOP per board, leave one family out": baseline,
        "the same rows, this law": np.where(np.isfinite(baseline), by_family, np.nan),
    }
    by_model = baseline_left_out(rows, lambda row: row.model)
    for board in ("nano", "agx-xavier"):
        mine = np.array([row.board == board and "torch2trt" in row.source and row.precision == "fp16" for row in rows])
        what = f"{board} FP16, rows of torch2trt"
        errors[f"{what}: baseline, leave one network out"] = np.where(mine, by_model, np.nan)
        errors[f"{what}: baseline, leave one family out"] = np.where(mine, baseline, np.nan)
        errors[f"{what}: this law, leave one family out"] = np.where(mine, by_family, np.nan)
    for line in report(rows, errors):
        print(line)
    inside = covered(rows, by_family)
    for name in ARCHITECTURES:
        mine = np.array([row.gpu.architecture == name for row in rows])
        low, high = band(rows, by_family, name)
        share = 100 * inside[mine].mean()
        print(f"band of {name}: {low:.2f} to {high:.2f} x forecast; that of others holds {share:.0f} % of {mine.sum()}")
    print(f"in the band of other families: {100 * inside.mean():.1f} % of all rows")
    times = times_of(rows, evidence.measured * np.exp(by_family))
    laws, ratios = published_laws(times), sharpened_ratios(times)
    for text in relatives_report(laws, ratios):
        print(text)
    if options.parameters:
        bands = {how: [round(float(np.quantile(one, share)), 3) for share in (0.1, 0.9)] for how, one in ratios.items()}
        facts = {**parameters_json(rows, theta, by_family), "sharpened": bands, "relatives": laws}
        options.parameters.write_text(json.dumps(facts, indent=1) + "\n")
    if options.plot:
        plot(options.plot, rows, by_family)


def judge(options: argparse.Namespace) -> None:
    """Compare rows with what the product forecasts. Nothing is fitted."""
    rows, _ = rows_from(options.rows, options.cache)
    print("| board | network | size | precision | forecast ms | P10 to P90 | measured ms | forecast / measured |")
    print("|---|---|---|---|---|---|---|---|")
    ratios, inside = [], []
    for row in rows:
        known = fit_of(row.gpu.architecture)
        ms = frame_ms(work_of(row.table, row.gpu, row.precision), known.parameters, recorded=row.recorded)
        low, high = (ms * factor for factor in known.band)
        ratios.append(ms / row.measured_ms)
        inside.append(low <= row.measured_ms <= high)
        size = f"{row.size_hw[1]}x{row.size_hw[0]}"
        numbers = f"{ms:.2f} | {low:.2f} to {high:.2f} | {row.measured_ms:.2f} | {ratios[-1]:.2f}"
        print(f"| {row.board} {row.mode} | {row.model} | {size} | {row.precision.upper()} | {numbers} |")
    median = 100 * np.median(np.abs(np.array(ratios) - 1))
    print(f"median error {median:.1f} %, {sum(inside)} of {len(rows)} rows in the band")


def networks(options: argparse.Namespace) -> None:
    """Count the kernels of the networks that ``--fit-ms`` ranks."""
    found = [network_of_ours(*names) for names in (*SHIPPED, ("unet", "mobilenet_v2"))]
    options.output.write_text(json.dumps([one.to_json() for one in found], separators=(",", ":")) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("fit", help="fit and judge")
    one.add_argument("--rows", type=Path, action="append", required=True, help="a CSV of published latencies")
    one.add_argument("--cache", type=Path, default=Path("estimate-cache"), help="folder of counted kernels")
    one.add_argument("--parameters", type=Path, help="where to write the parameters")
    one.add_argument("--plot", type=Path, help="where to draw the residuals")
    one.set_defaults(run=fit)
    one = commands.add_parser("judge", help="compare rows with what the product forecasts")
    one.add_argument("--rows", type=Path, action="append", required=True, help="a CSV of published latencies")
    one.add_argument("--cache", type=Path, default=Path("estimate-cache"), help="folder of counted kernels")
    one.set_defaults(run=judge)
    one = commands.add_parser("networks", help="count the kernels of our own networks")
    one.add_argument("output", type=Path, help="the file to write")
    one.set_defaults(run=networks)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
