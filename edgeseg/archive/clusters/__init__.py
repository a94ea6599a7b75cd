"""The table of what works an archive off: processes of this machine, Dask, Ray."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Mapping

from edgeseg.archive.clusters.base import Cluster
from edgeseg.errors import UsageError

__all__ = ["CLUSTERS", "ClusterKind", "cluster_from", "clusters_help"]


# What an opener opens is imported in it, so that the table costs nothing to read.


def _open_local(address: str, workers: int) -> Cluster:
    from edgeseg.archive.clusters.local import LocalProcesses

    return LocalProcesses(workers)


def _open_dask(address: str, workers: int) -> Cluster:
    from edgeseg.archive.clusters.dask import DaskCluster

    return DaskCluster(f"tcp://{address}")


def _open_ray(address: str, workers: int) -> Cluster:
    from edgeseg.archive.clusters.ray import RayCluster

    return RayCluster(f"ray://{address}" if address else "", workers)


@dataclass(frozen=True)
class ClusterKind:
    """A row of ``CLUSTERS``.

    Attributes:
        open: takes what follows ``://`` and the number of workers, 0 for as many as there are.
        shown: how people write it.
        needs_address: whether something must follow ``://``; False for what has no address, None where it may.
    """

    open: Callable[[str, int], Cluster]
    shown: str
    needs_address: bool | None


CLUSTERS: Mapping[str, ClusterKind] = {
    "local": ClusterKind(_open_local, "local", False),
    "dask": ClusterKind(_open_dask, "dask://HOST:8786", True),
    "ray": ClusterKind(_open_ray, "ray://HOST:10001, ray", None),
}
"""What may follow ``--on``."""


def clusters_help() -> str:
    """Return what there is, as people write it."""
    return ", ".join(kind.shown for kind in CLUSTERS.values())


def cluster_from(text: str, workers: int) -> Cluster:
    """Open what works an archive off.

    Args:
        text: as ``CLUSTERS`` shows it.
        workers: processes at a time, 0 for as many as there are.

    Raises:
        UsageError: there is no such thing. MissingDependencyError: its package is not installed.
        EdgesegError: it does not answer.
    """
    name, separator, address = text.partition("://")
    kind = CLUSTERS.get(name)
    needs = None if kind is None else kind.needs_address
    if kind is None or (needs is True and not address) or (needs is False and separator):
        raise UsageError(f"`on` is one of {clusters_help()}, got {text!r}")
    return kind.open(address, workers)
