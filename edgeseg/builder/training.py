"""Training with pytorch-lightning: class-weighted cross-entropy, AdamW, poly schedule, averaged weights."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import time
import warnings
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, Sequence, cast

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import ConcatDataset, DataLoader

from edgeseg.builder.checkpoint import Checkpoint, SafetensorsIO, load_checkpoint, save_checkpoint
from edgeseg.builder.data import ValidationImages, class_pixels, class_weights, training_set
from edgeseg.builder.networks import NetworkConfig, PaddedNetwork
from edgeseg.errors import CheckpointError, DatasetError, EdgesegError
from edgeseg.files import atomic_write
from edgeseg.images import Dataset
from edgeseg.metrics import ConfusionMatrix
from edgeseg.preprocess import class_map_at
from edgeseg.spec import IGNORE_ID, ModelSpec

__all__ = ["EpochResult", "TrainRecipe", "train"]


@dataclass(frozen=True)
class TrainRecipe:
    """Everything that decides a training run, stored in its checkpoints.

    Attributes:
        epochs: passes over the training set.
        batch: images per step.
        crop: side of the square training crop in pixels, a multiple of 32.
        learning_rate: of the decoder at the start; it decays polynomially (power 0.9) to zero.
        encoder_rate: the encoder's share of the learning rate.
        weight_decay: AdamW's.
        last_weight_exponent: the exponent of the class weights falls linearly from 1 to this. Full weights let rare
            classes be learned early; kept to the end they are painted too wide (CamVid: 1.6 points of mIoU).
        average_decay: of the exponential moving average of the weights that is validated and saved.
        workers: data-loader processes.
        seed: of weights, shuffling and augmentation.
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
class EpochResult:
    """What an epoch gave: mean training loss, validation mIoU, pixel accuracy and IoU per class (0-1, NaN: absent)."""

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
        average = get_ema_multi_avg_fn(recipe.average_decay)  # type: ignore[no-untyped-call]
        # BatchNorm statistics are averages already: the averaged network takes the trained one's after every step.
        self.averaged = AveragedModel(self.network, multi_avg_fn=average, use_buffers=False)
        self.spec, self.recipe = spec, recipe
        self.class_weights = weights
        self.loss = nn.CrossEntropyLoss(weight=weights.clone(), ignore_index=IGNORE_ID)
        self.confusion = ConfusionMatrix(len(spec.classes), spec.ignore_id)
        self.losses: list[float] = []

    def on_train_epoch_start(self) -> None:
        self.losses.clear()
        progress = self.current_epoch / max(1, self.recipe.epochs - 1)
        exponent = 1 + (self.recipe.last_weight_exponent - 1) * progress
        self.loss.weight.copy_(self.class_weights**exponent)  # type: ignore[union-attr]

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor | None:
        images, labels = batch
        if not (labels != IGNORE_ID).any():
            return None  # nothing but void: the weighted mean over no pixel is not a number
        loss: Tensor = self.loss(self.network(images.contiguous(memory_format=torch.channels_last)), labels)
        self.losses.append(loss.item())
        return loss

    def on_train_batch_end(self, *_: Any) -> None:
        self.averaged.update_parameters(self.network)

    def on_validation_epoch_start(self) -> None:
        self.confusion.counts[:] = 0

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        image, label = batch
        classes = self.averaged(image.contiguous(memory_format=torch.channels_last)).argmax(1).to(torch.uint8)
        target = label[0].cpu().numpy()
        self.confusion.update(class_map_at(classes[0].cpu().numpy(), target.shape), target)

    def on_validation_epoch_end(self) -> None:
        self.log("val_miou", self.confusion.miou(), prog_bar=True)

    def configure_optimizers(self) -> Any:
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
        schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=steps, power=0.9)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class _SaveBest(pl.Callback):
    """After every validation: ``last.safetensors``, a row of ``metrics.csv``, and ``best.safetensors`` if mIoU rose."""

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

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = time.monotonic()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not isinstance(pl_module, SegmentationTask):
            return
        result = self._result(trainer.current_epoch, pl_module)
        training = {**self._facts, "epoch": result.epoch, "val_miou": result.miou, "val_iou": result.iou}
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
    """What must be the same for a run to be resumed: network, data and recipe (but for the number of workers)."""
    recipe = {key: value for key, value in facts["recipe"].items() if key != "workers"}
    data = {key: facts[key] for key in ("training_data", "validation_data", "classes", "size_hw")}
    return json.dumps({"network": asdict(config), **data, "recipe": recipe}, sort_keys=True)


def _refuse_other_run(path: Path, run: str) -> None:
    """Raise CheckpointError unless the state at ``path`` is of this very run."""
    if not path.exists():
        raise CheckpointError(f"nothing to resume: {path} does not exist; leave --resume out to start")
    states = SafetensorsIO().load_checkpoint(path)["callbacks"].values()
    earlier = next((state["run"] for state in states if "run" in state), "{}")
    one, other = json.loads(earlier), json.loads(run)
    differing = [key for key in other if one.get(key) != other[key]]
    if differing:
        raise CheckpointError(
            f"{path} is of another run (differs in {', '.join(differing)}: {one.get(differing[0])} there, "
            f"{other[differing[0]]} here); resume with what it was started with, or start a new --out"
        )


