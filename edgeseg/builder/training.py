"""Train with pytorch-lightning, as a recipe says."""

from __future__ import annotations

import logging
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from pytorch_lightning.strategies import DDPStrategy

from edgeseg import __version__
from edgeseg.builder.batches import training_batches, usable_crops, usable_labels, validation_images
from edgeseg.builder.callbacks import Keeper, StepLine
from edgeseg.builder.checkpoint import Checkpoint, SafetensorsIO, load_checkpoint
from edgeseg.builder.choice import choice
from edgeseg.builder.distillation.features import channels_of
from edgeseg.builder.distillation.maps import StoredMaps, Teaching, stored_features, teacher_maps
from edgeseg.builder.distillation.options import Distillation, distillation_from_text
from edgeseg.builder.failures import in_one_line
from edgeseg.builder.heads import criterion_of, weights_by_rarity
from edgeseg.builder.networks import NetworkConfig, PaddedNetwork
from edgeseg.builder.optimization import OPTIMIZERS, SCHEDULES
from edgeseg.builder.processes import count
from edgeseg.builder.recipe import EpochResult, TrainingPlan, TrainOptions, TrainRecipe
from edgeseg.builder.resume import epochs_done, run_description
from edgeseg.builder.run_folder import RunFolder
from edgeseg.builder.task import SegmentationTask, loss_weights
from edgeseg.errors import UsageError
from edgeseg.images import Dataset, ignored_ids
from edgeseg.labels import LabelCounts
from edgeseg.spec import IGNORE_ID, ModelSpec
from edgeseg.torchrun import place, require_shares

