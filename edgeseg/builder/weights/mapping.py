"""Fit the tensors of a file to a network, whatever wrapped it when it was saved and whoever named its layers."""

from __future__ import annotations

from collections import Counter
from typing import Mapping

import torch
from torch import Tensor, nn

from edgeseg.builder.networks import PaddedNetwork
from edgeseg.builder.weights.files import StoredWeights
from edgeseg.errors import CheckpointError

__all__ = ["KEEPS", "fitted", "head_names", "load_stored", "refuse_not_finite", "without_prefix"]

KEEPS = ("all", "body", "encoder")
"""What is taken of a file: every tensor, all but the head that gives the classes, or the encoder alone."""
_COUNTER = "num_batches_tracked"
_HEADS = ("segmentation_head.", "head.")


def load_stored(network: PaddedNetwork, stored: StoredWeights, keep: str = "all") -> str:
    """Load the tensors of a file into a network.

    Names may have a prefix (``module.``, ``model.``). A file of an encoder or of a classifier (torchvision, timm) fills
    the encoder. Layers under other names are told by their order, kinds and shapes. Weights for three channels are
    summed for one, and repeated for four.

    Args:
        network: that is filled.
        stored: of ``read_weights``.
        keep: of ``KEEPS``.

    Returns:
        What was filled, for people.

    Raises:
        CheckpointError: the tensors do not fit or are not finite; the message says what would.
    """
    inner = network.network
    whole, encoder = inner.state_dict(), _encoder(inner).state_dict()
    tensors = without_prefix(stored.tensors, whole)
    refuse_not_finite(tensors, stored)
    heads = head_names(whole)
    if keep == "all" and not _is_of_encoder(tensors, whole):
        _refuse_misfit(whole, tensors, heads, stored)
        inner.load_state_dict(_chosen(whole, tensors))
        return "all weights"
    if keep == "body":
        body = {name: value for name, value in whole.items() if name not in heads}
        _refuse_misfit(body, {name: value for name, value in tensors.items() if name not in heads}, set(), stored)
        inner.load_state_dict({**whole, **_chosen(body, tensors)})
        return "all weights but the head's, which are new"
    found = fitted(without_prefix(stored.tensors, encoder), encoder)
    if found is None:
        raise CheckpointError(_no_encoder(stored, network, encoder))
    _encoder(inner).load_state_dict({**encoder, **found})
    return "the encoder's weights"


