"""Try settings of a training: Optuna chooses them, and each trial is a training in a folder of its own."""

from __future__ import annotations

import fcntl
import math
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Mapping

from edgeseg.app.fields import Field, fields_of
from edgeseg.app.train import TrainingProgress, train
from edgeseg.app.train_config import TrainConfig
from edgeseg.errors import EdgesegError, TrainingError, UsageError, require
from edgeseg.torchrun import place

if TYPE_CHECKING:
    from edgeseg.builder.training import EpochResult

__all__ = ["Trial", "try_settings"]

_STUDY = "trials.log"
_FIXED = (
    *("data", "validation", "classes", "ignore", "mode", "split", "fold", "out", "size"),
    *("resume", "devices", "find_rate", "trials", "search"),
)
"""Fields of which two values cannot be compared by mIoU, or that are no settings."""


@dataclass(frozen=True)
class Trial:
    """A training with some settings.

    Attributes:
        number: of the trial, from 0.
        settings: field -> value.
        miou: on the validation data, 0-1, of its best epoch; NaN for one that did not come to its end.
        end: how it ended: ``finished``, ``stopped`` because it was behind the others, or what went wrong.
    """

    number: int
    settings: Mapping[str, Any]
    miou: float
    end: str

    @property
    def folder(self) -> str:
        """Return the name of its folder in that of all trials."""
        return f"trial-{self.number:04d}"


def try_settings(
    config: TrainConfig, tell: Callable[[Trial], None] = lambda trial: None, progress: TrainingProgress | None = None
) -> List[Trial]:
    """Train as often as ``trials`` says, and return all trials, the best one first.

    A trial whose mIoU is below the median of the others at the same epoch is stopped. What is known of all trials is
    kept in ``OUT/trials.log``, so that ``resume`` goes on after the last one that ended.

    Args:
        config: ``search`` says what is chosen. All else holds for every trial.
        tell: called after every trial.
        progress: see ``TrainingProgress``, of each trial.

    Raises:
        UsageError: a value cannot be used, or the folder holds other trials.
        TrainingError: no trial came to its end.
        EdgesegError: images, masks or weights cannot be used. Once a trial came to its end, an error of another one
            ends that one alone.
    """
    spaces = _spaces(config)
    many = max(config.devices, place().count)
    if many > 1:
        raise UsageError(f"`trials` are for one process, not for {many}; leave `devices` out, and start one")
    require("optuna", "trials")
    with _alone(config):
        study = _study(config)
        found = [_known(one) for one in study.trials if one.state.name in ("COMPLETE", "PRUNED")]
        while len(found) < config.trials:
            trial = study.ask()
            settings = {name: space(trial) for name, space in spaces.items()}
            works = any(math.isfinite(one.miou) for one in found)
            found.append(_tried(config, study, trial, settings, works, progress or TrainingProgress()))
            tell(found[-1])
    best_first = sorted(found, key=lambda one: -one.miou if math.isfinite(one.miou) else math.inf)
    if not math.isfinite(best_first[0].miou):
        raise TrainingError(f"none of {len(found)} trials came to its end; the last one: {found[-1].end}")
    return best_first


@contextmanager
def _alone(config: TrainConfig) -> Iterator[None]:
    """Refuse a folder in which another process tries settings: each would give up the other's trial.

    Raises:
        UsageError: there is one, or the folder holds other trials.
    """
    path = config.out / _STUDY
    if path.exists() and not config.resume:
        raise UsageError(f"{config.out} holds earlier trials; pass `resume` to go on with them or another `out`")
    if config.resume and not path.exists():
        raise UsageError(f"nothing to resume: {path} does not exist; leave `resume` out to start")
    config.out.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"another process is at work on the trials in {config.out}; name another `out`") from error
        except OSError:  # a file system that knows no locks
            pass
        yield


class _BehindError(Exception):
    """Not an error of anybody: the mIoU of a trial is below the median of the others."""


