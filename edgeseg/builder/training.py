"""Train with pytorch-lightning: class-weighted cross-entropy, AdamW, poly schedule, averaged weights."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, Sequence, cast

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from edgeseg.builder.checkpoint import Checkpoint, SafetensorsIO, load_checkpoint, save_checkpoint
from edgeseg.builder.data import EpochOrder, SeededCrops, ValidationImages, class_weights, epoch_seed
from edgeseg.builder.failures import in_one_line
from edgeseg.builder.networks import NetworkConfig, PaddedNetwork
from edgeseg.errors import CheckpointError, DatasetError, TrainingError
from edgeseg.files import atomic_write
from edgeseg.images import Dataset, ignored_ids
from edgeseg.labels import LabelCounts, label_counts, refuse_single_class
from edgeseg.metrics import ConfusionMatrix
from edgeseg.preprocess import class_map_at
from edgeseg.spec import IGNORE_ID, ModelSpec

__all__ = ["EpochResult", "TrainOptions", "TrainRecipe", "TrainingPlan", "train"]

_STATE = 3
"""Version of what ``resume.safetensors`` holds."""


@dataclass(frozen=True)
class TrainRecipe:
    """Everything that decides a training run, stored in its checkpoints.

    Attributes:
        epochs: passes over the training set.
        batch: images per step.
        crop: side of the square training crop in pixels, a multiple of 32.
        learning_rate: the decoder's rate at the start; it decays polynomially (power 0.9) to zero.
        encoder_rate: the encoder's share of the learning rate.
        weight_decay: weight decay of AdamW.
        last_weight_exponent: the exponent of the class weights falls linearly from 1 to this. Full weights let rare
            classes be learned early; kept to the end they are painted too wide (CamVid: 1.6 points of mIoU).
        average_decay: the largest share of the moving average of the weights that is kept in a step. This average
            is validated and saved. The share begins lower, see ``averaging``.
        workers: data-loader processes.
        seed: seed of weights, shuffling and augmentation.
    """

    epochs: int = 40
    batch: int = 8
    crop: int = 288
    learning_rate: float = 2e-3
    encoder_rate: float = 0.25
    weight_decay: float = 1e-2
    last_weight_exponent: float = 0.25
    average_decay: float = 0.99
    workers: int = 2
    seed: int = 0


@dataclass(frozen=True)
class TrainingPlan:
    """Facts about a run that are known before its first step.

    Attributes:
        device: name of what computes.
        images: training images.
        steps: steps per epoch.
        first_epoch: the first epoch, from 1; above ``epochs`` when nothing is left to do.
        epochs: epochs in all.
        remarks: what is odd about the labels, a line each.
    """

    device: str
    images: int
    steps: int
    first_epoch: int
    epochs: int
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class EpochResult:
    """Results of an epoch; epochs count from 1.

    Attributes:
        epoch: number of the epoch.
        loss: mean training loss.
        miou: mean IoU on the validation set, 0-1.
        pixel_accuracy: share of right pixels on the validation set, 0-1.
        iou: IoU per class name, 0-1; NaN for an absent class.
        is_best: no earlier epoch had this mIoU.
        seconds: duration of the epoch.
    """

    epoch: int
    loss: float
    miou: float
    pixel_accuracy: float
    iou: dict[str, float]
    is_best: bool
    seconds: float


class SegmentationTask(pl.LightningModule):
    """One network under training, with its averaged twin that is validated and saved."""

    def __init__(
        self,
        network: PaddedNetwork,
        spec: ModelSpec,
        recipe: TrainRecipe,
        weights: Tensor,
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        # BatchNorm statistics are averages already: the averaged network takes the trained one's after every step.
        self.averaged = AveragedModel(self.network, multi_avg_fn=averaging(recipe.average_decay), use_buffers=False)
        self.spec, self.recipe = spec, recipe
        self.class_weights = weights
        self.loss = nn.CrossEntropyLoss(weight=weights.clone(), ignore_index=IGNORE_ID)
        self.confusion = ConfusionMatrix(len(spec.classes), spec.ignore_id)
        self.losses: list[float] = []

    def on_train_batch_start(self, batch: Any, index: int) -> None:
        """Seed the epoch and set the exponent of the class weights, before the first batch."""
        if index > 0:
            return
        # Not on_train_epoch_start: Lightning leaves that out in the first epoch after a resume.
        torch.manual_seed(epoch_seed(self.recipe.seed, self.current_epoch))
        self.losses.clear()
        progress = self.current_epoch / max(1, self.recipe.epochs - 1)
        exponent = 1 + (self.recipe.last_weight_exponent - 1) * progress
        self.loss.weight.copy_(self.class_weights**exponent)  # type: ignore[union-attr]

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor | None:
        """Return the loss of a batch (Nx3xCxC float32, NxCxC int64), or None where every label is void.

        Raises:
            TrainingError: the loss is not finite.
        """
        images, labels = batch
        if not (labels != IGNORE_ID).any():
            return None  # nothing but void: the weighted mean over no pixel is not a number
        loss: Tensor = self.loss(self.network(images.contiguous(memory_format=torch.channels_last)), labels)
        self.losses.append(loss.item())
        if not math.isfinite(self.losses[-1]):
            raise TrainingError(
                f"the loss is {self.losses[-1]} in step {index + 1} of epoch {self.current_epoch + 1}, so nothing more "
                f"can be learned; start again with a smaller --lr (it was {self.recipe.learning_rate:g})"
            )
        return loss

    def on_train_batch_end(self, *_: Any) -> None:
        """Add the weights after a step to the average."""
        self.averaged.update_parameters(self.network)

    def on_validation_epoch_start(self) -> None:
        """Start a new confusion matrix.

        Raises:
            TrainingError: a weight or a statistic of the averaged network is not finite.
        """
        # BatchNorm's statistics overflow before the loss does.
        if not all(torch.isfinite(value).all() for value in self.averaged.state_dict().values()):
            raise TrainingError(
                f"the weights or their statistics are no longer finite after epoch {self.current_epoch + 1}; start "
                f"again with a smaller --lr (it was {self.recipe.learning_rate:g})"
            )
        self.confusion = ConfusionMatrix(len(self.spec.classes), self.spec.ignore_id)

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """Count the averaged network's class map of one image (1x3xHxW float32) against its label."""
        image, label = batch
        classes = self.averaged(image.contiguous(memory_format=torch.channels_last)).argmax(1).to(torch.uint8)
        target = label[0].cpu().numpy()
        self.confusion.update(class_map_at(classes[0].cpu().numpy(), target.shape), target)

    def configure_optimizers(self) -> Any:
        """Return AdamW and the polynomial schedule in Lightning's form."""
        unet = self.network.network
        encoder = list(unet.encoder.parameters())  # type: ignore[union-attr]
        inside = {id(p) for p in encoder}
        rest = [p for p in self.network.parameters() if id(p) not in inside]
        rate = self.recipe.learning_rate
        optimizer = torch.optim.AdamW(
            [{"params": rest, "lr": rate}, {"params": encoder, "lr": rate * self.recipe.encoder_rate}],
            weight_decay=self.recipe.weight_decay,
        )
        steps = int(self.trainer.estimated_stepping_batches)
        # By the step and not from the rate before, so that a run can be resumed for more epochs.
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / steps) ** 0.9)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def averaging(most: float) -> Callable[[Any, Any, Any], None]:
    """Return the update of the averaged weights after step n: ``decay = min(most, (1 + n) / (10 + n))``.

    A fixed decay of 0.99 remembers a hundred steps, which on few images are most of the run. The rising decay is that
    of TensorFlow's ``tf.train.ExponentialMovingAverage`` with ``num_updates``.
    """

    @torch.no_grad()
    def average(averaged: Sequence[Tensor], current: Sequence[Tensor], steps: Tensor | int) -> None:
        decay = min(most, (1 + float(steps)) / (10 + float(steps)))
        for kept, new in zip(averaged, current):
            kept.lerp_(new, 1 - decay)

    return average


