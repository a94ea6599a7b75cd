"""Tell every record as an event of the run."""

from __future__ import annotations

from typing import Any

from edgeseg.runtime.alarms.actions.base import AlarmAction, Tell
from edgeseg.runtime.frame import Segmentation

__all__ = ["LogAction"]


class LogAction(AlarmAction):
    """Teller of a line per record."""

    description = "log"

    def __init__(self, tell: Tell) -> None:
        super().__init__()
        self._tell = tell

    def act(self, record: dict[str, Any], result: Segmentation | None) -> None:
        """Tell the record as a warning."""
        values = ", ".join(f"{name} = {_percent(value)}" for name, value in record["values"].items())
        source = f" source {record['source']}" if record["source"] else ""
        state = "on" if record["on"] else "off"
        self._tell(
            "warning",
            "alarm",
            f"{record['alarm']}: {state} at{source} frame {record['frame']} ({values or record['why']})",
        )
        self.done += 1


def _percent(share: float | None) -> str:
    return "infinite" if share is None else f"{share:.1%}"
