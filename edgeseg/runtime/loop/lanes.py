"""Batches side by side: each on an engine of its own, their results in the order of the batches."""

from __future__ import annotations

import threading
import time
from collections import deque
from queue import SimpleQueue
from typing import Callable, Generic, Sequence, TypeVar

from edgeseg.engines.base import Engine

__all__ = ["Lanes"]

Batch = TypeVar("Batch")
Done = TypeVar("Done")


class _Job(Generic[Batch, Done]):
    """A batch on its way through a lane."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.result: Done | None = None
        self.failure: BaseException | None = None
        self.is_over = False


class Lanes(Generic[Batch, Done]):
    """Engines with a thread each. One thread puts batches in and takes results out.

    Args:
        engines: open, to run at the same time; closed by ``close``.
        work: called with an engine and a batch, in the engine's thread.
        changed: notified when a batch is done.
    """

    def __init__(
        self, engines: Sequence[Engine], work: Callable[[Engine, Batch], Done], changed: threading.Condition
    ) -> None:
        self._engines, self._work, self._changed = engines, work, changed
        self._jobs: deque[_Job[Batch, Done]] = deque()
        self._inboxes: list[SimpleQueue[_Job[Batch, Done] | None]] = [SimpleQueue() for _ in engines]
        self._turn = 0
        # As daemons: an engine that hangs does not keep the interpreter from its end.
        self._threads = [
            threading.Thread(target=self._live, args=pair, name="edgeseg-lane", daemon=True)
            for pair in zip(engines, self._inboxes)
        ]
        for thread in self._threads:
            thread.start()

    def __len__(self) -> int:
        return len(self._engines)

    def has_room(self) -> bool:
        """Tell whether a lane is free."""
        return len(self._jobs) < len(self._engines)

    def is_empty(self) -> bool:
        """Tell whether nothing is on its way."""
        return not self._jobs

    def put(self, batch: Batch) -> None:
        """Start on a batch. There must be room."""
        job: _Job[Batch, Done] = _Job(batch)
        self._jobs.append(job)
        self._inboxes[self._turn].put(job)  # free: batches leave in the order in which they came
        self._turn = (self._turn + 1) % len(self._inboxes)

    def oldest_is_done(self) -> bool:
        """Tell whether ``take`` has something to give."""
        return bool(self._jobs) and self._jobs[0].is_over

    def wait(self, timeout_s: float) -> bool:
        """Wait until ``take`` has something to give; tell whether it has."""
        with self._changed:
            return self._changed.wait_for(self.oldest_is_done, timeout_s)

    def take(self) -> tuple[Batch, Done]:
        """Take the oldest batch out with its result; it must be done. Raises what the work raised."""
        job = self._jobs[0]
        if job.failure is not None:
            raise job.failure  # the batch stays, for ``close`` to give back
        self._jobs.popleft()
        assert job.result is not None
        return job.batch, job.result

    def close(self, timeout_s: float) -> list[Batch]:
        """End the threads and close the engines.

        Args:
            timeout_s: how long to wait for what the engines are doing. One that takes longer is left behind.

        Returns:
            The batches that nobody took.
        """
        for inbox in self._inboxes:
            inbox.put(None)
        give_up_at = time.monotonic() + timeout_s
        for engine, thread in zip(self._engines, self._threads):
            thread.join(max(0.0, give_up_at - time.monotonic()))
            if not thread.is_alive():
                engine.close()
        left = [job.batch for job in self._jobs]
        self._jobs.clear()
        return left

    def _live(self, engine: Engine, inbox: SimpleQueue[_Job[Batch, Done] | None]) -> None:
        while True:
            job = inbox.get()
            if job is None:
                return
            try:
                job.result = self._work(engine, job.batch)
            except BaseException as error:  # raised again by take
                job.failure = error
            with self._changed:
                job.is_over = True
                self._changed.notify_all()
            del job
