"""``edgeseg bench``: this machine, engines x precisions, side by side with PyTorch eager."""

import importlib.util
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Optional, Tuple

import typer
from typing_extensions import Annotated

from edgeseg import __version__
from edgeseg.app.data import dataset_from, size_hw_from
from edgeseg.app.engines import engine_name
from edgeseg.app.models import bundle_or_default, model_stem
from edgeseg.bundle import Bundle
from edgeseg.cli.arguments import EngineName, RequireSignatureOption
from edgeseg.cli.console import JsonFlag, percent, print_json, say, say_aside, table
from edgeseg.cli.opening import tensorrt_provider
from edgeseg.cli.progress import Count, shown_progress
from edgeseg.errors import EdgesegError, UsageError
from edgeseg.images import Dataset
from edgeseg.labels import refuse_unusable_labels
from edgeseg.spec import ModelSpec

if TYPE_CHECKING:
    from edgeseg.bench.measure import Contender, Measurement
    from edgeseg.engines import Engine

_DEFAULT_SOURCE = "demo://street?frames=16&step=30&size=640x480"


def bench(
    model: Annotated[
        Optional[Path], typer.Argument(help="A bundle; else your newest *.edgeseg here, else the shipped one.")
    ] = None,
    source: Annotated[
        str, typer.Option(help="Frames to time with: a folder or demo://street?frames=N.")
    ] = _DEFAULT_SOURCE,
    data: Annotated[Optional[str], typer.Option(help="Folder of images and masks: adds mIoU per graph.")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Measuring time per contender.")] = 10.0,
    warmup: Annotated[float, typer.Option(min=0.0, help="Warm-up time per contender, in seconds.")] = 3.0,
    engine: Annotated[
        EngineName,
        typer.Option(help="auto: all that runs here; else only the one named."),
    ] = EngineName.auto,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads for every contender, 0 for all.")] = 0,
    torch: Annotated[
        bool, typer.Option("--torch/--no-torch", help="Also time PyTorch eager, where it is installed.")
    ] = True,
    torch_size: Annotated[
        Optional[str],
        typer.Option(help="Input of the PyTorch network, WIDTHxHEIGHT; else the model's, rounded up to 32."),
    ] = None,
    require_signature: RequireSignatureOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure end-to-end ms/frame (resize, inference, class map) of every graph that runs here, in every engine.

    Example: edgeseg bench street.edgeseg --torch-size 512x512
    """
    from edgeseg.bench.contenders import torch_contender
    from edgeseg.bench.measure import measured_side_by_side
    from edgeseg.device.detect import detected_device
    from edgeseg.device.telemetry import Telemetry, throttled_between

    bundle, name = bundle_or_default(model, require_signature)
    spec = bundle.spec
    images = dataset_from(source)
    frames = [images[index].frame for index in range(min(len(images), 64))]
    device, telemetry = detected_device(), Telemetry()
    miou: Dict[str, float] = {}
    with_torch = torch and not _missing_for_torch()
    engines = _engines(engine)
    tell = say_aside if as_json else say
    with ExitStack() as stack:
        contenders: List[Contender] = []
        labelled = dataset_from(data, spec=spec, need_labels=True) if data is not None else None
        if labelled is not None:
            refuse_unusable_labels(labelled, spec)
        tell(f"edgeseg {__version__}, {name}, {spec.size_hw[1]}x{spec.size_hw[0]}")
        tell(device.describe())
        opened: List[Engine] = []
        for contender, engine_of_it in _contenders(bundle, name, engines, threads, stack, tell):
            tell(f"opened {contender.name}")
            contenders.append(contender)
            opened.append(engine_of_it)
        if with_torch:
            tell("opening PyTorch")
            height, width = size_hw_from(torch_size) if torch_size else spec.size_hw
            contenders.append(torch_contender((height + -height % 32, width + -width % 32), len(spec.classes), threads))
        with shown_progress(tell) as count:
            for contender, engine_of_it in zip(contenders, opened) if labelled is not None else ():
                assert labelled is not None
                miou[contender.name] = _miou(contender.name, engine_of_it, spec, labelled, count)
            tell(f"graphs are timed in {' and in '.join(engines)}")
            takes = len(contenders) * (seconds + warmup)
            tell(
                f"timing {len(contenders)} contenders in alternating turns, {seconds:g} s each after {warmup:g} s of "
                f"warm-up: about {takes:.0f} s"
            )
            before = telemetry.sample()
            measured = measured_side_by_side(contenders, frames, seconds=seconds, warmup_s=warmup, report=count)
        throttled = throttled_between(before, telemetry.sample())
    if as_json:
        ours = measured[0]
        contended = [
            {**m.to_json(), "miou": miou.get(m.name), "ours_is_times_faster": list(ours.ratio_to(m))} for m in measured
        ]
        print_json(
            {
                "edgeseg": __version__,
                "model": name,
                "size_hw": list(spec.size_hw),
                "device": device.to_json(),
                "source": images.description,
                "seconds": seconds,
                "warmup_s": warmup,
                "threads": threads,
                "throttled": throttled,
                "contenders": contended,
            }
        )
        return
    _print_table(f"end-to-end ms/frame on {images.description}", measured, miou)
    for reason in throttled:
        say(f"UNSTABLE: {reason}")
    if torch and not with_torch:
        missing = " and ".join(_missing_for_torch())
        say(f"{missing} not installed (pip install 'edgeseg[train]'), so there is no ratio against PyTorch")
    if data is None:
        say("mIoU needs labelled images: --data FOLDER")


def _miou(name: str, engine: "Engine", spec: ModelSpec, labelled: Dataset, count: Count) -> float:
    from edgeseg.engines.evaluate import evaluated

    def done(index: int, classes: Any) -> None:
        count(f"mIoU of {name}", index + 1, len(labelled))

    return evaluated(engine, spec, labelled, on_map=done).miou()


def _engines(asked: EngineName) -> List[str]:
    """What to time: one engine, or all that are here."""
    from edgeseg.engines.select import CPU_ENGINES

    if asked is EngineName.torch_tensorrt:
        raise UsageError("bench times bundles; a program of torch-tensorrt is timed by 'edgeseg run --program'")
    if asked is not EngineName.auto:
        return [asked.value]
    on_board = ["tensorrt"] if engine_name(asked.value) == "tensorrt" else []
    return on_board + [name for name in CPU_ENGINES if importlib.util.find_spec(name) is not None]


def _contenders(
    bundle: Bundle, name: str, engines: List[str], threads: int, stack: ExitStack, tell: Callable[[str], None]
) -> "Iterator[Tuple[Contender, Engine]]":
    """Every graph in every engine, open until the stack closes; what TensorRT refuses is said and left out."""
    from edgeseg.bench.contenders import engine_contender
    from edgeseg.engines import engine_from_bundle
    from edgeseg.engines.select import cpu_graphs
    from edgeseg.engines.tensorrt.provide import EngineOptions

    for by in engines:
        if by not in ("tensorrt", "rtx"):
            for graph in cpu_graphs(bundle):
                opened = stack.enter_context(engine_from_bundle(bundle, graph, threads=threads, engine=by))
                yield (
                    engine_contender(graph if by == "onnxruntime" else f"{graph} in {by}", opened, bundle.spec),
                    opened,
                )
            continue
        with tensorrt_provider(by, tell) as provider:
            timed = set()
            for precision in (None, "int8", "fp16"):  # None: what 'edgeseg run' would take
                try:
                    made = provider.provide(bundle, model_stem(name), EngineOptions(precision=precision))
                except EdgesegError as error:
                    if precision is None:
                        raise
                    tell(f"{precision} in TensorRT is left out: {error}")
                    continue
                if made.cached.path in timed:
                    made.engine.close()
                    continue
                timed.add(made.cached.path)
                opened = stack.enter_context(made.engine)
                yield engine_contender(f"{made.precision} in TensorRT", opened, bundle.spec), opened


def _print_table(title: str, measured: "List[Measurement]", miou: Dict[str, float]) -> None:
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


def _missing_for_torch() -> List[str]:
    names = ("torch", "segmentation_models_pytorch")
    return [name for name in names if importlib.util.find_spec(name) is None]
