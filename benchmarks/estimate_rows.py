"""Read published latencies from CSV files, and say for each which clocks it is taken to have.

Columns: device, model, input_hw (HEIGHTxWIDTH), precision, batch, latency_ms, runtime (what was timed), power_mode,
source. Rows that are no latency of one TensorRT engine on one GPU are left out, and so are networks that cannot be
built; both are counted by reason.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

from estimate_networks import NETWORKS, kernels_of

from edgeseg.device.specifications import ARCHITECTURES, JETSONS, Clocks
from edgeseg.estimate.kernels import Kernel
from edgeseg.estimate.law import Gpu, KernelTable

DEVICES = {
    "Jetson Nano": ("nano", "MAXN"),
    "Jetson Nano 2GB": ("nano", "MAXN"),
    "Jetson TX2": ("tx2", "MAXN"),
    "Jetson Xavier NX": ("xavier-nx", "15W"),
    "Jetson AGX Xavier": ("agx-xavier", "MAXN"),
    "Jetson Orin Nano": ("orin-nano", "15W"),
    "Jetson Orin Nano 8GB": ("orin-nano", "15W"),
    "Jetson Orin Nano 8GB Super": ("orin-nano", "MAXN_SUPER"),
    "Jetson Orin NX": ("orin-nx", "MAXN"),
    "Jetson Orin NX 16GB": ("orin-nx", "MAXN"),
    "Jetson AGX Orin": ("agx-orin", "MAXN"),
    "Jetson AGX Orin 32GB": ("agx-orin-32gb", "MAXN"),
    "Jetson AGX Orin 64GB": ("agx-orin", "MAXN"),
}
"""Device of a row -> board, and the mode that it is taken to be in where the row does not say."""

_NO_LATENCY = (
    ("END-TO-END", "end to end"),
    ("Offline", "offline throughput of GPU and DLA"),
    ("throughput", "throughput of GPU and DLA"),
    ("PyTorch", "not TensorRT"),
    ("incl. IO", "the same network without copies is there"),
    ("host latency", "the same network without copies is there"),
)
_CONTRADICTED = {("Jetson AGX Xavier", "densenet201"): "its source gives two numbers that differ by three"}


@dataclass(frozen=True)
class Row:
    """A published latency, and what a forecast needs to meet it."""

    board: str
    mode: str
    gpu: Gpu
    model: str
    family: str
    size_hw: tuple[int, int]
    precision: str
    batch: int
    measured_ms: float
    recorded: bool
    source: str
    table: KernelTable


def rows_from(paths: Sequence[Path], cache: Path) -> tuple[list[Row], Counter[str]]:
    """Return the rows that can be used, and why how many others cannot."""
    rows, left_out = [], Counter[str]()
    tables: dict[tuple[str, int, int, int], KernelTable] = {}
    for path in paths:
        with path.open(newline="") as file:
            for facts in csv.DictReader(file):
                why = _unusable(facts)
                if why:
                    left_out[why] += 1
                else:
                    rows.append(_row(facts, cache, tables))
    return rows, left_out


def _unusable(facts: dict[str, str]) -> str:
    for word, why in _NO_LATENCY:
        if word in facts["runtime"]:
            return why
    if facts["device"] not in DEVICES:
        return f"no board {facts['device']}"
    if facts["model"] not in NETWORKS:
        return f"not built: {facts['model']}"
    if not facts["latency_ms"] or not facts["batch"].isdigit():
        return "no latency"
    precision = facts["precision"].split()[0]
    if precision not in ARCHITECTURES[JETSONS[DEVICES[facts["device"]][0]].architecture].dense:
        return f"precision {precision}"
    return _CONTRADICTED.get((facts["device"], facts["model"]), "")


def _row(facts: dict[str, str], cache: Path, tables: dict[tuple[str, int, int, int], KernelTable]) -> Row:
    height, width = map(int, facts["input_hw"].split("x"))
    board, mode = DEVICES[facts["device"]]
    said, jetson = facts["power_mode"], JETSONS[board]
    clocks = jetson.modes[mode]
    if "MAXN_SUPER" in said or "Super mode" in said or (board == "orin-nx" and "1.24-1.35x" in said):
        mode, clocks = "MAXN_SUPER", jetson.modes["MAXN_SUPER"]
    elif "20W" in said or (board == "xavier-nx" and said.startswith("MaxP")):
        mode, clocks = "20W", jetson.modes["20W"]
    stated = re.search(r"GPU ([\d.]+) MHz EMC ([\d.]+) MHz", said)
    if stated:
        fastest = next(iter(jetson.modes.values()))
        full = {"xavier-nx": 1866, "agx-xavier": 2133, "agx-orin": 3199}[board]
        clocks = Clocks(clocks.sms, float(stated[1]), fastest.memory_gb_s * float(stated[2]) / full)
        mode = f"{stated[1]} MHz"
    name = facts["model"]
    name = f"{name} fp32" if f"{name} fp32" in NETWORKS and facts["precision"].startswith("fp32") else name
    key = (name, int(facts["batch"]), height, width)
    if key not in tables:
        tables[key] = KernelTable(cached_kernels(cache, *key))
    return Row(
        board,
        mode,
        Gpu(jetson.architecture, clocks, jetson.l2_kib),
        facts["model"],
        NETWORKS[facts["model"]][0],
        (height, width),
        facts["precision"].split()[0],
        int(facts["batch"]),
        float(facts["latency_ms"]),
        "CUDA graphs" in facts["runtime"] or "useCudaGraph" in facts["runtime"],
        facts["source"],
        tables[key],
    )


def cached_kernels(cache: Path, model: str, batch: int, height: int, width: int) -> list[Kernel]:
    """Return the kernels of a network, from a file where they were counted before."""
    cache.mkdir(parents=True, exist_ok=True)
    file = cache / f"{re.sub('[^A-Za-z0-9.]+', '-', model)}-{batch}x{height}x{width}.json"
    if not file.exists():
        print(f"building {model} {batch}x{height}x{width}", flush=True)
        file.write_text(json.dumps([kernel.to_json() for kernel in kernels_of(model, batch, height, width)]))
    return [Kernel.from_json(one) for one in json.loads(file.read_text())]
