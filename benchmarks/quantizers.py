"""INT8 of the same network from the same images: ours beside ONNX Runtime, NVIDIA ModelOpt and NNCF.

    python benchmarks/quantizers.py --camvid FOLDER --modelopt-python PATH --nncf-python PATH [MODEL.edgeseg]

``--modelopt-python`` is the Python of an environment with ``nvidia-modelopt[onnx]``, ``--nncf-python`` of one with
``nncf onnx openvino``; without them their rows are left out. Every tool gets the FP32 graph of the bundle (uint8 BGR
frame in, uint8 class map out) and the same calibration frames, each with its own defaults. mIoU is on CamVid val, as
Q/DQ in float (TensorRT's arithmetic), as ONNX Runtime and as OpenVINO run the graph on this CPU. Times are medians of
single inferences in alternating turns.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable

import numpy as np
import onnx
from tensorrt_placement import MODELOPT, ONNXRUNTIME, quantize_with_onnxruntime

from edgeseg.app.shipped import SHIPPED
from edgeseg.bundle import Bundle, read_bundle
from edgeseg.compiler.calibration.collect import ranges_from_frames
from edgeseg.compiler.quantize.emit import emitted_onnx
from edgeseg.compiler.steps.float_graph import float_graph_from_bundle
from edgeseg.compiler.verify.tensorrt_rtx import kernel_plan_from_onnx, rtx_is_installed
from edgeseg.device.detect import detected_device
from edgeseg.engines.base import Engine
from edgeseg.engines.evaluate import evaluate_engine
from edgeseg.engines.openvino import OpenVinoEngine
from edgeseg.engines.ort import OrtEngine
from edgeseg.errors import EdgesegError
from edgeseg.images import FolderDataset, InMemory
from edgeseg.preprocess import NetworkFrames
from edgeseg.recipes import RECIPES

FRAMES = 96
TURNS = 40
NNCF = """
import sys, nncf, numpy, onnx
graph, frames, target = sys.argv[1:]
data = nncf.Dataset([{"frame": frame[None]} for frame in numpy.load(frames)])
onnx.save(nncf.quantize(onnx.load(graph), data, subset_size=len(numpy.load(frames))), target)
"""


def graphs(bundle: Bundle, folder: Path, train: InMemory, pythons: dict[str, str | None]) -> dict[str, bytes | str]:
    """Name -> ONNX of every graph, or the line that its tool ended with."""
    graph = float_graph_from_bundle(bundle)
    (folder / "fp32.onnx").write_bytes(graph.SerializeToString())
    frames = NetworkFrames(train, bundle.spec)
    np.save(folder / "frames.npy", np.stack([frames[index] for index in range(len(frames))]))
    ranges = ranges_from_frames(graph, frames)
    made: dict[str, bytes | str] = {"FP32": graph.SerializeToString()}
    for name in ("int8-tensorrt", "int8-cpu"):
        made[f"edgeseg {name}"] = emitted_onnx(graph, ranges, RECIPES[name]).SerializeToString()
    for name, options in ONNXRUNTIME.items():
        target = folder / f"{name}.onnx"
        quantize_with_onnxruntime(folder, target, options)
        made[name] = target.read_bytes()
    for name, code, more in (("NVIDIA ModelOpt", MODELOPT, ["fp32"]), ("NNCF", NNCF, [])):
        python = pythons[name]
        if python:
            target = folder / f"{name}.onnx"
            command = [python, "-c", code, str(folder / "fp32.onnx"), str(folder / "frames.npy"), str(target), *more]
            done = subprocess.run(command, capture_output=True, text=True)
            lines = done.stderr.strip().splitlines() or ["no message"]
            made[name] = lines[-1][:120] if done.returncode else target.read_bytes()
    return made


def miou(open_engine: Callable[[], Engine], bundle: Bundle, val: FolderDataset) -> str:
    """mIoU in percent, or why the engine does not run the graph."""
    try:
        with open_engine() as engine:
            return f"{100 * evaluate_engine(engine, bundle.spec, val).miou():.2f}"
    except EdgesegError as error:
        return f"no: {str(error)[:60]}"


def times(made: dict[str, bytes | str]) -> dict[tuple[str, str], float]:
    """Median ms per (graph, engine), in alternating turns of one inference each."""
    engines: dict[tuple[str, str], Any] = {}
    for name, data in made.items():
        for runner, kind in (("ort", OrtEngine), ("openvino", OpenVinoEngine)):
            try:
                if isinstance(data, bytes):
                    engines[name, runner] = kind(data)
            except EdgesegError as error:
                print(f"{name} in {runner}: {error}", file=sys.stderr)
    laps: dict[tuple[str, str], list[float]] = {key: [] for key in engines}
    for turn in range(TURNS + 5):
        for key, engine in engines.items():
            began = time.perf_counter()
            engine.infer(engine.input)
            if turn >= 5:
                laps[key].append(1e3 * (time.perf_counter() - began))
    for engine in engines.values():
        engine.close()
    return {key: float(np.median(values)) for key, values in laps.items()}


def tensorrt(data: bytes) -> str:
    """What TensorRT-RTX says to a graph."""
    try:
        plan = kernel_plan_from_onnx(data)
    except EdgesegError as error:
        return f"refused: {str(error).split(': ', 1)[-1][:70]}"
    trips = len(plan.float_round_trips)
    return f"{plan.int8_convolutions} of {plan.convolutions}, {len(plan.kernels)} kernels, {trips} round trips"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--camvid", type=Path, required=True, help="folder with train, val, valannot")
    parser.add_argument("--modelopt-python")
    parser.add_argument("--nncf-python")
    parser.add_argument("model", type=Path, nargs="?", default=SHIPPED)
    options = parser.parse_args()
    bundle = read_bundle(options.model)
    images = FolderDataset(options.camvid / "train")
    chosen = np.linspace(0, len(images) - 1, FRAMES).astype(int)
    train = InMemory([images[int(i)] for i in chosen], f"{FRAMES} of {images.description}")
    val = FolderDataset(options.camvid / "val", spec=bundle.spec, need_labels=True)
    with tempfile.TemporaryDirectory() as folder:
        pythons = {"NVIDIA ModelOpt": options.modelopt_python, "NNCF": options.nncf_python}
        made = graphs(bundle, Path(folder), train, pythons)
    laps = times(made)
    print(f"{options.model.name}, calibrated on {train.description}; onnx {onnx.__version__}")
    print(f"{detected_device().describe()}\n")
    print(
        "| INT8 by | mIoU, Q/DQ in float | in ONNX Runtime | in OpenVINO | TensorRT-RTX: INT8 convolutions | "
        "ONNX Runtime ms | OpenVINO ms | MB |\n|---|---|---|---|---|---|---|---|"
    )
    for name, data in made.items():
        if isinstance(data, str):
            print(f"| {name} | {data} | | | | | | |")
            continue
        judged = [
            miou(lambda data=data: OrtEngine(data, float_qdq=True), bundle, val),  # type: ignore[misc]
            miou(lambda data=data: OrtEngine(data), bundle, val),  # type: ignore[misc]
            miou(lambda data=data: OpenVinoEngine(data), bundle, val),  # type: ignore[misc]
        ]
        speeds = [f"{laps[name, runner]:.1f}" if (name, runner) in laps else "-" for runner in ("ort", "openvino")]
        plan = tensorrt(data) if rtx_is_installed() else "not installed"
        print(f"| {name} | {' | '.join(judged)} | {plan} | {' | '.join(speeds)} | {len(data) / 1e6:.1f} |", flush=True)


if __name__ == "__main__":
    main()
