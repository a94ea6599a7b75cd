"""Losses against a few lines of numpy, with void in the labels."""

from __future__ import annotations

import math
from typing import Any, Callable

import numpy as np
import pytest
import torch

from edgeseg.builder.losses import LOSSES, Criterion, criterion_from_text
from edgeseg.errors import UsageError
from edgeseg.spec import IGNORE_ID

C = 4
RNG = np.random.default_rng(3)
LOGITS = RNG.normal(0, 2, (2, C, 9, 7)).astype(np.float32)
LABELS = RNG.integers(0, C - 1, (2, 9, 7))  # the last class does not occur
LABELS[0, :4] = IGNORE_ID
LABELS[1, 2, 3] = IGNORE_ID
WEIGHTS = np.array([0.5, 1.0, 3.0, 2.0])


def flat() -> tuple[np.ndarray, np.ndarray]:
    """Logits (P, C) float64 and labels (P,) of the pixels that count."""
    counted = LABELS != IGNORE_ID
    return np.moveaxis(LOGITS, 1, -1)[counted].astype(np.float64), LABELS[counted]


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def cross_entropy(smoothing: float = 0.0, keep: float = 1.0, weights: np.ndarray = np.ones(C)) -> float:
    logits, labels = flat()
    logs = np.log(softmax(logits))
    of_label = weights[labels]
    each = -(1 - smoothing) * of_label * logs[np.arange(len(labels)), labels] - smoothing / C * logs @ weights
    hardest = np.argsort(-each, kind="stable")[: max(1, round(keep * len(each)))]
    return float(each[hardest].sum() / of_label[hardest].sum())


def overlap(alpha: float, beta: float, smooth: float = 0.0, log: bool = False, first: int = 0) -> float:
    """Dice is 0.5 and 0.5, Jaccard 1 and 1. smp: TP is the sum of min(p, t); an absent class adds 0."""
    logits, labels = flat()
    found, truth = softmax(logits), np.eye(C)[labels]
    hits = (found * truth).sum(0)
    score = (hits + smooth) / (hits + alpha * (found.sum(0) - hits) + beta * (truth.sum(0) - hits) + smooth)
    each = (-np.log(np.maximum(score, 1e-7)) if log else 1 - score) * (truth.sum(0) > 0)
    return float(each[first:].mean())


def focal(gamma: float) -> float:
    logits, labels = flat()
    right = np.where(np.eye(C)[labels] > 0, 1 / (1 + np.exp(-logits)), 1 / (1 + np.exp(logits)))
    return float((-((1 - right) ** gamma) * np.log(right)).mean())


def lovasz() -> float:
    """The Jaccard index's Lovasz extension (Berman 2018, algorithm 1)."""
    logits, labels = flat()
    losses = []
    for index in np.unique(labels):
        truth = (labels == index).astype(float)
        errors = np.abs(truth - softmax(logits)[:, index])
        order = np.argsort(-errors)
        left, false = truth.sum() - truth[order].cumsum(), (1 - truth[order]).cumsum()
        losses.append(errors[order] @ np.diff(1 - left / (truth.sum() + false), prepend=0))
    return float(np.mean(losses))


def value(text: str, weights: np.ndarray = np.ones(C), progress: float = 0.0) -> float:
    criterion = criterion_from_text(text, C)
    criterion.weights.copy_(torch.from_numpy(weights))
    criterion.progress = progress
    return float(criterion(torch.from_numpy(LOGITS), torch.from_numpy(LABELS)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ce", lambda: cross_entropy()),
        ("ce(smoothing=0.1)", lambda: cross_entropy(smoothing=0.1)),
        ("ce(keep=0.3)", lambda: cross_entropy(keep=0.3)),
        ("dice", lambda: overlap(0.5, 0.5)),
        ("dice(smooth=1)", lambda: overlap(0.5, 0.5, smooth=1)),
        ("dice(smooth=1e-5,log)", lambda: overlap(0.5, 0.5, smooth=1e-5, log=True)),
        ("dice(foreground)", lambda: overlap(0.5, 0.5, first=1)),
        ("tversky", lambda: overlap(0.3, 0.7)),
        ("tversky(alpha=0.2, beta=0.9, gamma=0.5)", lambda: overlap(0.2, 0.9) ** 0.5),
        ("jaccard", lambda: overlap(1, 1)),
        ("jaccard(log=true)", lambda: overlap(1, 1, log=True)),
        ("focal", lambda: focal(2)),
        ("focal(gamma=0.5)", lambda: focal(0.5)),
        ("lovasz", lovasz),
        (
            "ce + 0.5*dice(smooth=1) + 2e-1*lovasz",
            lambda: cross_entropy() + 0.5 * overlap(0.5, 0.5, 1) + 0.2 * lovasz(),
        ),
    ],
)
def test_every_loss_is_that_of_numpy_and_void_counts_nowhere(text: str, expected: Callable[[], float]) -> None:
    assert value(text) == pytest.approx(expected(), rel=2e-5)


