"""Keep what a training brought in its folder: tables, pictures, a page, and TensorBoard's events where it is there."""

from __future__ import annotations

import csv
import importlib.util
import io
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np

from edgeseg.builder.charts import SampleView, results_picture, samples_picture
from edgeseg.builder.recipe import EpochResult
from edgeseg.builder.summary import summary_html
from edgeseg.files import atomic_write
from edgeseg.images import encoded_png
from edgeseg.spec import ModelSpec

__all__ = ["RUN_FILES", "RunFolder"]

_METRICS, _CONFUSION, _RESULTS, _SAMPLES, _SUMMARY = (
    "metrics.csv",
    "confusion.csv",
    "results.png",
    "samples.png",
    "summary.html",
)
_DECISIONS = ("rightly not found", "wrongly found", "missed", "rightly found")
RUN_FILES = (_METRICS, _CONFUSION, _RESULTS, _SAMPLES, _SUMMARY)
"""Names of the files that ``RunFolder`` writes."""


class RunFolder:
    """The tables, pictures and the page of a run, which follow from each other: a resumed run has them whole.

    Args:
        path: of the folder.
        facts: what checkpoints say of the run, and its network.
        spec: classes and palette.
    """

    def __init__(self, path: Path, facts: Mapping[str, Any], spec: ModelSpec) -> None:
        self.path, self._facts, self._spec = path, facts, spec
        self._board: Any = None

    def keep(
        self, result: EpochResult, best: tuple[int, float], counts: np.ndarray, samples: Sequence[SampleView]
    ) -> None:
        """Write what an epoch brought.

        Args:
            result: of the epoch.
            best: number and mIoU of the best epoch so far, which may be this one.
            counts: its confusion matrix CxC, or Kx2x2 of ``MultilabelCounts``; kept of the best epoch.
            samples: validation images with what was found; kept of the best epoch.

        Raises:
            OSError: the disk refused.
        """
        rows = self._log(result)
        if result.is_best:
            self._write_confusion(counts)
            self._write_picture(_SAMPLES, samples_picture(samples, self._spec))
        counts = self._confusion()
        best_row = next((row for row in rows if int(row["epoch"]) == best[0]), rows[-1])
        iou = [float(best_row[f"iou {name}"]) for name in self._spec.measured]
        self._write_picture(_RESULTS, results_picture(_curves(rows), iou, counts, self._spec.measured))
        pictures = {"Results": _RESULTS, "Samples: image, label, found": _SAMPLES}
        page = summary_html(
            {**self._facts, "epochs_trained": best[0], "val_miou": best[1]},
            rows,
            counts,
            dict(zip(self._spec.classes, self._spec.palette)),
            {title: (self.path / name).read_bytes() for title, name in pictures.items()},
        )
        atomic_write(self.path / _SUMMARY, page.encode())
        self._show_on_board(result)

    def close(self) -> None:
        """Close TensorBoard's events."""
        if self._board is not None:
            self._board.close()

    def _log(self, result: EpochResult) -> list[dict[str, str]]:
        """Write an epoch's row and remove rows of this or later epochs, left by an interruption; return all rows."""
        path = self.path / _METRICS
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
        rows = [*(old for old in earlier if int(old["epoch"]) < result.epoch), row]
        _write_table(path, list(row), [[one[name] for name in row] for one in rows])
        return rows

    def _write_confusion(self, counts: np.ndarray) -> None:
        head = ["label / found", *self._spec.classes] if counts.ndim == 2 else ["label", *_DECISIONS]
        body = [[name, *map(str, row.ravel())] for name, row in zip(self._spec.measured, counts)]
        _write_table(self.path / _CONFUSION, head, body)

    def _confusion(self) -> np.ndarray:
        path = self.path / _CONFUSION
        names = self._spec.measured
        shape = (len(names), 2, 2) if self._spec.mode == "multilabel" else (len(names), len(names))
        if not path.exists():
            return np.zeros(shape, np.int64)
        lines = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
        return np.array([[int(value) for value in line[1:]] for line in lines[1:]], np.int64).reshape(shape)

    def _write_picture(self, name: str, picture: np.ndarray) -> None:
        atomic_write(self.path / name, encoded_png(picture, self.path / name))

    def _show_on_board(self, result: EpochResult) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            return
        if self._board is None:
            from torch.utils.tensorboard import SummaryWriter

            # Events of this and later epochs are those of an interruption.
            self._board = SummaryWriter(self.path / "tensorboard", purge_step=result.epoch)
        values = {
            "train/loss": result.loss,
            "train/learning_rate": result.learning_rate,
            "val/miou": result.miou,
            "val/dice": result.dice,
            "val/pixel_accuracy": result.pixel_accuracy,
            **{f"val_iou/{name}": value for name, value in result.iou.items()},
        }
        for name, value in values.items():
            self._board.add_scalar(name, value, result.epoch)
        if result.is_best:
            from edgeseg.images import read_image

            picture = read_image(self.path / _SAMPLES)[..., ::-1]
            self._board.add_image("samples", picture, result.epoch, dataformats="HWC")
        self._board.flush()


def _curves(rows: Sequence[Mapping[str, str]]) -> dict[str, dict[str, list[float]]]:
    """Return title of a panel -> name of a curve -> values."""
    panels = {
        "Training loss": {"loss": "train_loss"},
        "Validation": {"mIoU": "val_miou", "Dice": "val_dice", "pixel accuracy": "val_pixel_accuracy"},
        "Learning rate": {"learning rate": "learning_rate"},
    }
    return {
        title: {name: [float(row[column]) for row in rows] for name, column in lines.items()}
        for title, lines in panels.items()
    }


def _write_table(path: Path, head: Sequence[str], body: Sequence[Sequence[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *body])
    atomic_write(path, text.getvalue().encode())
