"""Read and write checkpoints: safetensors with the network's configuration and the ModelSpec in the header.

Nothing is pickled.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Mapping

import safetensors
import safetensors.torch
import torch
from pytorch_lightning.plugins.io import CheckpointIO
from torch import Tensor

from edgeseg.builder.networks import NetworkConfig, PaddedNetwork, network_from_config
from edgeseg.errors import CheckpointError, SpecError, first_line
from edgeseg.files import atomic_write
from edgeseg.spec import ModelSpec

__all__ = ["Checkpoint", "SafetensorsIO", "load_checkpoint", "load_weights", "save_checkpoint"]

_HEADER = "edgeseg"
SCHEMA = 1


@dataclass(frozen=True)
class Checkpoint:
    """A trained network with all that is needed to compile it.

    Attributes:
        network: the network in evaluation mode, on the CPU.
        config: how to build the network.
        spec: classes, palette, size and preprocessing.
        training: recipe, metrics and data sets, as written by the trainer.
    """

    network: PaddedNetwork
    config: NetworkConfig
    spec: ModelSpec
    training: Mapping[str, Any] = field(default_factory=dict)


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint atomically.

    Raises:
        OSError: the disk refused.
    """
    header = {
        "schema": SCHEMA,
        "network": asdict(checkpoint.config),
        "spec": checkpoint.spec.to_json(),
        "training": dict(checkpoint.training),
    }
    tensors = {name: value.detach().cpu().contiguous() for name, value in checkpoint.network.state_dict().items()}
    atomic_write(path, safetensors.torch.save(tensors, metadata={_HEADER: json.dumps(header)}))


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint written by ``save_checkpoint``; its network comes in evaluation mode, on the CPU.

    Raises:
        CheckpointError: the file is missing, truncated, not a checkpoint, or from a newer edgeseg; or its weights
            do not fit.
    """
    header = _header(path)
    try:
        config = NetworkConfig.from_json(header["network"])
        spec = ModelSpec.from_json(header["spec"])
        training = dict(header.get("training", {}))
    except (KeyError, TypeError, ValueError, OverflowError, SpecError) as error:
        raise CheckpointError(f"{path} has a malformed header: {first_line(error)}") from error
    if config.classes != len(spec.classes):
        raise CheckpointError(f"{path} is of a network of {config.classes} classes and names {len(spec.classes)}")
    network = network_from_config(config)
    load_weights(network, path)
    return Checkpoint(network.eval(), config, spec, training)


def load_weights(network: torch.nn.Module, path: Path) -> None:
    """Load only the tensors of a checkpoint into a network.

    Raises:
        CheckpointError: the file cannot be read, or its tensors do not fit or are not finite.
    """
    _refuse_other_kinds(path)
    try:
        stored = safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(_unreadable(path, error)) from error
    own = network.state_dict()
    differing = [name for name in own if name in stored and own[name].shape != stored[name].shape]
    absent, unknown = sorted(set(own) - set(stored)), sorted(set(stored) - set(own))
    if differing or absent or unknown:
        raise CheckpointError(f"{path} does not fit the network: {_misfit(own, stored, differing, absent, unknown)}")
    broken = [name for name, value in stored.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise CheckpointError(
            f"{path} holds weights that are not finite ({len(broken)} tensors, first {broken[0]}); the training that "
            "wrote it diverged: train again with a smaller `learning_rate`"
        )
    network.load_state_dict(stored)


def _misfit(
    own: Mapping[str, Tensor], stored: Mapping[str, Tensor], differing: list[str], absent: list[str], unknown: list[str]
) -> str:
    """Describe what does not fit, in counts and one example of each."""
    if differing and not (absent or unknown):
        name = differing[0]
        here, there = tuple(own[name].shape), tuple(stored[name].shape)
        several = f"{len(differing)} tensors have other shapes, first " if len(differing) > 1 else "size mismatch of "
        return f"{several}{name}: {there} in the file, {here} in the network; the number of classes must be the same"
    found = len(own) - len(absent)
    facts = [f"{found} of the network's {len(own)} tensors are in the file"]
    facts += [f"{len(differing)} of them with other shapes"] if differing else []
    facts += [f"absent is e.g. {absent[0]}"] if absent else []
    facts += [f"{len(unknown)} of the file's are not in the network, e.g. {unknown[0]}"] if unknown else []
    return "; ".join(facts) + "; only checkpoints of the same `network` and `encoder` can be continued from"


def _header(path: Path) -> dict[str, Any]:
    _refuse_other_kinds(path)
    try:
        with safetensors.safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {})[_HEADER])
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(_unreadable(path, error)) from error
    except (KeyError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is a safetensors file but no checkpoint of 'edgeseg train' (no edgeseg header says which network "
            "it is); export that network to ONNX and compile the .onnx"
        ) from error
    if not isinstance(header, dict) or not isinstance(header.get("schema", 0), int):
        raise CheckpointError(f"{path} has a malformed header: it is no object with a schema")
    if "schema" not in header:
        raise CheckpointError(f"{path} is the state that `resume` needs; the network is in best.safetensors beside it")
    if header["schema"] > SCHEMA:
        raise CheckpointError(
            f"{path} has schema {header['schema']}, this edgeseg reads up to {SCHEMA}; upgrade edgeseg"
        )
    return header


_KINDS = {
    b"\x80": "a pickle of PyTorch or Python, which edgeseg never loads because loading runs what is in it",
    b"\x89HDF": "an HDF5 file of Keras",
    b"\x08": "an ONNX file",
}


def _refuse_other_kinds(path: Path) -> None:
    """Raise CheckpointError with the file's kind unless it is a safetensors file."""
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; pass a file, such as best.safetensors of 'edgeseg train'")
    try:
        with open(path, "rb") as file:
            start = file.read(16)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read as a checkpoint: {error.strerror or error}") from error
    if start.startswith(b"PK"):
        kind = _kind_of_zip(path)
    elif start[8:9] == b"{":
        return  # safetensors: eight bytes of length, then JSON
    else:
        kind = next((kind for mark, kind in _KINDS.items() if start.startswith(mark)), "")
    if kind:
        raise CheckpointError(
            f"{path} is {kind}; edgeseg continues from checkpoints of 'edgeseg train' and compiles ONNX"
        )
    raise CheckpointError(f"{path} cannot be read as a checkpoint: it is no safetensors file, or it is truncated")


