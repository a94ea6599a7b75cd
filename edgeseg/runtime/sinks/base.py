"""The contract of a sink."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType

from edgeseg.runtime.deadline import Deadline
from edgeseg.runtime.frame import Segmentation

__all__ = ["FrameSink", "StopRun"]


class StopRun(Exception):
    """A sink's wish to end the run in good order; its message is the reason. Not an error."""


class FrameSink(ABC):
    """Takes segmentations; a context manager. ``write`` and ``close`` raise SinkError when the result cannot be kept.

    A run calls it from a thread of its own. After a SinkError ``write`` may be called again, so a sink opens again what
    it needs. Arrays of a result live as long as somebody refers to them; nobody writes into them.

    Attributes:
        description: for people, e.g. ``"masks in out/"``.
        samples: it looks at some results only; those that pass while it is busy are counted, and no fault.
        remark: what people should know though results are taken, e.g. a hardware encoder that is passed over.
        kept: results that the death of this or any other process of the run no longer takes away; None where that is
            every one it took.
        deadline: of the run that it belongs to; ``write`` and ``close`` do not wait for others beyond it.
    """

    description: str
    samples: bool = False
    remark: str = ""
    kept: int | None = None
    deadline: Deadline = Deadline()  # one that never comes

    @abstractmethod
    def write(self, result: Segmentation) -> None:
        """Take one result. Raises SinkError: it was not kept."""

    def close(self) -> None:  # noqa: B027 - most sinks have nothing to finish
        """Finish what was written. May be called twice. Raises SinkError."""

    def __enter__(self) -> FrameSink:
        return self

    def discard(self) -> None:
        """Finish after a failure: what is incomplete must not look complete. May be called twice."""
        self.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()
