"""The TensorRT engine keeps the contract on every API level, and says what it does."""

from __future__ import annotations

import copy
import re
import threading
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import pytest

from edgeseg.bundle import GraphEntry
from edgeseg.engines.base import Engine
from edgeseg.engines.tensorrt.engine import TensorRtEngine
from edgeseg.errors import EngineError, UsageError
from edgeseg.recipes import Fp32
from tests.engine_contract import EngineContract
from tests.engines.tensorrt.rig import VERSIONS, Rig
from tests.engines.tensorrt.tiny import run_onnx, tiny_bundle, tiny_frames, tiny_onnx

CASES = [
    (version, precision, integrated)
    for version in VERSIONS
    for precision in ("int8-implicit", "int8-qdq", "fp32")
    for integrated in (True, False)
    if precision != "int8-implicit" or not version.startswith("11")
]


class TestTensorRtEngine(EngineContract):
    @pytest.fixture(params=CASES, ids=str)
    def engine(self, request: Any, tmp_path: Path) -> Iterator[Engine]:
        version, precision, integrated = request.param
        rig = Rig(version, tmp_path, integrated=integrated)
        engine = rig.engine(precision=precision)
        yield engine
        engine.close()
        del engine
        assert rig.fake.live()["device allocations"] == rig.fake.live()["pagelocked allocations"] == 0
        assert not rig.fake.pageable_copies and not rig.fake.default_stream_uses and not rig.fake.leaked_at_detach

    @pytest.fixture
    def frames(self) -> list[np.ndarray]:
        return [frame[None] for frame in tiny_frames(2)]


@pytest.fixture(params=[True, False], ids=["integrated", "discrete"])
def rig(request: Any, tmp_path: Path) -> Rig:
    return Rig("10.3.0.30", tmp_path, integrated=request.param)


def test_same_answer_as_onnx_runtime(rig: Rig) -> None:
    bundle = tiny_bundle()
    for precision, graph in (("fp32", "fp32"), ("int8-qdq", "int8-tensorrt")):
        with rig.engine(bundle, precision=precision) as engine:
            for frame in tiny_frames():
                expected = run_onnx(bundle.graphs[graph].onnx, frame[None])
                np.testing.assert_array_equal(engine.infer(frame[None]), expected)


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_is_allocated_per_frame(version: str, tmp_path: Path) -> None:
    rig = Rig(version, tmp_path, integrated=False)
    with rig.engine() as engine:
        engine.infer(tiny_frames(1))
        mark = rig.fake.mark()
        for frame in tiny_frames():
            engine.infer(frame[None])
        assert rig.fake.allocated_since(mark) == 0


def test_two_batches_in_flight_give_the_answers_in_order(rig: Rig) -> None:
    frames = tiny_frames(6)
    with rig.engine(precision="fp32") as engine:
        expected = [engine.infer(frame[None]).copy() for frame in frames]
        engine.submit(frames[:1])
        for index in range(1, len(frames)):
            engine.submit(frames[index : index + 1])
            np.testing.assert_array_equal(engine.collect(), expected[index - 1])
        np.testing.assert_array_equal(engine.collect(), expected[-1])
        with pytest.raises(EngineError, match="nothing was submitted"):
            engine.collect()
        engine.submit(frames[:1])
        engine.submit(frames[1:2])
        with pytest.raises(EngineError, match="two batches are in flight"):
            engine.submit(frames[:1])
        with pytest.raises(EngineError, match="collect what was submitted"):
            engine.infer(frames[:1])
        engine.collect()
        with pytest.raises(EngineError, match="the engine takes"):
            engine.submit(frames[0])
    with pytest.raises(EngineError, match="closed"):
        engine.submit(frames[:1])


def test_what_collect_returned_outlives_the_next_submit(rig: Rig) -> None:
    frames = tiny_frames(3)
    with rig.engine(precision="fp32") as engine:
        engine.submit(frames[:1])
        first = engine.collect()
        kept = first.copy()
        engine.submit(frames[1:2])
        second = engine.collect()
        np.testing.assert_array_equal(first, kept)
        assert not np.shares_memory(first, second)


def test_a_closed_engine_touches_no_page_locked_memory(rig: Rig) -> None:
    engine = rig.engine(precision="fp32")
    before = engine.input
    engine.close()
    assert engine.input is not before and engine.scores is None
    with pytest.raises(EngineError, match="closed"):
        engine.infer(np.zeros((1, 32, 48, 3), np.uint8))


def test_no_context_stays_current_on_the_thread(tmp_path: Path) -> None:
    Rig("10.3.0.30", tmp_path).engine().close()
    rig = Rig("10.3.0.30", tmp_path)  # finds the engine: nothing is built in this process, as on a board
    with rig.engine() as engine:
        assert not rig.fake._thread.cuda
        engine.infer(tiny_frames(1))
    assert rig.builds == 0 and not rig.fake._thread.cuda and not rig.fake.implicit_contexts


