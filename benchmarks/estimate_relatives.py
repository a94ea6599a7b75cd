"""How well rows of a user's own would sharpen forecasts: published rows play the user's.

Every number is of networks of families that the line between two boards, or the law, was not fitted to.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import Any, Iterator, Sequence

import numpy as np
from estimate_rows import Row

from edgeseg.estimate.measured import line, on_line

_SIZES = (320, 640)
"""Sides at which the user is taken to have measured."""
_POINTS = 30
"""Published times in common that a line between two boards needs to be shipped."""

Place = tuple[str, str]
Times = dict[Place, dict[tuple[str, int], tuple[Row, float]]]
"""Board and mode -> network and side -> a row and its forecast by the law."""


def times_of(rows: Sequence[Row], forecasts: np.ndarray, precision: str = "fp16") -> Times:
    """Group the rows of sources that measured several sizes on several boards."""
    by_source: dict[str, list[tuple[Row, float]]] = defaultdict(list)
    for row, ms in zip(rows, forecasts):
        if row.precision == precision and row.batch == 1:
            by_source[row.source.split("@")[0]].append((row, float(ms)))
    found: Times = defaultdict(dict)
    largest = max(by_source.values(), key=len)
    for row, ms in largest:
        found[row.board, row.mode][row.model, row.size_hw[0]] = (row, ms)
    return found


def published_laws(times: Times) -> list[dict[str, Any]]:
    """Fit t = a + b x t for every pair of boards; the band is of families that a line was not fitted to."""
    laws = []
    for one, other in itertools.permutations(times, 2):
        keys = sorted(set(times[one]) & set(times[other]))
        if len(keys) < _POINTS:
            continue
        x, y = (np.array([times[place][key][0].measured_ms for key in keys]) for place in (one, other))
        families = np.array([times[one][key][0].family for key in keys])
        ratios = np.full(len(keys), np.nan)
        for family in sorted(set(families)):
            out = families == family
            law = line(x[~out], y[~out])
            ratios[out] = y[out] / [on_line(law, one) for one in x[out]]
        a, b = line(x, y)
        laws.append(
            {
                "from": one[0],
                "from_mode": one[1],
                "to": other[0],
                "to_mode": other[1],
                "precision": "fp16",
                "a": round(a, 4),
                "b": round(b, 5),
                "band": [round(float(np.quantile(ratios, share)), 3) for share in (0.1, 0.9)],
                "points": len(keys),
                "median_error": round(float(np.median(np.abs(1 / ratios - 1))), 4),
            }
        )
    return laws


def sharpened_ratios(times: Times) -> dict[str, np.ndarray]:
    """Return measured / forecast by what a user has measured: size, both and ratio, as ``sharpened`` names it."""
    return {
        "size": np.array(list(_by_size(times))),
        "both": np.array(list(_by_both(times))),
        "ratio": np.array(list(_by_ratio(times))),
    }


def _by_size(times: Times) -> Iterator[float]:
    for rows in times.values():
        for model in sorted({model for model, _ in rows}):
            if all((model, side) in rows for side in _SIZES):
                law = line([side**2 for side in _SIZES], [rows[model, side][0].measured_ms for side in _SIZES])
                for (name, side), (row, _) in rows.items():
                    if name == model and side not in _SIZES:
                        yield row.measured_ms / on_line(law, side**2)


def _by_both(times: Times) -> Iterator[float]:
    """Two networks at two sizes measured on both boards, and the network in question on the first alone."""
    for one, other in itertools.permutations(times, 2):
        for anchors, keys in _anchored(times, one, other):
            x, y = ([times[place][key][0].measured_ms for key in anchors] for place in (one, other))
            law = line(x, y)
            for key in keys:
                yield times[other][key][0].measured_ms / on_line(law, times[one][key][0].measured_ms)


def _by_ratio(times: Times) -> Iterator[float]:
    for one, other in itertools.permutations(times, 2):
        for key in set(times[one]) & set(times[other]):
            (before, forecast_before), (after, forecast_after) = times[one][key], times[other][key]
            yield after.measured_ms / (before.measured_ms * forecast_after / forecast_before)


def _anchored(times: Times, one: Place, other: Place) -> Iterator[tuple[list[Any], list[Any]]]:
    """Yield two networks at two sizes, and the times of networks of other families than theirs."""
    common = set(times[one]) & set(times[other])
    families = {model: times[one][model, side][0].family for model, side in common}
    whole = sorted(model for model in families if all((model, side) in common for side in _SIZES))
    for pair in itertools.combinations(whole, 2):
        held = [key for key in sorted(common) if families[key[0]] not in {families[model] for model in pair}]
        if held:
            yield [(model, side) for model in pair for side in _SIZES], held


def relatives_report(laws: Sequence[dict[str, Any]], ratios: dict[str, np.ndarray]) -> list[str]:
    """Return the lines of a Markdown report."""
    what = {
        "size": "the network itself at two sizes on the board; other sizes",
        "both": "two networks at two sizes on both boards, the network on one",
        "ratio": "the network on another board alone, of any kind",
    }
    lines = ["| measured | forecasts | median error % | P90 % |", "|---|---|---|---|"]
    for name, values in ratios.items():
        off = np.abs(1 / values - 1)
        lines.append(
            f"| {what[name]} | {len(values)} | {100 * np.median(off):.1f} | {100 * np.quantile(off, 0.9):.0f} |"
        )
    lines += ["", "| from | to | points | a ms | b | median error %, other families |", "|---|---|---|---|---|---|"]
    for one in laws:
        ends = f"{one['from']} {one['from_mode']} | {one['to']} {one['to_mode']}"
        lines.append(f"| {ends} | {one['points']} | {one['a']} | {one['b']} | {100 * one['median_error']:.1f} |")
    return lines
