"""``edgeseg models``: the models that come with the package."""

from typing import Any, Dict, List

from edgeseg.app.shipped import SHIPPED, shipped_models
from edgeseg.bundle import Bundle, read_bundle
from edgeseg.cli.console import JsonFlag, percent, print_json, say, table
from edgeseg.recipes import FP32
from edgeseg.report_data import GraphResult

_COLUMNS = ("model", "network", "input", "classes", "MB", "FP32 mIoU", "INT8 mIoU", "INT8 graph")


def models(as_json: JsonFlag = False) -> None:
    """List the models that come with edgeseg, and what each was measured to achieve.

    Every command takes such a name where it takes a bundle.

    Example: edgeseg models
    """
    found = {name: _facts(read_bundle(path), path.stat().st_size) for name, path in shipped_models().items()}
    if as_json:
        print_json({"default": SHIPPED.stem, "models": found})
        return
    table("models of the package", list(_COLUMNS), [_row(name, facts) for name, facts in found.items()])
    for name, facts in found.items():
        say(f"{name}: judged on {facts['judged_on']}")
        say(f"{name}: {facts['note']}")
    say(f"the default is {SHIPPED.stem}; another: edgeseg run NAME --camera 0")


def _facts(bundle: Bundle, size_bytes: int) -> Dict[str, Any]:
    graphs = {name: bundle.report.graphs[name] for name in bundle.graphs if name in bundle.report.graphs}
    height, width = bundle.spec.size_hw
    return {
        "network": bundle.provenance.get("network", {}),
        "width": width,
        "height": height,
        "classes": list(bundle.spec.classes),
        "size_bytes": size_bytes,
        "judged_on": bundle.report.evaluation_data,
        "miou": {name: graph.accuracy.miou for name, graph in graphs.items()},
        "int8": _worst_int8(graphs),
        "note": bundle.provenance.get("note", ""),
    }


def _worst_int8(graphs: Dict[str, GraphResult]) -> str:
    """Return the INT8 graph with the lowest mIoU, empty where there is none."""
    names = [name for name in graphs if name.startswith("int8")]
    return min(names, key=lambda name: graphs[name].accuracy.miou, default="")


def _row(name: str, facts: Dict[str, Any]) -> List[str]:
    miou, int8, network = facts["miou"], facts["int8"], facts["network"]
    return [
        name,
        f"{network.get('architecture', '?')} + {network.get('encoder', '?')}",
        f"{facts['width']}x{facts['height']}",
        str(len(facts["classes"])),
        f"{facts['size_bytes'] / 1e6:.1f}",
        percent(miou[FP32]) if FP32 in miou else "",
        percent(miou[int8]) if int8 else "",
        int8,
    ]
