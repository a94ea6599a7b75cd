"""ms/frame of PyTorch eager, ONNX Runtime, OpenVINO and NNCF on one CPU, in one run with alternating turns.

    python benchmarks/cpu_engines.py unet --nncf unet.nncf.onnx --nncf unet.nncf.xml
    python benchmarks/cpu_engines.py edge_unet --write-fp32 edge_unet.onnx --write-frames frames.npy
    python benchmarks/cpu_engines.py street --threads 1 --cpu-time --batch 2 --peer street.mnn --peer street.tflite

End to end: a 640x480 BGR frame, resized to 512x512, to a class map of 640x480. Weights are random with settled
BatchNorm statistics, ranges come from the rendered street: speed does not depend on them. ``--write-fp32`` and
``--write-frames`` store what NNCF is given; the peer's own environment then runs what cpu-engines.md says.

``street`` is the shipped model as it is, inference alone: our graphs in our engines, in batches too, and its float
network in MNN (.mnn), ncnn (.param) and LiteRT (.tflite). Ours end in a class map, theirs in scores: that is less work.
``--cpu-time`` reads the CPU time of the process, which other programs change less: for one thread.
"""

from __future__ import annotations

import argparse
import importlib
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Callable, Mapping

import numpy as np
import onnx
import torch

from edgeseg import __version__
from edgeseg.app.segment import load
from edgeseg.bench.contenders import engine_contender
from edgeseg.bench.measure import Contender, Effort, Measurement, measured_side_by_side
from edgeseg.builder.networks import NetworkConfig, PaddedNetwork, network_from_config
from edgeseg.bundle import Bundle
from edgeseg.compiler.calibration.collect import ranges_from_frames
from edgeseg.compiler.graph.batch import batched_onnx
from edgeseg.compiler.graph.unfolded import unfolded_onnx
from edgeseg.compiler.quantize.emit import emitted_onnx
from edgeseg.compiler.steps.float_graph import float_graph_from_module
from edgeseg.demo import CLASSES, PALETTE
from edgeseg.demo.street import StreetDataset
from edgeseg.device.detect import detected_device
from edgeseg.engines.base import Engine
from edgeseg.engines.openvino import OpenVinoEngine, openvino_module
from edgeseg.engines.ort import OrtEngine
from edgeseg.preprocess import NetworkFrames, normalized
from edgeseg.recipes import FP32, INT8_CPU, RECIPES
from edgeseg.spec import ModelSpec
from edgeseg.timing import Stopwatch

SIZE_HW = (512, 512)
SPEC = ModelSpec(CLASSES, PALETTE, SIZE_HW, ignore_id=11)
STREET = "demo://street?frames=32&step=30&size=640x480"


def settled_network(architecture: str) -> PaddedNetwork:
    """Random weights; BatchNorm statistics that fit them, so that INT8 sees natural ranges."""
    torch.manual_seed(0)
    network = network_from_config(NetworkConfig(architecture, "mobilenet_v2", len(CLASSES)))
    network.train()
    with torch.no_grad():
        for _ in range(8):
            network(torch.randn(4, 3, 64, 96))
    return network.eval()


def eager_contender(name: str, network: torch.nn.Module) -> Contender:
    """PyTorch eager with the same resize and the same class map at the end."""

    def segment(frame: np.ndarray, watch: Stopwatch) -> np.ndarray:
        with watch.lap("preprocess"):
            image = torch.from_numpy(normalized(SPEC.resized(frame)[None], SPEC.preprocess))
        with watch.lap("infer"), torch.inference_mode():
            logits = network(image)
        with watch.lap("postprocess"):
            found = logits.argmax(1)[0].to(torch.uint8).numpy()
            return SPEC.class_map_on(found, (frame.shape[0], frame.shape[1]))

    return Contender(name, segment)


def nncf_contender(path: Path, threads: int) -> Contender:
    """A peer's file in OpenVINO as its users run it: latency hint, OpenVINO's own choice of float precision."""
    openvino: Any = openvino_module()
    core = openvino.Core()
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    request = core.compile_model(core.read_model(path), "CPU", settings).create_infer_request()
    buffer = np.zeros((1, *SIZE_HW, 3), np.uint8)
    request.set_input_tensor(openvino.Tensor(buffer, shared_memory=True))

    def segment(frame: np.ndarray, watch: Stopwatch) -> np.ndarray:
        with watch.lap("preprocess"):
            SPEC.resized(frame, out=buffer[0])
        with watch.lap("infer"):
            request.infer(share_outputs=True)
        with watch.lap("postprocess"):
            return SPEC.class_map_on(request.get_output_tensor().data[0], (frame.shape[0], frame.shape[1]))

    return Contender(f"NNCF ({path.suffix[1:]}) in OpenVINO", segment)


