"""Read images and masks from disk, and data sets made of them: one reader for training, calibration, eval and run."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, Mapping, NamedTuple, Protocol, Sequence

import numpy as np

from edgeseg.class_list import Colour
from edgeseg.errors import ImageError
from edgeseg.files import atomic_write
from edgeseg.image_bytes import (
    animation_length,
    compression_that_changes_samples,
    damage,
    exif_orientation,
    is_cut,
    kind_of,
    layout_that_is_misread,
    single_channel_png,
    stored_size,
    tiff_pages,
    tiff_tags,
    tiffs_of_pages,
    with_colours_kept,
)
from edgeseg.label_planes import planes_from_ids
from edgeseg.mask_files import MASK_NAMES, MaskFiles, mask_files, stem_key
from edgeseg.picture_files import IMAGE_SUFFIXES, image_files
from edgeseg.spec import IGNORE_ID, ModelSpec

__all__ = [
    "IMAGE_SUFFIXES",
    "Dataset",
    "FolderDataset",
    "InMemory",
    "Joined",
    "Mask",
    "MaskFile",
    "Sample",
    "StoredDataset",
    "checked_mask",
    "colours_of_classes",
    "described",
    "encoded_png",
    "ignored_ids",
    "image_files",
    "image_from_bytes",
    "joined",
    "read_image",
    "read_mask",
    "read_mask_colours",
    "read_pages",
    "stem_key",
    "write_png",
]

_BITS_PER_SAMPLE, _PHOTOMETRIC, _BLACK_IS_ZERO, _SAMPLES = 258, 262, 1, 277
_PNG_OF_KEYS = (2, 3)
"""Colour types of PNG without alpha: they may say that a colour is transparent, and then it always is."""
_MOST_PIXELS, _LONGEST_SIDE = 1 << 30, 1_000_000
"""What OpenCV and libpng decode."""


class Sample(NamedTuple):
    """One image of a data set: name without suffix, HxWx3 uint8 BGR, its label or None.

    A label is HxW uint8 class ids, for a spec of mode multilabel KxHxW planes of ``label_planes``.
    """

    name: str
    frame: np.ndarray
    label: np.ndarray | None


class Dataset(Protocol):
    """A sized, re-iterable collection of samples with a description of itself."""

    description: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


def read_image(path: Path) -> np.ndarray:
    """Read an image file as HxWx3 uint8 BGR, turned upright as its EXIF orientation says.

    Of 16-bit samples the upper eight bits are taken.

    Raises:
        ImageError: the file is missing, truncated, damaged or not an image (OpenCV returns the readable part of a
            truncated file as if it were whole, so the end is looked for first); it holds several pictures (an
            animation, a TIFF of pages); or the range of its samples is not known (floating-point ones, and 10, 12 or
            14 bits in 16, which would be nearly black).
    """
    return _only_image(_image_bytes(path), path)


def image_from_bytes(data: bytes, name: str) -> np.ndarray:
    """Decode the content of an image file as ``read_image`` does.

    Args:
        data: the content.
        name: for messages.

    Raises:
        ImageError: as of ``read_image``.
    """
    path = Path(name)
    return _only_image(_whole(data, path), path)


def read_pages(path: Path) -> Iterator[np.ndarray]:
    """Yield the pictures of an image file as ``read_image`` returns them: every page of a TIFF, else one picture.

    Raises:
        ImageError: a picture cannot be read, as in ``read_image``.
    """
    data = _image_bytes(path)
    pages = tiff_pages(data)
    if len(pages) < 2:
        yield _only_image(data, path)
    else:
        for page in tiffs_of_pages(data, pages):
            yield _image_from(page, path)


def read_mask(path: Path, classes: int = 1, colours: Mapping[Colour, int] = {}) -> np.ndarray:
    """Read a mask of class ids as HxW uint8: the stored samples of one channel, or the indices of a palette PNG.

    Args:
        path: the mask's file.
        classes: number of classes. The stretched samples of a PNG of 2 or 4 bits could be ids too if they are below
            it.
        colours: RGB colour -> id, where it is known. Where a palette shows these colours in another order, as programs
            that save pictures with few colours sort them, the colours count.

    Raises:
        ImageError: the file is missing, truncated, damaged, of several channels, holds ids above 255, or is stored as
            a JPEG or with another lossy compression; or its ids are not sure (a palette of other greys, or of known
            colours and unknown ones in another order, a TIFF or BMP of fewer than 8 bits or with a palette); or it is
            marked as turned.
    """
    data = _mask_bytes(path)
    _refuse_lossy(data, path)
    if kind_of(data) in ("TIFF", "BMP") and not _has_plain_samples(data):
        raise ImageError(
            f"{path} is a {kind_of(data)} with a palette, inverted, or of fewer than 8 bits, which is not read as "
            "class ids; save it as PNG"
        )
    plain = single_channel_png(data) if kind_of(data) == "PNG" else None
    if plain is None:
        return _ids_of_decoder(data, path)
    palette = [(red, green, blue) for red, green, blue in zip(*(plain[2][channel::3] for channel in range(3)))]
    return _ids_by_colour(_ids_of_png(*plain, path, classes), palette, colours, path)


def read_mask_colours(path: Path, *, may_be_lossy: bool = False) -> np.ndarray:
    """Read a mask whose colours say what it holds as HxWx3 uint8 BGR.

    Args:
        path: the mask's file.
        may_be_lossy: take a JPEG too.

    Raises:
        ImageError: as of ``read_image``; its compression changes colours; it is marked as turned; or its alpha says
            more than its colours: other pixels than the black ones are transparent.
    """
    data = _mask_bytes(path)
    if not may_be_lossy:
        _refuse_lossy(data, path)
    _refuse_alpha(data, path)
    return _image_from(data, path)


def colours_of_classes(spec: ModelSpec) -> dict[Colour, int]:
    """Return RGB colour -> class id, without colours that several classes share."""
    return {colour: index for index, colour in enumerate(spec.palette) if spec.palette.count(colour) == 1}


def checked_mask(mask: np.ndarray, frame: np.ndarray, spec: ModelSpec, path: object) -> np.ndarray:
    """Return the mask (HxW uint8, or KxHxW planes) after proof that it fits its image (HxWx3) and the spec.

    Raises:
        ImageError: the sizes differ, or an id is no class of the spec; the message names ``path``.
    """
    if mask.shape[-2:] != frame.shape[:2]:
        raise ImageError(
            f"{path} is {mask.shape[-1]}x{mask.shape[-2]} but its image is {frame.shape[1]}x{frame.shape[0]}; "
            "masks must have the size of their images"
        )
    if mask.ndim == 3:
        return mask
    counted = mask[(mask != spec.ignore_id) & (mask != IGNORE_ID)]
    if counted.size and int(counted.max()) >= len(spec.classes):
        raise ImageError(
            f"{path} has class id {int(counted.max())}, but there are {len(spec.classes)} classes "
            f"(0-{len(spec.classes) - 1}) and {ignored_ids(spec)} is ignored; list the class, correct the mask, or, "
            "if the id is no class, train with `ignore` ID"
        )
    return mask


def ignored_ids(spec: ModelSpec) -> str:
    """List the label values that are no class, for a message: ``255`` or ``11 or 255``."""
    return " or ".join(str(value) for value in sorted({spec.ignore_id, IGNORE_ID}))


def write_png(path: Path, image: np.ndarray) -> None:
    """Write an HxW or HxWx3 (BGR) uint8 array as PNG, whole or not at all.

    Raises:
        OSError: the disk refused.
        ImageError: the array cannot be encoded.
    """
    atomic_write(path, encoded_png(image, path), durable=False)


def encoded_png(image: np.ndarray, path: Path) -> bytes:
    """Encode an HxW or HxWx3 (BGR) uint8 array as PNG.

    Raises:
        ImageError: the array cannot be encoded; the message names ``path``.
    """
    import cv2

    ok, encoded = cv2.imencode(".png", image)
    if not ok:
        raise ImageError(f"{path}: an array of shape {image.shape} {image.dtype} cannot be written as PNG")
    return bytes(encoded)


class Mask(Protocol):
    """Where the class ids of one image come from: a file of ids, or an annotation of another form."""

    @property
    def path(self) -> Path:
        """Return the file that messages name."""

    def read(self, spec: ModelSpec, size_hw: tuple[int, int]) -> np.ndarray:
        """Return HxW uint8 class ids, or KxHxW planes of labels. Raises ImageError: they cannot be read.

        Args:
            spec: the classes.
            size_hw: of the image, for annotations that have no size of their own.
        """


class MaskFile(NamedTuple):
    """A mask that is a picture file of class ids."""

    path: Path

    def read(self, spec: ModelSpec, size_hw: tuple[int, int]) -> np.ndarray:
        """Read the file as ``read_mask`` does."""
        return read_mask(self.path, len(spec.classes), colours_of_classes(spec))


class StoredDataset:
    """Image files with what labels each. Several threads may read samples at once.

    A mask is drawn on the picture as it is shown, upright. Where EXIF turns a picture and the size of its mask or
    annotation does not prove that, it is refused.

    Args:
        files: the images.
        masks: the mask of each image, or None.
        description: what it is, for people and bundles.
        spec: classes that the masks may name; None when masks are not used.
    """

    def __init__(
        self, files: Sequence[Path], masks: Sequence[Mask | None], description: str, spec: ModelSpec | None = None
    ) -> None:
        self.files, self.masks, self.description = list(files), list(masks), description
        self._spec = spec

    @property
    def has_labels(self) -> bool:
        """Tell whether samples come with masks: some were found, and a spec says what they may hold."""
        return self._spec is not None and any(mask is not None for mask in self.masks)

    def part(self, indices: Sequence[int], what: str) -> StoredDataset:
        """Return the data set of some of the images; ``what`` stands behind its description."""
        files, masks = [self.files[i] for i in indices], [self.masks[i] for i in indices]
        return StoredDataset(files, masks, f"{self.description}, {what}", self._spec)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        path, label = self.files[index], self.masks[index]
        data = _image_bytes(path)
        frame = _only_image(data, path)
        if label is None or self._spec is None:
            return Sample(path.stem, frame, None)
        orientation = exif_orientation(data)
        # Annotations without a size of their own are drawn on the stored pixels, so that they prove nothing.
        size_hw = frame.shape[1::-1] if orientation >= 5 else frame.shape[:2]
        mask = label.read(self._spec, (size_hw[0], size_hw[1]))
        _refuse_unsure_turn(orientation, mask, frame, path)
        mask = checked_mask(mask, frame, self._spec, label.path)
        if self._spec.mode == "multilabel" and mask.ndim == 2:
            mask = planes_from_ids(mask, self._spec)
        return Sample(path.stem, frame, mask)


class FolderDataset(StoredDataset):
    """Images in a folder, with the masks that belong to them.

    Masks are looked for at ``labels`` if given, else beside the images as ``NAMEannot`` (the CamVid layout), or as
    ``masks`` beside ``images``, or among the images. A mask has the image's name, or one that ``MASK_NAMES`` knows.

    Args:
        folder: where the images are.
        labels: where the masks are; None to look beside the images.
        spec: classes that the masks may name; None when masks are not used.
        need_labels: refuse images without masks.

    Raises:
        DatasetError: there are no images, or a mask is missing although masks are needed.
    """

    def __init__(
        self, folder: Path, *, labels: Path | None = None, spec: ModelSpec | None = None, need_labels: bool = False
    ) -> None:
        found = mask_files(folder, labels)
        if need_labels:
            found.refuse_missing()
        masks = [MaskFile(path) if path is not None else None for path in found.masks]
        super().__init__(found.images, masks, described(found, folder), spec)


def described(found: MaskFiles, folder: Path) -> str:
    """Describe what was found, e.g. ``367 images in camvid/train``.

    Only the end of the path is told: descriptions are stored in bundles, which travel to other machines.
    """
    names = "" if found.names == MASK_NAMES[0] else f" (masks {found.names.partition(':')[2]})"
    return f"{len(found.images)} images in {Path(*folder.resolve().parts[-2:])}{names}{found.left_out}"


class InMemory:
    """Samples that are in memory already."""

    def __init__(self, samples: Sequence[Sample], description: str) -> None:
        self._samples = list(samples)
        self.description = description

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        return self._samples[index]


def joined(parts: Sequence[Dataset]) -> Dataset:
    """Return several data sets as one; one stays what it is."""
    return parts[0] if len(parts) == 1 else Joined(parts)


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


def _refuse_unsure_turn(orientation: int, mask: np.ndarray, frame: np.ndarray, path: Path) -> None:
    """Raise ImageError where EXIF turns an image and nothing proves that its mask was drawn on the turned picture.

    Some tools draw masks on the stored pixels, others on the upright picture. Only a mask of the turned size tells.
    """
    changes_sides = orientation >= 5 and frame.shape[0] != frame.shape[1]
    if orientation == 1 or (changes_sides and mask.shape[-2:] != frame.shape[1::-1]):
        return  # of the turned size, or of a wrong one that is refused as such
    raise ImageError(
        f"{path} is turned or mirrored by its EXIF orientation {orientation} and its mask has no size that tells on "
        "which of the two it was drawn; if it was drawn on the stored pixels, remove the tag (exiftool -Orientation= "
        "FILE), else turn the pixels (mogrify -auto-orient FILE)"
    )


def _mask_bytes(path: Path) -> bytes:
    """Read the one picture of a mask's file. Raises ImageError: there are several, or it is marked as turned."""
    data = _image_bytes(path)
    _refuse_several(data, path)
    _refuse_misread(data, path)
    if exif_orientation(data) != 1:
        raise ImageError(
            f"{path} is a mask that is turned or mirrored by its orientation {exif_orientation(data)}, which some "
            "programs follow and others do not; if it fits its image as it is stored, remove the tag (exiftool "
            "-Orientation= FILE), else turn the pixels (mogrify -auto-orient FILE)"
        )
    if kind_of(data) == "TIFF" and tiff_tags(data).get(_PHOTOMETRIC) in (0, _BLACK_IS_ZERO, 3) and _samples(data) > 1:
        raise ImageError(
            f"{path} is a grey TIFF with {_samples(data)} channels, of which a mask has one; save it as PNG"
        )
    return data


