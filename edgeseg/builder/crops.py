"""Make augmented crops: geometry for image and mask together, light and camera for the image, mixes of two crops.

All chance comes from torch's generator, so that a crop follows from its seed.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Callable, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as ops

from edgeseg.builder.augmentation import Augmentation
from edgeseg.errors import UsageError, first_line, require
from edgeseg.label_planes import pixel_counts
from edgeseg.spec import IGNORE_ID

__all__ = ["CropMaker", "mixed"]

Crop = Tuple[Tensor, ...]
_VOID: dict[Any, Any] = {tv_tensors.Image: 0, tv_tensors.Mask: IGNORE_ID}


class CropMaker:
    """Maker of crops from images of the network's size.

    Args:
        how: the steps.
        size_hw: of the network's input, to which an image is stretched before it is scaled.
        crop: side of the square crop in pixels, or its height and width.

    Raises:
        UsageError: the pipeline of albumentations cannot be loaded.
    """

    def __init__(self, how: Augmentation, size_hw: tuple[int, int], crop: int | tuple[int, int]) -> None:
        self._how, self._size_hw = how, size_hw
        self._crop = (crop, crop) if isinstance(crop, int) else crop
        self._pipeline = _pipeline(how.pipeline) if how.pipeline else None
        self._random_crop = v2.RandomCrop(self._crop, pad_if_needed=True, fill=_VOID)
        self._steps = [*self._geometry(), *self._light()]

    def __call__(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return a crop (3xCxC uint8, CxC uint8) of an RGB image (3xHxW uint8) and its mask (HxW uint8).

        A mask may be of planes, KxHxW uint8: then that of the crop is too.
        """
        return self._crop_of(*self._scaled(image, mask))

    def with_places(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the crop that a call returns, and where each of its pixels was.

        Returns:
            image 3xCxC uint8, mask CxC uint8, and places 2xCxC float32: row and column in the image of network size,
            from 0 at the centre of its first pixel. Where the mask is void, a place may be any number.
        """
        image, mask = self._scaled(image, mask)
        # Nearest neighbours: a place moves to where the label moves. Float32 has every id, and fractions of pixels.
        layers = torch.cat((mask[None].float(), _places(mask.shape, self._size_hw)))
        image, layers = self._crop_of(image, tv_tensors.Mask(layers))
        return image, layers[0].to(torch.uint8), layers[1:].as_subclass(Tensor)

    def _crop_of(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return a crop of a scaled image and its mask, HxW, or LxHxW of which the first layer is the mask."""
        if self._pipeline is not None:
            image, mask = self._pipeline(image, mask)
        if self._how.rotation:
            image, mask = v2.RandomRotation(self._how.rotation, fill=_VOID)(image, mask)
        if self._how.balanced and _chance(self._how.balanced):
            image, mask = self._around_rare(image, mask)
        else:
            image, mask = self._random_crop(image, mask)
        if self._how.elastic and _chance(self._how.elastic):
            image, mask = v2.ElasticTransform(alpha=60.0, sigma=8.0, fill=_VOID)(image, mask)
        for step in self._steps:
            image, mask = step(image, mask)
        return self._camera(image), mask

    def _geometry(self) -> list[Any]:
        how = self._how
        steps: list[Any] = [v2.RandomHorizontalFlip(how.flip)] if how.flip else []
        if how.vertical_flip:
            steps.append(v2.RandomVerticalFlip(how.vertical_flip))
        if how.quarter_turns:
            square = self._crop[0] == self._crop[1]
            steps.append(v2.RandomApply([_Turn((90, 180, 270) if square else (180,))], p=how.quarter_turns))
        return steps

    def _light(self) -> list[Any]:
        how = self._how
        saturation = (how.least_saturation, how.most_saturation)
        if not (how.brightness or how.contrast or how.hue or saturation != (1.0, 1.0)):
            return []
        return [
            v2.ColorJitter(
                brightness=how.brightness or None,
                contrast=how.contrast or None,
                saturation=None if saturation == (1.0, 1.0) else saturation,
                hue=how.hue or None,
            )
        ]

    def _scaled(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Stretch to network size times a random scale. torchvision's own mask resize is off by up to half a pixel."""
        least, most = self._how.least_scale, self._how.most_scale
        scale = least
        if most > least:
            low, high = (math.log(least), math.log(most)) if self._how.log_scale else (least, most)
            drawn = float(torch.empty(1).uniform_(low, high))
            scale = math.exp(drawn) if self._how.log_scale else drawn
        size = [max(1, round(scale * side)) for side in self._size_hw]
        resized = ops.resize(image, size, antialias=True)
        planes = mask[None] if mask.ndim == 2 else mask
        labels = ops.resize(planes, size, interpolation=v2.InterpolationMode.NEAREST_EXACT)
        return tv_tensors.Image(resized), tv_tensors.Mask(labels[0] if mask.ndim == 2 else labels)

    def _around_rare(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Place the crop so that it holds a pixel of one of the image's classes; the rarer, the likelier."""
        labels = mask[0] if mask.is_floating_point() else mask  # behind a mask there may be its places
        pixels = torch.from_numpy(pixel_counts(labels.to(torch.uint8).numpy())).float()
        pixels[IGNORE_ID] = 0
        if not pixels.any():
            return self._random_crop(image, mask)  # type: ignore[no-any-return]
        wish = torch.where(pixels > 0, pixels.clamp_min(1).rsqrt(), torch.zeros(()))
        places = _held(labels, int(torch.multinomial(wish, 1))).nonzero()
        row, column = places[int(torch.randint(len(places), (1,)))].tolist()
        image, mask, row, column = self._padded(image, mask, row, column)
        top = self._start(row, self._crop[0], mask.shape[-2])
        left = self._start(column, self._crop[1], mask.shape[-1])
        return (
            ops.crop(image, top, left, *self._crop),
            ops.crop(mask, top, left, *self._crop),
        )

    def _padded(self, image: Tensor, mask: Tensor, row: int, column: int) -> tuple[Tensor, Tensor, int, int]:
        """Surround image and mask with void up to the crop's size."""
        down, right = max(0, self._crop[0] - mask.shape[-2]), max(0, self._crop[1] - mask.shape[-1])
        if not (down or right):
            return image, mask, row, column
        top, left = int(torch.randint(down + 1, (1,))), int(torch.randint(right + 1, (1,)))
        sides = [left, top, right - left, down - top]
        return ops.pad(image, sides, fill=0), ops.pad(mask, sides, fill=IGNORE_ID), row + top, column + left

    @staticmethod
    def _start(place: int, crop: int, length: int) -> int:
        """Return where a crop starts that holds a place, any such start being as likely."""
        first, last = max(0, place - crop + 1), min(place, length - crop)
        return first + int(torch.randint(last - first + 1, (1,)))

    def _camera(self, image: Tensor) -> Tensor:
        """Change what a camera changes: exposure curve, white balance, focus, noise, compression."""
        how = self._how
        if how.gamma or how.gain:
            values = image.float() / 255
            if how.gamma:
                values = values ** torch.empty(1).uniform_(-how.gamma, how.gamma).exp()
            if how.gain:
                values = values * torch.empty(3, 1, 1).uniform_(1 - how.gain, 1 + how.gain)
            image = (values * 255).round().clamp(0, 255).to(torch.uint8)
        if how.blur and _chance(how.blur):
            image = ops.gaussian_blur(image, [7, 7], [float(torch.empty(1).uniform_(0.3, 1.8))])
        if how.noise and _chance(how.noise):
            spread = float(torch.empty(1).uniform_(2, 12))
            image = (image.float() + spread * torch.randn(image.shape)).round().clamp(0, 255).to(torch.uint8)
        if how.jpeg and _chance(how.jpeg):
            image = _compressed(image, int(torch.randint(30, 91, (1,))))
        return image


class _Turn(torch.nn.Module):
    """Turn by one of several multiples of 90 degrees."""

    def __init__(self, degrees: tuple[int, ...]) -> None:
        super().__init__()
        self._degrees = degrees

    def forward(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Turn image and mask alike."""
        times = self._degrees[int(torch.randint(len(self._degrees), (1,)))] // 90
        return (
            tv_tensors.Image(torch.rot90(image, times, (-2, -1))),
            tv_tensors.Mask(torch.rot90(mask, times, (-2, -1))),
        )


def mixed(crop: Crop, other: Callable[[], Crop], how: Augmentation) -> Crop:
    """Paste parts of another crop into a crop: half of its classes (ClassMix) or a rectangle (CutMix).

    Args:
        crop: image 3xHxW, label HxW (or KxHxW planes), and what else belongs to it (LxHxW, or in a
            fraction of that size).
        other: makes the other crop, of the same size; not called where nothing is pasted.
        how: says the shares.
    """
    if how.classmix and _chance(how.classmix):
        pasted = other()
        label = pasted[1]
        held = torch.from_numpy(np.flatnonzero(pixel_counts(label.numpy().astype(np.uint8))[:IGNORE_ID]))
        chosen = held[torch.randperm(len(held))[: (len(held) + 1) // 2]]
        where = torch.zeros(label.shape[-2:], dtype=torch.bool)
        for one in chosen.tolist():
            where |= _held(label, one)
        return _pasted(crop, pasted, where)
    if how.cutmix and _chance(how.cutmix):
        pasted = other()
        height, width = pasted[1].shape[-2:]
        side = math.sqrt(float(torch.empty(1).uniform_(0.1, 0.5)))  # of 10 to 50 % of the area
        high, wide = max(1, round(side * height)), max(1, round(side * width))
        top, left = int(torch.randint(height - high + 1, (1,))), int(torch.randint(width - wide + 1, (1,)))
        where = torch.zeros((height, width), dtype=torch.bool)
        where[top : top + high, left : left + wide] = True
        return _pasted(crop, pasted, where)
    return crop


def _held(mask: Tensor, chosen: int) -> Tensor:
    """Return where a mask HxW, or planes KxHxW, hold a class, HxW bool; class 0 of planes is no label."""
    if mask.ndim == 2:
        return mask == chosen
    return (mask == 0).all(0) if chosen == 0 else mask[chosen - 1] == 1


def _pasted(crop: Crop, other: Crop, where: Tensor) -> Crop:
    return tuple(torch.where(_at_stride(where, mine), theirs, mine) for theirs, mine in zip(other, crop))


def _at_stride(where: Tensor, values: Tensor) -> Tensor:
    """Return a mask HxW in the size of values, whose sides are those of the mask over a whole number."""
    stride = where.shape[-1] // values.shape[-1]
    return where[stride // 2 :: stride, stride // 2 :: stride]


def _places(size: Sequence[int], size_hw: tuple[int, int]) -> Tensor:
    """Return row and column of the pixels of a scaled image in the image of network size, 2xHxW float32."""
    rows, columns = ((torch.arange(new) + 0.5) * (old / new) - 0.5 for new, old in zip(size, size_hw))
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"))


def _compressed(image: Tensor, quality: int) -> Tensor:
    """Write a 3xHxW uint8 picture as JPEG and read it again."""
    import cv2

    bgr = np.ascontiguousarray(image.permute(1, 2, 0).numpy()[..., ::-1])
    data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    read = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    return torch.from_numpy(np.ascontiguousarray(read[..., ::-1])).permute(2, 0, 1)


def _chance(share: float) -> bool:
    return bool(torch.rand(1) < share)


def _layers_first(mask: np.ndarray) -> Tensor:
    if mask.ndim == 2:
        return torch.from_numpy(mask.astype(np.uint8))
    kind = np.uint8 if mask.dtype == np.uint8 else np.float32  # planes of labels, or a mask and its places
    return torch.from_numpy(np.ascontiguousarray(mask.transpose(2, 0, 1), kind))


def _pipeline(path: str) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Load what ``albumentations.save`` wrote. Raises UsageError: it cannot be loaded or does not take masks."""
    albumentations = require("albumentations", "")
    form = "json" if Path(path).suffix.lower() == ".json" else "yaml"
    try:
        loaded: Any = albumentations.load(path, data_format=form)
    except Exception as error:  # of many kinds: YAML, names, arguments
        raise UsageError(f"{path} is no pipeline that albumentations loads ({first_line(error)})") from error

    def applied(image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        seed = int(torch.randint(1 << 31, (1,)))
        if hasattr(loaded, "set_random_seed"):
            loaded.set_random_seed(seed)
        else:  # before version 1.4.19, which takes chance from Python's and NumPy's generators
            import random

            random.seed(seed)
            np.random.seed(seed)
        layers = mask.numpy() if mask.ndim == 2 else np.ascontiguousarray(mask.permute(1, 2, 0).numpy())
        result = loaded(image=image.permute(1, 2, 0).contiguous().numpy(), mask=layers)
        picture, ids = np.ascontiguousarray(result["image"]), np.ascontiguousarray(result["mask"])
        shape = (*picture.shape[:2], *layers.shape[2:])
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or ids.shape != shape:
            raise UsageError(
                f"{path} gives a picture {picture.shape} {picture.dtype} and a mask {ids.shape}; it has to give HxWx3 "
                "uint8 and HxW, so leave Normalize and ToTensorV2 out"
            )
        return (
            tv_tensors.Image(torch.from_numpy(picture).permute(2, 0, 1)),
            tv_tensors.Mask(_layers_first(ids)),
        )

    return applied
