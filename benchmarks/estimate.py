"""Fit the parameters of ``edgeseg estimate`` to published latencies, and say how far its forecasts are off.

    python benchmarks/estimate.py fit --rows ROWS.csv --rows MORE.csv [--parameters OUT.json] [--plot OUT.png]

Columns of ROWS are described in ``estimate_rows.py``. Needs scipy, and torch with torchvision, timm and onnxslim the
first time that a network is built; its kernels are kept in ``--cache``.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any, Callable, Iterable, Sequence

import numpy as np
from estimate_rows import Row, rows_from
from scipy.optimize import least_squares

from edgeseg.device.specifications import ARCHITECTURES
from edgeseg.estimate.law import Parameters, Work, work_of

NAMES = [one.name for one in fields(Parameters)]
START = Parameters(8, 60, 0.6, 0.4, 0.25, 0.65, 0.7, 0.8, 0.5)
"""Where every fit begins, and what a parameter without rows stays at."""
_WIDTH_OF_START, _WIDTH_OF_ARCHITECTURE = 1.0, 0.4
"""Of priors, in logarithms: of what architectures have in common, and of each around it."""
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
        return total + self._frame * values[self._of_row, NAMES.index("frame_cycles")]

    def errors(self, theta: np.ndarray) -> np.ndarray:
        return np.log(self.forecast(theta) / self.measured)


def fitted(evidence: Evidence) -> np.ndarray:
    """Fit all architectures at once; what they have in common steadies those with few rows."""
    start, count, size = np.log([getattr(START, name) for name in NAMES]), len(ARCHITECTURES), len(NAMES)

    def split(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return x[:size], x[size:].reshape(count, size)

    def residuals(x: np.ndarray) -> np.ndarray:
        common, each = split(x)
        rows = evidence.weights * evidence.errors(each) / _SPREAD
        rows = np.sign(rows) * np.sqrt(2 * (np.sqrt(1 + rows**2) - 1))  # soft L1 of the rows alone
        return np.concatenate(
            [rows, (common - start) / _WIDTH_OF_START, ((each - common) / _WIDTH_OF_ARCHITECTURE).ravel()]
        )

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
            slopes[rows + at, at] = 1 / _WIDTH_OF_START
            for arch in range(count):
                place = rows + size + arch * size + at
                slopes[place, at], slopes[place, size + arch * size + at] = (
                    -1 / _WIDTH_OF_ARCHITECTURE,
                    1 / _WIDTH_OF_ARCHITECTURE,
                )
        return slopes

    begin = np.tile(start, count + 1)
    return split(least_squares(residuals, begin, jac=jacobian, max_nfev=60).x)[1]


def left_out(rows: Sequence[Row], key: Callable[[Row], Any]) -> np.ndarray:
    """Return ln(forecast / measured) of every row, by parameters that were fitted without the rows of its key."""
    errors = np.full(len(rows), np.nan)
    for held in sorted({key(row) for row in rows}):
        out = np.array([key(row) == held for row in rows])
        theta = fitted(Evidence([row for row, is_out in zip(rows, out) if not is_out]))
        errors[out] = Evidence([row for row, is_out in zip(rows, out) if is_out]).errors(theta)
    return errors
