"""What may be done to a run from outside while it runs: by the preview page, the control API or a signal."""

from __future__ import annotations

from typing import Protocol

from edgeseg.runtime.state import RunState
from edgeseg.spec import ModelSpec

__all__ = ["RunControl"]


class RunControl(Protocol):
    """A run as seen from another thread; every method may be called from any thread.

    Attributes:
        state: live; see ``RunState``.
        spec: of the model.
    """

    state: RunState
    spec: ModelSpec

    def pause(self, on: bool) -> None:
        """Stop or go on inferring; sources stay open, their frames are counted as dropped by ``"paused"``."""

    def stop(self, reason: str) -> None:
        """End the run in good order; ``state.ended`` becomes ``reason``."""

    def add_source(self, uri: str, name: str = "") -> str:
        """Take one more source in and return its name; a name that is empty is chosen. It is opened in its own thread.

        Raises:
            SourceError: nothing is known by that URI. UsageError: it makes no sense, or this run had that name already.
        """

    def remove_source(self, name: str) -> None:
        """Close a source. Raises UsageError when there is none of that name, or it is the last one."""