__all__ = ["EpochResult", "TrainOptions", "TrainRecipe", "TrainingPlan", "precision_of", "train"]


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

    Inside of ``processes.joined`` all processes train it together. They need the same arguments and files. The first
    one writes and reports.

    Args:
        network: the network with its initial weights; trained in place.
        config: what built the network, stored in the checkpoints.
        spec: classes, size, preprocessing.
        training: labelled data sets, mixed.
        validation: labelled data set on which mIoU is measured after every epoch.
        recipe: everything that decides the run.
        folder: receives ``best.safetensors``, ``last.safetensors``, ``resume.safetensors`` and ``RUN_FILES``.
        options: see ``TrainOptions``.

    Raises:
        DatasetError: there are fewer training images than one batch, or fewer than two classes in the masks of
            either set.
        ImageError: an image or mask of either set cannot be used.
        CheckpointError: the state to resume from cannot be read or is of another run.
        UsageError: a field of the recipe cannot be used, or not by several processes.
        ForeignFileError: a file of somebody else has the name of a map of the teachers.
        TrainingError: the loss is no number, or memory or the disk is short.
    """
    _quiet_lightning()
    pl.seed_everything(recipe.seed, workers=True, verbose=False)
    _refuse_unusable(recipe, spec, validation)
    trained_on, crops = usable_crops(training, spec, recipe)
    validated_on = usable_labels([validation], spec, "the validation masks")
    how = distillation_from_text(recipe.distill)
    teachers = options.teaching.teachers if options.teaching and how.feature else ()
    channels = [channels_of(one.network, f"the teacher {one.name}") for one in teachers]
    task = SegmentationTask(network, spec, recipe, weights_by_rarity(trained_on, spec), channels)
    facts = _facts(spec, training, validation, recipe, options)
    state = folder / "resume.safetensors" if options.resume else None
    done = epochs_done(state, run_description(config, facts), recipe.epochs) if state else 0
    kept = RunFolder(folder, {**facts, "network": asdict(config)}, spec)
    keeper = Keeper(kept, facts, config, validation, options)
    trainer = _trainer(recipe, folder, [*([StepLine(options.on_step)] if options.on_step else []), keeper], task)
    remarks = _remarks(trained_on, validated_on, spec)
    device = _device(trainer.strategy.root_device)
    options.on_start(TrainingPlan(device, len(crops), len(crops) // recipe.batch, done + 1, recipe.epochs, remarks))
    if options.teaching and done < recipe.epochs:
        crops.learn_from(*_taught(options.teaching, training, spec, how, options.on_step))
    validation_loader = validation_images(validation, spec, recipe.workers)
    with in_one_line(recipe.batch, crops.largest, recipe.workers):
        trainer.fit(task, training_batches(crops, recipe, done), validation_loader, ckpt_path=state)
    if trainer.interrupted:
        raise KeyboardInterrupt
    return load_checkpoint(folder / "best.safetensors")


def _taught(
    teaching: Teaching,
    training: Sequence[Dataset],
    spec: ModelSpec,
    how: Distillation,
    on_step: Callable[[str], None] | None,
) -> Iterator[list[StoredMaps]]:
    """Yield what teachers say of every data set, and their features where these are learned from."""
    device = _best_device()
    yield teacher_maps(teaching, training, spec, how, device, on_step)
    if how.feature:
        yield stored_features(teaching, training, spec, device, on_step)


def _refuse_unusable(recipe: TrainRecipe, spec: ModelSpec, validation: Dataset) -> None:
    """Raise UsageError for a recipe that cannot be followed, before any image is read."""
    criterion_of(recipe.loss, spec)
    loss_weights(recipe.class_weights, torch.ones(spec.outputs))
    choice("optimizer", recipe.optimizer, OPTIMIZERS)
    choice("schedule", recipe.schedule, SCHEDULES)
    if distillation_from_text(recipe.distill).feature and (recipe.qat or recipe.compiled):
        field = "qat" if recipe.qat else "compiled"
        raise UsageError(f"`distill` has feature, which is not learned with `{field}`; leave one of them out")
    precision_of(recipe.precision, _best_device())
    if count() > 1:
        _refuse_unshared(recipe, validation, count())


def _refuse_unshared(recipe: TrainRecipe, validation: Dataset, many: int) -> None:
    """Raise UsageError for what several processes do not train together."""
    require_shares(recipe.batch, many)
    if len(validation) < many:
        raise UsageError(f"{many} processes cannot share {len(validation)} validation images; start fewer processes")
    for field in ("qat", "compiled"):
        if getattr(recipe, field):
            raise UsageError(f"`{field}` is for one process, and {many} were started; start one, or leave it out")
    if _best_device().type == "mps":
        raise UsageError(f"Apple's GPU is for one process, and {many} were started; start one")


def _best_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda", place().local_rank if count() > 1 else 0)
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def precision_of(name: str, device: torch.device) -> Any:
    """Return Lightning's name of a precision.

    Args:
        name: ``auto``, ``32``, ``bf16`` or ``fp16``.
        device: what computes.

    Raises:
        UsageError: there is no such precision, or not on this device.
    """
    precisions = {"32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
    if name == "auto":
        if device.type != "cuda":
            return "32-true"
        return "bf16-mixed" if torch.cuda.get_device_capability(device) >= (8, 0) else "16-mixed"
    if name == "fp16" and device.type == "cpu":
        raise UsageError("`precision` is fp16, which a CPU does not train with; pass bf16 or 32")
    return choice("precision", name, precisions)


def _facts(
    spec: ModelSpec, training: Sequence[Dataset], validation: Dataset, recipe: TrainRecipe, options: TrainOptions
) -> dict[str, Any]:
    """Return what checkpoints say of a run."""
    return {
        "initial_weights": options.origin,
        **({"teachers": options.teaching.described()} if options.teaching else {}),
        "recipe": asdict(recipe),
        "classes": list(spec.classes),
        "mode": spec.mode,
        "threshold": spec.threshold,
        "size_hw": list(spec.size_hw),
        "training_data": [source.description for source in training],
        "validation_data": validation.description,
        "versions": {"edgeseg": __version__, "torch": torch.__version__, "lightning": pl.__version__},
    }


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
        share = counts.ignored / (counts.ignored + counts.pixels)
        yield f"{100 * share:.1f} % of the {what} masks' pixels are no class (label {ignored_ids(spec)})"


def _shared_images(trained_on: LabelCounts, validated_on: LabelCounts) -> Iterator[str]:
    shared = len(trained_on.pictures & validated_on.pictures)
    if shared:
        yield (
            f"{shared} of {len(validated_on.pictures)} validation images are training images too: mIoU on what was "
            "learned by heart says nothing of new images"
        )


def _device(device: torch.device) -> str:
    return _one_device(device) if count() == 1 else f"{count()} processes, the first on {_one_device(device)}"


def _one_device(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} (cuda:{device.index or 0})"
    return f"the CPU ({torch.get_num_threads()} threads)" if device.type == "cpu" else device.type


def _trainer(recipe: TrainRecipe, folder: Path, callbacks: list[pl.Callback], task: SegmentationTask) -> pl.Trainer:
    state = ModelCheckpoint(folder, filename="resume", enable_version_counter=False, save_on_train_epoch_end=True)
    state.FILE_EXTENSION = ".safetensors"
    device = _best_device()
    return pl.Trainer(
        max_epochs=recipe.epochs,
        accelerator=device.type,
        precision=precision_of(recipe.precision, device),
        gradient_clip_val=recipe.clip or None,
        accumulate_grad_batches=recipe.accumulate,
        callbacks=[*callbacks, state],
        logger=False,
        use_distributed_sampler=False,
        **_processes(task),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1_000_000,
        deterministic="warn",
    )


def _processes(task: SegmentationTask) -> dict[str, Any]:
    """Return what Lightning has to know of the processes that train together."""
    if count() == 1:
        # Without this, a batch job of Slurm with several tasks would be waited for.
        return {"plugins": [SafetensorsIO(), LightningEnvironment()], "devices": 1}
    here = place().local_count
    return {
        "plugins": [SafetensorsIO(), TorchElasticEnvironment()],
        "devices": here,
        "num_nodes": count() // here,
        # Statistics of BatchNorm are the same everywhere already.
        "strategy": DDPStrategy(find_unused_parameters=task.leaves_parameters_out(), broadcast_buffers=False),
    }


def _quiet_lightning() -> None:
    for name in ("pytorch_lightning", "lightning_fabric", "pytorch_lightning.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", message=".*deterministic.*")
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    warnings.filterwarnings("ignore", message="Grad strides do not match")
