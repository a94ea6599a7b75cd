"""Make training data: augmented crops of labelled images, normalised by the one definition in ``edgeseg.preprocess``.

Order and augmentation follow from (seed, epoch, image) alone, so that a resumed run is the run that was interrupted.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import Any, Iterator, Protocol, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import ConcatDataset, Sampler
from torch.utils.data import Dataset as TorchDataset

from edgeseg.builder.augmentation import PRESETS, Augmentation
from edgeseg.builder.crops import CropMaker, mixed
from edgeseg.builder.distillation.options import FEATURE_STRIDE
from edgeseg.images import Dataset
from edgeseg.label_planes import planes_from_ids
from edgeseg.preprocess import normalized
from edgeseg.spec import IGNORE_ID, ModelSpec

__all__ = [
    "EpochOrder",
    "Maps",
    "SeededCrops",
    "TrainingCrops",
    "ValidationImages",
    "at_places",
    "class_weights",
    "epoch_seed",
]


class Maps(Protocol):
    """What teachers say of the images of a data set."""

    def __getitem__(self, index: int) -> np.ndarray:
        """Return log-probabilities or features of an image, Kxhxw float16."""


class TrainingCrops(TorchDataset[Any]):
    """Random crops: scaled, flipped, changed in colour as ``augment`` says; void where the crop leaves the image.

    An item is a float32 image 3xCxC and an int64 label CxC with ``IGNORE_ID`` as void; of a multi-label spec KxCxC
    planes of 0, 1 and ``IGNORE_ID``.

    Args:
        source: labelled samples.
        spec: network size (to which an image is stretched before scaling), preprocessing and ignored ids.
        crop: side C of the square crop in pixels, or its height and width.
        augment: the steps.
    """

    def __init__(
        self,
        source: Dataset,
        spec: ModelSpec,
        crop: int | tuple[int, int],
        augment: Augmentation = PRESETS["basic"],
    ) -> None:
        self._source, self._spec = source, spec
        self._make = CropMaker(augment, spec.size_hw, crop)
        self._maps: Maps | None = None
        self._features: Maps | None = None

    def learn_from(self, maps: Maps, features: Maps | None = None) -> None:
        """Let an item have what teachers say of it, too.

        Args:
            maps: log-probabilities of each whole image, Kxhxw float16 of any height and width.
            features: of the teachers' encoders for each whole image, Fxhxw float16.
        """
        self._maps, self._features = maps, features

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        """Return a float32 image 3xCxC, an int64 label CxC with ``IGNORE_ID`` as void, and a teacher's KxCxC float16.

        The last is there after ``learn_from``. Where that was given features, they follow, of stride 16: Fxcxc float16.
        Image and label are the same with and without them.
        """
        _, frame, label = self._source[index]
        assert label is not None
        rgb = torch.from_numpy(np.ascontiguousarray(frame[..., ::-1])).permute(2, 0, 1)
        labels = torch.from_numpy(_prepared(label, self._spec))
        more: tuple[Tensor, ...] = ()
        if self._maps is None:
            image, mask = self._make(rgb, labels)
        else:
            image, mask, places = self._make.with_places(rgb, labels)
            more = (at_places(self._maps[index], places, self._spec.size_hw),)
            if self._features is not None:
                # Not a mean: pixels beyond the image have no place.
                coarse = places[:, FEATURE_STRIDE // 2 :: FEATURE_STRIDE, FEATURE_STRIDE // 2 :: FEATURE_STRIDE]
                more += (at_places(self._features[index], coarse, self._spec.size_hw),)
        bgr = image.permute(1, 2, 0).numpy()[None, ..., ::-1]
        return torch.from_numpy(normalized(bgr, self._spec.preprocess)[0]), mask.long(), *more


class ValidationImages(TorchDataset[Any]):
    """Whole images at network size with their labels at the labels' own size."""

    def __init__(self, source: Dataset, spec: ModelSpec) -> None:
        self._source, self._spec = source, spec

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return a float32 image 3xHxW and the uint8 label at the source's size, HxW or KxHxW planes."""
        _, frame, label = self._source[index]
        assert label is not None
        network_input = self._spec.resized(frame)[None]
        return torch.from_numpy(normalized(network_input, self._spec.preprocess)[0]), torch.from_numpy(
            _of_mode(label, self._spec)
        )


