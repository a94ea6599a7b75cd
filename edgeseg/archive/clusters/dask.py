"""A Dask cluster: a scheduler that somebody started, and its workers."""

from __future__ import annotations

from itertools import islice
from typing import Any, Iterable, Iterator

from edgeseg.archive.clusters.base import ATTEMPTS, Cluster, Report, Work
from edgeseg.archive.plan import Task
from edgeseg.errors import EdgesegError, first_line, require

__all__ = ["DaskCluster"]

_ANSWER_S, _WORKERS_S = 10.0, 60.0


class DaskCluster(Cluster):
    """The workers of a Dask scheduler. On each there is edgeseg of this version.

    Args:
        address: of the scheduler, ``tcp://HOST:PORT``.

    Raises:
        MissingDependencyError: distributed is not installed. EdgesegError: nobody answers, or there are no workers.
    """

    def __init__(self, address: str) -> None:
        self._distributed = require("distributed", "dask")
        self._address = address
        try:
            self._client = self._distributed.Client(address, timeout=_ANSWER_S, set_as_default=False)
        except (OSError, self._distributed.TimeoutError) as error:
            raise EdgesegError(f"{address}: no Dask scheduler answers ({first_line(error)})") from error
        try:
            self._client.wait_for_workers(1, timeout=_WORKERS_S)
        except (OSError, self._distributed.TimeoutError) as error:
            self.close()
            raise EdgesegError(f"{address}: the Dask scheduler has no worker ({first_line(error)})") from error
        self.description = f"{len(self._client.ncores())} Dask workers at {address}"

    def run(self, work: Work, tasks: Iterable[Task]) -> Iterator[Report]:
        """Work tasks off, as ``Cluster`` says."""
        rest = iter(tasks)
        numbers: dict[str, int] = {}
        completed = None
        try:
            first = [self._submitted(work, task, numbers) for task in islice(rest, self._room())]
            completed = self._distributed.as_completed(first, loop=self._client.loop)
            for future in completed:
                number = numbers.pop(future.key)
                yield self._report(number, future)
                del future
                for task in islice(rest, max(0, self._room() - len(numbers))):
                    completed.add(self._submitted(work, task, numbers))
        finally:
            if completed is not None:
                self._client.cancel(list(completed.futures))

    def close(self) -> None:
        """Leave the cluster. May be called twice."""
        self._client.close(timeout=_ANSWER_S)

    def _room(self) -> int:
        """Return how many tasks are under way at a time: two for each thread of a worker."""
        return max(2, 2 * int(sum(self._client.ncores().values())))

    def _submitted(self, work: Work, task: Task, numbers: dict[str, int]) -> Any:
        future = self._client.submit(_collected, work, task, pure=False, retries=ATTEMPTS - 1)
        numbers[future.key] = task.number
        return future

    def _report(self, number: int, future: Any) -> Report:
        if future.status == "finished":
            return Report(number, future.result())
        if future.status != "error":
            raise EdgesegError(
                f"{self._address}: the Dask scheduler is gone ({future.status}); what is done stays: run it again"
            )
        error = future.exception()
        if isinstance(error, self._distributed.KilledWorker):
            return Report(number, lost="every Dask worker that tried it died")
        if isinstance(error, EdgesegError):
            raise error
        raise EdgesegError(f"{self._address}: {type(error).__name__}: {first_line(error)}")


def _collected(work: Work, task: Task) -> tuple[Any, ...]:
    return tuple(work(task))
