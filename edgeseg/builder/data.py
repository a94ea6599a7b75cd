"""Training data: augmented crops of labelled images, normalised by the one definition in ``edgeseg.preprocess``."""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset
from torch.utils.data import Dataset as TorchDataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from edgeseg.images import Dataset
from edgeseg.preprocess import normalized, resized_frame
from edgeseg.spec import IGNORE_ID, ModelSpec

__all__ = ["TrainingCrops", "ValidationImages", "class_pixels", "class_weights", "training_set"]

_SCALES = (0.75, 1.75)


class TrainingCrops(TorchDataset[Any]):
    """Random crops: scale 0.75-1.75, flip, colour jitter; void where the crop leaves the image.

    Args:
        source: labelled samples.
        spec: network size (to which an image is stretched before scaling), preprocessing and ignored ids.
        crop: height and width of the square crop in pixels.
    """

    def __init__(self, source: Dataset, spec: ModelSpec, crop: int) -> None:
        self._source, self._spec = source, spec
        void = {tv_tensors.Image: 0, tv_tensors.Mask: IGNORE_ID}
        self._augment = v2.Compose(
            [
                v2.RandomCrop(crop, pad_if_needed=True, fill=void),
                v2.RandomHorizontalFlip(),
                v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.02),
            ]
        )

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Float image 3xCxC and int64 label CxC with ``IGNORE_ID`` as void."""
        _, frame, label = self._source[index]
        assert label is not None
        rgb = torch.from_numpy(np.ascontiguousarray(frame[..., ::-1])).permute(2, 0, 1)
        mask = torch.from_numpy(_void_as_ignore(label, self._spec))
        image, mask = self._augment(*_scaled(rgb, mask, self._spec.size_hw))
        bgr = image.permute(1, 2, 0).numpy()[None, ..., ::-1]
        return torch.from_numpy(normalized(bgr, self._spec.preprocess)[0]), mask.long()


class ValidationImages(TorchDataset[Any]):
    """Whole images at network size with their labels at the labels' own size."""

    def __init__(self, source: Dataset, spec: ModelSpec) -> None:
        self._source, self._spec = source, spec

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Float image 3xHxW and uint8 label of the source's size."""
        _, frame, label = self._source[index]
        assert label is not None
        network_input = resized_frame(frame, self._spec.size_hw)[None]
        return torch.from_numpy(normalized(network_input, self._spec.preprocess)[0]), torch.from_numpy(label)


def training_set(sources: Sequence[Dataset], spec: ModelSpec, crop: int) -> ConcatDataset[Any]:
    """All sources one after the other; the loader shuffles."""
    return ConcatDataset([TrainingCrops(source, spec, crop) for source in sources])


def class_pixels(sources: Sequence[Dataset], spec: ModelSpec, most_images: int = 200) -> np.ndarray:
    """Pixels per class: int64 of length C, over at most ``most_images`` of each source, evenly spread."""
    counts = np.zeros(len(spec.classes), np.int64)
    for source in sources:
        for index in np.unique(np.linspace(0, len(source) - 1, min(len(source), most_images)).astype(int)):
            label = source[int(index)].label
            assert label is not None
            counts += np.bincount(label.ravel(), minlength=256)[: len(counts)]
    return counts


def class_weights(pixels: np.ndarray) -> Tensor:
    """Weights 1 / ln(1.02 + share of the class's pixels), as in ENet (Paszke et al. 2016), of mean 1: float32."""
    weights = 1 / np.log(1.02 + pixels / max(1, pixels.sum()))
    return torch.from_numpy((weights / weights.mean()).astype(np.float32))


def _scaled(image: Tensor, mask: Tensor, size_hw: tuple[int, int]) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    """Stretch to network size times a random scale. torchvision's own mask resize is off by up to half a pixel."""
    scale = float(torch.empty(1).uniform_(*_SCALES))
    size = [round(scale * side) for side in size_hw]
    resized = v2.functional.resize(image, size, antialias=True)
    labels = v2.functional.resize(mask[None], size, interpolation=v2.InterpolationMode.NEAREST_EXACT)
    return tv_tensors.Image(resized), tv_tensors.Mask(labels[0])


def _void_as_ignore(label: np.ndarray, spec: ModelSpec) -> np.ndarray:
    return np.where(label == spec.ignore_id, np.uint8(IGNORE_ID), label)