def fitted(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Return the tensors under the names of a module: by name, else by order; None where they do not fit."""
    needed = {name: value for name, value in own.items() if not name.endswith(_COUNTER)}
    named = {name: _with_channels(tensors[name], value) for name, value in needed.items() if name in tensors}
    if len(named) == len(needed) and all(named[name].shape == value.shape for name, value in needed.items()):
        return named
    theirs = [(name, value) for name, value in tensors.items() if not name.endswith(_COUNTER)]
    pairs = dict(zip(needed, theirs))
    in_order = {name: _with_channels(pairs[name][1], value) for name, value in needed.items() if name in pairs}
    # The order is believed where kind (weight, bias, running_mean) and shape of every single tensor agree.
    agree = len(in_order) == len(needed) and all(
        in_order[name].shape == value.shape and _kind(name) == _kind(pairs[name][0]) for name, value in needed.items()
    )
    return in_order if agree else None


def without_prefix(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors without what a wrapper put before the names of a module, such as ``module.``.

    What stands under other prefixes (a loss, averaged weights) is left out. Names that fit none of the module's stay
    as they are, but for a prefix that all of them share.
    """
    heads: Counter[str] = Counter()
    wanted = set(own)
    for name in tensors:
        parts = name.split(".")
        heads.update(".".join(parts[:n]) for n in range(len(parts)) if ".".join(parts[n:]) in wanted)
    if heads:
        most = max(heads.values())
        prefix = min((one for one, count in heads.items() if count == most), key=len)
    else:
        first = {name.split(".")[0] for name in tensors}
        prefix = first.pop() if len(first) == 1 and all("." in name for name in tensors) else ""
    start = f"{prefix}." if prefix else ""
    return {name[len(start) :]: value for name, value in tensors.items() if name.startswith(start)}


def head_names(own: Mapping[str, Tensor]) -> set[str]:
    """Return the names of the tensors whose shapes hang on the number of classes: the last convolution's."""
    names = [name for name in own if name.startswith(_HEADS)]
    last = names[-1].rpartition(".")[0] if names else ""
    return {name for name in names if name.rpartition(".")[0] == last}


def refuse_not_finite(tensors: Mapping[str, Tensor], stored: StoredWeights) -> None:
    """Raise CheckpointError where a weight is no number."""
    broken = [name for name, value in tensors.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise CheckpointError(
            f"{stored.path} holds weights that are not finite ({len(broken)} tensors, first {broken[0]}); the training "
            "that wrote it diverged: train again with a smaller `learning_rate`"
        )


def _encoder(inner: nn.Module) -> nn.Module:
    encoder = inner.encoder
    assert isinstance(encoder, nn.Module)
    return encoder


def _is_of_encoder(tensors: Mapping[str, Tensor], whole: Mapping[str, Tensor]) -> bool:
    """Whether a file has nothing of a decoder or a head: it is of an encoder, or of a classifier."""
    return not any(name in whole and not name.startswith("encoder.") for name in tensors) and not any(
        part.startswith("decode") for name in tensors for part in name.split(".")
    )


def _chosen(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the module's names; a counter that older files lack stays."""
    return {name: tensors.get(name, value) for name, value in own.items()}


def _with_channels(value: Tensor, own: Tensor) -> Tensor:
    """A convolution on three channels of colour, for a network of one or four."""
    if value.ndim != 4 or own.ndim != 4 or value.shape[1] != 3 or own.shape[1] not in (1, 4):
        return value
    if value.shape[0] != own.shape[0] or value.shape[2:] != own.shape[2:]:
        return value
    if own.shape[1] == 1:
        return value.sum(1, keepdim=True)
    return torch.cat([value, value[:, :1]], 1) * (3 / 4)


def _kind(name: str) -> str:
    return name.rpartition(".")[2]


def _refuse_misfit(
    own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], heads: set[str], stored: StoredWeights
) -> None:
    """Raise CheckpointError, in counts and one example of each, where tensors are not those of a module."""
    differing = [name for name in own if name in tensors and own[name].shape != tensors[name].shape]
    absent = sorted(name for name in own if name not in tensors and not name.endswith(_COUNTER))
    unknown = sorted(name for name in tensors if name not in own and not name.startswith("classification_head."))
    if not (differing or absent or unknown):
        return
    if differing and not (absent or unknown) and set(differing) <= heads:
        name = differing[0]
        there, here = tensors[name].shape[0], own[name].shape[0]
        raise CheckpointError(
            f"{stored.path} does not fit the network: it is of {there} classes and this is of {here} ({name}); the "
            "number of classes must be the same: pass `keep` body for all weights but the head's, or `keep` encoder"
        )
    raise CheckpointError(
        f"{stored.path} does not fit the network: {_counted(own, tensors, differing, absent, unknown)}"
    )


def _counted(
    own: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    differing: list[str],
    absent: list[str],
    unknown: list[str],
) -> str:
    facts = [f"{len(own) - len(absent)} of the network's {len(own)} tensors are in the file"]
    if differing:
        name = differing[0]
        shapes = f"{tuple(tensors[name].shape)} in the file, {tuple(own[name].shape)} in the network"
        facts.append(f"{len(differing)} of them with other shapes, first {name}: {shapes}")
    facts += [f"absent is e.g. {absent[0]}"] if absent else []
    facts += [f"{len(unknown)} of the file's are not in the network, e.g. {unknown[0]}"] if unknown else []
    return (
        "; ".join(facts) + "; pass the `network` and `encoder` that it was trained with, or `keep` encoder for the "
        "encoder alone"
    )


def _no_encoder(stored: StoredWeights, network: PaddedNetwork, encoder: Mapping[str, Tensor]) -> str:
    known = without_prefix(stored.tensors, encoder)
    same = sum(1 for name, value in encoder.items() if name in known and known[name].shape == value.shape)
    return (
        f"{stored.path} has no weights for the encoder {network.config.encoder}: {same} of its {len(encoder)} tensors "
        f"fit, and the file's {len(stored.tensors)} are not in its order either; pass the encoder that they are of"
    )
