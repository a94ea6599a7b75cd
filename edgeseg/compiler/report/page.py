"""The report of a bundle as one HTML page: nothing loaded from elsewhere, readable printed, on a phone and in the dark.

What a bundle does not hold is left out of its page. The same bundle gives the same page.
"""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import fields
from typing import Any, Iterable, Mapping, Sequence

from edgeseg.bundle import Bundle
from edgeseg.compiler.quantize.mixed import MixedPoint, pareto_front
from edgeseg.compiler.recipes import RECIPES
from edgeseg.compiler.report.charts import (
    Bar,
    Dot,
    Level,
    Markup,
    bar_chart,
    difference_legend,
    golden_pictures,
    html_page,
    joined,
    markup,
    scatter_chart,
    swatch,
    table,
)
from edgeseg.compiler.verify.gate import Accuracy, Limits, measured_accuracy, worst_drop
from edgeseg.images import InMemory, Sample

__all__ = ["accuracy_from_json", "graph_names", "provenance_facts", "report_html", "verdict"]

_NOTHING = Markup("")
_INT8_RECIPES = ("StaticInt8", "DynamicInt8")
_LAYERS_SHOWN = 20


def report_html(bundle: Bundle) -> str:
    """The page of a bundle, from its report, provenance and golden frames.

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
        ("layers", "Sensitive layers", _sensitivity(bundle)),
        ("mixes", "Mixes of INT8 and float", _mixes(bundle)),
        ("lint", "Lint for TensorRT", _lint(bundle)),
        ("kernels", "Kernel plans of TensorRT-RTX", _kernel_plans(bundle)),
        ("notes", "Notes", _notes(bundle)),
    )
    held = [section for section in sections if section[2]]
    links = joined(markup('<a href="#{}">{}</a> ', name, title) for name, title, _ in held)
    body = joined(markup('<section id="{}"><h2>{}</h2>{}</section>', *section) for section in held)
    page = html_page(_title(bundle), _verdict(bundle), links, body)
    # Names of files that are no UTF-8 hold characters that no encoding takes.
    return page.encode("utf-8", "replace").decode()


def accuracy_from_json(data: Mapping[str, Any]) -> Accuracy:
    """Inverse of ``Accuracy.to_json``; what an older report lacks is NaN."""
    return Accuracy(
        images=int(data.get("images", 0)),
        agreement=_number(data.get("agreement")),
        boundary_agreement=_number(data.get("boundary_agreement")),
        miou=_number(data.get("miou")),
        pixel_accuracy=_number(data.get("pixel_accuracy")),
        iou={str(name): _number(value) for name, value in data.get("iou", {}).items()},
        commonest=str(data.get("commonest", "")),
        commonest_miou=_number(data.get("commonest_miou")),
    )


def verdict(bundle: Bundle) -> str:
    """What the gate said, in one sentence."""
    measured = _measured(bundle)
    others = [name for name in measured if name != "fp32"]
    if not others:
        return "Only the FP32 graph: there is nothing for the gate to judge." if measured else "Nothing was measured."
    passed = [name for name in others if not measured[name].get("refused")]
    stored = [name for name in others if name not in passed and name in bundle.graphs]
    left_out = [name for name in others if name not in passed and name not in bundle.graphs]
    is_gated, parts = bundle.report.get("gate", True), []
    if passed:
        gate = "The accuracy gate passed" if is_gated else "The accuracy gate was off and would have passed"
        parts.append(f"{gate} {_listed(passed)} ({_worst_of(passed, measured)})")
    else:
        parts.append("The accuracy gate passed no graph" if is_gated else "The accuracy gate was off")
    if stored:
        parts.append(f"it would have refused {_listed(stored)}, which {_is(stored)} in the bundle all the same")
    if left_out:
        parts.append(f"it refused {_listed(left_out)}, which {_is(left_out)} not in the bundle")
    return "; ".join(parts) + "."


def graph_names(bundle: Bundle) -> list[str]:
    """All graphs that were judged or are stored: FP32, then as ``RECIPES`` lists them, for files do not keep order."""
    known = ("fp32", *RECIPES)
    names = {*bundle.report.get("graphs", {}), *bundle.graphs}
    return sorted(names, key=lambda name: (known.index(name) if name in known else len(known), name))


def provenance_facts(bundle: Bundle) -> list[tuple[str, str]]:
    """(what, value) lines for people about where a bundle comes from, without the digests."""
    provenance = {key: value for key, value in bundle.provenance.items() if not key.endswith("_sha256")}
    network, training = provenance.pop("network", None), provenance.pop("training", None)
    facts = [("network", _network(network))] if network else []
    facts += _training(training) if isinstance(training, Mapping) else []
    return facts + [(key.replace("_", " "), _readable(value)) for key, value in sorted(provenance.items()) if value]


def _measured(bundle: Bundle) -> Mapping[str, Mapping[str, Any]]:
    return _per_graph(bundle, "graphs")


def _per_graph(bundle: Bundle, part: str) -> Mapping[str, Any]:
    """A part of the report that is kept by graph, in ``graph_names``' order."""
    entries: Mapping[str, Any] = bundle.report.get(part, {})
    return {name: entries[name] for name in graph_names(bundle) if name in entries}


