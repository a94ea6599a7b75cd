"""What ``edgeseg train`` can be told."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Tuple

from edgeseg.app.data import absolute_augmentation, absolute_data
from edgeseg.app.data_config import AUGMENT_HELP, CLASSES_HELP, FOLD_HELP, SPLIT_HELP
from edgeseg.app.fields import Config, option

__all__ = ["TrainConfig"]

_OPTIMIZATION = "Optimization"


def _absolute_if_there(text: str) -> str:
    """Return the absolute path of a file that exists; any other text (``imagenet``, ``road,car,sky``) as it is."""
    return os.path.abspath(text) if os.path.exists(text) else text


@dataclass(frozen=True)
class TrainConfig(Config):
    """A training of a network on folders of images and masks."""

    data: Tuple[str, ...] = option(
        help="Labelled data: folders, LAYOUT://PATH?... (docs: Layouts of data), demo://street?frames=400. Or a "
        "configuration (.toml, .json).",
        is_argument=True,
        is_path=True,
        absolute=absolute_data,
    )
    validation: Optional[str] = option(
        None,
        help="Labelled data on which mIoU is measured after every epoch; or see `split`.",
        flag="--val",
        is_path=True,
        absolute=absolute_data,
    )
    classes: Optional[str] = option(
        None,
        help=CLASSES_HELP,
        is_path=True,
        absolute=_absolute_if_there,
    )
    out: Path = option(
        Path("runs/train"), help="Folder for best/last/resume.safetensors and metrics.csv.", is_path=True
    )
    network: str = option("edge_unet", help="edge_unet (ours) or unet (segmentation-models-pytorch).")
    encoder: str = option("efficientnet_lite0", help="edge_unet: efficientnet_lite0, mobilenet_v2. unet: any of smp's.")
    weights: str = option(
        "imagenet",
        help="imagenet, none, or a checkpoint of this network to start from.",
        is_path=True,
        absolute=_absolute_if_there,
    )
    size: str = option("480x360", help="Network input, WIDTHxHEIGHT.")
    ignore: Optional[int] = option(None, help="Mask value that is no class (camvid: 11, else 255).")
    split: Optional[str] = option(None, help=SPLIT_HELP)
    fold: Optional[str] = option(None, help=FOLD_HELP)
    epochs: int = option(40, help="Passes over the training images.", at_least=1)
    batch: int = option(8, help="Images per step.", at_least=2)
    crop: Optional[int] = option(
        None,
        help="Side of the training crops, a multiple of 32; else 288, or what a smaller SIZE fills.",
        at_least=32,
    )
    growth: str = option(
        "",
        help="Crops that grow, SIZE:SHARE of the epochs, as in 192:300,288:120,480x352:20; in place of `crop`.",
        panel=_OPTIMIZATION,
    )
    augment: str = option(
        "basic",
        help=AUGMENT_HELP,
        is_path=True,
        absolute=absolute_augmentation,
    )
    loss: str = option(
        "ce",
        help="A sum such as ce+0.5*dice(smooth=1) of ce, dice, focal, jaccard, lovasz, tversky.",
        panel=_OPTIMIZATION,
    )
    class_weights: str = option(
        "annealed",
        help="Of ce, by rarity: annealed or constant; none; or a number per class, as in 1,2.5,1.",
        panel=_OPTIMIZATION,
    )
    optimizer: str = option("adamw", help="adamw or sgd.", panel=_OPTIMIZATION)
    learning_rate: float = option(
        2e-3, help="Of the decoder, at its highest.", flag="--lr", at_least=0.0, panel=_OPTIMIZATION
    )
    encoder_rate: float = option(
        0.25,
        help="The encoder's share of the learning rate; 0 freezes its weights.",
        at_least=0.0,
        panel=_OPTIMIZATION,
    )
    weight_decay: float = option(1e-2, help="Of the optimizer.", at_least=0.0, panel=_OPTIMIZATION)
    schedule: str = option(
        "poly", help="Of the learning rate: poly, cosine, one-cycle, step or constant.", panel=_OPTIMIZATION
    )
    warm_up: float = option(
        0.0, help="Epochs in which the learning rate rises from 0.", at_least=0.0, panel=_OPTIMIZATION
    )
    clip: float = option(0.0, help="Largest norm of a gradient; 0 is any.", at_least=0.0, panel=_OPTIMIZATION)
    accumulate: int = option(1, help="Batches per step.", at_least=1, panel=_OPTIMIZATION)
    average_decay: float = option(
        0.99,
        help="Share of the averaged weights that a step keeps; 0 averages nothing.",
        at_least=0.0,
        at_most=0.99999,
        panel=_OPTIMIZATION,
    )
    precision: str = option(
        "auto",
        help="auto, 32, bf16 or fp16 (mixed with float32); auto is bf16 or fp16 on a GPU and 32 on a CPU.",
        panel=_OPTIMIZATION,
    )
    patience: int = option(
        0, help="End after so many epochs without a better mIoU; 0 is never.", at_least=0, panel=_OPTIMIZATION
    )
    compiled: bool = option(
        False, help="Compile the network with torch.compile.", flag="--compile", panel=_OPTIMIZATION
    )
    workers: int = option(2, help="Data-loader processes.", at_least=0)
    seed: int = option(0, help="Of weights, shuffling and augmentation.", at_least=0)
    resume: bool = option(False, help="Go on from OUT/resume.safetensors.")
    find_rate: int = option(
        0,
        help="Look for a learning rate in so many steps (100 is usual), say it and end; nothing is written.",
        flag="--find-lr",
        at_least=0,
        panel=_OPTIMIZATION,
    )