def measured(arguments: argparse.Namespace) -> list[Measurement]:
    """The contenders of one network, timed."""
    torch.set_num_threads(arguments.threads)
    data = StreetDataset(STREET)
    frames = [data[index].frame for index in range(len(data))]
    network = settled_network(arguments.network)
    graph = float_graph_from_module(network, SPEC)
    if arguments.write_fp32:
        onnx.save(graph, arguments.write_fp32)
    if arguments.write_frames:
        np.save(arguments.write_frames, np.stack([SPEC.resized(frame) for frame in frames]))
    ranges = ranges_from_frames(graph, NetworkFrames(data, SPEC))
    int8 = emitted_onnx(graph, ranges, RECIPES["int8-cpu"]).SerializeToString()
    contenders = [eager_contender(f"PyTorch {torch.__version__} eager, {arguments.network}", network)]
    if arguments.network != "unet":
        contenders.append(eager_contender(f"PyTorch {torch.__version__} eager, unet", settled_network("unet")))
    with ExitStack() as stack:
        threads = arguments.threads
        ours_openvino = stack.enter_context(OpenVinoEngine(int8, threads=threads))
        print(
            f"OpenVINO runs %d of %d convolutions in INT8; {ours_openvino.description}"
            % ours_openvino.int8_convolutions()
        )
        for name, engine in (
            ("ours INT8 in OpenVINO", ours_openvino),
            ("ours INT8 in ONNX Runtime", stack.enter_context(OrtEngine(int8, threads=threads))),
            ("ours FP32 in ONNX Runtime", stack.enter_context(OrtEngine(graph.SerializeToString(), threads=threads))),
        ):
            contenders.append(engine_contender(name, engine, SPEC))
        contenders += [nncf_contender(path, threads) for path in arguments.nncf]
        return measured_side_by_side(contenders, frames, Effort(arguments.seconds, arguments.warmup))


Scores = Callable[[np.ndarray], np.ndarray]
"""1x3xHxW float32 BGR of 0-255 -> scores CxHxW float32."""


def mnn_scores(path: Path, threads: int) -> Scores:
    """MNN's session on the CPU."""
    mnn: Any = importlib.import_module("MNN")
    interpreter = mnn.Interpreter(str(path))
    session = interpreter.createSession({"backend": "CPU", "numThread": threads, "precision": "high"})
    given, found = interpreter.getSessionInput(session), interpreter.getSessionOutput(session)

    def run(planes: np.ndarray) -> np.ndarray:
        shape, kind = planes.shape, mnn.Halide_Type_Float
        given.copyFrom(mnn.Tensor(shape, kind, planes, mnn.Tensor_DimensionType_Caffe))
        interpreter.runSession(session)
        sizes = found.getShape()
        host = mnn.Tensor(sizes, kind, np.zeros(sizes, np.float32), mnn.Tensor_DimensionType_Caffe)
        found.copyToHostTensor(host)
        scores: np.ndarray = np.array(host.getNumpyData(), copy=False).reshape(sizes)[0]
        return scores

    return run


def ncnn_scores(path: Path, threads: int) -> Scores:
    """ncnn with its own defaults."""
    ncnn: Any = importlib.import_module("ncnn")
    net = ncnn.Net()
    net.opt.num_threads = threads
    if net.load_param(str(path)) or net.load_model(str(path.with_suffix(".bin"))):
        raise SystemExit(f"ncnn cannot load {path}")

    def run(planes: np.ndarray) -> np.ndarray:
        with net.create_extractor() as extractor:
            extractor.input("in0", ncnn.Mat(planes[0]))
            failed, scores = extractor.extract("out0")
            if failed:
                raise SystemExit(f"ncnn cannot run {path}")
            return np.array(scores)

    return run


def litert_scores(path: Path, threads: int) -> Scores:
    """LiteRT, which runs networks in XNNPACK; one that it quantized on its own takes and gives int8."""
    litert: Any = importlib.import_module("ai_edge_litert.interpreter")
    interpreter = litert.Interpreter(str(path), num_threads=threads)
    interpreter.allocate_tensors()
    (given,), (found,) = interpreter.get_input_details(), interpreter.get_output_details()
    scale, zero = given["quantization"]

    def run(planes: np.ndarray) -> np.ndarray:
        frame = planes.transpose(0, 2, 3, 1)
        if given["dtype"] == np.int8:
            frame = np.clip(np.rint(frame / scale) + zero, -128, 127).astype(np.int8)
        interpreter.set_tensor(given["index"], frame)
        interpreter.invoke()
        scores: np.ndarray = interpreter.get_tensor(found["index"])[0].transpose(2, 0, 1)
        return scores

    return run


PEERS: Mapping[str, tuple[str, Callable[[Path, int], Scores]]] = {
    ".mnn": ("MNN", mnn_scores),
    ".param": ("ncnn", ncnn_scores),
    ".tflite": ("LiteRT", litert_scores),
}
"""Suffix of a file -> its engine, and what opens it."""


def inference_contender(name: str, engine: Engine) -> Contender:
    """Network input -> class ids, without resizing."""

    def infer(frame: np.ndarray, watch: Stopwatch) -> np.ndarray:
        return engine.infer(engine.input)

    return Contender(name, infer, len(engine.input))


