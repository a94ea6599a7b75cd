from __future__ import annotations

import random
import sys

import numpy as np
import pytest

from edgeseg.errors import UsageError
from edgeseg.runtime.alarms.evaluate import Measured, Watch
from edgeseg.runtime.alarms.expression import Term
from edgeseg.runtime.alarms.parser import parse
from edgeseg.runtime.alarms.roi import RoiSet
from tests.runtime.results import blocks, segmentation
from tests.runtime.rules.made import CLASSES, ROIS, made_rule, straightforward


@pytest.fixture
def rois() -> RoiSet:
    made = RoiSet(CLASSES)
    made.put("gate", [[0.1, 0.2], [0.7, 0.1], [0.5, 0.9]])
    made.put("left lane", [[0, 0], [0.4, 0], [0.4, 1], [0, 1]])
    return made


def quarters() -> np.ndarray:
    ids = np.zeros((64, 96), np.uint8)
    ids[:32, :48], ids[:32, 48:] = 1, 2
    return ids


@pytest.mark.parametrize(
    ("term", "value"),
    [
        (Term("area", "car"), 0.25),
        (Term("area", "road"), 0.5),
        (Term("area", "car", "top"), 0.5),
        (Term("area", "sky", "top left"), 0.0),
        (Term("area", "car", relative_to="road"), 0.5),
        (Term("area", "car", "top", "sky"), 1.0),
        (Term("area", "car", relative_to="traffic light"), float("inf")),
        (Term("area", "traffic light", relative_to="traffic light"), 0.0),
        (Term("confidence", "sky"), 0.75),
        (Term("change", "car"), 0.15),
    ],
)
def test_what_terms_are(term: Term, value: float) -> None:
    rois = RoiSet(CLASSES)
    rois.put("top", [[0, 0], [1, 0], [1, 0.49], [0, 0.49]])
    rois.put("top left", [[0, 0], [0.49, 0], [0.49, 0.49], [0, 0.49]])
    confidence = np.array([0, 0, 0.75, 0], np.float32)
    result = segmentation(quarters(), confidence=confidence, class_count=4)
    measured = Measured(result, CLASSES, rois, before=np.array([0.5, 0.4, 0.1, 0]))
    assert measured.value(term) == pytest.approx(value)


def test_conditions_hold_when_a_straightforward_count_says_so(rois: RoiSet) -> None:
    """8000 rules on small maps, each pixel counted in Python by the other side."""
    rng, seen = random.Random(1), {True: 0, False: 0}
    results = [
        segmentation(
            blocks(seed, (12, 16), 4 - seed % 2),
            confidence=np.random.default_rng(seed).random(4).astype(np.float32),
            class_count=4,
        )
        for seed in range(20)
    ]
    count = 0
    while count < 8000:
        rule, result = made_rule(rng), results[count % 20]
        if any(term.kind == "change" for term in rule.terms()):
            continue
        holds = Measured(result, CLASSES, rois).holds(rule.condition)
        assert holds == straightforward(rule.condition, result, rois), str(rule)
        seen[holds] += 1
        count += 1
    assert min(seen.values()) > 1000


def test_no_confidence_is_told() -> None:
    rule = parse("confidence(car) > 1%", CLASSES)
    with pytest.raises(UsageError, match="this graph gives no confidence"):
        Measured(segmentation(quarters(), class_count=4), CLASSES, RoiSet()).holds(rule.condition)


def test_work_in_python_does_not_grow_with_the_picture(rois: RoiSet) -> None:
    """Python lines that run for a frame are as many for 8 megapixels as for 200 pixels."""
    text = " or ".join(f"area({name}) in roi(gate) > 101e-2% of roi(road)" for name in ("car", "sky"))
    rule = parse(f"{text} or area(car) > 20% and change(car) > 5%", CLASSES, ROIS)

    def lines(size_hw: tuple[int, int]) -> int:
        result = segmentation(np.zeros(size_hw, np.uint8), class_count=4)
        rois.mask("gate", size_hw)
        count = 0

        def trace(*_: object) -> object:
            nonlocal count
            count += 1
            return trace

        before = sys.gettrace()
        sys.settrace(trace)  # type: ignore[arg-type]
        try:
            Measured(result, CLASSES, rois).holds(rule.condition)
        finally:
            sys.settrace(before)
        return count

    lines((10, 20))
    assert lines((2160, 3840)) == lines((10, 20)) < 300


def steps(text: str, script: str, step_ms: int = 100) -> list[int]:
    """Frames at which the alarm went on or off; ``1`` in the script where the condition holds."""
    watch = Watch(parse(f"area(car) > 1% {text}", CLASSES))
    return [n for n, holds in enumerate(script) if watch.step(holds == "1", n * step_ms * 1_000_000)]


def test_how_long_a_condition_must_hold() -> None:
    assert steps("", "00110100") == [2, 4, 5, 6]
    assert steps("for 3 frames", "0110111100100") == [6, 8]
    assert steps("for 3 frames clear after 2 frames", "0111010011") == [3, 7]
    assert steps("for 0.3 s", "01111110") == [4, 7]
    assert steps("for 0.3 s", "0111011110") == [8, 9]
    assert steps("for 0.3 s", "0110", step_ms=300) == [2, 3]
    assert steps("clear after 0.2 s", "1001000011") == [0, 6, 8]
