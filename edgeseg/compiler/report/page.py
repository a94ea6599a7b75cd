"""The report of a bundle as one HTML page: nothing loaded from elsewhere, readable printed, on a phone and in the dark.

What a bundle does not hold is left out of its page. The same bundle gives the same page.
"""

from __future__ import annotations

import hashlib
import math
from typing import Iterable, Mapping, Sequence

from edgeseg.bundle import Bundle
from edgeseg.compiler.report.charts import Bar, bar_chart
from edgeseg.compiler.report.pictures import difference_legend, golden_pictures
from edgeseg.compiler.report.precision import mixes_section, sensitivity_section
from edgeseg.compiler.report.summary import (
    GraphRow,
    cells,
    graph_names,
    graph_rows,
    listed,
    network_name,
    percent,
    points,
    provenance_facts,
    verdict,
)
from edgeseg.compiler.report.template import (
    NOTHING,
    Markup,
    change,
    code,
    facts,
    html_page,
    joined,
    markup,
    swatch,
    table,
)
from edgeseg.compiler.report.tensorrt import kernel_plans_section, lint_section, unfit_targets
from edgeseg.compiler.verify.gate import measured_accuracy
from edgeseg.images import InMemory, Sample
from edgeseg.recipes import FP32
from edgeseg.report_data import Accuracy, Limits

__all__ = ["report_html"]

_GRAPH_COLUMNS = {
    "graph": "graph",
    "in the bundle": "in bundle",
    "for": "target",
    "MB": "MB",
    "INT8 convolutions": "INT8 convs",
    "float layers": "float layers",
    "mIoU %": "mIoU",
    "change": "drop",
    "worst class": "worst class drop",
    "agreement %": "agrees %",
    "boundary agreement %": "at edges %",
}
"""Heading on the page -> column of ``summary.GRAPH_COLUMNS``."""


def report_html(bundle: Bundle) -> str:
    """Render the page of a bundle, from its report, provenance and golden frames.

    The INT8 graphs are run on the golden frames for the pictures, with their targets' arithmetic.

    Raises:
        EngineError: an INT8 graph cannot be run here.
    """
    sections = (
        ("graphs", "Graphs", _graphs(bundle)),
        ("classes", "Accuracy per class", _classes(bundle)),
        ("pictures", "Where INT8 and FP32 differ", _pictures(bundle)),
        ("about", "Where it comes from", _provenance(bundle)),
        ("steps", "Steps before calibration", _steps(bundle)),
        ("calibration", "Calibration", _calibration(bundle)),
        ("layers", "Sensitive layers", sensitivity_section(bundle)),
        ("mixes", "Mixes of INT8 and float", mixes_section(bundle)),
        ("lint", "Lint for TensorRT", lint_section(bundle)),
        ("kernels", "Kernel plans of TensorRT-RTX", kernel_plans_section(bundle)),
        ("notes", "Notes", _notes(bundle)),
    )
    held = [section for section in sections if section[2]]
    links = joined(markup('<a href="#{}">{}</a> ', name, title) for name, title, _ in held)
    body = joined(markup('<section id="{}"><h2>{}</h2>{}</section>', *section) for section in held)
    page = html_page(_title(bundle), _verdict(bundle), links, body)
    # Names of files that are no UTF-8 hold characters that no encoding takes.
    return page.encode("utf-8", "replace").decode()


def _accuracies(bundle: Bundle) -> dict[str, Accuracy]:
    return {row.name: row.result.accuracy for row in graph_rows(bundle) if row.result is not None}


def _title(bundle: Bundle) -> str:
    height, width = bundle.spec.size_hw
    network = bundle.provenance.get("network") or bundle.provenance.get("onnx")
    return f"{network_name(network) if network else 'edgeseg bundle'}, {width}×{height}"


def _verdict(bundle: Bundle) -> Markup:
    is_gated = bundle.report.gate
    stamp = NOTHING if is_gated else Markup('<strong class="stamp">NO GATE</strong> ')
    warnings = joined(markup('<p class="warning"><strong>{}</strong> {}</p>', *line) for line in _warnings(bundle))
    return markup('<p class="verdict">{}{}</p>{}', stamp, verdict(bundle), warnings)


def _warnings(bundle: Bundle) -> list[tuple[str, str]]:
    """(what, more) of all that a reader must know before believing a number."""
    data, accuracies = bundle.report.evaluation_data, _accuracies(bundle).values()
    lines = []
    if "golden frames" in data:
        lines.append(
            ("Smoke test, no accuracy:", f"judged on {data}; 'edgeseg compile --eval FOLDER' gives real numbers.")
        )
    elif bundle.ranges is not None and data and data == bundle.ranges.data:
        lines.append(("Smoke test, no accuracy:", f"judged on the images of the calibration ({data})."))
    if accuracies and all(math.isnan(one.miou) for one in accuracies):
        lines.append(("No labels:", "INT8 was judged by how many pixels agree with FP32, not by mIoU or class."))
    unfit = [f"{name} is not for {listed(targets)}" for name, targets in unfit_targets(bundle).items()]
    return [*lines, ("Lint:", "; ".join(unfit) + ".")] if unfit else lines


