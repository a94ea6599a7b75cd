"""Results of ``edgeseg bench`` as files: a table, and a page with charts."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Iterator, Sequence

from edgeseg import __version__
from edgeseg.app.bench import BenchReport
from edgeseg.app.bench_config import BenchConfig
from edgeseg.app.data import path_of_data
from edgeseg.app.models import chosen_path
from edgeseg.compiler.report.charts import Bar, bar_chart
from edgeseg.compiler.report.template import NOTHING, Markup, facts, html_page, joined, markup, table
from edgeseg.errors import InputError
from edgeseg.files import write_new

if TYPE_CHECKING:
    from edgeseg.timing import LatencySummary

__all__ = ["bench_csv", "bench_html", "refuse_taken", "write_files"]

_LAYERS = 20
_PERCENTILES = ("min_ms", "max_ms", "mean_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms")
_TITLES = ("min", "max", "mean", "median", "90 %", "95 %", "99 %")


def refuse_taken(config: BenchConfig) -> None:
    """Raise InputError for a name that is taken, UsageError for that of a file that is read; nothing is measured yet.

    `overwrite` replaces results of earlier measurements, not what this one is made from.
    """
    from edgeseg.runtime.sinks.clash import refuse_overwriting

    asked = [path for path in (config.result, config.html, config.csv, config.calibrate) if path is not None]
    for path in asked:
        if sum(os.path.realpath(path) == os.path.realpath(other) for other in asked) > 1:
            raise InputError(f"{path} is named for two files; give each a name of its own")
        if path.is_dir():
            raise InputError(f"{path} is a folder; name a file")
        if os.path.lexists(path) and not path.is_file():
            raise InputError(f"{path} is no regular file and is not replaced; name a new file")
        if path.exists() and path != config.calibrate and not config.overwrite:
            raise InputError(f"{path} is there already; name another file, or pass `overwrite`")
        if not path.parent.is_dir():
            raise InputError(f"{path.parent} is no folder; make it first")
        if not os.access(path.parent, os.W_OK):
            raise InputError(f"{path.parent} cannot be written to; name another folder")
    models = [chosen_path(model) for model in config.models or (None,)]
    data = [path_of_data(where) for where in (config.source, config.data) if where is not None]
    read = [*models, *data, *([] if config.require_signature is None else [config.require_signature])]
    refuse_overwriting([], [], read, others=[(f"the result {path}", (path,), ()) for path in asked])
    for path in asked:
        if path.is_symlink():
            raise InputError(f"{path} is a link and is not replaced; name the file that it stands for")


def write_files(report: BenchReport) -> Iterator[Path]:
    """Write the files that were asked for, and yield their names. One that cannot be written keeps no other from it.

    Raises:
        InputError: a name was taken meanwhile, or the disk refused; told after the last file.
    """
    config, refused = report.config, []
    for path, text in ((config.result, _document), (config.html, bench_html), (config.csv, bench_csv)):
        if path is None:
            continue
        try:
            content = text(report).encode("utf-8", "backslashreplace")  # a name may hold bytes that are no text
            write_new(path, content, replaces=lambda _: config.overwrite)
        except OSError as error:
            refused.append(f"{path} cannot be written: {error.strerror}")
            continue
        yield path
    if refused:
        raise InputError("; ".join(refused))


def _document(report: BenchReport) -> str:
    return json.dumps(report.to_json(), indent=1) + "\n"


def bench_csv(report: BenchReport) -> str:
    """Return a row per contender and stage, with the machine on every row; times in ms, ``frame`` is per frame."""
    head = ["contender", "model", "graph", "engine", "threads", "width", "height", "batch", "stage", "count"]
    machine = [
        "board",
        "cpu",
        "power_mode",
        "hottest_c_before",
        "hottest_c_after",
        "unstable",
        "throttled",
        "interrupted",
    ]
    more = ["graph_mib", "peak_memory_mib", "power_w", "energy_j_per_frame", "miou"]
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow([*head, *_PERCENTILES, *more, *machine])
    for m in report.measured:
        sensors, beside = m.to_json()["sensors"], report.of(m)
        height, width = m.facts.get("size_hw", ("", ""))
        first, last = sensors.get("hottest_c", ("", ""))
        known = [m.facts.get(name, "") for name in ("model", "graph", "engine", "threads")]
        tail = [m.facts.get("graph_mib"), beside.peak_memory_mib, m.power_w, m.energy_j, beside.miou]
        about = [report.device.board, report.device.cpu, report.device.power_mode, first, last]
        for stage, summary in [("frame", m.frame), *m.stages.items()]:
            times = [f"{getattr(summary, name):.4f}" for name in _PERCENTILES]
            row = [m.name, *known, width, height, m.batch, stage, summary.count, *times, *tail, *about]
            writer.writerow([*row, m.unstable, "; ".join(report.throttled), report.is_interrupted])
    return written.getvalue()


def bench_html(report: BenchReport) -> str:
    """Return a page that loads nothing: charts and tables of what was measured."""
    sections = [("Time per frame", _times(report)), ("Stages", _stages(report))]
    sections += [("Behind a camera", _camera(report)), ("Layers", _layers(report)), ("Soak", _soak(report))]
    sections += [("Machine", _machine(report))]
    there = [(name, content) for name, content in sections if content]
    links = joined(markup('<a href="#{}">{}</a>', _anchor(name), name) for name, _ in there)
    body = joined(markup('<section id="{}"><h2>{}</h2>{}</section>', _anchor(name), name, part) for name, part in there)
    warnings = [f"{m.name} drifted by {100 * m.drift:+.0f} %" for m in report.measured if m.unstable]
    lines = ["Interrupted: this was measured by then"] if report.is_interrupted else []
    lines += [f"Unstable: {one}" for one in [*warnings, *report.throttled]]
    lines += [*report.left_out, *(f"Not measured: {one}" for one in report.failed)]
    lines += [f"PyTorch was not timed: {one} is not installed" for one in report.missing]
    head = joined(markup('<p class="warning">{}</p>', one) for one in lines)
    return html_page(f"edgeseg bench: {', '.join(report.models)}", head, links, body)


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-")


def _times(report: BenchReport) -> Markup:
    if not report.measured:
        return NOTHING
    slowest = max(m.frame.p50_ms for m in report.measured)
    bars = [
        Bar(m.name, m.frame.p50_ms, f"{m.frame.p50_ms:.2f} ms, p99 {m.frame.p99_ms:.2f} ms", m is report.measured[0])
        for m in report.measured
    ]
    chart = bar_chart("median ms per frame, end to end", bars, slowest)
    rows = []
    for m in report.measured:
        beside = report.of(m)
        rows.append(
            [
                m.name,
                *_cells(m.frame),
                "" if m is report.measured[0] else m.beside(report.measured[0]),
                _number(beside.peak_memory_mib, 0),
                _number(m.energy_j, 3),
                _number(None if beside.miou is None else 100 * beside.miou, 2),
            ]
        )
    columns = ["contender", *_TITLES, f"beside {report.measured[0].name}", "peak MiB", "J/frame", "mIoU %"]
    return joined(
        [
            chart,
            table("ms per frame, end to end; beside: median of paired turns, 95 % interval", columns, rows),
        ]
    )


def _stages(report: BenchReport) -> Markup:
    if not report.measured:
        return NOTHING
    rows = [
        [f"{m.name}: {stage}", *_cells(summary)]
        for m in report.measured
        for stage, summary in [*m.stages.items(), *m.latencies().items()]
    ]
    what = "ms per call, by stage, and under trtexec's names; Latency is from the host's call to its result"
    return table(what, ["contender", *_TITLES], rows)


def _camera(report: BenchReport) -> Markup:
    found = [(m, report.of(m).camera) for m in report.measured]
    there = [(m, camera) for m, camera in found if camera is not None]
    if not there:
        return NOTHING
    rows = [[m.name, *_cells(camera.age), camera.shown, camera.dropped] for m, camera in there]
    what = f"age of results in ms, at {there[0][1].fps:g} frames per second"
    return table(what, ["contender", *_TITLES, "shown", "dropped"], rows)


def _layers(report: BenchReport) -> Markup:
    parts = []
    for m in report.measured:
        layers = report.of(m).layers[:_LAYERS]
        if layers:
            bars = [Bar(f"{one.name} ({one.kind})", one.ms, f"{one.ms:.3f} ms") for one in layers]
            parts += [markup("<h3>{}</h3>", m.name), bar_chart(f"slowest layers of {m.name}", bars, layers[0].ms)]
    return joined(parts)


def _soak(report: BenchReport) -> Markup:
    soak = report.soak
    if soak is None:
        return NOTHING
    longest = max(window.frame.p99_ms for window in soak.windows)
    bars = [
        Bar(
            f"until {window.ends_s:.0f} s",
            window.frame.p99_ms,
            f"p99 {window.frame.p99_ms:.2f} ms, p50 {window.frame.p50_ms:.2f} ms",
            bool(window.throttled),
        )
        for window in soak.windows
    ]
    pairs = [
        ("p99 of the first tenth", f"{soak.cold.p99_ms:.2f} ms"),
        ("p99 of the last tenth", f"{soak.hot.p99_ms:.2f} ms"),
        ("throttling", soak.throttling),
        ("energy", "no sensor" if soak.energy_j is None else f"{soak.energy_j:.3f} J/frame"),
    ]
    return joined([facts(pairs), bar_chart(f"p99 of {soak.name}, marked where the board throttled", bars, longest)])


def _machine(report: BenchReport) -> Markup:
    config = report.config
    if config.soak:
        effort = f"{config.soak} without a pause and without a warm-up"
    else:
        effort = f"{config.calls} calls" if config.calls else f"{config.seconds:g} s"
        effort += f" each after {config.warmup:g} s of warm-up, in alternating turns"
    pairs = [
        ("device", report.device.describe()),
        ("power mode", report.device.power_mode or "none told"),
        ("frames", report.source),
        ("effort", effort),
        ("edgeseg", __version__),
    ]
    return facts(pairs)


def _cells(summary: LatencySummary) -> Sequence[str]:
    return [f"{getattr(summary, name):.2f}" for name in _PERCENTILES]


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
