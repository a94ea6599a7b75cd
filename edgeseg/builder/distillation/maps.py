"""Keep what teachers say of every training image in files, so that they are asked once.

A file's name is a digest of the teachers, the image and the options. Its first line is text, the rest are float16.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import shutil
import time
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch

from edgeseg.builder.distillation.features import channels_of, teacher_features
from edgeseg.builder.distillation.options import FEATURE_STRIDE, Distillation
from edgeseg.builder.distillation.teacher import Teacher, map_size, teacher_map
from edgeseg.builder.processes import of_first, share_of, wait_for_all
from edgeseg.errors import ForeignFileError, TrainingError, UsageError
from edgeseg.files import atomic_write
from edgeseg.images import Dataset
from edgeseg.spec import ModelSpec

__all__ = ["StoredMaps", "Teaching", "stored_features", "teacher_maps"]

_MAGIC = b"edgeseg-teacher-map 1 "
_HEADER = 256
"""Bytes before the values, so that they are aligned."""


@dataclass(frozen=True)
class Teaching:
    """Teachers, and where what they say is kept.

    Attributes:
        teachers: one or more.
        cache: folder of the maps; it may hold those of other trainings.
        tell: takes a line for people.
    """

    teachers: Sequence[Teacher]
    cache: Path
    tell: Callable[[str], None] = field(default=lambda line: None)

    def described(self) -> list[str]:
        """Return the name and digest of every teacher."""
        return [f"{one.name} (sha256 {one.sha256()[:16]})" for one in self.teachers]


class StoredMaps:
    """The maps of the images of one data set, read from memory-mapped files when they are asked for.

    Args:
        paths: file of each image.
        shape: C, h, w of every map.
    """

    def __init__(self, paths: Sequence[Path], shape: tuple[int, int, int]) -> None:
        self._paths, self._shape = list(paths), shape

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return log-probabilities Cxhxw float16. Raises TrainingError: the file went, or was cut."""
        try:
            return np.memmap(self._paths[index], "<f2", "r", _HEADER, self._shape)
        except (OSError, ValueError) as error:
            raise TrainingError(f"{self._paths[index]} is gone or was changed; go on with `resume`") from error


def teacher_maps(
    teaching: Teaching,
    sources: Sequence[Dataset],
    spec: ModelSpec,
    how: Distillation,
    device: torch.device,
    on_step: Callable[[str], None] | None = None,
) -> list[StoredMaps]:
    """Ask the teachers about all images that no file is there for, and return the maps of every data set.

    Args:
        teaching: teachers and folder.
        sources: data sets of the training images.
        spec: of the student.
        how: says views and stride.
        device: what computes.
        on_step: takes a line per image, and an empty one at the end.

    Raises:
        UsageError: the folder cannot be made.
        ForeignFileError: a file of somebody else has the name of a map.
        TrainingError: the disk or the memory is too small.
    """
    about = {
        "classes": list(spec.classes),
        "size": list(map_size(spec, how.stride)),
        "scales": list(how.scales),
        "flip": how.flip,
    }  # Factors and temperatures change no map.
    shape = (len(spec.classes), *map_size(spec, how.stride))
    question = _Question("maps", about, shape, lambda frame: teacher_map(teaching.teachers, frame, spec, how, device))
    return _answers(question, teaching, sources, device, on_step)


def stored_features(
    teaching: Teaching,
    sources: Sequence[Dataset],
    spec: ModelSpec,
    device: torch.device,
    on_step: Callable[[str], None] | None = None,
) -> list[StoredMaps]:
    """Do for the features of the teachers what ``teacher_maps`` does for what they say.

    Raises:
        UsageError: a teacher has no features at stride 16, or the folder cannot be made.
        ForeignFileError: a file of somebody else has the name of a map.
        TrainingError: the disk is too small.
    """
    size = map_size(spec, FEATURE_STRIDE)
    channels = sum(channels_of(one.network, f"the teacher {one.name}") for one in teaching.teachers)
    question = _Question(
        "features",
        {"features": list(size)},
        (channels, *size),
        lambda frame: teacher_features(teaching.teachers, frame, spec, device),
    )
    return _answers(question, teaching, sources, device, on_step)


@dataclass(frozen=True)
class _Question:
    """What teachers are asked about an image.

    Attributes:
        name: of the answers, for people.
        about: what decides an answer besides teachers and image.
        shape: of an answer.
        ask: takes a frame HxWx3 uint8 and returns the answer, float16.
    """

    name: str
    about: Mapping[str, object]
    shape: tuple[int, int, int]
    ask: Callable[[np.ndarray], np.ndarray]


