"""``edgeseg train``: images and masks -> checkpoint."""

import math
import os
import shlex
import sys
import time
from typing import TYPE_CHECKING, Callable, Mapping, Optional

from edgeseg.app.config_file import save_config
from edgeseg.app.data import dataset_from, sides
from edgeseg.app.train import TrainingProgress, find_rate
from edgeseg.app.train import train as train_network
from edgeseg.app.train_config import TrainConfig
from edgeseg.app.train_processes import started_together
from edgeseg.app.trials import Trial, try_settings
from edgeseg.cli.arguments import SaveConfigOption
from edgeseg.cli.console import JsonFlag, percent, print_json, say, say_aside
from edgeseg.cli.options import command
from edgeseg.torchrun import Place, place

if TYPE_CHECKING:
    from edgeseg.builder.rate_finder import RateSearch
    from edgeseg.builder.training import EpochResult, TrainingPlan


def _train(config: TrainConfig, save: SaveConfigOption = None, as_json: JsonFlag = False) -> None:
    """Train a segmentation network on folders of images and masks.

    Example: edgeseg train camvid/train --val camvid/val --classes camvid --out runs/street
    """
    if config.devices > 1 and not config.trials and place() == Place():
        # The processes have told what there is to tell, of Ctrl-C too.
        os._exit(started_together(config, sys.argv[1:]))
    tells = place().rank == 0
    if save is not None and tells:
        (say_aside if as_json else say)(save_config(config, save))
    if config.trials:
        _show_trials(config, as_json)
        return
    if config.find_rate:
        _show_rate(find_rate(config), as_json)
        return
    view = _View(config, say=(lambda text: None) if as_json else say)
    steps = _step_line if sys.stderr.isatty() and not as_json else None
    try:
        best = train_network(config, TrainingProgress(view.say, view.plan, view.epoch, steps))
    except KeyboardInterrupt:
        if view.began is not None:
            view.say(f"stopped; go on with the same command and --resume ({config.out})")
        raise
    minutes = (time.monotonic() - (view.began or 0.0)) / 60
    checkpoint = config.out / "best.safetensors"
    if not tells:
        return
    if as_json:
        print_json({"checkpoint": str(checkpoint), "minutes": minutes, **best.training})
        return
    facts = best.training
    score = f"{'INT8 ' if config.qat else ''}mIoU {percent(facts['val_miou'])}"
    score += f", mean Dice {percent(_mean_dice(facts['val_iou']))}"
    say(f"best {score} (epoch {facts['epochs_trained']}), {minutes:.1f} min: {checkpoint}")
    both = sides(config.data, config.validation, config.split, config.fold)
    train_on, validate_on = ([name for name in side if len(dataset_from(name))] for side in both)
    # A network that was fine-tuned for INT8 brings its ranges.
    data = "" if config.qat else f"--calib {shlex.quote(train_on[0])} "
    data += f"{'--per-tensor ' if config.per_tensor else ''}--eval {shlex.quote(validate_on[0])}"
    say(f"next: edgeseg compile {checkpoint} --int8 {data} -o {config.out.name}.edgeseg")


def _mean_dice(iou: Mapping[str, float]) -> float:
    """Return the mean Dice score over the classes that occur: Dice is 2 IoU / (1 + IoU)."""
    dice = [2 * one / (1 + one) for one in iou.values() if math.isfinite(one)]
    return sum(dice) / len(dice) if dice else math.nan


def _show_rate(found: "RateSearch", as_json: bool) -> None:
    """Print a learning rate, and the losses that it was read from."""
    if as_json:
        print_json({"learning_rate": found.rate, "rates": found.rates, "losses": found.losses})
        return
    for at in range(0, len(found.rates), 10):
        say(f"rate {found.rates[at]:.1e}  loss {found.losses[at]:.4f}")
    say(f"a tenth of the rate with the lowest loss: --lr {found.rate:.1e}")


def _show_trials(config: TrainConfig, as_json: bool) -> None:
    """Print each trial when it ends, and the best one at the end."""
    steps = _step_line if sys.stderr.isatty() and not as_json else None

    def tell(trial: Trial) -> None:
        what = f"mIoU {percent(trial.miou)}" if trial.end == "finished" else trial.end
        settings = ", ".join(f"{name} {_short(value)}" for name, value in trial.settings.items())
        (say_aside if as_json else say)(f"{trial.folder}: {what}  ({settings})")

    try:
        trials = try_settings(config, tell, TrainingProgress(step=steps))
    except KeyboardInterrupt:
        (say_aside if as_json else say)(f"stopped; go on with the same command and --resume ({config.out})")
        raise
    if as_json:
        print_json({"trials": [{**vars(one), "folder": str(config.out / one.folder)} for one in trials]})
        return
    best = trials[0]
    say(f"best {best.folder}: mIoU {percent(best.miou)}: {config.out / best.folder / 'best.safetensors'}")


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


train = command(TrainConfig, _train, file_in="data")


class _View:
    """Shows a training to people."""

    def __init__(self, config: TrainConfig, say: Callable[[str], None]) -> None:
        self.say, self._config = say, config
        self.began: Optional[float] = None

    def plan(self, plan: "TrainingPlan") -> None:
        self.began = time.monotonic()
        for remark in plan.remarks:
            self.say(f"labels: {remark}")
        if plan.first_epoch > plan.epochs:
            self.say(f"all {plan.epochs} epochs are done already; pass a larger --epochs to go on")
            return
        self.say(
            f"on {plan.device}: epochs {plan.first_epoch}-{plan.epochs} of {plan.steps} steps ({self._config.batch} of "
            f"{plan.images} images each)"
        )

    def epoch(self, result: "EpochResult") -> None:
        worst = min(
            ((value, name) for name, value in result.iou.items() if math.isfinite(value)), default=(math.nan, "-")
        )
        epochs, best = self._config.epochs, "  (best)" if result.is_best else ""
        self.say(
            f"epoch {result.epoch}/{epochs}  loss {result.loss:.4f}  mIoU {percent(result.miou)}  "
            f"worst {worst[1]} {percent(worst[0])}  {result.seconds:.0f} s{_left(result, epochs)}{best}"
        )


def _step_line(text: str) -> None:
    """A line on standard error that the next one is written over."""
    print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _left(result: "EpochResult", epochs: int) -> str:
    """How long the rest will take if every epoch takes as long as this one."""
    seconds = result.seconds * (epochs - result.epoch)
    if not seconds:
        return ""
    return f", {seconds / 60:.0f} min left" if seconds >= 90 else f", {seconds:.0f} s left"
