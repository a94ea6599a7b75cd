"""Build, train one step, export, simplify and run in ONNX Runtime: every network with every named encoder.

    python benchmarks/networks.py RESULTS.jsonl [--encoder NAME ...] [--architecture NAME ...]

A line is added per pair, so an interrupted run goes on. ``--table`` writes the table of what is there and ends.
Weights are random; the image is 128x96, and 160x128 for pan, which pools a map of stride 16 three times.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import torch

from edgeseg.builder.networks import EDGE_ENCODERS, NetworkConfig, architecture_names, network_from_config
from edgeseg.compiler.graph.run import run_onnx
from edgeseg.compiler.graph.simplify import simplified_onnx
from edgeseg.compiler.importers.torch_export import INPUT, onnx_from_module
from edgeseg.errors import EdgesegError

CLASSES = 5
ENCODERS = (
    *("mobilenet_v2", "resnet18", "efficientnet-b0", "timm-tf_efficientnet_lite0", "se_resnet50", "resnext50_32x4d"),
    *("tu-efficientnet_lite0", "mit_b0"),
    *(f"efficientnet-b{number}" for number in range(1, 5)),
    *(f"timm-tf_efficientnet_lite{number}" for number in range(1, 5)),
)
VITS = ("tu-vit_tiny_patch16_224",)
ALLOWED = 1e-4


def pairs() -> Iterator[tuple[str, str]]:
    """Every network with the encoders that are tried with it, encoder by encoder."""
    for encoder in (*EDGE_ENCODERS, *VITS, *ENCODERS):
        for name in architecture_names():
            if encoder in {"edge_unet": tuple(EDGE_ENCODERS), "dpt": VITS}.get(name, ENCODERS):
                yield name, encoder


def size_of(architecture: str) -> tuple[int, int]:
    """Height and width on which a network is tried."""
    return (128, 160) if architecture == "pan" else (96, 128)


def one_step(network: torch.nn.Module, size_hw: tuple[int, int], channels: int = 3) -> float:
    """Train a step on noise, and return by how much the weights moved at most. Raises AssertionError: not at all."""
    torch.manual_seed(0)
    before = [value.detach().clone() for value in network.parameters()]
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    logits = network.train()(torch.randn(2, channels, *size_hw))
    assert logits.shape == (2, CLASSES, *size_hw), logits.shape
    loss = torch.nn.functional.cross_entropy(logits, torch.randint(0, CLASSES, (2, *size_hw)))
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    moved = max(float((old - new.detach()).abs().max()) for old, new in zip(before, network.parameters()))
    assert 0 < moved < float("inf") and bool(torch.isfinite(loss)), (moved, float(loss))
    return moved


def measured(architecture: str, encoder: str) -> dict[str, Any]:
    """What became of a pair: the largest difference of ONNX Runtime from torch, relative to the largest logit."""
    torch.manual_seed(0)
    size_hw = size_of(architecture)
    started = time.monotonic()
    network = network_from_config(NetworkConfig(architecture, encoder, CLASSES))
    one_step(network, size_hw)
    network.eval()
    graph = simplified_onnx(onnx_from_module(network, size_hw)).model
    image = torch.randn(1, 3, *size_hw, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = network(image).numpy()
    actual = run_onnx(graph, {INPUT: image.numpy()})[0]
    return {
        "parameters": sum(value.numel() for value in network.parameters()),
        "nodes": len(graph.graph.node),
        "difference": float(np.abs(actual - expected).max()) / max(1.0, float(np.abs(expected).max())),
        "seconds": round(time.monotonic() - started, 1),
    }


def main() -> None:
    """Measure what is not measured yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--architecture", action="append")
    parser.add_argument("--encoder", action="append")
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    lines = asked.results.read_text().splitlines() if asked.results.exists() else []
    known = {(row["architecture"], row["encoder"]): row for row in map(json.loads, lines)}
    for architecture, encoder in () if asked.table else pairs():
        skipped = architecture not in (asked.architecture or [architecture]) or encoder not in (
            asked.encoder or [encoder]
        )
        if skipped or (architecture, encoder) in known:
            continue
        row: dict[str, Any] = {"architecture": architecture, "encoder": encoder}
        try:
            row.update(measured(architecture, encoder))
        except (EdgesegError, AssertionError, RuntimeError, ValueError) as error:
            row["failed"] = str(error).splitlines()[0]
        known[architecture, encoder] = row
        with open(asked.results, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        gc.collect()
        print(json.dumps(row), flush=True)
    print(table(list(known.values())))


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a row per encoder, a column per network; then a line per pair that cannot be."""
    columns = [name for name in architecture_names() if any(row["architecture"] == name for row in rows)]
    encoders = list(dict.fromkeys(row["encoder"] for row in rows))
    found = {(row["architecture"], row["encoder"]): row for row in rows}
    lines = [f"| encoder | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
    for encoder in encoders:
        lines.append(f"| {encoder} | {' | '.join(cell(found.get((name, encoder))) for name in columns)} |")
    failed = [row for row in rows if "failed" in row]
    lines += ["", *(f"- {row['architecture']} with {row['encoder']}: {row['failed']}" for row in failed)]
    return "\n".join(lines)


def cell(row: dict[str, Any] | None) -> str:
    """The difference of a pair; bold where it is larger than allowed."""
    if row is None:
        return ""
    if "failed" in row:
        return "no"
    shown = f"{row['difference']:.0e}"
    return shown if row["difference"] <= ALLOWED else f"**{shown}**"


if __name__ == "__main__":
    main()
