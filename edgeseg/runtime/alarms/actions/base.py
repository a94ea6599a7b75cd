"""The interface of actions, and what they are given."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable

from edgeseg.runtime.deadline import Deadline
from edgeseg.runtime.frame import Segmentation

if TYPE_CHECKING:
    from edgeseg.runtime.drawing.overlay import Painter

__all__ = ["MOST_WAITING", "ActionContext", "AlarmAction", "Tell"]

MOST_WAITING = 256
"""Records that an action keeps while it cannot deal with them."""
Tell = Callable[[str, str, str], None]


@dataclass(frozen=True)
class ActionContext:
    """What actions need to know of a run.

    Attributes:
        painter: draws snapshots.
        tell: ``RunState.tell``; also reports what goes wrong in the background.
        overwrite: existing files are replaced; else edgeseg only goes on with files that it wrote.
    """

    painter: Painter
    tell: Tell
    overwrite: bool = False


class AlarmAction(ABC):
    """One thing that is done with every alarm record.

    Attributes:
        description: text for people, without credentials.
        done: records that were dealt with.
        lost: records that never will be.
    """

    description: str

    def __init__(self) -> None:
        self.done = self.lost = 0

    @abstractmethod
    def act(self, record: dict[str, Any], result: Segmentation | None) -> None:
        """Take a record without waiting for a network. ``result`` is None when the source has ended.

        Raises:
            SinkError: the record could not be taken.
        """

    def retry(self) -> None:  # noqa: B027 - most have nothing to catch up with
        """Do what failed before; called with every frame.

        Raises:
            SinkError: it failed again.
        """

    def finish(self) -> None:  # noqa: B027
        """Begin to end and return at once; ``close`` follows."""

    def close(self, deadline: Deadline) -> None:  # noqa: B027
        """Finish before the deadline. May be called twice.

        Raises:
            SinkError: records are lost by closing.
        """

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict of the description and the counters."""
        return {"description": self.description, "done": self.done, "lost": self.lost}
