"""``edgeseg bench``: this machine, engines x precisions, side by side with PyTorch eager."""

from typing import TYPE_CHECKING, Dict, Sequence

from edgeseg.app.bench import bench as measure
from edgeseg.app.bench_config import BenchConfig
from edgeseg.cli.console import JsonFlag, percent, print_json, say, say_aside, table
from edgeseg.cli.opening import tensorrt_factory
from edgeseg.cli.options import command
from edgeseg.cli.progress import told_progress

if TYPE_CHECKING:
    from edgeseg.bench.measure import Measurement


def _bench(config: BenchConfig, as_json: JsonFlag = False) -> None:
    """Measure end-to-end ms/frame (resize, inference, class map) of every graph that runs here, in every engine.

    Example: edgeseg bench street.edgeseg --torch-size 512x512
    """
    with told_progress(say_aside if as_json else say) as progress:
        report = measure(config, progress, factory_from=tensorrt_factory)
    if as_json:
        print_json(report.to_json())
        return
    _print_table(f"end-to-end ms/frame on {report.source}", report.measured, report.miou)
    for reason in report.throttled:
        say(f"UNSTABLE: {reason}")
    if report.missing:
        missing = " and ".join(report.missing)
        say(f"{missing} not installed (pip install 'edgeseg[train]'), so there is no ratio against PyTorch")
    if config.data is None:
        say("mIoU needs labelled images: --data FOLDER")


bench = command(BenchConfig, _bench)


def _print_table(title: str, measured: "Sequence[Measurement]", miou: Dict[str, float]) -> None:
    ours = measured[0]
    rows = []
    for m in measured:
        times, low, high = ours.ratio_to(m)
        stages = [m.stages[stage].p50_ms for stage in ("preprocess", "infer", "postprocess")]
        numbers = [f"{ms:.2f}" for ms in (*stages, m.frame.p50_ms, m.frame.p90_ms, m.frame.p99_ms)]
        accuracy = percent(miou.get(m.name, float("nan")))
        rows.append([m.name, *numbers, accuracy, f"{times:.2f}x ({low:.2f}-{high:.2f})"])
    stages_and_frame = ["pre ms", "infer ms", "post ms", "frame p50", "p90", "p99"]
    table(title, ["contender", *stages_and_frame, "mIoU", f"{ours.name} is faster by"], rows)
    for m in measured:
        if m.unstable:
            drift = f"{100 * m.drift:+.0f} %"
            say(f"UNSTABLE: {m.name} drifted by {drift} from the first to the last quarter; run it again")
