"""``edgeseg eval``: mIoU of a bundle, or of a folder of masks, against labels."""

import math
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import typer
from typing_extensions import Annotated

from edgeseg.app.config import EngineOptions
from edgeseg.app.data import dataset_from
from edgeseg.app.engines import opened_engine
from edgeseg.app.models import bundle_or_default
from edgeseg.cli.arguments import (
    EngineName,
    EngineOption,
    FallbackOption,
    GraphOption,
    ProgramOption,
    RequireSignatureOption,
)
from edgeseg.cli.console import JsonFlag, percent, print_json, say, say_aside, table
from edgeseg.cli.opening import tensorrt_provider
from edgeseg.cli.progress import shown_progress
from edgeseg.errors import DatasetError, UsageError
from edgeseg.images import checked_mask, ignored_ids, image_files, read_mask, stem_key
from edgeseg.labels import refuse_single_class
from edgeseg.metrics import ConfusionMatrix
from edgeseg.spec import ModelSpec


def eval_(
    model: Annotated[
        Optional[Path], typer.Argument(help="A bundle; else your newest *.edgeseg here, else the shipped one.")
    ] = None,
    data: Annotated[
        Optional[str], typer.Option(help="Folder of images with masks beside them, or demo://street?frames=N.")
    ] = None,
    masks: Annotated[
        Optional[Path], typer.Option(help="Instead of running the model: masks written by 'edgeseg run'.")
    ] = None,
    labels: Annotated[
        Optional[Path], typer.Option(help="Folder of label masks, where they are not beside the images.")
    ] = None,
    graph: GraphOption = None,
    engine: EngineOption = EngineName.auto,
    fallback: FallbackOption = False,
    program: ProgramOption = None,
    threads: Annotated[int, typer.Option(min=0)] = 0,
    require_signature: RequireSignatureOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure IoU per class, mIoU and pixel accuracy.

    Example: edgeseg eval street.edgeseg --data camvid/val
    """
    bundle, name = bundle_or_default(model, require_signature)
    spec = bundle.spec
    if (data is None) == (masks is None):
        raise UsageError("say what to evaluate: --data FOLDER (runs the model) or --masks FOLDER --labels FOLDER")
    if masks is not None:
        if labels is None:
            raise UsageError("--masks needs --labels FOLDER")
        confusion, images = _of_masks(masks, labels, spec)
        what = f"masks in {masks} against {labels}, classes of {name}"
    else:
        from edgeseg.engines.evaluate import evaluated

        dataset = dataset_from(str(data), labels=labels, spec=spec, need_labels=True)
        tell = say_aside if as_json else say
        options = EngineOptions(graph=graph, engine=engine.value, fallback=fallback, program=program, threads=threads)
        with opened_engine(bundle, name, options, tell=tell, provider_from=tensorrt_provider) as opened, shown_progress(
            tell
        ) as count:
            images = len(dataset)
            confusion = evaluated(opened, spec, dataset, on_map=lambda index, _: count("images", index + 1, images))
            what = f"{name} on {dataset.description} ({opened.description})"
    refuse_single_class(confusion.counts.sum(1), confusion.ignored, spec, f"the labels of {labels or data}")
    ignored = confusion.ignored / (confusion.ignored + int(confusion.counts.sum()))
    iou = dict(zip(spec.classes, (float(value) for value in confusion.iou())))
    if as_json:
        print_json(
            {
                "what": what,
                "images": images,
                "miou": confusion.miou(),
                "pixel_accuracy": confusion.pixel_accuracy(),
                "ignored": ignored,
                "iou": iou,
            }
        )
        return
    rows: List[List[str]] = [[label, percent(value)] for label, value in iou.items()]
    table(what, ["class", "IoU %"], rows)
    missing = [label for label, value in iou.items() if not math.isfinite(value)]
    if missing:
        say(f"neither labelled nor predicted, not in the mean: {', '.join(missing)}")
    stray = [name for name, labelled in zip(spec.classes, confusion.counts.sum(1)) if iou[name] == 0 and not labelled]
    if stray:
        labelled_only = sum(value for value in iou.values() if math.isfinite(value))
        labelled_only /= len(iou) - len(missing) - len(stray)
        say(
            f"predicted but nowhere labelled, in the mean as 0: {', '.join(stray)}; over the labelled classes alone, "
            f"which compile counts, mIoU is {percent(labelled_only)}"
        )
    if ignored:
        say(f"ignored (label {ignored_ids(spec)}): {percent(ignored)} % of the pixels")
    say(f"mIoU {percent(confusion.miou())}, pixel accuracy {percent(confusion.pixel_accuracy())}, {images} images")


def _of_masks(masks: Path, labels: Path, spec: ModelSpec) -> Tuple[ConfusionMatrix, int]:
    folder = masks / "masks" if (masks / "masks").is_dir() else masks
    confusion = ConfusionMatrix(len(spec.classes), spec.ignore_id)
    predictions, truths = _by_stem(folder), _by_stem(labels)
    missing = sorted(set(truths) - set(predictions))
    if missing:
        raise DatasetError(f"{len(missing)} of {len(truths)} labels have no mask in {folder} (first: {missing[0]})")
    for stem, path in sorted(truths.items()):
        prediction = read_mask(predictions[stem])
        confusion.update(prediction, checked_mask(read_mask(path, len(spec.classes)), prediction, spec, path))
    return confusion, len(truths)


def _by_stem(folder: Path) -> Dict[str, Path]:
    """The pictures of a folder by their names without suffix. Raises DatasetError: two share one."""
    found: Dict[str, Path] = {}
    for path in image_files(folder):
        first = found.setdefault(stem_key(path), path)
        if first is not path:
            raise DatasetError(f"{first} and {path} are masks of one image; keep the right one")
    return found
