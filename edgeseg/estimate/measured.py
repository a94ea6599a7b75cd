"""Sharpen a forecast by a user's own rows: the same network at another size, or on another board.

A time on one board is a line of that on a relative, t = a + b x t: launches and clocks are in a, throughput in b. So is
the time of one network over its pixels.
"""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass, replace
from functools import lru_cache
from io import StringIO
from typing import Any, Callable, Iterator, Mapping, Sequence

import numpy as np

from edgeseg.device.specifications import ARCHITECTURES, JETSONS
from edgeseg.errors import UsageError
from edgeseg.estimate.forecast import PARAMETERS, Forecast, Network, forecast, mode_named

__all__ = ["MeasuredRow", "is_same_network", "line", "on_line", "rows_from_text", "rows_json", "sharpened"]

SCHEMA = 1
_COLUMNS = ("board", "power_mode", "precision", "ms", "model")
_FEWEST = 3
"""Points that a line of two numbers needs, so that one is left to disagree."""
_NETWORKS = 2
"""Networks that a line between two boards needs: sizes of one say nothing of others."""
_ROUNDED = 0.1
"""Share of a network's work that rounding of odd sides may move."""
_APART = 1.5
"""Times that the pixels of two sizes have to differ by for a line through their times."""
_FAR = 4.0
"""Times the pixels of a measured size, beyond which a forecast is as wide as one without rows."""


@dataclass(frozen=True)
class MeasuredRow:
    """A time that a user measured: GPU ms of a network on a board in a power mode."""

    board: str
    mode: str
    precision: str
    ms: float
    network: Network

    @property
    def place(self) -> tuple[str, str, str]:
        """Return what has to agree for two times to be of one machine."""
        return self.board, self.mode, self.precision

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        where = {"board": self.board, "power_mode": self.mode, "precision": self.precision}
        return {**where, "ms": self.ms, "network": self.network.to_json()}


def rows_json(rows: Sequence[MeasuredRow]) -> str:
    """Return the text of a file of rows, which needs no other file."""
    return json.dumps({"schema": SCHEMA, "rows": [row.to_json() for row in rows]}) + "\n"


def rows_from_text(text: str, name: str, read: Callable[[str, str | None], Network]) -> list[MeasuredRow]:
    """Read rows: JSON of ``rows_json``, or CSV with the columns board, power_mode, precision, ms, model (and size).

    Args:
        text: of the file.
        name: of the file.
        read: gives the network of the columns model and size.

    Raises:
        UsageError: it is neither, or a row cannot be used; the message says which.
        EdgesegError: as ``read`` raises.
    """
    try:
        if text.lstrip().startswith("{"):
            return [_row(facts, f"row {at} of {name}", _own_network) for at, facts in _of_json(text, name)]

        def named(facts: Mapping[str, Any]) -> Network:
            return read(facts["model"], facts.get("size") or None)

        return [_row(facts, f"row {at} of {name}", named) for at, facts in _of_table(text, name)]
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError, csv.Error) as error:
        raise UsageError(f"{name} is no file of measured rows: {type(error).__name__} {error}") from error


def _of_json(text: str, name: str) -> list[tuple[int, Mapping[str, Any]]]:
    document = json.loads(text)
    rows = list(enumerate(document["rows"], 1))
    if document["schema"] != SCHEMA:
        raise UsageError(
            f"{name} has rows of schema {document['schema']!r}, this edgeseg reads {SCHEMA}; write it again"
        )
    return rows


