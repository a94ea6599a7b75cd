from __future__ import annotations

import os
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Callable

import cv2
import numpy as np
import pytest

from edgeseg.bundle import Bundle
from edgeseg.compiler.calibration.drift_probe import with_drift_probe
from edgeseg.demo.street import StreetDataset
from edgeseg.engines.select import engine_from_bundle
from edgeseg.errors import EngineError, UsageError
from edgeseg.images import image_files, read_image
from edgeseg.metrics import ConfusionMatrix
from edgeseg.runtime.frame import Frame, Segmentation
from edgeseg.runtime.monitoring import DriftWatch, FieldSink
from edgeseg.runtime.monitoring.drift import DriftGraph
from edgeseg.runtime.state import RunState

Change = Callable[[np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def graph(shipped: Bundle) -> DriftGraph:
    return DriftGraph(shipped)


@pytest.fixture(scope="module")
def street() -> list[np.ndarray]:
    frames = StreetDataset("demo://street?seed=11&frames=12&step=120")
    return [frames[index].frame for index in range(12)]


def watched(shipped: Bundle, graph: DriftGraph, frames: list[np.ndarray], change: Change) -> DriftWatch:
    assert shipped.golden is not None
    watch = DriftWatch(graph, shipped.golden.frames, lambda level, text: None)
    for frame in frames:
        watch.add(graph.read(shipped.spec.resized(change(frame))))
    return watch


def noisy(image: np.ndarray) -> np.ndarray:
    return np.clip(image + np.random.default_rng(0).normal(0, 40, image.shape), 0, 255).astype(np.uint8)


def test_the_graph_measures_what_numpy_does_and_still_segments(shipped: Bundle, graph: DriftGraph) -> None:
    assert shipped.golden is not None and shipped.ranges is not None
    frame = shipped.golden.frames[0]
    reading = graph.read(frame)
    np.testing.assert_array_equal(reading.ids, shipped.golden.classes[0])
    assert len(graph.clip_tensors) == len(graph.shift_tensors) == 12
    assert graph.shift_tensors[0] == "input"
    # The folded graph subtracts the mean (RGB in the spec, BGR in the graph); the scale is in the first convolution.
    mean = np.asarray(shipped.spec.preprocess.mean[::-1])
    distance = frame.mean((0, 1)) - 255 * mean - np.asarray(shipped.ranges.means["input"])
    assert reading.shifted[0] == pytest.approx(np.sqrt((distance**2).mean()), rel=1e-3)


def test_ordinary_streets_do_not_alarm(shipped: Bundle, graph: DriftGraph, street: list[np.ndarray]) -> None:
    watch = watched(shipped, graph, street, lambda frame: frame)
    assert watch.looked == 12 and watch.drifting == 0 and not watch.alarmed


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: cv2.convertScaleAbs(frame, alpha=2.5, beta=40),
        lambda frame: (frame * 0.15).astype(np.uint8),
        noisy,
        lambda frame: np.clip(frame * np.array([0.3, 2.0, 0.3]), 0, 255).astype(np.uint8),
        lambda frame: np.clip(frame * np.array([2.0, 0.6, 0.3]), 0, 255).astype(np.uint8),
        np.full_like,
    ],
    ids=["overexposed", "dark", "noisy", "green", "blue", "flat"],
)
def test_what_a_broken_camera_gives_alarms(
    shipped: Bundle, graph: DriftGraph, street: list[np.ndarray], change: Change
) -> None:
    flat = change is np.full_like
    watch = watched(shipped, graph, street[:10], (lambda frame: np.full_like(frame, 255)) if flat else change)
    assert watch.drifting == 10 and watch.alarmed


def test_camvid_is_ordinary_and_its_negative_is_not(shipped: Bundle, graph: DriftGraph, camvid: Path) -> None:
    frames = [read_image(path) for path in image_files(camvid / "val")[::10]]
    assert watched(shipped, graph, frames, lambda frame: frame).drifting == 0
    assert watched(shipped, graph, frames, lambda frame: 255 - frame).drifting == len(frames)


def test_the_probe_of_an_older_bundle_is_made_when_it_is_asked_for(shipped: Bundle) -> None:
    pytest.importorskip("onnx", reason="the compiler writes the probe")
    older = replace(shipped, drift=None)
    with pytest.raises(UsageError, match="nothing that measures drift; compile it again"):
        DriftGraph(older)
    assert with_drift_probe(older).drift == shipped.drift
    assert with_drift_probe(shipped) is shipped