def _answers(
    question: _Question,
    teaching: Teaching,
    sources: Sequence[Dataset],
    device: torch.device,
    on_step: Callable[[str], None] | None,
) -> list[StoredMaps]:
    try:
        teaching.cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"`teacher_maps` {teaching.cache} is no folder and cannot be made ({error.strerror})"
        ) from error
    shape = question.shape
    common = json.dumps(
        {"teachers": [one.sha256() for one in teaching.teachers], **question.about}, sort_keys=True
    ).encode()
    keys = of_first(lambda: [[_key(common, one[index].frame) for index in range(len(one))] for one in sources])
    wanted = {key: (source, index) for source, of in zip(sources, keys) for index, key in enumerate(of)}
    # Nobody writes before the first process has looked, so that all share the same.
    states = of_first(lambda: {key: _state(teaching.cache / _name(key), key, shape) for key in wanted})
    missing = [key for key, state in states.items() if state != "there"]
    _tell(question.name, teaching, states, shape)
    _refuse_full_disk(teaching.cache, len(missing), shape)
    own = share_of(missing)
    with _on(device, teaching.teachers), _showing(question.name, on_step, len(own)) as show:
        for key in own:
            source, index = wanted[key]
            _write(teaching.cache / _name(key), key, question.ask(source[index].frame))
            show()
    wait_for_all()
    return [StoredMaps([teaching.cache / _name(key) for key in of], shape) for of in keys]


def _key(common: bytes, frame: np.ndarray) -> str:
    digest = hashlib.sha256(common)
    digest.update(f"{frame.shape}".encode())
    digest.update(np.ascontiguousarray(frame).tobytes())
    return digest.hexdigest()


def _name(key: str) -> str:
    return f"{key[:32]}.map"


def _header(key: str, shape: Sequence[int], values: bytes) -> bytes:
    about = {"key": key, "shape": list(shape), "crc32": zlib.crc32(values)}
    return (_MAGIC + json.dumps(about).encode()).ljust(_HEADER - 1) + b"\n"


def _state(path: Path, key: str, shape: Sequence[int]) -> str:
    """Return ``there``, ``missing`` or ``damaged``. Raises ForeignFileError: somebody else wrote the file."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        raise ForeignFileError(
            f"{path} cannot be read ({error.strerror}) and is in the way of a map; move it"
        ) from error
    # A power cut can leave a file of ours empty or full of zeros.
    if data[:_HEADER].strip(b"\0") and not data.startswith(_MAGIC):
        raise ForeignFileError(
            f"{path} is no map of a teacher and would be replaced; move it, or name another `teacher_maps`"
        )
    return "there" if data[:_HEADER] == _header(key, shape, data[_HEADER:]) and _fits(data, shape) else "damaged"


def _fits(data: bytes, shape: Sequence[int]) -> bool:
    return len(data) == _HEADER + _bytes_of(shape)


def _bytes_of(shape: Sequence[int]) -> int:
    return 2 * math.prod(shape)


def _write(path: Path, key: str, found: np.ndarray) -> None:
    values = found.astype("<f2").tobytes()
    try:
        # A map that a power cut took is asked for again, so its bytes need not be on the disk at once.
        atomic_write(path, _header(key, found.shape, values) + values, durable=False)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise TrainingError(_disk_is_full(path.parent)) from error
        raise TrainingError(f"{path} cannot be written ({error.strerror}); name another `teacher_maps`") from error


def _refuse_full_disk(cache: Path, missing: int, shape: Sequence[int]) -> None:
    needed, free = missing * (_HEADER + _bytes_of(shape)), shutil.disk_usage(cache).free
    if needed > free:
        raise TrainingError(f"{_disk_is_full(cache)} ({_size(needed)} are needed, {_size(free)} are free)")


def _disk_is_full(cache: Path) -> str:
    return (
        f"the disk is too full for the maps of the teachers in {cache}; make room and start the same command again, "
        "name another `teacher_maps`, or pass a larger stride in `distill`"
    )


def _tell(name: str, teaching: Teaching, states: Mapping[str, str], shape: Sequence[int]) -> None:
    counts = {name: list(states.values()).count(name) for name in ("there", "damaged")}
    size = f"{'x'.join(map(str, shape))} float16, {_size(len(states) * _bytes_of(shape))}"
    teaching.tell(f"teacher {name}: {counts['there']} of {len(states)} are in {teaching.cache} ({size} in all)")
    if counts["damaged"]:
        teaching.tell(f"teacher {name}: {counts['damaged']} files are damaged, and are made again")


def _size(count: int) -> str:
    return f"{count / 2**20:.1f} MB" if count < 2**30 else f"{count / 2**30:.1f} GB"


@contextmanager
def _on(device: torch.device, teachers: Sequence[Teacher]) -> Iterator[None]:
    """Have the teachers on a device for a while; afterwards the student has its memory."""
    for teacher in teachers:
        teacher.network.to(device).eval()
    try:
        yield
    finally:
        for teacher in teachers:
            teacher.network.cpu()


@contextmanager
def _showing(name: str, on_step: Callable[[str], None] | None, count: int) -> Iterator[Callable[[], None]]:
    """Give what is called after every map, and shows a line with the time that is left."""
    started, done = time.monotonic(), 0

    def show() -> None:
        nonlocal done
        done += 1
        if on_step is not None:
            seconds = (time.monotonic() - started) / done * (count - done)
            on_step(f"teacher {name}  {done}/{count}  {seconds:.0f} s left")

    try:
        yield show
    finally:
        if on_step is not None and done:
            on_step("")
