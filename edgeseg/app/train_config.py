"""What ``edgeseg train`` can be told."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Tuple

from edgeseg.app.data import absolute_augmentation, absolute_data
from edgeseg.app.data_config import AUGMENT_HELP, CLASSES_HELP, FOLD_HELP, MODE_HELP, SPLIT_HELP
from edgeseg.app.fields import Config, option
from edgeseg.spec import MODES

__all__ = ["TrainConfig"]

_NETWORK = "Network"
_OPTIMIZATION = "Optimization"
_INT8 = "INT8"
_TEACHERS = "Teachers"
_TRIALS = "Trials"


def _absolute_if_there(text: str) -> str:
    """Return the absolute path of a file that exists; any other text (``imagenet``, ``road,car,sky``) as it is."""
    return os.path.abspath(text) if os.path.exists(text) else text


def _absolute_each(text: str) -> str:
    """Return paths that are joined by commas, each absolute."""
    return ",".join(os.path.abspath(one.strip()) for one in text.split(","))


@dataclass(frozen=True)
class TrainConfig(Config):
    """A training of a network on folders of images and masks."""

    data: Tuple[str, ...] = option(
        help="Labelled data: folders, LAYOUT://PATH?... (docs: Layouts of data), demo://street?frames=400. Or a "
        "configuration (.toml, .json), and other data than its own behind it.",
        is_argument=True,
        is_path=True,
        absolute=absolute_data,
    )
    validation: Optional[str] = option(
        None,
        help="Labelled data on which mIoU is measured after every epoch (see `validate_every`); or see `split`.",
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
    mode: str = option(MODES[0], help=MODE_HELP, choices=MODES)
    threshold: float = option(
        0.5, help="Of mode binary and multilabel: probability above which a pixel is of a class.", panel=_NETWORK
    )
    out: Path = option(
        Path("runs/train"), help="Folder for best/last/resume.safetensors and metrics.csv.", is_path=True
    )
    network: str = option(
        "edge_unet",
        help="edge_unet (ours), or of segmentation-models-pytorch: unet, unet++, manet, linknet, fpn, pspnet, "
        "deeplabv3, deeplabv3+, pan, upernet, segformer, dpt.",
    )
    encoder: str = option(
        "efficientnet_lite0",
        help="edge_unet: efficientnet_lite0 (1, 2), mobilenet_v2. Others: any of smp's, and timm's as tu-NAME.",
    )
    weights: str = option(
        "imagenet",
        help="imagenet or another set of the encoder, none, a package that ships them, or a file to start from.",
        is_path=True,
        absolute=_absolute_if_there,
    )
    keep: str = option(
        "all",
        help="What to take of a file of weights: all, body (all but the head, for other classes) or encoder.",
        choices=("all", "body", "encoder"),
        panel=_NETWORK,
    )
    in_channels: int = option(3, help="1 lets the network see the brightness alone.", at_least=1, panel=_NETWORK)
    decoder_channels: str = option(
        "",
        help="Of the decoder's stages, deepest first, as in 256,128,64,32,16; else the network's own.",
        panel=_NETWORK,
    )
    depth: Optional[int] = option(
        None, help="Stages of the encoder; else the network's own.", at_least=1, panel=_NETWORK
    )
    network_options: Tuple[str, ...] = option(
        (),
        help="NAME=VALUE of the network, as in decoder_attention_type=scse (unet) or context=true (edge_unet); may be "
        "given several times.",
        flag="--network-option",
        panel=_NETWORK,
    )
    freeze_encoder: bool = option(False, help="Keep the encoder's weights and BatchNorm statistics.", panel=_NETWORK)
    size: str = option("480x360", help="Network input, WIDTHxHEIGHT.")
    ignore: Optional[int] = option(None, help="Mask value that is no class (camvid: 11, else 255).")
    split: Optional[str] = option(None, help=SPLIT_HELP)
    fold: Optional[str] = option(None, help=FOLD_HELP)
    epochs: int = option(40, help="Passes over the training images.", at_least=1)
    batch: int = option(8, help="Images per step, of all processes together (docs: Train on several GPUs).", at_least=2)
    devices: int = option(
        1,
        help="Processes on this machine that train together, one per GPU; on several machines: torchrun (docs: Train "
        "on several GPUs).",
        at_least=1,
    )
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
    snapshots: int = option(
        0,
        help="Save the mean of the averaged weights of the last so many epochs; 0 saves the latest average.",
        at_least=0,
        at_most=100,
        panel=_OPTIMIZATION,
    )
    precision: str = option(
        "auto",
        help="auto, 32, bf16 or fp16 (mixed with float32); auto is bf16 or fp16 on a GPU and 32 on a CPU.",
        panel=_OPTIMIZATION,
    )
    validate_every: int = option(
        1,
        help="Epochs from one validation to the next; the first and the last are validated too.",
        flag="--val-every",
        at_least=1,
        panel=_OPTIMIZATION,
    )
    patience: int = option(
        0, help="End after so many epochs without a better mIoU; 0 is never.", at_least=0, panel=_OPTIMIZATION
    )
    compiled: bool = option(
        False, help="Compile the network with torch.compile.", flag="--compile", panel=_OPTIMIZATION
    )
    qat: bool = option(
        False,
        help="Fine-tune the checkpoint that `weights` names under INT8 arithmetic (docs: Set a training).",
        panel=_INT8,
    )
    per_tensor: bool = option(
        False, help="With `qat`: one weight scale per layer, not one per output channel.", panel=_INT8
    )
    workers: int = option(2, help="Data-loader processes.", at_least=0)
    seed: int = option(0, help="Of weights, shuffling and augmentation.", at_least=0)
    resume: bool = option(False, help="Go on from OUT/resume.safetensors.")
    teacher: Optional[str] = option(
        None,
        help="Learn from trained networks too: checkpoints of edgeseg or segmentation-models-pytorch, with commas.",
        is_path=True,
        absolute=_absolute_each,
        panel=_TEACHERS,
    )
    distill: str = option(
        "",
        help="How: NAME=VALUE,... of kl (0.5), temperature (2), channel (0), channel_temperature (4), labels (1), "
        "scales (0.8:1:1.33), flip (1), stride (4), feature (0).",
        panel=_TEACHERS,
    )
    teacher_spec: Optional[Path] = option(
        None,
        help="Spec of teachers that carry none (JSON, as 'edgeseg inspect --json' prints it).",
        is_path=True,
        panel=_TEACHERS,
    )
    teacher_maps: Optional[Path] = option(
        None,
        help="Folder for what teachers say of the images, to be used by several trainings; else OUT/teacher-maps.",
        is_path=True,
        panel=_TEACHERS,
    )
    find_rate: int = option(
        0,
        help="Look for a learning rate in so many steps (100 is usual), say it and end; nothing is written.",
        flag="--find-lr",
        at_least=0,
        panel=_OPTIMIZATION,
    )
    trials: int = option(
        0,
        help="Train so many times with settings that Optuna chooses, each in a folder of its own in OUT, and tell the "
        "best.",
        at_least=0,
        panel=_TRIALS,
    )
    search: Tuple[str, ...] = option(
        (),
        help="What `trials` choose: FIELD=LOW:HIGH, FIELD=LOW:HIGH:log or FIELD=ONE|OTHER, as in "
        "learning_rate=1e-4:1e-2:log; may be given several times.",
        panel=_TRIALS,
    )