def _samples(data: bytes) -> int:
    return tiff_tags(data).get(_SAMPLES, 1)


def _refuse_lossy(data: bytes, path: Path) -> None:
    lossy = compression_that_changes_samples(data)
    if lossy:
        raise ImageError(f"{path} is a {lossy}, whose compression changes class ids and colours; save masks as PNG")


def _refuse_alpha(data: bytes, path: Path) -> None:
    """Raise ImageError where the alpha of a mask says what its colours do not, as pixels that were erased do."""
    import cv2

    shown = _decoded(data, cv2.IMREAD_UNCHANGED)
    if shown is None or shown.ndim != 3 or shown.shape[2] != 4 or _has_keys_only(data):
        return
    alpha, is_black = shown[..., 3], (shown[..., :3] == 0).all(axis=2)
    opaque = np.iinfo(alpha.dtype).max if np.issubdtype(alpha.dtype, np.integer) else 1
    if not (alpha == opaque).all() and not (alpha == np.where(is_black, 0, opaque)).all():
        raise ImageError(
            f"{path} is transparent in {int((alpha != opaque).sum())} pixels, and its colours alone do not say what "
            "these are; save it without alpha (mogrify -background black -alpha remove FILE), or, if its alpha is the "
            "mask, save that (convert FILE -alpha extract MASK.png)"
        )