class StepLine(pl.Callback):
    """Progress line: epoch, step and loss after every step, and an empty line when the epoch is done."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Show epoch, step and mean loss."""
        assert isinstance(pl_module, SegmentationTask)
        loss = f"  loss {np.mean(pl_module.losses):.4f}" if pl_module.losses else ""
        epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        self._show(f"{epoch}  step {batch_idx + 1}/{trainer.num_training_batches}{loss}")

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Show epoch and validated images."""
        count = f"{batch_idx + 1}/{trainer.num_val_batches[0]}"
        self._show(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  validation {count}")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Clear the line."""
        self._show("")

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Clear the line, so that the error stands alone."""
        self._show("")


class _SaveBest(pl.Callback):
    """Writer of ``last.safetensors``, ``metrics.csv`` and, where mIoU rose, ``best.safetensors``."""

    def __init__(
        self, folder: Path, facts: dict[str, Any], config: NetworkConfig, report: Callable[[EpochResult], None]
    ) -> None:
        self._folder, self._facts, self._config, self._report = folder, facts, config, report
        self._run = run_description(config, facts)
        self._best = -math.inf
        self._started = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best, "run": self._run}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._best = state_dict["best"]

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 0:
            self._started = time.monotonic()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not isinstance(pl_module, SegmentationTask):
            return
        result = self._result(trainer.current_epoch + 1, pl_module)
        training = {**self._facts, "epochs_trained": result.epoch, "val_miou": result.miou, "val_iou": result.iou}
        averaged = cast(PaddedNetwork, pl_module.averaged.module)
        checkpoint = Checkpoint(averaged, self._config, pl_module.spec, training)
        save_checkpoint(checkpoint, self._folder / "last.safetensors")
        if result.is_best:
            self._best = result.miou
            save_checkpoint(checkpoint, self._folder / "best.safetensors")
        _log(self._folder / "metrics.csv", result)
        self._report(result)

    def _result(self, epoch: int, task: SegmentationTask) -> EpochResult:
        confusion = task.confusion
        return EpochResult(
            epoch=epoch,
            loss=float(np.mean(task.losses)),
            miou=confusion.miou(),
            pixel_accuracy=confusion.pixel_accuracy(),
            iou=dict(zip(task.spec.classes, (float(value) for value in confusion.iou()))),
            is_best=confusion.miou() > self._best,
            seconds=time.monotonic() - self._started,
        )


def run_description(config: NetworkConfig, facts: Mapping[str, Any]) -> str:
    """Return as JSON what must be the same for a run to be resumed: all but the numbers of workers and of epochs."""
    recipe = {key: value for key, value in facts["recipe"].items() if key not in ("workers", "epochs")}
    data = {key: facts[key] for key in ("training_data", "validation_data", "classes", "size_hw")}
    network = {"network": config.architecture, "encoder": config.encoder}
    return json.dumps({"state": _STATE, **network, **data, **recipe}, sort_keys=True)


def _epochs_done(path: Path, run: str, epochs: int) -> int:
    """Return the epochs behind the state at ``path``. Raises CheckpointError unless it is of this very run."""
    if not path.exists():
        raise CheckpointError(f"nothing to resume: {path} does not exist; leave --resume out to start")
    state = SafetensorsIO().load_checkpoint(path)
    earlier = next((item["run"] for item in state["callbacks"].values() if "run" in item), "{}")
    one, other = json.loads(earlier), json.loads(run)
    if one.get("state") != _STATE:
        raise CheckpointError(f"{path} was written by another version of edgeseg; start a new --out")
    differing = [f"{key} was {one.get(key)} and is {value}" for key, value in other.items() if one.get(key) != value]
    if differing:
        raise CheckpointError(
            f"{path} is of another run: {'; '.join(differing)}; resume with what it was started with, or start a new "
            "--out"
        )
    done = int(state["epoch"]) + 1
    if done > epochs:
        raise CheckpointError(f"{path} has {done} epochs behind it; pass --epochs of at least that, not {epochs}")
    return done


def _log(path: Path, result: EpochResult) -> None:
    """Write an epoch's row and remove rows of this or later epochs, left by an interruption."""
    row = {
        "epoch": str(result.epoch),
        "seconds": f"{result.seconds:.1f}",
        "train_loss": f"{result.loss:.4f}",
        "val_miou": f"{result.miou:.5f}",
        "val_pixel_accuracy": f"{result.pixel_accuracy:.5f}",
        **{f"iou {name}": f"{value:.5f}" for name, value in result.iou.items()},
    }
    earlier = csv.DictReader(path.read_text(encoding="utf-8").splitlines()) if path.exists() else []
    text = io.StringIO()
    writer = csv.DictWriter(text, row, lineterminator="\n")
    writer.writeheader()
    writer.writerows([*(old for old in earlier if int(old["epoch"]) < result.epoch), row])
    atomic_write(path, text.getvalue().encode())


