"""Read and write checkpoints: safetensors with the network's configuration and the ModelSpec in the header.

Nothing is pickled.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Mapping

import safetensors
import safetensors.torch
import torch
from pytorch_lightning.plugins.io import CheckpointIO
from torch import Tensor

from edgeseg.builder.networks import NetworkConfig, PaddedNetwork, network_from_config
from edgeseg.builder.weights.files import HEADER, StoredWeights, read_weights
from edgeseg.builder.weights.mapping import load_stored
from edgeseg.errors import CheckpointError, CompileError, SpecError, first_line
from edgeseg.files import atomic_write
from edgeseg.ranges import Ranges
from edgeseg.spec import ModelSpec

__all__ = [
    "Checkpoint",
    "SafetensorsIO",
    "has_ranges",
    "is_own_checkpoint",
    "load_checkpoint",
    "load_weights",
    "save_checkpoint",
]

SCHEMA = 2
"""2 is of networks that 0.2 does not know: it would leave an activation out."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained network with all that is needed to compile it.

    Attributes:
        network: the network in evaluation mode, on the CPU.
        config: how to build the network.
        spec: classes, palette, size and preprocessing.
        training: recipe, metrics and data sets, as written by the trainer.
        ranges: of INT8, that the network was fine-tuned with; None for a network trained in float.
    """

    network: PaddedNetwork
    config: NetworkConfig
    spec: ModelSpec
    training: Mapping[str, Any] = field(default_factory=dict)
    ranges: Ranges | None = None


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint atomically.

    Raises:
        OSError: the disk refused.
    """
    network = checkpoint.config.to_json()
    header = {
        "schema": SCHEMA if len(network) > 3 else 1,
        "network": network,
        "spec": checkpoint.spec.to_json(),
        "training": dict(checkpoint.training),
        **({} if checkpoint.ranges is None else {"ranges": checkpoint.ranges.to_json()}),
    }
    tensors = {name: value.detach().cpu().contiguous() for name, value in checkpoint.network.state_dict().items()}
    atomic_write(path, safetensors.torch.save(tensors, metadata={HEADER: json.dumps(header)}))


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint written by ``save_checkpoint``; its network comes in evaluation mode, on the CPU.

    Raises:
        CheckpointError: the file is missing, truncated, not a checkpoint, or from a newer edgeseg; or its weights
            do not fit.
    """
    stored = read_weights(path)
    header = _header(stored)
    try:
        config = NetworkConfig.from_json(header["network"])
        spec = ModelSpec.from_json(header["spec"])
        training = dict(header.get("training", {}))
        ranges = Ranges.from_json(header["ranges"]) if "ranges" in header else None
    except (KeyError, TypeError, ValueError, OverflowError, SpecError, CompileError) as error:
        raise CheckpointError(f"{path} has a malformed header: {first_line(error)}") from error
    # A network of others with one output has two classes, and one of sigmoids may have a background besides.
    fitting = (spec.outputs,) if spec.has_sigmoids else (len(spec.classes), len(spec.classes) - 1)
    if config.classes not in fitting:
        raise CheckpointError(f"{path} is of a network of {config.classes} classes and names {len(spec.classes)}")
    network = network_from_config(config)
    load_stored(network, stored)
    return Checkpoint(network.eval(), config, spec, training, ranges)


def load_weights(network: PaddedNetwork, path: Path) -> None:
    """Load only the tensors of a checkpoint into a network.

    Raises:
        CheckpointError: the file cannot be read, or its tensors do not fit or are not finite.
    """
    load_stored(network, read_weights(path))


def has_ranges(path: Path) -> bool:
    """Return whether a file is a checkpoint that was fine-tuned for INT8, and says with which ranges."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            return "ranges" in json.loads((file.metadata() or {}).get(HEADER, "{}"))
    except (OSError, safetensors.SafetensorError, ValueError, RecursionError, TypeError):
        return False


def is_own_checkpoint(path: Path) -> bool:
    """Return whether a file says that it is a checkpoint of ``save_checkpoint``, or the state of a training."""
    if path.is_dir():
        return False
    try:
        with safetensors.safe_open(path, "pt") as file:
            return HEADER in (file.metadata() or {})
    except (OSError, safetensors.SafetensorError):
        return False


def _header(stored: StoredWeights) -> dict[str, Any]:
    path = stored.path
    if not stored.header:
        raise CheckpointError(
            f"{path} is no checkpoint of 'edgeseg train' (no edgeseg header says which network it is); 'edgeseg "
            "compile' takes those of segmentation-models-pytorch with `classes` and `size`, and ONNX of any other"
        )
    try:
        header = json.loads(stored.header)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} has a malformed header: {first_line(error)}") from error
    if not isinstance(header, dict) or not isinstance(header.get("schema", 0), int):
        raise CheckpointError(f"{path} has a malformed header: it is no object with a schema")
    if "schema" not in header:
        raise CheckpointError(f"{path} is the state that `resume` needs; the network is in best.safetensors beside it")
    if header["schema"] > SCHEMA:
        raise CheckpointError(
            f"{path} has schema {header['schema']}, this edgeseg reads up to {SCHEMA}; upgrade edgeseg"
        )
    return header


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
        atomic_write(Path(path), safetensors.torch.save(tensors, metadata={HEADER: json.dumps(tree)}))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read what ``save_checkpoint`` wrote.

        Raises:
            CheckpointError: the file cannot be read.
        """
        try:
            with safetensors.safe_open(path, "pt") as file:
                tree = json.loads((file.metadata() or {})[HEADER])
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
