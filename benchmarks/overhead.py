"""What the loop costs beside the engine: edgeseg's run, a plain OpenCV loop, and Ultralytics, on the same video.

    python benchmarks/overhead.py [--ultralytics-python PATH] > benchmarks/overhead.md

A 1280x720 video, a 512x512 network, results thrown away. Per contender: wall time per frame, minus what its engine
takes alone. Contenders take turns, ``--turns`` times; the ratio is over the medians, the spread over turns is shown.
edgeseg and the OpenCV loop share one engine (edge_unet + EfficientNet-Lite0, INT8, ONNX Runtime). Ultralytics is AGPL,
so it runs in a process of its own Python: yolo26n-sem from its own yaml (weights cannot be had offline and do not
matter for time), exported to ONNX, ``predict(stream=True)``; its engine time is the one it reports as "inference".

The last table is a live camera: 720p at 30 fps through the GStreamer process, from capture to the null sink.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import edgeseg
from edgeseg.app.shipped import SHIPPED
from edgeseg.builder.networks import NetworkConfig, network_from_config
from edgeseg.bundle import Bundle, read_bundle
from edgeseg.compiler.options import CompileOptions
from edgeseg.demo.street import StreetDataset
from edgeseg.device.detect import detected_device
from edgeseg.engines.base import Engine
from edgeseg.engines.select import engine_from_bundle
from edgeseg.runtime.gst.pipelines import CaptureOptions, pipeline_from_uri
from edgeseg.runtime.loop.pipeline import LoopOptions, Run
from edgeseg.runtime.sinks.uri import NullSink
from edgeseg.runtime.sources import source_from_uri
from edgeseg.runtime.sources.gstreamer import GstSource
from edgeseg.spec import ModelSpec

FRAMES = 200
# One picture, again and again: what renders anew takes milliseconds of these cores, which no camera does.
CAMERA = (
    "videotestsrc num-buffers=1 ! video/x-raw,format=BGR,width=1280,height=720 ! imagefreeze is-live=true ! "
    "video/x-raw,framerate=30/1"
)
ULTRALYTICS = """
import json, sys, time
from ultralytics import YOLO
video, frames = sys.argv[1], int(sys.argv[2])
path = YOLO("yolo26n-sem.yaml").export(format="onnx", imgsz=512, verbose=False)
model = YOLO(path, task="semantic")
for _ in zip(range(5), model.predict(video, stream=True, imgsz=512, verbose=False)): pass
for line in sys.stdin:
    engine, count, started = 0.0, 0, time.perf_counter()
    for result in model.predict(video, stream=True, imgsz=512, verbose=False):
        engine, count = engine + result.speed["inference"], count + 1
    print(json.dumps([(time.perf_counter() - started) * 1e3 / count, engine / count]), flush=True)