def test_events_split_a_frame(rig: Rig) -> None:
    with rig.engine() as engine:
        engine.infer(tiny_frames(1))
        assert set(engine.laps_ms) == {"h2d", "compute", "d2h"} and engine.laps_ms["compute"] > 0


@pytest.mark.parametrize("integrated", [True, False])
@pytest.mark.parametrize("version", VERSIONS)
def test_it_times_its_layers_and_answers_as_before(version: str, integrated: bool, tmp_path: Path) -> None:
    """CUDA graphs of the fake replay with what their context has now, so that none may be used for this."""
    rig, frames = Rig(version, tmp_path, integrated=integrated), tiny_frames(2)
    with rig.engine(precision="fp32") as engine:
        assert "CUDA graph" in engine.description
        expected = [engine.infer(frame[None]).copy() for frame in frames]
        np.copyto(engine.input, frames[0][None])
        for _ in range(2):
            layers = engine.layers_ms(3)
            assert len({name for name, _, _ in layers}) == len(layers) > 1
            assert all(ms > 0 for _, _, ms in layers) and all(kind for _, kind, _ in layers)
            assert any(re.search("conv.*FP32", kind, re.IGNORECASE) for _, kind, _ in layers)
            for frame, classes in zip(frames, expected):
                np.testing.assert_array_equal(engine.infer(frame[None]), classes)
        engine.submit(frames[0][None])
        with pytest.raises(EngineError, match="collect what was submitted"):
            engine.layers_ms(1)
        np.testing.assert_array_equal(engine.collect(), expected[0])
    with pytest.raises(EngineError, match="closed"):
        engine.layers_ms(1)
    del engine
    assert not rig.leaks()


@pytest.mark.parametrize("fault", ["ICudaEngine.create_execution_context", "IExecutionContext.execute_async_v3"])
def test_layers_that_cannot_be_timed_are_one_line(fault: str, rig: Rig) -> None:
    with rig.engine() as engine:
        answer = engine.infer(engine.input).copy()
        rig.fake.faults.fail_next(f"trt.{fault}")
        with pytest.raises(EngineError) as raised:
            engine.layers_ms(1)
        assert "\n" not in str(raised.value)
        np.testing.assert_array_equal(engine.infer(engine.input), answer)
    del engine, raised
    assert not rig.leaks()


def test_it_says_how_it_runs(rig: Rig) -> None:
    with rig.engine() as engine:
        memory = "mapped memory" if rig.fake.integrated else "pinned copies"
        assert engine.description == f"TensorRT 10.3.0.30 on Orin, int8-implicit, {memory}, CUDA graph"
    with rig.engine(cuda_graph="off", memory="copy") as engine:
        assert engine.description.endswith("int8-implicit, pinned copies")


def test_scores_come_with_the_classes(rig: Rig) -> None:
    bundle = tiny_bundle()
    bundle = tiny_bundle(graphs={**bundle.graphs, "fp32": GraphEntry(tiny_onnx(scores=True), Fp32())})
    with rig.engine(bundle, precision="fp32") as engine:
        classes = engine.infer(tiny_frames(1))
        assert engine.scores is not None and engine.scores.shape == (1, 3, 32, 48)
        np.testing.assert_array_equal(engine.scores.argmax(1), classes)


@pytest.mark.parametrize("integrated", [True, False])
def test_without_uint8_ports_the_device_converts(integrated: bool, tmp_path: Path) -> None:
    rig = Rig("8.5.2.2", tmp_path, integrated=integrated, uint8_io=False)
    bundle = tiny_bundle()
    with rig.engine(bundle, precision="fp32") as engine:
        assert "conversion on the device" in engine.description
        for frame in tiny_frames():
            np.testing.assert_array_equal(engine.infer(frame[None]), run_onnx(bundle.graphs["fp32"].onnx, frame[None]))
    assert any("float32 in and int32 out" in line for line in rig.said)
    del engine
    assert not rig.leaks()


def test_a_thread_that_does_not_own_the_engine_is_refused(rig: Rig) -> None:
    said: list[str] = []
    with rig.engine() as engine:

        def elsewhere() -> None:
            try:
                engine.infer(tiny_frames(1))
            except EngineError as error:
                said.append(str(error))

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert said == ["this engine belongs to the thread that opened it; hand frames over in a queue"]
        engine.infer(tiny_frames(1))
    assert not rig.fake.aborts


def test_a_graph_that_replays_something_else_is_not_used(rig: Rig) -> None:
    """As in PyTorch and Ultralytics: a capture that recorded nothing replays stale buffers."""
    launch = rig.fake.libcuda.cuGraphLaunch
    rig.fake.libcuda.cuGraphLaunch = lambda graph, stream: 0  # an empty graph
    with rig.engine(precision="fp32") as engine:
        assert "CUDA graph" not in engine.description
        assert engine.graph_note == "no CUDA graph: a replayed CUDA graph gives another answer than a plain run"
        bundle = tiny_bundle()
        np.testing.assert_array_equal(
            engine.infer(tiny_frames(1)), run_onnx(bundle.graphs["fp32"].onnx, tiny_frames(1))
        )
    with pytest.raises(EngineError, match="another answer"):
        rig.engine(precision="fp32", cuda_graph="on")
    rig.fake.libcuda.cuGraphLaunch = launch


