"""Draw what training will see: augmented crops with their labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Iterator

from edgeseg.app.data import Head, dataset_from, spec_of_data
from edgeseg.app.data_config import DataAugmentConfig
from edgeseg.app.sheet_file import refuse_other_picture, write_sheet
from edgeseg.data.sheet import contact_sheet, evenly
from edgeseg.errors import require
from edgeseg.images import Dataset
from edgeseg.spec import ModelSpec, Preprocess

__all__ = ["draw_augmented"]

_AS_IT_IS = Preprocess((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "BGR")


def draw_augmented(config: DataAugmentConfig) -> Path:
    """Write a contact sheet of augmented crops, and return its path.

    Args:
        config: data, augmentation and sheet.

    Raises:
        UsageError: the augmentation or a size cannot be used, or the sheet's name is taken by something else.
        EdgesegError: images or masks cannot be used, torch is missing, or the sheet cannot be written.
    """
    require("torch", "train")
    require("torchvision", "train")
    spec = spec_of_data(config.classes, config.ignore, config.data[0], config.size, Head(config.mode))
    plain = replace(spec, preprocess=_AS_IT_IS)
    data = [dataset_from(one, spec=plain, need_labels=True) for one in config.data]
    refuse_other_picture(config.sheet, data)
    write_sheet(config.sheet, contact_sheet(_crops(config, plain, data), plain))
    return config.sheet


def _crops(config: DataAugmentConfig, spec: ModelSpec, data: list[Dataset]) -> Iterator[tuple[str, Any, Any]]:
    import numpy as np

    from edgeseg.builder.augmentation import augmentation_from_text
    from edgeseg.builder.data import SeededCrops

    augment = augmentation_from_text(config.augment)
    crops = SeededCrops(data, spec, config.crop, config.seed, augment)
    chosen = evenly(len(crops), config.tiles)
    for number in range(config.tiles):
        epoch, at = divmod(number, len(chosen))  # of few images, several crops each
        image, label = crops[epoch, chosen[at]]
        picture = np.round(255 * image.permute(1, 2, 0).numpy()).astype(np.uint8)
        yield f"image {chosen[at]}, crop {epoch}", picture, label.numpy().astype(np.uint8)