def _tried(
    config: TrainConfig,
    study: Any,
    trial: Any,
    settings: Dict[str, Any],
    works: bool,
    progress: TrainingProgress,
) -> Trial:
    """Train with some settings. It ``works`` where others came to their end: an error is one of these settings then."""
    pruned = require("optuna.trial", "trials").TrialState.PRUNED

    def epoch(result: EpochResult) -> None:
        progress.epoch(result)
        trial.report(result.miou, result.epoch)
        if result.epoch < own.epochs and trial.should_prune():
            raise _BehindError

    made = Trial(trial.number, settings, math.nan, "finished")
    own = replace(config, **settings, trials=0, search=(), resume=False, out=config.out / made.folder)
    try:
        best = train(own, replace(progress, epoch=epoch))
        made = replace(made, miou=float(best.training["val_miou"]))
    except _BehindError:
        made = replace(made, end="stopped")
    except EdgesegError as error:
        if not works and not isinstance(error, TrainingError):  # nothing says that the data is right
            raise
        made = replace(made, end=str(error))
    trial.set_user_attr("end", made.end)
    trial.set_user_attr("settings", settings)
    study.tell(trial, *([made.miou] if math.isfinite(made.miou) else [None, pruned]))
    return made


def _known(trial: Any) -> Trial:
    value = math.nan if trial.state.name == "PRUNED" else float(trial.value)
    return Trial(trial.number, trial.user_attrs["settings"], value, trial.user_attrs["end"])


def _study(config: TrainConfig) -> Any:
    """Return the study of a folder; a trial that was killed is given up."""
    optuna = require("optuna", "trials")
    journal = require("optuna.storages.journal", "trials")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = config.out / _STUDY
    # Absolute: its lock is a link to that name, and one that leads nowhere, left by a kill, is waited for in vain.
    storage = optuna.storages.JournalStorage(journal.JournalFileBackend(str(path.absolute())))
    pruner = optuna.pruners.MedianPruner(n_warmup_steps=config.epochs // 4)
    study = optuna.create_study(
        storage=storage, pruner=pruner, study_name="edgeseg", direction="maximize", load_if_exists=True
    )
    # A sampler does not remember what it has drawn.
    study.sampler = optuna.samplers.TPESampler(seed=config.seed + len(study.trials))
    for one in study.trials:
        if not one.state.is_finished():
            study.tell(one.number, state=optuna.trial.TrialState.FAIL)
    return study


def _spaces(config: TrainConfig) -> Dict[str, Callable[[Any], Any]]:
    """Return for each field what asks a trial for its value. Raises UsageError: a text cannot be understood."""
    if not config.search:
        raise UsageError("`trials` need something to choose; pass `search`, such as learning_rate=1e-4:1e-2:log")
    known = {one.name: one for one in fields_of(TrainConfig) if one.name not in _FIXED and not one.is_many}
    spaces = {}
    for text in config.search:
        name, _, values = text.partition("=")
        if name not in known or not values:
            raise UsageError(
                f"`search` is FIELD=LOW:HIGH, FIELD=LOW:HIGH:log or FIELD=ONE|OTHER of a field as files have it, such "
                f"as learning_rate, got {text!r}"
            )
        spaces[name] = _space(known[name], values)
    return spaces


def _space(field: Field, text: str) -> Callable[[Any], Any]:
    parts = text.split(":")
    if field.kind in (int, float) and len(parts) > 1:
        low, high = (field.checked(_value(field, one)) for one in parts[:2])
        log = parts[2:] == ["log"]
        if not low < high or (parts[2:] and not log) or (log and low <= 0):
            raise UsageError(f"`search` has {field.name}={text}; LOW is below HIGH, and above 0 with :log")
        if field.kind is int:
            return lambda trial: trial.suggest_int(field.name, low, high, log=log)
        return lambda trial: trial.suggest_float(field.name, low, high, log=log)
    choices = tuple(field.checked(_value(field, one)) for one in text.split("|"))
    return lambda trial: trial.suggest_categorical(field.name, choices)


def _value(field: Field, text: str) -> Any:
    words = {"true": True, "false": False}
    try:
        return words.get(text, text) if field.kind is bool else field.kind(text)
    except ValueError:
        return text  # which the field's own check refuses
