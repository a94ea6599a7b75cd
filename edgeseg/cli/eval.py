"""``edgeseg eval``: mIoU of a bundle, or of a folder of masks, against labels."""

import math

from edgeseg.app.bench_config import EvalConfig
from edgeseg.app.evaluate import Evaluation, evaluate
from edgeseg.cli.console import JsonFlag, percent, print_json, say, say_aside, table
from edgeseg.cli.opening import tensorrt_factory
from edgeseg.cli.options import command
from edgeseg.cli.progress import told_progress
from edgeseg.images import ignored_ids


def _eval(config: EvalConfig, as_json: JsonFlag = False) -> None:
    """Measure IoU per class, mIoU and pixel accuracy.

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
    iou, confusion = found.iou, found.confusion
    table(found.what, ["class", "IoU %"], [[label, percent(value)] for label, value in iou.items()])
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
    say(
        f"mIoU {percent(confusion.miou())}, pixel accuracy {percent(confusion.pixel_accuracy())}, {found.images} images"
    )
