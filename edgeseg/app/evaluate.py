"""Evaluate a bundle, or a folder of masks, against labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeseg.app.bench_config import EvalConfig
from edgeseg.app.config import EngineOptions
from edgeseg.app.data import dataset_from
from edgeseg.app.engines import FactoryFrom, opened_engine, quiet_factory
from edgeseg.app.models import bundle_or_default
from edgeseg.bundle import Bundle
from edgeseg.errors import DatasetError, ImageError, UsageError, some
from edgeseg.images import checked_mask, colours_of_classes, read_mask
from edgeseg.labels import label_counts, refuse_single_class
from edgeseg.mask_files import by_stem, pictures_below
from edgeseg.metrics import ConfusionMatrix
from edgeseg.objects import ObjectCounts, limits_from
from edgeseg.picture_files import image_files
from edgeseg.progress import Progress
from edgeseg.spec import IGNORE_ID, ModelSpec

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True)
class Evaluation:
    """What was counted.

    Attributes:
        what: was evaluated on what, for people.
        spec: classes of the model.
        images: how many.
        confusion: predictions against labels.
        objects: the same of objects by size; None where they were not asked for.
    """

    what: str
    spec: ModelSpec
    images: int
    confusion: ConfusionMatrix
    objects: ObjectCounts | None = None

    @property
    def ignored(self) -> float:
        """Return the share of pixels whose label is no class, 0 to 1."""
        counted = int(self.confusion.counts.sum())
        return self.confusion.ignored / (self.confusion.ignored + counted)

    @property
    def iou(self) -> dict[str, float]:
        """Return the IoU of every class, 0 to 1; NaN where it is neither labelled nor predicted."""
        return dict(zip(self.spec.classes, (float(value) for value in self.confusion.iou())))

    @property
    def dice(self) -> dict[str, float]:
        """Return the Dice score of every class, as ``iou``."""
        return dict(zip(self.spec.classes, (float(value) for value in self.confusion.dice())))

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict, but for NaN."""
        rows = None if self.objects is None else self.objects.rows(self.spec.classes)
        return {
            "what": self.what,
            "images": self.images,
            "miou": self.confusion.miou(),
            "mean_dice": self.confusion.mean_dice(),
            "pixel_accuracy": self.confusion.pixel_accuracy(),
            "ignored": self.ignored,
            "iou": self.iou,
            "dice": self.dice,
            "objects": None if rows is None else [row.to_json() for row in rows],
        }


def evaluate(
    config: EvalConfig, progress: Progress = Progress(), *, factory_from: FactoryFrom = quiet_factory
) -> Evaluation:
    """Count predictions against labels.

    Args:
        config: of the evaluation.
        progress: takes a line per step, and counts images.
        factory_from: gives the maker of TensorRT engines.

    Raises:
        UsageError: it does not say what to evaluate.
        EdgesegError: the bundle, the engine, the images or the labels cannot be used.
    """
    limits = None if config.by_size is None else limits_from(config.by_size)
    bundle, name = bundle_or_default(config.model, config.require_signature)
    objects = None if limits is None else ObjectCounts(len(bundle.spec.classes), limits, bundle.spec.ignore_id)
    if (config.data is None) == (config.masks is None):
        raise UsageError("say what to evaluate: `data` FOLDER (runs the model) or `masks` FOLDER `labels` FOLDER")
    if config.masks is None:
        found = _of_model(config, bundle, name, objects, progress, factory_from)
    else:
        if config.labels is None:
            raise UsageError("`masks` needs `labels` FOLDER")
        confusion, images = _of_masks(config.masks, config.labels, bundle.spec, objects)
        what = f"masks in {config.masks} against {config.labels}, classes of {name}"
        found = Evaluation(what, bundle.spec, images, confusion, objects)
    where = f"the labels of {config.labels or config.data}"
    refuse_single_class(found.confusion.counts.sum(1), found.confusion.ignored, bundle.spec, where)
    return found


def _of_model(
    config: EvalConfig,
    bundle: Bundle,
    name: str,
    objects: ObjectCounts | None,
    progress: Progress,
    factory_from: FactoryFrom,
) -> Evaluation:
    from edgeseg.engines.evaluate import evaluate_engine

    dataset = dataset_from(str(config.data), labels=config.labels, spec=bundle.spec, need_labels=True)
    images = len(dataset)
    options = EngineOptions(
        graph=config.graph,
        engine=config.engine,
        fallback=config.fallback,
        program=config.program,
        threads=config.threads,
    )
    with opened_engine(bundle, name, options, tell=progress.step, factory_from=factory_from) as engine:
        try:
            confusion = evaluate_engine(
                engine,
                bundle.spec,
                dataset,
                on_map=lambda index, _: progress.count("images", index + 1, images),
                on_pair=(lambda classes, label: None) if objects is None else objects.update,
            )
        except ImageError:
            label_counts(dataset, bundle.spec)  # names all files that cannot be used, where there are several
            raise
        shown = ", of a pixel's labels the shown one" if bundle.spec.mode == "multilabel" else ""
        what = f"{name} on {dataset.description} ({engine.description}{shown})"
    return Evaluation(what, bundle.spec, images, confusion, objects)


def _of_masks(masks: Path, labels: Path, spec: ModelSpec, objects: ObjectCounts | None) -> tuple[ConfusionMatrix, int]:
    folder = masks / "masks" if (masks / "masks").is_dir() else masks
    confusion = ConfusionMatrix(len(spec.classes), spec.ignore_id)
    predictions, truths = _by_stem(folder), _by_stem(labels)
    missing = sorted(set(truths) - set(predictions))
    if missing:
        first = truths[missing[0]].relative_to(labels).with_suffix("")
        raise DatasetError(f"{len(missing)} of {len(truths)} labels have no mask in {folder} (first: {first})")
    broken = []
    for key, path in sorted(truths.items()):
        try:
            prediction, label = _read_pair(predictions[key], path, spec)
        except ImageError as error:
            broken.append(error)
            continue
        confusion.update(prediction, label)
        if objects is not None:
            objects.update(prediction, label)
    if broken:
        count = f"{len(broken)} of {len(truths)} masks or their labels cannot be used: " if len(broken) > 1 else ""
        raise ImageError(f"{count}{some(broken, separator='; ')}")
    return confusion, len(truths)


def _read_pair(mask: Path, truth: Path, spec: ModelSpec) -> tuple[np.ndarray, np.ndarray]:
    """Return prediction and label, HxW uint8. Raises ImageError naming the file: one cannot be used."""
    prediction, label = read_mask(mask), read_mask(truth, len(spec.classes), colours_of_classes(spec))
    if prediction.shape != label.shape:
        (height, width), (high, wide) = prediction.shape, label.shape
        raise ImageError(f"{mask} is {width}x{height} and its label {truth} is {wide}x{high}; they must match")
    label = checked_mask(label, prediction, spec, truth)
    found = int(prediction[(label != spec.ignore_id) & (label != IGNORE_ID)].max(initial=0))
    if found >= len(spec.classes):
        raise ImageError(
            f"{mask} has class id {found} where its label has a class, but a prediction is one of "
            f"{len(spec.classes)} classes (0-{len(spec.classes) - 1}) there"
        )
    return prediction, label


def _by_stem(folder: Path) -> dict[tuple[str, str], Path]:
    """Return the pictures in and below a folder by folder and name. Raises DatasetError: two share both, or none."""
    pictures = pictures_below(folder) if folder.is_dir() else []
    return by_stem(pictures or image_files(folder), folder)
