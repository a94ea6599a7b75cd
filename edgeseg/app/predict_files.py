"""Files of a prediction beside the sinks: probabilities, and a mask for every class."""

from __future__ import annotations

import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Iterator, Protocol, Sequence

import numpy as np

from edgeseg.errors import ForeignFileError, SinkError
from edgeseg.files import move_new, temporary_beside, write_new
from edgeseg.images import encoded_png
from edgeseg.label_planes import class_map_of
from edgeseg.spec import ModelSpec

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from edgeseg.runtime.frame import Frame

__all__ = ["ClassMaskFiles", "PredictionFiles", "ProbabilityFiles", "folder_names"]

_UNWRITABLE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]|^\.+')

Take = Callable[[int, np.ndarray], None]


class PredictionFiles(Protocol):
    """What keeps the probabilities of pictures in some form.

    Attributes:
        option: the field and its value, for messages.
    """

    option: str

    def folders(self, sources: Sequence[str]) -> Sequence[Path]:
        """Return the folders that pictures of these sources are put into."""

    def file(self, frame: Frame, shape: tuple[int, ...]) -> AbstractContextManager[Take]:
        """Give what takes bands of CxHxW, and write the file when all were given.

        Raises:
            ForeignFileError: the file is there. SinkError: the disk refused.
        """


class ProbabilityFiles:
    """Files of probabilities, written band by band, whole or not at all."""

    def __init__(self, folder: Path, by_source: bool, overwrite: bool) -> None:
        self._folder, self._by_source, self._overwrite = folder, by_source, overwrite
        self.option = f"`probabilities` {folder}"

    def folders(self, sources: Sequence[str]) -> Sequence[Path]:
        """Return nothing: these files are no pictures, and may stand beside some."""
        return ()

    @contextmanager
    def file(self, frame: Frame, shape: tuple[int, ...]) -> Iterator[Callable[[int, np.ndarray], None]]:
        """Give what takes bands of CxHxW. Raises ForeignFileError: the file is there. SinkError: the disk refused."""
        from numpy.lib import format as npy

        folder = self._folder / frame.source.replace("/", "_") if self._by_source else self._folder
        target = folder / f"{frame.name}.npy"
        if target.exists() and not self._overwrite:
            raise ForeignFileError(f"{target} is there and is not replaced; name another folder, or pass `overwrite`")
        part = temporary_beside(target)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with open(part, "xb") as file:
                npy.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": shape})
                begin = file.tell()

                def take(top: int, band: np.ndarray) -> None:
                    for index, rows in enumerate(band.astype("<f2")):
                        file.seek(begin + 2 * (index * shape[1] + top) * shape[2])
                        file.write(rows.tobytes())

                yield take
            if self._overwrite:
                part.replace(target)
            else:
                move_new(part, target)
        except FileExistsError as error:
            raise ForeignFileError(f"{target} was written by something else meanwhile; name another folder") from error
        except OSError as error:
            raise SinkError(f"{self._folder} cannot be written: {error.strerror or error}; free space") from error
        finally:
            if part.exists():
                part.unlink()


class ClassMaskFiles:
    """A mask of 0 and 255 for every class of every picture: ``CLASS/NAME.png``.

    Args:
        folder: holds the folders of classes, below one for each source where there are several.
        spec: names, mode and threshold. Of several labels per pixel, every one has its pixels, and class 0 has no mask.
        by_source: several sources.
        overwrite: replace files that are there.
    """

    def __init__(self, folder: Path, spec: ModelSpec, by_source: bool, overwrite: bool) -> None:
        self._folder, self._spec, self._by_source, self._overwrite = folder, spec, by_source, overwrite
        self.option = f"`class_masks` {folder}"
        names = folder_names(spec.classes)
        self._names = {index: name for index, name in enumerate(names) if spec.classes[index] in spec.measured}

    def folders(self, sources: Sequence[str]) -> list[Path]:
        """Return the folders that masks of these sources are put into."""
        return [self._above(source) / name for source in sources for name in self._names.values()]

    def _above(self, source: str) -> Path:
        return self._folder / source.replace("/", "_") if self._by_source else self._folder

    @contextmanager
    def file(self, frame: Frame, shape: tuple[int, ...]) -> Iterator[Take]:
        """Give what takes bands of CxHxW. Raises ForeignFileError: a file is there. SinkError: the disk refused."""
        targets = {index: self._above(frame.source) / name / f"{frame.name}.png" for index, name in self._names.items()}
        there = [target for target in targets.values() if target.exists()]
        if there and not self._overwrite:
            raise ForeignFileError(f"{there[0]} is there and is not replaced; name another folder, or pass `overwrite`")
        masks = np.zeros((len(targets), *shape[1:]), np.uint8)

        def take(top: int, band: np.ndarray) -> None:
            for mask, held in zip(masks, self._held(band)):
                mask[top : top + band.shape[1]][held] = 255

        yield take
        try:
            for mask, target in zip(masks, targets.values()):
                target.parent.mkdir(parents=True, exist_ok=True)
                write_new(target, encoded_png(mask, target), durable=False, replaces=lambda path: self._overwrite)
        except FileExistsError as error:
            raise ForeignFileError(f"{target} was written by something else meanwhile; name another folder") from error
        except OSError as error:
            raise SinkError(f"{self._folder} cannot be written: {error.strerror or error}; free space") from error

    def _held(self, band: np.ndarray) -> Iterator[np.ndarray]:
        """Yield where a band holds each class, kxw bool."""
        if self._spec.mode == "multilabel":
            yield from band[1:] > self._spec.threshold
        else:
            classes = class_map_of(band, self._spec)
            yield from (classes == index for index in self._names)


def folder_names(classes: tuple[str, ...]) -> list[str]:
    """Return a name for the folder of each class: without what no file system takes, and no two the same."""
    names: list[str] = []
    for index, name in enumerate(classes):
        plain = _UNWRITABLE.sub("_", name)
        taken = {one.casefold() for one in names}
        names.append(f"{plain}-{index}" if plain.casefold() in taken else plain)
    return names
