"""``edgeseg compile``: checkpoint, ONNX file or bundle -> bundle whose INT8 passed the accuracy gate."""

import math
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator, List, Optional, Set

import typer
from typing_extensions import Annotated

from edgeseg.app.config import REQUIRE_SIGNATURE
from edgeseg.app.data import dataset_from
from edgeseg.app.engines import cache_folder, on_jetson
from edgeseg.app.models import SHIPPED, accepted_keys
from edgeseg.app.targets import is_bundle, is_program, refuse_foreign
from edgeseg.bundle import write_bundle
from edgeseg.cli.arguments import RequireSignatureOption
from edgeseg.cli.console import JsonFlag, print_json, say, say_aside, table
from edgeseg.cli.device_engine import ENGINE_FLAGS, DeviceFlags, compile_for_device
from edgeseg.cli.origins import Foreign, How, origin_from
from edgeseg.cli.progress import shown_progress
from edgeseg.device.specifications import BOARDS
from edgeseg.errors import UsageError, require
from edgeseg.images import Dataset, Joined
from edgeseg.labels import refuse_unusable_labels
from edgeseg.recipes import FP16, FP32, INT8_FP16, INT8_GRAPHS, StaticInt8, recipe_from_name
from edgeseg.report_data import Limits

if TYPE_CHECKING:
    from edgeseg.compiler.pipeline import Compilation, CompileOptions
    from edgeseg.progress import Progress
    from edgeseg.report_data import GraphResult


_ENGINE: Any = {"rich_help_panel": "TensorRT engine, on the device"}
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