def _graphs(bundle: Bundle) -> Markup:
    rows, data = graph_rows(bundle), bundle.report.evaluation_data
    caption = f"Judged on {data} with each target’s arithmetic" if data else "What is in the bundle"
    told = zip(rows, cells(rows, list(_GRAPH_COLUMNS.values())))
    coloured = [_coloured(row, dict(zip(_GRAPH_COLUMNS, row_cells)), bundle.report.limits) for row, row_cells in told]
    refused = joined(
        markup("<li><b>{}</b> was refused: {}</li>", row.name, "; ".join(row.result.refused))
        for row in rows
        if row.result is not None and row.result.refused
    )
    return joined(
        [
            table(caption, list(_GRAPH_COLUMNS), coloured, text=(1, 2)),
            markup("<ul>{}</ul>", refused) if refused else NOTHING,
            _gate_line(bundle.report.limits) if bundle.report.graphs else NOTHING,
        ]
    )


def _coloured(row: GraphRow, told: Mapping[str, object], limits: Limits) -> list[object]:
    """A row's cells, those that say good or bad in colour."""
    state = ("yes" if row.is_stored else "no") + (", refused" if row.is_refused else "")
    is_fp32 = row.name == FP32
    coloured = {
        "in the bundle": markup('<span class="{}">{}</span>', "bad" if row.is_refused else "gain", state),
        "change": NOTHING if is_fp32 else change(row.change, limits.max_drop),
        "worst class": NOTHING
        if is_fp32
        else markup("{} {}", row.worst, change(-row.worst_drop, limits.max_class_drop)),
    }
    return list({**told, **coloured}.values())


def _gate_line(limits: Limits) -> Markup:
    return markup(
        "<p>The gate allows a change of {} points of mIoU and of {} points of any class’s IoU against FP32, and needs "
        "{} % of all pixels and {} % of those within two pixels of a class edge to agree with FP32. "
        "✗ marks a loss beyond it.</p>",
        points(-limits.max_drop), points(-limits.max_class_drop), percent(limits.min_agreement),
        percent(limits.min_boundary_agreement),
    )  # fmt: skip


def _classes(bundle: Bundle) -> Markup:
    accuracies, limits = _accuracies(bundle), bundle.report.limits
    fp32 = accuracies.get(FP32)
    if fp32 is None or not math.isfinite(fp32.miou):
        return NOTHING
    others = {name: one for name, one in accuracies.items() if name != FP32}
    rows: list[list[object]] = [
        [
            swatch(colour, name),
            *_compared(_iou(fp32, name), [_iou(other, name) for other in others.values()], limits.max_class_drop),
        ]
        for name, colour in zip(bundle.spec.classes, bundle.spec.palette)
    ]
    rows.append([Markup("<b>mIoU</b>"), *_compared(fp32.miou, [o.miou for o in others.values()], limits.max_drop)])
    rows.append(
        [
            Markup("<b>pixel accuracy</b>"),
            *_compared(fp32.pixel_accuracy, [o.pixel_accuracy for o in others.values()], 1),
        ]
    )
    caption = f"IoU in % on {bundle.report.evaluation_data}, and its change in points against FP32"
    unseen = [name for name in bundle.spec.classes if not math.isfinite(_iou(fp32, name))]
    note = markup("<p>Not in the labels, so not in the mean: {}.</p>", listed(unseen)) if unseen else NOTHING
    return joined([table(caption, ["class", FP32, *others], rows), note])


def _iou(accuracy: Accuracy, name: str) -> float:
    return accuracy.iou.get(name, math.nan)


def _compared(fp32: float, others: Iterable[float], allowed: float) -> list[Markup]:
    """FP32's value, and the others with their change against it."""
    told = (markup("{} {}", percent(value, "–"), change(value - fp32, allowed)) for value in others)
    return [Markup(percent(fp32, "–")), *told]


