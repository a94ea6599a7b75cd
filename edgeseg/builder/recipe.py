"""Say what decides a training run, and what it tells."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Callable

from edgeseg.builder.distillation.maps import Teaching
from edgeseg.errors import UsageError

__all__ = ["CHANGEABLE", "CropStage", "EpochResult", "TrainOptions", "TrainRecipe", "TrainingPlan", "crop_stages"]


@dataclass(frozen=True)
class TrainRecipe:
    """Everything that decides a training run, stored in its checkpoints.

    Attributes:
        epochs: passes over the training set.
        batch: images per step.
        crop: side of the square training crop in pixels, a multiple of 32.
        growth: crops that grow, as ``crop_stages`` reads them; empty is ``crop`` all the time.
        augment: a preset of ``augmentation.PRESETS``, and changes to it.
        loss: a sum of ``losses.LOSSES``, such as ``ce+0.5*dice``.
        class_weights: of cross-entropy. ``annealed``: by how rare a class is, with an exponent that falls, see
            ``last_weight_exponent``. ``constant``: the same with the exponent 1. ``none``: all 1. Or a number per
            class: ``1,2.5,1``.
        last_weight_exponent: the exponent of annealed class weights falls linearly from 1 to this. Full weights let
            rare classes be learned early; kept to the end they are painted too wide (CamVid: 1.6 points of mIoU).
        optimizer: a name of ``optimization.OPTIMIZERS``.
        learning_rate: the decoder's rate at its highest.
        encoder_rate: the encoder's share of the learning rate; 0 keeps the encoder's weights as they are.
        weight_decay: weight decay of the optimizer.
        schedule: a name of ``optimization.SCHEDULES``.
        warm_up: epochs in which the learning rate rises from 0.
        clip: largest norm of the gradient of a step; 0 is any.
        accumulate: batches per step.
        average_decay: the largest share of the moving average of the weights that is kept in a step. This average
            is validated and saved. The share begins lower, see ``task.averaging``.
        snapshots: what is validated and saved is the mean of the last so many of those averages, one per epoch; 0 is
            the average itself. See ``snapshots.Snapshots``.
        distill: how it learns from teachers, as ``distillation.options`` reads it.
        precision: ``32``, ``bf16`` or ``fp16`` (mixed with float32), or ``auto``: bf16 or fp16 on a GPU, 32 on a CPU.
        validate_every: epochs from one validation to the next; the first and the last epoch are validated too.
        patience: epochs without a better mIoU after which the run ends; 0 is never.
        compiled: whether the network is compiled by ``torch.compile``.
        qat: whether the network computes as its INT8 graph.
        per_tensor: whether that graph has one scale per weight, else one per output channel.
        workers: data-loader processes.
        seed: seed of weights, shuffling and augmentation.
    """

    epochs: int = 40
    batch: int = 8
    crop: int = 288
    growth: str = ""
    augment: str = "basic"
    loss: str = "ce"
    class_weights: str = "annealed"
    last_weight_exponent: float = 0.25
    optimizer: str = "adamw"
    learning_rate: float = 2e-3
    encoder_rate: float = 0.25
    weight_decay: float = 1e-2
    schedule: str = "poly"
    warm_up: float = 0.0
    clip: float = 0.0
    accumulate: int = 1
    average_decay: float = 0.99
    snapshots: int = 0
    distill: str = ""
    precision: str = "auto"
    validate_every: int = 1
    patience: int = 0
    compiled: bool = False
    qat: bool = False
    per_tensor: bool = False
    workers: int = 2
    seed: int = 0


CHANGEABLE = ("epochs", "validate_every", "patience", "compiled", "workers")
"""Fields of a recipe that may differ when a run is resumed."""


@dataclass(frozen=True)
class CropStage:
    """Size of the training crops up to an epoch.

    Attributes:
        height: of the crop in pixels.
        width: of the crop in pixels.
        end: the epoch, from 0, in which the next stage begins.
    """

    height: int
    width: int
    end: int


def crop_stages(recipe: TrainRecipe) -> tuple[CropStage, ...]:
    """Return the sizes of the crops that a recipe has, one after the other.

    ``192:300,288:120,480x352:20`` is three of them: a side or WIDTHxHEIGHT, and the share of the epochs. Shares are
    parts of their sum, so 440 epochs have 300 of the first, and 44 have 30.

    Raises:
        UsageError: a side is no multiple of 32, or a share is no number above 0.
    """
    parts = [part.strip().partition(":") for part in (recipe.growth or str(recipe.crop)).split(",")]
    matches = [re.fullmatch(r"(\d+)(?:x(\d+))?", size.strip()) for size, _, _ in parts]
    shares = [_share(share) for _, _, share in parts]
    sizes = [(int(match[2] or match[1]), int(match[1])) for match in matches if match]
    if len(sizes) < len(parts) or any(side < 32 or side % 32 for size in sizes for side in size) or 0 in shares:
        raise UsageError(
            f"`growth` is SIZE:SHARE,... of sides that are multiples of 32, as in 192:300,288:120,480x352:20, "
            f"got {recipe.growth or recipe.crop!r}"
        )
    ends = [round(recipe.epochs * sum(shares[: index + 1]) / sum(shares)) for index in range(len(shares))]
    return tuple(CropStage(*size, end) for size, end in zip(sizes, ends))


def _share(text: str) -> float:
    """Return a share of the epochs: 1 where none is said, 0 for one that cannot be used."""
    match = re.fullmatch(r"\d+(\.\d+)?", text.strip() or "1")
    return float(match[0]) if match else 0.0


@dataclass(frozen=True)
class TrainingPlan:
    """Facts about a run that are known before its first step.

    Attributes:
        device: name of what computes.
        images: training images.
        steps: batches per epoch.
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
        dice: mean Dice score on the validation set, 0-1.
        learning_rate: of the decoder in the epoch's last step.
    """

    epoch: int
    loss: float
    miou: float
    pixel_accuracy: float
    iou: dict[str, float]
    is_best: bool
    seconds: float
    dice: float
    learning_rate: float


@dataclass(frozen=True)
class TrainOptions:
    """What a training is told besides its recipe; of it, only ``teaching`` changes the weights.

    Attributes:
        origin: where the initial weights come from; stored in the checkpoints.
        resume: continue from ``resume.safetensors``, which must be of a run with the same arguments. Only fields
            of ``CHANGEABLE`` may differ; with more epochs the learning rate goes on as in a run of that length.
        on_start: called when all images and masks were looked at, before the first step.
        on_step: called with a line (epoch, step, loss, time left) after every step, and with an empty one after an
            epoch.
        report: called after every epoch.
        teaching: teachers to learn from; None for none.
    """

    origin: str = "random weights"
    resume: bool = False
    on_start: Callable[[TrainingPlan], None] = lambda plan: None
    on_step: Callable[[str], None] | None = None
    report: Callable[[EpochResult], None] = lambda result: None
    teaching: Teaching | None = None
