"""Make the batches of a training: which crops, in which order, after a look at all labels."""

from __future__ import annotations

from typing import Any, Iterator, Sequence

from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from edgeseg.builder.augmentation import augmentation_from_text
from edgeseg.builder.data import EpochOrder, Maps, SeededCrops, ValidationImages
from edgeseg.builder.processes import count, of_first, rank, share_of
from edgeseg.builder.recipe import TrainRecipe, crop_stages
from edgeseg.errors import DatasetError
from edgeseg.images import Dataset
from edgeseg.labels import LabelCounts, label_counts, refuse_single_class
from edgeseg.spec import ModelSpec

__all__ = ["GrowingCrops", "training_batches", "usable_crops", "usable_labels", "validation_images"]


class GrowingCrops(TorchDataset[Any]):
    """Crops of a size that follows from the epoch; a sample's key is that of ``EpochOrder``.

    Args:
        sources: labelled data sets.
        spec: network size, preprocessing and ignored ids.
        recipe: says the sizes, see ``crop_stages``.

    Raises:
        UsageError: the sizes cannot be used.
    """

    def __init__(self, sources: Sequence[Dataset], spec: ModelSpec, recipe: TrainRecipe) -> None:
        self._stages = crop_stages(recipe)
        augment = augmentation_from_text(recipe.augment)
        sizes = [(one.height, one.width) for one in self._stages]
        self._crops = [SeededCrops(sources, spec, size, recipe.seed, augment) for size in sizes]
        self.largest = max(max(one.height, one.width) for one in self._stages)
        """Longest side of any crop in pixels."""

    def learn_from(self, maps: Sequence[Maps], features: Sequence[Maps] = ()) -> None:
        """Let samples have what teachers say, as of ``SeededCrops``."""
        for crops in self._crops:
            crops.learn_from(maps, features)

    def __len__(self) -> int:
        return len(self._crops[0])

    def __getitem__(self, key: tuple[int, int]) -> Any:
        """Return the sample of a key in the size of its epoch."""
        stage = next((at for at, one in enumerate(self._stages) if key[0] < one.end), len(self._stages) - 1)
        return self._crops[stage][key]


def usable_crops(sources: Sequence[Dataset], spec: ModelSpec, recipe: TrainRecipe) -> tuple[LabelCounts, GrowingCrops]:
    """Return the counts of the labels of all sources, and their crops.

    Args:
        sources: labelled data sets, mixed.
        spec: network size, preprocessing and ignored ids.
        recipe: says batch, seed and sizes of the crops.

    Raises:
        DatasetError: there are fewer images than one batch, or fewer than two classes in the masks.
        ImageError: an image or mask cannot be used.
        UsageError: the sizes cannot be used.
    """
    crops = GrowingCrops(sources, spec, recipe)
    if len(crops) < recipe.batch:
        remedy = f"pass `batch` {len(crops)}" if len(crops) > 1 else "training needs two or more"
        raise DatasetError(f"{len(crops)} training images are fewer than one batch of {recipe.batch}; {remedy}")
    return usable_labels(sources, spec, "the training masks"), crops


def usable_labels(sources: Sequence[Dataset], spec: ModelSpec, where: str) -> LabelCounts:
    """Count the labels of all sources, reading every image and mask once: of several processes, the first one does.

    Args:
        sources: labelled data sets.
        spec: classes and ignored ids.
        where: what messages call the masks.

    Raises:
        DatasetError: the masks hold fewer than two classes.
        ImageError: an image or mask cannot be used.
    """

    def counted() -> LabelCounts:
        counts = [label_counts(source, spec) for source in sources]
        total = sum(counts[1:], counts[0])
        refuse_single_class(total.classes, total.ignored, spec, where)
        return total

    return of_first(counted)


def training_batches(crops: GrowingCrops, recipe: TrainRecipe, epoch: int) -> DataLoader[Any]:
    """Return the batches of an epoch and of those after it, (Nx3xHxW float32, NxHxW int64).

    Where there are teachers, their log-probabilities are a third, NxCxHxW float16, and features that are wanted a
    fourth, NxFxhxw float16. Of several processes each gets its share of every batch, in order.

    Args:
        crops: the samples.
        recipe: its batch, seed and workers are used.
        epoch: the first epoch, from 0.
    """
    return DataLoader(
        crops,
        recipe.batch // count(),
        sampler=_Shares(EpochOrder(len(crops), recipe.seed, epoch), recipe.batch),
        num_workers=recipe.workers,
        persistent_workers=recipe.workers > 0,
    )


def validation_images(source: Dataset, spec: ModelSpec, workers: int) -> DataLoader[Any]:
    """Return the images that this process validates on, one by one: its share, see ``share_of``.

    Args:
        source: the validation set.
        spec: network size and preprocessing.
        workers: data-loader processes; one is enough here.
    """
    own = share_of(range(len(source)))
    return DataLoader(ValidationImages(source, spec), 1, sampler=own, num_workers=min(1, workers))


class _Shares(Sampler[Any]):
    """What this process has of every whole batch, in order.

    Args:
        order: of all samples.
        batch: samples of a whole batch.
    """

    def __init__(self, order: EpochOrder, batch: int) -> None:
        self._order, self._batch, self._own = order, batch, batch // count()

    def set_epoch(self, epoch: int) -> None:
        """Take the number of the next epoch from Lightning."""
        self._order.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self._order) // self._batch * self._own

    def __iter__(self) -> Iterator[tuple[int, int]]:
        keys = list(self._order)
        for start in range(0, len(keys) - self._batch + 1, self._batch):
            yield from keys[start + rank() * self._own :][: self._own]
