"""A Dask cluster: a scheduler that somebody started, and its workers."""

from __future__ import annotations

import logging
import time
from asyncio import CancelledError
from contextlib import suppress
from itertools import islice
from typing import Any, Iterable, Iterator

from edgeseg.archive.clusters.base import ATTEMPTS, Cluster, Report, Work
from edgeseg.archive.plan import Task
from edgeseg.errors import EdgesegError, first_line, require

__all__ = ["DaskCluster"]

_ANSWER_S, _WORKERS_S = 10.0, 60.0
_WORKERLESS_S, _LOOK_S = 300.0, 2.0
_AGAIN = ("lost", "pending")


class DaskCluster(Cluster):
    """The workers of a Dask scheduler. On each there is edgeseg of this version.

    Args:
        address: of the scheduler, ``tcp://HOST:PORT``.

    Raises:
        MissingDependencyError: distributed is not installed. EdgesegError: nobody answers, or there are no workers.
    """

    def __init__(self, address: str) -> None:
        self._distributed = require("distributed", "dask")
        self._logger = logging.getLogger("distributed")
        self._level = self._logger.level
        self._logger.setLevel(logging.CRITICAL + 1)  # what goes wrong is an error of one line
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
        under_way: dict[Any, Task] = {}
        suspects: list[Task] = []
        try:
            for task, report in self._worked_off(work, iter(tasks), under_way, room=0):
                if report.lost:
                    suspects.append(task)
                else:
                    yield report
            # Dask blames every task that waited at a worker that died. Alone, only one that kills does so again.
            for _, report in self._worked_off(work, iter(suspects), under_way, room=1):
                yield report
        except EdgesegError:
            raise
        except (Exception, CancelledError) as error:  # of Dask's own, whichever call meets the end first
            raise self._gone(first_line(error)) from error
        finally:
            with suppress(Exception, CancelledError):
                self._client.cancel(list(under_way))

    def close(self) -> None:
        """Leave the cluster. May be called twice."""
        self._client.close(timeout=_ANSWER_S)
        self._logger.setLevel(self._level)

    def _worked_off(
        self, work: Work, rest: Iterator[Task], under_way: dict[Any, Task], room: int
    ) -> Iterator[tuple[Task, Report]]:
        """Keep so many tasks under way at a time, 0 for two for each thread of a worker."""

        def submitted() -> list[Any]:
            most = room or max(2, 2 * int(sum(self._client.ncores().values())))
            futures = []
            for task in islice(rest, max(0, most - len(under_way))):
                futures.append(self._client.submit(_collected, work, task, pure=False, retries=ATTEMPTS - 1))
                under_way[futures[-1]] = task
            return futures

        completed = self._distributed.as_completed(submitted(), loop=self._client.loop)
        while not completed.is_empty():
            future = self._next(completed)
            report = self._report(under_way[future].number, future)
            if report is None:
                completed.add(future)
                continue
            yield under_way.pop(future), report
            for more in submitted():
                completed.add(more)

    def _next(self, completed: Any) -> Any:
        """Wait for a future. Raises EdgesegError: there is no worker any more, and none comes."""
        seen = looked = time.monotonic()
        while not completed.has_ready():
            now = time.monotonic()
            if now > looked + _LOOK_S:
                looked = now
                if self._client.ncores():
                    seen = now
                elif now > seen + _WORKERLESS_S:
                    raise EdgesegError(
                        f"{self._address}: the Dask scheduler has had no worker for {_WORKERLESS_S:g} s; what is done "
                        "stays: start some and run it again"
                    )
            time.sleep(0.02)
        return next(completed)

    def _report(self, number: int, future: Any) -> Report | None:
        """Return what became of a task; None where its worker died with the result, so that another does it again."""
        if future.status in _AGAIN and self._client.status == "running":
            return None
        if future.status == "finished":
            try:
                return Report(number, future.result(timeout=_ANSWER_S))
            except self._distributed.TimeoutError:  # Dask waits for a worker, without end where there is none
                return None
        if future.status != "error":
            raise self._gone(future.status)
        error = future.exception()
        if isinstance(error, self._distributed.KilledWorker):
            return Report(number, lost="every Dask worker that tried it died")
        if isinstance(error, EdgesegError):
            raise error
        raise EdgesegError(f"{self._address}: {type(error).__name__}: {first_line(error)}")

    def _gone(self, how: str) -> EdgesegError:
        return EdgesegError(f"{self._address}: the Dask scheduler is gone ({how}); what is done stays: run it again")


def _collected(work: Work, task: Task) -> tuple[Any, ...]:
    return tuple(work(task))
