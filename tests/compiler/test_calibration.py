"""Calibration: what is wrong with a set is said, ranges are exact, repeatable, resumable and bounded in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from edgeseg.compiler.calibration import collect
from edgeseg.compiler.calibration.calibrators import CALIBRATORS
from edgeseg.compiler.calibration.collect import ranges_from_frames
from edgeseg.compiler.calibration.dataset_report import calibration_report
from edgeseg.compiler.graph.onnx_graph import with_outputs
from edgeseg.compiler.step_cache import StepCache
from edgeseg.errors import CompileError, UsageError
from edgeseg.images import InMemory, Sample
from edgeseg.preprocess import NetworkFrames
from edgeseg.ranges import Ranges
from tests.compiler.conftest import SPEC, STREET, one_network

FRAMES = NetworkFrames(STREET, SPEC)


class Interrupted(InMemory):
    """A data set whose reading fails once, like a Ctrl-C."""

    fail_at: int | None = None

    def __getitem__(self, index: int) -> Sample:
        if index == self.fail_at:
            raise KeyboardInterrupt
        return super().__getitem__(index)


def test_the_report_counts_what_is_wrong() -> None:
    good = [STREET[index] for index in range(4)]
    black = Sample("black", np.full((72, 104, 3), 3, np.uint8), None)
    white = Sample("white", np.full((72, 104, 3), 250, np.uint8), None)
    report = calibration_report(InMemory([*good, good[0], black, white], "mixed"), SPEC)
    assert (report.images, report.duplicates, report.near_black, report.near_white) == (7, 1, 1, 1)
    assert report.usable == 4
    assert report.labelled == 5 and sum(report.class_shares.values()) == pytest.approx(1)
    told = " | ".join(report.warnings)
    for part in ("only 7", "1 of 7 calibration images repeat", "near-black", "near-white"):
        assert part in told


def test_what_is_wrong_names_the_users_files() -> None:
    def flat(name: str, value: int) -> Sample:
        return Sample(name, np.full((72, 104, 3), value, np.uint8), None)

    night = [flat(f"IMG_{index}", index) for index in range(5)]
    report = calibration_report(InMemory([*night, flat("IMG_0 copy", 0), flat("snow", 250)], "mixed"), SPEC)
    told = report.warnings
    assert "1 of 7 calibration images repeat an earlier one (IMG_0 copy)" in told
    assert "6 of 7 calibration images are near-black or empty (IMG_0, IMG_1, IMG_2, ...)" in told
    assert "1 of 7 calibration images are near-white or overexposed (snow)" in told
    assert report.to_json()["examples"]["near_white"] == ["snow"]


def test_a_class_without_pixels_is_named() -> None:
    label = np.zeros((72, 104), np.uint8)
    label[:8] = 11  # void, counted nowhere
    samples = [Sample(str(i), STREET[i].frame, label) for i in range(2)]
    report = calibration_report(InMemory(samples, "sky only"), SPEC)
    assert report.class_shares["sky"] == 1.0
    assert "bicyclist" in report.warnings[-1] and "sky" not in report.warnings[-1]


@one_network
@pytest.mark.parametrize("calibrator", CALIBRATORS)
def test_ranges_are_the_same_every_time_and_inside_what_was_seen(
    graph_and_ranges: tuple[Any, Ranges], calibrator: str
) -> None:
    graph, minmax = graph_and_ranges
    ranges = ranges_from_frames(graph, FRAMES, calibrator=calibrator)
    assert ranges == ranges_from_frames(graph, FRAMES, calibrator=calibrator)
    for name, (low, high) in ranges.tensors.items():
        seen_low, seen_high = minmax.tensors[name]
        assert seen_low - 1e-6 <= low <= high <= seen_high + 1e-6
    narrower = sum(ranges.tensors[name] != minmax.tensors[name] for name in minmax.tensors)
    assert narrower == 0 if calibrator == "minmax" else narrower > 20


def test_extrema_are_those_of_the_tensors(graph_and_ranges: tuple[Any, Ranges]) -> None:
    """An independent look: every tensor fetched from the graph, reduced by numpy."""
    graph, ranges = graph_and_ranges
    names = list(ranges.tensors)[::7]
    session = ort.InferenceSession(with_outputs(graph, names).SerializeToString())
    low, high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    for index in range(len(FRAMES)):
        values = session.run(names, {"frame": FRAMES[index][None]})
        low = np.minimum(low, [value.min() for value in values])
        high = np.maximum(high, [value.max() for value in values])
    for name, lo, hi in zip(names, low, high):
        assert ranges.tensors[name] == pytest.approx((lo, hi), rel=1e-5)


@one_network
def test_an_interrupted_calibration_goes_on_where_it_stopped(
    graph_and_ranges: tuple[Any, Ranges], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, _ = graph_and_ranges
    monkeypatch.setattr(collect, "_STORE_EVERY_S", 0.0)
    whole = ranges_from_frames(graph, FRAMES, calibrator="entropy")
    data = Interrupted([STREET[i] for i in range(16)], STREET.description)
    frames = NetworkFrames(data, SPEC)
    cache, sha256 = StepCache(tmp_path), whole.data_sha256
    data.fail_at = 9
    with pytest.raises(KeyboardInterrupt):
        ranges_from_frames(graph, frames, calibrator="entropy", cache=cache, data_sha256=sha256)
    data.fail_at = 3  # read again only what is missing: images before 9 are not touched in the first pass
    with pytest.raises(KeyboardInterrupt):
        ranges_from_frames(graph, frames, calibrator="entropy", cache=cache, data_sha256=sha256)
    data.fail_at = None
    seen: list[int] = []
    resumed = ranges_from_frames(
        graph,
        frames,
        calibrator="entropy",
        cache=cache,
        data_sha256=sha256,
        report=lambda done, total: seen.append(done),
    )
    assert resumed == whole
    assert seen[0] == 16 and seen[1] == 16 + 3, "the first pass was complete, the second stood at image 3"


@one_network
def test_a_damaged_cache_entry_counts_as_absent(graph_and_ranges: tuple[Any, Ranges], tmp_path: Path) -> None:
    graph, ranges = graph_and_ranges
    cache = StepCache(tmp_path)
    ranges_from_frames(graph, FRAMES, cache=cache)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-40])
    assert ranges_from_frames(graph, FRAMES, cache=cache).tensors == ranges.tensors


@one_network
def test_too_few_images_and_unknown_calibrators_are_refused(graph_and_ranges: tuple[Any, Ranges]) -> None:
    graph, _ = graph_and_ranges
    with pytest.raises(CompileError, match="15 calibration images are too few"):
        ranges_from_frames(graph, NetworkFrames(InMemory([STREET[i] for i in range(15)], "few"), SPEC))
    with pytest.raises(UsageError, match="there are minmax, "):
        ranges_from_frames(graph, FRAMES, calibrator="median")