def _pictures(bundle: Bundle) -> Markup:
    golden, spec = bundle.golden, bundle.spec
    if golden is None or not len(golden.frames):
        return NOTHING
    samples = [Sample(f"golden {i}", frame, None) for i, frame in enumerate(golden.frames)]
    frames = InMemory(samples, "golden frames")
    stored = [(name, bundle.graphs[name]) for name in graph_names(bundle) if name in bundle.graphs]
    maps = {
        name: measured_accuracy(entry.onnx, spec, frames, float_qdq=entry.target == "tensorrt")[1]
        for name, entry in stored
        if entry.recipe.is_int8
    }
    legend = joined(markup("<li>{}</li>", swatch(colour, name)) for name, colour in zip(spec.classes, spec.palette))
    explained = markup(
        "<p>Against FP32, pixels whose class differs are bright and drawn a pixel thicker, the frame is dimmed:</p>"
        '<ul class="legend">{}</ul>', difference_legend(),
    ) if maps else NOTHING  # fmt: skip
    return joined([markup('<ul class="legend">{}</ul>', legend), explained, golden_pictures(golden, maps, spec)])


def _provenance(bundle: Bundle) -> Markup:
    spec, pre = bundle.spec, bundle.spec.preprocess
    told: list[tuple[str, object]] = [
        *provenance_facts(bundle),
        ("classes", f"{len(spec.classes)}: {', '.join(spec.classes)}"),
        *([("mode", spec.decision)] if spec.has_sigmoids else []),
        ("input", f"{spec.size_hw[1]}×{spec.size_hw[0]} uint8 BGR, {pre.resize}"),
        ("normalisation", f"mean {_triple(pre.mean)}; std {_triple(pre.std)} ({pre.channel_order})"),
    ]
    if bundle.report.evaluation_data:
        told.append(("judged on", bundle.report.evaluation_data))
    if bundle.golden is not None:
        told.append(("golden frames", str(len(bundle.golden.frames))))
    digests = [
        (key[: -len("_sha256")].replace("_", " "), str(value))
        for key, value in sorted(bundle.provenance.items())
        if key.endswith("_sha256")
    ]
    stored = [name for name in graph_names(bundle) if name in bundle.graphs]
    digests += [(f"graph {name}", hashlib.sha256(bundle.graphs[name].onnx).hexdigest()) for name in stored]
    coded = [(what, code(digest)) for what, digest in digests]
    return joined([facts(told), markup("<details><summary>SHA-256 digests</summary>{}</details>", facts(coded))])


def _triple(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _steps(bundle: Bundle) -> Markup:
    steps, allowed = bundle.report.steps, bundle.report.limits.max_drop
    if not steps:
        return NOTHING
    before = [math.nan, *(step.accuracy.miou for step in steps)]
    rows = [
        [
            step.step,
            step.nodes,
            f"{step.size_bytes / 1e6:.1f}",
            percent(step.accuracy.miou, "–"),
            change(step.accuracy.miou - miou, allowed),
            percent(step.accuracy.agreement, "–"),
            percent(step.accuracy.boundary_agreement, "–"),
        ]
        for step, miou in zip(steps, before)
    ]
    columns = ["step", "nodes", "MB", "mIoU %", "change", "agreement %", "boundary agreement %"]
    return table("The FP32 graph after each step; agreement is with the first", columns, rows)


def _calibration(bundle: Bundle) -> Markup:
    ranges, seen = bundle.ranges, bundle.report.calibration
    parts = []
    if seen is not None:
        parts += [markup('<p class="warning">{}</p>', line[0].upper() + line[1:]) for line in seen.warnings if line]
        counts = ("images", "labelled", "duplicates", "near_black", "near_white")
        parts.append(facts([("data", seen.data), *((key.replace("_", "-"), getattr(seen, key)) for key in counts)]))
    if ranges is not None:
        told: list[tuple[str, object]] = [] if seen else [("data", ranges.data), ("images", ranges.images)]
        told.append(("ranges", f"{len(ranges.tensors)} tensors by {ranges.calibrator}"))
        parts.append(facts([*told, ("inputs’ SHA-256", code(ranges.data_sha256))]))
    if seen is not None and seen.class_shares:
        bars = [Bar(name, share, _share(share), share < 1e-4) for name, share in _falling(seen.class_shares)]
        parts.append(Markup("<h3>Classes in the calibration images</h3>"))
        parts.append(bar_chart("Share of the labelled pixels per class", bars, max(seen.class_shares.values())))
    return joined(parts)


def _notes(bundle: Bundle) -> Markup:
    told = bundle.report.calibration.warnings if bundle.report.calibration else ()
    notes = [note for note in bundle.report.notes if note not in told]
    return markup("<ul>{}</ul>", joined(markup("<li>{}</li>", note) for note in notes)) if notes else NOTHING


def _share(share: float) -> str:
    return f"{100 * share:.2f} %" if share >= 1e-4 or not share else "under 0.01 %"


def _falling(shares: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(shares.items(), key=lambda item: (-item[1], item[0]))
