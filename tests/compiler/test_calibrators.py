"""From a histogram to a range: what each calibrator clips, by examples whose answer is known otherwise."""

from __future__ import annotations

import numpy as np
import pytest

from edgeseg.compiler.calibration.calibrators import BINS, range_from_histogram


def histogram_of(values: np.ndarray, amax: float) -> np.ndarray:
    return np.histogram(values, BINS, (-amax, amax))[0]


def test_a_lonely_outlier_is_clipped_and_the_bulk_is_not() -> None:
    values = np.append(np.random.default_rng(0).normal(size=1_000_000), 100.0)
    for calibrator in ("percentile", "entropy", "mse"):
        low, high = range_from_histogram(calibrator, histogram_of(values, 100.0), float(values.min()), 100.0)
        assert 2.5 < high < 20, calibrator
        assert low >= values.min()


def test_a_uniform_tensor_is_hardly_clipped() -> None:
    values = np.random.default_rng(0).uniform(-1, 1, 1_000_000)
    for calibrator in ("percentile", "entropy", "mse"):
        low, high = range_from_histogram(calibrator, histogram_of(values, 1.0), -1.0, 1.0)
        assert high > 0.97 and low < -0.97, calibrator


def test_the_mse_range_has_the_least_error() -> None:
    """Against brute force on the values themselves."""
    values = np.random.default_rng(1).laplace(size=200_000)
    amax = float(np.abs(values).max())
    _, high = range_from_histogram("mse", histogram_of(values, amax), -amax, amax)

    def error(threshold: float) -> float:
        step = threshold / 127
        return float(((np.clip(np.rint(values / step), -127, 127) * step - values) ** 2).mean())

    assert error(high) < 1.02 * min(error(t) for t in np.linspace(0.1 * amax, amax, 60))


def test_the_mse_range_balances_rounding_and_clipping() -> None:
    """N values near zero and one at amax: N (t / 127)^2 / 12 + (amax - t)^2 is least at amax / (1 + N / 12 / 127^2)."""
    for share in (0.25, 0.5, 0.75):
        counts = np.zeros(BINS, np.int64)
        counts[BINS // 2] = round(12 * 127**2 * (1 / share - 1))
        counts[-1] = 1
        low, high = range_from_histogram("mse", counts, -8.0, 8.0)
        assert high == pytest.approx(8 * share) and low == -high


def test_the_percentile_keeps_the_bin_in_which_it_lies() -> None:
    counts = np.zeros(BINS, np.int64)
    counts[BINS // 2] = 100_000 - 16
    counts[[10, 20, -21, -11]] = 4  # 0.004 % in the outer bins, 0.008 % up to the inner ones; 0.005 % may go
    low, high = range_from_histogram("percentile", counts, -1.0, 1.0)
    assert (low, high) == pytest.approx((-1 + 20 / (BINS // 2), 1 - 20 / (BINS // 2)))
    counts[[0, -1]] = 100_000
    assert range_from_histogram("percentile", counts, -1.0, 1.0) == (-1.0, 1.0)


def _migacz(counts: np.ndarray) -> float:
    """The share of amax that the pseudocode of "8-bit Inference with TensorRT" chooses, over every eighth threshold."""
    bins = list(counts[BINS // 2 :] + counts[: BINS // 2][::-1])
    bins[0] = bins[1]
    best, least = 0, np.inf
    for width in range(128, len(bins) + 1, 8):
        reference = bins[:width]
        reference[-1] += sum(bins[width:])
        candidate = np.zeros(width)
        for level in range(128):
            first, end = level * width // 128, (level + 1) * width // 128
            held = [at for at in range(first, end) if bins[at]]
            candidate[held] = sum(bins[first:end]) / max(len(held), 1)
        p, q = np.array(reference) / sum(reference), candidate / max(candidate.sum(), 1e-12)
        divergence = sum(a * np.log(a / max(b, 1e-12)) for a, b in zip(p, q) if a)
        if divergence < least:
            best, least = width, divergence
    return best / len(bins)


@pytest.mark.parametrize("kind", ["bell", "tail", "sparse", "steps", "positive", "near zero"])
def test_the_entropy_range_is_that_of_the_published_algorithm(kind: str) -> None:
    rng = np.random.default_rng(3)
    values = {
        "bell": rng.normal(size=100_000),
        "tail": np.append(rng.laplace(size=50_000), rng.uniform(-30, 30, 40)),
        "sparse": np.random.default_rng(3).laplace(size=300),
        "steps": np.rint(rng.laplace(size=5_000) * 40) / 40,
        "positive": np.maximum(rng.normal(size=20_000), 0),
        "near zero": np.append(rng.uniform(-0.5, 1, 20_000) ** 9, np.full(20_000, 1.5 / (BINS // 2))),
    }[kind]
    amax = float(np.abs(values).max())
    counts = histogram_of(values, amax)
    _, high = range_from_histogram("entropy", counts, -amax, amax)
    assert high == pytest.approx(_migacz(counts) * amax)


def test_tensors_of_zeros_keep_their_range() -> None:
    for calibrator in ("percentile", "entropy", "mse"):
        assert range_from_histogram(calibrator, np.zeros(BINS, np.int64), 0.0, 0.0) == (0.0, 0.0)
        assert range_from_histogram(calibrator, np.zeros(BINS, np.int64), -1.0, 2.0) == (-1.0, 2.0)
        assert range_from_histogram(calibrator, np.ones(BINS, np.int64), 0.0, 0.0) == (0.0, 0.0)