class SeededCrops(TorchDataset[Any]):
    """Crops of all sources one after the other, each augmented as (seed, epoch, index) says.

    Args:
        sources: labelled data sets.
        spec: network size, preprocessing and ignored ids, as in ``TrainingCrops``.
        crop: side of the square crop in pixels, or its height and width.
        seed: the run's seed.
        augment: the steps that make a crop, and the mixes of two crops.
    """

    def __init__(
        self,
        sources: Sequence[Dataset],
        spec: ModelSpec,
        crop: int | tuple[int, int],
        seed: int,
        augment: Augmentation = PRESETS["basic"],
    ) -> None:
        parts = [TrainingCrops(source, spec, crop, augment) for source in sources]
        self._parts = parts
        self._crops: ConcatDataset[Any] = ConcatDataset(parts)
        self._seed, self._augment = seed, augment

    def learn_from(self, maps: Sequence[Maps], features: Sequence[Maps] = ()) -> None:
        """Let samples have what teachers say, as of ``TrainingCrops``; one sequence of maps per source."""
        for part, of_source, seen in zip_longest(self._parts, maps, features):
            part.learn_from(of_source, seen)

    def __len__(self) -> int:
        return len(self._crops)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, ...]:
        """Return the sample of a key that ``EpochOrder`` yields."""
        epoch, index = key
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(epoch_seed(self._seed, epoch, index))
            return mixed(self._crops[index], self._other, self._augment)

    def _other(self) -> tuple[Tensor, ...]:
        """Return a crop of any image, for a mix."""
        found: tuple[Tensor, ...] = self._crops[int(torch.randint(len(self._crops), (1,)))]
        return found


class EpochOrder(Sampler[Any]):
    """Keys (epoch, index) in a new random order every epoch.

    Args:
        count: number of images.
        seed: the run's seed.
        epoch: the first epoch, from 0; persistent workers ask for their keys before ``set_epoch`` is called.
    """

    def __init__(self, count: int, seed: int, epoch: int = 0) -> None:
        self._count, self._seed, self._epoch = count, seed, epoch

    def set_epoch(self, epoch: int) -> None:
        """Take the number of the next epoch from Lightning."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = torch.Generator().manual_seed(epoch_seed(self._seed, self._epoch))
        return iter([(self._epoch, int(index)) for index in torch.randperm(self._count, generator=order)])


def epoch_seed(*numbers: int) -> int:
    """Derive a 32-bit seed from all of the numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def at_places(values: np.ndarray, places: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Return the values of a map at places, bilinear; beyond its edge those of the edge.

    Args:
        values: Kxhxw of any float type, of a whole image.
        places: row and column in the image of network size, 2xCxC float32, from 0 at the centre of the first pixel.
        size_hw: network size.

    Returns:
        KxCxC float16.
    """
    height, width = size_hw
    # From -1 at the first edge of the image to 1 at its last.
    grid = torch.stack(((places[1] + 0.5) * (2 / width) - 1, (places[0] + 0.5) * (2 / height) - 1), -1)
    whole = torch.from_numpy(np.asarray(values, np.float32))[None]
    return F.grid_sample(whole, grid[None], padding_mode="border", align_corners=False)[0].half()


def class_weights(pixels: np.ndarray) -> Tensor:
    """Compute the loss weights of the classes: 1 / ln(1.02 + share of the class's pixels), scaled to mean 1.

    The rule is that of ENet (Paszke et al. 2016).

    Args:
        pixels: pixels per class, of length C.

    Returns:
        (C,) float32.
    """
    weights = 1 / np.log(1.02 + pixels / max(1, pixels.sum()))
    return torch.from_numpy((weights / weights.mean()).astype(np.float32))


def _of_mode(label: np.ndarray, spec: ModelSpec) -> np.ndarray:
    return planes_from_ids(label, spec) if spec.mode == "multilabel" and label.ndim == 2 else label


def _prepared(label: np.ndarray, spec: ModelSpec) -> np.ndarray:
    label = _of_mode(label, spec)
    return label if label.ndim == 3 else np.where(label == spec.ignore_id, np.uint8(IGNORE_ID), label)
