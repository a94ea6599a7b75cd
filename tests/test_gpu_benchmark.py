"""benchmarks/gpu.py: without a GPU it says why and gives no number; with the fake board its tables add up."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest

from edgeseg.errors import EngineError
from edgeseg.preprocess import normalized
from edgeseg.timing import Stopwatch
from tests.engines.tensorrt.rig import Rig
from tests.engines.tensorrt.tiny import SIZE_HW, tiny_bundle, tiny_frames, tiny_spec

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
TENSORRT = ("fp32", "fp16", "int8-implicit", "int8-qdq")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script as a module."""
    if not BENCHMARKS.is_dir():
        pytest.skip("benchmarks/ is not part of this source distribution")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("gpu")


def ticking(step_ns: int = 600_000_000) -> Callable[[], int]:
    """A clock that is later by the same time whenever it is read."""
    ticks = itertools.count(0, step_ns)
    return lambda: next(ticks)


def test_without_a_gpu_it_says_why_and_gives_no_number(tmp_path: Path) -> None:
    if not BENCHMARKS.is_dir():
        pytest.skip("benchmarks/ is not part of this source distribution")
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--json", str(tmp_path / "gpu.json")]
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=hidden, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    assert last == "nothing was measured"
    assert [line.split(": skipped: ")[0] for line in lines] == [
        "PyTorch eager FP32",
        "PyTorch eager FP16 channels-last",
        "torch.compile max-autotune FP32",
        "torch.compile max-autotune FP16 channels-last",
        "ONNX Runtime CUDA FP32",
        "ONNX Runtime CUDA FP32, CUDA graph",
        *(f"edgeseg TensorRT {precision}" for precision in TENSORRT),
    ]
    assert all(len(line.split(": skipped: ")[1]) > 20 for line in lines)
    assert "|" not in done.stdout and not re.search(r"\d (ms|fps|x)\b", done.stdout)
    document = json.loads((tmp_path / "gpu.json").read_text())
    assert document["measured"] is False and document["skipped"].keys() == {
        line.split(": skipped: ")[0] for line in lines
    }
    assert document["contenders"] == document["streaming"] == document["ratios"] == []


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (["a.edgeseg", "--size", "512x512"], "a bundle has its own size and network", 2),
        (["missing.edgeseg"], "missing.edgeseg cannot be read", 1),
    ],
)
def test_a_command_line_that_makes_no_sense(
    gpu: Any, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str, code: int
) -> None:
    try:
        assert gpu.main(arguments) == code
    except SystemExit as ended:
        assert ended.code == code
    assert said in capsys.readouterr().err


def test_overlap_gain_by_hand(gpu: Any) -> None:
    assert gpu.overlap_gain(4.0, 3.0, 0.5, 0.5) == 1.0, "3 ms of computing are left of 4: the copies are hidden"
    assert gpu.overlap_gain(4.0, 3.75, 0.75, 0.25) == 0.25
    assert gpu.overlap_gain(4.0, 4.0, 0.5, 0.5) == 0.0
    assert gpu.overlap_gain(4.0, 2.0, 0.5, 0.5) == 2.0, "the host's work was hidden too"
    assert gpu.overlap_gain(4.0, 4.5, 0.5, 0.5) == -0.5, "two in flight are slower"
    assert gpu.overlap_gain(4.0, 3.0, 0.0, 0.0) is None


