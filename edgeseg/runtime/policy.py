"""Which frames of a source are segmented."""

from __future__ import annotations

from dataclasses import dataclass

from edgeseg.errors import UsageError
from edgeseg.runtime.frame import Frame

__all__ = ["POLICIES", "Policy"]

POLICIES = ("latest", "every", "deadline")


@dataclass(frozen=True)
class Policy:
    """Which frames of a source are segmented.

    Attributes:
        kind: ``"latest"``: the newest, older ones are dropped and counted. ``"every"``: all of them, the source is held
            back. ``"deadline"``: as latest, and neither a frame nor a result older than ``deadline_ms`` is used.
        deadline_ms: greatest age, from a frame's capture; only for ``"deadline"``.
    """

    kind: str = "latest"
    deadline_ms: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in POLICIES:
            raise UsageError(f"a policy is one of {', '.join(POLICIES)}, got {self.kind!r}")
        if (self.kind == "deadline") != (self.deadline_ms > 0):
            raise UsageError("the policy deadline and `deadline_ms` MS go together")

    @property
    def lossless(self) -> bool:
        """Tell whether no frame may be dropped."""
        return self.kind == "every"

    def too_old(self, frame: Frame, now_ns: int) -> bool:
        """Tell whether a frame (or its result) is older than the deadline."""
        return bool(self.deadline_ms) and now_ns - frame.captured_ns > self.deadline_ms * 1e6
