"""What the loop costs beside the engine: edgeseg's run, a plain OpenCV loop, and Ultralytics, on the same video.

    python benchmarks/overhead.py [--ultralytics-python PATH] > benchmarks/overhead.md

A 1280x720 video (H.264, 4:2:0 of 8 bits, as cameras write it), a 512x512 network, results thrown away. Per contender:
wall time per frame, beside what its engine takes alone, frame after frame. Contenders take turns, ``--turns`` times,
each turn in another order. A ratio is the median of the turns' own ratios, its interval a bootstrap of turns (95 %).

edgeseg and the OpenCV loop share one engine (edge_unet + EfficientNet-Lite0, INT8, untrained), of ``--engine``.
Ultralytics is AGPL, so it runs in a process of its own Python: yolo26n-sem from its own yaml (weights cannot be had
offline and do not matter for time), exported to ONNX, ``predict(stream=True)``; its engine time is the one it reports
as "inference". Its network is another one, so that its wall time says nothing of the loop: its ratio is that of wall
time over the time of the engine alone, which is 1 for a loop that costs nothing.

The last table is a live camera: 720p at 30 fps through the GStreamer process, from capture to the null sink. Its
intervals are a bootstrap of blocks of a second (95 %). What other processes took of the cores is said of each table.
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
from typing import Any, Callable, Iterator, Sequence

import numpy as np

import edgeseg
from edgeseg.app.shipped import SHIPPED
from edgeseg.bench.compare import paired_ratio
from edgeseg.builder.networks import NetworkConfig, network_from_config
from edgeseg.bundle import Bundle, read_bundle, write_bundle
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

FRAMES = 300
LIVE_FRAMES = 600
DRAWS = 4000
# One picture, again and again: what renders anew takes milliseconds of these cores, which no camera does.
CAMERA = (
    "videotestsrc num-buffers=1 ! video/x-raw,format=BGR,width=1280,height=720 ! imagefreeze is-live=true ! "
    "video/x-raw,framerate=30/1"
)
ALONE, OURS = "engine alone", "edgeseg run"
ULTRALYTICS = """
import json, sys, time
from ultralytics import YOLO
video = sys.argv[1]
path = YOLO("yolo26n-sem.yaml").export(format="onnx", imgsz=512, verbose=False)
model = YOLO(path, task="semantic")
for _ in zip(range(5), model.predict(video, stream=True, imgsz=512, verbose=False)): pass
print("ready", flush=True)
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


def run_ms(engine: Engine, spec: ModelSpec, video: Path) -> float:
    running = Run(engine, spec)
    running.add(source_from_uri(str(video)))
    running.add_sink(NullSink())
    started = time.perf_counter()
    state = running.run()
    assert (state.frames, state.dropped) == (FRAMES, 0)
    return (time.perf_counter() - started) * 1e3 / FRAMES


def opencv_ms(engine: Engine, spec: ModelSpec, video: Path) -> float:
    import cv2

    capture, count = cv2.VideoCapture(str(video)), 0
    started = time.perf_counter()
    while True:
        arrived, frame = capture.read()
        if not arrived:
            break
        small = cv2.resize(frame, (spec.size_hw[1], spec.size_hw[0]))
        classes = engine.infer(small[None])[0]
        cv2.resize(classes, (frame.shape[1], frame.shape[0]), interpolation=cv2.INTER_NEAREST)
        count += 1
    assert count == FRAMES
    return (time.perf_counter() - started) * 1e3 / count


def live_ms(engine: Engine, spec: ModelSpec) -> dict[str, np.ndarray]:
    """Of live frames: from capture to the end of the sink without the engine, and where it goes."""
    over: dict[str, list[float]] = {"capture to sink, minus engine": [], "preprocess": [], "postprocess": []}

    class Sink(NullSink):
        def write(self, result: Any) -> None:
            age = (time.perf_counter_ns() - result.frame.captured_ns) / 1e6
            over["capture to sink, minus engine"].append(age - result.laps_ms["infer"])
            for stage in ("preprocess", "postprocess"):
                over[stage].append(result.laps_ms[stage])

    running = Run(engine, spec, LoopOptions(max_frames=LIVE_FRAMES + 20))
    camera = pipeline_from_uri(f"gst://{CAMERA}", CaptureOptions())
    running.add(GstSource(replace(camera, live=True, endless=True, waits=False), "live camera"))
    running.add_sink(Sink())
    running.run()
    return {name: np.array(values[20:]) for name, values in over.items()}


class OtherLoad:
    """What other processes take of the cores, from its making on."""

    def __init__(self) -> None:
        self._began = self._counts()

    def share(self) -> float:
        """Return it, 0-1; children of ours count as others until they have ended."""
        busy, total, mine = (now - then for now, then in zip(self._counts(), self._began))
        return max(0.0, busy - mine) / max(total, 1e-9)

    @staticmethod
    def _counts() -> tuple[float, float, float]:
        user, nice, system, idle, waiting, irq, soft, steal, *_ = map(
            int, Path("/proc/stat").read_text().split("\n")[0].split()[1:]
        )
        per_s = os.sysconf("SC_CLK_TCK")
        busy = user + nice + system + irq + soft + steal
        return busy / per_s, (busy + idle + waiting) / per_s, sum(os.times()[:4])