@dataclass(frozen=True)
class TrainOptions:
    """What a training is told besides its recipe; none of it changes the weights.

    Attributes:
        origin: where the initial weights come from; stored in the checkpoints.
        resume: continue from ``resume.safetensors``, which must be of a run with the same arguments. Only
            ``epochs`` may be larger; then the learning rate goes on as in a run of that length.
        on_start: called when all images and masks were looked at, before the first step.
        on_step: called with a line (epoch, step, loss) after every step, and with an empty one after an epoch.
        report: called after every epoch.
    """

    origin: str = "random weights"
    resume: bool = False
    on_start: Callable[[TrainingPlan], None] = lambda plan: None
    on_step: Callable[[str], None] | None = None
    report: Callable[[EpochResult], None] = lambda result: None


def train(
    network: PaddedNetwork,
    config: NetworkConfig,
    spec: ModelSpec,
    training: Sequence[Dataset],
    validation: Dataset,
    recipe: TrainRecipe,
    folder: Path,
    options: TrainOptions = TrainOptions(),
) -> Checkpoint:
    """Train a network and return its best checkpoint.

    Args:
        network: the network with its initial weights; trained in place.
        config: what built the network, stored in the checkpoints.
        spec: classes, size, preprocessing.
        training: labelled data sets, mixed.
        validation: labelled data set on which mIoU is measured after every epoch.
        recipe: everything that decides the run.
        folder: receives ``best.safetensors``, ``last.safetensors``, ``resume.safetensors`` and ``metrics.csv``.
        options: see ``TrainOptions``.

    Raises:
        DatasetError: there are fewer training images than one batch, or fewer than two classes in the masks of
            either set.
        ImageError: an image or mask of either set cannot be used.
        CheckpointError: the state to resume from cannot be read or is of another run.
        TrainingError: the loss is no number, or memory is short.
    """
    _quiet_lightning()
    pl.seed_everything(recipe.seed, workers=True, verbose=False)
    crops = SeededCrops(training, spec, recipe.crop, recipe.seed)
    if len(crops) < recipe.batch:
        remedy = f"pass --batch {len(crops)}" if len(crops) > 1 else "training needs two or more"
        raise DatasetError(f"{len(crops)} training images are fewer than one batch of {recipe.batch}; {remedy}")
    trained_on = _usable_labels(training, spec, "the training masks")
    validated_on = _usable_labels([validation], spec, "the validation masks")
    task = SegmentationTask(network, spec, recipe, class_weights(trained_on.classes))
    facts = _facts(spec, training, validation, recipe, options.origin)
    state = folder / "resume.safetensors"
    done = _epochs_done(state, run_description(config, facts), recipe.epochs) if options.resume else 0
    trainer = _trainer(recipe, folder, _SaveBest(folder, facts, config, options.report), options.on_step)
    remarks = _remarks(trained_on, validated_on, spec)
    device = _device(trainer.strategy.root_device)
    options.on_start(TrainingPlan(device, len(crops), len(crops) // recipe.batch, done + 1, recipe.epochs, remarks))
    validation_loader = DataLoader(ValidationImages(validation, spec), 1, num_workers=min(1, recipe.workers))
    with in_one_line(recipe.batch, recipe.crop, recipe.workers):
        trainer.fit(task, _loader(crops, recipe, done), validation_loader, ckpt_path=state if options.resume else None)
    if trainer.interrupted:
        raise KeyboardInterrupt
    return load_checkpoint(folder / "best.safetensors")


def _facts(
    spec: ModelSpec, training: Sequence[Dataset], validation: Dataset, recipe: TrainRecipe, origin: str
) -> dict[str, Any]:
    """Return what checkpoints say of a run."""
    return {
        "initial_weights": origin,
        "recipe": asdict(recipe),
        "classes": list(spec.classes),
        "size_hw": list(spec.size_hw),
        "training_data": [source.description for source in training],
        "validation_data": validation.description,
    }


def _usable_labels(sources: Sequence[Dataset], spec: ModelSpec, where: str) -> LabelCounts:
    """Count the labels of all sources, reading every image and mask once. Raises DatasetError, ImageError."""
    counts = [label_counts(source, spec) for source in sources]
    total = sum(counts[1:], counts[0])
    refuse_single_class(total.classes, total.ignored, spec, where)
    return total


def _remarks(trained_on: LabelCounts, validated_on: LabelCounts, spec: ModelSpec) -> tuple[str, ...]:
    return (
        *_remarks_on(trained_on, spec, "training"),
        *_remarks_on(validated_on, spec, "validation"),
        *_shared_images(trained_on, validated_on),
    )


def _remarks_on(counts: LabelCounts, spec: ModelSpec, what: str) -> Iterator[str]:
    absent = counts.absent(spec)
    if absent:
        yield f"no {what} mask holds {', '.join(absent)}"
    if counts.one_class_masks:
        yield (
            f"{counts.one_class_masks} of {counts.masks} {what} masks hold one class and {IGNORE_ID}, which is "
            f"ignored: right if {IGNORE_ID} means no class, else convert it to the class's id"
        )
    elif counts.ignored:
        share = counts.ignored / (counts.ignored + int(counts.classes.sum()))
        yield f"{100 * share:.1f} % of the {what} masks' pixels are no class (label {ignored_ids(spec)})"


def _shared_images(trained_on: LabelCounts, validated_on: LabelCounts) -> Iterator[str]:
    shared = len(trained_on.pictures & validated_on.pictures)
    if shared:
        yield (
            f"{shared} of {len(validated_on.pictures)} validation images are training images too: mIoU on what was "
            "learned by heart says nothing of new images"
        )


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} (cuda:{device.index or 0})"
    return f"the CPU ({torch.get_num_threads()} threads)" if device.type == "cpu" else device.type


def _trainer(
    recipe: TrainRecipe, folder: Path, save_best: _SaveBest, on_step: Callable[[str], None] | None
) -> pl.Trainer:
    state = ModelCheckpoint(folder, filename="resume", enable_version_counter=False, save_on_train_epoch_end=True)
    state.FILE_EXTENSION = ".safetensors"
    return pl.Trainer(
        max_epochs=recipe.epochs,
        callbacks=[*([StepLine(on_step)] if on_step else []), save_best, state],
        logger=False,
        plugins=[SafetensorsIO()],
        devices=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1_000_000,
        deterministic="warn",
    )


def _loader(crops: SeededCrops, recipe: TrainRecipe, epoch: int) -> DataLoader[Any]:
    return DataLoader(
        crops,
        recipe.batch,
        sampler=EpochOrder(len(crops), recipe.seed, epoch),
        drop_last=True,
        num_workers=recipe.workers,
        persistent_workers=recipe.workers > 0,
    )


def _quiet_lightning() -> None:
    for name in ("pytorch_lightning", "lightning_fabric", "pytorch_lightning.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", message=".*deterministic.*")
    warnings.filterwarnings("ignore", message="This DataLoader will create")
