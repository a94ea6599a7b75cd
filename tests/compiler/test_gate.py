from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from edgeseg.bundle import Bundle
from edgeseg.compiler.step_cache import StepCache
from edgeseg.compiler.verify.gate import agreements, labelled_sha256, measured_accuracy, refusals
from edgeseg.demo.street import StreetDataset
from edgeseg.images import InMemory, Sample
from edgeseg.report_data import Accuracy, Limits
from tests.engines.tensorrt.tiny import run_onnx_all, tiny_bundle, tiny_frames

FP32 = Accuracy(10, 1.0, 1.0, 0.70, 0.9, {"road": 0.9, "pole": 0.5, "absent": math.nan})


def _int8(
    agreement: float = 0.99, miou: float = 0.70, road: float = 0.9, pole: float = 0.5, boundary: float = 0.9
) -> Accuracy:
    return Accuracy(10, agreement, boundary, miou, 0.9, {"road": road, "pole": pole, "absent": math.nan})


def test_equal_graphs_pass() -> None:
    assert refusals(FP32, _int8(), Limits()) == []


def test_mean_and_worst_class_are_judged_apart() -> None:
    (mean,) = refusals(FP32, _int8(miou=0.685), Limits())
    assert mean == "mIoU fell by 1.50 points (70.00 -> 68.50), allowed 1.00"
    (worst,) = refusals(FP32, _int8(road=0.93, pole=0.46), Limits())
    assert worst == "class 'pole' fell by 4.00 points (50.00 -> 46.00), allowed 3.00"


def test_what_is_just_allowed_passes() -> None:
    """In halves, which floats hold exactly."""
    limits = Limits(max_drop=0.25, max_class_drop=0.5, min_agreement=0.75, min_boundary_agreement=0.5)
    before = Accuracy(4, 1.0, 1.0, 0.75, 0.9, {"road": 1.0})
    assert refusals(before, Accuracy(4, 0.75, 0.5, 0.5, 0.9, {"road": 0.5}), limits) == []
    told = refusals(before, Accuracy(4, 0.5, 0.25, 0.25, 0.9, {"road": 0.25}), limits)
    assert told == [
        "mIoU fell by 50.00 points (75.00 -> 25.00), allowed 25.00",
        "class 'road' fell by 75.00 points (100.00 -> 25.00), allowed 50.00",
        "only 50.00 % of pixels agree with FP32, 75.00 % are needed",
        "only 25.00 % of pixels at class boundaries agree with FP32, 50.00 % are needed",
    ]


def test_agreement_is_judged_without_labels() -> None:
    unlabelled = Accuracy(10, 1.0, 1.0, math.nan, math.nan, {"road": math.nan, "pole": math.nan})
    assert refusals(unlabelled, Accuracy(10, 0.97, 0.9, math.nan, math.nan, unlabelled.iou), Limits()) == []
    (reason,) = refusals(unlabelled, Accuracy(10, 0.5, 0.9, math.nan, math.nan, unlabelled.iou), Limits())
    assert reason == "only 50.00 % of pixels agree with FP32, 95.00 % are needed"


def test_a_graph_that_gives_nan_is_refused() -> None:
    assert len(refusals(FP32, _int8(agreement=math.nan, miou=math.nan, road=math.nan), Limits())) >= 2


def test_poor_is_hardly_better_than_one_class_everywhere() -> None:
    """For two classes with one in 5 % of the pixels 47.5 is nothing; for a hundred classes 15 is something."""
    for commonest, miou, poor in ((0.475, 0.475, True), (0.475, 0.52, True), (0.475, 0.60, False), (0.01, 0.15, False),
                                  (0.03, 0.05, True), (math.nan, math.nan, False)):  # fmt: skip
        accuracy = Accuracy(4, 1.0, 1.0, miou, 0.9, {"road": miou}, "road", commonest)
        assert accuracy.is_poor is poor, (commonest, miou)


