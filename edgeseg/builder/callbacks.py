"""Show the steps of a training, and keep its results in the folder of the run after every epoch."""

from __future__ import annotations

import math
import time
from typing import Any, Callable

import numpy as np
import pytorch_lightning as pl
from torch import Tensor

from edgeseg.builder.charts import SampleView
from edgeseg.builder.checkpoint import Checkpoint, save_checkpoint
from edgeseg.builder.networks import NetworkConfig
from edgeseg.builder.processes import count, is_first, of_all, rank
from edgeseg.builder.recipe import EpochResult, TrainOptions
from edgeseg.builder.resume import run_description
from edgeseg.builder.run_folder import RunFolder
from edgeseg.builder.task import SegmentationTask
from edgeseg.images import Dataset
from edgeseg.label_planes import flat_label
from edgeseg.resizing import class_map_at

__all__ = ["Keeper", "StepLine"]

_BAR = 20
_SAMPLES = 4


class StepLine(pl.Callback):
    """Progress line: epoch, step, loss and time left after every step, and an empty line when the epoch is done.

    Args:
        show: takes the line.
    """

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._started, self._steps = 0.0, 0

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Start the clock with the first step."""
        if not self._steps:
            self._started = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Show epoch, step, mean loss and time left."""
        assert isinstance(pl_module, SegmentationTask)
        self._steps += 1
        in_epoch, epochs = int(trainer.num_training_batches), int(trainer.max_epochs or 0)
        left = (epochs - trainer.current_epoch) * in_epoch - batch_idx - 1
        # Validations that were seen so far are in the mean.
        seconds = (time.monotonic() - self._started) / self._steps
        done = round(_BAR * (batch_idx + 1) / in_epoch)
        loss = f"  loss {np.mean(pl_module.losses):.4f}" if pl_module.losses else ""
        self._show(
            f"epoch {trainer.current_epoch + 1}/{epochs}  step {batch_idx + 1}/{in_epoch}{loss}  "
            f"[{'#' * done}{' ' * (_BAR - done)}]  {seconds:.2f} s/step, {_duration(seconds * left)} left"
        )

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


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Keeper(pl.Callback):
    """Writer of ``last.safetensors``, where mIoU rose ``best.safetensors``, and of what a ``RunFolder`` has.

    It also ends a run whose mIoU rises no more.

    Args:
        folder: of the run.
        facts: what checkpoints say of the run.
        config: what built the network.
        validation: the validation set, for samples.
        options: says whom to tell of every epoch.
    """

    def __init__(
        self,
        folder: RunFolder,
        facts: dict[str, Any],
        config: NetworkConfig,
        validation: Dataset,
        options: TrainOptions,
    ) -> None:
        self._folder, self._facts, self._config, self._validation = folder, facts, config, validation
        self._report = options.report
        self._run = run_description(config, facts)
        self._patience = int(facts["recipe"]["patience"])
        self._validate_every = int(facts["recipe"]["validate_every"])
        self._best, self._best_epoch = -math.inf, 0
        self._started = time.monotonic()
        self._found: dict[int, Tensor] = {}
        """Index of a sample -> class map."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs: the best mIoU, its epoch, and what run this is."""
        return {"best": self._best, "best_epoch": self._best_epoch, "run": self._run}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what ``state_dict`` returned."""
        self._best, self._best_epoch = state_dict["best"], state_dict["best_epoch"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End a run at once that had ended already for its mIoU."""
        self._end_without_progress(trainer, trainer.current_epoch)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock of an epoch, and say whether it is validated."""
        if batch_idx > 0:
            return
        self._started = time.monotonic()
        epoch = trainer.current_epoch + 1
        is_due = epoch in (1, trainer.max_epochs) or epoch % self._validate_every == 0
        # Lightning validates where this divides the epoch's number.
        trainer.check_val_every_n_epoch = 1 if is_due else epoch + 1

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the class maps of a few images spread over the validation set."""
        last, index = len(self._validation) - 1, rank() + count() * batch_idx  # as ``share_of`` shares them
        if index in {round(place * last / (_SAMPLES - 1)) for place in range(_SAMPLES)}:
            self._found[index] = outputs.cpu()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep and report the results of an epoch that was validated."""
        assert isinstance(pl_module, SegmentationTask)
        result = self._result(trainer, pl_module)
        if result.is_best:
            self._best, self._best_epoch = result.miou, result.epoch
        found = {index: one for part in of_all(self._found) for index, one in part.items()}
        self._end_without_progress(trainer, result.epoch)
        if is_first():
            self._keep(result, pl_module, found)
            self._report(result)

    def _keep(self, result: EpochResult, pl_module: SegmentationTask, found: dict[int, Tensor]) -> None:
        training = {**self._facts, "epochs_trained": result.epoch, "val_miou": result.miou, "val_iou": result.iou}
        judged = pl_module.judged.as_float()
        checkpoint = Checkpoint(judged, self._config, pl_module.spec, training, judged.ranges)
        save_checkpoint(checkpoint, self._folder.path / "last.safetensors")
        if result.is_best:
            save_checkpoint(checkpoint, self._folder.path / "best.safetensors")
        samples = self._samples(found) if result.is_best else []
        self._folder.keep(result, (self._best_epoch, self._best), pl_module.confusion.counts, samples)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Close what is open."""
        self._folder.close()

    def _end_without_progress(self, trainer: pl.Trainer, epoch: int) -> None:
        if self._patience and epoch - self._best_epoch >= self._patience:
            trainer.should_stop = True

    def _samples(self, maps: dict[int, Tensor]) -> list[SampleView]:
        samples = []
        for index, found in sorted(maps.items()):
            name, frame, label = self._validation[index]
            assert label is not None
            shown = flat_label(label)
            samples.append(SampleView(name, frame, shown, class_map_at(found.numpy(), shown.shape)))
        return samples

    def _result(self, trainer: pl.Trainer, task: SegmentationTask) -> EpochResult:
        confusion = task.confusion
        return EpochResult(
            epoch=trainer.current_epoch + 1,
            loss=float(np.mean(task.losses)) if task.losses else math.nan,
            miou=confusion.miou(),
            pixel_accuracy=confusion.pixel_accuracy(),
            iou=dict(zip(task.spec.measured, (float(value) for value in confusion.iou()))),
            is_best=confusion.miou() > self._best,
            seconds=time.monotonic() - self._started,
            dice=confusion.mean_dice(),
            learning_rate=float(trainer.optimizers[0].param_groups[0]["lr"]),
        )