def interval(draws: np.ndarray) -> str:
    low, high = np.percentile(draws, (2.5, 97.5))
    return f"{low:.2f} to {high:.2f}"


def ratio_of(times: Sequence[float], divisors: Sequence[float]) -> str:
    ratio, low, high = paired_ratio(divisors, times)
    return f"{ratio:.2f} ({low:.2f} to {high:.2f})"


def percentile_of(values: np.ndarray, percent: float, rng: np.random.Generator, block: int = 30) -> str:
    blocks = values[: len(values) // block * block].reshape(-1, block)
    drawn = blocks[rng.integers(0, len(blocks), (DRAWS // 4, len(blocks)))].reshape(DRAWS // 4, -1)
    return f"{np.percentile(values, percent):.2f} ({interval(np.percentile(drawn, percent, axis=1))})"


class Ultralytics:
    """Its process, which runs the video whenever it is told to."""

    def __init__(self, python: str, video: Path) -> None:
        self._process = subprocess.Popen(
            [python, "-c", ULTRALYTICS, str(video)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=video.parent,
            env={**os.environ, "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "PYTHONPATH": ""},
        )
        next(line for line in self._lines() if line.startswith("ready"))

    def _lines(self) -> Iterator[str]:
        assert self._process.stdout is not None
        return iter(self._process.stdout)

    def run_ms(self) -> tuple[float, float]:
        """Wall time and engine time per frame."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        wall, engine = json.loads(next(line for line in self._lines() if line.startswith("[")))
        return wall, engine

    def close(self) -> None:
        self._process.communicate()


def video_tables(engine: Engine, spec: ModelSpec, python: str | None, turns: int, folder: Path) -> None:
    video = folder / "v.mp4"
    subprocess.run(
        f"gst-launch-1.0 -q videotestsrc num-buffers={FRAMES} pattern=ball ! video/x-raw,format=I420,width=1280,"
        f"height=720,framerate=30/1 ! x264enc speed-preset=veryfast ! mp4mux ! filesink location={video}".split(),
        check=True,
    )
    contenders: dict[str, Callable[[], tuple[float, float | None]]] = {
        ALONE: lambda: (engine_alone_ms(engine), None),
        OURS: lambda: (run_ms(engine, spec, video), None),
        "OpenCV loop": lambda: (opencv_ms(engine, spec, video), None),
    }
    peer = Ultralytics(python, video) if python else None
    if peer is not None:
        contenders["Ultralytics predict(stream=True)"] = peer.run_ms
    rng = np.random.default_rng(0)
    rows: dict[str, list[tuple[float, float | None]]] = {name: [] for name in contenders}
    for name in (OURS, "OpenCV loop"):
        contenders[name]()  # warm-up of everything
    others = OtherLoad()
    for _ in range(turns):
        for name in rng.permutation(list(contenders)):
            rows[name].append(contenders[name]())
    other = others.share()
    if peer is not None:
        peer.close()
    alone, ours = ([wall for wall, _ in rows[name]] for name in (ALONE, OURS))
    print("| contender | wall ms/frame | its engine alone, ms | wall over engine | wall over edgeseg's |")
    print("|---|---|---|---|---|")
    for name, times in rows.items():
        wall = [one for one, _ in times]
        inside = [whole if own is None else own for whole, (_, own) in zip(alone, times)]
        above = ratio_of(wall, inside) if name != ALONE else ""
        beside = ratio_of(wall, ours) if name != OURS else ""
        print(f"| {name} | {np.median(wall):.2f} | {np.median(inside):.2f} | {above} | {beside} |")
    print(f"\nOther processes, the peer's among them, took {other:.0%} of the cores.")


def live_table(engine: Engine, spec: ModelSpec) -> None:
    others = OtherLoad()
    live, rng = live_ms(engine, spec), np.random.default_rng(0)
    other = others.share()
    print("\nLive camera, 1280x720 at 30 fps, ms per frame:\n")
    print("| | p50 | p90 | p99 |")
    print("|---|---|---|---|")
    for name, values in live.items():
        print(f"| {name} | {' | '.join(percentile_of(values, percent, rng) for percent in (50, 90, 99))} |")
    print(f"\n{len(values)} frames. Other processes took {other:.0%} of the cores.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ultralytics-python", help="a Python that has ultralytics, onnx and onnxruntime")
    parser.add_argument("--turns", type=int, default=12)
    parser.add_argument("--engine", default="onnxruntime", help="of edgeseg and the OpenCV loop")
    parser.add_argument("--bundle", help="made by an earlier run with this option, or where to keep it")
    wanted = parser.parse_args()
    if wanted.bundle and Path(wanted.bundle).exists():
        bundle = read_bundle(wanted.bundle)
    else:
        bundle = bundle_of_512()
        if wanted.bundle:
            write_bundle(bundle, wanted.bundle)
    with tempfile.TemporaryDirectory() as folder, engine_from_bundle(bundle, None, engine=wanted.engine) as engine:
        print("# What the loop costs beside the engine\n")
        print(f"Device: {detected_device().describe()}. Engine: {engine.description}, 512x512.")
        print(f"1280x720 video of {FRAMES} frames, {wanted.turns} turns. `python {' '.join(sys.argv)}`\n")
        video_tables(engine, bundle.spec, wanted.ultralytics_python, wanted.turns, Path(folder))
        live_table(engine, bundle.spec)


if __name__ == "__main__":
    main()
