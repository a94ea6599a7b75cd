"""Keep what an epoch brought in the folder of the run."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from edgeseg.builder.recipe import EpochResult
from edgeseg.files import atomic_write

__all__ = ["log_epoch"]


def log_epoch(path: Path, result: EpochResult) -> None:
    """Write an epoch's row and remove rows of this or later epochs, left by an interruption.

    Args:
        path: of the table, CSV.
        result: of the epoch.
    """
    row = {
        "epoch": str(result.epoch),
        "seconds": f"{result.seconds:.1f}",
        "train_loss": f"{result.loss:.4f}",
        "val_miou": f"{result.miou:.5f}",
        "val_pixel_accuracy": f"{result.pixel_accuracy:.5f}",
        "val_dice": f"{result.dice:.5f}",
        "learning_rate": f"{result.learning_rate:.3e}",
        **{f"iou {name}": f"{value:.5f}" for name, value in result.iou.items()},
    }
    earlier = csv.DictReader(path.read_text(encoding="utf-8").splitlines()) if path.exists() else []
    text = io.StringIO()
    writer = csv.DictWriter(text, row, lineterminator="\n")
    writer.writeheader()
    writer.writerows([*(old for old in earlier if int(old["epoch"]) < result.epoch), row])
    atomic_write(path, text.getvalue().encode())