def _log(path: Path, result: EpochResult) -> None:
    """Write an epoch's row; rows of this or later epochs, left by an interruption, go."""
    row = {
        "epoch": str(result.epoch),
        "seconds": f"{result.seconds:.1f}",
        "train_loss": f"{result.loss:.4f}",
        "val_miou": f"{result.miou:.5f}",
        "val_pixel_accuracy": f"{result.pixel_accuracy:.5f}",
        **{f"iou {name}": f"{value:.5f}" for name, value in result.iou.items()},
    }
    earlier = csv.DictReader(path.read_text().splitlines()) if path.exists() else []
    text = io.StringIO()
    writer = csv.DictWriter(text, row, lineterminator="\n")
    writer.writeheader()
    writer.writerows([*(old for old in earlier if int(old["epoch"]) < result.epoch), row])
    atomic_write(path, text.getvalue().encode())


def train(
    network: PaddedNetwork,
    config: NetworkConfig,
    spec: ModelSpec,
    training: Sequence[Dataset],
    validation: Dataset,
    recipe: TrainRecipe,
    folder: Path,
    *,
    origin: str = "random weights",
    resume: bool = False,
    progress_bar: bool = False,
    report: Callable[[EpochResult], None] = lambda result: None,
) -> Checkpoint:
    """Train a network and return its best checkpoint.

    Args:
        network: with its initial weights; trained in place.
        config: what built the network, stored in the checkpoints.
        spec: classes, size, preprocessing.
        training: labelled data sets, mixed.
        validation: labelled data set on which mIoU is measured after every epoch.
        recipe: see TrainRecipe.
        origin: where the initial weights come from; stored in the checkpoints.
        folder: receives ``best.safetensors``, ``last.safetensors``, ``resume.safetensors`` and ``metrics.csv``.
        resume: continue from ``resume.safetensors``, which must be of a run with the same arguments.
        progress_bar: show Lightning's progress bar.
        report: called after every epoch.

    Raises:
        DatasetError: fewer training images than one batch, or fewer than two classes in the masks.
        CheckpointError: the state to resume from cannot be read.
    """
    _quiet_lightning()
    pl.seed_everything(recipe.seed, workers=True, verbose=False)
    crops, weights = _checked_training_set(training, spec, recipe)
    task = SegmentationTask(network, spec, recipe, weights)
    facts = {
        "initial_weights": origin,
        "recipe": asdict(recipe),
        "classes": list(spec.classes),
        "size_hw": list(spec.size_hw),
        "training_data": [source.description for source in training],
        "validation_data": validation.description,
    }
    trainer = _trainer(recipe, folder, _SaveBest(folder, facts, config, report), progress_bar)
    validation_loader = DataLoader(ValidationImages(validation, spec), 1, num_workers=min(1, recipe.workers))
    resume_from = folder / "resume.safetensors"
    if resume:
        _refuse_other_run(resume_from, run_description(config, facts))
    with _worker_errors_in_one_line():
        trainer.fit(task, _loader(crops, recipe), validation_loader, ckpt_path=resume_from if resume else None)
    if trainer.interrupted:
        raise KeyboardInterrupt
    return load_checkpoint(folder / "best.safetensors")


def _checked_training_set(
    training: Sequence[Dataset], spec: ModelSpec, recipe: TrainRecipe
) -> tuple[ConcatDataset[Any], Tensor]:
    """Augmented crops and class weights, or DatasetError."""
    crops = training_set(training, spec, recipe.crop)
    if len(crops) < recipe.batch:
        raise DatasetError(f"{len(crops)} training images are fewer than one batch of {recipe.batch}; pass --batch")
    pixels = class_pixels(training, spec)
    found, ids = np.count_nonzero(pixels), f"0-{len(spec.classes) - 1}"
    if found < 2:
        raise DatasetError(
            f"the training masks hold only {found} of the {len(spec.classes)} classes (ids {ids}; {spec.ignore_id} and "
            f"{IGNORE_ID} are ignored); masks of 0 and 255 must be converted to 0 and 1"
        )
    return crops, class_weights(pixels)


def _trainer(recipe: TrainRecipe, folder: Path, save_best: _SaveBest, progress_bar: bool) -> pl.Trainer:
    state = ModelCheckpoint(folder, filename="resume", enable_version_counter=False, save_on_train_epoch_end=True)
    state.FILE_EXTENSION = ".safetensors"
    return pl.Trainer(
        max_epochs=recipe.epochs,
        callbacks=[save_best, state],
        logger=False,
        plugins=[SafetensorsIO()],
        devices=1,
        enable_progress_bar=progress_bar,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1_000_000,
        deterministic="warn",
    )


def _loader(crops: ConcatDataset[Any], recipe: TrainRecipe) -> DataLoader[Any]:
    return DataLoader(
        crops,
        recipe.batch,
        shuffle=True,
        drop_last=True,
        num_workers=recipe.workers,
        persistent_workers=recipe.workers > 0,
        generator=torch.Generator().manual_seed(recipe.seed),
    )


@contextmanager
def _worker_errors_in_one_line() -> Iterator[None]:
    """A data loader's worker wraps our errors into its traceback, and Lightning turns Ctrl-C into an exit."""
    try:
        yield
    except EdgesegError as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        if len(lines) > 1:
            raise type(error)(lines[-1].partition(": ")[2]) from error
        raise
    except SystemExit as error:
        raise KeyboardInterrupt from error


def _quiet_lightning() -> None:
    for name in ("pytorch_lightning", "lightning_fabric", "pytorch_lightning.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", message=".*deterministic.*")