def _of_table(text: str, name: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Read a table of cells between commas, semicolons or tabs; where these are no commas, numbers may have one."""
    between = max(",;\t", key=text.lstrip().partition("\n")[0].count)
    table = csv.reader(StringIO(text.lstrip()), delimiter=between)
    head = [column.strip().lower() for column in next(table, [])]
    missing = [column for column in _COLUMNS if column not in head]
    if missing:
        raise UsageError(
            f"{name} has no column {', '.join(missing)}; it needs {', '.join(_COLUMNS)}, and may have size"
        )
    if len(set(head)) < len(head):
        raise UsageError(f"{name} has two columns of one name: {', '.join(head)}")
    at = 0
    for cells in table:
        cells = [cell.strip() for cell in cells]
        if not any(cells):
            continue
        at += 1
        if any(cells[len(head) :]):
            raise UsageError(
                f"row {at} of {name} has {len(cells)} cells for {len(head)} columns; numbers have a point, as in 4.2"
            )
        facts = dict(zip(head, cells))
        empty = [column for column in _COLUMNS if not facts.get(column)]
        if empty:
            raise UsageError(f"row {at} of {name} has no {', '.join(empty)}")
        if between != ",":
            facts["ms"] = facts["ms"].replace(",", ".")
        yield at, facts


def _own_network(facts: Mapping[str, Any]) -> Network:
    return Network.from_json(facts["network"])


def _row(facts: Mapping[str, Any], what: str, network: Callable[[Mapping[str, Any]], Network]) -> MeasuredRow:
    board, precision = str(facts["board"]), str(facts["precision"]).lower()
    if board not in JETSONS:
        raise UsageError(f"{what} names the board {board!r}; there are {', '.join(JETSONS)}")
    kernels = ARCHITECTURES[JETSONS[board].architecture].dense
    if precision not in kernels:
        raise UsageError(f"{what} has the precision {precision!r}; of {JETSONS[board].name} it is {', '.join(kernels)}")
    try:
        ms = float(facts["ms"])
    except (ValueError, OverflowError):
        ms = float("nan")
    if not 0 < ms < 1e6:
        raise UsageError(f"{what} has {facts['ms']!r} ms; a measured time is a number above 0, such as 4.2")
    try:
        mode = mode_named(JETSONS[board], str(facts["power_mode"]))
    except UsageError as error:
        raise UsageError(f"{what}: {error}") from error
    return MeasuredRow(board, mode, precision, ms, network(facts))


def is_same_network(one: Network, other: Network) -> bool:
    """Return whether two graphs are one network, at any two input sizes.

    Kernels have to agree, and their work to grow with the pixels: a stride or a pooling that differs makes it grow
    otherwise. Work may be off by a tenth, since odd sides are rounded at every stride.
    """
    if _structure(one) != _structure(other):
        return False
    share = _pixels(other) / _pixels(one)
    of_one, of_other = (
        np.array([(kernel.macs, kernel.read + kernel.written) for kernel in network.kernels], float)
        for network in (one, other)
    )
    apart = np.abs(of_one * share - of_other).sum(axis=0)
    return bool((apart <= _ROUNDED * of_other.sum(axis=0)).all())


def _structure(network: Network) -> tuple[Any, ...]:
    return tuple((one.kind, one.operators, one.columns, one.depth, one.groups) for one in network.kernels)


def _pixels(network: Network) -> int:
    return network.size_hw[0] * network.size_hw[1]


def line(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Return a and b > 0 of y = a + b x with the least relative errors; a < 0 where x has the larger floor."""
    xs, ys = np.asarray(x, float), np.asarray(y, float)
    design, ones = np.stack([1 / ys, xs / ys], axis=1), np.ones(len(ys))
    a, b = np.linalg.lstsq(design, ones, rcond=None)[0]
    if b > 0:
        return float(a), float(b)
    return 0.0, float(np.median(ys / xs))


def on_line(law: tuple[float, float], x: float) -> float:
    """Return a + b x; below the measured points a line may fall to nothing, and no time does."""
    a, b = law
    return max(a + b * x, 0.2 * b * x)


@dataclass(frozen=True)
class Relative:
    """Law between two boards that was fitted to published rows: t = a + b x t, with the band of its errors."""

    a: float
    b: float
    band: tuple[float, float]


@lru_cache(maxsize=None)
def _facts() -> Any:
    return json.loads(PARAMETERS.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class _Known:
    """A time that rows give, factors on it between which it is, and what there is to say of it."""

    ms: float
    band: tuple[float, float]
    remark: str = ""


def sharpened(network: Network, now: Forecast, rows: Sequence[MeasuredRow]) -> Forecast:
    """Return a forecast that a user's rows make better; as it was where none of them says anything of it.

    The best of these is taken: the network on this board, at any size; the network on another board, by the line
    between the two. Rows of other networks on this board alone do not help: they made published rows worse.
    """
    place = (now.board, now.mode, now.precision)
    mine = [row for row in rows if is_same_network(row.network, network)]
    here = _on(network, [row for row in mine if row.place == place])
    if here is not None:
        low, high = _facts()["sharpened"]["size"]
        band = (min(low, here.band[0]), max(high, here.band[1]))
        found = _banded(now, here.ms, band, f"this network measured on {_named(place)}{here.remark}")
        return replace(found, is_measured=True)
    found_by = [one for one in (_over(network, now, mine, rows, other) for other in _places(mine)) if one is not None]
    return min(found_by, key=lambda one: one.high_ms / one.low_ms, default=now)


def _places(rows: Sequence[MeasuredRow]) -> list[tuple[str, str, str]]:
    return sorted({row.place for row in rows})


def _named(place: tuple[str, str, str]) -> str:
    return f"{JETSONS[place[0]].name}, {place[1]}, {place[2].upper()}"


def _on(network: Network, rows: Sequence[MeasuredRow]) -> _Known | None:
    """Return the time of a network at its size from rows of it on one machine: measured, or a line of its pixels.

    A line is drawn between sizes that lie apart, and as far beyond them as they do. Else the law carries the time of
    the nearest size over.
    """
    if not rows:
        return None
    exact = [row for row in rows if row.network.size_hw == network.size_hw]
    if exact:
        return _one_size(exact)
    pixels, asked = [_pixels(row.network) for row in rows], _pixels(network)
    least, most = min(pixels), max(pixels)
    spread = most / least
    a, b = line([one / 1e6 for one in pixels], [row.ms for row in rows])
    is_rising = float(np.polyfit(pixels, [row.ms for row in rows], 1)[0]) > 0 if spread > 1 else True
    if spread >= _APART and is_rising and least / spread <= asked <= most * spread:
        return _off_line(rows, (a, b), asked / 1e6)
    nearest = min(rows, key=lambda row: abs(math.log(_pixels(row.network) / asked))).network
    known = _one_size([row for row in rows if row.network.size_hw == nearest.size_hw])
    place = rows[0].place
    law = forecast(network, *place)
    distance = max(asked / _pixels(nearest), _pixels(nearest) / asked)
    band = _facts()["sharpened"]["ratio"] if distance <= _FAR else (law.low_ms / law.gpu_ms, law.high_ms / law.gpu_ms)
    remark = f"{known.remark}, at {nearest.size_hw[1]}x{nearest.size_hw[0]} alone as far as this size goes"
    remark += "" if is_rising else " (its times fall with the size: measure them again)"
    return _Known(known.ms * law.gpu_ms / forecast(nearest, *place).gpu_ms, _times(known.band, band), remark)


def _one_size(rows: Sequence[MeasuredRow]) -> _Known:
    """Return the time of rows of one size, as wide as they are apart."""
    times = [row.ms for row in rows]
    ms = float(np.median(times))
    remark = ""
    if max(times) > _APART * min(times):
        remark = f" (its rows contradict each other: {min(times):g} to {max(times):g} ms; measure it again)"
    return _Known(ms, (min(times) / ms, max(times) / ms), remark)


def _off_line(rows: Sequence[MeasuredRow], law: tuple[float, float], megapixels: float) -> _Known:
    """Return the time on a line of the pixels, as wide as the rows lie off it."""
    off = [row.ms / on_line(law, _pixels(row.network) / 1e6) for row in rows]
    low, high = _facts()["sharpened"]["size"]
    remark = f" at {len({row.network.size_hw for row in rows})} other sizes"
    if max(off) > _APART * min(off):
        remark += " (its rows contradict each other; measure it again)"
    return _Known(on_line(law, megapixels), (min(low, *off), max(high, *off)), remark)


def _times(one: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    return one[0] * other[0], one[1] * other[1]


def _over(
    network: Network,
    now: Forecast,
    mine: Sequence[MeasuredRow],
    rows: Sequence[MeasuredRow],
    other: tuple[str, str, str],
) -> Forecast | None:
    """Return a forecast by way of another machine on which the network was measured."""
    there = _on(network, [row for row in mine if row.place == other])
    if there is None:
        return None
    place, what = (now.board, now.mode, now.precision), f"this network measured on {_named(other)}{there.remark}"

    def by(ms: float, band: Sequence[float], basis: str) -> Forecast:
        return _banded(now, ms, _times(there.band, band), basis)

    known_bands = _facts()["sharpened"]
    both = _measured_on_both(rows, other, place)
    if len(both) >= _FEWEST:
        law = line([x for x, _ in both], [y for _, y in both])
        basis = f"{what}, and {len(both)} times measured on both boards"
        return by(on_line(law, there.ms), known_bands["both"], basis)
    published = _published(other, place)
    if published is not None:
        (from_mode, to_mode), known = published
        from_ms = there.ms * _share(network, other, from_mode)
        ms = on_line((known.a, known.b), from_ms) / _share(network, place, to_mode)
        return by(ms, known.band, f"{what}, and the published law between the two boards")
    return by(there.ms * now.gpu_ms / forecast(network, *other).gpu_ms, known_bands["ratio"], what)


def _measured_on_both(
    rows: Sequence[MeasuredRow], one: tuple[str, str, str], other: tuple[str, str, str]
) -> list[tuple[float, float]]:
    """Return times of networks on two machines; none where they are of fewer networks than a line needs."""
    times: dict[tuple[str, str, str], dict[Any, list[float]]] = {one: {}, other: {}}
    for row in rows:
        if row.place in times:
            work = tuple((kernel.macs, kernel.read, kernel.written) for kernel in row.network.kernels)
            key = (_structure(row.network), work, row.network.size_hw)
            times[row.place].setdefault(key, []).append(row.ms)
    shared = [key for key in times[one] if key in times[other]]
    if len({structure for structure, _, _ in shared}) < _NETWORKS:
        return []
    return [(float(np.median(times[one][key])), float(np.median(times[other][key]))) for key in shared]


def _published(one: tuple[str, str, str], other: tuple[str, str, str]) -> tuple[tuple[str, str], Relative] | None:
    """Return the law between two boards in the modes that its rows are of; None where there is none."""
    for law in _facts()["relatives"]:
        if (law["from"], law["to"], law["precision"]) == (one[0], other[0], one[2]) and one[2] == other[2]:
            low, high = law["band"]
            return (law["from_mode"], law["to_mode"]), Relative(law["a"], law["b"], (low, high))
    return None


def _share(network: Network, place: tuple[str, str, str], mode: str) -> float:
    """Return how many times as long a frame takes in another mode of the same board."""
    board, now, precision = place
    if mode == now:
        return 1.0
    return forecast(network, board, mode, precision).gpu_ms / forecast(network, board, now, precision).gpu_ms


def _banded(now: Forecast, ms: float, band: tuple[float, float], basis: str) -> Forecast:
    """Put another time in the place of a forecast's; its layers share it as they shared the first."""
    low, high = band
    layers = tuple(replace(layer, ms=layer.ms * ms / now.gpu_ms) for layer in now.layers)
    return replace(now, gpu_ms=ms, low_ms=ms * low, high_ms=ms * high, layers=layers, basis=basis)
