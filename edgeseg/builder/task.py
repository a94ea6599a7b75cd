"""Train one network: its loss, its steps, its average and its validation."""

from __future__ import annotations

import math
from typing import Any, Callable, Sequence, cast

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from edgeseg.builder.batch_norm import synchronise_batch_norm
from edgeseg.builder.choice import choice
from edgeseg.builder.data import epoch_seed
from edgeseg.builder.distillation.features import FeatureHints
from edgeseg.builder.distillation.loss import distilled
from edgeseg.builder.distillation.options import distillation_from_text
from edgeseg.builder.heads import class_ids, count_found, criterion_of, new_counts
from edgeseg.builder.networks import PaddedNetwork
from edgeseg.builder.optimization import OPTIMIZERS, rate_factor
from edgeseg.builder.processes import count, let_signals_interrupt, of_all, rank, whole_batch
from edgeseg.builder.recipe import TrainRecipe, crop_stages
from edgeseg.builder.snapshots import Snapshots
from edgeseg.errors import TrainingError, UsageError
from edgeseg.spec import IGNORE_ID, ModelSpec

__all__ = ["SegmentationTask", "averaging", "loss_weights", "parameter_groups"]


class SegmentationTask(pl.LightningModule):
    """One network under training, with its average that is validated and saved.

    Args:
        network: the network with its initial weights.
        spec: classes, size, preprocessing.
        recipe: everything that decides the run.
        weights: weight per output by how rare its class is, (K,) float32.
        feature_channels: of each teacher's features that are learned from.

    Raises:
        UsageError: features are to be learned from, and the network has none at stride 16; or several processes cannot
            compute it together.
    """

    def __init__(
        self,
        network: PaddedNetwork,
        spec: ModelSpec,
        recipe: TrainRecipe,
        weights: Tensor,
        feature_channels: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        # BatchNorm statistics are averages already: the averaged network takes the trained one's after every step.
        self.averaged = AveragedModel(self.network, multi_avg_fn=averaging(recipe.average_decay), use_buffers=False)
        self.snapshots = Snapshots(self.network, recipe.snapshots) if recipe.snapshots else None
        # After the copies: they are not watched.
        self.hints = FeatureHints(self.network, feature_channels) if feature_channels else None
        if recipe.compiled:
            self.network.compile()  # in place: the names of the weights stay
        self.spec, self.recipe = spec, recipe
        if count() > 1:
            self._share_batches()
        self.class_weights = loss_weights(recipe.class_weights, weights)
        self.loss = criterion_of(recipe.loss, spec)
        self.distillation = distillation_from_text(recipe.distill)
        self.confusion = new_counts(spec)
        self.losses: list[float] = []
        self._has_learned = False

    def _share_batches(self) -> None:
        """Let several processes train this network together, each on its share of a batch."""
        # DistributedDataParallel would wait for gradients of what is not trained.
        for copy in (self.averaged, self.snapshots):
            if copy is not None:
                copy.requires_grad_(False)
        parameter_groups(self.network, self.recipe.learning_rate, self.recipe.encoder_rate)
        synchronise_batch_norm(self.network)
        if self.snapshots is not None:
            synchronise_batch_norm(self.snapshots.network)

    def on_train_start(self) -> None:
        """Take signals from Lightning, which has put its own handler in front of all others by now."""
        if count() > 1:
            let_signals_interrupt()

    def on_train_batch_start(self, batch: Any, index: int) -> None:
        """Seed the epoch and set the exponent of the class weights, before the first batch."""
        if index > 0:
            return
        # Not on_train_epoch_start: Lightning leaves that out in the first epoch after a resume.
        # Dropout of several processes must not drop the same.
        torch.manual_seed(epoch_seed(self.recipe.seed, self.current_epoch, *([rank()] if rank() else [])))
        self.losses.clear()
        last = self.recipe.last_weight_exponent if self.recipe.class_weights == "annealed" else 1.0
        exponent = 1 + (last - 1) * self.current_epoch / max(1, self.recipe.epochs - 1)
        self.loss.weights.copy_(self.class_weights**exponent)
        self.loss.progress = self.current_epoch / self.recipe.epochs

    @property
    def judged(self) -> PaddedNetwork:
        """Return the network that is validated and saved."""
        return cast(PaddedNetwork, self.snapshots.network if self.snapshots else self.averaged.module)

    def leaves_parameters_out(self) -> bool:
        """Return whether the network has parameters to train that its logits do not depend on; some encoders have."""
        size = crop_stages(self.recipe)[0]
        trained = [one for one in self.network.parameters() if one.requires_grad]
        was_training = self.network.training
        logits = self.network.eval()(torch.zeros(1, 3, size.height, size.width))
        self.network.train(was_training)
        return any(one is None for one in torch.autograd.grad(logits.sum(), trained, allow_unused=True))

    def training_step(self, batch: tuple[Tensor, ...], index: int) -> Tensor | None:
        """Return the loss of a batch, see ``loss_of``, or None where every label is void.

        Raises:
            TrainingError: the loss is not finite.
        """
        # Ids and planes are bytes, of which fewer are sent.
        labels = whole_batch(batch[1].byte()).long()
        if not (labels != IGNORE_ID).any():  # nothing but void: the weighted mean over no pixel is not a number
            return None if count() == 1 else self._no_loss()
        loss = self.loss_of((batch[0], labels, *map(whole_batch, batch[2:])))
        self._has_learned = True
        self.losses.append(loss.item())
        if not math.isfinite(self.losses[-1]):
            raise TrainingError(
                f"the loss is {self.losses[-1]} in step {index + 1} of epoch {self.current_epoch + 1}, so nothing more "
                f"can be learned; start again with a smaller `learning_rate` (it was {self.recipe.learning_rate:g})"
            )
        return loss

    def _no_loss(self) -> Tensor:
        """Return a loss whose gradient is 0: Lightning does not take None from several processes."""
        return 0.0 * torch.stack([one.sum() for one in self.parameters() if one.requires_grad]).sum()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Take no step after nothing but void, as one process does: of a gradient of zeros, weights would decay."""
        if count() > 1 and not self._has_learned:
            optimizer.zero_grad(set_to_none=True)
        self._has_learned = False

    def loss_of(self, batch: tuple[Tensor, ...]) -> Tensor:
        """Compute the loss of a batch in which at least one pixel is no void.

        Args:
            batch: images Nx3xHxW float32, labels NxHxW int64, and where there are teachers, their log-probabilities
                NxCxHxW float16, and their features NxFxhxw float16 where these are learned from. Of several processes
                each has its share of the images, and all else of the whole batch.
        """
        images, labels, *maps = batch
        logits = whole_batch(self.network(images.contiguous(memory_format=torch.channels_last)).float())
        loss: Tensor = self.loss(logits, labels)
        if maps:
            loss = distilled(loss, logits, labels, maps[0], self.distillation)
        if self.hints is not None:
            loss = loss + self.distillation.feature * self.hints(maps[1], labels)
        return loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Take a step, and add the weights after it to the average."""
        super().optimizer_step(*args, **kwargs)
        self.averaged.update_parameters(self.network)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Take a snapshot at the end of an epoch, whether it is validated or not."""
        if self.snapshots is not None and self.trainer.is_last_batch:
            self.snapshots.take(cast(PaddedNetwork, self.averaged.module))

    def on_validation_epoch_start(self) -> None:
        """Average the snapshots, and start new counts.

        Raises:
            TrainingError: a weight or a statistic of the averaged network is not finite.
        """
        # BatchNorm's statistics overflow before the loss does.
        if not all(torch.isfinite(value).all() for value in self.averaged.state_dict().values()):
            raise TrainingError(
                f"the weights or their statistics are no longer finite after epoch {self.current_epoch + 1}; start "
                f"again with a smaller `learning_rate` (it was {self.recipe.learning_rate:g})"
            )
        if self.snapshots is not None:
            self.snapshots.average(batch[0] for batch in self.trainer.train_dataloader)
        self.confusion = new_counts(self.spec)

    def on_validation_epoch_end(self) -> None:
        """Add up what the processes counted."""
        self.confusion.counts = np.sum(of_all(self.confusion.counts), 0)

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """Count the saved network's class map of one image (1x3xHxW float32) against its label, and return it."""
        image, label = batch
        with torch.autocast(self.device.type, enabled=False):  # mIoU is that of the stored weights, in float32
            logits = self.judged(image.contiguous(memory_format=torch.channels_last))
        count_found(self.confusion, logits[0], label[0].cpu().numpy(), self.spec)
        return class_ids(logits, self.spec)[0]

    def configure_optimizers(self) -> Any:
        """Return optimizer and schedule in Lightning's form."""
        recipe = self.recipe
        groups = parameter_groups(self.network, recipe.learning_rate, recipe.encoder_rate)
        if self.hints is not None:
            groups[0]["params"].extend(self.hints.parameters())
        optimizer = choice("optimizer", recipe.optimizer, OPTIMIZERS)(groups, recipe.weight_decay)
        steps = int(self.trainer.estimated_stepping_batches)
        warm_up = round(recipe.warm_up * steps / recipe.epochs)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: rate_factor(recipe.schedule, step, steps, warm_up)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def parameter_groups(network: PaddedNetwork, rate: float, encoder_rate: float) -> list[dict[str, Any]]:
    """Return the parameters of a network in two groups, those of the encoder with a share of the learning rate.

    Args:
        network: a network whose inner network has an ``encoder``.
        rate: learning rate of all but the encoder.
        encoder_rate: the encoder's share; with 0 its parameters are frozen and in no group.
    """
    encoder = list(network.network.encoder.parameters())  # type: ignore[union-attr]
    inside = {id(one) for one in encoder}
    rest = [one for one in network.parameters() if id(one) not in inside]
    if not encoder_rate:
        for one in encoder:
            one.requires_grad_(False)
        return [{"params": rest, "lr": rate}]
    return [{"params": rest, "lr": rate}, {"params": encoder, "lr": rate * encoder_rate}]


def loss_weights(rule: str, by_rarity: Tensor) -> Tensor:
    """Return the weight per class that a recipe asks for, (C,) float32.

    Args:
        rule: ``annealed``, ``constant``, ``none``, or a number per class.
        by_rarity: weights by how rare a class is, (C,) float32.

    Raises:
        UsageError: the rule is another, or the numbers are too few, too many or not above 0.
    """
    if rule in ("annealed", "constant"):
        return by_rarity
    if rule == "none":
        return torch.ones_like(by_rarity)
    try:
        weights = [float(one) for one in rule.split(",")]
    except ValueError:
        weights = []
    if len(weights) != len(by_rarity) or not all(0 < one < math.inf for one in weights):
        raise UsageError(
            f"`class_weights` is annealed, constant, none or {len(by_rarity)} numbers above 0 such as 1,2.5,1, "
            f"got {rule!r}"
        )
    return torch.tensor(weights)


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