def _accuracies(bundle: Bundle) -> dict[str, Accuracy]:
    return {name: accuracy_from_json(entry) for name, entry in _measured(bundle).items()}


def _limits(bundle: Bundle) -> Limits:
    known = bundle.report.get("limits", {})
    return Limits(**{key: float(known[key]) for key in (one.name for one in fields(Limits)) if key in known})


def _title(bundle: Bundle) -> str:
    height, width = bundle.spec.size_hw
    network = bundle.provenance.get("network") or bundle.provenance.get("onnx")
    return f"{_network(network) if network else 'edgeseg bundle'}, {width}×{height}"


def _network(network: object) -> str:
    if not isinstance(network, Mapping):
        return str(network)
    rest = {key: value for key, value in network.items() if key not in ("architecture", "encoder", "classes")}
    parts = (str(network[key]) for key in ("architecture", "encoder") if network.get(key))
    return " + ".join(parts) + (f" ({_readable(rest)})" if rest else "")


def _training(training: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The trainer's facts; what is in the spec or in tables is left out."""
    recipe = dict(training.get("recipe", {}))
    epochs = recipe.pop("epochs", None)
    facts = []
    trained = training.get("epochs_trained", training["epoch"] + 1 if "epoch" in training else None)
    if trained is not None:  # "epoch", from 0, stands in older bundles
        done = f"{trained} of {epochs} epochs" if epochs else f"{trained} epochs"
        facts.append(("training", "; ".join(filter(None, [f"weights after {done}", _readable(recipe)]))))
    if "val_miou" in training:
        where = f" on {training['validation_data']}" if "validation_data" in training else ""
        facts.append(("validation", f"mIoU {_percent(training['val_miou'])}{where}, by the trainer"))
    told = ("recipe", "epoch", "epochs_trained", "val_miou", "val_iou", "validation_data", "classes", "size_hw")
    rest = {key: value for key, value in training.items() if key not in told}
    return facts + [(key.replace("_", " "), _readable(value)) for key, value in sorted(rest.items())]


def _readable(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{str(key).replace('_', ' ')} {_readable(item)}" for key, item in sorted(value.items()))
    if isinstance(value, (list, tuple)):
        return "; ".join(_readable(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _verdict(bundle: Bundle) -> Markup:
    is_gated = bundle.report.get("gate", True)
    stamp = _NOTHING if is_gated else Markup('<strong class="stamp">NO GATE</strong> ')
    warnings = joined(markup('<p class="warning"><strong>{}</strong> {}</p>', *line) for line in _warnings(bundle))
    return markup('<p class="verdict">{}{}</p>{}', stamp, verdict(bundle), warnings)


def _warnings(bundle: Bundle) -> list[tuple[str, str]]:
    """(what, more) of all that a reader must know before believing a number."""
    report = bundle.report
    data, entries = str(report.get("evaluation_data", "")), _measured(bundle)
    lines = []
    if "golden frames" in data:
        lines.append(("Smoke test, no accuracy:", f"judged on {data}; compile with --eval FOLDER for real numbers."))
    elif bundle.ranges is not None and data and data == bundle.ranges.get("data"):
        lines.append(("Smoke test, no accuracy:", f"judged on the images of the calibration ({data})."))
    if entries and all(entry.get("miou") is None for entry in entries.values()):
        lines.append(("No labels:", "INT8 was judged by how many pixels agree with FP32, not by mIoU or class."))
    unfit = [
        f"{name} is not for {_listed(bad)}"
        for name, targets in _per_graph(bundle, "lint").items()
        if (bad := [target for target, findings in sorted(targets.items()) if _count(findings, "error")])
    ]
    return [*lines, ("Lint:", "; ".join(unfit) + ".")] if unfit else lines


def _worst_of(passed: Sequence[str], measured: Mapping[str, Mapping[str, Any]]) -> str:
    fp32 = accuracy_from_json(measured.get("fp32", {}))
    worst = [(*worst_drop(fp32, accuracy_from_json(measured[name])), name) for name in passed]
    known = [one for one in worst if math.isfinite(one[1])]
    if not known:
        agreement = min(_number(measured[name].get("agreement")) for name in passed)
        return f"at least {_percent(agreement)} % of pixels agree with FP32"
    label, drop, name = max(known, key=lambda one: one[1])
    return f"{label} loses most, {100 * drop:.2f} points in {name}" if drop > 0 else "no class loses"


def _graphs(bundle: Bundle) -> Markup:
    measured, accuracies = _measured(bundle), _accuracies(bundle)
    rows = [_graph_row(name, bundle, measured.get(name, {}), accuracies) for name in graph_names(bundle)]
    data = bundle.report.get("evaluation_data")
    caption = f"Judged on {data} with each target’s arithmetic" if data else "What is in the bundle"
    columns = [
        "graph", "in the bundle", "for", "MB", "INT8 convolutions", "float layers", "mIoU %", "change", "worst class",
        "agreement %", "boundary agreement %",
    ]  # fmt: skip
    refused = joined(
        markup("<li><b>{}</b> was refused: {}</li>", name, "; ".join(entry["refused"]))
        for name, entry in measured.items()
        if entry.get("refused")
    )
    return joined(
        [
            table(caption, columns, rows, text=(1, 2)),
            markup("<ul>{}</ul>", refused) if refused else _NOTHING,
            _gate_line(bundle) if measured else _NOTHING,
        ]
    )


def _graph_row(name: str, bundle: Bundle, entry: Mapping[str, Any], accuracies: Mapping[str, Accuracy]) -> list[object]:
    limits, stored = _limits(bundle), bundle.graphs.get(name)
    size = entry.get("size_bytes") or (len(stored.onnx) if stored else 0)
    convolutions = entry.get("int8_convolutions")
    fp32, ours = accuracies.get("fp32"), accuracies.get(name)
    worst, drop = worst_drop(fp32, ours) if fp32 and ours and name != "fp32" else ("", math.nan)
    change = ours.miou - fp32.miou if fp32 and ours and name != "fp32" else math.nan
    is_refused = bool(entry.get("refused"))
    return [
        name,
        markup(
            '<span class="{}">{}{}</span>',
            "bad" if is_refused else "gain", "yes" if stored else "no", ", refused" if is_refused else "",
        ),
        stored.target if stored else "",
        f"{size / 1e6:.1f}",
        f"{convolutions[0]} of {convolutions[1]}" if convolutions else "",
        len(entry["float_layers"]) if "float_layers" in entry else "",
        _percent(ours.miou) if ours else "",
        _change(change, limits.max_drop),
        markup("{} {}", worst, _change(-drop, limits.max_class_drop)),
        _percent(ours.agreement) if ours else "",
        _percent(ours.boundary_agreement) if ours else "",
    ]  # fmt: skip


def _gate_line(bundle: Bundle) -> Markup:
    limits = _limits(bundle)
    return markup(
        "<p>The gate allows a change of {} points of mIoU and of {} points of any class’s IoU against FP32, and needs "
        "{} % of all pixels and {} % of those within two pixels of a class edge to agree with FP32. "
        "✗ marks a loss beyond it.</p>",
        _points(-limits.max_drop), _points(-limits.max_class_drop), _percent(limits.min_agreement),
        _percent(limits.min_boundary_agreement),
    )  # fmt: skip


def _classes(bundle: Bundle) -> Markup:
    accuracies, limits = _accuracies(bundle), _limits(bundle)
    fp32 = accuracies.get("fp32")
    if fp32 is None or not math.isfinite(fp32.miou):
        return _NOTHING
    others = {name: one for name, one in accuracies.items() if name != "fp32"}
    rows: list[list[object]] = [
        [
            swatch(colour, name),
            *_compared(fp32.iou.get(name), [o.iou.get(name) for o in others.values()], limits.max_class_drop),
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
    caption = f"IoU in % on {bundle.report.get('evaluation_data')}, and its change in points against FP32"
    unseen = [name for name in bundle.spec.classes if not math.isfinite(_number(fp32.iou.get(name)))]
    note = markup("<p>Not in the labels, so not in the mean: {}.</p>", _listed(unseen)) if unseen else _NOTHING
    return joined([table(caption, ["class", "fp32", *others], rows), note])


def _compared(fp32: float | None, others: Iterable[float | None], allowed: float) -> list[Markup]:
    """FP32's value, and the others with their change against it."""
    base = _number(fp32)
    values = [_number(value) for value in others]
    return [
        Markup(_percent(base)),
        *(markup("{} {}", _percent(value), _change(value - base, allowed)) for value in values),
    ]


def _pictures(bundle: Bundle) -> Markup:
    golden, spec = bundle.golden, bundle.spec
    if golden is None or not len(golden.frames):
        return _NOTHING
    samples = [Sample(f"golden {i}", frame, None) for i, frame in enumerate(golden.frames)]
    frames = InMemory(samples, "golden frames")
    stored = [(name, bundle.graphs[name]) for name in graph_names(bundle) if name in bundle.graphs]
    maps = {
        name: measured_accuracy(entry.onnx, spec, frames, float_qdq=entry.target == "tensorrt")[1]
        for name, entry in stored
        if entry.recipe.get("name") in _INT8_RECIPES
    }
    legend = joined(markup("<li>{}</li>", swatch(colour, name)) for name, colour in zip(spec.classes, spec.palette))
    explained = markup(
        "<p>Against FP32, pixels whose class differs are bright and drawn a pixel thicker, the frame is dimmed:</p>"
        '<ul class="legend">{}</ul>', difference_legend(),
    ) if maps else _NOTHING  # fmt: skip
    return joined([markup('<ul class="legend">{}</ul>', legend), explained, golden_pictures(golden, maps, spec)])


def _provenance(bundle: Bundle) -> Markup:
    spec, pre = bundle.spec, bundle.spec.preprocess
    facts = [
        *provenance_facts(bundle),
        ("classes", f"{len(spec.classes)}: {', '.join(spec.classes)}"),
        ("input", f"{spec.size_hw[1]}×{spec.size_hw[0]} uint8 BGR, {pre.resize}"),
        ("normalisation", f"mean {_triple(pre.mean)}; std {_triple(pre.std)} ({pre.channel_order})"),
    ]
    if bundle.report.get("evaluation_data"):
        facts.append(("judged on", str(bundle.report["evaluation_data"])))
    if bundle.golden is not None:
        facts.append(("golden frames", str(len(bundle.golden.frames))))
    digests = [
        (key[: -len("_sha256")].replace("_", " "), str(value))
        for key, value in sorted(bundle.provenance.items())
        if key.endswith("_sha256")
    ]
    stored = [name for name in graph_names(bundle) if name in bundle.graphs]
    digests += [(f"graph {name}", hashlib.sha256(bundle.graphs[name].onnx).hexdigest()) for name in stored]
    coded = [(what, _code(digest)) for what, digest in digests]
    return joined([_facts(facts), markup("<details><summary>SHA-256 digests</summary>{}</details>", _facts(coded))])


def _facts(facts: Iterable[tuple[str, object]]) -> Markup:
    return markup(
        "<dl>{}</dl>", joined(markup("<div><dt>{}</dt><dd>{}</dd></div>", what, value) for what, value in facts)
    )


def _code(text: str) -> Markup:
    return markup("<code>{}</code>", text)


def _triple(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _steps(bundle: Bundle) -> Markup:
    steps: Sequence[Mapping[str, Any]] = bundle.report.get("steps", ())
    if not steps:
        return _NOTHING
    limits, rows = _limits(bundle), []
    accuracies = [accuracy_from_json(step) for step in steps]
    for step, before, after in zip(steps, [None, *accuracies], accuracies):
        change = math.nan if before is None else after.miou - before.miou
        rows.append(
            [
                step["step"],
                step["nodes"],
                f"{step['size_bytes'] / 1e6:.1f}",
                _percent(after.miou),
                _change(change, limits.max_drop),
                _percent(after.agreement),
                _percent(after.boundary_agreement),
            ]
        )
    columns = ["step", "nodes", "MB", "mIoU %", "change", "agreement %", "boundary agreement %"]
    return table("The FP32 graph after each step; agreement is with the first", columns, rows)


def _calibration(bundle: Bundle) -> Markup:
    ranges, seen = bundle.ranges, bundle.report.get("calibration")
    parts = []
    if seen:
        parts += [markup('<p class="warning">{}</p>', line[0].upper() + line[1:]) for line in seen.get("warnings", ())]
        counts = ("images", "labelled", "duplicates", "near_black", "near_white")
        parts.append(_facts([("data", seen["data"]), *((key.replace("_", "-"), seen[key]) for key in counts)]))
    if ranges:
        facts: list[tuple[str, object]] = []
        facts += [("data", ranges.get("data")), ("images", ranges.get("images"))] if not seen else []
        facts.append(("ranges", f"{len(ranges.get('tensors', ()))} tensors by {ranges.get('calibrator')}"))
        facts += [("inputs’ SHA-256", _code(ranges["data_sha256"]))] if "data_sha256" in ranges else []
        parts.append(_facts(facts))
    shares: Mapping[str, float] = (seen or {}).get("class_shares", {})
    if shares:
        bars = [Bar(name, share, _share(share), share < 1e-4) for name, share in _falling(shares)]
        parts.append(Markup("<h3>Classes in the calibration images</h3>"))
        parts.append(bar_chart("Share of the labelled pixels per class", bars, max(shares.values())))
    return joined(parts)


def _sensitivity(bundle: Bundle) -> Markup:
    layers: Sequence[Mapping[str, Any]] = bundle.report.get("sensitivity", ())
    if not layers:
        return _NOTHING
    floats: dict[str, list[str]] = {}
    for name, entry in _measured(bundle).items():
        for layer in entry.get("float_layers", ()):
            floats.setdefault(layer, []).append(name)
    shown = layers[:_LAYERS_SHOWN]
    labels = _short_names([layer["layer"] for layer in shown])
    graphs = [floats.get(layer["layer"], []) for layer in shown]
    bars = [
        Bar(label, layer["sqnr_db"], _decibels(layer) + (f", float in {_listed(names)}" if names else ""), bool(names))
        for label, layer, names in zip(labels, shown, graphs)
    ]
    what = f"Signal-to-noise ratio of the logits with one layer in INT8, the {len(bars)} worst of {len(layers)} layers"
    rows = [[layer["layer"], _decibels(layer), _listed(floats.get(layer["layer"], []))] for layer in layers]
    return joined(
        [
            markup("<p>{}. Shorter is worse: 20 dB less is ten times the error.</p>", what),
            bar_chart(what, bars, max(1.0, *(bar.value for bar in bars))),
            markup(
                '<details class="screen"><summary>All layers by their output tensor</summary>{}</details>',
                table("As --float-layer takes them, worst first", ["layer", "ratio", "float in"], rows, text=(2,)),
            ),
        ]
    )


def _decibels(layer: Mapping[str, Any]) -> str:
    return f"{layer['sqnr_db']:.1f} dB"


def _short_names(names: Sequence[str]) -> list[str]:
    """Names of tensors without the folder that all share and the exporter's suffix, and never longer than a phone."""
    shared = os.path.commonprefix(list(names)).rfind("/") + 1 if len(names) > 1 else 0
    short = [name[shared:].replace("_output_0", "") for name in names]
    return [name if len(name) <= 46 else "…" + name[-45:] for name in short]


def _mixes(bundle: Bundle) -> Markup:
    fp32 = accuracy_from_json(_measured(bundle).get("fp32", {}))
    return joined(
        _mix(name, entry, fp32, bundle) for name, entry in _measured(bundle).items() if len(entry.get("tried", ())) > 1
    )


def _mix(name: str, entry: Mapping[str, Any], fp32: Accuracy, bundle: Bundle) -> Markup:
    points, limits = [_point_from_json(point) for point in entry["tried"]], _limits(bundle)
    front = pareto_front([point for point in points if not point.refused])
    chosen = tuple(entry.get("float_layers", ()))
    kinds = [_kind(point, point.float_layers == chosen, point in front) for point in points]
    if math.isfinite(fp32.miou):
        y_label, heights = "mIoU %", [100 * point.accuracy.miou for point in points]
        least = fp32.miou - limits.max_drop
        levels = [Level(100 * fp32.miou, "FP32"), Level(100 * least, "least mIoU of the gate")]
    else:
        y_label, heights = "agreement with FP32 %", [100 * point.accuracy.agreement for point in points]
        levels = [Level(100 * limits.min_agreement, "least agreement of the gate")]
    dots = [
        Dot(_cost(point), height, str(len(point.float_layers)), kind, point in front)
        for point, height, kind in zip(points, heights, kinds)
    ]
    x_label, explained = _cost_label(points, bundle.report.get("board") or "the board that was named")
    rows = [
        [*_mix_row(point, limits), "chosen" if kind == "chosen" else "Pareto front" if kind == "front" else ""]
        for point, kind in zip(points, kinds)
    ]
    used = [i for i in range(len(_MIX_COLUMNS)) if any(str(row[i]) for row in rows)]
    columns, cells = [_MIX_COLUMNS[i] for i in used], [[row[i] for i in used] for row in rows]
    return joined(
        [
            markup("<h3>{}</h3><p>Numbers at the points are layers in float. {}</p>", name, explained),
            scatter_chart(f"{name}: accuracy against cost", dots, levels, x_label, y_label),
            table(f"{name}: every mix that was judged", columns, cells),
        ]
    )


_MIX_COLUMNS = (
    "float layers", "mIoU %", "worst class", "agreement %", "boundary agreement %", "MB", "CPU ms", "bound ms", "gate",
    "choice",
)  # fmt: skip


def _mix_row(point: MixedPoint, limits: Limits) -> list[object]:
    return [
        len(point.float_layers),
        _percent(point.accuracy.miou),
        _change(-point.worst_drop, limits.max_class_drop),
        _percent(point.accuracy.agreement),
        _percent(point.accuracy.boundary_agreement),
        f"{point.size_bytes / 1e6:.2f}",
        "" if point.measured_ms is None else f"{point.measured_ms:.2f}",
        "" if point.roofline_ms is None else f"{point.roofline_ms:.3f}",
        "refused" if point.refused else "passes",
    ]


def _kind(point: MixedPoint, is_chosen: bool, is_on_front: bool) -> str:
    if is_chosen:
        return "chosen"
    return "refused" if point.refused else "front" if is_on_front else "passes"


def _point_from_json(data: Mapping[str, Any]) -> MixedPoint:
    return MixedPoint(
        float_layers=tuple(data["float_layers"]),
        accuracy=accuracy_from_json(data),
        worst_drop=_number(data.get("worst_drop")),
        refused=tuple(data["refused"]),
        size_bytes=int(data["size_bytes"]),
        measured_ms=data.get("measured_ms"),
        roofline_ms=data.get("roofline_ms"),
    )


def _cost(point: MixedPoint) -> float:
    return point.latency_ms if point.latency_ms is not None else point.size_bytes / 1e6


def _cost_label(points: Sequence[MixedPoint], board: str) -> tuple[str, str]:
    """(axis, what it is) of what accuracy is paid with."""
    if points[0].measured_ms is not None:
        return "ms per frame", "Time is the median on the CPU that compiled it."
    if points[0].roofline_ms is not None:
        return "ms per frame, lower bound", f"Time is the least at the peak rates of {board}, no forecast."
    return "MB", ""


def _lint(bundle: Bundle) -> Markup:
    lint: Mapping[str, Mapping[str, Sequence[Mapping[str, str]]]] = _per_graph(bundle, "lint")
    targets = sorted({target for findings in lint.values() for target in findings})
    if not targets:
        return _NOTHING
    rows = [[target, *(_finding_counts(lint[name].get(target, ())) for name in lint)] for target in targets]
    return joined(
        [
            table("Findings per target, without TensorRT", ["target", *lint], rows, text=range(1, len(lint) + 1)),
            *(_findings(target, lint) for target in targets),
        ]
    )


def _finding_counts(findings: Sequence[Mapping[str, str]]) -> Markup:
    told = [(s, _count(findings, s)) for s in ("error", "warning", "note")]
    parts = [f"{count} {severity}{'s' * (count > 1)}" for severity, count in told if count]
    style = "bad" if told[0][1] else "loss" if told[1][1] else "gain"
    return markup('<span class="{}">{}</span>', style, ", ".join(parts) or "nothing")


def _findings(target: str, lint: Mapping[str, Mapping[str, Sequence[Mapping[str, str]]]]) -> Markup:
    """The findings for one target, collapsed; those that several graphs share stand there once."""
    graphs: dict[tuple[str, ...], list[str]] = {}
    for name, targets in lint.items():
        for finding in targets.get(target, ()):
            key = tuple(str(finding.get(part, "")) for part in ("severity", "what", "where", "fix", "rule"))
            graphs.setdefault(key, []).append(name)
    if not graphs:
        return _NOTHING
    items = joined(
        markup(
            '<li><b class="{}">{}</b> {} <span class="quiet">({}; {}; rule {})</span><br>Fix: {}</li>',
            "bad" if severity == "error" else "loss" if severity == "warning" else "quiet",
            severity, what, _listed(names), where, rule, fix,
        )
        for (severity, what, where, fix, rule), names in graphs.items()
    )  # fmt: skip
    found = [{"severity": key[0]} for key in graphs]
    return markup("<details><summary>{}: {}</summary><ul>{}</ul></details>", target, _finding_counts(found), items)


def _kernel_plans(bundle: Bundle) -> Markup:
    plans: Mapping[str, Mapping[str, Mapping[str, Any]]] = _per_graph(bundle, "kernel_plans")
    entries = [(name, capability, plan) for name, built in plans.items() for capability, plan in sorted(built.items())]
    if not entries:
        return _NOTHING
    rows = [
        [
            f"{name}, {capability}",
            plan["kernels"],
            f"{plan['int8_convolutions']} of {plan['convolutions']}",
            len(plan["float_round_trips"]),
            f"{plan['activation_bytes'] / 1e6:.0f}",
            f"{plan['plan_bytes'] / 1e6:.1f}",
            f"{plan['build_s']:.1f}",
        ]
        for name, capability, plan in entries
    ]
    versions = sorted({str(plan["tensorrt_rtx"]) for _, _, plan in entries})
    columns = ["graph", "kernels", "INT8 convolutions", "float round trips", "activations MB", "plan MB", "build s"]
    caption = f"Accepted by TensorRT-RTX {_listed(versions)}, built ahead of time without a GPU; not run on a Jetson"
    return joined([table(caption, columns, rows), *(_round_trips(*entry) for entry in entries)])


def _round_trips(name: str, capability: str, plan: Mapping[str, Any]) -> Markup:
    trips = plan["float_round_trips"]
    if not trips:
        return _NOTHING
    items = joined(
        markup("<li>{}: from {} to {}</li>", trip["tensor"], _last(trip["written_by"]), _last(trip["read_by"]))
        for trip in trips
    )
    return markup(
        "<details><summary>{} float round trips of {}, {}</summary><ul>{}</ul></details>",
        len(trips), name, capability, items,
    )  # fmt: skip


def _last(layers: Sequence[str]) -> str:
    return layers[-1] if layers else "the output"


def _notes(bundle: Bundle) -> Markup:
    told = (bundle.report.get("calibration") or {}).get("warnings", ())
    notes = [note for note in bundle.report.get("notes", ()) if note not in told]
    return markup("<ul>{}</ul>", joined(markup("<li>{}</li>", note) for note in notes)) if notes else _NOTHING


def _count(findings: Sequence[Mapping[str, str]], severity: str) -> int:
    return sum(finding["severity"] == severity for finding in findings)


def _share(share: float) -> str:
    return f"{100 * share:.2f} %" if share >= 1e-4 or not share else "under 0.01 %"


def _falling(shares: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(shares.items(), key=lambda item: (-item[1], item[0]))


def _change(change: float, allowed: float) -> Markup:
    """A signed change in points: its colour says gain or loss, and so does its sign; ✗ is a loss beyond the gate."""
    if not math.isfinite(change):
        return _NOTHING
    said = _points(change)
    beyond = change < -allowed
    style = "bad" if beyond else "loss" if said.startswith("−") else "gain" if said.startswith("+") else "same"
    return markup('<span class="change {}">{}{}</span>', style, "✗ " if beyond else "", said)


def _points(change: float) -> str:
    """0.0123 -> ``+1.23``, with a minus sign of the width of the plus sign."""
    return "0.00" if abs(change) < 5e-5 else f"{100 * change:+.2f}".replace("-", "−")


def _percent(value: float) -> str:
    return f"{100 * value:.2f}" if math.isfinite(value) else "–"


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else "".join(names)


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"