def test_both_tables_on_the_fake_board(gpu: Any, tmp_path: Path) -> None:
    rig = Rig("10.3.0.30", tmp_path, integrated=False)
    bundle, said = tiny_bundle(), []
    every = [
        one for one in gpu.candidates(bundle, "tiny", "tensorrt", lambda: rig.factory) if one.name.startswith("edgeseg")
    ]
    tables = gpu.measured(
        *(bundle, "tiny", every, rig.factory, list(tiny_frames(3))),
        seconds=20.0,
        warmup_s=0.0,
        say=said.append,
        clock_ns=ticking(),
        burst=3,
    )
    assert [row["name"] for row in tables["contenders"]] == [f"edgeseg TensorRT {name}" for name in TENSORRT]
    assert tables["skipped"] == {} and set(tables["notes"]) == {one.name for one in every}
    for row in tables["contenders"]:
        assert {"preprocess", "infer", "postprocess", "h2d", "compute", "d2h"} <= set(row["stages_ms"])
        assert row["agreement"] > 0.9 and row["turns"] > 1
    assert tables["contenders"][0]["faster_than_first"] == (1.0, 1.0, 1.0)
    modes = [(row["precision"], row["memory"], row["cuda_graph"]) for row in tables["streaming"]]
    assert modes == [(precision, *mode) for precision in TENSORRT for mode in gpu.MODES]
    for row in tables["streaming"]:
        # The clock is read twice for a burst, and twice more for every frame of a serial burst.
        assert row["frame_p50_ms"] == row["frame_p99_ms"] == 600
        assert (row["hidden"] is None) == (row["memory"] == "mapped")
        assert row["compute_ms"] > 0 and row["faster"][1] <= row["faster"][0] <= row["faster"][2]
    assert len(tables["ratios"]) == len(TENSORRT) * 8
    assert {"CUDA graph on against off (copy, serial)", "mapped against copy (CUDA graph on, overlapped)"} <= {
        row["what"] for row in tables["ratios"]
    }
    document = dict.fromkeys(("edgeseg", "model", "size", "frames", "machine", "tensorrt"), "")
    page = gpu.markdown({**document, "versions": {}, "before": {}, "after": {}, **json.loads(json.dumps(tables))})
    for lines in (block.splitlines() for block in page.split("\n\n") if block.startswith("|")):
        assert len({line.count("|") for line in lines}) == 1
    del tables
    assert not rig.leaks() and not rig.fake.pageable_copies and not rig.fake.default_stream_uses


def test_times_are_per_frame_and_ratios_are_paired(gpu: Any, tmp_path: Path) -> None:
    """Only the serial contender reads the clock per frame: 1 + 2 x 3 intervals for three frames, against 1."""
    rig = Rig("10.3.0.30", tmp_path, integrated=False)
    rows, ratios, skipped = gpu.streaming(
        *(tiny_bundle(), "tiny", rig.factory, "fp32", list(tiny_frames(2))),
        seconds=2.0,
        warmup_s=0.0,
        clock_ns=ticking(),
        burst=3,
    )
    assert not skipped and len(rows) == 4
    for row in rows:
        assert (row.serial_ms, row.overlapped_ms) == (pytest.approx(7 * 600 / 3), pytest.approx(600 / 3))
        assert row.faster == (7.0, 7.0, 7.0) and not row.unstable
        if row.memory == "copy":
            expected = gpu.overlap_gain(row.serial_ms, row.overlapped_ms, row.h2d_ms, row.d2h_ms)
            assert row.hidden == pytest.approx((expected,) * 3)
    assert all(ratio.faster == (1.0, 1.0, 1.0) for ratio in ratios)


def test_two_in_flight_end_with_the_last_frame_of_the_burst(gpu: Any, tmp_path: Path) -> None:
    rig = Rig("10.3.0.30", tmp_path, integrated=False)
    frames = list(tiny_frames(3))
    with rig.engine(precision="fp32") as engine:
        (burst,) = gpu.bursts(frames, engine.input.shape, 5)
        assert burst.shape == (5, 1, *SIZE_HW, 3)
        serial, overlapped = gpu.streaming_contenders("fp32", engine)
        expected = serial.segment(burst, Stopwatch()).copy()
        np.testing.assert_array_equal(overlapped.segment(burst, Stopwatch()), expected)
        np.testing.assert_array_equal(engine.infer(frames[4 % 3][None]), expected)


def test_what_does_not_run_is_named_and_the_rest_goes_on(gpu: Any, tmp_path: Path) -> None:
    rig = Rig("11.4.1.1", tmp_path, integrated=True)
    launch = rig.fake.libcuda.cuGraphLaunch
    rig.fake.libcuda.cuGraphLaunch = lambda graph, stream: 0  # a graph that does nothing
    bundle = tiny_bundle()
    every = gpu.candidates(bundle, "tiny", "tensorrt", lambda: rig.factory)[-2:]
    tables = gpu.measured(
        *(bundle, "tiny", every, rig.factory, list(tiny_frames(2))),
        seconds=0.1,
        warmup_s=0.0,
        say=lambda line: None,
        clock_ns=ticking(),
        precisions=("int8-implicit", "int8-qdq"),
        burst=2,
    )
    rig.fake.libcuda.cuGraphLaunch = launch
    assert [row["name"] for row in tables["contenders"]] == ["edgeseg TensorRT int8-qdq"]
    assert "no implicit INT8" in tables["skipped"]["edgeseg TensorRT int8-implicit"]
    assert "no implicit INT8" in tables["skipped"]["int8-implicit, copy, CUDA graph on"]
    assert "another answer" in tables["skipped"]["int8-qdq, mapped, CUDA graph on"]
    assert [(row["memory"], row["cuda_graph"]) for row in tables["streaming"]] == [("copy", "off"), ("mapped", "off")]
    assert [row["what"] for row in tables["ratios"]] == [
        f"mapped against copy (CUDA graph off, {kind})" for kind in ("serial", "overlapped")
    ]
    assert "no CUDA graph" in tables["notes"]["edgeseg TensorRT int8-qdq"]


