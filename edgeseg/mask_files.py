"""Find the mask that belongs to each image, in the folders and under the names that people give them."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterable, Mapping, Sequence

from edgeseg.errors import DatasetError, some
from edgeseg.picture_files import IMAGE_SUFFIXES, image_files, is_hidden, is_hidden_name, natural_key, pictures_in

__all__ = ["MASK_NAMES", "MaskFiles", "by_stem", "mask_files", "pictures_below", "stem_key"]

_LABEL_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")
_LOSSY_SUFFIXES = (".jpg", ".jpeg", ".webp")
_IMAGE_FOLDERS = ("images", "image", "imgs", "img")
_MASK_FOLDERS = ("masks", "mask", "labels", "annotations", "gt")
_BESIDE = ("annot", "_annot", "_masks", "_mask", "_labels", "_gt")
"""Endings of a mask folder's name behind the name of the image folder."""

MASK_NAMES = (
    *("*:*", "*:*_mask", "*:*_masks", "*:*-mask", "*:*_label", "*:*_labels", "*:*_labelIds", "*:*_gt", "*:*_seg"),
    *("*:*_segmentation", "*:*_annot", "*:*_groundtruth", "*:*_L", "*_image:*_mask", "*_img:*_mask", "*_sat:*_mask"),
    *("*_leftImg8bit:*_gtFine_labelIds", "*_rgb:*_label", "image_*:mask_*", "image_*:label_*", "img_*:mask_*"),
    *("image*:mask*", "img*:mask*"),
)
"""Known pairs of names without suffixes, image and mask; ``*`` is what both share."""

_Find = Callable[[Path], "Path | None"]


@dataclass(frozen=True)
class MaskFiles:
    """Images and their masks.

    Attributes:
        images: in natural order.
        masks: the mask of each image, or None.
        folder: where masks are, or would be.
        names: the pair of ``MASK_NAMES`` by which they were found.
        left_out: what the folder of images holds besides, as ``Pictures.left_out`` says it.
    """

    images: tuple[Path, ...]
    masks: tuple[Path | None, ...]
    folder: Path
    names: str = MASK_NAMES[0]
    left_out: str = ""

    def missing(self) -> list[Path]:
        """Return the images without a mask."""
        return [image for image, mask in zip(self.images, self.masks) if mask is None]

    def refuse_missing(self) -> None:
        """Raise DatasetError where an image has no mask; the message says what there is instead."""
        missing = self.missing()
        if missing:
            raise DatasetError(
                f"{len(missing)} of {len(self.images)} images have no mask in {self.folder} (first: "
                f"{missing[0].name}); {_what_masks_there_are(self.folder, missing[0])}"
            )


def mask_files(
    folder: Path, labels: Path | None = None, names: str | None = None, *, may_be_lossy: bool = False
) -> MaskFiles:
    """Find the images of a folder and their masks.

    Args:
        folder: holds images, or folders ``images`` and ``masks`` (or ``labels``), or images and masks mixed.
        labels: where the masks are; None to look inside and beside the folder.
        names: of an image and its mask, such as ``*_image:*_mask``; None for the pair of ``MASK_NAMES`` that fits.
        may_be_lossy: whether JPEG files are masks too.

    Raises:
        DatasetError: there are no images, or it is not sure which masks are theirs.
    """
    folder, inside = _split(folder) if labels is None else (folder, None)
    labels = labels or inside or _beside(folder)
    found, left_out = _pictures(folder, labels)
    kinds = _LABEL_SUFFIXES + (_LOSSY_SUFFIXES if may_be_lossy else ())
    if labels is None:
        return _mixed(found, folder, (names,) if names else MASK_NAMES[1:], kinds, left_out)
    if not labels.is_dir():
        raise DatasetError(f"{labels} is not a folder of masks")
    by_key = by_stem((path for path in pictures_below(labels) if path.suffix.lower() in kinds), labels)
    chosen, finder = _chosen(found, folder, by_key, (names,) if names else MASK_NAMES)
    masks = tuple(finder(image) for image in found)
    _refuse_shared(found, masks)
    return MaskFiles(found, masks, labels, chosen, left_out)


