"""A Ray cluster, or Ray on this machine."""

from __future__ import annotations

import os
import warnings
from itertools import islice
from typing import Any, Iterable, Iterator

from edgeseg.archive.clusters.base import ATTEMPTS, Cluster, Report, Work
from edgeseg.archive.plan import Task
from edgeseg.errors import EdgesegError, first_line, require

__all__ = ["RayCluster"]


class RayCluster(Cluster):
    """The workers of Ray. On each node there is edgeseg of this version.

    Ray's own checkpoints are not used: after a failure they repeat rows. A shard counts when its done-file is there.

    Args:
        address: ``ray://HOST:PORT`` of Ray's client server; empty for the cluster of ``RAY_ADDRESS``, else this
            machine.
        workers: CPUs of a Ray on this machine, 0 for all.

    Raises:
        MissingDependencyError: ray is not installed. EdgesegError: nobody answers.
    """

    def __init__(self, address: str, workers: int) -> None:
        self._ray = require("ray", "ray")
        is_own = not address and "RAY_ADDRESS" not in os.environ
        own = {"num_cpus": workers} if is_own and workers else {}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that nobody answers is said below, in one line
                self._ray.init(
                    address or None, log_to_driver=False, configure_logging=False, include_dashboard=None, **own
                )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise EdgesegError(f"{address or 'ray'}: no Ray answers ({first_line(error)})") from error
        self._cpus = int(self._ray.cluster_resources().get("CPU", 1))
        self.description = f"Ray with {self._cpus} CPUs{f' at {address}' if address else ''}"

    def run(self, work: Work, tasks: Iterable[Task]) -> Iterator[Report]:
        """Work tasks off, as ``Cluster`` says."""
        ray, rest = self._ray, iter(tasks)
        remote = ray.remote(num_cpus=1, max_retries=ATTEMPTS - 1)(_collected)
        waiting: dict[Any, int] = {}
        try:
            while True:
                for task in islice(rest, max(0, 2 * self._cpus - len(waiting))):
                    waiting[remote.remote(work, task)] = task.number
                if not waiting:
                    return
                ready, _ = ray.wait(list(waiting), num_returns=1)
                for one in ready:
                    yield self._report(waiting.pop(one), one)
        finally:
            for one in waiting:
                ray.cancel(one)

    def close(self) -> None:
        """Leave the cluster; a Ray of this machine ends. May be called twice."""
        self._ray.shutdown()

    def _report(self, number: int, reference: Any) -> Report:
        errors = self._ray.exceptions
        try:
            return Report(number, self._ray.get(reference))
        except (errors.WorkerCrashedError, errors.OutOfMemoryError, errors.NodeDiedError):
            # Ray's memory monitor kills for a picture that is too large, too; the task is tried alone then.
            return Report(number, lost="every Ray worker that tried it died")
        except errors.RayTaskError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, EdgesegError):
                raise cause from None
            raise EdgesegError(f"Ray: {first_line(cause or error)}") from error
        except (errors.RayError, ConnectionError) as error:
            raise EdgesegError(f"Ray is gone ({first_line(error)}); what is done stays: run it again") from error


def _collected(work: Work, task: Task) -> tuple[Any, ...]:
    return tuple(work(task))
