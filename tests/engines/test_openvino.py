from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeseg.bundle import Bundle
from edgeseg.engines.base import Engine
from edgeseg.engines.openvino import OpenVinoEngine
from edgeseg.engines.select import engine_from_bundle
from edgeseg.errors import EngineError
from tests.engine_contract import EngineContract

pytest.importorskip("openvino", reason="openvino is not installed: pip install 'edgeseg[openvino]'")


class TestOpenVinoEngine(EngineContract):
    @pytest.fixture(params=["int8-cpu", "fp32"])
    def engine(self, shipped: Bundle, request: Any) -> Engine:
        return engine_from_bundle(shipped, request.param, engine="openvino")

    @pytest.fixture
    def frames(self, shipped: Bundle) -> list[np.ndarray]:
        assert shipped.golden is not None
        return [shipped.golden.frames[index : index + 1] for index in (0, 1)]


@pytest.mark.parametrize(("graph", "agreement"), [("fp32", 0.999), ("int8-cpu", 0.95)])
def test_the_golden_frames_are_reproduced(shipped: Bundle, graph: str, agreement: float) -> None:
    assert shipped.golden is not None
    with engine_from_bundle(shipped, graph, engine="openvino") as engine:
        for frame, expected in zip(shipped.golden.frames, shipped.golden.classes):
            assert np.mean(engine.infer(frame[None])[0] == expected) > agreement


def test_integers_only_where_the_graph_asks_for_them(shipped: Bundle) -> None:
    with OpenVinoEngine(shipped.graphs["fp32"].onnx) as engine:
        int8, total = engine.int8_convolutions()
        assert int8 == 0 and total > 50
    with OpenVinoEngine(shipped.graphs["int8-cpu"].onnx) as engine:
        int8, total = engine.int8_convolutions()
        assert total > 50 and int8 >= total - 1, "all but at most an enlargement"
    with pytest.raises(EngineError, match="closed"):
        engine.int8_convolutions()


def test_it_says_version_and_device_and_is_only_taken_when_asked_for(shipped: Bundle) -> None:
    with engine_from_bundle(shipped, threads=1, engine="openvino") as engine:
        assert engine.description.startswith("OpenVINO 20") and "1 threads" in engine.description
        assert "on the CPU (" in engine.description and "int8-cpu" in engine.description
    with engine_from_bundle(shipped) as engine:
        assert engine.description.startswith("ONNX Runtime")
    with pytest.raises(EngineError, match="no engine 'tflite'; on a CPU there are onnxruntime, openvino"):
        engine_from_bundle(shipped, engine="tflite")
    with pytest.raises(EngineError, match="is for TensorRT"):
        engine_from_bundle(shipped, "int8-tensorrt", engine="openvino")


@pytest.mark.parametrize("junk", [b"", b"junk"])
def test_what_is_no_graph_is_refused_in_one_line(junk: bytes) -> None:
    with pytest.raises(EngineError, match="cannot load junk: ") as refused:
        OpenVinoEngine(junk, "junk")
    assert "\n" not in str(refused.value) and ".cpp" not in str(refused.value)


def test_nothing_is_reported_and_nothing_is_left_in_the_home(tmp_path: Path) -> None:
    """Importing OpenVINO sends an event, and writes an identity into a home, unless it is kept from that."""
    program = (
        "import sys, threading, edgeseg; edgeseg.open_engine(edgeseg.load(), engine='openvino').close(); "
        "print('openvino_telemetry' in sys.modules, [one.name for one in threading.enumerate()])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        # Where a CI is noticed nothing would be reported anyway.
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout.split("\n")[0] == "False ['MainThread']", done.stderr
    assert not (tmp_path / "intel").exists()


def test_a_signal_after_another_thread_closed_the_engine_harms_nothing() -> None:
    """On CPUs with AMX, where OpenVINO sets a stack for signals, this was the end of the process."""
    program = """
import edgeseg, os, signal, threading
signal.signal(signal.SIGUSR1, lambda number, frame: print("heard"))
for _ in range(2):
    engine = edgeseg.open_engine(edgeseg.load(), engine="openvino")
    engine.infer(engine.input)
    closing = threading.Thread(target=engine.close)
    closing.start()
    closing.join()
    del engine
    os.kill(os.getpid(), signal.SIGUSR1)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()) == (0, ["heard", "heard"]), done.stderr