def peer_contender(name: str, scores: Scores, bundle: Bundle) -> Contender:
    """Network input -> scores, after a look at the golden frames."""
    assert bundle.golden is not None
    planes = [np.ascontiguousarray(frame.transpose(2, 0, 1)[None], np.float32) for frame in bundle.golden.frames]
    found = np.stack([scores(one).argmax(0) for one in planes])
    print(f"{name}: {100 * np.mean(found == bundle.golden.classes):.2f} % of the golden pixels as FP32")
    return Contender(name, lambda frame, watch: scores(planes[0]))


def measured_street(arguments: argparse.Namespace) -> list[Measurement]:
    """Time the shipped model: our graphs in our engines, one frame and several at once, and the peers' files."""
    bundle, threads = load(), arguments.threads
    assert bundle.golden is not None
    if arguments.write_fp32:
        float_onnx = bundle.graphs[FP32].onnx
        arguments.write_fp32.write_bytes(unfolded_onnx(float_onnx, FP32, bundle.spec.size_hw))
    contenders = []
    with ExitStack() as stack:
        for graph in (INT8_CPU, FP32):
            for title, kind in (("ONNX Runtime", OrtEngine), ("OpenVINO", OpenVinoEngine)):
                for batch in (1, *(arguments.batch if graph == INT8_CPU else ())):
                    onnx_bytes = bundle.graphs[graph].onnx
                    model = batched_onnx(onnx.load_model_from_string(onnx_bytes), batch).SerializeToString()
                    engine = stack.enter_context(kind(model, graph, threads=threads))
                    engine.input[:] = bundle.golden.frames[:1]
                    name = f"{graph} in {title}" + (f", {batch} frames at once" if batch > 1 else "")
                    contenders.append(inference_contender(name, engine))
        for path in arguments.peer:
            title, opener = PEERS[path.suffix]
            contenders.append(peer_contender(f"{path.stem} in {title}", opener(path, threads), bundle))
        clock = time.process_time_ns if arguments.cpu_time else time.perf_counter_ns
        effort = Effort(arguments.seconds, arguments.warmup)
        return measured_side_by_side(contenders, list(bundle.golden.frames), effort, clock_ns=clock)


def print_street(results: list[Measurement]) -> None:
    """Print a row per contender: its time as a share of the first, ONNX Runtime's INT8, from paired turns."""
    print("| contender | p50 ms | p90 | of ONNX Runtime's time, INT8 | of ONNX Runtime's time, FP32 |")
    print("|---|---|---|---|---|")
    firsts = [next(r for r in results if r.name == f"{graph} in ONNX Runtime") for graph in (INT8_CPU, FP32)]
    for r in results:
        shares = ["{:.2f} ({:.2f}-{:.2f})".format(*first.ratio_to(r)) for first in firsts]
        print(f"| {r.name} | {r.frame.p50_ms:.1f} | {r.frame.p90_ms:.1f} | {' | '.join(shares)} |")


def print_markdown(results: list[Measurement]) -> None:
    """One row per contender; ratios are medians of paired turns, with 95 % intervals."""
    eager = [r for r in results if r.name.endswith("eager, unet")][0]
    ours = next(r for r in results if r.name == "ours INT8 in OpenVINO")
    print("| contender | p50 ms | p90 | p99 | faster than eager smp unet | ours in OpenVINO is faster by |")
    print("|---|---|---|---|---|---|")
    for r in results:
        ratios = ["{:.2f}x ({:.2f}-{:.2f})".format(*pair) for pair in (r.ratio_to(eager), ours.ratio_to(r))]
        times = [f"{ms:.1f}" for ms in (r.frame.p50_ms, r.frame.p90_ms, r.frame.p99_ms)]
        print(f"| {' | '.join([r.name + (' (UNSTABLE)' if r.unstable else ''), *times, *ratios])} |")


def main() -> None:
    """Measure one network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=("unet", "edge_unet", "street"))
    parser.add_argument("--peer", type=Path, action="append", default=[], help="street: .mnn, .param or .tflite of it")
    parser.add_argument("--batch", type=int, action="append", default=[], help="street: frames at once, too")
    parser.add_argument("--cpu-time", action="store_true", help="street: CPU time of the process, for one thread")
    parser.add_argument("--nncf", type=Path, action="append", default=[], help="NNCF's .xml or .onnx of this network")
    parser.add_argument("--write-fp32", type=Path, help="store the FP32 graph for the peers")
    parser.add_argument("--write-frames", type=Path, help="store the calibration frames, Nx512x512x3 uint8")
    parser.add_argument("--seconds", type=float, default=15.0, help="per contender")
    parser.add_argument("--warmup", type=float, default=3.0)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.network == "street":
        kind = "CPU time" if arguments.cpu_time else "wall time"
        print(f"edgeseg {__version__}, street.edgeseg, inference alone, {arguments.threads} threads, {kind}")
        print(detected_device().describe())
        print_street(measured_street(arguments))
        return
    size = f"{SIZE_HW[1]}x{SIZE_HW[0]}"
    print(f"edgeseg {__version__}, {arguments.network} + mobilenet_v2, {size}, {arguments.threads} threads")
    print(detected_device().describe())
    print_markdown(measured(arguments))


if __name__ == "__main__":
    main()
