"""ms/frame of PyTorch eager, ONNX Runtime, OpenVINO and NNCF on one CPU, in one run with alternating turns.

    python benchmarks/cpu_engines.py unet --nncf unet.nncf.onnx --nncf unet.nncf.xml
    python benchmarks/cpu_engines.py edge_unet --write-fp32 edge_unet.onnx --write-frames frames.npy

End to end: a 640x480 BGR frame, resized to 512x512, to a class map of 640x480. Weights are random with settled
BatchNorm statistics, ranges come from the rendered street: speed does not depend on them. ``--write-fp32`` and
``--write-frames`` store what NNCF is given; the peer's own environment then runs what cpu-engines.md says.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from edgeseg import __version__
from edgeseg.bench.contenders import engine_contender
from edgeseg.bench.measure import Contender, Effort, Measurement, measured_side_by_side
from edgeseg.builder.networks import NetworkConfig, PaddedNetwork, network_from_config
from edgeseg.compiler.calibration.collect import ranges_from_frames
from edgeseg.compiler.quantize.emit import emitted_onnx
from edgeseg.compiler.steps.float_graph import float_graph_from_module
from edgeseg.demo import CLASSES, PALETTE
from edgeseg.demo.street import StreetDataset
from edgeseg.device.detect import detected_device
from edgeseg.engines.openvino import OpenVinoEngine
from edgeseg.engines.ort import OrtEngine
from edgeseg.preprocess import NetworkFrames, normalized
from edgeseg.recipes import RECIPES
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
    import openvino

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


def print_markdown(results: list[Measurement]) -> None:
    """One row per contender; ratios are medians of paired turns, with the lowest and highest."""
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
    parser.add_argument("network", choices=("unet", "edge_unet"))
    parser.add_argument("--nncf", type=Path, action="append", default=[], help="NNCF's .xml or .onnx of this network")
    parser.add_argument("--write-fp32", type=Path, help="store the folded FP32 graph, which NNCF is to quantize")
    parser.add_argument("--write-frames", type=Path, help="store the calibration frames, Nx512x512x3 uint8")
    parser.add_argument("--seconds", type=float, default=15.0, help="per contender")
    parser.add_argument("--warmup", type=float, default=3.0)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    size = f"{SIZE_HW[1]}x{SIZE_HW[0]}"
    print(f"edgeseg {__version__}, {arguments.network} + mobilenet_v2, {size}, {arguments.threads} threads")
    print(detected_device().describe())
    print_markdown(measured(arguments))


if __name__ == "__main__":
    main()
