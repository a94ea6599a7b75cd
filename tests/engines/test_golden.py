from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeseg.bundle import Bundle, GraphEntry
from edgeseg.engines.golden import run_self_test
from edgeseg.engines.select import engine_from_bundle
from edgeseg.errors import EngineError, GateRefused
from edgeseg.recipes import Fp32
from edgeseg.report_data import Report
from edgeseg.resizing import class_map_at
from tests.engines.tensorrt.rig import VERSIONS, Rig
from tests.engines.tensorrt.tiny import run_onnx, tiny_bundle, tiny_onnx


def test_the_shipped_graphs_pass_their_limits(shipped: Bundle) -> None:
    for graph, least in (("fp32", 0.999), ("int8-cpu", 0.95)):
        with engine_from_bundle(shipped, graph) as engine:
            result = run_self_test(engine, shipped, graph)
        assert result.passed and result.limit == least and result.frames == len(shipped.golden.frames)  # type: ignore[union-attr]
        result.require("it")
        assert result.to_json()["passed"] is True


def test_the_bundle_carries_the_limits() -> None:
    bundle = tiny_bundle(report=Report(self_test={"fp32": 0.5, "int8": 0.7}))
    with engine_from_bundle(bundle, "fp32") as engine:
        assert run_self_test(engine, bundle, "fp32").limit == 0.5
        assert run_self_test(engine, bundle, "int8-implicit").limit == 0.7
        assert run_self_test(engine, bundle, "fp16").limit == 0.99
        assert run_self_test(engine, bundle, "int8-cpu").limit == 0.7, "a bundle without a limit for that graph"
        own = replace(bundle, report=Report(self_test={"int8": 0.7, "int8-cpu": 0.6}))
        assert run_self_test(engine, own, "int8-cpu").limit == 0.6


def test_a_class_that_is_lost_fails_however_small_its_share() -> None:
    bundle = tiny_bundle(report=Report(self_test={"fp32": 0.5}))
    golden = bundle.golden
    assert golden is not None
    wrong = np.where(golden.classes == 2, 0, golden.classes).astype(np.uint8)
    wrong.flat[np.flatnonzero(golden.classes != 2)[:40]] = (
        2  # 40 of 6144 pixels, all of which the graph calls otherwise
    )
    bundle = replace(bundle, golden=replace(golden, classes=wrong))
    with engine_from_bundle(bundle, "fp32") as engine:
        result = run_self_test(engine, bundle, "fp32")
    assert result.agreement > result.limit and result.lost == ("weed",) and not result.passed
    with pytest.raises(GateRefused, match="self-test failed: this engine has .* lost: weed; 'edgeseg tune'"):
        result.require("this engine")


def small_maps() -> Bundle:
    """A bundle whose graph leaves out the last enlargement: its class maps are a quarter as high and as wide."""
    bundle, onnx = tiny_bundle(), tiny_onnx(stride=4)
    golden = bundle.golden
    assert golden is not None
    maps = [class_map_at(run_onnx(onnx, frame[None])[0], bundle.spec.size_hw) for frame in golden.frames]
    assert len(np.unique(maps)) == 3
    graphs = {"fp32": GraphEntry(onnx, Fp32())}
    return replace(bundle, graphs=graphs, golden=replace(golden, classes=np.stack(maps)))


def test_class_maps_before_the_last_enlargement_are_compared_at_the_size_of_the_golden_ones() -> None:
    bundle = small_maps()
    with engine_from_bundle(bundle) as engine:
        result = run_self_test(engine, bundle, "fp32")
    assert result.passed and result.agreement == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_they_pass_on_tensorrt_too(version: str, tmp_path: Path) -> None:
    rig, bundle = Rig(version, tmp_path), small_maps()
    with rig.engine(bundle, precision="fp32") as engine:
        assert bundle.golden is not None
        found = engine.infer(bundle.golden.frames[:1])
        assert found.shape == (1, 8, 12)
        np.testing.assert_array_equal(class_map_at(found[0], (32, 48)), bundle.golden.classes[0])


def test_frames_of_another_network_fail() -> None:
    bundle = tiny_bundle()
    golden = bundle.golden
    assert golden is not None
    other = replace(bundle, golden=replace(golden, classes=np.roll(golden.classes, 7, axis=2)))
    with engine_from_bundle(other, "fp32") as engine:
        assert not run_self_test(engine, other, "fp32").passed
        with pytest.raises(EngineError, match="no golden frames"):
            run_self_test(engine, replace(other, golden=None), "fp32")
