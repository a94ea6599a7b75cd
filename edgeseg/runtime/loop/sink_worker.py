"""A sink with a thread of its own: slow, full or gone, it does not stop inference."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Callable

from edgeseg.errors import ForeignFileError, SinkError
from edgeseg.runtime.deadline import Deadline
from edgeseg.runtime.frame import Segmentation
from edgeseg.runtime.policy import Policy
from edgeseg.runtime.sinks.base import FrameSink, StopRun
from edgeseg.runtime.state import RunState, SinkState

__all__ = ["SinkWorker"]

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.25, 2.0
_TICK_S = 0.2


class SinkWorker:
    """Hands results to a sink.

    Results of live sources are dropped when the sink is slow (the oldest first) or failing, and counted; it is tried
    again with back-off for ever. Results of stored sources are never dropped: the run waits for the sink, and when its
    failures outlast the patience ends with its error.

    Args:
        sink: every call but the constructor comes from the worker's thread.
        state: of the run; the worker adds its own ``SinkState``.
        depth: results that may wait for it.
        patience_s: see ``Supervision.sink_patience_s``.
        stop: called with a reason when the sink wants the run to end.
        deadline: of the run; the sink gets it too.
    """

    def __init__(
        self,
        sink: FrameSink,
        state: RunState,
        depth: int,
        patience_s: float,
        stop: Callable[[str], None],
        deadline: Deadline,
    ) -> None:
        self.sink = sink
        sink.deadline = self._deadline = deadline
        self.state = SinkState(sink.description)
        self.failure: BaseException | None = None
        state.sinks.append(self.state)
        self._run, self._depth, self._patience_s, self._stop_run = state, depth, patience_s, stop
        self._queue: deque[tuple[Segmentation, Policy]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._whole = True
        self._retry_at = 0.0
        self._wait_s = _FIRST_WAIT_S
        self._slow_until = 0.0
        self._remark = ""
        self._thread = threading.Thread(target=self._work, name="edgeseg-sink", daemon=True)
        self._thread.start()

    def offer(self, result: Segmentation, policy: Policy, goes_on: Callable[[], bool]) -> None:
        """Queue a result.

        Args:
            result: for the sink.
            policy: of its source; waits for room when that is lossless.
            goes_on: asked again and again while waiting; false ends the wait, and the result is lost as ``"stopped"``.

        Raises:
            BaseException: the failure of a sink that is broken.
        """
        with self._changed:
            if policy.lossless:
                while not self._changed.wait_for(self._has_room, _TICK_S):
                    if not goes_on():
                        self.state.lost["stopped"] += 1
                        return
            elif len(self._queue) >= self._depth:
                self._queue.popleft()
                self._lose("slow")
            if self.failure is not None:
                raise self.failure
            if self._closing:  # the loop hung and nobody waited for it
                self.state.lost["stopped"] += 1
                return
            self._queue.append((result, policy))
            self._changed.notify_all()

    def _has_room(self) -> bool:
        return len(self._queue) < self._depth or self.failure is not None

    def begin_close(self, *, whole: bool) -> None:
        """Finish what is queued and close the sink; with ``whole`` false what it wrote must not look complete."""
        with self._changed:
            self._closing, self._whole = True, whole
            self._changed.notify_all()

    def join(self, on_tick: Callable[[], None]) -> None:
        """Wait for the end until the deadline. A sink that hangs is left behind, and that is told.

        Raises:
            BaseException: the sink's failure.
        """
        while self._thread.is_alive() and not self._deadline.is_over():
            self._thread.join(min(_TICK_S, max(0.0, self._deadline.at - time.monotonic())))
            on_tick()
        if self._thread.is_alive():
            with self._changed:
                self._count_lost("stopped", len(self._queue))
                self._queue.clear()
            self._run.tell("error", self.state.description, "does not finish; what it wrote last may be incomplete")
        elif self.failure is not None:
            raise self.failure

    def _work(self) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._queue or self._closing)
                    if not self._queue:
                        break
                    result, policy = self._queue.popleft()
                    self._changed.notify_all()
                self._hand_over(result, policy)
                del result
            (self.sink.close if self._whole else self.sink.discard)()
            self.state.kept = self.sink.kept
        except BaseException as error:  # raised again in the run's thread
            self._break(error)

    def _hand_over(self, result: Segmentation, policy: Policy) -> None:
        if policy.lossless:
            self._insist(result)
        elif policy.too_old(result.frame, time.perf_counter_ns()):
            self._lose("late")
        elif time.monotonic() < self._retry_at:
            self._lose("failed")
        else:
            try:
                self._write(result)
            except (SinkError, OSError) as error:
                self._lose("failed")
                self._fails(error)

    def _insist(self, result: Segmentation) -> None:
        """Write a result that must not be lost: again and again, up to the patience."""
        give_up_at = time.monotonic() + self._patience_s
        while True:
            try:
                self._write(result)
                return
            except (SinkError, OSError) as error:
                hopeless = self._closing or self._run.ended or isinstance(error, ForeignFileError) or _lost_by(error)
                if hopeless or time.monotonic() >= give_up_at:
                    self._lose("failed")
                    raise
                self._fails(error)
                time.sleep(max(0.0, self._retry_at - time.monotonic()))

    def _write(self, result: Segmentation) -> None:
        started = time.perf_counter_ns()
        try:
            self.sink.write(result)
        except StopRun as wish:
            self._stop_run(str(wish))
            return
        now = time.perf_counter_ns()
        self.state.watch.add("write", now - started)
        self.state.watch.add("age", now - result.frame.captured_ns)
        self.state.written += 1
        self.state.kept = self.sink.kept
        self.state.description = self.sink.description
        if self.sink.remark != self._remark:
            self._remark = self.sink.remark
            self._run.tell("warning", self.state.description, self._remark)
        if self.state.status == "failing":
            self._run.tell("info", self.state.description, "takes results again")
            self.state.status, self.state.error, self._wait_s = "ok", "", _FIRST_WAIT_S
        elif self.state.status == "slow" and time.monotonic() > self._slow_until:
            self.state.status = "ok"

    def _count_lost(self, cause: str, count: int) -> None:
        if count:
            self.state.lost[cause] += count

    def _lose(self, cause: str) -> None:
        self.state.lost[cause] += 1
        if cause == "slow" and not self.sink.samples:
            self._slow_until = time.monotonic() + 5
            if self.state.status == "ok":
                self.state.status = "slow"
                self._run.tell("warning", self.state.description, "is slower than the results; some are dropped")

    def _fails(self, error: Exception) -> None:
        self.state.written -= _lost_by(error)
        self._count_lost("failed", _lost_by(error))
        self._retry_at = time.monotonic() + self._wait_s
        self._wait_s = min(2 * self._wait_s, _LONGEST_WAIT_S)
        if self.state.status != "failing":
            self._run.tell("warning", self.state.description, f"{error}; it is tried again")
        self.state.status, self.state.error = "failing", str(error)

    def _break(self, error: BaseException) -> None:
        with self._changed:
            self.failure = error
            self.state.written -= _lost_by(error)
            self._count_lost("failed", len(self._queue) + _lost_by(error))
            self._queue.clear()
            self._changed.notify_all()
        self.state.status, self.state.error = "failing", str(error)
        try:
            self.sink.discard()
        except (SinkError, OSError):
            return  # the first failure is the one to tell


def _lost_by(error: BaseException) -> int:
    """Earlier results that are gone with a failure."""
    return error.lost if isinstance(error, SinkError) else 0
