"""Sharpen a forecast by a user's own rows: the same network at another size, or on another board.

A time on one board is a line of that on a relative, t = a + b x t: launches and clocks are in a, throughput in b. So is
the time of one network over its pixels.
"""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import dataclass, replace
from functools import lru_cache
from io import StringIO
from typing import Any, Callable, Iterator, Mapping, Sequence

import numpy as np

from edgeseg.device.specifications import ARCHITECTURES, JETSONS
from edgeseg.errors import UsageError
from edgeseg.estimate.forecast import PARAMETERS, Forecast, Network, forecast, mode_named

__all__ = ["MeasuredRow", "fingerprint", "line", "on_line", "rows_from_text", "rows_json", "sharpened"]

SCHEMA = 1
_COLUMNS = ("board", "power_mode", "precision", "ms", "model")
_FEWEST = 3
"""Points that a line of two numbers needs, so that one is left to disagree."""


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


def fingerprint(network: Network) -> str:
    """Return what tells a network from others at any input size: the products of its kernels."""
    products = [(k.kind, k.columns, k.depth, k.groups) for k in network.kernels if k.macs]
    return hashlib.sha256(repr(products).encode()).hexdigest()


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


def sharpened(network: Network, now: Forecast, rows: Sequence[MeasuredRow]) -> Forecast:
    """Return a forecast that a user's rows make better; as it was where none of them says anything of it.

    The best of these is taken: the network on this board, at any size; the network on another board, by the line
    between the two. Rows of other networks on this board alone do not help: they made published rows worse.
    """
    place = (now.board, now.mode, now.precision)
    mine = [row for row in rows if fingerprint(row.network) == fingerprint(network)]
    here = _on(network, [row for row in mine if row.place == place])
    if here is not None:
        return _with(now, here, "size", f"this network measured on {_named(place)}")
    found = [one for one in (_over(network, now, mine, rows, other) for other in _places(mine)) if one is not None]
    return min(found, key=lambda one: one.high_ms / one.low_ms, default=now)


def _places(rows: Sequence[MeasuredRow]) -> list[tuple[str, str, str]]:
    return sorted({row.place for row in rows})


def _named(place: tuple[str, str, str]) -> str:
    return f"{JETSONS[place[0]].name}, {place[1]}, {place[2].upper()}"


def _on(network: Network, rows: Sequence[MeasuredRow]) -> float | None:
    """Return the time of a network at its size from rows of it on one machine: measured, or a line of its pixels."""
    if not rows:
        return None
    exact = [row.ms for row in rows if row.network.size_hw == network.size_hw]
    if exact:
        return float(np.median(exact))
    pixels = [row.network.size_hw[0] * row.network.size_hw[1] / 1e6 for row in rows]
    height, width = network.size_hw
    if len(set(pixels)) > 1:
        return on_line(line(pixels, [row.ms for row in rows]), height * width / 1e6)
    share = forecast(network, *rows[0].place).gpu_ms / forecast(rows[0].network, *rows[0].place).gpu_ms
    return float(np.median([row.ms for row in rows])) * share


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
    place, what = (now.board, now.mode, now.precision), f"this network measured on {_named(other)}"
    both = _measured_on_both(rows, other, place)
    if len(both) >= _FEWEST:
        law = line([x for x, _ in both], [y for _, y in both])
        return _with(now, on_line(law, there), "both", f"{what}, and {len(both)} times measured on both boards")
    published = _published(other, place)
    if published is not None:
        (from_mode, to_mode), known = published
        from_ms = there * _share(network, other, from_mode)
        ms = on_line((known.a, known.b), from_ms) / _share(network, place, to_mode)
        return _banded(now, ms, known.band, f"{what}, and the published law between the two boards")
    return _with(now, there * now.gpu_ms / forecast(network, *other).gpu_ms, "ratio", what)


def _measured_on_both(
    rows: Sequence[MeasuredRow], one: tuple[str, str, str], other: tuple[str, str, str]
) -> list[tuple[float, float]]:
    times: dict[tuple[str, str, str], dict[Any, list[float]]] = {one: {}, other: {}}
    for row in rows:
        if row.place in times:
            times[row.place].setdefault((fingerprint(row.network), row.network.size_hw), []).append(row.ms)
    pairs = [(ms, times[other][key]) for key, ms in times[one].items() if key in times[other]]
    return [(float(np.median(here)), float(np.median(there))) for here, there in pairs]


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


def _with(now: Forecast, ms: float, how: str, basis: str) -> Forecast:
    low, high = _facts()["sharpened"][how]
    return _banded(now, ms, (low, high), basis)


def _banded(now: Forecast, ms: float, band: tuple[float, float], basis: str) -> Forecast:
    """Put another time in the place of a forecast's; its layers share it as they shared the first."""
    low, high = band
    layers = tuple(replace(layer, ms=layer.ms * ms / now.gpu_ms) for layer in now.layers)
    return replace(now, gpu_ms=ms, low_ms=ms * low, high_ms=ms * high, layers=layers, basis=basis)
