"""One source of a run, kept alive: a thread reads it into a mailbox of one frame, and opens it again when it breaks."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, replace

from edgeseg.errors import EdgesegError, SourceError
from edgeseg.runtime.frame import Frame
from edgeseg.runtime.policy import Policy
from edgeseg.runtime.sources.base import EndOfStream, FrameSource
from edgeseg.runtime.state import RunState, SourceState

__all__ = ["Feed", "Supervision"]

_FATAL = ("auth", "codec", "missing")
_STUCK_S = 5.0
_MOST_MENDS = 3


@dataclass(frozen=True)
class Supervision:
    """How sources and sinks are kept alive.

    Attributes:
        stall_s: a live source without a frame for so long is opened again.
        max_restarts: attempts in a row without a frame before the source has failed; 0 is no limit. None: a source that
            never delivered fails at once unless its fault was mended, one that did is tried 30 times.
        first_wait_s, longest_wait_s: between attempts; doubled each time.
        sink_patience_s: how long a sink of a stored source may fail before the run does.
    """

    stall_s: float = 5.0
    max_restarts: int | None = None
    first_wait_s: float = 0.25
    longest_wait_s: float = 2.0
    sink_patience_s: float = 10.0


class Feed:
    """A source with its thread, mailbox and policy.

    Args:
        source: not yet opened; opened, read and closed by the feed's thread.
        state: of the run.
        mine: of this source; only the feed writes ``produced`` and ``status``.
        policy: which frames are kept.
        supervision: how it is kept alive.
        changed: notified when a frame or the end has come; shared by all feeds of a run.
    """

    def __init__(
        self,
        source: FrameSource,
        state: RunState,
        mine: SourceState,
        policy: Policy,
        supervision: Supervision,
        changed: threading.Condition,
    ) -> None:
        self.source, self.state, self.policy = source, mine, policy
        self.failure: BaseException | None = None
        self.finished = False
        self.served = 0
        self._run, self._supervision, self._changed = state, supervision, changed
        self._mail: Frame | None = None
        self._stop = threading.Event()
        self._reading_since: float | None = None
        self._delivered = False
        self._counted: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._live, name=f"edgeseg-source-{mine.name}", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def has_mail(self) -> bool:
        """Tell whether a frame waits. Call with ``changed`` held."""
        return self._mail is not None

    def expects_mail(self) -> bool:
        """Tell whether a frame may come soon, so that a batch may wait for it."""
        return not self.finished and self.state.status == "streaming"

    def take(self) -> Frame | None:
        """Take the waiting frame. Call with ``changed`` held."""
        frame, self._mail = self._mail, None
        if frame is not None:
            self._changed.notify_all()
        return frame

    def drop(self, cause: str, count: int = 1) -> None:
        """Count frames that are not segmented."""
        with self._changed:
            self.state.dropped[cause] += count

    def is_stuck(self) -> bool:
        """Tell whether ``read`` of the source does not return: a hanging driver cannot be killed."""
        since = self._reading_since
        if self.finished or since is None:
            return False
        return time.monotonic() - since > self._supervision.stall_s + _STUCK_S

    def give_up(self, error: EdgesegError) -> None:
        """Declare the feed failed; should its thread still hang, it ends when it returns."""
        self._stop.set()
        self.failure, self.finished = error, True
        self.state.status, self.state.error = "failed", str(error)
        self._run.tell("error", self.state.name, str(error))

    def ask_to_stop(self) -> None:
        """Let the thread end; returns at once."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()

    def lives(self) -> bool:
        """Tell whether its thread still runs."""
        return self._thread.is_alive()

    def wait(self, timeout_s: float) -> None:
        """Wait for the thread's end, no longer than so."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def settle(self) -> None:
        """Count what was in flight; a thread that still runs is left behind, without what it started."""
        if self.lives():
            self.source.abandon()
        with self._changed:
            if self._mail is not None:
                self._mail = None
                self.state.dropped["stopped"] += 1
        if self.state.status != "failed":
            self.state.status = "ended"

    def _live(self) -> None:
        try:
            try:
                self._keep_alive()
            finally:
                self.source.close()
                self._count_lost()
        except BaseException as error:  # a bug of a source: raised again in the run's thread
            self.failure = error
            self.state.status, self.state.error = "failed", f"{type(error).__name__}: {error}"
        finally:
            self.finished = True
            with self._changed:
                self._changed.notify_all()

    def _keep_alive(self) -> None:
        failures, wait_s = 0, self._supervision.first_wait_s
        while not self._stop.is_set():
            before = self.state.produced
            try:
                self.source.open()
                self._read_all()
                return
            except EndOfStream:
                self.state.status = "ended"
                return
            except EdgesegError as error:
                failure = error
            except OSError as error:  # no memory, no descriptor, no process to be had
                failure = SourceError(f"{self.source.description}: {error}")
            if self.finished:
                return  # declared stuck meanwhile
            self.source.close()
            self._count_lost()
            if self.state.produced > before:
                failures, wait_s = 0, self._supervision.first_wait_s
            failures += 1
            if not self._may_restart(failure, failures):
                self.give_up(failure)
                return
            self.state.status, self.state.error = "restarting", str(failure)
            self._run.tell("warning", self.state.name, f"{failure}; trying again in {wait_s:g} s")
            self._stop.wait(wait_s)
            wait_s = min(2 * wait_s, self._supervision.longest_wait_s)
            self.state.restarts += 1

    def _may_restart(self, failure: Exception, failures: int) -> bool:
        limit = self._supervision.max_restarts
        if not self.source.is_live or not isinstance(failure, SourceError):
            return False
        if failure.kind in _FATAL and not self._delivered:
            return False
        if limit and failures > limit:
            return False
        mended = failures <= _MOST_MENDS and self.source.mend(failure.kind)
        return limit is not None or mended or (self._delivered and failures <= 30)

    def _read_all(self) -> None:
        quiet_since = time.monotonic()
        while not self._stop.is_set():
            self._reading_since = time.monotonic()
            try:
                frame = self.source.read()
            finally:
                self._reading_since = None
            if self._stop.is_set() and self.finished:
                return
            now = time.monotonic()
            if self._count_lost():
                quiet_since = now  # frames come, though none could be taken
            if frame is None:
                if self.source.is_live and now - quiet_since > self._supervision.stall_s:
                    self.state.status = "stalled"
                    raise SourceError(
                        f"{self.source.description}: stalled: no frame for {self._supervision.stall_s:g} s", "stalled"
                    )
                continue
            quiet_since = now
            self._arrived(frame)

    def _arrived(self, frame: Frame) -> None:
        mine = self.state
        if not frame.source:
            frame = replace(frame, source=mine.name)
        if mine.status != "streaming":
            self._streams()
        mine.size_hw = (frame.image.shape[0], frame.image.shape[1])
        with self._changed:
            mine.produced += 1
            if self.policy.lossless:
                self._changed.wait_for(lambda: self._mail is None or self._stop.is_set())
                if self._stop.is_set():
                    mine.dropped["stopped"] += 1
                    return
            elif self._mail is not None:
                mine.dropped["superseded"] += 1
            self._mail = frame
            self._changed.notify_all()

    def _streams(self) -> None:
        mine = self.state
        if self._delivered:
            self._run.tell("info", mine.name, f"frames come again after {mine.restarts} restarts in all")
        self._delivered = True
        mine.status, mine.error = "streaming", ""
        mine.description, mine.announced_fps = self.source.description, self.source.fps

    def _count_lost(self) -> bool:
        """Take over what the source itself lost; whether that was more than before."""
        lost, more = self.source.lost_frames(), False
        for cause, count in lost.items():
            fresh = count - self._counted[cause]
            if fresh:
                with self._changed:
                    self.state.produced += fresh
                    self.state.dropped[cause] += fresh
                self._counted[cause], more = count, True
        return more