def _has_keys_only(data: bytes) -> bool:
    """Tell whether a PNG has no alpha but colours that are transparent."""
    return kind_of(data) == "PNG" and data[25] in _PNG_OF_KEYS


def _refuse_misread(data: bytes, path: Path) -> None:
    layout = layout_that_is_misread(data)
    if layout:
        raise ImageError(f"{path} is a TIFF of {layout}, which is not read; save it as 8-bit RGB or grey, or as PNG")


def _undecoded(data: bytes, path: Path, what: str) -> ImageError:
    """Return the error of a picture that OpenCV does not decode."""
    height, width = stored_size(data)
    if height * width > _MOST_PIXELS or max(height, width) > _LONGEST_SIDE:
        return ImageError(
            f"{path} is said to be {width}x{height}, and no more than {_MOST_PIXELS} pixels and {_LONGEST_SIDE} a side "
            "are decoded; cut it into parts, or remove it"
        )
    content = kind_of(data) or "unknown"
    return ImageError(
        f"{path} cannot be decoded as {what} (its content is {content}); if a viewer shows it, save it as PNG, else "
        "remove it"
    )


def _only_image(data: bytes, path: Path) -> np.ndarray:
    _refuse_several(data, path)
    return _image_from(data, path)


def _refuse_several(data: bytes, path: Path) -> None:
    """Raise ImageError where a file holds several pictures; decoders return the first without a word."""
    pictures, pages = animation_length(data), len(tiff_pages(data))
    apart = f"{path.stem}-%04d.png"
    if pages > 1:
        raise ImageError(
            f"{path} is a TIFF of {pages} pages, of which one would be read; save each as a file: "
            f"convert {path.name} {apart}"
        )
    if pictures > 1:
        how = f"convert {path.name} -coalesce" if kind_of(data) == "WebP" else f"ffmpeg -i {path.name}"
        raise ImageError(
            f"{path} is an animation of {pictures} pictures, of which one would be read; save each as a file: "
            f"{how} {apart}"
        )