@pytest.mark.parametrize("replay", ["captured", "current"])
@pytest.mark.parametrize("version", VERSIONS)
def test_each_cuda_graph_answers_for_its_own_slot(version: str, replay: str, tmp_path: Path) -> None:
    """NVIDIA's rule: one execution context per captured graph. A graph of a changed context does what it likes."""
    for integrated in (True, False):
        rig = Rig(version, tmp_path, integrated=integrated, replay=replay)
        frames = tiny_frames(4)
        with rig.engine(precision="fp32", cuda_graph="off") as plain:
            expected = [plain.infer(frame[None]).copy() for frame in frames]
        with rig.engine(precision="fp32", cuda_graph="on") as engine:
            for index in (0, 1, 3, 2):
                np.testing.assert_array_equal(engine.infer(frames[index][None]), expected[index])
            engine.submit(frames[:1])
            for index in range(1, 4):
                engine.submit(frames[index : index + 1])
                np.testing.assert_array_equal(engine.collect(), expected[index - 1])
            np.testing.assert_array_equal(engine.collect(), expected[3])


@pytest.mark.parametrize("version", VERSIONS)
def test_contexts_share_their_scratch_memory(version: str, tmp_path: Path) -> None:
    """On a board every mebibyte of it is the system's."""
    Rig(version, tmp_path).engine().close()
    used, contexts = {}, {}
    for graph in ("on", "off"):
        rig = Rig(version, tmp_path)
        with rig.engine(cuda_graph=graph) as engine:
            used[graph], contexts[graph] = rig.fake.used_bytes, rig.module.live()["contexts"]
        del engine
        assert rig.builds == 0 and not rig.leaks() and not rig.fake.leaked_at_detach
    assert used["on"] == used["off"] and contexts == {"on": 2, "off": 1}


def test_nothing_takes_the_gpu_for_good(tmp_path: Path) -> None:
    """TensorRT's destructors call CUDA's runtime, which makes a context of its own where none is current."""
    Rig("10.3.0.30", tmp_path).engine().close()
    rig = Rig("10.3.0.30", tmp_path, dla_cores=1)
    rig.engine().close()
    assert rig.factory.dla_cores() == 1
    assert not rig.fake.implicit_contexts and rig.fake.live()["contexts retained"] == 0


@pytest.mark.parametrize("broken", [0, 1])
@pytest.mark.parametrize("tensor", ["frame", "classes", None], ids=str)
def test_every_graph_is_verified_after_the_last_capture(
    rig: Rig, tensor: str | None, broken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever slot's graph goes wrong: it holds the other slot's frame or classes, or nothing at all."""
    enqueue = TensorRtEngine._enqueue

    def faulty(self: TensorRtEngine, slot: Any, context: Any) -> None:
        if rig.fake.is_capturing(self._compute.handle) and slot is self._slots[broken]:
            if tensor is None:
                return
            slot = copy.copy(slot)
            slot.addresses = {**slot.addresses, tensor: self._slots[1 - broken].addresses[tensor]}
        enqueue(self, slot, context)

    monkeypatch.setattr(TensorRtEngine, "_enqueue", faulty)
    rig.module.replay = "captured"
    with pytest.raises(EngineError, match="a replayed CUDA graph gives another answer"):
        rig.engine(precision="fp32", cuda_graph="on")
    bundle = tiny_bundle()
    with rig.engine(bundle, precision="fp32") as engine:
        assert "another answer" in engine.graph_note
        frame = tiny_frames(1)
        np.testing.assert_array_equal(engine.infer(frame), run_onnx(bundle.graphs["fp32"].onnx, frame))
    del engine
    assert not rig.leaks()


def test_two_engines_share_the_primary_context(rig: Rig) -> None:
    first, second = rig.engine(precision="fp32"), rig.engine(precision="int8-qdq")
    expected = second.infer(tiny_frames(1)).copy()
    first.close()
    np.testing.assert_array_equal(second.infer(tiny_frames(1)), expected)
    second.close()
    del first, second
    assert not rig.leaks()


def test_a_plan_with_other_tensors_is_refused(rig: Rig) -> None:
    made = rig.factory.open(tiny_bundle(), "tiny", _options())
    plan = made.cached.plan()
    made.engine.close()
    with pytest.raises(EngineError, match="could not load the plan: .+"):
        TensorRtEngine(plan[: len(plan) // 2], rig.api, rig.cuda())
    with pytest.raises(UsageError, match="a CUDA graph is auto"):
        TensorRtEngine(plan, rig.api, rig.cuda(), cuda_graph="perhaps")


def _options() -> Any:
    from edgeseg.engines.tensorrt.factory import TensorRtOptions

    return TensorRtOptions(precision="fp32")
