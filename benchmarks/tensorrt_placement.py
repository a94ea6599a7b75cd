"""What NVIDIA's compiler makes of our graphs: every network and precision, for every GPU generation.

    python benchmarks/tensorrt_placement.py --modelopt-python PATH

needs ``pip install 'edgeseg[train,compile]' tensorrt-rtx-cu13``. ``--modelopt-python`` is the Python of an environment
with ``pip install 'nvidia-modelopt[onnx]'`` (Python 3.10; it wants its own onnx and onnxruntime); without it ModelOpt's
rows are left out. ``--bundle FILE`` adds a bundle's graphs. Plans are kept under ``--work`` by the digest of their
graph, so that a stopped run goes on where it stopped. What stands in the result from the line "## What it says" on is
written by hand and kept.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import onnx
import torch

from edgeseg.builder.networks import NetworkConfig, network_from_config
from edgeseg.bundle import read_bundle
from edgeseg.compiler.calibration.collect import ranges_from_frames
from edgeseg.compiler.quantize.qdq import tensorrt_qdq_onnx
from edgeseg.compiler.steps.float_graph import float_graph_from_bundle, float_graph_from_module
from edgeseg.compiler.verify.tensorrt_rtx import kernel_plan_from_onnx
from edgeseg.demo import CLASSES, PALETTE
from edgeseg.demo.street import StreetDataset
from edgeseg.errors import CompileError
from edgeseg.preprocess import NetworkFrames
from edgeseg.spec import ModelSpec

SIZE = 256
SPEC = ModelSpec(CLASSES, PALETTE, (SIZE, SIZE), ignore_id=11)
NETWORKS = (
    "edge_unet:efficientnet_lite0",
    "edge_unet:mobilenet_v2",
    "unet:mobilenet_v2",
    "unet:efficientnet-b0",
    "unet:resnet18",
)
CAPABILITIES = ("SM75", "SM86", "SM89", "SM120")
PLACEMENTS_FOR = "SM86"
FRAMES = f"demo://street?frames=16&step=30&size={SIZE}x{SIZE}"
BY_HAND = "## What it says"
HEADER = "| network | graph | GPU | accepted | kernels | INT8 of all convolutions | float round trips | activations read and written, MB | plan, MB | build, s |"  # noqa: E501
MODELOPT = """
import sys, numpy
from modelopt.onnx.quantization import quantize
graph, frames, target, high_precision = sys.argv[1:]
quantize(graph, quantize_mode="int8", calibration_data={"frame": numpy.load(frames)}, calibration_eps=["cpu"],
         high_precision_dtype=high_precision, output_path=target)
"""
ONNXRUNTIME: dict[str, dict[str, Any]] = {
    "ONNX Runtime defaults": {},
    "ONNX Runtime symmetric": {
        "per_channel": True,
        "extra_options": {
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "AddQDQPairToWeight": True,
            "QuantizeBias": False,
        },
    },
}


def settled_float_graph(network: str) -> onnx.ModelProto:
    """The folded FP32 graph of ARCHITECTURE:ENCODER, random weights, BatchNorm statistics that fit them."""
    torch.manual_seed(0)
    architecture, encoder = network.split(":")
    module = network_from_config(NetworkConfig(architecture, encoder))
    module.train()
    with torch.no_grad():
        for _ in range(4):
            module(torch.randn(4, 3, 64, 96))
    return float_graph_from_module(module.eval(), SPEC)


def graphs_of_network(network: str, work: Path, modelopt_python: str | None) -> Iterator[tuple[str, bytes, str]]:
    """(name, ONNX, "" or why there is none) of every way to quantize one network."""
    graph = settled_float_graph(network)
    fp32 = graph.SerializeToString()
    yield "fp32", fp32, ""
    frames = NetworkFrames(StreetDataset(FRAMES), SPEC)
    yield (
        "int8-tensorrt",
        tensorrt_qdq_onnx(graph, ranges_from_frames(graph, frames)).SerializeToString(),
        "",
    )
    folder = work / hashlib.sha256(fp32).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fp32.onnx").write_bytes(fp32)
    dataset = StreetDataset(FRAMES)
    np.save(folder / "frames.npy", np.stack([dataset[i].frame for i in range(len(dataset))]))
    for name, options in ONNXRUNTIME.items():
        target = folder / f"{name.replace(' ', '-')}.onnx"
        if not target.exists():
            quantize_with_onnxruntime(folder, target, options)
        yield name, target.read_bytes(), ""
    for high_precision in ("fp32", "fp16") if modelopt_python else ():
        target = folder / f"modelopt-{high_precision}.onnx"
        failed = "" if target.exists() else quantize_with_modelopt(str(modelopt_python), folder, target, high_precision)
        yield f"ModelOpt, rest in {high_precision}", b"" if failed else target.read_bytes(), failed


def quantize_with_onnxruntime(folder: Path, target: Path, options: dict[str, Any]) -> None:
    """``quantize_static`` with the frames that the others see."""
    from onnxruntime import quantization

    frames = np.load(folder / "frames.npy")

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(frames)

        def get_next(self) -> dict[str, np.ndarray] | None:
            frame = next(self.left, None)
            return None if frame is None else {"frame": frame[None]}

    quantization.quantize_static(folder / "fp32.onnx", target, Reader(), **options)


def quantize_with_modelopt(python: str, folder: Path, target: Path, high_precision: str) -> str:
    """NVIDIA ModelOpt's ONNX PTQ in its own environment; why it failed, or nothing."""
    arguments = [str(folder / "fp32.onnx"), str(folder / "frames.npy"), str(target), high_precision]
    done = subprocess.run([python, "-c", MODELOPT, *arguments], capture_output=True, text=True)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no message"])[-1]