def pictures_below(folder: Path) -> list[Path]:
    """Return what is called like a picture in and below a folder, in natural order, and nothing hidden at any depth."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    shown = (path for path in found if not any(map(is_hidden_name, path.relative_to(folder).parts)))
    return sorted(shown, key=natural_key)


def stem_key(path: Path) -> str:
    """Return a file's name without suffix in Unicode's composed form; an image and its mask share it.

    Letters with accents have two spellings, and macOS writes the other one.
    """
    return unicodedata.normalize("NFC", path.stem)


def _split(folder: Path) -> tuple[Path, Path | None]:
    """Return the folder of images, and that of masks where one folder holds both."""
    images = _named(folder, _IMAGE_FOLDERS)
    if not images:
        return folder, None
    masks = [path for path in _named(folder, _MASK_FOLDERS) if _has_pictures(path)]
    for kind in (images, masks):
        if len(kind) > 1:
            held = " and ".join(sorted(path.name for path in kind))
            raise DatasetError(
                f"{folder} holds both {held}; pass images and masks as NAME and NAMEannot, or say which: "
                f"data://{folder}?labels=NAME"
            )
    return images[0], masks[0] if masks else None


def _beside(folder: Path) -> Path | None:
    """Return the folder of masks beside a folder of images: ``NAMEannot``, or ``masks`` where it is ``images``."""
    where = folder.resolve()
    for ending in _BESIDE:
        if where.with_name(where.name + ending).is_dir():
            return where.with_name(where.name + ending)
    for level in (where, where.parent):
        if level.name.lower() in _IMAGE_FOLDERS:
            inner = where.relative_to(level)
            masks = [path / inner for path in _named(level.parent, _MASK_FOLDERS) if _has_pictures(path / inner)]
            if len(masks) == 1:
                return masks[0]
    return None


def _named(folder: Path, names: Sequence[str]) -> list[Path]:
    """Return the folders directly inside that have one of the names, in small or capital letters."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.name.lower() in names and path.is_dir())


def _has_pictures(folder: Path) -> bool:
    return bool(pictures_below(folder))


def _pictures(folder: Path, labels: Path | None) -> tuple[tuple[Path, ...], str]:
    """Find the images of a folder, and say what is left out.

    Those of a folder below count where the masks have that folder too, and where ``images`` holds nothing but folders.
    """
    direct = pictures_in(folder).files if folder.is_dir() else ()
    holds_folders = folder.name.lower() in _IMAGE_FOLDERS and not direct
    if labels is None and not holds_folders:
        image_files(folder)
        return direct, pictures_in(folder).left_out()
    below = [path for path in pictures_below(folder) if path.parent != folder and path.is_file()]
    below = [path for path in below if labels is None or labels.resolve() not in path.resolve().parents]
    taken = [
        path
        for path in below
        if holds_folders or labels is not None and (labels / path.parent.relative_to(folder)).is_dir()
    ]
    if not taken:
        image_files(folder)
    dropped = sorted({path.parent.name for path in below} - {path.parent.name for path in taken})
    more = f" (images in {some(dropped, 3)} left out)" if dropped else ""
    return tuple(sorted([*direct, *taken], key=natural_key)), pictures_in(folder).left_out() + more


def _key(path: Path, folder: Path) -> tuple[str, str]:
    return path.relative_to(folder).parent.as_posix(), stem_key(path)


def by_stem(paths: Iterable[Path], folder: Path) -> dict[tuple[str, str], Path]:
    """Return masks by folder, relative to the given one, and name. Raises DatasetError naming all that share both."""
    found: dict[tuple[str, str], Path] = {}
    clashes = []
    for path in paths:
        first = found.setdefault(_key(path, folder), path)
        if first is not path:
            clashes.append(f"{first} and {path}")
    if clashes:
        raise DatasetError(f"{some(clashes, 3)} are masks of one image; keep the right one")
    return found


