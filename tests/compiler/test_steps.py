"""Steps of a compilation by themselves: what they refuse, and what they leave as it was."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import onnx
import pytest

from edgeseg.compiler.graph.tensors import graph_sha256
from edgeseg.compiler.options import CompileData, CompileOptions
from edgeseg.compiler.step_cache import StepCache
from edgeseg.compiler.steps.calibrate import Calibrated, calibrated_ranges, range_warnings
from edgeseg.compiler.steps.emit import _best, emitted_graphs, refuse_failed
from edgeseg.compiler.steps.job import Job
from edgeseg.compiler.steps.points import static_recipe
from edgeseg.compiler.steps.prepare import Prepared
from edgeseg.demo import CLASSES, PALETTE
from edgeseg.demo.street import StreetDataset
from edgeseg.errors import CompileError, GateRefused, UsageError
from edgeseg.progress import Progress
from edgeseg.ranges import Ranges
from edgeseg.report_data import Accuracy, CalibrationReport, GraphResult, MixedPoint
from edgeseg.spec import ModelSpec

SPEC = ModelSpec(CLASSES, PALETTE, (72, 104), ignore_id=11)
FRAMES = StreetDataset("demo://street?frames=2&size=104x72")
GOOD = Accuracy(2, 1.0, 1.0, 0.7, 0.9, {"road": 0.7})
GRAPH = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], []))
PREPARED = Prepared(GRAPH, GRAPH, GOOD, [], ())
FROZEN = Ranges({"x": (0.0, 1.0)}, calibrator="minmax", images=20, graph_sha256=graph_sha256(GRAPH), data="a folder")


def job(said: list[str] | None = None, **options: Any) -> Job:
    progress = Progress() if said is None else Progress(step=said.append)
    return Job(SPEC, CompileData(FRAMES), CompileOptions(**options), StepCache(), progress, "")


def result(name: str, *refused: str, tried: int = 0) -> GraphResult:
    return GraphResult(name, 1, (3, 4), GOOD, refused, (), tried * (MixedPoint((), GOOD, 0.0, (), 1),))


def test_frozen_ranges_must_belong_to_the_graph_and_the_calibrator() -> None:
    said: list[str] = []
    assert calibrated_ranges(job(said), PREPARED, FROZEN) == Calibrated(FROZEN)
    assert said == ["ranges: frozen, 20 images (a folder)"]
    with pytest.raises(CompileError, match="the frozen ranges belong to another graph"):
        calibrated_ranges(job(), PREPARED, replace(FROZEN, graph_sha256="other"))
    with pytest.raises(UsageError, match="taken by minmax, not mse; calibrate again with `calibration` FOLDER"):
        calibrated_ranges(job(calibrator="mse"), PREPARED, FROZEN)
    assert calibrated_ranges(job(calibrator="minmax"), PREPARED, FROZEN).ranges is FROZEN


def test_only_static_graphs_need_ranges() -> None:
    for graphs in ((), ("int8-dynamic",), ("fp16",)):
        assert calibrated_ranges(job(graphs=graphs), PREPARED, None) == Calibrated()
    with pytest.raises(CompileError, match="INT8 needs calibration images; pass `calibration` FOLDER"):
        calibrated_ranges(job(graphs=("fp16", "int8-cpu")), PREPARED, None)


def test_calibration_images_of_which_too_few_are_usable_are_not_sound() -> None:
    report = CalibrationReport("set", "", 20, duplicates=4, near_black=0, near_white=0, labelled=0, class_shares={})
    assert Calibrated().is_sound and Calibrated(report=report).is_sound
    assert not Calibrated(report=replace(report, near_black=1)).is_sound


@pytest.mark.parametrize(("ends", "warns"), [((0.0, 255.0), False), ((10.0, 74.0), False), ((0.0, 63.0), True)])
def test_frames_of_hardly_any_contrast_are_told(ends: tuple[float, float], warns: bool) -> None:
    assert bool(range_warnings(Ranges({"frame_float": ends}))) == warns
    assert range_warnings(Ranges({})) == []


def test_a_recipe_takes_the_knobs_of_the_options() -> None:
    made = static_recipe(job(per_channel=False, bias_correction=False, float_layers=("a",)), "int8-cpu")
    assert made is not None and (made.per_channel, made.bias_correction, made.float_layers) == (False, False, ("a",))
    assert static_recipe(job(), "int8-dynamic") is None


def test_a_failed_static_graph_stops_the_compilation() -> None:
    passed, failed = result("int8-cpu"), result("int8-tensorrt", "mIoU fell", tried=3)
    assert refuse_failed(job(), [passed], []) == []
    with pytest.raises(
        GateRefused, match=r"int8-tensorrt: mIoU fell \(also with 3 mixes .*\) \(a note\); calibrate on"
    ):
        refuse_failed(job(), [passed, failed], ["a note"])
    note = "NO GATE: int8-tensorrt would have been refused"
    assert refuse_failed(job(gate=False), [passed, failed], []) == [note]


def test_failed_dynamic_int8_is_left_out_and_told_where_there_is_no_gate() -> None:
    failed = result("int8-dynamic", "mIoU fell")
    assert refuse_failed(job(), [failed], []) == []
    assert refuse_failed(job(gate=False), [failed], []) == ["NO GATE: int8-dynamic would have been refused"]


def test_one_scale_for_several_frames_is_no_graph() -> None:
    made = emitted_graphs(job(graphs=("int8-dynamic",), batch=4), PREPARED, Calibrated())
    assert made.notes == ("int8-dynamic is left out: with 4 frames all would share one scale",)
    assert made.results == made.entries == ()


def test_a_budget_that_nothing_meets_is_refused_with_what_there_is() -> None:
    slow = MixedPoint((), GOOD, 0.0, (), 1, 12.0)
    assert _best("g", [slow], 12.0) is slow and _best("g", [slow], None) is slow
    with pytest.raises(GateRefused, match="g: no mix that passes the gate is within 5 ms; the fastest takes 12.00 ms"):
        _best("g", [slow, replace(slow, measured_ms=13.0)], 5.0)
    with pytest.raises(GateRefused, match=r"refused INT8: g: mIoU fell \(1 mixes judged\)"):
        _best("g", [replace(slow, refused=("mIoU fell",))], 50.0)
    with pytest.raises(UsageError, match="no latency on this machine to compare with `budget_ms`; name a `board`"):
        _best("g", [replace(slow, measured_ms=None)], 5.0)
    refused = replace(slow, refused=("mIoU fell",))
    assert _best("g", [refused], None) is refused, "without a budget the gate says so later"