def _kind_of_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return "a truncated zip, perhaps of PyTorch"
    if any(name.endswith("manifest.json") for name in names):
        return "a bundle of 'edgeseg compile', whose network is compiled already"
    if any("/code/" in name for name in names):
        return "a TorchScript program"
    if any(name.endswith("data.pkl") for name in names):
        return _KINDS[b"\x80"]
    return "a zip"


def _unreadable(path: Path, error: Exception) -> str:
    return f"{path} cannot be read as a checkpoint, it is truncated or damaged ({first_line(error)}); copy it again"


class SafetensorsIO(CheckpointIO):
    """Storage for Lightning: optimiser and loop state as safetensors and JSON instead of a pickle."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write Lightning's nested state to ``path`` atomically.

        Raises:
            CheckpointError: the state holds a type that is not stored.
            OSError: the disk refused.
        """
        tensors: dict[str, Tensor] = {}
        tree = _flattened(checkpoint, tensors)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        atomic_write(Path(path), safetensors.torch.save(tensors, metadata={_HEADER: json.dumps(tree)}))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read what ``save_checkpoint`` wrote.

        Raises:
            CheckpointError: the file cannot be read.
        """
        try:
            with safetensors.safe_open(path, "pt") as file:
                tree = json.loads((file.metadata() or {})[_HEADER])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
            raise CheckpointError(f"{path} cannot be resumed from: {error}") from error
        state: dict[str, Any] = _restored(tree, tensors)
        return state

    def remove_checkpoint(self, path: Any) -> None:
        """Delete a checkpoint file."""
        Path(path).unlink(missing_ok=True)


def _flattened(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Convert ``value`` to a JSON tree; tensors are put aside and referred to by name. Dict keys keep their type."""
    if isinstance(value, Tensor):
        name = f"t{len(tensors)}"
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"dict": [[_flattened(k, tensors), _flattened(v, tensors)] for k, v in value.items()]}
    if isinstance(value, (list, tuple)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_flattened(item, tensors) for item in value]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise CheckpointError(f"training state holds a {type(value).__name__}, which is not stored; please report this")


def _restored(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(tree, dict):
        return tree
    ((kind, content),) = tree.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {_restored(key, tensors): _restored(value, tensors) for key, value in content}
    items = [_restored(item, tensors) for item in content]
    return tuple(items) if kind == "tuple" else items