"""


def bundle_of_512() -> Bundle:
    shipped = read_bundle(SHIPPED).spec
    spec = ModelSpec(shipped.classes, shipped.palette, (512, 512), shipped.preprocess, shipped.ignore_id)
    calibration = StreetDataset("demo://street?frames=16&size=512x512&step=10")
    frames = StreetDataset("demo://street?frames=2&size=512x512")
    network = network_from_config(NetworkConfig("edge_unet", "efficientnet_lite0", len(spec.classes)))
    options = CompileOptions(("int8-cpu",), "minmax", gate=False, mixed=False)  # untrained: only its time matters
    return edgeseg.compile_model(network, spec, evaluation=frames, calibration=calibration, options=options).bundle


def engine_alone_ms(engine: Engine, frames: int = FRAMES) -> float:
    started = time.perf_counter()
    for _ in range(frames):
        engine.infer(engine.input)
    return (time.perf_counter() - started) * 1e3 / frames


def run_ms(engine: Engine, spec: ModelSpec, video: Path) -> tuple[float, float]:
    running = Run(engine, spec)
    running.add(source_from_uri(str(video)))
    running.add_sink(NullSink())
    started = time.perf_counter()
    state = running.run()
    return (time.perf_counter() - started) * 1e3 / state.frames, state.latencies()["infer"].mean_ms


def opencv_ms(engine: Engine, spec: ModelSpec, video: Path) -> tuple[float, float]:
    import cv2

    capture, count, inside = cv2.VideoCapture(str(video)), 0, 0.0
    started = time.perf_counter()
    while True:
        arrived, frame = capture.read()
        if not arrived:
            break
        small = cv2.resize(frame, (spec.size_hw[1], spec.size_hw[0]))
        before = time.perf_counter()
        classes = engine.infer(small[None])[0]
        inside += time.perf_counter() - before
        cv2.resize(classes, (frame.shape[1], frame.shape[0]), interpolation=cv2.INTER_NEAREST)
        count += 1
    return (time.perf_counter() - started) * 1e3 / count, inside * 1e3 / count


def live_ms(engine: Engine, spec: ModelSpec) -> dict[str, np.ndarray]:
    """Of 600 live frames: from capture to the end of the sink without the engine, and where it goes."""
    over: dict[str, list[float]] = {"capture to sink, minus engine": [], "preprocess": [], "postprocess": []}

    class Sink(NullSink):
        def write(self, result: Any) -> None:
            age = (time.perf_counter_ns() - result.frame.captured_ns) / 1e6
            over["capture to sink, minus engine"].append(age - result.laps_ms["infer"])
            for stage in ("preprocess", "postprocess"):
                over[stage].append(result.laps_ms[stage])

    running = Run(engine, spec, LoopOptions(max_frames=620))
    camera = pipeline_from_uri(f"gst://{CAMERA}", CaptureOptions())
    running.add(GstSource(replace(camera, live=True, endless=True, waits=False), "live camera"))
    running.add_sink(Sink())
    running.run()
    return {name: np.array(values[20:]) for name, values in over.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ultralytics-python", help="a Python that has ultralytics, onnx and onnxruntime")
    parser.add_argument("--turns", type=int, default=5)
    wanted = parser.parse_args()
    bundle = bundle_of_512()
    rows: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder, engine_from_bundle(bundle, None) as engine:
        video = Path(folder, "v.mp4")
        subprocess.run(
            f"gst-launch-1.0 -q videotestsrc num-buffers={FRAMES} pattern=ball ! video/x-raw,width=1280,height=720,"
            f"framerate=30/1 ! x264enc speed-preset=veryfast ! mp4mux ! filesink location={video}".split(),
            check=True,
        )
        peer = None
        if wanted.ultralytics_python:
            peer = subprocess.Popen(
                [wanted.ultralytics_python, "-c", ULTRALYTICS, str(video), str(FRAMES)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=folder,
                env={**os.environ, "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"},
            )
        run_ms(engine, bundle.spec, video)  # warm-up of everything
        for _ in range(wanted.turns):
            alone = engine_alone_ms(engine)
            rows.setdefault("engine alone", []).append((alone, alone))
            rows.setdefault("edgeseg run", []).append((run_ms(engine, bundle.spec, video)[0], alone))
            rows.setdefault("OpenCV loop", []).append((opencv_ms(engine, bundle.spec, video)[0], alone))
            if peer is not None:
                assert peer.stdin is not None and peer.stdout is not None
                peer.stdin.write("go\n")
                peer.stdin.flush()
                line = next(line for line in peer.stdout if line.startswith("["))
                rows.setdefault("Ultralytics predict(stream=True)", []).append(tuple(json.loads(line)))
        if peer is not None:
            peer.communicate()
        live = live_ms(engine, bundle.spec)
        print("# What the loop costs beside the engine\n")
        print(f"Device: {detected_device().describe()}. Engine: {engine.description}, 512x512.")
        print(f"1280x720 video of {FRAMES} frames, {wanted.turns} turns. `python {' '.join(sys.argv)}`\n")
    print("| contender | wall ms/frame | its engine alone, ms | overhead ms/frame, median (over turns) |")
    print("|---|---|---|---|")
    for name, turns in rows.items():
        wall, inside = (float(np.median([turn[i] for turn in turns])) for i in (0, 1))
        over = [turn[0] - turn[1] for turn in turns]
        print(f"| {name} | {wall:.2f} | {inside:.2f} | {np.median(over):.2f} ({min(over):.2f} to {max(over):.2f}) |")
    print("\nLive camera, 1280x720 at 30 fps, ms per frame:\n")
    print("| | mean | p50 | p90 | p99 |")
    print("|---|---|---|---|---|")
    for name, values in live.items():
        numbers = (values.mean(), *np.percentile(values, (50, 90, 99)))
        print(f"| {name} | {' | '.join(f'{number:.2f}' for number in numbers)} |")


if __name__ == "__main__":
    main()