def compile_(
    context: typer.Context,
    model: Annotated[
        Optional[Path],
        typer.Argument(help="Checkpoint of 'edgeseg train', .onnx file or bundle; else the shipped model."),
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Emit the INT8 graphs (TensorRT Q/DQ, CPU Q/DQ, dynamic).")
    ] = False,
    fp16: Annotated[
        bool,
        typer.Option("--fp16", help="Emit FP16 graphs for strongly typed TensorRT (10 and 11); with --int8 mixed."),
    ] = False,
    emit: Annotated[
        Optional[List[str]], typer.Option(help="A graph by name, e.g. int8-cpu-vnni; may be given several times.")
    ] = None,
    calib: Annotated[
        Optional[List[str]],
        typer.Option(help="Folder of calibration images (or demo://...); may be given several times."),
    ] = None,
    evaluation: Annotated[
        Optional[str], typer.Option("--eval", help="Folder of images and masks on which every graph is judged.")
    ] = None,
    golden: Annotated[
        Optional[str], typer.Option(help="Where the bundle's self-test frames come from; else the evaluation images.")
    ] = None,
    out: Annotated[Optional[Path], typer.Option("-o", "--out", help="The bundle to write, NAME.edgeseg.")] = None,
    size: Annotated[Optional[str], typer.Option(help="Another input size than the checkpoint's, WIDTHxHEIGHT.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Frames per inference, for several cameras.")] = 1,
    scores: Annotated[bool, typer.Option("--scores", help="Output class probabilities too.")] = False,
    argmax_first: Annotated[
        bool, typer.Option("--argmax-first", help="Class map before the last enlargement: faster, if the gate allows.")
    ] = False,
    calibrator: Annotated[str, typer.Option(help="auto, minmax, moving-average, percentile, entropy or mse.")] = "auto",
    equalize: Annotated[bool, typer.Option("--equalize", help="Cross-layer equalisation before calibration.")] = False,
    float_layer: Annotated[
        Optional[List[str]], typer.Option(help="Keep this layer in float (its output tensor); may be repeated.")
    ] = None,
    mixed: Annotated[
        bool, typer.Option("--mixed/--no-mixed", help="Put sensitive layers back to float where the gate refuses.")
    ] = True,
    sensitivity: Annotated[bool, typer.Option("--sensitivity", help="Rank layers by what their INT8 costs.")] = False,
    pareto: Annotated[
        bool, typer.Option("--pareto", help="Table of accuracy, size and latency over mixes of INT8 and float.")
    ] = False,
    budget_ms: Annotated[
        Optional[float], typer.Option(help="Most accurate mix within this time (CPU measured; board: lower bound).")
    ] = None,
    board: Annotated[Optional[str], typer.Option(help=f"Bound latency on: {', '.join(BOARDS)}.")] = None,
    max_drop: Annotated[float, typer.Option(help="Gate: allowed loss of mIoU in points.")] = 1.0,
    max_class_drop: Annotated[float, typer.Option(help="Gate: allowed loss of any class's IoU in points.")] = 3.0,
    min_agreement: Annotated[
        float, typer.Option(help="Gate: least share of pixels that agree with FP32, in %.")
    ] = 95.0,
    min_boundary_agreement: Annotated[
        float, typer.Option(help="Gate: the same within two pixels of class boundaries, in %.")
    ] = 80.0,
    gate: Annotated[
        bool, typer.Option("--gate/--no-gate", help="--no-gate stores graphs that fail, and stamps the bundle.")
    ] = True,
    simplifier: Annotated[str, typer.Option(help="onnxsim, onnxslim or none.")] = "onnxsim",
    float16: Annotated[
        bool, typer.Option("--float16", help="Store FP32 weights as float16, for a smaller file.")
    ] = False,
    spec: Annotated[Optional[Path], typer.Option(help="ONNX file: its spec as JSON, instead of these flags:")] = None,
    classes: Annotated[Optional[str], typer.Option(help="ONNX file: 'camvid' or a file of class names.")] = None,
    ignore: Annotated[Optional[int], typer.Option(help="ONNX file: mask value that is no class.")] = None,
    mean: Annotated[Optional[str], typer.Option(help="ONNX file: mean per channel, of 0-1 (or of 0-255).")] = None,
    std: Annotated[Optional[str], typer.Option(help="ONNX file: standard deviation per channel.")] = None,
    channel_order: Annotated[Optional[str], typer.Option(help="ONNX file: RGB or BGR.")] = None,
    layout: Annotated[Optional[str], typer.Option(help="ONNX file: NCHW or NHWC, where it cannot be told.")] = None,
    output: Annotated[Optional[str], typer.Option(help="ONNX file: which of several outputs.")] = None,
    background: Annotated[
        Optional[str],
        typer.Option(help="ONNX file of sigmoids: the class where all are low, or 'none' where the largest wins."),
    ] = None,
    threshold: Annotated[
        Optional[float], typer.Option(help="ONNX file of sigmoids: probability above which one says yes (0.5).")
    ] = None,
    check_tensorrt: Annotated[
        Optional[List[str]],
        typer.Option(help="Build TensorRT's graphs with TensorRT-RTX for SM75, SM86, SM89, SM120; may be repeated."),
    ] = None,
    backend: Annotated[
        str, typer.Option(help="bundle, or torch-tensorrt: a .pt2 program for PyTorch on this machine's GPU.")
    ] = "bundle",
    cache: Annotated[
        bool, typer.Option("--cache/--no-cache", help="Go on where an interrupted compile stopped.")
    ] = True,
    flavour: Annotated[
        Optional[str],
        typer.Option(
            help="Build a TensorRT engine of a bundle here: tensorrt (default on a Jetson) or rtx.", **_ENGINE
        ),
    ] = None,
    int8_mode: Annotated[str, typer.Option(help="auto, implicit (frozen ranges) or qdq.", **_ENGINE)] = "auto",
    dla: Annotated[
        Optional[int], typer.Option(min=0, help="Run on this DLA core, the GPU takes what it cannot.", **_ENGINE)
    ] = None,
    workspace_mib: Annotated[
        Optional[int], typer.Option(min=1, help="Most scratch memory of a layer.", **_ENGINE)
    ] = None,
    opt_level: Annotated[
        Optional[int], typer.Option(min=0, max=5, help="TensorRT's optimization level (8.6 and later).", **_ENGINE)
    ] = None,
    allow_partial_int8: Annotated[
        bool,
        typer.Option("--allow-partial-int8", help="Accept it with less than half its convolutions in INT8.", **_ENGINE),
    ] = False,
    compute_capability: Annotated[
        Optional[str], typer.Option(help="With --flavour rtx: for another GPU, like SM86, into a file.", **_ENGINE)
    ] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Build although the cache has it.", **_ENGINE)] = False,
    build_log: Annotated[
        Optional[Path],
        typer.Option(help="Existing folder for what TensorRT says and what its inspector shows.", **_ENGINE),
    ] = None,
    note: Annotated[str, typer.Option(help="Stored in the bundle, e.g. the licence of the data.")] = "",
    require_signature: RequireSignatureOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Compile a network into a bundle; INT8 graphs are emitted from one calibration and must pass the accuracy gate.

    On a Jetson, a bundle without further images becomes a cached TensorRT engine that passed its golden frames.

    Example: edgeseg compile runs/train/best.safetensors --int8 --calib camvid/train --eval camvid/val -o street.edgeseg
    """
    engine = DeviceFlags(
        flavour,
        int8,
        fp16,
        int8_mode,
        dla,
        workspace_mib,
        opt_level,
        allow_partial_int8,
        compute_capability,
        rebuild,
        build_log,
    )
    path, given = model or SHIPPED, _given(context)
    of_a_bundle = path.suffix == ".edgeseg" and not (calib or evaluation or emit or golden)
    if require_signature is not None and path.suffix != ".edgeseg":
        raise UsageError(
            f"a signature is required ({REQUIRE_SIGNATURE} or --require-signature), and {path.name} is no bundle and "
            "has none; leave that out to compile it"
        )
    if flavour is not None or (of_a_bundle and backend == "bundle" and on_jetson() and out is None):
        if path.suffix != ".edgeseg":
            raise UsageError(
                f"an engine is built of a bundle alone; compile {path.name} into one first, without --flavour"
            )
        _refuse_idle(
            given - ENGINE_FLAGS - {"--int8", "--fp16", "--out", "--require-signature", "--json"},
            "where an engine is built of a bundle",
        )
        compile_for_device(model, out, engine, require_signature, as_json)
        return
    if given & ENGINE_FLAGS:
        raise UsageError(
            f"{', '.join(sorted(given & ENGINE_FLAGS))} concern a TensorRT engine; add --flavour tensorrt or rtx"
        )
    if not path.is_file():
        seen = "is no file" if path.exists() else "does not exist"
        raise UsageError(f"{path} {seen}; pass a checkpoint of 'edgeseg train', an .onnx file or a bundle")
    if backend == "torch-tensorrt":
        _refuse_idle(
            given - {"--backend", "--int8", "--fp16", "--batch", "--out", "--json"}, "with --backend torch-tensorrt"
        )
        _compile_for_torch(path, out, "int8" if int8 else "fp16" if fp16 else "fp32", batch, as_json)
        return
    if backend != "bundle":
        raise UsageError(f"--backend is bundle or torch-tensorrt, got {backend!r}")
    graphs = _graph_names(int8, fp16, emit or [])
    calibrates = any(isinstance(recipe_from_name(name), StaticInt8) for name in graphs)
    if calibrates and not calib and path.suffix != ".edgeseg":
        raise UsageError("INT8 needs calibration images; pass --calib FOLDER (a few hundred frames of your camera)")
    if calib and not calibrates:
        raise UsageError("--calib is for --int8; without it nothing is calibrated")
    tuned = sensitivity or pareto or budget_ms is not None or float_layer or board or calibrator != "auto"
    if tuned and not calibrates:
        raise UsageError(
            "--sensitivity, --pareto, --budget-ms, --float-layer, --board and --calibrator are for --int8; add it"
        )
    if board is not None and board not in BOARDS:
        raise UsageError(f"no board {board!r}; there are {', '.join(BOARDS)}")
    target = _target(path, out)
    require("onnx", "compile")
    from edgeseg.compiler.pipeline import CompileOptions, bundle_from_graph
    from edgeseg.compiler.step_cache import StepCache

    foreign = Foreign(spec, classes, ignore, mean, std, channel_order, layout, output, background, threshold)
    options = CompileOptions(
        graphs=graphs,
        calibrator=calibrator,
        limits=Limits(max_drop / 100, max_class_drop / 100, min_agreement / 100, min_boundary_agreement / 100),
        gate=gate,
        equalize=equalize,
        float_layers=tuple(float_layer or ()),
        mixed=mixed,
        sensitivity=sensitivity,
        pareto=pareto,
        budget_ms=budget_ms,
        board=None if board is None else BOARDS[board],
        float16_weights=float16,
        argmax_first=argmax_first,
        batch=batch,
        compute_capabilities=tuple(check_tensorrt or ()),
    )
    with _progress(as_json) as progress:
        progress.step(f"compile {path}{' (the shipped model)' if model is None else ''} -> {target}")
        origin = origin_from(path, How(size, simplifier, scores, foreign), progress, accepted_keys(require_signature))
        calibration = _calibration(calib or [], origin.spec)
        judged_on = (
            dataset_from(evaluation, spec=origin.spec, need_labels=True) if evaluation else origin.golden or calibration
        )
        if judged_on is None:
            raise UsageError(
                "nothing to judge the graphs on; pass --eval FOLDER (images and masks), and --calib for INT8"
            )
        if evaluation:
            refuse_unusable_labels(judged_on, origin.spec)
        stored = dataset_from(golden, spec=origin.spec) if golden else origin.golden or judged_on
        progress.step(f"golden frames, stored in the bundle: from {stored.description}")
        if not evaluation:
            progress.step(f"no --eval: graphs are judged on {judged_on.description}, a smoke test, no accuracy")
        compilation = bundle_from_graph(
            origin.graph,
            origin.spec,
            _with_origin(options, origin.float16_weights),
            calibration=calibration,
            evaluation=judged_on,
            golden=stored,
            ranges=None if calib else origin.ranges,
            provenance={**origin.provenance, **({"note": note} if note else {})},
            notes=origin.notes,
            cache=StepCache(cache_folder() if cache else None),
            progress=progress,
        )
    write_bundle(compilation.bundle, target)
    if origin.is_signed:
        tell = say_aside if as_json else say
        tell(f"note: {target} is not signed, for the signature of {path.name} is of that file; 'edgeseg sign' signs it")
    if as_json:
        print_json({"bundle": str(target), "bytes": target.stat().st_size, **compilation.bundle.report.to_json()})
        return
    _print_results(compilation)
    say(f"wrote {target} ({target.stat().st_size / 1e6:.1f} MB)")
    if model is None:
        say("it is the shipped model again: where no model is named, commands here take a bundle of your own before it")


def _compile_for_torch(path: Path, out: Optional[Path], precision: str, batch: int, as_json: bool) -> None:
    """``--backend torch-tensorrt``: a checkpoint to an exported program for the GPU of this machine."""
    if path.suffix in (".edgeseg", ".onnx"):
        raise UsageError(f"--backend torch-tensorrt compiles a torch module: pass a checkpoint, not {path.name}")
    target = out or Path(path.with_suffix(".pt2").name)
    if not target.parent.is_dir():
        raise UsageError(f"--out must be NAME.pt2 in an existing folder, got {target}")
    refuse_foreign(target, "program of PyTorch", is_program)
    require("torch", "train")
    from edgeseg.builder.checkpoint import load_checkpoint
    from edgeseg.compiler.importers.exported_program import tensorrt_program_from_module

    checkpoint = load_checkpoint(path)
    made = tensorrt_program_from_module(checkpoint.network, checkpoint.spec, target, precision=precision, batch=batch)
    if as_json:
        print_json({"program": str(target), "precision": precision, **asdict(made)})
        return
    say(f"{made.engines} TensorRT engines; left to PyTorch: {', '.join(made.torch_operators) or 'nothing'}")
    say(f"agrees with PyTorch in {100 * made.agreement:.2f} % of pixels of random frames")
    say(f"wrote {target}; load it with torch.export.load after 'import torch_tensorrt'")


def _graph_names(int8: bool, fp16: bool, emit: List[str]) -> "tuple[str, ...]":
    """Names of the graphs to emit, in order, none twice."""
    if not (int8 or fp16 or emit):
        return ()
    require("onnx", "compile")
    names = [*(INT8_GRAPHS if int8 else ()), *([FP16] if fp16 else []), *([INT8_FP16] if int8 and fp16 else [])]
    for name in emit:
        recipe_from_name(name)
    return tuple(dict.fromkeys([*names, *emit]))


def _refuse_idle(flags: Set[str], where: str) -> None:
    """An option that does nothing is refused, not ignored."""
    if flags:
        raise UsageError(f"{', '.join(sorted(flags))} do nothing {where}; leave them out")


def _given(context: typer.Context) -> Set[str]:
    """The long names of the options that stand on the command line."""
    given = set()
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name) if parameter.name else None
        if parameter.opts[0].startswith("-") and source is not None and source.name == "COMMANDLINE":
            given.add(max(parameter.opts, key=len))
    return given


def _target(path: Path, out: Optional[Path]) -> Path:
    target = out or Path(path.with_suffix(".edgeseg").name)
    if target.suffix != ".edgeseg" or not target.parent.is_dir():
        raise UsageError(f"--out must be NAME.edgeseg in an existing folder, got {target}")
    if out is None and target.exists():
        raise UsageError(f"{target} exists already; name the bundle to write with -o (the same name overwrites it)")
    refuse_foreign(target, "bundle", is_bundle)
    return target


def _with_origin(options: "CompileOptions", float16_weights: bool) -> "CompileOptions":
    return replace(options, float16_weights=options.float16_weights or float16_weights)


def _calibration(folders: List[str], spec: Any) -> Optional[Dataset]:
    """Calibration needs no labels; where masks stand beside the images, they tell which classes were seen."""
    if not folders:
        return None
    return Joined([dataset_from(folder, spec=spec) for folder in folders])


@contextmanager
def _progress(quiet: bool) -> "Iterator[Progress]":
    """Steps as lines; how far long steps are."""
    from edgeseg.progress import Progress

    if quiet:
        yield Progress()
        return

    def step(line: str) -> None:
        say(f"  {line}")

    with shown_progress(step) as count:
        yield Progress(step=step, count=count)


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
