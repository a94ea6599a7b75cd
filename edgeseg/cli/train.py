"""``edgeseg train``: images and masks -> checkpoint."""

import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, List, Optional

import typer
from typing_extensions import Annotated

from edgeseg.app.data import dataset_from, spec_from
from edgeseg.cli.console import JsonFlag, percent, print_json, say
from edgeseg.errors import UsageError, require
from edgeseg.files import file_sha256

if TYPE_CHECKING:
    from edgeseg.builder.training import EpochResult, TrainingPlan

_CROP = 288


def train(
    data: Annotated[
        List[str],
        typer.Argument(help="Folders of images with masks beside them (NAMEannot), or demo://street?frames=400."),
    ],
    val: Annotated[str, typer.Option(help="Folder on which mIoU is measured after every epoch.")],
    classes: Annotated[str, typer.Option(help="'camvid', names as in road,car,sky, or a file of lines NAME [R G B].")],
    out: Annotated[Path, typer.Option(help="Folder for best/last/resume.safetensors and metrics.csv.")] = Path(
        "runs/train"
    ),
    network: Annotated[str, typer.Option(help="edge_unet (ours) or unet (segmentation-models-pytorch).")] = "edge_unet",
    encoder: Annotated[str, typer.Option(help="edge_unet: efficientnet_lite0, mobilenet_v2. unet: any of smp's.")] = (
        "efficientnet_lite0"
    ),
    weights: Annotated[
        str, typer.Option(help="imagenet, none, or a checkpoint of this network to start from.")
    ] = "imagenet",
    size: Annotated[str, typer.Option(help="Network input, WIDTHxHEIGHT.")] = "480x360",
    ignore: Annotated[Optional[int], typer.Option(help="Mask value that is no class (camvid: 11, else 255).")] = None,
    epochs: Annotated[int, typer.Option(min=1)] = 40,
    batch: Annotated[int, typer.Option(min=2)] = 8,
    crop: Annotated[
        Optional[int],
        typer.Option(
            min=32, help="Side of the training crops, a multiple of 32; else 288, or what a smaller SIZE fills."
        ),
    ] = None,
    learning_rate: Annotated[
        float, typer.Option("--lr", min=0.0, help="Of the decoder; the encoder gets a quarter.")
    ] = 2e-3,
    workers: Annotated[int, typer.Option(min=0, help="Data-loader processes.")] = 2,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from OUT/resume.safetensors.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Train a segmentation network on folders of images and masks.

    Example: edgeseg train camvid/train --val camvid/val --classes camvid --out runs/street
    """
    spec = spec_from(classes, size, ignore)
    side = crop or min(_CROP, 32 * math.ceil(min(spec.size_hw) / 32))
    if side % 32:
        raise UsageError(f"--crop must be a multiple of 32, got {crop}")
    training = [dataset_from(item, spec=spec, need_labels=True) for item in data]
    validation = dataset_from(val, spec=spec, need_labels=True)
    if (out / "resume.safetensors").exists() and not resume:
        raise UsageError(f"{out} holds an earlier run; pass --resume to go on with it or another --out")
    there = [name for name in ("best.safetensors", "last.safetensors", "metrics.csv") if (out / name).exists()]
    if there and not resume:
        raise UsageError(f"{out / there[0]} exists and would be replaced; name another --out")
    require("torch", "train")
    require("pytorch_lightning", "train")
    from edgeseg.builder.checkpoint import load_weights
    from edgeseg.builder.networks import NetworkConfig, network_from_config
    from edgeseg.builder.training import TrainRecipe
    from edgeseg.builder.training import train as fit
    from edgeseg.builder.weights import load_imagenet_encoder

    config = NetworkConfig(network, encoder, len(spec.classes))
    net = network_from_config(config)
    origin = "random weights"
    if weights == "imagenet":
        origin = load_imagenet_encoder(net, config)
    elif weights != "none":
        load_weights(net, Path(weights))
        origin = f"checkpoint {Path(weights).name}, sha256 {file_sha256(Path(weights))}"
    out.mkdir(parents=True, exist_ok=True)

    def speak(text: str) -> None:
        if not as_json:
            say(text)

    def epoch_line(result: "EpochResult") -> None:
        worst = min(
            ((value, name) for name, value in result.iou.items() if math.isfinite(value)), default=(math.nan, "-")
        )
        best = "  (best)" if result.is_best else ""
        speak(
            f"epoch {result.epoch}/{epochs}  loss {result.loss:.4f}  mIoU {percent(result.miou)}  "
            f"worst {worst[1]} {percent(worst[0])}  {result.seconds:.0f} s{_left(result, epochs)}{best}"
        )

    def plan_lines(plan: "TrainingPlan") -> None:
        for remark in plan.remarks:
            speak(f"labels: {remark}")
        if plan.first_epoch > plan.epochs:
            speak(f"all {plan.epochs} epochs are done already; pass a larger --epochs to go on")
            return
        speak(
            f"on {plan.device}: epochs {plan.first_epoch}-{plan.epochs} of {plan.steps} steps ({batch} of "
            f"{plan.images} images each)"
        )

    speak(f"network: {network} + {encoder}, {origin}")
    for source in training:
        speak(f"train on: {source.description}")
    speak(f"validate on: {validation.description}")
    speak("looking at all images and masks")
    started = time.monotonic()
    recipe = TrainRecipe(epochs, batch, side, learning_rate, workers=workers, seed=seed)
    try:
        best = fit(
            net, config, spec, training, validation, recipe, out,
            origin=origin, resume=resume, on_step=_step_line if sys.stderr.isatty() and not as_json else None,
            on_start=plan_lines, report=epoch_line,
        )  # fmt: skip
    except KeyboardInterrupt:
        speak(f"stopped; go on with the same command and --resume ({out})")
        raise
    minutes = (time.monotonic() - started) / 60
    miou = best.training["val_miou"]
    if as_json:
        print_json({"checkpoint": str(out / "best.safetensors"), "minutes": minutes, **best.training})
    epoch = best.training["epochs_trained"]
    speak(f"best mIoU {percent(miou)} (epoch {epoch}), {minutes:.1f} min: {out / 'best.safetensors'}")
    speak(
        f"next: edgeseg compile {out / 'best.safetensors'} --int8 --calib {data[0]} --eval {val} -o {out.name}.edgeseg"
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
