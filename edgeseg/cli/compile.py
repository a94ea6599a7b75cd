"""``edgeseg compile``: checkpoint, ONNX file or bundle -> bundle whose INT8 passed the accuracy gate."""

import math
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from edgeseg.app.compile import CompiledBundle, compile_bundle, compile_program, product_of
from edgeseg.app.compile_config import CompileConfig
from edgeseg.app.config_file import save_config
from edgeseg.app.device_engine import build_engine, flavour_of
from edgeseg.app.models import bundle_or_default, without_reason
from edgeseg.cli.arguments import SaveConfigOption
from edgeseg.cli.console import JsonFlag, print_json, say, say_aside, table
from edgeseg.cli.opening import tensorrt_factory
from edgeseg.cli.options import command, given_in
from edgeseg.cli.progress import told_progress
from edgeseg.recipes import FP32

if TYPE_CHECKING:
    from edgeseg.compiler.pipeline import Compilation
    from edgeseg.report_data import GraphResult


_GRAPH_COLUMNS = (
    "graph", "mIoU", "drop", "worst class drop", "agrees %", "at edges %", "INT8 convs", "MB", "in bundle",
)  # fmt: skip
_MIX_COLUMNS = (
    "float layers",
    "mIoU",
    "worst class drop",
    "agrees %",
    "MB",
    "CPU ms",
    "board's bound ms",
    "gate",
    "choice",
)


def _compile(
    config: CompileConfig, context: typer.Context, save: SaveConfigOption = None, as_json: JsonFlag = False
) -> None:
    """Compile a network into a bundle; INT8 graphs are emitted from one calibration and must pass the accuracy gate.

    On a Jetson, a bundle without further images becomes a cached TensorRT engine that passed its golden frames.

    Example: edgeseg compile runs/train/best.safetensors --int8 --calib camvid/train --eval camvid/val -o street.edgeseg
    """
    product = product_of(config, given_in(context))
    if save is not None:
        (say_aside if as_json else say)(save_config(config, save))
    if product == "engine":
        _engine(config, as_json)
    elif product == "program":
        _program(config, as_json)
    else:
        _bundle(config, as_json)


compile_ = command(CompileConfig, _compile, file_in="model")


def _engine(config: CompileConfig, as_json: bool) -> None:
    flavour = flavour_of(config)
    bundle, name = bundle_or_default(config.model, config.require_signature)
    tell = say_aside if as_json else say
    tell(f"model: {name}")
    with tensorrt_factory(flavour, tell, config.engine.build_log) as factory:
        built = build_engine(config, bundle, name, factory)
    if built.compute_capability is None:
        tell(f"ready: {built.path}")
        tell(f"next: edgeseg run {without_reason(name)} --engine {flavour} --camera 0")
    else:
        tell(f"wrote {built.path} and {built.path.name}.json, for TensorRT-RTX on GPUs of {built.compute_capability}")
        graph = "" if config.int8 else f" --graph {built.precision}"
        run = f"edgeseg run {without_reason(name)} --engine rtx{graph}"
        tell(f"there: 'edgeseg engines add {built.path.name}', then '{run}'")
    if as_json:
        print_json({"engine": str(built.path), **built.sidecar})


def _program(config: CompileConfig, as_json: bool) -> None:
    made = compile_program(config)
    measured = made.measured
    if as_json:
        print_json({"program": str(made.path), "precision": made.precision, **asdict(measured)})
        return
    say(f"{measured.engines} TensorRT engines; left to PyTorch: {', '.join(measured.torch_operators) or 'nothing'}")
    say(f"agrees with PyTorch in {100 * measured.agreement:.2f} % of pixels of random frames")
    say(f"wrote {made.path}; load it with torch.export.load after 'import torch_tensorrt'")


def _bundle(config: CompileConfig, as_json: bool) -> None:
    made = compile_bundle(config) if as_json else _shown(config)
    size = made.path.stat().st_size
    if made.signature_is_lost:
        tell = say_aside if as_json else say
        of = config.model.name if config.model else ""
        tell(f"note: {made.path} is not signed, for the signature of {of} is of that file; 'edgeseg sign' signs it")
    if as_json:
        print_json({"bundle": str(made.path), "bytes": size, **made.compilation.bundle.report.to_json()})
        return
    _print_results(made.compilation)
    say(f"wrote {made.path} ({size / 1e6:.1f} MB)")
    if config.model is None:
        say("it is the shipped model again: where no model is named, commands here take a bundle of your own before it")


def _shown(config: CompileConfig) -> CompiledBundle:
    with told_progress(lambda line: say(f"  {line}")) as progress:
        return compile_bundle(config, progress)


def _print_results(compilation: "Compilation") -> None:
    from edgeseg.compiler.report.summary import cells, graph_rows

    report = compilation.bundle.report
    rows = cells(graph_rows(compilation.bundle), _GRAPH_COLUMNS)
    table(f"judged on {report.evaluation_data} with each target's arithmetic", _GRAPH_COLUMNS, rows)
    for result in report.graphs.values():
        _print_mixes(result)
        if result.refused and result.name not in compilation.bundle.graphs:
            say(f"{result.name} is left out of the bundle: {'; '.join(result.refused)}")
    for one in report.sensitivity[:8]:
        say(f"sensitive: {one.sqnr_db:5.1f} dB  {one.layer}")
    for line in report.notes:
        say(f"note: {line}")
    if math.isnan(report.graphs[FP32].accuracy.miou):
        say("note: no labels, so INT8 was gated by pixel agreement only, not by mIoU or class; pass --eval FOLDER")


def _print_mixes(result: "GraphResult") -> None:
    """Every mix of INT8 and float that was judged."""
    from edgeseg.compiler.report.summary import cells, mix_rows

    if len(result.tried) > 1:
        table(f"{result.name}: mixes of INT8 and float", _MIX_COLUMNS, cells(mix_rows(result), _MIX_COLUMNS))
