"""``edgeseg tune``: what to run on this device, measured."""

from edgeseg.app.bench_config import TuneConfig
from edgeseg.app.tune import TuningReport
from edgeseg.app.tune import tune as choose
from edgeseg.cli.console import JsonFlag, percent, print_json, say, say_anyhow, say_aside, table
from edgeseg.cli.opening import tensorrt_factory
from edgeseg.cli.options import command
from edgeseg.cli.progress import told_progress
from edgeseg.cli.signals import stop_on_signals
from edgeseg.errors import SinkError


def _tune(config: TuneConfig, as_json: JsonFlag = False) -> None:
    """Time what can run here, keep the fastest that passes its self-test: later runs without options take it.

    On a Jetson: FP16, implicit INT8, Q/DQ and DLA in TensorRT. Elsewhere: engines of the CPU, their graphs and threads.

    Example: edgeseg tune street.edgeseg
    """
    with stop_on_signals(), told_progress(say_aside if as_json else say_anyhow) as progress:
        report = choose(config, progress, factory_from=tensorrt_factory)
    if as_json:
        print_json(report.to_json())
    else:
        _print(report)
    if report.tuning.is_interrupted:
        raise KeyboardInterrupt
    if report.not_kept:
        raise SinkError(report.not_kept)


tune = command(TuneConfig, _tune)


def _print(report: TuningReport) -> None:
    rows, best = [], report.tuning.best
    says_int8 = any(one.precisions is not None for one in report.tuning.candidates)
    for one in report.tuning.candidates:
        if one.measured is None:
            rows.append([one.name, "-", "-", *(["-"] if says_int8 else []), "-", "out"])
            continue
        frame = one.measured.frame
        remarks = ["taken"] * (one is best) + ["unstable clocks"] * one.measured.unstable
        int8 = "-" if one.precisions is None else percent(one.precisions.int8_share)
        agreement = "-" if one.self_test is None else percent(one.self_test.agreement)
        shares = [int8, agreement] if says_int8 else [agreement]
        rows.append([one.name, f"{frame.p50_ms:.2f}", f"{frame.p99_ms:.2f}", *shares, ", ".join(remarks)])
    shares = ["INT8 convs %", "as FP32 %"] if says_int8 else ["as FP32 %"]
    table(f"end-to-end ms/frame on {report.source}", ["candidate", "p50 ms", "p99 ms", *shares, ""], rows)
    say(report.tuning.verdict())