def _refuse_shared(images: Sequence[Path], masks: Sequence[Path | None]) -> None:
    """Raise DatasetError naming all images that share a mask."""
    owners: dict[Path, Path] = {}
    clashes = []
    for image, mask in zip(images, masks):
        if mask is not None and owners.setdefault(mask, image) != image:
            clashes.append(f"{owners[mask]} and {image} would share the mask {mask}")
    if clashes:
        raise DatasetError(f"{some(clashes, 3)}; keep the right one")


def _chosen(
    images: Sequence[Path], folder: Path, masks: Mapping[tuple[str, str], Path], names: Sequence[str]
) -> tuple[str, _Find]:
    """Return the pair of names that finds the most masks, and what finds them. Raises DatasetError: two do."""
    finders = {pair: _finder(pair, folder, masks) for pair in names}
    found = {pair: tuple(find(image) for image in images) for pair, find in finders.items()}
    count = {pair: sum(mask is not None for mask in found[pair]) for pair in names}
    best = max(names, key=lambda pair: count[pair])  # the first of those
    used = set(found[best])
    rivals = {
        f"{mask.name} and {other.name}": pair
        for pair in names
        for mask, other in zip(found[best], found[pair])
        if mask is not None and other is not None and other not in used
    }
    if rivals:
        other = next(iter(rivals.values()))
        raise DatasetError(
            f"images of {folder} have masks of two names, {best.split(':')[1]} and {other.split(':')[1]} "
            f"({some(list(rivals), 3)}); say which: data://{folder}?names={best}"
        )
    return best, finders[best]


def _finder(pair: str, folder: Path, masks: Mapping[tuple[str, str], Path]) -> _Find:
    """Return what finds the mask of an image by a pair of names."""
    image_name, _, mask_name = pair.partition(":")
    if image_name.count("*") != 1 or mask_name.count("*") != 1:
        raise DatasetError(f"`names` is IMAGE:MASK with one * in each, such as *_image:*_mask, got {pair!r}")
    before, behind = image_name.split("*")

    def find(image: Path) -> Path | None:
        parent, stem = _key(image, folder)
        if not (stem.startswith(before) and stem.endswith(behind) and len(stem) > len(before) + len(behind)):
            return None
        body = stem[len(before) : len(stem) - len(behind)]
        return masks.get((parent, mask_name.replace("*", body)))

    return find


def _mixed(found: Sequence[Path], folder: Path, names: Sequence[str], kinds: Sequence[str], left_out: str) -> MaskFiles:
    """Tell images and masks of one folder apart, where every image has a mask and every mask an image."""
    by_key = {_key(path, folder): path for path in found if path.suffix.lower() in kinds}
    for pair in names:
        find = _finder(pair, folder, by_key)
        masks = {image: mask for image in found for mask in [find(image)] if mask is not None}
        if masks and sorted([*masks, *masks.values()]) == sorted(found):
            return MaskFiles(tuple(masks), tuple(masks.values()), folder, pair, left_out)
    nowhere = folder.resolve().with_name(folder.resolve().name + "annot")
    return MaskFiles(tuple(found), (None,) * len(found), nowhere, left_out=left_out)


def _what_masks_there_are(folder: Path, image: Path) -> str:
    """Advise what to do about a missing mask, by what the folder holds."""
    rule = f"a mask has the name of its image and one of {', '.join(_LABEL_SUFFIXES)}"
    if not folder.is_dir():
        beside = sorted(path.name for path in folder.parent.iterdir() if path.is_dir())
        return (
            f"there is no folder {folder.name} beside {', '.join(beside)}; masks are in NAMEannot beside NAME, or in "
            "masks beside images"
        )
    named = sorted(path.name for path in folder.iterdir() if path.stem == image.stem and not is_hidden(path))
    if named:
        lossy = "compression changes class ids: " if Path(named[0]).suffix.lower() in _LOSSY_SUFFIXES else ""
        black = "; black and white in JPEG: data://FOLDER?masks=threshold" if lossy else ""
        return f"there is {named[0]}, {lossy}masks are read from {', '.join(_LABEL_SUFFIXES)}{black}"
    held = sorted(path.name for path in folder.iterdir() if not is_hidden(path))
    return f"the folder holds {held[0]}; {rule}" if held else f"the folder is empty; {rule}"