def test_a_contender_that_fails_while_it_opens_leaves_nothing_open(gpu: Any) -> None:
    closed: list[str] = []

    def broken(stack: ExitStack) -> Any:
        stack.callback(closed.append, "broken")
        raise EngineError("no GPU")

    def fine(stack: ExitStack) -> Any:
        stack.callback(closed.append, "fine")
        return gpu.Contender("fine", lambda frame, watch: frame[..., 0]), "a note"

    with ExitStack() as stack:
        opened, notes, skipped = gpu.contenders(
            [gpu.Candidate("broken", broken), gpu.Candidate("fine", fine)], stack, lambda line: None
        )
        assert [one.name for one in opened] == ["fine"] and notes == {"fine": "a note"}
        assert skipped == {"broken": "no GPU"} and closed == ["broken"]
    assert closed == ["broken", "fine"]


@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16 channels-last"])
@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_pytorch_does_the_steps_of_the_bundle(gpu: Any, half: bool, order: str) -> None:
    """On the CPU: what PyTorch is timed with is the same preprocessing, network and argmax."""
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'edgeseg[train]'")
    from dataclasses import replace

    spec = tiny_spec()
    spec = replace(spec, preprocess=replace(spec.preprocess, channel_order=order))
    torch.manual_seed(0)
    network = torch.nn.Conv2d(3, 3, 3, padding=1).eval()
    frames = tiny_frames(2)
    with torch.inference_mode():
        expected = network(torch.from_numpy(normalized(frames, spec.preprocess))).argmax(1).numpy()
    with ExitStack() as stack:
        image, classes, run = gpu.torch_runner(torch, network, spec, stack, half=half, compiled=False, device="cpu")
        for frame, one in zip(frames, expected):
            image[:] = frame
            run()
            assert (classes == one).mean() > (0.98 if half else 0.9999)


def test_pytorch_takes_the_network_of_the_bundle(gpu: Any) -> None:
    for package in ("torch", "timm", "segmentation_models_pytorch"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install 'edgeseg[train]'")
    own = {"network": {"architecture": "edge_unet", "encoder": "mobilenet_v2", "classes": 3}}
    assert gpu.network_of(tiny_bundle(provenance=own))[1] == "edge_unet + mobilenet_v2 (the bundle's own network)"
    assert gpu.network_of(tiny_bundle())[1].startswith("unet + mobilenet_v2 (the bundle does not say")
    with ExitStack() as stack:
        contender, note = gpu.torch_contender(
            "eager", tiny_bundle(provenance=own), stack, half=False, compiled=False, device="cpu"
        )
        classes = contender.segment(np.zeros((60, 80, 3), np.uint8), Stopwatch())
    assert classes.shape == (60, 80) and classes.max() < 3 and "edge_unet" in note


def test_onnx_runtime_with_device_bound_ports_gives_the_bundles_answer(gpu: Any) -> None:
    bundle = tiny_bundle()
    contender, note = gpu.ort_contender("ort", bundle, {}, device="cpu", provider="CPUExecutionProvider")
    assert gpu.agreement(contender, bundle) == 1.0 and "CPUExecutionProvider" in note
    with pytest.raises(EngineError, match="onnxruntime .* failed"):
        gpu.ort_contender("ort", bundle, {}, device="nowhere", provider="CPUExecutionProvider")


def test_nvidia_smi_is_read_as_it_speaks(gpu: Any) -> None:
    line = "NVIDIA GeForce RTX 4090, 560.35.03, P2, 2520 MHz, 3105 MHz, 10251 MHz, 450.00 W\n"
    facts = gpu.parsed_smi(line)
    assert facts["driver_version"] == "560.35.03" and facts["clocks.max.sm"] == "3105 MHz"
    assert gpu.parsed_smi("Orin (nvgpu), 540.4.0, [N/A], [N/A], [N/A], [N/A], [Not Supported]\n") == {
        "name": "Orin (nvgpu)",
        "driver_version": "540.4.0",
    }
    assert gpu.parsed_smi("No devices were found") == {}
