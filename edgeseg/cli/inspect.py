"""``edgeseg inspect``: what is inside a bundle."""

import math
from pathlib import Path
from typing import Any, Dict, Optional

import typer
from typing_extensions import Annotated

from edgeseg.app.models import bundle_or_default, signature_lines
from edgeseg.app.targets import is_page, refuse_foreign
from edgeseg.bundle import Bundle
from edgeseg.cli.arguments import RequireSignatureOption
from edgeseg.cli.console import JsonFlag, percent, print_json, say, table
from edgeseg.errors import BundleError, UsageError
from edgeseg.files import atomic_write
from edgeseg.recipes import recipe_json

_COLUMNS = ("graph", "target", "MB", "mIoU", "agrees %", "at edges %", "INT8 convs", "float layers")


def inspect(
    model: Annotated[
        Optional[Path], typer.Argument(help="A bundle; else your newest *.edgeseg here, else the shipped one.")
    ] = None,
    html: Annotated[Optional[Path], typer.Option(help="Write the bundle's report as one page, FILE.html.")] = None,
    require_signature: RequireSignatureOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Verify a bundle and show its spec, graphs, measured accuracy and provenance.

    Example: edgeseg inspect street.edgeseg --html report.html
    """
    if html is not None and (html.suffix.lower() not in (".html", ".htm") or not html.parent.is_dir()):
        raise UsageError(f"--html must be NAME.html in an existing folder, got {html}")
    if html is not None:
        refuse_foreign(html, "report of edgeseg", is_page)
    bundle, name = bundle_or_default(model, require_signature)
    try:
        if html is not None:
            atomic_write(html, _page(bundle).encode())
        if as_json:
            print_json(_document(bundle, name))
        else:
            _print(bundle, name, require_signature)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(
            f"{name} holds a report that this edgeseg cannot read ({type(error).__name__}: {error}); compile it again"
        ) from error
    if html is not None and not as_json:
        say(f"wrote {html} ({html.stat().st_size / 1e6:.1f} MB)")


def _page(bundle: Bundle) -> str:
    """Made now: a page that came with the file could hold scripts, and only its author vouches for it."""
    from edgeseg.compiler.report.page import report_html

    return report_html(bundle)


def _document(bundle: Bundle, name: str) -> Dict[str, Any]:
    graphs = {
        key: {"recipe": recipe_json(g.recipe), "target": g.target, "bytes": len(g.onnx)}
        for key, g in bundle.graphs.items()
    }
    return {
        "bundle": name,
        "spec": bundle.spec.to_json(),
        "graphs": graphs,
        "golden_frames": 0 if bundle.golden is None else len(bundle.golden.frames),
        "ranges": None if bundle.ranges is None else bundle.ranges.to_json(),
        "report": bundle.report.to_json(),
        "provenance": bundle.provenance,
        "signatures": [{"key": one.fingerprint, "checked": one.checked} for one in bundle.signatures],
    }


def _print(bundle: Bundle, name: str, require_signature: Optional[Path]) -> None:
    from edgeseg.compiler.report.summary import cells, graph_rows, provenance_facts, verdict

    spec, pre, report = bundle.spec, bundle.spec.preprocess, bundle.report
    stored = [row for row in graph_rows(bundle) if row.is_stored]
    say(f"{name}: complete and unaltered")
    for line in signature_lines(bundle, require_signature):
        say(line)
    if not report.gate:
        say("NO GATE: graphs were stored whatever they lose against FP32")
    say(f"gate:    {verdict(bundle)}")
    say(f"input:   {spec.size_hw[1]}x{spec.size_hw[0]} uint8 BGR, {pre.resize}")
    say(f"         mean {pre.mean}, std {pre.std} ({pre.channel_order})")
    say(f"classes: {', '.join(spec.classes)}")
    if spec.has_sigmoids:
        say(f"mode:    {spec.decision}")
    table(f"graphs, judged on {report.evaluation_data or 'nothing'}", _COLUMNS, cells(stored, _COLUMNS))
    judged = {row.name: row.result.accuracy for row in stored if row.result is not None}
    labelled = {name: accuracy for name, accuracy in judged.items() if math.isfinite(accuracy.miou)}
    if labelled:
        rows = [[c, *(percent(accuracy.iou.get(c, math.nan)) for accuracy in labelled.values())] for c in spec.classes]
        table("IoU % per class", ["class", *labelled], rows)
    if bundle.ranges is not None:
        say(f"ranges:  {len(bundle.ranges.tensors)} tensors, {bundle.ranges.calibrator}, {bundle.ranges.data}")
    if bundle.golden is not None:
        say(f"golden:  {len(bundle.golden.frames)} frames")
    for what, value in provenance_facts(bundle):
        say(f"{what}: {value}")
