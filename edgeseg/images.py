"""Images and masks from disk, and data sets made of them: one reader for training, calibration, eval and run."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol, Sequence

import numpy as np

from edgeseg.errors import DatasetError, ImageError
from edgeseg.files import atomic_write
from edgeseg.spec import IGNORE_ID, ModelSpec

__all__ = [
    "Dataset",
    "FolderDataset",
    "InMemory",
    "Joined",
    "Sample",
    "checked_mask",
    "encoded_png",
    "image_files",
    "read_image",
    "read_mask",
    "write_png",
]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
_LABEL_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")
_END_MARKS = {".png": b"IEND\xaeB`\x82", ".jpg": b"\xff\xd9", ".jpeg": b"\xff\xd9"}


class Sample(NamedTuple):
    """One image of a data set: name without suffix, HxWx3 uint8 BGR, HxW uint8 class ids or None."""

    name: str
    frame: np.ndarray
    label: np.ndarray | None


class Dataset(Protocol):
    """A sized, re-iterable collection of samples that says what it is."""

    description: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


def read_image(path: Path) -> np.ndarray:
    """Read an image file as HxWx3 uint8 BGR.

    Raises:
        ImageError: missing, truncated or not an image. OpenCV returns the readable part of a truncated PNG or
            JPEG as if it were whole, so the end mark is looked for first.
    """
    import cv2

    image = _decoded(path, cv2.IMREAD_COLOR)
    if image is None:
        raise ImageError(f"{path} cannot be decoded as an image; open it in a viewer or remove it")
    return np.asarray(image)


def read_mask(path: Path) -> np.ndarray:
    """Read a single-channel 8-bit mask of class ids as HxW uint8.

    Raises:
        ImageError: missing, truncated, or not single-channel 8-bit.
    """
    import cv2

    mask = _decoded(path, cv2.IMREAD_UNCHANGED)
    if mask is None:
        raise ImageError(f"{path} cannot be decoded as a mask; open it in a viewer or remove it")
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise ImageError(
            f"{path} is {mask.shape} {mask.dtype}; a mask has one 8-bit channel holding class ids "
            "(a coloured or palette picture must be converted to ids first)"
        )
    return np.asarray(mask)


def checked_mask(mask: np.ndarray, frame: np.ndarray, spec: ModelSpec, path: object) -> np.ndarray:
    """The mask itself, proven to fit its image and the spec. Raises ImageError naming ``path``."""
    if mask.shape != frame.shape[:2]:
        raise ImageError(
            f"{path} is {mask.shape[1]}x{mask.shape[0]} but its image is {frame.shape[1]}x{frame.shape[0]}; "
            "masks must have the size of their images"
        )
    counted = mask[(mask != spec.ignore_id) & (mask != IGNORE_ID)]
    if counted.size and int(counted.max()) >= len(spec.classes):
        raise ImageError(
            f"{path} has class id {int(counted.max())}, but the spec has {len(spec.classes)} classes "
            f"(0-{len(spec.classes) - 1}) and ignores {spec.ignore_id} and {IGNORE_ID}"
        )
    return mask


def write_png(path: Path, image: np.ndarray) -> None:
    """Write HxW or HxWx3 (BGR) uint8 as PNG, whole or not at all. Raises OSError when the disk refuses."""
    atomic_write(path, encoded_png(image, path), durable=False)


def encoded_png(image: np.ndarray, path: Path) -> bytes:
    """The bytes of a PNG file of HxW or HxWx3 (BGR) uint8. Raises ImageError, naming ``path``."""
    import cv2

    ok, encoded = cv2.imencode(".png", image)
    if not ok:
        raise ImageError(f"{path}: an array of shape {image.shape} {image.dtype} cannot be written as PNG")
    return bytes(encoded)


def image_files(folder: Path) -> list[Path]:
    """The image files directly inside a folder, sorted by name. Raises DatasetError when there are none."""
    if not folder.is_dir():
        raise DatasetError(f"{folder} is not a folder; pass a folder of images ({', '.join(IMAGE_SUFFIXES)})")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise DatasetError(f"{folder} holds no images ({', '.join(IMAGE_SUFFIXES)})")
    return found


class FolderDataset:
    """Images in a folder, with the masks that belong to them.

    Masks are found at ``labels`` if given, else beside the images as ``NAMEannot`` (the CamVid layout) or, where
    the folder itself holds ``images`` and ``masks``, in ``masks``. A mask has the image's name.

    Args:
        folder: where the images are.
        labels: where the masks are; None to look beside the images.
        spec: classes that the masks may name; None when masks are not used.
        need_labels: refuse images without masks.

    Raises:
        DatasetError: no images, or a mask is missing although masks are needed.
    """

    def __init__(
        self, folder: Path, *, labels: Path | None = None, spec: ModelSpec | None = None, need_labels: bool = False
    ) -> None:
        if labels is None and (folder / "images").is_dir():
            folder, labels = folder / "images", folder / "masks"
        self.files = image_files(folder)
        # Only the end of the path: descriptions are stored in bundles, which travel to other machines.
        self.description = f"{len(self.files)} images in {Path(*folder.resolve().parts[-2:])}"
        self._spec = spec
        self._labels = _label_files(self.files, labels or _sibling_labels(folder))
        if need_labels:
            missing = [image for image, label in zip(self.files, self._labels) if label is None]
            if missing:
                where = labels or folder.with_name(folder.name + "annot")
                raise DatasetError(
                    f"{len(missing)} of {len(self.files)} images have no mask in {where} (first: {missing[0].name}); "
                    "a mask has the name of its image"
                )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        path, label = self.files[index], self._labels[index]
        frame = read_image(path)
        if label is None or self._spec is None:
            return Sample(path.stem, frame, None)
        return Sample(path.stem, frame, checked_mask(read_mask(label), frame, self._spec, label))


class InMemory:
    """Samples that are in memory already."""

    def __init__(self, samples: Sequence[Sample], description: str) -> None:
        self._samples = list(samples)
        self.description = description

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        return self._samples[index]


class Joined:
    """Several data sets one after the other."""

    def __init__(self, parts: Sequence[Dataset]) -> None:
        self._index = [(part, index) for part in parts for index in range(len(part))]
        self.description = " + ".join(part.description for part in parts)

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> Sample:
        part, inner = self._index[index]
        return part[inner]


def _sibling_labels(folder: Path) -> Path | None:
    beside = folder.resolve().with_name(folder.resolve().name + "annot")
    return beside if beside.is_dir() else None


def _label_files(images: Sequence[Path], labels: Path | None) -> list[Path | None]:
    if labels is None:
        return [None] * len(images)
    if not labels.is_dir():
        raise DatasetError(f"{labels} is not a folder of masks")
    by_stem = {path.stem: path for path in labels.iterdir() if path.suffix.lower() in _LABEL_SUFFIXES}
    return [by_stem.get(image.stem) for image in images]


def _decoded(path: Path, how: int) -> np.ndarray | None:
    """OpenCV's array, or None when it is not an image to it."""
    import cv2

    try:
        decoded: np.ndarray | None = cv2.imdecode(_image_bytes(path), how)
    except cv2.error:
        return None
    return decoded


def _image_bytes(path: Path) -> np.ndarray:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror or error}") from error
    mark = _END_MARKS.get(path.suffix.lower())
    if mark is not None and mark not in data[len(data) // 2 :]:
        raise ImageError(f"{path} is truncated ({len(data)} bytes, no end-of-image mark); copy it again or remove it")
    return np.frombuffer(data, np.uint8)
