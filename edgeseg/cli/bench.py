"""``edgeseg bench``: this machine, engines x precisions, side by side with PyTorch eager."""

from typing import TYPE_CHECKING, List

from edgeseg.app.bench import BenchReport, compare
from edgeseg.app.bench import bench as measure
from edgeseg.app.bench_config import BenchConfig
from edgeseg.app.bench_files import refuse_taken, write_files
from edgeseg.cli.console import JsonFlag, percent, print_json, say, say_anyhow, say_aside, table
from edgeseg.cli.opening import tensorrt_factory
from edgeseg.cli.options import command
from edgeseg.cli.progress import told_progress
from edgeseg.cli.signals import stop_on_signals
from edgeseg.errors import EngineError, InputError

if TYPE_CHECKING:
    from edgeseg.bench.compare import Comparison
    from edgeseg.bench.measure import Measurement
    from edgeseg.bench.soak import Soak


def _bench(config: BenchConfig, as_json: JsonFlag = False) -> None:
    """Measure end-to-end ms/frame (resize, inference, class map) of every graph that runs here, in every engine.

    Example: edgeseg bench street.edgeseg --torch-size 512x512
    """
    if config.compare:
        found = compare(config)
        if as_json:
            print_json(found.to_json())
        else:
            _print_comparison(found)
        return
    refuse_taken(config)
    with stop_on_signals(), told_progress(say_aside if as_json else say_anyhow) as progress:
        report = measure(config, progress, factory_from=tensorrt_factory)
    written, failed = [], list(report.failed)
    try:  # files first: whoever reads the lines may go away
        for path in write_files(report):
            written.append(path)
    except InputError as error:
        failed.append(str(error))
    if as_json:
        print_json(report.to_json())
    else:
        _print(report)
    for path in written:
        (say_aside if as_json else say)(f"wrote {path}")
    if failed:
        raise EngineError("; ".join(failed))
    if report.is_interrupted:
        raise KeyboardInterrupt


bench = command(BenchConfig, _bench)


def _print(report: BenchReport) -> None:
    if report.soak is not None:
        _print_soak(report.soak)
    else:
        _print_times(report)
        _print_beside(report)
        _print_layers(report)
    if report.is_interrupted:
        say("INTERRUPTED: this was measured by then")
    for m in report.measured:
        if m.unstable:
            drift = f"{100 * m.drift:+.0f} %"
            say(f"UNSTABLE: {m.name} drifted by {drift} from the first to the last quarter; run it again")
    for reason in report.throttled:
        say(f"UNSTABLE: {reason}")
    if report.missing:
        missing = " and ".join(report.missing)
        say(f"{missing} not installed (pip install 'edgeseg[train]'), so there is no ratio against PyTorch")
    if report.config.data is None and report.measured:
        say("mIoU needs labelled images: --data FOLDER")


def _print_times(report: BenchReport) -> None:
    ours = report.measured[0]
    rows = []
    for m in report.measured:
        stages = [m.stages[stage].p50_ms for stage in ("preprocess", "infer", "postprocess")]
        numbers = [f"{ms:.2f}" for ms in (*stages, m.frame.p50_ms, m.frame.p90_ms, m.frame.p99_ms)]
        rows.append([m.name, *numbers, f"{1000 / m.frame.mean_ms:.1f}", "-" if m is ours else m.beside(ours)])
    columns = [
        "contender",
        "pre ms",
        "infer ms",
        "post ms",
        "frame p50",
        "p90",
        "p99",
        "frames/s",
        f"beside {ours.name}",
    ]
    table(f"end-to-end ms/frame on {report.source}", columns, rows)


def _print_beside(report: BenchReport) -> None:
    """Print what was measured beside the times; columns in which nobody has a value are left out."""
    columns = ["graph MiB", "peak MiB", "W", "J/frame", "age p50 ms", "age p99", "dropped", "mIoU %", "worst class"]
    rows = [[m.name, *_beside_cells(report, m)] for m in report.measured]
    kept = [index for index in range(len(columns)) if any(row[index + 1] != "-" for row in rows)]
    if kept:
        shown = [[row[0], *(row[index + 1] for index in kept)] for row in rows]
        table("beside the times", ["contender", *(columns[index] for index in kept)], shown)


def _beside_cells(report: BenchReport, m: "Measurement") -> List[str]:
    found, size = report.of(m), m.facts.get("graph_mib")
    camera, worst = found.camera, found.worst_class
    return [
        "-" if size is None else f"{size:.1f}",
        "-" if found.peak_memory_mib is None else f"{found.peak_memory_mib:.0f}",
        "-" if m.power_w is None else f"{m.power_w:.1f}",
        "-" if m.energy_j is None else f"{m.energy_j:.3f}",
        *(
            ["-"] * 3
            if camera is None
            else [f"{camera.age.p50_ms:.1f}", f"{camera.age.p99_ms:.1f}", f"{camera.dropped}"]
        ),
        "-" if found.miou is None else percent(found.miou),
        "-" if worst is None else f"{worst[0]} {percent(worst[1])}",
    ]


_LAYERS = 15


def _print_layers(report: BenchReport) -> None:
    for m in report.measured:
        layers = report.of(m).layers
        if layers:
            whole = sum(layer.ms for layer in layers)
            rows = [
                [layer.name, layer.kind, f"{layer.ms:.3f}", percent(layer.ms / whole)] for layer in layers[:_LAYERS]
            ]
            title = (
                f"the slowest of the {len(layers)} layers of {m.name}, {whole:.2f} ms in all while they are measured"
            )
            table(title, ["layer", "kind", "ms", "%"], rows)


def _print_soak(soak: "Soak") -> None:
    rows = [
        [
            f"{window.ends_s:.0f}",
            *(f"{ms:.2f}" for ms in (window.frame.p50_ms, window.frame.p99_ms)),
            *("-" if value is None else f"{value:.1f}" for value in (window.hottest_c, window.power_w, window.gpu_mhz)),
            "; ".join(window.throttled) or "-",
        ]
        for window in soak.windows
    ]
    table(f"{soak.name}, ms/frame", ["until s", "p50", "p99", "hottest C", "W", "GPU MHz", "throttled"], rows)
    say(f"p99 in the first tenth of the frames: {soak.cold.p99_ms:.2f} ms; in the last: {soak.hot.p99_ms:.2f} ms")
    say(soak.throttling)
    if soak.energy_j is not None:
        say(f"{soak.energy_j:.3f} J/frame")


def _print_comparison(found: "Comparison") -> None:
    rows = [
        [
            one.name,
            f"{one.before_ms:.2f}",
            f"{one.after_ms:.2f}",
            f"{100 * (one.times_slower - 1):+.1f} % ({100 * (one.low - 1):+.1f} to {100 * (one.high - 1):+.1f})",
            one.verdict,
        ]
        for one in found.changes
    ]
    table("time per frame, before and after", ["contender", "p50 before", "p50 after", "change", "verdict"], rows)
    for names, where in ((found.only_before, "before"), (found.only_after, "after")):
        if names:
            say(f"only {where}: {', '.join(names)}")
    for note in found.notes:
        say(f"NOTE: {note}")
