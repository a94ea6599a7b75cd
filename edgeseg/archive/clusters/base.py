"""The contract of what works tasks off."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Callable, Iterable, Iterator

from edgeseg.archive.plan import Task

__all__ = ["ATTEMPTS", "Cluster", "Report", "Work"]

ATTEMPTS = 3
"""How often a task is tried whose worker dies or fails."""

Work = Callable[[Task], Iterable[Any]]
"""Works a task off and yields what came of it, part by part. Other processes import it by its name."""


@dataclass(frozen=True)
class Report:
    """What came of a task, or of a part of it.

    Attributes:
        task: its number.
        results: what the work yielded.
        finished: whether the task is over.
        lost: why it is over without being done: it killed every worker that tried it.
    """

    task: int
    results: tuple[Any, ...] = ()
    finished: bool = True
    lost: str = ""


class Cluster(ABC):
    """Works tasks off in other processes. A task whose worker dies is given to another.

    Attributes:
        description: for people.
    """

    description: str

    @abstractmethod
    def run(self, work: Work, tasks: Iterable[Task]) -> Iterator[Report]:
        """Work tasks off, a few at a time, so that memory does not grow with their number.

        Ending the iteration early ends what is under way.

        Args:
            work: what to do with each.
            tasks: taken as workers become free.

        Raises:
            EdgesegError: the work fails and not for the task's sake, or the cluster does not answer any more.
        """

    def close(self) -> None:  # noqa: B027 - processes of this machine end with each run
        """Leave the cluster. May be called twice."""

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
