from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeseg.bundle import Bundle
from edgeseg.engines.base import Engine, lanes_of
from edgeseg.engines.ort import OrtEngine
from edgeseg.engines.select import CPU_ENGINES, cpu_graphs, engine_from_bundle, installed_engines
from edgeseg.errors import EngineError
from tests.engine_contract import EngineContract
from tests.fakes import ThresholdEngine


class TestOrtEngine(EngineContract):
    @pytest.fixture(params=["int8-cpu", "fp32"])
    def engine(self, shipped: Bundle, request: Any) -> Engine:
        return engine_from_bundle(shipped, request.param)

    @pytest.fixture
    def frames(self, shipped: Bundle) -> list[np.ndarray]:
        assert shipped.golden is not None
        return [shipped.golden.frames[index : index + 1] for index in (0, 1)]


class TestFakeEngine(EngineContract):
    """The fake that other tests lean on keeps the contract too."""

    @pytest.fixture
    def engine(self) -> Engine:
        return ThresholdEngine()

    @pytest.fixture
    def frames(self) -> Any:
        return np.random.default_rng(0).integers(0, 256, (2, 1, 64, 96, 3), dtype=np.uint8)


def test_fp32_reproduces_the_golden_frames(shipped: Bundle) -> None:
    assert shipped.golden is not None
    with engine_from_bundle(shipped, "fp32") as engine:
        for frame, expected in zip(shipped.golden.frames, shipped.golden.classes):
            assert np.mean(engine.infer(frame[None])[0] == expected) > 0.999


def test_int8_agrees_with_fp32_on_the_golden_frames(shipped: Bundle) -> None:
    assert shipped.golden is not None
    with engine_from_bundle(shipped, "int8-cpu") as engine:
        for frame, expected in zip(shipped.golden.frames, shipped.golden.classes):
            assert np.mean(engine.infer(frame[None])[0] == expected) > 0.95


def test_int8_is_preferred_and_a_tensorrt_graph_is_refused(shipped: Bundle) -> None:
    assert cpu_graphs(shipped)[:2] == ["int8-cpu", "fp32"]
    with engine_from_bundle(shipped) as engine:
        assert "int8-cpu" in engine.description
    with pytest.raises(EngineError, match="is for TensorRT.*run int8-cpu, fp32"):
        engine_from_bundle(shipped, "int8-tensorrt")
    with pytest.raises(EngineError, match="no graph 'int4'; it has"):
        engine_from_bundle(shipped, "int4")


@pytest.mark.parametrize("by", CPU_ENGINES)
def test_lanes_share_the_threads_of_the_engine(shipped: Bundle, by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if by not in installed_engines():
        pytest.skip(f"{by} is not installed")
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)))
    assert [lanes_of(threads) for threads in (0, 1, 2, 3, 16)] == [(4, 2), (1, 1), (2, 1), (3, 1), (4, 4)]
    with engine_from_bundle(shipped, threads=1, engine=by) as engine:
        assert engine.lanes() == (), "a single thread has nothing to wait for"
    with engine_from_bundle(shipped, threads=3, engine=by) as engine:
        lanes = engine.lanes()
        assert len(lanes) == 3 and all(", 1 threads" in lane.description for lane in lanes)
        for lane in lanes:
            lane.close()
    with pytest.raises(EngineError, match="closed"):
        engine.lanes()


def test_what_is_no_graph_is_refused() -> None:
    with pytest.raises(EngineError, match="cannot load junk"):
        OrtEngine(b"junk", "junk")
