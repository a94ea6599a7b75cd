"""``edgeseg eval``: mIoU of a bundle, or of a folder of masks, against labels."""

import math
from typing import Sequence

from edgeseg.app.bench_config import EvalConfig
from edgeseg.app.evaluate import Evaluation, evaluate
from edgeseg.cli.console import JsonFlag, percent, print_json, say, say_aside, table
from edgeseg.cli.opening import tensorrt_factory
from edgeseg.cli.options import command
from edgeseg.cli.progress import told_progress
from edgeseg.images import ignored_ids
from edgeseg.objects import ObjectRow


def _eval(config: EvalConfig, as_json: JsonFlag = False) -> None:
    """Measure IoU, Dice and pixel accuracy, and which objects were found.

    Example: edgeseg eval street.edgeseg --data camvid/val
    """
    with told_progress(say_aside if as_json else say) as progress:
        found = evaluate(config, progress, factory_from=tensorrt_factory)
    if as_json:
        print_json(found.to_json())
    else:
        _print(found)


eval_ = command(EvalConfig, _eval)


def _print(found: Evaluation) -> None:
    iou, dice, confusion = found.iou, found.dice, found.confusion
    rows = [[label, percent(value), percent(dice[label])] for label, value in iou.items()]
    table(found.what, ["class", "IoU %", "Dice %"], rows)
    missing = [label for label, value in iou.items() if not math.isfinite(value)]
    if missing:
        say(f"neither labelled nor predicted, not in the mean: {', '.join(missing)}")
    stray = [name for name, labelled in zip(iou, confusion.counts.sum(1)) if iou[name] == 0 and not labelled]
    if stray:
        labelled_only = sum(value for value in iou.values() if math.isfinite(value))
        labelled_only /= len(iou) - len(missing) - len(stray)
        say(
            f"predicted but nowhere labelled, in the mean as 0: {', '.join(stray)}; over the labelled classes alone, "
            f"which compile counts, mIoU is {percent(labelled_only)}"
        )
    if found.ignored:
        say(f"ignored (label {ignored_ids(found.spec)}): {percent(found.ignored)} % of the pixels")
    if found.objects is not None:
        _print_objects(found.objects.rows(found.spec.classes))
    say(
        f"mIoU {percent(confusion.miou())}, mean Dice {percent(confusion.mean_dice())}, "
        f"pixel accuracy {percent(confusion.pixel_accuracy())}, {found.images} images"
    )


def _print_objects(rows: Sequence[ObjectRow]) -> None:
    columns = ["class", "area", "labelled", "found", "recall %", "covered %", "predicted", "in vain"]
    shown = [
        [
            one.name, one.size, str(one.labelled), str(one.found), percent(one.recall), percent(one.covered),
            str(one.predicted), str(one.in_vain),
        ]
        for one in rows
    ]  # fmt: skip
    table("objects: connected pixels of a class; found is touched by a prediction of the class", columns, shown)