def graphs_of_bundle(path: Path) -> Iterator[tuple[str, bytes, str]]:
    """The float graph of a bundle and every graph in it that is for TensorRT."""
    bundle = read_bundle(path)
    yield "fp32", float_graph_from_bundle(bundle).SerializeToString(), ""
    for name, entry in bundle.graphs.items():
        if entry.target == "tensorrt":
            yield name, entry.onnx, ""


def row(network: str, name: str, graph: bytes, capability: str, work: Path) -> str:
    """One line of the table."""
    plan = plan_json(graph, capability, work)
    head = f"| {network} | {name} | {capability} |"
    if "refused" in plan:
        return f"{head} **no**: {plan['refused'][:250].replace('|', '/')} | | | | | | |"
    return (
        f"{head} yes | {plan['kernels']} | {plan['int8_convolutions']} / {plan['convolutions']} | "
        f"{len(plan['float_round_trips'])} | {plan['activation_bytes'] / 1e6:.1f} | {plan['plan_bytes'] / 1e6:.1f} | "
        f"{plan['build_s']:.1f} |"
    )


def plan_json(graph: bytes, capability: str, work: Path) -> dict[str, Any]:
    """The kernel plan as JSON, from ``work`` if this very graph was built before."""
    stored = work / f"{hashlib.sha256(graph).hexdigest()[:24]}-{capability}-{version('tensorrt-rtx-cu13')}.json"
    if not stored.exists():
        try:
            plan = kernel_plan_from_onnx(graph, capability, timeout_s=3600).to_json()
        except CompileError as error:
            plan = {"refused": str(error).partition(": ")[2]}
        stored.write_text(json.dumps(plan), encoding="utf-8")
    loaded: dict[str, Any] = json.loads(stored.read_text(encoding="utf-8"))
    return loaded


def command() -> str:
    """What was typed, without the folders of this machine."""
    typed = ["python", "benchmarks/tensorrt_placement.py", *sys.argv[1:]]
    return shlex.join(Path(word).name if Path(word).is_absolute() else word for word in typed)


def modelopt_version(python: str | None) -> str:
    """Of the other environment, for the record."""
    if python is None:
        return "not measured"
    ask = "from importlib.metadata import version; print(version('nvidia-modelopt'))"
    return subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()


def parsed_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", action="append", metavar="ARCHITECTURE:ENCODER", help="instead of the five")
    parser.add_argument("--bundle", action="append", default=[], type=Path, metavar="FILE")
    parser.add_argument("--capabilities", default=",".join(CAPABILITIES))
    parser.add_argument("--modelopt-python", metavar="PATH")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "tensorrt-placement")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("tensorrt-placement.md"))
    return parser.parse_args()


def measured(arguments: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """(which table, line) of every build."""
    capabilities = arguments.capabilities.split(",")
    for network in arguments.network or NETWORKS:
        for name, graph, failed in graphs_of_network(network, arguments.work, arguments.modelopt_python):
            ours = name in ("fp32", "int8-tensorrt")
            if failed:
                yield "placements", f"| {network} | {name} | | **no**: {failed} | | | | | | |"
                continue
            if PLACEMENTS_FOR in capabilities:
                yield "placements", row(network, name, graph, PLACEMENTS_FOR, arguments.work)
            for capability in capabilities if ours else ():
                yield "ours", row(network, name, graph, capability, arguments.work)
    for path in arguments.bundle:
        for name, graph, _ in graphs_of_bundle(path):
            for capability in capabilities:
                yield "ours", row(f"`{path.name}`", name, graph, capability, arguments.work)


def report(lines: list[tuple[str, str]], arguments: argparse.Namespace) -> str:
    """The result file up to what is written by hand."""
    rule = "|---|---|---|---|---|---|---|---|---|---|"
    packages = ", ".join(f"{name} {version(name)}" for name in ("onnx", "onnxruntime", "torch"))
    tables = {
        which: "\n".join([HEADER, rule, *(line for table, line in lines if table == which)])
        for which in ("ours", "placements")
    }
    return f"""# What TensorRT-RTX makes of our graphs

`{command()}`

{platform.machine()} with {os.cpu_count()} cores and no GPU; TensorRT-RTX {version("tensorrt-rtx-cu13")}, {packages},
ModelOpt {modelopt_version(arguments.modelopt_python)}. Networks have random weights with settled BatchNorm statistics
at {SIZE}x{SIZE} and ranges from `{FRAMES}`: a plan depends on shapes and types, not on
values. "Accepted" means parsed and built ahead of time; nothing was run. Build times are those of a shared machine. A
float round trip is a float tensor between two kernels that a better place for Q/DQ would have made INT8
(`KernelPlan.float_round_trips`).

## Every network, precision and GPU generation

{tables["ours"]}

## Our placement beside others, {PLACEMENTS_FOR}

{tables["placements"]}

"""


def main() -> None:
    arguments = parsed_arguments()
    arguments.work.mkdir(parents=True, exist_ok=True)
    lines = []
    for table, line in measured(arguments):
        print(line, flush=True)
        lines.append((table, line))
    before = arguments.output.read_text(encoding="utf-8") if arguments.output.exists() else ""
    by_hand = before[before.index(BY_HAND) :] if BY_HAND in before else ""
    arguments.output.write_text(report(lines, arguments) + by_hand, encoding="utf-8")


if __name__ == "__main__":
    main()
