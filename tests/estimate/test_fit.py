"""The script that fits: FLOP of networks that it draws, and parameters that it finds again in rows made of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Iterator

import pytest

from edgeseg.device.specifications import JETSONS
from edgeseg.estimate.forecast import fit_of, gpu_of
from edgeseg.estimate.kernels import total_macs
from edgeseg.estimate.law import KernelTable, frame_ms, work_of

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks"
pytestmark = pytest.mark.skipif(not SCRIPTS.is_dir(), reason="benchmarks/ is not beside tests/: only in a whole clone")
pytest.importorskip("onnx", reason="graphs are drawn with onnx (the extra `compile`)")


@pytest.fixture(autouse=True)
def _beside_the_scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield
    for name in ("estimate", "estimate_networks", "estimate_relatives", "estimate_rows"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("model", "height", "width", "gflop", "parameters"),
    [
        ("YOLOv8n", 640, 640, 8.7, 3.15e6),
        ("YOLO11m", 640, 640, 68.0, 20.1e6),
        ("YOLOX-S", 640, 640, 26.8, 8.97e6),
        ("YOLOv4", 416, 416, 60.1, 64.4e6),
        ("SSD-ResNet-34", 1200, 1200, 433, 20.0e6),
    ],
)
def test_drawn_networks_have_the_flop_and_weights_of_their_papers(
    model: str, height: int, width: int, gflop: float, parameters: float
) -> None:
    import estimate_networks

    kernels = estimate_networks.kernels_of(model, 1, height, width)
    assert 2e-9 * total_macs(kernels) == pytest.approx(gflop, rel=0.01)
    assert sum(kernel.weights for kernel in kernels) == pytest.approx(parameters, rel=0.01)


def test_a_table_of_rows_becomes_forecasts_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    import estimate_rows

    head = "device,model,input_hw,precision,batch,latency_ms,runtime,power_mode,source\n"
    rows = (
        "Jetson Xavier NX,SSD-MobileNet-v1,300x300,int8,1,1.7,MLPerf CUDA graphs,MaxQ GPU 803.25 MHz EMC 1331.2 MHz,s\n"
        "Jetson Nano,SSD-MobileNet-v1,300x300,int8,1,9,TensorRT,unstated,s\n"
        "Jetson Nano,SSD-MobileNet-v1,300x300,fp16,1,9,PyTorch eager,unstated,s\n"
        "Jetson Nano,Secret,300x300,fp16,1,9,TensorRT,unstated,s\n"
    )
    (tmp_path / "rows.csv").write_text(head + rows)
    (row,), left_out = estimate_rows.rows_from([tmp_path / "rows.csv"], tmp_path / "cache")
    assert (
        row.recorded and row.gpu.clocks.gpu_mhz == 803.25 and row.gpu.clocks.memory_gb_s == pytest.approx(42.6, abs=0.1)
    )
    assert dict(left_out) == {"precision int8": 1, "not TensorRT": 1, "not built: Secret": 1}
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_fit_forecasts_rows_that_follow_the_law() -> None:
    pytest.importorskip("scipy", reason="the script fits with scipy, which edgeseg does not need")
    import estimate
    import estimate_networks
    import estimate_rows
    import numpy as np

    rows = []
    for model, family in (("YOLOv8n", "a"), ("YOLOX-S", "b"), ("SSD-MobileNet-v1", "c")):
        for side in (160, 320, 640):
            table = KernelTable(estimate_networks.kernels_of(model, 1, side, side))
            for board in ("orin-nano", "orin-nx", "agx-orin"):
                jetson = JETSONS[board]
                gpu = gpu_of(board, next(iter(jetson.modes)))
                ms = frame_ms(work_of(table, gpu, "fp16"), fit_of(jetson.architecture).parameters)
                facts = (board, "", gpu, model, family, (side, side), "fp16", 1, ms, False, "", table)
                rows.append(estimate_rows.Row(*facts))
    evidence = estimate.Evidence(rows)
    assert np.abs(evidence.errors(estimate.fitted(evidence))).max() < 0.1
    assert np.median(np.abs(estimate.left_out(rows, lambda row: row.family))) < 0.15