def test_the_score_of_one_class_everywhere_is_that_of_a_graph_that_does_so(shipped: Bundle) -> None:
    """Counted by another way: a prediction of the commonest class against the same labels."""
    data = StreetDataset("demo://street?frames=2&step=90&size=240x180")
    accuracy, _ = measured_accuracy(shipped.graphs["fp32"].onnx, shipped.spec, data)
    labels = np.concatenate([data[index].label.ravel() for index in range(2)])
    held = [c for c in range(len(shipped.spec.classes)) if (labels == c).any()]
    counted = labels[labels < len(shipped.spec.classes)]
    common = max(held, key=lambda c: int((labels == c).sum()))
    assert accuracy.commonest == shipped.spec.classes[common]
    assert accuracy.commonest_miou == pytest.approx((counted == common).mean() / len(held))
    assert not accuracy.is_poor


def test_a_class_counts_from_its_first_labelled_pixel(tmp_path: Path) -> None:
    """Of two frames with five labels, all but one what the graph says, with classes cached and anew."""
    tiny, frames = tiny_bundle(), tiny_frames(2)
    onnx, spec = tiny.graphs["fp32"].onnx, tiny.spec
    right = run_onnx_all(onnx, frames)
    labels = [np.full(spec.size_hw, spec.ignore_id, np.uint8) for _ in frames]
    for number, pixels in ((0, 1), (1, 3)):
        rows, columns = (places[:pixels] for places in np.nonzero(right[0] == number))
        labels[0][rows, columns] = number
    labels[0][tuple(place[0] for place in np.nonzero(right[0] == 2))] = 1  # the graph says 2, of which no label is
    data = InMemory([Sample(str(n), *pair) for n, pair in enumerate(zip(frames, labels))], "two")
    steps: list[tuple[int, int]] = []
    for _ in range(2):
        accuracy, maps = measured_accuracy(
            onnx,
            spec,
            data,
            cache=StepCache(tmp_path),
            data_sha256=labelled_sha256(data, spec),
            report=lambda *step: steps.append(step),
        )
        np.testing.assert_array_equal(maps, right)
        assert [accuracy.iou[name] for name in spec.classes] == [1, 3 / 4, pytest.approx(math.nan, nan_ok=True)]
        assert (accuracy.miou, accuracy.commonest, accuracy.commonest_miou) == (7 / 8, spec.classes[1], 4 / 5 / 2)
    assert steps == [(1, 2), (2, 2), (2, 2)], "the second time nothing is run"
    unlabelled = InMemory([Sample("0", frames[0], None)], "one")
    accuracy, _ = measured_accuracy(onnx, spec, unlabelled)
    assert math.isnan(accuracy.miou) and accuracy.commonest == "" and math.isnan(accuracy.commonest_miou)


def test_json_has_no_nan() -> None:
    assert FP32.to_json()["iou"] == {"road": 0.9, "pole": 0.5, "absent": None}


def test_boundaries_are_judged_apart() -> None:
    """A class map whose thin parts are lost agrees almost everywhere but not where it matters."""
    reference = np.zeros((40, 60), np.uint8)
    reference[:, 30] = 1
    everywhere, at_boundaries = agreements([np.zeros((40, 60), np.uint8)], [reference])
    assert everywhere == 1 - 1 / 60 and at_boundaries == 5 / 6, "two pixels on either side of both edges of the pole"
    for turned in (reference, reference.T):
        wrong = turned.copy()
        wrong[:2, :2] = 2  # in a corner, far from any boundary
        assert agreements([wrong], [turned]) == (1 - 4 / 2400, 1.0)
        assert agreements([np.zeros_like(turned), turned], [turned] * 2)[1] == 11 / 12, "over all maps together"
    step = np.zeros((40, 60), np.uint8)
    step[20:] = 1
    missed = step.copy()
    missed[20] = 0
    assert agreements([missed], [step])[1] == 4 / 5, "lines 18 to 22 are the band of a boundary in front of line 20"
    assert agreements([reference], [reference]) == (1.0, 1.0)
    assert agreements([np.ones((4, 4), np.uint8)], [np.zeros((4, 4), np.uint8)]) == (0.0, 1.0), "no boundary to judge"
    (reason,) = refusals(FP32, _int8(boundary=0.5), Limits())
    assert reason == "only 50.00 % of pixels at class boundaries agree with FP32, 80.00 % are needed"