def test_a_device_measures_without_the_package_onnx(shipped: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert DriftGraph(with_drift_probe(shipped)).clip_tensors


def test_a_probe_of_another_graph_is_refused(shipped: Bundle) -> None:
    assert shipped.ranges is not None and shipped.drift is not None
    with pytest.raises(EngineError, match="cannot load the FP32 graph for drift"):
        DriftGraph(replace(shipped, drift=shipped.drift.replace(b"edgeseg/mean/input", b"edgeseg/mean/other")[:-9]))
    means = {name: values for name, values in shipped.ranges.means.items() if name != "input"}
    with pytest.raises(UsageError, match="belong to another graph"):
        DriftGraph(replace(shipped, ranges=replace(shipped.ranges, means=means)))


def test_a_clipped_share_alone_is_enough(shipped: Bundle, street: list[np.ndarray]) -> None:
    assert shipped.ranges is not None and shipped.golden is not None
    tensors = {name: (low / 2, high / 2) for name, (low, high) in shipped.ranges.tensors.items()}
    pytest.importorskip("onnx", reason="the compiler writes the probe")
    narrow = DriftGraph(with_drift_probe(replace(shipped, ranges=replace(shipped.ranges, tensors=tensors), drift=None)))
    frame = shipped.spec.resized(street[0])
    reading = narrow.read(frame)
    assert reading.clipped.max() > 1e-3
    ordinary = DriftWatch(DriftGraph(shipped), shipped.golden.frames, lambda level, text: None)
    np.testing.assert_allclose(reading.shifted, DriftGraph(shipped).read(frame).shifted, rtol=1e-4)
    assert ordinary.add(reading)


def result_of(frame: np.ndarray, ids: np.ndarray, index: int = 0) -> Segmentation:
    return Segmentation(Frame(frame, index, 0, f"{index:06d}"), ids, {}, 11)


def test_the_sink_watches_both_with_one_inference(shipped: Bundle, street: list[np.ndarray], tmp_path: Path) -> None:
    state = RunState(ConfusionMatrix(11))
    folder = tmp_path / "drift"
    over = [cv2.convertScaleAbs(frame, alpha=2.5, beta=40) for frame in street]
    with FieldSink(shipped, state, shadow=2, drift=1, drift_frames=folder, most_frames=3) as sink, engine_from_bundle(
        shipped, "int8-cpu", threads=1
    ) as engine:
        assert isinstance(sink, FieldSink) and sink.shadow is not None and sink.drift is not None
        assert sink.description == "drift of 1 frame in 1, fp32 shadow of 1 frame in 2"
        for index, frame in enumerate(over):
            ids = engine.infer(shipped.spec.resized(frame)[None])[0].copy()
            sink.write(result_of(frame, ids, index))
        assert sink.shadow.frames == 6 and sink.drift.looked == 12
        assert sink.shadow.confusion.pixel_accuracy() > 0.8
        assert [(event.level, event.who) for event in state.latest_events()] == [("warning", "drift")]
        kept = image_files(folder)
        assert 1 <= len(kept) <= 3
        assert any(np.array_equal(cv2.imread(str(kept[0])), frame) for frame in over)
        assert set(sink.to_json()) == {"shadow", "drift"}
        pytest.importorskip("prometheus_client")
        families = {family.name: family for family in sink.metrics()}
        assert families["edgeseg_shadow_frames"].samples[0].name == "edgeseg_shadow_frames_total"
        assert families["edgeseg_shadow_frames"].samples[0].value == 6
        labels = {sample.labels["class"] for sample in families["edgeseg_shadow_agreement_ratio"].samples}
        assert "road" in labels


def test_only_the_sinks_own_thread_steps_back(shipped: Bundle, street: list[np.ndarray]) -> None:
    nice: list[int] = []
    with FieldSink(shipped, RunState(ConfusionMatrix(11)), shadow=1) as sink:

        def write() -> None:
            sink.write(result_of(street[0], np.zeros(shipped.spec.size_hw, np.uint8)))
            nice.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

        before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        thread = threading.Thread(target=write, name="edgeseg-field")
        thread.start()
        thread.join()
        assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before
    assert nice == [max(10, before)]


def test_what_makes_no_sense_is_refused(shipped: Bundle, tmp_path: Path) -> None:
    state = RunState(ConfusionMatrix(11))
    with pytest.raises(UsageError, match="`shadow` and `drift`"):
        FieldSink(shipped, state)
    with pytest.raises(UsageError, match="needs `drift`"):
        FieldSink(shipped, state, shadow=1, drift_frames=tmp_path)
    with pytest.raises(UsageError, match="calibrated ranges"):
        FieldSink(replace(shipped, ranges=None), state, drift=1)
    with pytest.raises(UsageError, match="golden frames"):
        FieldSink(replace(shipped, golden=None), state, drift=1)
    with pytest.raises(UsageError, match="FP32 or FP16"):
        FieldSink(replace(shipped, graphs={"int8-cpu": shipped.graphs["int8-cpu"]}), state, shadow=1)
