"""``edgeseg compile``: checkpoint (or the shipped model) -> bundle whose INT8 passed the accuracy gate."""

from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional

import typer
from typing_extensions import Annotated

from edgeseg.bundle import Bundle, read_bundle, write_bundle
from edgeseg.cli.arguments import dataset_from, size_hw_from
from edgeseg.cli.console import JsonFlag, on_terminal, percent, print_json, say, table
from edgeseg.cli.models import SHIPPED
from edgeseg.errors import UsageError, require
from edgeseg.files import file_sha256
from edgeseg.images import Dataset, InMemory, Joined, Sample

if TYPE_CHECKING:
    from edgeseg.compiler.compile import Compilation, Progress
    from edgeseg.compiler.ranges import Ranges
    from edgeseg.spec import ModelSpec


def compile_(
    model: Annotated[
        Optional[Path], typer.Argument(help="Checkpoint of 'edgeseg train' or a bundle; else the shipped model.")
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Emit the INT8 graphs (TensorRT Q/DQ, CPU Q/DQ, dynamic).")
    ] = False,
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
    max_drop: Annotated[float, typer.Option(help="Gate: allowed loss of mIoU in points.")] = 1.0,
    max_class_drop: Annotated[float, typer.Option(help="Gate: allowed loss of any class's IoU in points.")] = 3.0,
    min_agreement: Annotated[
        float, typer.Option(help="Gate: least share of pixels that agree with FP32, in %.")
    ] = 95.0,
    simplifier: Annotated[str, typer.Option(help="onnxsim, onnxslim or none.")] = "onnxsim",
    float16: Annotated[
        bool, typer.Option("--float16", help="Store FP32 weights as float16, for a smaller file.")
    ] = False,
    note: Annotated[str, typer.Option(help="Stored in the bundle, e.g. the licence of the data.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Compile a network into a bundle; INT8 graphs are emitted from one calibration and must pass the accuracy gate.

    Example: edgeseg compile runs/train/best.safetensors --int8 --calib camvid/train --eval camvid/val -o street.edgeseg
    """
    path = model or SHIPPED
    if not path.is_file():
        raise UsageError(f"{path} does not exist; pass a checkpoint of 'edgeseg train' or a bundle")
    if int8 and not calib and path.suffix != ".edgeseg":
        raise UsageError("INT8 needs calibration images; pass --calib FOLDER (a few hundred frames of your camera)")
    require("onnx", "compile")
    from edgeseg.compiler.compile import bundle_from_graph
    from edgeseg.compiler.gate import Limits

    target = out or Path(path.with_suffix(".edgeseg").name)
    if target.suffix != ".edgeseg" or not target.parent.is_dir():
        raise UsageError(f"--out must be NAME.edgeseg in an existing folder, got {target}")
    if out is None and target.exists():
        raise UsageError(f"{target} exists already; name the bundle to write with -o (the same name overwrites it)")
    limits = Limits(max_drop / 100, max_class_drop / 100, min_agreement / 100)
    with _progress(as_json) as progress:
        progress.step(f"compile {path}{' (the shipped model)' if model is None else ''} -> {target}")
        origin = (
            _from_bundle(path, size)
            if path.suffix == ".edgeseg"
            else _from_checkpoint(path, size, simplifier, progress)
        )
        calibration = _calibration(calib or [])
        judged_on = (
            dataset_from(evaluation, spec=origin.spec, need_labels=True) if evaluation else origin.golden or calibration
        )
        if judged_on is None:
            raise UsageError(
                "nothing to judge the graphs on; pass --eval FOLDER (images and masks), and --calib for INT8"
            )
        stored = dataset_from(golden, spec=origin.spec) if golden else origin.golden or judged_on
        progress.step(f"golden frames, stored in the bundle: from {stored.description}")
        if calib and not int8:
            raise UsageError("--calib is for --int8; without it nothing is calibrated")
        if not evaluation:
            progress.step(f"no --eval: graphs are judged on {judged_on.description}, a smoke test, no accuracy")
        compilation = bundle_from_graph(
            origin.graph,
            origin.spec,
            int8=int8,
            calibration=calibration,
            evaluation=judged_on,
            golden=stored,
            ranges=None if calib else origin.ranges,
            limits=limits,
            float16=float16 or origin.float16,
            provenance={**origin.provenance, **({"note": note} if note else {})},
            progress=progress,
        )
    write_bundle(compilation.bundle, target)
    if as_json:
        print_json({"bundle": str(target), "bytes": target.stat().st_size, **compilation.bundle.report})
        return
    _print_results(compilation)
    say(f"wrote {target} ({target.stat().st_size / 1e6:.1f} MB)")


@dataclass(frozen=True)
class _Origin:
    """What a checkpoint or a bundle brings to a compilation."""

    graph: Any
    spec: "ModelSpec"
    provenance: Dict[str, Any]
    ranges: "Optional[Ranges]" = None
    golden: Optional[Dataset] = None
    float16: bool = False


def _from_bundle(path: Path, size: Optional[str]) -> _Origin:
    from edgeseg.compiler.compile import float_graph_from_bundle
    from edgeseg.compiler.ranges import Ranges

    if size is not None:
        raise UsageError("--size needs a checkpoint: a bundle's graphs have a fixed size")
    bundle = read_bundle(path)
    return _Origin(
        graph=float_graph_from_bundle(bundle),
        spec=bundle.spec,
        provenance=dict(bundle.provenance),
        ranges=Ranges.from_json(bundle.ranges) if bundle.ranges is not None else None,
        golden=_golden_samples(bundle),
        float16=bundle.graphs["fp32"].recipe.get("weights") == "float16",
    )


def _from_checkpoint(path: Path, size: Optional[str], simplifier: str, progress: "Progress") -> _Origin:
    require("torch", "train")
    from edgeseg import __version__
    from edgeseg.builder.checkpoint import load_checkpoint
    from edgeseg.compiler.compile import float_graph_from_module

    checkpoint = load_checkpoint(path)
    spec = checkpoint.spec if size is None else replace(checkpoint.spec, size_hw=size_hw_from(size))
    return _Origin(
        graph=float_graph_from_module(checkpoint.network, spec, simplifier=simplifier, progress=progress),
        spec=spec,
        provenance={
            "edgeseg": __version__,
            "network": asdict(checkpoint.config),
            "training": dict(checkpoint.training),
            "checkpoint_sha256": file_sha256(path),
            "simplifier": simplifier,
        },
    )


def _calibration(folders: List[str]) -> Optional[Dataset]:
    """Calibration needs no labels, and reads none."""
    if not folders:
        return None
    return Joined([dataset_from(folder) for folder in folders])


def _golden_samples(bundle: Bundle) -> Optional[Dataset]:
    if bundle.golden is None:
        return None
    pairs = zip(bundle.golden.frames, bundle.golden.labels)
    samples = [Sample(f"golden{index}", frame, label) for index, (frame, label) in enumerate(pairs)]
    return InMemory(samples, f"{len(samples)} golden frames of the bundle")


@contextmanager
def _progress(quiet: bool) -> "Iterator[Progress]":
    """Steps as lines; long steps as a progress bar on a terminal."""
    from edgeseg.compiler.compile import Progress

    if quiet:
        yield Progress()
    elif not on_terminal():
        yield Progress(step=lambda line: say(f"  {line}"))
    else:
        from rich.progress import Progress as Bars

        with Bars(transient=True) as bars:
            tasks: Dict[str, Any] = {}

            def count(what: str, done: int, total: int) -> None:
                if what not in tasks:
                    tasks[what] = bars.add_task(what, total=total)
                bars.update(tasks[what], completed=done)

            yield Progress(
                step=lambda line: bars.console.print(f"  {line}", highlight=False, markup=False), count=count
            )


def _print_results(compilation: "Compilation") -> None:
    fp32 = compilation.results[0].accuracy
    rows = []
    for result in compilation.results:
        accuracy = result.accuracy
        drops = {name: fp32.iou[name] - value for name, value in accuracy.iou.items() if value == value}
        worst = max(drops, key=lambda name: drops[name]) if drops else "-"
        rows.append(
            [
                result.name,
                percent(accuracy.miou),
                percent(fp32.miou - accuracy.miou),
                f"{worst} {percent(drops[worst])}" if drops else "-",
                percent(accuracy.agreement),
                "{} / {}".format(*result.int8_convolutions),
                f"{result.size_bytes / 1e6:.1f}",
                "refused" if result.refused else "yes",
            ]
        )
    report = compilation.bundle.report
    columns = ["graph", "mIoU", "drop", "worst class drop", "agrees %", "INT8 convs", "MB", "in bundle"]
    table(f"judged on {report['evaluation_data']} with each target's arithmetic", columns, rows)
    for result in compilation.results:
        if result.refused:
            say(f"{result.name} is left out of the bundle: {'; '.join(result.refused)}")
    for line in compilation.notes:
        say(f"note: {line}")
    if fp32.miou != fp32.miou:
        say("note: no labels, so INT8 was gated by pixel agreement only, not by mIoU or class; pass --eval FOLDER")
