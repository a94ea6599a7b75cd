"""Fetch pretrained weights of encoders from the hub that timm and segmentation-models-pytorch publish on, and keep them
in its cache."""

from __future__ import annotations

import logging
import os
import socket
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator
from urllib.parse import urlsplit

import timm
from torch import Tensor

from edgeseg.builder.networks import EDGE_ENCODERS, NetworkConfig
from edgeseg.builder.networks.smp import quiet, timm_name
from edgeseg.errors import require

__all__ = ["cache_folder", "hub_tensors"]

_FILES = ("model.safetensors", "pytorch_model.bin")
_PATIENCE_S = 5.0
_PROXIES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")


def hub_tensors(config: NetworkConfig, name: str) -> tuple[Path, dict[str, Tensor]]:
    """Return pretrained weights of an encoder: their file in the hub's cache, fetched if it is not there, and tensors.

    Args:
        config: of the network.
        name: of a set of ``weight_sets``.

    Raises:
        Exception: the hub cannot be reached; its client's errors have no common base.
    """
    from edgeseg.builder.weights.files import read_weights

    of_timm = EDGE_ENCODERS.get(config.encoder) if config.architecture == "edge_unet" else timm_name(config.encoder)
    if of_timm is not None:
        known = timm.models.get_pretrained_cfg(of_timm)
        file = _file(known.hf_hub_id, (known.hf_hub_filename,) if known.hf_hub_filename else _FILES, None)
        # timm itself renames layers of older files, and resamples positions of a ViT.
        with quiet():
            made = timm.create_model(
                of_timm, pretrained=True, in_chans=config.in_channels, pretrained_cfg_overlay={"file": str(file)}
            )
        return file, made.state_dict()
    smp = require("segmentation_models_pytorch", "train")
    settings = smp.encoders.encoders[config.encoder]["pretrained_settings"][name]
    file = _file(settings["repo_id"], _FILES[:1], settings["revision"])
    return file, read_weights(file).tensors


def cache_folder() -> Path:
    """Return where the hub's client keeps what it fetched."""
    return Path(require("huggingface_hub.constants", "train").HF_HUB_CACHE)


def _file(repo: str, names: tuple[str, ...], revision: str | None) -> Path:
    hub = require("huggingface_hub", "train")
    missing = (hub.errors.LocalEntryNotFoundError, hub.errors.EntryNotFoundError)
    for name in names:
        try:
            return Path(hub.hf_hub_download(repo, name, revision=revision, local_files_only=True))
        except missing:
            continue
    _refuse_unreachable(require("huggingface_hub.constants", "train").ENDPOINT)
    with _progress():
        for name in names[:-1]:
            try:
                return Path(hub.hf_hub_download(repo, name, revision=revision))
            except hub.errors.EntryNotFoundError:
                continue
        return Path(hub.hf_hub_download(repo, names[-1], revision=revision))


def _refuse_unreachable(endpoint: str) -> None:
    """Raise OSError where the hub's host cannot be reached: its client would try again for a minute."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise OSError("HF_HUB_OFFLINE is set")
    if any(os.environ.get(name) for name in _PROXIES):
        return  # the proxy resolves the host
    address = urlsplit(endpoint)
    host, port = address.hostname or endpoint, address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((host, port), timeout=_PATIENCE_S).close()
    except OSError as error:
        raise OSError(f"{host} cannot be reached: {error.strerror or error}") from error


@contextmanager
def _progress() -> Iterator[None]:
    """Let the client draw a bar where somebody watches, and keep its log of retries to itself."""
    tools = require("huggingface_hub.utils", "train")
    (tools.enable_progress_bars if sys.stderr.isatty() else tools.disable_progress_bars)()
    log = logging.getLogger("huggingface_hub")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)
