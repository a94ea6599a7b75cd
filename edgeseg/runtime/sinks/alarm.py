"""Rules on what is seen, and what is done when one begins or ceases to hold."""

from __future__ import annotations

import threading
from datetime import datetime, timezone
from functools import partial
from typing import Any, Callable, Sequence

import numpy as np

from edgeseg.errors import EdgesegError, UsageError
from edgeseg.runtime.frame import Segmentation
from edgeseg.runtime.rules import Measured, RoiSet, Rule, Watch
from edgeseg.runtime.sinks.actions import AlarmAction
from edgeseg.runtime.sinks.base import FrameSink
from edgeseg.spec import ModelSpec

__all__ = ["AlarmSink"]


class AlarmSink(FrameSink):
    """Follows rules over the frames of every source, and acts when an alarm goes on or off.

    Actions get ``{"alarm": name, "on": bool, "source", "frame": index, "at": UTC ISO time, "values": {term: value}}``;
    a value is None where it is infinite. An action that fails does not stop the others: it is told and, where that
    makes sense, tried again. A rule that cannot be evaluated is told once and left as it is.

    Args:
        rules: their names must differ.
        spec: class names.
        rois: the regions that the rules name; they can no longer be removed, but may be changed.
        actions: what to do; closed with the sink.
        tell: ``RunState.tell``.

    Raises:
        UsageError: two rules have one name.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        spec: ModelSpec,
        rois: RoiSet,
        actions: Sequence[AlarmAction],
        tell: Callable[[str, str, str], None],
    ) -> None:
        names = [rule.name for rule in rules]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UsageError(
                f"two alarms are called {twice[0]!r}; give one another name, as in 'other: area(...) > 5%'"
            )
        self._rules, self._classes, self._rois = tuple(rules), spec.classes, rois
        self._actions, self._tell = tuple(actions), tell
        rois.pin([term.within for rule in rules for term in rule.terms() if term.within])
        self._watches: dict[tuple[str, str], Watch] = {}
        self._before: dict[str, np.ndarray] = {}
        self._active: dict[tuple[str, str], dict[str, Any]] = {}
        self._raised = dict.fromkeys(names, 0)
        self._told: set[str] = set()
        self._lock = threading.Lock()
        self.description = f"{len(names)} alarms: {'; '.join(names)}"

    def write(self, result: Segmentation) -> None:
        source = result.frame.source
        measured = Measured(result, self._classes, self._rois, self._before.get(source))
        self._before[source] = result.area
        for action in self._actions:
            self._attempt(action, action.retry)
        for rule in self._rules:
            if rule.source in ("", source):
                self._follow(rule, result, measured)

    def active(self) -> list[dict[str, Any]]:
        """The record of each alarm that is on, from when it went on; any thread may ask."""
        with self._lock:
            return list(self._active.values())

    def counts(self) -> dict[str, int]:
        """How often each alarm went on, by name."""
        with self._lock:
            return dict(self._raised)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict: what is on, how often each went on, and how the actions fare."""
        return {
            "active": self.active(),
            "raised": self.counts(),
            "actions": [action.to_json() for action in self._actions],
        }

    def close(self) -> None:
        for action in self._actions:
            self._attempt(action, action.close)

    def _follow(self, rule: Rule, result: Segmentation, measured: Measured) -> None:
        key = (rule.name, result.frame.source)
        watch = self._watches.setdefault(key, Watch(rule))
        try:
            changed = watch.step(measured.holds(rule.condition), result.frame.captured_ns)
            if not changed:
                return
            record = _record(rule, result, measured, watch.is_on)
        except UsageError as error:
            if rule.name not in self._told:
                self._told.add(rule.name)
                self._tell("error", "alarm", f"{rule.name}: {error}")
            return
        with self._lock:
            if watch.is_on:
                self._raised[rule.name] += 1
                self._active[key] = record
            else:
                self._active.pop(key, None)
        for action in self._actions:
            self._attempt(action, partial(action.act, record, result))

    def _attempt(self, action: AlarmAction, do: Callable[[], None]) -> None:
        try:
            do()
        except EdgesegError as error:
            self._tell("error", "alarm", f"{action.description}: {error}")


def _record(rule: Rule, result: Segmentation, measured: Measured, is_on: bool) -> dict[str, Any]:
    values = {term.label: measured.value(term) for term in rule.terms()}
    return {
        "alarm": rule.name,
        "on": is_on,
        "source": result.frame.source,
        "frame": result.frame.index,
        "at": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        "values": {name: round(value, 5) if np.isfinite(value) else None for name, value in values.items()},
    }
