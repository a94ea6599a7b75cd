"""Read the tensors of a file that anybody wrote. Nothing is unpickled but tensors and plain values."""

from __future__ import annotations

import json
import pickle
import re
import warnings
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator, Mapping

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from edgeseg.errors import CheckpointError, first_line

__all__ = ["HEADER", "StoredWeights", "read_weights", "unreadable"]

HEADER = "edgeseg"
"""Under this name the header of our own safetensors files stands."""

_OTHER_KINDS = {b"\x89HDF": "an HDF5 file of Keras", b"\x08": "an ONNX file"}
_GLOBAL = re.compile(r"\b([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+) was not an allowed global")
_FOLDER_FILES = ("model.safetensors", "pytorch_model.bin")
"""What ``save_pretrained`` writes beside ``config.json``: since 0.24 of huggingface_hub, and before."""


@dataclass(frozen=True)
class StoredWeights:
    """The tensors of a file.

    Attributes:
        path: of the file, or of the folder of ``save_pretrained``.
        tensors: name -> tensor on the CPU, names as the file has them.
        about: the ``config.json`` of a folder of ``save_pretrained``; empty for a file.
        header: what our own checkpoints say; empty for files of others.
    """

    path: Path
    tensors: dict[str, Tensor]
    about: Mapping[str, Any] = field(default_factory=dict)
    header: str = ""


def read_weights(path: Path) -> StoredWeights:
    """Read a checkpoint: safetensors, ``torch.save`` of a state dict (also inside a dict, as Lightning has it), or a
    folder of ``save_pretrained``.

    Raises:
        CheckpointError: it cannot be read, holds no tensors, or holds objects that would run code.
    """
    path = Path(path)
    if path.is_dir():
        return _of_folder(path)
    start = _start_of(path)
    if start[8:9] == b"{":
        return _of_safetensors(path)
    if start.startswith(b"PK"):
        _refuse_other_zips(path)
    elif not start.startswith(b"\x80"):
        kind = next((kind for mark, kind in _OTHER_KINDS.items() if start.startswith(mark)), "")
        if kind:
            raise CheckpointError(f"{path} is {kind}; pass a file of torch.save or safetensors")
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint: it is no safetensors file and none of torch.save, or it is "
            "truncated"
        )
    return StoredWeights(path, _state_of(_unpickled(path), path))


def unreadable(path: Path, error: BaseException) -> str:
    """Return the message for a file that is no whole checkpoint."""
    return f"{path} cannot be read as a checkpoint, it is truncated or damaged ({first_line(error)}); copy it again"


def _start_of(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(16)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read as a checkpoint: {error.strerror or error}") from error


def _of_folder(path: Path) -> StoredWeights:
    config = path / "config.json"
    if not config.is_file():
        raise CheckpointError(
            f"{path} is a folder without config.json; pass a file such as best.safetensors of 'edgeseg train', or a "
            "folder of save_pretrained"
        )
    try:
        about = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{config} cannot be read as JSON ({first_line(error)}); save the model again") from error
    if not isinstance(about, dict):
        raise CheckpointError(f"{config} holds no object; save the model again")
    for name in _FOLDER_FILES:
        if (path / name).is_file():
            inner = read_weights(path / name)
            return StoredWeights(path, inner.tensors, about, inner.header)
    raise CheckpointError(f"{path} holds none of {' and '.join(_FOLDER_FILES)}; save the model again")


def _of_safetensors(path: Path) -> StoredWeights:
    try:
        with safetensors.safe_open(path, "pt") as file:
            header = (file.metadata() or {}).get(HEADER, "")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(unreadable(path, error)) from error
    return StoredWeights(path, tensors, header=header)


def _refuse_other_zips(path: Path) -> None:
    """Raise CheckpointError with the kind of a zip that is none of torch.save."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path} is a truncated zip, perhaps of PyTorch; copy it again") from error
    if any(name.endswith("manifest.json") for name in names):
        raise CheckpointError(f"{path} is a bundle of 'edgeseg compile', whose network is compiled already")
    if any("/code/" in name for name in names):
        raise CheckpointError(
            f"{path} is a TorchScript program, whose code edgeseg does not run; save its weights with "
            "torch.save(model.state_dict(), FILE)"
        )
    if not any(name.endswith("data.pkl") for name in names):
        raise CheckpointError(f"{path} is a zip, and none of PyTorch; pass a file of torch.save or safetensors")


def _unpickled(path: Path) -> Any:
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_harmless()):
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than weights ({_culprit(error)}), and loading that would run what is in it; save its "
            "weights alone: torch.save(model.state_dict(), FILE)"
        ) from error
    except Exception as error:  # a damaged file makes torch raise many types, without a common base
        raise CheckpointError(unreadable(path, error)) from error


def _culprit(error: Exception) -> str:
    """What torch names as the object that it does not load, in a word."""
    found = _GLOBAL.search(str(error))
    return found[1] if found else "objects of Python"


def _harmless() -> list[Any]:
    """Types of plain values that trainers store beside weights, such as a best score of numpy."""
    import collections
    from pathlib import PosixPath, PurePosixPath

    import numpy as np

    scalar = getattr(np, "_core", None) or np.core
    kinds = {type(np.dtype(one)) for one in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")}
    return [collections.defaultdict, dict, PosixPath, PurePosixPath, scalar.multiarray.scalar, np.dtype, *kinds]


def _state_of(loaded: Any, path: Path) -> dict[str, Tensor]:
    """The state dict in what was stored: the mapping with the most tensors, at most three deep."""
    found = max(_mappings(loaded, 3), key=len, default={})
    if not found:
        raise CheckpointError(
            f"{path} holds no tensors by name; save the weights: torch.save(model.state_dict(), FILE)"
        )
    return found


def _mappings(value: Any, depth: int) -> Iterator[dict[str, Tensor]]:
    if not isinstance(value, Mapping) or not depth:
        return
    yield {str(key): one for key, one in value.items() if isinstance(key, str) and isinstance(one, Tensor)}
    for one in value.values():
        yield from _mappings(one, depth - 1)
