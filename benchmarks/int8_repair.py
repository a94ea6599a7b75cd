"""FP32 -> INT8 on CamVid val for naive, default and repaired INT8.

    python benchmarks/int8_repair.py --camvid FOLDER MODEL.safetensors|MODEL.edgeseg ... > benchmarks/int8-repair.md

naive: min-max ranges, one weight scale per tensor, no bias correction. default: min-max ranges, a scale per channel,
biases corrected. repaired: what ``edgeseg compile --int8`` does where its gate refuses the default, here with mIoU
within 0.5 points of FP32 and every class within 1 point: other calibrators, then the most sensitive layers in float.
TensorRT's graphs are judged with Q/DQ in float, the CPU's as ONNX Runtime runs them here.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeseg.app.engines import cache_folder
from edgeseg.bundle import read_bundle
from edgeseg.compiler.options import CompileData, CompileOptions, FloatModel
from edgeseg.compiler.pipeline import bundle_from_graph
from edgeseg.compiler.step_cache import StepCache
from edgeseg.compiler.steps.float_graph import float_graph_from_bundle, float_graph_from_module
from edgeseg.compiler.verify.gate import worst_drop
from edgeseg.errors import GateRefused
from edgeseg.images import FolderDataset, InMemory
from edgeseg.progress import Progress
from edgeseg.report_data import Limits
from edgeseg.spec import ModelSpec

GRAPHS = ("int8-tensorrt", "int8-cpu")
REPAIRED = Limits(0.005, 0.01, 0.0, 0.0)


def loaded(path: Path) -> tuple[Any, ModelSpec, str]:
    """(folded FP32 graph, spec, name of the network)."""
    if path.suffix == ".edgeseg":
        bundle = read_bundle(path)
        network = bundle.provenance["network"]
        return float_graph_from_bundle(bundle), bundle.spec, f"{path.name} ({_name(network)})"
    from edgeseg.builder.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(path)
    graph = float_graph_from_module(checkpoint.network, checkpoint.spec)
    config = checkpoint.config
    return graph, checkpoint.spec, f"{config.architecture} + {config.encoder}"


def _name(network: dict[str, Any]) -> str:
    return f"{network['architecture']} + {network['encoder']}"


def rows(path: Path, camvid: Path) -> list[str]:
    """Lines of the table for one network."""
    graph, spec, name = loaded(path)
    images = FolderDataset(camvid / "train")
    train = InMemory([images[index] for index in range(0, len(images), 4)], f"every fourth of {images.description}")
    val = FolderDataset(camvid / "val", spec=spec, need_labels=True)
    progress = Progress(step=lambda line: print(f"{name}: {line}", file=sys.stderr, flush=True))
    base = CompileOptions(graphs=GRAPHS, calibrator="minmax", gate=False, mixed=False)
    variants = {
        "naive per-tensor": replace(base, per_channel=False, bias_correction=False),
        "default": base,
        "repaired": replace(base, calibrator="auto", mixed=True, limits=REPAIRED),
    }
    lines = []
    for variant, options in variants.items():
        try:
            compilation = bundle_from_graph(
                FloatModel(graph, spec),
                CompileData(val, train),
                options,
                cache=StepCache(cache_folder()),
                progress=progress,
            )
        except GateRefused as error:
            lines.append(f"| {name} | {variant} | {error} | | | | | |")
            continue
        fp32 = compilation.results[0].accuracy
        for result in compilation.results[1:]:
            worst, drop = worst_drop(fp32, result.accuracy)
            assert result.int8_convolutions is not None
            done, total = result.int8_convolutions
            lines.append(
                f"| {name} | {result.name} | {variant} | {100 * fp32.miou:.2f} | {100 * result.accuracy.miou:.2f} | "
                f"{100 * (fp32.miou - result.accuracy.miou):+.2f} | {worst} {100 * drop:.2f} | {done} / {total} |"
            )
            print(lines[-1], file=sys.stderr, flush=True)
    return lines


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--camvid", type=Path, required=True, help="folder with train, val, valannot")
    parser.add_argument("models", type=Path, nargs="+")
    options = parser.parse_args()
    print("| network | graph | INT8 | FP32 mIoU | INT8 mIoU | drop | worst class drop | INT8 convolutions |")
    print("|---|---|---|---|---|---|---|---|")
    for path in options.models:
        print("\n".join(rows(path, options.camvid)), flush=True)


if __name__ == "__main__":
    main()