def test_every_loss_of_the_table_was_tested() -> None:
    mark: Any = test_every_loss_is_that_of_numpy_and_void_counts_nowhere.pytestmark[0]  # type: ignore[attr-defined]
    assert set(LOSSES) == {text.partition("(")[0] for text, _ in mark.args[1] if "*" not in text}


@pytest.mark.parametrize("name", LOSSES)
def test_void_has_no_gradient_and_halves_are_computed_as_floats(name: str) -> None:
    logits = torch.from_numpy(LOGITS).requires_grad_()
    loss = criterion_from_text(name, C)(logits, torch.from_numpy(LABELS))
    loss.backward()
    assert logits.grad is not None
    void = torch.from_numpy(LABELS == IGNORE_ID)
    assert not logits.grad.movedim(1, -1)[void].any() and logits.grad.movedim(1, -1)[~void].any(1).all()
    halves = criterion_from_text(name, C)(logits.detach().to(torch.bfloat16), torch.from_numpy(LABELS))
    assert halves.dtype == torch.float32 and float(halves) == pytest.approx(loss.item(), rel=0.02)


def test_weights_of_classes_hold_in_cross_entropy() -> None:
    assert value("ce", WEIGHTS) == pytest.approx(cross_entropy(weights=WEIGHTS), rel=1e-5)
    smooth = cross_entropy(smoothing=0.2, keep=0.5, weights=WEIGHTS)
    assert value("ce(smoothing=0.2,keep=0.5)", WEIGHTS) == pytest.approx(smooth, rel=1e-5)


def test_the_hardest_pixels_alone_count_only_later() -> None:
    text = "ce(keep=0.3,after=0.4)"
    assert value(text, progress=0.39) == pytest.approx(cross_entropy(), rel=1e-5)
    assert value(text, progress=0.4) == pytest.approx(cross_entropy(keep=0.3), rel=1e-5)


def test_an_image_of_nothing_but_void_adds_nothing_to_lovasz_per_image() -> None:
    logits, labels = torch.from_numpy(LOGITS), torch.from_numpy(LABELS).clone()
    labels[0] = IGNORE_ID
    per_image = criterion_from_text("lovasz(per_image)", C)
    assert float(per_image(logits, labels)) == pytest.approx(float(per_image(logits[1:], labels[1:])))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dise", r"`loss` has no 'dise'; did you mean dice\? there are ce, dice, focal, jaccard, lovasz, tversky"),
        ("ce+lovaz", "did you mean lovasz"),
        (
            "dice(smoth=1)",
            r"`loss dice` has no setting 'smoth'; did you mean smooth\? there are smooth, log, foreground",
        ),
        ("dice(smooth=x)", "the smooth of dice is a number, got 'x'"),
        ("dice(log=3)", r"has dice\(log=3\); log is true or false"),
        ("ce(keep=0)", "the keep of ce is a number from 1e-06 to 1, got 0"),
        ("focal(gamma=-1)", "the gamma of focal is a number of at least 0, got -1"),
        ("dice(smooth=nan)", "the smooth of dice is a number of at least 0, got nan"),
        ("0*ce", "has the factor 0; a factor is above 0"),
        ("nan*ce", "has the factor nan"),
        ("x*ce", "the factor of loss is a number, got 'x'"),
        ("ce+", "is a sum such as ce.*got '' in it"),
        ("", "is a sum such as"),
        ("ce(", "is a sum such as"),
    ],
)
def test_a_wrong_loss_is_told_what_is_right(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        criterion_from_text(text, C)
    assert "\n" not in str(caught.value)


def test_a_criterion_is_no_part_of_the_state() -> None:
    assert isinstance(criterion_from_text("ce", C), Criterion) and not criterion_from_text("ce", C).state_dict()
    assert math.isfinite(value("ce"))
