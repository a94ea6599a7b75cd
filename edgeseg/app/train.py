"""Train a network on folders of images and masks."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Iterator, List, NamedTuple, Sequence, Tuple

from edgeseg.app.config_file import read_config, refuse_edited, save_config
from edgeseg.app.data import Head, opened_parts, sides, spec_of_data
from edgeseg.app.fields import absolute
from edgeseg.app.network import config_of_training, started_network
from edgeseg.app.origins import spec_from_file
from edgeseg.app.train_config import TrainConfig
from edgeseg.app.train_int8 import quantized_network, refuse_without_checkpoint
from edgeseg.app.train_processes import remark_on_slurm, trained_together
from edgeseg.data.findings import scenes
from edgeseg.data.opening import LayoutDataset
from edgeseg.errors import EdgesegError, UsageError, require
from edgeseg.images import Dataset, joined
from edgeseg.spec import ModelSpec
from edgeseg.torchrun import is_restart, place

if TYPE_CHECKING:
    from edgeseg.builder.checkpoint import Checkpoint
    from edgeseg.builder.distillation.maps import Teaching
    from edgeseg.builder.networks import NetworkConfig, PaddedNetwork
    from edgeseg.builder.rate_finder import RateSearch
    from edgeseg.builder.recipe import TrainRecipe
    from edgeseg.builder.training import EpochResult, TrainingPlan

__all__ = ["CONFIG_NAME", "TrainingProgress", "find_rate", "train"]

CONFIG_NAME = "training.toml"
_CHECKPOINTS = ("best.safetensors", "last.safetensors")
_CROP = 288
_MAPS = "teacher-maps"
"""Folder in that of the run for what teachers say of the images."""


@dataclass(frozen=True)
class TrainingProgress:
    """How a training tells what it does.

    Attributes:
        line: takes a line for people when something is known.
        plan: called when all images and masks were looked at, before the first step.
        epoch: called after every epoch.
        step: takes a line (epoch, step, loss) after every step, and an empty one after an epoch; None for none.
    """

    line: Callable[[str], None] = lambda text: None
    plan: Callable[[TrainingPlan], None] = lambda plan: None
    epoch: Callable[[EpochResult], None] = lambda result: None
    step: Callable[[str], None] | None = None


def train(config: TrainConfig, progress: TrainingProgress = TrainingProgress()) -> Checkpoint:
    """Train a network and return its best checkpoint, which is also ``OUT/best.safetensors``.

    The folder also receives the last checkpoint, what a resumed training needs, a table of metrics, and this
    configuration as ``training.toml``. Processes that ``torchrun`` started train together; the first one tells and
    writes.

    Args:
        config: of the training.
        progress: see ``TrainingProgress``.

    Raises:
        UsageError: a value cannot be used, or the folder holds another training.
        EdgesegError: images, masks or weights cannot be used, or the training failed.
        KeyboardInterrupt: it was stopped, and can be resumed.
        SystemExit: another process of this training has told of an error.
    """
    with trained_together(config.devices) as tells:
        return _trained(config, progress if tells else TrainingProgress())


def _trained(config: TrainConfig, progress: TrainingProgress) -> Checkpoint:
    _refuse_for_one(config)
    if is_restart() and (config.out / "resume.safetensors").exists():
        config = replace(config, resume=True)
    setup = _setup(config)
    validation = setup.validation
    _refuse_earlier_results(config)
    teaching = _teaching(config, setup.spec, progress.line)
    network, shape, origin = _network(config, setup, progress.line)
    from edgeseg.builder.training import TrainOptions
    from edgeseg.builder.training import train as fit

    config.out.mkdir(parents=True, exist_ok=True)
    progress.line(f"network: {shape.architecture} + {shape.encoder}, {origin}")
    progress.line(f"mode: {setup.spec.decision}")
    for source in setup.training:
        progress.line(f"train on: {source.description}")
    progress.line(f"validate on: {validation.description}")
    for line in _scenes(setup.training, validation):
        progress.line(f"validation: {line}")
    alone = remark_on_slurm()
    if alone:
        progress.line(alone)
    progress.line("looking at all images and masks")
    kept, there = replace(absolute(config), resume=False), config.out / CONFIG_NAME
    is_kept = there.exists() and _reads_as(kept, there)
    if not is_kept:
        refuse_edited(TrainConfig, there)

    def report(result: EpochResult) -> None:
        if not is_kept:
            save_config(kept, there)
        progress.epoch(result)

    options = TrainOptions(origin, config.resume, progress.plan, progress.step, report, teaching)
    return fit(network, shape, setup.spec, setup.training, validation, setup.recipe, config.out, options)


def find_rate(config: TrainConfig) -> RateSearch:
    """Look for a learning rate: train while it rises, until the loss rises too. Nothing is written.

    Args:
        config: of the training, with the number of steps; its learning rate and schedule are not used.

    Raises:
        UsageError: a value cannot be used.
        EdgesegError: images, masks or weights cannot be used, or no rate was found.
    """
    with trained_together(config.devices):
        _refuse_for_one(config)
    setup = _setup(config)
    network, _, _ = _network(config, setup)
    from edgeseg.builder.rate_finder import find_rate as search

    return search(network, setup.spec, setup.training, setup.recipe, config.find_rate)


def _refuse_for_one(config: TrainConfig) -> None:
    """Raise UsageError for what several processes do not do together, before a network is made for it."""
    if config.search or config.trials:
        raise UsageError("`search` says what `trials` choose; pass both, to what trains many times")
    many = place().count
    for field in ("find_rate", "qat", "compiled"):
        if many > 1 and getattr(config, field):
            raise UsageError(f"`{field}` is for one process, and {many} were started; start one, or leave it out")


class _Setup(NamedTuple):
    """What is read of a configuration before a network is built."""

    spec: ModelSpec
    training: List[Dataset]
    validation: Dataset
    recipe: TrainRecipe


def _setup(config: TrainConfig) -> _Setup:
    refuse_without_checkpoint(config)
    train_on, validate_on = sides(config.data, config.validation, config.split, config.fold)
    if not validate_on:
        raise UsageError("`validation` is missing; name data on which mIoU is measured, or pass `split`")
    spec = spec_of_data(config.classes, config.ignore, config.data[0], config.size, Head(config.mode, config.threshold))
    side = _crop(config, spec)
    training = opened_parts(train_on, spec, need_labels=True)
    validation = joined(opened_parts(validate_on, spec, need_labels=True))
    require("torch", "train")
    require("pytorch_lightning", "train")
    from edgeseg.builder.recipe import TrainRecipe

    same = {field.name: getattr(config, field.name) for field in fields(TrainRecipe) if hasattr(config, field.name)}
    return _Setup(spec, training, validation, TrainRecipe(**{**same, "crop": side}))


def _teaching(config: TrainConfig, spec: ModelSpec, report: Callable[[str], None]) -> Teaching | None:
    """Load the teachers. Raises UsageError: fields about teachers are set, and there are none."""
    if config.teacher is None:
        given = {"distill": config.distill, "teacher_spec": config.teacher_spec, "teacher_maps": config.teacher_maps}
        idle = [f"`{name}`" for name, value in given.items() if value]
        if idle:
            raise UsageError(f"{', '.join(idle)} say how to learn from `teacher`, which is missing; name a checkpoint")
        return None
    from edgeseg.builder.distillation.maps import Teaching
    from edgeseg.builder.distillation.teacher import load_teacher

    described = None if config.teacher_spec is None else spec_from_file(config.teacher_spec, "teacher_spec")
    teachers = [load_teacher(Path(one.strip()), spec, described) for one in config.teacher.split(",")]
    for teacher in teachers:
        shape = teacher.network.config
        report(f"teacher: {teacher.name}, {shape.architecture} + {shape.encoder}")
    return Teaching(teachers, config.teacher_maps or config.out / _MAPS, report)


def _network(
    config: TrainConfig, setup: _Setup, report: Callable[[str], None] = lambda line: None
) -> Tuple[PaddedNetwork, NetworkConfig, str]:
    """Build the network with its initial weights, of which chance follows the seed, and return where they come from."""
    require("torch", "train").manual_seed(config.seed)
    shape = config_of_training(config, setup.spec.outputs)
    network, origin = started_network(
        shape, config.weights, config.keep, freeze_encoder=config.freeze_encoder, report=report
    )
    if config.qat:
        origin += ", fine-tuned for INT8"
        network = quantized_network(network, setup.spec, setup.training, setup.recipe, report)
    return network, shape, origin


def _scenes(training: Sequence[Dataset], validation: Dataset) -> Iterator[str]:
    """Tell where validation is one scene or has drives that are trained on, by the names of files."""
    parts = [*training, validation]
    if all(isinstance(one, LayoutDataset) for one in parts):
        *train, val = [one.named() for one in parts if isinstance(one, LayoutDataset)]
        yield from scenes([pair for part in train for pair in part], val)


def _crop(config: TrainConfig, spec: ModelSpec) -> int:
    """Return the side of the training crops in pixels. Raises UsageError: it is no multiple of 32."""
    side = config.crop or min(_CROP, 32 * math.ceil(min(spec.size_hw) / 32))
    if side % 32:
        raise UsageError(f"`crop` must be a multiple of 32, got {config.crop}")
    return side


def _refuse_earlier_results(config: TrainConfig) -> None:
    from edgeseg.builder.run_folder import RUN_FILES

    if config.resume:
        return
    if (config.out / "resume.safetensors").exists():
        raise UsageError(f"{config.out} holds an earlier run; pass `resume` to go on with it or another `out`")
    there = [name for name in (*_CHECKPOINTS, CONFIG_NAME, *RUN_FILES) if (config.out / name).exists()]
    if there:
        raise UsageError(f"{config.out / there[0]} exists and would be replaced; name another `out`")


def _reads_as(config: TrainConfig, path: Path) -> bool:
    """Return whether a file holds a configuration; people may have added comments to it."""
    try:
        return read_config(TrainConfig, path) == config
    except EdgesegError:
        return False
