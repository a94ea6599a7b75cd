"""What ``edgeseg data`` can be told."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Tuple

from edgeseg.app.data import absolute_augmentation, absolute_data
from edgeseg.app.fields import Config, option
from edgeseg.spec import MODES

__all__ = [
    "CLASSES_HELP",
    "FOLD_HELP",
    "SPLIT_HELP",
    "AUGMENT_HELP",
    "MODE_HELP",
    "DataAugmentConfig",
    "DataCheckConfig",
]

_DATA = "Labelled data: a folder, a file, or LAYOUT://PATH?... (docs: Layouts of data)."
CLASSES_HELP = (
    "'camvid', names as in road,car,sky, or a file of lines NAME [R G B]; else the classes that the data names."
)
SPLIT_HELP = (
    "by=folder, prefix, time-gap[,gap=SECONDS][,fps=N] or random[,seed=N]: take validation images from the data."
)

AUGMENT_HELP = (
    "none, basic, strong, street, medical, industrial or aerial, with changes as in street,classmix=0; or "
    "albumentations:FILE."
)
MODE_HELP = (
    "multiclass: one class per pixel, softmax; binary: one object class, one sigmoid; multilabel: a sigmoid per class, "
    "and a pixel may carry several."
)
FOLD_HELP = "I/N: the I-th of N parts of the split is for validation."


@dataclass(frozen=True)
class DataCheckConfig(Config):
    """A look at labelled data before training."""

    data: Tuple[str, ...] = option(help=_DATA, is_argument=True, is_path=True, absolute=absolute_data)
    validation: Optional[str] = option(
        None, help="Data for validation.", flag="--val", is_path=True, absolute=absolute_data
    )
    classes: Optional[str] = option(None, help=CLASSES_HELP, is_path=True, absolute=os.path.abspath)
    mode: str = option(MODES[0], help=MODE_HELP, choices=MODES)
    ignore: Optional[int] = option(None, help="Mask value that is no class (camvid: 11, else 255).")
    split: Optional[str] = option(None, help=SPLIT_HELP)
    fold: Optional[str] = option(None, help=FOLD_HELP)
    sheet: Optional[Path] = option(None, help="Write a contact sheet of images and masks (PNG).", is_path=True)
    tiles: int = option(24, help="Pictures on the sheet.", at_least=1, at_most=400)


@dataclass(frozen=True)
class DataAugmentConfig(Config):
    """A look at augmented crops before training."""

    data: Tuple[str, ...] = option(help=_DATA, is_argument=True, is_path=True, absolute=absolute_data)
    classes: Optional[str] = option(None, help=CLASSES_HELP, is_path=True, absolute=os.path.abspath)
    mode: str = option(MODES[0], help=MODE_HELP, choices=MODES)
    ignore: Optional[int] = option(None, help="Mask value that is no class (camvid: 11, else 255).")
    augment: str = option("basic", help=AUGMENT_HELP, is_path=True, absolute=absolute_augmentation)
    size: str = option("480x360", help="Network input, WIDTHxHEIGHT.")
    crop: int = option(288, help="Side of the crops.", at_least=32)
    sheet: Path = option(Path("augmented.png"), help="Contact sheet to write (PNG).", is_path=True)
    tiles: int = option(24, help="Crops on the sheet.", at_least=1, at_most=400)
    seed: int = option(0, help="Of the augmentation.", at_least=0)
