"""``edgeseg inspect``: what is inside a bundle."""

from pathlib import Path
from typing import Optional

import typer
from typing_extensions import Annotated

from edgeseg.cli.console import JsonFlag, print_json, say, table
from edgeseg.cli.models import bundle_or_default


def inspect(
    model: Annotated[
        Optional[Path], typer.Argument(help="A bundle; else the newest *.edgeseg here, else the shipped one.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Verify a bundle and show its spec, graphs, measured accuracy and provenance.

    Example: edgeseg inspect street.edgeseg
    """
    bundle, name = bundle_or_default(model)
    spec = bundle.spec
    if as_json:
        graphs = {
            key: {"recipe": dict(g.recipe), "target": g.target, "bytes": len(g.onnx)}
            for key, g in bundle.graphs.items()
        }
        print_json(
            {
                "bundle": name,
                "spec": spec.to_json(),
                "graphs": graphs,
                "golden_frames": 0 if bundle.golden is None else len(bundle.golden.frames),
                "ranges": bundle.ranges,
                "report": bundle.report,
                "provenance": bundle.provenance,
            }
        )
        return
    pre = spec.preprocess
    say(f"{name}: complete and unaltered")
    say(f"input:   {spec.size_hw[1]}x{spec.size_hw[0]} uint8 BGR, {pre.resize}")
    say(f"         mean {pre.mean}, std {pre.std} ({pre.channel_order})")
    say(f"classes: {', '.join(spec.classes)}")
    measured = bundle.report.get("graphs", {})
    rows = []
    for key, graph in bundle.graphs.items():
        facts = measured.get(key, {})
        miou = facts.get("miou")
        convolutions = facts.get("int8_convolutions", ["-", "-"])
        rows.append(
            [
                key,
                graph.target,
                f"{len(graph.onnx) / 1e6:.1f}",
                "-" if miou is None else f"{100 * miou:.2f}",
                "{} / {}".format(*convolutions),
            ]
        )
    table(
        f"graphs, judged on {bundle.report.get('evaluation_data', 'nothing')}",
        ["graph", "target", "MB", "mIoU", "INT8 convs"],
        rows,
    )
    if bundle.ranges is not None:
        say(f"ranges:  {len(bundle.ranges['tensors'])} tensors, {bundle.ranges['calibrator']}, {bundle.ranges['data']}")
    if bundle.golden is not None:
        say(f"golden:  {len(bundle.golden.frames)} frames")
    for key in ("network", "training", "note"):
        if bundle.provenance.get(key):
            say(f"{key + ':':<8} {bundle.provenance[key]}")
