"""From a tensor's histogram to its range: percentile, entropy (KL) and mean squared error.

A histogram has ``BINS`` equal bins over [-amax, amax]. Clipping a long tail makes the steps of everything else finer.
"""

from __future__ import annotations

from typing import Callable, Mapping

import numpy as np

from edgeseg.errors import UsageError
from edgeseg.ranges import LEVELS, amax_of

__all__ = ["BINS", "CALIBRATORS", "needs_histogram", "range_from_histogram"]

BINS = 4096
CALIBRATORS = ("minmax", "moving-average", "percentile", "entropy", "mse")
_SHARE = 0.9999


def needs_histogram(calibrator: str) -> bool:
    """Tell whether a calibrator needs a second pass over the images. Raises UsageError for an unknown one."""
    if calibrator not in CALIBRATORS:
        raise UsageError(f"no calibrator {calibrator!r}; there are {', '.join(CALIBRATORS)}")
    return calibrator in _FROM_HISTOGRAM


def range_from_histogram(calibrator: str, counts: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """Return the range that a calibrator gives to a tensor.

    Args:
        calibrator: ``"percentile"``, ``"entropy"`` or ``"mse"``.
        counts: int64 of ``BINS`` bins over [-amax, amax] with amax = max(|low|, |high|).
        low: smallest value seen.
        high: largest value seen.

    Returns:
        (low, high) inside the values seen.
    """
    amax = amax_of(low, high)
    if amax == 0 or not counts.any():
        return low, high
    below, above = _FROM_HISTOGRAM[calibrator](counts.astype(np.float64))
    return max(low, -below * amax), min(high, above * amax)


def _percentile(counts: np.ndarray) -> tuple[float, float]:
    """99.99 % of the values stay inside, half of the rest is cut on either side."""
    shares = np.cumsum(counts) / counts.sum()
    tail = (1 - _SHARE) / 2
    first = int(np.searchsorted(shares, tail))
    last = int(np.searchsorted(shares, 1 - tail))
    edges = np.linspace(-1, 1, BINS + 1)
    return float(-edges[first]), float(edges[min(last, BINS - 1) + 1])


def _entropy(counts: np.ndarray) -> tuple[float, float]:
    """The threshold whose 128-level distribution is nearest to the clipped one (Migacz, GTC 2017, as TensorRT)."""
    magnitudes = _folded(counts)
    # Exact zeros (padding, ReLU) say nothing about the scale; TensorRT leaves the first bin out as well.
    magnitudes[0] = magnitudes[1]
    widths = range(LEVELS + 1, len(magnitudes) + 1, 8)
    best = min(widths, key=lambda width: _divergence(magnitudes, width))
    return (best / len(magnitudes),) * 2


def _divergence(magnitudes: np.ndarray, width: int) -> float:
    """KL divergence between magnitudes clipped to ``width`` bins and the same in 128 levels."""
    clipped = magnitudes[:width].copy()
    kept = clipped > 0
    starts = np.arange(LEVELS + 1) * width // (LEVELS + 1)
    level = np.repeat(np.arange(LEVELS + 1), np.diff(np.append(starts, width)))
    sums = np.add.reduceat(clipped, starts)
    filled = np.add.reduceat(kept.astype(np.float64), starts)
    quantized = np.where(kept, (sums / np.maximum(filled, 1))[level], 0)
    clipped[-1] += magnitudes[width:].sum()
    p, q = clipped / clipped.sum(), quantized / max(quantized.sum(), 1e-12)
    seen = p > 0
    return float((p[seen] * np.log(p[seen] / np.maximum(q[seen], 1e-12))).sum())


def _mse(counts: np.ndarray) -> tuple[float, float]:
    """The threshold with the least expected squared error of rounding and clipping to 127 levels a side."""
    magnitudes = _folded(counts)
    centres = (np.arange(len(magnitudes)) + 0.5) / len(magnitudes)

    def error(threshold: float) -> float:
        step = threshold / LEVELS
        clipped = np.maximum(centres - threshold, 0)
        return float((magnitudes * np.where(clipped > 0, clipped**2, step**2 / 12)).sum())

    thresholds = np.linspace(0.02, 1, 197)
    best = float(thresholds[np.argmin([error(float(threshold)) for threshold in thresholds])])
    return best, best


def _folded(counts: np.ndarray) -> np.ndarray:
    """Histogram of magnitudes: BINS / 2 bins over [0, amax]."""
    half = BINS // 2
    return np.asarray(counts[half:] + counts[:half][::-1])


_FROM_HISTOGRAM: Mapping[str, Callable[[np.ndarray], tuple[float, float]]] = {
    "percentile": _percentile,
    "entropy": _entropy,
    "mse": _mse,
}