def _image_from(data: bytes, path: Path) -> np.ndarray:
    import cv2

    if kind_of(data) == "HEIF":  # some OpenCVs decode it, none of them turns it upright
        raise ImageError(f"{path} is HEIF or AVIF by its content, which is not read; save it as JPEG or PNG")
    _refuse_misread(data, path)
    image = _decoded(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None and _decoded(data, cv2.IMREAD_UNCHANGED) is None:
        raise _undecoded(data, path, "an image")
    if image is None or image.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"{path} holds samples whose range is not known (not 8- or 16-bit); save it with 8 bits")
    if kind_of(data) != "TIFF":  # of which every version of OpenCV turns the pictures, asked or not
        image = _upright(image, exif_orientation(data))
    return image if image.dtype == np.uint8 else _eight_bits(image, path)


def _upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turn an image as its EXIF orientation says. OpenCV of version 4.5 does it itself, but not for WebP."""
    turned = image.swapaxes(0, 1) if orientation >= 5 else image
    turned = turned[:, ::-1] if orientation in (2, 3, 6, 7) else turned
    return np.ascontiguousarray(turned[::-1] if orientation in (3, 4, 7, 8) else turned)


def _eight_bits(image: np.ndarray, path: Path) -> np.ndarray:
    """Take the upper byte of 16-bit samples that use the range. Raises ImageError when the upper bits are unused."""
    most = int(image.max())
    if 0 < most < 1 << 14:
        bits = max(10, most.bit_length() + most.bit_length() % 2)
        raise ImageError(
            f"{path} has 16-bit samples of at most {most}, as of a {bits}-bit camera or of a dark picture, which of "
            f"them cannot be told; save it with 8 bits: values / {1 << (bits - 8)} (mogrify -evaluate multiply "
            f"{1 << (16 - bits)} -depth 8 FILE), or, if it is dark, values / 256 (mogrify -depth 8 FILE)"
        )
    return (image >> 8).astype(np.uint8)


def _has_plain_samples(data: bytes) -> bool:
    """Tell whether a TIFF or BMP stores 8 or more bits that mean themselves, without a palette that means others."""
    if kind_of(data) == "TIFF":
        tags = tiff_tags(data)
        return tags.get(_BITS_PER_SAMPLE, 1) >= 8 and tags.get(_PHOTOMETRIC) in (_BLACK_IS_ZERO, 2)
    header, bits = int.from_bytes(data[14:18], "little"), int.from_bytes(data[28:30], "little")
    if header < 40:
        return False  # of OS/2, with other places
    if bits != 8:
        return bits > 8
    colours = int.from_bytes(data[46:50], "little") or 256
    palette = data[14 + header : 14 + header + 4 * colours]
    return all(palette[at : at + 3] == bytes([at // 4]) * 3 for at in range(0, min(len(palette), 1024), 4))


def _ids_of_png(png: bytes, factor: int, palette: bytes, path: Path, classes: int) -> np.ndarray:
    """Read the stored samples and check that neither a grey palette nor stretching means others. Raises ImageError."""
    import cv2

    stretched = _decoded(png, cv2.IMREAD_UNCHANGED)
    if stretched is None:
        raise _undecoded(png, path, "a mask")
    ids = np.asarray(stretched // factor, np.uint8)
    if factor > 1 and not palette and 0 < int(stretched.max()) < classes:
        raise ImageError(
            f"{path} is a PNG of fewer than 8 bits, whose samples {int(ids.max())} are also shown as the grey "
            f"{int(stretched.max())}, and either may be the class id; save it as 8-bit grey PNG"
        )
    colours = np.frombuffer(palette[: len(palette) // 3 * 3], np.uint8).reshape(-1, 3)
    if len(colours) and (colours == colours[:, :1]).all():
        used = np.unique(ids)
        used = used[used < len(colours)]
        greys = colours[used, 0]
        is_same = bool((greys == used).all()) or (greys.tolist(), used.tolist()) in (([0, 255], [0, 1]), ([255], [1]))
        if not is_same and len(set(colours[:, 0].tolist())) > 1:
            raise ImageError(
                f"{path} is a palette PNG whose entries {used.tolist()[:8]} show the greys {greys.tolist()[:8]}, and "
                "either may be the class ids; save it as 8-bit grey PNG holding the ids"
            )
    return ids


def _ids_by_colour(ids: np.ndarray, palette: Sequence[Colour], colours: Mapping[Colour, int], path: Path) -> np.ndarray:
    """Return HxW palette entries as ids: themselves, unless they show the known colours in another order.

    Raises:
        ImageError: some entries show the colours of other ids, and some colours are not known.
    """
    shown = {entry: palette[entry] for entry in np.unique(ids).tolist() if entry < len(palette)} if colours else {}
    # A palette is often filled up with one colour: an entry proves nothing that an earlier one or the id's own shows.
    other = {
        entry: colour
        for entry, colour in shown.items()
        if colours.get(colour, entry) != entry and colour not in (*palette[:entry], *palette[colours[colour] :][:1])
    }
    if not other:
        return ids
    if all(entry in other or colours.get(colour) == entry for entry, colour in shown.items()):
        table = np.zeros(256, np.uint8)
        for entry, colour in shown.items():
            table[entry] = colours[colour]
        return np.asarray(table[ids])
    entry, colour = next(iter(other.items()))
    raise ImageError(
        f"{path} is a palette PNG whose entry {entry} shows {' '.join(map(str, colour))}, the colour of id "
        f"{colours[colour]}, beside colours of no class, and either may be the class ids; save the ids as 8-bit grey "
        "PNG, or declare what counts: masks=palette, masks=colours"
    )


def _ids_of_decoder(data: bytes, path: Path) -> np.ndarray:
    import cv2

    mask = _decoded(data, cv2.IMREAD_UNCHANGED)
    if mask is None:
        raise _undecoded(data, path, "a mask")
    mask = _one_channel(mask)
    if mask.ndim != 2 or not np.issubdtype(mask.dtype, np.integer):
        raise ImageError(
            f"{path} is {mask.shape} {mask.dtype}; a mask has one channel of whole numbers holding class ids "
            "(a coloured picture must be converted to ids first, or declared: data://FOLDER?masks=colours)"
        )
    if mask.size and not 0 <= int(mask.min()) <= int(mask.max()) <= 255:
        raise ImageError(
            f"{path} holds values of {mask.min()} to {mask.max()}; class ids are 0-254 and 255 is no class"
        )
    return mask.astype(np.uint8, copy=False)


def _one_channel(mask: np.ndarray) -> np.ndarray:
    """Reduce a grey picture that was saved as an opaque colour picture, with equal channels, to one channel."""
    if mask.ndim != 3 or mask.shape[2] not in (3, 4):
        return mask
    first, opaque = mask[..., 0], np.iinfo(mask.dtype).max if np.issubdtype(mask.dtype, np.integer) else 1
    is_grey = all(np.array_equal(first, mask[..., channel]) for channel in (1, 2))
    return first if is_grey and (mask[..., 3:] == opaque).all() else mask


def _decoded(data: bytes, how: int) -> np.ndarray | None:
    """Decode with OpenCV; None when it does not take the bytes for an image."""
    import cv2

    try:
        decoded: np.ndarray | None = cv2.imdecode(np.frombuffer(with_colours_kept(data), np.uint8), how)
    except cv2.error:
        return None
    return decoded


def _image_bytes(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise ImageError(f"{path} is no file; a device or a pipe may have no end")
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise ImageError(f"{path} does not fit into the memory ({path.stat().st_size} bytes)") from error
    return _whole(data, path)


def _whole(data: bytes, path: Path) -> bytes:
    """Return the content of a file. Raises ImageError: it is empty, cut or damaged."""
    if not data:
        raise ImageError(f"{path} cannot be decoded: it is empty (truncated to 0 bytes); copy it again or remove it")
    if is_cut(data):
        raise ImageError(f"{path} is truncated ({len(data)} bytes, the end is missing); copy it again or remove it")
    damaged = damage(data)
    if damaged:
        raise ImageError(f"{path} is corrupt: {damaged}; copy it again or remove it")
    return data
