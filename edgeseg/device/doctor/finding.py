"""What the doctor finds."""

from __future__ import annotations

from dataclasses import asdict, dataclass

__all__ = ["NOTE", "PROBLEM", "WARNING", "Finding"]

PROBLEM, WARNING, NOTE = "problem", "warning", "note"


@dataclass(frozen=True)
class Finding:
    """Something worth saying about a machine.

    Attributes:
        name: short and stable, for machines.
        severity: ``"problem"`` (something that edgeseg needs does not work), ``"warning"`` or ``"note"``.
        what: what is the matter.
        seen: the evidence.
        fix: what to do; a command wherever one does it.
    """

    name: str
    severity: str
    what: str
    seen: str
    fix: str

    def to_json(self) -> dict[str, str]:
        """Return a JSON-serialisable dict of all fields."""
        return asdict(self)
